/**
 * What has to be known of the records of QMux that arrive: that the first one carries the transport parameters, how many
 * streams the peer allows, what is unread, and the ids of the streams that it opens, in the order in which the package
 * hands them out. A record that this cannot follow is one that the package refuses.
 *
 * @internal
 */
import type { Bounds } from "./Bounds.ts"
import { type Arrival, Unread, type UnreadStream } from "./QmuxUnread.ts"

/** The records of one connection, seen as they arrive. */
export class Arrivals {
  /** How many streams of either kind the peer lets us have open at any time. */
  maxStreams: number
  /** The idle timeout of the peer in milliseconds; 0 for none. */
  idleTimeout: number
  readonly unread: Unread
  private readonly bi: Opened
  private readonly uni: Opened
  // streams that can still send
  private readonly sending: Map<number, UnreadStream>
  /** Whether the transport parameters are here. */
  started: boolean
  private at: number
  private readonly onAnswer: (ping: number) => void

  constructor(role: "client" | "server", limits: Bounds, onAnswer: (ping: number) => void) {
    this.maxStreams = 0
    this.idleTimeout = 0
    this.onAnswer = onAnswer
    this.unread = new Unread()
    const initiator = role === "server" ? 0 : 1
    this.bi = new Opened(initiator, limits.maxStreamsBidi)
    this.uni = new Opened(initiator + 2, limits.maxStreamsUni)
    this.sending = new Map()
    this.started = false
    this.at = 0
  }

  /** The next bidirectional stream that the package hands out. */
  nextBi(): Arrived {
    return this.bi.arrived.shift()!
  }

  /** The next unidirectional stream that the package hands out. */
  nextUni(): Arrived {
    return this.uni.arrived.shift()!
  }

  /** The peer's half of a stream that is opened here. */
  answer(id: number): Arrived {
    const arrived = { id, unread: this.unread.stream() }
    this.sending.set(id, arrived.unread)
    return arrived
  }

  /** Nobody reads a stream any more: what still comes is dropped. */
  drop({ id, unread }: Arrived): void {
    unread.clear()
    this.sending.delete(id)
  }

  see(record: Uint8Array): void {
    this.at = 0
    if (!this.started) {
      this.started = true
      if (this.varint(record) !== transportParameters) throw new Error("its first record has no transport parameters")
      const end = this.varint(record) + this.at
      this.parameters(record.subarray(0, Math.min(end, record.length)))
      this.at = end
    }
    const whole: Arrival = { bytes: record.length, unread: 0 }
    while (this.at < record.length) {
      const type = this.varint(record)
      if (type >= 0x08 && type <= 0x0f) {
        const id = this.varint(record)
        if ((type & 4) !== 0) this.varint(record)
        const length = (type & 2) === 0 ? record.length - this.at : this.varint(record)
        this.at += length
        this.open(id, true)
        if (length > 0) this.sending.get(id)?.add(whole)
        if ((type & 1) !== 0) this.sending.delete(id)
      } else if (type === 0x04 || type === 0x24) {
        const id = this.varint(record)
        this.skip(record, type === 0x04 ? 2 : 3)
        this.open(id, false)
        const unread = this.sending.get(id)
        if (unread !== undefined) this.drop({ id, unread })
      } else if (type === 0x1c || type === 0x1d) {
        return
      } else if (type === ping && record[this.at - 1] === lastOfAnswer) {
        const from = this.at - 8
        this.onAnswer(this.varint(record))
        // padding: the package would take it for the answer to a ping that it has not sent
        record.fill(0, from, this.at)
      } else {
        const fields = fieldsOf(type)
        if (fields === undefined) return
        this.skip(record, fields)
      }
    }
  }

  private open(id: number, byStream: boolean): void {
    const kind = id % 4 === this.bi.kind ? this.bi : id % 4 === this.uni.kind ? this.uni : undefined
    if (kind === undefined || !kind.isNew(Math.floor(id / 4)) || !byStream) return
    const unread = this.unread.stream()
    this.sending.set(id, unread)
    kind.arrived.push({ id, unread })
  }

  private parameters(record: Uint8Array): void {
    let bidi = 0
    let uni = 0
    while (this.at < record.length) {
      const id = this.varint(record)
      const end = this.varint(record) + this.at
      if (id === 0x01) this.idleTimeout = this.varint(record)
      if (id === 0x08) bidi = this.varint(record)
      if (id === 0x09) uni = this.varint(record)
      this.at = end
    }
    // the peer tells of free places in batches, and keeps back up to a third of them until others become free
    this.maxStreams = Math.max(1, Math.floor(Math.min(bidi, uni) * 2 / 3))
  }

  private skip(record: Uint8Array, fields: number): void {
    for (let i = 0; i < fields; i++) this.varint(record)
  }

  private varint(record: Uint8Array): number {
    const first = record[this.at]
    if (first === undefined) {
      this.at = record.length
      return 0
    }
    const length = 1 << (first >> 6)
    const at = this.at
    this.at += length
    let high = length === 8 ? first & 0x3f : 0
    let low = length === 8 ? 0 : first & 0x3f
    for (let i = 1; i < length; i++) {
      const byte = record[at + i] ?? 0
      if (length === 8 && i < 4) high = high * 256 + byte
      else low = low * 256 + byte
    }
    return high * 2 ** 32 + low
  }
}

/** A stream that the peer has opened. */
export interface Arrived {
  readonly id: number
  readonly unread: UnreadStream
}

// internal

// the streams of one kind that the peer has opened
class Opened {
  /** The lowest two bits of their ids. */
  readonly kind: number
  /** Those that the package has not handed out. */
  readonly arrived: Array<Arrived> = []
  private readonly window: number
  private highest = -1
  private readonly skipped = new Set<number>()

  constructor(kind: number, window: number) {
    this.kind = kind
    this.window = window
  }

  /** Whether nothing was heard of this one before. */
  isNew(index: number): boolean {
    if (index <= this.highest) return this.skipped.delete(index)
    if (index - this.highest > this.window) return false
    for (let skipped = this.highest + 1; skipped < index; skipped++) this.skipped.add(skipped)
    this.highest = index
    return true
  }
}

// types of eight bytes are compared as the nearest double: a neighbour that looks the same is refused by the package
const transportParameters = 0x3f515330 * 2 ** 32 + 0x0d0a0d0a
const ping = 0x348c6752 * 2 ** 32 + 0x9ef8c7bd
const lastOfAnswer = 0xbe

// how many varints follow the type of a frame that is nothing else
const fieldsOf = (type: number): number | undefined => {
  switch (type) {
    case 0x00:
      return 0
    case 0x05:
    case 0x11:
    case 0x15:
      return 2
    case 0x10:
    case 0x12:
    case 0x13:
    case 0x14:
    case 0x16:
    case 0x17:
    case ping:
      return 1
    default:
      return undefined
  }
}
