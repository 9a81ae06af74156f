/** What both sides of a session say of the rate at which they can send. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionUpdate from "../../src/message/SessionUpdate.ts"
import type * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import { client, closed, type Hand, server } from "./byHand.ts"
import { ended, over, pair, settle } from "./sessions.ts"

const { draft03, fork02, fork04 } = Profile

const hear = (session: Session.Session) =>
  Effect.gen(function*() {
    const heard: Array<number | undefined> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(session.bitrate, (bits) => Effect.sync(() => heard.push(bits))),
      { startImmediately: true }
    )
    return { heard, fiber }
  })

const say = (control: Hand, bitrate: number) => control.say(SessionUpdate.encode, { _tag: "SessionUpdate", bitrate })

/** A connection that knows at which rate it can send. */
const knowing = (connection: Connection, knows: { bits: number | undefined }): Connection =>
  Object.create(connection, { bitrate: { value: Effect.sync(() => knows.bits) } })

describe("Bitrate", () => {
  it.effect.each(["client", "server"] as const)(
    "as %s: what the peer said last, then what it says next",
    (side) =>
      Effect.gen(function*() {
        const { control, peer, session } = yield* side === "client" ? server(draft03) : client(draft03)
        const early = yield* hear(session)
        yield* settle
        assert.deepStrictEqual(early.heard, [])
        yield* say(control, 1_000)
        yield* say(control, 2_500_000)
        yield* settle
        const late = yield* hear(session)
        yield* settle
        assert.deepStrictEqual([early.heard.at(-1), late.heard], [2_500_000, [2_500_000]])
        yield* say(control, 0)
        yield* settle
        assert.deepStrictEqual(late.heard, [2_500_000, undefined])
        yield* peer.connection.close(0, "")
        yield* settle
        assert.deepStrictEqual([ended(early.fiber)?._tag, ended(late.fiber)?._tag], ["Success", "Success"])
        assert.deepStrictEqual(yield* Stream.runCollect(session.bitrate), [undefined])
      })
  )

  it.effect("reports reach the other side, in the order in which they are made", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const { heard } = yield* hear(server)
      for (const bits of [1_000, 2_000.4, undefined, -1, Infinity]) {
        yield* client.reportBitrate(bits)
        yield* settle
      }
      assert.deepStrictEqual(heard, [1_000, 2_000, undefined, undefined, Number.MAX_SAFE_INTEGER])
      yield* server.close()
      yield* settle
      assert.strictEqual((yield* Effect.flip(client.reportBitrate(1)))._tag, "MoqSessionClosed")
    }))

  it.effect("an interrupted report leaves no half of a message", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair({ window: 16 })
      const { client, server } = yield* over([left, right])
      const { heard } = yield* hear(server)
      for (let i = 1; i <= 20; i++) {
        const fiber = yield* Effect.forkChild(client.reportBitrate(i * 1_000_000), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
      }
      yield* settle
      assert.strictEqual(heard.at(-1), 20_000_000)
      assert.isUndefined(yield* closed(left))
    }))

  it.effect("what the transport knows is told when it has changed by a tenth, looked at every keep-alive", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const knows: { bits: number | undefined } = { bits: 1_000_000 }
      const { server } = yield* over([knowing(left, knows), right], { limits: { keepAlive: "3 seconds" } })
      const { heard } = yield* hear(server)
      const later = (bits: number | undefined) =>
        Effect.gen(function*() {
          knows.bits = bits
          yield* TestClock.adjust("3 seconds")
          yield* settle
          return heard.length
        })
      yield* settle
      assert.deepStrictEqual(heard, [])
      assert.strictEqual(yield* later(1_000_000), 1)
      assert.strictEqual(yield* later(1_000_000), 1)
      assert.strictEqual(yield* later(1_099_999), 1)
      assert.strictEqual(yield* later(1_100_000), 2)
      assert.strictEqual(yield* later(990_001), 2)
      assert.strictEqual(yield* later(990_000), 3)
      assert.strictEqual(yield* later(undefined), 4)
      assert.deepStrictEqual(heard, [1_000_000, 1_100_000, 990_000, undefined])
    }))

  it.effect.each([fork02, fork04])("never to a peer that cannot read it: $name", (profile) =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const both = { profiles: [profile] }
      const { client, server } = yield* over([knowing(left, { bits: 5 }), right], both, both)
      const { heard } = yield* hear(server)
      assert.strictEqual((yield* Effect.flip(client.reportBitrate(7)))._tag, "MoqNotSupportedByPeer")
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.deepStrictEqual(heard, [])
    }))
})
