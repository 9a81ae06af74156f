/**
 * A reader of the events of a track: each sequence from its start on is told of once.
 *
 * @since 0.1.0
 */
import * as Exit from "effect/Exit"
import * as MoqError from "../core/MoqError.ts"
import { Follower } from "./Follower.ts"
import type { ReadError } from "./Frame.ts"
import * as Gap from "./Gap.ts"
import type * as Log from "./Log.ts"
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
export class TrackReader extends Follower<TrackEvent.TrackEvent, ReadError> {
  readonly source: Source
  readonly begin: number
  readonly wanted: Wanted
  readonly told: Ranges.Ranges
  constructor(source: Source, cursor: Log.Cursor, begin: number, wanted: Wanted) {
    super(source.log, cursor)
    this.source = source
    this.begin = begin
    this.wanted = wanted
    this.told = Ranges.make()
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
  override get end(): Exit.Exit<void, ReadError> | undefined {
    const { left, to } = this.wanted
    if (left !== undefined) return Exit.fail(left)
    const isOver = to !== undefined && !this.fresh && Ranges.covers(this.told, this.from, to + 1)
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
  override take(): ReadonlyArray<TrackEvent.TrackEvent> {
    this.source.evict()
    return super.take()
  }
  catchUp(out: Array<TrackEvent.TrackEvent>): void {
    const { floor, kept } = this.source
    this.tell(out, Gap.make(this.begin, floor - 1, this.fresh ? TrackEvent.codeEvicted : codeLagged))
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
