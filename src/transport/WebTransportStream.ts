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
import type { SessionClosed, StreamReset } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import { type End, field, Half, noop, type Owner as HalfOwner, resetWith } from "./Half.ts"
import type * as Transport from "./Transport.ts"

/** What the halves need of their connection. */
export interface Owner extends HalfOwner {
  readonly streamError: (code: number) => unknown
  readonly chunkSize: number
}

const done: Exit.Exit<never, Cause.Done> = Exit.fail(Cause.Done())

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

// what nothing has that a browser has, but our QMux: it takes several chunks by reference, where `desiredSize` has room
type Writer = WritableStreamDefaultWriter<Uint8Array> & {
  readonly offer?: (chunks: NonEmptyReadonlyArray<Uint8Array>) => boolean
}

export class Sending extends Half<Owner> implements Transport.SendStream {
  private readonly writable: WritableStream<Uint8Array>
  private readonly writer: Writer
  private isBlocked = false
  private isFinishing = false
  private isHeard = false
  private stopCode: number | undefined
  // few ever ask for it
  private stopping: Waiters | undefined
  private onStopped: ((code: number) => void) | undefined

  constructor(connection: Owner, writable: WritableStream<Uint8Array>) {
    super(connection)
    this.writable = writable
    this.writer = writable.getWriter()
  }

  get write(): Transport.SendStream["write"] {
    return (chunks) => Effect.suspend(() => this.put(this.piecesOf(chunks), 0, false))
  }

  private piecesOf(chunks: NonEmptyReadonlyArray<Uint8Array>): ReadonlyArray<Uint8Array> {
    const { chunkSize } = this.connection
    return this.writer.offer === undefined
      ? cut(chunks, chunkSize, sizeOf(chunks))
      : chunks.flatMap((chunk) => views(chunk, chunkSize))
  }

  // What goes out as one piece, or as a large chunk and the small ones beside it, is no more than a piece may be.
  offer(chunks: NonEmptyReadonlyArray<Uint8Array>): boolean {
    const { chunkSize } = this.connection
    if (this.end !== undefined || this.isFinishing) return false
    if (this.writer.offer !== undefined) return this.writer.offer(chunks)
    if ((this.writer.desiredSize ?? 0) <= 0) return false
    const bytes = sizeOf(chunks)
    if (bytes > chunkSize) return false
    for (const piece of cut(chunks, chunkSize, bytes)) this.send(piece)
    return true
  }

  // Once `ready` has resolved a piece goes out whatever `desiredSize` says, so that an odd object cannot make it spin.
  // What becomes of a single write shows in `ready` and `closed` of the writer.
  private put(
    pieces: ReadonlyArray<Uint8Array>,
    index: number,
    isAdmitted: boolean
  ): Effect.Effect<void, StreamReset | SessionClosed> {
    const { writer } = this
    for (; index < pieces.length; index++) {
      if (this.failure !== undefined) return this.failure
      if (this.isFinishing) return resetWith(0)
      if (!isAdmitted && (writer.desiredSize ?? 0) <= 0) {
        this.block()
        const from = index
        return this.wait(Effect.suspend(() => this.put(pieces, from, true)))
      }
      isAdmitted = false
      this.send(pieces[index]!)
    }
    return this.failure ?? Effect.void
  }

  private send(piece: Uint8Array): void {
    try {
      this.writer.write(piece).then(undefined, noop)
    } catch (error) {
      this.onError(error)
    }
  }

  private block(): void {
    if (this.isBlocked) return
    this.isBlocked = true
    // where a stop leaves a write in flight, `ready` rejects and `closed` waits; else `closed` has the code
    this.hear()
    this.writer.ready.then(() => {
      this.isBlocked = false
      this.wake()
    }, (error) => this.onError(error))
  }

  get finish(): Effect.Effect<void, StreamReset | SessionClosed> {
    return Effect.callback((resume) => this.onFinish(resume))
  }

  onFinish(finished: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void): void {
    if (this.end !== undefined) return finished(this.failure ?? Exit.void)
    if (!this.isFinishing) {
      this.isFinishing = true
      ignore(() => this.writer.close())
      this.hear()
    }
    this.park(() => this.onFinish(finished))
  }

  // how the stream ends: until somebody asks, a write that cannot go on is soon enough
  private hear(): void {
    if (this.isHeard) return
    this.isHeard = true
    this.writer.closed.then(() => {
      if (this.end === undefined) this.settle(done)
    }, (error) => this.onError(error))
  }

  get reset(): Transport.SendStream["reset"] {
    return (code) => Effect.sync(() => this.abort(code))
  }

  abort(code: number): void {
    if (this.end !== undefined) return
    this.settle(resetWith(code))
    // it may wait for a write in flight; nobody waits for it
    ignore(() => this.writer.abort(this.connection.streamError(code)))
  }

  get setPriority(): Transport.SendStream["setPriority"] {
    return (priority) =>
      Effect.sync(() => {
        if ("sendOrder" in this.writable) this.writable.sendOrder = priority
      })
  }

  get stopped(): Effect.Effect<number> {
    return Effect.suspend(() => {
      this.hear()
      this.stopping ??= new Waiters()
      return Effect.map(this.stopping.until(() => this.stopCode !== undefined), () => this.stopCode!)
    })
  }

  onStop(stopped: (code: number) => void): void {
    if (this.stopCode !== undefined) return stopped(this.stopCode)
    this.onStopped = stopped
    this.hear()
  }

  cut(end: End): void {
    if (this.end === undefined) this.settle(end)
  }

  private get failure(): End | undefined {
    return this.end === done ? undefined : this.end as End | undefined
  }

  protected get isWaiting(): boolean {
    return this.end === undefined && (this.isBlocked || this.isFinishing)
  }

  protected fail(code: number): void {
    this.stopCode = code
    this.onStopped?.(code)
    this.onStopped = undefined
    this.stopping?.notify()
    this.settle(resetWith(code))
  }
}

type Chunks = NonEmptyReadonlyArray<Uint8Array>

export class Receiving extends Half<Owner> implements Transport.ReceiveStream {
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>
  // What came and was not taken. Not an empty array when there is nothing: of those made while many streams open V8 learns
  // to make all in the old generation, where each keeps what went through it until a full collection.
  private chunks: Array<Uint8Array> | undefined
  // a pull is about to hand them out: they stay whatever comes, and are for the next one if it is interrupted
  private isClaimed = false
  private isReading = false
  // once for all reads
  private onResult: ((result: ReadableStreamReadResult<Uint8Array>) => void) | undefined
  private onFailure: ((error: unknown) => void) | undefined

  constructor(connection: Owner, readable: ReadableStream<Uint8Array>) {
    super(connection)
    this.chunks = undefined
    this.reader = readable.getReader()
  }

  get pull(): Pull.Pull<Chunks, StreamReset | SessionClosed> {
    return Effect.suspend(() => this.next())
  }

  private next(): Pull.Pull<Chunks, StreamReset | SessionClosed> {
    if (this.chunks === undefined) {
      if (this.end !== undefined) return this.end
      this.read()
      return this.wait(this.pull)
    }
    this.isClaimed = true
    return Effect.sync(() => this.take())
  }

  onPull(listener: Transport.Listener): void {
    const go = (): void => {
      while (this.chunks !== undefined) if (!listener.chunks(this.take())) return
      if (this.end !== undefined) return listener.end(this.end)
      // before it reads, which may end it at once
      this.park(go)
      this.read()
    }
    go()
  }

  private take(): Chunks {
    const { chunks } = this
    this.chunks = undefined
    this.isClaimed = false
    return chunks as unknown as Chunks
  }

  get stop(): Transport.ReceiveStream["stop"] {
    return (code) => Effect.sync(() => this.abort(code))
  }

  abort(code: number): void {
    if (this.end !== undefined && this.chunks === undefined) return
    this.cut(resetWith(code))
    ignore(() => this.reader.cancel(this.connection.streamError(code)))
  }

  cut(end: End): void {
    if (this.end !== undefined && this.chunks === undefined) return
    if (!this.isClaimed) this.chunks = undefined
    this.settle(end)
  }

  protected get isWaiting(): boolean {
    return this.chunks === undefined && this.end === undefined
  }

  protected fail(code: number): void {
    this.cut(resetWith(code))
  }

  // one chunk at a time: with nobody waiting any more, it is the last one before the next pull
  private read(): void {
    if (this.isReading) return
    this.isReading = true
    if (this.onResult === undefined) this.listen((result) => this.onRead(result), (error) => this.onError(error))
    try {
      this.reader.read().then(this.onResult, this.onFailure)
    } catch (error) {
      this.onError(error)
    }
  }

  private listen(onResult: typeof this.onResult, onFailure: typeof this.onFailure): void {
    this.onResult = onResult
    this.onFailure = onFailure
  }

  private onRead(result: ReadableStreamReadResult<Uint8Array>): void {
    this.isReading = false
    if (this.end !== undefined) return
    if (result.done) return this.settle(done, true)
    const { value } = result
    if (value.length > 0) {
      if (this.chunks === undefined) this.chunks = [value]
      else this.chunks.push(value)
    }
    this.wake()
  }
}

const sizeOf = (chunks: NonEmptyReadonlyArray<Uint8Array>): number => {
  let bytes = 0
  for (let i = 0; i < chunks.length; i++) bytes += chunks[i]!.length
  return bytes
}

const views = (chunk: Uint8Array, size: number): ReadonlyArray<Uint8Array> => {
  const pieces: Array<Uint8Array> = []
  for (let at = 0; at < chunk.length; at += size) {
    pieces.push(chunk.length <= size ? chunk : chunk.subarray(at, at + size))
  }
  return pieces
}

/** Cuts what is to be written into pieces of at most `size` bytes: views of large chunks, and small ones joined. */
const cut = (
  chunks: NonEmptyReadonlyArray<Uint8Array>,
  size: number,
  all: number
): ReadonlyArray<Uint8Array> => {
  if (all <= size / 2) return all === 0 ? [] : [joined(chunks, 0, chunks.length, all)]
  const pieces: Array<Uint8Array> = []
  let from = 0
  let bytes = 0
  const join = (to: number) => {
    if (bytes > 0) pieces.push(joined(chunks, from, to, bytes))
    from = to
    bytes = 0
  }
  for (let i = 0; i < chunks.length; i++) {
    const chunk = chunks[i]!
    const { length } = chunk
    if (length >= size / 2) {
      join(i)
      from++
      pieces.push(...views(chunk, size))
    } else {
      if (bytes + length > size) join(i)
      bytes += length
    }
  }
  join(chunks.length)
  return pieces
}

// the last large piece that was joined, and of what: a fan-out writes the same chunks to one stream after the other
let parts: ReadonlyArray<Uint8Array> = []
let whole = new Uint8Array(0)

const joined = (chunks: ReadonlyArray<Uint8Array>, from: number, to: number, bytes: number): Uint8Array => {
  if (chunks[from]!.length === bytes) return chunks[from]!
  if (whole.length === bytes && parts.every((part, i) => part === chunks[from + i])) return whole
  const all = new Uint8Array(bytes)
  for (let i = from, at = 0; i < to; i++) {
    all.set(chunks[i]!, at)
    at += chunks[i]!.length
  }
  if (bytes >= shared) {
    parts = chunks.slice(from, to)
    whole = all
  }
  return all
}

// in bytes: less is copied sooner than looked for
const shared = 4096
