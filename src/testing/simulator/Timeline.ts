/**
 * Virtual time, and everything that happens in it: the tasks of fibers, which take none, and events, each at its time.
 *
 * All fibers share one dispatcher, so that it is known when nothing is left to run; only then does the time move, to the
 * next event. Times are whole nanoseconds since the beginning.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"
import type * as TestClock from "effect/testing/TestClock"

export const millisecond = 1_000_000

export const nanosOf = (input: Duration.Input): number => Math.round(Duration.toMillis(input) * millisecond)

/** Something that happens at a time. Events of the same time happen in the order in which they were planned. */
export interface Event {
  /** Set when it is planned. */
  time: number
  order: number
  /** It no longer happens, and does not move the time. */
  cancelled: boolean
  readonly happen: () => void
}

// after everything else that happens at the same time, and whatever follows from it
const last = Number.MAX_SAFE_INTEGER / 2

type Task = () => void

export class Timeline implements Scheduler.Scheduler {
  now = 0
  readonly executionMode = "async"
  private readonly events: Array<Event> = []
  private planned = 0
  private cancelled = 0
  private running: Array<Task> = []
  private at = 0
  private waiting: Array<Task> = []
  private ranked: Array<readonly [priority: number, task: Task]> = []

  readonly dispatcher: Scheduler.SchedulerDispatcher = {
    scheduleTask: (task, priority) => {
      if (priority === 0) this.waiting.push(task)
      else this.ranked.push([priority, task])
    },
    flush: () => {
      while (this.runTask());
    }
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this.dispatcher
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    return fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield
  }

  /** Runs a task of a fiber; `false` when there is none. */
  runTask(): boolean {
    if (this.at === this.running.length && !this.gather()) return false
    this.running[this.at++]!()
    return true
  }

  // what was scheduled meanwhile is the next round, lower priorities first, as Effect's own scheduler does it
  private gather(): boolean {
    const done = this.running
    this.running = this.waiting
    done.length = 0
    this.waiting = done
    this.at = 0
    if (this.ranked.length > 0) {
      const ranked = this.ranked.sort(([a], [b]) => a - b)
      this.ranked = []
      const before = ranked.filter(([priority]) => priority < 0).map(([, task]) => task)
      const after = ranked.filter(([priority]) => priority > 0).map(([, task]) => task)
      this.running = [...before, ...this.running, ...after]
    }
    return this.running.length > 0
  }

  /** The next event, if there is one. */
  get next(): Event | undefined {
    while (this.events.length > 0 && this.events[0]!.cancelled) {
      this.pop()
      this.cancelled--
    }
    return this.events[0]
  }

  /** Moves the time to the next event, and lets it happen. */
  advance(): void {
    const event = this.pop()
    this.now = Math.max(this.now, event.time)
    event.happen()
  }

  /** Plans an event. */
  plan(event: Event, time: number, isLast = false): void {
    event.time = Math.max(time, this.now)
    event.order = ++this.planned + (isLast ? last : 0)
    this.push(event)
  }

  /** Plans what to do at a time. */
  schedule(time: number, happen: () => void, isLast = false): Event {
    const event: Event = { time, order: 0, cancelled: false, happen }
    this.plan(event, time, isLast)
    return event
  }

  /** Takes an event back that has not happened yet. */
  cancel(event: Event): void {
    if (event.cancelled) return
    event.cancelled = true
    // timeouts that never come must not pile up
    if (++this.cancelled < 1_000 || this.cancelled * 2 < this.events.length) return
    const kept = this.events.filter((event) => !event.cancelled)
    this.events.length = 0
    this.cancelled = 0
    for (const event of kept) this.push(event)
  }

  private push(event: Event): void {
    const { events } = this
    let index = events.length
    events.push(event)
    while (index > 0) {
      const above = (index - 1) >>> 1
      if (!isBefore(event, events[above]!)) break
      events[index] = events[above]!
      index = above
    }
    events[index] = event
  }

  private pop(): Event {
    const { events } = this
    const first = events[0]!
    const event = events.pop()!
    const size = events.length
    if (size === 0) return first
    let index = 0
    while (true) {
      let below = 2 * index + 1
      if (below >= size) break
      if (below + 1 < size && isBefore(events[below + 1]!, events[below]!)) below++
      if (!isBefore(events[below]!, event)) break
      events[index] = events[below]!
      index = below
    }
    events[index] = event
    return first
  }

  private sleepUntil(time: () => number, isLast: boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const until = time()
      // nothing ever ends such a sleep
      if (until === Infinity) return
      const event = this.schedule(until, () => {
        // a cancellation that comes later is too late
        event.cancelled = true
        resume(Effect.void)
      }, isLast)
      return Effect.sync(() => this.cancel(event))
    })
  }

  /**
   * The clock of the scenario, a `TestClock`: `adjust` and `setTime` suspend until the time has come, and whatever was
   * due has happened.
   */
  clock(withLive: TestClock.TestClock["withLive"]): TestClock.TestClock {
    // whole milliseconds, as on a computer; no sleep ends before it should by this clock
    const currentTimeMillisUnsafe = () => Math.floor(this.now / millisecond)
    const currentTimeNanosUnsafe = () => BigInt(this.now)
    const currentTimeNanos = Effect.sync(currentTimeNanosUnsafe)
    return {
      currentTimeMillisUnsafe,
      currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
      currentTimeNanosUnsafe,
      currentTimeNanos,
      monotonicTimeNanosUnsafe: currentTimeNanosUnsafe,
      monotonicTimeNanos: currentTimeNanos,
      sleep: (duration) => {
        const nanos = nanosOf(duration)
        return nanos <= 0 ? Effect.void : this.sleepUntil(() => this.now + nanos, false)
      },
      adjust: (duration) => {
        const nanos = nanosOf(duration)
        return this.sleepUntil(() => this.now + nanos, true)
      },
      setTime: (timestamp) =>
        Effect.suspend(() => {
          const time = timestamp * millisecond
          return time < this.now
            ? Effect.die(new RangeError("the time of a simulation does not go back"))
            : this.sleepUntil(() => time, true)
        }),
      withLive
    }
  }
}

const isBefore = (a: Event, b: Event): boolean => a.time < b.time || (a.time === b.time && a.order < b.order)
