import { NodeServices } from "@effect/platform-node"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Latch, Stdio, Stream } from "effect"
import { Command as Cli } from "effect/cli"
import { readFileSync, statSync, writeFileSync } from "node:fs"
import * as Output from "../../src/cli/Output.ts"
import { publish } from "../../src/cli/publish.ts"
import * as Track from "../../src/model/Track.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Token from "../../src/node/Token.ts"
import * as TokenAuthenticator from "../../src/node/TokenAuthenticator.ts"
import * as TokenKey from "../../src/node/TokenKey.ts"
import { Authenticator } from "../../src/relay/Authenticator.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import { Transport, TransportServer } from "../../src/transport/Transport.ts"
import * as Command from "../cli/fixtures/command.ts"
import * as peers from "../node/fixtures/peers.ts"
import { directory, hs256, token } from "../node/fixtures/tokens.ts"
import { bytes, text } from "../relay/relays.ts"

const deadline = 60_000

beforeAll(Command.build, deadline)

/** A relay on real sockets that takes tokens of the key made by hand, and how to connect to it. */
const relay = Effect.fnUntraced(function*(transports: ReadonlyArray<NodeTransport.Name>) {
  const key = yield* TokenKey.fromJwk(hs256.jwk)
  const authenticator = yield* TokenAuthenticator.make({ keys: [key], public: [["anon"]] })
  const bound = yield* peers.server({ transports })
  const relay = yield* Relay.make().pipe(
    Effect.provideService(TransportServer, bound),
    Effect.provideService(Authenticator, authenticator)
  )
  const base = `https://127.0.0.1:${peers.portOf(bound)}`
  const connecting = { fingerprints: [bound.fingerprint!] }
  const transport = NodeTransport.make({ transports })
  return {
    key,
    relay,
    base,
    connecting,
    transport,
    connect: (path: string) =>
      Effect.provideService(Session.connect(`${base}${path}`, connecting), Transport, transport)
  }
})

const inSeconds = Effect.map(Clock.currentTimeMillis, (millis) => Math.floor(millis / 1000))

describe("a token in the URL", () => {
  for (const transports of [["websocket"], ["h2"], ["websocket", "h2"]] as const) {
    it.live(`arrives over ${transports.join(" and ")}, and is what decides`, () =>
      Effect.gen(function*() {
        const { connect, relay: running } = yield* relay(transports)
        const now = yield* inSeconds
        const publishing = token(hs256, { root: "room", put: "alice", exp: now + 60 })
        const watching = token(hs256, { root: "room", get: "", exp: now + 60 })
        const alice = yield* connect(`/room?x=1&jwt=${publishing}`)
        const broadcast = yield* alice.broadcast(["alice"])
        const track = yield* broadcast.track("clock")
        const viewer = yield* connect(`/room?jwt=${watching}`)
        const clock = yield* viewer.subscribe(["alice", "clock"], { wait: "10 seconds" })
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("tick"))
        assert.strictEqual(text(yield* Effect.flatMap(Stream.runHead(clock.frames), Effect.fromOption)), "tick")
        // it may not see what it publishes, and nobody may publish anything else
        assert.strictEqual((yield* Effect.flip(alice.subscribe(["alice", "clock"])))._tag, "MoqUnauthorized")
        assert.strictEqual((yield* Effect.flip(alice.subscribe(["bob"])))._tag, "MoqUnauthorized")

        const refused = [
          ["/room", "a token is needed: ?jwt="],
          ["/room?jwt=", "a token is needed: ?jwt="],
          [`/other?jwt=${watching}`, "the token is not valid here"],
          [`/?jwt=${watching}`, "the token is not valid here"],
          [`/anon?jwt=${watching}x`, "the token is signed by nobody known here"],
          [`/room?jwt=${token(hs256, { root: "room", get: "", exp: now - 1 })}`, "the token has expired"]
        ] as const
        for (const [path, why] of refused) {
          const error = yield* Effect.flip(connect(path))
          assert.deepStrictEqual([error._tag, error.message], ["MoqUnauthorized", `not authorised: ${why}`])
        }
        yield* connect("/anon/room")
        assert.strictEqual(yield* running.sessions, 3)
      }), deadline)
  }

  it.live(
    "that expires ends the session, and the next attempt brings a new one: the viewer goes on",
    () =>
      Effect.gen(function*() {
        const { base, connecting, key, relay: running, transport } = yield* relay(["websocket"])
        const closed: Array<string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(running.events, (event) =>
            Effect.sync(() => {
              if (event._tag === "SessionClosed") closed.push(`${event.code} ${event.reason}`)
            })),
          { startImmediately: true }
        )
        const track = yield* Track.make(["room", "clock"])
        yield* running.origin.publish(track.track)
        let attempts = 0
        const fresh = Effect.gen(function*() {
          attempts++
          // the first one expires soon, the others do not
          const exp = (yield* inSeconds) + (attempts === 1 ? 2 : 600)
          const token = yield* Token.sign(key, { root: "room", put: [], get: [""], exp })
          return `${base}/room?jwt=${token}`
        }).pipe(Effect.orDie)
        const session = yield* Session.reconnect(fresh, { ...connecting, stableAfter: "100 millis" }).pipe(
          Effect.provideService(Transport, transport)
        )
        const got: Array<string> = []
        const news = Latch.makeUnsafe()
        const clock = yield* session.subscribe(["clock"])
        yield* Effect.forkScoped(Stream.runForEach(
          clock.frames,
          (frame) =>
            Effect.sync(() => {
              got.push(text(frame))
              news.openUnsafe()
            })
        ))
        const tick = Effect.fnUntraced(function*(word: string) {
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes(word))
          yield* group.finish
        })
        yield* tick("before")
        yield* news.await
        while (attempts < 2) yield* Effect.sleep("20 millis")
        yield* tick("after")
        while (!got.includes("after")) yield* Effect.sleep("20 millis")
        assert.deepStrictEqual(got, ["before", "after"])
        assert.strictEqual(attempts, 2)
        assert.deepStrictEqual(closed, ["6 not authorised: what allowed this session has expired"])
      }),
    deadline
  )
})

const fails = ({ code, stderr, stdout }: Command.Ended, says: RegExp) => {
  assert.match(stderr, says)
  assert.strictEqual(stderr.split("\n").length, 2, `one line: ${stderr}`)
  assert.deepStrictEqual([code, stdout.toString()], [1, ""])
}

describe("the command line", () => {
  it.live("makes keys and tokens, and checks them", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      const run = (args: ReadonlyArray<string>, input = "") => Command.run(["token", ...args], { input })
      const prints = (args: ReadonlyArray<string>, input?: string) =>
        Effect.map(run(args, input), ({ code, stderr, stdout }) => {
          assert.deepStrictEqual([code, stderr], [0, ""], args.join(" "))
          return stdout.toString().trim()
        })
      const keys = ["--out", `${dir}/private.jwk`, "--public", `${dir}/live.jwk`]
      assert.strictEqual(yield* prints(["generate", "--algorithm", "ES256", "--id", "live", ...keys]), "")
      assert.strictEqual(statSync(`${dir}/private.jwk`).mode & 0o777, 0o600)
      assert.notInclude(readFileSync(`${dir}/live.jwk`, "utf8"), "\"d\"")
      fails(yield* run(["generate", ...keys.slice(0, 2)]), /private\.jwk is there already/)
      // by default a secret, on stdout
      const shared = JSON.parse(yield* prints(["generate", "--root", "a", "--publish", "b"])) as Record<string, unknown>
      assert.deepStrictEqual([shared["alg"], shared["scope"]], ["HS256", { root: "a", put: ["b"], get: [] }])

      const signing = ["sign", "--key", `${dir}/private.jwk`]
      const room = ["--root", "room/123", "--publish", "alice", "--publish", "bob", "--subscribe", ""]
      const signed = yield* prints([...signing, ...room, "--expires", "1h"])
      assert.match(signed, /^[\w-]+\.[\w-]+\.[\w-]+$/)
      const public_ = ["verify", "--key", `${dir}/live.jwk`]
      const claims = JSON.parse(yield* prints(public_, `${signed}\n`)) as Record<string, number>
      assert.deepStrictEqual(Object.keys(claims), ["root", "put", "get", "exp", "iat"])
      assert.deepStrictEqual([claims["root"], claims["put"], claims["get"]], ["room/123", ["alice", "bob"], [""]])
      assert.strictEqual(claims["exp"], claims["iat"]! + 3600)
      assert.deepStrictEqual(JSON.parse(yield* prints([...public_, signed])), claims)
      const there = yield* prints(["verify", "--key-dir", dir, "--root", "room/123/bob/x", signed]).pipe(Effect.exit)
      // the directory has the private key as well, under another name than its own
      assert.isTrue(Exit.isFailure(there))
      const at = JSON.parse(yield* prints([...public_, "--root", "/room/123/bob", signed])) as Record<string, unknown>
      assert.deepStrictEqual(at["at"], { path: "room/123/bob", publish: [""], subscribe: [""] })
      const above = yield* run([...public_, "--root", "room", signed])
      fails(above, /^the token is not valid at \/room\n$/)

      const timed = JSON.parse(
        yield* prints(public_, yield* prints([...signing, "--publish", "", "--expires-at", "2100-01-31T12:00:00Z"]))
      ) as Record<string, number>
      assert.strictEqual(timed["exp"], Date.UTC(2100, 0, 31, 12) / 1000)
      fails(yield* run([...signing, "--publish", "", "--expires-at", "100"]), /would have expired already/)
      fails(yield* run([...public_, `${signed}x`]), /^the token is malformed\n$/)
      fails(yield* run(public_, "garbage"), /^the token is malformed\n$/)
      fails(yield* run([...public_, token(hs256, { put: "" })]), /signed by nobody known here/)
      fails(yield* run(["verify", "--key", `${dir}/none`, signed]), /none cannot be read: ENOENT/)
      fails(yield* run(["sign", "--key", `${dir}/live.jwk`, "--publish", ""]), /no key that signs/)
      const wrong = [
        [...signing],
        [...signing, "--publish", "", "--expires", "1h", "--expires-at", "100"],
        ["verify", signed],
        ["generate", "--algorithm", "none"],
        ["generate", "--root", "a"]
      ]
      for (const args of wrong) assert.strictEqual((yield* run(args)).code, 2, args.join(" "))
    }), deadline)

  it.live("a relay with a key lets in who has a token, and shows it nowhere", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      writeFileSync(`${dir}/hs.jwk`, JSON.stringify(hs256.jwk), { mode: 0o600 })
      const { command, url } = yield* Command.relay(["--auth-key", `${dir}/hs.jwk`, "--auth-public", "anon"])
      const now = yield* inSeconds
      const good = token(hs256, { root: "room", put: "alice", get: "alice", exp: now + 600 })
      const expired = token(hs256, { root: "room", put: "", exp: now - 1 })
      const room = `${url}/room?jwt=${good}`
      const seesAll = `${url}/room?jwt=${token(hs256, { root: "room", put: "alice", get: "", exp: now + 600 })}`
      const subscriber = yield* Command.start(["subscribe", room, "alice/x", "--raw"])
      const published = yield* Command.run(["publish", room, "alice/x"], { input: "hello\n" })
      assert.deepStrictEqual([published.code, published.stderr], [0, ""])
      assert.include((yield* subscriber.ended).stdout.toString(), "hello")
      const doctor = yield* Command.run(["doctor", room])
      assert.strictEqual(doctor.code, 0)
      const said = [
        [yield* Command.run(["publish", room, "bob/x"], { input: "hello\n" }), /not authorised/],
        // all that it has is said before it hears that it may not
        [
          yield* Command.run(["publish", "--no-wait", seesAll, "bob/x"], { input: "hello\n" }),
          /not authorised: to publish/
        ],
        [yield* Command.run(["subscribe", room, "bob/x"]), /not authorised/],
        [yield* Command.run(["info", `${url}/room`, "alice/x"]), /not authorised: a token is needed/],
        [yield* Command.run(["info", `${url}/room?jwt=${expired}`, "alice/x"]), /the token has expired/],
        [yield* Command.run(["info", `${url}/anon?jwt=${good}`, "x"]), /the token is not valid here/],
        [yield* Command.run(["info", `two words?jwt=${good}`, "x"]), /is not a URL/],
        [yield* Command.run(["info", `${url.replace(/\d+$/, "1")}/room?jwt=${good}`, "x"]), /nothing listens/]
      ] as const
      for (const [ended, why] of said) fails(ended, why)
      const anonymous = yield* Command.run(["info", `${url}/anon`, "x"])
      assert.match(anonymous.stderr, /not found/)
      command.kill("SIGTERM")
      const ended = yield* command.ended
      const everything = [ended, published, doctor, anonymous, ...said.map(([ended]) => ended)]
        .map(({ stderr, stdout }) => `${stderr}${stdout}`)
        .join("\n")
      assert.include(everything, "session-opened")
      for (const part of [...good.split("."), ...expired.split("."), String(hs256.jwk["k"])]) {
        assert.notInclude(everything, part)
      }
    }), deadline)

  it.live("a publisher that people watch shows no token either", () =>
    Effect.gen(function*() {
      const { base, connecting } = yield* relay(["websocket"])
      const secret = token(hs256, { root: "room", put: "alice", get: "" })
      const said: Array<string> = []
      const say = (text: string | Uint8Array) => Effect.sync(() => void said.push(text.toString()))
      const output = { isTerminal: true, write: say, note: say, progress: say }
      const fingerprint = ["--fingerprint", connecting.fingerprints[0]!]
      yield* Cli.runWith(publish, { version: "0" })([
        "--no-wait",
        ...fingerprint,
        `${base}/room?jwt=${secret}`,
        "alice/x"
      ])
        .pipe(
          Effect.provideService(Output.Output, output),
          Effect.provide([NodeServices.layer, Stdio.layerTest({ stdin: Stream.make(bytes("hello\n")) })])
        )
      assert.include(said.join("\n"), `alice/x is announced at ${base}/room`)
      assert.include(said.join("\n"), "1 frames with 5 bytes")
      for (const part of secret.split(".")) assert.notInclude(said.join("\n"), part)
    }), deadline)

  it.live("a relay whose key cannot be used does not start", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      writeFileSync(`${dir}/key`, "garbage", { mode: 0o600 })
      const { code, stderr } = yield* Command.run(["relay", "--bind", "localhost:0", "--auth-key", `${dir}/key`])
      assert.match(stderr, /key: this is neither JSON nor base64url of JSON/)
      assert.strictEqual(code, 1)
    }), deadline)
})
