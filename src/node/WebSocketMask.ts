/**
 * The frames of a WebSocket client: masked, each with four bytes that nobody can foretell (RFC 6455, section 5.3).
 *
 * **Details**
 *
 * The payload is copied once, to a place where its words are aligned, and masked there word by word: a tenth of what it
 * costs byte by byte. That is also what goes to the socket, so nothing is written over: frames are cut from a slab that
 * lives for as long as the socket holds any of them.
 *
 * @internal
 */
import { Buffer } from "node:buffer"
import { randomFillSync } from "node:crypto"

/** A binary message in one frame, given in parts: shorter than 64 KiB together. */
export const frame = (parts: ReadonlyArray<Uint8Array>, length: number): Uint8Array => {
  if (filled + largestHeader + length > slabSize) {
    // not filled with zeros, and never larger than it has to be
    slab = Buffer.allocUnsafeSlow(slabSize)
    words = new Int32Array(slab.buffer, slab.byteOffset, slabSize / 4)
    filled = 0
  }
  const isShort = length < 126
  const size = isShort ? 2 : 4
  // the mask is a word, with the header before it and the payload behind
  const word = filled + size + 3 >> 2
  const start = 4 * word - size
  slab[start] = 0x82
  slab[start + 1] = 0x80 | (isShort ? length : 126)
  if (!isShort) {
    slab[start + 2] = length >> 8
    slab[start + 3] = length
  }
  let at = 4 * word + 4
  for (let i = 0; i < parts.length; i++) {
    slab.set(parts[i]!, at)
    at += parts[i]!.length
  }
  filled = at
  mask(word, at + 3 >> 2)
  return slab.subarray(start, at)
}

// internal

// the largest frame, and room for some more: the last ones leave at most a quarter of it unused
const slabSize = 256 * 1024
const largestHeader = 3 + 8
let slab = Buffer.alloc(0)
let words = new Int32Array(0)
let filled = slabSize

// masks in stock: the system is asked for many at once
const masks = new Int32Array(2048)
let used = masks.length

// what lies behind the payload in its last word is nobody's yet
const mask = (first: number, end: number): void => {
  if (used === masks.length) {
    randomFillSync(masks)
    used = 0
  }
  const value = masks[used++]!
  const target = words
  target[first] = value
  let at = first + 1
  for (; at + 4 <= end; at += 4) {
    target[at]! ^= value
    target[at + 1]! ^= value
    target[at + 2]! ^= value
    target[at + 3]! ^= value
  }
  for (; at < end; at++) target[at]! ^= value
}
