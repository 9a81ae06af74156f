/**
 * Effects whose failure nobody needs to hear of.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

/**
 * `Effect.ignore` without what that can log, which a page would load for it.
 *
 * @internal
 */
export const ignore = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  Effect.catch(Effect.asVoid(effect), () => Effect.void)
