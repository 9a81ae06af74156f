/**
 * The frames of QMux as bytes, of the drafts that `Qmux.versions` names: those whose records are the messages of a
 * WebSocket. Numbers are doubles: what a peer counts in more than 53 bits is a little less or more.
 *
 * @internal
 */

/** The types of frames. Those of eight bytes are compared with {@link Cursor.low} as well, which doubles round. */
export const frame = {
  padding: 0x00,
  resetStream: 0x04,
  stopSending: 0x05,
  stream: 0x08,
  streamLast: 0x0f,
  maxData: 0x10,
  maxStreamData: 0x11,
  maxStreamsBidi: 0x12,
  maxStreamsUni: 0x13,
  dataBlocked: 0x14,
  streamDataBlocked: 0x15,
  streamsBlockedBidi: 0x16,
  streamsBlockedUni: 0x17,
  connectionClose: 0x1c,
  applicationClose: 0x1d,
  resetStreamAt: 0x24,
  ping: 0x348c6752 * 2 ** 32 + 0x9ef8c7bd,
  transportParameters: 0x3f515330 * 2 ** 32 + 0x0d0a0d0a
} as const

/** The last four bytes of the types of eight. */
export const low = { ping: 0x9ef8c7bd, answer: 0x9ef8c7be, transportParameters: 0x0d0a0d0a } as const

/** The bits of the type of a STREAM frame. */
export const bit = { fin: 1, length: 2, offset: 4 } as const

/** The largest record that is taken, and that a peer takes without a word: the default of the drafts. */
export const maxRecord = 16_382

/** How many bytes a STREAM frame has before its payload, when it fills a record. */
export const fullHeader = 11

/**
 * The records that are sent when there is enough to say: one STREAM frame with the largest payload that released peers take,
 * behind its header. All have one size, which the layer below can cut by.
 */
export const fullRecord: number = 16_384 - 32 + fullHeader

/** Reads a record, from its beginning to its end. */
export class Cursor {
  readonly bytes: Uint8Array
  at = 0
  /** The lowest 32 bits of the last number that took eight bytes. */
  low = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  get left(): number {
    return this.bytes.length - this.at
  }

  varint(): number {
    const { at, bytes } = this
    if (at >= bytes.length) throw cutOff()
    const first = bytes[at]!
    const size = 1 << (first >> 6)
    this.at = at + size
    if (this.at > bytes.length) throw cutOff()
    if (size === 1) return first
    if (size === 2) return (first & 0x3f) << 8 | bytes[at + 1]!
    const high = (first & 0x3f) << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!
    if (size === 4) return high
    this.low = (bytes[at + 4]! << 24 | bytes[at + 5]! << 16 | bytes[at + 6]! << 8 | bytes[at + 7]!) >>> 0
    return high * 2 ** 32 + this.low
  }

  /** The next bytes: a view. */
  take(length: number): Uint8Array {
    const { at } = this
    if (length > this.left) throw cutOff()
    this.at = at + length
    return this.bytes.subarray(at, this.at)
  }
}

/** How many bytes a number takes. */
export const sizeOf = (value: number): number => value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8

/** Writes a number, in four bytes at least where `isWide`, and gives the place behind it. */
const writeVarint = (bytes: Uint8Array, at: number, value: number, isWide: boolean = false): number => {
  if (value < 0x40 && !isWide) {
    bytes[at] = value
    return at + 1
  }
  if (value < 0x4000 && !isWide) {
    bytes[at] = 0x40 | value >> 8
    bytes[at + 1] = value
    return at + 2
  }
  if (value < 0x4000_0000) return writeWord(bytes, at, 0x8000_0000 | value)
  return writeWord(bytes, writeWord(bytes, at, 0xc000_0000 | value / 2 ** 32), value % 2 ** 32)
}

/** What a STREAM frame has before its payload: {@link fullHeader} bytes when it `fills` a record, unless numbers are huge. */
export const encodeHeader = (
  id: number,
  offset: number,
  length: number,
  isLast: boolean,
  fills: boolean = false
): Uint8Array => {
  if (filled + largestHeader > slab.length) {
    slab = new Uint8Array(slabSize)
    filled = 0
  }
  const start = filled
  slab[start] = frame.stream | bit.offset | bit.length | (isLast ? bit.fin : 0)
  filled = writeVarint(slab, writeVarint(slab, writeVarint(slab, start + 1, id, fills), offset, fills), length)
  return slab.subarray(start, filled)
}

/** A frame that is nothing but numbers. */
export const encode = (...numbers: ReadonlyArray<number>): Uint8Array => {
  const bytes = new Uint8Array(numbers.reduce((sum, value) => sum + sizeOf(value), 0))
  let at = 0
  for (const value of numbers) at = writeVarint(bytes, at, value)
  return bytes
}

/** A ping, or the answer to one, with its number as it came. */
export const encodePing = (lowest: number, number: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(8 + number.length)
  writeWord(bytes, writeWord(bytes, 0, 0xf48c_6752), lowest)
  bytes.set(number, 8)
  return bytes
}

/** CONNECTION_CLOSE or APPLICATION_CLOSE. */
export const encodeClose = (type: number, code: number, reason: string): Uint8Array => {
  const text = new TextEncoder().encode(reason)
  const head = type === frame.connectionClose
    ? encode(type, code, frame.padding, text.length)
    : encode(type, code, text.length)
  const bytes = new Uint8Array(head.length + text.length)
  bytes.set(head)
  bytes.set(text, head.length)
  return bytes
}

/** What one side tells of itself before all else. */
export interface Parameters {
  /** In milliseconds; 0 for none. */
  readonly idleTimeout: number
  readonly maxData: number
  /** Of bidirectional streams that it opens itself, of those that the other side opens, and of the other side's others. */
  readonly maxStreamDataBidiLocal: number
  readonly maxStreamDataBidiRemote: number
  readonly maxStreamDataUni: number
  readonly maxStreamsBidi: number
  readonly maxStreamsUni: number
  readonly maxRecord: number
}

/** The frame of parameters; `takesResetAt` where the draft has RESET_STREAM_AT. */
export const encodeParameters = (parameters: Parameters, takesResetAt: boolean): Uint8Array => {
  const bytes = new Uint8Array(256)
  // behind the type and the length
  let at = 10
  const put = (id: number, value: number) => {
    if (value === 0) return
    at = writeVarint(bytes, writeVarint(bytes, writeVarint(bytes, at, id), sizeOf(value)), value)
  }
  put(id.idleTimeout, parameters.idleTimeout)
  put(id.maxData, parameters.maxData)
  put(id.maxStreamDataBidiLocal, parameters.maxStreamDataBidiLocal)
  put(id.maxStreamDataBidiRemote, parameters.maxStreamDataBidiRemote)
  put(id.maxStreamDataUni, parameters.maxStreamDataUni)
  put(id.maxStreamsBidi, parameters.maxStreamsBidi)
  put(id.maxStreamsUni, parameters.maxStreamsUni)
  at = writeWord(bytes, writeWord(bytes, at, 0xc571_c594), lowOfMaxRecord)
  at = writeVarint(bytes, writeVarint(bytes, at, sizeOf(parameters.maxRecord)), parameters.maxRecord)
  if (takesResetAt) at = writeVarint(bytes, writeVarint(bytes, at, id.resetStreamAt), 0)
  const length = at - 10
  const start = 2 - sizeOf(length)
  writeVarint(bytes, writeWord(bytes, writeWord(bytes, start, 0xff51_5330), low.transportParameters), length)
  return bytes.subarray(start, at)
}

/** Reads what follows the type of a frame of parameters. */
export const decodeParameters = (record: Cursor): Parameters => {
  const cursor = new Cursor(record.take(record.varint()))
  const known = new Map<number, number>()
  while (cursor.left > 0) {
    const key = keyOf(cursor.varint(), cursor.low)
    const value = new Cursor(cursor.take(cursor.varint()))
    if (key === undefined) continue
    if (known.has(key)) throw new Error("a transport parameter comes twice")
    known.set(key, key === id.resetStreamAt ? 0 : value.varint())
    if (value.left > 0) throw new Error("a transport parameter has more bytes than its number")
  }
  const get = (key: number) => known.get(key) ?? 0
  const largest = known.get(id.maxRecord) ?? maxRecord
  if (largest < maxRecord) throw new Error("its largest record is smaller than a record may be")
  return {
    idleTimeout: get(id.idleTimeout),
    maxData: get(id.maxData),
    maxStreamDataBidiLocal: get(id.maxStreamDataBidiLocal),
    maxStreamDataBidiRemote: get(id.maxStreamDataBidiRemote),
    maxStreamDataUni: get(id.maxStreamDataUni),
    maxStreamsBidi: get(id.maxStreamsBidi),
    maxStreamsUni: get(id.maxStreamsUni),
    maxRecord: largest
  }
}

// internal

// headers are cut from this, and never written over
const slabSize = 4096
const largestHeader = 1 + 8 + 8 + 4
let slab = new Uint8Array(0)
let filled = 0

const id = {
  idleTimeout: 0x01,
  maxData: 0x04,
  maxStreamDataBidiLocal: 0x05,
  maxStreamDataBidiRemote: 0x06,
  maxStreamDataUni: 0x07,
  maxStreamsBidi: 0x08,
  maxStreamsUni: 0x09,
  resetStreamAt: 0x1d,
  maxDatagram: 0x20,
  maxRecord: 0x0571_c594 * 2 ** 32 + 0x29cd_0845,
  applicationProtocols: 0x3d4f_9c2a * 2 ** 32 + 0x8b1e_6075
} as const

const lowOfMaxRecord = 0x29cd_0845
const lowOfApplicationProtocols = 0x8b1e_6075

// the parameter that is meant, `undefined` for one that is unknown; throws for one that must not be there
const keyOf = (key: number, low: number): number | undefined => {
  switch (key) {
    case id.maxRecord:
      return low === lowOfMaxRecord ? key : undefined
    case id.applicationProtocols:
      if (low !== lowOfApplicationProtocols) return undefined
      throw new Error("a WebSocket has named the application's protocol already")
    case id.resetStreamAt:
    case id.maxDatagram:
      return key
    default:
      if (key > 0x10) return undefined
      if (key === 0x01 || (key >= id.maxData && key <= id.maxStreamsUni)) return key
      throw new Error(`QMux has no transport parameter 0x${key.toString(16)}`)
  }
}

const cutOff = (): Error => new Error("a frame is cut off")

const writeWord = (bytes: Uint8Array, at: number, word: number): number => {
  bytes[at] = word >>> 24
  bytes[at + 1] = word >>> 16
  bytes[at + 2] = word >>> 8
  bytes[at + 3] = word
  return at + 4
}
