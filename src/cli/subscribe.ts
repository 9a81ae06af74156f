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
import type { ReadError } from "../model/Frame.ts"
import { Failure, usage } from "./Failure.ts"
import * as Flags from "./Flags.ts"
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
    ).pipe(Flag.mapTryCatch(startOf, (error) => (error as Error).message), Flag.optional),
    priority: Flags.priority,
    expires: Flags.expires,
    order: Flags.order,
    count: Flags.integer("count", "n", "Exit after n frames", { min: 1 }).pipe(Flag.optional),
    raw: Flags.isSet("raw", "Write nothing but the payloads, groups in sequence; a missing group is a failure"),
    json: Flags.json
  },
  Effect.fnUntraced(function*({ count, expires, from, json, order, path: text, priority, raw, wait, ...target }) {
    if (raw && json) return yield* usage("subscribe", "--raw and --json exclude each other")
    const path = yield* Target.parsePath(text)
    const session = yield* Target.connect(target)
    const track = yield* session.subscribe(path, {
      wait,
      priority,
      from: Option.getOrUndefined(from),
      order: Option.getOrElse(order, () => raw ? "asc" as const : undefined),
      expires: Option.match(expires, { onNone: () => undefined, onSome: Duration.toMillis })
    })
    yield* TrackPrinter.print(track, {
      format: raw ? "raw" : json ? "json" : "lines",
      count: Option.getOrUndefined(count)
    }).pipe(Effect.catchIf(TrackPrinter.isReadError, (error) => Effect.fail(brokenOff(path, error))))
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Writes a track to stdout until it ends: every frame a line, in order within its group; groups are read at the same " +
      "time. Exits with 1 when nobody publishes the track in time, or when it breaks off, with 130 when it is interrupted, " +
      "and with 0 when whoever reads stdout has had enough."
  ),
  Command.withShortDescription("Write a track to stdout"),
  Command.withExamples([
    { command: "effect-moq subscribe https://localhost:4443 demo/numbers", description: "Frames as lines of text" },
    {
      command: "effect-moq subscribe https://localhost:4443 demo/numbers --json",
      description: "Frames, gaps and the end as JSON"
    },
    {
      command: "effect-moq subscribe https://localhost:4443 demo/file --raw > film.mp4",
      description: "The bytes of a file, complete or not at all"
    }
  ])
)

// internal

function startOf(text: string): "latest" | number {
  if (text === "latest") return text
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new Error("latest or the number of a group")
}

const brokenOff = (path: Path.Path, error: ReadError): Failure =>
  new Failure({ message: `${Path.format(path)} broke off: ${reason(error)}` })

// what these codes mean for the end of a track, when nobody gave more words
const reason = (error: ReadError): string => {
  if (error._tag === "MoqTransportError" && error.detail === undefined) {
    return "the connection to its publisher was lost"
  }
  if (error._tag === "MoqCancelled" && error.detail === undefined) return "its publisher left before the end"
  return error.message
}
