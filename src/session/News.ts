/**
 * Something that changes: what it is now, and every change.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Log from "../model/Log.ts"

/**
 * Tells any number of readers; each begins with what was told last.
 *
 * @internal
 */
export class News<in out A> {
  private made: Log.Log<A> | undefined
  constructor() {
    this.made = undefined
  }
  // of most there never are any
  get log(): Log.Log<A> {
    return this.made ??= Log.makeUnsafe()
  }
  tell(news: A): void {
    const { log } = this
    Log.appendUnsafe(log, news)
    const unread = Math.max(Log.unreadUnsafe(log), log.next - maxUnread)
    Log.trimUnsafe(log, Math.min(unread, log.next - 1))
  }
  end(): void {
    Log.endUnsafe(this.log, Exit.void)
  }
  get stream(): Stream.Stream<A> {
    return Log.toStream(this.reader)
  }
  /** One more reader. */
  get reader(): Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<A>>, never, Scope.Scope> {
    return Effect.suspend(() => {
      const { log } = this
      return Effect.map(Log.open(log, Math.max(0, log.next - 1)), (cursor) => Log.pull(log, cursor))
    })
  }
}

// internal

// a reader this far behind misses the oldest
const maxUnread = 64
