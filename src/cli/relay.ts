/**
 * `effect-moq relay`: runs a relay.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { closeSync, openSync } from "node:fs"
import * as Path from "../core/Path.ts"
import type { Files, Generated } from "../node/KeyRing.ts"
import type * as Relay from "../relay/Relay.ts"
import { TransportServer } from "../transport/Transport.ts"
import * as Bind from "./Bind.ts"
import * as Ending from "./Ending.ts"
import { Failure, usage } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"
import * as Text from "./Text.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const relay = Command.make(
  "relay",
  {
    bind: Flags.text(
      "bind",
      "host:port",
      "Where to listen: localhost (both loopbacks), an address, or :4443 for all of the machine; port 0 is a free one"
    ).pipe(
      Flag.mapTryCatch(Bind.parse, (error) => (error as Error).message),
      Flag.withDefault(Bind.parse("localhost:4443"))
    ),
    tlsCert: Flags.text("tls-cert", "file", "The certificate, in PEM").pipe(Flag.optional),
    tlsKey: Flags.text("tls-key", "file", "Its private key, in PEM").pipe(Flag.optional),
    tlsGenerate: Flags.text(
      "tls-generate",
      "hosts",
      "Generate a certificate for these names, for development; localhost by default"
    ).pipe(Flag.optional),
    stateDir: Flags.text(
      "state-dir",
      "dir",
      "Where the generated certificate and its key are kept; without it they last as long as the process"
    ).pipe(Flag.optional),
    renewGrace: Flags.duration(
      "renew-grace",
      "How long HTTP/3 sessions live on when the certificate changes; 60s by default. Others are not affected"
    ).pipe(Flag.optional),
    transport: Flags.transports("What to offer; auto, the default, is the best that there is: h3 and websocket"),
    allowOrigin: Flags.text(
      "allow-origin",
      "origins",
      "The web pages that may connect over TLS, such as https://example.com; all by default"
    ).pipe(Flag.mapTryCatch(originsOf, (error) => (error as Error).message), Flag.optional),
    json: Flags.json
  },
  Effect.fnUntraced(
    function*({ json, ...flags }) {
      const tls = yield* certificateOf(flags)
      const { KeyRing, NodeTransport, Relay } = yield* modules
      const output = yield* Output.Output
      const { hangups, terminalGone } = yield* hangingUp
      const ring = yield* Effect.mapError(
        KeyRing.make(tls, Stream.fromQueue(hangups)),
        (error) => new Failure({ message: error.detail ?? error.message })
      )
      const server = yield* NodeTransport.makeServer({
        ...flags.bind,
        tls: ring,
        transports: flags.transport,
        allowOrigin: Option.getOrUndefined(flags.allowOrigin),
        renewGrace: Option.getOrUndefined(flags.renewGrace)
      })
      const relay = yield* Effect.provideService(Relay.make(), TransportServer, server)

      const listening = Latch.makeUnsafe(false)
      // listens before anybody can have heard of the relay, and prints after saying where it is
      const printing = <A>(happenings: Stream.Stream<A>, toJson: (a: A) => object, toText: (a: A) => string) =>
        Effect.forkChild(
          Stream.runForEach(
            happenings,
            (a) => listening.whenOpen(json ? Output.json(toJson(a)) : output.note(toText(a)))
          ),
          { startImmediately: true }
        )
      const events = yield* printing(relay.events, toJson, toText)
      const changes = yield* printing(
        ring.changes,
        ({ fingerprint }) => ({ event: "certificate", fingerprint }),
        ({ fingerprint }) => `certificate ${ring.generated ? "renewed" : "reloaded"}, fingerprint ${fingerprint}`
      )
      if (ring.generated) {
        yield* Effect.forkChild(Stream.runForEach(
          Stream.fromQueue(hangups),
          () => output.note("there is nothing to reload: the certificate is a generated one")
        ))
      }
      const [url] = server.urls
      if (json) {
        yield* Output.json({
          event: "listening",
          url,
          transports: server.transports,
          unavailable: server.unavailable,
          ...(server.fingerprint === undefined ? {} : { fingerprint: server.fingerprint })
        })
      } else {
        yield* Output.line(`${url}`)
        yield* output.note(`listening at ${server.urls.join(", ")} over ${server.transports.join(", ")}`)
        for (const { reason, transport } of server.unavailable) yield* output.note(`not over ${transport}: ${reason}`)
        if (server.fingerprint !== undefined) {
          yield* output.note(`with a generated certificate for development, fingerprint ${server.fingerprint}`)
        }
      }
      yield* listening.open
      yield* Effect.all([Fiber.join(events), Fiber.join(changes), Effect.never], {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.raceFirst(Deferred.await(terminalGone)))
    },
    Effect.scoped,
    Ending.interruptible
  )
).pipe(
  Command.withDescription(
    "Runs a relay: takes in what its sessions publish and fans it out to all who subscribe. Prints the URL to use on stdout, " +
      "and what happens on stderr; with --json everything on stdout, an object per line, the URL first. Ends with exit code " +
      "0 when it is interrupted. SIGHUP reads the files of its certificate again; no session is dropped but, over HTTP/3, " +
      "those that are open after --renew-grace."
  ),
  Command.withShortDescription("Run a relay"),
  Command.withExamples([
    {
      command: "effect-moq relay",
      description: "For development: https://localhost:4443, with a generated certificate"
    },
    {
      command: "effect-moq relay --bind :443 --tls-cert fullchain.pem --tls-key privkey.pem --json",
      description: "For everybody, with your certificate"
    },
    {
      command: "effect-moq relay --tls-generate relay.local --state-dir ~/.effect-moq",
      description: "With a generated certificate whose fingerprint outlives a restart"
    }
  ])
)

// internal

const modules = Effect.promise(async () => {
  const [KeyRing, NodeTransport, Relay] = await Promise.all([
    import("../node/KeyRing.ts"),
    import("../node/NodeTransport.ts"),
    import("../relay/Relay.ts")
  ])
  return { KeyRing, NodeTransport, Relay }
})

const certificateOf = (flags: {
  readonly tlsCert: Option.Option<string>
  readonly tlsKey: Option.Option<string>
  readonly tlsGenerate: Option.Option<string>
  readonly stateDir: Option.Option<string>
}): Effect.Effect<Files | Generated, ReturnType<typeof usage>> => {
  const { stateDir, tlsCert, tlsGenerate, tlsKey } = flags
  if (Option.isSome(tlsCert) !== Option.isSome(tlsKey)) {
    return Effect.fail(usage("relay", "--tls-cert and --tls-key belong together"))
  }
  if (Option.isSome(tlsCert) && Option.isSome(tlsKey)) {
    if (Option.isSome(tlsGenerate)) return Effect.fail(usage("relay", "--tls-generate excludes --tls-cert"))
    if (Option.isSome(stateDir)) return Effect.fail(usage("relay", "--state-dir is for generated certificates"))
    return Effect.succeed({ certFile: tlsCert.value, keyFile: tlsKey.value })
  }
  return Effect.succeed({
    generate: listOf(Option.getOrElse(tlsGenerate, () => "localhost")),
    stateDir: Option.getOrUndefined(stateDir) || undefined
  })
}

// hoisted: the flags above are made while this module loads

function listOf(text: string): ReadonlyArray<string> {
  return text.split(",").map((item) => item.trim()).filter((item) => item !== "")
}

function originsOf(text: string): ReadonlyArray<string> {
  return listOf(text).map((item) => {
    if (URL.canParse(item) && new URL(item).origin === item) return item
    throw new Error("origins such as https://example.com, without a path")
  })
}

// What SIGHUP asks for, from now on; several that come at once are one. It also tells that the terminal has been closed,
// and then the relay has to end, as it does without anybody who listens for the signal.
const hangingUp: Effect.Effect<
  { readonly hangups: Queue.Dequeue<"SIGHUP">; readonly terminalGone: Deferred.Deferred<void> },
  never,
  Scope.Scope
> = Effect.gen(function*() {
  const hangups = yield* Queue.sliding<"SIGHUP">(1)
  const terminalGone = Deferred.makeUnsafe<void>()
  const onTerminal = process.stdin.isTTY || process.stderr.isTTY
  const listener = () => {
    if (onTerminal && !hasTerminal()) Deferred.doneUnsafe(terminalGone, Effect.void)
    else Queue.offerUnsafe(hangups, "SIGHUP")
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("SIGHUP", listener)),
    () => Effect.sync(() => process.off("SIGHUP", listener))
  )
  return { hangups, terminalGone }
})

const hasTerminal = (): boolean => {
  try {
    closeSync(openSync("/dev/tty", "r"))
    return true
  } catch {
    return false
  }
}

const names: Record<Relay.Event["_tag"], string> = {
  SessionOpened: "session-opened",
  SessionClosed: "session-closed",
  SessionRefused: "session-refused",
  Announced: "announced",
  Ended: "ended",
  UpstreamOpened: "upstream-opened",
  UpstreamClosed: "upstream-closed",
  RelayConnected: "relay-connected",
  RelayLost: "relay-lost"
}

const toJson = ({ _tag, ...event }: Relay.Event): object => ({
  event: names[_tag],
  ...event,
  ...("path" in event ? { path: Path.format(event.path) } : {}),
  ...("root" in event ? { root: Path.format(event.root) } : {})
})

const toText = (event: Relay.Event): string => {
  switch (event._tag) {
    case "SessionOpened": {
      const root = event.root.length === 0 ? "" : ` below ${Text.path(event.root)}`
      return `session ${event.session} opened from ${event.peer ?? "somewhere"} over ${event.transport}${root}`
    }
    case "SessionClosed":
      return `session ${event.session} closed ${
        event.by === "remote" ? "by its peer" : event.by === "local" ? "here" : "because the connection was lost"
      } with code ${event.code}${event.reason === "" ? "" : `: ${event.reason}`}`
    case "SessionRefused":
      return `a session from ${event.peer ?? "somewhere"} was refused: ${event.reason}`
    case "Announced":
      return `+ ${Text.path(event.path)}`
    case "Ended":
      return `- ${Text.path(event.path)}`
    case "UpstreamOpened":
      return `receiving ${Text.path(event.path)}`
    case "UpstreamClosed":
      return `not receiving ${Text.path(event.path)} any more`
    case "RelayConnected":
      return `connected to the relay at ${event.url}`
    case "RelayLost":
      return `no connection to the relay at ${event.url}: ${event.reason}`
  }
}
