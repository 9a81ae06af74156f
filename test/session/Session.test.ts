import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { type MoqError, NotFound } from "../../src/core/MoqError.ts"
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
          client.subscribe(["numbers"], { wait: "10 seconds", order: "asc" }),
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

  it.effect("a broadcast of one session offers the tracks that it has to another, and nothing else of its session", () =>
    Effect.gen(function*() {
      const one = yield* pair()
      const two = yield* pair()
      yield* publishNumbers(one.server, ["numbers"], 1)
      const broadcast = yield* one.server.broadcast(["room"])
      const clock = yield* broadcast.track("clock")
      const { scope } = yield* owned(two.server.publish(broadcast))
      assert.strictEqual((yield* Effect.flip(two.client.subscribe(["numbers"])))._tag, "MoqNotFound")
      const { log } = yield* readTrack(yield* two.client.subscribe(["room", "clock"]))
      yield* (yield* clock.appendGroup).writeFrame(text.encode("tick"))
      yield* settle
      assert.deepStrictEqual(log, ["0:tick"])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Effect.flip(two.client.trackInfo(["room", "clock"])))._tag, "MoqNotFound")
      yield* one.client.trackInfo(["room", "clock"])
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

  it.effect("serves the tracks of a route on demand, and announces what it is told to", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const made: Array<string> = []
      yield* server.route(["rooms"], (path) =>
        Effect.gen(function*() {
          if (path.length > 2) return yield* new NotFound({})
          made.push(path.join("/"))
          yield* Effect.addFinalizer(() => Effect.sync(() => made.push(`${path.join("/")} left`)))
          const track = yield* Track.make(path)
          const group = track.appendGroupUnsafe()!
          group.writeFrameUnsafe(text.encode(path.join("/")))
          group.finishUnsafe()
          return track.track
        }))
      yield* server.announce(["rooms", "one"])
      const heard = yield* client.announced(["rooms"]).pipe(Stream.take(1), Stream.runCollect)
      assert.deepStrictEqual(heard, [{ _tag: "Active", path: ["rooms", "one"] }])
      const { close, value } = yield* owned(client.subscribe(["rooms", "one"]))
      const reading = yield* readTrack(value)
      yield* settle
      assert.deepStrictEqual(reading.log, ["0:rooms/one", "0."])
      assert.strictEqual((yield* Effect.flip(client.subscribe(["rooms", "one", "more"])))._tag, "MoqNotFound")
      yield* close
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.deepStrictEqual(made, ["rooms/one", "rooms/one left"])
      assert.strictEqual((yield* Effect.flip(server.route(["rooms"], () => Effect.never)))._tag, "MoqDuplicate")
    }))

  it.effect("fails what a broadcast of a session writes once the session is gone, and nothing else", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const alone = yield* Broadcast.make(["alone"])
      yield* server.publish(alone)
      const free = yield* alone.track("free")
      const bound = yield* (yield* server.broadcast(["bound"])).track("bound")
      const group = yield* bound.appendGroup
      const frame = yield* group.createFrame(4)
      yield* client.close()
      yield* settle
      const late = text.encode("late")
      const errors = yield* Effect.all([
        Effect.flip(bound.appendGroup),
        Effect.flip(bound.createGroup(7)),
        Effect.flip(group.writeFrame(late)),
        Effect.flip(group.createFrame(1)),
        Effect.flip(frame.write(late)),
        Effect.flip(Stream.run(Stream.succeed(late), bound.sink({ group: "single" })))
      ])
      for (const error of errors) assert.strictEqual(error._tag, "MoqSessionClosed")
      assert.isFalse(group.writeFrameUnsafe(text.encode("late")))
      yield* (yield* free.appendGroup).writeFrame(text.encode("still"))
    }))

  it.effect("refuses paths that are empty or too long, whatever they are for", () =>
    Effect.gen(function*() {
      const { client } = yield* pair()
      const long = Array.from({ length: 33 }, () => "a")
      const broadcast = yield* client.broadcast(long)
      for (const path of [[], long, ["x".repeat(1024)]]) {
        const refused: Array<Effect.Effect<MoqError, unknown, Scope.Scope>> = [
          Effect.flip(client.subscribe(path)),
          Effect.flip(client.subscribe(path, { wait: "1 second" })),
          Effect.flip(client.trackInfo(path)),
          Effect.flip(client.fetch(path, 0)),
          Effect.flip(client.announce(path)),
          Effect.flip(Effect.flatMap(Track.make(path), ({ track }) => client.publish(track))),
          Effect.flip(broadcast.track("a"))
        ]
        if (path.length > 0) {
          refused.push(
            Effect.flip(Stream.runDrain(client.announced(path))),
            Effect.flip(client.route(path, () => Effect.never))
          )
        }
        for (const error of yield* Effect.all(refused)) assert.strictEqual(error._tag, "MoqBoundsExceeded")
      }
    }))

  it.effect("hears how fast its peer can send, on the versions that tell", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      yield* server.reportBitrate(1_000_000)
      yield* settle
      const heard: Array<number | undefined> = []
      const reading = yield* Effect.forkChild(
        Stream.runForEach(client.bitrate, (bits) => Effect.sync(() => heard.push(bits))),
        { startImmediately: true }
      )
      yield* settle
      yield* server.reportBitrate(undefined)
      yield* settle
      yield* server.close()
      yield* Fiber.join(reading)
      assert.deepStrictEqual(heard, [1_000_000, undefined])
      assert.strictEqual((yield* Effect.flip(server.reportBitrate(1)))._tag, "MoqSessionClosed")
      const old = yield* pair({ profiles: [Profile.fork04] }, { profiles: [Profile.fork04] })
      assert.strictEqual((yield* Effect.flip(old.client.reportBitrate(1)))._tag, "MoqNotSupportedByPeer")
    }))

  it.effect("is one session for every program that is given the same Layer", () =>
    Effect.gen(function*() {
      const network = yield* Memory.makeNetwork()
      const server = yield* network.listen()
      let accepted = 0
      yield* Effect.forkScoped(Stream.runForEach(server.requests, (request) =>
        Effect.flatMap(request.accept, (connection) =>
          Session.accept(connection)).pipe(
            Effect.andThen(Effect.sync(() =>
              accepted++
            ))
          )))
      const transport = Layer.succeed(Transport)(network.transport)
      const SessionLayer = Session.layerConnect("https://relay.example").pipe(Layer.provide(transport))
      const session = yield* Effect.all([Session.Session, Effect.provide(Session.Session, SessionLayer)]).pipe(
        Effect.provide(SessionLayer)
      )
      assert.strictEqual(session[0], session[1])
      class One extends Context.Service<One, Session.Session>()("test/One") {}
      class Two extends Context.Service<Two, Session.Session>()("test/Two") {}
      const both = Layer.mergeAll(Layer.effect(One)(Session.Session), Layer.effect(Two)(Session.Session)).pipe(
        Layer.provide(SessionLayer)
      )
      const [one, two] = yield* Effect.provide(Effect.all([One, Two]), both)
      assert.strictEqual(one, two)
      assert.strictEqual(accepted, 2)
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
