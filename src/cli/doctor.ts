/**
 * `effect-moq doctor`: why there is, or is not, a session with a relay.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Loopback from "../node/Loopback.ts"
import type { Name } from "../node/NodeTransport.ts"
import type * as Probe from "../node/Probe.ts"
import { type Connection, Transport } from "../transport/Transport.ts"
import * as Diagnosis from "./Diagnosis.ts"
import { Failure } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import * as Text from "./Text.ts"
import * as Trust from "./Trust.ts"
import * as Verdict from "./Verdict.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const doctor = Command.make(
  "doctor",
  {
    ...Target.config,
    transport: Flags.transports("What to try; auto, the default, is everything that there is"),
    timeout: Flags.duration("timeout", "How long each step may take; 5s by default").pipe(
      Flag.withDefault(Duration.seconds(5))
    ),
    json: Flags.json
  },
  Effect.fnUntraced(function*({ json, timeout, ...target }) {
    const parsed = yield* Target.parse(target)
    // what no transport takes at all is explained by whoever refuses it
    if (!canBeTried(parsed.url)) return yield* Effect.asVoid(Effect.scoped(Target.connect(target)))
    const lines: Array<Diagnosis.Line> = []
    yield* examine(yield* subjectOf(parsed, target.transport, timeout), (line) => {
      lines.push(line)
      return json ? Output.json(Diagnosis.toJson(line)) : Output.line(Diagnosis.toText(cleaned(line)))
    })
    const verdict = Verdict.of(lines)
    if (json) yield* Output.json({ event: "verdict", ...verdict })
    // not the whole URL, which may hold a token: what is printed here is shown to others
    const { origin } = parsed.url
    if (!verdict.ok) return yield* new Failure({ message: `no session with ${origin}: ${verdict.cause}` })
    if (!json) yield* Output.line(`\n${conclusion(verdict.transports, target.transport)}`)
  })
).pipe(
  Command.withDescription(
    "Examines step by step whether and how a session with a relay can be had: its name, TCP, TLS, its certificate, UDP, " +
      "each transport and the version of the protocol. Says what was seen, and for what does not work the likely cause " +
      "and what to do. Exits with 0 when there is a session over at least one transport."
  ),
  Command.withShortDescription("Find out why it does not connect"),
  Command.withExamples([
    { command: "effect-moq doctor https://localhost:4443", description: "Everything, for a relay on this machine" },
    {
      command: "effect-moq doctor https://relay.example.com --transport h3 --timeout 2s --json",
      description: "Only HTTP/3, for a script"
    }
  ])
)

// internal

const modules = Effect.promise(async () => {
  const [Available, Certificate, NodeTransport, Probe, Session] = await Promise.all([
    import("../node/Available.ts"),
    import("../node/Certificate.ts"),
    import("../node/NodeTransport.ts"),
    import("../node/Probe.ts"),
    import("../session/Session.ts")
  ])
  return { Available, Certificate, NodeTransport, Probe, Session }
})

const canBeTried = (url: URL): boolean =>
  isSecure(url) || (url.protocol === "ws:" && Loopback.isLoopbackName(url.hostname))

const isSecure = (url: URL): boolean => url.protocol === "https:" || url.protocol === "wss:"

const conclusion = (works: ReadonlyArray<Name>, chosen: ReadonlyArray<Name> | undefined): string =>
  `There are sessions over ${works.join(", ")}.` +
  (chosen === undefined && works.every((name) => name === "h2") ? " Ask for it: --transport h2." : "")

/** What an examination is about. */
interface Subject {
  readonly url: URL
  readonly place: Probe.Place
  readonly trust: Target.Parsed["trust"]
  /** Fingerprints that the user gave, as they are compared. */
  readonly pinned: ReadonlyArray<string> | undefined
  readonly asks: boolean
  readonly chosen: ReadonlyArray<Name> | undefined
  readonly timeout: Duration.Duration
}

type Print = (line: Diagnosis.Line) => Effect.Effect<void, Output.OutputError, Output.Output>

const subjectOf: (
  parsed: Target.Parsed,
  chosen: ReadonlyArray<Name> | undefined,
  timeout: Duration.Duration
) => Effect.Effect<Subject, Failure> = Effect.fnUntraced(function*({ asks, trust, url }, chosen, timeout) {
  const { Certificate, Probe } = yield* modules
  const pinned: Array<string> = []
  for (const text of trust.fingerprints ?? []) {
    const fingerprint = Certificate.normalizeFingerprint(text)
    if (fingerprint === undefined) {
      return yield* new Failure({ message: `${JSON.stringify(text)} is not a SHA-256 fingerprint (64 hex digits)` })
    }
    pinned.push(fingerprint)
  }
  const place = Probe.placeOf(url)
  return { url, place, trust, pinned: pinned.length === 0 ? undefined : pinned, asks, chosen, timeout }
})

// each line is printed as soon as it is known; what waits for a firewall goes on beside the rest
const examine = Effect.fnUntraced(function*(subject: Subject, print: Print) {
  const { Probe } = yield* modules
  const { chosen, place, timeout, trust, url } = subject
  const named = yield* Probe.resolve(place.host, timeout)
  yield* print(Diagnosis.name(place.host, named))
  const knock = <A>(probe: (address: string, port: number, timeout: Duration.Duration) => Effect.Effect<A>) =>
    Effect.forEach(named.addresses, (address) => probe(address, place.port, timeout), { concurrency: "unbounded" })

  const noAddress = named.addresses.length === 0 ? "the host has no address" : undefined
  const tcpAlone = url.protocol === "https:" ? undefined : `${url.protocol} is for WebSocket alone`
  const noUdp = noAddress ?? tcpAlone ?? (chosen?.includes("h3") === false ? "h3 was not asked for" : undefined)
  const asking = yield* Effect.forkChild(noUdp === undefined ? knock(Probe.quic) : Effect.succeed([]))
  const tcp = yield* examineTcp(subject, yield* knock(Probe.tcp), print)
  const answers = yield* Fiber.join(asking)
  const udp = noUdp === undefined ? Diagnosis.udp(place, answers, tcp.line) : Diagnosis.notTried("udp", noUdp)
  yield* print(udp)

  // who drops a version that nobody has may still take one that exists
  const mayBeQuic = answers.some(({ state }) => state === "quic" || state === "silent")
  const reasons: Record<Name, string | undefined> = {
    h3: noUdp ?? (mayBeQuic ? undefined : "no QUIC") ?? tcp.rejected ??
      (trust.roots === undefined ? undefined : "--tls-root is not for HTTP/3; --fingerprint is"),
    websocket: tcp.closed ?? tcp.rejected,
    h2: tcpAlone ?? tcp.closed ?? tcp.rejected
  }
  const attempts = yield* Effect.forEach(chosen ?? Flags.transportNames, (name) => {
    const reason = reasons[name]
    return Effect.forkChild(
      reason !== undefined
        ? Effect.succeed(Diagnosis.notTried(name, reason))
        : name === "h2" && !tcp.http2
        ? Effect.succeed(chosen === undefined ? Diagnosis.notTried("h2", "none is offered") : Diagnosis.noHttp2)
        : attempt(name, subject, tcp.fingerprints, udp)
    )
  })
  yield* Effect.forEach(attempts, (fiber) => Effect.flatMap(Fiber.join(fiber), print))
})

/** What is known once TCP and TLS have been looked at. */
interface OverTcp {
  readonly line: Diagnosis.Line
  /** Why there can be no connection over TCP. */
  readonly closed?: string
  /** Why the certificate is none to connect to, whatever the transport. */
  readonly rejected?: string
  readonly http2: boolean
  readonly fingerprints: ReadonlyArray<string> | undefined
}

const examineTcp: (
  subject: Subject,
  ports: ReadonlyArray<Probe.Port>,
  print: Print
) => Effect.Effect<OverTcp, Output.OutputError, Output.Output> = Effect.fnUntraced(
  function*({ asks, pinned, place, timeout, trust, url }, ports, print) {
    const { Probe } = yield* modules
    const line = ports.length === 0
      ? Diagnosis.notTried("tcp", "the host has no address")
      : Diagnosis.tcp(place, ports)
    yield* print(line)
    const open = ports.find(({ state }) => state === "open")?.address
    const without = (reason: string) =>
      Effect.andThen(print(Diagnosis.notTried("tls", reason)), print(Diagnosis.notTried("certificate", reason)))
    if (open === undefined) {
      const closed = ports.length === 0 ? "the host has no address" : "TCP is closed"
      yield* without(closed)
      return { line, closed, http2: false, fingerprints: pinned }
    }
    if (!isSecure(url)) {
      yield* without("ws: has none")
      return { line, http2: false, fingerprints: undefined }
    }
    const spoken = yield* Probe.tls(place, { address: open, roots: trust.roots, timeout })
    yield* print(Diagnosis.tls(place, spoken))
    if (spoken._tag !== "Tls") {
      const closed = "there is no TLS"
      yield* print(Diagnosis.notTried("certificate", closed))
      return { line, closed, http2: false, fingerprints: pinned }
    }
    const question: Trust.Trust = {
      host: place.host,
      pinned,
      told: spoken.certificate.problem === undefined
        ? undefined
        : yield* Probe.fingerprint({ host: open, port: place.port }, timeout),
      believed: asks,
      roots: trust.roots !== undefined,
      insecure: trust.insecure ?? false,
      now: yield* Clock.currentTimeMillis
    }
    const certificate = Trust.certificate(question, spoken.certificate)
    yield* print(certificate)
    return {
      line,
      ...(certificate.ok === true ? {} : { rejected: "the certificate is not accepted" }),
      http2: spoken.http2,
      fingerprints: Trust.fingerprintsOf(question)
    }
  }
)

const attempt: (
  name: Name,
  subject: Subject,
  fingerprints: ReadonlyArray<string> | undefined,
  udp: Diagnosis.Line
) => Effect.Effect<Diagnosis.Line> = Effect.fnUntraced(
  function*(name, { timeout, trust, url }, fingerprints, udp) {
    const { Available, NodeTransport, Session } = yield* modules
    const available = yield* Effect.result(Available.client(name))
    if (Result.isFailure(available)) {
      return Diagnosis.unavailable(name, available.failure.detail ?? available.failure.message)
    }
    const client = NodeTransport.make({ transports: [name] })
    const began = yield* Clock.currentTimeNanos
    let connected: { readonly connection: Connection; readonly at: bigint } | undefined
    const transport = Transport.of({
      connect: (url, options) =>
        Effect.tap(client.connect(url, options), (connection) =>
          Effect.map(Clock.currentTimeNanos, (at) => {
            connected = { connection, at }
          }))
    })
    return yield* Session.connect(url, { ...trust, fingerprints, timeout, limits: { setup: timeout } }).pipe(
      Effect.provideService(Transport, transport),
      Effect.flatMap((session) =>
        Effect.gen(function*() {
          const { at, connection } = connected!
          const answered = yield* Clock.currentTimeNanos
          const times = [answered - at]
          // the first answers take longer, for code that runs for the first time
          for (let count = connection.capabilities.ping ? 2 : 0; count > 0; count--) {
            const asked = yield* Clock.currentTimeNanos
            const pinged = yield* Effect.timeoutOption(session.ping, timeout)
            if (Option.isSome(pinged)) times.push((yield* Clock.currentTimeNanos) - asked)
          }
          return Diagnosis.transport(name, {
            _tag: "Session",
            profile: session.profile,
            connecting: millis(at - began),
            roundTrip: Math.min(...times.map(millis))
          })
        })
      ),
      Effect.scoped,
      Effect.catch((error) =>
        Effect.succeed(
          Diagnosis.transport(name, { _tag: "NoSession", connected: connected !== undefined, error }, udp)
        )
      )
    )
  }
)

const millis = (nanos: bigint): number => Number(nanos) / 1e6

// what a server says must not steer a terminal
const cleaned = (line: Diagnosis.Line): Diagnosis.Line => ({
  ...line,
  seen: Text.line(line.seen),
  ...(line.cause === undefined ? {} : { cause: Text.line(line.cause) }),
  ...(line.advice === undefined ? {} : { advice: Text.line(line.advice) })
})
