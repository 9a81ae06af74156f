/**
 * A `ws` WebSocket for `@moq/qmux`: it waits for the socket's `drain`, and what leaves in one turn of the event loop
 * leaves in one system call.
 *
 * **Details**
 *
 * It also holds what the package lacks against hostile peers:
 * - a connection takes a millisecond of each turn of the event loop for what it has received, with all that follows from
 *   it at once: a burst of thousands of small messages would keep the others waiting for as long as it takes to handle;
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
  private decoding: boolean
  // since when it has been at work in this turn of the event loop, and the next one while it waits for that
  private began: number | undefined
  private turn: Promise<void> | undefined
  private printError: Print
  private printWarning: Print
  private corked: boolean

  /** `ws` must be open, and `socket` be the socket under it. */
  constructor(ws: WebSocket, socket: Socket, options: Options) {
    super(options)
    this.ws = ws
    this.socket = socket
    this.decoding = false
    this.began = undefined
    this.turn = undefined
    this.printError = terminal.error
    this.printWarning = terminal.warn
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

  protected override onRead(isBehind: boolean): Promise<void> | undefined {
    this.leave()
    if (!isBehind) {
      if (this.ws.isPaused) this.ws.resume()
      return undefined
    }
    if (this.began === undefined) {
      this.began = performance.now()
      setImmediate(this.endTurn)
    } else if (performance.now() - this.began > fairShare) {
      // no more is taken from the network meanwhile
      if (this.isOpen) this.ws.pause()
      return this.turn ??= new Promise((resolve) => setImmediate(resolve))
    }
    return undefined
  }

  private readonly endTurn = (): void => {
    this.began = undefined
    this.turn = undefined
  }

  /** @internal the decoder takes a message: it runs without a break until it asks for the next one, or gives up */
  enter(): void {
    this.decoding = true
    this.printError = terminal.error
    this.printWarning = terminal.warn
    terminal.error = this.print
    terminal.warn = this.print
    queueMicrotask(this.leave)
  }

  private readonly leave = (): void => {
    if (!this.decoding) return
    this.decoding = false
    terminal.error = this.printError
    terminal.warn = this.printWarning
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

// how long one connection may be at work before others get their turn, in milliseconds
const fairShare = 1

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
