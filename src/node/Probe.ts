/**
 * Questions that a relay answers without a session: which addresses its name has, which ports are open, whether QUIC
 * listens, which certificate it shows. Answers are findings, never failures, and each comes within its timeout.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type KeyObject, randomBytes, type X509Certificate } from "node:crypto"
import * as Dgram from "node:dgram"
import * as Dns from "node:dns"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Tls from "node:tls"
import * as Certificate from "./Certificate.ts"

/** Where a relay is: a host without brackets, and the number of its ports. */
export interface Place {
  readonly host: string
  readonly port: number
}

/** The addresses of a name, or the code of the resolver's error (`ETIMEDOUT` when it does not answer). */
export interface Named {
  readonly addresses: ReadonlyArray<string>
  readonly code?: string
}

/** Asks the system for the addresses of a host; an address is its own. */
export const resolve = (host: string, timeout: Duration.Input): Effect.Effect<Named> =>
  within(
    ask<Named>((answer) => {
      Dns.lookup(host, { all: true, verbatim: true }, (error, found) => {
        answer(
          error === null
            ? { addresses: [...new Set(found.map(({ address }) => address))] }
            : { addresses: [], code: error.code ?? error.message }
        )
      })
      return () => {}
    }),
    timeout,
    { addresses: [], code: "ETIMEDOUT" }
  )

/** What became of a knock at one address. `code` is the system's, where there is one. */
export interface Port {
  readonly address: string
  readonly state: "open" | "refused" | "silent" | "unreachable"
  readonly code?: string
  /** How long the answer took, in milliseconds. */
  readonly millis?: number
}

/** Whether a TCP port is open. */
export const tcp = (address: string, port: number, timeout: Duration.Input): Effect.Effect<Port> =>
  timed(within(
    ask<Port>((answer) => {
      const socket = Net.connect({ host: address, port })
      socket.once("connect", () => answer({ address, state: "open" }))
      socket.on("error", (error) => answer({ address, ...knocked(error) }))
      return () => socket.destroy()
    }),
    timeout,
    { address, state: "silent" }
  ))

/** What a UDP port answers to QUIC. */
export interface Quic {
  readonly address: string
  readonly state: "quic" | "refused" | "silent" | "unreachable"
  readonly code?: string
  /** How long the answer took, in milliseconds. */
  readonly millis?: number
  /** The versions of QUIC that it offers, those left out that are there to be ignored. */
  readonly versions?: ReadonlyArray<number>
}

/**
 * Whether QUIC listens at a UDP port.
 *
 * **Details**
 *
 * It sends the first bytes of a connection in a version that nobody has. Whoever speaks QUIC answers with the versions
 * that it has (RFC 9000, section 6), and no cryptography is needed. Sent again while nothing comes, as datagrams get
 * lost.
 */
export const quic = (address: string, port: number, timeout: Duration.Input): Effect.Effect<Quic> =>
  timed(within(
    ask<Quic>((answer) => {
      const socket = Dgram.createSocket(Net.isIPv6(address) ? "udp6" : "udp4")
      const hello = initial()
      let again: NodeJS.Timeout | undefined
      const done = (quic: Omit<Quic, "address">): void => answer({ address, ...quic })
      const send = (wait: number): void => {
        socket.send(hello.packet, (error) => {
          if (error !== null) done(knocked(error))
        })
        again = setTimeout(() => send(wait * 2), wait)
      }
      socket.on("error", (error) => done(knocked(error)))
      socket.on("message", (packet) => {
        const versions = offered(packet, hello)
        if (versions !== undefined) done({ state: "quic", versions })
      })
      // connected, so that the system tells when nothing listens; its type does not say that it gives an error
      socket.connect(port, address, (error?: Error) => error === undefined ? send(250) : done(knocked(error)))
      return () => {
        clearTimeout(again)
        socket.close()
      }
    }),
    timeout,
    { address, state: "silent" }
  ))

/** The certificate that a server shows. */
export interface Shown {
  /** SHA-256, in lower-case hex. */
  readonly fingerprint: string
  /** The kind of its key: `ECDSA P-256`, `RSA 2048`. */
  readonly key: string
  readonly names: ReadonlyArray<string>
  /** From when it is valid, in milliseconds since 1970. */
  readonly from: number
  /** Until when it is valid, in milliseconds since 1970. */
  readonly to: number
  readonly selfSigned: boolean
  /** Whether it is for the host that was asked for. */
  readonly forHost: boolean
  /** OpenSSL's code for why the authorities do not vouch for it; absent when they do. */
  readonly problem?: string
}

/** What a TCP port answers to TLS. */
export type Spoken =
  | {
    readonly _tag: "Tls"
    readonly version: string
    /** Whether it would go on with HTTP/2. */
    readonly http2: boolean
    readonly certificate: Shown
  }
  | { readonly _tag: "NotTls" }
  | { readonly _tag: "Closed" }
  | { readonly _tag: "Silent" }
  | { readonly _tag: "Refused"; readonly reason: string }

/** Shakes hands over TLS, whatever the certificate, and hangs up. */
export const tls = (
  place: Place,
  options: {
    /** Which of the host's addresses to ask. */
    readonly address: string
    readonly roots: ReadonlyArray<string> | undefined
    readonly timeout: Duration.Input
  }
): Effect.Effect<Spoken> =>
  within(
    ask<Spoken>((answer) => {
      const socket = Tls.connect({
        host: options.address,
        port: place.port,
        ...(Net.isIP(place.host) === 0 ? { servername: place.host } : {}),
        ...(options.roots === undefined ? {} : { ca: [...options.roots] }),
        ALPNProtocols: ["h2", "http/1.1"],
        rejectUnauthorized: false,
        // whether it is for this host is a finding of its own
        checkServerIdentity: () => undefined
      })
      socket.on("error", (error) => answer(misspoken(error)))
      socket.on("close", () => answer({ _tag: "Closed" }))
      socket.once("secureConnect", () => {
        const certificate = socket.getPeerX509Certificate()
        if (certificate === undefined) return answer({ _tag: "Refused", reason: "it shows no certificate" })
        answer({
          _tag: "Tls",
          version: socket.getProtocol() ?? "TLS",
          http2: socket.alpnProtocol === "h2",
          certificate: shown(certificate, place.host, socket)
        })
      })
      return () => socket.destroy()
    }),
    options.timeout,
    { _tag: "Silent" }
  )

/**
 * Asks a relay with a generated certificate for its fingerprint, over plain HTTP; `undefined` when it tells none.
 */
export const fingerprint = (place: Place, timeout: Duration.Input): Effect.Effect<string | undefined> =>
  within(
    ask<string | undefined>((answer) => {
      const found = (text: string): void => answer(Certificate.normalizeFingerprint(text))
      const request = Http.get({
        host: place.host,
        port: place.port,
        path: "/certificate.sha256",
        agent: false
      }, (response) => {
        let text = ""
        response.setEncoding("utf8")
        response.on("data", (part: string) => {
          text += part
          if (text.length > 1024) response.destroy()
        })
        response.on("close", () => found(response.statusCode === 200 ? text : ""))
      })
      request.on("error", () => found(""))
      return () => request.destroy()
    }),
    timeout,
    undefined
  )

/** Where a URL leads, with the port of its scheme when it names none. */
export const placeOf = (url: URL): Place => ({
  host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
  port: url.port === "" ? (url.protocol === "ws:" ? 80 : 443) : Number(url.port)
})

// internal

// hoisted: what is below is used while the functions above run

// what is opened for a question is closed with the first answer, and when nobody waits for one any more
const ask = <A>(open: (answer: (answer: A) => void) => () => void): Effect.Effect<A> =>
  Effect.suspend(() => {
    let close = (): void => {}
    return Effect.ensuring(
      Effect.callback<A>((resume) => {
        close = open((answer) => resume(Effect.succeed(answer)))
      }),
      Effect.sync(() => close())
    )
  })

const within = <A>(effect: Effect.Effect<A>, timeout: Duration.Input, otherwise: NoInfer<A>): Effect.Effect<A> =>
  Effect.map(Effect.timeoutOption(effect, timeout), Option.getOrElse((): A => otherwise))

const timed = <A extends { readonly state: string }>(effect: Effect.Effect<A>): Effect.Effect<A> =>
  Effect.gen(function*() {
    const before = yield* Clock.currentTimeNanos
    const answer = yield* effect
    const after = yield* Clock.currentTimeNanos
    return answer.state === "silent" ? answer : { ...answer, millis: Number(after - before) / 1e6 }
  })

const knocked = (
  error: NodeJS.ErrnoException
): { readonly state: "refused" | "silent" | "unreachable"; code: string } => {
  const code = error.code ?? error.message
  return {
    state: code === "ECONNREFUSED" || code === "ECONNRESET"
      ? "refused"
      : code === "ETIMEDOUT"
      ? "silent"
      : "unreachable",
    code
  }
}

interface Hello {
  readonly packet: Uint8Array
  readonly destination: Buffer
  readonly source: Buffer
}

// A long header (RFC 8999) of a version that is reserved for this (RFC 9000, section 15), as long as a first packet must
// be for an answer.
const initial = (): Hello => {
  const destination = randomBytes(8)
  const source = randomBytes(8)
  const header = Buffer.concat([
    Uint8Array.of(0xc0, 0x1a, 0x2a, 0x3a, 0x4a, destination.length),
    destination,
    Uint8Array.of(source.length),
    source
  ])
  return { packet: Buffer.concat([header, Buffer.alloc(1200 - header.length)]), destination, source }
}

// the versions in an answer to our packet; `undefined` for anything else
const offered = (packet: Buffer, hello: Hello): ReadonlyArray<number> | undefined => {
  const header = Buffer.concat([
    Uint8Array.of(0, 0, 0, 0, hello.source.length),
    hello.source,
    Uint8Array.of(hello.destination.length),
    hello.destination
  ])
  const start = 1 + header.length
  if (packet.length < start || packet[0]! < 0x80 || !packet.subarray(1, start).equals(header)) return undefined
  const versions: Array<number> = []
  for (let at = start; at + 4 <= packet.length; at += 4) {
    const version = packet.readUInt32BE(at)
    if ((version & 0x0f0f0f0f) !== 0x0a0a0a0a) versions.push(version)
  }
  return versions
}

const misspoken = (error: Error): Spoken => {
  const code = "code" in error ? error.code : undefined
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") return { _tag: "NotTls" }
  if (code === "ECONNRESET" || code === "EPIPE") return { _tag: "Closed" }
  if (code === "ETIMEDOUT") return { _tag: "Silent" }
  // OpenSSL's whole message is for its authors
  return { _tag: "Refused", reason: "reason" in error ? String(error.reason) : error.message }
}

const shown = (certificate: X509Certificate, host: string, socket: Tls.TLSSocket): Shown => {
  // its type says Error; it is a code
  const problem: unknown = socket.authorized ? undefined : socket.authorizationError
  return {
    fingerprint: Certificate.fingerprintOfDer(certificate.raw),
    key: keyOf(certificate.publicKey),
    names: namesOf(certificate),
    from: Date.parse(certificate.validFrom),
    to: Date.parse(certificate.validTo),
    selfSigned: certificate.issuer === certificate.subject && certificate.verify(certificate.publicKey),
    forHost: (Net.isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined,
    ...(problem === undefined || problem === null ? {} : { problem: String(problem) })
  }
}

const keyOf = (key: KeyObject): string => {
  const details = key.asymmetricKeyDetails
  switch (key.asymmetricKeyType) {
    case "ec":
      return `ECDSA ${curves.get(details?.namedCurve ?? "") ?? details?.namedCurve ?? ""}`
    case "rsa":
    case "rsa-pss":
      return `RSA ${details?.modulusLength ?? ""}`
    case "ed25519":
      return "Ed25519"
    default:
      return key.asymmetricKeyType ?? "unknown"
  }
}

const curves = new Map([["prime256v1", "P-256"], ["secp384r1", "P-384"], ["secp521r1", "P-521"]])

const namesOf = (certificate: X509Certificate): ReadonlyArray<string> => {
  const names = certificate.subjectAltName?.split(", ") ?? []
  return names.map((name) => name.replace(/^(DNS|IP Address):/, ""))
}
