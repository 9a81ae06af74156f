#!/usr/bin/env node
/**
 * The entry of the `effect-moq` command.
 *
 * @since 0.1.0
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Exit from "effect/Exit"
import * as Ending from "./Ending.ts"
import * as Main from "./Main.ts"

NodeRuntime.runMain(Main.run(process.argv.slice(2)), {
  disableErrorReporting: true,
  // results are written by now, and sockets that still say goodbye are not waited for
  teardown: (exit) => process.exit(Exit.isSuccess(exit) ? Number(exit.value) : Ending.interruptedCode())
})
