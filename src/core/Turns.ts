/**
 * One after the other, in the order in which they came.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import { Waiters } from "./Waiters.ts"

/** Effects of which one runs at a time. */
export class Turns {
  // the first one's turn it is
  private readonly queue: Array<() => boolean> = []
  private readonly moved = new Waiters()

  /** Runs an effect once those before it have ended. */
  take<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.uninterruptibleMask((restore) => {
      const isFirst = (): boolean => this.queue[0] === isFirst
      this.queue.push(isFirst)
      return Effect.ensuring(
        restore(Effect.andThen(this.moved.until(isFirst), effect)),
        Effect.sync(() => {
          this.queue.splice(this.queue.indexOf(isFirst), 1)
          this.moved.notify()
        })
      )
    })
  }
}
