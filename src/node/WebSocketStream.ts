/**
 * A `ws` WebSocket for `@moq/qmux`: it waits for the socket's `drain`, and what leaves in one turn of the event loop
 * leaves in one system call.
 *
 * **Details**
 *
 * It also holds what the package lacks against hostile peers:
 * - a connection whose messages take long to decode gives way to the others every few milliseconds;
 * - the package reports violations through `console`; what it prints while it decodes a message goes to `onWarning`
 *   instead. The console is replaced for exactly that synchronous stretch, in which no other code runs.
 *
 * @internal
 */
import type { Socket } from "node:net"
import { performance } from "node:perf_hooks"
import type { WebSocket } from "ws"
import { type Delivery, type Options, QmuxSocket } from "../transport/QmuxSocket.ts"

/** An open WebSocket of the package `ws` that `@moq/qmux` reads and writes. */
export class WebSocketStream extends QmuxSocket {
  private readonly ws: WebSocket
  private readonly socket: Socket
  // since when the decoder has been at work on a message; undefined while it is not
  private decoding: number | undefined
  private printError: Print
  private printWarning: Print
  private busy: number
  private corked: boolean

  /** `ws` must be open, and `socket` be the socket under it. */
  constructor(ws: WebSocket, socket: Socket, options: Options) {
    super(options)
    this.ws = ws
    this.socket = socket
    this.decoding = undefined
    this.printError = terminal.error
    this.printWarning = terminal.warn
    this.busy = 0
    this.corked = false

    ws.binaryType = "nodebuffer"
    ws.on("message", (data: Buffer, isBinary: boolean) => {
      if (isBinary) this.receive(data)
      else this.fail(new Error("a text message: QMux is binary"))
    })
    ws.on("error", (error) => this.fail(error))
    const onDrain = () => this.unblock()
    socket.on("drain", onDrain)
    ws.on("close", (closeCode, reason) => {
      socket.off("drain", onDrain)
      this.end(closeCode, reason.toString())
    })
    ws.resume()
  }

  /** Closes the WebSocket; the socket goes after the peer's answer, or one second. */
  close(): void {
    this.uncork()
    this.ws.close(1000)
  }

  protected terminate(): void {
    this.ws.terminate()
  }

  protected get isOpen(): boolean {
    return this.ws.readyState === this.ws.OPEN
  }

  protected get buffered(): number {
    return this.socket.writableLength
  }

  protected transmit(message: Uint8Array): void {
    if (!this.corked) {
      this.corked = true
      this.socket.cork()
      process.nextTick(this.uncork)
    }
    this.ws.send(message)
  }

  private readonly uncork = (): void => {
    if (!this.corked) return
    this.corked = false
    this.socket.uncork()
  }

  protected override deliver(message: Uint8Array): Delivery {
    return new Decoding(this, message)
  }

  protected override onRead(): void {
    this.leave()
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
    this.options.onWarning(line)
    // control frames (answers to pings, above all) pile up inside the package, without a limit of its own, behind a peer
    // that does not read; a conforming peer stays two orders of magnitude below the 256 KiB at which it says so
    if (line.startsWith("qmux: control backlog")) this.fail(new Error("the peer floods and does not read"))
  }
}

// internal

// how long one connection may decode before others get their turn, in milliseconds
const fairShare = 10

type Print = (...args: ReadonlyArray<unknown>) => void

const terminal: { error: Print; warn: Print } = globalThis.console

// The result of a read. The decoder's loop takes `value` and decodes it at once, so the getter marks where that begins.
class Decoding {
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
