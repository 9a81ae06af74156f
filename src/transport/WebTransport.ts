/**
 * Turns any object with the shape of the W3C's `WebTransport` into a {@link Transport.Connection}.
 *
 * **Details**
 *
 * This is where promises and web streams end. The adapter owns the reader or writer of every stream, reads no further
 * ahead than one chunk, joins small chunks before it writes them, and gives codes back from `streamErrorCode`.
 *
 * **Example** (The browser's own)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { WebTransport } from "effect-moq"
 *
 * const connect = Effect.suspend(() =>
 *   WebTransport.fromObject(new globalThis.WebTransport("https://localhost:4443/room"), {
 *     info: { transport: "h3", peer: "localhost:4443" },
 *     capabilities: { priority: true }
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Bag } from "../core/Bag.ts"
import { errorOf } from "../core/ErrorOf.ts"
import { SessionClosed } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import { field, noop, open, type Opened, type Part, scopeOf, settled } from "./Half.ts"
import type * as Transport from "./Transport.ts"
import { attempt, codeOf, type Owner, Receiving, Sending } from "./WebTransportStream.ts"

/**
 * Both halves of a stream, as the W3C has them.
 *
 * @category models
 * @since 0.1.0
 */
export interface BidirectionalStreamLike {
  readonly readable: ReadableStream<Uint8Array>
  readonly writable: WritableStream<Uint8Array>
}

/**
 * The part of the W3C's `WebTransport` that the adapter uses.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebTransportLike {
  readonly ready: PromiseLike<unknown>
  /** Fulfils with `{ closeCode, reason }` when either side closed, rejects when the connection broke. */
  readonly closed: PromiseLike<unknown>
  readonly incomingBidirectionalStreams: ReadableStream<BidirectionalStreamLike>
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>
  readonly createBidirectionalStream: (options?: SendOptions) => PromiseLike<BidirectionalStreamLike>
  readonly createUnidirectionalStream: (options?: SendOptions) => PromiseLike<WritableStream<Uint8Array>>
  readonly close: (info?: { readonly closeCode?: number; readonly reason?: string }) => void
}

/**
 * What the W3C lets a stream be opened with.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendOptions {
  /** The rank among the streams that are sent, higher first. */
  readonly sendOrder?: number
  /** Wait when the peer allows no further stream now, rather than reject. */
  readonly waitUntilAvailable?: boolean
}

/**
 * What the adapter must be told, because the object does not say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly info: Transport.ConnectionInfo
  /**
   * What the transport can do. By default codes of 0..255, resets past blocked writes, backpressure, no priorities, 100
   * streams of each kind, an idle timeout of 30 seconds, nothing kept of streams that are over, and a ping when `ping` is
   * given.
   */
  readonly capabilities?: Partial<Transport.Capabilities> | undefined
  /**
   * Asks the peer for a sign of life; given up when the connection ends. Without it, `ping` succeeds at once while the
   * connection is open.
   */
  readonly ping?: Effect.Effect<void, SessionClosed> | undefined
  /** What `abort` and `cancel` are called with to carry a code; an `Error` with a `streamErrorCode` by default. */
  readonly streamError?: ((code: number) => unknown) | undefined
  /** The code in an error that a stream ended with, `undefined` for other errors; `streamErrorCode` by default. */
  readonly codeOf?: ((error: unknown) => number | undefined) | undefined
  /** The most bytes in one write to the object; 64 KiB by default. */
  readonly chunkSize?: number | undefined
}

/**
 * Adapts an object, once it is ready. The connection owns the object: closing the scope closes it, with code 0.
 *
 * **Details**
 *
 * `closed` of the object decides how the connection ended: fulfilled, it was closed by the peer (or here, when `close`
 * was called here first); rejected, it broke (`SessionClosed { code: 4, by: "transport" }`). The same error, with the
 * reason in words, when it never became ready. `finish` suspends until the object has taken everything that was written
 * before.
 *
 * **Gotchas**
 *
 * The object must be untouched: with a stream of it locked already, the adapter cannot work (a defect).
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromObject = (
  object: WebTransportLike,
  options: Options
): Effect.Effect<Transport.Connection, SessionClosed, Scope.Scope> =>
  Effect.withFiber((fiber) => {
    const connection = new ObjectConnection(object, options, fiber.context)
    return Scope.addFinalizer(scopeOf(fiber.context), connection.close(0, "")).pipe(
      Effect.andThen(connection.opened),
      Effect.as(connection)
    )
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const describe = (error: unknown): string => {
  const message = field(error, "message")
  return typeof message === "string" ? message : String(error)
}

const defaultStreamError = (code: number): unknown =>
  Object.assign(new Error(`stream ended with code ${code}`), { streamErrorCode: code })

const patient: SendOptions = { waitUntilAvailable: true }

// how long a connection that shows signs of its end may take to say how it ended
const lastWords = "1 second"

class ObjectConnection implements Transport.Connection, Owner {
  readonly info: Transport.ConnectionInfo
  readonly capabilities: Transport.Capabilities
  readonly streamError: (code: number) => unknown
  readonly codeOf: (error: unknown) => number | undefined
  readonly chunkSize: number
  end: Exit.Exit<never, SessionClosed> | undefined
  readonly parts = new Bag<Part>()
  private readonly object: WebTransportLike
  private readonly context: Context.Context<never>
  private readonly pong: Effect.Effect<void, SessionClosed>
  private readonly incomingBi: Incoming<BidirectionalStreamLike, BothHalves>
  private readonly incomingUni: Incoming<ReadableStream<Uint8Array>, Receiving>
  private readonly waiters = new Waiters()
  private isReady = false
  private losing: Fiber.Fiber<void> | undefined
  // once for all that is opened and accepted
  readonly onLost = (error: unknown): void => this.lose(error)

  constructor(object: WebTransportLike, options: Options, context: Context.Context<never>) {
    this.object = object
    this.context = context
    this.info = options.info
    this.capabilities = {
      codes: "byte",
      resetPastWrite: true,
      backpressure: true,
      priority: false,
      ping: options.ping !== undefined,
      maxStreams: 100,
      idleTimeout: 30_000,
      forgetsStreams: true,
      ...options.capabilities
    }
    this.pong = options.ping ?? Effect.void
    this.streamError = options.streamError ?? defaultStreamError
    this.codeOf = options.codeOf ?? codeOf
    this.chunkSize = options.chunkSize ?? 64 * 1024
    this.incomingBi = new Incoming(this, object.incomingBidirectionalStreams, biStreams)
    this.incomingUni = new Incoming(this, object.incomingUnidirectionalStreams, receiveStreams)
    const onBroken = (error: unknown) => this.finish(broken(error))
    // both reject when connecting fails, so both are always handled
    object.ready.then(() => {
      this.isReady = true
      this.waiters.notify()
    }, onBroken)
    object.closed.then((info) => {
      const code = field(info, "closeCode")
      const reason = field(info, "reason")
      this.finish(
        new SessionClosed({
          code: typeof code === "number" ? code : 0,
          reason: typeof reason === "string" ? reason : "",
          by: "remote"
        })
      )
    }, onBroken)
  }

  get opened(): Effect.Effect<void, SessionClosed> {
    return Effect.andThen(
      this.waiters.until(() => this.isReady || this.end !== undefined),
      Effect.suspend(() => this.end ?? Effect.void)
    )
  }

  get openBi(): Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> {
    return open(biStreams, (opened) => this.onOpenBi(opened))
  }

  onOpenBi(opened: Opened<BothHalves>): () => void {
    return this.begin(() => this.object.createBidirectionalStream(patient), biStreams, opened)
  }

  get openUni(): Transport.Connection["openUni"] {
    return (options) => open(sendStreams, (opened) => this.onOpenUni(options, opened))
  }

  onOpenUni(
    options: Parameters<Transport.Connection["openUni"]>[0],
    opened: Opened<Sending>
  ): () => void {
    const sendOrder = options?.priority
    const create = () =>
      this.object.createUnidirectionalStream(
        sendOrder === undefined ? patient : { ...patient, sendOrder }
      )
    return this.begin(create, sendStreams, opened)
  }

  get acceptBi(): Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> {
    return this.incomingBi.accept
  }

  get acceptUni(): Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> {
    return this.incomingUni.accept
  }

  onBi(take: (stream: Transport.BiStream) => void): void {
    this.incomingBi.give(take)
  }

  onUni(take: (stream: Transport.ReceiveStream) => void): void {
    this.incomingUni.give(take)
  }

  get close(): Transport.Connection["close"] {
    return (code, reason) => Effect.sync(() => this.finish(new SessionClosed({ code, reason, by: "local" })))
  }

  get closed(): Effect.Effect<SessionClosed> {
    return Effect.map(this.waiters.until(() => this.end !== undefined), () => errorOf(this.end!)!)
  }

  get ping(): Effect.Effect<void, SessionClosed> {
    return Effect.suspend(() => this.end ?? Effect.raceFirst(this.pong, Effect.flatMap(this.closed, Effect.fail)))
  }

  /** Something that a living connection does not do: it gets a moment to tell how it ended, then it is given up. */
  lose(error: unknown): void {
    if (this.losing !== undefined || this.end !== undefined) return
    const giveUp = Effect.sync(() => this.finish(broken(error), true))
    this.losing = Effect.runForkWith(this.context)(Effect.andThen(Effect.sleep(lastWords), giveUp))
  }

  private finish(end: SessionClosed, isLost = false): void {
    if (this.end !== undefined) return
    this.end = Exit.fail(end)
    for (const part of this.parts.drain()) part.cut(this.end)
    this.losing?.interruptUnsafe()
    this.waiters.notify()
    if (!isLost && end.by !== "local") return
    try {
      this.object.close({ closeCode: end.code, reason: isLost ? "" : end.reason })
    } catch {
      // closed already, or never opened
    }
  }

  private begin<S, A>(create: () => PromiseLike<S>, kind: Kind<S, A>, opened: Opened<A>): () => void {
    if (this.end !== undefined) {
      opened(this.end)
      return noop
    }
    const opening = new Opening(this, kind, opened)
    const creating: PromiseLike<S> & { readonly withdraw?: () => void } = attempt(create)
    creating.then((stream) => opening.onStream(stream), this.onLost)
    return () => {
      opening.withdraw()
      // nothing that a browser has, but our QMux
      creating.withdraw?.()
    }
  }
}

const broken = (error: unknown): SessionClosed =>
  new SessionClosed({ code: 4, reason: describe(error), by: "transport" })

/** What becomes of a stream of the object: somebody has it until it ends, or nobody wants it. */
interface Kind<S, A> {
  readonly make: (owner: Owner, stream: S) => A
  readonly abort: (stream: A) => void
}

const abort = (half: Sending | Receiving): void => half.abort(0)

const sendStreams: Kind<WritableStream<Uint8Array>, Sending> = {
  make: (owner, writable) => new Sending(owner, writable),
  abort
}

const receiveStreams: Kind<ReadableStream<Uint8Array>, Receiving> = {
  make: (owner, readable) => new Receiving(owner, readable),
  abort
}

interface BothHalves {
  readonly send: Sending
  readonly receive: Receiving
}

const biStreams: Kind<BidirectionalStreamLike, BothHalves> = {
  make: (owner, { readable, writable }) => ({
    send: new Sending(owner, writable),
    receive: new Receiving(owner, readable)
  }),
  abort: ({ receive, send }) => {
    abort(send)
    abort(receive)
  }
}

/** A stream on its way. The object cannot take it back: one that comes too late is ended. */
class Opening<S, A> implements Part {
  place = -1
  private readonly owner: Owner
  private readonly kind: Kind<S, A>
  private opened: Opened<A> | undefined

  constructor(owner: Owner, kind: Kind<S, A>, opened: Opened<A>) {
    this.owner = owner
    this.kind = kind
    this.opened = opened
    owner.parts.add(this)
  }

  onStream(stream: S): void {
    const made = this.kind.make(this.owner, stream)
    if (this.owner.parts.delete(this)) this.opened!(Exit.succeed(made))
    else this.kind.abort(made)
  }

  cut(end: Exit.Exit<never, SessionClosed>): void {
    void settled.then(() => this.opened?.(end))
  }

  withdraw(): void {
    this.owner.parts.delete(this)
    this.opened = undefined
  }
}

/**
 * The streams of one kind that the peer opens. It reads on only while somebody waits; what arrived for a fiber that was
 * interrupted is for the next one.
 */
class Incoming<S, A> implements Part {
  place = -1
  private readonly connection: ObjectConnection
  private readonly reader: ReadableStreamDefaultReader<S>
  private readonly kind: Kind<S, A>
  private arrived: Array<A> = []
  // where they go, if not to fibers
  private take: ((stream: A) => void) | undefined
  private isReading = false
  private readonly waiters = new Waiters()
  private readonly onResult = (result: ReadableStreamReadResult<S>): void => this.onRead(result)

  constructor(connection: ObjectConnection, streams: ReadableStream<S>, kind: Kind<S, A>) {
    this.connection = connection
    this.kind = kind
    this.take = undefined
    this.reader = streams.getReader()
    connection.parts.add(this)
  }

  get accept(): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const next: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (this.connection.end !== undefined) return this.connection.end
        const stream = this.arrived.shift()
        if (stream !== undefined) {
          const close = Effect.sync(() => this.kind.abort(stream))
          return Effect.as(Scope.addFinalizer(scopeOf(fiber.context), close), stream)
        }
        this.read()
        const arrival = this.waiters.until(() => this.arrived.length > 0 || this.connection.end !== undefined)
        return Effect.flatMap(restore(arrival), () => next)
      })
      return next
    })
  }

  give(take: (stream: A) => void): void {
    this.take = take
    if (this.connection.end !== undefined) return
    for (const stream of this.arrived.splice(0)) take(stream)
    this.read()
  }

  cut(): void {
    this.arrived.splice(0).forEach(this.kind.abort)
    this.waiters.notify()
  }

  private read(): void {
    if (this.isReading) return
    this.isReading = true
    this.reader.read().then(this.onResult, this.connection.onLost)
  }

  private onRead(result: ReadableStreamReadResult<S>): void {
    if (result.done) return this.connection.lose(new Error("the connection takes no more streams"))
    this.isReading = false
    const stream = this.kind.make(this.connection, result.value)
    if (this.connection.end !== undefined) return this.kind.abort(stream)
    if (this.take !== undefined) {
      this.take(stream)
      return this.read()
    }
    this.arrived.push(stream)
    // each waiting fiber wants a stream of its own
    if (this.waiters.size > this.arrived.length) this.read()
    this.waiters.notify()
  }
}
