/**
 * The frames of a track as one live Stream: which group to read, and when to leave it for a newer one.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
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
  Log.toStream(
    Effect.map(
      Effect.acquireRelease(
        Effect.map(open, (source) => read(source, newestFirst)),
        ({ close }) => Effect.sync(close)
      ),
      ({ pull }) => pull
    )
  )

// internal

type Frames = Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, Frame.ReadError>

// in milliseconds
const stall = 1_000

/** A group that is to be read; its place keeps for it what others have taken. */
interface Opened {
  readonly sequence: number
  readonly body: Body.Body
  readonly place: Body.Place
}

const closeGroup = ({ body, place }: Opened): void => Body.closeUnsafe(body, place)

const read = (source: Source, newestFirst: boolean): { readonly pull: Frames; readonly close: () => void } => {
  const { log } = source
  // the groups that have been taken and not read, by sequence; when newest first, only the newest
  let waiting: Array<Opened> = []
  let current: Opened | undefined
  // the sequence of the one that is, or was, read
  let last = -1
  // until when those after the last group are waited for, and after which one they are not
  let overtaken: { readonly last: number; readonly until: number } | undefined
  let hurriedOn = -1

  // its subscription was closed: the track may go on for others
  const isLeft = (): boolean => source.end?._tag === "Failure" && log.end === undefined

  const hasNext = (): boolean => waiting.some((group) => source.wants(group.sequence))

  // whether the next group has come before others that may still be on their way
  const isOvertaking = (): boolean => {
    const [next] = waiting
    return !newestFirst && next !== undefined && last >= 0 && hurriedOn !== last && source.end === undefined &&
      !source.knows(last + 1, next.sequence)
  }

  const leave = (): void => {
    if (current !== undefined) closeGroup(current)
    current = undefined
  }

  const keep = (isWanted: (group: Opened) => boolean): void => {
    waiting = waiting.filter((group) => {
      const isKept = isWanted(group)
      if (!isKept) closeGroup(group)
      return isKept
    })
  }

  const close = (): void => {
    leave()
    keep(() => false)
  }

  const collect = (): void => {
    for (const event of source.take()) {
      if (event._tag === "Gap" || event.sequence <= last) continue
      const { sequence } = event
      let at = waiting.length
      while (at > 0 && waiting[at - 1]!.sequence > sequence) at--
      const body = Group.bodyOf(event)
      waiting.splice(at, 0, { sequence, body, place: Body.openUnsafe(body, 0) })
    }
    const newest = waiting.findLast(({ sequence }) => source.wants(sequence))
    keep((group) => newestFirst ? group === newest : source.wants(group.sequence))
  }

  const take = (): NonEmptyReadonlyArray<Uint8Array> | undefined => {
    if (isLeft()) {
      close()
      return undefined
    }
    if (!source.wants(last)) leave()
    // what is not taken does not keep its memory: while one group is read, one that waits is enough to know of
    if (current === undefined || !hasNext()) collect()
    return current && Body.takePayloadsUnsafe(current.body, current.place)
  }

  const awaitNews = Log.awaitUntil(log, () => source.isReady())

  const awaitOvertaken = Clock.clockWith((clock): Frames => {
    const now = clock.currentTimeMillisUnsafe()
    if (overtaken?.last !== last) overtaken = { last, until: now + stall }
    const left = overtaken.until - now
    if (left > 0) return Effect.flatMap(Effect.timeoutOption(awaitNews, left), () => pull)
    hurriedOn = last
    return pull
  })

  const awaitFrames = ({ body, place }: Opened): Frames => {
    const isAlone = !hasNext()
    const ready = () =>
      Body.hasPayload(body, place) || (isAlone && source.end === undefined && source.isReady()) ||
      isLeft() || !source.wants(last) || (!isAlone && !hasNext())
    const changed = untilAny([Body.waitingOf(body), Log.waitingOf(log)], ready)
    if (isAlone) return Effect.flatMap(changed, () => pull)
    return Effect.flatMap(Effect.timeoutOption(changed, stall), (woken) => {
      if (Option.isNone(woken)) leave()
      return pull
    })
  }

  // when there is nothing to take
  const step = (): Frames => {
    const { end } = source
    if (isLeft()) return Log.endOf(end!)
    if (current === undefined) {
      if (isOvertaking()) return awaitOvertaken
      current = waiting.shift()
      if (current === undefined) return end === undefined ? Effect.flatMap(awaitNews, () => pull) : Log.endOf(end)
      last = current.sequence
      return pull
    }
    // where frames were cut, what follows them is not read: only the next group has a beginning again
    if (current.body.end === undefined && !Body.isLagging(current.body, current.place)) return awaitFrames(current)
    leave()
    return pull
  }

  const pull: Frames = Log.handingOut(take, step)
  return { pull, close }
}
