/**
 * How a stream of bytes, such as stdin, becomes frames.
 *
 * @since 0.1.0
 */
import { isArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import { FrameTooLarge, WrongSize } from "../core/MoqError.ts"
import * as Group from "../model/Group.ts"

/**
 * A way to cut a stream of bytes into frames. Fails with {@link FrameTooLarge} above 16 MiB, before it holds more than
 * that, and with {@link WrongSize} when the bytes end inside a frame.
 *
 * @category models
 * @since 0.1.0
 */
export type Framing = <E, R>(
  bytes: Stream.Stream<Uint8Array, E, R>
) => Stream.Stream<Uint8Array, E | FrameTooLarge | WrongSize, R>

/**
 * A frame per line, without its line feed. What follows the last one is a frame as well, unless it is empty.
 *
 * @category framings
 * @since 0.1.0
 */
export const lines: Framing = (bytes) => cut(bytes, () => new Lines())

/**
 * Frames of `size` bytes; the last one may be shorter.
 *
 * @category framings
 * @since 0.1.0
 */
export const chunks = (size: number): Framing => (bytes) => cut(bytes, () => new Chunks(size))

/**
 * Each frame comes after its length, in 4 bytes, the highest first.
 *
 * @category framings
 * @since 0.1.0
 */
export const lengthPrefixed: Framing = (bytes) => cut(bytes, () => new LengthPrefixed())

// internal

type Problem = FrameTooLarge | WrongSize

interface Cutter {
  /** Adds the frames that are complete with this chunk to `out`. */
  push(chunk: Uint8Array, out: Array<Uint8Array>): Problem | undefined
  end(out: Array<Uint8Array>): Problem | undefined
}

const cut = <E, R>(
  bytes: Stream.Stream<Uint8Array, E, R>,
  make: () => Cutter
): Stream.Stream<Uint8Array, E | Problem, R> =>
  Stream.transformPull(bytes, (chunks) =>
    Effect.sync(() => {
      const cutter = make()
      let ended = false
      // what is complete before a problem is still given out
      let problem: Problem | undefined
      const give = (out: Array<Uint8Array>): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, E | Problem> =>
        isArrayNonEmpty(out) ? Effect.succeed(out) : next
      const next: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, E | Problem> = Effect.suspend(() => {
        if (problem !== undefined) return Effect.fail(problem)
        if (ended) return Cause.done()
        const more = Effect.flatMap(chunks, (batch) => {
          const out: Array<Uint8Array> = []
          for (let i = 0; i < batch.length && problem === undefined; i++) problem = cutter.push(batch[i]!, out)
          return give(out)
        })
        return Pull.catchDone(more, () => {
          const out: Array<Uint8Array> = []
          if (!ended) problem = cutter.end(out)
          ended = true
          return give(out)
        })
      })
      return next
    }))

/** Bytes of which more are to come: joined once, when they are complete. */
class Pending {
  parts: Array<Uint8Array> = []
  size = 0
  add(part: Uint8Array): void {
    if (part.length === 0) return
    this.parts.push(part)
    this.size += part.length
  }
  take(): Uint8Array {
    const { parts, size } = this
    this.parts = []
    this.size = 0
    if (parts.length === 1) return parts[0]!
    const out = new Uint8Array(size)
    let at = 0
    for (const part of parts) {
      out.set(part, at)
      at += part.length
    }
    return out
  }
}

const lineFeed = 0x0a

const tooLarge = (size: string): FrameTooLarge =>
  new FrameTooLarge({ detail: `a frame of ${size} bytes in the input; at most ${Group.maxFrameBytes} are allowed` })

class Lines implements Cutter {
  readonly pending = new Pending()
  push(chunk: Uint8Array, out: Array<Uint8Array>): Problem | undefined {
    let from = 0
    for (let at = chunk.indexOf(lineFeed); at >= 0; at = chunk.indexOf(lineFeed, from)) {
      this.pending.add(chunk.subarray(from, at))
      if (this.pending.size > Group.maxFrameBytes) return tooLarge(`${this.pending.size}`)
      out.push(this.pending.take())
      from = at + 1
    }
    this.pending.add(chunk.subarray(from))
    return this.pending.size > Group.maxFrameBytes ? tooLarge(`over ${this.pending.size - 1}`) : undefined
  }
  end(out: Array<Uint8Array>): undefined {
    if (this.pending.size > 0) out.push(this.pending.take())
  }
}

class Chunks implements Cutter {
  readonly pending = new Pending()
  readonly size: number
  constructor(size: number) {
    this.size = size
  }
  push(chunk: Uint8Array, out: Array<Uint8Array>): undefined {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + this.size - this.pending.size)
      this.pending.add(part)
      at += part.length
      if (this.pending.size === this.size) out.push(this.pending.take())
    }
  }
  end(out: Array<Uint8Array>): undefined {
    if (this.pending.size > 0) out.push(this.pending.take())
  }
}

class LengthPrefixed implements Cutter {
  readonly pending = new Pending()
  // of the payload that is being read; `undefined` while its length is
  length: number | undefined
  push(chunk: Uint8Array, out: Array<Uint8Array>): Problem | undefined {
    for (let at = 0;;) {
      const wanted = this.length ?? 4
      const part = chunk.subarray(at, at + wanted - this.pending.size)
      this.pending.add(part)
      at += part.length
      if (this.pending.size < wanted) return undefined
      const bytes = this.pending.take()
      if (this.length !== undefined) {
        out.push(bytes)
        this.length = undefined
        continue
      }
      this.length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
      if (this.length > Group.maxFrameBytes) return tooLarge(`${this.length}`)
    }
  }
  end(): Problem | undefined {
    if (this.length === undefined && this.pending.size === 0) return undefined
    const missing = (this.length ?? 4) - this.pending.size
    return new WrongSize({
      detail: `the input ended ${missing} bytes before the end of ${this.length === undefined ? "a length" : "a frame"}`
    })
  }
}
