/**
 * One subscription of the peer, being served.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
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
import type { Event, Track } from "../model/Track.ts"
import type { SendStream } from "../transport/Transport.ts"
import { encode, type MessageStream, resetCode } from "./MessageStream.ts"
import type { Options } from "./Publisher.ts"
import * as Rank from "./Rank.ts"

/** @internal */
export class Serving {
  /** Starts reading the track, before anything else can happen to it. */
  static make(
    options: Options,
    stream: MessageStream,
    message: Subscribe,
    track: Track
  ): Effect.Effect<Serving, never, Scope.Scope> {
    return Effect.gen(function*() {
      const events = yield* track.reader({ from: message.min ?? "latest" })
      const groups = yield* FiberSet.make<void>()
      return new Serving(options, stream, message, track, events, groups)
    })
  }

  readonly options: Options
  readonly stream: MessageStream
  readonly id: number
  readonly track: Track
  readonly events: Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError>
  readonly groups: FiberSet.FiberSet<void>
  readonly inFlight: Semaphore.Semaphore
  // several fibers write gaps to the Subscribe stream
  readonly writing: Semaphore.Semaphore
  readonly done: Deferred.Deferred<void>
  priority: Priority
  order: GroupOrder
  min: number
  max: number
  // the sequence after the highest one that was sent or reported
  next: number
  sending: Fiber.Fiber<void, MoqError> | undefined

  constructor(
    options: Options,
    stream: MessageStream,
    message: Subscribe,
    track: Track,
    events: Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError>,
    groups: FiberSet.FiberSet<void>
  ) {
    this.options = options
    this.stream = stream
    this.id = message.id
    this.track = track
    this.events = events
    this.groups = groups
    this.inFlight = Semaphore.makeUnsafe(options.limits.groupsInFlight)
    this.writing = Semaphore.makeUnsafe(1)
    this.done = Deferred.makeUnsafe()
    this.priority = message.priority
    this.order = message.order
    this.min = message.min ?? track.latest ?? 0
    this.max = message.max ?? Infinity
    this.next = this.min
    this.sending = undefined
  }

  /** Serves until the track has ended and the peer has it all, or the peer leaves. */
  get run(): Effect.Effect<void, MoqError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      yield* this.sendInfo
      this.sending = yield* Effect.forkScoped(this.sendEvents, { startImmediately: true })
      const left = Effect.raceFirst(this.readUpdates, Effect.asVoid(this.stream.send.stopped))
      const sent = yield* Effect.raceFirst(Effect.as(Fiber.join(this.sending), true), Effect.as(left, false))
      if (!sent) return yield* this.stream.send.finish
      yield* this.sendRest
      yield* this.stream.send.finish
      // the peer finishes its side when it has everything; then it is safe to close the session
      yield* Effect.timeoutOption(this.acknowledged, this.options.limits.drain)
    }).pipe(Effect.ensuring(Deferred.succeed(this.done, undefined)))
  }

  /** Suspends until what is under way has come to its end: the track, if that has ended, else its groups in flight. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.track.end !== undefined) return Deferred.await(this.done)
      const stop = this.sending === undefined ? Effect.void : Fiber.interrupt(this.sending)
      return Effect.andThen(stop, FiberSet.awaitEmpty(this.groups))
    })
  }

  get sendInfo(): Effect.Effect<void, StreamReset | SessionClosed> {
    const { expires, order, priority } = this.track.info
    const info: Info.Info = { _tag: "Info", priority, order, expires, latest: this.track.latest ?? 0 }
    return this.stream.send.write([encode(Info.encode, info, this.options.profile)])
  }

  get readUpdates(): Effect.Effect<void, MoqError> {
    const { profile } = this.options
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const update = yield* this.stream.read(SubscribeUpdate.decode, profile)
        if (update === undefined) return profile.finUnsubscribes ? undefined : yield* Effect.never
        const min = update.min ?? this.min
        const max = update.max ?? this.max
        if (min < this.min || max > this.max) {
          return yield* new ProtocolViolation({ detail: "an update widens the range of its subscription" })
        }
        this.min = min
        this.max = max
        this.priority = update.priority
        this.order = update.order
      }
    })
  }

  get acknowledged(): Effect.Effect<void> {
    return this.options.profile.finUnsubscribes ? Effect.ignore(this.readUpdates) : Effect.void
  }

  // groups

  get sendEvents(): Effect.Effect<void, MoqError> {
    return this.events.pipe(
      Effect.flatMap((events) => Effect.forEach(events, (event) => this.sendEvent(event), { discard: true })),
      Effect.flatMap(() => this.next > this.max ? Cause.done() : Effect.void),
      Effect.forever({ disableYield: true }),
      Pull.catchDone(() => FiberSet.awaitEmpty(this.groups))
    )
  }

  sendEvent(event: Event): Effect.Effect<void, StreamReset | SessionClosed> {
    const first = event._tag === "Gap" ? event.from : event.sequence
    const last = event._tag === "Gap" ? event.to : event.sequence
    this.next = Math.max(this.next, last + 1)
    if (last < this.min || first > this.max) return Effect.void
    if (event._tag === "Gap") return this.sendGap(event)
    return this.inFlight.take(1).pipe(
      Effect.andThen(FiberSet.run(this.groups, Effect.ensuring(this.sendGroup(event), this.inFlight.release(1)))),
      Effect.asVoid
    )
  }

  sendGap(gap: Omit<Gap, "_tag">): Effect.Effect<void, StreamReset | SessionClosed> {
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
    return this.max === Infinity
      ? this.sendGap({ from: this.next, to: Number.MAX_SAFE_INTEGER, code: 0 })
      : Effect.void
  }

  // never fails: a group that cannot be sent is a gap, and when the session is over the Subscribe stream tells
  sendGroup(group: Group): Effect.Effect<void> {
    return Effect.scoped(Effect.gen({ self: this }, function*() {
      const frames = yield* group.reader
      const stream = yield* this.options.connection.openUni({
        priority: Rank.ofGroup(this.priority, this.order, group.sequence)
      })
      const outgoing = new Outgoing(stream, this.header(group))
      return yield* frames.pipe(
        Effect.flatMap((batch) => outgoing.write(batch)),
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => outgoing.finish),
        Effect.tapError((error) => stream.reset(resetCode(error, this.options)))
      )
    })).pipe(
      Effect.catch((error) =>
        Effect.ignore(this.sendGap({ from: group.sequence, to: group.sequence, code: toCode(error) }))
      )
    )
  }

  header(group: Group): Uint8Array {
    StreamType.encodeUni(writer, "group")
    const message: GroupMessage.Group = { _tag: "Group", subscribe: this.id, sequence: group.sequence }
    GroupMessage.encode(writer, message, this.options.profile)
    return writer.finish()
  }
}

// internal

const writer = Writer.make()

/** The stream of a group: what is there together leaves in one write, the header with the first frames. */
class Outgoing {
  readonly stream: SendStream
  pending: Array<Uint8Array>
  constructor(stream: SendStream, header: Uint8Array) {
    this.stream = stream
    this.pending = [header]
  }
  write(frames: NonEmptyReadonlyArray<Frame>): Effect.Effect<void, ReadError | StreamReset | SessionClosed> {
    for (const frame of frames) {
      FrameMessage.encodeHeader(writer, frame.size)
      this.pending.push(writer.finish())
      // only the last frame of a batch can still be growing
      const payload = frame.isComplete ? frame.payload : undefined
      if (payload === undefined) return this.writeChunks(frame)
      if (payload.length > 0) this.pending.push(payload)
    }
    return this.flush
  }
  writeChunks(frame: Frame): Effect.Effect<void, ReadError | StreamReset | SessionClosed> {
    return Effect.scoped(Effect.flatMap(frame.reader, (chunks) =>
      chunks.pipe(
        Effect.flatMap((batch) => {
          this.pending.push(...batch)
          return this.flush
        }),
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => this.flush)
      )))
  }
  get flush(): Effect.Effect<void, StreamReset | SessionClosed> {
    const chunks = this.pending
    if (chunks.length === 0) return Effect.void
    this.pending = []
    return this.stream.write(chunks as unknown as NonEmptyReadonlyArray<Uint8Array>)
  }
  get finish(): Effect.Effect<void, StreamReset | SessionClosed> {
    return Effect.andThen(Effect.suspend(() => this.flush), this.stream.finish)
  }
}
