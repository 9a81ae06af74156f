/**
 * The frames of a track as one live Stream: which group to read, and when to leave it for a newer one.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { untilAny } from "../core/Waiters.ts"
import * as Body from "./Body.ts"
import type * as Frame from "./Frame.ts"
import type { Gap } from "./Gap.ts"
import * as Group from "./Group.ts"
import * as Log from "./Log.ts"

/**
 * A reader of the events of a track that does not wait by itself.
 *
 * @internal
 */
export interface Source {
  readonly log: Log.Log<Group.Group | Gap, Frame.ReadError>
  /** What has come since the last call. */
  take(): ReadonlyArray<Group.Group | Gap>
  isReady(): boolean
  /** Whether a group of that sequence is wanted still. */
  wants(sequence: number): boolean
  /** Whether every sequence from `from` up to, and without, `end` has been told of. */
  knows(from: number, end: number): boolean
  /** How it has ended, once there is nothing more to take. */
  readonly end: Exit.Exit<void, Frame.ReadError> | undefined
}

/** @internal */
export const make = (
  open: Effect.Effect<Source, never, Scope.Scope>,
  newestFirst: boolean
): Stream.Stream<Uint8Array, Frame.ReadError> =>
  Log.toStream(Effect.gen(function*() {
    const reader = new Reader(yield* open, newestFirst)
    yield* Effect.addFinalizer(() => Effect.sync(() => reader.close()))
    return reader.pull
  }))

// internal

// in milliseconds
const stall = 1_000

/** A group that is to be read; its place keeps for it what others have taken. */
interface Waiting {
  readonly sequence: number
  readonly body: Body.Body
  readonly place: Body.Place
}

class Reader {
  readonly source: Source
  readonly newestFirst: boolean
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, Frame.ReadError>
  // the groups that have been taken and not read, by sequence; when newest first, only the newest
  waiting: Array<Waiting>
  last: number
  // until when those after the last group are waited for, and after which one they are not
  overtaken: { readonly last: number; readonly until: number } | undefined
  hurriedOn: number
  body: Body.Body | undefined
  place: Body.Place | undefined
  constructor(source: Source, newestFirst: boolean) {
    this.source = source
    this.newestFirst = newestFirst
    this.waiting = []
    this.last = -1
    this.overtaken = undefined
    this.hurriedOn = -1
    this.body = undefined
    this.place = undefined
    this.pull = Log.handingOut(() => this.take(), () => this.step())
  }
  // its subscription was closed: the track may go on for others
  get isLeft(): boolean {
    return this.source.end?._tag === "Failure" && this.source.log.end === undefined
  }
  take(): NonEmptyReadonlyArray<Uint8Array> | undefined {
    const { isLeft } = this
    if (isLeft) {
      this.close()
      return undefined
    }
    if (!this.source.wants(this.last)) this.leave()
    // what is not taken does not keep its memory: while one group is read, one that waits is enough to know of
    if (this.body === undefined || !this.hasNext) this.collect()
    const { body, place } = this
    return body === undefined || place === undefined ? undefined : Body.takePayloadsUnsafe(body, place)
  }
  // when there is nothing to take
  step(): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, Frame.ReadError> {
    if (this.isLeft) return Log.endOf(this.source.end!)
    const { body, place } = this
    if (body === undefined || place === undefined) {
      if (this.isOvertaking) return this.awaitOvertaken
      if (this.enter()) return this.pull
      const { end } = this.source
      if (end !== undefined) return Log.endOf(end)
      return Effect.flatMap(Log.awaitUntil(this.source.log, () => this.source.isReady()), () => this.pull)
    }
    // where frames were cut, what follows them is not read: only the next group has a beginning again
    if (body.end !== undefined || Body.isLagging(body, place)) {
      this.leave()
      return this.pull
    }
    return this.wait(body, place)
  }
  // whether the next group has come before others that may still be on their way
  get isOvertaking(): boolean {
    const next = this.waiting[0]
    return !this.newestFirst && next !== undefined && this.last >= 0 && this.hurriedOn !== this.last &&
      this.source.end === undefined && !this.source.knows(this.last + 1, next.sequence)
  }
  get awaitOvertaken(): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, Frame.ReadError> {
    return Effect.clockWith((clock) => {
      const now = clock.currentTimeMillisUnsafe()
      if (this.overtaken?.last !== this.last) this.overtaken = { last: this.last, until: now + stall }
      const left = this.overtaken.until - now
      if (left <= 0) this.hurriedOn = this.last
      const news = Log.awaitUntil(this.source.log, () => this.source.isReady())
      return left <= 0 ? this.pull : Effect.flatMap(Effect.timeoutOption(news, left), () => this.pull)
    })
  }
  get hasNext(): boolean {
    return this.waiting.some((group) => this.source.wants(group.sequence))
  }
  collect(): void {
    for (const event of this.source.take()) {
      if (event._tag === "Gap" || event.sequence <= this.last) continue
      let at = this.waiting.length
      while (at > 0 && this.waiting[at - 1]!.sequence > event.sequence) at--
      const body = Group.bodyOf(event)
      this.waiting.splice(at, 0, { sequence: event.sequence, body, place: Body.openUnsafe(body, 0) })
    }
    this.keep(({ sequence }) => this.source.wants(sequence))
    const newest = this.waiting.at(-1)
    if (this.newestFirst) this.keep((group) => group === newest)
  }
  keep(isWanted: (group: Waiting) => boolean): void {
    this.waiting = this.waiting.filter((group) => {
      if (isWanted(group)) return true
      Body.closeUnsafe(group.body, group.place)
      return false
    })
  }
  enter(): boolean {
    const group = this.waiting.shift()
    if (group === undefined) return false
    this.last = group.sequence
    this.body = group.body
    this.place = group.place
    return true
  }
  close(): void {
    this.leave()
    this.keep(() => false)
  }
  leave(): void {
    if (this.body !== undefined && this.place !== undefined) Body.closeUnsafe(this.body, this.place)
    this.body = undefined
    this.place = undefined
  }
  wait(body: Body.Body, place: Body.Place): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, Frame.ReadError> {
    const alone = !this.hasNext
    const ready = () =>
      Body.hasPayload(body, place) || (alone && this.source.end === undefined && this.source.isReady()) ||
      this.isLeft || !this.source.wants(this.last) || (!alone && !this.hasNext)
    const changed = untilAny([Body.waitingOf(body), Log.waitingOf(this.source.log)], ready)
    if (alone) return Effect.flatMap(changed, () => this.pull)
    return Effect.flatMap(Effect.timeoutOption(changed, stall), (woken) => {
      if (Option.isNone(woken)) this.leave()
      return this.pull
    })
  }
}
