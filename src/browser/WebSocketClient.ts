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
import type * as WebSocketSession from "./WebSocketSession.ts"
import type { Dialled } from "./WebSocketStream.ts"

/** Connects to a URL, unless `Trust` says that a browser cannot. */
export const connect = (
  url: URL,
  options: ConnectOptions,
  webSocket: { readonly isOffered: boolean; readonly limits: Bounds.Limits | undefined }
): Effect.Effect<Connection, TransportError, Scope.Scope> =>
  Effect.gen(function*() {
    const { addressOf, begin, dial } = yield* load
    const address = addressOf(url, options, webSocket.isOffered)
    if (typeof address === "string") return yield* new TransportError({ detail: address })
    const failed = (detail: string) =>
      new TransportError({ detail: `a WebSocket to ${address.host} failed: ${detail}` })
    const outcome = Deferred.makeUnsafe<Dialled, TransportError>()
    const tell = (dialled: Dialled | string): void => {
      Deferred.doneUnsafe(outcome, typeof dialled === "string" ? Exit.fail(failed(dialled)) : Exit.succeed(dialled))
    }
    yield* Effect.acquireRelease(
      Effect.suspend(() => {
        try {
          return Effect.succeed(dial(address, Qmux.subprotocols(alpn), tell))
        } catch (error) {
          // as for `ws:` on a page that came over https
          return Effect.fail(failed(said(error)))
        }
      }),
      (webSocket) => Effect.sync(() => webSocket.close())
    )
    const dialled = yield* Deferred.await(outcome)
    return yield* Qmux.make(() => begin(dialled, { limits: Bounds.resolve(webSocket.limits) }), url.host).pipe(
      Effect.mapError((error) =>
        error._tag === "MoqSessionClosed" ? new TransportError({ detail: error.message }) : error
      )
    )
  })

/** The code for all that, and the words for what went wrong: loaded once they are needed. */
export const load: Effect.Effect<typeof WebSocketSession, TransportError> = Effect.callback((resume) => {
  import("./WebSocketSession.ts").then(
    (module) => resume(Effect.succeed(module)),
    (error) =>
      resume(Effect.fail(new TransportError({ detail: `the code for WebSocket cannot be loaded: ${said(error)}` })))
  )
})

// internal

const said = (error: unknown): string => error instanceof Error ? error.message : String(error)
