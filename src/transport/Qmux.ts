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

/** What the peer may do, and what it may make us hold. */
export interface Limits {
  /** Bidirectional streams of the peer that may be open at once; 1,536 by default, of which it can count on 1,024. */
  readonly maxStreamsBidi: number
  /** Unidirectional streams of the peer that may be open at once; 1,536 by default, of which it can count on 1,024. */
  readonly maxStreamsUni: number
  /** Bytes of all streams that may be received and not yet pulled; 16 MiB by default. */
  readonly maxData: number
  /** Bytes of one stream that may be received and not yet pulled; 256 KiB by default. */
  readonly maxStreamData: number
  /** Bytes that may arrive while the peer takes nothing of ours; 8 MiB by default. */
  readonly maxBacklog: number
  /** How long the peer may take nothing of ours while something waits, in milliseconds; 20,000 by default. */
  readonly writeTimeout: number
  /** How long the peer may be silent, in milliseconds; 20,000 by default. It is asked after a third of it. */
  readonly idleTimeout: number
  /** How long each step of a handshake may take, in milliseconds; 5,000 by default. */
  readonly handshakeTimeout: number
}

export const defaultLimits: Limits = {
  maxStreamsBidi: 1536,
  maxStreamsUni: 1536,
  maxData: 16 * 1024 * 1024,
  maxStreamData: 256 * 1024,
  maxBacklog: 8 * 1024 * 1024,
  writeTimeout: 20_000,
  idleTimeout: 20_000,
  handshakeTimeout: 5_000
}

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
  begin: (onWarning: (line: string) => void) => QmuxSession,
  peer: string | undefined
): Effect.Effect<Connection, TransportError | SessionClosed, Scope.Scope> =>
  Effect.gen(function*() {
    const log = Effect.runForkWith(yield* Effect.context<never>())
    const session = yield* Effect.acquireRelease(
      Effect.sync(() => begin((line) => void log(Effect.logDebug(`qmux: ${line}`)))),
      (session) => Effect.callback<void>((resume) => session.close(() => resume(Effect.void)))
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
    const connection = yield* WebTransport.fromObject(session.adapt(), {
      info: { transport: "websocket", peer },
      capabilities: {
        codes: "any",
        resetPastWrite: true,
        backpressure: true,
        priority: true,
        ping: true,
        maxStreams: session.maxStreams,
        idleTimeout: session.idleTimeout
      },
      streamError: session.streamError
    })
    const pong = Effect.callback<void>((resume) => Effect.sync(session.ping(() => resume(Effect.void))))
    return {
      ...connection,
      ping: Effect.raceFirst(pong, Effect.flatMap(connection.closed, Effect.fail))
    }
  })
