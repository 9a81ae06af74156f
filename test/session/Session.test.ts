import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Profile from "../../src/message/Profile.ts"
import * as Broadcast from "../../src/model/Broadcast.ts"
import * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"
import { ended, owned, pair, publishNumbers, read as readTrack, settle } from "./sessions.ts"

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

  it.effect("refuses what is no URL", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provideService(Session.connect("no url"), Transport, {
        connect: () => Effect.die("not reached")
      }))
      assert.strictEqual(error._tag, "MoqTransportError")
    }))

  it.effect("both sides publish and subscribe at once", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      yield* publishNumbers(client, ["client"], 2)
      yield* publishNumbers(server, ["server"], 3)
      const [a, b] = yield* Effect.all([client.subscribe(["server"]), server.subscribe(["client"])])
      const readings = [yield* readTrack(a), yield* readTrack(b)]
      yield* settle
      assert.deepStrictEqual(readings.map(({ log }) => log), [["2:2"], ["1:1"]])
    }))

  it.effect("a path is taken once in a session", () =>
    Effect.gen(function*() {
      const { server } = yield* pair()
      const { scope } = yield* owned(publishNumbers(server, ["numbers"], 1))
      const error = yield* Effect.flip(Effect.flatMap(Track.make(["numbers"]), ({ track }) => server.publish(track)))
      assert.strictEqual(error._tag, "MoqDuplicate")
      yield* Scope.close(scope, Exit.void)
      yield* publishNumbers(server, ["numbers"], 1)
    }))

  it.effect("a broadcast that stands alone is offered to any number of sessions, with its tracks to come", () =>
    Effect.gen(function*() {
      const broadcast = yield* Broadcast.make(["room"])
      const one = yield* pair()
      const two = yield* pair()
      yield* one.server.publish(broadcast)
      yield* two.client.publish(broadcast)
      const clock = yield* broadcast.track("clock")
      yield* settle
      const readings = [
        yield* readTrack(yield* one.client.subscribe(["room", "clock"])),
        yield* readTrack(yield* two.server.subscribe(["room", "clock"]))
      ]
      const group = yield* clock.appendGroup
      yield* group.writeFrame(text.encode("tick"))
      yield* clock.finish
      yield* settle
      assert.deepStrictEqual(readings.map(({ log }) => log), [["0:tick", "0."], ["0:tick", "0."]])
      assert.deepStrictEqual(readings.map(({ fiber }) => ended(fiber)?._tag), ["Success", "Success"])
    }))

  it.effect("sessions that are given one router offer the same tracks", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const one = yield* pair(undefined, { router })
      const two = yield* pair(undefined, { router })
      yield* publishNumbers(one.server, ["numbers"], 1)
      const reading = yield* readTrack(yield* two.client.subscribe(["numbers"]))
      yield* settle
      assert.deepStrictEqual(reading.log, ["0:0"])
    }))

  it.effect("is a Layer on either side", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const server = yield* Effect.forkScoped(
        Effect.provide(Effect.flatMap(Session.Session, (session) => session.closed), Session.layer(right))
      )
      const transport = Layer.succeed(Transport)({ connect: () => Effect.succeed(left) })
      const profile = yield* Effect.map(Session.Session, (session) => session.profile).pipe(
        Effect.provide(Session.layerConnect("https://localhost").pipe(Layer.provide(transport)))
      )
      assert.strictEqual(profile, "draft03")
      assert.strictEqual((yield* Fiber.join(server)).by, "remote")
    }))
})
