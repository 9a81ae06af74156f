/**
 * How a verb fails, beside the errors of the library: one line for people, and an exit code.
 *
 * @since 0.1.0
 */
import * as CliError from "effect/cli/CliError"
import * as Data from "effect/Data"

/**
 * A failure that is explained by its message alone; the process exits with 1.
 *
 * @category errors
 * @since 0.1.0
 */
export class Failure extends Data.TaggedError("Failure")<{ readonly message: string }> {}

/**
 * Flags or arguments that are good each, but not together; the process exits with 2.
 *
 * @category errors
 * @since 0.1.0
 */
export const usage = (verb: string, message: string): CliError.ShowHelp =>
  new CliError.ShowHelp({
    commandPath: ["effect-moq", ...verb.split(" ")],
    errors: [new CliError.ValidationError({ message })]
  })
