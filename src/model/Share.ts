/**
 * One track that several hold: it is opened for the first of them, and closed with the last.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import { Cancelled, type RequestError } from "../core/MoqError.ts"
import type { ReadError } from "./Frame.ts"
import type * as Track from "./Track.ts"

/** @internal */
export interface Options {
  /** Nothing of a share outlives it. */
  readonly scope: Scope.Scope
  /** Opens the track. */
  readonly open: Effect.Effect<Track.Track, RequestError, Scope.Scope>
  /** Where the track begins. */
  readonly from: Track.Start
  /** How long a track that has finished is kept for those who come late; without it, only while somebody holds it. */
  readonly linger?: Duration.Input | undefined
  /** It is not to be given to anybody else. Called once, before anything is closed. */
  readonly onRetire: (share: Share) => void
}

/**
 * Counted by hand rather than by an `RcMap`, which keeps a lookup that failed for as long as anybody has not let go of
 * it, and does not say when an entry has begun to close: whoever comes in that moment must get a share of his own.
 *
 * @internal
 */
export class Share {
  readonly options: Options
  readonly scope: Scope.Closeable
  readonly opened: Deferred.Deferred<Track.Track, RequestError>
  readonly retired: Latch.Latch
  track: Track.Track | undefined
  holders: number
  constructor(options: Options) {
    this.options = options
    this.scope = Scope.forkUnsafe(options.scope)
    this.opened = Deferred.makeUnsafe()
    this.retired = Latch.makeUnsafe(false)
    this.track = undefined
    this.holders = 0
  }

  /** Whether a reader that begins there gets all that it would get from a track of its own. */
  covers(from: Track.Start): boolean {
    const begin = this.options.from
    return from === "latest" || (begin !== "latest" && begin <= from)
  }

  /**
   * The track, for as long as the scope. To be called in an uninterruptible region, and what it returns to be run there:
   * the holder counts from the call on. `restore` makes the wait for the track interruptible.
   */
  hold(
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ): Effect.Effect<Track.Track, RequestError, Scope.Scope> {
    const begun = this.holders++ > 0 ? Effect.void : this.open
    return begun.pipe(
      Effect.andThen(restore(Deferred.await(this.opened))),
      Effect.onError(() => this.leave),
      Effect.tap(() => Effect.addFinalizer(() => this.leave))
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
      if (--this.holders > 0) return Effect.void
      this.retire()
      return Scope.close(this.scope, Exit.void)
    })
  }

  get open(): Effect.Effect<void> {
    const opening = Effect.gen({ self: this }, function*() {
      const track = yield* this.options.open
      this.track = track
      yield* Effect.forkScoped(Effect.flatMap(track.ended, (end) => this.ended(end)))
      return track
    })
    return Effect.map(
      Effect.forkIn(Scope.provide(opening, this.scope), this.scope, { startImmediately: true }),
      // not by the fiber itself: it may be interrupted before it has begun
      (fiber) => fiber.addObserver((exit) => this.begun(exit))
    )
  }

  // who waits for a track whose scope is closed is told so, not interrupted; what failed is not given to anybody else
  begun(exit: Exit.Exit<Track.Track, RequestError>): void {
    const isClosed = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    if (Exit.isFailure(exit)) this.retire()
    Deferred.doneUnsafe(this.opened, isClosed ? Exit.fail(closed) : exit)
  }

  // one that has failed is of no use to those who come late
  ended(end: Exit.Exit<void, ReadError>): Effect.Effect<void> {
    const { linger, scope } = this.options
    if (Exit.isFailure(end)) return Effect.sync(() => this.retire())
    if (linger === undefined) return Effect.void
    return Effect.suspend(() => {
      this.holders++
      const lingering = Effect.raceFirst(Effect.sleep(linger), this.retired.await)
      return Effect.forkIn(Effect.ensuring(lingering, this.leave), scope, { startImmediately: true })
    }).pipe(Effect.asVoid, Effect.uninterruptible)
  }
}

// internal

const closed = new Cancelled({ detail: "who was to serve it has gone" })
