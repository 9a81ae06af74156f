/**
 * What a session has received and nobody has pulled yet: how much that is, and what goes when it is too much.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import { Lagged, type MoqError } from "../core/MoqError.ts"
import * as Body from "../model/Body.ts"
import * as Group from "../model/Group.ts"
import * as Track from "../model/Track.ts"
import type { Monitor } from "./Monitor.ts"

/**
 * Whose groups they are.
 *
 * @internal
 */
export interface Owner {
  /** The track that they belong to, if any. */
  readonly track: Track.Producer | undefined
}

/**
 * The unread groups of a session, the one that has waited longest first.
 *
 * @internal
 */
export class Unread {
  readonly limit: number
  readonly monitor: Monitor
  // in a chain rather than a Set, which remembers for long what has left it
  first: UnreadGroup | undefined
  last: UnreadGroup | undefined
  bytes: number
  frames: number
  constructor(limit: number, monitor: Monitor) {
    this.limit = limit
    this.monitor = monitor
    this.first = undefined
    this.last = undefined
    this.bytes = 0
    this.frames = 0
  }

  get isOver(): boolean {
    return Group.weigh(this.bytes, this.frames) > this.limit
  }

  /** Counts what comes for a group of `owner`; `stop` stops its stream when the group must go. */
  add(owner: Owner, group: Group.Producer, stop: (error: MoqError) => Effect.Effect<void>): UnreadGroup {
    return new UnreadGroup(this, owner, group, stop)
  }

  /** Forgets the groups of an owner that lets go of them all. */
  forget(owner: Owner): void {
    for (let group = this.first, next = group?.next; group !== undefined; group = next, next = group?.next) {
      if (group.owner === owner) group.clear()
    }
  }

  /** Gives up what has waited longest until the rest is within the limit. */
  shed(): Effect.Effect<void> {
    const drops: Array<Effect.Effect<void>> = []
    for (let group = this.first; group !== undefined && this.isOver; group = this.first) {
      this.monitor.limit("unread")
      this.monitor.drop("received", "lagged", 1)
      drops.push(group.drop(new Lagged({ detail: "it was received, and not read in time" })))
    }
    return Effect.forEach(drops, identity, { discard: true })
  }
}

/** @internal */
export class UnreadGroup {
  readonly unread: Unread
  readonly owner: Owner
  readonly group: Group.Producer
  // as long as its stream is open: a group is kept for long after that
  stop: ((error: MoqError) => Effect.Effect<void>) | undefined
  // its neighbours while it has unread bytes
  previous: UnreadGroup | undefined
  next: UnreadGroup | undefined
  bytes: number
  frames: number
  // the index after the last frame that a reader has been given
  given: number
  constructor(
    unread: Unread,
    owner: Owner,
    group: Group.Producer,
    stop: (error: MoqError) => Effect.Effect<void>
  ) {
    this.unread = unread
    this.owner = owner
    this.group = group
    this.stop = stop
    this.previous = undefined
    this.next = undefined
    this.bytes = 0
    this.frames = 0
    this.given = group.group.count
    Group.onTakeUnsafe(group, () => {
      this.given = group.group.count
      this.clear()
    })
  }

  /** Counts bytes that have come. What it gives is to be run. */
  add(bytes: number): Effect.Effect<void> | undefined {
    const { group } = this.group
    const { count } = group
    const body = Group.bodyOf(group)
    // those of a frame that a reader was given while it grows, or waits for, are its own
    if (bytes === 0 || this.given === count) return undefined
    if (body.missing > 0 && Body.isFollowed(body)) {
      this.given = count
      this.clear()
      return undefined
    }
    const { unread } = this
    if (this.bytes === 0) this.link()
    const frames = count - this.given - this.frames
    this.bytes += bytes
    this.frames += frames
    unread.bytes += bytes
    unread.frames += frames
    return unread.isOver ? unread.shed() : undefined
  }

  /** Its stream is over. */
  end(): void {
    this.stop = undefined
    if (this.bytes === 0) Group.onTakeUnsafe(this.group, undefined)
  }

  /** Gives it up. */
  drop(error: Lagged): Effect.Effect<void> {
    const { group, owner: { track }, stop } = this
    this.clear()
    if (track === undefined) Group.dropUnsafe(group, error)
    else Track.dropUnsafe(track, group, error)
    return stop?.(error) ?? Effect.void
  }

  clear(): void {
    if (this.stop === undefined) Group.onTakeUnsafe(this.group, undefined)
    if (this.bytes === 0) return
    this.unlink()
    this.unread.bytes -= this.bytes
    this.unread.frames -= this.frames
    this.bytes = 0
    this.frames = 0
  }

  private link(): void {
    const { unread } = this
    const { last } = unread
    this.previous = last
    unread.last = this
    if (last === undefined) unread.first = this
    else last.next = this
  }

  // lets go of its neighbours: one that is kept for long would keep them
  private unlink(): void {
    const { next, previous, unread } = this
    if (previous === undefined) unread.first = next
    else previous.next = next
    if (next === undefined) unread.last = previous
    else next.previous = previous
    this.previous = undefined
    this.next = undefined
  }
}
