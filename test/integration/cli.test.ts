import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { createServer } from "node:net"
import * as Fetch from "../../src/message/Fetch.ts"
import { draft03 } from "../../src/message/Profile.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as Handshake from "../../src/session/Handshake.ts"
import * as Limits from "../../src/session/Limits.ts"
import { type Decode, MessageStream } from "../../src/session/MessageStream.ts"
import * as Monitor from "../../src/session/Monitor.ts"
import * as Command from "../cli/fixtures/command.ts"
import * as peers from "../node/fixtures/peers.ts"

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

/** Checks the events of a complete track: every frame in order within its group, from a group on, then the end. */
const assertComplete = (lines: ReadonlyArray<string>, expected: ReadonlyArray<string>, from?: number) => {
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
  if (from !== undefined) assert.strictEqual(sorted[0]?.[0], from)
}

/** What `info` says of a track. */
const infoOf = (url: string, path: string) =>
  Effect.map(Command.run(["info", url, path, "--json"]), ({ code, stderr, stdout }) => {
    assert.strictEqual(code, 0, stderr)
    return JSON.parse(stdout.toString()) as Readonly<Record<string, unknown>>
  })

/** Publishes a track whose groups are in its cache, up to the newest of the given sequence, before anybody asks. */
const publishCached = (
  url: string,
  options: { readonly flags: ReadonlyArray<string>; readonly input: string | Uint8Array; readonly latest: number }
) =>
  Effect.gen(function*() {
    const publisher = yield* Command.start(["publish", url, "a", "--json", "--no-wait", ...options.flags])
    yield* publisher.until((lines) => lines.length > 0)
    publisher.child.stdin!.write(options.input)
    while ((yield* infoOf(url, "a"))["latest"] !== options.latest);
    return publisher
  })

// more than a track keeps: its first groups are evicted, and the last one has only half of its bytes
const tooMuch = { flags: ["--chunks"], input: Buffer.alloc(39.5 * 1024 * 1024), latest: 39 }

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

describe("ranges", () => {
  it.live("of the past and of the future end by themselves", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const publisher = yield* publishCached(url, {
        flags: ["--group-frames", "10"],
        input: text(numbers.slice(0, 45)),
        latest: 4
      })
      // together: what is not the newest is kept for ten seconds
      const [future, past, raw] = yield* Effect.all([
        Command.start(["subscribe", url, "a", "--from", "3", "--to", "6", "--json"]),
        Command.run(["subscribe", url, "a", "--from", "1", "--to", "2", "--json"]),
        Command.run(["subscribe", url, "a", "--raw"], { env: { MOQ_FROM: "2", MOQ_TO: "3" } })
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual([past.code, past.stderr], [0, ""])
      assertComplete(past.stdout.toString().trim().split("\n"), numbers.slice(10, 30), 1)
      assert.deepStrictEqual(
        [raw.code, raw.stdout.toString(), raw.stderr],
        [0, numbers.slice(20, 40).join(""), ""]
      )
      yield* future.until((lines) => lines.length >= 15)
      publisher.child.stdin!.write(text(numbers.slice(45, 85)))
      const { code, stderr } = yield* future.ended
      assert.deepStrictEqual([code, stderr], [0, ""])
      assertComplete(future.lines, numbers.slice(30, 70), 3)
      assert.isNull(publisher.child.exitCode)
    }), deadline)

  it.live("tell of what is evicted as a gap", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      yield* publishCached(url, tooMuch)
      const range = ["subscribe", url, "a", "--from", "0", "--to", "1"]
      const json = yield* Command.run([...range, "--json"])
      assert.deepStrictEqual([json.code, json.stderr], [0, ""])
      assert.deepStrictEqual(Command.events(json.stdout.toString().trim().split("\n")), [
        { event: "gap", from: 0, to: 1, code: 31 },
        { event: "end" }
      ])
      assertFails(yield* Command.run([...range, "--raw"]), /^groups 0 to 1 are missing \(code 31\)/)
    }), deadline)
})

describe("fetch", () => {
  it.live(
    "gives a group that its publisher has, from a frame on, and goes on with one that grows",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Command.relay()
        const publisher = yield* publishCached(url, {
          flags: ["--group-frames", "5"],
          input: text(numbers.slice(0, 23)),
          latest: 4
        })
        const [lines, json] = yield* Effect.all([
          Command.run(["fetch", url, "a", "2", "--priority=-5"]),
          Command.run(["fetch", url, "a", "2", "--frame", "3", "--json"])
        ], { concurrency: "unbounded" })
        assert.deepStrictEqual([lines.code, lines.stdout.toString(), lines.stderr], [
          0,
          text(numbers.slice(10, 15)),
          ""
        ])
        assert.deepStrictEqual([json.code, json.stderr], [0, ""])
        assert.deepStrictEqual(Command.events(json.stdout.toString().trim().split("\n")), [
          { event: "frame", group: 2, frame: 3, bytes: 2, text: "14" },
          { event: "frame", group: 2, frame: 4, bytes: 2, text: "15" },
          { event: "end" }
        ])
        const growing = yield* Command.start(["fetch", url, "a", "4", "--raw"], { env: { MOQ_FRAME: "1" } })
        yield* growing.until(() => growing.stdout.length === 4)
        publisher.child.stdin!.write(text(numbers.slice(23, 27)))
        const { code, stderr, stdout } = yield* growing.ended
        assert.deepStrictEqual([code, stdout.toString(), stderr], [0, "22232425", ""])
      }),
    deadline
  )

  it.live(
    "gives a group that the relay has for its viewers, whatever its publisher does",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Command.relay()
        const viewer = yield* Command.start(["subscribe", url, "a"])
        const publisher = yield* Command.start(["publish", url, "a", "--group-frames", "5"])
        publisher.child.stdin!.write(text(numbers.slice(0, 13)))
        yield* viewer.until((lines) => lines.length === 13)
        publisher.kill("SIGSTOP")
        const fetched = yield* Command.run(["fetch", url, "a", "1"])
        assert.deepStrictEqual(
          [fetched.code, fetched.stdout.toString(), fetched.stderr],
          [0, text(numbers.slice(5, 10)), ""]
        )
      }),
    deadline
  )

  it.live("says what is not there", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      assertFails(yield* Command.run(["fetch", url, "demo/nobody", "0"]), /^not found: nobody publishes demo\/nobody$/m)
      const publisher = yield* publishCached(url, tooMuch)
      assertFails(yield* Command.run(["fetch", url, "a", "70"]), /^not found: there is no group 70 of a$/m)
      const evicted = yield* Command.run(["fetch", url, "a", "0", "--json"])
      assertFails(evicted, /^evicted: group 0 of a is no longer kept$/m)
      assert.strictEqual(evicted.stdout.length, 0)
      const growing = yield* Command.start(["fetch", url, "a", "39"])
      yield* growing.until(() => growing.stdout.length > 0)
      publisher.kill("SIGKILL")
      assertFails(yield* growing.ended, /^group 39 of a broke off: /)
    }), deadline)
})

describe("flags", () => {
  it.live("reach whoever serves the request", () =>
    Effect.gen(function*() {
      const subscribed = yield* requested(["subscribe", "a/b"], Subscribe.decode)
      assert.deepStrictEqual(subscribed, {
        _tag: "Subscribe",
        id: 0,
        path: ["a", "b"],
        priority: 0,
        order: "default",
        expires: 0
      })
      const all = ["--from", "3", "--to", "5", "--order", "desc", "--priority=-7", "--expires", "1.5s"]
      assert.deepStrictEqual(yield* requested(["subscribe", "a/b", ...all], Subscribe.decode), {
        ...subscribed,
        priority: -7,
        order: "desc",
        expires: 1500,
        min: 3,
        max: 5
      })
      const mirrored = yield* requested(["subscribe", "a/b"], Subscribe.decode, {
        MOQ_FROM: "latest",
        MOQ_TO: "9007199254740990",
        MOQ_ORDER: "asc",
        MOQ_PRIORITY: "127",
        MOQ_EXPIRES: "2s"
      })
      assert.deepStrictEqual(mirrored, {
        ...subscribed,
        priority: 127,
        order: "asc",
        expires: 2000,
        max: Number.MAX_SAFE_INTEGER - 1
      })
      const fetched = yield* requested(["fetch", "a/b", "7", "--frame", "2", "--priority", "9"], Fetch.decode)
      assert.deepStrictEqual(fetched, { _tag: "Fetch", path: ["a", "b"], priority: 9, group: 7, frame: 2 })
    }), deadline)

  it.live("of a publisher are what info says, with and without viewers", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay()
      const publisher = yield* Command.start(
        ["publish", url, "a", "--json", "--no-wait", "--priority=-7", "--order", "desc", "--expires", "1.5s"]
      )
      yield* publisher.until((lines) => lines.length > 0)
      publisher.child.stdin!.write("one\n")
      const expected = { path: "a", priority: -7, order: "desc", expires: 1500, latest: 0 }
      assert.deepStrictEqual(yield* infoOf(url, "a"), expected)
      const viewer = yield* Command.start(["subscribe", url, "a", "--priority", "100", "--expires", "9s"])
      yield* viewer.until((lines) => lines.length > 0)
      assert.deepStrictEqual(yield* infoOf(url, "a"), expected)
      const mirrored = { MOQ_PRIORITY: "8", MOQ_ORDER: "asc", MOQ_EXPIRES: "3s" }
      const second = yield* Command.start(["publish", url, "b", "--json"], { env: mirrored })
      yield* second.until((lines) => lines.length > 0)
      assert.deepStrictEqual(
        yield* infoOf(url, "b"),
        { path: "b", priority: 8, order: "asc", expires: 3000, latest: 0 }
      )
    }), deadline)

  it.live("are explained by --help, with an example", () =>
    Effect.gen(function*() {
      const verbs = ["relay", "publish", "subscribe", "fetch", "announced", "info", "clock", "demo"]
      for (const verb of [[], ...verbs.map((verb) => [verb]), ["codec", "encode"], ["codec", "decode"]]) {
        const { code, stderr, stdout } = yield* Command.run([...verb, "--help"])
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.include(stdout.toString(), `effect-moq ${verb.join(" ")}`)
        assert.match(stdout.toString(), /EXAMPLES/, verb.join(" "))
      }
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
      assertFails(yield* Command.run(["announced", url, "--fingerprint", ""]), /--fingerprint is empty/)
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
      assertFails(yield* Command.run(["subscribe", url, "a/".repeat(33)]), /at most 32/)
      assertFails(yield* Command.run(["publish", url, "a".repeat(1024)]), /at most 1023/)
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
        ["subscribe", "https://localhost:1", "a", "--priority=-129"],
        ["subscribe", "https://localhost:1", "a", "--from", "newest"],
        ["subscribe", "https://localhost:1", "a", "--from", "9007199254740991"],
        ["subscribe", "https://localhost:1", "a", "--to=-1"],
        ["subscribe", "https://localhost:1", "a", "--from", "3", "--to", "2"],
        ["subscribe", "https://localhost:1", "a", "--order", "random"],
        ["subscribe", "https://localhost:1", "a", "--expires", "-1s"],
        ["publish", "https://localhost:1", "a", "--priority", "1.5"],
        ["fetch", "https://localhost:1", "a"],
        ["fetch", "https://localhost:1", "a", "9007199254740991"],
        ["fetch", "https://localhost:1", "a", "1", "--frame=-1"],
        ["fetch", "https://localhost:1", "a", "1", "--raw", "--json"],
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
        { path: "demo/a", priority: 7, order: "asc", expires: 0, latest: undefined }
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

/** The first request that a command sends, read from the wire. */
const requested = <A>(
  [verb, ...args]: readonly [string, ...ReadonlyArray<string>],
  decode: Decode<A>,
  env: Record<string, string> = {}
) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* peers.server()
    const accepting = yield* peers.acceptNext(server)
    yield* Command.start([verb, server.urls[0]!, ...args, "--fingerprint", server.fingerprint!], { env })
    const connection = yield* Fiber.join(accepting)
    yield* Handshake.server(
      connection.acceptBi,
      { profiles: [draft03], limits: Limits.defaults, greeting: {}, monitor: Monitor.none },
      () => Effect.void
    )
    const stream = new MessageStream(yield* connection.acceptBi)
    yield* stream.expect<StreamType.Bi>((reader) => StreamType.decodeBi(reader), draft03)
    return yield* stream.expect(decode, draft03)
  }))

// a port that was free a moment ago, and that nobody else is given soon
const unusedPort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as { port: number }
    server.close(() => resume(Effect.succeed(port)))
  })
})
