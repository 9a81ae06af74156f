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
import type * as Scope from "effect/Scope"
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
import type { Parked } from "../core/Waiters.ts"
import * as GroupMessage from "../message/Group.ts"
import * as Info from "../message/Info.ts"
import type { Subscribe } from "../message/Subscribe.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import * as SubscribeUpdate from "../message/SubscribeUpdate.ts"
import type { Gap } from "../model/Gap.ts"
import * as Group from "../model/Group.ts"
import * as Log from "../model/Log.ts"
import * as Track from "../model/Track.ts"
import * as TrackEvent from "../model/TrackEvent.ts"
import type { TrackReader } from "../model/TrackReader.ts"
import * as Direct from "./Direct.ts"
import { type Ear, encode, type MessageStream } from "./MessageStream.ts"
import { dropped } from "./Monitor.ts"
import { Outgoing, type Owner } from "./Outgoing.ts"
import * as Rank from "./Rank.ts"
import type { Droppable, Sending } from "./Sending.ts"
import type { Lane } from "./SendQueue.ts"
import { linger, maxRanges, type PublisherContext } from "./SessionContext.ts"
import * as Waiting from "./Waiting.ts"

/**
 * Serves one subscription. Its fiber waits for the end and does nothing before: what comes of the track, of the peer and of
 * the transport is seen to on the stack of whatever tells it.
 *
 * @internal
 */
export class Serving implements Droppable, Owner, Parked, Ear<SubscribeUpdate.SubscribeUpdate> {
  readonly context: PublisherContext
  readonly sending: Sending
  readonly stream: MessageStream
  readonly request: Subscribe
  /** Its groups in flight. */
  readonly lane: Lane<Outgoing>
  // groups that have not begun
  readonly waiting: Waiting.Waiting
  // what is to be said of groups that do not come, and who says it
  readonly gaps: Array<Omit<Gap, "_tag">>
  telling: Fiber.Fiber<void> | undefined
  // why no more groups begin: all in the range are told of, or the session closes
  halted: Exit.Exit<"complete" | "closing", Lagged> | undefined
  // what serves it; what hears that the peer asks for no more
  private server: Fiber.Fiber<unknown, unknown> | undefined
  private stopping: Fiber.Fiber<void> | undefined
  // goes on once nothing more comes of the track, or the peer has left
  private resume: ((rest: Effect.Effect<void, MoqError>) => void) | undefined
  // what the peer has left with
  private rest: Effect.Effect<void, MoqError> | undefined
  private hasLeft: boolean
  private isOver: boolean
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
  /** How long after its end a group may still be sent: the smaller of both sides' values, where 0 is for ever. */
  expires: number

  constructor(context: PublisherContext, sending: Sending, stream: MessageStream, request: Subscribe) {
    this.context = context
    this.sending = sending
    this.stream = stream
    this.request = request
    this.lane = sending.queue.lane(request.priority, request.order === "asc")
    this.waiting = Waiting.make()
    this.gaps = []
    this.telling = undefined
    this.halted = undefined
    this.server = undefined
    this.stopping = undefined
    this.resume = undefined
    this.rest = undefined
    this.hasLeft = false
    this.isOver = false
    this.emptied = undefined
    this.done = undefined
    this.isFilling = false
    this.track = undefined
    this.reader = undefined
    this.asked = request
    this.min = request.min ?? 0
    this.max = request.max ?? Infinity
    this.next = this.min
    this.joined = -1
    this.expires = request.expires
  }

  /** Serves until the track has ended and the peer has it all, or the peer leaves. */
  get run(): Effect.Effect<void, MoqError, Scope.Scope> {
    const served = Effect.withFiber<void, MoqError, Scope.Scope>((fiber) => {
      const { context, stream } = this
      const { send } = stream
      this.server = fiber
      const left = () => this.leave(send.finish)
      if (send.onStop === undefined) this.stopping = context.fibers.fork(Effect.map(send.stopped, left))
      else send.onStop(left)
      stream.hear(context, SubscribeUpdate.decode, this)
      return this.serve
    })
    return Effect.onExitPrimitive(served, () => this.close())
  }

  get fiber(): Fiber.Fiber<unknown, unknown> {
    return this.server!
  }

  /** Suspends until what is under way has come to its end: the track, if that has ended, else its groups in flight. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.track === undefined || this.isOver) return Effect.void
      if (this.track.end === undefined) this.halt(Exit.succeed("closing"))
      this.done ??= Deferred.makeUnsafe()
      return Deferred.await(this.done)
    })
  }

  // what a route begins as a child of this fiber lives as long as the subscription
  private get serve(): Effect.Effect<void, MoqError, Scope.Scope> {
    const { context, request, sending } = this
    return Effect.flatMap(context.router.subscribe(request.path, { from: request.min ?? "latest" }), (track) => {
      if (sending.isDraining) return Effect.never
      // a relay that has no group yet knows from its publisher which one comes
      const latest = track.latest ?? track.first
      this.track = track
      this.joined = track.latest ?? -1
      this.begin(request.min ?? latest)
      this.reader = (track as Track.Track as Track.Handle).impl.openReaderUnsafe({ from: this.min })
      return this.answer(track.info, latest)
    })
  }

  // begins the groups of the track as they come, until there are no more
  private get follow(): Effect.Effect<void, MoqError> {
    return Effect.callback((resume) => {
      this.resume = resume
      Log.waitingOf(this.reader!.log).add(this)
      this.wake()
    })
  }

  /** Something has come of the track, or it needs nothing more of it. */
  wake(): void {
    const { reader } = this
    if (reader === undefined) return
    if (this.halted === undefined) this.arrive(reader.take())
    const end: Exit.Exit<unknown, MoqError> | undefined = this.halted ?? reader.end
    if (end === undefined) return
    this.goOn(Effect.flatMap(end, (why) => why === "closing" ? this.closeDown : this.complete))
  }

  // nothing more begins; what is left is done by the fiber that serves it, if it waits for that
  private goOn(rest: Effect.Effect<void, MoqError>): boolean {
    const { resume } = this
    this.resume = undefined
    this.unfollow()
    resume?.(rest)
    return resume !== undefined
  }

  private get complete(): Effect.Effect<void, MoqError> {
    return Effect.flatMap(this.awaitEmpty, () => {
      // nothing on the wire marks the last group: a gap from there to the last sequence there can be does
      this.giveUp({ from: this.next, to: Number.MAX_SAFE_INTEGER, code: 0 })
      const { finish } = this.stream.send
      const told = this.telling === undefined ? finish : Effect.andThen(Fiber.await(this.telling), finish)
      return Effect.flatMap(told, () => this.acknowledged)
    })
  }

  // without an end: the track has none, and the close of the session tells
  private get closeDown(): Effect.Effect<never> {
    return Effect.suspend(() => {
      Waiting.clear(this.waiting)
      return Effect.andThen(this.awaitEmpty, Effect.sleep(linger))
    }).pipe(Effect.flatMap(() => {
      this.tellDone()
      return Effect.never
    }))
  }

  private get awaitEmpty(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.pending === 0) return resume(Effect.void)
      this.emptied = () => resume(Effect.void)
    })
  }

  private close(): Effect.Effect<void, MoqError> {
    this.isOver = true
    this.unfollow()
    Waiting.clear(this.waiting)
    this.sending.forget(this)
    this.tellDone()
    const last: Array<Effect.Effect<unknown, MoqError>> = []
    for (const outgoing of [...this.lane.entries]) {
      outgoing.leave()
      if (outgoing.reset !== undefined) last.push(outgoing.reset)
    }
    for (const fiber of [this.telling, this.stopping]) if (fiber !== undefined) last.push(Fiber.interrupt(fiber))
    const { rest } = this
    // on a fiber of its own: nothing interrupts this one here, not even the end of the session
    if (rest !== undefined) {
      last.push(Effect.callback<void, MoqError>((resume) => void Direct.watch(this.context.fibers, rest, resume)))
    }
    return Effect.forEach(last, identity, { discard: true })
  }

  // nobody is to wait for a reader that needs nothing more
  private unfollow(): void {
    const { reader } = this
    if (reader === undefined) return
    this.reader = undefined
    Log.waitingOf(reader.log).delete(this)
    Log.closeUnsafe(reader.log, reader.cursor)
  }

  private tellDone(): void {
    if (this.done !== undefined) Deferred.doneUnsafe(this.done, Exit.void)
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

  private answer({ expires, order, priority }: Track.TrackInfo, latest: number): Effect.Effect<void, MoqError> {
    const info: Info.Info = { _tag: "Info", priority, order, expires, latest }
    const { connection, profile } = this.context
    const { send } = this.stream
    const chunks = [encode(Info.encode, info, profile)] as const
    if (!connection.capabilities.priority && send.offer?.(chunks)) return this.follow
    return send.setPriority(Rank.control).pipe(Effect.andThen(send.write(chunks)), Effect.andThen(this.follow))
  }

  /** The peer asks for something else. */
  message(update: SubscribeUpdate.SubscribeUpdate): boolean {
    const refused = this.update(update)
    if (refused !== undefined) this.leave(refused)
    return refused === undefined
  }

  /** The peer says nothing more. */
  over(exit: Exit.Exit<void, MoqError>): void {
    if (Exit.isFailure(exit)) this.leave(Exit.failCause(exit.cause))
    else if (this.context.profile.finUnsubscribes) this.leave(this.stream.send.finish)
  }

  // the peer wants nothing more, or has broken a rule; what is under way ends with that
  private leave(rest: Effect.Effect<void, MoqError>): void {
    if (this.hasLeft) return
    this.hasLeft = true
    if (this.goOn(rest)) return
    this.rest = rest
    this.server!.interruptUnsafe()
  }

  private update(update: SubscribeUpdate.SubscribeUpdate): Exit.Exit<never, ProtocolViolation> | undefined {
    const { max = this.max, min = this.min } = update
    if (min < this.min || max > this.max) {
      return Exit.fail(new ProtocolViolation({ detail: "an update widens the range of its subscription" }))
    }
    this.min = min
    this.max = max
    this.asked = update
    const before = this.waiting.items.length
    Waiting.narrow(this.waiting, min, max)
    const unwanted = before - this.waiting.items.length
    if (unwanted > 0) this.context.monitor.drop("sent", "unwanted", unwanted)
    for (const outgoing of [...this.lane.entries]) if (!this.isWanted(outgoing.sequence)) outgoing.drop(0)
    this.prefer()
    this.fill()
    this.sending.look(this.expire(this.sending.clock.currentTimeMillisUnsafe()))
    this.checkComplete()
    return undefined
  }

  checkComplete(): void {
    if (this.max === Infinity) return
    if (this.min <= this.max && !this.reader?.knows(this.min, this.max + 1)) return
    this.halt(Exit.succeed("complete"))
  }

  // The peer finishes its side when it has everything; then it is safe to close the session. One that has finished it
  // before says nothing more: it gets some time.
  get acknowledged(): Effect.Effect<void> {
    const { limits, profile } = this.context
    const left = Effect.callback<void>((resume) => {
      this.resume = () => resume(Effect.void)
    })
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

  isWanted(sequence: number): boolean {
    return sequence >= this.min && sequence <= this.max
  }

  prefer(): void {
    const asked = this.asked.expires
    const own = this.track?.info.expires ?? 0
    this.expires = asked === 0 || own === 0 ? asked + own : Math.min(asked, own)
    this.sending.queue.update(this.lane, this.priority, this.order === "asc")
    this.rank()
    this.sending.wakeNext()
  }

  // tells the transport the places of those groups that it has, where that has changed
  rank(): void {
    if (!this.context.connection.capabilities.priority) return
    const changes: Array<Effect.Effect<void>> = []
    const { entries, priority } = this.lane
    let place = 0
    for (let i = 0; i < entries.length; i++) {
      const outgoing = this.lane.at(i)!
      const change = outgoing.isPlaced ? outgoing.setRank(Rank.of(priority, place++)) : undefined
      if (change !== undefined) changes.push(change)
    }
    if (changes.length > 0) this.context.fibers.fork(Effect.forEach(changes, identity, { discard: true }))
  }

  // groups

  private arrive(events: ReadonlyArray<TrackEvent.TrackEvent>): void {
    if (events.length === 0) return
    const { pending } = this
    const isAlone = events.length === 1 && this.waiting.items.length === 0
    for (const event of events) {
      this.next = Math.max(this.next, TrackEvent.last(event) + 1)
      if (event._tag === "Gap") {
        this.giveUp(event)
        continue
      }
      // what was there before the subscription is the cache's to keep
      const group = event.sequence < this.joined ? undefined : event
      // a gap that is told may have ended all of it
      if (this.isOver || !this.isWanted(event.sequence)) continue
      if (isAlone && this.hasRoom(event.sequence, group)) this.start(event.sequence, group)
      else Waiting.add(this.waiting, event.sequence, group)
    }
    this.fill()
    if (pending + events.length > 1 && this.pending > 0) {
      const { sending } = this
      sending.consider(this)
      sending.trim()
      if (this.expires > 0) sending.look(this.expire(sending.clock.currentTimeMillisUnsafe()))
    }
    this.checkComplete()
  }

  // how many groups have come that have not left
  get pending(): number {
    return this.lane.entries.length + this.waiting.items.length
  }

  // begins as many groups as may be in flight, the first one in order first
  fill(): void {
    const { items } = this.waiting
    if (items.length === 0 || this.isFilling || this.isOver) return
    this.isFilling = true
    do {
      const next = Waiting.peek(this.waiting, this.lane.isAscending)!
      if (!this.hasRoom(next.sequence, next.group)) break
      Waiting.remove(this.waiting, next)
      this.start(next.sequence, next.group)
    } while (this.waiting.items.length > 0)
    this.isFilling = false
  }

  hasRoom(sequence: number, group: Group.Group | undefined): boolean {
    const { entries } = this.lane
    if (entries.length >= this.context.limits.groupsInFlight) return false
    if (group !== undefined || entries.length === 0) return true
    let bytes = this.track!.group(sequence)?.size ?? 0
    for (const outgoing of entries) bytes += outgoing.unsent
    return bytes <= Math.min(maxBacklog, this.context.limits.unsent)
  }

  start(sequence: number, group: Group.Group | undefined = this.track!.group(sequence)): void {
    if (group === undefined) return this.lose(sequence, TrackEvent.codeEvicted)
    if (this.expires > 0 && this.isExpired(group)) return this.lose(sequence, codeExpired)
    const header = GroupMessage.encodeHeader(this.request.id, sequence)
    const outgoing = new Outgoing(this.sending, this.lane, group, this, header)
    outgoing.isLive = sequence > this.joined
    this.sending.queue.add(outgoing)
    outgoing.go()
  }

  sent({ code, sequence }: Outgoing): void {
    if (code !== undefined) this.lose(sequence, code)
    this.rank()
    this.fill()
    if (this.pending > 0) return
    this.sending.forget(this)
    this.emptied?.()
  }

  // what is given up

  get unsent(): number {
    let sum = 0
    const [first, newest] = [this.lane.at(0), this.newest]
    for (const outgoing of this.lane.entries) {
      if (!outgoing.isFinishing && outgoing !== first && outgoing.sequence !== newest) sum += outgoing.unsent
    }
    for (const { group, sequence } of this.waiting.items) {
      if (group !== undefined && sequence !== newest) sum += group.size
    }
    return sum
  }

  get newest(): number {
    return Math.max(this.lane.entries.at(-1)?.sequence ?? -1, this.waiting.items.at(-1)?.sequence ?? -1)
  }

  dropOldest(code: number): void {
    const [first, newest] = [this.lane.at(0), this.newest]
    const sent = this.lane.entries.find((outgoing) =>
      outgoing !== first && outgoing.sequence !== newest && outgoing.unsent > 0
    )
    const waiting = this.waiting.items.find(({ group, sequence }) =>
      group !== undefined && group.size > 0 && sequence !== newest
    )
    if (sent !== undefined && (waiting === undefined || sent.sequence < waiting.sequence)) return sent.drop(code)
    if (waiting === undefined) return
    Waiting.remove(this.waiting, waiting)
    this.lose(waiting.sequence, code)
  }

  expire(now: number): number {
    let at = Infinity
    if (this.expires === 0) return at
    for (const outgoing of [...this.lane.entries]) {
      const expiry = this.expiry(outgoing.group, now)
      if (expiry <= now) outgoing.drop(codeExpired)
      else at = Math.min(at, expiry)
    }
    for (const item of [...this.waiting.items]) {
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
    return this.expiry(group, 0) <= this.sending.clock.currentTimeMillisUnsafe()
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
    const telling = this.telling = this.context.fibers.fork(ignore(this.writeGaps()))
    telling?.addObserver(() => {
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
