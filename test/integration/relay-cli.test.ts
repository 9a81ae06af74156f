import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Certificate from "../../src/node/Certificate.ts"
import * as Command from "../cli/fixtures/command.ts"

const deadline = 120_000

beforeAll(Command.build, deadline)

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-moq-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

/** A relay over WebSocket alone, on a free port of both loopbacks. */
const relay = (args: ReadonlyArray<string>) => Command.relay(["--transport", "websocket", ...args])

const has = (event: string) => (lines: ReadonlyArray<string>) =>
  Command.events(lines).some((line) => line["event"] === event)

describe("effect-moq relay --check-config", () => {
  it.live("says what would be in force, and serves nothing", () =>
    Effect.gen(function*() {
      const path = yield* directory
      const file = join(path, "relay.toml")
      const { cert, key } = yield* Certificate.generate({ hosts: ["localhost"] })
      writeFileSync(join(path, "cert.pem"), cert)
      writeFileSync(join(path, "key.pem"), key)
      const { url } = yield* relay([])
      // the port is taken already
      writeFileSync(file, `bind = "localhost:${new URL(url).port}"\n[tls]\ncert = "cert.pem"\nkey = "key.pem"\n`)
      const text = yield* Command.run(["relay", file, "--check-config", "--linger", "1s"])
      assert.deepStrictEqual([text.code, text.stderr], [0, ""])
      assert.include(text.stdout.toString(), "linger = \"1s\" # --linger")
      const again = yield* Command.run(["relay", "--config", file, "--check-config", "--json"])
      const { config, sources } = JSON.parse(again.stdout.toString()) as {
        readonly config: { readonly tls: { readonly cert: string } }
        readonly sources: Record<string, string>
      }
      assert.deepStrictEqual([config.tls.cert, sources["tls.cert"]], [join(path, "cert.pem"), "relay.toml"])

      rmSync(join(path, "key.pem"))
      const missing = yield* Command.run(["relay", "--config", file, "--check-config"])
      assert.deepStrictEqual(
        [missing.code, missing.stderr, missing.stdout.length],
        [1, `${join(path, "key.pem")} cannot be read: ENOENT\n`, 0]
      )
      const noKeys = yield* Command.run(["relay", "--check-config", "--auth-key", join(path, "none.jwk")])
      assert.strictEqual(noKeys.code, 1)
      assert.strictEqual(noKeys.stderr.split("\n").length, 2)
    }), deadline)

  it.live("has a line for each mistake, and code 2, as every start", () =>
    Effect.gen(function*() {
      const file = join(yield* directory, "relay.toml")
      writeFileSync(file, "bnd = \":1\"\n[limits]\nsubscriptions = \"many\"\n")
      for (const more of [[], ["--check-config"]]) {
        const { code, stderr, stdout } = yield* Command.run(["relay", file, ...more], { env: { MOQ_CACHE: "lots" } })
        assert.deepStrictEqual([code, stdout.length], [2, 0])
        assert.deepStrictEqual(stderr.split("\n").map((line) => line.slice(0, 22)), [
          "relay.toml: bnd is no ",
          "MOQ_CACHE: expected a ",
          "relay.toml: limits.sub",
          ""
        ])
      }
      const twice = yield* Command.run(["relay", file, "--config", file])
      assert.strictEqual(twice.code, 2)
    }), deadline)
})

describe("effect-moq relay, asked to end", () => {
  it.live(
    "lets groups that have begun come to their end, takes nobody new, and ends with 0",
    () =>
      Effect.gen(function*() {
        const { command, listening, url } = yield* relay(["--internal", "127.0.0.1:0", "--drain", "60s"])
        const { internal } = listening as typeof listening & { readonly internal: string }
        const ready = () => fetch(`${internal}/ready`).then(({ status }) => status)
        assert.strictEqual(yield* Effect.promise(ready), 200)
        const viewer = yield* Command.start(["subscribe", url, "a"])
        const publisher = yield* Command.start(["publish", url, "a", "--group-every", "1h"])
        publisher.child.stdin!.write("one\n")
        yield* viewer.until((lines) => lines.length === 1)
        command.kill("SIGTERM")
        yield* command.until(has("draining"))
        assert.strictEqual(yield* Effect.promise(ready), 503)
        const late = yield* Command.run(["subscribe", url, "a"])
        assert.strictEqual(late.code, 1)
        assert.include(late.stderr, "503")
        // the group goes on until its publisher ends it
        publisher.child.stdin!.end("two\nthree\n")
        yield* viewer.until((lines) => lines.length === 3)
        const { code, stderr } = yield* command.ended
        assert.deepStrictEqual([code, stderr], [0, ""])
        const seen = yield* viewer.ended
        assert.strictEqual(seen.stdout.toString(), "one\ntwo\nthree\n")
        // whether its track has ended as well is a matter of who is first
        if (seen.code !== 0) assert.include(seen.stderr, "the relay ends")
      }),
    deadline
  )

  it.live("ends at once when it is asked once more", () =>
    Effect.gen(function*() {
      const { command, url } = yield* relay(["--drain", "1h"])
      const viewer = yield* Command.start(["subscribe", url, "a"])
      const publisher = yield* Command.start(["publish", url, "a", "--group-every", "1h"])
      publisher.child.stdin!.write("one\n")
      yield* viewer.until((lines) => lines.length === 1)
      command.kill("SIGINT")
      yield* command.until(has("draining"))
      command.kill("SIGTERM")
      assert.strictEqual((yield* command.ended).code, 0)
      assert.strictEqual((yield* viewer.ended).code, 1)
      assert.notInclude((yield* publisher.ended).stderr, "the relay ends")
    }), deadline)
})

describe("effect-moq relay, on SIGHUP", () => {
  it.live(
    "takes over who may do what, tells what needs a restart, and stays with what it has when that is of no use",
    () =>
      Effect.gen(function*() {
        const file = join(yield* directory, "relay.toml")
        const configure = (text: string) => Effect.sync(() => writeFileSync(file, text))
        yield* configure("[auth]\npublic = [\"one\"]\n")
        const { command, url } = yield* relay(["--config", file])
        const says = (words: string) => command.until((_, stderr) => stderr.includes(words))
        // nobody publishes it: what differs is whether one may ask
        const asked = (path: string) =>
          Effect.map(Command.run(["info", `${url}/${path}`, "a"]), ({ code, stderr }) => {
            assert.strictEqual(code, 1)
            return stderr.includes("not found") ? "open" : stderr.includes("not authorised") ? "closed" : stderr
          })
        assert.deepStrictEqual([yield* asked("one"), yield* asked("two")], ["open", "closed"])

        yield* configure("cache = \"1MiB\"\n[auth]\npublic = [\"two\"]\n")
        command.kill("SIGHUP")
        yield* says("the configuration has changed: auth.public")
        yield* says("these changes need a restart: cache")
        assert.deepStrictEqual([yield* asked("one"), yield* asked("two")], ["closed", "open"])

        yield* configure("[auth]\npublic = 3\n")
        command.kill("SIGHUP")
        yield* says("the configuration before stays in force: relay.toml: auth.public: expected a list of texts, not 3")
        assert.deepStrictEqual([yield* asked("one"), yield* asked("two")], ["closed", "open"])
        assert.strictEqual(command.child.exitCode, null)

        // no address makes that harmless to somebody who had closed it
        yield* configure("cache = \"1MiB\"\n")
        command.kill("SIGHUP")
        yield* says("everybody who reaches it may publish and subscribe everything")
        assert.deepStrictEqual([yield* asked("one"), yield* asked("three")], ["open", "open"])
      }),
    deadline
  )

  it.live("takes other limits for those who come from then on", () =>
    Effect.gen(function*() {
      const file = join(yield* directory, "relay.toml")
      writeFileSync(file, "")
      const { command, url } = yield* relay(["--config", file])
      const follower = yield* Command.start(["announced", url, "--follow"])
      yield* command.until(Command.hasSessions(1))
      writeFileSync(file, "[limits]\nsessions = 1\n")
      command.kill("SIGHUP")
      yield* command.until((_, stderr) => stderr.includes("limits.sessions"))
      const refused = yield* Command.run(["announced", url])
      assert.deepStrictEqual([refused.code, refused.stderr.includes("503")], [1, true])
      assert.strictEqual(follower.child.exitCode, null)
    }), deadline)
})

describe("effect-moq relay", () => {
  it.live("warns when everybody may do everything from everywhere, and only then", () =>
    Effect.gen(function*() {
      const warned = (args: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          const command = yield* Command.start(["relay", "--transport", "websocket", "--json", ...args])
          yield* command.until((lines) => lines.length > 0)
          command.kill("SIGTERM")
          return (yield* command.ended).stderr
        })
      assert.strictEqual(
        yield* warned(["--bind", ":0"]),
        "warn: everybody who reaches it may publish and subscribe everything: --auth-key changes that\n"
      )
      assert.strictEqual(yield* warned(["--bind", "localhost:0"]), "")
      assert.strictEqual(yield* warned(["--bind", ":0", "--auth-public", "anon"]), "")
    }), deadline)

  it.live("writes its log as it is asked to", () =>
    Effect.gen(function*() {
      const { command, url } = yield* relay(["--log-format", "json"])
      yield* Command.run(["announced", url])
      const closed = "\"event\":\"session-closed\""
      yield* command.until((lines, stderr) => lines.some((line) => line.includes(closed)) && stderr.includes(closed))
      const logged = command.err.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>)
      assert.strictEqual(logged[0]!["event"], "listening")
      assert.strictEqual(logged.find(({ event }) => event === "session-opened")?.["session"], 1)
    }), deadline)

  it.live("is a client of others that it is told of", () =>
    Effect.gen(function*() {
      const one = yield* relay([])
      const two = yield* relay(["--upstream", one.url])
      yield* two.command.until(has("relay-connected"))
      const viewer = yield* Command.start(["subscribe", two.url, "a"])
      const publisher = yield* Command.start(["publish", one.url, "a"])
      publisher.child.stdin!.end("one\n")
      const { code, stdout } = yield* viewer.ended
      assert.deepStrictEqual([code, stdout.toString()], [0, "one\n"])
    }), deadline)
})

describe("effect-moq publish", () => {
  it.live("takes a path over only when it is told to", () =>
    Effect.gen(function*() {
      const { url } = yield* relay([])
      const old = yield* Command.start(["publish", url, "a", "--no-wait", "--json"])
      yield* old.until((lines) => lines.length > 0)
      const refused = yield* Command.run(["publish", url, "a"])
      assert.strictEqual(refused.code, 1)
      assert.match(refused.stderr, /^duplicate: .*--takeover takes it over\n$/)
      const next = yield* Command.start(["publish", url, "a", "--takeover"])
      const sent = yield* old.ended
      assert.strictEqual(sent.code, 1)
      assert.include(sent.stderr, "duplicate")
      const viewer = yield* Command.start(["subscribe", url, "a"])
      next.child.stdin!.end("new\n")
      assert.strictEqual((yield* viewer.ended).stdout.toString(), "new\n")
    }), deadline)
})
