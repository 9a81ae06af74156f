/**
 * What is kept of a track for those who join late, and what goes when it is too much or too old.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as MoqError from "../core/MoqError.ts"
import { Evicted } from "../core/MoqError.ts"
import type { ReadError } from "./Frame.ts"
import * as Gap from "./Gap.ts"
import * as Group from "./Group.ts"
import * as Log from "./Log.ts"
import * as TrackEvent from "./TrackEvent.ts"

/** @internal */
export interface Limits {
  /** How long groups are kept after a newer one has come, in milliseconds. */
  readonly maxAge: number
  readonly maxBytes: number
  /** The lowest sequence that can come. */
  readonly first: number
  readonly maxTaken?: number | undefined
  readonly account?: Account | undefined
}

/**
 * Counts what a track keeps, for whoever bounds many of them. It must not throw.
 *
 * @internal
 */
export interface Account {
  /** Hears of bytes, frames and groups more, or fewer. */
  readonly change: (bytes: number, frames: number, groups: number) => void
  /** Hears of each group that is not, or no longer, the latest: from then on it may go. */
  readonly spare: (sequence: number) => void
}

/** @internal */
export interface Kept {
  readonly event: TrackEvent.TrackEvent
  /** The lowest and the highest sequence that it is about. */
  readonly first: number
  readonly last: number
  /** Its place in the log. */
  readonly index: number
  /** When a newer group came, in milliseconds. */
  since: number
}

/**
 * The groups and gaps of a track by sequence, and the log of what happened to them.
 *
 * @internal
 */
export class TrackCache implements Group.Keeper {
  readonly clock: Clock.Clock
  readonly maxAge: number
  readonly maxBytes: number
  maxTaken: number
  readonly account: Account | undefined
  readonly log: Log.Log<TrackEvent.TrackEvent, ReadError>
  // by sequence, lowest first, never overlapping
  readonly kept: Array<Kept>
  // those of the groups that have not ended that are no longer kept for others but still being written, and still count in `size`
  readonly detached: Set<Group.Group>
  newest: Kept | undefined
  /** Nothing below this sequence will come any more. */
  floor: number
  /** The bytes of all groups that are kept or still being written. */
  size: number
  /** And their frames. */
  frames: number
  constructor(clock: Clock.Clock, { account, first, maxAge, maxBytes, maxTaken = Infinity }: Limits) {
    this.clock = clock
    this.maxAge = maxAge
    this.maxBytes = maxBytes
    this.maxTaken = maxTaken
    this.account = account
    this.log = Log.makeUnsafe()
    this.kept = []
    this.detached = new Set()
    this.newest = undefined
    this.floor = first
    this.size = 0
    this.frames = 0
  }
  get latest(): number | undefined {
    return this.newest?.last
  }
  // after everything that has come, and everything that was said not to come
  get following(): number {
    const { kept } = this
    return kept.length === 0 ? this.floor : kept[kept.length - 1]!.last + 1
  }
  /** Whether there are as many events as there may be. */
  get isFull(): boolean {
    return this.kept.length > maxEvents
  }
  group(sequence: number): Group.Group | undefined {
    this.evict()
    const event = this.kept[this.placeOf(sequence)]?.event
    return event?._tag === "Group" && event.sequence === sequence ? event : undefined
  }

  /** Whether a reader that begins there finds the first frames of all groups that it finds. */
  isWholeFrom(sequence: number): boolean {
    for (let at = this.placeOf(sequence); at < this.kept.length; at++) {
      const { event } = this.kept[at]!
      if (event._tag === "Group" && event.first > 0) return false
    }
    return true
  }
  private holds(group: Group.Group): boolean {
    return this.kept[this.placeOf(group.sequence)]?.event === group
  }

  // what comes

  /** Begins the group of a sequence that is free, whose place is known. */
  keep(sequence: number, place: number): Group.Producer {
    const producer = Group.keptUnsafe(sequence, this)
    const kept = this.insert(producer.group, sequence, sequence, place)
    const { account, newest } = this
    if (newest === undefined || sequence > newest.last) {
      this.newest = kept
      if (newest !== undefined) {
        newest.since = kept.since
        account?.spare(newest.first)
      }
    } else {
      account?.spare(sequence)
    }
    this.evict(-1, kept.since)
    account?.change(0, 0, 1)
    return producer
  }
  // says of all that neither came nor was said not to come that it will not
  fill(from: number, to: number, code: number): void {
    let next = Math.max(from, this.floor)
    for (let at = this.placeOf(next); next <= to; at++) {
      const there = this.kept[at]
      const end = there === undefined ? to : Math.min(to, there.first - 1)
      if (next <= end) this.insert(Gap.make(next, end, code), next, end, at++)
      next = there === undefined ? to + 1 : there.last + 1
    }
  }
  private insert(event: TrackEvent.TrackEvent, first: number, last: number, place: number): Kept {
    const { kept } = this
    const mine: Kept = { event, first, last, index: this.log.next, since: this.clock.currentTimeMillisUnsafe() }
    if (place === kept.length) kept.push(mine)
    else kept.splice(place, 0, mine)
    this.append(event)
    return mine
  }
  // the place in `kept` of what holds a sequence, or would hold it; asks the last one first, because most come after it
  placeOf(sequence: number): number {
    const { kept } = this
    let from = 0
    let end = kept.length
    for (let at = end - 1; from < end; at = (from + end) >> 1) {
      if (kept[at]!.last < sequence) from = at + 1
      else end = at
    }
    return from
  }
  append(event: TrackEvent.TrackEvent): void {
    Log.appendBoundedUnsafe(this.log, event, maxEvents)
  }

  // what goes

  resize(group: Group.Group, bytes: number, frames: number): void {
    // one that has ended counts only as long as it is kept
    if (group.end !== undefined && !this.holds(group)) return
    this.size += bytes
    this.frames += frames
    // the latest group is never dropped
    if (this.isOver && (this.kept.length > 1 || this.detached.size > 0)) this.evict()
    this.account?.change(bytes, frames, 0)
  }
  get isOver(): boolean {
    return Group.weigh(this.size, this.frames) > this.maxBytes
  }
  forget(group: Group.Group): void {
    const frames = Group.held(group)
    this.size -= group.size
    this.frames -= frames
    this.account?.change(-group.size, -frames, -1)
  }
  release(group: Group.Group): void {
    Group.setEndedAt(group, this.clock.currentTimeMillisUnsafe())
    if (this.detached.delete(group)) this.forget(group)
  }
  cutOff(group: Group.Group): void {
    if (group.end === undefined) Group.endUnsafe(group, new Evicted({ detail: "the track outgrew its limits" }))
  }
  drop(producer: Group.Producer, error: MoqError.Lagged): void {
    const { group } = producer
    const at = this.placeOf(group.sequence)
    const kept = this.kept[at]
    if (kept?.event === group) {
      const gap = Gap.make(group.sequence, group.sequence, MoqError.toCode(error))
      const instead: Kept = { ...kept, event: gap }
      this.kept[at] = instead
      if (this.newest === kept) this.newest = instead
      Log.replaceUnsafe(this.log, kept.index, gap)
      this.forget(group)
    }
    Group.dropUnsafe(producer, error)
  }
  /** Drops what is too old or too much, and with `through` all up to that sequence; never the latest group. */
  evict(through: number = -1, now: number = this.clock.currentTimeMillisUnsafe()): void {
    const { detached, kept } = this
    const before = now - this.maxAge
    if (detached.size > 0) {
      for (const group of detached) {
        if (!this.isOver) break
        this.cutOff(group)
      }
    }
    for (let oldest = kept[0]; oldest !== undefined && this.newest !== undefined; oldest = kept[0]) {
      if (oldest === this.newest) break
      const { event, first, index, last, since } = oldest
      const isMeant = first <= through
      const isOld = since <= before || kept.length > maxEvents
      if (!isMeant && !isOld && !this.isOver) break
      kept.shift()
      if (first > this.floor) this.append(Gap.make(this.floor, first - 1, TrackEvent.codeEvicted))
      this.floor = last + 1
      if (event._tag === "Gap") continue
      Log.replaceUnsafe(this.log, index, TrackEvent.evicted(event))
      if (isMeant || this.isOver) this.cutOff(event)
      if (event.end === undefined) this.detached.add(event)
      else this.forget(event)
      Group.letGoUnsafe(event)
    }
  }

  /** Whether a frame more of that size would drop what a reader has still to take. */
  overflows(bytes: number, group: Group.Group | undefined): boolean {
    // what is too old goes anyway
    this.evict()
    // mostly there is room, and then nobody is asked what was read
    let unread: number | undefined
    const isTaken = (kept: Kept | undefined): boolean =>
      kept === undefined || kept.index < (unread ??= Log.unreadUnsafe(this.log))
    const isAwaited = ({ sequence }: Group.Group): boolean => !isTaken(this.kept[this.placeOf(sequence)])
    if (group !== undefined && Group.overflows(group, bytes, isAwaited)) return true
    let size = this.size + bytes
    let frames = this.frames + 1
    const isOver = (): boolean => Group.weigh(size, frames) > this.maxBytes
    let count = this.kept.length + (group === undefined ? 1 : 0)
    for (const group of this.detached) {
      if (!isOver()) break
      if (!Group.isTaken(group)) return true
      size -= group.size
      frames -= Group.held(group)
    }
    for (let at = 0; at < this.kept.length && (isOver() || count > maxEvents); at++, count--) {
      const kept = this.kept[at]!
      if (group !== undefined && kept === this.newest) return false
      if (kept.event._tag === "Gap") continue
      // a group that has ended stays with those who have taken it
      if (!isTaken(kept) || (kept.event.end === undefined && !Group.isTaken(kept.event))) return true
      size -= kept.event.size
      frames -= Group.held(kept.event)
    }
    return false
  }
}

// internal

// More events than this are neither kept for those who join nor for a reader that does not take them: a track of empty
// groups has no bytes to bound it.
const maxEvents = 8_192
