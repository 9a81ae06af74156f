/**
 * Every frame of a track, given to a function.
 *
 * **Details**
 *
 * One fiber is parked for the whole track, and nothing resumes it before the end: what wakes it does its work. So a frame
 * costs no step of a fiber, and a group no fiber, no Stream and no Scope.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Bag, type Item } from "../core/Bag.ts"
import type { Parked } from "../core/Waiters.ts"
import * as Body from "./Body.ts"
import type { ReadError } from "./Frame.ts"
import * as Group from "./Group.ts"
import * as Log from "./Log.ts"
import type { TrackReader } from "./TrackReader.ts"

/** @internal */
export const run = (
  open: () => TrackReader,
  f: (payload: Uint8Array, sequence: number) => void
): Effect.Effect<void, ReadError> =>
  Effect.callback((resume) => {
    const each = new Each(open(), f, resume, Fiber.getCurrent()!)
    each.wake()
    return Effect.sync(() => each.stop())
  })

// internal

class Each implements Parked {
  readonly reader: TrackReader
  readonly f: (payload: Uint8Array, sequence: number) => void
  readonly resume: (exit: Effect.Effect<void, ReadError>) => void
  readonly fiber: Fiber.Fiber<unknown, unknown>
  // the groups of which more may come
  readonly open: Bag<Following>
  isOver: boolean
  constructor(
    reader: TrackReader,
    f: (payload: Uint8Array, sequence: number) => void,
    resume: (exit: Effect.Effect<void, ReadError>) => void,
    fiber: Fiber.Fiber<unknown, unknown>
  ) {
    this.reader = reader
    this.f = f
    this.resume = resume
    this.fiber = fiber
    this.open = new Bag()
    this.isOver = false
    Log.waitingOf(reader.log).add(this)
  }

  wake(): void {
    const { open, reader } = this
    for (const event of reader.take()) {
      if (this.isOver) return
      if (event._tag === "Group") follow(this, event)
    }
    const { end } = reader
    if (end === undefined) return
    if (end._tag === "Failure") { for (const group of [...open.all]) group.drain() }
    else if (open.size > 0) {
      // nobody is to wait for it
      const { cursor, log } = reader
      return Log.closeUnsafe(log, cursor)
    }
    this.finish(end)
  }

  finish(exit: Effect.Effect<void, ReadError>): void {
    if (this.isOver) return
    this.stop()
    this.resume(exit)
  }

  // also in the middle of what is being given
  stop(): void {
    this.isOver = true
    this.leave()
    for (const group of [...this.open.all]) group.leave()
  }

  // nobody is to wait for it
  private leave(): void {
    const { cursor, log } = this.reader
    Log.waitingOf(log).delete(this)
    Log.closeUnsafe(log, cursor)
  }
}

class Following implements Parked, Item {
  readonly each: Each
  readonly sequence: number
  readonly body: Body.Body
  readonly spot: Body.Place
  place: number
  constructor(each: Each, group: Group.Group) {
    this.each = each
    this.sequence = group.sequence
    this.body = Group.bodyOf(group)
    this.spot = Body.openUnsafe(this.body, 0)
    this.place = -1
  }
  get fiber(): Fiber.Fiber<unknown, unknown> {
    return this.each.fiber
  }

  wake(): void {
    const { each } = this
    this.drain()
    if (each.reader.end !== undefined) each.wake()
  }

  // gives what is there; whether that was all
  drain(): boolean {
    const { body, each, spot } = this
    Body.eachPayloadUnsafe(body, spot, give, this)
    if (body.end === undefined && !Body.isLagging(body, spot) && !each.isOver) return false
    this.leave()
    return true
  }

  leave(): void {
    const { body, each, spot } = this
    Body.closeUnsafe(body, spot)
    if (each.open.delete(this)) Body.waitingOf(body).delete(this)
  }
}

const follow = (each: Each, group: Group.Group): void => {
  const following = new Following(each, group)
  if (following.drain()) return
  each.open.add(following)
  Body.waitingOf(following.body).add(following)
}

const give = (payload: Uint8Array, { each, sequence }: Following): void => {
  if (each.isOver) return
  try {
    each.f(payload, sequence)
  } catch (defect) {
    each.finish(Effect.die(defect))
  }
}
