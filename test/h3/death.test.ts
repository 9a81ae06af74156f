import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { build } from "esbuild"
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Http3Client from "../../src/node/Http3Client.ts"
import * as peers from "./peers.ts"

const outer = 90_000

const program = fileURLToPath(new URL("../../node_modules/.cache/effect-moq/peer.mjs", import.meta.url))

beforeAll(() =>
  build({
    entryPoints: [fileURLToPath(new URL("fixtures/peer.ts", import.meta.url))],
    outfile: program,
    bundle: true,
    splitting: false,
    packages: "external",
    platform: "node",
    format: "esm",
    logLevel: "warning"
  })
)

/** A process of its own, its first line, and what it ends with. */
const peer = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, [program, ...args])),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    let problems = ""
    child.stderr.on("data", (data) => {
      problems += data
    })
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
    const first = yield* firstLine(child).pipe(
      Effect.raceFirst(Effect.flatMap(Effect.promise(() => ended), () => Effect.die(new Error(problems))))
    )
    return { child, first, ended: Effect.promise(() => ended) }
  })

const firstLine = (child: ChildProcessWithoutNullStreams) =>
  Effect.callback<string>((resume) => {
    let text = ""
    child.stdout.on("data", (data) => {
      text += data
      if (text.includes("\n")) resume(Effect.succeed(text.slice(0, text.indexOf("\n"))))
    })
  })

const clientProcess = (role: string) =>
  Effect.gen(function*() {
    const bound = yield* peers.server()
    const accepting = yield* Effect.forkChild(Effect.flatMap(peers.nextRequest(bound), (request) => request.accept))
    const process = yield* peer(role, bound.urls[0]!, bound.fingerprint!)
    return { process, connection: yield* Fiber.join(accepting) }
  })

const serverProcess = Effect.gen(function*() {
  const process = yield* peer("serve", "https://127.0.0.1", "")
  const { fingerprint, url } = JSON.parse(process.first) as { readonly fingerprint: string; readonly url: string }
  return { process, connection: yield* Http3Client.connect(new URL(url), { fingerprints: [fingerprint] }) }
})

// those with a death wait for it for up to 36 seconds
describe.concurrent("a process of its own", () => {
  it.live("that is killed as a client has died, and has not closed", () =>
    Effect.gen(function*() {
      const { connection, process } = yield* clientProcess("stay")
      process.child.kill("SIGKILL")
      const { by, code, reason } = yield* connection.closed
      assert.deepStrictEqual([by, code], ["transport", 4])
      assert.include(reason, "the other end has gone")
    }), outer)

  it.live("that is killed as a server has died, and has not closed", () =>
    Effect.gen(function*() {
      const { connection, process } = yield* serverProcess
      process.child.kill("SIGKILL")
      const { by, code } = yield* connection.closed
      assert.deepStrictEqual([by, code], ["transport", 4])
    }), outer)

  it.live("that closes its connection has closed it, and ends by itself", () =>
    Effect.gen(function*() {
      const { connection, process } = yield* clientProcess("close")
      const { by, code, reason } = yield* connection.closed
      assert.deepStrictEqual([by, code, reason], ["remote", 7, "bye"])
      assert.strictEqual(yield* process.ended, 0)
    }), outer)

  it.live("that closes the scope of its connection has closed it, and ends by itself", () =>
    Effect.gen(function*() {
      const { connection, process } = yield* clientProcess("leave")
      const { by, code, reason } = yield* connection.closed
      assert.deepStrictEqual([by, code, reason], ["remote", 0, ""])
      assert.strictEqual(yield* process.ended, 0)
    }), outer)

  it.live("that closes its server has closed its connections, and ends by itself", () =>
    Effect.gen(function*() {
      const { connection, process } = yield* serverProcess
      process.child.stdin.write("\n")
      const { by, code } = yield* connection.closed
      assert.deepStrictEqual([by, code], ["remote", 0])
      assert.strictEqual(yield* process.ended, 0)
    }), outer)
})
