/**
 * Opens a TCP connection, or one with TLS whose certificate is good before a byte of ours has left, and says in words
 * what is wrong.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { Timeout, TransportError } from "../core/MoqError.ts"
import type { ConnectOptions } from "../transport/Transport.ts"
import * as Certificate from "./Certificate.ts"

/** Where to connect to, and which certificates are good. */
export interface Target {
  readonly secure: boolean
  readonly host: string
  readonly port: number
  /** As people write it: `host:port`. */
  readonly name: string
  readonly fingerprints: ReadonlySet<string> | undefined
  readonly roots: ReadonlyArray<string> | undefined
  readonly insecure: boolean
}

/** Fails with {@link TransportError} when a fingerprint or a certificate in the options is none. */
export const target = (
  url: URL,
  secure: boolean,
  options: ConnectOptions
): Effect.Effect<Target, TransportError> => {
  const refused = (detail: string) => Effect.fail(new TransportError({ detail }))
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
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1")
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

/** Fails with {@link Timeout} when connecting takes longer than the `timeout` of its options, by default 5 seconds. */
export const inTime = <A, E, R>(
  url: URL,
  options: ConnectOptions,
  connecting: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Timeout, R> => {
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "5 seconds")
  return Effect.timeoutOrElse(connecting, {
    duration: timeout,
    orElse: () =>
      Effect.fail(new Timeout({ detail: `connecting to ${url.host} took over ${Duration.format(timeout)}` }))
  })
}

/** A connected socket; with TLS, one whose handshake is done, which speaks `protocol`, and whose certificate is good. */
export const open = (
  target: Target,
  protocol: "http/1.1" | "h2"
): Effect.Effect<Net.Socket, TransportError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const outcome = Deferred.makeUnsafe<Net.Socket, TransportError>()
      const socket = openUnsafe(target, protocol, (exit) => Deferred.doneUnsafe(outcome, exit))
      return { socket, outcome }
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  ).pipe(Effect.flatMap(({ outcome }) => Deferred.await(outcome)))

/** The code of an error of Node's; empty when it has none. */
export const codeOf = (error: Error): string => "code" in error && typeof error.code === "string" ? error.code : ""

// internal

const openUnsafe = (
  target: Target,
  protocol: "http/1.1" | "h2",
  done: (exit: Exit.Exit<Net.Socket, TransportError>) => void
): Net.Socket => {
  const pinned = target.fingerprints
  const address = { host: target.host, port: target.port, noDelay: true }
  const socket = target.secure
    ? Tls.connect({
      ...address,
      ...(Net.isIP(target.host) === 0 ? { servername: target.host } : {}),
      ...(target.roots === undefined ? {} : { ca: [...target.roots] }),
      ALPNProtocols: [protocol],
      rejectUnauthorized: pinned === undefined && !target.insecure
    })
    : Net.connect(address)
  // only the first outcome counts; what comes after it is for the one who uses the socket
  const fail = (detail: string) => done(Exit.fail(new TransportError({ detail })))
  let connected = false
  socket.once("connect", () => {
    connected = true
  })
  socket.on("error", (error) => fail(explain(target, protocol, error, connected)))
  socket.on("close", () => fail(`${target.name} closed the connection during the TLS handshake`))
  socket.once(target.secure ? "secureConnect" : "connect", () => {
    if (socket instanceof Tls.TLSSocket) {
      const wrong = objection(target, protocol, socket)
      if (wrong !== undefined) {
        socket.destroy()
        return fail(wrong)
      }
    }
    done(Exit.succeed(socket))
  })
  return socket
}

const objection = (target: Target, protocol: string, socket: Tls.TLSSocket): string | undefined => {
  if (target.fingerprints !== undefined) {
    const found = Certificate.fingerprintOfDer(socket.getPeerCertificate().raw)
    if (!target.fingerprints.has(found)) {
      return `${target.name} has another certificate than the pinned one: its fingerprint is ${found}`
    }
  }
  // a server that knows nothing of ALPN speaks HTTP/1.1
  return protocol === "h2" && socket.alpnProtocol !== "h2" ? `${target.name} offers no HTTP/2` : undefined
}

const explain = (target: Target, protocol: string, error: Error, connected: boolean): string => {
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
  if (code === "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL" && protocol === "h2") {
    return `${target.name} offers no HTTP/2`
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
