/**
 * HTTP/3 by the browser's own `WebTransport`.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { TransportError } from "../core/MoqError.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as WebTransport from "../transport/WebTransport.ts"
import * as Trust from "./Trust.ts"

/** Connects to an `https:` URL with which nothing is wrong. */
export const connect: (
  url: URL,
  options: ConnectOptions
) => Effect.Effect<Connection, TransportError, Scope.Scope> = Effect.fnUntraced(function*(url, options) {
  const Native = globalThis.WebTransport as typeof globalThis.WebTransport | undefined
  if (Native === undefined) {
    const detail = globalThis.isSecureContext
      ? "this browser has no WebTransport"
      : "this page may not use WebTransport: it comes neither over https nor from a loopback address"
    return yield* new TransportError({ detail })
  }
  const pins = Trust.pinned(options)
  const object = yield* Effect.try({
    try: () =>
      new Native(withoutHash(url), {
        allowPooling: false,
        requireUnreliable: true,
        congestionControl: "low-latency",
        ...pins.length > 0 && {
          serverCertificateHashes: pins.map((value) => ({ algorithm: "sha-256", value }))
        }
      }),
    catch: (error) => new TransportError({ detail: explain(url, error, pins.length > 0) })
  })
  const connection = yield* WebTransport.fromObject(object, {
    info: { transport: "h3", peer: url.host },
    capabilities: {},
    streamError
  }).pipe(
    Effect.mapError(({ reason }) => new TransportError({ detail: explain(url, reason, pins.length > 0) }))
  )
  yield* Effect.forkScoped(keepAlive(object))
  return connection
})

// internal

// the current draft of the standard wants the message first; browsers of before take one dictionary
const streamError = (streamErrorCode: number): unknown => {
  const Older = WebTransportError as unknown as new(init: { readonly streamErrorCode: number }) => WebTransportError
  const error = new Older({ streamErrorCode })
  return error.streamErrorCode === streamErrorCode ? error : new WebTransportError("", { streamErrorCode })
}

// The idle timer of a QUIC server may be short, and the browser's own does not ask; any datagram is a sign of life.
const keepAlive = (object: globalThis.WebTransport): Effect.Effect<void> =>
  Effect.suspend(() => {
    const writer = object.datagrams.writable.getWriter()
    const beat = Effect.ignore(Effect.tryPromise(() => writer.write(Uint8Array.of(0))))
    return Effect.forever(Effect.andThen(Effect.sleep("5 seconds"), beat))
  })

const withoutHash = (url: URL): string => {
  const plain = new URL(url)
  // the constructor throws when there is one
  plain.hash = ""
  return plain.href
}

// a browser does not tell a page why, lest pages look around in networks that are not theirs
const explain = (url: URL, error: unknown, isPinned: boolean): string => {
  const said = typeof error === "string" ? error : error instanceof Error ? error.message : String(error)
  const certificate = isPinned
    ? "the server has another certificate than the pinned one, or one that is valid for more than 14 days"
    : "its certificate is not trusted"
  return `HTTP/3 to ${url.host} failed, and the browser does not say why (${
    said.replace(/\.$/, "")
  }): nothing listens ` +
    `there, UDP is blocked, the relay refused, or ${certificate}`
}
