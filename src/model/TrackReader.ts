/**
 * A reader of the events of a track: each sequence from its start on is told of once.
 *
 * @since 0.1.0
 */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as MoqError from "../core/MoqError.ts"
import type { ReadError } from "./Frame.ts"
import * as Gap from "./Gap.ts"
import * as Log from "./Log.ts"
import * as Ranges from "./Ranges.ts"
import * as TrackEvent from "./TrackEvent.ts"

/**
 * What a reader sees of a track.
 *
 * @internal
 */
export interface Source {
  readonly log: Log.Log<TrackEvent.TrackEvent, ReadError>
  /** Nothing below this sequence will come any more. */
  readonly floor: number
  /** The events that can still be told, by sequence: they and what is below `floor` are all that has happened. */
  readonly kept: ReadonlyArray<{ readonly event: TrackEvent.TrackEvent }>
  /** Drops what is too old. */
  readonly evict: () => void
}

/**
 * What a reader wants; it may become narrower while it is read.
 *
 * @internal
 */
export interface Wanted {
  readonly from: "latest" | number
  readonly to?: number | undefined
  /** Why there is nothing more to read here, whatever becomes of the track. */
  readonly left?: ReadError | undefined
}

/** @internal */
export class TrackReader {
  readonly source: Source
  readonly cursor: Log.Cursor
  readonly begin: number
  readonly wanted: Wanted
  readonly told: Ranges.Ranges
  fresh: boolean
  constructor(source: Source, cursor: Log.Cursor, begin: number, wanted: Wanted) {
    this.source = source
    this.cursor = cursor
    this.begin = begin
    this.wanted = wanted
    this.told = Ranges.make()
    this.fresh = true
  }
  get log(): Log.Log<TrackEvent.TrackEvent, ReadError> {
    return this.source.log
  }
  /** The lowest sequence that is wanted still. */
  get from(): number {
    const { from } = this.wanted
    return from === "latest" ? this.begin : Math.max(this.begin, from)
  }
  get to(): number {
    return this.wanted.to ?? Infinity
  }
  /** How it has ended: as the track did, or because all that is wanted has been told of. */
  get end(): Exit.Exit<void, ReadError> | undefined {
    if (this.wanted.left !== undefined) return Exit.fail(this.wanted.left)
    const isOver = this.to !== Infinity && !this.fresh && Ranges.covers(this.told, this.from, this.to + 1)
    return isOver ? Exit.void : this.log.end
  }
  /** Whether a group of that sequence is wanted still. */
  wants(sequence: number): boolean {
    return this.from <= sequence && sequence <= this.to
  }
  /** Whether every sequence from `from` up to, and without, `end` has been told of. */
  knows(from: number, end: number): boolean {
    return Ranges.covers(this.told, from, end)
  }
  isReady(): boolean {
    return Log.isReady(this.log, this.cursor) || this.end !== undefined
  }
  /** What has come since the last call. */
  take(): ReadonlyArray<TrackEvent.TrackEvent> {
    this.source.evict()
    const out: Array<TrackEvent.TrackEvent> = []
    const isBehind = this.fresh || this.cursor.index < this.log.first
    const news = Log.takeUnsafe(this.log, this.cursor) ?? []
    if (isBehind) this.catchUp(out)
    else for (const event of news) this.tell(out, event)
    return out
  }
  /** What takes in batches. It is one pull, which loses nothing when it is interrupted. */
  get pull(): Pull.Pull<NonEmptyReadonlyArray<TrackEvent.TrackEvent>, ReadError> {
    const wait = Log.awaitUntil(this.log, () => this.isReady())
    return Log.handingOut<NonEmptyReadonlyArray<TrackEvent.TrackEvent>, ReadError | Cause.Done>(
      () => {
        const out = this.take()
        return isReadonlyArrayNonEmpty(out) ? out : undefined
      },
      (again) => {
        const { end } = this
        if (end === undefined) return Effect.andThen(wait, again)
        // it needs nothing more: nobody is to wait for it
        Log.closeUnsafe(this.log, this.cursor)
        return Log.endOf(end)
      }
    )
  }
  // from what the track holds rather than from its log: at the beginning, and when the log was cut before it was read
  catchUp(out: Array<TrackEvent.TrackEvent>): void {
    const { floor, kept } = this.source
    this.tell(out, Gap.make(this.begin, floor - 1, this.fresh ? TrackEvent.codeEvicted : codeLagged))
    this.fresh = false
    for (const { event } of kept) {
      // a group that has lost its beginning is no place to join
      this.tell(out, event._tag === "Group" && event.first > 0 ? TrackEvent.evicted(event) : event)
    }
  }
  tell(out: Array<TrackEvent.TrackEvent>, event: TrackEvent.TrackEvent): void {
    if (event._tag === "Group") {
      if (this.wants(event.sequence) && Ranges.claimOne(this.told, event.sequence)) out.push(event)
      return
    }
    for (const range of Ranges.claim(this.told, Math.max(this.from, event.from), Math.min(this.to, event.to))) {
      addGap(out, Gap.make(range.from, range.to, event.code))
    }
  }
}

// internal

const codeLagged = MoqError.toCode(new MoqError.Lagged({}))

const addGap = (out: Array<TrackEvent.TrackEvent>, gap: Gap.Gap): void => {
  const last = out.at(-1)
  if (last?._tag === "Gap" && last.code === gap.code && last.to + 1 === gap.from) {
    out[out.length - 1] = Gap.make(last.from, gap.to, gap.code)
  } else {
    out.push(gap)
  }
}
