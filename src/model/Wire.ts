/**
 * Memory in wire form: pages and pieces, one after the other, that hold the sizes and payloads of frames.
 *
 * **Details**
 *
 * Positions are in bytes since the beginning of the group. No border between two segments is inside a size, so a frame is
 * found by reading the size at its beginning. Segments are linked: what is cut at the beginning costs nothing.
 *
 * @since 0.1.0
 */
import type * as Exit from "effect/Exit"
import type * as Types from "effect/Types"
import * as Integers from "../core/Integers.ts"
import { BoundsExceeded, FrameTooLarge } from "../core/MoqError.ts"
import type { Waiters } from "../core/Waiters.ts"
import type { ReadError } from "./Frame.ts"
import type { Growing } from "./Growing.ts"

/** @internal */
export const maxFrameBytes = 16 * 1024 * 1024

/** @internal */
export const refusal = (size: number): FrameTooLarge | BoundsExceeded =>
  size > Number.MAX_SAFE_INTEGER
    ? new BoundsExceeded({ detail: "a number is larger than 2^53-1" })
    : new FrameTooLarge({ detail: `${size} bytes, at most ${maxFrameBytes} are allowed` })

/**
 * A place in it; `index` and `position` are those of `Body.Place`.
 *
 * @internal
 */
export interface Spot {
  index: number
  position: number
  /** Where the position was found last. */
  segment: Segment | undefined
  isOpen: boolean
  /** Its neighbours among the spots that are open. */
  before: Spot | undefined
  after: Spot | undefined
}

/**
 * Hears that something is taken, or not kept any longer.
 *
 * @internal
 */
export interface Taker {
  taken(): void
}

/**
 * The beginning of a frame.
 *
 * @internal
 */
export interface Border {
  readonly frame: number
  /** Its position. */
  readonly begin: number
  /** All payload before it. */
  readonly payload: number
}

/**
 * A border that moves from frame to frame.
 *
 * @internal
 */
export interface Walk extends Types.Mutable<Border> {
  /** A segment that is not behind it. */
  segment: Segment
  /** That of the frame before, once there is one. */
  size: number
}

/** @internal */
export class Segment implements Border {
  /** A page, of which others may have other parts, or a piece. */
  bytes: Uint8Array
  /** Where in `bytes` it begins. */
  offset: number
  /** Its first position, and the one after its last. */
  start: number
  end: number
  /** The first frame that begins in it or after it. */
  readonly frame: number
  readonly begin: number
  readonly payload: number
  next: Segment | undefined
  /** The view that was made last, for others at the same place. */
  view: Uint8Array | undefined
  viewStart: number
  constructor(
    bytes: Uint8Array,
    offset: number,
    start: number,
    end: number,
    frame: number,
    begin: number,
    payload: number
  ) {
    this.bytes = bytes
    this.offset = offset
    this.start = start
    this.end = end
    this.frame = frame
    this.begin = begin
    this.payload = payload
    this.next = undefined
    this.view = undefined
    this.viewStart = 0
  }
}

/** @internal */
export class Wire {
  first: number
  next: number
  size: number
  end: Exit.Exit<void, ReadError> | undefined
  missing: number
  /** The position of the first frame that is kept, and the one after the last byte. */
  begin: number
  tip: number
  /** All payload that has come. */
  total: number
  head: Segment | undefined
  tail: Segment | undefined
  page: Uint8Array
  /** How much of the page is in use. */
  filled: number
  /** The beginning of a size whose end has not come. */
  cut: Uint8Array | undefined
  spots: Spot | undefined
  readers: number
  growing: Growing | undefined
  taker: Taker | undefined
  waiting: Waiters | undefined
  watching: Waiters | undefined
  constructor(first: number) {
    this.first = first
    this.next = first
    this.size = 0
    this.end = undefined
    this.missing = 0
    this.begin = 0
    this.tip = 0
    this.total = 0
    this.head = undefined
    this.tail = undefined
    this.page = empty
    this.filled = 0
    this.cut = undefined
    this.spots = undefined
    this.readers = 0
    this.growing = undefined
    this.taker = undefined
    this.waiting = undefined
    this.watching = undefined
  }
  /** Hears how many bytes of payload and frames it gained, or lost. */
  changed(_bytes: number, _frames: number): void {}
  /** Hears that a reader has taken something, or gone. */
  took(): void {}
}

// memory

/**
 * A size alone in memory; most frames are as large as the one before.
 *
 * @internal
 */
export const sizeBytes = (size: number): Uint8Array => {
  if (size !== lastSize) {
    lastSize = size
    lastSizeBytes = new Uint8Array(Integers.size(size))
    Integers.put(lastSizeBytes, 0, size)
  }
  return lastSizeBytes
}

/**
 * Appends what is in memory. `next`, `missing` and `total` are still what they were before it.
 *
 * @internal
 */
export const append = (wire: Wire, bytes: Uint8Array, offset: number, length: number): void => {
  const { missing, tail, tip } = wire
  wire.tip = tip + length
  if (tail !== undefined && tail.bytes === bytes && tail.offset + tip - tail.start === offset) {
    tail.end = tip + length
    return
  }
  const segment = new Segment(bytes, offset, tip, tip + length, wire.next, tip + missing, wire.total + missing)
  if (tail === undefined) wire.head = segment
  else tail.next = segment
  wire.tail = segment
}

/**
 * Appends a piece, copied when it is small. `isForeign` says that whoever cut it may have cut it from much more: then it
 * is copied as well when it keeps much memory alive that is of no use here.
 *
 * @internal
 */
export const appendPiece = (wire: Wire, piece: Uint8Array, isForeign: boolean): void => {
  const { length } = piece
  const isSmall = length < smallPiece && wire.tail !== undefined
  if (isSmall || (isForeign && isWasteful(piece))) {
    makeRoom(wire, length)
    wire.page.set(piece, wire.filled)
    wire.filled += length
    append(wire, wire.page, wire.filled - length, length)
  } else if (length > 0) {
    append(wire, piece, 0, length)
  }
}

/**
 * Has so many bytes fit on the page. A page is as large as all that came before, so that a small group costs no more than
 * itself, and holds a whole number of what it is made for.
 *
 * @internal
 */
export const makeRoom = (wire: Wire, need: number): void => {
  if (need <= wire.page.length - wire.filled) return
  const target = Math.max(need, Math.min(wire.tip, pageSize))
  wire.page = new Uint8Array(target - target % need)
  wire.filled = 0
}

/**
 * Whether a payload that is written had better be copied: not a large one, nor the first of a group, which may be the
 * only one, nor one for which much of the page would be given up.
 *
 * @internal
 */
export const isWorthCopying = (wire: Wire, payload: Uint8Array): boolean => {
  const { length } = payload
  if (wire.tail === undefined) return isWasteful(payload)
  if (length > maxCopied) return false
  const left = wire.page.length - wire.filled
  return length + 4 <= left || left * wasteful < pageSize
}

/**
 * Drops the segments before a position.
 *
 * @internal
 */
export const unlinkUntil = (wire: Wire, position: number): void => {
  let { head } = wire
  while (head !== undefined && head.end <= position) {
    const { next } = head
    // a place that stands still must not keep what comes after it
    head.next = undefined
    head = next
  }
  wire.head = head
  if (head === undefined) wire.tail = undefined
}

/**
 * Has a spot that is open be the first one that is looked at.
 *
 * @internal
 */
export const bringForward = (wire: Wire, spot: Spot): void => {
  const { after, before } = spot
  if (before === undefined) return
  before.after = after
  if (after !== undefined) after.before = before
  spot.before = undefined
  spot.after = wire.spots
  wire.spots!.before = spot
  wire.spots = spot
}

// finding

/**
 * The segment of a position that has come and has not been cut.
 *
 * @internal
 */
export const segmentAt = (wire: Wire, { position, segment }: Pick<Spot, "position" | "segment">): Segment => {
  // one that was cut meanwhile leads nowhere
  let at = segment !== undefined && segment.start <= position ? segment : undefined
  while (at !== undefined && at.end <= position) at = at.next
  return at ?? segmentFrom(wire.head!, position)
}

/**
 * Where the payload begins of the frame that begins at a position of the segment.
 *
 * @internal
 */
export const payloadOf = ({ bytes, offset, start }: Segment, position: number): number =>
  position + Integers.sizeAt(bytes, offset + position - start)

/**
 * The size of the frame that begins at a position of the segment.
 *
 * @internal
 */
export const sizeOf = ({ bytes, offset, start }: Segment, position: number): number =>
  Integers.valueAt(bytes, offset + position - start)

/**
 * The segment of a position, from one on that is before it.
 *
 * @internal
 */
export const segmentFrom = (from: Segment, position: number): Segment => {
  let segment = from
  while (segment.end <= position) segment = segment.next!
  return segment
}

/**
 * The first frame that begins in a segment or after it: in the first segment, the first one that is kept.
 *
 * @internal
 */
export const walkFrom = (wire: Wire, segment: Segment | undefined): Walk => {
  const { begin, frame, payload } = segment === undefined || segment === wire.head
    ? { frame: wire.first, begin: wire.begin, payload: wire.total - wire.size }
    : segment
  return { segment: segment!, frame, begin, payload, size: Infinity }
}

/**
 * Goes on to the next frame.
 *
 * @internal
 */
export const step = (walk: Walk): void => {
  const segment = segmentFrom(walk.segment, walk.begin)
  const size = sizeOf(segment, walk.begin)
  walk.segment = segment
  walk.begin = payloadOf(segment, walk.begin) + size
  walk.payload += size
  walk.size = size
  walk.frame++
}

// views

/**
 * Appends views of what is between two positions, the first of them in `from`; the segment of the last.
 *
 * @internal
 */
export const views = (from: Segment, start: number, end: number, out: Array<Uint8Array>): Segment => {
  let segment = from
  let at = start
  while (true) {
    const to = Math.min(segment.end, end)
    const { view } = segment
    if (view !== undefined && segment.viewStart === at && view.length === to - at) out.push(view)
    else {
      segment.viewStart = at
      out.push(segment.view = viewOf(segment, at, to))
    }
    if (to === end) return segment
    at = to
    segment = segment.next!
  }
}

/**
 * Views of what is from a spot on up to a position, as far as it is here; moves the spot to their end.
 *
 * @internal
 */
export const viewsUntil = (wire: Wire, spot: Pick<Spot, "position" | "segment">, to: number): Array<Uint8Array> => {
  const out: Array<Uint8Array> = []
  const end = Math.min(to, wire.tip)
  if (spot.position < end) spot.segment = views(segmentAt(wire, spot), spot.position, end, out)
  spot.position = end
  return out
}

/** @internal */
export const viewOf = ({ bytes, offset, start }: Segment, from: number, to: number): Uint8Array => {
  const length = to - from
  if (length === bytes.length) return bytes
  if (length === 0) return empty
  const at = offset + from - start
  return bytes.subarray(at, at + length)
}

/**
 * Pieces of so many bytes together, as one.
 *
 * @internal
 */
export const joined = (pieces: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  if (pieces.length === 1) return pieces[0]!
  const whole = new Uint8Array(size)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}

/** @internal */
export const empty: Uint8Array = new Uint8Array(0)

// internal

const pageSize = 64 * 1024

const maxCopied = 8 * 1024

// Pieces below this size are put together, and those that are less than this part of their memory: whoever cuts them
// decides how finely, and each keeps alive all that it was cut from.
const smallPiece = 256
const wasteful = 8

let lastSize = 0
let lastSizeBytes = new Uint8Array(1)

const isWasteful = ({ buffer, length }: Uint8Array): boolean => length * wasteful < buffer.byteLength
