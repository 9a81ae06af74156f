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
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { TransportError } from "../core/MoqError.ts"
import * as Bounds from "../transport/Bounds.ts"
import * as Transport from "../transport/Transport.ts"
import type * as Available from "./Available.ts"
import * as Client from "./Client.ts"
import type * as Door from "./Door.ts"
import type { ServerCertificate } from "./KeyRing.ts"
import * as Server_ from "./Server.ts"

export { layer as layerUpgrade, make as makeUpgrade, type Options as UpgradeOptions } from "./Upgrade.ts"

/**
 * The transports of Node, by name. `docs/transports.md` tells which to take.
 *
 * @category models
 * @since 0.1.0
 */
export type Name = Available.Name

/**
 * Bounds of every connection.
 *
 * @category models
 * @since 0.1.0
 */
export type Limits = Bounds.Limits

/**
 * @category models
 * @since 0.1.0
 */
export interface ClientOptions {
  /**
   * Which transports to try, the best one first; `["h3", "websocket"]` by default, without `h3` where it cannot be had.
   * With several, the next one starts when the one before has failed or has not connected within `headStart`, and the
   * first to connect is taken.
   */
  readonly transports?: ReadonlyArray<Name> | undefined
  /** How long a better transport is ahead of the next one; 300 milliseconds by default. */
  readonly headStart?: Duration.Input | undefined
  readonly limits?: Limits | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions {
  /** The port, the same for TCP and UDP; 4443 by default, 0 for a free one. */
  readonly port?: number | undefined
  /**
   * The address to listen on: `"localhost"` for both loopbacks (the default), one address, or `""` for all of the
   * machine.
   */
  readonly host?: string | undefined
  /**
   * The certificate and its key, in PEM or as files, or the hosts to generate one for. With a generated certificate,
   * which is for development, clients on this machine may also connect without TLS, and everybody can read its
   * fingerprint at `/certificate.sha256`.
   */
  readonly tls: ServerCertificate
  /** Reads certificate files again with each element. */
  readonly reload?: Stream.Stream<unknown> | undefined
  /**
   * How long HTTP/3 sessions live on when the certificate changes, before the port is bound again with the new one; 60
   * seconds by default. Other transports take the new certificate in place.
   */
  readonly renewGrace?: Duration.Input | undefined
  /**
   * What to offer; `["h3", "websocket"]` by default. What cannot be had here is left out, and told in `unavailable`;
   * when nothing is left, the server fails.
   */
  readonly transports?: ReadonlyArray<Name> | undefined
  /** The origins (such as `https://example.com`) from which web pages may connect over TLS; all by default. */
  readonly allowOrigin?: ReadonlyArray<string> | undefined
  /**
   * Whether a proxy in front of the port tells the address of each client, as the last one in `X-Forwarded-For`; `false`
   * by default. Then nobody counts as a client on this machine. Only when nobody else reaches the port: who does may
   * claim any address. HTTP/3 goes past it.
   */
  readonly trustProxy?: boolean | undefined
  readonly limits?: Limits | undefined
  /** How many clients may wait to be taken from `requests`; 64 by default. Others are refused with 503. */
  readonly waiting?: number | undefined
  /** How long a client waits to be taken, and once more for its answer, until it gets 503; 5 seconds by default. */
  readonly takeTimeout?: Duration.Input | undefined
}

/**
 * The client side: a race between HTTP/3 and WebSocket, or whichever transports are asked for.
 *
 * **Details**
 *
 * An `https:` URL is good for every transport (port 443 by default), a `wss:` or `ws:` URL for WebSocket alone, and `ws:`
 * only for loopback addresses. A pinned certificate is compared before anything of ours is sent. The winner is
 * remembered for each host, and goes first the next time; `connection.info.transport` tells which one it was.
 *
 * An attempt over native HTTP/3 cannot be called off. One that was interrupted, or lost the race in a network that drops
 * UDP, gives up by itself after 30 seconds, and keeps the process alive until then unless that exits.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: ClientOptions): Transport.Transport =>
  Client.make({
    transports: options?.transports,
    headStart: options?.headStart,
    limits: Bounds.resolve(options?.limits)
  })

/**
 * The client side with the default options. See {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Transport.Transport> = Layer.sync(Transport.Transport)(() => make())

/**
 * The client side as a layer. See {@link make}.
 *
 * **Example** (Only WebSocket)
 *
 * ```ts
 * import { NodeTransport } from "effect-moq/node"
 *
 * const TransportLive = NodeTransport.layerWith({ transports: ["websocket"] })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: ClientOptions): Layer.Layer<Transport.Transport> =>
  Layer.sync(Transport.Transport)(() => make(options))

/**
 * Who asks by HTTP, and what answers.
 *
 * @category models
 * @since 0.1.0
 */
export type { HttpHandler, Visit } from "./Door.ts"

/**
 * A server of Node: beside the transports it answers HTTP on the same TCP port, over TLS.
 *
 * @category services
 * @since 0.1.0
 */
export interface Server extends Transport.TransportServer {
  /**
   * Answers requests by HTTP/1.1 for as long as the scope, in place of whoever did before. Those for the fingerprint of a
   * generated certificate are answered already; without TLS only clients on this machine get here, and only with such a
   * certificate. How long an answer may take is the handler's business.
   */
  readonly serveHttp: (handler: Door.HttpHandler) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * The service of a server of Node.
 *
 * @category services
 * @since 0.1.0
 */
export const Server: Context.Service<Server, Server> = Context.Service("effect-moq/node/NodeTransport/Server")

/**
 * The server side, bound until the scope closes.
 *
 * **Details**
 *
 * Fails with {@link TransportError} when the port cannot be bound, the certificate is of no use, or none of the
 * transports can be had. `urls` has a URL that works first: the names of your certificate, or the bound addresses of a
 * generated one. Closing the scope closes every connection with code 0, waits a second at most for peers to take that,
 * and frees the port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeServer = (options: ServerOptions): Effect.Effect<Server, TransportError, Scope.Scope> =>
  Server_.make({
    port: options.port ?? 4443,
    host: options.host ?? "localhost",
    tls: options.tls,
    reload: options.reload,
    renewGrace: Bounds.millis(options.renewGrace, 60_000),
    transports: options.transports ?? ["h3", "websocket"],
    allowOrigin: options.allowOrigin,
    trustProxy: options.trustProxy ?? false,
    limits: Bounds.resolve(options.limits),
    waiting: options.waiting ?? 64,
    takeTimeout: Bounds.millis(options.takeTimeout, 5_000)
  })

/**
 * The server side as a layer. See {@link makeServer}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = (
  options: ServerOptions
): Layer.Layer<Transport.TransportServer | Server, TransportError> =>
  Layer.effectContext(Effect.map(
    makeServer(options),
    (server) => Context.make(Transport.TransportServer, server).pipe(Context.add(Server, server))
  ))
