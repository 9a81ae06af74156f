/**
 * The frames that a WebSocket server sends, in few pieces: each piece that is written costs about as much as a copy of some
 * kilobytes.
 *
 * **Details**
 *
 * Headers and small parts are copied side by side into a slab; large parts go to the socket as they are.
 *
 * @internal
 */
import { Batch, Slabs, small } from "./WebSocketSlabs.ts"

/** The frames of one socket that wait to be written. */
export class Frames {
  private batch = new Batch()
  // what was copied last, and may go on: a part of a slab
  private run: Uint8Array = empty
  private from = 0
  private to = 0

  /** Adds a binary message in one frame, given in parts: shorter than 64 KiB together. */
  add(parts: ReadonlyArray<Uint8Array>, length: number): void {
    const slab = slabs.withRoom(4 + length)
    const { bytes } = slab
    let at = slab.filled
    this.batch.hold(slab)
    if (this.run !== bytes || this.to !== at) this.begin(bytes, at)
    bytes[at++] = 0x82
    if (length < 126) bytes[at++] = length
    else {
      bytes[at++] = 126
      bytes[at++] = length >> 8
      bytes[at++] = length
    }
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!
      if (part.length < small) {
        bytes.set(part, at)
        at += part.length
      } else {
        this.to = at
        this.begin(bytes, at)
        this.batch.chunks.push(part)
      }
    }
    slab.filled = this.to = at
  }

  /** Takes what is to be written. */
  take(): Batch {
    const { batch } = this
    // who has nothing to say keeps no slab that others go on to fill
    this.begin(empty, 0)
    this.batch = new Batch()
    return batch
  }

  private begin(bytes: Uint8Array, at: number): void {
    if (this.to > this.from) this.batch.chunks.push(this.run.subarray(this.from, this.to))
    this.run = bytes
    this.from = this.to = at
  }
}

// internal

const empty = new Uint8Array(0)

const slabs = new Slabs(64 * 1024, 32)
