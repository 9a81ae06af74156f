import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
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
  /** All lines of a program that ends by itself. */
  const linesOf = (name: string) =>
    Effect.gen(function*() {
      const running = yield* run([join("examples", "build", `${name}.js`)])
      assert.strictEqual(yield* Effect.promise(() => running.exit), 0, running.errors.join("\n"))
      return running.lines
    })

  it.live("relay serves until Ctrl-C", () =>
    Effect.gen(function*() {
      const running = yield* run([join("examples", "build", "relay.js"), "0"])
      const [line = ""] = yield* Effect.promise(() => running.printed(1))
      const url = line.replace(/^relay at /, "")
      assert.match(url, /^https:/)
      const session = yield* Effect.provide(Session.connect(url, { insecure: true }), NodeTransport.layer)
      running.kill("SIGINT")
      assert.strictEqual((yield* session.closed).code, 0)
      assert.strictEqual(yield* Effect.promise(() => running.exit), 130)
    }), 30_000)

  it.live("embedded-relay prints five squares, watched here and by a client, and ends", () =>
    Effect.gen(function*() {
      const [first, ...lines] = yield* linesOf("embedded-relay")
      assert.match(first!, /^relay at https:/)
      for (const who of ["here", "client"]) {
        const squares = lines.filter((line) => line.startsWith(`${who}: `))
        assert.lengthOf(squares, 5)
        for (const square of squares) assert.match(square, /^\w+: \d+ \* \d+ = \d+$/)
      }
      assert.lengthOf(lines, 10)
    }), 30_000)

  it.live("relay-in-a-test hears a minute of beats in no time", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* linesOf("relay-in-a-test"), ["ok: 60 beats"])
    }), 30_000)

  it.live("relay-beside-http serves its page and a track on one port", () =>
    Effect.gen(function*() {
      const [first, page, ...frames] = yield* linesOf("relay-beside-http")
      assert.match(first!, /^relay at ws:\/\/127\.0\.0\.1:\d+\/moq$/)
      assert.strictEqual(page, "this is /page")
      assert.lengthOf(frames, 3)
      for (const frame of frames) assert.match(frame, /^\d+$/)
    }), 30_000)

  it.live("relay-beside-router tells by HTTP what is live", () =>
    Effect.gen(function*() {
      const [first, live] = yield* linesOf("relay-beside-router")
      assert.match(first!, /^relay at ws:\/\/127\.0\.0\.1:\d+\/moq$/)
      assert.strictEqual(live, "live: room/alice/chat")
    }), 30_000)

  it.live("relay-own-auth lets in who has logged in, as nobody else", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* linesOf("relay-own-auth"), [
        "a stranger: not authorised: log in first",
        "alice publishes alice/chat",
        "alice as bob: not authorised: to publish bob/chat"
      ])
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
        const report = running.lines.findIndex((line) => /^46 passed, 1 declared, 0 not checked, 0 failed$/.test(line))
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
