/**
 * One stream of a session over HTTP/2: what the package parses and schedules, as web streams of our own.
 *
 * **Details**
 *
 * - What has arrived is given back to the peer's windows only when it is read, so a stream that nobody reads holds its
 *   window at most, and the peer waits. It is copied out of the network's buffers, and small pieces are joined, so that
 *   it takes no more memory than it has bytes.
 * - Resets and stops act at once, whatever write is pending, and carry any code. What was not sent yet is dropped.
 * - A stream whose halves have both ended is forgotten, and its place is free again, once. What has arrived counts as
 *   open until it is read, so streams that nobody accepts keep their places, unless the peer resets them.
 *
 * @internal
 */
import type { NativeSession, NativeStream, Received, SessionEvents, StreamEvents } from "./FailsComponents.ts"

/** What a stream needs of its session. */
export interface Home {
  readonly state: SessionEvents["state"]
  readonly objint: NativeSession
  /** Both halves have ended: of an incoming stream that nobody accepted, because the peer took them back. */
  readonly forget: (stream: Stream) => void
}

export class Stream implements StreamEvents {
  readonly parentobj: Home
  readonly native: NativeStream
  /** The peer opened it. */
  readonly incoming: boolean
  readonly readable: ReadableStream<Uint8Array> | undefined
  readonly writable: WritableStream<Uint8Array> | undefined
  // each until its half has ended
  private receiving: ReadableStreamDefaultController<Uint8Array> | undefined
  private sending: WritableStreamDefaultController | undefined
  private readonly inbox = new Inbox()
  private wanted = false
  private finished = false
  private finishing = false
  private written: (() => void) | undefined

  constructor(home: Home, native: NativeStream, kind: { readonly bidirectional: boolean; readonly incoming: boolean }) {
    this.parentobj = home
    this.native = native
    this.incoming = kind.incoming
    native.jsobj = this
    native.recvData = this.receive
    // the package may come to this more than once for a stream, and never when both ends finish theirs
    native.onClose = nothing
    if (kind.bidirectional || kind.incoming) this.readable = this.makeReadable()
    if (kind.bidirectional || !kind.incoming) this.writable = this.makeWritable()
  }

  readonly onStreamRecvSignal: StreamEvents["onStreamRecvSignal"] = ({ code, nettask }) => {
    if (nettask === "resetStream") return this.endReceiving(code)
    this.endSending(code)
  }

  readonly onStreamWrite = (): void => {
    if (this.finishing && this.native.outgochunks.length === 0) {
      this.sending = undefined
      this.settle()
    }
    this.written?.()
  }

  readonly onStreamNetworkFinish = nothing

  private makeReadable(): ReadableStream<Uint8Array> {
    return new ReadableStream({
      start: (controller) => {
        this.receiving = controller
      },
      pull: (controller) => {
        const chunk = this.inbox.take()
        if (chunk !== undefined) return this.give(controller, chunk)
        if (this.finished) return this.close(controller)
        this.wanted = true
      },
      cancel: (reason) => {
        this.native.stopSending(codeOf(reason))
        this.endReceiving(undefined)
      }
    }, { highWaterMark: 0 })
  }

  private makeWritable(): WritableStream<Uint8Array> {
    const writable = new WritableStream<Uint8Array>({
      start: (controller) => {
        this.sending = controller
        // `abort` of the sink waits for a pending write, the signal does not
        controller.signal.addEventListener("abort", () => this.reset(codeOf(controller.signal.reason)))
      },
      write: (chunk) => {
        this.native.writeChunk(chunk)
        return this.departure()
      },
      close: () => {
        this.finishing = true
        this.native.streamFinal()
        return this.departure()
      }
    }, new ByteLengthQueuingStrategy({ highWaterMark: 64 * 1024 }))
    return Object.defineProperty(writable, "sendOrder", {
      set: (sendOrder: number) => {
        if (this.sending === undefined) return
        this.parentobj.objint.capsParser.scheduler.UpdateSendOrder(this.native.streamid, sendOrder)
      }
    })
  }

  private departure(): Promise<void> {
    return new Promise((resolve) => {
      this.written = resolve
    })
  }

  private readonly receive = ({ data, fin }: Received): void => {
    const session = this.parentobj.objint.flowController
    if (data !== undefined && data.length > 0) {
      const { flowController } = this.native
      flowController.updateHighestReceivedOffset(data.length)
      session.updateHighestReceivedOffset(data.length)
      if (flowController.flowControlViolation() || session.flowControlViolation()) {
        throw new Error("it sent more than it may")
      }
      if (this.receiving === undefined || this.finished) session.addBytesConsumed(data.length)
      else if (this.wanted) this.give(this.receiving, data.slice())
      else this.inbox.put(data)
    }
    if (!fin || this.receiving === undefined) return
    this.finished = true
    if (this.wanted) this.close(this.receiving)
  }

  private give(controller: ReadableStreamDefaultController<Uint8Array>, chunk: Uint8Array): void {
    this.wanted = false
    controller.enqueue(chunk)
    this.native.flowController.addBytesConsumed(chunk.length)
    this.parentobj.objint.flowController.addBytesConsumed(chunk.length)
  }

  private close(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.receiving = undefined
    controller.close()
    this.settle()
  }

  private endReceiving(code: number | undefined): void {
    const { receiving } = this
    if (receiving === undefined) return
    this.receiving = undefined
    this.parentobj.objint.flowController.addBytesConsumed(this.inbox.clear())
    if (code !== undefined) receiving.error(streamError(code))
    this.settle()
  }

  private reset(code: number): void {
    if (this.sending === undefined) return
    this.native.outgochunks.length = 0
    this.native.resetStream(code)
    this.sending = undefined
    this.written?.()
    this.settle()
  }

  // the peer wants no more
  private endSending(code: number): void {
    const { sending } = this
    if (sending === undefined) return
    this.native.outgochunks.length = 0
    this.sending = undefined
    sending.error(streamError(code))
    this.written?.()
    this.settle()
  }

  private settle(): void {
    if (this.receiving === undefined && this.sending === undefined) this.parentobj.forget(this)
  }
}

/** What an end with a code is called with, both ways. */
export const streamError = (code: number): Error =>
  Object.assign(new Error(`the stream ended with code ${code}`), { streamErrorCode: code })

// internal

function nothing(): void {}

const codeOf = (error: unknown): number => (error as { readonly streamErrorCode: number }).streamErrorCode

// Bytes that nobody has asked for yet, in blocks that double, so that tiny pieces cost little more than their bytes.
class Inbox {
  private readonly blocks: Array<Uint8Array> = []
  private last: Uint8Array | undefined
  private filled = 0

  put(data: Uint8Array): void {
    const { filled, last } = this
    if (last !== undefined) {
      if (last.length - filled >= data.length) {
        last.set(data, filled)
        this.filled += data.length
        return
      }
      this.blocks.push(last.subarray(0, filled))
    }
    this.last = new Uint8Array(Math.max(data.length, last === undefined ? 0 : Math.min(2 * last.length, largestBlock)))
    this.last.set(data)
    this.filled = data.length
  }

  take(): Uint8Array | undefined {
    if (this.blocks.length > 0) return this.blocks.shift()
    const block = this.last?.subarray(0, this.filled)
    this.last = undefined
    return block
  }

  /** Drops everything, and tells how many bytes that was. */
  clear(): number {
    let bytes = 0
    for (let block = this.take(); block !== undefined; block = this.take()) bytes += block.length
    return bytes
  }
}

const largestBlock = 16 * 1024
