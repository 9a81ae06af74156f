/**
 * What a session has received and nobody has pulled yet: how much that is, and what goes when it is too much.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { Lagged } from "../core/MoqError.ts"
import * as Group from "../model/Group.ts"
import type { Monitor } from "./Monitor.ts"

/**
 * The unread groups of a session, the one that has waited longest first.
 *
 * @internal
 */
export class Unread {
  readonly limit: number
  readonly monitor: Monitor
  readonly groups: Set<UnreadGroup>
  bytes: number
  frames: number
  constructor(limit: number, monitor: Monitor) {
    this.limit = limit
    this.monitor = monitor
    this.groups = new Set()
    this.bytes = 0
    this.frames = 0
  }

  get isOver(): boolean {
    return Group.weigh(this.bytes, this.frames) > this.limit
  }

  /** Counts what comes for a group of `owner`; `drop` gives the group up when it must go. */
  add(owner: object, group: Group.Producer, drop: (error: Lagged) => Effect.Effect<void>): UnreadGroup {
    return new UnreadGroup(this, owner, group, drop)
  }

  /** Forgets the groups of an owner that lets go of them all. */
  forget(owner: object): void {
    for (const group of this.groups) if (group.owner === owner) group.clear()
  }

  /** Gives up what has waited longest until the rest is within the limit. */
  shed(): Effect.Effect<void> {
    const drops: Array<Effect.Effect<void>> = []
    for (const group of this.groups) {
      if (!this.isOver) break
      group.clear()
      this.monitor.limit("unread")
      this.monitor.drop("received", "lagged", 1)
      drops.push(group.drop(new Lagged({ detail: "it was received, and not read in time" })))
    }
    return Effect.all(drops, { discard: true })
  }
}

/** @internal */
export class UnreadGroup {
  readonly unread: Unread
  readonly owner: object
  readonly group: Group.Producer
  readonly drop: (error: Lagged) => Effect.Effect<void>
  bytes: number
  frames: number
  // the index after the last frame that a reader has been given
  given: number
  constructor(
    unread: Unread,
    owner: object,
    group: Group.Producer,
    drop: (error: Lagged) => Effect.Effect<void>
  ) {
    this.unread = unread
    this.owner = owner
    this.group = group
    this.drop = drop
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
    const { count } = this.group.group
    // those of a frame that a reader was given while it grows are its own
    if (bytes === 0 || this.given === count) return undefined
    const { unread } = this
    if (this.bytes === 0) unread.groups.add(this)
    const frames = count - this.given - this.frames
    this.bytes += bytes
    this.frames += frames
    unread.bytes += bytes
    unread.frames += frames
    return unread.isOver ? unread.shed() : undefined
  }

  clear(): void {
    if (this.bytes === 0) return
    this.unread.groups.delete(this)
    this.unread.bytes -= this.bytes
    this.unread.frames -= this.frames
    this.bytes = 0
    this.frames = 0
  }
}
