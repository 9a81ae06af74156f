/**
 * Fibers that wait for one condition, woken through a dispatcher.
 *
 * Resuming an `Effect.callback` runs the resumed fiber on the stack of whoever resumes it. A write must not run its
 * reader before it returns, so a wake is a task of the acting fiber's dispatcher: one per batch however often it is
 * asked for, and visible to a virtual clock.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"

type Resume = (effect: Effect.Effect<void>) => void

export class Waiters {
  /** Suspends until a wake finds the condition true; whoever continues must look at the condition again. */
  readonly wait: Effect.Effect<void>
  private readonly ready: () => boolean
  private waiting: Array<Resume> = []
  private scheduled = false

  constructor(ready: () => boolean) {
    this.ready = ready
    this.wait = Effect.callback<void>((resume) => {
      this.waiting.push(resume)
      return Effect.sync(() => {
        const index = this.waiting.indexOf(resume)
        if (index >= 0) this.waiting.splice(index, 1)
      })
    })
  }

  get size(): number {
    return this.waiting.length
  }

  /** Wakes in a task of the dispatcher of the acting fiber; where no fiber acts (a native callback), at once. */
  wake(dispatcher?: Scheduler.SchedulerDispatcher): void {
    if (this.scheduled || this.waiting.length === 0) return
    if (dispatcher === undefined) return this.flush()
    this.scheduled = true
    dispatcher.scheduleTask(() => this.flush(), 0)
  }

  // one at a time and only while the condition holds: a woken fiber takes what it came for before the next one is asked,
  // and one that was interrupted takes nothing away from the others; those that wait again are for the next wake
  private flush(): void {
    this.scheduled = false
    for (let asked = this.waiting.length; asked > 0 && this.waiting.length > 0 && this.ready(); asked--) {
      this.waiting.shift()!(Effect.void)
    }
  }
}
