/**
 * What several hold: it is opened for the first of them, and closed with the last.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Cancelled, type RequestError } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import type { ReadError } from "./Frame.ts"
import * as Track from "./Track.ts"

/** @internal */
export interface HeldOptions<A> {
  /** Nothing of it outlives that. */
  readonly scope: Scope.Scope
  /** Opens it. */
  readonly open: Effect.Effect<A, RequestError, Scope.Scope>
  /** What whoever waits for it is told when the scope closes. */
  readonly closed?: RequestError
  /** It is not to be given to anybody else. Called once, before anything is closed. */
  readonly onRetire: () => void
}

/**
 * Counted by hand rather than by an `RcMap`, which keeps a lookup that failed for as long as anybody has not let go of
 * it, and does not say when an entry has begun to close: whoever comes in that moment must get one of his own.
 *
 * @internal
 */
export class Held<A, O extends HeldOptions<A> = HeldOptions<A>> {
  readonly options: O
  readonly scope: Scope.Closeable
  readonly opened: Deferred.Deferred<A, RequestError>
  isRetired: boolean
  value: A | undefined
  holders: number
  constructor(options: O) {
    this.options = options
    this.scope = Scope.forkUnsafe(options.scope)
    this.opened = Deferred.makeUnsafe()
    this.isRetired = false
    this.value = undefined
    this.holders = 0
  }

  /**
   * What is held, for as long as the scope. To be called in an uninterruptible region, and what it returns to be run
   * there: the holder counts from the call on. `restore` makes the wait for it interruptible.
   */
  hold(
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, RequestError, Scope.Scope> {
    const begun = this.holders++ > 0 ? Effect.void : this.open
    const opened = Effect.andThen(begun, restore(Deferred.await(this.opened)))
    return Effect.acquireRelease(Effect.onError(opened, () => this.leave), () => this.leave)
  }

  retire(): void {
    if (this.isRetired) return
    this.isRetired = true
    this.options.onRetire()
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
    const opening = Effect.tap(this.options.open, (value) => {
      this.value = value
      return this.follow(value)
    })
    return Effect.map(
      Effect.forkIn(Scope.provide(opening, this.scope), this.scope, { startImmediately: true }),
      // not by the fiber itself: it may be interrupted before it has begun
      (fiber) => fiber.addObserver((exit) => this.begun(exit))
    )
  }

  follow(_value: A): Effect.Effect<unknown, never, Scope.Scope> {
    return Effect.void
  }

  // who waits for what is closed is told so, not interrupted; what failed is not given to anybody else
  begun(exit: Exit.Exit<A, RequestError>): void {
    const isClosed = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    if (Exit.isFailure(exit)) this.retire()
    Deferred.doneUnsafe(this.opened, isClosed ? Exit.fail(this.options.closed ?? gone) : exit)
  }
}

/**
 * Holds what is kept under a key, for as long as the scope; what is not there `make` makes. It is kept until it retires,
 * for which `make` is given what to call.
 *
 * @internal
 */
export const holdIn = <A, O extends HeldOptions<A>>(
  all: Map<string, Held<A, O>>,
  key: string,
  make: (onRetire: () => void) => Held<A, O>
): Effect.Effect<A, RequestError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      const there = all.get(key)
      if (there !== undefined) return there.hold(restore)
      const made = make(() => {
        if (all.get(key) === made) all.delete(key)
      })
      all.set(key, made)
      return made.hold(restore)
    })
  )

/** @internal */
export interface Options extends HeldOptions<Track.Track> {
  /** Where the track begins. */
  readonly from: Track.Start
  /** How long a track that has finished is kept for those who come late; without it, only while somebody holds it. */
  readonly linger?: Duration.Input | undefined
}

/**
 * A track that several hold.
 *
 * @internal
 */
export class Share extends Held<Track.Track, Options> {
  private readonly lingering = new Waiters()

  get track(): Track.Track | undefined {
    return this.value
  }

  /** Whether a reader that begins there gets all that it would get from a track of its own. */
  covers(from: Track.Start): boolean {
    const { from: begin } = this.options
    return from === "latest" || (begin === "latest" ? from >= (this.track?.first ?? Infinity) : from >= begin)
  }

  override retire(): void {
    super.retire()
    this.lingering.notify()
  }

  // internal

  override follow(track: Track.Track): Effect.Effect<unknown, never, Scope.Scope> {
    Track.keepTakenUnsafe(track)
    return Effect.forkScoped(Effect.flatMap(track.ended, (end) => this.ended(end)))
  }

  // one that has failed is of no use to those who come late
  ended(end: Exit.Exit<void, ReadError>): Effect.Effect<void> {
    const { linger, scope } = this.options
    if (Exit.isFailure(end)) return Effect.sync(() => this.retire())
    if (linger === undefined) return Effect.void
    return Effect.suspend(() => {
      this.holders++
      const lingered = Effect.raceFirst(Effect.sleep(linger), this.lingering.until(() => this.isRetired))
      return Effect.forkIn(Effect.ensuring(lingered, this.leave), scope, { startImmediately: true })
    }).pipe(Effect.asVoid, Effect.uninterruptible)
  }
}

// internal

const gone = new Cancelled({ detail: "who was to serve it has gone" })
