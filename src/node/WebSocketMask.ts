/**
 * The frames of a WebSocket client: masked, each with four bytes that nobody can foretell (RFC 6455, section 5.3).
 *
 * **Details**
 *
 * The payload is copied once, to a place where its words are aligned, and masked there word by word: a tenth of what it
 * costs byte by byte. That is also what goes to the socket.
 *
 * @internal
 */
import { randomFillSync } from "node:crypto"
import { Batch, Slabs } from "./WebSocketSlabs.ts"

/** The frames of one socket that wait to be written. */
export class Frames {
  private batch = new Batch()

  /** Adds a binary message in one frame, given in parts: shorter than 64 KiB together. */
  add(parts: ReadonlyArray<Uint8Array>, length: number): void {
    const slab = slabs.withRoom(largestHeader + length)
    const { bytes, filled, words } = slab
    const isShort = length < 126
    const size = isShort ? 2 : 4
    // the mask is a word, with the header before it and the payload behind
    const word = filled + size + 3 >> 2
    const start = 4 * word - size
    bytes[start] = 0x82
    bytes[start + 1] = 0x80 | (isShort ? length : 126)
    if (!isShort) {
      bytes[start + 2] = length >> 8
      bytes[start + 3] = length
    }
    let at = 4 * word + 4
    for (let i = 0; i < parts.length; i++) {
      bytes.set(parts[i]!, at)
      at += parts[i]!.length
    }
    mask(words, word, at + 3 >> 2)
    slab.filled = at
    this.batch.hold(slab)
    this.batch.chunks.push(bytes.subarray(start, at))
  }

  /** Takes what is to be written. */
  take(): Batch {
    const { batch } = this
    this.batch = new Batch()
    return batch
  }
}

// internal

const largestHeader = 3 + 8

// the largest frame, and room for some more: the last ones leave at most a quarter of it unused
const slabs = new Slabs(256 * 1024, 4)

// masks in stock: the system is asked for many at once
const masks = new Int32Array(2048)
let used = masks.length

// what lies behind the payload in its last word is nobody's yet
const mask = (target: Int32Array, first: number, end: number): void => {
  if (used === masks.length) {
    randomFillSync(masks)
    used = 0
  }
  const value = masks[used++]!
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
