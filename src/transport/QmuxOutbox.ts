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
  // halves with something to send: a chain in the order of their turns
  private first: SendHalf | undefined = undefined
  private last: SendHalf | undefined = undefined
  // those of which something is in the record that is made
  private readonly leaving: Array<SendHalf> = []
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
    if (!half.isWaiting) this.insert(half)
    this.flushSoon()
  }

  /** The rank of a half is another one. */
  move(half: SendHalf): void {
    if (!half.isWaiting) return
    this.delete(half)
    this.insert(half)
  }

  /** A half has nothing to send for now, or any more. */
  delete(half: SendHalf): void {
    if (!half.isWaiting) return
    const { next, previous } = half
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    half.isWaiting = false
    half.next = half.previous = undefined
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
    if (this.isWanted) {
      // who gets room writes, and moves
      const halves: Array<SendHalf> = []
      for (let half = this.first; half !== undefined; half = half.next) halves.push(half)
      for (const half of halves) half.checkRoom()
    }
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
      // only now: who hears of it may do anything, and close the session as well
      while (this.leaving.length > 0) this.leaving.pop()!.onLeft()
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
    for (let room = Wire.fullRecord; half !== undefined && room >= leastRest; half = this.next()) {
      room -= this.put(half, room, parts)
    }
    return parts
  }

  // the half whose turn it is
  private next(): SendHalf | undefined {
    const credit = this.credit - this.sent
    let half = this.first
    while (half !== undefined && !half.canSend(credit)) half = half.next
    return half
  }

  // behind those of its rank: the last one is of the same rank mostly, or the first one of a lower
  private insert(half: SendHalf): void {
    let previous = this.last
    if (previous !== undefined && previous.sendOrder < half.sendOrder) {
      let next = this.first!
      while (next.sendOrder >= half.sendOrder) next = next.next!
      previous = next.previous
    }
    const next = previous === undefined ? this.first : previous.next
    half.isWaiting = true
    half.previous = previous
    half.next = next
    if (previous === undefined) this.first = half
    else previous.next = half
    if (next === undefined) this.last = half
    else next.previous = half
  }

  // puts as much of a half into a record as there is room for, and gives how much that was
  private put(half: SendHalf, room: number, parts: Array<Uint8Array>): number {
    const rest = room - Wire.fullHeader
    const length = Math.min(half.queued, half.max - half.sent, this.credit - this.sent, rest)
    const isLast = half.finishing && length === half.queued
    const header = Wire.encodeHeader(half.id, half.sent, length, isLast, length === rest)
    parts.push(header)
    half.take(length, parts)
    this.sent += length
    half.isSaid = isLast
    if (isLast || !half.canSend(Infinity)) this.delete(half)
    else this.move(half)
    this.leaving.push(half)
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
