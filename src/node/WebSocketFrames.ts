/**
 * The frames that a WebSocket server sends, in few pieces: each piece that is written costs about as much as a copy of some
 * kilobytes.
 *
 * **Details**
 *
 * Headers and small parts are copied side by side into a slab, which lives for as long as the socket holds any of it; large
 * parts go to the socket as they are.
 *
 * @internal
 */
import { Buffer } from "node:buffer"

/** The frames of one socket that wait to be written. */
export class Frames {
  private readonly chunks: Array<Uint8Array> = []
  // what was copied last, and may go on: a part of a slab
  private run = empty
  private from = 0
  private to = 0

  /** Adds a binary message in one frame, given in parts: shorter than 64 KiB together. */
  add(parts: ReadonlyArray<Uint8Array>, length: number): void {
    if (filled + 4 + length > slabSize) {
      // not filled with zeros
      slab = Buffer.allocUnsafeSlow(slabSize)
      filled = 0
    }
    if (this.run !== slab || this.to !== filled) this.begin()
    slab[filled++] = 0x82
    if (length < 126) slab[filled++] = length
    else {
      slab[filled++] = 126
      slab[filled++] = length >> 8
      slab[filled++] = length
    }
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!
      if (part.length < large) {
        slab.set(part, filled)
        filled += part.length
      } else {
        this.to = filled
        this.begin()
        this.chunks.push(part)
      }
    }
    this.to = filled
  }

  /** Takes what is to be written. */
  take(): Array<Uint8Array> {
    this.begin()
    // who has nothing to say keeps no slab that others go on to fill
    this.run = empty
    return this.chunks.splice(0)
  }

  private begin(): void {
    if (this.to > this.from) this.chunks.push(this.run.subarray(this.from, this.to))
    this.run = slab
    this.from = this.to = filled
  }
}

// internal

// in bytes
const slabSize = 64 * 1024
const large = 4096

const empty = Buffer.alloc(0)

let slab = empty
let filled = slabSize
