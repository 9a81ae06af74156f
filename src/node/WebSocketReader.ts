/**
 * What arrives on a WebSocket, in front of `ws`: binary messages in one frame are taken here, which is nearly all that a
 * session of QMux receives; all else (control frames, fragments, what is malformed) `ws` gets, byte for byte.
 *
 * **Details**
 *
 * `ws` takes the mask off byte by byte, and copies what came in two pieces. Here it comes off word by word, and only what
 * did come in pieces is copied. A message is a view of the chunk that it came in.
 *
 * @internal
 */
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"

/** Takes the place of `ws` as the listener of a socket that is paused, when there is one. */
export const attach = (
  socket: Socket,
  options: { readonly isMasked: boolean; readonly onMessage: (message: Uint8Array) => void }
): void => {
  const others = socket.listeners("data")
  if (others.length === 0) return
  const reader = new Reader({
    ...options,
    pass: (bytes) => {
      for (const other of others) Reflect.apply(other, socket, [bytes])
    }
  })
  socket.removeAllListeners("data")
  socket.on("data", (chunk: Buffer) => reader.read(chunk))
  // before `ws`, which takes what a paused socket still has
  socket.prependListener("close", () => {
    const rest: Buffer | null = socket.readableLength > 0 ? socket.read(socket.readableLength) : null
    if (rest !== null) reader.read(rest)
  })
}

/** Parts messages from all else. */
export class Reader {
  private readonly isMasked: boolean
  private readonly onMessage: (message: Uint8Array) => void
  private readonly pass: (bytes: Buffer) => void
  // the beginning of a header
  private begun: Buffer | undefined = undefined
  // how much of the frame that is passed on is still to come, and whether other fragments follow it, or nothing of interest:
  // `ws` takes no more behind a close
  private passing = 0
  private isFragmented = false
  private isClosing = false
  // a message of which not all is here
  private message: Buffer | undefined = undefined
  private have = 0
  private mask = 0

  constructor(options: {
    readonly isMasked: boolean
    readonly onMessage: (message: Uint8Array) => void
    readonly pass: (bytes: Buffer) => void
  }) {
    this.isMasked = options.isMasked
    this.onMessage = options.onMessage
    this.pass = options.pass
  }

  /** Takes what has arrived, which is changed. */
  read(chunk: Buffer): void {
    if (this.begun !== undefined) {
      chunk = Buffer.concat([this.begun, chunk])
      this.begun = undefined
    }
    for (let at = 0; at < chunk.length;) {
      if (this.passing > 0) at = this.goOn(chunk, at)
      else if (this.isClosing) return
      else if (this.message !== undefined) at = this.fill(this.message, chunk, at)
      else {
        const next = this.begin(chunk, at)
        if (next === undefined) {
          // a view would keep all that came with it
          this.begun = Buffer.from(chunk.subarray(at))
          return
        }
        at = next
      }
    }
  }

  // a frame begins: gives where it goes on, or nothing while its header is not here
  private begin(chunk: Buffer, at: number): number | undefined {
    const left = chunk.length - at
    if (left < 2) return undefined
    const first = chunk[at]!
    const second = chunk[at + 1]!
    const short = second & 0x7f
    const size = short < 126 ? 2 : short === 126 ? 4 : 10
    const isMasked = second > 0x7f
    const header = isMasked ? size + 4 : size
    if (left < header) return undefined
    const length = short < 126
      ? short
      : short === 126
      ? chunk.readUInt16BE(at + 2)
      : chunk.readUInt32BE(at + 2) * 2 ** 32 + chunk.readUInt32BE(at + 6)
    if (first !== wholeBinary || isMasked !== this.isMasked || short === 127 || this.isFragmented) {
      const opcode = first & 0x0f
      if (opcode < 8) this.isFragmented = first < 0x80
      else if (opcode === close) this.isClosing = true
      this.passing = header + length
      return this.goOn(chunk, at)
    }
    this.mask = isMasked ? chunk.readInt32LE(at + size) : 0
    at += header
    if (at + length > chunk.length) {
      this.message = Buffer.allocUnsafeSlow(length)
      this.have = 0
      return this.fill(this.message, chunk, at)
    }
    this.hand(new Uint8Array(chunk.buffer, chunk.byteOffset + at, length))
    return at + length
  }

  private goOn(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.passing)
    this.passing -= end - at
    this.pass(chunk.subarray(at, end))
    return end
  }

  private fill(message: Buffer, chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + message.length - this.have)
    message.set(chunk.subarray(at, end), this.have)
    this.have += end - at
    if (this.have === message.length) {
      this.message = undefined
      this.hand(new Uint8Array(message.buffer, message.byteOffset, message.length))
    }
    return end
  }

  private hand(message: Uint8Array): void {
    if (this.mask !== 0) unmask(message, this.mask)
    this.onMessage(message)
  }
}

// internal

// a binary message, not compressed, in one frame
const wholeBinary = 0x82
const close = 0x08

// the words of a message are aligned after some bytes, and the mask is turned by as many; numbers are little-endian, as
// those of a typed array are on whatever Node runs on
const unmask = (message: Uint8Array, mask: number): void => {
  const { byteOffset, length } = message
  const lead = Math.min(-byteOffset & 3, length)
  for (let i = 0; i < lead; i++) message[i]! ^= mask >>> 8 * i
  const count = length - lead >> 2
  const turned = lead === 0 ? mask : mask >>> 8 * lead | mask << 32 - 8 * lead
  if (count > 0) {
    const words = new Int32Array(message.buffer, byteOffset + lead, count)
    let i = 0
    for (; i + 4 <= count; i += 4) {
      words[i]! ^= turned
      words[i + 1]! ^= turned
      words[i + 2]! ^= turned
      words[i + 3]! ^= turned
    }
    for (; i < count; i++) words[i]! ^= turned
  }
  for (let at = lead + 4 * count, i = 0; at < length; at++, i++) message[at]! ^= turned >>> 8 * i
}
