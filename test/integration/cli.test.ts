import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { createServer } from "node:net"
import * as Command from "../cli/fixtures/command.ts"

const deadline = 60_000

beforeAll(Command.build, deadline)

/** One line on stderr, and the code of a failure. */
const assertFails = ({ code, stderr }: Command.Ended, says: RegExp) => {
  assert.match(stderr, says)
  assert.strictEqual(stderr.split("\n").length, 2, `one line: ${stderr}`)
  assert.notMatch(stderr, /\n\s+at /)
  assert.strictEqual(code, 1)
}

const numbers = Array.from({ length: 1000 }, (_, index) => `${index + 1}`)

const text = (lines: ReadonlyArray<string>) => `${lines.join("\n")}\n`

/** Checks the events of a complete track: every frame in order within its group, then the end. */
const assertComplete = (lines: ReadonlyArray<string>, expected: ReadonlyArray<string>) => {
  const events = Command.events(lines)
  assert.deepStrictEqual(events.at(-1), { event: "end" })
  const groups = new Map<number, Array<string>>()
  for (const { event, frame, group, text } of events.slice(0, -1)) {
    assert.strictEqual(event, "frame")
    const frames = groups.get(group as number) ?? []
    assert.strictEqual(frame, frames.length)
    frames.push(text as string)
    groups.set(group as number, frames)
  }
  const sorted = [...groups].sort(([a], [b]) => a - b)
  assert.deepStrictEqual(sorted.flatMap(([, frames]) => frames), expected)
}

describe("publish and subscribe", () => {
  it.live("three subscribers that wait each get a thousand lines", () =>
    Effect.gen(function*() {
      const { command, url } = yield* Command.relay()
      const subscribers = yield* Effect.forEach([1, 2, 3], () =>
        Command.start(["subscribe", url, "demo/numbers", "--json"]))
      yield* command.until(Command.hasSessions(3))
      const published = yield* Command.run(
        ["publish", url, "demo/numbers", "--lines", "--group-frames", "10"],
        { input: text(numbers) }
      )
      assert.deepStrictEqual([published.code, published.stderr], [0, ""])
      for (const subscriber of subscribers) {
        assert.strictEqual((yield* subscriber.ended).code, 0)
        assertComplete(subscriber.lines, numbers)
      }
    }), deadline)

  it.live("who joins halfway begins with the first frame of a group", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const first = yield* Command.start(["subscribe", url, "demo/numbers", "--json"])
      const publisher = yield* Command.start(["publish", url, "demo/numbers", "--group-frames", "10"])
      publisher.child.stdin!.write(text(numbers.slice(0, 55)))
      yield* first.until((lines) => lines.length === 55)
      const second = yield* Command.start(["subscribe", url, "demo/numbers", "--json"])
      yield* second.until((lines) => lines.length > 0)
      publisher.child.stdin!.end(text(numbers.slice(55)))
      assert.strictEqual((yield* second.ended).code, 0)
      assertComplete(second.lines, numbers.slice(50))
      assertComplete((yield* Effect.as(first.ended, first)).lines, numbers)
    }), deadline)

  it.live("a file arrives as it was, at a pace", () =>
    Effect.gen(function*() {
      const file = randomBytes(10_000_000)
      const { url } = yield* Command.relay()
      const subscriber = yield* Command.start(["subscribe", url, "demo/file", "--raw"])
      const published = yield* Command.run(["publish", url, "demo/file", "--chunks", "--rate", "20MB/s"], {
        input: file
      })
      assert.strictEqual(published.code, 0)
      const { code, stderr, stdout } = yield* subscriber.ended
      assert.deepStrictEqual([code, stderr, stdout.length], [0, "", file.length])
      assert.strictEqual(
        createHash("sha256").update(stdout).digest("hex"),
        createHash("sha256").update(file).digest("hex")
      )
    }), deadline)

  it.live(
    "length-prefixed frames keep their bounds, and are base64 where they are no text",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Command.relay()
        const subscriber = yield* Command.start(["subscribe", url, "a", "--json"])
        const input = Buffer.from("0000000300ff0a000000000000000568656c6c6f", "hex")
        assert.strictEqual((yield* Command.run(["publish", url, "a", "--length-prefixed"], { input })).code, 0)
        yield* subscriber.ended
        assert.deepStrictEqual(Command.events(subscriber.lines), [
          { event: "frame", group: 0, frame: 0, bytes: 3, base64: "AP8K" },
          { event: "frame", group: 0, frame: 1, bytes: 0, text: "" },
          { event: "frame", group: 0, frame: 2, bytes: 5, text: "hello" },
          { event: "end" }
        ])
      }),
    deadline
  )

  it.live("twenty subscribers are complete, over one upstream subscription", () =>
    Effect.gen(function*() {
      const { command, url } = yield* Command.relay()
      const subscribers = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => Command.start(["subscribe", url, "demo/numbers", "--json", "--wait", "40s"])
      )
      yield* command.until(Command.hasSessions(20))
      const publisher = yield* Command.start(
        ["publish", url, "demo/numbers", "--group-frames", "10", "--rate", "4KB/s"],
        { input: text(numbers) }
      )
      for (const subscriber of subscribers) {
        const { code, stderr } = yield* subscriber.ended
        assert.deepStrictEqual([code, stderr], [0, ""])
        assertComplete(subscriber.lines, numbers)
      }
      assert.strictEqual((yield* publisher.ended).code, 0)
      const opened = Command.events(command.lines).filter(({ event }) => event === "upstream-opened")
      assert.deepStrictEqual(opened, [{ event: "upstream-opened", path: "demo/numbers" }])
    }), deadline)

  it.live("a track that has ended can be published again at once", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const first = yield* Command.start(["subscribe", url, "a", "--raw"])
      assert.strictEqual((yield* Command.run(["publish", url, "a"], { input: "one" })).code, 0)
      assert.strictEqual((yield* first.ended).stdout.toString(), "one")
      const publisher = yield* Command.start(["publish", url, "a", "--json"], { input: "two" })
      yield* publisher.until((lines) => lines.length > 0)
      const second = yield* Command.run(["subscribe", url, "a", "--raw"])
      assert.deepStrictEqual([second.code, second.stdout.toString(), second.stderr], [0, "two", ""])
    }), deadline)

  it.live("--count is exact, and stdout that closes is no failure", () =>
    Effect.gen(function*() {
      const { command, url } = yield* Command.relay()
      const counting = yield* Command.start(["subscribe", url, "a", "--count", "3"])
      const heading = yield* Command.start(["subscribe", url, "a"])
      yield* command.until(Command.hasSessions(2))
      const publisher = yield* Command.start(["publish", url, "a", "--group-frames", "2"])
      publisher.child.stdin!.write(text(numbers.slice(0, 5)))
      const counted = yield* counting.ended
      assert.strictEqual(counted.code, 0)
      assert.strictEqual(counting.lines.length, 3)
      yield* heading.until((lines) => lines.length > 0)
      heading.child.stdout!.destroy()
      publisher.child.stdin!.write(text(numbers.slice(5, 10)))
      const { code, stderr } = yield* heading.ended
      assert.deepStrictEqual([code, stderr], [0, ""])
    }), deadline)
})

describe("failures", () => {
  it.live("no relay there", () =>
    Effect.gen(function*() {
      const port = yield* unusedPort
      assertFails(yield* Command.run(["info", `https://localhost:${port}`, "a"]), /nothing listens at localhost/)
      assertFails(yield* Command.run(["info", "https://host.invalid", "a"]), /host\.invalid/)
      assertFails(yield* Command.run(["info", "localhost", "a"]), /not a URL/)
    }), deadline)

  it.live("another certificate, an untrusted one", () =>
    Effect.gen(function*() {
      const { listening, url } = yield* Command.relay()
      assertFails(yield* Command.run(["announced", url, "--fingerprint", "00".repeat(32)]), /another certificate/)
      const good = yield* Command.run(["announced", url, "--fingerprint", listening.fingerprint])
      assert.deepStrictEqual([good.code, good.stderr], [0, ""])
      const mirrored = yield* Command.run(["announced", url], { env: { MOQ_FINGERPRINT: "00".repeat(32) } })
      assertFails(mirrored, /another certificate/)
      assert.strictEqual((yield* Command.run(["announced", url, "--insecure"])).code, 0)
    }), deadline)

  it.live("nobody publishes in time", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      assertFails(yield* Command.run(["subscribe", url, "demo/nobody", "--wait", "500ms"]), /demo\/nobody/)
      assertFails(yield* Command.run(["info", url, "demo/nobody"]), /not found/)
    }), deadline)

  it.live("a path beyond the limits", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      assertFails(yield* Command.run(["subscribe", url, "a/".repeat(33)]), /at most 32 parts/)
      assertFails(yield* Command.run(["publish", url, "a".repeat(1024)]), /at most 1023 bytes/)
      assertFails(yield* Command.run(["subscribe", url, "/"]), /at least one part/)
    }), deadline)

  it.live("a second publisher of a path", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const first = yield* Command.start(["publish", url, "a", "--json"])
      yield* first.until((lines) => lines.length > 0)
      assertFails(yield* Command.run(["publish", url, "a"]), /^duplicate: a /)
      assertFails(yield* Command.run(["clock", url, "--publish", "--path", "a"]), /^duplicate: a /)
    }), deadline)

  it.live("a publisher that is killed", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const subscribers = yield* Effect.forEach(
        [["--json"], ["--raw"], []],
        (flags) => Command.start(["subscribe", url, "a", ...flags])
      )
      const publisher = yield* Command.start(["publish", url, "a"])
      publisher.child.stdin!.write(text(["one", "two"]))
      for (const subscriber of subscribers) {
        yield* subscriber.until(() => subscriber.stdout.length > 0)
      }
      publisher.kill("SIGKILL")
      for (const subscriber of subscribers) assertFails(yield* subscriber.ended, /^a broke off: .*publisher/)
    }), deadline)

  it.live("a relay that dies", () =>
    Effect.gen(function*() {
      const { command, url } = yield* Command.relay()
      const subscriber = yield* Command.start(["subscribe", url, "a"])
      const follower = yield* Command.start(["announced", url, "--follow"])
      const publisher = yield* Command.start(["publish", url, "a"])
      publisher.child.stdin!.write(text(["one"]))
      yield* subscriber.until((lines) => lines.length > 0)
      yield* follower.until((lines) => lines.length > 0)
      command.kill("SIGKILL")
      for (const victim of [subscriber, publisher, follower]) {
        assertFails(yield* victim.ended, /connection lost/)
      }
    }), deadline)

  it.live("wrong use is one line and code 2", () =>
    Effect.gen(function*() {
      const wrong = [
        ["subscribe"],
        ["nonsense"],
        ["relay", "--bind", "a:b:c"],
        ["relay", "--tls-cert", "a.pem"],
        ["publish", "https://localhost:1", "a", "--lines", "--chunks"],
        ["publish", "https://localhost:1", "a", "--rate", "fast"],
        ["subscribe", "https://localhost:1", "a", "--priority", "128"],
        ["codec", "decode", "--profile", "fork02", "NONSENSE", "00"]
      ]
      for (const args of wrong) {
        const { code, stderr, stdout } = yield* Command.run(args)
        assert.strictEqual(code, 2, args.join(" "))
        assert.strictEqual(stderr.split("\n").length, 2, stderr)
        assert.strictEqual(stdout.length, 0)
      }
    }), deadline)
})

describe("interruption", () => {
  it.live("ends a relay with 0 and its subscribers with 1, a subscriber with 130", () =>
    Effect.gen(function*() {
      const { command, url } = yield* Command.relay()
      const subscriber = yield* Command.start(["subscribe", url, "a"])
      const waiting = yield* Command.start(["subscribe", url, "b"])
      const publisher = yield* Command.start(["publish", url, "a"])
      publisher.child.stdin!.write("one\n")
      yield* subscriber.until((lines) => lines.length > 0)
      yield* command.until(Command.hasSessions(3))
      waiting.kill("SIGINT")
      const interrupted = yield* waiting.ended
      assert.deepStrictEqual([interrupted.code, interrupted.stderr], [130, ""])
      publisher.kill("SIGTERM")
      assert.strictEqual((yield* publisher.ended).code, 130)
      assertFails(yield* subscriber.ended, /^a broke off: .*publisher/)
      command.kill("SIGINT")
      const relay = yield* command.ended
      assert.deepStrictEqual([relay.code, relay.stderr], [0, ""])
    }), deadline)
})

describe("announced and info", () => {
  it.live("list what is there, and follow what comes and goes", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const follower = yield* Command.start(["announced", url, "demo", "--follow"])
      const publishers = yield* Effect.forEach(
        ["demo/a", "demo/b", "other/c"],
        (path) => Command.start(["publish", url, path, "--json", "--priority", "7"])
      )
      yield* follower.until((lines) => lines.length === 2)
      assert.deepStrictEqual([...follower.lines].sort(), ["+ demo/a", "+ demo/b"])
      for (const publisher of publishers) yield* publisher.until((lines) => lines.length > 0)
      const listed = yield* Command.run(["announced", url, "demo"])
      assert.deepStrictEqual([listed.code, listed.stderr], [0, ""])
      assert.deepStrictEqual(listed.stdout.toString().trim().split("\n").sort(), ["demo/a", "demo/b"])
      const json = yield* Command.run(["info", url, "demo/a", "--json"])
      assert.deepStrictEqual(
        { ...JSON.parse(json.stdout.toString()) as object, latest: undefined },
        { path: "demo/a", priority: 7, order: "default", expires: 0, latest: undefined }
      )
      publishers[0]!.kill("SIGKILL")
      yield* follower.until((lines) => lines.includes("- demo/a"))
    }), deadline)
})

describe("clock and demo", () => {
  it.live("a clock tells whole times", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const publisher = yield* Command.start(["clock", url, "--publish"])
      const watcher = yield* Command.start(["clock", url])
      yield* watcher.until((lines) => lines.length >= 2)
      for (const line of watcher.lines) assert.match(line, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/)
      publisher.kill("SIGINT")
      assert.strictEqual((yield* publisher.ended).code, 130)
      assertFails(yield* watcher.ended, /cancelled/)
    }), deadline)

  it.live("the demo shows frames and totals, and ends with 0", () =>
    Effect.gen(function*() {
      const demo = yield* Command.start(["demo"])
      yield* demo.until((lines) => lines.filter((line) => line.startsWith("viewer ")).length >= 4)
      demo.kill("SIGINT")
      const { code, stderr } = yield* demo.ended
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.match(demo.lines[0]!, /https:\/\/127\.0\.0\.1:\d+/)
      const frames = demo.lines.filter((line) => line.startsWith("viewer "))
      for (const line of frames) assert.match(line, /^viewer [12] +\d+ +\d+ +websocket +\d+\.\d\d ms +\d{4}-\d\d-\d\d /)
      assert.match(demo.lines.at(-1)!, /^totals: \d+ frames sent .* 3 sessions/)
      const json = yield* Command.run(["demo", "--for", "1s", "--json"])
      assert.strictEqual(json.code, 0)
      const names = Command.events(json.stdout.toString().trim().split("\n")).map(({ event }) => event)
      assert.deepStrictEqual([names[0], names[1], names.at(-1)], ["listening", "frame", "totals"])
    }), deadline)
})

describe("codec", () => {
  it.live("is what the vectors say", () =>
    Effect.gen(function*() {
      interface Vector {
        readonly profile: string
        readonly message: string
        readonly value: object
        readonly hex: string
        readonly error?: string
      }
      const vectors = JSON.parse(
        readFileSync(new URL("../fixtures/vectors.json", import.meta.url), "utf8")
      ) as ReadonlyArray<Vector>
      // a process each: enough of them to see that the arguments go through
      for (const { error, hex, message, profile, value } of vectors.filter((_, index) => index % 12 === 7)) {
        const args = ["--profile", profile, message]
        const decoded = yield* Command.run(["codec", "decode", ...args, hex])
        if (error !== undefined) {
          assertFails(decoded, /^Moq[A-Za-z]+: /)
          continue
        }
        const encoded = yield* Command.run(["codec", "encode", ...args, JSON.stringify(value)])
        assert.strictEqual(encoded.stdout.toString(), `${hex}\n`)
        assert.deepStrictEqual(JSON.parse(decoded.stdout.toString()), value)
      }
      assertFails(yield* Command.run(["codec", "decode", "--profile", "fork02", "GROUP", "07"]), /^MoqDecodeError: /)
      assertFails(yield* Command.run(["codec", "encode", "--profile", "fork02", "GROUP", "{"]), /^MoqDecodeError: /)
      assertFails(
        yield* Command.run(["codec", "decode", "--profile", "fork02", "GROUP", "07ffffffffffffffff"]),
        /^MoqBoundsExceeded: /
      )
    }), deadline)
})

// a port that was free a moment ago, and that nobody else is given soon
const unusedPort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as { port: number }
    server.close(() => resume(Effect.succeed(port)))
  })
})
