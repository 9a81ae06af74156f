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
import type { Bag, Item } from "../core/Bag.ts"
import { type SessionClosed, StreamReset } from "../core/MoqError.ts"
import { Condition } from "../core/Waiters.ts"
import type * as Transport from "./Transport.ts"

/** What ends with its connection. */
export interface Part extends Item {
  readonly cut: (end: Exit.Exit<never, SessionClosed>, dispatcher: Dispatcher) => void
}

/** What the halves need of their connection. */
export interface Owner {
  readonly parts: Bag<Part>
  readonly streamError: (code: number) => unknown
  readonly codeOf: (error: unknown) => number | undefined
  readonly chunkSize: number
  readonly lose: (error: unknown) => void
}

export type Dispatcher = Scheduler.SchedulerDispatcher | undefined

type End = Exit.Exit<never, StreamReset | SessionClosed>

type Wait<A, E> = Effect.Effect<A, StreamReset | SessionClosed | E>

// a pull hands out no more than this at once, of what lies ready in the object's own queue
const batchChunks = 64
const batchBytes = 256 * 1024

export const noop = (): void => {}

// cheaper than `queueMicrotask`, of which Node makes a resource each time
const settled = Promise.resolve()

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

// A session has many of these: what their members give is made when it is asked for. There is a place for one fiber that
// waits, which is not cleared when that is interrupted: resuming it does nothing then.
abstract class Half implements Part {
  place: number
  protected readonly connection: Owner
  protected end: End | typeof done | undefined
  private waiter: (() => void) | undefined

  constructor(connection: Owner) {
    this.connection = connection
    this.end = undefined
    this.waiter = undefined
    this.place = -1
    connection.parts.add(this)
  }

  protected abstract get isWaiting(): boolean

  protected get isAwaited(): boolean {
    return this.waiter !== undefined
  }

  /** Suspends until there is something to go on for. */
  protected wait<A, E>(next: Wait<A, E>): Wait<A, E> {
    return Effect.callback((resume) => {
      // the fiber may have yielded since it looked
      if (this.isWaiting) this.park(() => resume(next))
      else resume(next)
    })
  }

  // V8 makes a function that is assigned to a member in the old generation; not so an argument
  private park(waiter: () => void): void {
    this.waiter = waiter
  }

  protected wake(dispatcher: Dispatcher): void {
    const { waiter } = this
    if (waiter === undefined) return
    this.waiter = undefined
    if (dispatcher === undefined) waiter()
    else dispatcher.scheduleTask(waiter, 0)
  }

  protected settle(end: End | typeof done, dispatcher: Dispatcher): void {
    this.end = end
    this.connection.parts.delete(this)
    this.wake(dispatcher)
  }

  abstract cut(end: End, dispatcher: Dispatcher): void

  protected abstract fail(code: number): void

  protected onError(error: unknown): void {
    if (this.end !== undefined) return
    const code = this.connection.codeOf(error)
    if (code !== undefined) return this.fail(code)
    // An error without a code is the end of the connection, which tells its own story in a moment, or of a stream that
    // somebody ended without one.
    if (field(error, "source") === "session") return this.connection.lose(error)
    setTimeout(() => this.cut(resetWith(0), undefined), 0)
  }
}

export class Sending extends Half implements Transport.SendStream {
  private readonly writable: WritableStream<Uint8Array>
  private readonly writer: WritableStreamDefaultWriter<Uint8Array>
  private isBlocked = false
  private isFinishing = false
  private stopCode: number | undefined
  // few ever ask for it
  private stopping: Condition | undefined
  private onStopped: ((code: number) => void) | undefined

  constructor(connection: Owner, writable: WritableStream<Uint8Array>) {
    super(connection)
    this.writable = writable
    this.writer = writable.getWriter()
    this.writer.closed.then(noop, (error) => this.onError(error))
  }

  get write(): Transport.SendStream["write"] {
    return (chunks) => Effect.suspend(() => this.put(cut(chunks, this.connection.chunkSize), 0, false))
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
      try {
        writer.write(pieces[index]!).then(undefined, noop)
      } catch (error) {
        this.onError(error)
      }
    }
    return this.failure ?? Effect.void
  }

  private block(): void {
    if (this.isBlocked) return
    this.isBlocked = true
    // where a stop leaves a write in flight, `ready` rejects and `closed` waits
    this.writer.ready.then(() => {
      this.isBlocked = false
      this.wake(undefined)
    }, (error) => this.onError(error))
  }

  get finish(): Effect.Effect<void, StreamReset | SessionClosed> {
    return Effect.suspend(() => this.close())
  }

  private close(): Effect.Effect<void, StreamReset | SessionClosed> {
    if (this.end !== undefined) return this.failure ?? Effect.void
    if (!this.isFinishing) {
      this.isFinishing = true
      attempt(() => this.writer.close()).then(() => {
        if (this.end === undefined) this.settle(done, undefined)
      }, (error) => this.onError(error))
    }
    return this.wait(Effect.suspend(() => this.close()))
  }

  get reset(): Transport.SendStream["reset"] {
    return (code) =>
      Effect.withFiber((fiber) => {
        if (this.end !== undefined) return Effect.void
        this.settle(resetWith(code), fiber.currentDispatcher)
        // it may wait for a write in flight; nobody waits for it
        ignore(() => this.writer.abort(this.connection.streamError(code)))
        return Effect.void
      })
  }

  get setPriority(): Transport.SendStream["setPriority"] {
    return (priority) =>
      Effect.sync(() => {
        if ("sendOrder" in this.writable) this.writable.sendOrder = priority
      })
  }

  get stopped(): Effect.Effect<number> {
    return Effect.suspend(() => {
      this.stopping ??= new Condition(() => this.stopCode !== undefined)
      return Effect.map(this.stopping.wait, () => this.stopCode!)
    })
  }

  onStop(stopped: (code: number) => void): void {
    if (this.stopCode === undefined) this.onStopped = stopped
    else stopped(this.stopCode)
  }

  cut(end: End, dispatcher: Dispatcher): void {
    if (this.end === undefined) this.settle(end, dispatcher)
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
    this.stopping?.wake()
    this.settle(resetWith(code), undefined)
  }
}

export class Receiving extends Half implements Transport.ReceiveStream {
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>
  private chunks: Array<Uint8Array> = []
  private bytes = 0
  // taken from `chunks`, not yet handed out: an interruption in between leaves it to the next pull
  private claimed: NonEmptyReadonlyArray<Uint8Array> | undefined
  private isReading = false
  private seen = 0
  private isGathering = false
  private pulling: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> | undefined

  constructor(connection: Owner, readable: ReadableStream<Uint8Array>) {
    super(connection)
    this.reader = readable.getReader()
  }

  get pull(): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> {
    return this.pulling ??= Effect.suspend(() => this.next())
  }

  private next(): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> {
    if (this.claimed === undefined) {
      if (this.chunks.length === 0) {
        if (this.end !== undefined) return this.end
        this.read()
        return this.wait(this.pull)
      }
      this.claimed = this.chunks as unknown as NonEmptyReadonlyArray<Uint8Array>
      this.chunks = []
      this.bytes = 0
    }
    return Effect.sync(() => {
      const claimed = this.claimed!
      this.claimed = undefined
      return claimed
    })
  }

  get stop(): Transport.ReceiveStream["stop"] {
    return (code) =>
      Effect.withFiber((fiber) => {
        if (this.end !== undefined && this.chunks.length === 0) return Effect.void
        this.cut(resetWith(code), fiber.currentDispatcher)
        ignore(() => this.reader.cancel(this.connection.streamError(code)))
        return Effect.void
      })
  }

  cut(end: End, dispatcher: Dispatcher): void {
    if (this.end !== undefined && this.chunks.length === 0) return
    this.chunks = []
    this.bytes = 0
    this.settle(end, dispatcher)
  }

  protected get isWaiting(): boolean {
    return this.chunks.length === 0 && this.end === undefined
  }

  protected fail(code: number): void {
    this.cut(resetWith(code), undefined)
  }

  private read(): void {
    if (this.isReading) return
    this.isReading = true
    attempt(() => this.reader.read()).then((result) => this.onRead(result), (error) => this.onError(error))
  }

  private onRead(result: ReadableStreamReadResult<Uint8Array>): void {
    this.isReading = false
    if (this.end !== undefined) return
    if (result.done) return this.settle(done, undefined)
    if (result.value.length > 0) {
      this.chunks.push(result.value)
      this.bytes += result.value.length
    }
    // with nobody waiting any more, this chunk is the last one read before the next pull
    if (!this.isAwaited) return
    if (this.mayGather) this.read()
    if (this.isGathering) return
    this.isGathering = true
    this.seen = this.chunks.length
    settled.then(() => this.deliver())
  }

  // what lies ready in the object's queue comes with the next microtask, so the waiting fiber is woken one later
  private deliver(): void {
    if (this.chunks.length > this.seen && this.mayGather) {
      this.seen = this.chunks.length
      return void settled.then(() => this.deliver())
    }
    this.isGathering = false
    if (!this.isWaiting) this.wake(undefined)
  }

  private get mayGather(): boolean {
    return this.chunks.length < batchChunks && this.bytes < batchBytes
  }
}

/** Cuts what is to be written into pieces of at most `size` bytes: views of large chunks, and small ones joined. */
const cut = (chunks: NonEmptyReadonlyArray<Uint8Array>, size: number): ReadonlyArray<Uint8Array> => {
  if (chunks.length === 1 && chunks[0].length <= size) return chunks[0].length === 0 ? [] : chunks
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
      for (let at = 0; at < length; at += size) pieces.push(length <= size ? chunk : chunk.subarray(at, at + size))
    } else {
      if (bytes + length > size) join(i)
      bytes += length
    }
  }
  join(chunks.length)
  return pieces
}

const joined = (chunks: ReadonlyArray<Uint8Array>, from: number, to: number, bytes: number): Uint8Array => {
  if (chunks[from]!.length === bytes) return chunks[from]!
  const all = new Uint8Array(bytes)
  for (let i = from, at = 0; i < to; i++) {
    all.set(chunks[i]!, at)
    at += chunks[i]!.length
  }
  return all
}
