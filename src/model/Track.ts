/**
 * Tracks: live series of groups, with one producer and any number of readers.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import type { GroupOrder } from "../core/GroupOrder.ts"
import * as MoqError from "../core/MoqError.ts"
import { Cancelled, Duplicate, Evicted, Lagged } from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import type { Priority } from "../core/Priority.ts"
import type { ReadError, WriteError } from "./Frame.ts"
import * as Gap from "./Gap.ts"
import * as Group from "./Group.ts"
import * as Log from "./Log.ts"
import * as TrackFrames from "./TrackFrames.ts"
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
 * What happens on a track: a group has begun, or groups will not come.
 *
 * @category models
 * @since 0.1.0
 */
export type Event = Group.Group | Gap.Gap

/**
 * Where a reader begins: with the newest group that is there when it opens, or with everything from a sequence on that is
 * still cached.
 *
 * @category models
 * @since 0.1.0
 */
export type Start = "latest" | number

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
  /**
   * The payloads of the frames: what most people want. It stays live: when a group ends it goes on with the newest one,
   * and it leaves a group that fails, or stalls for a second while a newer one is there. With order `"asc"` it goes
   * through the groups in sequence instead. Ends when the track has finished.
   */
  readonly frames: Stream.Stream<Uint8Array, ReadError>
  /** The groups, in the order in which they begin. Gaps are left out. A group that fails does not fail its track. */
  readonly groups: Stream.Stream<Group.Group, ReadError>
  /** The groups and the gaps: the complete view. Every sequence from the start on is in exactly one of them. */
  readonly events: Stream.Stream<Event, ReadError>
  /** Takes the events in batches: see `effect/Pull`. Begins where the track handle says unless `from` is given. */
  readonly reader: (options?: {
    readonly from?: Start | undefined
  }) => Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError>, never, Scope.Scope>
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
  /** Begins the group after the latest one. Fails with `WriteError` when the track has ended. */
  readonly appendGroup: Effect.Effect<Group.Producer, WriteError>
  /** The same from a callback: `undefined` when it could not. */
  readonly appendGroupUnsafe: () => Group.Producer | undefined
  /**
   * Begins the group of the given sequence, 0..2^53-2. Groups may be written out of order and at the same time.
   *
   * Fails with {@link Duplicate} when the track has that group, with {@link Evicted} when it is so old that it would not
   * be kept, and with `WriteError` when the track has ended.
   */
  readonly createGroup: (sequence: number) => Effect.Effect<Group.Producer, Duplicate | Evicted | WriteError>
  /** Tells the readers that the groups `from` to `to` will not come. */
  readonly gap: (gap: Omit<Gap.Gap, "_tag">) => Effect.Effect<void>
  /** Finishes the open groups and the track: readers get what is there, then the end. */
  readonly finish: Effect.Effect<void>
  /** Fails the open groups and the track. Does nothing once it has ended. */
  readonly fail: (error: ReadError) => Effect.Effect<void>
  /** Writes what it is fed as frames: see {@link TrackSink.Options}. The track stays open when it is done. */
  readonly sink: (options: TrackSink.Options) => Sink.Sink<void, Uint8Array, never, TrackSink.SinkError>
  /** Suspends while nobody reads the track. */
  readonly used: Effect.Effect<void>
  /** Suspends while anybody reads the track. */
  readonly unused: Effect.Effect<void>
  /** Suspends until every reader that is open has taken all that is here. */
  readonly taken: Effect.Effect<void>
}

/**
 * What is kept of a track for those who join late. The latest group is always kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheOptions {
  /** How long the other groups are kept after a newer one has come; 10 seconds by default. */
  readonly maxAge?: Duration.Input | undefined
  /** How many bytes all groups may hold before the oldest go; 32 MiB by default. */
  readonly maxBytes?: number | undefined
}

/**
 * Makes a track for as long as the scope: when that closes with success the track finishes, else it fails with
 * {@link Cancelled}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  path: Path.Path,
  options?: Partial<TrackInfo> & {
    /** Where readers begin unless they say otherwise; `"latest"` by default. */
    readonly start?: Start | undefined
    /** The lowest sequence that can still come; 0 by default. */
    readonly first?: number | undefined
    readonly cache?: CacheOptions | undefined
  }
): Effect.Effect<Producer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Clock.clockWith((clock) => Effect.sync(() => new TrackImpl(clock, path, options ?? {}))),
    (track, exit) => Effect.sync(() => track.end(Exit.isSuccess(exit) ? undefined : abandoned))
  )

/**
 * The same track, for readers that begin elsewhere.
 *
 * @category combinators
 * @since 0.1.0
 */
export const from = (self: Track, start: Start): Track => new Handle((self as Handle).impl, start)

// internal

const abandoned = new Cancelled({ detail: "its publisher was interrupted" })

const codeEvicted = MoqError.toCode(new Evicted({}))

const codeLagged = MoqError.toCode(new Lagged({}))

const gone = (group: Group.Group): Gap.Gap => Gap.make(group.sequence, group.sequence, codeEvicted)

// a reader this far behind is cut off from the oldest events rather than kept exact
const maxEvents = 65_536

interface Kept {
  readonly group: Group.Group
  readonly producer: Group.Producer
  /** Its place in the log. */
  readonly index: number
  /** When a newer group came, in milliseconds. */
  since: number
  cached: boolean
}

class TrackImpl implements Producer {
  readonly path: Path.Path
  readonly info: TrackInfo
  readonly track: Track
  readonly clock: Clock.Clock
  readonly maxAge: number
  readonly maxBytes: number
  readonly log: Log.Log<Event, ReadError>
  // by sequence, lowest first; the last one is the latest
  readonly kept: Array<Kept>
  readonly open: Set<Group.Producer>
  // nothing below this sequence will come any more
  floor: number
  size: number
  trimAt: number
  failure: ReadError | undefined
  constructor(
    clock: Clock.Clock,
    path: Path.Path,
    options: Partial<TrackInfo> & {
      readonly start?: Start | undefined
      readonly first?: number | undefined
      readonly cache?: CacheOptions | undefined
    }
  ) {
    this.clock = clock
    this.path = path
    this.info = {
      priority: options.priority ?? 0,
      order: options.order ?? "default",
      expires: options.expires ?? 0
    }
    this.maxAge = Duration.toMillis(Duration.fromInputUnsafe(options.cache?.maxAge ?? "10 seconds"))
    this.maxBytes = options.cache?.maxBytes ?? 32 * 1024 * 1024
    this.log = Log.makeUnsafe()
    this.kept = []
    this.open = new Set()
    this.floor = options.first ?? 0
    this.size = 0
    this.trimAt = 64
    this.failure = undefined
    this.track = new Handle(this, options.start ?? "latest")
  }
  get latest(): number | undefined {
    return this.kept.at(-1)?.group.sequence
  }

  // groups

  readonly appendGroupUnsafe = (): Group.Producer | undefined => {
    const result = this.begin(Math.max(this.floor, (this.latest ?? -1) + 1))
    return isRefusal(result) ? undefined : result
  }
  get appendGroup(): Effect.Effect<Group.Producer, WriteError> {
    return Effect.suspend(() => {
      const producer = this.appendGroupUnsafe()
      return producer === undefined ? Effect.fail(this.refusal()) : Effect.succeed(producer)
    })
  }
  readonly createGroup = (sequence: number): Effect.Effect<Group.Producer, Duplicate | Evicted | WriteError> =>
    Effect.suspend(() => {
      const result = this.begin(sequence)
      return isRefusal(result) ? Effect.fail(result) : Effect.succeed(result)
    })
  begin(sequence: number): Group.Producer | Duplicate | Evicted | WriteError {
    if (this.log.end !== undefined) return this.refusal()
    if (sequence < this.floor) return new Evicted({ detail: `group ${sequence} is older than all that is kept` })
    const at = this.placeOf(sequence)
    if (this.kept[at]?.group.sequence === sequence) return new Duplicate({ detail: `group ${sequence}` })
    const now = this.clock.currentTimeMillisUnsafe()
    const producer = Group.makeUnsafe(sequence, {
      onBytes: (delta) => {
        if (!kept.cached) return
        this.size += delta
        if (this.size > this.maxBytes) this.evict()
      },
      onEnd: () => this.open.delete(producer)
    })
    const kept: Kept = { group: producer.group, producer, index: this.log.next, since: now, cached: true }
    if (at === this.kept.length && at > 0) this.kept[at - 1]!.since = now
    this.kept.splice(at, 0, kept)
    this.open.add(producer)
    this.append(producer.group)
    this.evict()
    return producer
  }
  // the place of a sequence in `kept`, from the end: most groups are the newest
  placeOf(sequence: number): number {
    let at = this.kept.length
    while (at > 0 && this.kept[at - 1]!.group.sequence >= sequence) at--
    return at
  }
  refusal(): WriteError {
    return this.failure?._tag === "MoqSessionClosed" || this.failure?._tag === "MoqCancelled"
      ? this.failure
      : new Cancelled({ detail: this.failure === undefined ? "the track has ended" : this.failure.message })
  }
  readonly gap = (gap: Omit<Gap.Gap, "_tag">): Effect.Effect<void> =>
    Effect.sync(() => {
      if (this.log.end === undefined) this.append(Gap.make(gap.from, gap.to, gap.code))
    })

  // cache

  append(event: Event): void {
    Log.appendUnsafe(this.log, event)
    if (this.log.next - this.log.first < this.trimAt) return
    Log.trimUnsafe(this.log, Math.max(Log.unreadUnsafe(this.log), this.log.next - maxEvents))
    this.trimAt = Math.max(64, 2 * (this.log.next - this.log.first))
  }
  evict(): void {
    const before = this.clock.currentTimeMillisUnsafe() - this.maxAge
    let count = 0
    while (count < this.kept.length - 1) {
      const oldest = this.kept[count]!
      if (this.size <= this.maxBytes && oldest.since > before) break
      oldest.cached = false
      this.size -= oldest.group.size
      this.floor = oldest.group.sequence + 1
      Log.replaceUnsafe(this.log, oldest.index, gone(oldest.group))
      count++
    }
    if (count > 0) this.kept.splice(0, count)
  }

  // ends

  get finish(): Effect.Effect<void> {
    return Effect.sync(() => this.end(undefined))
  }
  readonly fail = (error: ReadError): Effect.Effect<void> => Effect.sync(() => this.end(error))
  end(error: ReadError | undefined): void {
    if (this.log.end !== undefined) return
    this.failure = error
    for (const group of [...this.open]) Group.endUnsafe(group, error)
    Log.endUnsafe(this.log, error === undefined ? Exit.void : Exit.fail(error))
  }

  // readers

  readonly sink = (options: TrackSink.Options) => TrackSink.make(this, this.clock, options)
  get used(): Effect.Effect<void> {
    return Log.awaitReaders(this.log, () => this.log.readers > 0)
  }
  get unused(): Effect.Effect<void> {
    return Log.awaitReaders(this.log, () => this.log.readers === 0)
  }
  get taken(): Effect.Effect<void> {
    const groups = Effect.suspend(() => Effect.forEach([...this.open], (group) => group.taken, { discard: true }))
    return Effect.andThen(Log.awaitReaders(this.log, () => Log.isTaken(this.log)), groups)
  }
  readonly openReader = (start: Start): Effect.Effect<Reader, never, Scope.Scope> =>
    // until its first take it counts as not having read anything
    Effect.map(Log.open(this.log, -1), (cursor) => new Reader(this, cursor, start))
}

class Reader implements TrackFrames.Source {
  readonly track: TrackImpl
  readonly cursor: Log.Cursor
  readonly begin: number
  readonly opened: number
  readonly withPast: boolean
  first: boolean
  next: number
  constructor(track: TrackImpl, cursor: Log.Cursor, start: Start) {
    this.track = track
    this.cursor = cursor
    this.withPast = start !== "latest"
    this.begin = start === "latest" ? track.latest ?? track.floor : start
    this.opened = track.log.next
    this.first = true
    this.next = this.begin
  }
  get log(): Log.Log<Event, ReadError> {
    return this.track.log
  }
  readonly isReady = (): boolean => Log.isReady(this.log, this.cursor)
  readonly take = (): ReadonlyArray<Event> => {
    this.track.evict()
    const out: Array<Event> = []
    if (this.first) this.backlog(out)
    else if (this.cursor.index < this.log.first) this.lost(out)
    for (const event of Log.takeUnsafe(this.log, this.cursor) ?? []) this.push(out, event)
    return out
  }
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Event>, ReadError> = Effect.suspend(() => {
    const out = this.take()
    if (out.length > 0) return Effect.succeed(out as unknown as NonEmptyReadonlyArray<Event>)
    const end = this.log.end
    if (end !== undefined) return Log.endOf(end)
    return Effect.flatMap(Log.awaitUnless(this.log, this.isReady), () => this.pull)
  })
  backlog(out: Array<Event>): void {
    this.first = false
    this.cursor.index = this.opened
    if (this.withPast && this.begin < this.track.floor) {
      this.push(out, Gap.make(this.begin, this.track.floor - 1, codeEvicted))
    }
    for (const kept of this.track.kept) {
      // a group that has lost its beginning is no place to join
      if (kept.index < this.opened) this.push(out, kept.group.first > 0 ? gone(kept.group) : kept.group)
    }
  }
  lost(out: Array<Event>): void {
    const [oldest] = this.track.kept
    if (oldest !== undefined && oldest.group.sequence > this.next) {
      this.push(out, Gap.make(this.next, oldest.group.sequence - 1, codeLagged))
    }
  }
  push(out: Array<Event>, event: Event): void {
    const to = event._tag === "Gap" ? event.to : event.sequence
    if (to < this.begin) return
    this.next = Math.max(this.next, to + 1)
    const last = out.at(-1)
    if (event._tag === "Gap" && last?._tag === "Gap" && last.code === event.code && last.to + 1 === event.from) {
      out[out.length - 1] = Gap.make(last.from, to, event.code)
    } else {
      out.push(event)
    }
  }
}

const isRefusal = <E extends Duplicate | Evicted | WriteError>(result: Group.Producer | E): result is E =>
  "_tag" in result

class Handle implements Track {
  readonly impl: TrackImpl
  readonly start: Start
  constructor(impl: TrackImpl, start: Start) {
    this.impl = impl
    this.start = start
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
  readonly reader: Track["reader"] = (options) =>
    Effect.map(this.impl.openReader(options?.from ?? this.start), (reader) => reader.pull)
  get events(): Stream.Stream<Event, ReadError> {
    return Stream.unwrap(Effect.map(this.reader(), (pull) => Stream.fromPull(Effect.succeed(pull))))
  }
  get groups(): Stream.Stream<Group.Group, ReadError> {
    return Stream.filter(this.events, (event): event is Group.Group => event._tag === "Group")
  }
  get frames(): Stream.Stream<Uint8Array, ReadError> {
    return TrackFrames.make(this.impl.openReader(this.start), this.info.order !== "asc")
  }
}
