/**
 * A WebTransport session over HTTP/2, by `@fails-components/webtransport`, as a `Connection`.
 *
 * **Details**
 *
 * The package parses capsules, schedules writes and counts windows. What it does not do by itself is added here:
 * - streams that both sides have finished, stopped or reset are forgotten, and what still comes for them is counted and
 *   dropped. The package keeps every stream for as long as the session lives; one that it is made to forget, it would
 *   take for a new one.
 * - places for streams are given back when both halves have ended, however they ended, and once.
 * - a server never opens its first bidirectional stream, whose id is 0: the package loses what spans two reads of it.
 * - writes wait for the network, not for HTTP/2.
 * - what breaks the rules ends the session, never the process: the package throws within its parser.
 * - a capsule that is kept until it is whole is bounded.
 * - an end without the capsule that closes a session is a death, not a close.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SessionClosed } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import type { Connection } from "../transport/Transport.ts"
import * as WebTransport from "../transport/WebTransport.ts"
import type {
  FlowController,
  NativeSession,
  NativeStream,
  Parser,
  SessionEvents,
  StreamIds
} from "./FailsComponents.ts"
import type { Link } from "./Http2Link.ts"
import { type Home, Stream } from "./Http2Stream.ts"

/**
 * Takes over a session that has just been made. Closing the scope closes it, and waits for the peer to take that, one
 * second at most.
 */
export const make: (options: {
  readonly native: NativeSession
  readonly role: "client" | "server"
  readonly link: Link
  readonly peer: string | undefined
  readonly limits: Bounds
}) => Effect.Effect<Connection, SessionClosed, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const { limits, link } = options
  const session = new Session(options)
  yield* Effect.addFinalizer(() => session.left)
  return yield* WebTransport.fromObject(session, {
    info: { transport: "h2", peer: options.peer },
    capabilities: {
      codes: "any",
      resetPastWrite: true,
      backpressure: true,
      priority: true,
      maxStreams: session.maxStreams,
      idleTimeout: limits.idleTimeout
    },
    ping: Effect.callback((resume) => Effect.sync(link.ping(() => resume(Effect.void))))
  })
})

// internal

// what a capsule may be that is no part of a stream: a close has a reason of 1,024 bytes at most
const maxCapsule = 4096

// what is written on and has not left cannot be overtaken by what matters more
const enough = 64 * 1024

// PROTOCOL_VIOLATION of Transfork
const violation = 15

const streamWithFin = 0x190b4d3c

class Session implements WebTransport.WebTransportLike, SessionEvents, Home {
  readonly ready: Promise<void>
  readonly closed: Promise<unknown>
  readonly incomingBidirectionalStreams: ReadableStream<WebTransport.BidirectionalStreamLike>
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>
  readonly objint: NativeSession
  state: "connecting" | "connected" | "closed" = "connecting"
  /** How many streams of either kind can be open whatever the peer's batches: it tells of free places at half of them. */
  readonly maxStreams: number
  private readonly link: Link
  private readonly bi: Kind<WebTransport.BidirectionalStreamLike>
  private readonly uni: Kind<ReadableStream<Uint8Array>>
  private becomeReady!: () => void
  private fulfil!: (end: { readonly closeCode: number; readonly reason: string }) => void
  private reject!: (error: Error) => void

  constructor({ link, native, role }: Parameters<typeof make>[0]) {
    this.objint = native
    this.link = link
    this.ready = new Promise((resolve) => {
      this.becomeReady = resolve
    })
    this.closed = new Promise((resolve, reject) => {
      this.fulfil = resolve
      this.reject = reject
    })
    const { streamIdMngrBi, streamIdMngrUni } = native
    if (role === "server") {
      streamIdMngrBi.nextOutgoingStreamId += step
      streamIdMngrBi.outgoingStreamCount += BigInt(1)
    }
    const allowed = Math.min(Number(streamIdMngrBi.outgoingMaxStreams), Number(streamIdMngrUni.outgoingMaxStreams))
    this.maxStreams = Math.max(1, Math.floor((allowed - 1) / 2))
    this.bi = new Kind(this.maxStreams, (options) => native.orderBidiStream(options))
    this.uni = new Kind(this.maxStreams, (options) => native.orderUnidiStream(options))
    this.incomingBidirectionalStreams = this.bi.incoming
    this.incomingUnidirectionalStreams = this.uni.incoming
    native.jsobj = this
    this.guard(native.capsParser, role)
  }

  readonly createBidirectionalStream = (
    options?: WebTransport.SendOptions
  ): Promise<WebTransport.BidirectionalStreamLike> =>
    this.bi.open(options, (stream) => ({ readable: stream.readable!, writable: stream.writable! }))

  readonly createUnidirectionalStream = (options?: WebTransport.SendOptions): Promise<WritableStream<Uint8Array>> =>
    this.uni.open(options, (stream) => stream.writable!)

  readonly close: WebTransport.WebTransportLike["close"] = (info) => {
    if (this.state === "closed") return
    const code = info?.closeCode ?? 0
    const reason = info?.reason ?? ""
    this.finish()
    this.objint.close({ code, reason })
    this.fulfil({ closeCode: code, reason })
  }

  /** Suspends until the stream of the session has gone, which it has to within a second. */
  readonly left: Effect.Effect<void> = Effect.callback((resume) => {
    const { stream } = this.objint
    if (stream.destroyed) return resume(Effect.void)
    const timer = setTimeout(() => stream.destroy(), 1000)
    stream.once("close", () => {
      clearTimeout(timer)
      resume(Effect.void)
    })
  })

  readonly onReady = (): void => {
    if (this.state !== "connecting") return
    this.state = "connected"
    this.becomeReady()
  }

  readonly onStream: SessionEvents["onStream"] = ({ bidirectional, incoming, sendOrder, stream: native }) => {
    const stream = new Stream(this, native, { bidirectional, incoming })
    if (!incoming) return (bidirectional ? this.bi : this.uni).opened(stream, sendOrder)
    if (bidirectional) this.bi.arrived(stream, { readable: stream.readable!, writable: stream.writable! })
    else this.uni.arrived(stream, stream.readable!)
  }

  readonly forget = (stream: Stream): void => {
    const { incoming, native, readable, writable } = stream
    const { capsParser } = this.objint
    capsParser.wtstreams.delete(native.streamid)
    capsParser.removeStream(native.streamid)
    if (this.state === "closed") return
    const kind = readable !== undefined && writable !== undefined ? this.bi : this.uni
    if (!incoming) return kind.release()
    kind.withdraw(stream)
    native.streamIdManager.onStreamClosed(native.streamid)
  }

  // of the package's own: everything that is not a close
  readonly onClose: SessionEvents["onClose"] = ({ error }) => {
    this.die(this.link.wire.failure?.message ?? (error === "" ? "the connection was cut" : error))
  }

  readonly onDatagramReceived = (): void => {}

  readonly onGoAwayReceived = (): void => {}

  private readonly die = (why: string): void => {
    if (this.state === "closed") return
    this.finish()
    this.reject(new Error(why))
  }

  private finish(): void {
    this.state = "closed"
    this.link.wire.onSent = () => {}
  }

  private readonly violate = (why: string): void => {
    if (this.state === "closed") return
    this.die(why)
    this.objint.close({ code: violation, reason: why })
  }

  private guard(parser: Parser, role: "client" | "server"): void {
    const { stream } = this.objint
    const { wire } = this.link
    const parse = parser.parseData.bind(parser)
    parser.wtstreams = new Streams(this.objint, role)
    parser.parseData = (data) => {
      if (this.state === "closed") return
      try {
        parse(data)
      } catch (error) {
        return this.violate(error instanceof Error ? error.message : String(error))
      }
      // the package forgets that a capsule ends its stream when the rest of it comes later
      parser.rtype = parser.rfin === true ? streamWithFin : undefined
      if ((parser.saveddata?.length ?? 0) > maxCapsule) return this.violate("a capsule is too long")
    }
    // the package's own goes by the marks of a stream that is far from full; a lower limit than that would not be told of
    const limit = Math.max(enough, stream.writableHighWaterMark)
    Object.defineProperty(parser, "blocked", {
      get: () => stream.writableLength + wire.socket.writableLength >= limit,
      set: () => {}
    })
    wire.onSent = () => parser.drainWrites()
    parser.removeStream = (id) => {
      if (parser.scheduler.SchedulerForStream(id) !== undefined) parser.scheduler.Unregister(id)
    }
    parser.onCloseWebTransportSession = ({ code, reason }) => {
      if (this.state === "closed") return
      this.finish()
      this.fulfil({ closeCode: code, reason })
      parser.closeHttp2Stream(code)
    }
    stream.once("end", () => {
      if (this.state === "closed") return
      this.die("it ended the session without a close")
      parser.closeHttp2Stream(0)
    })
  }
}

// Unidirectional or bidirectional streams: those that wait to be opened, and those that wait to be accepted.
class Kind<S> {
  readonly incoming: ReadableStream<S>
  private readonly order: (options: { readonly sendOrder: number; readonly waitUntilAvailable: true }) => boolean
  private places: number
  private readonly queue: Array<Opening> = []
  private readonly ordered: Array<Opening> = []
  private readonly arrivals = new Map<Stream, S>()
  private accepting: ReadableStreamDefaultController<S> | undefined

  constructor(places: number, order: Kind<S>["order"]) {
    this.places = places
    this.order = order
    this.incoming = new ReadableStream({
      pull: (controller) => {
        for (const [stream, face] of this.arrivals) {
          this.arrivals.delete(stream)
          return controller.enqueue(face)
        }
        this.accepting = controller
      }
    }, { highWaterMark: 0 })
  }

  open<A>(options: WebTransport.SendOptions | undefined, face: (stream: Stream) => A): Promise<A> {
    return new Promise((resolve) => {
      this.queue.push({ sendOrder: options?.sendOrder ?? 0, resolve: (stream) => resolve(face(stream)) })
      this.advance()
    })
  }

  /** The package hands streams out in the order of their ids, but with the ranks of those who came last. */
  opened(stream: Stream, sendOrder: number): void {
    const opening = this.ordered.shift()!
    if (opening.sendOrder !== sendOrder) Object.assign(stream.writable!, { sendOrder: opening.sendOrder })
    opening.resolve(stream)
  }

  release(): void {
    this.places++
    this.advance()
  }

  arrived(stream: Stream, face: S): void {
    const { accepting } = this
    if (accepting === undefined) return void this.arrivals.set(stream, face)
    this.accepting = undefined
    accepting.enqueue(face)
  }

  withdraw(stream: Stream): void {
    this.arrivals.delete(stream)
  }

  private advance(): void {
    while (this.places > 0 && this.queue.length > 0) {
      const opening = this.queue.shift()!
      this.places--
      this.ordered.push(opening)
      this.order({ sendOrder: opening.sendOrder, waitUntilAvailable: true })
    }
  }
}

interface Opening {
  readonly sendOrder: number
  readonly resolve: (stream: Stream) => void
}

const step = BigInt(4)

// The streams that are open, and for those that were, one that takes everything and does nothing.
class Streams extends Map<bigint, NativeStream> {
  private readonly session: NativeSession
  private readonly ours: bigint
  private readonly closed: NativeStream

  constructor(session: NativeSession, role: "client" | "server") {
    super()
    this.session = session
    this.ours = BigInt(role === "client" ? 1 : 0)
    this.closed = closedStream(session.flowController)
  }

  override get(id: bigint): NativeStream | undefined {
    const stream = super.get(id)
    if (stream !== undefined) return stream
    const ids = (id & BigInt(2)) === BigInt(0) ? this.session.streamIdMngrBi : this.session.streamIdMngrUni
    if ((id & BigInt(1)) === this.ours) {
      if (id < ids.nextOutgoingStreamId) return this.closed
      throw new Error("it means a stream that was never opened")
    }
    return hasOpened(ids, id) ? this.closed : undefined
  }
}

const none = BigInt(Number.MAX_SAFE_INTEGER)

const hasOpened = (ids: StreamIds, id: bigint): boolean =>
  ids.largestPeerCreatedStreamId !== none && id <= ids.largestPeerCreatedStreamId && !ids.availableStreams.has(id)

const closedStream = (flow: FlowController): NativeStream => {
  const nothing = () => {}
  const stream: Pick<NativeStream, "recvData"> & Record<string, unknown> = {
    recvData: ({ data }) => {
      if (data === undefined) return
      flow.updateHighestReceivedOffset(data.length)
      if (flow.flowControlViolation()) throw new Error("it sent more than it may")
      flow.addBytesConsumed(data.length)
    },
    onFin: nothing,
    onStreamSignal: nothing,
    jsobj: { onStreamRecvSignal: nothing },
    flowController: { updateSendWindowOffset: () => false }
  }
  return stream as unknown as NativeStream
}
