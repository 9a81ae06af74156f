/**
 * Whether a certificate is a good one, for a client as it was asked to connect, and for browsers.
 *
 * @since 0.1.0
 */
import type * as Probe from "../node/Probe.ts"
import type * as Diagnosis from "./Diagnosis.ts"

/**
 * What makes a certificate a good one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Trust {
  readonly host: string
  /** Fingerprints that the user gave. */
  readonly pinned: ReadonlyArray<string> | undefined
  /** The fingerprint that the relay tells itself, over plain HTTP. */
  readonly told: string | undefined
  /** Whether what it tells is believed, because nobody else can be at that address. */
  readonly believed: boolean
  /** Whether the user named authorities. */
  readonly roots: boolean
  readonly insecure: boolean
  /** In milliseconds since 1970. */
  readonly now: number
}

/**
 * The fingerprints that a client is to accept, when it does not ask authorities.
 *
 * @category trust
 * @since 0.1.0
 */
export const fingerprintsOf = ({ believed, pinned, told }: Trust): ReadonlyArray<string> | undefined =>
  pinned ?? (believed && told !== undefined ? [told] : undefined)

/**
 * The certificate: whether clients accept it as things are, and browsers.
 *
 * @category lines
 * @since 0.1.0
 */
export const certificate = (trust: Trust, shown: Probe.Shown): Diagnosis.Line => {
  const { fingerprint } = shown
  const expected = fingerprintsOf(trust)
  const out = outOfDate(shown, trust.now)
  const short = shown.key === "ECDSA P-256" && shown.to - shown.from <= 14 * day
  const trusted = shown.problem === undefined && shown.forHost && out === undefined
  const browsers = trusted && !trust.roots ? "trusted" : short && out === undefined ? "pinned" : "refused"
  const about = (how: string): Diagnosis.Line => ({
    step: "certificate",
    ok: true,
    seen: `${how}: ${shown.selfSigned ? "self-signed, " : ""}${shown.key}, for ${
      shown.names.join(", ") || "no name"
    }, ${validity(shown, trust.now)}`,
    note: `fingerprint ${fingerprint}${
      browsers === "trusted" ? "; browsers take it" : browsers === "pinned" ? "; browsers take it when pinned (h3)" : ""
    }`,
    details: {
      fingerprint,
      key: shown.key,
      names: shown.names,
      validFrom: new Date(shown.from).toISOString(),
      validTo: new Date(shown.to).toISOString(),
      selfSigned: shown.selfSigned,
      trusted,
      browsers,
      ...(trust.told === undefined ? {} : { told: trust.told })
    }
  })
  const failed = (how: string, cause: string, advice: string): Diagnosis.Line => ({
    ...about(how),
    ok: false,
    cause,
    advice
  })

  if (expected !== undefined && !expected.includes(fingerprint)) {
    return failed(
      trust.pinned === undefined ? "not the one that the relay tells" : "not the pinned one",
      trust.told === fingerprint && trust.pinned !== undefined
        ? "the relay has a new certificate since the fingerprint was taken: a generated one changes with each start, unless it is kept"
        : "the relay has a new certificate, or something on the way answers in its place",
      `if the relay confirms it, use --fingerprint ${fingerprint}`
    )
  }
  if (expected === undefined && !trust.insecure) {
    if (out === "expired") {
      return failed(
        "expired",
        "the certificate has expired, or the clock of this machine is wrong",
        "renew it at the relay"
      )
    }
    if (out === "early") {
      return failed(
        "not valid yet",
        "the clock of this machine, or of the one that made the certificate, is wrong",
        "set the clocks"
      )
    }
    if (shown.problem !== undefined) {
      return failed(
        `not trusted (${shown.problem})`,
        shown.selfSigned
          ? "no authority vouches for a self-signed certificate"
          : trust.roots
          ? "the authorities of --tls-root do not vouch for it"
          : "no authority that this machine knows vouches for it, or the relay does not send the whole chain",
        shown.selfSigned
          ? `if the relay confirms it, use --fingerprint ${fingerprint}`
          : "name its authority with --tls-root FILE, or let the relay send the whole chain"
      )
    }
    if (!shown.forHost) {
      return failed(
        "for another host",
        `the certificate is for ${shown.names.join(", ") || "no host at all"}, not for ${trust.host}`,
        "use one of these names in the URL, or get a certificate for the one that you use"
      )
    }
    return about(trust.roots ? "trusted by --tls-root" : "trusted")
  }
  const line = about(
    expected === undefined ? "accepted as any" : trust.pinned === undefined ? "as the relay tells" : "as pinned"
  )
  return browsers !== "refused" ? line : {
    ...line,
    cause: out !== undefined
      ? `browsers refuse it: it ${out === "expired" ? "has expired" : "is not valid yet"}`
      : "browsers refuse to pin it: they want ECDSA P-256, valid for at most 14 days in all",
    advice: "let the relay generate one (--tls-generate), or get one that an authority vouches for"
  }
}

// internal

const day = 86_400_000

const outOfDate = ({ from, to }: Probe.Shown, now: number): "expired" | "early" | undefined =>
  now > to ? "expired" : now < from ? "early" : undefined

const validity = ({ from, to }: Probe.Shown, now: number): string => {
  const date = (time: number) => new Date(time).toISOString().slice(0, 10)
  const days = (count: number) => `${count} ${count === 1 ? "day" : "days"}`
  if (now > to) return `expired on ${date(to)} (${days(Math.ceil((now - to) / day))} ago)`
  if (now < from) return `valid from ${date(from)}`
  return `valid until ${date(to)} (${days(Math.floor((to - now) / day))} left)`
}
