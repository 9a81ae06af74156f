/**
 * HTTP/3 by `@fails-components/webtransport` and its add-on, Google's quiche: the second way to `h3`, for systems on which
 * `@moq/web-transport` does not load.
 *
 * **Details**
 *
 * It has not been run against the real add-on, which compiles or downloads a binary when it is installed: what is tested
 * is that it is found or missed, and what is asked of it. It relies on the package's public interface alone, and what
 * that cannot do is declared: codes arrive as the text of errors and only up to 255, a reset waits for writes before it,
 * what has arrived is not held back, and nobody is asked for signs of life.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { Timeout, TransportError } from "../core/MoqError.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as WebTransport from "../transport/WebTransport.ts"
import * as Dial from "./Dial.ts"
import * as FailsComponents from "./FailsComponents.ts"
import type { KeyRing } from "./KeyRing.ts"
import type { Lobby } from "./Lobby.ts"

/** Succeeds where the add-on can be loaded; fails with {@link TransportError} that says in one line why not. */
export const available: Effect.Effect<void, TransportError> = Effect.asVoid(FailsComponents.loadWithQuiche)

/**
 * Opens a connection to an `https:` URL. Fails with {@link TransportError}, also when options ask for other trust than
 * fingerprints or the system's authorities, and with {@link Timeout}.
 */
export const connect: (
  url: URL,
  options: ConnectOptions
) => Effect.Effect<Connection, TransportError | Timeout, Scope.Scope> = (url, options) => {
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "5 seconds")
  return open(url, options, Duration.toMillis(timeout)).pipe(
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () =>
        Effect.fail(new Timeout({ detail: `connecting to ${url.host} took over ${Duration.format(timeout)}` }))
    })
  )
}

/**
 * Binds the UDP ports, and lets clients wait in the lobby. Fails with {@link TransportError} when the add-on cannot be
 * loaded, or a port not be bound. Closing the scope frees the ports.
 */
export const make: (options: {
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly ring: KeyRing
  readonly lobby: Lobby
  readonly limits: { readonly handshakeTimeout: number }
}) => Effect.Effect<void, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*({ addresses, limits, lobby, ring }) {
    const module = yield* FailsComponents.loadWithQuiche
    for (const { host, port } of addresses) {
      const { cert, key } = ring.currentUnsafe()
      const server = new module.Http3Server({ host, port, secret: randomUUID(), cert, privKey: key })
      server.setRequestCallback(({ header }) => admit(lobby, header, limits.handshakeTimeout))
      const sessions = server.sessionStream(path, { noAutoPaths: true })
      yield* Effect.acquireRelease(
        Effect.sync(() => server.startServer()),
        // it throws when it has not come to start
        () => Effect.ignore(Effect.try({ try: () => server.stopServer(), catch: String }))
      )
      const where = `UDP port ${port} of ${host}`
      yield* Effect.tryPromise({
        try: () => server.ready,
        catch: (error) => new TransportError({ detail: `${where} cannot be bound: ${error}` })
      }).pipe(Effect.timeoutOrElse({
        duration: limits.handshakeTimeout,
        // the package keeps what goes wrong earlier to itself
        orElse: () => Effect.fail(new TransportError({ detail: `${where} could not be bound in time` }))
      }))
      yield* Effect.forkScoped(
        Stream.fromReadableStream({ evaluate: () => sessions, onError: String }).pipe(
          Stream.runForEach((session) => Effect.sync(() => (session.userData as Waiting).enter(session))),
          Effect.ignore
        )
      )
      yield* Effect.forkScoped(
        Stream.runForEach(ring.changes, ({ cert, key }) => Effect.sync(() => server.updateCert(cert, key, false)))
      )
    }
  }
)

// internal

// all sessions come by one stream, whatever their URLs
const path = "/"

const open: (
  url: URL,
  options: ConnectOptions,
  timeout: number
) => Effect.Effect<Connection, TransportError, Scope.Scope> = Effect.fnUntraced(function*(url, options, timeout) {
  const target = yield* Dial.target(url, true, options)
  const unable = url.protocol !== "https:"
    ? `takes https: URLs, not ${url.protocol}`
    : target.roots !== undefined
    ? "takes no authorities to trust"
    : target.insecure && target.fingerprints === undefined
    ? "always checks certificates: pin the fingerprint of a self-signed one"
    : undefined
  if (unable !== undefined) return yield* new TransportError({ detail: `HTTP/3 by quiche ${unable}` })
  const module = yield* FailsComponents.loadWithQuiche
  const object = yield* Effect.try({
    try: () =>
      new module.WebTransport(url.href, {
        requireUnreliable: true,
        quicConnectTimeout: timeout,
        webTransportConnectTimeout: timeout,
        ...(target.fingerprints === undefined ? {} : {
          serverCertificateHashes: [...target.fingerprints].map((hex) => ({
            algorithm: "sha-256",
            value: Buffer.from(hex, "hex")
          }))
        })
      }),
    catch: (error) => new TransportError({ detail: `HTTP/3 by quiche failed: ${error}` })
  })
  return yield* adapt(object, target.name).pipe(
    Effect.mapError(({ reason }) =>
      new TransportError({ detail: `connecting to ${target.name} over HTTP/3 failed: ${reason}` })
    )
  )
})

const adapt = (object: WebTransport.WebTransportLike, peer: string | undefined) =>
  WebTransport.fromObject(object, {
    info: { transport: "h3", peer },
    capabilities: {
      codes: "byte",
      resetPastWrite: false,
      backpressure: false,
      priority: false,
      ping: false,
      maxStreams: 100,
      idleTimeout: 30_000
    },
    streamError: (code) => ({ code }),
    codeOf
  })

const codeOf = (error: unknown): number | undefined => {
  const code = error instanceof Error ? /^(?:Resetstream|StopSending) with code:(\d+)$/.exec(error.message) : null
  return code === null ? undefined : Number(code[1])
}

/** What comes back with the session of a client that was let in. */
interface Waiting {
  readonly enter: (session: WebTransport.WebTransportLike) => void
}

const admit = (
  lobby: Lobby,
  header: Record<string, string | undefined>,
  patience: number
): Promise<FailsComponents.Answer> =>
  new Promise((resolve) => {
    const text = `https://${header[":authority"] ?? ""}${header[":path"] ?? ""}`
    const answer = (status: number, userData: object = {}) => resolve({ path, userData, status })
    if (header[":path"]?.startsWith("/") !== true || !URL.canParse(text)) return answer(400)
    const headers = new Map<string, string>()
    for (const [name, value] of Object.entries(header)) {
      if (value !== undefined && !name.startsWith(":")) headers.set(name.toLowerCase(), value)
    }
    lobby.admit({
      url: new URL(text),
      headers,
      peer: undefined,
      transport: "h3",
      accept: Effect.callback<WebTransport.WebTransportLike>((resume) => {
        const waiting: Waiting = { enter: (session) => resume(Effect.succeed(session)) }
        answer(200, waiting)
      }).pipe(
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => Effect.fail(new TransportError({ detail: "the client left" }))
        }),
        Effect.flatMap((session) => adapt(session, undefined))
      ),
      refuse: answer
    })
  })
