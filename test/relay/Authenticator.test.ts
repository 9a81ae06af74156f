import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Unauthorized } from "../../src/core/MoqError.ts"
import * as Authenticator from "../../src/relay/Authenticator.ts"
import { bytes, publish, settle, start, view } from "./relays.ts"

// few letters, so that two of them often begin alike
const path = Schema.Array(Schema.Literals(["a", "b", "ab", ""])).check(Schema.isMaxLength(4))
const prefixes = Schema.Array(path).check(Schema.isMaxLength(3))

/** A path as text in which one is a prefix of the other exactly when its parts are. */
const text = (parts: ReadonlyArray<string>): string => parts.map((part) => `${part}/`).join("")

describe("prefixes", () => {
  it.effect.prop("cover what begins with them, and leave of it what is below a root", [prefixes, path, path], (
    [prefixes, root, below]
  ) =>
    Effect.sync(() => {
      const covers = (list: ReadonlyArray<ReadonlyArray<string>>, path: ReadonlyArray<string>) =>
        list.some((prefix) => text(path).startsWith(text(prefix)))
      const full = [...root, ...below]
      assert.strictEqual(Authenticator.covers(prefixes, full), covers(prefixes, full))
      const left = Authenticator.within(prefixes, root)
      assert.strictEqual(Authenticator.covers(left, full), covers(prefixes, full))
      assert.isTrue(left.every((prefix) => text(prefix).startsWith(text(root))))
    }), { arbitrary: { runs: 1000, seed: 3 } })
})

const guarded = (authenticate: Authenticator.Authenticator["authenticate"]) =>
  Effect.provideService(start(), Authenticator.Authenticator, { authenticate })

describe("a relay with an authenticator", () => {
  it.effect("asks it for each client, with its URL as it came, before there is a session", () =>
    Effect.gen(function*() {
      const asked: Array<Authenticator.Client> = []
      const { connect, count, relay } = yield* guarded((client) => {
        asked.push(client)
        return client.url.searchParams.get("user") === "alice"
          ? Effect.succeed(Authenticator.everything)
          : Effect.fail(new Unauthorized({ detail: "who are you?" }))
      })
      const session = yield* connect("/room/%C3%BC?user=alice")
      const stranger = yield* Effect.flip(connect("/room?user=bob"))
      assert.strictEqual(stranger._tag, "MoqUnauthorized")
      assert.include(stranger.message, "who are you?")
      assert.deepStrictEqual(asked.map(({ root, transport, url }) => [root, transport, url.search]), [
        [["room", "ü"], "memory", "?user=alice"],
        [["room"], "memory", "?user=bob"]
      ])
      assert.deepStrictEqual([count("SessionOpened"), count("SessionRefused")], [1, 1])
      assert.strictEqual(yield* relay.sessions, 1)
      yield* session.close()
    }))

  it.effect("refuses whom nothing is granted at, above or below the root", () =>
    Effect.gen(function*() {
      const grant = { publish: [["room", "a"]], subscribe: [] }
      const { connect } = yield* guarded(() => Effect.succeed(grant))
      for (const root of ["/", "/room", "/room/a", "/room/a/b"]) yield* connect(root)
      for (const root of ["/room/b", "/roo", "/room/ab", "/a"]) {
        assert.strictEqual((yield* Effect.flip(connect(root)))._tag, "MoqUnauthorized", root)
      }
    }))

  it.effect("does not tell viewers that they may not, when their publisher may no longer", () =>
    Effect.gen(function*() {
      const { connect } = yield* guarded(({ url }) =>
        Effect.succeed({ ...Authenticator.everything, ...(url.pathname === "/short" ? { expires: 5000 } : {}) })
      )
      const session = yield* connect("/short")
      const publisher = yield* publish(session, ["x"])
      const viewer = yield* view(yield* connect(), ["short", "x"])
      yield* publisher.group("whole")
      const cut = yield* publish(session, ["y"])
      const reader = yield* view(yield* connect(), ["short", "y"])
      const open = yield* cut.track.appendGroup
      yield* open.writeFrame(bytes("part"))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.deepStrictEqual([viewer.got, reader.got], [["whole"], ["part"]])
      assert.strictEqual((yield* reader.failed)._tag, "MoqCancelled")
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual((yield* viewer.failed)._tag, "MoqCancelled")
    }))

  it.effect("ends a session when its grant expires, to the millisecond, and never before", () =>
    Effect.gen(function*() {
      const day = 24 * 60 * 60 * 1000
      const grants = new Map([["/short", 5000], ["/long", 40 * day], ["/past", 0]])
      const { connect, count, relay } = yield* guarded(({ url }) =>
        Effect.succeed({ ...Authenticator.everything, expires: grants.get(url.pathname) })
      )
      const [short, long, ever] = [yield* connect("/short"), yield* connect("/long"), yield* connect("/ever")]
      yield* publish(short, ["x"])
      yield* TestClock.adjust("4999 millis")
      yield* settle
      assert.strictEqual(yield* relay.sessions, 3)
      yield* TestClock.adjust("1 millis")
      yield* settle
      const { by, code, reason } = yield* short.closed
      assert.deepStrictEqual([by, code], ["remote", 6])
      assert.include(reason, "expired")
      for (let days = 1; days < 40; days++) {
        yield* TestClock.adjust("1 day")
        yield* settle
      }
      assert.strictEqual(yield* relay.sessions, 2)
      yield* TestClock.adjust("1 day")
      yield* settle
      assert.strictEqual((yield* long.closed).code, 6)
      assert.strictEqual(yield* relay.sessions, 1)
      const past = yield* Effect.exit(Effect.flatMap(connect("/past"), (session) => session.closed))
      assert.include(JSON.stringify(past), "6")
      yield* settle
      assert.strictEqual(yield* relay.sessions, 1)
      assert.isAtLeast(count("SessionClosed"), 2)
      yield* ever.close()
    }))
})
