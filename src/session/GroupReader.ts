/**
 * Turns the bytes of a group's stream, after its header, into the frames of a group.
 *
 * @since 0.1.0
 */
import * as Reader from "../coding/Reader.ts"
import { DecodeError } from "../core/MoqError.ts"
import * as FrameMessage from "../message/Frame.ts"
import type * as Frame from "../model/Frame.ts"
import type * as Group from "../model/Group.ts"

/**
 * Feeds a group from its stream. Payloads are views of the chunks that arrived: nothing is copied.
 *
 * @internal
 */
export class GroupReader {
  readonly reader: Reader.Reader
  readonly group: Group.Producer
  // the frame that is begun, and how many bytes it lacks
  frame: Frame.Producer | undefined
  missing: number
  constructor(reader: Reader.Reader, group: Group.Producer) {
    this.reader = reader
    this.group = group
    this.frame = undefined
    this.missing = 0
  }

  /** Takes what the reader has; `false` when the group takes no more. Throws the errors of the codec. */
  feed(): boolean {
    while (true) {
      if (this.frame !== undefined) {
        const chunk = this.reader.take(this.missing)
        if (chunk === undefined) return true
        if (!this.grow(this.frame, chunk)) return false
      } else {
        const size = FrameMessage.decodeHeader(this.reader)
        if (size === Reader.NeedMore) return true
        if (!this.begin(size)) return false
      }
    }
  }

  /** What is wrong when the stream ends here; that a frame is not complete the group says itself. */
  atEnd(): DecodeError | undefined {
    return this.frame === undefined && this.reader.available > 0
      ? new DecodeError({ detail: "the stream ended inside a frame's size" })
      : undefined
  }

  private begin(size: number): boolean {
    const chunk = size === 0 ? empty : this.reader.take(size)
    if (chunk !== undefined && chunk.length === size) return this.group.writeFrameUnsafe(chunk)
    const frame = this.group.createFrameUnsafe(size)
    if (frame === undefined) return false
    this.frame = frame
    this.missing = size
    return chunk === undefined || this.grow(frame, chunk)
  }

  private grow(frame: Frame.Producer, chunk: Uint8Array): boolean {
    if (!frame.writeUnsafe(chunk)) return false
    this.missing -= chunk.length
    if (this.missing === 0) this.frame = undefined
    return true
  }
}

// internal

const empty = new Uint8Array(0)
