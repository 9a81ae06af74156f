/**
 * A `ws` WebSocket in the shape of a browser's `WebSocketStream`, with real backpressure, for `@moq/qmux`.
 *
 * **Details**
 *
 * The package's own wrapper polls `bufferedAmount` every 10 ms, which limits a connection to 6 MB/s. This one waits for
 * the socket's `drain`. Its `readable` and `writable` are not web streams but the two calls that the package makes on
 * them (a reader's `read`, a writer's `ready` and `write`): no queue of another kind sits between the socket and the
 * package, and what leaves in one turn of the event loop leaves in one system call.
 *
 * It also holds what the package lacks against hostile or dead peers:
 * - while our own writes make no progress, at most {@link Options.maxBacklog} bytes may arrive, for at most
 *   {@link Options.writeTimeout} milliseconds;
 * - a connection whose messages take long to decode gives way to the others every few milliseconds;
 * - the package reports violations through `console`; what it prints while it decodes a message goes to
 *   {@link Options.onWarning} instead. The console is replaced for exactly that synchronous stretch, in which no other
 *   code runs.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import type { Socket } from "node:net"
import { performance } from "node:perf_hooks"
import type { WebSocket } from "ws"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The subprotocol that was agreed on. */
  readonly protocol: string
  /** How many bytes may arrive while nothing of ours leaves. */
  readonly maxBacklog: number
  /** How long nothing of ours may leave while something waits, in milliseconds. */
  readonly writeTimeout: number
  /** Sees every message before it is decoded; what it throws ends the connection. */
  readonly onMessage?: ((message: Uint8Array) => void) | undefined
  /** What the decoder would have printed, one line. */
  readonly onWarning?: ((line: string) => void) | undefined
}

/**
 * An open WebSocket that `@moq/qmux` reads and writes.
 *
 * @category models
 * @since 0.1.0
 */
export class WebSocketStream {
  readonly url: string
  readonly opened: Promise<{
    readonly readable: { readonly getReader: () => Reader }
    readonly writable: { readonly getWriter: () => Writer }
    readonly protocol: string
    readonly extensions: string
  }>
  readonly closed: Promise<{ readonly closeCode: number; readonly reason: string }>
  /** Whether the socket is gone. */
  ended: boolean
  /** Why this side ended the connection, when it did so on its own. */
  failure: Error | undefined

  private readonly ws: WebSocket
  private readonly socket: Socket
  private readonly options: Options

  // messages that arrived and that the decoder has not asked for; at most what one read of the socket held
  private queue: Array<Uint8Array>
  private head: number
  private waiting: ((delivery: Delivery | Done) => void) | undefined
  // since when the decoder has been at work on a message; undefined while it is not
  private decoding: number | undefined
  private printError: Print
  private printWarning: Print
  private busy: number

  private corked: boolean
  private readonly writer: Writer
  private unblock: (() => void) | undefined
  private writeTimer: NodeJS.Timeout | undefined
  private waitingBytes: number
  private backlog: number

  private readonly pings: Map<string, () => void>
  private readonly observers: Set<() => void>

  /** `ws` must be open, and `socket` be the socket under it. */
  constructor(ws: WebSocket, socket: Socket, options: Options) {
    this.url = ""
    this.ended = false
    this.failure = undefined
    this.ws = ws
    this.socket = socket
    this.options = options
    this.queue = []
    this.head = 0
    this.waiting = undefined
    this.decoding = undefined
    this.printError = terminal.error
    this.printWarning = terminal.warn
    this.busy = 0
    this.corked = false
    this.unblock = undefined
    this.writeTimer = undefined
    this.waitingBytes = 0
    this.backlog = 0
    this.pings = new Map()
    this.observers = new Set()

    ws.binaryType = "nodebuffer"
    ws.on("message", (data: Buffer, isBinary: boolean) => this.receive(data, isBinary))
    ws.on("pong", (payload: Buffer) => this.pings.get(payload.toString("hex"))?.())
    ws.on("error", (error) => this.fail(error))
    socket.on("drain", this.onDrain)
    this.closed = new Promise((resolve, reject) => {
      ws.on("close", (closeCode, reason) => {
        this.onClose()
        if (this.failure !== undefined) reject(this.failure)
        else resolve({ closeCode, reason: reason.toString() })
      })
    })
    // the failure is told to whoever asks; that nobody does must not end the process
    this.closed.catch(() => {})
    const reader: Reader = { read: () => this.read() }
    const writer: Writer = {
      ready: undefined,
      desiredSize: highWaterMark,
      write: (bytes) => this.write(bytes)
    }
    this.writer = writer
    this.opened = Promise.resolve({
      protocol: options.protocol,
      extensions: "",
      readable: { getReader: () => reader },
      writable: { getWriter: () => writer }
    })
    ws.resume()
  }

  /** Closes the WebSocket; the socket goes after the peer's answer, or one second. */
  close(): void {
    this.uncork()
    this.ws.close(1000)
  }

  /** Ends the connection at once. */
  fail(error: Error): void {
    this.failure ??= error
    this.ws.terminate()
  }

  /** Puts a message before those that have arrived, as if the peer had sent it. */
  unshift(message: Uint8Array): void {
    if (this.ended) return
    if (this.waiting !== undefined) this.deliver(message)
    else if (this.head > 0) this.queue[--this.head] = message
    else this.queue.unshift(message)
  }

  /** Asks the peer for a sign of life; `onPong` is called when it has answered. Returns how to give up. */
  ping(onPong: () => void): () => void {
    const payload = randomBytes(8)
    const key = payload.toString("hex")
    const forget = () => void this.pings.delete(key)
    this.pings.set(key, () => {
      forget()
      onPong()
    })
    if (this.ws.readyState === this.ws.OPEN) this.ws.ping(payload)
    return forget
  }

  /** Calls back once the socket is gone. Returns how to give up. */
  onEnd(observer: () => void): () => void {
    if (this.ended) {
      observer()
      return () => {}
    }
    this.observers.add(observer)
    return () => void this.observers.delete(observer)
  }

  private receive(data: Buffer, isBinary: boolean): void {
    if (this.ended || this.failure !== undefined) return
    if (!isBinary) return this.fail(new Error("a text message: QMux is binary"))
    if (this.unblock !== undefined) {
      // a message costs memory beyond its bytes
      this.backlog += data.length + 64
      if (this.backlog > this.options.maxBacklog) {
        return this.fail(new Error(`the peer sent ${this.backlog} bytes and took nothing of ours`))
      }
    }
    try {
      this.options.onMessage?.(data)
    } catch (error) {
      return this.fail(error instanceof Error ? error : new Error(String(error)))
    }
    if (this.waiting === undefined) this.queue.push(data)
    else this.deliver(data)
  }

  private deliver(message: Uint8Array): void {
    const waiting = this.waiting
    this.waiting = undefined
    waiting!(new Delivery(this, message))
  }

  private read(): Promise<Delivery | Done> {
    this.leave()
    if (this.head < this.queue.length) {
      const message = this.queue[this.head++]!
      if (this.head === this.queue.length) {
        this.queue = []
        this.head = 0
      }
      return Promise.resolve(new Delivery(this, message))
    }
    if (this.ended) return Promise.resolve(done)
    return new Promise((resolve) => {
      this.waiting = resolve
    })
  }

  /** @internal the decoder takes a message: it runs without a break until it asks for the next one, or gives up */
  enter(): void {
    this.decoding = performance.now()
    this.printError = terminal.error
    this.printWarning = terminal.warn
    terminal.error = this.print
    terminal.warn = this.print
    queueMicrotask(this.leave)
  }

  private readonly leave = (): void => {
    const started = this.decoding
    if (started === undefined) return
    this.decoding = undefined
    terminal.error = this.printError
    terminal.warn = this.printWarning
    this.busy += performance.now() - started
    if (this.busy > fairShare) {
      this.busy = 0
      this.ws.pause()
      setImmediate(() => this.ws.resume())
    }
  }

  private readonly print: Print = (...args) => {
    const line = args.map((arg) => arg instanceof Error ? arg.message : String(arg)).join(" ")
    this.options.onWarning?.(line)
    // control frames (answers to pings, above all) pile up inside the package, without a limit of its own, behind a peer
    // that does not read; a conforming peer stays two orders of magnitude below the 256 KiB at which it says so
    if (line.startsWith("qmux: control backlog")) this.fail(new Error("the peer floods and does not read"))
  }

  private write(bytes: Uint8Array): void {
    if (this.ws.readyState !== this.ws.OPEN) throw this.failure ?? new Error("the WebSocket is closed")
    if (!this.corked) {
      this.corked = true
      this.socket.cork()
      process.nextTick(this.uncork)
    }
    this.ws.send(bytes)
    if (bytes[0] === connectionClose || bytes[0] === applicationClose) {
      // nothing may follow it, so there is nothing to wait for
      this.close()
      return
    }
    if (this.unblock === undefined && this.socket.writableLength > highWaterMark) this.block()
  }

  private readonly uncork = (): void => {
    if (!this.corked) return
    this.corked = false
    this.socket.uncork()
  }

  private block(): void {
    this.backlog = 0
    this.writer.desiredSize = 0
    this.writer.ready = new Promise((resolve) => {
      this.unblock = resolve
    })
    this.watch()
  }

  private watch(): void {
    this.waitingBytes = this.socket.writableLength
    this.writeTimer = setTimeout(() => {
      if (this.socket.writableLength < this.waitingBytes) {
        this.backlog = 0
        this.watch()
      } else this.fail(new Error(`the peer took nothing for ${this.options.writeTimeout} ms`))
    }, this.options.writeTimeout)
    this.writeTimer.unref()
  }

  private readonly onDrain = (): void => {
    clearTimeout(this.writeTimer)
    const unblock = this.unblock
    this.unblock = undefined
    this.writer.ready = undefined
    this.writer.desiredSize = highWaterMark
    unblock?.()
  }

  private onClose(): void {
    this.ended = true
    this.onDrain()
    this.socket.off("drain", this.onDrain)
    this.pings.clear()
    this.waiting?.(done)
    this.waiting = undefined
    const observers = [...this.observers]
    this.observers.clear()
    for (const observer of observers) observer()
  }
}

// internal

// what the socket may hold before the writer waits: enough to keep it busy, little enough that priorities still matter
const highWaterMark = 256 * 1024

// how long one connection may decode before others get their turn, in milliseconds
const fairShare = 10

const connectionClose = 0x1c
const applicationClose = 0x1d

type Print = (...args: ReadonlyArray<unknown>) => void

const terminal: { error: Print; warn: Print } = globalThis.console

interface Reader {
  readonly read: () => Promise<Delivery | Done>
}

interface Writer {
  /** Settles once there is room again; nothing while there is. */
  ready: Promise<void> | undefined
  desiredSize: number
  readonly write: (bytes: Uint8Array) => void
}

interface Done {
  readonly done: true
  readonly value: undefined
}

const done: Done = { done: true, value: undefined }

// The result of a read. The decoder's loop takes `value` and decodes it at once, so the getter marks where that begins.
class Delivery {
  readonly done: false
  private readonly owner: WebSocketStream
  private readonly message: Uint8Array

  constructor(owner: WebSocketStream, message: Uint8Array) {
    this.done = false
    this.owner = owner
    this.message = message
  }

  get value(): Uint8Array {
    this.owner.enter()
    return this.message
  }
}
