/**
 * The signals that a relay listens for.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { closeSync, openSync } from "node:fs"

/**
 * What SIGHUP asks for, from now on; several that come at once are one. It also tells that the terminal has been closed,
 * and then the relay has to end, as it does without anybody who listens for the signal.
 *
 * @category constructors
 * @since 0.1.0
 */
export const hangingUp: Effect.Effect<
  { readonly hangups: Queue.Dequeue<"SIGHUP">; readonly terminalGone: Deferred.Deferred<void> },
  never,
  Scope.Scope
> = Effect.gen(function*() {
  const hangups = yield* Queue.sliding<"SIGHUP">(1)
  const terminalGone = Deferred.makeUnsafe<void>()
  const onTerminal = process.stdin.isTTY || process.stderr.isTTY
  const listener = () => {
    if (onTerminal && !hasTerminal()) Deferred.doneUnsafe(terminalGone, Effect.void)
    else Queue.offerUnsafe(hangups, "SIGHUP")
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("SIGHUP", listener)),
    () => Effect.sync(() => process.off("SIGHUP", listener))
  )
  return { hangups, terminalGone }
})

/**
 * Suspends until the process is asked to end, by SIGTERM or SIGINT, from now on.
 *
 * @category signals
 * @since 0.1.0
 */
export const ending: Effect.Effect<void> = Effect.callback((resume) => {
  const listener = () => resume(Effect.void)
  const signals = ["SIGTERM", "SIGINT"] as const
  for (const signal of signals) process.on(signal, listener)
  return Effect.sync(() => signals.forEach((signal) => process.off(signal, listener)))
})

// internal

const hasTerminal = (): boolean => {
  try {
    closeSync(openSync("/dev/tty", "r"))
    return true
  } catch {
    return false
  }
}
