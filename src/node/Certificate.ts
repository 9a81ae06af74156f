/**
 * Short-lived certificates for development, and the fingerprints that clients pin.
 *
 * **Details**
 *
 * Browsers accept a pinned certificate over WebTransport only when it is ECDSA P-256 and valid for at most 14 days in
 * all, so that is what {@link generate} makes.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { createHash, createPrivateKey, X509Certificate } from "node:crypto"
import { isIP } from "node:net"
import { createSecureContext } from "node:tls"
import type { SubjectAltNameEntry } from "selfsigned"
import { TransportError } from "../core/MoqError.ts"

/**
 * A certificate with its key.
 *
 * @category models
 * @since 0.1.0
 */
export interface Certificate {
  /** The certificate, in PEM. */
  readonly cert: string
  /** The private key, in PEM. */
  readonly key: string
  /** SHA-256 of the certificate's DER bytes, in lower-case hex. */
  readonly fingerprint: string
}

/**
 * Makes a self-signed ECDSA P-256 certificate for names and IP addresses.
 *
 * **Details**
 *
 * It is valid from 12 hours ago (clocks differ) and for `days` from now, 13 by default and at most. Fails with
 * {@link TransportError} when there is no host or one is neither a DNS name nor an IP address, and when `days` is not
 * within 1..13.
 *
 * @category constructors
 * @since 0.1.0
 */
export const generate: (options: {
  readonly hosts: ReadonlyArray<string>
  readonly days?: number | undefined
}) => Effect.Effect<Certificate, TransportError> = Effect.fnUntraced(function*(options) {
  const days = options.days ?? maxDays
  if (!(days >= 1 && days <= maxDays)) {
    return yield* new TransportError({
      detail: `a generated certificate is valid for 1 to ${maxDays} days, not ${days}`
    })
  }
  if (options.hosts.length === 0) {
    return yield* new TransportError({ detail: "a certificate needs at least one host" })
  }
  const altNames: Array<SubjectAltNameEntry> = []
  for (const host of options.hosts) {
    if (isIP(host) !== 0) altNames.push({ type: 7, ip: host })
    else if (dnsName.test(host)) altNames.push({ type: 2, value: host })
    else return yield* new TransportError({ detail: `${JSON.stringify(host)} is neither a DNS name nor an IP address` })
  }
  const now = yield* Clock.currentTimeMillis
  const pem = yield* Effect.tryPromise({
    // loaded here, because clients import this module too, and it takes longer to load than all the rest
    try: async () =>
      (await import("selfsigned")).generate([{ name: "commonName", value: "effect-moq" }], {
        keyType: "ec",
        curve: "P-256",
        algorithm: "sha256",
        notBeforeDate: new Date(now - 12 * hour),
        notAfterDate: new Date(now + days * 24 * hour),
        extensions: [
          { name: "basicConstraints", cA: false, critical: true },
          { name: "keyUsage", digitalSignature: true, critical: true },
          { name: "extKeyUsage", serverAuth: true },
          { name: "subjectAltName", altNames }
        ]
      }),
    catch: (cause) => new TransportError({ detail: `a certificate could not be made: ${String(cause)}` })
  })
  return { cert: pem.cert, key: pem.private, fingerprint: yield* fingerprintOf(pem.cert) }
})

/**
 * A certificate of yours with its key, checked to belong together and to be good for TLS.
 *
 * **Details**
 *
 * Certificates of intermediate authorities may follow that of the server. Fails with {@link TransportError} that says
 * in one line what is wrong. Dates and names are not looked at: that is for the clients.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromPem = (pem: {
  readonly cert: string
  readonly key: string
}): Effect.Effect<Certificate, TransportError> =>
  Effect.try({
    try: () => {
      const certificate = parsing(() => new X509Certificate(pem.cert), "the certificate is not in PEM")
      const key = parsing(() => createPrivateKey(pem.key), keyProblem(pem.key))
      if (!certificate.checkPrivateKey(key)) throw new Error("they do not belong together")
      // the whole chain, and what OpenSSL does not let pass, such as a short key
      createSecureContext({ cert: pem.cert, key: pem.key })
      return { cert: pem.cert, key: pem.key, fingerprint: fingerprintOfDer(certificate.raw) }
    },
    catch: (error) => new TransportError({ detail: `certificate and key cannot be used: ${reasonOf(error)}` })
  })

/**
 * SHA-256 of the (first) certificate in a PEM text, in lower-case hex. Fails with {@link TransportError} when there is
 * none.
 *
 * @category fingerprints
 * @since 0.1.0
 */
export const fingerprintOf = (pem: string): Effect.Effect<string, TransportError> =>
  Effect.try({
    try: () => fingerprintOfDer(new X509Certificate(pem).raw),
    catch: () => new TransportError({ detail: "this is not a certificate in PEM" })
  })

/**
 * The form in which fingerprints are compared: 64 lower-case hex digits without colons; `undefined` when it is none.
 *
 * @category fingerprints
 * @since 0.1.0
 */
export const normalizeFingerprint = (text: string): string | undefined => {
  const hex = text.replaceAll(":", "").trim().toLowerCase()
  return /^[0-9a-f]{64}$/.test(hex) ? hex : undefined
}

/**
 * Whether a PEM text begins with a certificate, as that of an authority has to.
 *
 * @internal
 */
export const isPem = (text: string): boolean => {
  try {
    return new X509Certificate(text).raw.length > 0
  } catch {
    return false
  }
}

/** @internal */
export const fingerprintOfDer = (der: Uint8Array): string => createHash("sha256").update(der).digest("hex")

// internal

const hour = 3_600_000

// with the 12 hours before now this stays below the 14 days that browsers allow, whatever they do with the last second
const maxDays = 13

const parsing = <A>(parse: () => A, problem: string): A => {
  try {
    return parse()
  } catch (error) {
    throw new Error(problem, { cause: error })
  }
}

const keyProblem = (key: string): string =>
  key.includes("ENCRYPTED") ? "the key is encrypted; it has to be without a password" : "the key is not in PEM"

// OpenSSL's whole message is for its authors
const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return "reason" in error && typeof error.reason === "string" ? error.reason : error.message
}

const dnsName = /^(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?$/i
