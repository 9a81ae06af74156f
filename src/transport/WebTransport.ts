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
import * as Scope from "effect/Scope"
import { SessionClosed } from "../core/MoqError.ts"
import { Condition } from "../core/Waiters.ts"
import type * as Transport from "./Transport.ts"
import {
  attempt,
  codeOf,
  type Dispatcher,
  field,
  ignore,
  noop,
  type Owner,
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
  /** The most bytes in one write to the object; 16 KiB by default. */
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
  Effect.flatMap(Effect.scope, (scope) =>
    Effect.suspend(() => {
      const connection = new ObjectConnection(object, options)
      return Scope.addFinalizer(scope, connection.close(0, "")).pipe(
        Effect.andThen(Effect.forkIn(connection.giveUpWhenLost, scope)),
        Effect.andThen(connection.opened),
        Effect.as(connection)
      )
    }))

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
  readonly halves = new Set<Sending | Receiving>()
  private readonly object: WebTransportLike
  private readonly incomingBi: Incoming<BidirectionalStreamLike>
  private readonly incomingUni: Incoming<ReadableStream<Uint8Array>>
  private readonly opening = new Set<(dispatcher: Dispatcher) => void>()
  private readonly closing = new Condition(() => this.end !== undefined)
  private isReady = false
  private readonly becomingReady = new Condition(() => this.isReady || this.end !== undefined)
  private lost: { readonly error: unknown } | undefined
  private readonly losing = new Condition(() => this.lost !== undefined)

  constructor(object: WebTransportLike, options: Options) {
    this.object = object
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
    this.chunkSize = options.chunkSize ?? 16 * 1024
    this.incomingBi = new Incoming(this, object.incomingBidirectionalStreams, this.discardBi)
    this.incomingUni = new Incoming(this, object.incomingUnidirectionalStreams, this.discardReadable)
    // both reject when connecting fails, so both are always handled
    object.ready.then(
      () => {
        this.isReady = true
        this.becomingReady.wake()
      },
      (error) => this.finish(broken(error))
    )
    object.closed.then(
      (info) => {
        const code = field(info, "closeCode")
        const reason = field(info, "reason")
        this.finish(
          new SessionClosed({
            code: typeof code === "number" ? code : 0,
            reason: typeof reason === "string" ? reason : "",
            by: "remote"
          })
        )
      },
      (error) => this.finish(broken(error))
    )
  }

  readonly opened: Effect.Effect<void, SessionClosed> = Effect.suspend(() => {
    if (this.end !== undefined) return Effect.fail(this.end)
    return this.isReady ? Effect.void : Effect.flatMap(this.becomingReady.wait, () => this.opened)
  })

  readonly openBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.open(
      () => this.object.createBidirectionalStream({ waitUntilAvailable: true }),
      this.discardBi,
      this.ownBi
    )
  )

  readonly openUni: Transport.Connection["openUni"] = (options) =>
    this.open(
      () =>
        this.object.createUnidirectionalStream(
          options?.priority === undefined
            ? { waitUntilAvailable: true }
            : { waitUntilAvailable: true, sendOrder: options.priority }
        ),
      this.discardWritable,
      (writable, scope) => {
        const send = new Sending(this, writable)
        return Effect.as(Scope.addFinalizer(scope, send.reset(0)), send)
      }
    )

  readonly acceptBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.incomingBi.accept(this.ownBi)
  )

  readonly acceptUni: Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.incomingUni.accept((readable, scope) => {
      const receive = new Receiving(this, readable)
      return Effect.as(Scope.addFinalizer(scope, receive.stop(0)), receive)
    })
  )

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      if (this.end !== undefined) return Effect.void
      this.finish(new SessionClosed({ code, reason, by: "local" }), fiber.currentDispatcher)
      this.closeObject(code, reason)
      return Effect.void
    })

  readonly closed: Effect.Effect<SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.flatMap(this.closing.wait, () => this.closed) : Effect.succeed(this.end)
  )

  /** Something that a living connection does not do: it gets a moment to tell how it ended, then it is given up. */
  lose(error: unknown): void {
    this.lost ??= { error }
    this.losing.wake()
  }

  readonly giveUpWhenLost: Effect.Effect<void> = Effect.suspend(() => {
    if (this.lost === undefined) return Effect.flatMap(this.losing.wait, () => this.giveUpWhenLost)
    const { error } = this.lost
    return Effect.flatMap(Effect.sleep(lastWords), () =>
      Effect.withFiber((fiber) => {
        if (this.end !== undefined) return Effect.void
        this.finish(broken(error), fiber.currentDispatcher)
        this.closeObject(4, "")
        return Effect.void
      }))
  })

  private finish(end: SessionClosed, dispatcher?: Dispatcher): void {
    if (this.end !== undefined) return
    this.end = end
    const exit = Exit.fail(end)
    for (const half of this.halves) half.cut(exit, dispatcher)
    this.halves.clear()
    for (const opening of this.opening) opening(dispatcher)
    this.incomingBi.end(dispatcher)
    this.incomingUni.end(dispatcher)
    this.becomingReady.wake(dispatcher)
    this.closing.wake(dispatcher)
  }

  private closeObject(closeCode: number, reason: string): void {
    try {
      this.object.close({ closeCode, reason })
    } catch {
      // closed already, or never opened
    }
  }

  // the object cannot take an opening back, so only the wait is interruptible, and a stream that comes too late is ended
  private open<S, A>(
    create: () => PromiseLike<S>,
    discard: (stream: S) => void,
    own: (stream: S, scope: Scope.Scope) => Effect.Effect<A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        if (this.end !== undefined) return Effect.fail(this.end)
        const created = Effect.callback<S, SessionClosed>((resume) => {
          let waiting = true
          const stopWaiting = () => {
            waiting = false
            this.opening.delete(onEnd)
          }
          const onEnd = (dispatcher: Dispatcher) => {
            stopWaiting()
            const failure = Effect.fail(this.end!)
            if (dispatcher === undefined) return resume(failure)
            dispatcher.scheduleTask(() => resume(failure), 0)
          }
          this.opening.add(onEnd)
          attempt(create).then(
            (stream) => {
              if (!waiting) return discard(stream)
              stopWaiting()
              resume(Effect.succeed(stream))
            },
            (error) => this.lose(error)
          )
          return Effect.sync(stopWaiting)
        })
        return Effect.flatMap(restore(created), (stream) => own(stream, scopeOf(fiber.context)))
      })
    )
  }

  private readonly ownBi = (stream: BidirectionalStreamLike, scope: Scope.Scope): Effect.Effect<Transport.BiStream> => {
    const send = new Sending(this, stream.writable)
    const receive = new Receiving(this, stream.readable)
    return Effect.as(Scope.addFinalizer(scope, Effect.andThen(send.reset(0), receive.stop(0))), { send, receive })
  }

  private readonly discardReadable = (readable: ReadableStream<Uint8Array>): void =>
    ignore(() => readable.cancel(this.streamError(0)))

  private readonly discardWritable = (writable: WritableStream<Uint8Array>): void =>
    ignore(() => writable.abort(this.streamError(0)))

  private readonly discardBi = (stream: BidirectionalStreamLike): void => {
    this.discardReadable(stream.readable)
    this.discardWritable(stream.writable)
  }
}

const broken = (error: unknown): SessionClosed =>
  new SessionClosed({ code: 4, reason: describe(error), by: "transport" })

const scopeOf = (context: Context.Context<never>): Scope.Scope =>
  Context.get(context as Context.Context<Scope.Scope>, Scope.Scope)

/**
 * The streams of one kind that the peer opens. It reads on only while somebody waits; what arrived for a fiber that was
 * interrupted is for the next one.
 */
class Incoming<S> {
  private readonly connection: ObjectConnection
  private readonly reader: ReadableStreamDefaultReader<S>
  private readonly discard: (stream: S) => void
  private readonly arrived: Array<S> = []
  private reading = false
  private readonly waiters = new Condition(() => this.arrived.length > 0 || this.connection.end !== undefined)

  constructor(connection: ObjectConnection, streams: ReadableStream<S>, discard: (stream: S) => void) {
    this.connection = connection
    this.discard = discard
    this.reader = streams.getReader()
    this.reader.closed.then(noop, noop)
  }

  accept<A>(
    own: (stream: S, scope: Scope.Scope) => Effect.Effect<A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const next: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (this.connection.end !== undefined) return Effect.fail(this.connection.end)
        const stream = this.arrived.shift()
        if (stream !== undefined) return own(stream, scopeOf(fiber.context))
        this.read()
        return Effect.flatMap(restore(this.waiters.wait), () => next)
      })
      return next
    })
  }

  end(dispatcher: Dispatcher): void {
    for (const stream of this.arrived.splice(0)) this.discard(stream)
    this.waiters.wake(dispatcher)
  }

  private read(): void {
    if (this.reading) return
    this.reading = true
    this.reader.read().then(this.onRead, (error) => this.connection.lose(error))
  }

  private readonly onRead = (result: ReadableStreamReadResult<S>): void => {
    if (result.done) return this.connection.lose(new Error("the connection takes no more streams"))
    this.reading = false
    if (this.connection.end !== undefined) return this.discard(result.value)
    this.arrived.push(result.value)
    // each waiting fiber wants a stream of its own
    if (this.waiters.size > this.arrived.length) this.read()
    this.waiters.wake()
  }
}
