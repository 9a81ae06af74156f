/**
 * Fibers that wait for something to become true.
 *
 * Resuming an `Effect.callback` runs the resumed fiber on the stack of whoever resumes it. A write must not run its
 * reader before it returns, so a wake comes later: one per turn however often it is asked for. Under Effect's own
 * scheduler it is a microtask, because a task would wait for a turn of the event loop; under any other, whose tasks may
 * be a virtual clock's, it is a task.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"

/** Whoever is woken: a fiber, or what a fiber has work for it. */
export interface Parked {
  /** The fiber whose scheduler wakes it. */
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** Looks whether there is something to do. It must not throw. */
  wake(): void
}

/** Fibers of which each waits for a condition of its own. */
export class Waiters {
  // most are never waited for, and many by one at most
  private parked: Parked | Set<Parked> | undefined
  private isScheduled: boolean
  constructor() {
    this.parked = undefined
    this.isScheduled = false
  }

  get size(): number {
    const { parked } = this
    return parked === undefined ? 0 : parked instanceof Set ? parked.size : 1
  }

  /** Suspends until `ready` holds: it is asked now, and at each wake. */
  until(ready: () => boolean): Effect.Effect<void> {
    return untilAny([this], ready)
  }

  /** Wakes soon, by the scheduler of a fiber that waits. */
  notify(): void {
    const { parked } = this
    if (parked === undefined || this.isScheduled) return
    const first = parked instanceof Set ? parked.values().next().value : parked
    if (first === undefined) return
    this.isScheduled = true
    wakeSoon(this, first.fiber)
  }

  /** The same for a fiber that acts, known by its dispatcher; where none acts (a native callback), it wakes at once. */
  wake(dispatcher?: Scheduler.SchedulerDispatcher): void {
    if (dispatcher !== undefined) this.notify()
    else if (!this.isScheduled) this.flush()
  }

  add(who: Parked): void {
    const { parked } = this
    if (parked === undefined) this.parked = who
    else if (parked instanceof Set) parked.add(who)
    else if (parked !== who) this.parked = new Set([parked, who])
  }

  delete(who: Parked): void {
    const { parked } = this
    if (parked === who) this.parked = undefined
    else if (parked instanceof Set) parked.delete(who)
  }

  // one at a time: a woken fiber takes what it came for before the next one is asked, and one that was interrupted
  // meanwhile takes nothing away from the others; those that wait again are for the next wake
  flush(): void {
    const { parked } = this
    this.isScheduled = false
    if (parked instanceof Set) { for (const who of [...parked]) if (parked.has(who)) who.wake() }
    else parked?.wake()
  }
}

/** Fibers that all wait for the same condition. Whoever continues must look at it again. */
export class Condition extends Waiters {
  readonly wait: Effect.Effect<void>
  constructor(ready: () => boolean) {
    super()
    this.wait = this.until(ready)
  }
}

/** {@link Waiters.until} among several. */
export const untilAny = (all: ReadonlyArray<Waiters>, ready: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    // asked here too: the fiber may have yielded between looking and parking
    if (ready()) return resume(Effect.void)
    const waiter = new Waiter(all, ready, resume, Fiber.getCurrent()!)
    for (let i = 0; i < all.length; i++) all[i]!.add(waiter)
    return Effect.sync(() => waiter.leave())
  })

class Waiter implements Parked {
  readonly all: ReadonlyArray<Waiters>
  readonly ready: () => boolean
  readonly resume: (effect: Effect.Effect<void>) => void
  readonly fiber: Fiber.Fiber<unknown, unknown>
  constructor(
    all: ReadonlyArray<Waiters>,
    ready: () => boolean,
    resume: (effect: Effect.Effect<void>) => void,
    fiber: Fiber.Fiber<unknown, unknown>
  ) {
    this.all = all
    this.ready = ready
    this.resume = resume
    this.fiber = fiber
  }
  wake(): void {
    if (!this.ready()) return
    this.leave()
    this.resume(Effect.void)
  }
  leave(): void {
    for (let i = 0; i < this.all.length; i++) this.all[i]!.delete(this)
  }
}

// internal

// How many times in a row microtasks may wake fibers before the event loop has its turn: fibers that keep waking each
// other would never let it.
const most = 128

// oxlint-disable-next-line no-restricted-globals -- the one place for microtasks: see above
const settled = Promise.resolve()

let due: Array<Waiters> = []
let times = 0

const wakeSoon = (waiters: Waiters, fiber: Fiber.Fiber<unknown, unknown>): void => {
  if (times === most || !(fiber.cache.scheduler instanceof Scheduler.MixedScheduler)) {
    return fiber.currentDispatcher.scheduleTask(() => waiters.flush(), 0)
  }
  if (due.push(waiters) > 1) return
  void settled.then(wakeDue)
  if (++times === most / 2) fiber.currentDispatcher.scheduleTask(turned, 0)
}

const turned = (): void => {
  times = 0
}

const wakeDue = (): void => {
  const now = due
  due = []
  for (let i = 0; i < now.length; i++) now[i]!.flush()
}
