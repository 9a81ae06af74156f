/**
 * One subscription of the peer, being served.
 *
 * @since 0.1.0
 */
import { isArrayNonEmpty } from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Scope from "effect/Scope"
import * as Writer from "../coding/Writer.ts"
import type { GroupOrder } from "../core/GroupOrder.ts"
import { ignore } from "../core/Ignore.ts"
import {
  Expired,
  Lagged,
  type MoqError,
  ProtocolViolation,
  type SessionClosed,
  type StreamReset,
  toCode
} from "../core/MoqError.ts"
import type { Priority } from "../core/Priority.ts"
import * as GroupMessage from "../message/Group.ts"
import * as Info from "../message/Info.ts"
import * as StreamType from "../message/StreamType.ts"
import type { Subscribe } from "../message/Subscribe.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import * as SubscribeUpdate from "../message/SubscribeUpdate.ts"
import type { Gap } from "../model/Gap.ts"
import * as Group from "../model/Group.ts"
import * as Log from "../model/Log.ts"
import * as Ranges from "../model/Ranges.ts"
import * as Track from "../model/Track.ts"
import * as TrackEvent from "../model/TrackEvent.ts"
import type { TrackReader } from "../model/TrackReader.ts"
import { encode, type MessageStream } from "./MessageStream.ts"
import { dropped } from "./Monitor.ts"
import { Outgoing } from "./Outgoing.ts"
import * as Rank from "./Rank.ts"
import type { Droppable, Sending } from "./Sending.ts"
import type { Lane } from "./SendQueue.ts"
import { linger, maxRanges, type PublisherContext } from "./SessionContext.ts"
import * as Waiting from "./Waiting.ts"

/** @internal */
export class Serving implements Droppable {
  readonly context: PublisherContext
  readonly sending: Sending
  readonly stream: MessageStream
  readonly message: Subscribe
  /** Its groups in flight. */
  readonly lane: Lane<Outgoing>
  // groups that have not begun
  readonly waiting: Waiting.Waiting
  // what is to be said of groups that do not come, and who says it
  readonly gaps: Array<Omit<Gap, "_tag">>
  telling: Fiber.Fiber<void> | undefined
  // what was begun, or said not to come
  readonly told: Ranges.Ranges
  // why no more groups begin: all in the range are told of, or the session closes
  halted: Exit.Exit<"complete" | "closing", Lagged> | undefined
  private runFork: (<A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>) | undefined
  // who waits for the groups in flight, and for all of it to be over
  private emptied: (() => void) | undefined
  private done: Deferred.Deferred<void> | undefined
  isFilling: boolean
  track: Track.Track | undefined
  private reader: TrackReader | undefined
  asked: Pick<Subscribe, "priority" | "order" | "expires">
  min: number
  max: number
  // the sequence after the highest one that is told of
  next: number
  // groups up to this one were there before
  joined: number

  constructor(context: PublisherContext, sending: Sending, stream: MessageStream, message: Subscribe) {
    this.context = context
    this.sending = sending
    this.stream = stream
    this.message = message
    this.lane = sending.queue.lane(message.priority, message.order === "asc")
    this.waiting = Waiting.make()
    this.gaps = []
    this.telling = undefined
    this.told = Ranges.make(maxRanges)
    this.halted = undefined
    this.runFork = undefined
    this.emptied = undefined
    this.done = undefined
    this.isFilling = false
    this.track = undefined
    this.reader = undefined
    this.asked = message
    this.min = message.min ?? 0
    this.max = message.max ?? Infinity
    this.next = this.min
    this.joined = -1
  }

  /** Serves until the track has ended and the peer has it all, or the peer leaves. */
  get run(): Effect.Effect<void, MoqError> {
    return Effect.withFiber(({ context }) => {
      const scope = Scope.makeUnsafe()
      const run = this.runFork = Effect.runForkWith(context)
      const racing: Array<Fiber.Fiber<boolean, MoqError>> = []
      const first = Effect.callback<boolean, MoqError>((resume) => {
        const left = Effect.succeed(false)
        const race = (effect: Effect.Effect<boolean, MoqError>) => {
          const fiber = run(effect)
          racing.push(fiber)
          fiber.addObserver(resume)
        }
        const { send } = this.stream
        race(Effect.as(Scope.provide(this.serve, scope), true))
        race(Effect.andThen(this.readUpdates(), left))
        if (send.onStop === undefined) race(Effect.andThen(send.stopped, left))
        else send.onStop(() => resume(left))
      })
      return Effect.onExit(first, () => Fiber.interruptAll(racing)).pipe(
        Effect.flatMap((isServed) => isServed ? this.acknowledged : this.stream.send.finish),
        Effect.onExit((exit) => Effect.andThen(this.close, Scope.close(scope, exit)))
      )
    })
  }

  /** Suspends until what is under way has come to its end: the track, if that has ended, else its groups in flight. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.track === undefined) return Effect.void
      if (this.track.end === undefined) this.halt(Exit.succeed("closing"))
      this.done ??= Deferred.makeUnsafe()
      return Deferred.await(this.done)
    })
  }

  private get serve(): Effect.Effect<void, MoqError, Scope.Scope> {
    const { context, message, sending } = this
    return Effect.flatMap(context.router.subscribe(message.path, { from: message.min ?? "latest" }), (track) => {
      if (sending.isDraining) return Effect.never
      // a relay that has no group yet knows from its publisher which one comes
      const latest = track.latest ?? track.first
      this.track = track
      this.joined = track.latest ?? -1
      this.begin(message.min ?? latest)
      const reader = (track as Track.Track as Track.Handle).impl.openReaderUnsafe({ from: this.min })
      this.reader = reader
      return this.sendInfo(track.info, latest).pipe(
        Effect.andThen(this.follow(reader)),
        Effect.flatMap((why) => why === "closing" ? this.closeDown : this.complete)
      )
    })
  }

  // begins the groups of the track as they come, until there are no more
  private follow(reader: TrackReader): Effect.Effect<"complete" | "closing", MoqError> {
    const isReady = () => this.halted !== undefined || reader.isReady()
    const next: Effect.Effect<"complete" | "closing", MoqError> = Effect.suspend(() => {
      const events = this.halted === undefined ? reader.take() : []
      if (events.length > 0) this.arrive(events)
      const end = this.halted ?? reader.end
      if (end === undefined) return Effect.flatMap(Log.awaitUntil(reader.log, isReady), () => next)
      this.leave()
      return Effect.map(end, (why) => why ?? "complete")
    })
    return next
  }

  private get complete(): Effect.Effect<void, MoqError> {
    return Effect.flatMap(this.awaitEmpty, () => {
      // nothing on the wire marks the last group: a gap from there to the last sequence there can be does
      this.giveUp({ from: this.next, to: Number.MAX_SAFE_INTEGER, code: 0 })
      const { finish } = this.stream.send
      return this.telling === undefined ? finish : Effect.andThen(Fiber.await(this.telling), finish)
    })
  }

  // without an end: the track has none, and the close of the session tells
  private get closeDown(): Effect.Effect<never> {
    return Effect.suspend(() => {
      Waiting.clear(this.waiting)
      return this.awaitEmpty
    }).pipe(
      Effect.andThen(Effect.sleep(linger)),
      Effect.andThen(Effect.suspend(() => {
        this.over()
        return Effect.never
      }))
    )
  }

  private get awaitEmpty(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.pending === 0) return resume(Effect.void)
      this.emptied = () => resume(Effect.void)
    })
  }

  private get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.runFork = undefined
      Waiting.clear(this.waiting)
      this.sending.forget(this)
      this.leave()
      this.over()
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (const { fiber } of this.lane.entries) if (fiber !== undefined) fibers.push(fiber)
      if (this.telling !== undefined) fibers.push(this.telling)
      return fibers.length === 0 ? Effect.void : Fiber.interruptAll(fibers)
    })
  }

  // nobody is to wait for a reader that needs nothing more
  private leave(): void {
    const { reader } = this
    if (reader !== undefined) Log.closeUnsafe(reader.log, reader.cursor)
  }

  private over(): void {
    if (this.done !== undefined) Deferred.doneUnsafe(this.done, Exit.void)
  }

  // starts something on a fiber of its own, on the stack of the caller, unless this is over
  private fork(effect: Effect.Effect<void>): Fiber.Fiber<void> | undefined {
    const fiber = this.runFork?.(effect)
    return fiber === undefined || fiber.pollUnsafe() !== undefined ? undefined : fiber
  }

  private halt(why: Exit.Exit<"complete" | "closing", Lagged>): void {
    if (this.halted !== undefined) return
    this.halted = why
    if (this.track !== undefined) Track.wakeUnsafe(this.track)
  }

  // an update may have come before the track was there
  begin(min: number): void {
    this.min = Math.max(this.min, min)
    this.next = this.min
    this.prefer()
    this.checkComplete()
  }

  sendInfo(
    { expires, order, priority }: Track.TrackInfo,
    latest: number
  ): Effect.Effect<void, StreamReset | SessionClosed> {
    const info: Info.Info = { _tag: "Info", priority, order, expires, latest }
    const { send } = this.stream
    return Effect.andThen(
      send.setPriority(Rank.control),
      send.write([encode(Info.encode, info, this.context.profile)])
    )
  }

  readUpdates(): Effect.Effect<void, MoqError> {
    const { profile } = this.context
    return Effect.flatMap(this.stream.read(SubscribeUpdate.decode, profile), (update) => {
      if (update === undefined) return profile.finUnsubscribes ? Effect.void : Effect.never
      return this.update(update) ?? this.readUpdates()
    })
  }

  update(update: SubscribeUpdate.SubscribeUpdate): Effect.Effect<never, ProtocolViolation> | undefined {
    const { max = this.max, min = this.min } = update
    if (min < this.min || max > this.max) {
      return Effect.fail(new ProtocolViolation({ detail: "an update widens the range of its subscription" }))
    }
    this.min = min
    this.max = max
    this.asked = update
    const before = Waiting.size(this.waiting)
    Waiting.narrow(this.waiting, min, max)
    const unwanted = before - Waiting.size(this.waiting)
    if (unwanted > 0) this.context.monitor.drop("sent", "unwanted", unwanted)
    for (const outgoing of [...this.lane.entries]) if (!this.isWanted(outgoing.sequence)) outgoing.drop(0)
    this.prefer()
    this.fill()
    this.sending.look(this.expire(this.sending.clock.currentTimeMillisUnsafe()))
    this.checkComplete()
    return undefined
  }

  checkComplete(): void {
    if (this.max === Infinity || !Ranges.covers(this.told, this.min, this.max + 1)) return
    this.halt(Exit.succeed("complete"))
  }

  // The peer finishes its side when it has everything; then it is safe to close the session. One that has finished it
  // before says nothing more: it gets some time.
  get acknowledged(): Effect.Effect<void> {
    const { limits, profile } = this.context
    const left = Effect.raceFirst(ignore(this.readUpdates()), Effect.asVoid(this.stream.send.stopped))
    return Effect.asVoid(Effect.timeoutOption(left, profile.finUnsubscribes ? limits.drain : linger))
  }

  // preferences

  get priority(): Priority {
    const { priority } = this.asked
    return priority === 0 && this.context.profile.zeroPriorityIsNone ? this.track?.info.priority ?? 0 : priority
  }

  get order(): GroupOrder {
    return this.asked.order === "default" ? this.track?.info.order ?? "default" : this.asked.order
  }

  /** How long after its end a group may still be sent: the smaller of both sides' values, where 0 is for ever. */
  get expires(): number {
    const [asked, own] = [this.asked.expires, this.track?.info.expires ?? 0]
    return asked === 0 || own === 0 ? asked + own : Math.min(asked, own)
  }

  isWanted(sequence: number): boolean {
    return sequence >= this.min && sequence <= this.max
  }

  prefer(): void {
    this.sending.queue.update(this.lane, this.priority, this.order === "asc")
    this.rank()
    this.sending.wake()
  }

  // tells the transport the places of those groups that it has, where that has changed
  readonly rank = (): void => {
    if (!this.context.connection.capabilities.priority) return
    const changes: Array<Effect.Effect<void>> = []
    const { entries, priority } = this.lane
    let place = 0
    for (let i = 0; i < entries.length; i++) {
      const outgoing = this.lane.at(i)!
      const change = outgoing.isPlaced ? outgoing.setRank(Rank.of(priority, place++)) : undefined
      if (change !== undefined) changes.push(change)
    }
    if (changes.length > 0) this.fork(Effect.forEach(changes, identity, { discard: true }))
  }

  // groups

  arrive(events: ReadonlyArray<TrackEvent.TrackEvent>): void {
    for (const event of events) {
      this.next = Math.max(this.next, TrackEvent.last(event) + 1)
      if (event._tag === "Gap") {
        Ranges.claim(this.told, event.from, event.to)
        this.giveUp(event)
        continue
      }
      Ranges.claimOne(this.told, event.sequence)
      // what was there before the subscription is the cache's to keep
      const group = event.sequence < this.joined ? undefined : event
      if (this.isWanted(event.sequence)) Waiting.add(this.waiting, event.sequence, group)
    }
    // before the newest leaves, which may be at once
    const { pending } = this
    this.fill()
    if (pending > 1 && this.pending > 0) {
      const { sending } = this
      sending.consider(this)
      sending.trim()
      if (this.expires > 0) sending.look(this.expire(sending.clock.currentTimeMillisUnsafe()))
    }
    this.checkComplete()
  }

  // how many groups have come that have not left
  get pending(): number {
    return this.lane.entries.length + Waiting.size(this.waiting)
  }

  // begins as many groups as may be in flight, the first one in order first
  fill(): void {
    if (this.isFilling || this.runFork === undefined) return
    this.isFilling = true
    while (true) {
      const next = Waiting.peek(this.waiting, this.lane.isAscending)
      if (next === undefined || !this.hasRoom(next)) break
      this.start(next)
    }
    this.isFilling = false
  }

  hasRoom(next: Waiting.Item): boolean {
    const { entries } = this.lane
    if (entries.length >= this.context.limits.groupsInFlight) return false
    if (next.group !== undefined || entries.length === 0) return true
    let bytes = this.track!.group(next.sequence)?.size ?? 0
    for (const outgoing of entries) bytes += outgoing.unsent
    return bytes <= Math.min(maxBacklog, this.context.limits.unsent)
  }

  start(item: Waiting.Item): void {
    const { sequence, group = this.track!.group(sequence) } = item
    if (group === undefined || this.isExpired(group)) {
      Waiting.remove(this.waiting, item)
      return this.lose(sequence, group === undefined ? TrackEvent.codeEvicted : codeExpired)
    }
    const outgoing = new Outgoing(this.sending, this.lane, group, this.header(sequence), this.rank)
    outgoing.isLive = sequence > this.joined
    Waiting.remove(this.waiting, item)
    this.sending.queue.add(outgoing)
    this.runFork!(outgoing.run).addObserver(() => this.ended(outgoing))
  }

  ended(outgoing: Outgoing): void {
    const { code, sequence } = outgoing
    this.sending.leave(outgoing)
    if (this.runFork === undefined) return
    if (this.pending === 0) this.sending.forget(this)
    if (code !== undefined) this.lose(sequence, code)
    this.rank()
    this.fill()
    if (this.pending === 0) this.emptied?.()
  }

  header(sequence: number): Uint8Array {
    StreamType.encodeUni(writer, "group")
    const message: GroupMessage.Group = { _tag: "Group", subscribe: this.message.id, sequence }
    GroupMessage.encode(writer, message, this.context.profile)
    return writer.finish()
  }

  // what is given up

  get unsent(): number {
    let sum = 0
    const [first, newest] = [this.lane.at(0), this.newest]
    for (const outgoing of this.lane.entries) {
      if (outgoing !== first && outgoing.sequence !== newest) sum += outgoing.unsent
    }
    for (const { group, sequence } of Waiting.items(this.waiting)) {
      if (group !== undefined && sequence !== newest) sum += group.size
    }
    return sum
  }

  get newest(): number {
    return Math.max(this.lane.entries.at(-1)?.sequence ?? -1, Waiting.items(this.waiting).at(-1)?.sequence ?? -1)
  }

  readonly dropOldest = (code: number): void => {
    const [first, newest] = [this.lane.at(0), this.newest]
    const sent = this.lane.entries.find((outgoing) =>
      outgoing !== first && outgoing.sequence !== newest && outgoing.unsent > 0
    )
    const waiting = Waiting.items(this.waiting).find(({ group, sequence }) =>
      group !== undefined && group.size > 0 && sequence !== newest
    )
    if (sent !== undefined && (waiting === undefined || sent.sequence < waiting.sequence)) return sent.drop(code)
    if (waiting === undefined) return
    Waiting.remove(this.waiting, waiting)
    this.lose(waiting.sequence, code)
  }

  readonly expire = (now: number): number => {
    let at = Infinity
    if (this.expires === 0) return at
    for (const outgoing of [...this.lane.entries]) {
      const expiry = this.expiry(outgoing.group, now)
      if (expiry <= now) outgoing.drop(codeExpired)
      else at = Math.min(at, expiry)
    }
    for (const item of [...Waiting.items(this.waiting)]) {
      if (item.group === undefined) continue
      const expiry = this.expiry(item.group, now)
      if (expiry > now) at = Math.min(at, expiry)
      else {
        Waiting.remove(this.waiting, item)
        this.lose(item.sequence, codeExpired)
      }
    }
    return at
  }

  isExpired(group: Group.Group): boolean {
    return this.expires > 0 && this.expiry(group, 0) <= this.sending.clock.currentTimeMillisUnsafe()
  }

  // when a group expires at the earliest: one that goes on now may end the next moment
  expiry(group: Group.Group, now: number): number {
    const { expires } = this
    if (expires === 0 || group.sequence >= this.track!.latest!) return Infinity
    return (group.end === undefined ? now : Group.endedAt(group) ?? now) + expires
  }

  // gaps

  lose(sequence: number, code: number): void {
    dropped(this.context.monitor, "sent", code, 1)
    this.tell({ from: sequence, to: sequence, code })
  }

  giveUp({ code, from, to }: Omit<Gap, "_tag">): void {
    this.tell({ from: Math.max(from, this.min), to: Math.min(to, this.max), code })
  }

  tell(gap: Omit<Gap, "_tag">): void {
    if (gap.from > gap.to || !this.context.profile.sendsGaps) return
    const last = this.gaps.at(-1)
    if (last !== undefined && last.code === gap.code && last.to + 1 === gap.from) {
      this.gaps[this.gaps.length - 1] = { ...last, to: gap.to }
      return
    }
    if (this.gaps.push(gap) > maxRanges) {
      this.context.monitor.limit("unsent")
      this.halt(Exit.fail(new Lagged({ detail: "gaps are not read" })))
    }
    if (this.telling !== undefined) return
    this.telling = this.fork(ignore(this.writeGaps()))
    this.telling?.addObserver(() => {
      this.telling = undefined
    })
  }

  writeGaps(): Effect.Effect<void, StreamReset | SessionClosed> {
    const { profile } = this.context
    return Effect.suspend(() => {
      const chunks = this.gaps.splice(0).map(({ code, from, to }) => {
        const start = { _tag: "SubscribeGap", start: from, count: to - from, code: profile.toWireCode(code) } as const
        return encode(SubscribeGap.encode, start, profile)
      })
      return isArrayNonEmpty(chunks) ? Effect.andThen(this.stream.send.write(chunks), this.writeGaps()) : Effect.void
    })
  }
}

// internal

// how many bytes of groups that were there before the subscription may wait to be sent, before more of them begin
const maxBacklog = 1024 * 1024

const codeExpired = toCode(new Expired({}))

const writer = Writer.make()
