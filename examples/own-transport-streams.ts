/**
 * The streams of the transport in own-transport-message-port.ts: both halves, with credit, codes and ends.
 */
import { Cause, Effect, Exit } from "effect"
import { MoqError, type Transport } from "effect-moq"

// as in QUIC: the lowest bit of an id tells who has opened the stream, the next one its kind
export type Message =
  | readonly [type: "open" | "finish" | "over", id: number]
  | readonly [type: "reset" | "stop", id: number, code: number]
  | readonly [type: "data", id: number, bytes: Uint8Array]
  | readonly [type: "credit", id: number, bytes: number]
  | readonly [type: "ping" | "pong"]
  | readonly [type: "close", code: number, reason: string]

/** What the halves of streams need of their connection. */
export interface Wire {
  readonly post: (message: Message, transfer?: Array<ArrayBuffer>) => void
  readonly sending: Map<number, Sending>
  readonly receiving: Map<number, Receiving>
  /** A half is over, and is in its map no more. */
  readonly settle: (id: number) => void
}

export type End = Exit.Exit<never, MoqError.StreamReset | MoqError.SessionClosed>

export const resetWith = (code: number): End => Exit.fail(new MoqError.StreamReset({ code }))

/** Bytes of one stream that may wait for its reader. */
const window = 256 * 1024

/** Fibers that wait for conditions. They are asked while parking, so that nothing is missed that happens just before. */
export class Signal {
  private readonly parked = new Set<() => void>()

  until(ready: () => boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (ready()) return resume(Effect.void)
      const wake = () => {
        if (ready() && this.parked.delete(wake)) resume(Effect.void)
      }
      this.parked.add(wake)
      return Effect.sync(() => void this.parked.delete(wake))
    })
  }

  notify(): void {
    for (const wake of [...this.parked]) wake()
  }
}

/** What both halves of a stream have in common. */
class Half extends Signal {
  readonly wire: Wire
  readonly id: number

  constructor(wire: Wire, id: number) {
    super()
    this.wire = wire
    this.id = id
  }
}

export class Sending extends Half implements Transport.SendStream {
  private credit = window
  private end: End | undefined
  private isFinished = false
  private stopCode: number | undefined

  readonly write: Transport.SendStream["write"] = (chunks) => Effect.suspend(() => this.writeFrom(joined(chunks), 0))

  // a copy travels: the bytes belong to whoever wrote them, and a buffer that is transferred is gone
  private writeFrom(bytes: Uint8Array, at: number): ReturnType<Transport.SendStream["write"]> {
    if (this.end !== undefined) return this.end
    const until = Math.min(bytes.length, at + this.credit)
    if (until > at) {
      const copy = bytes.slice(at, until)
      this.wire.post(["data", this.id, copy], [copy.buffer])
      this.credit -= until - at
    }
    if (until === bytes.length) return Effect.void
    const room = this.until(() => this.credit > 0 || this.end !== undefined)
    return Effect.flatMap(room, () => this.writeFrom(bytes, until))
  }

  readonly finish: Transport.SendStream["finish"] = Effect.suspend(() => {
    if (this.isFinished) return Effect.void
    if (this.end !== undefined) return this.end
    this.isFinished = true
    this.wire.post(["finish", this.id])
    this.cut(resetWith(0))
    return Effect.void
  })

  readonly reset: Transport.SendStream["reset"] = (code) =>
    Effect.sync(() => {
      if (this.end !== undefined) return
      this.wire.post(["reset", this.id, code])
      this.cut(resetWith(code))
    })

  readonly setPriority: Transport.SendStream["setPriority"] = () => Effect.void

  readonly stopped: Transport.SendStream["stopped"] = Effect.map(
    this.until(() => this.stopCode !== undefined),
    () => this.stopCode!
  )

  /** The peer has read that much. */
  grant(bytes: number): void {
    this.credit += bytes
    this.notify()
  }

  /** The peer asks for no more. */
  stop(code: number): void {
    this.stopCode = code
    this.cut(resetWith(code))
  }

  cut(end: End): void {
    this.end ??= end
    if (this.wire.sending.delete(this.id)) this.wire.settle(this.id)
    this.notify()
  }
}

export class Receiving extends Half implements Transport.ReceiveStream {
  private chunks: Array<Uint8Array> = []
  // what comes after the chunks, or instead of them once it is cut
  private end: End | Exit.Exit<never, Cause.Done> | undefined
  private isCut = false

  readonly pull: Transport.ReceiveStream["pull"] = Effect.suspend(() => {
    if (this.chunks.length > 0 && !this.isCut) return this.take
    return this.end ??
      Effect.flatMap(this.until(() => this.chunks.length > 0 || this.end !== undefined), () => this.pull)
  })

  // all in one last step: an interruption comes before it, and leaves everything to the next pull
  private readonly take = Effect.sync(() => {
    const taken = this.chunks as [Uint8Array, ...Array<Uint8Array>]
    this.chunks = []
    this.wire.post(["credit", this.id, taken.reduce((sum, { length }) => sum + length, 0)])
    if (this.end !== undefined) this.leave()
    return taken
  })

  readonly stop: Transport.ReceiveStream["stop"] = (code) =>
    Effect.sync(() => {
      if (!this.wire.receiving.has(this.id)) return
      this.wire.post(["stop", this.id, code])
      this.cut(resetWith(code))
    })

  arrive(bytes: Uint8Array): void {
    this.chunks.push(bytes)
    this.notify()
  }

  finish(): void {
    this.end = Exit.fail(Cause.Done())
    if (this.chunks.length === 0) this.leave()
    this.notify()
  }

  cut(end: End): void {
    this.end = end
    this.isCut = true
    this.leave()
    this.notify()
  }

  private leave(): void {
    if (this.wire.receiving.delete(this.id)) this.wire.settle(this.id)
  }
}

const joined = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  if (chunks.length === 1) return chunks[0]!
  const bytes = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
