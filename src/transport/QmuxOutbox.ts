/**
 * What waits to be sent over QMux.
 *
 * **Details**
 *
 * What is written in one turn leaves together: small writes of a stream become one frame, small frames of several streams
 * one record of up to 16 KiB. Control frames go first, each in a record of its own; then the streams by rank, those of one
 * rank in turns. A record is made when the socket takes it, so whatever waits can still be overtaken, or reset.
 *
 * @internal
 */
import type { QmuxSocket } from "./QmuxSocket.ts"
import { Fifo, type SendHalf } from "./QmuxStream.ts"
import * as Wire from "./QmuxWire.ts"

/** What one session has to send. */
export class Outbox {
  /** When something was sent last, in milliseconds. */
  saidAt = 0
  private readonly socket: QmuxSocket
  // how much may be sent in all, and has been
  private credit = 0
  private sent = 0
  private readonly control = new Fifo<Uint8Array>()
  private controlBytes = 0
  // halves with something to send
  private readonly waiting: Array<SendHalf> = []
  private turns = 0
  private isScheduled = false

  constructor(socket: QmuxSocket) {
    this.socket = socket
  }

  /** Whether bytes of streams may be sent. */
  get isWanted(): boolean {
    return this.credit > this.sent
  }

  /** A half has something to send. While its window is closed it does not wait here, where each record would ask it. */
  add(half: SendHalf): void {
    if (!half.canSend(Infinity)) return
    if (half.turn === 0) {
      half.turn = ++this.turns
      this.waiting.push(half)
    }
    this.flushSoon()
  }

  /** A half has nothing to send for now, or any more. */
  delete(half: SendHalf): void {
    if (half.turn === 0) return
    half.turn = 0
    const last = this.waiting.pop()!
    if (last !== half) this.waiting[this.waiting.indexOf(half)] = last
  }

  /** Sends a control frame. */
  say(message: Uint8Array): void {
    this.control.push(message)
    this.controlBytes += costOf(message)
    // answers pile up behind a peer that does not read; one that keeps to the rules stays two orders of magnitude below
    if (this.controlBytes > maxControl) this.socket.fail(new Error("the peer floods and does not read"))
    else this.flushSoon()
  }

  /** The peer takes so many bytes of streams in all. */
  allow(credit: number): void {
    this.credit = Math.max(this.credit, credit)
    if (this.isWanted) { for (const half of this.waiting) half.checkRoom() }
    this.flushSoon()
  }

  /** The last words: they go behind what is buffered, and wait for no room. */
  leave(close: Uint8Array): void {
    for (let message = this.control.shift(); message !== undefined; message = this.control.shift()) {
      this.socket.send([message])
    }
    this.socket.send([close])
    this.socket.close()
  }

  /** Sends what waits, with what is written until all that runs now has run. */
  flushSoon(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    settled.then(this.onTurn)
  }

  private readonly onTurn = (): void => {
    this.isScheduled = false
    this.flush()
  }

  /** Sends what waits, as far as there is room. */
  flush(): void {
    while (this.socket.isOpen && !this.socket.isBlocked) {
      const parts = this.nextControl() ?? this.nextRecord()
      if (parts === undefined) return
      this.saidAt = Date.now()
      this.socket.send(parts)
    }
  }

  private nextControl(): Array<Uint8Array> | undefined {
    const message = this.control.shift()
    if (message === undefined) return undefined
    this.controlBytes -= costOf(message)
    return [message]
  }

  private nextRecord(): Array<Uint8Array> | undefined {
    let half = this.next()
    if (half === undefined) return undefined
    const parts: Array<Uint8Array> = []
    for (let room = Wire.maxRecord; half !== undefined && room >= leastRest; half = this.next()) {
      room -= this.put(half, room, parts)
    }
    return parts
  }

  // the half whose turn it is
  private next(): SendHalf | undefined {
    const credit = this.credit - this.sent
    let best: SendHalf | undefined
    for (const half of this.waiting) {
      if (half.canSend(credit) && (best === undefined || goesBefore(half, best))) best = half
    }
    return best
  }

  // puts as much of a half into a record as there is room for, and gives how much that was
  private put(half: SendHalf, room: number, parts: Array<Uint8Array>): number {
    const rest = room - Wire.headerOf(half.id, half.sent, room)
    const length = Math.min(half.queued, half.max - half.sent, this.credit - this.sent, rest, Wire.maxPayload)
    const isLast = half.finishing && length === half.queued
    const header = Wire.encodeHeader(half.id, half.sent, length, isLast)
    parts.push(header)
    half.take(length, parts)
    this.sent += length
    if (isLast) half.finish()
    else if (!half.canSend(Infinity)) this.delete(half)
    else half.turn = ++this.turns
    return header.length + length
  }
}

// internal

// cheaper than `queueMicrotask`, of which Node makes a resource each time
const settled = Promise.resolve()

// what the control frames that wait may cost, in bytes
const maxControl = 4 * 1024 * 1024

// they are small: what keeps them costs more than what they carry
const costOf = (message: Uint8Array): number => message.length + 256

// less room than this in a record is left empty
const leastRest = 64

const goesBefore = (one: SendHalf, other: SendHalf): boolean =>
  one.sendOrder > other.sendOrder || (one.sendOrder === other.sendOrder && one.turn < other.turn)
