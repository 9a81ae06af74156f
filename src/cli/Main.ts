/**
 * The `effect-moq` command as a whole: its verbs, and what becomes of their results.
 *
 * @since 0.1.0
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { readFileSync } from "node:fs"
import { isMoqError } from "../core/MoqError.ts"
import { announced } from "./announced.ts"
import { clock } from "./clock.ts"
import { codec } from "./codec.ts"
import { demo } from "./demo.ts"
import { doctor } from "./doctor.ts"
import { Failure } from "./Failure.ts"
import { fetch } from "./fetch.ts"
import { info } from "./info.ts"
import * as Logging from "./Logging.ts"
import * as Output from "./Output.ts"
import { publish } from "./publish.ts"
import { relay } from "./relay.ts"
import { subscribe } from "./subscribe.ts"
import * as Text from "./Text.ts"
import { token } from "./token.ts"

/**
 * Runs the command with its arguments, and gives the exit code: 0 for success, 1 for a failure, which is explained in
 * one line on stderr, 2 for a wrong use.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (args: ReadonlyArray<string>): Effect.Effect<number> =>
  Command.runWith(root, { version: version() })(args).pipe(
    Effect.as(0),
    Effect.catchCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.interrupt : explain(cause, isDebug(args))),
    Effect.provide(services)
  )

// internal

const debug = GlobalFlag.Setting("debug")({
  flag: Flag.Boolean("debug").pipe(
    Flag.withoutNegation,
    Flag.withDescription("Show the whole cause of a failure, with its stack trace [MOQ_DEBUG]"),
    Flag.withDefault(false)
  )
})

// read by itself: a failure must be explained also when the arguments cannot be parsed
const isDebug = (args: ReadonlyArray<string>): boolean =>
  args.includes("--debug") || /^(1|true|yes|on)$/i.test(process.env["MOQ_DEBUG"] ?? "")

const root = Command.make("effect-moq").pipe(
  Command.withDescription(
    "MoQ Transfork from the command line: live tracks, from one to many, through a relay. Flags are mirrored by the " +
      "environment: --tls-cert by MOQ_TLS_CERT. Exits with 0 on success, 1 on failure, 2 on wrong use."
  ),
  Command.withExamples([
    { command: "effect-moq demo", description: "See it work" },
    { command: "effect-moq relay", description: "Run a relay at https://localhost:4443" },
    {
      command: "effect-moq subscribe https://localhost:4443 demo/numbers",
      description: "Wait for a track and write it to stdout"
    },
    { command: "seq 1 100 | effect-moq publish https://localhost:4443 demo/numbers", description: "Publish stdin" }
  ]),
  Command.withSubcommands([relay, publish, subscribe, fetch, announced, info, clock, codec, doctor, token, demo]),
  Command.withGlobalFlags([debug])
)

const version = (): string =>
  (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version

// wrong use is one line, of a configuration one for each problem: the help is there for those who ask
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag !== "InvalidInvocation"
      ? CliOutput.defaultPresenter.present(event)
      : Effect.sync(() => {
        const isOurs = event.errors.every(({ _tag }) => _tag === "ValidationError")
        const problems = event.errors.map((error) => Text.line(error.message)).join(isOurs ? "\n" : "; ")
        process.stderr.write(`${problems} (see ${event.commandPath.join(" ")} --help)\n`)
      })
}

const services = Layer.mergeAll(
  NodeServices.layer,
  Output.layer,
  // what is logged goes to stderr; results have stdout for themselves
  Logger.layer([Logging.notes]),
  CliOutput.layerPresenter(presenter),
  CliConfig.layer({
    builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel]
  })
)

const explain = (cause: Cause.Cause<unknown>, debug: boolean): Effect.Effect<number, never, Output.Output> => {
  const error = Cause.squash(cause)
  if (error instanceof Output.OutputClosed) return Effect.succeed(0)
  // it has been explained
  if (CliError.isCliError(error)) {
    return Effect.succeed(error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : 2)
  }
  const line = error instanceof Failure || isMoqError(error)
    ? error.message
    : `something went wrong that should not: ${error instanceof Error ? error.message : String(error)}`
  return Output.Output.use(({ note }) => note(line)).pipe(
    Effect.andThen(
      debug
        ? Effect.sync(() => void process.stderr.write(`${Cause.pretty(cause)}\n`))
        : Effect.void
    ),
    Effect.as(1)
  )
}
