/**
 * The frames of a group, kept as they are on the wire.
 *
 * **Details**
 *
 * There is no object per frame. What is written is copied into pages, large pieces are kept as they are, and so is what
 * is received: see `Wire`. Whoever sends takes views of whole pages, the same ones for all who are at the same place.
 * For whoever reads payloads, the borders of the frames are found by walking from size to size.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Integers from "../core/Integers.ts"
import { untilAny, Waiters } from "../core/Waiters.ts"
import { type Frame, fromBytes, type ReadError } from "./Frame.ts"
import { Growing } from "./Growing.ts"
import * as Wire from "./Wire.ts"

/**
 * The frames of a group, to read.
 *
 * @internal
 */
export interface Body {
  /** The index of the first frame that is kept. */
  readonly first: number
  /** The index that the next frame will get. */
  readonly next: number
  /** How many bytes of payload are kept. */
  readonly size: number
  /** How many bytes of payload have come. */
  readonly total: number
  /** How it ended, once it has. */
  readonly end: Exit.Exit<void, ReadError> | undefined
  /** How many places are open. */
  readonly readers: number
  /** How many bytes of payload the last frame lacks. */
  readonly missing: number
}

/**
 * A reader's place, for one kind of reading: bytes, payloads or frames.
 *
 * @internal
 */
export interface Place {
  /** The frame that is read next; not kept for who takes bytes. */
  index: number
  /** In bytes of the wire form, since the beginning of the group; below 0 until its frame has come. */
  position: number
}

/** @internal */
export const makeUnsafe = (first: number = 0): Body => new Wire.Wire(first)

// writing

/**
 * Appends a whole frame. Whether it may come is for the caller to know.
 *
 * @internal
 */
export const writeUnsafe = (self: Body, payload: Uint8Array): void => {
  const wire = self as Wire.Wire
  const { length } = payload
  const header = Integers.size(length)
  if (Wire.isWorthCopying(wire, payload)) {
    Wire.makeRoom(wire, header + length)
    const { filled, page } = wire
    Integers.put(page, filled, length)
    page.set(payload, filled + header)
    wire.filled = filled + header + length
    Wire.append(wire, page, filled, header + length)
    wire.next++
  } else {
    begin(wire, length)
    if (length > 0) Wire.append(wire, payload, 0, length)
    wire.missing = 0
  }
  gained(wire, length, 1)
}

/**
 * Begins a frame whose payload is to come in chunks.
 *
 * @internal
 */
export const beginUnsafe = (self: Body, size: number): void => {
  begin(self as Wire.Wire, size)
  gained(self as Wire.Wire, 0, 1)
}

/**
 * Appends to the payload of the last frame, not more than it lacks.
 *
 * @internal
 */
export const growUnsafe = (self: Body, chunk: Uint8Array): void => {
  const wire = self as Wire.Wire
  Wire.appendPiece(wire, chunk, false)
  wire.missing -= chunk.length
  gained(wire, chunk.length, 0)
}

/**
 * Takes bytes of the wire form, in any cut; `false` when it takes no more. Throws `FrameTooLarge` and `BoundsExceeded` for
 * a size, once the frames before it are in.
 *
 * @internal
 */
export const feedUnsafe = (self: Body, chunk: Uint8Array): boolean => {
  const wire = self as Wire.Wire
  if (wire.end !== undefined) return false
  const bytes = wire.cut === undefined ? chunk : Wire.joined([wire.cut, chunk], wire.cut.length + chunk.length)
  wire.cut = undefined
  const { length } = bytes
  let at = 0
  let frames = 0
  let { missing, next } = wire
  let payload = 0
  let tooLarge = 0
  while (true) {
    const taken = Math.min(missing, length - at)
    at += taken
    payload += taken
    missing -= taken
    if (at === length) break
    const header = Integers.sizeAt(bytes, at)
    if (at + header > length) {
      wire.cut = bytes.slice(at)
      break
    }
    const size = Integers.valueAt(bytes, at)
    if (size > Wire.maxFrameBytes) {
      tooLarge = size
      break
    }
    at += header
    missing = size
    next++
    frames++
  }
  if (at > 0) {
    Wire.appendPiece(wire, at === length ? bytes : bytes.subarray(0, at), true)
    wire.missing = missing
    wire.next = next
    gained(wire, payload, frames)
  }
  if (tooLarge > 0) throw Wire.refusal(tooLarge)
  return wire.end === undefined
}

/**
 * Whether what was fed ends inside the size of a frame.
 *
 * @internal
 */
export const isInsideSize = (self: Body): boolean => (self as Wire.Wire).cut !== undefined

/**
 * Ends it; readers still get what is in it. `false` when it had ended before.
 *
 * @internal
 */
export const endUnsafe = (self: Body, exit: Exit.Exit<void, ReadError>): boolean => {
  const wire = self as Wire.Wire
  if (wire.end !== undefined) return false
  wire.end = exit
  wire.growing?.settle()
  wire.waiting?.notify()
  wire.watching?.notify()
  return true
}

/**
 * Drops the frames at its beginning that are too much for a size and a number. A place before what is left lags.
 *
 * @internal
 */
export const cutUnsafe = (self: Body, maxBytes: number, maxFrames: number): void => {
  const wire = self as Wire.Wire
  const border = excess(wire, wire.size - maxBytes, wire.next - wire.first - maxFrames)
  if (border.frame > wire.first) cutTo(wire, border)
}

/**
 * Drops what every open place has passed, if there is one, in whole pieces of memory; the last frame stays.
 *
 * @internal
 */
export const letGoUnsafe = (self: Body): void => {
  const wire = self as Wire.Wire
  let last: Wire.Segment | undefined
  for (let { head } = wire; head?.next !== undefined && hasPassed(wire, head.next); head = head.next) last = head.next
  if (last !== undefined) cutTo(wire, last)
}

/**
 * Drops everything; nothing comes after it.
 *
 * @internal
 */
export const dropUnsafe = (self: Body): void => {
  const wire = self as Wire.Wire
  wire.growing?.settle()
  wire.page = Wire.empty
  cutTo(wire, { frame: wire.next, begin: wire.tip, payload: wire.total })
  wire.waiting?.notify()
}

// places

/**
 * The index after the last complete frame.
 *
 * @internal
 */
export const complete = ({ missing, next }: Body): number => missing > 0 ? next - 1 : next

/**
 * Opens a place at a frame, the first one that is kept by default. It counts as a reader until it is closed.
 *
 * @internal
 */
export const openUnsafe = (self: Body, frame: number = self.first): Place => {
  const wire = self as Wire.Wire
  const after = wire.spots
  const spot: Wire.Spot = {
    index: frame,
    position: frame === wire.first ? wire.begin : -1,
    segment: undefined,
    isOpen: true,
    before: undefined,
    after
  }
  if (after !== undefined) after.before = spot
  wire.spots = spot
  wire.readers++
  if (spot.position < 0) isPlaced(wire, spot)
  wire.watching?.notify()
  return spot
}

/** @internal */
export const closeUnsafe = (self: Body, place: Place): void => {
  const wire = self as Wire.Wire
  const spot = place as Wire.Spot
  if (!spot.isOpen) return
  spot.isOpen = false
  const { after, before } = spot
  if (before === undefined) wire.spots = after
  else before.after = after
  if (after !== undefined) after.before = before
  wire.readers--
  wire.watching?.notify()
  wire.took()
}

/**
 * Whether frames at the place were cut: there is no way on from it.
 *
 * @internal
 */
export const isLagging = (self: Body, place: Place): boolean =>
  place.position < 0 ? place.index < self.first : place.position < (self as Wire.Wire).begin

/**
 * How many bytes of the wire form there are from the place on.
 *
 * @internal
 */
export const available = (self: Body, place: Place): number => {
  const wire = self as Wire.Wire
  return place.position >= 0 || isPlaced(wire, place as Wire.Spot) ? Math.max(0, wire.tip - place.position) : 0
}

/**
 * Whether there are bytes to take, or the end, or their loss, to see.
 *
 * @internal
 */
export const isReady = (self: Body, place: Place): boolean =>
  self.end !== undefined || available(self, place) > 0 || isLagging(self, place)

/**
 * Whether there is a complete frame to take, or the end, or its loss, to see.
 *
 * @internal
 */
export const hasPayload = (self: Body, place: Place): boolean =>
  self.end !== undefined || place.index < complete(self) || isLagging(self, place)

/**
 * Whether there is a frame to take, be it one that grows, or the end, or its loss, to see.
 *
 * @internal
 */
export const hasFrame = (self: Body, place: Place): boolean =>
  self.end !== undefined || place.index < self.next || isLagging(self, place)

/**
 * Whether an open place has still to take something of what is before a position, or else of all; one that lags has not.
 *
 * @internal
 */
export const isAwaited = (self: Body, before?: number): boolean => {
  const wire = self as Wire.Wire
  for (let spot = wire.spots; spot !== undefined; spot = spot.after) {
    if (!isPlaced(wire, spot) || isLagging(wire, spot)) continue
    if (before !== undefined ? spot.position < before : spot.position < wire.tip && !isAtGrowing(wire, spot)) {
      return true
    }
  }
  return false
}

/**
 * Whether a place is at the end, but for a frame that grows: its reader waits for that, or has been given it.
 *
 * @internal
 */
export const isFollowed = (self: Body): boolean => {
  const wire = self as Wire.Wire
  const last = complete(wire)
  for (let spot = wire.spots; spot !== undefined; spot = spot.after) {
    if (spot.index >= last && isPlaced(wire, spot)) return true
  }
  return false
}

/**
 * Where it would begin if so many bytes of payload, and so many frames, were cut.
 *
 * @internal
 */
export const cutFor = (self: Body, bytes: number, frames: number): number =>
  excess(self as Wire.Wire, bytes, frames).begin

// taking

/**
 * Takes views of up to `max` bytes of the wire form, and gives how many bytes they are. They may end anywhere.
 *
 * @internal
 */
export const takeBytesUnsafe = (self: Body, place: Place, max: number, out: Array<Uint8Array>): number => {
  const wire = self as Wire.Wire
  const spot = place as Wire.Spot
  const bytes = Math.min(max, available(wire, spot))
  if (bytes <= 0 || isLagging(wire, spot)) return 0
  const from = spot.position
  spot.index = -1
  spot.segment = Wire.views(Wire.segmentAt(wire, spot), from, from + bytes, out)
  spot.position = from + bytes
  took(wire)
  return bytes
}

/**
 * How many frames are complete before the place, since the beginning of the group.
 *
 * @internal
 */
export const framesUntil = (self: Body, place: Place): number => before(self as Wire.Wire, place as Wire.Spot).frames

/**
 * How many bytes of payload are before the place, since the beginning of the group.
 *
 * @internal
 */
export const payloadUntil = (self: Body, place: Place): number => before(self as Wire.Wire, place as Wire.Spot).payload

/**
 * Gives each payload from the place on to a function, which may do to the group what it likes. Whether there was any.
 *
 * @internal
 */
export const eachPayloadUnsafe = <A>(
  self: Body,
  place: Place,
  f: (payload: Uint8Array, argument: A) => void,
  argument: A
): boolean => {
  const wire = self as Wire.Wire
  const spot = place as Wire.Spot
  if (spot.index >= complete(wire) || !isPlaced(wire, spot) || isLagging(wire, spot)) return false
  do {
    let segment = Wire.segmentAt(wire, spot)
    const from = Wire.payloadOf(segment, spot.position)
    const size = Wire.sizeOf(segment, spot.position)
    const to = from + size
    let payload: Uint8Array
    if (to <= segment.end) payload = Wire.viewOf(segment, from, to)
    else {
      const pieces: Array<Uint8Array> = []
      segment = Wire.views(Wire.segmentFrom(segment, from), from, to, pieces)
      payload = Wire.joined(pieces, size)
    }
    spot.segment = segment
    spot.position = to
    spot.index++
    f(payload, argument)
  } while (spot.index < complete(wire) && !isLagging(wire, spot))
  took(wire)
  return true
}

/**
 * Takes the payloads of all complete frames from the place on; `undefined` when there is none.
 *
 * @internal
 */
export const takePayloadsUnsafe = (self: Body, place: Place): NonEmptyReadonlyArray<Uint8Array> | undefined => {
  const out: Array<Uint8Array> = []
  eachPayloadUnsafe(self, place, addPayload, out)
  return out.length === 0 ? undefined : out as unknown as NonEmptyReadonlyArray<Uint8Array>
}

/**
 * Takes all frames from the place on, the last one also while it grows; `undefined` when there is none.
 *
 * @internal
 */
export const takeFramesUnsafe = (self: Body, place: Place): NonEmptyReadonlyArray<Frame> | undefined => {
  const wire = self as Wire.Wire
  const spot = place as Wire.Spot
  const out: Array<Frame> = []
  eachPayloadUnsafe(self, place, addFrame, out)
  if (spot.index < wire.next && isPlaced(wire, spot) && !isLagging(wire, spot)) {
    const segment = Wire.segmentAt(wire, spot)
    const { position } = spot
    const growing = wire.growing ??= new Growing(
      wire,
      segment,
      Wire.payloadOf(segment, position),
      Wire.sizeOf(segment, position)
    )
    if (wire.end !== undefined) growing.settle()
    out.push(growing)
    spot.index++
    spot.position = growing.until
    took(wire)
  }
  return out.length === 0 ? undefined : out as unknown as NonEmptyReadonlyArray<Frame>
}

// waiting

/**
 * Suspends until `ready` holds; it is asked now, and whenever bytes or the end have come.
 *
 * @internal
 */
export const awaitUntil = (self: Body, ready: () => boolean): Effect.Effect<void> => untilAny([waitingOf(self)], ready)

/**
 * Suspends until `ready` holds; it is asked now, and whenever a reader comes, goes, or takes something, and at the end.
 *
 * @internal
 */
export const awaitReaders = (self: Body, ready: () => boolean): Effect.Effect<void> =>
  untilAny([(self as Wire.Wire).watching ??= new Waiters()], ready)

/**
 * Those who wait for bytes or the end.
 *
 * @internal
 */
export const waitingOf = (self: Body): Waiters => (self as Wire.Wire).waiting ??= new Waiters()

/**
 * Makes whoever waits for bytes look again.
 *
 * @internal
 */
export const wakeUnsafe = (self: Body): void => (self as Wire.Wire).waiting?.notify()

/**
 * Makes whoever waits for readers look again.
 *
 * @internal
 */
export const wakeWatchersUnsafe = (self: Body): void => (self as Wire.Wire).watching?.notify()

// internal

// whoever reads payloads has nothing to take of a frame that grows
const isAtGrowing = (wire: Wire.Wire, { index }: Wire.Spot): boolean => wire.missing > 0 && index >= wire.next - 1

const begin = (wire: Wire.Wire, size: number): void => {
  const header = Integers.size(size)
  if (header <= wire.page.length - wire.filled) {
    Integers.put(wire.page, wire.filled, size)
    wire.filled += header
    Wire.append(wire, wire.page, wire.filled - header, header)
  } else {
    Wire.append(wire, Wire.sizeBytes(size), 0, header)
  }
  wire.next++
  wire.missing = size
}

const addPayload = (payload: Uint8Array, out: Array<Uint8Array>): void => void out.push(payload)

const addFrame = (payload: Uint8Array, out: Array<Frame>): void => void out.push(fromBytes(payload))

const gained = (wire: Wire.Wire, payload: number, frames: number): void => {
  wire.total += payload
  wire.size += payload
  if (wire.growing !== undefined && wire.growing.until <= wire.tip) wire.growing.settle()
  wire.waiting?.notify()
  wire.changed(payload, frames)
}

const cutTo = (wire: Wire.Wire, { begin, frame, payload }: Wire.Border): void => {
  const frames = frame - wire.first
  const bytes = payload + wire.size - wire.total
  wire.first = frame
  wire.begin = begin
  wire.size -= bytes
  Wire.unlinkUntil(wire, begin)
  wire.watching?.notify()
  wire.changed(-bytes, -frames)
}

// whether every place has passed what is before the first frame that begins in a segment, or after it
const hasPassed = (wire: Wire.Wire, { begin, frame }: Wire.Segment): boolean => {
  let isRead = false
  if (frame >= wire.next) return false
  for (let spot = wire.spots; spot !== undefined; spot = spot.after) {
    if (!isPlaced(wire, spot) || isLagging(wire, spot)) continue
    if (spot.position < begin) {
      Wire.bringForward(wire, spot)
      return false
    }
    isRead = true
  }
  return isRead
}

const took = (wire: Wire.Wire): void => {
  wire.taker?.taken()
  wire.watching?.notify()
  wire.took()
}

// where it would begin without the frames that go when so many bytes and frames are too much; one that grows stays
const excess = (wire: Wire.Wire, bytes: number, frames: number): Wire.Border => {
  const walk = Wire.walkFrom(wire, wire.head)
  const payload = walk.payload + bytes
  const frame = wire.first + frames
  while ((walk.payload < payload || walk.frame < frame) && walk.frame < complete(wire)) Wire.step(walk)
  return walk
}

// whether the frame of the place has come; where it is, is found then
const isPlaced = (wire: Wire.Wire, spot: Wire.Spot): boolean => {
  if (spot.position >= 0) return true
  const { index } = spot
  if (index < wire.first || index > complete(wire)) return false
  if (index === wire.next) {
    spot.position = wire.tip
    return true
  }
  let segment = wire.head!
  while (segment.next !== undefined && segment.next.frame <= index) segment = segment.next
  const walk = Wire.walkFrom(wire, segment)
  while (walk.frame < index) Wire.step(walk)
  spot.position = walk.begin
  return true
}

// how much is before a place
const before = (wire: Wire.Wire, spot: Wire.Spot): { readonly frames: number; readonly payload: number } => {
  if (!isPlaced(wire, spot)) return { frames: spot.index, payload: wire.total }
  if (spot.position >= wire.tip) return { frames: complete(wire), payload: wire.total }
  const walk = Wire.walkFrom(wire, Wire.segmentAt(wire, spot))
  // without its size there is only payload of a frame in a segment
  while (walk.begin < spot.position) Wire.step(walk)
  const { frame, payload, size } = walk
  const rest = walk.begin - spot.position
  return rest === 0 ? { frames: frame, payload } : { frames: frame - 1, payload: payload - Math.min(rest, size) }
}
