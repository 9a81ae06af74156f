/**
 * The two halves of a stream over the web streams of an object.
 *
 * @internal
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scheduler from "effect/Scheduler"
import { type SessionClosed, StreamReset } from "../core/MoqError.ts"
import { Condition } from "../core/Waiters.ts"
import type * as Transport from "./Transport.ts"

/** What the halves need of their connection. */
export interface Owner {
  readonly halves: Set<Sending | Receiving>
  readonly streamError: (code: number) => unknown
  readonly codeOf: (error: unknown) => number | undefined
  readonly chunkSize: number
  readonly lose: (error: unknown) => void
}

export type Dispatcher = Scheduler.SchedulerDispatcher | undefined

type End = Exit.Exit<never, StreamReset | SessionClosed>

// a pull hands out no more than this at once, of what lies ready in the object's own queue
const batchChunks = 64
const batchBytes = 256 * 1024

export const noop = (): void => {}

const done: Exit.Exit<never, Cause.Done> = Exit.fail(Cause.Done())

const resetWith = (code: number): Exit.Exit<never, StreamReset> => Exit.fail(new StreamReset({ code }))

export const field = (u: unknown, key: string): unknown =>
  typeof u === "object" && u !== null ? (u as Record<string, unknown>)[key] : undefined

export const codeOf = (error: unknown): number | undefined => {
  const code = field(error, "streamErrorCode")
  return typeof code === "number" ? code : undefined
}

// calls that a well-behaved object answers by a rejected promise, and others by throwing
export const attempt = <A>(call: () => PromiseLike<A>): PromiseLike<A> => {
  try {
    return call()
  } catch (error) {
    return Promise.reject(error)
  }
}

export const ignore = (call: () => PromiseLike<unknown>): void => void attempt(call).then(noop, noop)

export class Sending implements Transport.SendStream {
  private readonly connection: Owner
  private readonly writable: WritableStream<Uint8Array>
  private readonly writer: WritableStreamDefaultWriter<Uint8Array>
  private end: End | undefined
  private finishing = false
  private finished = false
  private awaitingReady = false
  private stopCode: number | undefined
  private readonly progress = new Condition(() => this.end !== undefined || !(this.awaitingReady || this.finishing))
  // few ever ask for it
  private stopping: Condition | undefined

  constructor(connection: Owner, writable: WritableStream<Uint8Array>) {
    this.connection = connection
    this.writable = writable
    this.writer = writable.getWriter()
    this.writer.closed.then(noop, this.onError)
    connection.halves.add(this)
  }

  readonly write = (chunks: NonEmptyReadonlyArray<Uint8Array>): Effect.Effect<void, StreamReset | SessionClosed> =>
    Effect.suspend(() => this.writePieces(new Pieces(chunks, this.connection.chunkSize), false))

  // once `ready` has resolved a piece goes out whatever `desiredSize` says, so that an odd object cannot make it spin
  private writePieces(pieces: Pieces, admitted: boolean): Effect.Effect<void, StreamReset | SessionClosed> {
    while (pieces.remaining > 0) {
      if (this.end !== undefined) return this.end
      if (this.finishing) return resetWith(0)
      if (!admitted && (this.writer.desiredSize ?? 0) <= 0) {
        this.awaitReady()
        return Effect.flatMap(this.progress.wait, () => this.writePieces(pieces, true))
      }
      admitted = false
      this.put(pieces.next())
    }
    return this.end ?? Effect.void
  }

  // what becomes of a single write shows in `ready` and `closed` of the writer
  private put(piece: Uint8Array): void {
    try {
      this.writer.write(piece).then(undefined, noop)
    } catch (error) {
      this.onError(error)
    }
  }

  private awaitReady(): void {
    if (this.awaitingReady) return
    this.awaitingReady = true
    this.writer.ready.then(() => {
      this.awaitingReady = false
      this.progress.wake()
    }, this.onError)
  }

  readonly finish: Effect.Effect<void, StreamReset | SessionClosed> = Effect.suspend(() => {
    if (this.finished) return Effect.void
    if (this.end !== undefined) return this.end
    if (!this.finishing) {
      this.finishing = true
      attempt(() => this.writer.close()).then(() => {
        if (this.end !== undefined) return
        this.finished = true
        this.settle(resetWith(0), undefined)
      }, this.onError)
    }
    return Effect.flatMap(this.progress.wait, () => this.finish)
  })

  readonly reset = (code: number): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      if (this.end !== undefined) return Effect.void
      this.settle(resetWith(code), fiber.currentDispatcher)
      // it may wait for a write in flight; nobody waits for it
      ignore(() => this.writer.abort(this.connection.streamError(code)))
      return Effect.void
    })

  readonly setPriority = (priority: number): Effect.Effect<void> =>
    Effect.sync(() => {
      if ("sendOrder" in this.writable) this.writable.sendOrder = priority
    })

  readonly stopped: Effect.Effect<number> = Effect.suspend(() => {
    if (this.stopCode !== undefined) return Effect.succeed(this.stopCode)
    this.stopping ??= new Condition(() => this.stopCode !== undefined)
    return Effect.flatMap(this.stopping.wait, () => this.stopped)
  })

  cut(end: End, dispatcher: Dispatcher): void {
    if (this.end === undefined) this.settle(end, dispatcher)
  }

  private settle(end: End, dispatcher: Dispatcher): void {
    this.end = end
    this.connection.halves.delete(this)
    this.progress.wake(dispatcher)
  }

  private readonly onError = (error: unknown): void => {
    if (this.end !== undefined) return
    const code = this.connection.codeOf(error)
    if (code === undefined) return explain(this.connection, this, error)
    this.stopCode = code
    this.stopping?.wake()
    this.settle(resetWith(code), undefined)
  }
}

export class Receiving implements Transport.ReceiveStream {
  private readonly connection: Owner
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>
  private chunks: Array<Uint8Array> = []
  private bytes = 0
  // taken from `chunks`, not yet handed out: an interruption in between leaves it to the next pull
  private claimed: NonEmptyReadonlyArray<Uint8Array> | undefined
  private reading = false
  private seen = 0
  private gathering = false
  private end: End | typeof done | undefined
  private readonly readable = new Condition(() => this.chunks.length > 0 || this.end !== undefined)

  constructor(connection: Owner, readable: ReadableStream<Uint8Array>) {
    this.connection = connection
    this.reader = readable.getReader()
    this.reader.closed.then(noop, noop)
    connection.halves.add(this)
  }

  private readonly take = Effect.sync(() => {
    const claimed = this.claimed!
    this.claimed = undefined
    return claimed
  })

  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> = Effect.suspend(() => {
    if (this.claimed !== undefined) return this.take
    if (this.chunks.length > 0) {
      this.claimed = this.chunks as unknown as NonEmptyReadonlyArray<Uint8Array>
      this.chunks = []
      this.bytes = 0
      return this.take
    }
    if (this.end !== undefined) return this.end
    this.read()
    return Effect.flatMap(this.readable.wait, () => this.pull)
  })

  readonly stop = (code: number): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      if (this.end !== undefined && this.chunks.length === 0) return Effect.void
      this.cut(resetWith(code), fiber.currentDispatcher)
      ignore(() => this.reader.cancel(this.connection.streamError(code)))
      return Effect.void
    })

  cut(end: End, dispatcher: Dispatcher): void {
    if (this.end !== undefined && this.chunks.length === 0) return
    this.chunks = []
    this.bytes = 0
    this.settle(end, dispatcher)
  }

  private settle(end: End | typeof done, dispatcher: Dispatcher): void {
    this.end = end
    this.connection.halves.delete(this)
    this.readable.wake(dispatcher)
  }

  private read(): void {
    if (this.reading) return
    this.reading = true
    attempt(() => this.reader.read()).then(this.onRead, this.onError)
  }

  private readonly onRead = (result: ReadableStreamReadResult<Uint8Array>): void => {
    this.reading = false
    if (this.end !== undefined) return
    if (result.done) return this.settle(done, undefined)
    if (result.value.length > 0) {
      this.chunks.push(result.value)
      this.bytes += result.value.length
    }
    // with nobody waiting any more, this chunk is the last one read before the next pull
    if (this.readable.size === 0) return
    if (this.mayGather) this.read()
    if (this.gathering) return
    this.gathering = true
    this.seen = this.chunks.length
    queueMicrotask(this.deliver)
  }

  // what lies ready in the object's queue comes with the next microtask, so the waiting fiber is woken one later
  private readonly deliver = (): void => {
    if (this.chunks.length > this.seen && this.mayGather) {
      this.seen = this.chunks.length
      return queueMicrotask(this.deliver)
    }
    this.gathering = false
    this.readable.wake()
  }

  private get mayGather(): boolean {
    return this.chunks.length < batchChunks && this.bytes < batchBytes
  }

  private readonly onError = (error: unknown): void => {
    if (this.end !== undefined) return
    const code = this.connection.codeOf(error)
    if (code === undefined) return explain(this.connection, this, error)
    this.cut(resetWith(code), undefined)
  }
}

// An error without a code is the end of the connection, which tells its own story in a moment, or of a stream that
// somebody ended without one.
const explain = (connection: Owner, half: Sending | Receiving, error: unknown): void => {
  if (field(error, "source") === "session") return connection.lose(error)
  setTimeout(() => half.cut(resetWith(0), undefined), 0)
}

/**
 * Cuts what is to be written into pieces of at most `size` bytes: views where a chunk is large or alone, and fresh
 * buffers where chunks are small, so that a header travels with what follows it.
 */
class Pieces {
  remaining = 0
  private readonly chunks: NonEmptyReadonlyArray<Uint8Array>
  private readonly size: number
  private index = 0
  private offset = 0

  constructor(chunks: NonEmptyReadonlyArray<Uint8Array>, size: number) {
    this.chunks = chunks
    this.size = size
    for (let i = 0; i < chunks.length; i++) this.remaining += chunks[i]!.length
  }

  next(): Uint8Array {
    while (this.offset === this.chunks[this.index]!.length) this.skip()
    const left = this.chunks[this.index]!.length - this.offset
    if (left >= this.size || left === this.remaining) return this.view(Math.min(left, this.size))
    const joined = new Uint8Array(Math.min(this.size, this.remaining))
    for (let filled = 0; filled < joined.length;) {
      const chunk = this.chunks[this.index]!
      const part = this.view(Math.min(chunk.length - this.offset, joined.length - filled))
      joined.set(part, filled)
      filled += part.length
      if (this.offset === chunk.length) this.skip()
    }
    return joined
  }

  private view(length: number): Uint8Array {
    const chunk = this.chunks[this.index]!
    const start = this.offset
    this.offset += length
    this.remaining -= length
    return length === chunk.length ? chunk : chunk.subarray(start, this.offset)
  }

  private skip(): void {
    this.index++
    this.offset = 0
  }
}
