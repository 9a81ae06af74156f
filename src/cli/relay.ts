/**
 * `effect-moq relay`: runs a relay.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import type { TransportError } from "../core/MoqError.ts"
import * as FileDescriptors from "../node/FileDescriptors.ts"
import type { Files, Generated } from "../node/KeyRing.ts"
import * as Loopback from "../node/Loopback.ts"
import type { Name } from "../node/NodeTransport.ts"
import type * as Authenticator_ from "../relay/Authenticator.ts"
import type * as Relay_ from "../relay/Relay.ts"
import * as Transport from "../transport/Transport.ts"
import * as Ending from "./Ending.ts"
import { Failure, usage } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Logging from "./Logging.ts"
import * as Output from "./Output.ts"
import * as RelayConfig from "./RelayConfig.ts"
import * as RelayEvents from "./RelayEvents.ts"
import * as Signals from "./Signals.ts"
import * as Upstreams from "./Upstreams.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const relay = Command.make(
  "relay",
  {
    file: Argument.String("file").pipe(
      Argument.withDescription("The configuration, in TOML: the same as --config"),
      Argument.optional
    ),
    config: Flags.text(
      "config",
      "file",
      "The configuration, in TOML; flags and the environment come before it: see docs/relay.md"
    ).pipe(Flag.optional),
    checkConfig: Flags.isSet("check-config", "Check the configuration and the files that it names, print it, and end"),
    settings: RelayConfig.flags,
    json: Flags.json
  },
  Effect.fnUntraced(
    function*({ checkConfig, config: flag, file: argument, json, settings }) {
      if (Option.isSome(flag) && Option.isSome(argument)) {
        return yield* usage("relay", "--config and a file are the same: give one of them")
      }
      const given = {
        flags: settings,
        env: process.env,
        file: Option.getOrUndefined(Option.orElse(flag, () => argument))
      }
      const config = yield* Effect.mapError(RelayConfig.load(given), ({ problems }) => usage("relay", ...problems))
      if (checkConfig) {
        yield* check(config.values)
        return yield* json ? Output.json(RelayConfig.toJson(config)) : Output.line(RelayConfig.toText(config))
      }
      return yield* serve(config, RelayConfig.load(given), json)
    }
  )
).pipe(
  Command.withDescription(
    "Runs a relay: takes in what its sessions publish and fans it out to all who subscribe. Prints the URL to use on stdout, " +
      "and what happens on stderr; with --json everything on stdout, an object per line, the URL first. " +
      "SIGTERM and Ctrl-C end it with exit code 0: it takes no new sessions, lets the groups that have begun come to their " +
      "end for as long as --drain, and closes; a second one ends it at once. SIGHUP reads certificates, keys and the " +
      "configuration again; no session is dropped but, over HTTP/3, those that are open after --renew-grace. " +
      "Beside sessions it answers GET /announced/<prefix> and /fetch/<path>?group=N over HTTPS."
  ),
  Command.withShortDescription("Run a relay"),
  Command.withExamples([
    {
      command: "effect-moq relay",
      description: "For development: https://localhost:4443, with a generated certificate"
    },
    {
      command: "effect-moq relay --bind :443 --tls-cert fullchain.pem --tls-key privkey.pem --auth-key public.jwk",
      description: "For those who have a token, with your certificate"
    },
    {
      command: "effect-moq relay --config relay.toml --check-config",
      description: "What would be in force, without serving"
    },
    {
      command: "effect-moq relay --bind :4444 --upstream https://localhost:4443 --internal localhost:9101",
      description: "A second relay, which serves the tracks of the first and gives it its own; with metrics"
    },
    {
      command: "effect-moq relay --tls-generate relay.local --state-dir ~/.effect-moq",
      description: "With a generated certificate whose fingerprint outlives a restart"
    }
  ])
)

// internal

const modules = Effect.promise(async () => {
  const [Authenticator, Certificate, Internal, KeyRing, NodeTransport, PublicHttp, Relay, TokenAuthenticator] =
    await Promise.all([
      import("../relay/Authenticator.ts"),
      import("../node/Certificate.ts"),
      import("../node/Internal.ts"),
      import("../node/KeyRing.ts"),
      import("../node/NodeTransport.ts"),
      import("../node/PublicHttp.ts"),
      import("../relay/Relay.ts"),
      import("../node/TokenAuthenticator.ts")
    ])
  return { Authenticator, Certificate, Internal, KeyRing, NodeTransport, PublicHttp, Relay, TokenAuthenticator }
})

const serve = (
  config: RelayConfig.RelayConfig,
  reload: Effect.Effect<RelayConfig.RelayConfig, RelayConfig.ConfigError>,
  json: boolean
) =>
  Effect.gen(function*() {
    const { logFormat, logLevel, otlp } = config.values
    const chosen = yield* GlobalFlag.LogLevel
    const level = Option.getOrUndefined(chosen) ?? logLevel
    return yield* run(config, reload, json).pipe(
      Effect.provide(Logging.layer({ format: logFormat, otlp })),
      level === undefined ? identity : Effect.provideService(References.MinimumLogLevel, level)
    )
  })

const run = Effect.fnUntraced(
  function*(
    config: RelayConfig.RelayConfig,
    reload: Effect.Effect<RelayConfig.RelayConfig, RelayConfig.ConfigError>,
    json: boolean
  ) {
    const { Authenticator, Internal, KeyRing, NodeTransport, PublicHttp, Relay } = yield* modules
    const { values } = config
    // with --json stdout tells of everything, and the log of it only when it was asked for
    const isLogged = !json || values.logFormat !== "plain"
    const tell = (name: string, words: string, fields?: Readonly<Record<string, unknown>>) =>
      isLogged ? Logging.event(name, words, { fields }) : Effect.void
    const { hangups, terminalGone } = yield* Signals.hangingUp
    const certificates = yield* Queue.sliding<"SIGHUP">(1)
    const ring = yield* Effect.mapError(KeyRing.make(certificateOf(values), Stream.fromQueue(certificates)), explained)
    let authenticator = yield* authenticatorOf(values)
    const server = yield* NodeTransport.makeServer({
      ...values.bind,
      tls: ring,
      transports: transportsOf(values),
      allowOrigin: values.allowOrigin,
      trustProxy: values.trustProxy,
      renewGrace: values.renewGrace
    })
    const relay = yield* Relay.make({
      limits: limitsOf(values),
      session: { limits: config.session },
      linger: values.linger,
      upstreams: yield* Upstreams.make(values)
    }).pipe(
      Effect.provideService(Transport.TransportServer, server),
      Effect.provideService(Transport.Transport, Upstreams.asking(NodeTransport.make())),
      // it may be another one after SIGHUP
      Effect.provideService(Authenticator.Authenticator, {
        authenticate: (client) => Effect.suspend(() => authenticator.authenticate(client))
      })
    )
    yield* server.serveHttp(
      yield* Effect.provideService(PublicHttp.make({ requests: values.httpRequests }), Relay.Relay, relay)
    )
    const internal = values.internal === undefined
      ? undefined
      : yield* Effect.mapError(Internal.make({ ...values.internal, relay }), explained)

    const listening = Latch.makeUnsafe(false)
    // listens before anybody can have heard of the relay, and prints after saying where it is
    const after = <A>(happenings: Stream.Stream<A>): Stream.Stream<A> => Stream.tap(happenings, () => listening.await)
    const telling = <E, R>(printing: Effect.Effect<void, E, R>) =>
      Effect.forkScoped(printing, { startImmediately: true })
    const printing = yield* telling(
      json ? Stream.runForEach(after(relay.events), (event) => Output.json(RelayEvents.toJson(event))) : Effect.never
    )
    if (isLogged) yield* telling(Logging.events(after(relay.events)))
    const changes = yield* telling(Stream.runForEach(after(ring.changes), ({ fingerprint }) =>
      Effect.andThen(
        json ? Output.json({ event: "certificate", fingerprint }) : Effect.void,
        tell(
          "certificate",
          `certificate ${ring.generated ? "renewed" : "reloaded"}, fingerprint ${fingerprint}`,
          { fingerprint }
        )
      )))

    let current = config
    const again = Effect.gen(function*() {
      const next = yield* reload
      authenticator = yield* authenticatorOf(next.values)
      yield* relay.configure({ limits: limitsOf(next.values), session: { limits: next.session } })
      const changed = RelayConfig.differences(current, next)
      const taken = changed.filter(canChange)
      const pending = changed.filter((key) => !canChange(key))
      if (taken.length > 0) yield* Effect.logInfo(`the configuration has changed: ${taken.join(", ")}`)
      if (taken.some((key) => key.startsWith("auth.")) && !hasAuthentication(next.values)) {
        yield* Effect.logWarning(isOpen)
      }
      // these are told again the next time: they are not in force
      if (pending.length > 0) yield* Effect.logWarning(`these changes need a restart: ${pending.join(", ")}`)
      current = RelayConfig.merge(current, next, canChange)
    }).pipe(
      Effect.catch((error) => Effect.logWarning(`the configuration before stays in force: ${error.message}`))
    )
    const hasFiles = !ring.generated || hasAuthentication(values) || config.file !== undefined
    const output = yield* Output.Output
    yield* Effect.forkScoped(Stream.runForEach(Stream.fromQueue(hangups), () =>
      Effect.gen(function*() {
        if (!hasFiles) return yield* output.note("there is nothing to reload: the certificate is a generated one")
        yield* Queue.offer(certificates, "SIGHUP")
        yield* again
      })))

    const [url] = server.urls
    if (json) {
      yield* Output.json({
        event: "listening",
        url,
        transports: server.transports,
        unavailable: server.unavailable,
        ...(server.fingerprint === undefined ? {} : { fingerprint: server.fingerprint }),
        ...(internal === undefined ? {} : { internal: internal.urls[0] })
      })
    } else yield* Output.line(`${url}`)
    yield* tell("listening", `listening at ${server.urls.join(", ")} over ${server.transports.join(", ")}`, {
      url,
      transports: server.transports
    })
    for (const { reason, transport } of server.unavailable) {
      yield* tell("unavailable", `not over ${transport}: ${reason}`, { transport, reason })
    }
    if (server.fingerprint !== undefined) {
      const { fingerprint } = server
      yield* tell("generated", `with a generated certificate for development, fingerprint ${fingerprint}`, {
        fingerprint
      })
    }
    if (internal !== undefined) {
      yield* tell("internal", `metrics at ${internal.urls[0]}/metrics`, { url: internal.urls[0] })
    }
    if (!hasAuthentication(values) && !Loopback.isLoopbackName(values.bind.host)) {
      yield* Effect.logWarning(isOpen)
    }
    const fewFiles = yield* FileDescriptors.warning(values.maxSessions)
    if (Option.isSome(fewFiles)) yield* Effect.logWarning(fewFiles.value)
    yield* listening.open

    const drain = Effect.gen(function*() {
      const sessions = yield* relay.sessions
      // in a fiber of its own: this one has been interrupted by the first signal
      const draining = yield* Effect.forkChild(Effect.raceFirst(relay.drain, Signals.ending), {
        startImmediately: true
      })
      if (json) yield* Effect.ignore(Output.json({ event: "draining", sessions }))
      if (sessions > 0) {
        const atMost = Duration.format(values.drain)
        yield* tell(
          "draining",
          `ending: groups that have begun in ${sessions === 1 ? "a session" : `${sessions} sessions`} may take ` +
            `${atMost} to their end; once more ends at once`,
          { sessions }
        )
      }
      yield* Fiber.await(draining)
    })
    yield* Effect.all([Fiber.join(printing), Fiber.join(changes)], { concurrency: "unbounded", discard: true }).pipe(
      Effect.andThen(Effect.never),
      Effect.raceFirst(Deferred.await(terminalGone)),
      // nobody reads what it prints any more: that is no time to wait
      Effect.onExit((exit) => Exit.isSuccess(exit) || Exit.hasInterrupts(exit) ? drain : Effect.void)
    )
  },
  Effect.scoped,
  Ending.interruptible
)

// what a running relay takes over
const canChange = (key: string): boolean =>
  key.startsWith("auth.") || (key.startsWith("limits.") && key !== "limits.http-requests")

const check = Effect.fnUntraced(function*(values: RelayConfig.Values) {
  const { Certificate, KeyRing } = yield* modules
  const tls = certificateOf(values)
  // nothing is kept of a generated one
  yield* Effect.mapError(
    "generate" in tls
      ? Effect.asVoid(Certificate.generate({ hosts: tls.generate }))
      : Effect.asVoid(KeyRing.make(tls)),
    explained
  )
  yield* authenticatorOf(values)
  yield* Upstreams.make(values)
}, Effect.scoped)

const explained = (error: TransportError): Failure => new Failure({ message: error.detail ?? error.message })

const isOpen = "everybody who reaches it may publish and subscribe everything: --auth-key changes that"

const hasAuthentication = ({ authKey, authKeyDir, authPublic }: RelayConfig.Values): boolean =>
  authKey !== undefined || authKeyDir !== undefined || authPublic !== undefined

const authenticatorOf = Effect.fnUntraced(function*(values: RelayConfig.Values) {
  const { Authenticator, TokenAuthenticator } = yield* modules
  if (!hasAuthentication(values)) {
    return { authenticate: () => Effect.succeed(Authenticator.everything) } satisfies Authenticator_.Authenticator
  }
  return yield* Effect.mapError(
    TokenAuthenticator.make({ keyFiles: values.authKey, keyDir: values.authKeyDir, public: values.authPublic }),
    (error) => new Failure({ message: error.message })
  )
})

const limitsOf = (values: RelayConfig.Values): Partial<Relay_.Limits> => ({
  cache: values.cache,
  sessions: values.maxSessions,
  sessionsPerAddress: values.maxSessionsPerAddress,
  handshakeRate: values.handshakeRate,
  handshakeRatePerAddress: values.handshakeRatePerAddress
})

const transportsOf = ({ transport }: RelayConfig.Values): ReadonlyArray<Name> | undefined => {
  const names = transport?.filter((name) => name !== "auto")
  return names === undefined || names.length === 0 ? undefined : [...new Set(names)]
}

const certificateOf = ({ stateDir, tlsCert, tlsGenerate, tlsKey }: RelayConfig.Values): Files | Generated =>
  tlsCert !== undefined && tlsKey !== undefined
    ? { certFile: tlsCert, keyFile: tlsKey }
    : { generate: tlsGenerate ?? ["localhost"], stateDir }
