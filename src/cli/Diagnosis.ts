/**
 * What findings about a relay mean: each becomes a line that says what was seen, and, where something is wrong, the
 * likely cause and what to do.
 *
 * @since 0.1.0
 */
import * as Profile from "../message/Profile.ts"
import * as Loopback from "../node/Loopback.ts"
import type { Name } from "../node/NodeTransport.ts"
import type * as Probe from "../node/Probe.ts"
import type { ConnectError } from "../session/Handshake.ts"

/**
 * The steps of an examination, in their order.
 *
 * @category models
 * @since 0.1.0
 */
export type Step = "name" | "tcp" | "tls" | "certificate" | "udp" | Name

/**
 * What there is to say of a step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Line {
  readonly step: Step
  /** Whether it works; `undefined` when it was not tried. One that works and has a `cause` is a warning. */
  readonly ok: boolean | undefined
  /** What was seen, or why it was not tried. */
  readonly seen: string
  /** What is likely to be wrong. */
  readonly cause?: string
  /** What to do about it. */
  readonly advice?: string
  /** More to know, for people; programs have it in `details`. */
  readonly note?: string
  /** The same for programs. */
  readonly details?: Readonly<Record<string, unknown>>
}

/**
 * A step that makes no sense, and why.
 *
 * @category lines
 * @since 0.1.0
 */
export const notTried = (step: Step, reason: string): Line => ({ step, ok: undefined, seen: `${skipped}${reason}` })

/**
 * Why a step was not tried.
 *
 * @category lines
 * @since 0.1.0
 */
export const reasonOf = ({ seen }: Line): string => seen.startsWith(skipped) ? seen.slice(skipped.length) : seen

/**
 * The addresses of a host.
 *
 * @category lines
 * @since 0.1.0
 */
export const name = (host: string, { addresses, code }: Probe.Named): Line => {
  const details = { host, addresses }
  if (addresses.length > 0) {
    const is = addresses.length === 1 && addresses[0] === host
      ? `${host} is an address`
      : `${host} is ${list(addresses)}`
    return { step: "name", ok: true, seen: is, details }
  }
  const unknown = code === "ENOTFOUND" || code === "ENODATA"
  return {
    step: "name",
    ok: false,
    seen: unknown ? `${host} has no address` : `no name server tells the address of ${host} (${code})`,
    cause: unknown
      ? "the host is misspelt, or has no DNS record that this machine can see"
      : "this machine is offline, or its name server is not reachable",
    advice: unknown ? "check the host in the URL" : "check the network of this machine",
    details: { ...details, code }
  }
}

/**
 * The TCP port, at each address.
 *
 * @category lines
 * @since 0.1.0
 */
export const tcp = ({ port }: Probe.Place, ports: ReadonlyArray<Probe.Port>): Line => {
  const bad = ports.find(({ state }) => state !== "open")
  const line: Line = {
    step: "tcp",
    ok: true,
    seen: ports.map((one) => knock(one, port)).join("; "),
    details: { port, addresses: ports }
  }
  if (bad === undefined) return line
  const ok = ports.some(({ state }) => state === "open")
  if (ok) {
    return {
      ...line,
      cause: `clients that try ${bad.address} first wait or fail`,
      advice: "let the relay listen at every address that its host has, or take the others out of the DNS"
    }
  }
  const loopback = ports.every(({ address }) => Loopback.isLoopback(address))
  switch (bad.state) {
    case "refused":
      return {
        ...line,
        ok,
        cause: `nothing listens at TCP port ${port}: the relay does not run, or listens ` +
          (loopback ? "at another port" : "at another port or for its own machine alone"),
        advice: loopback
          ? "start it, or correct the port in the URL"
          : `start it with --bind :${port}, or correct the port in the URL`
      }
    case "silent":
      return {
        ...line,
        ok,
        cause: `a firewall drops what is sent to TCP port ${port}, or the host is down`,
        advice: `allow TCP port ${port} in every firewall on the way, those of a cloud provider too`
      }
    default:
      return {
        ...line,
        ok,
        cause: `there is no way from here to ${list(ports.map(({ address }) => address))}`,
        advice: "check the network of this machine"
      }
  }
}

/**
 * What UDP answers to QUIC, at each address; `tcp` is what was found there.
 *
 * @category lines
 * @since 0.1.0
 */
export const udp = ({ port }: Probe.Place, answers: ReadonlyArray<Probe.Quic>, tcp: Line): Line => {
  const line: Line = {
    step: "udp",
    ok: answers.some(({ state }) => state === "quic"),
    seen: answers.map((one) => answer(one, port)).join("; "),
    details: { port, addresses: answers }
  }
  if (line.ok === true) return line
  if (answers.some(({ state }) => state === "silent")) {
    return {
      ...line,
      cause: `a firewall drops what is sent to UDP port ${port}, or the relay offers no HTTP/3: both look the same`,
      advice: `allow UDP port ${port} in every firewall on the way; see what the relay says that it listens for`
    }
  }
  return tcp.ok === true
    ? {
      ...line,
      cause: "the relay offers no HTTP/3",
      advice: "look at what it says when it starts: it tells why HTTP/3 cannot be had"
    }
    : {
      ...line,
      cause: "the relay does not run, or offers no HTTP/3",
      advice: "start it, or correct the port in the URL"
    }
}

/**
 * The handshake of TLS.
 *
 * @category lines
 * @since 0.1.0
 */
export const tls = (place: Probe.Place, spoken: Probe.Spoken): Line => {
  const failed = (seen: string, cause: string, advice: string): Line => ({
    step: "tls",
    ok: false,
    seen,
    cause,
    advice
  })
  switch (spoken._tag) {
    case "Tls": {
      const http = spoken.http2 ? "HTTP/1.1 and HTTP/2" : "HTTP/1.1"
      return {
        step: "tls",
        ok: true,
        seen: `${spoken.version}, for ${http}`,
        details: { version: spoken.version, http2: spoken.http2 }
      }
    }
    case "NotTls":
      return failed(
        "something answers, and not with TLS",
        `TCP port ${place.port} is that of another service, or of one without TLS`,
        Loopback.isLoopbackName(place.host)
          ? `check the port in the URL; without TLS it is ws://${place.host}:${place.port}`
          : "check the port in the URL"
      )
    case "Closed":
      return failed(
        "the connection was closed during the handshake",
        `TCP port ${place.port} is that of another service, or a firewall or proxy on the way cuts TLS`,
        "check the port in the URL"
      )
    case "Silent":
      return failed(
        "the connection was taken, and no answer came",
        `TCP port ${place.port} is that of another service, or the process behind it hangs`,
        "check the port in the URL; restart what listens there"
      )
    case "Refused":
      return failed(
        `the handshake failed: ${spoken.reason}`,
        "both sides have no kind of TLS in common, or the server wants something that a client of MoQ has not",
        "look into the log of the server"
      )
  }
}

/**
 * A transport that cannot be had on this machine, and why.
 *
 * @category lines
 * @since 0.1.0
 */
export const unavailable = (step: Name, reason: string): Line => ({
  ...notTried(step, reason),
  advice: reason.endsWith("is not installed")
    ? "install it beside effect-moq, or go on over another transport"
    : "go on over another transport",
  details: { available: false }
})

/**
 * What became of a transport: a session, or why there is none. Times are in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Attempt =
  | {
    readonly _tag: "Session"
    readonly profile: Profile.Name
    /** How long it took until the connection was open. */
    readonly connecting: number
    /** The quickest answer of the relay. */
    readonly roundTrip: number
  }
  | {
    readonly _tag: "NoSession"
    /** Whether there was a connection. */
    readonly connected: boolean
    readonly error: ConnectError
  }

/**
 * A transport that was tried; `udp` is what was found there.
 *
 * @category lines
 * @since 0.1.0
 */
export const transport = (step: Name, attempt: Attempt, udp?: Line): Line => {
  if (attempt._tag === "Session") {
    const { connecting, profile, roundTrip } = attempt
    return {
      step,
      ok: true,
      seen: `a session with ${versionOf(profile)}; connecting took ${connecting.toFixed(1)} ms, a round trip ${
        roundTrip.toFixed(1)
      } ms`,
      details: { connected: true, profile, connecting, roundTrip }
    }
  }
  const { connected, error } = attempt
  const seen = error._tag === "MoqTransportError" ? error.detail ?? error.message : error.message
  return {
    step,
    ok: false,
    seen: connected ? `connected, but no session: ${seen}` : seen,
    ...(connected ? sessionCause(error) : step === "h3" ? http3Cause(udp) : httpCause(seen)),
    details: { connected, error: error._tag }
  }
}

/**
 * HTTP/2 that was asked for, of a relay that does not offer it.
 *
 * @category lines
 * @since 0.1.0
 */
export const noHttp2: Line = {
  step: "h2",
  ok: false,
  seen: "TLS goes on with HTTP/1.1 alone",
  cause: "the relay offers no HTTP/2",
  advice: "start it with --transport h2, or connect over websocket"
}

/**
 * A line for people: a mark, the step, what was seen; below it the likely cause and what to do.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toText = ({ advice, cause, note, ok, seen, step }: Line): string => {
  const mark = ok === undefined ? "-" : !ok ? "✗" : cause === undefined ? "✓" : "!"
  return [
    `${mark} ${step.padEnd(11)}  ${seen}`,
    ...(note === undefined ? [] : [`${indent}${note}`]),
    ...(cause === undefined ? [] : [`${indent}likely: ${cause}`]),
    ...(advice === undefined ? [] : [`${indent}do: ${advice}`])
  ].join("\n")
}

/**
 * A line for programs; `ok` is `null` for what was not tried.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toJson = ({ advice, cause, details, ok, seen, step }: Line): object => ({
  event: "step",
  step,
  ok: ok ?? null,
  seen,
  ...(cause === undefined ? {} : { cause }),
  ...(advice === undefined ? {} : { advice }),
  ...details
})

// internal

const skipped = "not tried: "

const indent = " ".repeat(15)

const list = (items: ReadonlyArray<string>): string => items.join(", ")

const where = (address: string, port: number): string => Loopback.format(address, port) ?? address

const took = (millis: number | undefined): string => millis === undefined ? "" : ` (${millis.toFixed(1)} ms)`

const knock = ({ address, code, millis, state }: Probe.Port, port: number): string => {
  const place = where(address, port)
  switch (state) {
    case "open":
      return `${place} is open${took(millis)}`
    case "refused":
      return `${place} refuses`
    case "silent":
      return `${place} does not answer`
    case "unreachable":
      return `${place} cannot be reached (${code})`
  }
}

const answer = ({ address, code, millis, state, versions = [] }: Probe.Quic, port: number): string => {
  const place = where(address, port)
  switch (state) {
    case "quic":
      return `${place} speaks QUIC, version ${list(versions.map(quicVersion)) || "unknown"}${took(millis)}`
    case "refused":
      return `nothing listens at ${place}`
    case "silent":
      return `${place} does not answer`
    case "unreachable":
      return `${place} cannot be reached (${code})`
  }
}

const quicVersion = (version: number): string =>
  version === 1
    ? "1"
    : version === 0x6b3343cf
    ? "2"
    : version >>> 8 === 0xff0000
    ? `draft-${version & 0xff}`
    : `0x${version.toString(16)}`

const versionOf = (name: Profile.Name): string => `${name} (0x${Profile.byName(name)!.version.toString(16)})`

interface Cause {
  readonly cause: string
  readonly advice: string
}

const sessionCause = (error: ConnectError): Cause => {
  switch (error._tag) {
    case "MoqUnauthorized":
      return {
        cause: `the relay refuses this client${error.detail === undefined ? "" : `: ${error.detail}`}`,
        advice: "check the path in the URL, and the token if it has one"
      }
    case "MoqUnsupportedVersion":
      return {
        cause: "the relay speaks no version of the protocol that this client does",
        advice: `bring the older side up to date; here are ${list(Profile.all.map(({ name }) => versionOf(name)))}`
      }
    case "MoqTimeout":
      return {
        cause: "what listens there is no relay of MoQ Transfork, or hangs",
        advice: "look at the relay and into its log"
      }
    case "MoqSessionClosed":
      return error.by === "remote"
        ? {
          cause: `the relay ended the session: ${error.reason === "" ? `code ${error.code}` : error.reason}`,
          advice: "look into the log of the relay"
        }
        : {
          cause: "something on the way cuts the connection, or the relay died",
          advice: "look into the log of the relay, and of proxies before it"
        }
    default:
      return {
        cause: "what listens there speaks something else than MoQ Transfork",
        advice: "check host and port in the URL"
      }
  }
}

const http3Cause = (udp: Line | undefined): Cause =>
  udp?.ok === false && udp.cause !== undefined && udp.advice !== undefined ?
    { cause: udp.cause, advice: udp.advice } :
    {
      cause: "QUIC listens there, but no relay behind it takes the connection",
      advice: "check host, port and path in the URL; look into the log of the relay"
    }

const httpCause = (seen: string): Cause => {
  const status = Number(/\(HTTP (\d{3})/.exec(seen)?.[1])
  if (status === 401 || status === 403) {
    return {
      cause: "the relay, or a proxy before it, refuses this client",
      advice: "check the path and the token in the URL"
    }
  }
  if (status >= 500) {
    return {
      cause: "the relay is full or busy, or a proxy does not reach it",
      advice: "look into the log of the relay, and of proxies before it"
    }
  }
  if (status > 0) {
    return {
      cause: "a web server answers that is no relay, or a proxy that does not pass on WebSocket",
      advice: "check host and port in the URL; let the proxy pass on upgrades"
    }
  }
  return {
    cause: "what listens there is no relay of MoQ Transfork, or hangs",
    advice: "check host and port in the URL"
  }
}
