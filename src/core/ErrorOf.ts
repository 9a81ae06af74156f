/**
 * What something has failed with.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"

/**
 * The error of an exit; `undefined` when it succeeded, was interrupted or died. `Exit.findErrorOption` without the Option,
 * of which a page would load more.
 *
 * @internal
 */
export const errorOf = <E>(exit: Exit.Exit<unknown, E>): E | undefined =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
