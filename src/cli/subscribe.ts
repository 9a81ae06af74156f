/**
 * `effect-moq subscribe`: a track to stdout.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type MoqError, toCode } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Gap from "../model/Gap.ts"
import type { Group } from "../model/Group.ts"
import type { Track } from "../model/Track.ts"
import * as TrackOrdered from "../model/TrackOrdered.ts"
import { Failure, usage } from "./Failure.ts"
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
    const output = yield* Output.Output
    const printer = raw ? new Raw(output) : json ? new Json(output) : new Lines(output)
    const limit = yield* Limit.make(printer, Option.getOrElse(count, () => Infinity))
    yield* Effect.raceFirst(
      Effect.andThen(raw ? inSequence(track, limit) : asItComes(track, limit), printer.end),
      limit.reached
    ).pipe(Effect.catchIf(isReadError, (error) => Effect.fail(brokenOff(path, error))))
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

const isReadError = (error: ReadError | Output.OutputError): error is ReadError => error._tag.startsWith("Moq")

const brokenOff = (path: Path.Path, error: MoqError): Failure =>
  new Failure({ message: `${Path.format(path)} broke off: ${error.message}` })

// groups that are read at the same time; while stdout takes nothing, further ones wait in the cache of the track
const concurrency = 32

const asItComes = (track: Track, limit: Limit): Effect.Effect<void, ReadError | Output.OutputError> =>
  track.events.pipe(
    Stream.mapEffect((event) =>
      event._tag === "Gap" ? limit.printer.gap(event) : Effect.catchIf(
        limit.group(event),
        isReadError,
        (error) => limit.printer.gap(Gap.make(event.sequence, event.sequence, toCode(error)))
      ), { concurrency, unordered: true }),
    Stream.runDrain
  )

const inSequence = (track: Track, limit: Limit): Effect.Effect<void, ReadError | Output.OutputError> =>
  track.events.pipe(
    // the publisher says what is missing; this is for one that does not
    TrackOrdered.ordered({ maxWait: "5 seconds" }),
    Stream.runForEach((event) => event._tag === "Gap" ? limit.printer.gap(event) : limit.group(event))
  )

/** How results look. */
interface Printer {
  readonly frames: (
    group: number,
    first: number,
    payloads: ReadonlyArray<Uint8Array>
  ) => Effect.Effect<void, Output.OutputError>
  readonly gap: (gap: Gap.Gap) => Effect.Effect<void, Output.OutputError>
  readonly end: Effect.Effect<void, Output.OutputError>
}

/** Passes on so many frames, and no more. */
class Limit {
  static make(printer: Printer, count: number): Effect.Effect<Limit> {
    return Effect.sync(() => new Limit(printer, count))
  }
  readonly printer: Printer
  readonly full: Deferred.Deferred<void>
  left: number
  constructor(printer: Printer, count: number) {
    this.printer = printer
    this.full = Deferred.makeUnsafe()
    this.left = count
  }
  get reached(): Effect.Effect<void> {
    return Deferred.await(this.full)
  }
  group(group: Group): Effect.Effect<void, ReadError | Output.OutputError> {
    return Effect.suspend(() => {
      let first = 0
      return Stream.runForEachArray(group.frames, (payloads) => {
        const printed = this.frames(group.sequence, first, payloads)
        first += payloads.length
        return printed
      })
    })
  }
  frames(group: number, first: number, payloads: ReadonlyArray<Uint8Array>): Effect.Effect<void, Output.OutputError> {
    const taken = payloads.slice(0, this.left)
    if (taken.length === 0) return Effect.void
    this.left -= taken.length
    const printed = this.printer.frames(group, first, taken)
    return this.left > 0 ? printed : Effect.andThen(printed, Deferred.succeed(this.full, undefined))
  }
}

class Lines implements Printer {
  readonly output: Output.Output["Service"]
  constructor(output: Output.Output["Service"]) {
    this.output = output
  }
  frames(_group: number, _first: number, payloads: ReadonlyArray<Uint8Array>) {
    return this.output.write(
      this.output.isTerminal
        ? payloads.map((payload) => `${Text.printable(lenient.decode(payload))}\n`).join("")
        : Buffer.concat(payloads.flatMap((payload) => [payload, lineFeed]))
    )
  }
  gap({ code, from, to }: Gap.Gap) {
    return this.output.progress(`missing: ${from === to ? `group ${from}` : `groups ${from} to ${to}`} (code ${code})`)
  }
  get end() {
    return Effect.void
  }
}

class Json implements Printer {
  readonly output: Output.Output["Service"]
  constructor(output: Output.Output["Service"]) {
    this.output = output
  }
  frames(group: number, first: number, payloads: ReadonlyArray<Uint8Array>) {
    return this.output.write(
      payloads.map((payload, index) => {
        const text = Text.decode(payload)
        return `${
          Output.jsonText({
            event: "frame",
            group,
            frame: first + index,
            bytes: payload.length,
            ...(text === undefined ? { base64: Buffer.from(payload).toString("base64") } : { text })
          })
        }\n`
      }).join("")
    )
  }
  gap({ code, from, to }: Gap.Gap) {
    return this.output.write(`${Output.jsonText({ event: "gap", from, to, code })}\n`)
  }
  get end() {
    return this.output.write(`${Output.jsonText({ event: "end" })}\n`)
  }
}

class Raw implements Printer {
  readonly output: Output.Output["Service"]
  constructor(output: Output.Output["Service"]) {
    this.output = output
  }
  frames(_group: number, _first: number, payloads: ReadonlyArray<Uint8Array>) {
    return this.output.write(Buffer.concat(payloads))
  }
  gap({ code, from, to }: Gap.Gap) {
    const groups = from === to ? `group ${from} is` : `groups ${from} to ${to} are`
    return Effect.fail(new Failure({ message: `${groups} missing (code ${code}): what was written is not complete` }))
  }
  get end() {
    return Effect.void
  }
}

const lenient = new TextDecoder()
const lineFeed = Buffer.from("\n")
