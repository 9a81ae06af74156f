/**
 * One subscription on the wire, being received.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Reader from "../coding/Reader.ts"
import { Fibers } from "../core/Fibers.ts"
import { Cancelled, Duplicate, Evicted, type MoqError, type SessionClosed, Timeout, toCode } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import type { WriteError } from "../model/Frame.ts"
import * as Group from "../model/Group.ts"
import * as Ranges from "../model/Ranges.ts"
import type { Lender } from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import { fill } from "./GroupReader.ts"
import { type MessageStream, type ReceiveError, resetCode, toReadError } from "./MessageStream.ts"
import { dropped, none, now } from "./Monitor.ts"
import { maxRanges, type SubscriberContext } from "./SessionContext.ts"

/** @internal */
export class Receiving {
  static make(stream: MessageStream, context: SubscriberContext): Effect.Effect<Receiving, never, Scope.Scope> {
    return Effect.flatMap(Fibers.make, (groups) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          context.monitor.subscription("received", 1)
          return new Receiving(stream, context, groups)
        }),
        (receiving) =>
          Effect.sync(() => {
            context.monitor.subscription("received", -1)
            context.unread.forget(receiving)
          })
      ))
  }

  readonly stream: MessageStream
  readonly context: SubscriberContext
  /** The fibers that read the streams of its groups. */
  readonly groups: Fibers
  // groups may overtake INFO: their streams wait for the track
  readonly track: Deferred.Deferred<Track.Producer>
  // nothing more is to come, whatever the Subscribe stream says
  readonly over: Deferred.Deferred<void>
  // whoever waits for a group, or for one that has overtaken others
  readonly waiters: Waiters
  // Groups that have finished, or were not asked for, while others below them had not come: where those may be left out
  // without a word, what is still missing some time later is taken for that.
  readonly overtaken: Array<{ readonly by: number; readonly at: number }>
  // the sequences that have begun to arrive, or will not come
  readonly seen: Ranges.Ranges
  // the range that is asked for
  first: number
  last: number
  // where the track ends, once the publisher has said so
  end: number | undefined
  // the highest sequence that may have overtaken others
  highest: number
  // how many groups have come, and are being read
  arrived: number
  reading: number
  // whether a stream was lost before it said whose it was, since the last look at what is missing
  isSuspicious: boolean
  isLooking: boolean
  scope: Scope.Scope | undefined

  constructor(stream: MessageStream, context: SubscriberContext, groups: Fibers) {
    this.stream = stream
    this.context = context
    this.groups = groups
    this.track = Deferred.makeUnsafe()
    this.over = Deferred.makeUnsafe()
    this.waiters = new Waiters()
    this.overtaken = []
    this.seen = Ranges.make(maxRanges)
    this.first = 0
    this.last = Infinity
    this.end = undefined
    this.highest = -1
    this.arrived = 0
    this.reading = 0
    this.isSuspicious = false
    this.isLooking = false
    this.scope = undefined
  }

  /**
   * Fills the track that INFO has told of, until it ends, or all of the range is here. `withdrawn` succeeds when
   * something else than the Subscribe stream tells that the track has ended; `onOver` runs once anything has told that,
   * while groups may still be on their way. A track that is lent its lender ends.
   */
  run(
    track: Track.Producer,
    first: number,
    last: number,
    withdrawn: Effect.Effect<void>,
    onOver: Effect.Effect<void>,
    lender?: Lender
  ): Effect.Effect<void, never, Scope.Scope> {
    this.narrow(first, last)
    Deferred.doneUnsafe(this.track, Exit.succeed(track))
    const { profile } = this.context
    // what the Subscribe stream still says counts until the last group is here: the track may have failed
    const told = this.readGaps(track).pipe(
      // a session that closes then is for `settled` to judge
      Effect.catchTag(
        "MoqSessionClosed",
        (closed) => Deferred.isDoneUnsafe(this.over) ? Effect.void : Effect.fail(closed)
      ),
      Effect.andThen(Deferred.succeed(this.over, undefined)),
      Effect.andThen(Effect.never)
    )
    const over = Deferred.await(this.over).pipe(Effect.andThen(onOver), Effect.andThen(this.settled))
    const received = Effect.raceFirst(told, over).pipe(
      Effect.andThen(lender === undefined ? track.finish : lender.end(Exit.void)),
      // tells the publisher that everything is here
      Effect.andThen(this.stream.send.finish),
      // one that does not hear that, or has more to send than was asked for, is told to stop
      Effect.andThen(profile.finUnsubscribes ? Effect.void : this.stream.receive.stop(0)),
      Effect.catch((error) => {
        const failure = toReadError(error)
        return Effect.andThen(
          lender === undefined ? track.fail(failure) : lender.end(Exit.fail(failure)),
          this.stream.abort(resetCode(error, this.context))
        )
      })
    )
    return Effect.gen({ self: this }, function*() {
      this.scope = yield* Effect.scope
      if (profile.skipsSilently) yield* Effect.forkScoped(this.fillSkipped(track))
      if (profile.announceEndsTracks) {
        yield* Effect.forkScoped(Effect.andThen(withdrawn, Deferred.succeed(this.over, undefined)))
      }
      yield* received
    })
  }

  /** Asks for less than before. */
  narrow(first: number, last: number): void {
    this.first = first
    this.last = last
    this.checkComplete()
  }

  // whether everything is here that will come
  get isComplete(): boolean {
    const end = Math.min(this.end ?? Infinity, this.last + 1)
    return this.reading === 0 && end !== Infinity && Ranges.covers(this.seen, this.first, end)
  }

  checkComplete(): void {
    if (this.last !== Infinity && this.isComplete) Deferred.doneUnsafe(this.over, Exit.void)
  }

  readGaps(track: Track.Producer): Effect.Effect<void, ReceiveError> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const gap = yield* this.stream.read(SubscribeGap.decode, this.context.profile)
        if (gap === undefined) return
        const to = gap.start + gap.count
        const missing = Ranges.claim(this.seen, gap.start, to)
        if (to === Number.MAX_SAFE_INTEGER) this.end = gap.start
        else {
          this.giveUp(missing, gap.code)
          yield* track.gap({ from: gap.start, to, code: gap.code })
        }
        this.checkComplete()
      }
    })
  }

  fillSkipped(track: Track.Producer): Effect.Effect<never> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        yield* this.waiters.until(() => this.overtaken.length > 0)
        const next = this.overtaken.shift()!
        yield* Effect.sleep(Math.max(0, next.at + quiet - this.context.clock.currentTimeMillisUnsafe()))
        yield* this.fillMissing(track, next.by - 1, codeEvicted)
      }
    })
  }

  fillMissing(track: Track.Producer, to: number, code: number): Effect.Effect<void> {
    const missing = Ranges.claim(this.seen, this.first, Math.min(to, this.last))
    this.giveUp(missing, code)
    return Effect.andThen(
      Effect.forEach(missing, (range) => track.gap({ ...range, code }), { discard: true }),
      Effect.sync(() => this.checkComplete())
    )
  }

  giveUp(missing: ReadonlyArray<{ readonly from: number; readonly to: number }>, code: number): void {
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
    const { scope } = this
    if (!this.isSuspicious || this.isLooking || scope === undefined || !this.isMissingBelow(this.highest)) {
      return Effect.void
    }
    this.isLooking = true
    const looked = Effect.gen({ self: this }, function*() {
      const track = yield* Deferred.await(this.track)
      yield* Effect.sleep(patience)
      this.isLooking = false
      if (!this.isMissingBelow(this.highest)) return
      this.isSuspicious = false
      yield* this.fillMissing(track, this.highest - 1, codeTimeout)
    })
    return Effect.asVoid(Effect.forkIn(looked, scope))
  }

  private isMissingBelow(sequence: number): boolean {
    return !Ranges.covers(this.seen, this.first, Math.min(sequence, this.last + 1))
  }

  hasOvertaken(sequence: number): Effect.Effect<void> {
    if (sequence <= this.highest) return Effect.void
    this.highest = sequence
    if (!this.context.profile.skipsSilently) return this.look
    if (this.isMissingBelow(sequence)) {
      this.overtaken.push({ by: sequence, at: this.context.clock.currentTimeMillisUnsafe() })
      this.waiters.notify()
    }
    return Effect.void
  }

  // the end of the Subscribe stream may overtake groups
  get settled(): Effect.Effect<void, SessionClosed> {
    return Effect.gen({ self: this }, function*() {
      while (!this.isComplete) {
        const before = this.arrived
        yield* this.groups.awaitEmpty()
        if (this.isComplete) return
        const more = Effect.timeoutOption(this.waiters.until(() => this.arrived > before), quiet)
        if (Option.isNone(yield* Effect.raceFirst(more, Effect.as(this.closed, Option.none())))) return
      }
    })
  }

  // a publisher that has said its last word closes the session cleanly; whatever else ends it cuts the track short
  get closed(): Effect.Effect<void, SessionClosed> {
    return Effect.flatMap(
      this.context.connection.closed,
      (closed) => closed.by === "remote" && closed.code === 0 ? Effect.void : Effect.fail(closed)
    )
  }

  /**
   * Reads the stream of one group, after its header, on the calling fiber. Fails with what the stream is to be stopped
   * for; the subscription goes on.
   */
  receive(stream: ReceiveStream, reader: Reader.Reader, sequence: number): Effect.Effect<void, MoqError> {
    return Effect.withFiber((fiber) => {
      const { clock, monitor } = this.context
      const at = monitor === none ? undefined : now(clock)
      this.context.onBytes()
      this.groups.add(fiber)
      this.arrived++
      this.reading++
      this.waiters.notify()
      return Deferred.await(this.track).pipe(
        Effect.flatMap((track) => this.receiveGroup(track, stream, reader, sequence, at)),
        Effect.ensuring(Effect.sync(() => {
          this.reading--
          this.checkComplete()
        }))
      )
    })
  }

  receiveGroup(
    track: Track.Producer,
    stream: ReceiveStream,
    reader: Reader.Reader,
    sequence: number,
    at: number | undefined
  ): Effect.Effect<void, MoqError> {
    if (sequence < this.first || sequence > this.last) {
      this.context.monitor.drop("received", "unwanted", 1)
      const refused = Effect.fail(new Cancelled({ detail: `group ${sequence} was not asked for` }))
      return sequence < this.first ? refused : Effect.andThen(this.hasOvertaken(sequence), refused)
    }
    if (Ranges.has(this.seen, sequence)) {
      return Effect.fail(new Duplicate({ detail: `group ${sequence} has come before, or was said not to come` }))
    }
    const begun: Effect.Effect<Group.Producer, Duplicate | Evicted | WriteError> = track.createGroup(sequence)
    Ranges.claim(this.seen, sequence)
    return Effect.flatMap(begun, (group) => {
      if (at !== undefined) Group.setArrivedAt(group.group, at)
      return Effect.flatMap(
        fill(stream, reader, group, this.context, this, (error) => {
          Track.dropUnsafe(track, group, error)
          return stream.stop(resetCode(error, this.context))
        }),
        () => this.hasOvertaken(sequence)
      )
    })
  }
}

// internal

// how long, in milliseconds, a group may still be on its way when nothing tells
const quiet = 2_000

// how long one that may have been lost may still be on its way
const patience = "10 seconds"

const codeTimeout = toCode(new Timeout({}))

const codeEvicted = toCode(new Evicted({}))
