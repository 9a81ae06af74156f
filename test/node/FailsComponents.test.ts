import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, References } from "effect"
import * as FailsComponents from "../../src/node/FailsComponents.ts"

describe("FailsComponents", () => {
  it.live(
    "loads without a word: what the package prints is logged at debug level, others go on printing",
    () =>
      Effect.gen(function*() {
        const printed: Array<string> = []
        const logged: Array<string> = []
        const { error, log } = console
        const print = (...args: ReadonlyArray<unknown>) => void printed.push(String(args[0]))
        Object.assign(console, { error: print, log: print })
        const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
        const load = FailsComponents.load.pipe(
          Effect.provide(Logger.layer([logger])),
          Effect.provideService(References.MinimumLogLevel, "All")
        )
        const both = Effect.all([load, load], { concurrency: "unbounded" })
        const [first, second] = yield* Effect.all([
          both,
          Effect.sync(() => {
            console.log("somebody else")
            console.error(new Error("of somebody else"))
          })
        ], { concurrency: "unbounded" }).pipe(
          Effect.map(([loaded]) => loaded),
          Effect.ensuring(Effect.sync(() => Object.assign(console, { error, log })))
        )
        assert.deepStrictEqual(printed, ["somebody else", "Error: of somebody else"])
        assert.strictEqual(first, second)
        assert.strictEqual(console.log, log)
        assert.lengthOf(logged, 4)
        assert.isTrue(logged.every((line) => line.startsWith("Debug ") && line.includes("http3")), logged.join("\n"))
      }),
    30_000
  )
})
