/**
 * Connects tracks with the `PubSub`s of a program.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ReadError } from "./Frame.ts"
import type * as Track from "./Track.ts"
import type * as TrackSink from "./TrackSink.ts"

/**
 * Publishes the frames of a track into a `PubSub`, for as long as the scope. It has begun when this returns; the fiber
 * ends as the track does, or when the `PubSub` is shut down.
 *
 * **Details**
 *
 * It is one reader of `track.frames`. Where the `PubSub` suspends its publishers, a slow subscriber makes this reader a
 * slow one: it goes on with the newest group when there is room again.
 *
 * **Example** (One subscription, many listeners)
 *
 * ```ts
 * import { Effect, PubSub, Stream } from "effect"
 * import { Session, TrackPubSub } from "effect-moq"
 *
 * const program = Effect.gen(function*() {
 *   const session = yield* Session.Session
 *   const pubsub = yield* PubSub.sliding<Uint8Array>(64)
 *   const track = yield* session.subscribe(["room", "alice", "clock"])
 *   yield* TrackPubSub.toPubSub(track, pubsub)
 *   yield* Stream.runForEach(Stream.fromPubSub(pubsub), (frame) => Effect.log(`${frame.length} bytes`))
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const toPubSub = (
  self: Track.Track,
  pubsub: PubSub.PubSub<Uint8Array>
): Effect.Effect<Fiber.Fiber<void, ReadError>, never, Scope.Scope> =>
  Stream.runForEachArray(
    self.frames,
    (frames) => Effect.flatMap(PubSub.publishAll(pubsub, frames), (isOpen) => isOpen ? Effect.void : Cause.done())
  ).pipe(
    Pull.catchDone(() => Effect.void),
    Effect.forkScoped({ startImmediately: true })
  )

/**
 * Writes what is published into a `PubSub` to a track, each message as a frame, for as long as the scope. It is
 * subscribed when this returns; the fiber ends when the `PubSub` is shut down, and fails as the sink does: see
 * `TrackSink.Options`. The track stays open.
 *
 * **Details**
 *
 * With `overflow: "suspend"` a slow reader of the track makes this subscriber of the `PubSub` a slow one, and what happens
 * then is up to the `PubSub`.
 *
 * **Example** (What a program publishes within itself, for others as well)
 *
 * ```ts
 * import { Effect, PubSub } from "effect"
 * import { Session, TrackPubSub } from "effect-moq"
 *
 * const program = Effect.gen(function*() {
 *   const session = yield* Session.Session
 *   const broadcast = yield* session.broadcast(["room", "alice"])
 *   const track = yield* broadcast.track("events")
 *   const pubsub = yield* PubSub.bounded<Uint8Array>(64)
 *   yield* TrackPubSub.fromPubSub(track, pubsub, { group: { frames: 100 }, overflow: "suspend" })
 *   yield* PubSub.publish(pubsub, new TextEncoder().encode("hello"))
 *   yield* session.closed
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const fromPubSub = (
  self: Track.Producer,
  pubsub: PubSub.PubSub<Uint8Array>,
  options: TrackSink.Options
): Effect.Effect<Fiber.Fiber<void, TrackSink.SinkError>, never, Scope.Scope> =>
  Effect.flatMap(
    PubSub.subscribe(pubsub),
    (subscription) =>
      Stream.run(Stream.fromSubscription(subscription), self.sink(options)).pipe(
        Effect.forkScoped({ startImmediately: true })
      )
  )
