/**
 * What a page loads only when HTTP/3 does not do: QMux, over the WebSocket of a browser, and words for it. It shares no module with
 * what a page loads at the start, so that a bundler need not cut that in two.
 *
 * @internal
 */
import * as QmuxSession from "../transport/QmuxSession.ts"
import { type Dialled, WebSocketStream } from "./WebSocketStream.ts"

export { explain, missing } from "./Reasons.ts"
export { addressOf } from "./Trust.ts"

/** Begins QMux over an open WebSocket. */
export const begin = (
  dialled: Dialled,
  options: Omit<QmuxSession.BeginOptions, "open" | "protocol" | "role">
): QmuxSession.QmuxSession =>
  QmuxSession.begin({
    ...options,
    role: "client",
    protocol: dialled.webSocket.protocol,
    open: (options) => new WebSocketStream(dialled, options)
  })

/** Opens a WebSocket, and tells what came of it, first when it is open or has failed: why, in words. Throws what the browser throws. */
export const dial = (
  address: URL,
  protocols: ReadonlyArray<string>,
  tell: (outcome: Dialled | string) => void
): WebSocket => {
  const webSocket = new WebSocket(address, [...protocols])
  const early: Array<unknown> = []
  let onMessage = (data: unknown): void => void early.push(data)
  const listen: Dialled["listen"] = (listener) => {
    onMessage = listener
    for (const data of early.splice(0)) listener(data)
  }
  webSocket.binaryType = "arraybuffer"
  webSocket.addEventListener("message", ({ data }) => onMessage(data))
  webSocket.addEventListener(
    "open",
    () => tell(webSocket.protocol === "" ? "it does not speak QMux with Transfork" : { webSocket, listen })
  )
  webSocket.addEventListener("close", () => tell(unknown))
  return webSocket
}

// internal

const unknown =
  "the browser does not say why; nothing listens there, the relay refused, or its certificate is not trusted"
