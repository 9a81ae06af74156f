/**
 * A session of QMux over one open WebSocket as a `Connection`: what Node and browsers share. See `QmuxSession`.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type SessionClosed, TransportError } from "../core/MoqError.ts"
import type { QmuxSession } from "./QmuxSession.ts"
import type { Connection } from "./Transport.ts"
import * as WebTransport from "./WebTransport.ts"

/** The drafts of QMux that are spoken, the preferred one first: those with flow control. */
export const versions: ReadonlyArray<"qmux-02" | "qmux-01"> = ["qmux-02", "qmux-01"]

/** The WebSocket subprotocols for an application's protocol, in the order of preference. */
export const subprotocols = (alpn: string): ReadonlyArray<string> => versions.map((version) => `${version}.${alpn}`)

/** The largest WebSocket message that is taken: four of the largest records that the peer may send. */
export const maxPayload: number = 65_536

/**
 * Makes the connection of a session that `begin` begins over an open WebSocket.
 *
 * **Details**
 *
 * Succeeds once the peer's transport parameters are here. Fails with {@link TransportError} when they do not come within
 * `handshakeTimeout`, or something else comes. Closing the scope sends what has been written, then the close, and waits
 * for the peer to take it, about a second at most.
 */
export const make = (
  begin: () => QmuxSession,
  peer: string | undefined
): Effect.Effect<Connection, TransportError | SessionClosed, Scope.Scope> =>
  Effect.gen(function*() {
    const session = yield* Effect.acquireRelease(
      Effect.sync(begin),
      (session) =>
        Effect.callback<void>((resume) => {
          session.close()
          session.onGone(() => resume(Effect.void))
        })
    )
    yield* Effect.callback<void, TransportError>((resume) => {
      const forget = session.onStart((problem) =>
        resume(
          problem === undefined
            ? Effect.void
            : Effect.fail(new TransportError({ detail: `the QMux handshake failed: ${problem}` }))
        )
      )
      return Effect.sync(forget)
    })
    return yield* WebTransport.fromObject(session.adapt(), {
      info: { transport: "websocket", peer },
      capabilities: {
        codes: "any",
        resetPastWrite: true,
        backpressure: true,
        priority: true,
        maxStreams: session.maxStreams,
        idleTimeout: session.idleTimeout
      },
      ping: Effect.callback((resume) => Effect.sync(session.ping(() => resume(Effect.void))))
    })
  })
