/**
 * Frames: the units of data in a group, each of a size that is known from its start.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { Cancelled, type SessionClosed, type WireError, type WrongSize } from "../core/MoqError.ts"
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
  get chunks(): Frame["chunks"] {
    return Log.toStream(this.reader)
  }
  get reader(): Frame["reader"] {
    return Effect.sync(() => {
      let left: NonEmptyReadonlyArray<Uint8Array> | undefined = this.size === 0 ? undefined : [this.payload]
      return Log.handingOut<NonEmptyReadonlyArray<Uint8Array>, Cause.Done>(() => {
        const chunks = left
        left = undefined
        return chunks
      }, () => Cause.done())
    })
  }
}
