/** What the tests of the relay share: a relay on a network in memory, who publishes to it, and who views. */
import { Effect, Exit, Fiber, Latch, Scope, Stream } from "effect"
import type { RequestError } from "../../src/core/MoqError.ts"
import type { ReadError } from "../../src/model/Frame.ts"
import type * as Router from "../../src/model/Router.ts"
import type * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Origin from "../../src/relay/Origin.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type Connection, Transport, TransportServer } from "../../src/transport/Transport.ts"
import { settle } from "../session/sessions.ts"

export { settle }

const utf8 = new TextEncoder()

/** A frame that says something. */
export const bytes = (text: string): Uint8Array => utf8.encode(text)

/** What a frame says. */
export const text = (frame: Uint8Array): string => new TextDecoder().decode(frame)

/** A relay on a network, and all that it has told. `stop` closes its scope. */
export const start = Effect.fnUntraced(function*(
  options?: Relay.Options,
  on?: { readonly network?: Memory.Network; readonly host?: string }
) {
  const network = on?.network ?? (yield* Memory.makeNetwork())
  const host = on?.host ?? "relay.example"
  const scope = yield* Scope.fork(yield* Effect.scope)
  const server = yield* Scope.provide(network.listen({ host }), scope)
  const relay = yield* Relay.make(options).pipe(Effect.provideService(TransportServer, server), Scope.provide(scope))
  const events: Array<Relay.Event> = []
  const listening = yield* Effect.forkScoped(
    Stream.runForEach(relay.events, (event) => Effect.sync(() => void events.push(event))),
    { startImmediately: true }
  )
  yield* settle
  return {
    network,
    relay,
    events,
    listening,
    /** How often something was told of a path (as `a/b`), or of any. */
    count: (tag: Relay.Event["_tag"], path?: string) =>
      events.filter((event) =>
        event._tag === tag && (path === undefined || ("path" in event && event.path.join("/") === path))
      ).length,
    stop: Scope.close(scope, Exit.void),
    /** A session of a client, below a path of the URL. */
    connect: (path = "", options?: Session.Options) =>
      Effect.provideService(Session.connect(`https://${host}${path}`, options), Transport, network.transport),
    /** A session whose connection can be cut: see `Memory.kill`. */
    connectBy: (path = "", options?: Session.Options) =>
      Effect.gen(function*() {
        const connections: Array<Connection> = []
        const session = yield* Effect.provideService(Session.connect(`https://${host}${path}`, options), Transport, {
          connect: (url, options) =>
            Effect.tap(network.transport.connect(url, options), (connection) =>
              Effect.sync(() => void connections.push(connection)))
        })
        return { session, kill: Memory.kill(connections[0]!) }
      })
  }
})

/** Publishes a track until `end`. */
export const publish = Effect.fnUntraced(function*(
  to: Pick<Router.Router, "publish"> | Session.Session,
  path: ReadonlyArray<string>,
  options?: Parameters<typeof Track.make>[1]
) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const track = yield* Scope.provide(Track.make(path, options), scope)
  yield* Scope.provide((to as Pick<Router.Router, "publish">).publish(track.track), scope)
  yield* settle
  return {
    track,
    /** Writes one whole group. */
    group: (...frames: ReadonlyArray<string>) =>
      Effect.gen(function*() {
        const group = yield* track.appendGroup
        for (const frame of frames) yield* group.writeFrame(bytes(frame))
        yield* group.finish
      }),
    /** Withdraws the track and finishes it, or whatever the exit says. */
    end: (exit: Exit.Exit<unknown, unknown> = Exit.void) => Effect.andThen(Scope.close(scope, exit), settle)
  }
})

/** Somebody who views a track from where the options say: every frame of every group, in order. */
export const view = Effect.fnUntraced(function*(
  source: Pick<Router.Subscribable, "subscribe">,
  path: ReadonlyArray<string>,
  options?: Subscription.Options
) {
  const got: Array<string> = []
  const there = Latch.makeUnsafe(false)
  const fiber: Fiber.Fiber<void, ReadError | RequestError> = yield* Effect.forkScoped(
    Effect.gen(function*() {
      const track = yield* source.subscribe(path, options)
      there.openUnsafe()
      yield* Stream.runForEach(
        Stream.flatMap(track.groups, (group) => group.frames),
        (frame) => Effect.sync(() => void got.push(text(frame)))
      )
    }).pipe(Effect.scoped),
    { startImmediately: true }
  )
  yield* settle
  return {
    got,
    isThere: () => there.isOpen(),
    /** How it ended; fails the test when it has not. */
    ended: Effect.suspend(() => {
      const exit = fiber.pollUnsafe()
      return exit === undefined ? Effect.die(new Error("a viewer has not ended")) : Effect.succeed(exit)
    }),
    /** The tag of the error that it failed with. */
    failed: Effect.suspend(() => {
      const exit = fiber.pollUnsafe()
      if (exit === undefined) return Effect.die(new Error("a viewer has not ended"))
      if (Exit.isSuccess(exit)) return Effect.die(new Error("a viewer has ended with success"))
      return Effect.flip(Effect.failCause(exit.cause) as Effect.Effect<never, ReadError | RequestError>)
    }),
    leave: Effect.andThen(Fiber.interrupt(fiber), settle)
  }
})

/** Announces as they come: `+path`, `-path` and `live`. */
export const listen = Effect.fnUntraced(function*<E>(
  source: Pick<Router.Subscribable<E>, "announced">,
  prefix?: ReadonlyArray<string>
) {
  const heard: Array<string> = []
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(source.announced(prefix), (event) =>
      Effect.sync(() =>
        void heard.push(
          event._tag === "Live" ? "live" : `${event._tag === "Active" ? "+" : "-"}${event.path.join("/")}`
        )
      )),
    { startImmediately: true }
  )
  yield* settle
  return { heard, fiber, leave: Effect.andThen(Fiber.interrupt(fiber), settle) }
})

/** What an origin holds on to: all zero when nobody publishes and nobody views. */
export const held = (origin: Origin.Origin) => {
  const { entries, registry, scope, shares } = origin as unknown as {
    readonly entries: ReadonlyMap<string, unknown>
    readonly shares: ReadonlyMap<string, unknown>
    readonly registry: { readonly active: ReadonlyMap<string, unknown> }
    readonly scope: { readonly state: { readonly finalizers?: ReadonlyMap<unknown, unknown> | undefined } }
  }
  return {
    entries: entries.size,
    shares: shares.size,
    announced: registry.active.size,
    // shares that are no longer given out, and what lingers
    inScope: scope.state.finalizers?.size ?? 0
  }
}
