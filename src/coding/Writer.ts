/**
 * Writes fields as bytes.
 *
 * **Details**
 *
 * A `Writer` hands out views of memory that is never rewritten, so a transport may keep them for as long as it likes,
 * and nothing needs a defensive copy. The views of many small messages share one slab, which lives as long as the last
 * of them.
 *
 * Writing is synchronous and never suspends, so one writer serves a whole program. A value that has no bytes throws
 * {@link BoundsExceeded}; {@link encode} takes back what was written before that.
 *
 * @since 0.1.0
 */
import * as Integers from "../core/Integers.ts"
import { BoundsExceeded } from "../core/MoqError.ts"
import * as Varint from "./Varint.ts"

/**
 * A growing run of bytes, to be taken with `finish`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Writer {
  /** The number of bytes that wait to be taken. */
  readonly length: number
  /** Writes one byte. Throws `BoundsExceeded` unless it is an integer in 0..255. */
  u8(value: number): void
  /** Writes a number in its shortest form. Throws `BoundsExceeded` unless it is an integer in 0..2^53-1. */
  varint(value: number): void
  /** Writes bytes as they are. */
  bytes(value: Uint8Array): void
  /** Writes a length, then that many bytes. */
  blob(value: Uint8Array): void
  /** Writes a length in bytes, then text as UTF-8. Throws `BoundsExceeded` when the text is not well formed. */
  string(value: string): void
  /** Takes what was written since the last time. Those bytes never change afterwards. */
  finish(): Uint8Array
  /** Drops what was written since then, back to the given `length` (0 by default). */
  rewind(length?: number): void
}

/**
 * The bytes of a slab, unless `make` is told otherwise: 16 KiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const slabSize: number = 16 * 1024

/**
 * Makes an empty writer. It takes no memory before the first byte is written.
 *
 * **Details**
 *
 * `slabSize` is how many bytes are allocated at a time; a longer message gets a slab of its own.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: { readonly slabSize?: number | undefined }): Writer =>
  new WriterImpl(Math.max(1, options?.slabSize ?? slabSize))

/**
 * The bytes that `write` writes. When it throws, nothing of it is left in the writer, and the error goes on.
 *
 * **Details**
 *
 * What waited in the writer before stays there, in front: it is part of the result.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = <A, P>(
  self: Writer,
  write: (writer: Writer, value: A, argument: P) => void,
  value: A,
  argument: P
): Uint8Array => {
  const before = self.length
  try {
    write(self, value, argument)
  } catch (error) {
    self.rewind(before)
    throw error
  }
  return self.finish()
}

// internal

const empty = new Uint8Array(0)

const encoder = new TextEncoder()

// below this length a loop over ASCII is faster than a call into the encoder
const shortText = 48

class WriterImpl implements Writer {
  readonly slabSize: number
  slab: Uint8Array
  // bytes before `start` have been handed out and are never touched again
  start: number
  at: number

  constructor(slabSize: number) {
    this.slabSize = slabSize
    this.slab = empty
    this.start = 0
    this.at = 0
  }

  get length(): number {
    return this.at - this.start
  }

  u8(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > 0xff) throw outOfBounds("a byte", value)
    this.reserve(1)
    this.slab[this.at++] = value
  }

  varint(value: number): void {
    // most are one byte, and there is room for it
    if ((value & 0x3f) === value && this.at < this.slab.length) {
      this.slab[this.at++] = value
      return
    }
    if (!Varint.isEncodable(value)) throw outOfBounds("a varint", value)
    this.reserve(Varint.maxSize)
    this.at = Integers.put(this.slab, this.at, value)
  }

  bytes(value: Uint8Array): void {
    this.reserve(value.length)
    this.slab.set(value, this.at)
    this.at += value.length
  }

  blob(value: Uint8Array): void {
    this.varint(value.length)
    this.bytes(value)
  }

  string(value: string): void {
    if (value.length < shortText && this.ascii(value)) return
    if (!value.isWellFormed()) throw new BoundsExceeded({ detail: "a string that is not well formed has no UTF-8" })
    this.blob(encoder.encode(value))
  }

  finish(): Uint8Array {
    if (this.at === this.start) return empty
    const taken = this.slab.subarray(this.start, this.at)
    this.start = this.at
    return taken
  }

  rewind(length: number = 0): void {
    this.at = Math.min(this.at, this.start + Math.max(0, length))
  }

  // writes a short text when it is ASCII; else leaves no trace but scratch beyond `at`
  private ascii(value: string): boolean {
    const length = value.length
    this.reserve(1 + length)
    const slab = this.slab
    const at = this.at + 1
    for (let i = 0; i < length; i++) {
      const unit = value.charCodeAt(i)
      if (unit > 0x7f) return false
      slab[at + i] = unit
    }
    slab[at - 1] = length
    this.at = at + length
    return true
  }

  // what is not handed out yet moves to a new slab; what is stays behind, in views that keep the old one alive
  private reserve(count: number): void {
    if (this.at + count <= this.slab.length) return
    const waiting = this.at - this.start
    const slab = new Uint8Array(Math.max(this.slabSize, waiting + count, waiting * 2))
    if (waiting > 0) slab.set(this.slab.subarray(this.start, this.at))
    this.slab = slab
    this.start = 0
    this.at = waiting
  }
}

const outOfBounds = (what: string, value: number): BoundsExceeded =>
  new BoundsExceeded({ detail: `${value} does not fit ${what}` })
