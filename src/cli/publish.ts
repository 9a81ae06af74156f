/**
 * `effect-moq publish`: stdin to a track.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Path from "../core/Path.ts"
import type * as TrackSink from "../model/TrackSink.ts"
import { Failure, usage } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Framing from "./Framing.ts"
import * as Output from "./Output.ts"
import * as Pace from "./Pace.ts"
import * as Target from "./Target.ts"
import * as Text from "./Text.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const publish = Command.make(
  "publish",
  {
    ...Target.config,
    path: Target.path,
    lines: Flags.isSet("lines", "A frame per line, without its line feed: the default"),
    chunks: Flags.isSet("chunks", "Frames of 64 KiB, and unless told otherwise a group per MiB"),
    lengthPrefixed: Flags.isSet("length-prefixed", "Each frame comes after its length in 4 bytes, the highest first"),
    groupFrames: Flags.integer("group-frames", "n", "Begin a new group after n frames", { min: 1 }).pipe(Flag.optional),
    groupEvery: Flags.duration("group-every", "Begin a new group after this time; 1s by default").pipe(Flag.optional),
    rate: Flags.bytes("rate", "Read at most so many bytes per second, such as 20MB/s: paces a file as if it were live")
      .pipe(Flag.optional),
    priority: Flags.priority,
    expires: Flags.expires,
    order: Flags.order,
    takeover: Flags.isSet(
      "takeover",
      "Take the path over when somebody publishes it already; the relay then sends that publisher away"
    ),
    noWait: Flags.isSet("no-wait", "Do not wait for the first subscriber before reading stdin"),
    json: Flags.json
  },
  Effect.fnUntraced(function*(options) {
    const framing = yield* framingOf(options)
    const group = yield* groupingOf(options)
    const path = yield* Target.parsePath(options.path)
    const session = yield* Target.connect(options)
    if (!options.takeover) {
      yield* Effect.mapError(
        Target.refuseTaken(session, path),
        (error) =>
          error._tag === "MoqDuplicate" ? new Failure({ message: `${error.message}; --takeover takes it over` }) : error
      )
    }

    const tell = (event: string, text: string, more?: object) =>
      options.json
        ? Output.json({ event, path: Path.format(path), ...more })
        : Output.Output.use((output) => output.progress(text))
    const broadcast = yield* session.broadcast(path.slice(0, -1))
    const track = yield* broadcast.track(path.slice(-1), {
      priority: Option.getOrElse(options.priority, () => 0),
      order: Option.getOrElse(options.order, () => "asc" as const),
      expires: options.expires
    })
    // what follows may be a token
    yield* tell("announced", `${Text.path(path)} is announced at ${options.url.split("?")[0]}`)

    const sent = { frames: 0, bytes: 0 }
    const count = (frame: Uint8Array): void => {
      sent.frames++
      sent.bytes += frame.length
    }
    const run = Effect.gen(function*() {
      if (!options.noWait) {
        yield* track.used
        yield* tell("subscribed", "somebody has subscribed; reading stdin")
      }
      const { stdin } = yield* Stdio.Stdio
      yield* stdin.pipe(
        Stream.mapError((error) => new Failure({ message: `stdin cannot be read: ${error.message}` })),
        framing,
        (frames) => Option.match(options.rate, { onNone: () => frames, onSome: (rate) => Pace.pace(rate)(frames) }),
        Stream.mapArray((frames) => {
          frames.forEach(count)
          return frames
        }),
        Stream.run(track.sink({ group, overflow: "suspend" }))
      )
      yield* track.finish
      yield* track.taken
      // a relay that refuses the path has said so by the time that it answers; other refusals to answer do not matter
      yield* Effect.catchIf(session.trackInfo(path), (error) => error._tag !== "MoqSessionClosed", () => Effect.void)
    })
    yield* Effect.raceFirst(run, Effect.flatMap(session.closed, Effect.fail))
    yield* tell("finished", `${sent.frames} frames with ${sent.bytes} bytes are published`, sent)
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Publishes stdin as a track. Waits for the first subscriber before it reads, never drops what its subscribers have " +
      "not taken yet, and ends when they have everything. Exits with 1 when somebody else publishes the track already, " +
      "unless with --takeover, and when another publisher takes it over meanwhile; and with 130 when it is interrupted: then its subscribers see the track break off."
  ),
  Command.withShortDescription("Publish stdin as a track"),
  Command.withExamples([
    {
      command: "seq 1 1000 | effect-moq publish https://localhost:4443 demo/numbers --lines --group-frames 10",
      description: "A frame per line, a group per ten lines"
    },
    {
      command: "effect-moq publish https://localhost:4443 demo/now --priority 10 --expires 2s --order desc",
      description: "Before others, the newest group first, and nothing that ended more than two seconds ago"
    },
    {
      command: "effect-moq publish https://localhost:4443 demo/file --chunks --rate 20MB/s < film.mp4",
      description: "A file as if it were live"
    }
  ])
)

// internal

type Options = {
  readonly lines: boolean
  readonly chunks: boolean
  readonly lengthPrefixed: boolean
  readonly groupFrames: Option.Option<number>
  readonly groupEvery: Option.Option<Duration.Duration>
}

const chunkBytes = 64 * 1024

const framingOf = ({ chunks, lengthPrefixed, lines }: Options) =>
  Number(lines) + Number(chunks) + Number(lengthPrefixed) > 1
    ? Effect.fail(usage("publish", "--lines, --chunks and --length-prefixed exclude each other"))
    : Effect.succeed(chunks ? Framing.chunks(chunkBytes) : lengthPrefixed ? Framing.lengthPrefixed : Framing.lines)

const groupingOf = ({ chunks, groupEvery, groupFrames }: Options) => {
  if (Option.isSome(groupFrames) && Option.isSome(groupEvery)) {
    return Effect.fail(usage("publish", "--group-frames and --group-every exclude each other"))
  }
  const group: TrackSink.Options["group"] = Option.isSome(groupFrames)
    ? { frames: groupFrames.value }
    : Option.isSome(groupEvery)
    ? { every: groupEvery.value }
    : chunks
    ? { bytes: 16 * chunkBytes }
    : { every: "1 second" }
  return Effect.succeed(group)
}
