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
import type { SessionClosed, StreamReset } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import { type End, Half, noop, type Owner, resetWith } from "../transport/Half.ts"
import type * as Transport from "../transport/Transport.ts"
import type * as Http3Binding from "./Http3Binding.ts"

// The most bytes in one call. A reset waits for the write that is under way, so it must not be large; a read gives what
// one packet brought, whatever it asks for.
const writeSize = 16 * 1024
const readSize = 64 * 1024

// what may wait behind the write that is under way, and is then joined into one
const writeAhead = 16 * 1024

// what is read while nobody pulls, so that the next packets are on their way while a fiber looks at the last
const readAhead = 64 * 1024

const done: Exit.Exit<never, Cause.Done> = Exit.fail(Cause.Done())

/** What an error of the binding says. */
export const textOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

/** The code in the text of an error, if it is about a stream alone. */
export const codeOf = (error: unknown): number | undefined => {
  const text = textOf(error)
  const code = /^(?:RESET_STREAM|STOP_SENDING): (\d+)$/.exec(text)?.[1]
  if (code !== undefined) return Number(code)
  // a code that no WebTransport peer has sent, and a stream that has been ended without one
  return /^(?:invalid (?:RESET_STREAM|STOP_SENDING)|stream )/.test(text) ? 0 : undefined
}

type Chunks = NonEmptyReadonlyArray<Uint8Array>

abstract class NativeHalf extends Half<Owner> {
  // no stream of the binding ends without a code
  protected override onError(error: unknown): void {
    if (this.end === undefined && codeOf(error) === undefined) this.connection.lose(error)
    else super.onError(error)
  }
}

export class Sending extends NativeHalf implements Transport.SendStream {
  private native: Http3Binding.SendStream | undefined
  private readonly waiting = new Pieces()
  private isBusy = false
  private isFinishing = false
  private isEnding = false
  private rank = 0
  private isRanking = false
  private stopCode: number | undefined
  // few ever ask for it
  private stopping: Waiters | undefined
  private onStopped: ((code: number) => void) | undefined

  constructor(connection: Owner, native: Http3Binding.SendStream) {
    super(connection)
    this.native = native
  }

  get write(): Transport.SendStream["write"] {
    return (chunks) =>
      Effect.suspend(() => {
        if (this.isFinishing || this.end !== undefined) return this.failure ?? resetWith(0)
        this.put(chunks)
        return this.taken()
      })
  }

  private taken(): Effect.Effect<void, StreamReset | SessionClosed> {
    return this.isWaiting ? this.wait(Effect.suspend(() => this.taken())) : this.failure ?? Effect.void
  }

  offer(chunks: Chunks): boolean {
    if (this.isFinishing || this.end !== undefined) return false
    const room = this.isBusy ? writeAhead : writeAhead + writeSize
    if (this.waiting.size + sizeOf(chunks) > room) return false
    this.put(chunks)
    return true
  }

  private put(chunks: Chunks): void {
    this.waiting.add(chunks)
    this.pump()
  }

  get finish(): Effect.Effect<void, StreamReset | SessionClosed> {
    return Effect.callback((resume) => this.onFinish(resume))
  }

  onFinish(finished: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void): void {
    if (this.end !== undefined) return finished(this.failure ?? Exit.void)
    this.isFinishing = true
    this.pump()
    this.park(() => this.onFinish(finished))
  }

  private pump(): void {
    const { native } = this
    if (this.isBusy || native === undefined) return
    if (this.waiting.size > 0) {
      this.isBusy = true
      native.write(this.waiting.next(writeSize)).then(() => this.onWritten(), (error) => this.onError(error))
    } else if (this.isFinishing) {
      this.isBusy = this.isEnding = true
      native.finish().then(() => {
        if (this.end === undefined) this.settle(done)
      }, (error) => this.onError(error))
    }
  }

  private onWritten(): void {
    this.isBusy = false
    this.pump()
    if (!this.isWaiting) this.wake()
  }

  get reset(): Transport.SendStream["reset"] {
    return (code) => Effect.sync(() => this.abort(code))
  }

  /** Resets it unless it has ended. */
  abort(code: number): void {
    const { native } = this
    if (native === undefined) return
    this.settle(resetWith(code))
    // behind the write that is under way; nobody waits for it
    native.reset(code).then(noop, noop)
  }

  get setPriority(): Transport.SendStream["setPriority"] {
    return (priority) => Effect.sync(() => this.setRank(priority))
  }

  setRank(rank: number): void {
    if (rank === this.rank) return
    this.rank = rank
    this.sendRank()
  }

  // One call at a time: behind a write that is blocked they would pile up. Behind the end it comes too late, which is most of
  // the times that the rank of a short stream changes.
  private sendRank(): void {
    const { native, rank } = this
    if (this.isRanking || this.isEnding || native === undefined) return
    this.isRanking = true
    native.setPriority(rank).then(() => {
      this.isRanking = false
      if (rank !== this.rank) this.sendRank()
    }, noop)
  }

  get stopped(): Effect.Effect<number> {
    return Effect.suspend(() => {
      this.stopping ??= new Waiters()
      return Effect.map(this.stopping.until(() => this.stopCode !== undefined), () => this.stopCode!)
    })
  }

  onStop(stopped: (code: number) => void): void {
    if (this.stopCode === undefined) this.onStopped = stopped
    else stopped(this.stopCode)
  }

  /** The object that must live for as long as the stream. */
  get binding(): unknown {
    return this.native
  }

  cut(end: End): void {
    if (this.end === undefined) this.settle(end)
  }

  private get failure(): End | undefined {
    return this.end === done ? undefined : this.end as End | undefined
  }

  protected get isWaiting(): boolean {
    return this.end === undefined && (this.isFinishing || this.waiting.size > writeAhead)
  }

  protected override settle(end: End | typeof done): void {
    this.native = undefined
    this.waiting.clear()
    super.settle(end)
  }

  protected fail(code: number): void {
    this.stopCode = code
    this.stopping?.notify()
    this.onStopped?.(code)
    this.onStopped = undefined
    // a STOP_SENDING is to be answered by a reset, which the binding leaves to us
    this.abort(code)
  }
}

export class Receiving extends NativeHalf implements Transport.ReceiveStream {
  private native: Http3Binding.ReceiveStream | undefined
  private chunks: Array<Uint8Array> = []
  private bytes = 0
  // a pull is about to hand them out: they stay whatever comes, and are for the next one if it is interrupted
  private isClaimed = false
  private isReading = false

  constructor(connection: Owner, native: Http3Binding.ReceiveStream) {
    super(connection)
    this.native = native
  }

  get pull(): Pull.Pull<Chunks, StreamReset | SessionClosed> {
    return Effect.suspend(() => this.next())
  }

  private next(): Pull.Pull<Chunks, StreamReset | SessionClosed> {
    if (this.chunks.length === 0) {
      if (this.end !== undefined) return this.end
      this.read()
      return this.wait(this.pull)
    }
    this.isClaimed = true
    return Effect.sync(() => this.take())
  }

  onPull(listener: Transport.Listener): void {
    const go = (): void => {
      while (this.chunks.length > 0) if (!listener.chunks(this.take())) return
      if (this.end !== undefined) return listener.end(this.end)
      this.read()
      this.park(go)
    }
    go()
  }

  private take(): Chunks {
    const { chunks } = this
    this.chunks = []
    this.bytes = 0
    this.isClaimed = false
    this.read()
    return chunks as unknown as Chunks
  }

  get stop(): Transport.ReceiveStream["stop"] {
    return (code) => Effect.sync(() => this.abort(code))
  }

  /** Stops it unless it has ended. The peer is told behind the read that is under way: with what it sends next. */
  abort(code: number): void {
    const { native } = this
    this.cut(resetWith(code))
    native?.stop(code).then(noop, noop)
  }

  /** See {@link Sending.binding}. */
  get binding(): unknown {
    return this.native
  }

  cut(end: End): void {
    if (this.end !== undefined && this.chunks.length === 0) return
    if (!this.isClaimed) this.chunks = []
    this.settle(end)
  }

  protected get isWaiting(): boolean {
    return this.chunks.length === 0 && this.end === undefined
  }

  protected override settle(end: End | typeof done): void {
    this.native = undefined
    super.settle(end)
  }

  protected fail(code: number): void {
    this.cut(resetWith(code))
  }

  private read(): void {
    if (this.isReading || this.native === undefined) return
    this.isReading = true
    this.native.read(readSize).then((bytes) => this.onRead(bytes), (error) => this.onError(error))
  }

  private onRead(bytes: Uint8Array | null): void {
    this.isReading = false
    // it was stopped meanwhile
    if (this.end !== undefined) return
    if (bytes === null) return this.settle(done)
    if (bytes.length > 0) {
      // a Buffer, which is not quite a Uint8Array to those who slice it
      this.chunks.push(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length))
      this.bytes += bytes.length
    }
    if (this.bytes < readAhead) this.read()
    if (!this.isWaiting) this.wake()
  }
}

const sizeOf = (chunks: Chunks): number => {
  let bytes = 0
  for (let i = 0; i < chunks.length; i++) bytes += chunks[i]!.length
  return bytes
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
