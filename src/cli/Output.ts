/**
 * Where verbs print: results on stdout, which may be slow or go away, and notes for people on stderr.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Failure } from "./Failure.ts"
import * as Text from "./Text.ts"

/**
 * Whoever read stdout has had enough (`| head -1`). It ends a verb without a word, and with exit code 0.
 *
 * @category errors
 * @since 0.1.0
 */
export class OutputClosed extends Data.TaggedError("OutputClosed") {}

/**
 * How printing a result can fail: {@link OutputClosed}, or {@link Failure} when stdout cannot be written otherwise.
 *
 * @category errors
 * @since 0.1.0
 */
export type OutputError = OutputClosed | Failure

/**
 * The service behind everything that verbs print.
 *
 * @category services
 * @since 0.1.0
 */
export class Output extends Context.Service<Output, {
  /** Whether results are read by a person: control characters are left out of what came from others then. */
  readonly isTerminal: boolean
  /** Writes to stdout, as a whole; suspends until it was taken. */
  readonly write: (data: string | Uint8Array) => Effect.Effect<void, OutputError>
  /** Writes a line to stderr. */
  readonly note: (text: string) => Effect.Effect<void>
  /** The same, but only for people who watch: nothing when stderr is not a terminal. */
  readonly progress: (text: string) => Effect.Effect<void>
}>()("effect-moq/cli/Output") {}

/**
 * Writes a line to stdout.
 *
 * @category printing
 * @since 0.1.0
 */
export const line = (text: string): Effect.Effect<void, OutputError, Output> =>
  Output.use((output) => output.write(`${text}\n`))

/**
 * Writes an object to stdout, as one line of JSON.
 *
 * @category printing
 * @since 0.1.0
 */
export const json = (value: object): Effect.Effect<void, OutputError, Output> => line(jsonText(value))

/**
 * One line of JSON, which steers no terminal either.
 *
 * @category printing
 * @since 0.1.0
 */
export const jsonText = (value: object): string =>
  JSON.stringify(value).replace(
    // JSON.stringify escapes the others
    /[\u007f-\u009f]/g,
    (character) => `\\u00${character.charCodeAt(0).toString(16)}`
  )

/**
 * The streams of this process.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Output> = Layer.sync(Output)(() => {
  // who writes hears of errors; without a listener Node ends the process
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  const note = (text: string): Effect.Effect<void> =>
    Effect.callback((resume) => {
      process.stderr.write(`${Text.line(text)}\n`, () => resume(Effect.void))
    })
  return Output.of({
    isTerminal: process.stdout.isTTY === true,
    write: (data) =>
      Effect.callback((resume) => {
        process.stdout.write(data, (error) => {
          resume(error === null || error === undefined ? Effect.void : Effect.fail(explain(error)))
        })
      }),
    note,
    progress: process.stderr.isTTY === true ? note : () => Effect.void
  })
})

// internal

const explain = (error: NodeJS.ErrnoException): OutputError =>
  error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED"
    ? new OutputClosed()
    : new Failure({ message: `stdout cannot be written: ${error.message}` })
