/**
 * Streams that the peer has opened, until they have said what they are for.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Timeout } from "../core/MoqError.ts"
import { resetCode } from "./MessageStream.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * All of them get as long for their first message, so the one that came first is the first to be late: one timer looks
 * after those of a session, while there are any.
 *
 * @internal
 */
export class Newcomers {
  private readonly context: SessionContext
  // the fibers that read them, and when they began, in milliseconds; while the timer runs
  private waiting: Map<Fiber.Fiber<unknown, unknown>, number> | undefined
  constructor(context: SessionContext) {
    this.context = context
    this.waiting = undefined
  }

  /** Reads a first message, on a fiber of its own: when it is late, the stream is aborted, and that fiber ends. */
  hear<A, E>(first: Effect.Effect<A, E>, abort: (code: number) => Effect.Effect<void>): Effect.Effect<A, E> {
    return Effect.withFiber((fiber) => {
      const { context } = this
      const isWatched = this.waiting !== undefined
      const waiting = this.waiting ??= new Map()
      waiting.set(fiber, context.clock.currentTimeMillisUnsafe())
      if (!isWatched) context.fibers.fork(this.watch(waiting))
      return Effect.onExit(
        first,
        () => waiting.delete(fiber) ? Effect.void : abort(resetCode(late, context))
      )
    })
  }

  private watch(waiting: Map<Fiber.Fiber<unknown, unknown>, number>): Effect.Effect<void> {
    const { clock, limits, monitor } = this.context
    return Effect.suspend(() => {
      const before = clock.currentTimeMillisUnsafe() - Duration.toMillis(Duration.fromInputUnsafe(limits.firstMessage))
      for (const [fiber, since] of waiting) {
        if (since > before) return Effect.andThen(Effect.sleep(since - before), this.watch(waiting))
        waiting.delete(fiber)
        monitor.limit("firstMessage")
        fiber.interruptUnsafe()
      }
      this.waiting = undefined
      return Effect.void
    })
  }
}

// internal

const late = new Timeout({})
