import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Logger, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { rmSync, writeFileSync } from "node:fs"
import * as TokenAuthenticator from "../../src/node/TokenAuthenticator.ts"
import * as TokenKey from "../../src/node/TokenKey.ts"
import { Authenticator, type Client } from "../../src/relay/Authenticator.ts"
import * as Session from "../../src/session/Session.ts"
import { Transport } from "../../src/transport/Transport.ts"
import { publish, settle, start, view } from "../relay/relays.ts"
import { base64url, directory, edDsa, es256, hs256, now, secret, token, watched } from "./fixtures/tokens.ts"

const client = (path: string, ...tokens: ReadonlyArray<string>): Client => {
  const url = new URL(`https://relay.example${path}`)
  for (const token of tokens) url.searchParams.append("jwt", token)
  const root = url.pathname.split("/").filter((part) => part !== "")
  return { url, root, headers: undefined, peer: "192.0.2.1", transport: "websocket" }
}

const refusal = <A>(effect: Effect.Effect<A, { readonly detail?: string }>) =>
  Effect.map(Effect.flip(effect), ({ detail }) => detail)

const files = Effect.fnUntraced(function*() {
  const dir = yield* directory
  const write = (name: string, value: object | string, mode = 0o600) =>
    Effect.sync(() => {
      rmSync(`${dir}/${name}`, { force: true })
      writeFileSync(`${dir}/${name}`, typeof value === "string" ? value : JSON.stringify(value), { mode })
      return `${dir}/${name}`
    })
  return { dir, write }
})

describe("a relay that takes tokens", () => {
  it.effect("refuses everything else when it has a key", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(now * 1000)
      const { write } = yield* files()
      const { authenticate } = yield* TokenAuthenticator.make({ keyFiles: [yield* write("hs", hs256.jwk)] })
      for (const path of ["/", "/room", "/anon"]) {
        assert.strictEqual(yield* refusal(authenticate(client(path))), "a token is needed: ?jwt=")
        assert.strictEqual(yield* refusal(authenticate(client(path, ""))), "a token is needed: ?jwt=")
      }
      const good = token(hs256, { root: "room/1", put: "alice", get: ["", "bob"], exp: now + 60 })
      assert.deepStrictEqual(yield* authenticate(client("/room/1", good)), {
        publish: [["room", "1", "alice"]],
        subscribe: [["room", "1"]],
        expires: (now + 60) * 1000
      })
      assert.deepStrictEqual((yield* authenticate(client("//room/1/bob/", good))).publish, [])
      for (const path of ["/", "/room", "/room/12", "/room/2", "/other/room/1"]) {
        assert.strictEqual(yield* refusal(authenticate(client(path, good))), "the token is not valid here")
      }
      const said = [
        [token(hs256, { put: "", exp: now }), "the token has expired"],
        [token(hs256, { put: "", nbf: now + 1 }), "the token is not valid yet"],
        [token(es256, { put: "" }), "the token is signed by nobody known here"],
        [token(hs256, { root: "a" }), "the token allows nothing"],
        ["x", "the token is malformed"],
        ["x".repeat(9000), "the token is longer than 8 KiB"]
      ] as const
      for (const [bad, why] of said) assert.strictEqual(yield* refusal(authenticate(client("/", bad))), why)
      assert.strictEqual(yield* refusal(authenticate(client("/room/1", good, good))), "there is more than one token")
    }))

  it.effect("opens what is public, and takes no bad token even there", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(now * 1000)
      const key = yield* TokenKey.fromJwk(es256.jwk)
      const { authenticate } = yield* TokenAuthenticator.make({ keys: [key], public: [["anon"], ["demo", "x"]] })
      const open = (path: string) => Effect.map(authenticate(client(path)), ({ publish }) => publish)
      assert.deepStrictEqual(yield* open("/anon"), [["anon"]])
      assert.deepStrictEqual(yield* open("/anon/room"), [["anon", "room"]])
      assert.deepStrictEqual(yield* open("/"), [["anon"], ["demo", "x"]])
      assert.deepStrictEqual(yield* open("/demo"), [["demo", "x"]])
      for (const path of ["/anonymous", "/demo/y", "/room"]) {
        assert.strictEqual(yield* refusal(open(path)), "a token is needed: ?jwt=")
      }
      assert.strictEqual(yield* refusal(authenticate(client("/anon", "x"))), "the token is malformed")
      const good = token(es256, { root: "", get: ["room"] })
      assert.deepStrictEqual(yield* authenticate(client("/", good)), {
        publish: [["anon"], ["demo", "x"]],
        subscribe: [["room"], ["anon"], ["demo", "x"]],
        expires: undefined
      })
      assert.strictEqual(yield* refusal(authenticate(client("/anon", good))), "the token is not valid here")
      // without any key there is nobody whose token counts
      const alone = yield* TokenAuthenticator.make({ public: [[]] })
      assert.deepStrictEqual((yield* alone.authenticate(client("/x"))).subscribe, [["x"]])
      assert.strictEqual(
        yield* refusal(alone.authenticate(client("/x", good))),
        "the token is signed by nobody known here"
      )
    }))

  it.effect("begins with all of its keys or not at all", () =>
    Effect.gen(function*() {
      const { dir, write } = yield* files()
      const fails = (options: TokenAuthenticator.Options) =>
        Effect.map(Effect.flip(TokenAuthenticator.make(options)), (error) => {
          assert.strictEqual(error._tag, "MoqInvalidKey")
          return error.message
        })
      assert.match(yield* fails({ keyFiles: [`${dir}/a`] }), /a cannot be read: ENOENT/)
      assert.match(yield* fails({ keyDir: dir }), /there is no key in/)
      const hs = yield* write("hs.jwk", hs256.jwk)
      const garbage = yield* write("garbage", `${JSON.stringify(hs256.jwk)}garbage`)
      assert.match(yield* fails({ keyFiles: [hs, garbage] }), /garbage: this is neither/)
      assert.match(yield* fails({ keyFiles: [hs], keyDir: dir }), /there is the key hs twice/)
      const signs = yield* write("signs", { ...es256.secretJwk, key_ops: ["sign"] })
      assert.match(yield* fails({ keyFiles: [signs] }), /the key es may not verify/)
      yield* write("ed.jwk", base64url(edDsa.jwk))
      const { authenticate } = yield* TokenAuthenticator.make({
        keyDir: dir,
        keys: [yield* TokenKey.fromJwk(es256.jwk)]
      })
      for (const hand of [hs256, es256, edDsa]) yield* authenticate(client("/", token(hand, { put: "" })))
    }))

  it.effect("reads its keys again, and keeps those before when one cannot be used", () =>
    Effect.gen(function*() {
      const { dir, write } = yield* files()
      const file = yield* write("key", hs256.jwk)
      const reload = yield* Queue.unbounded<void>()
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel}: ${String(message)}`))
      const again = Effect.fnUntraced(function*() {
        const before = logged.length
        yield* Queue.offer(reload, undefined)
        // files are read in real time
        while (logged.length === before) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        return logged.slice(before)
      })
      const check = Effect.gen(function*() {
        const { authenticate } = yield* TokenAuthenticator.make({
          keyFiles: [file],
          reload: Stream.fromQueue(reload)
        })
        const takes = (hand: typeof hs256) =>
          Effect.map(Effect.exit(authenticate(client("/", token(hand, { put: "" })))), Exit.isSuccess)
        assert.deepStrictEqual([yield* takes(hs256), yield* takes(es256)], [true, false])
        yield* write("key", { keys: [es256.jwk, edDsa.jwk] })
        assert.deepStrictEqual(yield* again(), ["Info: the keys of tokens have been read again: 2"])
        assert.deepStrictEqual([yield* takes(hs256), yield* takes(es256)], [false, true])
        yield* write("key", `${JSON.stringify(hs256.jwk)}garbage`)
        assert.deepStrictEqual(yield* again(), [
          `Warn: the keys of tokens before stay in force: ${dir}/key: this is neither JSON nor base64url of JSON`
        ])
        rmSync(file)
        assert.match((yield* again())[0]!, /^Warn: .*ENOENT$/)
        assert.deepStrictEqual([yield* takes(hs256), yield* takes(es256)], [false, true])
      })
      yield* Effect.provide(check, Logger.layer([logger]))
    }))

  it.effect("tells nothing of a token: not in logs, not in spans, not in errors, not in events", () =>
    Effect.gen(function*() {
      const key = yield* TokenKey.fromJwk(hs256.jwk)
      const good = token(hs256, { root: "room", put: ["alice"], get: ["alice"], exp: now + 60 })
      const bad = [
        token(hs256, { root: "room", put: "", exp: now - 1 }),
        token(es256, { root: "room", put: "" }),
        token(hs256, { root: "elsewhere", put: "" }),
        `${good}x`,
        good.replace(/^../, "xx"),
        `${"y".repeat(9000)}.${good}`
      ]
      const errors: Array<string> = []
      const { lines, spans, value } = yield* watched(Effect.gen(function*() {
        yield* TestClock.setTime(now * 1000)
        const authenticator = yield* TokenAuthenticator.make({ keys: [key] })
        const { connect, events, network } = yield* Effect.provideService(start(), Authenticator, authenticator)
        const alice = yield* connect(`/room?jwt=${good}`)
        const publisher = yield* publish(alice, ["alice"])
        yield* publisher.group("hi")
        const viewer = yield* view(yield* connect(`/room?jwt=${good}`), ["alice"])
        assert.deepStrictEqual(viewer.got, ["hi"])
        for (const token of bad) {
          const session = yield* Effect.exit(connect(`/room?jwt=${token}`))
          const closed = Exit.isSuccess(session) ? yield* session.value.closed : session.cause
          errors.push(JSON.stringify(closed), String(closed))
          assert.match(errors.at(-1)!, /nauthorized|token/i)
        }
        const noUrl = Session.connect(`https://two words/room?jwt=${good}`)
        errors.push((yield* Effect.flip(Effect.provideService(noUrl, Transport, network.transport))).message)
        yield* TestClock.adjust("2 minutes")
        yield* settle
        errors.push(JSON.stringify(yield* alice.closed))
        assert.strictEqual((yield* alice.closed).code, 6)
        return events
      }))
      const all = [...lines, ...spans, ...errors, JSON.stringify(value)].join("\n")
      assert.isAbove(value.length, 4)
      assert.include(spans.join("\n"), "the whole of it")
      assert.include(all, "has expired")
      for (const one of [good, ...bad]) {
        for (const part of one.split(".")) assert.notInclude(all, part.slice(0, 40))
      }
      assert.notInclude(all, secret.toString("base64url"))
      assert.notInclude(all, "jwt=")
    }))
})
