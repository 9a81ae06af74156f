/**
 * One subscription on the wire, being received.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { Bag } from "../core/Bag.ts"
import { errorOf } from "../core/ErrorOf.ts"
import { Cancelled, Duplicate, Evicted, type SessionClosed, Timeout, toCode } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import * as Group from "../model/Group.ts"
import * as Ranges from "../model/Ranges.ts"
import type { Lender } from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import type { GroupStream } from "./GroupStream.ts"
import { type Ear, type MessageStream, type ReceiveError, resetCode, toReadError } from "./MessageStream.ts"
import { dropped, none, now } from "./Monitor.ts"
import { closedHere, left, tell } from "./Requests.ts"
import { maxRanges, type SubscriberContext } from "./SessionContext.ts"

/**
 * Whose subscription it is.
 *
 * @internal
 */
export interface Owner {
  readonly context: SubscriberContext
  /** What runs for the subscription ends with that. */
  readonly scope: Scope.Scope
  /** Suspends until something else than the Subscribe stream tells that the track has ended. */
  readonly withdrawn: Effect.Effect<void>
  /** Nothing more is to come, though groups may still be on their way. */
  readonly retire: () => void
}

/** @internal */
export class Receiving implements Ear<SubscribeGap.SubscribeGap> {
  readonly owner: Owner
  readonly context: SubscriberContext
  readonly stream: MessageStream
  // the streams of its groups
  readonly reading: Bag<GroupStream>
  // whoever waits for a group, or for those that are read to end
  readonly waiters: Waiters
  // the sequences that have begun to arrive, or will not come
  readonly seen: Ranges.Ranges
  // Groups that have finished, or were not asked for, while others below them had not come: where those may be left out
  // without a word, what is still missing some time later is taken for that.
  overtaken: Array<{ readonly by: number; readonly at: number }> | undefined
  // groups may overtake INFO: their streams wait for the track
  track: Track.Producer | undefined
  lender: Lender | undefined
  // waits for the last groups
  settling: Fiber.Fiber<unknown, unknown> | undefined
  // the range that is asked for
  first: number
  last: number
  // where the track ends, once the publisher has said so
  end: number | undefined
  // the highest sequence that may have overtaken others
  highest: number
  // how many groups have come
  arrived: number
  // whether a stream was lost before it said whose it was, since the last look at what is missing
  isSuspicious: boolean
  isLooking: boolean
  // nothing more is to come, whatever the Subscribe stream says
  isOver: boolean
  // the track has been ended
  isDone: boolean
  isClosed: boolean

  constructor(owner: Owner, stream: MessageStream) {
    this.owner = owner
    this.context = owner.context
    this.stream = stream
    this.reading = new Bag()
    this.waiters = new Waiters()
    this.seen = Ranges.make(maxRanges)
    this.overtaken = undefined
    this.track = undefined
    this.lender = undefined
    this.settling = undefined
    this.first = 0
    this.last = Infinity
    this.end = undefined
    this.highest = -1
    this.arrived = 0
    this.isSuspicious = false
    this.isLooking = false
    this.isOver = false
    this.isDone = false
    this.isClosed = false
  }

  /**
   * Fills the track that INFO has told of, until it ends, or all of the range is here. One that is lent its lender ends.
   * `listen` is to be called next.
   */
  begin(track: Track.Producer, first: number, last: number, lender?: Lender): void {
    this.track = track
    this.lender = lender
    this.first = first
    this.last = last
    if (this.context.profile.announceEndsTracks) {
      this.fork(Effect.andThen(this.owner.withdrawn, Effect.sync(() => this.conclude())))
    }
    for (const reader of [...this.reading.all]) {
      const { early = [] } = reader
      reader.early = undefined
      if (this.open(track, reader, early)) reader.pull()
    }
    this.checkComplete()
  }

  /** Asks for less than before. */
  narrow(first: number, last: number): void {
    this.first = first
    this.last = last
    this.checkComplete()
  }

  /** Lets go of everything; the publisher is told of an error that the subscription ends with. */
  close(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isClosed = this.isDone = this.isOver = true
      this.context.unread.forget(this)
      if (this.track !== undefined && this.lender === undefined) Track.endUnsafe(this.track, left)
      for (const reader of this.reading.drain()) reader.refuse(left)
      return tell(this.context, this.stream, exit)
    })
  }

  // the end

  // for as long as the subscription; not once the session has ended
  private fork(effect: Effect.Effect<void>): Fiber.Fiber<unknown> | undefined {
    return this.context.fibers.fork(Effect.forkIn(effect, this.owner.scope, { startImmediately: true }))
  }

  /** Reads the Subscribe stream. What that says counts until the last group is here: the track may have failed. */
  listen(): void {
    if (!this.isDone) this.stream.hear(this.context, SubscribeGap.decode, this)
  }

  message({ code, count, start }: SubscribeGap.SubscribeGap): boolean {
    if (this.isDone) return false
    const to = start + count
    const missing = Ranges.claim(this.seen, start, to)
    if (to === Number.MAX_SAFE_INTEGER) this.end = start
    else this.giveUp(missing, [{ from: start, to }], code)
    this.checkComplete()
    return !this.isDone
  }

  over(exit: Exit.Exit<void, ReceiveError>): void {
    if (Exit.isSuccess(exit)) return this.conclude()
    const error = errorOf(exit) ?? closedHere
    // a session that closes then is for `settled` to judge
    if (this.isOver && error._tag === "MoqSessionClosed") return
    this.settling?.interruptUnsafe()
    this.finish(error)
  }

  private conclude(): void {
    if (this.isOver) return
    this.isOver = true
    this.owner.retire()
    const settling = this.fork(Effect.withFiber((fiber) => {
      this.settling = fiber
      return Effect.catch(
        Effect.map(this.settled, () => this.finish()),
        (error) => Effect.sync(() => this.finish(error))
      )
    }))
    if (settling === undefined) this.finish(closedHere)
  }

  // whoever comes first ends the track
  private finish(error?: ReceiveError): void {
    if (this.isDone) return
    this.isDone = true
    this.owner.retire()
    const failure = error && toReadError(error)
    if (this.lender === undefined) Track.endUnsafe(this.track!, failure)
    else this.lender.end(failure === undefined ? Exit.void : Exit.fail(failure))
    this.fork(error === undefined ? this.bye : this.stream.abort(resetCode(error, this.context)))
  }

  // tells the publisher that everything is here
  private get bye(): Effect.Effect<void> {
    const { receive, send } = this.stream
    return send.finish.pipe(
      // one that does not hear that, or has more to send than was asked for, is told to stop
      Effect.andThen(this.context.profile.finUnsubscribes ? Effect.void : receive.stop(0)),
      Effect.catch((error) => this.stream.abort(resetCode(error, this.context)))
    )
  }

  // whether everything is here that will come
  private get isComplete(): boolean {
    const end = Math.min(this.end ?? Infinity, this.last + 1)
    return this.reading.size === 0 && end !== Infinity && Ranges.covers(this.seen, this.first, end)
  }

  private checkComplete(): void {
    if (this.last !== Infinity && this.track !== undefined && this.isComplete) this.conclude()
  }

  // the end of the Subscribe stream may overtake groups
  private get settled(): Effect.Effect<void, SessionClosed> {
    return Effect.gen({ self: this }, function*() {
      while (!this.isComplete) {
        const before = this.arrived
        yield* this.waiters.until(() => this.reading.size === 0)
        if (this.isComplete) return
        const more = Effect.timeoutOption(this.waiters.until(() => this.arrived > before), quiet)
        if (Option.isNone(yield* Effect.raceFirst(more, Effect.as(this.closed, Option.none())))) return
      }
    })
  }

  // a publisher that has said its last word closes the session cleanly; whatever else ends it cuts the track short
  private get closed(): Effect.Effect<void, SessionClosed> {
    return Effect.flatMap(
      this.context.connection.closed,
      (closed) => closed.by === "remote" && closed.code === 0 ? Effect.void : Effect.fail(closed)
    )
  }

  // what is missing

  private get fillSkipped(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (let next = this.overtaken?.[0]; next !== undefined; next = this.overtaken?.[0]) {
        yield* Effect.sleep(Math.max(0, next.at + quiet - this.context.clock.currentTimeMillisUnsafe()))
        this.overtaken!.shift()
        this.fillMissing(next.by - 1, codeEvicted)
      }
    })
  }

  private fillMissing(to: number, code: number): void {
    const missing = Ranges.claim(this.seen, this.first, Math.min(to, this.last))
    this.giveUp(missing, missing, code)
    this.checkComplete()
  }

  private giveUp(missing: ReadonlyArray<Ranges.Range>, gaps: ReadonlyArray<Ranges.Range>, code: number): void {
    let groups = 0
    for (const { from, to } of missing) groups += to - from + 1
    if (groups > 0) dropped(this.context.monitor, "received", code, groups)
    for (const gap of gaps) this.context.fibers.fork(this.track!.gap({ ...gap, code }))
  }

  /**
   * A stream was lost before it said whose it was, and its sender may take it for delivered: then nobody says so. What is
   * missing some time after a group above it has come is taken for it.
   */
  suspect(): void {
    this.isSuspicious = true
    this.look()
  }

  // one look at a time; suspicion lasts until something was missing
  private look(): void {
    if (!this.isSuspicious || this.isLooking || this.track === undefined || !this.isMissingBelow(this.highest)) return
    this.isLooking = true
    this.fork(Effect.map(Effect.sleep(patience), () => {
      this.isLooking = false
      if (!this.isMissingBelow(this.highest)) return
      this.isSuspicious = false
      this.fillMissing(this.highest - 1, codeTimeout)
    }))
  }

  private isMissingBelow(sequence: number): boolean {
    return !Ranges.covers(this.seen, this.first, Math.min(sequence, this.last + 1))
  }

  private hasOvertaken(sequence: number): void {
    if (sequence <= this.highest) return
    this.highest = sequence
    if (!this.context.profile.skipsSilently) return this.look()
    if (!this.isMissingBelow(sequence)) return
    const overtaken = this.overtaken ??= []
    overtaken.push({ by: sequence, at: this.context.clock.currentTimeMillisUnsafe() })
    if (overtaken.length === 1) this.fork(this.fillSkipped)
  }

  // the groups

  /** Takes the stream of a group, with what came after its header. Whether that is to go on now. */
  receive(reader: GroupStream, chunks: ReadonlyArray<Uint8Array>): boolean {
    if (this.isClosed) return reader.refuse(left)
    const { clock, monitor } = this.context
    if (monitor !== none) reader.arrivedAt = now(clock)
    this.context.onBytes()
    this.reading.add(reader)
    this.arrived++
    this.waiters.notify()
    if (this.track !== undefined) return this.open(this.track, reader, chunks)
    reader.early = chunks
    return false
  }

  /** A stream is over. */
  left(reader: GroupStream, isWhole: boolean): void {
    if (!this.reading.delete(reader)) return
    this.waiters.notify()
    if (isWhole) this.hasOvertaken(reader.sequence)
    this.checkComplete()
  }

  private open(track: Track.Producer, reader: GroupStream, chunks: ReadonlyArray<Uint8Array>): boolean {
    const { arrivedAt, sequence } = reader
    if (sequence < this.first || sequence > this.last) {
      this.context.monitor.drop("received", "unwanted", 1)
      if (sequence > this.last) this.hasOvertaken(sequence)
      return reader.refuse(new Cancelled({ detail: `group ${sequence} was not asked for` }))
    }
    if (!Ranges.claimOne(this.seen, sequence)) {
      return reader.refuse(new Duplicate({ detail: `group ${sequence} has come before, or was said not to come` }))
    }
    const group = Track.beginUnsafe(track, sequence)
    if (Track.isRefusal(group)) return reader.refuse(group)
    if (arrivedAt !== undefined) Group.setArrivedAt(group.group, arrivedAt)
    return reader.fill(this, group, chunks)
  }
}

// internal

// how long, in milliseconds, a group may still be on its way when nothing tells
const quiet = 2_000

// how long one that may have been lost may still be on its way
const patience = "10 seconds"

const codeTimeout = toCode(new Timeout({}))

const codeEvicted = toCode(new Evicted({}))
