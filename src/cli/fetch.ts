/**
 * `effect-moq fetch`: one group of a track to stdout.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "../core/Path.ts"
import type * as Session from "../session/Session.ts"
import { brokenOff, Failure, usage } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Quantity from "./Quantity.ts"
import * as Target from "./Target.ts"
import * as TrackPrinter from "./TrackPrinter.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const fetch = Command.make(
  "fetch",
  {
    ...Target.config,
    path: Target.path,
    group: Argument.String("group").pipe(
      Argument.withDescription("The sequence of the group"),
      Argument.withMetavar("n"),
      Argument.mapTryCatch(Quantity.sequence, (error) => (error as Error).message)
    ),
    frame: Flags.integer("frame", "n", "Begin with frame n; 0 by default", { min: 0 }).pipe(Flag.withDefault(0)),
    priority: Flags.priority,
    raw: Flags.isSet("raw", "Write nothing but the payloads"),
    json: Flags.json
  },
  Effect.fnUntraced(function*({ frame, group: sequence, json, path: text, priority, raw, ...target }) {
    if (raw && json) return yield* usage("fetch", "--raw and --json exclude each other")
    const path = yield* Target.parsePath(text)
    const session = yield* Target.connect(target)
    const wanted = `group ${sequence} of ${Path.format(path)}`
    const group = yield* session.fetch(path, sequence, { frame, priority: Option.getOrUndefined(priority) }).pipe(
      Effect.catchTags({
        MoqNotFound: () => Effect.flatMap(notFound(session, path, wanted), Effect.fail),
        MoqEvicted: () =>
          new Failure({
            message: `evicted: ${wanted} is no longer kept${frame === 0 ? "" : ` from frame ${frame} on`}`
          })
      })
    )
    yield* TrackPrinter.printGroup(group, { format: TrackPrinter.formatOf({ raw, json }), first: frame }).pipe(
      Effect.catchIf(TrackPrinter.isReadError, (error) => Effect.fail(brokenOff(wanted, error)))
    )
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Writes one group of a track to stdout, as long as the relay or its publisher still has it: every frame a line. A " +
      "group that is still being written goes on until it ends. Exits with 1 when the group is not there, or breaks off."
  ),
  Command.withShortDescription("Write one group of a track to stdout"),
  Command.withExamples([
    { command: "effect-moq fetch https://localhost:4443 demo/numbers 3", description: "The frames of group 3" },
    {
      command: "effect-moq fetch https://localhost:4443 demo/numbers 3 --frame 5 --json",
      description: "From its sixth frame on, as JSON"
    }
  ])
)

// internal

// one code stands for a path that nobody publishes and for a group that a track does not have
const notFound = (session: Session.Session, path: Path.Path, wanted: string): Effect.Effect<Failure> =>
  session.trackInfo(path).pipe(
    Effect.as(`there is no ${wanted}`),
    Effect.catch((error) =>
      Effect.succeed(error._tag === "MoqNotFound" ? `nobody publishes ${Path.format(path)}` : wanted)
    ),
    Effect.map((detail) => new Failure({ message: `not found: ${detail}` }))
  )
