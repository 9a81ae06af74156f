/**
 * What the peer must do in time.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SessionContext } from "./SessionContext.ts"

/**
 * All of them give as long, so the one that began first is the first to be late: one timer looks after those of a
 * session, while there are any.
 *
 * @internal
 */
export class Deadlines {
  readonly context: Pick<SessionContext, "clock" | "fibers">
  readonly millis: number
  // in a chain rather than a Set, which remembers for long what has left it
  first: Deadline | undefined
  last: Deadline | undefined
  isWatched: boolean
  constructor(context: Pick<SessionContext, "clock" | "fibers">, duration: Duration.Input) {
    this.context = context
    this.millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
    this.first = undefined
    this.last = undefined
    this.isWatched = false
  }

  /** Begins one; `late` is called when it has not been met in time. */
  begin(late: () => void): Deadline {
    const deadline = new Deadline(this, this.context.clock.currentTimeMillisUnsafe() + this.millis, late)
    if (!this.isWatched) {
      this.isWatched = true
      this.context.fibers.fork(this.watch())
    }
    return deadline
  }

  private watch(): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (let next = this.first; next !== undefined; next = this.first) {
        const left = next.at - this.context.clock.currentTimeMillisUnsafe()
        if (left > 0) return Effect.andThen(Effect.sleep(left), this.watch())
        next.meet()
        next.late()
      }
      this.isWatched = false
      return Effect.void
    })
  }
}

/** @internal */
export class Deadline {
  readonly deadlines: Deadlines
  /** In milliseconds. */
  readonly at: number
  readonly late: () => void
  private previous: Deadline | undefined
  private next: Deadline | undefined
  private isOver: boolean
  constructor(deadlines: Deadlines, at: number, late: () => void) {
    this.deadlines = deadlines
    this.at = at
    this.late = late
    this.previous = deadlines.last
    this.next = undefined
    this.isOver = false
    if (this.previous === undefined) deadlines.first = this
    else this.previous.next = this
    deadlines.last = this
  }

  /** Tells whether that was in time. */
  meet(): boolean {
    if (this.isOver) return false
    this.isOver = true
    const { deadlines, next, previous } = this
    if (previous === undefined) deadlines.first = next
    else previous.next = next
    if (next === undefined) deadlines.last = previous
    else next.previous = previous
    this.previous = undefined
    this.next = undefined
    return true
  }
}
