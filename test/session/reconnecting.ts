/** What the tests of reconnecting share: a network in memory, servers that come and go, connections that can be cut. */
import { Effect, Exit, type Fiber, Scope, Stream } from "effect"
import type * as Router from "../../src/model/Router.ts"
import * as Session from "../../src/session/Session.ts"
import type { Status } from "../../src/session/Status.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type Connection, Transport } from "../../src/transport/Transport.ts"
import { type Ledger, ledger, settle } from "./sessions.ts"

/** A session that reconnects, and whatever it connects to. */
export const start = Effect.fnUntraced(function*(options?: {
  readonly client?: Session.ReconnectOptions
  readonly server?: Session.Options
  readonly url?: Session.Target
}) {
  const network = yield* Memory.makeNetwork()
  const connections: Array<Connection> = []
  const ledgers: Array<Ledger> = []
  const attempts: Array<string> = []
  const sessions: Array<Session.Session> = []
  const outer = yield* Effect.scope
  let listening: Scope.Closeable | undefined
  const transport: Transport = {
    connect: (url, options) =>
      Effect.suspend(() => {
        attempts.push(url.href)
        return Effect.map(network.transport.connect(url, options), (connection) => {
          const counted = ledger(connection)
          connections.push(connection)
          ledgers.push(counted)
          return counted.connection
        })
      })
  }
  /** Starts a server that offers a router, in place of the one before. */
  const serve = Effect.fnUntraced(function*(router: Router.Router, more?: Session.Options) {
    yield* shut
    const scope = yield* Scope.fork(outer)
    listening = scope
    const server = yield* Scope.provide(network.listen(), scope)
    yield* server.requests.pipe(
      Stream.runForEach((request) =>
        Effect.gen(function*() {
          const session = yield* Session.accept(yield* request.accept, { ...options?.server, ...more, router })
          sessions.push(session)
          yield* session.closed
        }).pipe(Effect.scoped, Effect.ignore, Effect.forkScoped)
      ),
      Effect.scoped,
      Effect.forkIn(scope)
    )
    yield* settle
  })
  /** Takes the server away: nobody listens, its sessions are closed. */
  const shut = Effect.suspend(() => {
    const scope = listening
    listening = undefined
    return scope === undefined ? Effect.void : Effect.andThen(Scope.close(scope, Exit.interrupt()), settle)
  })
  /** Opens the session, in a scope that `leave` closes. */
  const scope = yield* Scope.fork(outer)
  const open = Session.reconnect(options?.url ?? "https://relay.example/", options?.client).pipe(
    Effect.provideService(Transport, transport),
    Scope.provide(scope)
  )
  return {
    open,
    serve,
    shut,
    scope,
    attempts,
    connections,
    sessions,
    /** The newest session of the server. */
    peer: () => sessions.at(-1)!,
    /** Cuts the newest connection, as when the network dies. */
    cut: Effect.andThen(Effect.suspend(() => Memory.kill(connections.at(-1)!)), settle),
    leave: (exit: Exit.Exit<unknown> = Exit.void) => Effect.andThen(Scope.close(scope, exit), settle),
    /** How many streams of the client have been handed out and not been given back. */
    held: () => ledgers.reduce((sum, { held }) => sum + held(), 0),
    transport
  }
})

/** What a session does, in few letters, as it is told. */
export const watch = (session: Session.Session) =>
  Effect.gen(function*() {
    const log: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(session.status, (status) => Effect.sync(() => void log.push(brief(status)))),
      { startImmediately: true }
    )
    yield* settle
    return { log, fiber }
  })

const brief = (status: Status): string => {
  switch (status._tag) {
    case "Connecting":
      return `connecting ${status.attempt}`
    case "Connected":
      return `connected ${status.profile} ${status.transport.transport}`
    case "Waiting":
      return `waiting ${status.attempt} ${status.delay} ${status.error._tag}`
    case "Closed":
      return `closed ${status.error._tag}`
  }
}

/** Tells whether something that was forked goes on. */
export const goesOn = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() === undefined
