/**
 * A peer that speaks QMux and Transfork by hand over a WebSocket, as far as it likes: it shares no code with the relay that
 * it attacks. Codes and ends are given as words, for tables.
 */
import type { Socket } from "node:net"
import { WebSocket } from "ws"
import { concat, hex, varint } from "./wire.ts"

export interface Options {
  /** The address to come from. */
  readonly from?: string | undefined
  /** What it allows the relay to send: bytes in all and by stream. Without, as good as everything. */
  readonly window?: number | undefined
  /** It tries no second time when the relay says that too many come at once (status 429). */
  readonly isImpatient?: boolean | undefined
  /** It answers no ping. */
  readonly isDeaf?: boolean | undefined
  /** Hears the first bytes of each stream that the relay opens. */
  readonly onStream?: ((id: number, bytes: Uint8Array, peer: Peer) => void) | undefined
  /** It forgets what comes on streams of groups, and only counts it. */
  readonly isForgetful?: boolean | undefined
}

/** How a stream or session has ended: `"fin"`, `"refused 13"`, `"closed 11"`, `"cut"`, ... */
export type End = string

/** What has come on one stream. */
interface Incoming {
  bytes: Uint8Array
  end: End | undefined
  stopped: End | undefined
}

export class Peer {
  /** Succeeds with an open WebSocket, and nothing said on it; fails with the status of a refusal. */
  static async open(url: string, options: Options = {}): Promise<Peer> {
    while (true) {
      try {
        return await Peer.upgrade(url, options)
      } catch (error) {
        if (options.isImpatient === true || !(error instanceof Error) || error.message !== "refused 429") throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  private static upgrade(url: string, options: Options): Promise<Peer> {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url.replace(/^http/, "ws"), ["qmux-02.moqf-02"], {
        rejectUnauthorized: false,
        perMessageDeflate: false,
        ...(options.from === undefined ? {} : { localAddress: options.from })
      })
      let tcp: Socket | undefined
      socket.on("error", reject)
      socket.on("unexpected-response", (_request, response) => {
        response.destroy()
        reject(new Error(`refused ${response.statusCode}`))
      })
      socket.on("upgrade", (response) => {
        tcp = response.socket
      })
      socket.on("open", () => resolve(new Peer(socket, tcp!, options)))
    })
  }

  /** Succeeds with an open connection of QMux. */
  static async connect(url: string, options: Options = {}): Promise<Peer> {
    const peer = await Peer.open(url, options)
    peer.record(parameters(options.window ?? 2 ** 40))
    return peer
  }

  /** Succeeds with an open session. */
  static async session(url: string, options: Options = {}): Promise<Peer> {
    const peer = await Peer.connect(url, options)
    await peer.greet()
    return peer
  }

  readonly socket: WebSocket
  readonly tcp: Socket
  readonly options: Options
  /** How the session has ended, once it has. */
  readonly closed: Promise<End>
  /** How many bytes of streams have come. */
  received: number
  private said: End | undefined
  private over: End | undefined
  private readonly streams: Map<number, Incoming>
  private readonly sent: Map<number, number>
  private readonly windows: Map<number, number>
  private readonly next: { bi: number; uni: number }
  // what the relay allows
  private readonly streamsAllowed: { bi: number; uni: number }
  private window: number
  private streamWindow: number
  private total: number
  private readonly watchers: Set<() => void>

  constructor(socket: WebSocket, tcp: Socket, options: Options) {
    this.socket = socket
    this.tcp = tcp
    this.options = options
    this.received = 0
    this.said = undefined
    this.over = undefined
    this.streams = new Map()
    this.sent = new Map()
    this.windows = new Map()
    this.next = { bi: 0, uni: 0 }
    this.streamsAllowed = { bi: 0, uni: 0 }
    this.window = 0
    this.streamWindow = 0
    this.total = 0
    this.watchers = new Set()
    this.closed = new Promise((resolve) => {
      socket.on("close", (code) => {
        this.over = this.said ?? (code === 1006 ? "cut" : `closed (WebSocket ${code})`)
        this.wake()
        resolve(this.over)
      })
    })
    socket.removeAllListeners("error")
    socket.on("error", () => {})
    socket.on("message", (data: Buffer) => this.see(data))
  }

  get isOpen(): boolean {
    return this.socket.readyState === WebSocket.OPEN
  }

  /** Sends the session stream, with SETUP for draft 03, and waits for the answer. */
  async greet(bytes: Uint8Array = setup): Promise<number> {
    const id = await this.stream("bi", bytes)
    await this.heard(id)
    return id
  }

  /** Opens a stream, once the relay allows one more, and sends bytes on it. */
  async stream(kind: "bi" | "uni", bytes: Uint8Array = empty, fin = false): Promise<number> {
    await this.until(() => this.next[kind] < this.streamsAllowed[kind])
    const id = this.idOf(kind)
    if (bytes.length > 0 || fin) this.send(id, bytes, fin)
    return id
  }

  /** The id of the next stream, whether or not the relay allows it. */
  idOf(kind: "bi" | "uni"): number {
    const id = 4 * this.next[kind]++ + (kind === "uni" ? 2 : 0)
    this.windows.set(id, this.streamWindow)
    return id
  }

  /** Sends bytes of a stream at once, whatever the windows say. */
  send(id: number, bytes: Uint8Array, fin = false): void {
    for (let at = 0; at === 0 || at < bytes.length; at += recordSize) {
      const part = bytes.subarray(at, at + recordSize)
      const isLast = at + recordSize >= bytes.length
      this.record(concat(varint(fin && isLast ? 0x0b : 0x0a), varint(id), varint(part.length), part))
    }
    this.account(id, bytes.length)
  }

  /** Sends bytes of a stream as fast as the windows allow, each chunk in a frame of its own. */
  async write(id: number, bytes: Uint8Array, chunk: number = recordSize): Promise<void> {
    for (let at = 0; at < bytes.length && this.isOpen;) {
      await this.until(() => this.room(id) > 0)
      const size = Math.min(bytes.length - at, this.room(id), chunk * Math.max(1, Math.floor(recordSize / (chunk + 8))))
      const frames: Array<Uint8Array> = []
      for (let from = at; from < at + size; from += chunk) {
        const part = bytes.subarray(from, Math.min(from + chunk, at + size))
        frames.push(varint(0x0a), varint(id), varint(part.length), part)
      }
      this.account(id, size)
      at += size
      await new Promise<void>((resolve) => this.record(concat(...frames), resolve))
    }
  }

  finish(id: number): void {
    this.send(id, empty, true)
    this.forget(id)
  }

  reset(id: number, code = 0): void {
    this.record(concat(varint(0x04), varint(id), varint(code), varint(this.sent.get(id) ?? 0)))
    this.forget(id)
  }

  /** Sends one WebSocket message. */
  record(bytes: Uint8Array, done?: () => void): void {
    if (this.isOpen) this.socket.send(bytes, done === undefined ? undefined : () => done())
    else done?.()
  }

  /** What has come on a stream, once there is something: fails with its end when there is not. */
  async heard(id: number): Promise<Uint8Array> {
    const stream = this.incoming(id)
    await this.until(() => stream.bytes.length > 0 || stream.end !== undefined)
    if (stream.bytes.length === 0) throw new Error(stream.end ?? this.over ?? "nothing")
    return stream.bytes
  }

  /** How the relay ends whichever half of a stream it ends first: `"refused 13"`, whether it resets it or stops it. */
  async refused(id: number): Promise<End> {
    const stream = this.incoming(id)
    await this.until(() => stream.end !== undefined || stream.stopped !== undefined)
    return (stream.end ?? stream.stopped)?.replace(/reset|stopped/, "refused") ?? this.over!
  }

  /** Closes at once, without a word. */
  destroy(): void {
    this.socket.terminate()
  }

  // until something holds, or the session is over
  private async until(holds: () => boolean): Promise<void> {
    while (!holds() && this.over === undefined) await new Promise<void>((resolve) => this.watchers.add(resolve))
  }

  private wake(): void {
    const watchers = [...this.watchers]
    this.watchers.clear()
    for (const watcher of watchers) watcher()
  }

  private room(id: number): number {
    return Math.min((this.windows.get(id) ?? this.streamWindow) - (this.sent.get(id) ?? 0), this.window - this.total)
  }

  private account(id: number, bytes: number): void {
    this.sent.set(id, (this.sent.get(id) ?? 0) + bytes)
    this.total += bytes
  }

  private forget(id: number): void {
    this.sent.delete(id)
    this.windows.delete(id)
  }

  private incoming(id: number): Incoming {
    let stream = this.streams.get(id)
    if (stream === undefined) this.streams.set(id, stream = { bytes: empty, end: undefined, stopped: undefined })
    return stream
  }

  private see(message: Buffer): void {
    const reader = new Fields(message)
    while (!reader.isDone) {
      const type = reader.varint()
      if (type >= 0x08 && type <= 0x0f) {
        const id = reader.varint()
        if ((type & 4) !== 0) reader.varint()
        const bytes = reader.take((type & 2) === 0 ? Infinity : reader.varint())
        this.take(id, bytes, (type & 1) !== 0)
      } else if (type === 0x04 || type === 0x24) {
        const stream = this.incoming(reader.varint())
        stream.end = `reset ${reader.varint()}`
        reader.varint()
        if (type === 0x24) reader.varint()
      } else if (type === 0x05) {
        const stream = this.incoming(reader.varint())
        stream.stopped = `stopped ${reader.varint()}`
      } else if (type === 0x10) this.window = reader.varint()
      else if (type === 0x11) this.windows.set(reader.varint(), reader.varint())
      else if (type === 0x12) this.streamsAllowed.bi = reader.varint()
      else if (type === 0x13) this.streamsAllowed.uni = reader.varint()
      else if (type === 0x1c || type === 0x1d) {
        this.said = `${type === 0x1c ? "aborted" : "closed"} ${reader.varint()}`
        break
      } else if (type === transportParameters) this.agree(new Fields(reader.take(reader.varint())))
      else if (type === ping) {
        const isQuestion = reader.previous === 0xbd
        const number = reader.varint()
        if (isQuestion && this.options.isDeaf !== true) this.record(concat(hex("f48c67529ef8c7be"), varint(number)))
      } else if (type === 0x14 || type === 0x16 || type === 0x17) reader.varint()
      else if (type === 0x15) {
        reader.varint()
        reader.varint()
      } else if (type !== 0) throw new Error(`the relay sent a frame of type ${type}`)
    }
    this.wake()
  }

  private take(id: number, bytes: Uint8Array, fin: boolean): void {
    this.received += bytes.length
    const isNew = !this.streams.has(id)
    if (this.options.isForgetful === true && id % 4 === 3) return
    const stream = this.incoming(id)
    if (stream.bytes.length < 65_536) stream.bytes = concat(stream.bytes, bytes)
    if (fin) stream.end = "fin"
    if (isNew && id % 2 === 1) this.options.onStream?.(id, stream.bytes, this)
  }

  private agree(fields: Fields): void {
    while (!fields.isDone) {
      const id = fields.varint()
      const value = new Fields(fields.take(fields.varint()))
      const number = value.isDone ? 0 : value.varint()
      if (id === 0x04) this.window = number
      if (id === 0x06) this.streamWindow = number
      if (id === 0x08) this.streamsAllowed.bi = number
      if (id === 0x09) this.streamsAllowed.uni = number
    }
  }
}

/** The session stream as a client opens it: draft 03, no extensions. */
export const setup: Uint8Array = hex("00 01 c0000000ff0bad03 00")

/** The first record: transport parameters with windows of so many bytes, and a million streams of either kind. */
export const parameters = (window: number): Uint8Array => {
  const parameter = (id: number, value: number) => {
    const bytes = varint(value)
    return concat(varint(id), varint(bytes.length), bytes)
  }
  const all = concat(
    parameter(0x04, window),
    ...[0x05, 0x06, 0x07].map((id) => parameter(id, window)),
    parameter(0x08, 2 ** 20),
    parameter(0x09, 2 ** 20)
  )
  return concat(hex("ff5153300d0a0d0a"), varint(all.length), all)
}

// types of eight bytes as the nearest double
const transportParameters = 0x3f515330 * 2 ** 32 + 0x0d0a0d0a
const ping = 0x348c6752 * 2 ** 32 + 0x9ef8c7bd

const recordSize = 16_000

const empty = new Uint8Array(0)

class Fields {
  private readonly bytes: Uint8Array
  private at: number
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.at = 0
  }
  get isDone(): boolean {
    return this.at >= this.bytes.length
  }
  /** The byte before the next one. */
  get previous(): number | undefined {
    return this.bytes[this.at - 1]
  }
  varint(): number {
    const length = 1 << (this.bytes[this.at]! >> 6)
    let high = 0
    let low = this.bytes[this.at]! & 0x3f
    // in two halves: large ones are to be the nearest double
    for (let i = 1; i < length; i++) {
      if (i === 4) [high, low] = [low, 0]
      low = low * 256 + this.bytes[this.at + i]!
    }
    this.at += length
    return high * 2 ** 32 + low
  }
  take(length: number): Uint8Array {
    const taken = this.bytes.subarray(this.at, this.at + length)
    this.at += taken.length
    return taken
  }
}
