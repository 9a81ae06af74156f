import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import { root, Running } from "./processes.ts"

const RelayLayer = Relay.layer().pipe(
  Layer.provide(NodeTransport.layerServer({ port: 0, tls: { generate: ["localhost"] } }))
)

/** Runs a program for as long as the scope. */
const run = (args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => new Running(args)),
    (running) =>
      Effect.promise(() => {
        running.kill()
        return running.exit
      })
  )

const isTime = (line: string) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(line)

describe("examples", () => {
  it.live("embedded-relay prints five squares and ends", () =>
    Effect.gen(function*() {
      const running = yield* run([join("examples", "build", "embedded-relay.js")])
      assert.strictEqual(yield* Effect.promise(() => running.exit), 0, running.errors.join("\n"))
      assert.match(running.lines[0]!, /^relay at https:/)
      assert.lengthOf(running.lines, 6)
      assert.match(running.lines[5]!, /^\d+ \* \d+ = \d+$/)
    }), 30_000)

  it.live("bad-network tells what a viewer gets, the same each time", () =>
    Effect.gen(function*() {
      const runs = yield* Effect.all([0, 1].map(() => run([join("examples", "build", "bad-network.js")])))
      for (const running of runs) {
        assert.strictEqual(yield* Effect.promise(() => running.exit), 0, running.errors.join("\n"))
      }
      const [first, second] = runs
      assert.lengthOf(first!.lines, 12)
      assert.deepStrictEqual(first!.lines, second!.lines)
      // on the narrow network the microphone is whole, because it matters more, and the camera is not
      assert.match(first!.lines[10]!, /^ {2}camera +\d\d % of the frames/)
      assert.match(first!.lines[11]!, /^ {2}microphone +(100|9[89]) % of the frames/)
    }), 30_000)

  it.live("clock is published and watched", () =>
    Effect.gen(function*() {
      const { urls } = yield* Relay.Relay
      yield* run([join("examples", "build", "clock.js"), "publish", urls[0]!])
      const watch = yield* run([join("examples", "build", "clock.js"), "watch", urls[0]!])
      const lines = yield* Effect.promise(() => watch.printed(2))
      assert.isTrue(lines.every(isTime), lines.join("\n"))
    }).pipe(Effect.provide(RelayLayer)), 30_000)

  it.live("reconnect goes on where it was, and ends", () =>
    Effect.gen(function*() {
      const running = yield* run([join("examples", "build", "reconnect.js")])
      assert.strictEqual(yield* Effect.promise(() => running.exit), 0, running.errors.join("\n"))
      const { lines } = running
      const [gone, back] = [lines.indexOf("the relay has gone"), lines.indexOf("the relay is back")]
      assert.isTrue(gone > 0 && back > gone, lines.join("\n"))
      const numbers = (lines: ReadonlyArray<string>) => lines.filter((line) => /^\d+$/.test(line)).map(Number)
      const [before, after] = [numbers(lines.slice(0, gone)), numbers(lines.slice(back))]
      assert.isAbove(before.length, 0)
      assert.isAbove(after[0]!, before.at(-1)!)
      assert.deepStrictEqual(after, Array.from(after, (_, i) => after[0]! + i))
      assert.include(lines, "the viewer is Waiting")
    }), 60_000)

  it.live(
    "own-transport passes the conformance suite, and carries a track through a relay in a worker",
    () =>
      Effect.gen(function*() {
        const running = yield* run([join("examples", "build", "own-transport.js")])
        assert.strictEqual(yield* Effect.promise(() => running.exit), 0, running.errors.join("\n"))
        const report = running.lines.findIndex((line) => /^40 passed, 1 declared, 0 not checked, 0 failed$/.test(line))
        assert.isAbove(report, 0, running.lines.join("\n"))
        const frames = running.lines.slice(report + 1)
        assert.lengthOf(frames, 5)
        for (const frame of frames) assert.match(frame, /^\d+ \* \d+ = \d+$/)
      }),
    120_000
  )

  it.live("the programs of the README run", () =>
    Effect.gen(function*() {
      const { urls } = yield* Relay.Relay
      const readme = yield* Effect.promise(() => readFile(join(root, "README.md"), "utf8"))
      const folder = join(root, "examples", "build", "readme")
      const write = (marker: string) =>
        Effect.promise(async () => {
          const blocks = Array.from(readme.matchAll(/```ts\n([\s\S]*?)```/g), ([, code]) => code!)
          const code = blocks.find((code) => code.includes(marker))!
          assert.include(code, "https://localhost:4443")
          await mkdir(folder, { recursive: true })
          const file = join(folder, `${marker.split(".")[0]}.mjs`)
          await writeFile(file, code.replace("https://localhost:4443", urls[0]!))
          return file
        })
      yield* run([yield* write("publish.pipe(")])
      const watch = yield* run([yield* write("watch.pipe(")])
      const lines = yield* Effect.promise(() => watch.printed(2))
      assert.isTrue(lines.every(isTime), lines.join("\n"))
    }).pipe(Effect.provide(RelayLayer)), 30_000)
})
