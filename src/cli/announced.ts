/**
 * `effect-moq announced`: which tracks a relay has.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Path from "../core/Path.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import * as Text from "./Text.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const announced = Command.make(
  "announced",
  {
    url: Target.config.url,
    prefix: Argument.String("prefix").pipe(
      Argument.withDescription("Only tracks below this path"),
      Argument.withDefault("")
    ),
    follow: Flags.isSet("follow", "Go on with what comes and goes, until interrupted"),
    json: Flags.json,
    fingerprint: Target.config.fingerprint,
    tlsRoot: Target.config.tlsRoot,
    insecure: Target.config.insecure,
    transport: Target.config.transport
  },
  Effect.fnUntraced(function*({ follow, json, prefix, ...target }) {
    const below = yield* Path.validate(Path.fromString(prefix))
    const session = yield* Target.connect(target)
    const print = (sign: string, event: string, path: Path.Path) =>
      json
        ? Output.json({ event, path: Path.format(path) })
        : Output.line(`${follow ? sign : ""}${Text.path(path)}`)
    yield* session.announced(below).pipe(
      Stream.takeUntil((event) => event._tag === "Live" && !follow),
      Stream.runForEach((event) => {
        switch (event._tag) {
          case "Active":
            return print("+ ", "active", event.path)
          case "Ended":
            return follow || json ? print("- ", "ended", event.path) : Effect.void
          case "Live":
            return json ? Output.json({ event: "live" }) : Effect.void
        }
      })
    )
    if (follow) return yield* yield* session.closed
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Lists the tracks that a relay has. Exits with 0 once the relay has told of all of them; with --follow it goes on, " +
      "and prints + and - before what comes and goes."
  ),
  Command.withShortDescription("List the tracks of a relay"),
  Command.withExamples([
    { command: "effect-moq announced https://localhost:4443", description: "Everything that is there now" },
    {
      command: "effect-moq announced https://localhost:4443 demo --follow",
      description: "What comes and goes below demo"
    }
  ])
)
