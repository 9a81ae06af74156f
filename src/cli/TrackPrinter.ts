/**
 * Prints a track or one group of it: the frames as lines, as JSON, or as the bytes that they are.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { isMoqError, toCode } from "../core/MoqError.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Gap from "../model/Gap.ts"
import type { Group } from "../model/Group.ts"
import type * as Track from "../model/Track.ts"
import * as TrackOrdered from "../model/TrackOrdered.ts"
import { Failure } from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Text from "./Text.ts"

/**
 * How frames are printed. `"lines"`: each is a line of text; `"json"`: frames, gaps and the end are objects, one per
 * line; `"raw"`: the payloads and nothing else, groups in sequence, and a gap is a failure.
 *
 * @category models
 * @since 0.1.0
 */
export type Format = "lines" | "json" | "raw"

/**
 * The format of the flags `--raw` and `--json`.
 *
 * @category models
 * @since 0.1.0
 */
export const formatOf = (flags: { readonly raw: boolean; readonly json: boolean }): Format =>
  flags.raw ? "raw" : flags.json ? "json" : "lines"

/**
 * How a track is printed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly format: Format
  /** How many frames to print; all of them by default. */
  readonly count?: number | undefined
}

/**
 * Prints a track until it ends, or `count` frames of it.
 *
 * **Details**
 *
 * Except for `"raw"`, groups are read at the same time, so that one that stalls holds up no other; what is printed at
 * once is printed whole. A group that fails is a gap. While stdout takes nothing, nothing is read.
 *
 * Fails as the track does, with {@link Failure} for a gap in a `"raw"` track, and when stdout cannot be written.
 *
 * @category printing
 * @since 0.1.0
 */
export const print = (
  track: Track.Track,
  options: Options
): Effect.Effect<void, ReadError | Output.OutputError, Output.Output> =>
  Output.Output.use((output) => {
    const printer = printerOf(options.format, output)
    const limit = new Limit(printer, options.count ?? Infinity)
    const printed = options.format === "raw" ? inSequence(track, limit) : asItComes(track, limit)
    return Effect.raceFirst(Effect.andThen(printed, printer.end), limit.reached)
  })

/**
 * Prints a group until it ends; `first` is the index of its first frame. Fails as the group does, and when stdout cannot
 * be written.
 *
 * @category printing
 * @since 0.1.0
 */
export const printGroup = (
  group: Group,
  options: { readonly format: Format; readonly first: number }
): Effect.Effect<void, ReadError | Output.OutputError, Output.Output> =>
  Output.Output.use((output) => {
    const printer = printerOf(options.format, output)
    return Effect.andThen(framesOf(group, options.first, printer), printer.end)
  })

/**
 * Whether it was the track that failed, not the printing.
 *
 * @category guards
 * @since 0.1.0
 */
export const isReadError = (error: ReadError | Output.OutputError): error is ReadError => isMoqError(error)

// internal

// groups that are read at the same time; while stdout takes nothing, further ones wait in the cache of the track
const concurrency = 32

const asItComes = (track: Track.Track, limit: Limit): Effect.Effect<void, ReadError | Output.OutputError> =>
  track.events.pipe(
    Stream.mapEffect((event) =>
      event._tag === "Gap" ? limit.printer.gap(event) : Effect.catchIf(
        limit.group(event),
        isReadError,
        (error) => limit.printer.gap(Gap.make(event.sequence, event.sequence, toCode(error)))
      ), { concurrency, unordered: true }),
    Stream.runDrain
  )

const inSequence = (track: Track.Track, limit: Limit): Effect.Effect<void, ReadError | Output.OutputError> =>
  Stream.suspend(() =>
    track.events.pipe(
      // groups overtake each other, the first ones too; the wait is for a publisher that does not say what is missing
      TrackOrdered.ordered({ from: track.begin, maxWait: "5 seconds" })
    )
  ).pipe(Stream.runForEach((event) => event._tag === "Gap" ? limit.printer.gap(event) : limit.group(event)))

const framesOf = (
  group: Group,
  first: number,
  printer: Pick<Printer, "frames">
): Effect.Effect<void, ReadError | Output.OutputError> =>
  Effect.suspend(() => {
    let next = first
    return Stream.runForEachArray(group.frames, (payloads) => {
      const printed = printer.frames(group.sequence, next, payloads)
      next += payloads.length
      return printed
    })
  })

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
    return framesOf(group, 0, this)
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

const printerOf = (format: Format, output: Output.Output["Service"]): Printer =>
  format === "raw" ? new Raw(output) : format === "json" ? new Json(output) : new Lines(output)

const lenient = new TextDecoder()
const lineFeed = Buffer.from("\n")
