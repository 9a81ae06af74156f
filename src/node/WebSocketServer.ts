/**
 * The server side of WebSocket: takes upgrades, and leaves the rest to `Qmux`.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Ws from "ws"
import { TransportError } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import * as Door from "./Door.ts"
import type { Lobby } from "./Lobby.ts"
import * as Qmux from "./Qmux.ts"

/** Lets whoever asks for a WebSocket with QMux wait in the lobby; refuses everybody else with 400. */
export const make = (options: {
  readonly lobby: Lobby
  readonly limits: Bounds
}): (upgrade: Door.Upgrade) => void => {
  const upgrader = new Ws.WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: Qmux.maxPayload,
    handleProtocols: (offered) => Qmux.subprotocols.find((name) => offered.has(name)) ?? false,
    ...{ closeTimeout: 1000 }
  })
  return ({ head, headers, peer, request, socket, tcp, url }) => {
    const protocol = choose(headers.get("sec-websocket-protocol"))
    if (protocol === undefined) {
      return Door.refuse(socket, 400, `offer one of the subprotocols ${Qmux.subprotocols.join(", ")}`)
    }
    const place = options.lobby.admit({
      url,
      headers,
      peer,
      transport: "websocket",
      refuse: (status) => Door.refuse(socket, status, "refused"),
      accept: Effect.suspend(() => {
        let upgraded: Ws.WebSocket | undefined
        upgrader.handleUpgrade(request, socket, head, (webSocket) => {
          upgraded = webSocket
        })
        return upgraded === undefined
          ? Effect.fail(new TransportError({ detail: "the client left, or its WebSocket handshake is malformed" }))
          : Qmux.make({ webSocket: upgraded, socket: tcp, role: "server", protocol, peer, limits: options.limits })
      })
    })
    socket.once("close", place.leave)
  }
}

// internal

const choose = (offered: string | undefined): string | undefined => {
  const names = new Set(offered?.split(",").map((name) => name.trim()))
  return Qmux.subprotocols.find((name) => names.has(name))
}
