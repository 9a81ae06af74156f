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
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Bag } from "../core/Bag.ts"
import { SessionClosed } from "../core/MoqError.ts"
import { Condition, Waiters } from "../core/Waiters.ts"
import type * as Transport from "./Transport.ts"
import {
  attempt,
  codeOf,
  type Dispatcher,
  field,
  ignore,
  type Owner,
  type Part,
  Receiving,
  Sending
} from "./WebTransportStream.ts"

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

// how long a connection that shows signs of its end may take to say how it ended
const lastWords = "1 second"

class ObjectConnection implements Transport.Connection, Owner {
  readonly info: Transport.ConnectionInfo
  readonly capabilities: Transport.Capabilities
  readonly ping: Effect.Effect<void, SessionClosed>
  readonly streamError: (code: number) => unknown
  readonly codeOf: (error: unknown) => number | undefined
  readonly chunkSize: number
  end: SessionClosed | undefined
  readonly parts = new Bag<Part>()
  private readonly object: WebTransportLike
  private readonly context: Context.Context<never>
  private readonly incomingBi: Incoming<BidirectionalStreamLike, Transport.BiStream>
  private readonly incomingUni: Incoming<ReadableStream<Uint8Array>, Transport.ReceiveStream>
  private readonly waiters = new Waiters()
  private isReady = false
  private losing: Fiber.Fiber<void> | undefined

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
    const pong = options.ping ?? Effect.void
    const over = Effect.flatMap(this.closed, Effect.fail)
    this.ping = Effect.suspend(() => this.end === undefined ? Effect.raceFirst(pong, over) : Effect.fail(this.end))
    this.streamError = options.streamError ?? defaultStreamError
    this.codeOf = options.codeOf ?? codeOf
    this.chunkSize = options.chunkSize ?? 64 * 1024
    this.incomingBi = new Incoming(this, object.incomingBidirectionalStreams, biStreams)
    this.incomingUni = new Incoming(this, object.incomingUnidirectionalStreams, receiveStreams)
    const onBroken = (error: unknown) => this.finish(broken(error))
    // both reject when connecting fails, so both are always handled
    object.ready.then(() => {
      this.isReady = true
      this.waiters.wake()
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
      Effect.suspend(() => this.end === undefined ? Effect.void : Effect.fail(this.end))
    )
  }

  readonly openBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.open(() => this.object.createBidirectionalStream({ waitUntilAvailable: true }), biStreams)
  )

  readonly openUni: Transport.Connection["openUni"] = (options) =>
    this.open(
      () =>
        this.object.createUnidirectionalStream(
          options?.priority === undefined
            ? { waitUntilAvailable: true }
            : { waitUntilAvailable: true, sendOrder: options.priority }
        ),
      sendStreams
    )

  readonly acceptBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.incomingBi.accept
  )

  readonly acceptUni: Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.incomingUni.accept
  )

  onBi(take: (stream: Transport.BiStream) => void): void {
    this.incomingBi.give(take)
  }

  onUni(take: (stream: Transport.ReceiveStream) => void): void {
    this.incomingUni.give(take)
  }

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      if (this.end !== undefined) return Effect.void
      this.finish(new SessionClosed({ code, reason, by: "local" }), fiber.currentDispatcher)
      this.closeObject(code, reason)
      return Effect.void
    })

  readonly closed: Effect.Effect<SessionClosed> = Effect.map(
    this.waiters.until(() => this.end !== undefined),
    () => this.end!
  )

  /** Something that a living connection does not do: it gets a moment to tell how it ended, then it is given up. */
  lose(error: unknown): void {
    if (this.losing !== undefined || this.end !== undefined) return
    const giveUp = Effect.withFiber((fiber) => {
      this.finish(broken(error), fiber.currentDispatcher)
      this.closeObject(4, "")
      return Effect.void
    })
    this.losing = Effect.runForkWith(this.context)(Effect.andThen(Effect.sleep(lastWords), giveUp))
  }

  private finish(end: SessionClosed, dispatcher?: Dispatcher): void {
    if (this.end !== undefined) return
    this.end = end
    const exit = Exit.fail(end)
    for (const part of this.parts.drain()) part.cut(exit, dispatcher)
    this.losing?.interruptUnsafe()
    this.waiters.wake(dispatcher)
  }

  private closeObject(closeCode: number, reason: string): void {
    try {
      this.object.close({ closeCode, reason })
    } catch {
      // closed already, or never opened
    }
  }

  // The object cannot take an opening back: a stream that comes too late is ended. The scope has it from the moment that
  // it is there, so nothing has to be masked.
  private open<S, A>(
    create: () => PromiseLike<S>,
    kind: Kind<S, A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.withFiber((fiber) => {
      if (this.end !== undefined) return Effect.fail(this.end)
      let opened: A | undefined
      let isWanted = true
      const close = Effect.suspend(() => {
        isWanted = false
        return opened === undefined ? Effect.void : kind.close(opened)
      })
      const opening = Effect.callback<A, SessionClosed>((resume) => {
        // not inside the object: V8 makes a function that a member begins with in the old generation
        const cut: Part["cut"] = (end, dispatcher) => {
          if (dispatcher === undefined) return resume(end)
          dispatcher.scheduleTask(() => resume(end), 0)
        }
        const part: Part = { place: -1, cut }
        this.parts.add(part)
        const creating: PromiseLike<S> & { readonly withdraw?: () => void } = attempt(create)
        creating.then((stream) => {
          if (!this.parts.delete(part) || !isWanted) return kind.discard(this, stream)
          resume(Effect.succeed(opened = kind.make(this, stream)))
        }, (error) => this.lose(error))
        return Effect.sync(() => {
          this.parts.delete(part)
          // nothing that a browser has, but our QMux
          creating.withdraw?.()
        })
      })
      return Effect.andThen(Scope.addFinalizer(scopeOf(fiber.context), close), opening)
    })
  }
}

const broken = (error: unknown): SessionClosed =>
  new SessionClosed({ code: 4, reason: describe(error), by: "transport" })

const scopeOf = (context: Context.Context<never>): Scope.Scope =>
  Context.get(context as Context.Context<Scope.Scope>, Scope.Scope)

/** What becomes of a stream of the object: somebody has it until it is closed, or nobody wants it. */
interface Kind<S, A> {
  readonly make: (owner: Owner, stream: S) => A
  readonly close: (stream: A) => Effect.Effect<void>
  readonly discard: (owner: Owner, stream: S) => void
}

const sendStreams: Kind<WritableStream<Uint8Array>, Transport.SendStream> = {
  make: (owner, writable) => new Sending(owner, writable),
  close: (send) => send.reset(0),
  discard: (owner, writable) => ignore(() => writable.abort(owner.streamError(0)))
}

const receiveStreams: Kind<ReadableStream<Uint8Array>, Transport.ReceiveStream> = {
  make: (owner, readable) => new Receiving(owner, readable),
  close: (receive) => receive.stop(0),
  discard: (owner, readable) => ignore(() => readable.cancel(owner.streamError(0)))
}

const biStreams: Kind<BidirectionalStreamLike, Transport.BiStream> = {
  make: (owner, { readable, writable }) => ({
    send: sendStreams.make(owner, writable),
    receive: receiveStreams.make(owner, readable)
  }),
  close: ({ receive, send }) => Effect.andThen(send.reset(0), receive.stop(0)),
  discard: (owner, { readable, writable }) => {
    receiveStreams.discard(owner, readable)
    sendStreams.discard(owner, writable)
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
  private readonly arrived: Array<S> = []
  // where they go, if not to fibers
  private take: ((stream: A) => void) | undefined
  private isReading = false
  private readonly waiters = new Condition(() => this.arrived.length > 0 || this.connection.end !== undefined)

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
        if (this.connection.end !== undefined) return Effect.fail(this.connection.end)
        const stream = this.arrived.shift()
        if (stream !== undefined) {
          const made = this.kind.make(this.connection, stream)
          return Effect.as(Scope.addFinalizer(scopeOf(fiber.context), this.kind.close(made)), made)
        }
        this.read()
        return Effect.flatMap(restore(this.waiters.wait), () => next)
      })
      return next
    })
  }

  give(take: (stream: A) => void): void {
    this.take = take
    if (this.connection.end !== undefined) return
    for (const stream of this.arrived.splice(0)) take(this.kind.make(this.connection, stream))
    this.read()
  }

  cut(_end: unknown, dispatcher: Dispatcher): void {
    for (const stream of this.arrived.splice(0)) this.kind.discard(this.connection, stream)
    this.waiters.wake(dispatcher)
  }

  private read(): void {
    if (this.isReading) return
    this.isReading = true
    this.reader.read().then((result) => this.onRead(result), (error) => this.connection.lose(error))
  }

  private onRead(result: ReadableStreamReadResult<S>): void {
    if (result.done) return this.connection.lose(new Error("the connection takes no more streams"))
    this.isReading = false
    if (this.connection.end !== undefined) return this.kind.discard(this.connection, result.value)
    if (this.take !== undefined) {
      this.take(this.kind.make(this.connection, result.value))
      return this.read()
    }
    this.arrived.push(result.value)
    // each waiting fiber wants a stream of its own
    if (this.waiters.size > this.arrived.length) this.read()
    this.waiters.wake()
  }
}
