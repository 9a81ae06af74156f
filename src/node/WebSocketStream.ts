/**
 * A `ws` WebSocket for QMux: it waits for the socket's `drain`, and what leaves in one turn of the event loop leaves in two
 * system calls at most, the first of them at once.
 *
 * **Details**
 *
 * Messages are framed here, and read here, past `ws`, which has a single buffer for a message and masks it byte by byte.
 * What a server writes in large parts goes to the socket as it is; what a client writes is copied once, masked.
 *
 * A connection takes a millisecond of each turn of the event loop for what it has received, with all that follows from it
 * at once: a burst of thousands of small messages would keep the others waiting for as long as it takes to handle.
 *
 * @internal
 */
import type { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import { performance } from "node:perf_hooks"
import { TLSSocket } from "node:tls"
import type { WebSocket } from "ws"
import { type Options, QmuxSocket } from "../transport/QmuxSocket.ts"
import { fullRecord } from "../transport/QmuxWire.ts"
import { Frames } from "./WebSocketFrames.ts"
import * as WebSocketMask from "./WebSocketMask.ts"
import * as WebSocketReader from "./WebSocketReader.ts"

/** An open WebSocket of the package `ws`. */
export class WebSocketStream extends QmuxSocket {
  private readonly ws: WebSocket
  private readonly socket: Socket
  // since when it has been at work in this turn of the event loop, and whether the next one goes on
  private began: number | undefined = undefined
  private isWaiting = false
  // what is written when all that runs now has run, and again at the end of the turn of the event loop
  private readonly frames: Frames | WebSocketMask.Frames
  private heldBytes = 0
  private isScheduled = false
  private wroteIn = -1

  /** `ws` must be open, without extensions, and `socket` be the socket under it. Clients mask what they send. */
  constructor(ws: WebSocket, socket: Socket, masks: boolean, options: Options) {
    super(options)
    this.ws = ws
    this.socket = socket
    this.frames = masks ? new WebSocketMask.Frames() : new Frames()
    // A full message of a client is a record of TLS then, and arrives in one piece. Those of a server are not cut so: where
    // V8 scavenges less often, it comes sooner to collecting all of the heap, and a viewer gains nothing.
    if (masks && socket instanceof TLSSocket) socket.setMaxSendFragment(fullRecord + 8)
    ws.binaryType = "nodebuffer"
    ws.on("message", (data: Buffer, isBinary: boolean) => {
      if (isBinary) this.receive(new Uint8Array(data.buffer, data.byteOffset, data.length))
      else this.fail(new Error("a text message: QMux is binary"))
    })
    WebSocketReader.attach(socket, { isMasked: !masks, onMessage: (message) => this.receive(message) })
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
    this.flush()
    this.ws.close(1000)
  }

  protected terminate(): void {
    this.ws.terminate()
  }

  protected get buffered(): number {
    return this.socket.writableLength + this.heldBytes
  }

  protected transmit(parts: ReadonlyArray<Uint8Array>, length: number): void {
    this.frames.add(parts, length)
    this.heldBytes += length + 8
    if (this.heldBytes > atOnce) this.flush()
    else if (!this.isScheduled) {
      this.isScheduled = true
      if (this.wroteIn === turn) late.push(this)
      else process.nextTick(this.onTick)
    }
  }

  /** Writes what is held: the time has come. */
  readonly onTick = (): void => {
    this.isScheduled = false
    this.flush()
  }

  private flush(): void {
    const { heldBytes, socket } = this
    if (heldBytes === 0) return
    this.heldBytes = 0
    const batch = this.frames.take()
    // nothing follows a close
    if (!this.isOpen) return batch.release()
    this.wroteIn = turn
    if (!isTurning) {
      isTurning = true
      setImmediate(endTurn)
    }
    if (heldBytes < few && socket.writableLength > 0) batch.own()
    const { chunks, release } = batch
    const last = chunks.length - 1
    // one alone goes to the system, or to TLS, without a copy
    if (last === 0) return void socket.write(chunks[0]!, release)
    socket.cork()
    for (let i = 0; i < last; i++) socket.write(chunks[i]!)
    socket.write(chunks[last]!, release)
    socket.uncork()
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

// The turn of the event loop: many messages can come in one, each at a time of its own. What follows from the first goes out
// at once, and what follows from the others together, at the end.
let turn = 0
let isTurning = false
const late: Array<WebSocketStream> = []
const endTurn = (): void => {
  isTurning = false
  turn++
  for (const stream of late.splice(0)) stream.onTick()
}

// what goes to the system in one call; more would keep the peer idle meanwhile
const atOnce = 128 * 1024

// less than this is not worth the slabs that it lies in
const few = 32 * 1024
