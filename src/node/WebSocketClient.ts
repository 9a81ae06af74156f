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
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { IncomingMessage } from "node:http"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { WebSocket } from "ws"
import { type SessionClosed, Timeout, TransportError } from "../core/MoqError.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as Certificate from "./Certificate.ts"
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
  limits: Qmux.Limits
) => Effect.Effect<Connection, TransportError | Timeout, Scope.Scope> = (url, options, limits) => {
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "5 seconds")
  return open(url, limits, options).pipe(
    Effect.catchTag("MoqSessionClosed", (closed) => Effect.fail(new TransportError({ detail: closed.message }))),
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () =>
        Effect.fail(new Timeout({ detail: `connecting to ${url.host} took over ${Duration.format(timeout)}` }))
    })
  )
}

// internal

interface Target {
  readonly secure: boolean
  readonly host: string
  readonly port: number
  /** As people write it: `host:port`. */
  readonly name: string
  readonly fingerprints: ReadonlySet<string> | undefined
  readonly roots: ReadonlyArray<string> | undefined
  readonly insecure: boolean
}

const open: (
  url: URL,
  limits: Qmux.Limits,
  options: ConnectOptions
) => Effect.Effect<Connection, TransportError | SessionClosed, Scope.Scope> = Effect.fnUntraced(
  function*(url, limits, options) {
    const target = yield* resolve(url, options)
    const socket = yield* dial(target)
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

const resolve = (url: URL, options: ConnectOptions): Effect.Effect<Target, TransportError> => {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1")
  const refused = (detail: string) => Effect.fail(new TransportError({ detail }))
  switch (url.protocol) {
    case "https:":
    case "wss:":
      break
    case "ws:":
      if (!Loopback.isLoopbackName(host)) {
        return refused(`ws: has no encryption and is for loopback addresses only; use https://${url.host}`)
      }
      break
    case "moqf:":
      return refused(`raw QUIC (moqf:) is not supported yet; use https://${url.host}`)
    default:
      return refused(`${url.protocol} URLs are not supported; use https://${url.host}`)
  }
  const fingerprints = new Set<string>()
  for (const text of options.fingerprints ?? []) {
    const fingerprint = Certificate.normalizeFingerprint(text)
    if (fingerprint === undefined) {
      return refused(`${JSON.stringify(text)} is not a SHA-256 fingerprint (64 hex digits)`)
    }
    fingerprints.add(fingerprint)
  }
  const roots = options.roots ?? []
  if (!roots.every(Certificate.isPem)) return refused("an authority to trust has to be a certificate in PEM")
  const secure = url.protocol !== "ws:"
  const port = url.port === "" ? (secure ? 443 : 80) : Number(url.port)
  return Effect.succeed({
    secure,
    host,
    port,
    name: Net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`,
    fingerprints: fingerprints.size === 0 ? undefined : fingerprints,
    roots: roots.length === 0 ? undefined : roots,
    insecure: options.insecure ?? false
  })
}

// a connected socket; with TLS, one whose handshake is done and whose certificate is good
const dial = (target: Target): Effect.Effect<Net.Socket, TransportError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const outcome = Deferred.makeUnsafe<Net.Socket, TransportError>()
      const socket = dialUnsafe(target, (exit) => Deferred.doneUnsafe(outcome, exit))
      return { socket, outcome }
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  ).pipe(Effect.flatMap(({ outcome }) => Deferred.await(outcome)))

const dialUnsafe = (target: Target, done: (exit: Exit.Exit<Net.Socket, TransportError>) => void): Net.Socket => {
  const pinned = target.fingerprints
  const address = { host: target.host, port: target.port, noDelay: true }
  const socket = target.secure
    ? Tls.connect({
      ...address,
      ...(Net.isIP(target.host) === 0 ? { servername: target.host } : {}),
      ALPNProtocols: ["http/1.1"],
      ...(target.roots === undefined ? {} : { ca: [...target.roots] }),
      rejectUnauthorized: pinned === undefined && !target.insecure
    })
    : Net.connect(address)
  // only the first outcome counts; what comes after it is for the one who uses the socket
  const fail = (detail: string) => done(Exit.fail(new TransportError({ detail })))
  let connected = false
  socket.once("connect", () => {
    connected = true
  })
  socket.on("error", (error) => fail(explain(target, error, connected)))
  socket.on("close", () => fail(`${target.name} closed the connection during the TLS handshake`))
  socket.once(target.secure ? "secureConnect" : "connect", () => {
    if (pinned !== undefined && socket instanceof Tls.TLSSocket) {
      const found = Certificate.fingerprintOfDer(socket.getPeerCertificate().raw)
      if (!pinned.has(found)) {
        socket.destroy()
        return fail(`${target.name} has another certificate than the pinned one: its fingerprint is ${found}`)
      }
    }
    done(Exit.succeed(socket))
  })
  return socket
}

const upgrade = (target: Target, url: URL, socket: Net.Socket): Effect.Effect<WebSocket, TransportError> =>
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

const codeOf = (error: Error): string => "code" in error && typeof error.code === "string" ? error.code : ""

const explain = (target: Target, error: Error, connected: boolean): string => {
  const code = codeOf(error)
  switch (code) {
    case "ECONNREFUSED":
      return `nothing listens at ${target.name}`
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the host ${target.host} is unknown`
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
      return `${target.name} cannot be reached (${code})`
    case "ETIMEDOUT":
      return `${target.name} does not answer`
  }
  if (untrusted.has(code)) {
    return `the certificate of ${target.name} is not trusted (${error.message}); ` +
      "pin the fingerprint of a self-signed one"
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return `the certificate of ${target.name} is for another host (${error.message}); ` +
      "pin the fingerprint of a self-signed one"
  }
  if (connected && target.secure) {
    if (code === "ECONNRESET") return `${target.name} closed the connection during the TLS handshake`
    // OpenSSL's whole message is for its authors
    const reason = "reason" in error && typeof error.reason === "string" ? error.reason : error.message
    const guess = code === "ERR_SSL_WRONG_VERSION_NUMBER" ? "; it does not speak TLS" : ""
    return `the TLS handshake with ${target.name} failed: ${reason}${guess}`
  }
  return `${target.name} cannot be reached: ${error.message}`
}

const untrusted = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_UNTRUSTED",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REVOKED",
  "CERT_SIGNATURE_FAILURE",
  "INVALID_CA"
])

const explainUpgrade = (target: Target, error: Error): string => {
  if (error.message.includes("subprotocol")) {
    return `${target.name} speaks WebSocket but not QMux with Transfork (${Qmux.subprotocols.join(" or ")})`
  }
  if (codeOf(error).startsWith("HPE_")) return `${target.name} is not a WebSocket server`
  if (codeOf(error) === "ECONNRESET") return `${target.name} closed the connection during the WebSocket handshake`
  return `the WebSocket handshake with ${target.name} failed: ${error.message}`
}

const explainStatus = (target: Target, status: number, text: string): string => {
  const said = [...text].filter((character) => character >= " ").join("").trim()
  const answer = said === "" ? `HTTP ${status}` : `HTTP ${status}: ${said}`
  return status >= 300 && status !== 404
    ? `${target.name} refused the connection (${answer})`
    : `${target.name} offers no WebSocket here (${answer})`
}
