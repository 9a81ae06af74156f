/**
 * How a verb fails, beside the errors of the library: one line for people, and an exit code.
 *
 * @since 0.1.0
 */
import * as CliError from "effect/cli/CliError"
import * as Data from "effect/Data"
import type { ReadError } from "../model/Frame.ts"

/**
 * A failure that is explained by its message alone; the process exits with 1.
 *
 * @category errors
 * @since 0.1.0
 */
export class Failure extends Data.TaggedError("Failure")<{ readonly message: string }> {}

/**
 * What is wrong with flags and arguments that are good each, a line for each problem; the process exits with 2.
 *
 * @category errors
 * @since 0.1.0
 */
export const usage = (verb: string, ...problems: ReadonlyArray<string>): CliError.ShowHelp =>
  new CliError.ShowHelp({
    commandPath: ["effect-moq", ...verb.split(" ")],
    errors: problems.map((message) => new CliError.ValidationError({ message }))
  })

/**
 * The failure of what was being read, a track or a group: `what` names it.
 *
 * @category errors
 * @since 0.1.0
 */
export const brokenOff = (what: string, error: ReadError): Failure =>
  new Failure({ message: `${what} broke off: ${reason(error)}` })

// internal

// what these codes mean for the end of a track, when nobody gave more words
const reason = (error: ReadError): string => {
  if (error._tag === "MoqTransportError" && error.detail === undefined) {
    return "the connection to its publisher was lost"
  }
  if (error._tag === "MoqCancelled" && error.detail === undefined) return "its publisher left before the end"
  if (error._tag === "MoqEvicted" && error.detail === undefined) return "its publisher has begun anew"
  return error.message
}
