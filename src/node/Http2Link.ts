/**
 * The HTTP/2 connection under sessions: what both ends agree on, the socket that does not make one direction wait for the
 * other, and the signs of life that the package never asks for.
 *
 * @internal
 */
import type * as Http2 from "node:http2"
import type * as Net from "node:net"
import { Duplex } from "node:stream"
import type { Bounds } from "../transport/Bounds.ts"

/** The settings of draft-ietf-webtrans-http2, by their numbers. */
export const settings = (limits: Bounds): Http2.Settings => ({
  enableConnectProtocol: true,
  customSettings: {
    [maxData]: limits.maxData,
    [maxStreamDataUni]: limits.maxStreamData,
    [maxStreamDataBidi]: limits.maxStreamData,
    [maxStreamsUni]: limits.maxStreamsUni,
    [maxStreamsBidi]: limits.maxStreamsBidi
  }
})

/** How the package is told the same. */
export const options = (limits: Bounds) => ({
  initialSessionFlowControlWindow: limits.maxData,
  sessionFlowControlWindowSizeLimit: limits.maxData,
  initialStreamFlowControlWindow: limits.maxStreamData,
  streamFlowControlWindowSizeLimit: limits.maxStreamData,
  // servers and clients have different names for them
  initialBidirectionalStreams: limits.maxStreamsBidi,
  initialBidirectionalSendStreams: limits.maxStreamsBidi,
  initialUnidirectionalStreams: limits.maxStreamsUni,
  initialUnidirectionalSendStreams: limits.maxStreamsUni
})

const maxData = 0x2b61
const maxStreamDataUni = 0x2b62
const maxStreamDataBidi = 0x2b63
const maxStreamsUni = 0x2b64
const maxStreamsBidi = 0x2b65

/** Settings of the peer that Node is to tell of. */
export const remoteCustomSettings = [maxData, maxStreamDataUni, maxStreamDataBidi, maxStreamsUni, maxStreamsBidi]

/**
 * HTTP/2 has windows of its own under those of the session, 64 KiB at first: with a round trip of 100 ms no more than 5
 * Mb/s. What arrives is read at once, and counted by the session's windows, so these can be as large.
 */
export const widen = (session: Http2.Http2Session, limits: Bounds): void => {
  session.settings({ ...settings(limits), initialWindowSize: limits.maxData })
  session.setLocalWindowSize(limits.maxData)
}

/**
 * The socket, as HTTP/2 gets it: it takes every write at once.
 *
 * Node's HTTP/2 stops reading while a write of its own waits for the network, so over a socket a slow direction holds up
 * the other one (with 1 and 100 Mb/s, by seconds), and both for ever when neither end reads. Whoever can wait looks at
 * the `writableLength` of `socket` instead; a peer that makes us write what cannot wait, and does not read, is cut off.
 */
export class Wire extends Duplex {
  readonly socket: Net.Socket
  /** Called whenever something has left. */
  onSent: () => void = ignore
  /** Why it was ended here. */
  failure: Error | undefined
  private readonly maxBacklog: number

  constructor(socket: Net.Socket, { maxBacklog }: Bounds) {
    // sockets that are ended by the other end are of no use here
    super({ allowHalfOpen: false })
    this.socket = socket
    this.maxBacklog = maxBacklog
    socket.setNoDelay()
    socket.on("data", (chunk) => {
      if (!this.push(chunk)) socket.pause()
    })
    socket.on("end", () => this.push(null))
    socket.on("error", (error) => this.destroy(error))
    socket.on("close", () => this.destroy())
    // whoever listens for errors has done so by now, and nobody has to
    this.on("error", ignore)
  }

  fail(why: string): void {
    this.failure ??= new Error(why)
    this.destroy()
  }

  override _read(): void {
    this.socket.resume()
  }

  override _write(chunk: Uint8Array, _encoding: unknown, done: () => void): void {
    this.socket.write(chunk, this.sent)
    this.written(done)
  }

  override _writev(chunks: ReadonlyArray<{ readonly chunk: Uint8Array }>, done: () => void): void {
    this.socket.cork()
    for (const { chunk } of chunks) this.socket.write(chunk, this.sent)
    this.socket.uncork()
    this.written(done)
  }

  override _final(done: () => void): void {
    this.socket.end(done)
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.socket.destroy()
    done(error)
  }

  private written(done: () => void): void {
    done()
    if (this.socket.writableLength > this.maxBacklog) this.fail("it floods and does not read")
  }

  private readonly sent = (): void => this.onSent()
}

/** Ends the connection when the peer is silent, or takes nothing, for too long. */
export class Link {
  readonly session: Http2.Http2Session
  readonly wire: Wire
  private readonly limits: Bounds
  private readonly answers = new Set<() => void>()
  private asking = false
  private read = 0
  private quiet = 0
  private written = 0
  private stuck = 0

  constructor(session: Http2.Http2Session, wire: Wire, limits: Bounds) {
    this.session = session
    this.wire = wire
    this.limits = limits
    const timer = setInterval(this.look, limits.idleTimeout / looks)
    session.on("error", ignore)
    session.once("close", () => clearInterval(timer))
  }

  /** Calls back when the peer has answered; the answer to a question that is under way will do. */
  ping(onAnswer: () => void): () => void {
    this.answers.add(onAnswer)
    this.ask()
    return () => void this.answers.delete(onAnswer)
  }

  fail(why: string): void {
    this.wire.fail(why)
    this.session.destroy()
  }

  private ask(): void {
    if (this.asking || this.session.destroyed) return
    this.asking = this.session.ping((error) => {
      this.asking = false
      if (error !== null) return
      const answers = [...this.answers]
      this.answers.clear()
      for (const onAnswer of answers) onAnswer()
    })
  }

  // any byte is a sign of life, because an answer may be stuck behind data
  private readonly look = (): void => {
    const { bytesRead, bytesWritten, writableLength } = this.wire.socket
    const { idleTimeout, writeTimeout } = this.limits
    const left = bytesWritten - writableLength
    this.quiet = bytesRead === this.read ? this.quiet + 1 : 0
    this.stuck = left === this.written && writableLength > 0 ? this.stuck + 1 : 0
    this.read = bytesRead
    this.written = left
    if (this.quiet >= looks - 1) return this.fail(`it was silent for ${idleTimeout / 1000} seconds`)
    if (this.stuck * idleTimeout / looks >= writeTimeout) {
      return this.fail(`it took nothing for ${writeTimeout / 1000} seconds`)
    }
    this.ask()
  }
}

// internal

// counted in looks, not in time: after a pause of our own process, what has come meanwhile is seen before it counts
const looks = 4

function ignore(): void {}
