/**
 * Connects over native HTTP/3.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Timeout, TransportError } from "../core/MoqError.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as Dial from "./Dial.ts"
import * as Http3Binding from "./Http3Binding.ts"
import * as Http3Connection from "./Http3Connection.ts"
import { textOf } from "./Http3Stream.ts"

/**
 * Opens a connection to an `https:` URL.
 *
 * **Details**
 *
 * Fails with {@link TransportError} that says in words what is wrong, and with {@link Timeout} when it takes longer than
 * `timeout` (5 seconds by default): nothing tells that nobody listens on a UDP port, or that a firewall drops what comes
 * for it. The binding cannot trust authorities other than the system's, so `roots` fail at once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = (
  url: URL,
  options: ConnectOptions = {}
): Effect.Effect<Connection, TransportError | Timeout, Scope.Scope> => Dial.inTime(url, options, open(url, options))

// internal

const open: (
  url: URL,
  options: ConnectOptions
) => Effect.Effect<Connection, TransportError, Scope.Scope> = Effect.fnUntraced(function*(url, options) {
  if (url.protocol !== "https:") {
    return yield* new TransportError({ detail: `HTTP/3 is for https: URLs; use https://${url.host}` })
  }
  const target = yield* Dial.target(url, true, options)
  if (target.roots !== undefined) {
    return yield* new TransportError({
      detail: "native HTTP/3 trusts the system's authorities alone; pin a fingerprint, or use another transport"
    })
  }
  const binding = yield* Http3Binding.load
  const client = yield* Effect.try({
    try: () => clientOf(binding, target),
    catch: (error) => new TransportError({ detail: `no UDP socket can be had: ${textOf(error)}` })
  })
  const address = new URL(url)
  address.hash = ""
  return yield* Http3Connection.make({
    session: () => client.connect(address.href),
    explain: (error) => new TransportError({ detail: explain(target, textOf(error)) })
  })
})

// reading the system's authorities takes a while, so the client that trusts them serves for all
let trusting: Http3Binding.Client | undefined

const clientOf = ({ NapiClient }: Http3Binding.Binding, target: Dial.Target): Http3Binding.Client => {
  if (target.fingerprints !== undefined) {
    return NapiClient.withCertificateHashes([...target.fingerprints].map((hex) => Buffer.from(hex, "hex")))
  }
  return target.insecure ? NapiClient.disableVerify() : trusting ??= NapiClient.withSystemRoots()
}

const explain = (target: Dial.Target, text: string): string => {
  if (text.startsWith("invalid DNS name")) return `the host ${target.host} is unknown`
  if (text.includes("invalid peer certificate")) {
    if (target.fingerprints !== undefined) return `${target.name} has another certificate than the pinned one`
    const why = text.slice(text.indexOf("invalid peer certificate: ") + 26)
    return why.startsWith("certificate not valid for name") || why.startsWith("NotValidForName")
      ? `the certificate of ${target.name} is for another host; pin the fingerprint of a self-signed one`
      : `the certificate of ${target.name} is not trusted (${why}); pin the fingerprint of a self-signed one`
  }
  // the status of a refusal does not come through
  if (text.startsWith("failed to exchange h3 connect")) return `${target.name} refused the connection`
  return `${target.name} cannot be reached over HTTP/3: ${text}`
}
