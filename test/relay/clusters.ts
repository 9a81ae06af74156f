/** What the tests of clusters share: relays on a network in memory, and ways to break it. */
import { Effect, Exit, identity, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { TransportError } from "../../src/core/MoqError.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Authenticator from "../../src/relay/Authenticator.ts"
import type * as Cluster from "../../src/relay/Cluster.ts"
import { reserved } from "../../src/relay/Intake.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type Connection, Transport, TransportServer } from "../../src/transport/Transport.ts"
import { settle as settleOne } from "./relays.ts"

/** Lets everything happen on all relays that can happen without the clock moving. */
export const settle = Effect.repeat(settleOne, { times: 10 })

/** Lets some time go by, in steps. */
export const pass = (seconds: number) =>
  Effect.andThen(TestClock.adjust("1 second"), settle).pipe(Effect.repeat({ times: seconds - 1 }), Effect.asVoid)

/** `a/room` is below a path at the host `a.example`. */
const urlOf = (to: string): string => `https://${to.replace(/^[a-z]+/, "$&.example")}`

/** A network on which relays come and go, and each knows its upstreams by name. */
export const makeWorld = Effect.fnUntraced(function*(
  upstreams: Readonly<Record<string, ReadonlyArray<string>>>,
  options: Relay.Options & { readonly authenticator?: Authenticator.Authenticator } = {}
) {
  const network = yield* Memory.makeNetwork()
  const world = yield* Effect.scope
  const links: Array<{ readonly from: string; readonly to: string; readonly connection: Connection }> = []
  const cut = new Set<string>()
  const asked: Array<string> = []
  const up = new Map<string, { readonly relay: Relay.Relay; readonly scope: Scope.Closeable }>()
  const events: Array<{ readonly at: string; readonly event: Relay.Event }> = []

  const hostOf = (url: URL) => url.host.replace(".example", "")
  // what a host connects with
  const transportOf = (from: string): Transport => ({
    connect: (url, options) =>
      Effect.suspend(() => {
        const to = hostOf(url)
        return cut.has(`${from} ${to}`) || cut.has(`${to} ${from}`)
          ? Effect.fail(new TransportError({ detail: "the link is cut" }))
          : Effect.tap(network.transport.connect(url, options), (connection) =>
            Effect.sync(() => {
              links.push({ from, to, connection })
              const opened = Effect.tap(connection.openBi, () => Effect.sync(() => void asked.push(`${from} ${to}`)))
              Object.defineProperty(connection, "openBi", { value: opened })
            }))
      })
  })
  const killWhere = (isIt: (link: { readonly from: string; readonly to: string }) => boolean) =>
    Effect.forEach(links.filter(isIt), ({ connection }) => Memory.kill(connection), { discard: true })

  const start = Effect.fnUntraced(function*(name: string) {
    const scope = yield* Scope.fork(world)
    const server = yield* Scope.provide(network.listen({ host: `${name}.example` }), scope)
    const relay = yield* Relay.make({
      ...options,
      upstreams: (upstreams[name] ?? []).map((to): Cluster.Upstream => ({ url: urlOf(to) }))
    }).pipe(
      Effect.provideService(TransportServer, server),
      Effect.provideService(Transport, transportOf(name)),
      options.authenticator === undefined
        ? identity
        : Effect.provideService(Authenticator.Authenticator, options.authenticator),
      Scope.provide(scope)
    )
    yield* Effect.forkIn(
      Stream.runForEach(relay.events, (event) => Effect.sync(() => void events.push({ at: name, event }))),
      scope,
      { startImmediately: true }
    )
    up.set(name, { relay, scope })
    return relay
  })
  for (const name of Object.keys(upstreams)) yield* start(name)
  yield* settle
  // those that were not there at the first attempt
  yield* pass(2)

  const relayOf = (name: string): Relay.Relay => up.get(name)!.relay
  return {
    network,
    names: Object.keys(upstreams),
    relay: relayOf,
    events,
    transportOf,
    /** How often something was told at a relay, or anywhere. */
    count: (tag: Relay.Event["_tag"], at?: string) =>
      events.filter(({ at: where, event }) => event._tag === tag && (at === undefined || where === at)).length,
    /** How many requests one has sent to the other, whose client it is. */
    requests: (from: string, to: string) => asked.filter((link) => link === `${from} ${to}`).length,
    /** The paths at each relay that is up. */
    paths: () =>
      Object.fromEntries(
        Array.from(up, ([name, { relay }]) => [name, relay.origin.paths.map((path) => path.join("/")).sort()])
      ),
    start,
    /** A relay dies: its connections break, and nobody is there. */
    kill: Effect.fnUntraced(function*(name: string) {
      const { scope } = up.get(name)!
      up.delete(name)
      yield* killWhere(({ from, to }) => from === name || to === name)
      yield* Scope.close(scope, Exit.void)
      yield* settle
    }),
    /** A link breaks, and cannot be had again until it heals. */
    cut: Effect.fnUntraced(function*(one: string, other: string) {
      cut.add(`${one} ${other}`)
      yield* killWhere(({ from, to }) => (from === one && to === other) || (from === other && to === one))
      yield* settle
    }),
    heal: Effect.sync(() => cut.clear()),
    /** A client at a relay. */
    connect: (at: string, options?: Session.Options) =>
      Session.connect(urlOf(at), options).pipe(Effect.provideService(Transport, transportOf("client"))),
    /** The same, in a scope of its own: `close` leaves, `kill` loses its connection. */
    client: Effect.fnUntraced(function*(at: string, options?: Session.Options) {
      const scope = yield* Scope.fork(yield* Effect.scope)
      const connections: Array<Connection> = []
      const session = yield* Session.connect(urlOf(at), options).pipe(
        Effect.provideService(Transport, {
          connect: (url, options) =>
            Effect.tap(
              network.transport.connect(url, options),
              (connection) => Effect.sync(() => void connections.push(connection))
            )
        }),
        Scope.provide(scope)
      )
      return {
        session,
        close: Effect.andThen(Scope.close(scope, Exit.void), settle),
        kill: Effect.andThen(Memory.kill(connections[0]!), settle)
      }
    })
  }
})

export type World = Effect.Success<ReturnType<typeof makeWorld>>

/** Somebody at a host who does something with each connection. */
export const serve = (
  world: World,
  host: string,
  use: (connection: Connection) => Effect.Effect<unknown, unknown, Scope.Scope>
) =>
  Effect.gen(function*() {
    const server = yield* world.network.listen({ host: `${host}.example` })
    yield* Effect.forkScoped(
      Stream.runForEach(server.requests, (request) =>
        Effect.forkScoped(
          Effect.scoped(
            Effect.ignore(
              Effect.flatMap(request.accept, (connection) => Effect.andThen(use(connection), Effect.never))
            )
          )
        ))
    )
  })

/** Counts the announces that relays have sent each other, and heard, from now on. */
export const countAnnounces = Effect.gen(function*() {
  const { append } = Announced.Registry.prototype
  let count = 0
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      Announced.Registry.prototype.append = function(event) {
        if (event._tag !== "Live" && event.path[0] === reserved) count++
        append.call(this, event)
      }
    }),
    () =>
      Effect.sync(() => {
        Announced.Registry.prototype.append = append
      })
  )
  // each is appended once where it is sent, and once where it is heard
  return () => count / 2
})

/** Every topology that relays are tried in: who is a client of whom. */
export const topologies: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<string>>>>> = {
  pair: { a: ["b"], b: ["a"] },
  line: { a: [], b: ["a"], c: ["b"] },
  "ring of three": { a: ["b"], b: ["c"], c: ["a"] },
  "ring of four": { a: ["b"], b: ["c"], c: ["d"], d: ["a"] },
  mesh: { a: ["b", "c", "d"], b: ["c", "d"], c: ["d"], d: [] },
  star: { a: [], b: ["a"], c: ["a"], d: ["a"] }
}
