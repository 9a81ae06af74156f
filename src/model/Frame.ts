/**
 * Frames: the units of data in a group, each of a size that is known from its start.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Cancelled, type SessionClosed, type WireError, WrongSize } from "../core/MoqError.ts"
import * as Log from "./Log.ts"

/**
 * How reading a frame, or the group around it, can fail: with the code that its publisher or a relay gave, or because
 * the session is over.
 *
 * @category errors
 * @since 0.1.0
 */
export type ReadError = WireError | SessionClosed

/**
 * How writing can fail: {@link Cancelled} when what is written to has ended, {@link SessionClosed} when it is bound to a
 * session that is over.
 *
 * @category errors
 * @since 0.1.0
 */
export type WriteError = Cancelled | SessionClosed

/**
 * A frame to read. It may still be growing: `chunks` gives its bytes as they come, `bytes` all of them once they are
 * there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Frame {
  /** Its size in bytes. */
  readonly size: number
  /** Whether all of its bytes are here. */
  readonly isComplete: boolean
  /** Its bytes, as soon as all of them are here; `undefined` before. */
  readonly payload: Uint8Array | undefined
  /** Its bytes; suspends until all of them are here. The chunks of a growing frame are joined once, for all readers. */
  readonly bytes: Effect.Effect<Uint8Array, ReadError>
  /** Its bytes as they come, in chunks of any size. Each run reads from the beginning. */
  readonly chunks: Stream.Stream<Uint8Array, ReadError>
  /** Takes the chunks in batches: see `effect/Pull`. */
  readonly reader: Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, ReadError>, never, Scope.Scope>
}

/**
 * Writes the bytes of one frame, in chunks. The frame is complete once it has as many bytes as its size.
 *
 * @category models
 * @since 0.1.0
 */
export interface Producer {
  readonly size: number
  /**
   * Appends a chunk, which must not be changed afterwards. Never suspends. Fails with {@link WrongSize} when there would
   * be more bytes than the size, and with {@link WriteError} when the group has ended.
   */
  readonly write: (chunk: Uint8Array) => Effect.Effect<void, WrongSize | WriteError>
  /** The same from a callback: `false` when it could not. */
  readonly writeUnsafe: (chunk: Uint8Array) => boolean
  /** Ends the frame. Fails with {@link WrongSize} when bytes are missing. A complete frame needs no `finish`. */
  readonly finish: Effect.Effect<void, WrongSize | WriteError>
}

/**
 * A frame that is complete from the start.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromBytes = (bytes: Uint8Array): Frame => new Whole(bytes)

/** @internal */
export interface Growing {
  readonly frame: Frame
  /** How many bytes are missing. */
  readonly missing: number
  readonly fail: (error: ReadError) => void
  readonly producer: Producer
}

/**
 * A frame that grows. `onBytes` hears of every chunk.
 *
 * @internal
 */
export const makeGrowing = (size: number, onBytes: (size: number) => void): Growing => new GrowingImpl(size, onBytes)

/** @internal */
export const logOf = (self: Frame): Log.Log<Uint8Array, ReadError> | undefined =>
  self instanceof GrowingImpl ? self.log : undefined

/** @internal */
export const toWriteError = (failure: ReadError | undefined): WriteError =>
  failure !== undefined && (failure._tag === "MoqSessionClosed" || failure._tag === "MoqCancelled")
    ? failure
    : new Cancelled({ detail: failure === undefined ? "it has ended" : `it has failed: ${failure.message}` })

// internal

class Whole implements Frame {
  readonly payload: Uint8Array
  constructor(payload: Uint8Array) {
    this.payload = payload
  }
  get size(): number {
    return this.payload.length
  }
  get isComplete(): boolean {
    return true
  }
  get bytes(): Effect.Effect<Uint8Array> {
    return Effect.succeed(this.payload)
  }
  get chunks(): Stream.Stream<Uint8Array> {
    return this.size === 0 ? Stream.empty : Stream.succeed(this.payload)
  }
  get reader(): Frame["reader"] {
    return Stream.toPull(this.chunks)
  }
}

class GrowingImpl implements Growing, Frame, Producer {
  readonly size: number
  readonly log: Log.Log<Uint8Array, ReadError>
  readonly onBytes: (size: number) => void
  missing: number
  failure: ReadError | undefined
  joined: Uint8Array | undefined
  constructor(size: number, onBytes: (size: number) => void) {
    this.size = size
    this.onBytes = onBytes
    this.missing = size
    this.failure = undefined
    this.joined = undefined
    this.log = Log.makeUnsafe()
    if (size === 0) Log.endUnsafe(this.log, Exit.void)
  }
  get frame(): Frame {
    return this
  }
  get producer(): Producer {
    return this
  }
  fail(error: ReadError): void {
    if (Log.endUnsafe(this.log, Exit.fail(error))) this.failure = error
  }

  // reading

  get isComplete(): boolean {
    return this.missing === 0
  }
  get payload(): Uint8Array | undefined {
    if (this.missing > 0) return undefined
    return this.joined ??= this.join()
  }
  get bytes(): Effect.Effect<Uint8Array, ReadError> {
    return Effect.flatMap(Log.awaitUntil(this.log, () => this.log.end !== undefined), () => {
      const payload = this.payload
      return payload === undefined ? Effect.fail(this.failure!) : Effect.succeed(payload)
    })
  }
  get chunks(): Stream.Stream<Uint8Array, ReadError> {
    return Stream.unwrap(Effect.map(this.reader, (pull) => Stream.fromPull(Effect.succeed(pull))))
  }
  get reader(): Frame["reader"] {
    // in this order: chunks that are there when it is opened stay
    return Effect.flatMap(
      Log.open(this.log),
      (cursor) => cursor.index > 0 ? fromBytes(this.joined!).reader : Effect.succeed(this.pull(cursor))
    )
  }
  // as `Log.pull`, but the cursor stays at the last chunk, which may still be joined with what follows it
  pull(cursor: Log.Cursor): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, ReadError> {
    const { log } = this
    // how much of the chunk at the cursor has been taken
    let taken = 0
    const hasMore = () => cursor.index + 1 < log.next || (Log.getUnsafe(log, cursor.index)?.length ?? 0) > taken
    const wait = Log.awaitUntil(log, () => log.end !== undefined || hasMore())
    return Log.handingOut<NonEmptyReadonlyArray<Uint8Array>, ReadError | Cause.Done>(
      () => {
        if (!hasMore()) return undefined
        const batch: Array<Uint8Array> = []
        while (true) {
          const chunk = Log.getUnsafe(log, cursor.index)!
          if (chunk.length > taken) batch.push(taken === 0 ? chunk : chunk.subarray(taken))
          taken = chunk.length
          if (cursor.index + 1 === log.next) break
          cursor.index++
          taken = 0
        }
        return batch as unknown as NonEmptyReadonlyArray<Uint8Array>
      },
      (again) => log.end === undefined ? Effect.andThen(wait, again) : Log.endOf(log.end)
    )
  }
  join(): Uint8Array {
    if (this.log.next === 1) return Log.getUnsafe(this.log, 0)!
    const out = new Uint8Array(this.size)
    let at = 0
    for (let i = 0; i < this.log.next; i++) {
      const chunk = Log.getUnsafe(this.log, i)!
      out.set(chunk, at)
      at += chunk.length
    }
    // nobody is on its way through the chunks: no need to keep the bytes twice
    if (this.log.readers === 0) Log.trimUnsafe(this.log, this.log.next)
    return out
  }

  // writing

  readonly writeUnsafe = (chunk: Uint8Array): boolean => {
    if (chunk.length > this.missing || this.failure !== undefined) return false
    if (chunk.length === 0) return true
    this.missing -= chunk.length
    const last = this.log.next - 1
    const joined = joinedWith(Log.getUnsafe(this.log, last), chunk)
    if (joined === undefined) Log.appendUnsafe(this.log, chunk)
    else {
      Log.replaceUnsafe(this.log, last, joined)
      Log.wakeUnsafe(this.log)
    }
    if (this.missing === 0) Log.endUnsafe(this.log, Exit.void)
    this.onBytes(chunk.length)
    return true
  }
  readonly write = (chunk: Uint8Array): Effect.Effect<void, WrongSize | WriteError> =>
    Effect.suspend(() => this.writeUnsafe(chunk) ? Effect.void : Effect.fail(this.refusal(chunk.length)))
  get finish(): Effect.Effect<void, WrongSize | WriteError> {
    return Effect.suspend(() => this.missing === 0 ? Effect.void : Effect.fail(this.refusal(0)))
  }
  refusal(length: number): WrongSize | WriteError {
    if (this.failure !== undefined) return toWriteError(this.failure)
    return new WrongSize({
      detail: length > this.missing
        ? `${length} bytes for a frame that lacks ${this.missing} of ${this.size}`
        : `${this.missing} of ${this.size} bytes are missing`
    })
  }
}

// Both as one, where the second begins in memory where the first ends, as small pieces that arrive one by one do: a frame
// that comes byte by byte is not kept as so many chunks.
const joinedWith = (chunk: Uint8Array | undefined, next: Uint8Array): Uint8Array | undefined =>
  chunk !== undefined && chunk.buffer === next.buffer && chunk.byteOffset + chunk.length === next.byteOffset
    ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length + next.length)
    : undefined
