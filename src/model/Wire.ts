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

/** @internal */
export class Segment {
  /** A page, of which others may have other parts, or a piece. */
  bytes: Uint8Array
  /** Where in `bytes` it begins. */
  offset: number
  /** Its first position, and the one after its last. */
  start: number
  end: number
  /** The first frame that begins in it or after it, where that begins, and all payload before. */
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
  onTake: (() => void) | undefined
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
    this.onTake = undefined
    this.waiting = undefined
    this.watching = undefined
  }
  /** Hears how many bytes of payload and frames it gained, or lost. */
  changed(_bytes: number, _frames: number): void {}
  /** Hears that a reader has taken something, or gone. */
  took(): void {}
}

// sizes

/** @internal */
export const headerOf = (size: number): number => size < 0x40 ? 1 : size < 0x4000 ? 2 : 4

/** @internal */
export const putSize = (bytes: Uint8Array, at: number, size: number): void => {
  if (size < 0x40) bytes[at] = size
  else if (size < 0x4000) {
    bytes[at] = 0x40 | (size >> 8)
    bytes[at + 1] = size
  } else {
    bytes[at] = 0x80 | (size >> 24)
    bytes[at + 1] = size >> 16
    bytes[at + 2] = size >> 8
    bytes[at + 3] = size
  }
}

/**
 * How long the size at a place is.
 *
 * @internal
 */
export const headerAt = (bytes: Uint8Array, at: number): number => 1 << (bytes[at]! >> 6)

/**
 * The size at a place, in any of its forms. One beyond 2^53-1 may be rounded.
 *
 * @internal
 */
export const sizeAt = (bytes: Uint8Array, at: number): number => {
  let size = bytes[at]! & 0x3f
  for (let i = 1, end = headerAt(bytes, at); i < end; i++) size = size * 256 + bytes[at + i]!
  return size
}

/**
 * A size alone in memory; most frames are as large as the one before.
 *
 * @internal
 */
export const sizeBytes = (size: number): Uint8Array => {
  if (size !== lastSize) {
    lastSize = size
    lastSizeBytes = new Uint8Array(headerOf(size))
    putSize(lastSizeBytes, 0, size)
  }
  return lastSizeBytes
}

// memory

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

/**
 * Joins what is between two positions, in the place of the pieces that it is in: the payload of one frame whose size ends
 * `before`. Each place in them finds its own again.
 *
 * @internal
 */
export const join = (wire: Wire, before: Segment, from: number, to: number): Segment => {
  const bytes = new Uint8Array(to - from)
  let segment = before.end === from ? before.next! : before
  for (let at = from;; segment = segment.next!) {
    const end = Math.min(segment.end, to)
    bytes.set(viewOf(segment, at, end), at - from)
    at = end
    if (at === to) break
  }
  const last = segment
  // where the last piece begins, the frame is under way: what comes after the one comes after the other
  const whole = new Segment(bytes, 0, from, to, last.frame, last.begin, last.payload)
  for (segment = before.next!; segment !== last;) {
    const { next } = segment
    forget(segment)
    segment = next!
  }
  whole.next = last.end === to ? last.next : last
  if (whole.next === last) {
    last.offset += to - last.start
    last.start = to
    shrink(wire, last)
  } else {
    if (wire.tail === last) wire.tail = whole
    forget(last)
  }
  before.next = whole
  if (before.end > from) {
    before.end = from
    shrink(wire, before)
  }
  return whole
}

// finding

/**
 * The segment of a position that has come and has not been cut.
 *
 * @internal
 */
export const segmentAt = (wire: Wire, { position, segment }: Pick<Spot, "position" | "segment">): Segment => {
  // one that was cut or joined meanwhile leads nowhere
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
  position + headerAt(bytes, offset + position - start)

/**
 * The size of the frame that begins at a position of the segment.
 *
 * @internal
 */
export const sizeOf = ({ bytes, offset, start }: Segment, position: number): number =>
  sizeAt(bytes, offset + position - start)

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
 * Where the first frame begins in a segment: in the first segment, the first frame that is kept.
 *
 * @internal
 */
export const startIn = (
  wire: Wire,
  segment: Segment
): { readonly frame: number; readonly begin: number; readonly payload: number } =>
  segment === wire.head ? { frame: wire.first, begin: wire.begin, payload: wire.total - wire.size } : segment

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

// keeps what is left of a piece alone, when that is little
const shrink = (wire: Wire, segment: Segment): void => {
  const { bytes, end, offset, start } = segment
  segment.view = undefined
  if (bytes === wire.page || (end - start) * wasteful >= bytes.length) return
  segment.bytes = bytes.slice(offset, offset + end - start)
  segment.offset = 0
}

// no place is in it any more
const forget = (segment: Segment): void => {
  segment.end = -1
  segment.next = undefined
}
