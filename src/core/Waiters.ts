/**
 * Fibers that wait for something to become true.
 *
 * Resuming an `Effect.callback` runs the resumed fiber on the stack of whoever resumes it. A write must not run its
 * reader before it returns, so a wake is a task of a dispatcher: one per turn however often it is asked for, and visible
 * to a virtual clock.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"

interface Waiter {
  readonly ready: () => boolean
  readonly resume: () => void
  // for `notify`
  readonly fiber: Fiber.Fiber<unknown, unknown> | undefined
}

class Parking {
  // most of them are never waited for
  protected parked: Set<Waiter> | undefined
  protected isScheduled = false

  get size(): number {
    return this.parked?.size ?? 0
  }

  /** Wakes in a task of the dispatcher of the acting fiber; where no fiber acts (a native callback), at once. */
  wake(dispatcher?: Scheduler.SchedulerDispatcher): void {
    if (this.isScheduled || this.size === 0) return
    if (dispatcher === undefined) return this.flush()
    this.isScheduled = true
    dispatcher.scheduleTask(this.flush, 0)
  }

  add(waiter: Waiter): void {
    this.parked ??= new Set()
    this.parked.add(waiter)
  }

  delete(waiter: Waiter): void {
    this.parked?.delete(waiter)
  }

  // one at a time: a woken fiber takes what it came for before the next one is asked, and one that was interrupted
  // meanwhile takes nothing away from the others; those that wait again are for the next wake
  private readonly flush = (): void => {
    const { parked } = this
    this.isScheduled = false
    if (parked === undefined) return
    if (parked.size === 1) {
      for (const waiter of parked) return waiter.ready() ? waiter.resume() : undefined
    }
    for (const waiter of [...parked]) if (parked.has(waiter) && waiter.ready()) waiter.resume()
  }
}

/** Fibers that all wait for the same condition. Whoever continues must look at it again. */
export class Condition extends Parking {
  readonly wait: Effect.Effect<void>
  constructor(ready: () => boolean) {
    super()
    this.wait = Effect.callback<void>((resume) => park([this], ready, resume, undefined))
  }
}

/** Fibers of which each waits for a condition of its own. */
export class Waiters extends Parking {
  /** Suspends until `ready` holds: it is asked now, and at each wake. */
  until(ready: () => boolean): Effect.Effect<void> {
    return untilAny([this], ready)
  }

  /** Wakes in a task of the dispatcher of a fiber that waits, whoever acts. */
  notify(): void {
    if (this.isScheduled || this.parked === undefined) return
    for (const { fiber } of this.parked) return this.wake(fiber?.currentDispatcher)
  }
}

/** {@link Waiters.until} among several. */
export const untilAny = (all: ReadonlyArray<Waiters>, ready: () => boolean): Effect.Effect<void> =>
  Effect.withFiber((fiber) => Effect.callback<void>((resume) => park(all, ready, resume, fiber)))

// `ready` is asked here too: the fiber may have yielded between looking and parking
const park = (
  all: ReadonlyArray<Parking>,
  ready: () => boolean,
  resume: (effect: Effect.Effect<void>) => void,
  fiber: Waiter["fiber"]
): Effect.Effect<void> | void => {
  if (ready()) return resume(Effect.void)
  const leave = () => {
    for (let i = 0; i < all.length; i++) all[i]!.delete(waiter)
  }
  const waiter: Waiter = {
    ready,
    resume: () => {
      leave()
      resume(Effect.void)
    },
    fiber
  }
  for (let i = 0; i < all.length; i++) all[i]!.add(waiter)
  return Effect.sync(leave)
}
