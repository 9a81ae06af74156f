/**
 * A `ws` WebSocket for QMux: it waits for the socket's `drain`, and what leaves in one turn of the event loop leaves in one
 * system call.
 *
 * **Details**
 *
 * Messages are framed here and go past `ws`, which has a single buffer for a message and masks it byte by byte. What a
 * server writes goes to the socket as it is; what a client writes is copied once, masked.
 *
 * A connection takes a millisecond of each turn of the event loop for what it has received, with all that follows from it
 * at once: a burst of thousands of small messages would keep the others waiting for as long as it takes to handle.
 *
 * @internal
 */
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import { performance } from "node:perf_hooks"
import type { WebSocket } from "ws"
import { join, type Options, QmuxSocket } from "../transport/QmuxSocket.ts"
import * as WebSocketMask from "./WebSocketMask.ts"

/** An open WebSocket of the package `ws`. */
export class WebSocketStream extends QmuxSocket {
  private readonly ws: WebSocket
  private readonly socket: Socket
  private readonly masks: boolean
  // since when it has been at work in this turn of the event loop, and whether the next one goes on
  private began: number | undefined = undefined
  private isWaiting = false
  private corked = 0

  /** `ws` must be open, without extensions, and `socket` be the socket under it. Clients mask what they send. */
  constructor(ws: WebSocket, socket: Socket, masks: boolean, options: Options) {
    super(options)
    this.ws = ws
    this.socket = socket
    this.masks = masks
    ws.binaryType = "nodebuffer"
    ws.on("message", (data: Buffer, isBinary: boolean) => {
      if (isBinary) this.receive(new Uint8Array(data.buffer, data.byteOffset, data.length))
      else this.fail(new Error("a text message: QMux is binary"))
    })
    ws.on("error", (error) => this.fail(error))
    const onDrain = () => this.unblock()
    socket.on("drain", onDrain)
    ws.on("close", () => {
      socket.off("drain", onDrain)
      this.end()
    })
    // it may have gone since it was opened, and then tells of nothing any more
    if (ws.readyState === ws.CLOSED) queueMicrotask(() => this.end())
    else ws.resume()
  }

  get isOpen(): boolean {
    return this.ws.readyState === this.ws.OPEN
  }

  /** Closes the WebSocket; the socket goes after the peer's answer, or one second. */
  close(): void {
    this.uncork()
    this.ws.close(1000)
  }

  protected terminate(): void {
    this.ws.terminate()
  }

  protected get buffered(): number {
    return this.socket.writableLength
  }

  protected transmit(parts: ReadonlyArray<Uint8Array>, length: number): void {
    const { socket } = this
    if (this.corked === 0) {
      socket.cork()
      process.nextTick(this.uncork)
    }
    this.corked += length + 1
    if (this.masks) socket.write(WebSocketMask.frame(parts, length))
    else {
      socket.write(headerOf(length))
      if (parts.length > fewParts) socket.write(join(parts, length))
      else for (let i = 0; i < parts.length; i++) socket.write(parts[i]!)
    }
    if (this.corked > atOnce) this.uncork()
  }

  private readonly uncork = (): void => {
    if (this.corked === 0) return
    this.corked = 0
    this.socket.uncork()
  }

  protected override mayGoOn(): boolean {
    if (this.began === undefined) {
      this.began = performance.now()
      setImmediate(this.onTurn)
    } else if (performance.now() - this.began > fairShare) {
      // no more is taken from the network meanwhile
      if (this.isOpen) this.ws.pause()
      this.isWaiting = true
      return false
    }
    return true
  }

  protected override onIdle(): void {
    if (this.ws.isPaused) this.ws.resume()
  }

  private readonly onTurn = (): void => {
    this.began = undefined
    if (!this.isWaiting) return
    this.isWaiting = false
    this.goOn()
  }
}

// internal

// how long one connection may be at work before others get their turn, in milliseconds
const fairShare = 1

// a binary message in one frame, shorter than 64 KiB
const headerOf = (length: number): Uint8Array => {
  if (length < 126) return Buffer.of(0x82, length)
  const header = Buffer.allocUnsafe(4)
  header[0] = 0x82
  header[1] = 126
  header.writeUInt16BE(length, 2)
  return header
}

// writing each of more parts would cost more than joining them
const fewParts = 8

// what goes to the system in one call; more would keep the peer idle meanwhile
const atOnce = 128 * 1024
