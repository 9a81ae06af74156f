/**
 * How much the tracks of a relay may keep in all, and what goes when it is too much.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { Waiters } from "../core/Waiters.ts"
import * as Group from "../model/Group.ts"
import * as Track from "../model/Track.ts"
import type * as TrackCache from "../model/TrackCache.ts"

/**
 * The most bytes that the tracks of a relay keep in all, unless it is told otherwise: 256 MiB.
 *
 * @internal
 */
export const defaultLimit = 256 * 1024 * 1024

/**
 * Counts what many tracks keep. A group costs as much as a frame more, so that empty ones do not pass below a limit.
 *
 * **Details**
 *
 * The groups that may go wait in one queue, in the order in which newer ones of their tracks came: taking the next one
 * costs the same however many tracks there are. Latest groups are not in it.
 *
 * @internal
 */
export class CacheBudget {
  readonly limit: number
  readonly onChange: (bytes: number, groups: number) => void
  readonly waiters: Waiters
  queue: Array<Spare>
  // how many places at the beginning of it are done with
  head: number
  bytes: number
  frames: number
  groups: number
  constructor(limit: number, onChange: (bytes: number, groups: number) => void) {
    this.limit = limit
    this.onChange = onChange
    this.waiters = new Waiters()
    this.queue = []
    this.head = 0
    this.bytes = 0
    this.frames = 0
    this.groups = 0
  }

  /** For one track more. */
  open(): Account {
    return new Account(this)
  }

  /** Drops what has become too old while nobody wrote or read: looks while there is anything that may go. */
  get sweeping(): Effect.Effect<never> {
    const look = Effect.sync(() => {
      for (let next = this.next; next !== undefined; next = this.next) {
        Track.evictUnsafe(next.account.track!)
        // those behind it are younger
        if (!isGone(next)) break
      }
      this.onChange(this.bytes, this.groups)
    })
    return this.waiters.until(() => this.next !== undefined).pipe(
      Effect.andThen(Effect.sleep(every)),
      Effect.andThen(look),
      Effect.forever
    )
  }

  change(bytes: number, frames: number, groups: number): void {
    this.bytes += bytes
    this.frames += frames
    this.groups += groups
    if (bytes > 0 || groups > 0) this.evict()
    this.onChange(this.bytes, this.groups)
  }

  spare(account: Account, sequence: number): void {
    if (this.next === undefined) this.waiters.notify()
    this.queue.push({ account, sequence })
    // the first one may stay for long, and what has gone from behind it must not
    if (this.queue.length > 2 * this.groups + minQueue) {
      this.queue = this.queue.slice(this.head).filter((spare) => !isGone(spare))
      this.head = 0
    }
  }

  // internal

  get isOver(): boolean {
    return Group.weigh(this.bytes, this.frames + this.groups) > this.limit
  }

  // the oldest that may go and is still here
  get next(): Spare | undefined {
    const { queue } = this
    while (this.head < queue.length && isGone(queue[this.head]!)) this.head++
    // moving what is left costs as much as what is left: do it once as much again is done with
    if (this.head * 2 > queue.length) {
      queue.splice(0, this.head)
      this.head = 0
    }
    return queue[this.head]
  }

  evict(): void {
    while (this.isOver) {
      const { next } = this
      if (next === undefined) return
      this.head++
      Track.evictUnsafe(next.account.track!, next.sequence)
    }
  }
}

/**
 * What one track keeps.
 *
 * @internal
 */
export class Account implements TrackCache.Account {
  readonly budget: CacheBudget
  /** `undefined` before it is there, and once it no longer counts. */
  track: Track.Producer | undefined
  bytes: number
  frames: number
  groups: number
  isClosed: boolean
  constructor(budget: CacheBudget) {
    this.budget = budget
    this.track = undefined
    this.bytes = 0
    this.frames = 0
    this.groups = 0
    this.isClosed = false
  }
  readonly change = (bytes: number, frames: number, groups: number): void => {
    if (this.isClosed) return
    this.bytes += bytes
    this.frames += frames
    this.groups += groups
    this.budget.change(bytes, frames, groups)
  }
  readonly spare = (sequence: number): void => {
    if (!this.isClosed) this.budget.spare(this, sequence)
  }
  /** It no longer counts: who still has it keeps it alive. */
  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.track = undefined
    this.budget.change(-this.bytes, -this.frames, -this.groups)
  }
}

// internal

// how many may be in the queue before those that have gone are looked for
const minQueue = 64

// how often to look for what is too old
const every = "2 seconds"

interface Spare {
  readonly account: Account
  readonly sequence: number
}

const isGone = ({ account: { track }, sequence }: Spare): boolean => track === undefined || sequence < track.track.first
