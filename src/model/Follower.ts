/**
 * A reader of a log of news that need not have every entry of it, only be told what is so now.
 *
 * @since 0.1.0
 */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Log from "./Log.ts"

/** @internal */
export abstract class Follower<A, E> {
  readonly log: Log.Log<A, E>
  readonly cursor: Log.Cursor
  fresh: boolean
  constructor(log: Log.Log<A, E>, cursor: Log.Cursor) {
    this.log = log
    this.cursor = cursor
    this.fresh = true
  }
  /** How it has ended, once there is nothing more to take. */
  get end(): Exit.Exit<void, E> | undefined {
    return this.log.end
  }
  isReady(): boolean {
    return Log.isReady(this.log, this.cursor) || this.end !== undefined
  }
  /** What has come since the last call. */
  take(): ReadonlyArray<A> {
    const out: Array<A> = []
    const isBehind = this.fresh || this.cursor.index < this.log.first
    const news = Log.takeUnsafe(this.log, this.cursor) ?? []
    if (isBehind) this.catchUp(out)
    else for (const entry of news) this.tell(out, entry)
    this.fresh = false
    return out
  }
  /** What takes in batches. It is one pull, which loses nothing when it is interrupted. */
  get pull(): Pull.Pull<NonEmptyReadonlyArray<A>, E> {
    const wait = Log.awaitUntil(this.log, () => this.isReady())
    return Log.handingOut<NonEmptyReadonlyArray<A>, E | Cause.Done>(
      () => {
        const out = this.take()
        return isReadonlyArrayNonEmpty(out) ? out : undefined
      },
      (again) => {
        const { end } = this
        if (end === undefined) return Effect.andThen(wait, again)
        // it needs nothing more: nobody is to wait for it
        Log.closeUnsafe(this.log, this.cursor)
        return Log.endOf(end)
      }
    )
  }
  /** Tells what is so now: at the beginning, and when the log was cut before it was read. */
  abstract catchUp(out: Array<A>): void
  /** Tells one entry, unless it is known. */
  abstract tell(out: Array<A>, entry: A): void
}
