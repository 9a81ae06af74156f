/**
 * The transports of browsers: what a page imports to connect.
 *
 * **Example** (A page that connects)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Session } from "effect-moq"
 * import { BrowserTransport } from "effect-moq/browser"
 *
 * const SessionLayer = Session.layerConnect("https://relay.example.com/room").pipe(
 *   Layer.provide(BrowserTransport.layer)
 * )
 *
 * const program = Effect.gen(function*() {
 *   const session = yield* Session.Session
 *   return session.transport
 * }).pipe(Effect.provide(SessionLayer))
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Timeout, type TransportError } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import type * as Bounds from "../transport/Bounds.ts"
import * as Race from "../transport/Race.ts"
import * as Transport from "../transport/Transport.ts"
import * as NativeWebTransport from "./NativeWebTransport.ts"
import * as WebSocketClient from "./WebSocketClient.ts"

/**
 * The transports of browsers, by name.
 *
 * @category models
 * @since 0.1.0
 */
export type Name = "h3" | "websocket"

/**
 * Bounds of a connection over WebSocket. Over HTTP/3 the browser has its own.
 *
 * @category models
 * @since 0.1.0
 */
export type Limits = Bounds.Limits

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Which transports to try, the best one first; `["h3", "websocket"]` by default. With both, the second one starts when
   * the first has failed or has not connected within `headStart`, and the first to connect is taken.
   */
  readonly transports?: ReadonlyArray<Name> | undefined
  /** How long the first transport is ahead of the second; 300 milliseconds by default. */
  readonly headStart?: Duration.Input | undefined
  readonly limits?: Limits | undefined
}

/**
 * A race between HTTP/3, by the browser's own `WebTransport`, and WebSocket with QMux streams.
 *
 * **Details**
 *
 * An `https:` URL is good for both, a `wss:` URL, or a `ws:` URL of a loopback address, for WebSocket alone. The code
 * for WebSocket is a chunk of its own, which a page loads only once it is needed. The winner is remembered for each host;
 * `transport` of the session tells which one it was.
 *
 * A pinned fingerprint is for HTTP/3, and a browser takes it only for a certificate of at most 14 days with an ECDSA key.
 * It cannot pin one for a WebSocket: to a loopback address with a pinned fingerprint, the WebSocket goes without TLS (as
 * a relay with a generated certificate allows); to any other it fails. With `insecure` or `roots`, connecting fails,
 * because a browser asks nobody whom to trust. Why a connection was not made, a browser does not tell a page; the error
 * names what can be the reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: Options): Transport.Transport => {
  const names = options?.transports ?? ["h3", "websocket"]
  const webSocket = { isOffered: names.includes("websocket"), limits: options?.limits }
  const connects: Readonly<Record<Name, Transport.Transport["connect"]>> = {
    h3: (url, connectOptions = {}) => begin(url, connectOptions, NativeWebTransport.connect(url, connectOptions)),
    websocket: (url, connectOptions = {}) =>
      begin(url, connectOptions, WebSocketClient.connect(url, connectOptions, webSocket))
  }
  const race = Race.make(names.map((name) => ({ name, connect: connects[name] })), { headStart: options?.headStart })
  return Transport.Transport.of({
    connect: (url, connectOptions = {}) =>
      url.protocol === "https:" && NativeWebTransport.takes(connectOptions)
        ? race.connect(url, connectOptions)
        // which also says what is wrong
        : connects.websocket(url, connectOptions)
  })
}

/**
 * The transport with the default options. See {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Transport.Transport> = Layer.effect(Transport.Transport, Effect.sync(() => make()))

/**
 * The transport as a layer. See {@link make}.
 *
 * **Example** (Only WebSocket)
 *
 * ```ts
 * import { BrowserTransport } from "effect-moq/browser"
 *
 * const TransportLive = BrowserTransport.layerWith({ transports: ["websocket"] })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<Transport.Transport> =>
  Layer.effect(Transport.Transport, Effect.sync(() => make(options)))

// internal

// what an attempt has begun goes as soon as it fails, and not with the caller's scope
const begin = (
  url: URL,
  { timeout = "5 seconds" }: Transport.ConnectOptions,
  attempt: Effect.Effect<Transport.Connection, TransportError, Scope.Scope>
): Effect.Effect<Transport.Connection, TransportError | Timeout, Scope.Scope> =>
  Effect.timeoutOrElse(inOwnScope(attempt), {
    duration: timeout,
    orElse: () => Effect.fail(new Timeout({ detail: `connecting to ${url.host}` }))
  })
