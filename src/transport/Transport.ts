/**
 * The contract between a session and whatever carries its bytes.
 *
 * **Details**
 *
 * Implement {@link Connection} and pass the conformance cases of `effect-moq/testing`, and everything above runs on it;
 * `docs/write-a-transport.md` tells how. What a transport cannot do it declares in its {@link Capabilities}; it never
 * pretends.
 *
 * Chunks are never copied for safety: whoever hands one over never changes it afterwards, and a received one is fresh. A
 * transport leaves a chunk that it was given as it is; the same one may be written to other streams.
 *
 * Members may be methods and getters of a class: whoever wraps a connection or a stream names each member, and does not
 * spread it.
 *
 * Interrupting an open, an accept or a pull loses nothing: the stream or the chunks are for the next one, and a place for
 * a stream is free again.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { SessionClosed, StreamReset, Timeout, TransportError } from "../core/MoqError.ts"

/**
 * The names of transports, as they stand in options and in output: ours, or the one that you give to your own.
 *
 * @category models
 * @since 0.1.0
 */
export type TransportName = "h3" | "websocket" | "h2" | "memory" | (string & {})

/**
 * What a transport can do. Conformance cases check each both ways.
 *
 * @category models
 * @since 0.1.0
 */
export interface Capabilities {
  /** Which codes of resets, stops and closes arrive: any of 0..2^32-1, only 0..255, or none (they are then 0). */
  readonly codes: "any" | "byte" | "none"
  /**
   * A reset passes a write that is blocked by the peer. Where it does not (`false`), the peer hears of it once it reads
   * what was written before.
   */
  readonly resetPastWrite: boolean
  /** A write suspends while the peer does not read. Without it, streams that nobody accepts may pile up as well. */
  readonly backpressure: boolean
  /** Of what waits to be sent, streams of a higher rank go first, whichever were opened first. */
  readonly priority: boolean
  /** `ping` asks the peer, so a silent peer is noticed. */
  readonly ping: boolean
  /**
   * How many streams of each kind one side may have open at once; opening one more waits. A stream that the peer has not
   * accepted counts as open, also when it has ended here.
   */
  readonly maxStreams: number
  /**
   * How long a peer that has gone without a word (its process killed, its network cut) can stay unnoticed, in
   * milliseconds: the connection has ended by then, with {@link SessionClosed} by `"transport"`. `Infinity` where that
   * cannot happen.
   */
  readonly idleTimeout: number
  /**
   * A stream that is over leaves no memory behind. Where it does (`false`), a connection grows by every stream until it
   * is closed, so one that lives for days needs to be replaced now and then.
   */
  readonly forgetsStreams: boolean
}

/**
 * What there is to know about an open connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionInfo {
  readonly transport: TransportName
  /** The address of the other end, when the transport tells it. */
  readonly peer: string | undefined
}

/**
 * The sending half of a stream. Closing the scope that opened it resets it with code 0, unless it is finished. One
 * fiber at a time may write to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendStream {
  /**
   * Sends chunks, in order, some of which may be empty; suspends while the peer or the network cannot take more.
   *
   * Fails with {@link StreamReset} once either side has ended the stream early (with the peer's STOP_SENDING code where
   * it is known), with {@link StreamReset} of code 0 after `finish`, and with {@link SessionClosed} once the connection
   * is over. Interrupting it leaves the stream in an unknown place: reset it.
   */
  readonly write: (chunks: NonEmptyReadonlyArray<Uint8Array>) => Effect.Effect<void, StreamReset | SessionClosed>
  /**
   * Ends the stream: what was written arrives, then the end. It may suspend until all of that has been taken. Finishing
   * again succeeds.
   */
  readonly finish: Effect.Effect<void, StreamReset | SessionClosed>
  /**
   * Ends the stream at once with a code of 0..255 (up to 2^32-1 where codes are `"any"`); what has not left yet is
   * dropped. Never fails, never suspends; does nothing once the stream has ended.
   */
  readonly reset: (code: number) => Effect.Effect<void>
  /** Sets the rank of this stream beside the others, a signed 32-bit integer, higher first. */
  readonly setPriority: (priority: number) => Effect.Effect<void>
  /**
   * Suspends until the peer asks for no more, and gives its code. Best effort: it may never succeed, and does not when
   * the connection ends.
   */
  readonly stopped: Effect.Effect<number>
  /**
   * Calls a function, one at most, when {@link SendStream.stopped} would succeed; it must not throw. Not every transport
   * has it: it spares a session a fiber for each request.
   */
  readonly onStop?: ((stopped: (code: number) => void) => void) | undefined
  /**
   * Takes chunks at once where {@link SendStream.write} would succeed without suspending, and tells whether it has; where
   * it has not, none was taken, and `write` is to be asked. Not every transport has it: with
   * {@link SendStream.onFinish} it spares a session most steps of a fiber for each group.
   */
  readonly offer?: ((chunks: NonEmptyReadonlyArray<Uint8Array>) => boolean) | undefined
  /**
   * Does what {@link SendStream.finish} does, and calls a function, which must not throw, with how that ended: on the stack
   * of the caller or later, also when the stream is reset meanwhile. Not every transport has it.
   */
  readonly onFinish?: ((finished: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void) => void) | undefined
}

/**
 * Hears what a stream receives: see {@link ReceiveStream.onPull}. Its methods must not throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  /** One or more chunks, none of them empty. Whether it wants more now. */
  readonly chunks: (chunks: NonEmptyReadonlyArray<Uint8Array>) => boolean
  /** What {@link ReceiveStream.pull} ends with. It hears nothing more. */
  readonly end: (exit: Exit.Exit<never, StreamReset | SessionClosed | Cause.Done>) => void
}

/**
 * The receiving half of a stream. Closing the scope that opened it stops it with code 0, unless it was read to its end.
 * One fiber at a time may pull.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReceiveStream {
  /**
   * Takes what has arrived: one or more chunks, none of them empty; suspends while there is none.
   *
   * Ends with `Cause.Done` when the peer has finished the stream, again and again. Fails with {@link StreamReset} when
   * it was reset, or stopped here, and with {@link SessionClosed} once the connection is over, whether or not
   * everything had been read.
   */
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed>
  /**
   * Asks the peer to send no more, with a code as in {@link SendStream.reset}; what is unread is dropped. Never fails,
   * never suspends; does nothing once the stream has ended and was read.
   */
  readonly stop: (code: number) => Effect.Effect<void>
  /**
   * Hands over what {@link ReceiveStream.pull} would give, as it comes, until the listener wants no more, or the stream has
   * ended, also by a stop from here: what is there on the stack of the caller, the rest later. Who wants more after all asks
   * again, by this or by `pull`. Not every transport has it: it spares a session a fiber for each group.
   */
  readonly onPull?: ((listener: Listener) => void) | undefined
}

/**
 * Both halves of a bidirectional stream.
 *
 * @category models
 * @since 0.1.0
 */
export interface BiStream {
  readonly send: SendStream
  readonly receive: ReceiveStream
}

/**
 * An open connection. Closing the scope that made it closes it with code 0, and fails everything suspended on it with
 * {@link SessionClosed}. It belongs to that scope and not to the fiber that opened it, which may end right away: what runs
 * in the background is forked into the scope.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  readonly info: ConnectionInfo
  readonly capabilities: Capabilities
  /** Opens a bidirectional stream; suspends while {@link Capabilities.maxStreams} are open. */
  readonly openBi: Effect.Effect<BiStream, SessionClosed, Scope.Scope>
  /** Opens a unidirectional stream of the given rank (0 by default; see {@link SendStream.setPriority}). */
  readonly openUni: (options?: {
    readonly priority?: number | undefined
  }) => Effect.Effect<SendStream, SessionClosed, Scope.Scope>
  /**
   * Opens a unidirectional stream as {@link Connection.openUni} does, and calls a function, which must not throw, with it:
   * on the stack of the caller or later. Whoever gets the stream owns it, and resets it where it does not finish. What it
   * gives takes the opening back: then the function is not called any more, and a stream that comes too late is reset. Not
   * every transport has it: it spares a session a fiber and a scope for each group.
   */
  readonly onOpenUni?:
    | ((
      options: { readonly priority?: number | undefined } | undefined,
      opened: (exit: Exit.Exit<SendStream, SessionClosed>) => void
    ) => () => void)
    | undefined
  /** Opens a bidirectional stream as {@link Connection.openBi} does, and calls a function as `onOpenUni` does. */
  readonly onOpenBi?:
    | ((opened: (exit: Exit.Exit<BiStream, SessionClosed>) => void) => () => void)
    | undefined
  /**
   * Takes the next bidirectional stream that the peer opened. The peer's streams that wait for it are bounded, and so is
   * what they hold.
   */
  readonly acceptBi: Effect.Effect<BiStream, SessionClosed, Scope.Scope>
  /** Takes the next unidirectional stream that the peer opened, as {@link Connection.acceptBi} does. */
  readonly acceptUni: Effect.Effect<ReceiveStream, SessionClosed, Scope.Scope>
  /**
   * Hands over the bidirectional streams that the peer opens, in place of {@link Connection.acceptBi}: those that wait at
   * once, and the others as they come, on the stack of whatever brings them. Whoever gets one owns it, and resets and stops
   * what does not come to its end by itself. For who accepts no more, once; the function must not throw. Not every
   * transport has it: it spares a session the fibers that wait for streams.
   */
  readonly onBi?: ((take: (stream: BiStream) => void) => void) | undefined
  /** Hands over the unidirectional streams that the peer opens, as {@link Connection.onBi} does. */
  readonly onUni?: ((take: (stream: ReceiveStream) => void) => void) | undefined
  /**
   * Closes the connection with a code as in {@link SendStream.reset} and a reason of at most 1,024 bytes of UTF-8. Never
   * fails; only the first close counts.
   */
  readonly close: (code: number, reason: string) => Effect.Effect<void>
  /**
   * Suspends until the connection is over, and tells how it ended: closed here (`by: "local"`), closed by the peer
   * (`"remote"`, with its code and reason), or broken (`"transport"`, with code 4).
   */
  readonly closed: Effect.Effect<SessionClosed>
  /** Succeeds when the peer is alive; where there is no way to ask, at once. */
  readonly ping: Effect.Effect<void, SessionClosed>
  /** How many bits a second the congestion controller would send now; absent where the transport does not tell. */
  readonly bitrate?: Effect.Effect<number | undefined>
}

/**
 * How to trust the server's certificate. A transport that has none ignores `insecure`, and fails with
 * {@link TransportError} when it is asked for `fingerprints` or `roots`, rather than connect without them.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions {
  /** SHA-256 fingerprints (hex, with or without colons) of certificates to accept, instead of the system's authorities. */
  readonly fingerprints?: ReadonlyArray<string> | undefined
  /**
   * Certificates (PEM) of authorities to trust instead of the system's. Where the transport cannot do that, connecting
   * fails with {@link TransportError}.
   */
  readonly roots?: ReadonlyArray<string> | undefined
  /** Accept any certificate. For development only. */
  readonly insecure?: boolean | undefined
  /** How long connecting may take; 5 seconds by default. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * The client side of a transport.
 *
 * @category services
 * @since 0.1.0
 */
export interface Transport {
  /**
   * Opens a connection to a URL: `https:`, `wss:` or `ws:`, or a scheme of the transport's own, such as `tcp:`. A session
   * passes on whatever it was given, and takes its path as the root.
   *
   * Fails with {@link TransportError} when it cannot be opened (its `detail` says why in words), and with
   * {@link Timeout} when it takes longer than `timeout`.
   */
  readonly connect: (
    url: URL,
    options?: ConnectOptions
  ) => Effect.Effect<Connection, TransportError | Timeout, Scope.Scope>
}

/**
 * The service of the client side of a transport.
 *
 * @category services
 * @since 0.1.0
 */
export const Transport: Context.Service<Transport, Transport> = Context.Service("effect-moq/transport/Transport")

/**
 * A client that wants to connect: to be accepted or refused.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  /** The URL that the client asked for, with path and query. */
  readonly url: URL
  /** The headers of the request, names in lower case, where the transport tells them. */
  readonly headers: ReadonlyMap<string, string> | undefined
  /** The address of the client, where the transport tells it. */
  readonly peer: string | undefined
  readonly transport: TransportName
  /**
   * Accepts the client; the connection lives as long as the scope. When the client has gone by then, it fails with
   * {@link TransportError}, or gives a connection that ends at once.
   */
  readonly accept: Effect.Effect<Connection, SessionClosed | TransportError, Scope.Scope>
  /** Refuses the client with an HTTP status of 400..599, where the transport carries one. */
  readonly refuse: (status: number) => Effect.Effect<void>
}

/**
 * A transport that cannot be had, and why.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unavailable {
  readonly transport: TransportName
  readonly reason: string
}

/**
 * The server side of a transport: bound to an address for as long as the layer that provides it. When that closes, those
 * who wait are refused and `requests` ends; connections that were accepted may end with it.
 *
 * @category services
 * @since 0.1.0
 */
export interface TransportServer {
  /** URLs at which clients reach this server, the one to print first. */
  readonly urls: ReadonlyArray<string>
  readonly transports: ReadonlyArray<TransportName>
  /** Transports that were asked for and cannot be had here, with the reason in one line. */
  readonly unavailable: ReadonlyArray<Unavailable>
  /** SHA-256 of the certificate that it shows now, in lower-case hex, when the server generated it. */
  readonly fingerprint: string | undefined
  /** Clients as they come. Each is refused when nobody takes it in time (5 seconds, unless the server has another limit). */
  readonly requests: Stream.Stream<Request>
}

/**
 * The service of the server side of a transport.
 *
 * @category services
 * @since 0.1.0
 */
export const TransportServer: Context.Service<TransportServer, TransportServer> = Context.Service(
  "effect-moq/transport/TransportServer"
)
