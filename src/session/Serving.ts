/**
 * One subscription of the peer, being served.
 *
 * @since 0.1.0
 */
import { isArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Writer from "../coding/Writer.ts"
import type { GroupOrder } from "../core/GroupOrder.ts"
import { type MoqError, ProtocolViolation, type SessionClosed, type StreamReset, toCode } from "../core/MoqError.ts"
import type { Priority } from "../core/Priority.ts"
import * as FrameMessage from "../message/Frame.ts"
import * as GroupMessage from "../message/Group.ts"
import * as Info from "../message/Info.ts"
import * as StreamType from "../message/StreamType.ts"
import type { Subscribe } from "../message/Subscribe.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import * as SubscribeUpdate from "../message/SubscribeUpdate.ts"
import type { Frame, ReadError } from "../model/Frame.ts"
import type { Gap } from "../model/Gap.ts"
import type { Group } from "../model/Group.ts"
import * as Ranges from "../model/Ranges.ts"
import type { Event, Track, TrackInfo } from "../model/Track.ts"
import * as TrackEvent from "../model/TrackEvent.ts"
import type { SendStream } from "../transport/Transport.ts"
import { encode, type MessageStream, resetCode } from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import { maxRanges, type PublisherContext } from "./SessionContext.ts"

/** @internal */
export class Serving {
  readonly options: PublisherContext
  readonly stream: MessageStream
  readonly message: Subscribe
  readonly inFlight: Semaphore.Semaphore
  // several fibers write gaps to the Subscribe stream
  readonly writing: Semaphore.Semaphore
  // the streams of the groups in flight, by sequence
  readonly sending: Map<number, Outgoing>
  // what was sent, or said not to come
  readonly told: Ranges.Ranges
  // no more groups: the track has ended, all in the range are told of, or the session closes
  readonly halt: Deferred.Deferred<"complete" | "closing", MoqError>
  readonly done: Deferred.Deferred<void>
  track: Track | undefined
  priority: Priority
  order: GroupOrder
  min: number
  max: number
  // the sequence after the highest one that is told of
  next: number

  constructor(options: PublisherContext, stream: MessageStream, message: Subscribe) {
    this.options = options
    this.stream = stream
    this.message = message
    this.inFlight = Semaphore.makeUnsafe(options.limits.groupsInFlight)
    this.writing = Semaphore.makeUnsafe(1)
    this.sending = new Map()
    this.told = Ranges.make(maxRanges)
    this.halt = Deferred.makeUnsafe()
    this.done = Deferred.makeUnsafe()
    this.track = undefined
    this.priority = message.priority
    this.order = message.order
    this.min = message.min ?? 0
    this.max = message.max ?? Infinity
    this.next = this.min
  }

  /** Serves until the track has ended and the peer has it all, or the peer leaves. */
  get run(): Effect.Effect<void, MoqError> {
    return Effect.gen({ self: this }, function*() {
      const groups = yield* FiberMap.make<number, void, never>()
      const left = Effect.raceFirst(this.readUpdates(groups), Effect.asVoid(this.stream.send.stopped))
      const isServed = yield* Effect.raceFirst(Effect.as(this.serve(groups), true), Effect.as(left, false))
      yield* isServed ? this.acknowledged(groups) : this.stream.send.finish
    }).pipe(Effect.scoped, Effect.ensuring(Deferred.succeed(this.done, undefined)))
  }

  /** Suspends until what is under way has come to its end: the track, if that has ended, else its groups in flight. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.track === undefined) return Effect.void
      if (this.track.end === undefined) Deferred.doneUnsafe(this.halt, Exit.succeed("closing"))
      return Deferred.await(this.done)
    })
  }

  serve(groups: Groups): Effect.Effect<void, MoqError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const track = yield* this.options.router.subscribe(this.message.path, { from: this.message.min ?? "latest" })
      const { info } = track
      // a relay that has no group yet knows from its publisher which one comes
      const latest = track.latest ?? track.first
      this.track = track
      this.begin(this.message.min ?? latest)
      const events = yield* track.reader({ from: this.min })
      yield* this.sendInfo(info, latest)
      const sending = yield* Effect.forkScoped(
        Deferred.into(this.sendEvents(events, groups), this.halt),
        { startImmediately: true }
      )
      const isClosing = (yield* Deferred.await(this.halt)) === "closing"
      if (isClosing) yield* Fiber.interrupt(sending)
      yield* FiberMap.awaitEmpty(groups)
      if (isClosing) {
        // without an end: the track has none, and the close of the session tells
        yield* Effect.sleep(linger)
        yield* Deferred.succeed(this.done, undefined)
        return yield* Effect.never
      }
      yield* this.sendRest
      yield* this.writing.withPermit(this.stream.send.finish)
    })
  }

  // an update may have come before the track was there
  begin(min: number): void {
    this.min = Math.max(this.min, min)
    this.next = this.min
    this.checkComplete()
  }

  sendInfo(
    { expires, order, priority }: TrackInfo,
    latest: number
  ): Effect.Effect<void, StreamReset | SessionClosed> {
    const info: Info.Info = { _tag: "Info", priority, order, expires, latest }
    return this.stream.send.write([encode(Info.encode, info, this.options.profile)])
  }

  readUpdates(groups: Groups): Effect.Effect<void, MoqError> {
    const { profile } = this.options
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const update = yield* this.stream.read(SubscribeUpdate.decode, profile)
        if (update === undefined) return profile.finUnsubscribes ? undefined : yield* Effect.never
        yield* this.update(update, groups)
      }
    })
  }

  update(
    { max = this.max, min = this.min, order, priority }: SubscribeUpdate.SubscribeUpdate,
    groups: Groups
  ): Effect.Effect<void, ProtocolViolation | StreamReset | SessionClosed> {
    if (min < this.min || max > this.max) {
      return Effect.fail(new ProtocolViolation({ detail: "an update widens the range of its subscription" }))
    }
    this.min = min
    this.max = max
    this.priority = priority
    this.order = order
    this.checkComplete()
    return Effect.forEach([...this.sending], ([sequence, outgoing]) => {
      if (this.isWanted(sequence)) return outgoing.setPriority(this.rank(sequence))
      const gap = { from: sequence, to: sequence, code: 0 }
      return Effect.andThen(FiberMap.remove(groups, sequence), this.writeGap(gap))
    }, { discard: true })
  }

  checkComplete(): void {
    if (this.max === Infinity || !Ranges.covers(this.told, this.min, this.max + 1)) return
    Deferred.doneUnsafe(this.halt, Exit.succeed("complete"))
  }

  // The peer finishes its side when it has everything; then it is safe to close the session. One that has finished it
  // before says nothing more: it gets some time.
  acknowledged(groups: Groups): Effect.Effect<void> {
    const { limits, profile } = this.options
    const left = Effect.raceFirst(Effect.ignore(this.readUpdates(groups)), Effect.asVoid(this.stream.send.stopped))
    return Effect.asVoid(Effect.timeoutOption(left, profile.finUnsubscribes ? limits.drain : linger))
  }

  // groups

  isWanted(sequence: number): boolean {
    return sequence >= this.min && sequence <= this.max
  }

  rank(sequence: number): number {
    const order = this.order === "default" ? this.track?.info.order ?? "default" : this.order
    return Rank.ofGroup(this.priority, order, sequence)
  }

  sendEvents(
    events: Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError>,
    groups: Groups
  ): Effect.Effect<"complete", MoqError> {
    return events.pipe(
      Effect.flatMap((events) => Effect.forEach(events, (event) => this.sendEvent(event, groups), { discard: true })),
      Effect.forever({ disableYield: true }),
      Pull.catchDone(() => Effect.succeed("complete" as const))
    )
  }

  sendEvent(event: Event, groups: Groups): Effect.Effect<void, StreamReset | SessionClosed> {
    const sent = event._tag === "Gap" ? this.sendGap(event) : this.startGroup(event, groups)
    return Effect.map(sent, () => {
      Ranges.claim(this.told, TrackEvent.first(event), TrackEvent.last(event))
      this.next = Math.max(this.next, TrackEvent.last(event) + 1)
      this.checkComplete()
    })
  }

  // suspends while as many as may be are in flight; meanwhile an update may have narrowed the range
  startGroup(group: Group, groups: Groups): Effect.Effect<void> {
    if (!this.isWanted(group.sequence)) return Effect.void
    return Effect.flatMap(this.inFlight.take(1), () =>
      this.isWanted(group.sequence)
        ? Effect.asVoid(FiberMap.run(groups, group.sequence, this.sendGroup(group)))
        : Effect.asVoid(this.inFlight.release(1)))
  }

  sendGap({ code, from, to }: Omit<Gap, "_tag">): Effect.Effect<void, StreamReset | SessionClosed> {
    const gap = { from: Math.max(from, this.min), to: Math.min(to, this.max), code }
    return gap.from > gap.to ? Effect.void : this.writeGap(gap)
  }

  writeGap(gap: Omit<Gap, "_tag">): Effect.Effect<void, StreamReset | SessionClosed> {
    const { profile } = this.options
    if (!profile.sendsGaps) return Effect.void
    const message: SubscribeGap.SubscribeGap = {
      _tag: "SubscribeGap",
      start: gap.from,
      count: gap.to - gap.from,
      code: profile.toWireCode(gap.code)
    }
    return this.writing.withPermit(this.stream.send.write([encode(SubscribeGap.encode, message, profile)]))
  }

  // nothing on the wire marks the last group: a gap from there to the last sequence there can be does
  get sendRest(): Effect.Effect<void, StreamReset | SessionClosed> {
    return this.sendGap({ from: this.next, to: Number.MAX_SAFE_INTEGER, code: 0 })
  }

  // never fails: a group that cannot be sent is a gap, and when the session is over the Subscribe stream tells
  sendGroup(group: Group): Effect.Effect<void> {
    const { sequence } = group
    return Effect.scopedWith((scope) => {
      const open = Effect.suspend(() => this.options.connection.openUni({ priority: this.rank(sequence) }))
      const outgoing = new Outgoing(Scope.provide(open, scope), this.header(sequence))
      this.sending.set(sequence, outgoing)
      return Effect.flatMap(Scope.provide(group.reader, scope), (frames) =>
        frames.pipe(
          Effect.flatMap((batch) => outgoing.write(batch)),
          Effect.forever({ disableYield: true }),
          Pull.catchDone(() => outgoing.finish),
          Effect.tapError((error) => outgoing.reset(resetCode(error, this.options)))
        ))
    }).pipe(
      Effect.ensuring(Effect.suspend(() => {
        this.sending.delete(sequence)
        return this.inFlight.release(1)
      })),
      Effect.catch((error) => Effect.ignore(this.writeGap({ from: sequence, to: sequence, code: toCode(error) })))
    )
  }

  header(sequence: number): Uint8Array {
    StreamType.encodeUni(writer, "group")
    const message: GroupMessage.Group = { _tag: "Group", subscribe: this.message.id, sequence }
    GroupMessage.encode(writer, message, this.options.profile)
    return writer.finish()
  }
}

// internal

// how long a peer is given to take the last of it where it does not say that it has
const linger = "1 second"

type Groups = FiberMap.FiberMap<number, void, never>

const writer = Writer.make()

/**
 * The stream of a group: what is there together leaves in one write, the header with the first frames. It opens with
 * that write: a stream that carries nothing yet would only use up the time that its receiver gives to the header.
 */
class Outgoing {
  readonly open: Effect.Effect<SendStream, SessionClosed>
  stream: SendStream | undefined
  pending: Array<Uint8Array>
  constructor(open: Effect.Effect<SendStream, SessionClosed>, header: Uint8Array) {
    this.open = open
    this.stream = undefined
    this.pending = [header]
  }
  write(frames: NonEmptyReadonlyArray<Frame>): Effect.Effect<void, SendError> {
    for (const frame of frames) {
      FrameMessage.encodeHeader(writer, frame.size)
      this.pending.push(writer.finish())
      // only the last frame of a batch can still be growing
      const payload = frame.isComplete ? frame.payload : undefined
      if (payload === undefined) return this.writeChunks(frame)
      if (payload.length > 0) this.pending.push(payload)
    }
    return Effect.asVoid(this.flush)
  }
  writeChunks(frame: Frame): Effect.Effect<void, SendError> {
    return Effect.scoped(Effect.flatMap(frame.reader, (chunks) =>
      chunks.pipe(
        Effect.flatMap((batch) => {
          this.pending.push(...batch)
          return this.flush
        }),
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => Effect.void)
      )))
  }
  get flush(): Effect.Effect<SendStream, SendError> {
    const chunks = this.pending
    const opened = this.stream === undefined ? this.opened : Effect.succeed(this.stream)
    if (!isArrayNonEmpty(chunks)) return opened
    this.pending = []
    return Effect.tap(opened, (stream) => stream.write(chunks))
  }
  get opened(): Effect.Effect<SendStream, SessionClosed> {
    return Effect.map(this.open, (stream) => this.stream = stream)
  }
  get finish(): Effect.Effect<void, SendError> {
    return Effect.flatMap(Effect.suspend(() => this.flush), (stream) => stream.finish)
  }
  reset(code: number): Effect.Effect<void> {
    return this.stream === undefined ? Effect.void : this.stream.reset(code)
  }
  setPriority(rank: number): Effect.Effect<void> {
    return this.stream === undefined ? Effect.void : this.stream.setPriority(rank)
  }
}

type SendError = ReadError | StreamReset | SessionClosed
