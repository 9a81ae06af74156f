/** What the tests of sessions share: two sessions over memory, and ways to look at what they leave behind. */
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import type { ReadError } from "../../src/model/Frame.ts"
import type * as Track from "../../src/model/Track.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Side } from "../../src/transport/MemoryLink.ts"
import { type Connection, Transport } from "../../src/transport/Transport.ts"

const utf8 = new TextEncoder()

/** A frame that says something. */
export const bytes = (text: string): Uint8Array => utf8.encode(text)

/** What a frame says. */
export const text = (frame: Uint8Array): string => new TextDecoder().decode(frame)

/** A session that connects over a connection which is there already. */
export const connect = (connection: Connection, options?: Session.Options) =>
  Effect.provideService(Session.connect("https://localhost", options), Transport, {
    connect: () => Effect.succeed(connection)
  })

/** Two sessions over a pair of connections, each the peer of the other. */
export const over = (
  [left, right]: readonly [Connection, Connection],
  client?: Session.Options,
  server?: Session.Options
) =>
  Effect.map(
    Effect.all([connect(left, client), Session.accept(right, server)], { concurrency: 2 }),
    ([client, server]) => ({ client, server, connections: [left, right] as const })
  )

/** Two sessions over memory, each the peer of the other. */
export const pair = (client?: Session.Options, server?: Session.Options, memory?: Memory.Options) =>
  Effect.flatMap(Memory.pair(memory), (connections) => over(connections, client, server))

/** Lets everything happen that can happen without the clock moving. */
export const settle = Effect.yieldNow.pipe(Effect.repeat({ times: 200 }), Effect.asVoid)

/** Runs something in a scope of its own, which it gives back for closing it by hand. */
export const owned = <A, E, R>(
  effect: Effect.Effect<A, E, R | Scope.Scope>
): Effect.Effect<
  { readonly value: A; readonly scope: Scope.Closeable; readonly close: Effect.Effect<void> },
  E,
  Exclude<R, Scope.Scope>
> =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const value = yield* Scope.provide(effect, scope)
    return { value, scope, close: Scope.close(scope, Exit.void) }
  })

/** An event in few letters: `3` for a group, `1-2!13` for a gap. */
export const brief = (event: Track.Event): string =>
  event._tag === "Group" ? String(event.sequence) : `${event.from}-${event.to}!${event.code}`

/** A track as it is read: an entry per frame (`group:text`), per gap, per failed group (`group!Tag`). */
export interface Reading {
  readonly log: Array<string>
  readonly fiber: Fiber.Fiber<void, ReadError>
}

/** Starts to read all of a track; it has begun when this returns. */
export const read = (track: Track.Track): Effect.Effect<Reading, never, Scope.Scope> =>
  Effect.gen(function*() {
    const log: Array<string> = []
    const one = (event: Track.Event): Effect.Effect<void> =>
      event._tag === "Gap" ? Effect.sync(() => log.push(brief(event))) : event.frames.pipe(
        Stream.runForEach((frame) => Effect.sync(() => log.push(`${event.sequence}:${text(frame)}`))),
        Effect.andThen(Effect.sync(() => log.push(`${event.sequence}.`))),
        Effect.catch((error) => Effect.sync(() => log.push(`${event.sequence}!${error._tag}`)))
      )
    const fiber = yield* Effect.forkScoped(
      Stream.runDrain(Stream.mapEffect(track.events, one, { concurrency: "unbounded" })),
      { startImmediately: true }
    )
    return { log, fiber }
  })

/** How something that was forked has ended, or `undefined` while it goes on. */
export const ended = <A, E>(fiber: Fiber.Fiber<A, E>): Exit.Exit<A, E> | undefined => fiber.pollUnsafe()

/** With what something that was forked has failed. */
export const failure = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<E> =>
  Effect.gen(function*() {
    yield* settle
    if (ended(fiber) === undefined) throw new Error("it was to fail, and goes on")
    return yield* Effect.orDie(Effect.flip(Fiber.join(fiber)))
  })

/** Publishes a track with groups of one frame each, which says the group's number. The last group is open. */
export const publishNumbers = (session: Session.Session, path: ReadonlyArray<string>, count: number) =>
  Effect.gen(function*() {
    const broadcast = yield* session.broadcast(path.slice(0, -1))
    const track = yield* broadcast.track(path.slice(-1))
    for (let i = 0; i < count; i++) {
      const group = yield* track.appendGroup
      yield* group.writeFrame(bytes(String(i)))
      if (i < count - 1) yield* group.finish
    }
    return track
  })

/** How many streams of a connection in memory are open, in either direction. */
export const streams = (connection: Connection): number => {
  if (!(connection instanceof Side)) throw new TypeError("not a connection in memory")
  const { client, server } = connection.link
  return [client.bi, client.uni, server.bi, server.uni].reduce((sum, lane) => sum + lane.open.size, 0)
}

/** A connection that counts which of its streams have been handed out and not been given back. */
export interface Ledger {
  readonly connection: Connection
  readonly held: () => number
  readonly total: () => number
}

export const ledger = (connection: Connection): Ledger => {
  let held = 0
  let total = 0
  const count = <A, E>(stream: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E, Scope.Scope> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.tap(restore(stream), () => {
        held++
        total++
        return Effect.addFinalizer(() => Effect.sync(() => held--))
      })
    )
  return {
    connection: {
      ...connection,
      ping: connection.ping,
      closed: connection.closed,
      info: connection.info,
      capabilities: connection.capabilities,
      close: connection.close,
      openBi: count(connection.openBi),
      openUni: (options) => count(connection.openUni(options)),
      acceptBi: count(connection.acceptBi),
      acceptUni: count(connection.acceptUni),
      // whoever takes these owns them, without a scope: what is left of them the transport tells, see `streams`
      onOpenBi: connection.onOpenBi && ((opened) => {
        total++
        return connection.onOpenBi!(opened)
      }),
      onOpenUni: connection.onOpenUni && ((options, opened) => {
        total++
        return connection.onOpenUni!(options, opened)
      })
    },
    held: () => held,
    total: () => total
  }
}

/** How many readers a track has. */
export const readers = (track: Track.Producer): number =>
  (track as unknown as { readonly log: { readonly readers: number } }).log.readers
