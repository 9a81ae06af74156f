/**
 * Fibers that come and go within a scope.
 *
 * `effect/FiberSet` without what nobody here needs: a page loads this.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/**
 * When the scope closes, those that still run are interrupted, and no more begin.
 *
 * @internal
 */
export class Fibers {
  static readonly make: Effect.Effect<Fibers, never, Scope.Scope> = Effect.acquireRelease(
    Effect.map(Effect.context<never>(), (context) => new Fibers(Effect.runForkWith(context))),
    (fibers) =>
      Effect.suspend(() => {
        fibers.isClosed = true
        return Fiber.interruptAll(fibers.running)
      })
  )

  private readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly running: Set<Fiber.Fiber<unknown, unknown>>
  private isClosed: boolean
  constructor(run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.run = run
    this.running = new Set()
    this.isClosed = false
  }

  /** Starts one, on the stack of the caller. */
  readonly fork = (effect: Effect.Effect<void>): void => {
    if (!this.isClosed) this.add(this.run(effect))
  }

  /** Counts one that runs already as one of these. */
  add(fiber: Fiber.Fiber<unknown, unknown>): void {
    if (this.isClosed) return fiber.interruptUnsafe()
    this.running.add(fiber)
    fiber.addObserver(() => this.running.delete(fiber))
  }

  /** Suspends until none of them runs. */
  awaitEmpty(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.running.size === 0 ? Effect.void : Effect.andThen(Fiber.awaitAll(this.running), this.awaitEmpty())
    )
  }
}
