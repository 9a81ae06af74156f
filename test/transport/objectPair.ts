/**
 * Both ends of a W3C `WebTransport` in one process, over web streams.
 *
 * Each chunk is copied on its way, as a kernel would: so whoever changes a buffer after handing it over is found out.
 */
import type { BidirectionalStreamLike, SendOptions, WebTransportLike } from "../../src/transport/WebTransport.ts"

export interface ObjectPair {
  readonly client: ObjectEnd
  readonly server: ObjectEnd
}

export interface ObjectOptions {
  /** Bytes that a stream holds for its reader. */
  readonly window?: number
  /** Writes that a stream holds before one of them is asked to wait. */
  readonly queue?: number
}

export const makeObjectPair = (options: ObjectOptions = {}): ObjectPair => {
  const client = new ObjectEnd(options)
  const server = new ObjectEnd(options)
  client.peer = server
  server.peer = client
  return { client, server }
}

// errors both ends of a stream that is still open; without effect on others
type Fail = (error: unknown) => void

const sessionError = (message: string) => Object.assign(new Error(message), { source: "session" })

export class ObjectEnd implements WebTransportLike {
  readonly ready: Promise<void> = Promise.resolve()
  readonly closed: Promise<unknown>
  readonly incomingBidirectionalStreams: ReadableStream<BidirectionalStreamLike>
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>
  /** What streams were opened with, newest last. */
  readonly opened: Array<SendOptions | undefined> = []
  /** The sizes of the writes that reached the object, over all streams. */
  readonly writes: Array<number> = []
  /** Opening waits for it. */
  gate: Promise<void> = Promise.resolve()
  peer!: ObjectEnd
  private readonly window: number
  private readonly queue: number
  private readonly streams = new Set<Fail>()
  private readonly bi: ReadableStreamDefaultController<BidirectionalStreamLike>
  private readonly uni: ReadableStreamDefaultController<ReadableStream<Uint8Array>>
  private readonly settle: { readonly close: (info: unknown) => void; readonly fail: Fail }
  private isOpen = true

  constructor({ queue = 1, window = 256 * 1024 }: ObjectOptions) {
    this.window = window
    this.queue = queue
    let settle!: typeof this.settle
    this.closed = new Promise((close, fail) => {
      settle = { close, fail }
    })
    this.closed.catch(() => {})
    this.settle = settle
    let bi!: typeof this.bi
    let uni!: typeof this.uni
    this.incomingBidirectionalStreams = new ReadableStream({
      start: (controller) => {
        bi = controller
      }
    })
    this.incomingUnidirectionalStreams = new ReadableStream({
      start: (controller) => {
        uni = controller
      }
    })
    this.bi = bi
    this.uni = uni
  }

  // not a `TransformStream`: on Node 20 one that was cancelled fails the next write with a `TypeError` of its own
  private pipe(): BidirectionalStreamLike {
    let source!: ReadableStreamDefaultController<Uint8Array>
    let sink!: WritableStreamDefaultController
    let unblock = () => {}
    const cut: Fail = (error) => {
      this.streams.delete(fail)
      source.error(error)
      unblock()
    }
    const fail: Fail = (error) => {
      sink.error(error)
      cut(error)
    }
    this.streams.add(fail)
    const readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          source = controller
        },
        pull: () => unblock(),
        cancel: fail
      },
      new ByteLengthQueuingStrategy({ highWaterMark: this.window })
    )
    const writable = new WritableStream<Uint8Array>(
      {
        start: (controller) => {
          sink = controller
          controller.signal.addEventListener("abort", () => cut(controller.signal.reason))
        },
        write: (chunk) => {
          this.writes.push(chunk.length)
          source.enqueue(chunk.slice())
          return source.desiredSize! > 0 ? undefined : new Promise<void>((resolve) => {
            unblock = resolve
          })
        },
        close: () => {
          this.streams.delete(fail)
          source.close()
        }
      },
      { highWaterMark: this.queue }
    )
    return { readable, writable }
  }

  createUnidirectionalStream = async (options?: SendOptions): Promise<WritableStream<Uint8Array>> => {
    await this.gate
    if (!this.isOpen) throw sessionError("closed")
    this.opened.push(options)
    const { readable, writable } = this.pipe()
    this.peer.uni.enqueue(readable)
    return writable
  }

  createBidirectionalStream = async (options?: SendOptions): Promise<BidirectionalStreamLike> => {
    await this.gate
    if (!this.isOpen) throw sessionError("closed")
    this.opened.push(options)
    const forth = this.pipe()
    const back = this.peer.pipe()
    this.peer.bi.enqueue({ readable: forth.readable, writable: back.writable })
    return { readable: back.readable, writable: forth.writable }
  }

  close = (info: { readonly closeCode?: number; readonly reason?: string } = {}): void => {
    this.end(() => this.settle.close(info))
    this.peer.end(() => this.peer.settle.close(info))
  }

  /** Breaks the connection: `closed` rejects on both ends. */
  break = (message: string): void => {
    this.end(() => this.settle.fail(sessionError(message)))
    this.peer.end(() => this.peer.settle.fail(sessionError(message)))
  }

  // streams first and `closed` last, the order that tells an adapter least
  private end(settle: () => void): void {
    if (!this.isOpen) return
    this.isOpen = false
    for (const fail of this.streams) fail(sessionError("the session has ended"))
    this.streams.clear()
    this.bi.error(sessionError("the session has ended"))
    this.uni.error(sessionError("the session has ended"))
    settle()
  }
}
