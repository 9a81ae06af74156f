/** Streams that the peer opens and that are late with their first message, each at its own time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { draft03 } from "../../src/message/Profile.ts"
import type * as Peer from "../../src/session/Peer.ts"
import { type ByHand, client, closed, type End, stopped, type, written } from "./byHand.ts"
import { record } from "./monitors.ts"
import { publishNumbers, settle } from "./sessions.ts"

const late = 3

const open = (peer: ByHand) => Effect.tap(peer.openUni(written((writer) => writer.varint(0))), settle)

const after = (millis: number) => Effect.andThen(TestClock.adjust(`${millis} millis`), settle)

describe("Deadlines", () => {
  it.effect("each is late at its own time, also those that come while others are waited for, and once nobody was", () =>
    Effect.gen(function*() {
      const { limits, monitor } = record()
      const { peer } = yield* client(draft03, { monitor })
      const states = (streams: ReadonlyArray<Parameters<typeof stopped>[0]>) =>
        Effect.forEach(streams, (stream): Effect.Effect<End> => stopped(stream))
      const first = yield* open(peer)
      yield* after(1000)
      const second = yield* open(peer)
      const third = yield* open(peer)
      yield* after(3999)
      assert.deepStrictEqual(yield* states([first, second, third]), ["open", "open", "open"])
      yield* after(1)
      assert.deepStrictEqual(yield* states([first, second, third]), [late, "open", "open"])
      const fourth = yield* open(peer)
      yield* after(999)
      assert.deepStrictEqual(yield* states([second, third]), ["open", "open"])
      yield* after(1)
      assert.deepStrictEqual(yield* states([second, third, fourth]), [late, late, "open"])
      yield* after(4000)
      assert.deepStrictEqual(yield* states([fourth]), [late])
      // nobody is waited for now
      yield* after(60_000)
      const fifth = yield* open(peer)
      yield* after(4999)
      assert.deepStrictEqual(yield* states([fifth]), ["open"])
      yield* after(1)
      assert.deepStrictEqual(yield* states([fifth]), [late])
      assert.deepStrictEqual(limits, { firstMessage: 5 })
      assert.isUndefined(yield* closed(peer.connection))
    }))

  it.effect("once none is waited for, nothing looks after them for as long as they had", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* client(draft03)
      const { fibers } = (session as unknown as { readonly peer: Peer.Peer }).peer
      const running = () => (fibers as unknown as { readonly running?: { readonly size: number } }).running?.size ?? 0
      const before = running()
      const stream = yield* open(peer)
      assert.strictEqual(running(), before + 1)
      yield* stream.reset(0)
      yield* after(100)
      assert.strictEqual(running(), before)
    }))

  it.effect("one that has said what it is for takes all the time it wants, beside one that has not", () =>
    Effect.gen(function*() {
      const { limits, monitor } = record()
      const { peer, session } = yield* client(draft03, { monitor })
      yield* publishNumbers(session, ["here"], 1)
      const silent = yield* peer.open(type("info"))
      const asked = yield* peer.subscribe(["here"])
      yield* after(4999)
      assert.deepStrictEqual(yield* silent.ends, ["open", "open"])
      yield* after(1)
      assert.deepStrictEqual(yield* silent.ends, [late, late])
      yield* after(60_000)
      assert.deepStrictEqual((yield* asked.ends)[1], "open")
      assert.deepStrictEqual(limits, { firstMessage: 1 })
    }))

  it.effect("one that its peer resets, or that breaks the format, is not late as well", () =>
    Effect.gen(function*() {
      const { limits, monitor } = record()
      const { peer } = yield* client(draft03, { monitor })
      const reset = yield* open(peer)
      yield* reset.reset(0)
      const broken = yield* peer.open(type("info"), new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
      yield* after(10_000)
      assert.notStrictEqual((yield* broken.ends)[1], late)
      assert.isUndefined(limits["firstMessage"])
    }))
})
