/**
 * Tracks: live series of groups, with one producer and any number of readers.
 *
 * @since 0.1.0
 */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Sink from "effect/Sink"
import type * as Stream from "effect/Stream"
import type { GroupOrder } from "../core/GroupOrder.ts"
import * as MoqError from "../core/MoqError.ts"
import { Cancelled, Duplicate, Evicted } from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import type { Priority } from "../core/Priority.ts"
import { type ReadError, toWriteError, type WriteError } from "./Frame.ts"
import type * as Gap from "./Gap.ts"
import * as Group from "./Group.ts"
import * as Log from "./Log.ts"
import * as TrackCache from "./TrackCache.ts"
import * as TrackEach from "./TrackEach.ts"
import type * as TrackEvent from "./TrackEvent.ts"
import * as TrackFrames from "./TrackFrames.ts"
import * as TrackReader from "./TrackReader.ts"
import * as TrackSink from "./TrackSink.ts"

/**
 * What a publisher says of its track.
 *
 * @category models
 * @since 0.1.0
 */
export interface TrackInfo {
  /** How much it matters beside other tracks: -128..127, higher first. */
  readonly priority: Priority
  /** Which of its groups is sent first under congestion. */
  readonly order: GroupOrder
  /** How long after its end a group may still be sent, in milliseconds; 0 means for ever. */
  readonly expires: number
}

/**
 * What happens on a track: see `TrackEvent`.
 *
 * @category models
 * @since 0.1.0
 */
export type Event = TrackEvent.TrackEvent

/**
 * Where a reader begins: with the newest group that is there when it opens, or with everything from a sequence on that
 * is still cached.
 *
 * @category models
 * @since 0.1.0
 */
export type Start = "latest" | number

/**
 * The part of a track that a reader wants: from a start on, up to and with the sequence `to`, or without an end.
 *
 * @category models
 * @since 0.1.0
 */
export interface Range {
  readonly from: Start
  readonly to?: number | undefined
}

/**
 * A track to read. Each run of a Stream is a reader of its own, with its own pace, and begins at the first frame of a
 * group; a slow one never slows another, nor the producer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Track {
  readonly path: Path.Path
  readonly info: TrackInfo
  /** The highest sequence so far, or `undefined` before the first group. */
  readonly latest: number | undefined
  /** The lowest sequence that is still here or can still come. */
  readonly first: number
  /** The sequence at which a reader that opens now begins. */
  readonly begin: number
  /** How the track ended, once it has. */
  readonly end: Exit.Exit<void, ReadError> | undefined
  /** Suspends until the track has ended, and tells how. */
  readonly ended: Effect.Effect<Exit.Exit<void, ReadError>>
  /** The group of a sequence, as long as it is cached. */
  readonly group: (sequence: number) => Group.Group | undefined
  /**
   * The payloads of the frames: what most people want. It stays live: when a group ends it goes on with the newest one,
   * and it leaves a group that fails, or stalls for a second while a newer one is there. With order `"asc"` it goes
   * through the groups in sequence instead, and waits for up to a second for one that a newer one has overtaken. Ends
   * when the track has finished.
   */
  readonly frames: Stream.Stream<Uint8Array, ReadError>
  /** The groups, in the order in which they begin. Gaps are left out. A group that fails does not fail its track. */
  readonly groups: Stream.Stream<Group.Group, ReadError>
  /** The groups and the gaps: the complete view. Every sequence from the start on is in exactly one of them. */
  readonly events: Stream.Stream<Event, ReadError>
  /** Takes the events in batches: see `effect/Pull`. Its range is that of the track handle unless it is given. */
  readonly reader: (
    range?: Range
  ) => Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError>, never, Scope.Scope>
}

/**
 * Writes a track. Writing never suspends; with no reader it goes to the cache.
 *
 * @category models
 * @since 0.1.0
 */
export interface Producer {
  readonly path: Path.Path
  /** The track that this writes, to read. */
  readonly track: Track
  /** Begins the group after all that have come or were given up. Fails with `WriteError` when the track has ended. */
  readonly appendGroup: Effect.Effect<Group.Producer, WriteError>
  /** The same from a callback: `undefined` when it could not. */
  readonly appendGroupUnsafe: () => Group.Producer | undefined
  /**
   * Begins the group of the given sequence, 0..2^53-2. Groups may be written out of order and at the same time.
   *
   * Fails with {@link Duplicate} when the track has that group, with {@link Evicted} when it was given up or is so old
   * that it would not be kept, and with `WriteError` when the track has ended. What is no integer is a defect.
   */
  readonly createGroup: (sequence: number) => Effect.Effect<Group.Producer, Duplicate | Evicted | WriteError>
  /** Gives up those of the groups `from` to `to` that have not begun: tells the readers that they will not come. */
  readonly gap: (gap: Omit<Gap.Gap, "_tag">) => Effect.Effect<void>
  /**
   * Finishes the open groups and the track: readers get what is there, then the end. Sequences that were left out
   * become a gap with code 13 (not found).
   */
  readonly finish: Effect.Effect<void>
  /** Fails the open groups and the track. Does nothing once it has ended. */
  readonly fail: (error: ReadError) => Effect.Effect<void>
  /** Writes what it is fed as frames: see {@link TrackSink.Options}. The track stays open when it is done. */
  readonly sink: (options: TrackSink.Options) => Sink.Sink<void, Uint8Array, never, TrackSink.SinkError>
  /** Suspends while nobody reads the track, at most until it ends. */
  readonly used: Effect.Effect<void>
  /** Suspends while anybody reads the track. */
  readonly unused: Effect.Effect<void>
  /**
   * Suspends until every reader that is open, of the track and of its groups, has taken all that is here; at most until
   * the track fails. A reader that is over its limits is not waited for.
   */
  readonly taken: Effect.Effect<void>
}

/**
 * What is kept of a track for those who join late. The latest group is always kept.
 *
 * **Details**
 *
 * Besides, at most 8,192 groups and gaps are kept. A group that is no longer kept becomes a gap with code 31 (evicted)
 * for those who have not taken it, and so do sequences below it that have not come. One that is still being written
 * goes on for those who read it, until the bytes run out: then it fails with {@link Evicted}.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheOptions {
  /** How long the other groups are kept after a newer one has come; 10 seconds by default. */
  readonly maxAge?: Duration.Input | undefined
  /** How many bytes all groups may hold before the oldest go; 32 MiB by default. */
  readonly maxBytes?: number | undefined
  /**
   * Beyond how many bytes a group lets go of what every reader has taken.
   *
   * @internal
   */
  readonly maxTaken?: number | undefined
  /** @internal */
  readonly account?: TrackCache.Account | undefined
}

/**
 * What can be chosen of a track. Its priority is 0 by default, its order `"default"`, and its groups never expire.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Partial<TrackInfo> {
  /** Where readers begin unless they say otherwise; `"latest"` by default. */
  readonly start?: Start | undefined
  /** The lowest sequence that can still come; 0 by default. */
  readonly first?: number | undefined
  /** What is kept for those who join late. */
  readonly cache?: CacheOptions | undefined
}

/**
 * Makes a track for as long as the scope: when that closes with success the track finishes, else it fails with
 * {@link Cancelled}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (path: Path.Path, options?: Options): Effect.Effect<Producer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Clock.clockWith((clock) => Effect.sync(() => new TrackImpl(clock, path, options ?? {}))),
    (track, exit) => Effect.sync(() => track.close(Exit.isSuccess(exit) ? undefined : abandoned))
  )

/**
 * The same track, for readers of another range; they end once they know of every sequence in it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const range = (self: Track, range: Range): Track => new Ranged((self as Handle).impl, range)

/**
 * Runs a function for every frame of every group, all groups side by side, those of a group in order: the fastest way to
 * read a track, and the other end of `writeFrameUnsafe`.
 *
 * **Details**
 *
 * It takes what a run of `groups` would, with all their frames: from the start of the track handle on, also those that
 * come late. A group that fails, or is cut before it was read, ends early; its other frames are still given. Ends, and
 * fails, as the track does, once all that is there was given. It is interruptible at any time; what the function throws
 * is a defect.
 *
 * **Gotchas**
 *
 * The function runs as part of whatever delivers the frames, one call after the other: what takes long belongs elsewhere.
 * There is no backpressure, as it has always taken all that is there. A payload may share its memory with others: copy it
 * to keep a small one for long.
 *
 * **Example** (Counting bytes)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Track } from "effect-moq"
 *
 * const countBytes = (track: Track.Track) =>
 *   Effect.gen(function*() {
 *     let bytes = 0
 *     yield* Track.forEachFrame(track, (payload) => {
 *       bytes += payload.length
 *     })
 *     return bytes
 *   })
 * ```
 *
 * @category consuming
 * @since 0.1.0
 */
export const forEachFrame = (
  self: Track,
  f: (payload: Uint8Array, sequence: number) => void
): Effect.Effect<void, ReadError> =>
  TrackEach.run(() => (self as Handle).impl.openReaderUnsafe((self as Handle).range), f)

/**
 * Makes the readers of a track look at their range again.
 *
 * @internal
 */
export const wakeUnsafe = (self: Track): void => Log.wakeUnsafe((self as Handle).impl.log)

/**
 * Gives up a group that is there, and its memory: whoever has not read it gets the error, or a gap with its code.
 *
 * @internal
 */
export const dropUnsafe = (self: Producer, group: Group.Producer, error: MoqError.Lagged): void =>
  (self as TrackImpl).drop(group, error)

/**
 * Ends a track as `finish` and `fail` do.
 *
 * @internal
 */
export const endUnsafe = (self: Producer, error?: ReadError): void => (self as TrackImpl).close(error)

/**
 * Makes a track for whoever ends it by hand.
 *
 * @internal
 */
export const makeUnsafe = (clock: Clock.Clock, path: Path.Path, options: Options = {}): Producer =>
  new TrackImpl(clock, path, options)

/**
 * As `createGroup`, at once.
 *
 * @internal
 */
export const beginUnsafe = (self: Producer, sequence: number): Group.Producer | Duplicate | Evicted | WriteError =>
  (self as TrackImpl).begin(sequence)

/**
 * Whether {@link beginUnsafe} could not.
 *
 * @internal
 */
export const isRefusal = <E extends Duplicate | Evicted | WriteError>(result: Group.Producer | E): result is E =>
  !("group" in result)

/**
 * Fails the open groups, and not the track.
 *
 * @internal
 */
export const failGroupsUnsafe = (self: Producer, error: ReadError): void => (self as TrackImpl).endGroups(error)

/**
 * Drops what is too old or too much, and with `through` all up to that sequence; never the latest group.
 *
 * @internal
 */
export const evictUnsafe = (self: Producer, through?: number): void => (self as TrackImpl).evict(through)

/**
 * Keeps what was taken as well: there are others to come, who cannot ask anybody else.
 *
 * @internal
 */
export const keepTakenUnsafe = (self: Track): void => {
  ;(self as Handle).impl.maxTaken = Infinity
}

/**
 * Whether a reader that begins there would find the first frames of all groups that it finds.
 *
 * @internal
 */
export const isWholeFrom = (self: Track, start: Start): boolean => {
  const { impl } = self as Handle
  return impl.isWholeFrom(impl.beginOf(start))
}

/**
 * The sequence after all that have come or were said not to come.
 *
 * @internal
 */
export const following = (self: Producer): number => (self as TrackImpl).following

// internal

const abandoned = new Cancelled({ detail: "its publisher was interrupted" })

const codeNotFound = MoqError.toCode(new MoqError.NotFound({}))

class TrackImpl extends TrackCache.TrackCache implements Producer, TrackReader.Source {
  readonly path: Path.Path
  readonly info: TrackInfo
  readonly track: Track
  failure: ReadError | undefined
  constructor(
    clock: Clock.Clock,
    path: Path.Path,
    options: Options
  ) {
    super(clock, {
      maxAge: Duration.toMillis(options.cache?.maxAge ?? "10 seconds"),
      maxBytes: options.cache?.maxBytes ?? 32 * 1024 * 1024,
      first: options.first ?? 0,
      maxTaken: options.cache?.maxTaken,
      account: options.cache?.account
    })
    this.path = path
    this.info = {
      priority: options.priority ?? 0,
      order: options.order ?? "default",
      expires: options.expires ?? 0
    }
    this.failure = undefined
    this.track = new Ranged(this, { from: options.start ?? "latest" })
  }
  // groups

  readonly appendGroupUnsafe = (): Group.Producer | undefined => {
    const result = this.begin(this.following)
    return isRefusal(result) ? undefined : result
  }
  get appendGroup(): Effect.Effect<Group.Producer, WriteError> {
    return Effect.suspend(() => {
      const producer = this.appendGroupUnsafe()
      return producer === undefined ? Effect.fail(toWriteError(this.failure)) : Effect.succeed(producer)
    })
  }
  get createGroup(): Producer["createGroup"] {
    return (sequence) =>
      Effect.suspend(() => {
        if (!Number.isSafeInteger(sequence)) throw new RangeError(`${sequence} is not the sequence of a group`)
        const result = this.begin(sequence)
        return isRefusal(result) ? Effect.fail(result) : Effect.succeed(result)
      })
  }
  begin(sequence: number): Group.Producer | Duplicate | Evicted | WriteError {
    if (this.log.end !== undefined) return toWriteError(this.failure)
    if (sequence < this.floor) return new Evicted({ detail: `group ${sequence} is older than all that is kept` })
    const place = this.placeOf(sequence)
    const there = this.kept[place]
    if (there !== undefined && there.first <= sequence) {
      return there.event._tag === "Group"
        ? new Duplicate({ detail: `group ${sequence}` })
        : new Evicted({ detail: `group ${sequence} was said not to come` })
    }
    return this.keep(sequence, place)
  }
  get gap(): Producer["gap"] {
    return (gap) =>
      Effect.sync(() => {
        // gaps above the latest group are not evicted
        if (this.log.end !== undefined || this.isFull) return
        this.fill(gap.from, gap.to, gap.code)
        this.evict()
      })
  }
  // ends

  get finish(): Effect.Effect<void> {
    return Effect.sync(() => this.close(undefined))
  }
  get fail(): Producer["fail"] {
    return (error) => Effect.sync(() => this.close(error))
  }
  close(error: ReadError | undefined): void {
    if (this.log.end !== undefined) return
    this.failure = error
    this.endGroups(error)
    if (error === undefined) this.fill(this.floor, this.following - 1, codeNotFound)
    Log.endUnsafe(this.log, error === undefined ? Exit.void : Exit.fail(error))
  }

  endGroups(error: ReadError | undefined): void {
    const events: ReadonlyArray<Event> = [...this.detached, ...this.kept.map((kept) => kept.event)]
    for (const event of events) if (event._tag === "Group") Group.endUnsafe(event, error)
  }

  // readers

  beginOf(start: Start): number {
    return start === "latest" ? this.latest ?? this.floor : start
  }
  get sink(): Producer["sink"] {
    return (options) => TrackSink.make(this, this.clock, options)
  }
  get used(): Effect.Effect<void> {
    return Log.awaitReaders(this.log, () => this.log.readers > 0 || this.log.end !== undefined)
  }
  get unused(): Effect.Effect<void> {
    return Log.awaitReaders(this.log, () => this.log.readers === 0)
  }
  get taken(): Effect.Effect<void> {
    const events = Log.awaitReaders(this.log, () => this.failure !== undefined || Log.isTaken(this.log))
    return Effect.flatMap(events, () => {
      const behind = [...this.detached]
      for (const { event } of this.kept) if (event._tag === "Group" && !Group.isTaken(event)) behind.push(event)
      return Effect.forEach(behind, Group.taken, { discard: true })
    })
  }
  openReaderUnsafe(range: Range): TrackReader.TrackReader {
    // until its first take it counts as not having read what is there
    const cursor = Log.openUnsafe(this.log, Math.max(0, this.log.next - 1))
    return new TrackReader.TrackReader(this, cursor, this.beginOf(range.from), range)
  }
  openReader(range: Range): Effect.Effect<TrackReader.TrackReader, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => this.openReaderUnsafe(range)),
      (reader) => Effect.sync(() => Log.closeUnsafe(this.log, reader.cursor))
    )
  }
}

/** @internal */
export abstract class Handle implements Track {
  readonly impl: TrackImpl
  constructor(impl: TrackImpl) {
    this.impl = impl
  }
  abstract readonly range: Range
  /** The order in which its frames are read. */
  get order(): GroupOrder {
    return this.info.order
  }
  get path(): Path.Path {
    return this.impl.path
  }
  get info(): TrackInfo {
    return this.impl.info
  }
  get latest(): number | undefined {
    return this.impl.latest
  }
  get first(): number {
    return this.impl.floor
  }
  get begin(): number {
    return this.impl.beginOf(this.range.from)
  }
  get end(): Exit.Exit<void, ReadError> | undefined {
    return this.impl.log.end
  }
  get ended(): Effect.Effect<Exit.Exit<void, ReadError>> {
    return Effect.map(Log.awaitUntil(this.impl.log, () => this.end !== undefined), () => this.end!)
  }
  get group(): Track["group"] {
    return (sequence) => this.impl.group(sequence)
  }
  get reader(): Track["reader"] {
    return (range = this.range) => Effect.map(this.impl.openReader(range), (reader) => reader.pull)
  }
  get events(): Stream.Stream<Event, ReadError> {
    return Log.toStream(this.reader())
  }
  get groups(): Stream.Stream<Group.Group, ReadError> {
    return Log.toStream(Effect.map(this.reader(), groupsOf))
  }
  get frames(): Stream.Stream<Uint8Array, ReadError> {
    return TrackFrames.make(this.impl.openReader(this.range), this.order !== "asc")
  }
}

const groupsOf = (
  events: Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError>
): Pull.Pull<NonEmptyReadonlyArray<Group.Group>, ReadError> => {
  const next: Pull.Pull<NonEmptyReadonlyArray<Group.Group>, ReadError> = Effect.flatMap(events, (events) => {
    const groups = events.filter((event) => event._tag === "Group")
    return isReadonlyArrayNonEmpty(groups) ? Effect.succeed(groups) : next
  })
  return next
}

class Ranged extends Handle {
  readonly range: Range
  constructor(impl: TrackImpl, range: Range) {
    super(impl)
    this.range = range
  }
}
