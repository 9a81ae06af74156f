/**
 * Effects that own what they acquire, within the scope around them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/**
 * Runs something in a scope of its own within the current one: when it fails, what it has acquired goes at once, though
 * the scope around it goes on.
 *
 * @internal
 */
export const inOwnScope = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope> | Scope.Scope> => withOwnScope(() => effect)

/**
 * The same, for what closes that scope itself before the current one closes.
 *
 * @internal
 */
export const withOwnScope = <A, E, R>(
  use: (own: Scope.Closeable) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const own = Scope.forkUnsafe(scope)
    return Effect.onError(Scope.provide(use(own), own), (cause) => Scope.close(own, Exit.failCause(cause)))
  })
