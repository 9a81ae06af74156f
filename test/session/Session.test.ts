import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Profile from "../../src/message/Profile.ts"
import * as Track from "../../src/model/Track.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"
import { pair, settle } from "./sessions.ts"

const text = new TextEncoder()
const read = new TextDecoder()

for (const profile of Profile.all) {
  describe(`Session, ${profile.name}`, () => {
    it.effect("carries the frames of a track from publisher to subscriber", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        assert.strictEqual(client.profile, profile.name)
        const scope = yield* Scope.make()
        const broadcast = yield* Scope.provide(server.broadcast(["room"]), scope)
        const clock = yield* Scope.provide(broadcast.track("clock", { priority: 3, order: "desc" }), scope)
        const group = yield* clock.appendGroup
        yield* group.writeFrame(text.encode("one"))
        const track = yield* client.subscribe(["room", "clock"])
        assert.strictEqual(track.info.priority, 3)
        const fiber = yield* Effect.forkChild(Stream.runCollect(track.frames))
        yield* settle
        yield* group.writeFrame(text.encode("two"))
        yield* settle
        yield* group.finish
        yield* Scope.close(scope, Exit.void)
        yield* settle
        yield* TestClock.adjust("5 seconds")
        const frames = yield* Fiber.join(fiber)
        assert.deepStrictEqual(frames.map((frame) => read.decode(frame)), ["one", "two"])
      }))

    it.effect("waits for a track to be published, then reads all of it", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const fiber = yield* Effect.forkChild(Effect.scoped(Effect.flatMap(
          client.subscribe(["numbers"], { wait: "10 seconds" }),
          (track) => Stream.runCollect(Stream.flatMap(track.groups, (group) => group.frames))
        )))
        yield* TestClock.adjust("2 seconds")
        const scope = yield* Scope.make()
        const track = yield* Track.make(["numbers"]).pipe(Scope.provide(scope))
        yield* Scope.provide(server.publish(track.track), scope)
        yield* track.used
        for (let i = 0; i < 10; i++) {
          const group = yield* track.appendGroup
          for (let j = 0; j < 10; j++) yield* group.writeFrame(text.encode(`${i * 10 + j}`))
          yield* group.finish
        }
        yield* track.finish
        yield* settle
        yield* TestClock.adjust("5 seconds")
        const frames = yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          frames.map((frame) => Number(read.decode(frame))),
          Array.from({ length: 100 }, (_, i) => i)
        )
      }))
  })
}

describe("Session", () => {
  it.effect("fails with NotFound when nobody publishes the path", () =>
    Effect.gen(function*() {
      const { client } = yield* pair()
      const error = yield* Effect.flip(client.subscribe(["nobody"]))
      assert.strictEqual(error._tag, "MoqNotFound")
      const info = yield* Effect.flip(client.trackInfo(["nobody"]))
      assert.strictEqual(info._tag, "MoqNotFound")
    }))

  it.effect("fails both sides when no version is common", () =>
    Effect.gen(function*() {
      const [client, server] = yield* Memory.pair()
      const [a, b] = yield* Effect.all([
        Effect.flip(Effect.provideService(
          Session.connect("https://localhost", { profiles: [Profile.fork02] }),
          Transport,
          { connect: () => Effect.succeed(client) }
        )),
        Effect.flip(Session.accept(server, { profiles: [Profile.draft03] }))
      ], { concurrency: 2 })
      assert.strictEqual(a._tag, "MoqUnsupportedVersion")
      assert.strictEqual(b._tag, "MoqUnsupportedVersion")
    }))
})
