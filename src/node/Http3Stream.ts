/**
 * The two halves of a stream of native HTTP/3.
 *
 * **Details**
 *
 * The binding answers each call in a turn of its own, and keeps no order between calls that are under way: there is one
 * write, and one read, at a time. Its objects are let go of as soon as a half has ended, because its socket stays open
 * until they are collected.
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
import type * as Transport from "../transport/Transport.ts"
import type * as Http3Binding from "./Http3Binding.ts"

/** What the halves need of their connection. */
export interface Owner {
  readonly halves: Set<Sending | Receiving>
  readonly lose: (error: unknown) => void
}

export type Dispatcher = Scheduler.SchedulerDispatcher | undefined

type End = Exit.Exit<never, StreamReset | SessionClosed>

// The most bytes in one call. A reset waits for the write that is under way, so it must not be large; a read gives what
// one packet brought, whatever it asks for.
const writeSize = 16 * 1024
const readSize = 64 * 1024

// what may wait behind the write that is under way, and is then joined into one
const writeAhead = 16 * 1024

// what is read while nobody pulls, so that the next packets are on their way while a fiber looks at the last
const readAhead = 64 * 1024

export const noop = (): void => {}

const done: Exit.Exit<never, Cause.Done> = Exit.fail(Cause.Done())

const resetWith = (code: number): Exit.Exit<never, StreamReset> => Exit.fail(new StreamReset({ code }))

/** What an error of the binding says. */
export const textOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

/** The code in the text of an error, if it is about this stream alone. */
const codeIn = (error: unknown, frame: "RESET_STREAM" | "STOP_SENDING"): number | undefined => {
  const text = textOf(error)
  if (text.startsWith(`${frame}: `)) return Number(text.slice(frame.length + 2))
  // a code that no WebTransport peer has sent, and a stream that has been ended without one
  return text.startsWith(`invalid ${frame}`) || text.startsWith("stream ") ? 0 : undefined
}

export class Sending implements Transport.SendStream {
  private readonly owner: Owner
  private native: Http3Binding.SendStream | undefined
  private end: End | undefined
  private readonly waiting = new Pieces()
  private busy = false
  private finishing = false
  private finished = false
  private priority = 0
  private ranking = false
  private stopCode: number | undefined
  private readonly progress = new Condition(() => this.mayGoOn)
  // few ever ask for it
  private stopping: Condition | undefined

  constructor(owner: Owner, native: Http3Binding.SendStream) {
    this.owner = owner
    this.native = native
    owner.halves.add(this)
  }

  readonly write = (chunks: NonEmptyReadonlyArray<Uint8Array>): Effect.Effect<void, StreamReset | SessionClosed> =>
    Effect.suspend(() => {
      if (this.end !== undefined) return this.end
      if (this.finishing) return resetWith(0)
      this.waiting.add(chunks)
      this.pump()
      return this.taken
    })

  private readonly taken: Effect.Effect<void, StreamReset | SessionClosed> = Effect.suspend(() => {
    if (this.end !== undefined) return this.end
    return this.mayGoOn ? Effect.void : Effect.flatMap(this.progress.wait, () => this.taken)
  })

  readonly finish: Effect.Effect<void, StreamReset | SessionClosed> = Effect.suspend(() => {
    if (this.finished) return Effect.void
    if (this.end !== undefined) return this.end
    this.finishing = true
    this.pump()
    return Effect.flatMap(this.progress.wait, () => this.finish)
  })

  private get mayGoOn(): boolean {
    return this.end !== undefined || (!this.finishing && this.waiting.size <= writeAhead)
  }

  private pump(): void {
    const { native } = this
    if (this.busy || native === undefined) return
    if (this.waiting.size > 0) {
      this.busy = true
      native.write(this.waiting.next(writeSize)).then(this.onWritten, this.onError)
    } else if (this.finishing) {
      this.busy = true
      native.finish().then(this.onFinished, this.onError)
    }
  }

  private readonly onWritten = (): void => {
    this.busy = false
    this.pump()
    this.progress.wake()
  }

  private readonly onFinished = (): void => {
    if (this.end !== undefined) return
    this.finished = true
    this.settle(resetWith(0), undefined)
  }

  readonly reset = (code: number): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      this.abandon(code, fiber.currentDispatcher)
      return Effect.void
    })

  /** Resets it unless it has ended. */
  abandon(code: number, dispatcher: Dispatcher): void {
    const { native } = this
    if (native === undefined) return
    this.settle(resetWith(code), dispatcher)
    // behind the write that is under way; nobody waits for it
    native.reset(code).then(noop, noop)
  }

  readonly setPriority = (priority: number): Effect.Effect<void> =>
    Effect.sync(() => {
      if (priority === this.priority) return
      this.priority = priority
      this.rank()
    })

  // one call at a time: behind a write that is blocked they would pile up
  private rank(): void {
    const { native, priority } = this
    if (this.ranking || native === undefined) return
    this.ranking = true
    native.setPriority(priority).then(() => {
      this.ranking = false
      if (priority !== this.priority) this.rank()
    }, noop)
  }

  readonly stopped: Effect.Effect<number> = Effect.suspend(() => {
    if (this.stopCode !== undefined) return Effect.succeed(this.stopCode)
    this.stopping ??= new Condition(() => this.stopCode !== undefined)
    return Effect.flatMap(this.stopping.wait, () => this.stopped)
  })

  /** The object that must live for as long as the stream. */
  get binding(): unknown {
    return this.native
  }

  cut(end: End, dispatcher: Dispatcher): void {
    if (this.end === undefined) this.settle(end, dispatcher)
  }

  private settle(end: End, dispatcher: Dispatcher): void {
    this.end = end
    this.native = undefined
    this.waiting.clear()
    this.owner.halves.delete(this)
    this.progress.wake(dispatcher)
  }

  private readonly onError = (error: unknown): void => {
    if (this.end !== undefined) return
    const code = codeIn(error, "STOP_SENDING")
    if (code === undefined) return this.owner.lose(error)
    this.stopCode = code
    this.stopping?.wake()
    // a STOP_SENDING is to be answered by a reset, which the binding leaves to us
    this.abandon(code, undefined)
  }
}

export class Receiving implements Transport.ReceiveStream {
  private readonly owner: Owner
  private native: Http3Binding.ReceiveStream | undefined
  private chunks: Array<Uint8Array> = []
  private bytes = 0
  // taken from `chunks`, not yet handed out: an interruption in between leaves it to the next pull
  private claimed: NonEmptyReadonlyArray<Uint8Array> | undefined
  private reading = false
  private end: End | typeof done | undefined
  private readonly readable = new Condition(() => this.chunks.length > 0 || this.end !== undefined)

  constructor(owner: Owner, native: Http3Binding.ReceiveStream) {
    this.owner = owner
    this.native = native
    owner.halves.add(this)
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
      this.read()
      return this.take
    }
    if (this.end !== undefined) return this.end
    this.read()
    return Effect.flatMap(this.readable.wait, () => this.pull)
  })

  readonly stop = (code: number): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      this.abandon(code, fiber.currentDispatcher)
      return Effect.void
    })

  /** Stops it unless it has ended. The peer is told behind the read that is under way: with what it sends next. */
  abandon(code: number, dispatcher: Dispatcher): void {
    if (this.end !== undefined && this.chunks.length === 0) return
    const { native } = this
    this.cut(resetWith(code), dispatcher)
    native?.stop(code).then(noop, noop)
  }

  /** See {@link Sending.binding}. */
  get binding(): unknown {
    return this.native
  }

  cut(end: End, dispatcher: Dispatcher): void {
    if (this.end !== undefined && this.chunks.length === 0) return
    this.chunks = []
    this.bytes = 0
    this.settle(end, dispatcher)
  }

  private settle(end: End | typeof done, dispatcher: Dispatcher): void {
    this.end = end
    this.native = undefined
    this.owner.halves.delete(this)
    this.readable.wake(dispatcher)
  }

  private read(): void {
    if (this.reading || this.native === undefined) return
    this.reading = true
    this.native.read(readSize).then(this.onRead, this.onError)
  }

  private readonly onRead = (bytes: Uint8Array | null): void => {
    this.reading = false
    // it was stopped meanwhile
    if (this.end !== undefined) return
    if (bytes === null) return this.settle(done, undefined)
    if (bytes.length > 0) {
      // a Buffer, which is not quite a Uint8Array to those who slice it
      this.chunks.push(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length))
      this.bytes += bytes.length
    }
    if (this.bytes < readAhead) this.read()
    this.readable.wake()
  }

  private readonly onError = (error: unknown): void => {
    if (this.end !== undefined) return
    const code = codeIn(error, "RESET_STREAM")
    if (code === undefined) return this.owner.lose(error)
    this.cut(resetWith(code), undefined)
  }
}

// chunks that have been given out are let go of by so many
const spent = 64

/**
 * What waits to be written, given out in pieces: views where a chunk is large or alone, and fresh buffers where chunks
 * are small, so that a header travels with what follows it.
 */
class Pieces {
  size = 0
  private readonly chunks: Array<Uint8Array> = []
  private index = 0
  private offset = 0

  add(chunks: NonEmptyReadonlyArray<Uint8Array>): void {
    for (let i = 0; i < chunks.length; i++) {
      const chunk = chunks[i]!
      if (chunk.length === 0) continue
      this.chunks.push(chunk)
      this.size += chunk.length
    }
  }

  clear(): void {
    this.chunks.length = 0
    this.index = this.offset = this.size = 0
  }

  /** The next piece, which is not empty. */
  next(most: number): Uint8Array {
    const left = this.chunks[this.index]!.length - this.offset
    if (left >= most || left === this.size) return this.view(Math.min(left, most))
    const joined = new Uint8Array(Math.min(most, this.size))
    for (let filled = 0; filled < joined.length;) {
      const part = this.view(Math.min(this.chunks[this.index]!.length - this.offset, joined.length - filled))
      joined.set(part, filled)
      filled += part.length
    }
    return joined
  }

  private view(length: number): Uint8Array {
    const chunk = this.chunks[this.index]!
    const start = this.offset
    this.offset += length
    this.size -= length
    if (this.offset === chunk.length) {
      this.offset = 0
      this.index++
      if (this.size === 0) this.clear()
      else if (this.index === spent) {
        this.chunks.splice(0, spent)
        this.index = 0
      }
    }
    return length === chunk.length ? chunk : chunk.subarray(start, start + length)
  }
}
