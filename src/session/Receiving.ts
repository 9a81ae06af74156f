/**
 * One subscription of this side, being received.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Reader from "../coding/Reader.ts"
import {
  Cancelled,
  type DecodeError,
  Duplicate,
  Evicted,
  type MoqError,
  type SessionClosed,
  toCode,
  type WrongSize
} from "../core/MoqError.ts"
import * as SubscribeGap from "../message/SubscribeGap.ts"
import type { ReadError, WriteError } from "../model/Frame.ts"
import type * as Group from "../model/Group.ts"
import * as Ranges from "../model/Ranges.ts"
import type * as Track from "../model/Track.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import { GroupReader } from "./GroupReader.ts"
import { attempt, type MessageStream, type ReceiveError, resetCode, toReadError } from "./MessageStream.ts"
import { maxRanges, type SessionContext } from "./SessionContext.ts"

/** @internal */
export class Receiving {
  static make(
    stream: MessageStream,
    options: SessionContext,
    onBytes: () => void
  ): Effect.Effect<Receiving, never, Scope.Scope> {
    return Effect.map(FiberSet.make<void, MoqError>(), (groups) => new Receiving(stream, options, onBytes, groups))
  }

  readonly stream: MessageStream
  readonly options: SessionContext
  readonly onBytes: () => void
  /** The fibers that read the streams of its groups. */
  readonly groups: FiberSet.FiberSet<void, MoqError>
  // groups may overtake INFO: their streams wait for the track
  readonly track: Deferred.Deferred<Track.Producer>
  readonly arrival: Latch.Latch
  // where a finished group may have been preceded by others that were left out without a word
  readonly finished: Latch.Latch
  // the sequences that have begun to arrive, or will not come
  readonly seen: Ranges.Ranges
  first: number
  // where the track ends, once the publisher has said so
  end: number | undefined
  // the highest sequence that has finished
  highest: number

  constructor(
    stream: MessageStream,
    options: SessionContext,
    onBytes: () => void,
    groups: FiberSet.FiberSet<void, MoqError>
  ) {
    this.stream = stream
    this.options = options
    this.onBytes = onBytes
    this.groups = groups
    this.track = Deferred.makeUnsafe()
    this.arrival = Latch.makeUnsafe(false)
    this.finished = Latch.makeUnsafe(false)
    this.seen = Ranges.make(maxRanges)
    this.first = 0
    this.end = undefined
    this.highest = -1
  }

  /**
   * Fills the track that INFO has told of, until it ends. `first` is the lowest sequence that can come; `withdrawn` succeeds
   * when something else than the Subscribe stream tells that the track has ended.
   */
  run(track: Track.Producer, first: number, withdrawn: Effect.Effect<void>): Effect.Effect<void> {
    this.first = first
    Deferred.doneUnsafe(this.track, Exit.succeed(track))
    const told = Effect.raceFirst(this.readGaps(track), withdrawn)
    return (this.options.profile.skipsSilently ? Effect.raceFirst(told, this.fillSkipped(track)) : told).pipe(
      Effect.andThen(this.settled),
      Effect.andThen(track.finish),
      // tells the publisher that everything is here
      Effect.andThen(this.stream.send.finish),
      Effect.catch((error) =>
        Effect.andThen(
          track.fail(toReadError(error)),
          this.stream.abort(resetCode(error, this.options))
        )
      )
    )
  }

  readGaps(track: Track.Producer): Effect.Effect<void, ReceiveError> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const gap = yield* this.stream.read(SubscribeGap.decode, this.options.profile)
        if (gap === undefined) return
        const to = gap.start + gap.count
        Ranges.claim(this.seen, gap.start, to)
        if (to === Number.MAX_SAFE_INTEGER) this.end = gap.start
        else yield* track.gap({ from: gap.start, to, code: gap.code })
      }
    })
  }

  // what is missing below a group that has finished is taken to be on its way for a while, then to have been skipped
  fillSkipped(track: Track.Producer): Effect.Effect<never> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        yield* this.finished.await
        this.finished.closeUnsafe()
        const below = this.highest
        yield* Effect.sleep(quiet)
        for (const range of Ranges.claim(this.seen, this.first, below - 1)) {
          yield* track.gap({ ...range, code: codeEvicted })
        }
      }
    })
  }

  // the end of the Subscribe stream may overtake groups
  get settled(): Effect.Effect<void, SessionClosed> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        this.arrival.closeUnsafe()
        yield* FiberSet.awaitEmpty(this.groups)
        if (this.end !== undefined && Ranges.covers(this.seen, this.first, this.end)) return
        const more = Effect.timeoutOption(this.arrival.await, quiet)
        if (Option.isNone(yield* Effect.raceFirst(more, Effect.as(this.closed, Option.none())))) return
      }
    })
  }

  // a publisher that has said its last word closes the session cleanly; whatever else ends it cuts the track short
  get closed(): Effect.Effect<void, SessionClosed> {
    return Effect.flatMap(
      this.options.connection.closed,
      (closed) => closed.by === "remote" && closed.code === 0 ? Effect.void : Effect.fail(closed)
    )
  }

  /**
   * Reads the stream of one group, after its header, on the calling fiber. Fails with what the stream is to be stopped
   * for; the subscription goes on.
   */
  receive(stream: ReceiveStream, reader: Reader.Reader, sequence: number): Effect.Effect<void, MoqError> {
    return Effect.withFiber((fiber) => {
      this.onBytes()
      FiberSet.addUnsafe(this.groups, fiber as never)
      this.arrival.openUnsafe()
      return Effect.flatMap(Deferred.await(this.track), (track) => this.receiveGroup(track, stream, reader, sequence))
    })
  }

  receiveGroup(
    track: Track.Producer,
    stream: ReceiveStream,
    reader: Reader.Reader,
    sequence: number
  ): Effect.Effect<void, MoqError> {
    if (sequence < this.first) return Effect.fail(new Cancelled({ detail: `group ${sequence} was not asked for` }))
    if (Ranges.has(this.seen, sequence)) {
      return Effect.fail(new Duplicate({ detail: `group ${sequence} has come before, or was said not to come` }))
    }
    const begun: Effect.Effect<Group.Producer, Duplicate | Evicted | WriteError> = track.createGroup(sequence)
    Ranges.claim(this.seen, sequence)
    return Effect.flatMap(begun, (group) =>
      fill(stream, reader, group, this.onBytes).pipe(
        Effect.tapError((error) => group.fail(toReadError(error))),
        Effect.onInterrupt(() => group.fail(cancelled)),
        Effect.tap(() => {
          this.highest = Math.max(this.highest, sequence)
          return this.finished.open
        })
      ))
  }
}

// internal

// how long a group may still be on its way when nothing tells
const quiet = "2 seconds"

const codeEvicted = toCode(new Evicted({}))

const cancelled: ReadError = new Cancelled({ detail: "the subscription was closed" })

const fill = (
  stream: ReceiveStream,
  reader: Reader.Reader,
  group: Group.Producer,
  onBytes: () => void
): Effect.Effect<void, MoqError> => {
  const frames = new GroupReader(reader, group)
  const feed = (): boolean => frames.feed()
  const loop: Pull.Pull<never, MoqError> = Effect.suspend(() => {
    const fed = attempt(feed)
    return fed === true ? more : fed === false ? Effect.fail(cancelled) : fed
  })
  const more: Pull.Pull<never, MoqError> = Effect.flatMap(stream.pull, (chunks) => {
    onBytes()
    for (const chunk of chunks) reader.push(chunk)
    return loop
  })
  return Pull.catchDone(loop, (): Effect.Effect<void, WrongSize | DecodeError> => {
    const problem = frames.atEnd()
    return problem === undefined ? group.finish : Effect.fail(problem)
  })
}
