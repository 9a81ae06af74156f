/**
 * Reads fields from bytes that arrive in pieces.
 *
 * **Details**
 *
 * Needing more bytes is a result, neither an error nor a wait: {@link decode} runs a straight-line function of field
 * reads, and when the bytes end before it does, goes back to where it began and returns {@link NeedMore}. Push what
 * comes next and ask again. Behind it is a sticky state: the first read that lacks bytes, and every one after it,
 * returns a neutral value (0, nothing), so that decoders need no check between fields; they only must not throw for
 * neutral values.
 *
 * Asking again costs what is new. Until the bytes are there that the last attempt was known to need, {@link decode}
 * answers at once, and the items of a `list` that were complete are not read a second time: feeding byte by byte is
 * linear.
 *
 * Bytes that are wrong throw {@link DecodeError}, a length beyond a limit {@link BoundsExceeded}, before anything is
 * allocated or waited for. A reader that has thrown is of no more use. Nothing is copied, except a message that was cut,
 * and pieces that are a small part of a larger buffer, so that what is read costs memory in proportion, however a peer
 * cuts. What is returned are views, so nobody may change a piece once it is pushed.
 *
 * @since 0.1.0
 */
import * as Integers from "../core/Integers.ts"
import { BoundsExceeded, DecodeError } from "../core/MoqError.ts"

/**
 * What {@link decode} returns when the bytes that are there end before the message does.
 *
 * @category constants
 * @since 0.1.0
 */
export const NeedMore: unique symbol = Symbol("effect-moq/coding/Reader/NeedMore")

/**
 * The type of {@link NeedMore}.
 *
 * @category models
 * @since 0.1.0
 */
export type NeedMore = typeof NeedMore

/**
 * Bytes to read from, in order of arrival.
 *
 * **Details**
 *
 * The field reads (`u8` to `list`) belong inside {@link decode}; `push` and `take` outside.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reader {
  /** The bytes that are there and not read yet. */
  readonly available: number
  /** The bytes that must be `available` before the message that was cut off is worth another attempt; 0 if none was. */
  readonly needed: number
  /** Appends bytes. */
  push(chunk: Uint8Array): void
  /** Takes up to `max` bytes of what is there, as a view and never a copy; `undefined` when nothing is. */
  take(max: number): Uint8Array | undefined
  /** Reads one byte. */
  u8(): number
  /** Reads a number. Throws `BoundsExceeded` above 2^53-1. */
  varint(): number
  /** Reads a number of items or bytes. Throws `BoundsExceeded` above `limit`. */
  count(limit: number): number
  /** Reads `length` bytes: a view, unless they straddle pieces. */
  bytes(length: number): Uint8Array
  /** Reads a length of at most `limit`, then that many bytes. */
  blob(limit: number): Uint8Array
  /** Reads a length in bytes, then UTF-8. Throws `DecodeError` when it is none. */
  string(): string
  /**
   * Reads `count` items; check `count` against a limit first. With a `budget`, throws `BoundsExceeded` once the strings
   * and blobs of all items are longer than that together. `read` reads from the reader alone. Lists do not nest.
   */
  list<A>(count: number, read: (reader: Reader) => A, budget?: number): Array<A>
}

/**
 * The largest message, in bytes, unless {@link decode} is told otherwise: 64 KiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxMessage: number = 64 * 1024

/**
 * Makes an empty reader.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (): Reader => new ReaderImpl()

/**
 * Makes a reader of bytes that are all there.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromBytes = (bytes: Uint8Array): Reader => {
  const reader = new ReaderImpl()
  reader.add(bytes)
  return reader
}

/**
 * Reads one message: what `read` returns, or {@link NeedMore}, in which case nothing has been read.
 *
 * **Details**
 *
 * After {@link NeedMore}, push more bytes and ask for the same message again. `argument` is passed on, so that `read`
 * can be a constant. Throws whatever `read` throws, and `BoundsExceeded` for a message of more than `limit` bytes
 * ({@link maxMessage} by default).
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = <A, P>(
  self: Reader,
  read: (reader: Reader, argument: P) => A,
  argument: P,
  limit: number = maxMessage
): A | NeedMore => {
  const reader = self as ReaderImpl
  if (reader.available < reader.needed) return NeedMore
  reader.start = reader.available
  reader.floor = reader.available - limit
  reader.lists = 0
  const message = read(reader, argument)
  if (reader.short) return reader.goBack()
  reader.done()
  return message
}

// internal

// where a list stands: its items so far, and the bytes of the message up to the place after them
interface Mark {
  readonly items: Array<unknown>
  taken: number
  budget: number
}

const empty = new Uint8Array(0)

// `ignoreBOM` keeps a leading U+FEFF, which is a character of a path like any other
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

// below this length a loop over ASCII is faster than a call into the decoder
const shortText = 24

// a piece that is less than this part of its buffer is copied
const wasteful = 8

class ReaderImpl implements Reader {
  available: number
  needed: number
  // the piece that is read from, the place in it, and the pieces after it, of which there are none after a message that was
  // cut: those of `turned`, the next one at its end, then those of `chunks`
  private current: Uint8Array
  private offset: number
  private readonly chunks: Array<Uint8Array>
  private turned: Array<Uint8Array>
  // where in the piece the message begins
  private begun: number
  // what the piece is the beginning of, where it was joined
  private page: Uint8Array
  // the state of the attempt that runs: what was available at its start, what `available` may fall to within the limit,
  // whether it has run out of bytes, how much the strings and blobs of a list may still have, and how many lists there
  // were
  start: number
  floor: number
  short: boolean
  private budget: number
  lists: number
  private readonly marks: Array<Mark>

  constructor() {
    this.available = 0
    this.needed = 0
    this.current = empty
    this.offset = 0
    this.chunks = []
    this.turned = []
    this.begun = 0
    this.page = empty
    this.start = 0
    this.floor = 0
    this.short = false
    this.budget = Infinity
    this.lists = 0
    this.marks = []
  }

  push(chunk: Uint8Array): void {
    this.add(chunk.length * wasteful < chunk.buffer.byteLength ? chunk.slice() : chunk)
  }

  add(piece: Uint8Array): void {
    if (this.available === 0) this.turnTo(piece)
    // the rest of a message that was cut
    else if (this.needed > 0) this.join(piece)
    else this.chunks.push(piece)
    this.available += piece.length
  }

  take(max: number): Uint8Array | undefined {
    if (this.available === 0 || max <= 0) return undefined
    const { current, offset } = this
    const taken = offset === 0 && max >= current.length ? current : current.subarray(offset, offset + max)
    this.skip(taken.length)
    this.done()
    return taken
  }

  // to where the attempt began
  goBack(): NeedMore {
    this.short = false
    this.seek(0)
    return NeedMore
  }

  u8(): number {
    if (!this.has(1)) return 0
    this.available -= 1
    return this.current[this.offset++]!
  }

  varint(): number {
    const first = this.current[this.offset]
    if (first === undefined) return this.has(1) ? this.varint() : 0
    // most are a byte: whoever joins has nothing compiled yet, where each call counts
    if (first < 0x40 && this.available > this.floor && !this.short) {
      this.offset++
      this.available--
      return first
    }
    const size = 1 << (first >> 6)
    if (!this.has(size)) return 0
    const value = Integers.valueAt(this.current, this.offset)
    if (value > Number.MAX_SAFE_INTEGER) throw new BoundsExceeded({ detail: "a number is larger than 2^53-1" })
    this.skip(size)
    return value
  }

  count(limit: number): number {
    const count = this.varint()
    if (count > limit) throw new BoundsExceeded({ detail: `${count} where at most ${limit} are allowed` })
    return count
  }

  bytes(length: number): Uint8Array {
    if (!this.has(length) || length === 0) return empty
    const { current, offset } = this
    this.skip(length)
    return current.subarray(offset, offset + length)
  }

  blob(limit: number): Uint8Array {
    return this.bytes(this.spend(this.count(limit)))
  }

  string(): string {
    const length = this.spend(this.varint())
    const text = length < shortText && this.has(length) ? this.ascii(length) : undefined
    if (text !== undefined) return text
    const bytes = this.bytes(length)
    try {
      return decoder.decode(bytes)
    } catch {
      throw new DecodeError({ detail: "a string is not UTF-8" })
    }
  }

  list<A>(count: number, read: (reader: Reader) => A, budget: number = Infinity): Array<A> {
    if (this.short) return []
    let mark = this.marks[this.lists++]
    if (mark === undefined) this.marks.push(mark = { items: [], taken: this.start - this.available, budget })
    else this.seek(mark.taken)
    const items = mark.items as Array<A>
    this.budget = mark.budget
    while (items.length < count) {
      const item = read(this)
      if (this.short) break
      items.push(item)
      mark.taken = this.start - this.available
      mark.budget = this.budget
    }
    this.budget = Infinity
    return items
  }

  // Asks for `length` bytes: true when they are there, in one piece, else the attempt is over; throws when they are
  // beyond the limit.
  private has(length: number): boolean {
    if (this.short) return false
    if (length > this.available - this.floor) {
      throw new BoundsExceeded({ detail: `a message is longer than ${this.start - this.floor} bytes` })
    }
    if (length > this.available) {
      this.short = true
      this.needed = this.start - this.available + length
    }
    for (let piece; length > this.current.length - this.offset && (piece = this.next());) this.join(piece)
    return !this.short
  }

  private spend(length: number): number {
    if (length > this.budget) throw new BoundsExceeded({ detail: "strings or bytes are longer together than allowed" })
    this.budget -= length
    return length
  }

  // reads a short text when it is ASCII; else reads nothing
  private ascii(length: number): string | undefined {
    const { current, offset } = this
    let text = ""
    for (let i = offset; i < offset + length; i++) {
      const byte = current[i]!
      if (byte > 0x7f) return undefined
      text += String.fromCharCode(byte)
    }
    this.skip(length)
    return text
  }

  private skip(length: number): void {
    this.offset += length
    this.available -= length
  }

  // goes to a place in the message that is read
  private seek(taken: number): void {
    this.offset = this.begun + taken
    this.available = this.start - taken
  }

  // Makes a piece part of the current one. A page has room for as much again: however often that happens to a message, it
  // costs no more than twice its length.
  private join(piece: Uint8Array): void {
    const { length } = piece
    let filled = this.current.length
    if (length > this.page.length - filled) {
      const unread = this.current.subarray(this.begun)
      filled = unread.length
      this.page = new Uint8Array(2 * (filled + length))
      this.page.set(unread)
      this.offset -= this.begun
      this.begun = 0
    }
    this.page.set(piece, filled)
    this.current = this.page.subarray(0, filled + length)
  }

  // forgets what was read, and the last attempt; only between messages, for an attempt may go back
  done(): void {
    this.needed = 0
    if (this.marks.length > 0) this.marks.length = 0
    if (this.offset === this.current.length) this.turnTo((this.available > 0 && this.next()) || empty)
    this.begun = this.offset
  }

  private next(): Uint8Array | undefined {
    if (this.turned.length === 0 && this.chunks.length > 0) this.turned = this.chunks.splice(0).reverse()
    return this.turned.pop()
  }

  private turnTo(piece: Uint8Array): void {
    this.current = piece
    this.page = empty
    this.offset = 0
    this.begun = 0
  }
}
