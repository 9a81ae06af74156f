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
    this.items.push(item)
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
    this.items.length = 0
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
  /** The peer has seen a STREAM frame of it, or will before anything else of it. */
  isBegun = false
  /** Among those of its rank the lowest goes first; 0 while it waits for nothing. */
  turn = 0
  /** Higher first. */
  sendOrder: number
  readonly closed: Promise<void>
  private readonly owner: Owner
  private readonly place: Place
  private readonly pieces = new Fifo<Uint8Array>()
  // where the first piece goes on
  private offset = 0
  private ended = false
  private settle!: (error: Error | undefined) => void
  private room: Promise<void> | undefined = undefined
  private onRoom: (() => void) | undefined = undefined

  constructor(owner: Owner, id: number, max: number, place: Place, sendOrder: number) {
    this.owner = owner
    this.id = id
    this.max = max
    this.place = place
    this.sendOrder = sendOrder
    this.closed = new Promise((resolve, reject) => {
      this.settle = (error) => error === undefined ? resolve() : reject(error)
    })
    this.closed.catch(noop)
  }

  getWriter(): this {
    return this
  }

  /** While the peer takes nothing one piece may wait, so that a peer which never does is not taken for a slow one. */
  get desiredSize(): number {
    if (this.ended) return 0
    return (this.max > this.sent && this.owner.isWanted ? highWaterMark : 1) - this.queued
  }

  get ready(): Promise<void> {
    if (this.ended || this.desiredSize > 0) return settled
    return this.room ??= new Promise((resolve) => {
      this.onRoom = resolve
    })
  }

  /** Whether something of it could leave, if `credit` bytes may leave of all streams. */
  canSend(credit: number): boolean {
    return this.queued === 0 ? this.finishing : credit > 0 && this.max > this.sent
  }

  /** What becomes of it shows in `ready` and `closed`. */
  write(piece: Uint8Array): Promise<void> {
    if (!this.ended && !this.finishing && piece.length > 0) {
      this.pieces.push(piece)
      this.queued += piece.length
      this.owner.schedule(this)
    }
    return settled
  }

  /** Settles once the end has left, or the stream has ended otherwise. */
  close(): Promise<void> {
    if (!this.ended && !this.finishing) {
      this.finishing = true
      this.owner.schedule(this)
    }
    return this.closed
  }

  abort(reason?: unknown): Promise<void> {
    const code = codeOf(reason)
    this.finish(new StreamError(code), code)
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
    this.checkRoom()
  }

  /** Something has left, or may leave. */
  checkRoom(): void {
    if (this.room !== undefined && this.desiredSize > 0) this.release()
  }

  /** It has ended: with everything said (no error), or early; with a code for the peer when it does not know yet. */
  finish(error?: Error, code?: number): void {
    if (this.ended) return
    this.ended = true
    this.pieces.clear()
    this.queued = 0
    this.owner.ended(this, code)
    this.release()
    this.settle(error)
    this.place.leave()
  }

  private release(): void {
    this.onRoom?.()
    this.room = undefined
    this.onRoom = undefined
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
  private readonly pieces = new Fifo<Uint8Array>()
  private readonly records = new Fifo<Arrival>()
  private error: Error | undefined = undefined
  private waiting:
    | { readonly resolve: (result: Result) => void; readonly reject: (error: unknown) => void }
    | undefined = undefined

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

  read(): Promise<Result> {
    const piece = this.pieces.shift()
    if (piece !== undefined) {
      this.forget(this.records.shift()!)
      this.owner.consumed(this, piece.length)
      return Promise.resolve({ done: false, value: piece })
    }
    if (this.error !== undefined) return Promise.reject(this.error)
    if (this.isOver) return Promise.resolve(done)
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
    })
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
    if (this.waiting !== undefined) {
      const { resolve } = this.waiting
      this.waiting = undefined
      this.owner.consumed(this, piece.length)
      return resolve({ done: false, value: piece })
    }
    if (record.unread++ === 0) this.owner.unread += record.bytes
    this.owner.unread += pieceCost
    // a record can be a view of much more that arrived with it
    this.pieces.push(piece.length * 8 < piece.buffer.byteLength ? piece.slice() : piece)
    this.records.push(record)
  }

  /** The peer has said everything. */
  finish(): void {
    this.over()
    this.waiting?.resolve(done)
    this.waiting = undefined
  }

  /** It ends early: with the peer's code, or with the session. */
  fail(error: Error): void {
    if (this.error !== undefined) return
    this.error = error
    let piece = this.pieces.shift()
    for (; piece !== undefined; piece = this.pieces.shift()) {
      this.forget(this.records.shift()!)
      this.owner.consumed(this, piece.length)
    }
    this.waiting?.reject(error)
    this.waiting = undefined
  }

  /** Nothing more arrives. */
  over(): void {
    if (this.isOver) return
    this.isOver = true
    this.place.leave()
  }

  private forget(record: Arrival): void {
    this.owner.unread -= pieceCost
    if (--record.unread === 0) this.owner.unread -= record.bytes
  }
}

// internal

/** What a half takes before it has to wait. */
const highWaterMark = 64 * 1024

const pieceCost = 256

const noop = (): void => {}

const settled = Promise.resolve()

const done: Result = { done: true, value: undefined }

const codeOf = (reason: unknown): number =>
  typeof reason === "object" && reason !== null && "streamErrorCode" in reason &&
    typeof reason.streamErrorCode === "number"
    ? reason.streamErrorCode >>> 0
    : 0
