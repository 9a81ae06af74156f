/**
 * `effect-moq subscribe`: a track to stdout.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "../core/Path.ts"
import { brokenOff, usage } from "./Failure.ts"
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
export const subscribe = Command.make(
  "subscribe",
  {
    ...Target.config,
    path: Target.path,
    wait: Flags.duration("wait", "How long to wait for somebody to publish the track; 10s by default").pipe(
      Flag.withDefault(Duration.seconds(10))
    ),
    from: Flags.text(
      "from",
      "latest|n",
      "Begin with the newest group, or with group n; everything that is cached when the track had to be waited for"
    ).pipe(Flag.mapTryCatch(startOf, (error) => `latest, or ${(error as Error).message}`), Flag.optional),
    to: Flags.text("to", "n", "End with group n, once everything up to it has come or is known not to come").pipe(
      Flag.mapTryCatch(Quantity.sequence, (error) => (error as Error).message),
      Flag.optional
    ),
    order: Flags.order,
    priority: Flags.priority,
    expires: Flags.expires,
    count: Flags.integer("count", "n", "Exit after n frames", { min: 1 }).pipe(Flag.optional),
    raw: Flags.isSet("raw", "Write nothing but the payloads, groups in sequence; a missing group is a failure"),
    json: Flags.json
  },
  Effect.fnUntraced(function*({ count, expires, from, json, order, path: text, priority, raw, to, wait, ...target }) {
    if (raw && json) return yield* usage("subscribe", "--raw and --json exclude each other")
    if (Option.isSome(to) && Option.isSome(from) && from.value !== "latest" && from.value > to.value) {
      return yield* usage("subscribe", `--to ${to.value} is before --from ${from.value}`)
    }
    const path = yield* Target.parsePath(text)
    const session = yield* Target.connect(target)
    const track = yield* session.subscribe(path, {
      wait,
      from: Option.getOrUndefined(from),
      to: Option.getOrUndefined(to),
      order: Option.getOrElse(order, () => raw ? "asc" as const : undefined),
      priority: Option.getOrUndefined(priority),
      expires
    })
    yield* TrackPrinter.print(track, {
      format: TrackPrinter.formatOf({ raw, json }),
      count: Option.getOrUndefined(count)
    }).pipe(Effect.catchIf(TrackPrinter.isReadError, (error) => Effect.fail(brokenOff(Path.format(path), error))))
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Writes a track to stdout until it ends, or until all groups up to --to are told of: every frame a line, in order " +
      "within its group; groups are read at the same time. Exits with 1 when nobody publishes the track in time, or when " +
      "it breaks off, with 130 when it is interrupted, and with 0 when whoever reads stdout has had enough."
  ),
  Command.withShortDescription("Write a track to stdout"),
  Command.withExamples([
    { command: "effect-moq subscribe https://localhost:4443 demo/numbers", description: "Frames as lines of text" },
    {
      command: "effect-moq subscribe https://localhost:4443 demo/numbers --json",
      description: "Frames, gaps and the end as JSON"
    },
    {
      command: "effect-moq subscribe https://localhost:4443 demo/numbers --from 3 --to 7",
      description: "Five groups: those that are cached at once, the others when they come"
    },
    {
      command: "effect-moq subscribe https://localhost:4443 demo/file --raw > film.mp4",
      description: "The bytes of a file, complete or not at all"
    }
  ])
)

// internal

function startOf(text: string): "latest" | number {
  return text === "latest" ? text : Quantity.sequence(text)
}
