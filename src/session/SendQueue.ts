/**
 * Whose turn it is: orders the writes of all groups that a session sends, of subscriptions and of fetches.
 *
 * **Details**
 *
 * A higher priority goes first. Within a priority, subscriptions take turns by the bytes that they were served (start-time
 * fair queueing: who was idle gets nothing for it). Within a subscription its groups go in their order.
 *
 * A write is under way from its turn until the transport has taken it, and while it is, the order holds on: a lower
 * priority waits, but for one byte in 17; one of the same gets no further ahead than {@link maxLead}. So it does not
 * matter in which order the transport sends what it has taken. One that is under way for too long is held up by the
 * window of its own stream, and nobody waits for it any more.
 *
 * @since 0.1.0
 */
import type { Priority } from "../core/Priority.ts"

/**
 * How many bytes a write has while the network is the limit.
 *
 * @internal
 */
export const usualSize = 16 * 1024

/**
 * How many bytes of one priority may be under way: eight writes of the usual size.
 *
 * @internal
 */
export const maxUnderWay = 8 * usualSize

/**
 * How many bytes a subscription may be ahead of one that has a write under way; what one that was idle gets for it is
 * less.
 *
 * @internal
 */
export const maxLead = 2 * usualSize

/**
 * How many milliseconds a write may be under way, for each that is, before nobody waits for it any more.
 *
 * @internal
 */
export const patience = 1_000

/**
 * What a subscription or a fetch sends.
 *
 * @internal
 */
export class Lane<out E extends Entry = Entry> {
  level: Level
  /** Whether the group of the lowest sequence goes first, rather than the one of the highest. */
  isAscending: boolean
  /** Its groups, by sequence, lowest first. */
  readonly entries: Array<E>
  // in bytes served to the level: where the last write of this lane ended, and where its next one begins while it waits
  end: number
  start: number
  waiting: number
  constructor(level: Level, isAscending: boolean) {
    this.level = level
    this.isAscending = isAscending
    this.entries = []
    this.end = level.now
    this.start = level.now
    this.waiting = 0
  }
  get priority(): Priority {
    return this.level.priority
  }
  /** The group at a place in the order of sending. */
  at(place: number): E | undefined {
    return this.entries[this.isAscending ? place : this.entries.length - 1 - place]
  }
}

/**
 * A group that is being sent, one write at a time.
 *
 * @internal
 */
export class Entry {
  readonly lane: Lane
  readonly sequence: number
  /** The size of the write that waits or is under way. */
  bytes: number
  /** When it began, in milliseconds. */
  since: number
  state: "idle" | "waiting" | "underWay" | "heldUp"
  constructor(lane: Lane, sequence: number) {
    this.lane = lane
    this.sequence = sequence
    this.bytes = 0
    this.since = 0
    this.state = "idle"
  }
  /** How many groups of its lane go before it. */
  get place(): number {
    const { entries, isAscending } = this.lane
    const index = entries.lastIndexOf(this)
    return isAscending ? index : entries.length - 1 - index
  }
}

/** @internal */
export class SendQueue<E extends Entry = Entry> {
  // highest priority first
  readonly levels: Array<Level>
  /** Those with a write under way, in the order in which they began, without those that are held up. */
  readonly underWay: Array<E>
  /** How many writes wait for their turn. */
  waiting: number
  /** How many writes wait or are not done. */
  pending: number
  // how many bytes of lower priorities may pass a higher one
  private leak: number
  constructor() {
    this.levels = []
    this.underWay = []
    this.leak = maxLeak
    this.waiting = 0
    this.pending = 0
  }

  /** Adds a subscription or a fetch, which sends groups of one kind. */
  lane<F extends E>(priority: Priority, isAscending: boolean): Lane<F> {
    return new Lane(this.level(priority), isAscending)
  }

  /** Changes the preferences of a lane; it holds for what waits. What it has been served beyond others stays on it. */
  update(lane: Lane, priority: Priority, isAscending: boolean): void {
    lane.isAscending = isAscending
    if (lane.priority === priority) return
    const from = lane.level
    const ahead = Math.max(0, lane.end - from.now)
    if (lane.waiting > 0) from.lanes.splice(from.lanes.indexOf(lane), 1)
    lane.level = this.level(priority)
    lane.start = lane.end = lane.level.now + ahead
    if (lane.waiting > 0) lane.level.lanes.push(lane)
  }

  /** Adds a group to its lane. */
  add(entry: E): void {
    const { entries } = entry.lane
    let at = entries.length
    while (at > 0 && entries[at - 1]!.sequence > entry.sequence) at--
    if (at === entries.length) entries.push(entry)
    else entries.splice(at, 0, entry)
  }

  /** Takes a group out, with the write that waits or is under way. */
  remove(entry: E): void {
    takeOut(entry.lane.entries, entry)
    this.done(entry)
  }

  /** Whether a group may write so many bytes now, which counts as begun; if not, it waits for {@link next}. */
  request(entry: E, bytes: number, now: number): boolean {
    const { lane } = entry
    entry.bytes = bytes
    this.pending++
    if (this.waiting === 0) {
      lane.start = this.startOf(lane)
      if (this.underWay.length === 0 || (this.mayGo(lane.level) && this.isInStep(lane))) {
        this.charge(entry, now)
        return true
      }
    }
    this.enqueue(entry)
    if (this.best() !== entry) return false
    this.begin(entry, now)
    return true
  }

  /** The next that may write, if there is one; its write counts as begun. */
  next(now: number): E | undefined {
    const entry = this.waiting === 0 ? undefined : this.best()
    if (entry !== undefined) this.begin(entry, now)
    return entry
  }

  /** The write of a group is done, or given up, whether it waits or is under way. */
  done(entry: E): void {
    const { state } = entry
    if (state === "idle") return
    if (state === "waiting") this.dequeue(entry)
    else if (state === "underWay") takeOut(this.underWay, entry)
    entry.state = "idle"
    this.pending--
  }

  /** Does not wait for those any more that are under way for too long, and tells when to look again. */
  release(now: number): number {
    if (this.waiting === 0) return Infinity
    const before = now - patience * (this.underWay.length + 1)
    let at = Infinity
    for (const entry of [...this.underWay]) {
      if (entry.since <= before) {
        entry.state = "heldUp"
        takeOut(this.underWay, entry)
      } else {
        at = Math.min(at, entry.since + now - before)
      }
    }
    return at
  }

  private level(priority: Priority): Level {
    const at = this.levels.findIndex((level) => level.priority <= priority)
    const found = this.levels[at]
    if (found?.priority === priority) return found
    const level: Level = { priority, now: 0, lanes: [] }
    this.levels.splice(at < 0 ? this.levels.length : at, 0, level)
    return level
  }

  private enqueue(entry: E): void {
    const { lane } = entry
    entry.state = "waiting"
    this.waiting++
    if (lane.waiting++ > 0) return
    lane.start = this.startOf(lane)
    lane.level.lanes.push(lane)
  }

  private dequeue({ lane }: E): void {
    this.waiting--
    if (--lane.waiting > 0) return
    const { lanes } = lane.level
    const last = lanes.pop()!
    if (last !== lane) lanes[lanes.indexOf(lane)] = last
  }

  // where the next write of a lane begins that was idle: between two writes others get that far ahead
  private startOf({ end, level }: Lane): number {
    return Math.max(end, level.now - maxLead)
  }

  private begin(entry: E, now: number): void {
    this.dequeue(entry)
    this.charge(entry, now)
  }

  private charge(entry: E, now: number): void {
    const { bytes, lane } = entry
    const { level } = lane
    this.leak = this.isBehind(level) ? this.leak - bytes : Math.min(maxLeak, this.leak + bytes / 16)
    level.now = Math.max(level.now, lane.start)
    lane.start += bytes
    lane.end = lane.start
    entry.since = now
    entry.state = "underWay"
    this.underWay.push(entry)
  }

  // who of those that wait goes first, if anybody may
  private best(): E | undefined {
    for (const level of this.levels) {
      if (level.lanes.length === 0) continue
      if (!this.mayGo(level)) return undefined
      const lane = this.bestOf(level)
      if (lane !== undefined) return this.firstOf(lane)
    }
    return undefined
  }

  private mayGo(level: Level): boolean {
    let bytes = 0
    for (const entry of this.underWay) if (entry.lane.level === level) bytes += entry.bytes
    return bytes < maxUnderWay && (this.leak > 0 || !this.isBehind(level))
  }

  private isBehind(level: Level): boolean {
    if (level === this.levels[0]) return false
    const { priority } = level
    for (const { lane } of this.underWay) if (lane.priority > priority) return true
    return false
  }

  private bestOf(level: Level): Lane | undefined {
    let best: Lane | undefined
    for (const lane of level.lanes) {
      if ((best === undefined || lane.start < best.start) && this.isInStep(lane)) best = lane
    }
    return best
  }

  private isInStep(lane: Lane): boolean {
    for (const { lane: other } of this.underWay) {
      if (other !== lane && other.level === lane.level && lane.start > other.end + maxLead) return false
    }
    return true
  }

  private firstOf(lane: Lane): E | undefined {
    for (let place = 0; place < lane.entries.length; place++) {
      const entry = lane.at(place)!
      if (entry.state === "waiting") return entry as E
    }
    return undefined
  }
}

// internal

const maxLeak = 8 * 1024

/**
 * Takes one out of a list: the first or the last one most of the time.
 *
 * @internal
 */
export const takeOut = <A>(entries: Array<A>, entry: A): void => {
  if (entries[0] === entry) entries.shift()
  else if (entries.at(-1) === entry) entries.pop()
  else {
    const at = entries.lastIndexOf(entry)
    if (at >= 0) entries.splice(at, 1)
  }
}

/** All lanes of one priority. */
interface Level {
  readonly priority: Priority
  /** Where the write that began last, of any of its lanes, began: in bytes served. */
  now: number
  /** Those of which a group waits. */
  readonly lanes: Array<Lane>
}
