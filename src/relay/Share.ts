/**
 * One subscription of a relay to a publisher, shared by all who view the track.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import type { RequestError } from "../core/MoqError.ts"
import type { ReadError } from "../model/Frame.ts"
import type { Source } from "../model/Router.ts"
import * as Subscription from "../model/Subscription.ts"
import type * as Track from "../model/Track.ts"

/** @internal */
export interface Options {
  /** The scope of the relay: nothing of a share outlives it. */
  readonly scope: Scope.Scope
  readonly source: Source
  /** What the first viewer asks for: nothing before its start is asked for. */
  readonly request: Subscription.Request
  /** The track has begun to come. */
  readonly onOpen: () => void
  /** It comes no more. */
  readonly onClose: () => void
  /** It is not to be given to further viewers. Called once, before anything is closed. */
  readonly onRetire: (share: Share) => void
}

/**
 * It opens with its first viewer and closes with its last.
 *
 * **Details**
 *
 * Counted by hand rather than by an `RcMap`, which keeps a lookup that failed for as long as anybody has not let go of
 * it, and does not say when an entry has begun to close: a viewer that comes in that moment must get a share of its
 * own.
 *
 * @internal
 */
export class Share {
  readonly options: Options
  readonly scope: Scope.Closeable
  readonly opened: Deferred.Deferred<Track.Track, RequestError>
  readonly retired: Latch.Latch
  track: Track.Track | undefined
  viewers: number
  constructor(options: Options) {
    this.options = options
    this.scope = Scope.forkUnsafe(options.scope)
    this.opened = Deferred.makeUnsafe()
    this.retired = Latch.makeUnsafe(false)
    this.track = undefined
    this.viewers = 0
  }

  /** Whether a viewer that begins there gets all that it would get from a subscription of its own. */
  covers(from: Track.Start): boolean {
    const begin = this.options.request.from
    return from === "latest" || (begin !== "latest" && begin <= from)
  }

  /**
   * The track, for as long as the scope. To be called in an uninterruptible region, and what it returns to be run
   * there: the viewer counts from the call on. `restore` makes the wait for the track interruptible.
   */
  view(
    request: Subscription.Request,
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    const begun = this.viewers++ > 0 ? Effect.void : this.open
    return begun.pipe(
      Effect.andThen(restore(Deferred.await(this.opened))),
      Effect.onError(() => this.leave),
      Effect.tap(() => Effect.addFinalizer(() => this.leave)),
      Effect.map((track) => Subscription.make(track, request))
    )
  }

  retire(): void {
    if (this.retired.isOpen()) return
    this.retired.openUnsafe()
    this.options.onRetire(this)
  }

  // internal

  get leave(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (--this.viewers > 0) return Effect.void
      this.retire()
      return Scope.close(this.scope, Exit.void)
    })
  }

  get open(): Effect.Effect<void> {
    const { onClose, onOpen, request, source } = this.options
    const opening = Effect.gen({ self: this }, function*() {
      const track = yield* source.subscribe({ from: request.from })
      this.track = track
      onOpen()
      yield* Effect.addFinalizer(() => Effect.sync(onClose))
      yield* Effect.forkScoped(Effect.flatMap(track.ended, (end) => this.ended(end)))
      return track
    })
    return Effect.map(
      Effect.forkIn(Scope.provide(opening, this.scope), this.scope, { startImmediately: true }),
      // not by the fiber itself: it may be interrupted before it has begun
      (fiber) => fiber.addObserver((exit) => Deferred.doneUnsafe(this.opened, exit))
    )
  }

  // one that has finished stays for those who come late, unless the path gets another publisher; one that has failed is
  // of no use to them
  ended(end: Exit.Exit<void, ReadError>): Effect.Effect<void> {
    if (Exit.isFailure(end)) return Effect.sync(() => this.retire())
    return Effect.suspend(() => {
      this.viewers++
      const lingering = Effect.raceFirst(Effect.sleep(linger), this.retired.await)
      return Effect.forkIn(Effect.ensuring(lingering, this.leave), this.options.scope, { startImmediately: true })
    }).pipe(Effect.asVoid, Effect.uninterruptible)
  }
}

// how long a track that has finished is still given to those who come late
const linger = "10 seconds"
