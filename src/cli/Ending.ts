/**
 * How verbs end that only an interruption ends.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

/**
 * Lets the process exit with 0 when it is interrupted (Ctrl-C, SIGTERM) while this runs: that is how its work ends.
 * Other verbs exit with 130 then.
 *
 * @category combinators
 * @since 0.1.0
 */
export const interruptible = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.onInterrupt(self, () =>
    Effect.sync(() => {
      process.exitCode = 0
    }))

/**
 * What the process exits with when it was interrupted.
 *
 * @category getters
 * @since 0.1.0
 */
export const interruptedCode = (): number => process.exitCode === 0 ? 0 : 130
