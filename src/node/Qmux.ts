/**
 * QMux over a WebSocket of the package `ws`. See `transport/Qmux`.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Socket } from "node:net"
import type { WebSocket } from "ws"
import type { SessionClosed, TransportError } from "../core/MoqError.ts"
import { alpn } from "../message/Profile.ts"
import type { Bounds } from "../transport/Bounds.ts"
import * as Qmux from "../transport/Qmux.ts"
import * as QmuxSession from "../transport/QmuxSession.ts"
import type { Connection } from "../transport/Transport.ts"
import { WebSocketStream } from "./WebSocketStream.ts"

export { maxPayload, versions } from "../transport/Qmux.ts"

/** The WebSocket subprotocols, in the order of preference: QMux drafts with flow control, with the ALPN of Transfork. */
export const subprotocols: ReadonlyArray<string> = Qmux.subprotocols(alpn)

/** Makes the connection over an open WebSocket whose subprotocol is one of {@link subprotocols}. */
export const make = ({ peer, socket, webSocket, ...options }: {
  readonly webSocket: WebSocket
  /** The socket under it. */
  readonly socket: Socket
  readonly role: "client" | "server"
  readonly protocol: string
  readonly peer: string | undefined
  readonly limits: Bounds
}): Effect.Effect<Connection, TransportError | SessionClosed, Scope.Scope> =>
  Effect.withFiber(({ context }) => {
    const log = Effect.runForkWith(context)
    return Qmux.make(() =>
      QmuxSession.begin({
        ...options,
        onRefused: (detail) => void log(Effect.logDebug(`qmux: Protocol violation: ${detail}`)),
        open: (events) => new WebSocketStream(webSocket, socket, options.role === "client", events)
      }), peer)
  })
