/**
 * Connects to a relay over a WebSocket: dials, checks the certificate, upgrades, and leaves the rest to `Qmux`.
 *
 * **Details**
 *
 * The steps are separate so that each failure has its own words, and so that a certificate that is not the pinned one is
 * refused before a byte of ours has left.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IncomingMessage } from "node:http"
import type * as Net from "node:net"
import { WebSocket } from "ws"
import { type SessionClosed, type Timeout, TransportError } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as Dial from "./Dial.ts"
import * as Loopback from "./Loopback.ts"
import * as Qmux from "./Qmux.ts"

/**
 * Opens a connection to an `https:` or `wss:` URL, or to a `ws:` URL of a loopback address.
 *
 * **Details**
 *
 * Fails with {@link TransportError} that says in words what is wrong, and with {@link Timeout} when everything together
 * takes longer than `timeout` (5 seconds by default).
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect: (
  url: URL,
  options: ConnectOptions,
  limits: Bounds
) => Effect.Effect<Connection, TransportError | Timeout, Scope.Scope> = (url, options, limits) =>
  Dial.inTime(
    url,
    options,
    Effect.catchTag(
      open(url, limits, options),
      "MoqSessionClosed",
      (closed) => Effect.fail(new TransportError({ detail: closed.message }))
    )
  )

// internal

const open: (
  url: URL,
  limits: Bounds,
  options: ConnectOptions
) => Effect.Effect<Connection, TransportError | SessionClosed, Scope.Scope> = Effect.fnUntraced(
  function*(url, limits, options) {
    const target = yield* resolve(url, options)
    const socket = yield* Dial.open(target, "http/1.1")
    const address = new URL(url)
    address.protocol = target.secure ? "wss:" : "ws:"
    address.hash = ""
    const webSocket = yield* upgrade(target, address, socket)
    return yield* Qmux.make({
      webSocket,
      socket,
      role: "client",
      protocol: webSocket.protocol,
      peer: Loopback.format(socket.remoteAddress, socket.remotePort),
      limits
    })
  }
)

const resolve = (url: URL, options: ConnectOptions): Effect.Effect<Dial.Target, TransportError> => {
  const refused = (detail: string) => Effect.fail(new TransportError({ detail }))
  switch (url.protocol) {
    case "https:":
    case "wss:":
      break
    case "ws:":
      if (!Loopback.isLoopbackName(url.hostname)) {
        return refused(`ws: has no encryption and is for loopback addresses only; use https://${url.host}`)
      }
      break
    case "moqf:":
      return refused(`raw QUIC (moqf:) is not supported yet; use https://${url.host}`)
    default:
      return refused(`${url.protocol} URLs are not supported; use https://${url.host}`)
  }
  return Dial.target(url, url.protocol !== "ws:", options)
}

const upgrade = (target: Dial.Target, url: URL, socket: Net.Socket): Effect.Effect<WebSocket, TransportError> =>
  Effect.callback((resume) => {
    const webSocket = new WebSocket(url, [...Qmux.subprotocols], {
      createConnection: () => socket,
      perMessageDeflate: false,
      maxPayload: Qmux.maxPayload,
      ...{ closeTimeout: 1000 }
    })
    const fail = (detail: string) => {
      webSocket.terminate()
      resume(Effect.fail(new TransportError({ detail })))
    }
    webSocket.on("unexpected-response", (_request: unknown, response: IncomingMessage) => {
      const status = response.statusCode ?? 0
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (part: string) => {
        text = (text + part).slice(0, 200)
      })
      response.once("close", () => fail(explainStatus(target, status, text)))
    })
    // stays: a WebSocket that nobody listens to any more must not end the process
    webSocket.on("error", (error) => fail(explainUpgrade(target, error)))
    webSocket.on("open", () => {
      // what the server sent right behind its answer waits for a listener
      webSocket.pause()
      resume(Effect.succeed(webSocket))
    })
    return Effect.sync(() => webSocket.terminate())
  })

const explainUpgrade = (target: Dial.Target, error: Error): string => {
  if (error.message.includes("subprotocol")) {
    return `${target.name} speaks WebSocket but not QMux with Transfork (${Qmux.subprotocols.join(" or ")})`
  }
  if (Dial.codeOf(error).startsWith("HPE_")) return `${target.name} is not a WebSocket server`
  if (Dial.codeOf(error) === "ECONNRESET") return `${target.name} closed the connection during the WebSocket handshake`
  return `the WebSocket handshake with ${target.name} failed: ${error.message}`
}

const explainStatus = (target: Dial.Target, status: number, text: string): string => {
  const said = [...text].filter((character) => character >= " ").join("").trim()
  const answer = said === "" ? `HTTP ${status}` : `HTTP ${status}: ${said}`
  return status >= 300 && status !== 404
    ? `${target.name} refused the connection (${answer})`
    : `${target.name} offers no WebSocket here (${answer})`
}
