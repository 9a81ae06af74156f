/**
 * What a page loads only when it is to go over WebSocket: QMux, over the WebSocket of a browser.
 *
 * @internal
 */
import * as QmuxSession from "../transport/QmuxSession.ts"
import { type Dialled, WebSocketStream } from "./WebSocketStream.ts"

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
