/**
 * Which transports can be had here. Each is loaded when it is first asked for: a program pays only for what it uses.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { TLSSocket } from "node:tls"
import type { Timeout, TransportError } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import type { KeyRing } from "./KeyRing.ts"
import type { Lobby } from "./Lobby.ts"

/** The transports of Node. */
export type Name = "h3" | "websocket" | "h2"

const load = <A>(module: () => Promise<A>): Effect.Effect<A> => Effect.promise(module)

const binding = Effect.flatMap(load(() => import("./Http3Binding.ts")), (module) => module.load)

const quiche = Effect.flatMap(load(() => import("./QuicheHttp3.ts")), (module) => Effect.as(module.available, module))

// of two packages the first that can be had; where none can, the reason of the one to install
const http3 = <A>(native: Effect.Effect<A>): Effect.Effect<A | Effect.Success<typeof quiche>, TransportError> =>
  Effect.catch(Effect.andThen(binding, native), (error) => Effect.mapError(quiche, () => error))

/** The client side of one transport. */
export interface Client {
  readonly connect: (
    url: URL,
    options: ConnectOptions,
    limits: Bounds
  ) => Effect.Effect<Connection, TransportError | Timeout, Scope.Scope>
}

/** The server side of HTTP/3: binds UDP ports, and lets clients wait in the lobby. */
export interface Http3Server {
  readonly make: (options: {
    readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
    readonly ring: KeyRing
    readonly lobby: Lobby
    readonly renewGrace: number
    readonly limits: Bounds
  }) => Effect.Effect<void, TransportError, Scope.Scope>
}

/** The server side of HTTP/2: takes sockets that negotiated it, and lets clients wait in the lobby. */
export interface Http2Server {
  readonly make: (options: {
    readonly ring: KeyRing
    readonly lobby: Lobby
    readonly limits: Bounds
    readonly trustProxy: boolean
  }) => Effect.Effect<{ readonly take: (socket: TLSSocket) => void }, TransportError, Scope.Scope>
}

/** The client side of a transport. Fails with {@link TransportError} that says in one line why it cannot be had. */
export const client = (name: Name): Effect.Effect<Client, TransportError> => {
  switch (name) {
    case "websocket":
      return load(() => import("./WebSocketClient.ts"))
    case "h2":
      return load(() => import("./Http2Client.ts"))
    case "h3":
      return http3(load(() => import("./Http3Client.ts")))
  }
}

/** The server side of HTTP/3. Fails as {@link client} does. */
export const http3Server: Effect.Effect<Http3Server, TransportError> = http3(load(() => import("./Http3Server.ts")))

/** The server side of HTTP/2. */
export const http2Server: Effect.Effect<Http2Server> = load(() => import("./Http2Server.ts"))
