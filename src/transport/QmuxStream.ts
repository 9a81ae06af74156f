/**
 * The halves of the streams of QMux, in the shape of the W3C's web streams: as much of it as `WebTransport.fromObject` uses,
 * and no queue or promise more. Each is its own reader or writer.
 *
 * @internal
 */

import type { Place } from "./QmuxStreams.ts"

/** What the halves need of their session. */
export interface Owner {
  /** A half has something to send. */
  schedule(half: SendHalf): void
  /** A half has another rank. */
  reschedule(half: SendHalf): void
  /** A half is over; with a code when it ended early, which the peer is told. */
  ended(half: SendHalf, code: number | undefined): void
  /** What the peer sends is not wanted. */
  stop(half: ReceiveHalf, code: number): void
  /** Bytes of a stream have been taken, or dropped. */
  consumed(half: ReceiveHalf, bytes: number): void
  /** What the unread pieces of all streams cost. */
  unread: number
  /** Whether the peer takes bytes of streams now. */
  readonly isWanted: boolean
}

/** How a stream ended early, and what `abort` and `cancel` carry a code in. */
export class StreamError extends Error {
  readonly streamErrorCode: number
  readonly source = "stream"
  constructor(streamErrorCode: number) {
    super(`the stream ended with code ${streamErrorCode}`)
    this.streamErrorCode = streamErrorCode
  }
}

/**
 * What a web stream gives a promise of, for one who waits: that one is called on the stack of what it waits for, and so no
 * turn of the microtasks is lost, and few objects are made.
 */
export class Later<A> implements PromiseLike<A> {
  private onValue: ((value: A) => unknown) | null | undefined = undefined
  private onError: ((error: unknown) => unknown) | null | undefined = undefined
  private settled: Promise<A> | undefined = undefined

  // oxlint-disable-next-line unicorn/no-thenable -- it is one, in place of a promise
  then<B = A, C = never>(
    onValue?: ((value: A) => B | PromiseLike<B>) | null | undefined,
    onError?: ((error: unknown) => C | PromiseLike<C>) | null | undefined
  ): PromiseLike<B | C> {
    if (this.settled !== undefined) return this.settled.then(onValue, onError)
    this.onValue = onValue
    this.onError = onError
    return settled
  }

  resolve(value: A): void {
    if (this.onValue == null) this.settled = Promise.resolve(value)
    else this.onValue(value)
  }

  reject(error: Error): void {
    if (this.onError != null) return void this.onError(error)
    this.settled = Promise.reject(error)
    this.settled.catch(noop)
  }
}

/** What nobody waits for. */
export const settled: Promise<never> = Promise.resolve() as Promise<never>

/** First in, first out, however many there are: the array of a `shift` can be long to move. */
export class Fifo<A> {
  private items: Array<A | undefined> = []
  private head = 0

  get length(): number {
    return this.items.length - this.head
  }

  get first(): A | undefined {
    return this.items[this.head]
  }

  push(item: A): void {
    // most hold one or two at a time: an empty array grows by 17
    if (this.items.length === 0) this.items = [item]
    else this.items.push(item)
  }

  shift(): A | undefined {
    if (this.head === this.items.length) return undefined
    const item = this.items[this.head]
    this.items[this.head++] = undefined
    if (this.head === this.items.length) this.clear()
    else if (this.head >= 1024 && this.head * 2 >= this.items.length) {
      this.items.splice(0, this.head)
      this.head = 0
    }
    return item
  }

  clear(): void {
    this.items = []
    this.head = 0
  }
}

/** A half that sends. What is written waits here until the session puts it into a record. */
export class SendHalf {
  readonly id: number
  /** How many bytes of it have left, and how many may. */
  sent = 0
  max: number
  /** How many bytes wait. */
  queued = 0
  /** Its end waits, behind them. */
  finishing = false
  /** Its end has left. */
  isSaid = false
  /** The peer has seen a STREAM frame of it, or will before anything else of it. */
  isBegun = false
  /** Its place among those with something to send, which is the outbox's. */
  isWaiting = false
  previous: SendHalf | undefined = undefined
  next: SendHalf | undefined = undefined
  private readonly owner: Owner
  private readonly place: Place
  private readonly pieces = new Fifo<Uint8Array>()
  // where the first piece goes on
  private offset = 0
  private rank: number
  private ended = false
  private failure: Error | undefined = undefined
  private closing: Later<void> | undefined = undefined
  private room: Later<void> | undefined = undefined

  constructor(owner: Owner, id: number, max: number, place: Place, sendOrder: number) {
    this.owner = owner
    this.id = id
    this.max = max
    this.place = place
    this.rank = sendOrder
  }

  /** Higher first. */
  get sendOrder(): number {
    return this.rank
  }

  set sendOrder(rank: number) {
    this.rank = rank
    this.owner.reschedule(this)
  }

  /** For one to ask: how it ends. */
  get closed(): PromiseLike<void> {
    if (this.closing === undefined) {
      this.closing = new Later()
      if (this.ended) this.settle(this.closing)
    }
    return this.closing
  }

  getWriter(): this {
    return this
  }

  /** While the peer takes nothing one piece may wait, so that a peer which never does is not taken for a slow one. */
  get desiredSize(): number {
    if (this.ended) return 0
    return (this.max > this.sent && this.owner.isWanted ? highWaterMark : 1) - this.queued
  }

  get ready(): PromiseLike<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    if (this.ended || this.desiredSize > 0) return settled
    return this.room ??= new Later()
  }

  /** Whether something of it could leave, if `credit` bytes may leave of all streams. */
  canSend(credit: number): boolean {
    return this.queued === 0 ? this.finishing : credit > 0 && this.max > this.sent
  }

  /** Takes several at once where `desiredSize` has room, and tells whether it has. Web streams have nothing of the kind. */
  offer(pieces: ReadonlyArray<Uint8Array>): boolean {
    if (this.desiredSize <= 0 || this.finishing) return false
    let bytes = 0
    for (let i = 0; i < pieces.length; i++) bytes += pieces[i]!.length
    if (bytes > mostOffered) return false
    for (let i = 0; i < pieces.length; i++) this.add(pieces[i]!)
    return true
  }

  /** What becomes of it shows in `ready` and `closed`. */
  write(piece: Uint8Array): Promise<void> {
    if (!this.ended && !this.finishing) this.add(piece)
    return settled
  }

  /** `closed` settles once the end has left, or the stream has ended otherwise. */
  close(): Promise<void> {
    if (!this.ended && !this.finishing) {
      this.finishing = true
      this.owner.schedule(this)
    }
    return settled
  }

  abort(reason?: unknown): Promise<void> {
    const code = codeOf(reason)
    // with its end in a record there is nothing to take back
    if (this.isSaid) this.finish()
    else this.finish(new StreamError(code), code)
    return settled
  }

  /** Gives its next bytes to a record, as they are. */
  take(length: number, parts: Array<Uint8Array>): void {
    this.isBegun = true
    this.sent += length
    this.queued -= length
    while (length > 0) {
      const piece = this.pieces.first!
      const part = Math.min(length, piece.length - this.offset)
      parts.push(part === piece.length ? piece : piece.subarray(this.offset, this.offset + part))
      length -= part
      this.offset += part
      if (this.offset === piece.length) {
        this.pieces.shift()
        this.offset = 0
      }
    }
  }

  /** Something of it has left: all, when {@link SendHalf.isSaid}. */
  onLeft(): void {
    if (this.isSaid) this.finish()
    else this.checkRoom()
  }

  /** More may leave, or wait. */
  checkRoom(): void {
    if (this.room !== undefined && this.desiredSize > 0) this.settle(this.takeRoom())
  }

  private add(piece: Uint8Array): void {
    if (piece.length === 0) return
    this.pieces.push(piece)
    this.queued += piece.length
    this.owner.schedule(this)
  }

  /** It has ended: with everything said (no error), or early; with a code for the peer when it does not know yet. */
  finish(error?: Error, code?: number): void {
    if (this.ended) return
    this.ended = true
    this.failure = error
    this.pieces.clear()
    this.queued = 0
    this.owner.ended(this, code)
    this.settle(this.takeRoom())
    this.settle(this.closing)
    this.place.leave()
  }

  private takeRoom(): Later<void> | undefined {
    const { room } = this
    this.room = undefined
    return room
  }

  private settle(later: Later<void> | undefined): void {
    if (this.failure === undefined) later?.resolve()
    else later?.reject(this.failure)
  }
}

/** A record that has arrived. */
export interface Arrival {
  readonly bytes: number
  /** How many of its pieces are unread. */
  unread: number
}

type Result = { readonly done: false; readonly value: Uint8Array } | { readonly done: true; readonly value: undefined }

/**
 * A half that receives.
 *
 * **Details**
 *
 * The windows of QMux count bytes of payload. But a piece costs more than its bytes, and keeps the whole record that it is
 * a part of, so a peer that sends single bytes, or single bytes among much else, would have a hundred times its window kept
 * for it. So each unread piece counts as what it costs, and each record for as long as any piece of it is unread.
 */
export class ReceiveHalf {
  readonly id: number
  /** How many bytes have arrived, may arrive, and have been taken. */
  received = 0
  max: number
  consumed = 0
  /** Nothing more arrives. */
  isOver = false
  /** What arrives is dropped. */
  isStopped = false
  private readonly owner: Owner
  private readonly place: Place
  // most streams never have any: somebody waits for what comes
  private unread: Fifo<{ readonly piece: Uint8Array; readonly record: Arrival }> | undefined = undefined
  private error: Error | undefined = undefined
  private waiting: Later<Result> | undefined = undefined

  constructor(owner: Owner, id: number, max: number, place: Place) {
    this.owner = owner
    this.id = id
    this.max = max
    this.place = place
  }

  getReader(): this {
    return this
  }

  /** Nobody asks how it ends but by reading. */
  get closed(): Promise<void> {
    return new Promise(noop)
  }

  read(): PromiseLike<Result> {
    const piece = this.shift()
    if (piece !== undefined) {
      this.owner.consumed(this, piece.length)
      return Promise.resolve({ done: false, value: piece })
    }
    if (this.error !== undefined) return Promise.reject(this.error)
    if (this.isOver) return Promise.resolve(done)
    return this.waiting = new Later()
  }

  cancel(reason?: unknown): Promise<void> {
    if (!this.isStopped && this.error === undefined) {
      this.isStopped = true
      const code = codeOf(reason)
      if (!this.isOver) this.owner.stop(this, code)
      this.fail(new StreamError(code))
    }
    return settled
  }

  push(piece: Uint8Array, record: Arrival): void {
    if (this.isStopped) return this.owner.consumed(this, piece.length)
    const { waiting } = this
    if (waiting !== undefined) {
      this.waiting = undefined
      this.owner.consumed(this, piece.length)
      return waiting.resolve({ done: false, value: piece })
    }
    if (record.unread++ === 0) this.owner.unread += record.bytes
    this.owner.unread += pieceCost
    // a record can be a view of much more that arrived with it
    const own = piece.length * 8 < piece.buffer.byteLength ? piece.slice() : piece
    this.unread ??= new Fifo()
    this.unread.push({ piece: own, record })
  }

  /** The peer has said everything. */
  finish(): void {
    this.over()
    const { waiting } = this
    this.waiting = undefined
    waiting?.resolve(done)
  }

  /** It ends early: with the peer's code, or with the session. */
  fail(error: Error): void {
    if (this.error !== undefined) return
    this.error = error
    for (let piece = this.shift(); piece !== undefined; piece = this.shift()) this.owner.consumed(this, piece.length)
    const { waiting } = this
    this.waiting = undefined
    waiting?.reject(error)
  }

  /** Nothing more arrives. */
  over(): void {
    if (this.isOver) return
    this.isOver = true
    this.place.leave()
  }

  private shift(): Uint8Array | undefined {
    const first = this.unread?.shift()
    if (first === undefined) return undefined
    this.owner.unread -= pieceCost
    if (--first.record.unread === 0) this.owner.unread -= first.record.bytes
    return first.piece
  }
}

// internal

/** What a half takes before it has to wait. */
const highWaterMark = 64 * 1024

// what it takes at once, beyond that mark
const mostOffered = 256 * 1024

const pieceCost = 256

const noop = (): void => {}

const done: Result = { done: true, value: undefined }

const codeOf = (reason: unknown): number =>
  typeof reason === "object" && reason !== null && "streamErrorCode" in reason &&
    typeof reason.streamErrorCode === "number"
    ? reason.streamErrorCode >>> 0
    : 0
