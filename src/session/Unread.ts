/**
 * What a session has received and nobody has pulled yet: how much that is, and what goes when it is too much.
 *
 * @since 0.1.0
 */
import { Chain, type Link } from "../core/Chain.ts"
import { Lagged } from "../core/MoqError.ts"
import * as Body from "../model/Body.ts"
import * as Group from "../model/Group.ts"
import * as Track from "../model/Track.ts"
import type { Taker } from "../model/Wire.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
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
  readonly groups: Chain<UnreadGroup>
  bytes: number
  frames: number
  constructor(limit: number, monitor: Monitor) {
    this.limit = limit
    this.monitor = monitor
    this.groups = new Chain()
    this.bytes = 0
    this.frames = 0
  }

  /** Forgets the groups of an owner that lets go of them all. */
  forget(owner: Owner): void {
    for (
      let { first: group } = this.groups, next = group?.next;
      group !== undefined;
      group = next, next = group?.next
    ) {
      if (group.owner === owner) group.clear()
    }
  }

  /** Gives up what has waited longest until the rest is within the limit. */
  shed(): void {
    while (Group.weigh(this.bytes, this.frames) > this.limit) {
      const group = this.groups.first!
      this.monitor.limit("unread")
      this.monitor.drop("received", "lagged", 1)
      group.drop(new Lagged({ detail: "it was received, and not read in time" }))
    }
  }
}

/**
 * A group that is, or was, received.
 *
 * @internal
 */
export abstract class UnreadGroup implements Taker, Link<UnreadGroup> {
  readonly unread: Unread
  // until it is over: a group is kept for long after that
  stream: ReceiveStream | undefined
  owner: Owner | undefined
  group: Group.Producer | undefined
  /** What the group holds. */
  body: Body.Body | undefined
  previous: UnreadGroup | undefined
  next: UnreadGroup | undefined
  bytes: number
  frames: number
  // the index after the last frame that a reader has been given
  given: number
  constructor(unread: Unread, stream: ReceiveStream) {
    this.unread = unread
    this.stream = stream
    this.owner = undefined
    this.group = undefined
    this.body = undefined
    this.previous = undefined
    this.next = undefined
    this.bytes = 0
    this.frames = 0
    this.given = 0
  }

  /** Nothing more of it is to come. */
  abstract refuse(error: Lagged): void

  /** Whose it is, and where what comes goes. */
  protected own(owner: Owner, group: Group.Producer): void {
    this.owner = owner
    this.group = group
    this.body = Group.bodyOf(group.group)
    this.given = this.body.next
    Group.onTakeUnsafe(group, this)
  }

  /** Counts bytes that have come; when that is too much, the session gives up groups, and maybe this one. */
  protected add(bytes: number): void {
    const body = this.body!
    const { next } = body
    // those of a frame that a reader was given while it grows, or waits for, are its own
    if (bytes === 0 || this.given === next) return
    if (body.missing > 0 && Body.isFollowed(body)) return this.taken()
    const { unread } = this
    if (this.bytes === 0) unread.groups.add(this)
    const frames = next - this.given - this.frames
    this.bytes += bytes
    this.frames += frames
    unread.bytes += bytes
    unread.frames += frames
    unread.shed()
  }

  taken(): void {
    this.given = this.body!.next
    this.clear()
  }

  /** Gives it up. */
  drop(error: Lagged): void {
    const { owner } = this
    const group = this.group!
    this.clear()
    if (owner?.track === undefined) Group.dropUnsafe(group, error)
    else Track.dropUnsafe(owner.track, group, error)
    this.refuse(error)
  }

  /** Nothing of it is unread any more. */
  clear(): void {
    if (this.bytes > 0) {
      const { unread } = this
      unread.groups.delete(this)
      unread.bytes -= this.bytes
      unread.frames -= this.frames
      this.bytes = 0
      this.frames = 0
    }
    this.forget()
  }

  // a group is kept for long, and must not keep this once it has nothing to hear
  protected forget(): void {
    if (this.bytes === 0 && this.stream === undefined && this.group !== undefined) {
      Group.onTakeUnsafe(this.group, undefined)
    }
  }
}
