/**
 * Broadcasts: tracks that belong together under one prefix. Only a local grouping: on the wire there are track paths.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { PublishError, RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Announced from "./Announced.ts"
import type { ReadError } from "./Frame.ts"
import * as Router from "./Router.ts"
import type * as Subscription from "./Subscription.ts"
import * as Track from "./Track.ts"

/**
 * A broadcast to read: the tracks below a prefix.
 *
 * @category models
 * @since 0.1.0
 */
export interface Broadcast<out E = never> {
  readonly prefix: Path.Path
  /** Which tracks there are: see `announced` of a session. */
  readonly tracks: Stream.Stream<Announced.Announced, E>
  /** Subscribes to one of its tracks, by what follows the prefix. Fails as `subscribe` of a session does. */
  readonly subscribe: (
    name: string | Path.Path,
    options?: Subscription.Options
  ) => Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope>
}

/**
 * Makes the tracks of a broadcast.
 *
 * @category models
 * @since 0.1.0
 */
export interface Producer {
  readonly prefix: Path.Path
  /** Where its tracks are offered. */
  readonly router: Router.Router
  /**
   * Makes a track for as long as the scope (and no longer than the broadcast): when that closes with success the track
   * finishes, else it fails with `Cancelled`. Fails with `Duplicate` when the path is taken, with `BoundsExceeded` when
   * it is empty or too long.
   */
  readonly track: (
    name: string | Path.Path,
    options?: Partial<Track.TrackInfo> & { readonly cache?: Track.CacheOptions | undefined }
  ) => Effect.Effect<Track.Producer, PublishError, Scope.Scope>
  /** Fails all of its tracks, those that are made later included. Does nothing once it has failed. */
  readonly fail: (error: ReadError) => Effect.Effect<void>
  /**
   * Offers them in another router as well, for as long as the scope: what `publish` of a session does. One of `make`
   * includes its router; one that belongs to a session offers the tracks that it has then.
   *
   * @internal
   */
  readonly offer: (router: Router.Router) => Effect.Effect<void, PublishError, Scope.Scope>
}

/**
 * Makes a broadcast for as long as the scope. It stands alone: publish it to any number of sessions; or it offers its
 * tracks in the `router` that is given.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (prefix: Path.Path, options?: {
  readonly router?: Router.Router | undefined
}): Effect.Effect<Producer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const router = options?.router ?? (yield* Router.make)
    const producer = yield* within(router, prefix)
    return { ...producer, offer: (other) => Router.include(other, router) }
  })

/**
 * Makes one in a router that is there for other things, too. It is on its own so that a page that has none to publish
 * loads nothing that follows a router.
 *
 * @internal
 */
export const within = (router: Router.Router, prefix: Path.Path): Effect.Effect<Producer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const tracks = new Set<Track.Producer>()
    let failure: ReadError | undefined
    const track: Producer["track"] = (name, options) =>
      Effect.gen(function*() {
        // closes with the broadcast or with the scope of the track, whichever comes first
        const own = yield* Effect.acquireRelease(Effect.sync(() => Scope.forkUnsafe(scope)), Scope.close)
        return yield* Effect.gen(function*() {
          const producer = yield* Track.make(Path.concat(prefix, typeof name === "string" ? [name] : name), options)
          yield* Effect.acquireRelease(
            Effect.sync(() => tracks.add(producer)),
            () => Effect.sync(() => tracks.delete(producer))
          )
          yield* router.publish(producer.track)
          if (failure !== undefined) yield* producer.fail(failure)
          return producer
        }).pipe(Scope.provide(own), Effect.onError((cause) => Scope.close(own, Exit.failCause(cause))))
      })
    return {
      prefix,
      router,
      track,
      offer: (other) => Effect.forEach([...tracks], (producer) => other.publish(producer.track), { discard: true }),
      fail: (error) =>
        Effect.suspend(() => {
          if (failure !== undefined) return Effect.void
          failure = error
          return Effect.forEach([...tracks], (track) => track.fail(error), { discard: true })
        })
    }
  })

/**
 * Groups the tracks below a prefix of a router or a session.
 *
 * @category constructors
 * @since 0.1.0
 */
export const consume = <E>(source: Router.Subscribable<E>, prefix: Path.Path): Broadcast<E> => ({
  prefix,
  tracks: source.announced(prefix),
  subscribe: (name, options) => source.subscribe(Path.concat(prefix, typeof name === "string" ? [name] : name), options)
})
