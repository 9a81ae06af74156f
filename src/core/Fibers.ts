/**
 * Fibers that come and go within a scope.
 *
 * `effect/FiberSet` without what nobody here needs: a page loads this.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Bag, type Item } from "./Bag.ts"

/**
 * When the scope closes, those that still run are interrupted, and no more begin.
 *
 * @internal
 */
export class Fibers {
  static readonly make: Effect.Effect<Fibers, never, Scope.Scope> = Effect.acquireRelease(
    Effect.withFiber(({ context }) => Effect.succeed(new Fibers(context))),
    (fibers) => fibers.close()
  )

  private readonly context: Context.Context<never>
  private running: Bag<Running> | undefined
  private isClosed: boolean
  constructor(context: Context.Context<never>) {
    this.context = context
    this.running = undefined
    this.isClosed = false
  }

  /**
   * Starts one, on the stack of the caller; `undefined` once the scope has closed. Who does not look hears nothing of it.
   * What it acquires goes to a scope that it brings along, and closes.
   */
  fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> | undefined
  fork<A, E>(effect: Effect.Effect<A, E, Scope.Scope>, scope: Scope.Scope): Fiber.Fiber<A, E> | undefined
  fork<A, E>(effect: Effect.Effect<A, E, Scope.Scope>, scope?: Scope.Scope): Fiber.Fiber<A, E> | undefined {
    if (this.isClosed) return undefined
    const context = scope === undefined ? this.context : Context.add(this.context, Scope.Scope, scope)
    const fiber = Effect.runForkWith(context as Context.Context<Scope.Scope>)(effect)
    this.add(fiber)
    return fiber
  }

  /** Counts one that runs already as one of these. */
  add(fiber: Fiber.Fiber<unknown, unknown>): void {
    if (this.isClosed) return fiber.interruptUnsafe()
    if (fiber.pollUnsafe() !== undefined) return
    const running = this.running ??= new Bag()
    const item: Running = { place: -1, fiber }
    running.add(item)
    fiber.addObserver(() => running.delete(item))
  }

  /** Suspends until none of them runs. */
  awaitEmpty(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.running?.size ? Effect.andThen(Fiber.awaitAll(this.fibers), this.awaitEmpty()) : Effect.void
    )
  }

  private close(): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      this.isClosed = true
      // one of them may be what closes the scope: it would wait for itself
      return Fiber.interruptAll(this.fibers.filter((other) => other !== fiber))
    })
  }

  private get fibers(): Array<Fiber.Fiber<unknown, unknown>> {
    return (this.running?.all ?? []).map(({ fiber }) => fiber)
  }
}

// internal

interface Running extends Item {
  readonly fiber: Fiber.Fiber<unknown, unknown>
}
