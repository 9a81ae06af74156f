/**
 * What a session sends beside its control messages: who may write, who may open a stream, and what is given up when too
 * much waits.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { Lagged, Timeout, toCode } from "../core/MoqError.ts"
import { type Entry, patience, SendQueue, usualSize } from "./SendQueue.ts"
import type { PublisherContext } from "./SessionContext.ts"

/**
 * A subscription, as far as its groups may be given up.
 *
 * @internal
 */
export interface Droppable {
  /** Bytes that wait, but for the group that is being sent and the newest. */
  readonly unsent: number
  readonly priority: number
  /** Gives up the oldest group that counts in `unsent`. */
  readonly dropOldest: (code: number) => void
  /** Gives up what has expired, and tells when to look again, in milliseconds; `Infinity` is never. */
  readonly expire: (now: number) => number
}

/**
 * A group that is being sent, as far as it waits for others.
 *
 * @internal
 */
export interface Sender extends Entry {
  /** Wakes it when it waits for its turn, or for a stream. */
  resume: (() => void) | undefined
  /** The code that it ended early with. */
  readonly code: number | undefined
  /** Ends it early with a code. */
  readonly drop: (code: number) => void
}

/** @internal */
export class Sending {
  static make(context: PublisherContext): Effect.Effect<Sending, never, Scope.Scope> {
    return Effect.withFiber((fiber) => {
      const sending = new Sending(context, fiber.currentDispatcher)
      return Effect.as(Effect.forkScoped(sending.watch, { startImmediately: true }), sending)
    })
  }

  readonly context: PublisherContext
  readonly clock: Clock.Clock
  readonly dispatcher: Scheduler.SchedulerDispatcher
  readonly queue: SendQueue<Sender>
  /** Subscriptions that may have something to give up. */
  readonly droppable: Set<Droppable>
  // those that have a place among the streams that may be open, and those that wait for one
  private readonly open: Set<Sender>
  private readonly homeless: Set<Sender>
  private readonly stalled: number
  /** How many bytes a write has: more than usual while the transport takes them at once. */
  writeSize: number
  // when something was last taken, or the first of what waits began to; the streams that have still to take their end
  private taken: number
  private readonly finishing: Set<Sender>
  private readonly timer: Timer
  private isScheduled: boolean
  /** Nothing more begins: what is asked for now gets no answer before the session ends. */
  isDraining: boolean
  constructor(context: PublisherContext, dispatcher: Scheduler.SchedulerDispatcher) {
    this.context = context
    this.clock = context.clock
    this.dispatcher = dispatcher
    this.queue = new SendQueue()
    this.droppable = new Set()
    this.open = new Set()
    this.homeless = new Set()
    this.stalled = Duration.toMillis(Duration.fromInputUnsafe(context.limits.stalled))
    this.writeSize = usualSize
    this.taken = 0
    this.finishing = new Set()
    this.timer = new Timer(dispatcher)
    this.isScheduled = false
    this.isDraining = false
  }

  // turns

  /** Whether a group may write so many bytes now; if not, it has to {@link turn}. */
  request(sender: Sender, bytes: number): boolean {
    const now = this.clock.currentTimeMillisUnsafe()
    this.begin(now)
    if (this.queue.request(sender, bytes, now)) return true
    this.look(now + patience)
    return false
  }

  /** Suspends until it is the turn of a group that has requested it. */
  turn(sender: Sender): Effect.Effect<void> {
    return parked(sender, () => sender.state !== "waiting")
  }

  // from now on something waits
  private begin(now: number): void {
    if (this.isWaiting) return
    this.taken = now
    this.look(now + this.stalled)
  }

  private get isWaiting(): boolean {
    return this.queue.pending > 0 || this.finishing.size > 0
  }

  /**
   * The write of a group has been taken. The first one of a stream tells nothing of the peer: a transport takes it before
   * it has to be sent.
   */
  done(sender: Sender, isFirst: boolean): void {
    const now = this.clock.currentTimeMillisUnsafe()
    if (now > sender.since + atOnce) this.writeSize = usualSize
    else if (sender.bytes >= this.writeSize) this.writeSize = Math.min(2 * this.writeSize, largestSize)
    this.queue.done(sender)
    if (!isFirst) this.taken = now
    this.wake()
  }

  /** All of a group is written, and its stream about to end. */
  finish(sender: Sender): void {
    this.begin(this.clock.currentTimeMillisUnsafe())
    this.finishing.add(sender)
  }

  /** A group has come to its end, wherever it was. */
  leave(sender: Sender): void {
    if (this.finishing.delete(sender) && sender.code === undefined) this.taken = this.clock.currentTimeMillisUnsafe()
    this.queue.remove(sender)
    this.homeless.delete(sender)
    if (this.open.delete(sender)) this.house()
    this.wake()
  }

  // in a task of its own: whoever is done goes on first, and may be the next again
  wake(): void {
    if (this.queue.waiting === 0 || this.isScheduled) return
    this.isScheduled = true
    this.dispatcher.scheduleTask(() => {
      this.isScheduled = false
      const now = this.clock.currentTimeMillisUnsafe()
      for (let next = this.queue.next(now); next !== undefined; next = this.queue.next(now)) next.resume?.()
    }, 0)
  }

  // streams

  /** Whether a group may open its stream. */
  isHoused(sender: Sender): boolean {
    if (this.open.has(sender)) return true
    if (this.open.size >= this.context.connection.capabilities.maxStreams) return false
    this.open.add(sender)
    return true
  }

  /**
   * Suspends until a group may open its stream. It gives its turn back meanwhile, and the last one of those that are open
   * gives way to it, if that comes after it.
   */
  housed(sender: Sender): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.queue.done(sender)
      this.homeless.add(sender)
      let last: Sender | undefined
      for (const other of this.open) if (last === undefined || goesBefore(last, other)) last = other
      if (last !== undefined && goesBefore(sender, last)) last.drop(codeLagged)
      this.wake()
      return parked(sender, () => this.open.has(sender))
    })
  }

  private house(): void {
    let first: Sender | undefined
    for (const other of this.homeless) if (first === undefined || goesBefore(other, first)) first = other
    if (first === undefined) return
    const { resume } = first
    this.homeless.delete(first)
    this.open.add(first)
    if (resume !== undefined) this.dispatcher.scheduleTask(resume, 0)
  }

  // what is given up

  /** Gives up groups while more waits than may. */
  trim(): void {
    const { unsent } = this.context.limits
    while (true) {
      let sum = 0
      let worst: Droppable | undefined
      let most = 0
      for (const one of this.droppable) {
        const bytes = one.unsent
        sum += bytes
        if (bytes === 0) continue
        if (
          worst === undefined || one.priority < worst.priority ||
          (one.priority === worst.priority && bytes > most)
        ) {
          worst = one
          most = bytes
        }
      }
      if (sum <= unsent || worst === undefined) return
      this.context.monitor.limit("unsent")
      worst.dropOldest(codeLagged)
    }
  }

  /** Looks after what can expire, or stall, at a time in milliseconds. */
  look(at: number): void {
    const { timer } = this
    if (at >= timer.at) return
    timer.at = at
    timer.wake()
  }

  /** Gives up what has expired, and the session when it is stalled: the one timer of a session. */
  private get watch(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { timer } = this
      while (true) {
        const now = this.clock.currentTimeMillisUnsafe()
        if (this.isWaiting && now >= this.taken + this.stalled) break
        timer.at = Infinity
        // meanwhile somebody may want it earlier
        timer.at = Math.min(this.next(now), timer.at)
        yield* timer.at === Infinity ? timer.woken : Effect.timeoutOption(timer.woken, Math.max(0, timer.at - now))
      }
      const detail = `no write was taken for ${this.stalled / 1_000} seconds`
      yield* this.context.end(new Timeout({ detail }), "stalled")
    })
  }

  // when to look again
  private next(now: number): number {
    let at = this.isWaiting ? this.taken + this.stalled : Infinity
    at = Math.min(at, this.queue.release(now))
    this.wake()
    for (const one of [...this.droppable]) at = Math.min(at, one.expire(now))
    return at
  }
}

// internal

const largestSize = 16 * usualSize

// a write that is done within so many milliseconds has not waited for the network
const atOnce = 1

const codeLagged = toCode(new Lagged({}))

const goesBefore = (a: Sender, b: Sender): boolean =>
  a.lane.priority === b.lane.priority ? a.place < b.place : a.lane.priority > b.lane.priority

// a group is woken by whoever gives it what it waits for
const parked = (sender: Sender, isOver: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (isOver()) return resume(Effect.void)
    const leave = () => {
      sender.resume = undefined
    }
    sender.resume = () => {
      leave()
      resume(Effect.void)
    }
    return Effect.sync(leave)
  })

class Timer {
  readonly dispatcher: Scheduler.SchedulerDispatcher
  at: number
  private resume: (() => void) | undefined
  constructor(dispatcher: Scheduler.SchedulerDispatcher) {
    this.dispatcher = dispatcher
    this.at = Infinity
    this.resume = undefined
  }
  readonly wake = (): void => {
    const { resume } = this
    if (resume === undefined) return
    this.resume = undefined
    this.dispatcher.scheduleTask(resume, 0)
  }
  readonly woken: Effect.Effect<void> = Effect.callback<void>((resume) => {
    this.resume = () => resume(Effect.void)
    return Effect.sync(() => {
      this.resume = undefined
    })
  })
}
