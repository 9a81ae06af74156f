/**
 * `effect-moq relay`: runs a relay.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { readFile } from "node:fs/promises"
import * as Path from "../core/Path.ts"
import type { ServerCertificate } from "../node/KeyRing.ts"
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
    transport: Flags.oneOf("transport", ["websocket"], "What to offer").pipe(
      Flag.withDefault("websocket" as const)
    ),
    json: Flags.json
  },
  Effect.fnUntraced(
    function*({ bind, json, tlsCert, tlsGenerate, tlsKey }) {
      const tls = yield* certificateOf(tlsCert, tlsKey, tlsGenerate)
      const { NodeTransport, Relay } = yield* modules
      const output = yield* Output.Output
      const server = yield* NodeTransport.makeServer({ ...bind, tls })
      const relay = yield* Effect.provideService(Relay.make(), TransportServer, server)

      const print = (event: Relay.Event) => json ? Output.json(toJson(event)) : output.note(toText(event))
      const listening = Latch.makeUnsafe(false)
      // listens before anybody can have heard of the relay, and prints after saying where it is
      const events = yield* Effect.forkChild(
        Stream.runForEach(relay.events, (event) => listening.whenOpen(print(event))),
        { startImmediately: true }
      )
      const [url] = server.urls
      if (json) {
        yield* Output.json({
          event: "listening",
          url,
          transports: server.transports,
          ...(server.fingerprint === undefined ? {} : { fingerprint: server.fingerprint })
        })
      } else {
        yield* Output.line(`${url}`)
        yield* output.note(`listening at ${server.urls.join(", ")} over ${server.transports.join(", ")}`)
        if (server.fingerprint !== undefined) {
          yield* output.note(`with a generated certificate for development, fingerprint ${server.fingerprint}`)
        }
      }
      yield* listening.open
      yield* Fiber.join(events)
      yield* Effect.never
    },
    Effect.scoped,
    Ending.interruptible
  )
).pipe(
  Command.withDescription(
    "Runs a relay: takes in what its sessions publish and fans it out to all who subscribe. Prints the URL to use on stdout, " +
      "and what happens on stderr; with --json everything on stdout, an object per line, the URL first. Ends with exit code " +
      "0 when it is interrupted."
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
    }
  ])
)

// internal

const modules = Effect.promise(async () => {
  const [NodeTransport, Relay] = await Promise.all([import("../node/NodeTransport.ts"), import("../relay/Relay.ts")])
  return { NodeTransport, Relay }
})

const certificateOf = Effect.fnUntraced(function*(
  cert: Option.Option<string>,
  key: Option.Option<string>,
  generate: Option.Option<string>
): Effect.fn.Return<ServerCertificate, Failure | ReturnType<typeof usage>> {
  if (Option.isSome(cert) !== Option.isSome(key)) {
    return yield* usage("relay", "--tls-cert and --tls-key belong together")
  }
  if (Option.isSome(cert) && Option.isSome(generate)) {
    return yield* usage("relay", "--tls-generate excludes --tls-cert")
  }
  if (Option.isSome(cert) && Option.isSome(key)) return { cert: yield* read(cert.value), key: yield* read(key.value) }
  const hosts = Option.getOrElse(generate, () => "localhost").split(",").map((host) => host.trim())
  return { generate: hosts.filter((host) => host !== "") }
})

const read = (file: string): Effect.Effect<string, Failure> =>
  Effect.tryPromise({
    try: () => readFile(file, "utf8"),
    catch: (error) => new Failure({ message: `${file} cannot be read: ${(error as NodeJS.ErrnoException).code}` })
  })

const names: Record<Relay.Event["_tag"], string> = {
  SessionOpened: "session-opened",
  SessionClosed: "session-closed",
  SessionRefused: "session-refused",
  Announced: "announced",
  Ended: "ended",
  UpstreamOpened: "upstream-opened",
  UpstreamClosed: "upstream-closed"
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
  }
}
