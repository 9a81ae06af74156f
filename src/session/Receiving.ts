/**
 * One subscription on the wire, being received.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  Cancelled,
  Duplicate,
  Evicted,
  isMoqError,
  type MoqError,
  type SessionClosed,
  Timeout,
  toCode
} from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import * as Group from "../model/Group.ts"
import * as Ranges from "../model/Ranges.ts"
import type { Lender } from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import { fill } from "./GroupReader.ts"
import { type MessageStream, type ReceiveError, resetCode, toReadError } from "./MessageStream.ts"
import { dropped, none, now } from "./Monitor.ts"
import { left } from "./Requests.ts"
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
export class Receiving {
  readonly owner: Owner
  readonly context: SubscriberContext
  readonly stream: MessageStream
  // the fibers that read the streams of its groups: few, and a Set would remember them for long
  readonly reading: Array<Fiber.Fiber<unknown, unknown>>
  // whoever waits for the track, for a group, or for those that are read to end
  readonly waiters: Waiters
  // the sequences that have begun to arrive, or will not come
  readonly seen: Ranges.Ranges
  // Groups that have finished, or were not asked for, while others below them had not come: where those may be left out
  // without a word, what is still missing some time later is taken for that.
  overtaken: Array<{ readonly by: number; readonly at: number }> | undefined
  // groups may overtake INFO: their streams wait for the track
  track: Track.Producer | undefined
  lender: Lender | undefined
  // reads the Subscribe stream
  listening: Fiber.Fiber<unknown, unknown> | undefined
  // waits for the last groups
  settling: Fiber.Fiber<void> | undefined
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
    this.reading = []
    this.waiters = new Waiters()
    this.seen = Ranges.make(maxRanges)
    this.overtaken = undefined
    this.track = undefined
    this.lender = undefined
    this.listening = undefined
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
   * `listen` is to be run next.
   */
  begin(track: Track.Producer, first: number, last: number, lender?: Lender): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.track = track
      this.lender = lender
      this.waiters.notify()
      const narrowed = this.narrow(first, last)
      return this.context.profile.announceEndsTracks
        ? Effect.andThen(this.fork(Effect.andThen(this.owner.withdrawn, this.conclude)), narrowed)
        : narrowed
    })
  }

  /** Asks for less than before. */
  narrow(first: number, last: number): Effect.Effect<void> {
    this.first = first
    this.last = last
    return this.checkComplete()
  }

  /** Lets go of everything; the publisher is told of an error that the subscription ends with. */
  close(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isClosed = true
      this.context.unread.forget(this)
      if (this.track !== undefined && this.lender === undefined) Track.endUnsafe(this.track, left)
      const error = Exit.findErrorOption(exit)
      return Effect.andThen(
        Fiber.interruptAll(this.reading.slice()),
        Option.isSome(error) && isMoqError(error.value)
          ? this.stream.abort(resetCode(error.value, this.context))
          : Effect.void
      )
    })
  }

  // the end

  private fork(effect: Effect.Effect<void>): Effect.Effect<Fiber.Fiber<void>> {
    return Effect.forkIn(effect, this.owner.scope, { startImmediately: true })
  }

  /** Reads the Subscribe stream. What that says counts until the last group is here: the track may have failed. */
  get listen(): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      if (this.isDone) return Effect.void
      this.listening = fiber
      return Effect.matchEffect(this.readGaps, {
        onSuccess: () => this.conclude,
        onFailure: (error) => {
          // a session that closes then is for `settled` to judge
          if (this.isDone || (this.isOver && error._tag === "MoqSessionClosed")) return Effect.void
          this.settling?.interruptUnsafe()
          return this.finish(error)
        }
      })
    })
  }

  private get conclude(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.isOver) return Effect.void
      this.isOver = true
      this.owner.retire()
      const settling = Effect.matchEffect(this.settled, {
        onFailure: (error) => this.finish(error),
        onSuccess: () => this.finish()
      })
      return Effect.map(this.fork(settling), (fiber) => {
        this.settling = fiber
      })
    })
  }

  // whoever comes first ends the track
  private finish(error?: ReceiveError): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.isDone) return Effect.void
      this.isDone = true
      this.owner.retire()
      const failure = error && toReadError(error)
      if (this.lender === undefined) Track.endUnsafe(this.track!, failure)
      const ended = this.lender?.end(failure === undefined ? Exit.void : Exit.fail(failure)) ?? Effect.void
      return Effect.andThen(ended, error === undefined ? this.bye : this.stream.abort(resetCode(error, this.context)))
    })
  }

  // tells the publisher that everything is here
  private get bye(): Effect.Effect<void> {
    const { receive, send } = this.stream
    return Effect.suspend(() => {
      this.listening?.interruptUnsafe()
      return send.finish
    }).pipe(
      // one that does not hear that, or has more to send than was asked for, is told to stop
      Effect.andThen(this.context.profile.finUnsubscribes ? Effect.void : receive.stop(0)),
      Effect.catch((error) => this.stream.abort(resetCode(error, this.context)))
    )
  }

  // whether everything is here that will come
  private get isComplete(): boolean {
    const end = Math.min(this.end ?? Infinity, this.last + 1)
    return this.reading.length === 0 && end !== Infinity && Ranges.covers(this.seen, this.first, end)
  }

  private checkComplete(): Effect.Effect<void> {
    return this.last !== Infinity && this.track !== undefined && this.isComplete ? this.conclude : Effect.void
  }

  // the end of the Subscribe stream may overtake groups
  private get settled(): Effect.Effect<void, SessionClosed> {
    return Effect.gen({ self: this }, function*() {
      while (!this.isComplete) {
        const before = this.arrived
        yield* this.waiters.until(() => this.reading.length === 0)
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

  private get readGaps(): Effect.Effect<void, ReceiveError> {
    const next: Effect.Effect<void, ReceiveError> = Effect.flatMap(
      this.stream.read(SubscribeGap.decode, this.context.profile),
      (gap) => {
        if (gap === undefined) return Effect.void
        const to = gap.start + gap.count
        const missing = Ranges.claim(this.seen, gap.start, to)
        if (to === Number.MAX_SAFE_INTEGER) {
          this.end = gap.start
          return Effect.andThen(this.checkComplete(), next)
        }
        this.giveUp(missing, gap.code)
        return this.track!.gap({ from: gap.start, to, code: gap.code }).pipe(
          Effect.andThen(this.checkComplete()),
          Effect.andThen(next)
        )
      }
    )
    return next
  }

  private get fillSkipped(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (let next = this.overtaken?.[0]; next !== undefined; next = this.overtaken?.[0]) {
        yield* Effect.sleep(Math.max(0, next.at + quiet - this.context.clock.currentTimeMillisUnsafe()))
        this.overtaken!.shift()
        yield* this.fillMissing(next.by - 1, codeEvicted)
      }
    })
  }

  private fillMissing(to: number, code: number): Effect.Effect<void> {
    const missing = Ranges.claim(this.seen, this.first, Math.min(to, this.last))
    this.giveUp(missing, code)
    return Effect.andThen(
      Effect.forEach(missing, (range) => this.track!.gap({ ...range, code }), { discard: true }),
      Effect.suspend(() => this.checkComplete())
    )
  }

  private giveUp(missing: ReadonlyArray<{ readonly from: number; readonly to: number }>, code: number): void {
    let groups = 0
    for (const { from, to } of missing) groups += to - from + 1
    if (groups > 0) dropped(this.context.monitor, "received", code, groups)
  }

  /**
   * A stream was lost before it said whose it was, and its sender may take it for delivered: then nobody says so. What is
   * missing some time after a group above it has come is taken for it.
   */
  get suspect(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isSuspicious = true
      return this.look
    })
  }

  // one look at a time; suspicion lasts until something was missing
  private get look(): Effect.Effect<void> {
    if (!this.isSuspicious || this.isLooking || this.track === undefined || !this.isMissingBelow(this.highest)) {
      return Effect.void
    }
    this.isLooking = true
    const looked = Effect.flatMap(Effect.sleep(patience), () => {
      this.isLooking = false
      if (!this.isMissingBelow(this.highest)) return Effect.void
      this.isSuspicious = false
      return this.fillMissing(this.highest - 1, codeTimeout)
    })
    return Effect.asVoid(this.fork(looked))
  }

  private isMissingBelow(sequence: number): boolean {
    return !Ranges.covers(this.seen, this.first, Math.min(sequence, this.last + 1))
  }

  private hasOvertaken(sequence: number): Effect.Effect<void> {
    if (sequence <= this.highest) return Effect.void
    this.highest = sequence
    if (!this.context.profile.skipsSilently) return this.look
    if (!this.isMissingBelow(sequence)) return Effect.void
    const overtaken = this.overtaken ??= []
    overtaken.push({ by: sequence, at: this.context.clock.currentTimeMillisUnsafe() })
    return overtaken.length > 1 ? Effect.void : Effect.asVoid(this.fork(this.fillSkipped))
  }

  // the groups

  /**
   * Reads the stream of one group, after its header, on the calling fiber. Fails with what the stream is to be stopped
   * for; the subscription goes on.
   */
  receive(stream: ReceiveStream, chunks: ReadonlyArray<Uint8Array>, sequence: number): Effect.Effect<void, MoqError> {
    return Effect.withFiber((fiber) => {
      if (this.isClosed) return Effect.fail(left)
      const { clock, monitor } = this.context
      const at = monitor === none ? undefined : now(clock)
      this.context.onBytes()
      this.reading.push(fiber)
      this.arrived++
      this.waiters.notify()
      const received = this.track === undefined
        ? Effect.flatMap(
          this.waiters.until(() => this.track !== undefined),
          () => this.receiveGroup(stream, chunks, sequence, at)
        )
        : this.receiveGroup(stream, chunks, sequence, at)
      return Effect.onExit(received, (exit) => {
        const last = this.reading.pop()!
        if (last !== fiber) this.reading[this.reading.indexOf(fiber)] = last
        this.waiters.notify()
        const complete = this.checkComplete()
        return Exit.isSuccess(exit) && sequence > this.highest
          ? Effect.andThen(this.hasOvertaken(sequence), complete)
          : complete
      })
    })
  }

  private receiveGroup(
    stream: ReceiveStream,
    chunks: ReadonlyArray<Uint8Array>,
    sequence: number,
    at: number | undefined
  ): Effect.Effect<void, MoqError> {
    if (sequence < this.first || sequence > this.last) {
      this.context.monitor.drop("received", "unwanted", 1)
      const refused = Effect.fail(new Cancelled({ detail: `group ${sequence} was not asked for` }))
      return sequence < this.first ? refused : Effect.andThen(this.hasOvertaken(sequence), refused)
    }
    if (!Ranges.claimOne(this.seen, sequence)) {
      return Effect.fail(new Duplicate({ detail: `group ${sequence} has come before, or was said not to come` }))
    }
    const group = Track.beginUnsafe(this.track!, sequence)
    if (Track.isRefusal(group)) return Effect.fail(group)
    if (at !== undefined) Group.setArrivedAt(group.group, at)
    return fill(
      stream,
      chunks,
      group,
      this.context,
      this,
      (error) => stream.stop(resetCode(error, this.context))
    )
  }
}

// internal

// how long, in milliseconds, a group may still be on its way when nothing tells
const quiet = 2_000

// how long one that may have been lost may still be on its way
const patience = "10 seconds"

const codeTimeout = toCode(new Timeout({}))

const codeEvicted = toCode(new Evicted({}))
