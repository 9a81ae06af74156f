/**
 * Connects to a relay over the browser's WebSocket, and leaves the rest to `Qmux`, whose larger part is loaded only now.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { TransportError } from "../core/MoqError.ts"
import { alpn } from "../message/Profile.ts"
import * as Bounds from "../transport/Bounds.ts"
import * as Qmux from "../transport/Qmux.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as Trust from "./Trust.ts"
import type { Dialled } from "./WebSocketStream.ts"

/** Connects to an `https:`, `wss:` or loopback `ws:` URL with which nothing is wrong. */
export const connect: (
  url: URL,
  options: ConnectOptions,
  limits: Bounds.Limits | undefined
) => Effect.Effect<Connection, TransportError, Scope.Scope> = Effect.fnUntraced(function*(url, options, limits) {
  const address = new URL(url)
  address.hash = ""
  if (url.protocol !== "ws:" && Trust.pinned(options).length > 0) {
    if (!Trust.isLoopback(url)) {
      return yield* new TransportError({ detail: `a browser cannot pin the certificate of a WebSocket (${url.host})` })
    }
    // such a certificate is one for development, with which a relay takes loopback peers without TLS
    address.protocol = "ws:"
  } else if (url.protocol === "https:") address.protocol = "wss:"
  const { begin, dial } = yield* load
  const failed = (detail: string) => new TransportError({ detail: `a WebSocket to ${address.host} failed: ${detail}` })
  const outcome = Deferred.makeUnsafe<Dialled, TransportError>()
  const tell = (dialled: Dialled | string): void => {
    Deferred.doneUnsafe(outcome, typeof dialled === "string" ? Exit.fail(failed(dialled)) : Exit.succeed(dialled))
  }
  yield* Effect.acquireRelease(
    Effect.try({
      try: () => dial(address, Qmux.subprotocols(alpn), tell),
      // as for `ws:` on a page that came over https
      catch: (error) => failed(said(error))
    }),
    (webSocket) => Effect.sync(() => webSocket.close())
  )
  const dialled = yield* Deferred.await(outcome)
  return yield* Qmux.make((onWarning) => begin(dialled, { limits: Bounds.resolve(limits), onWarning }), url.host).pipe(
    Effect.catchTag("MoqSessionClosed", (closed) => Effect.fail(new TransportError({ detail: closed.message })))
  )
})

// internal

const load = Effect.tryPromise({
  try: () => import("./WebSocketSession.ts"),
  catch: (error) => new TransportError({ detail: `the code for WebSocket cannot be loaded: ${said(error)}` })
})

const said = (error: unknown): string => error instanceof Error ? error.message : String(error)
