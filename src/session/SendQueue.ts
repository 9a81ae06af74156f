/**
 * Whose turn it is: orders the writes of all groups that a session sends, of subscriptions and of fetches.
 *
 * **Details**
 *
 * A higher priority goes first. Within a priority, subscriptions take turns by the bytes that they were served (start-time
 * fair queueing: who was idle gets nothing for it). Within a subscription its groups go in their order.
 *
 * A write is under way from its turn until the transport has taken it. While one is, further ones begin only so far:
 *
 * - up to {@link maxUnderWay} bytes; only those of the same or a higher priority count, so that nobody waits for less;
 * - of a lower priority, one at a time;
 * - of the same priority, as long as that subscription is not ahead of the others, or has none.
 *
 * A write that is still under way when a later one is done is held up by its own stream's window, and counts no more. The
 * one that is let through of those that should wait is how that comes out.
 *
 * @since 0.1.0
 */
import type { Priority } from "../core/Priority.ts"

/**
 * How many bytes may be on their way into the transport: eight writes of the usual size.
 *
 * @internal
 */
export const maxUnderWay = 8 * 16 * 1024

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
  underWay: number
  constructor(level: Level, isAscending: boolean) {
    this.level = level
    this.isAscending = isAscending
    this.entries = []
    this.end = 0
    this.start = 0
    this.waiting = 0
    this.underWay = 0
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
  state: "idle" | "waiting" | "underWay" | "heldUp"
  constructor(lane: Lane, sequence: number) {
    this.lane = lane
    this.sequence = sequence
    this.bytes = 0
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
  // in the order in which they began, without those that are held up
  readonly underWay: Array<E>
  /** How many writes wait for their turn. */
  waiting: number
  /** How many writes wait or are not done. */
  pending: number
  constructor() {
    this.levels = []
    this.underWay = []
    this.waiting = 0
    this.pending = 0
  }

  /** Adds a subscription or a fetch. */
  lane(priority: Priority, isAscending: boolean): Lane<E> {
    return new Lane(this.level(priority), isAscending)
  }

  /** Changes the preferences of a lane; it holds for what waits. What it has been served beyond others stays on it. */
  update(lane: Lane, priority: Priority, isAscending: boolean): void {
    lane.isAscending = isAscending
    if (lane.priority === priority) return
    const from = lane.level
    const ahead = Math.max(0, (lane.waiting > 0 ? lane.start : lane.end) - from.now)
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
    entries.splice(at, 0, entry)
  }

  /** Takes a group out, with the write that waits or is under way. */
  remove(entry: E): void {
    const { entries } = entry.lane
    const at = entries.lastIndexOf(entry)
    if (at >= 0) entries.splice(at, 1)
    this.withdraw(entry)
  }

  /** Whether a group may write so many bytes now, which counts as begun; if not, it waits for {@link next}. */
  request(entry: E, bytes: number): boolean {
    entry.bytes = bytes
    this.pending++
    if (this.pending === 1) {
      this.begin(entry)
      return true
    }
    this.enqueue(entry)
    if (this.best() !== entry) return false
    this.begin(entry)
    return true
  }

  /** The next that may write, if there is one; its write counts as begun. */
  next(): E | undefined {
    if (this.waiting === 0) return undefined
    const entry = this.best()
    if (entry !== undefined) this.begin(entry)
    return entry
  }

  /** The write of a group is done. */
  done(entry: E): void {
    if (entry.state === "underWay") {
      const at = this.underWay.indexOf(entry)
      for (let i = 0; i <= at; i++) this.land(this.underWay[i]!, "heldUp")
      if (at + 1 === this.underWay.length) this.underWay.length = 0
      else this.underWay.splice(0, at + 1)
    }
    entry.state = "idle"
    this.pending--
  }

  /** Takes back the write of a group, whether it waits or is under way. */
  withdraw(entry: E): void {
    const { state } = entry
    if (state === "idle") return
    if (state === "waiting") this.dequeue(entry)
    if (state === "underWay") {
      this.land(entry, "heldUp")
      this.underWay.splice(this.underWay.indexOf(entry), 1)
    }
    entry.state = "idle"
    this.pending--
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
    lane.start = Math.max(lane.end, lane.level.now)
    lane.level.lanes.push(lane)
  }

  private dequeue({ lane }: E): void {
    this.waiting--
    if (--lane.waiting > 0) return
    const { lanes } = lane.level
    const last = lanes.pop()!
    if (last !== lane) lanes[lanes.indexOf(lane)] = last
  }

  private begin(entry: E): void {
    const { lane } = entry
    const start = lane.waiting > 0 ? lane.start : Math.max(lane.end, lane.level.now)
    if (entry.state === "waiting") this.dequeue(entry)
    lane.level.now = Math.max(lane.level.now, start)
    lane.start = lane.end = start + entry.bytes
    lane.underWay++
    entry.state = "underWay"
    this.underWay.push(entry)
  }

  private land(entry: E, state: "heldUp"): void {
    entry.state = state
    entry.lane.underWay--
  }

  // who of those that wait goes first, if anybody may
  private best(): E | undefined {
    const { underWay } = this
    for (const level of this.levels) {
      if (level.lanes.length === 0) continue
      let bytes = 0
      let isBehindHigher = false
      let isOneThrough = false
      for (const { bytes: size, lane: { priority } } of underWay) {
        if (priority >= level.priority) bytes += size
        if (priority > level.priority) isBehindHigher = true
        else isOneThrough = true
      }
      // more of them count for what is below
      if (bytes >= maxUnderWay) return undefined
      if (isBehindHigher && isOneThrough) return undefined
      const lane = this.bestOf(level)
      if (lane !== undefined) return this.firstOf(lane)
    }
    return undefined
  }

  private bestOf(level: Level): Lane | undefined {
    let best: Lane | undefined
    for (const lane of level.lanes) {
      if ((best === undefined || lane.start < best.start) && this.isInStep(lane)) best = lane
    }
    return best
  }

  // a lane does not get ahead of another one of its level that has a write under way
  private isInStep(lane: Lane): boolean {
    if (lane.underWay === 0) return true
    for (const { lane: other } of this.underWay) {
      if (other !== lane && other.level === lane.level && other.end < lane.start) return false
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

/** All lanes of one priority. */
interface Level {
  readonly priority: Priority
  /** Where the last write that began, of any of its lanes, began: in bytes served. */
  now: number
  /** Those of which a group waits. */
  readonly lanes: Array<Lane>
}
