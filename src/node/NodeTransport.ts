/**
 * The transports of Node: what a program imports to connect, and to serve.
 *
 * **Example** (A client)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Transport } from "effect-moq"
 * import { NodeTransport } from "effect-moq/node"
 *
 * const program = Effect.gen(function*() {
 *   const transport = yield* Transport.Transport
 *   const connection = yield* transport.connect(new URL("https://relay.example.com/room"))
 *   return yield* connection.closed
 * }).pipe(Effect.scoped, Effect.provide(NodeTransport.layer))
 * ```
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { TransportError } from "../core/MoqError.ts"
import * as Transport from "../transport/Transport.ts"
import * as Qmux from "./Qmux.ts"
import * as WebSocketClient from "./WebSocketClient.ts"
import * as WebSocketServer from "./WebSocketServer.ts"

/**
 * Bounds of every connection: how much the peer may make this side hold, and for how long it may be silent. Sizes are in
 * bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /**
   * Bidirectional streams that the peer may have open at once; 1,536 by default. It can count on two thirds of them at
   * any time.
   */
  readonly maxStreamsBidi?: number | undefined
  /** The same for unidirectional streams; 1,536 by default. */
  readonly maxStreamsUni?: number | undefined
  /** What may be received and not yet pulled, of all streams of a connection; 16 MiB by default. */
  readonly maxData?: number | undefined
  /** What may be received and not yet pulled, of one stream; 256 KiB by default. */
  readonly maxStreamData?: number | undefined
  /** What may arrive while the peer takes nothing of ours; 8 MiB by default. */
  readonly maxBacklog?: number | undefined
  /** How long the peer may take nothing while something waits for it; 20 seconds by default. */
  readonly writeTimeout?: Duration.Input | undefined
  /** How long the peer may be silent; 20 seconds by default. It is asked after a third of it. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How long each step of a handshake may take (up to the upgrade, and QMux's own); 5 seconds by default. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions {
  /** The TCP port; 4443 by default, 0 for a free one. */
  readonly port?: number | undefined
  /**
   * The address to listen on: `"localhost"` for both loopbacks (the default), one address, or `""` for all of the
   * machine.
   */
  readonly host?: string | undefined
  /**
   * The certificate and its key in PEM, or the hosts to generate one for. With a generated certificate, which is for
   * development, clients on this machine may also connect without TLS, and everybody can read its fingerprint at
   * `/certificate.sha256`.
   */
  readonly tls: WebSocketServer.ServerCertificate
  /** The origins (such as `https://example.com`) from which web pages may connect over TLS; all by default. */
  readonly allowOrigin?: ReadonlyArray<string> | undefined
  readonly limits?: Limits | undefined
  /** How many clients may wait to be taken from `requests`; 64 by default. Others are refused with 503. */
  readonly waiting?: number | undefined
  /** How long a client waits to be taken, and once more for its answer, until it gets 503; 5 seconds by default. */
  readonly takeTimeout?: Duration.Input | undefined
}

/**
 * The client side: WebSocket with QMux streams.
 *
 * **Details**
 *
 * `https:` and `wss:` URLs connect over TLS (port 443 by default), `ws:` URLs only to loopback addresses. A pinned
 * certificate is compared before anything of ours is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (limits?: Limits): Transport.Transport => {
  const resolved = resolve(limits)
  return Transport.Transport.of({
    connect: (url, options) => WebSocketClient.connect(url, resolved, options)
  })
}

/**
 * The client side with the default limits. See {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Transport.Transport> = Layer.sync(Transport.Transport)(() => make())

/**
 * The server side, bound until the scope closes.
 *
 * **Details**
 *
 * Fails with {@link TransportError} when the port cannot be bound or the certificate is of no use. `urls` has a URL that
 * works first: the names of your certificate, or the bound addresses of a generated one. Closing the scope closes every
 * connection with code 0, waits a second at most for peers to take that, and frees the port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeServer = (
  options: ServerOptions
): Effect.Effect<Transport.TransportServer, TransportError, Scope.Scope> =>
  WebSocketServer.make({
    port: options.port ?? 4443,
    host: options.host ?? "localhost",
    tls: options.tls,
    allowOrigin: options.allowOrigin,
    limits: resolve(options.limits),
    waiting: options.waiting ?? 64,
    takeTimeout: millis(options.takeTimeout, 5_000)
  })

/**
 * The server side as a layer. See {@link makeServer}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = (options: ServerOptions): Layer.Layer<Transport.TransportServer, TransportError> =>
  Layer.effect(Transport.TransportServer)(makeServer(options))

// internal

const millis = (input: Duration.Input | undefined, fallback: number): number =>
  input === undefined ? fallback : Duration.toMillis(Duration.fromInputUnsafe(input))

const resolve = (limits: Limits | undefined): Qmux.Limits => {
  const defaults = Qmux.defaultLimits
  return {
    maxStreamsBidi: limits?.maxStreamsBidi ?? defaults.maxStreamsBidi,
    maxStreamsUni: limits?.maxStreamsUni ?? defaults.maxStreamsUni,
    maxData: limits?.maxData ?? defaults.maxData,
    maxStreamData: limits?.maxStreamData ?? defaults.maxStreamData,
    maxBacklog: limits?.maxBacklog ?? defaults.maxBacklog,
    writeTimeout: millis(limits?.writeTimeout, defaults.writeTimeout),
    idleTimeout: millis(limits?.idleTimeout, defaults.idleTimeout),
    handshakeTimeout: millis(limits?.handshakeTimeout, defaults.handshakeTimeout)
  }
}
