/**
 * What a session sends beside its control messages: who may write, who may open a stream, and what is given up when too
 * much waits.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Lagged, Timeout, toCode } from "../core/MoqError.ts"
import { type Parked, Waiters } from "../core/Waiters.ts"
import { type Entry, patience, SendQueue, takeOut, usualSize } from "./SendQueue.ts"
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
  /** Whether it has a place among the streams that may be open. */
  isOpen: boolean
  /** Is called when it waits: it is its turn, or it has a place. */
  readonly resume: () => void
  /** Whether its stream has still to take its end. */
  isFinishing: boolean
  /** The code that it ended early with. */
  readonly code: number | undefined
  /** Ends it early with a code. */
  readonly drop: (code: number) => void
}

/** @internal */
export class Sending implements Parked {
  readonly context: PublisherContext
  readonly clock: Clock.Clock
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly queue: SendQueue<Sender>
  // subscriptions that may have something to give up: many sessions never have one
  private droppable: Set<Droppable> | undefined
  // those that have a place among the streams that may be open, those that wait for one, and those that have just got one
  private readonly open: Array<Sender>
  private readonly homeless: Array<Sender>
  private admitted: Array<Sender>
  private readonly waking: Waiters
  private readonly stalled: number
  /** How many bytes a write has: more than usual while the transport takes them at once. */
  writeSize: number
  // when something was last taken, or the first of what waits began to; how many streams have still to take their end
  private taken: number
  private finishing: number
  // what looks after them, and when; none while nothing waits
  private timer: Fiber.Fiber<void> | undefined
  private at: number
  /** Nothing more begins: what is asked for now gets no answer before the session ends. */
  isDraining: boolean
  constructor(context: PublisherContext, fiber: Fiber.Fiber<unknown, unknown>) {
    this.context = context
    this.clock = context.clock
    this.fiber = fiber
    this.queue = new SendQueue()
    this.droppable = undefined
    this.open = []
    this.homeless = []
    this.admitted = []
    this.waking = new Waiters()
    this.waking.add(this)
    this.stalled = Duration.toMillis(context.limits.stalled)
    this.writeSize = usualSize
    this.taken = 0
    this.finishing = 0
    this.timer = undefined
    this.at = Infinity
    this.isDraining = false
  }

  // turns

  /** Whether a group may write so many bytes now; if not, it is resumed when it may. */
  request(sender: Sender, bytes: number): boolean {
    const now = this.clock.currentTimeMillisUnsafe()
    this.begin(now)
    if (this.queue.request(sender, bytes, now)) return true
    this.look(now + patience)
    return false
  }

  // from now on something waits
  private begin(now: number): void {
    if (this.isWaiting) return
    this.taken = now
    this.look(now + this.stalled)
  }

  private get isWaiting(): boolean {
    return this.queue.pending > 0 || this.finishing > 0
  }

  /**
   * The write of a group has been taken. The first one of a stream tells nothing of the peer: a transport takes it before
   * it has to be sent.
   */
  done(sender: Sender, isFirst: boolean): void {
    const now = this.clock.currentTimeMillisUnsafe()
    const took = now - sender.since
    if (took > briefly) this.writeSize = usualSize
    else if (took <= atOnce && sender.bytes >= this.writeSize) {
      this.writeSize = Math.min(2 * this.writeSize, largestSize)
    }
    this.queue.done(sender)
    if (!isFirst) this.taken = now
    this.wakeNext()
  }

  /** All of a group is written, and its stream about to end. */
  finish(sender: Sender): void {
    this.begin(this.clock.currentTimeMillisUnsafe())
    sender.isFinishing = true
    this.finishing++
  }

  /** A group has come to its end, wherever it was. */
  leave(sender: Sender): void {
    if (sender.isFinishing) {
      sender.isFinishing = false
      this.finishing--
      if (sender.code === undefined) this.taken = this.clock.currentTimeMillisUnsafe()
    }
    this.queue.remove(sender)
    if (sender.isOpen) {
      sender.isOpen = false
      takeOut(this.open, sender)
      this.admitNext()
    } else if (this.homeless.length > 0) {
      takeOut(this.homeless, sender)
    }
    this.wakeNext()
  }

  /** Has those go on soon whose turn it is: whoever is done goes on first, and may be the next again. */
  wakeNext(): void {
    if (this.queue.waiting > 0) this.waking.notify()
  }

  /** Has those go on whose turn it is, and those that have got a place. */
  wake(): void {
    const { admitted } = this
    this.admitted = []
    // one may have ended meanwhile
    for (const sender of admitted) if (sender.isOpen) sender.resume()
    const now = this.clock.currentTimeMillisUnsafe()
    for (let next = this.queue.next(now); next !== undefined; next = this.queue.next(now)) next.resume()
  }

  // streams

  /**
   * Whether a group may open its stream; if not, it is resumed when it may. It gives its turn back meanwhile, and the last
   * one of those that are open gives way to it, if that comes after it.
   */
  house(sender: Sender): boolean {
    if (sender.isOpen) return true
    if (this.open.length < this.context.connection.capabilities.maxStreams) {
      this.admit(sender)
      return true
    }
    this.queue.done(sender)
    this.homeless.push(sender)
    let last: Sender | undefined
    for (const other of this.open) if (last === undefined || goesBefore(last, other)) last = other
    if (last !== undefined && goesBefore(sender, last)) last.drop(codeLagged)
    this.wakeNext()
    return false
  }

  private admit(sender: Sender): void {
    sender.isOpen = true
    this.open.push(sender)
  }

  private admitNext(): void {
    let first: Sender | undefined
    for (const other of this.homeless) if (first === undefined || goesBefore(other, first)) first = other
    if (first === undefined) return
    takeOut(this.homeless, first)
    this.admit(first)
    this.admitted.push(first)
    this.waking.notify()
  }

  // what is given up

  /** A subscription may have something to give up from now on. */
  consider(one: Droppable): void {
    this.droppable ??= new Set()
    this.droppable.add(one)
  }

  /** It has nothing any more. */
  forget(one: Droppable): void {
    this.droppable?.delete(one)
  }

  /** Gives up groups while more waits than may. */
  trim(): void {
    const { droppable = [] } = this
    const { unsent } = this.context.limits
    while (true) {
      let sum = 0
      let worst: Droppable | undefined
      let most = 0
      for (const one of droppable) {
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
    if (at >= this.at) return
    this.at = at
    this.timer?.interruptUnsafe()
    this.timer = this.context.fibers.fork(Effect.suspend(() => {
      const millis = Math.max(0, at - this.clock.currentTimeMillisUnsafe())
      return Effect.flatMap(Effect.sleep(millis), () => this.watch())
    }))
  }

  // gives up what has expired, and the session when it is stalled: the one timer of a session
  private watch(): Effect.Effect<void> {
    this.timer = undefined
    this.at = Infinity
    const now = this.clock.currentTimeMillisUnsafe()
    if (!this.isWaiting || now < this.taken + this.stalled) {
      this.look(this.next(now))
      return Effect.void
    }
    // never again
    this.at = -Infinity
    const detail = `no write was taken for ${this.stalled / 1_000} seconds`
    return this.context.end(new Timeout({ detail }), "stalled")
  }

  // when to look again
  private next(now: number): number {
    let at = this.isWaiting ? this.taken + this.stalled : Infinity
    at = Math.min(at, this.queue.release(now))
    this.wakeNext()
    for (const one of [...(this.droppable ?? [])]) at = Math.min(at, one.expire(now))
    return at
  }
}

// internal

const largestSize = 16 * usualSize

// a write that is done within so many milliseconds has not waited for the network
const atOnce = 1

// one that takes no longer than this holds nobody up; it may be that this process was busy
const briefly = 8

const codeLagged = toCode(new Lagged({}))

const goesBefore = (a: Sender, b: Sender): boolean =>
  a.lane.priority === b.lane.priority ? a.place < b.place : a.lane.priority > b.lane.priority
