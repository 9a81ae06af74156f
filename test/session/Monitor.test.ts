/** What a session tells of what it does: both sides count the same, and what is there now goes back to nothing. */
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App } from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import * as Monitor from "../../src/session/Monitor.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { client, frame, gap, info, server, takeSubscribe, update } from "./byHand.ts"
import { record } from "./monitors.ts"
import { bytes, connect, ended, owned, pair, read, settle } from "./sessions.ts"

const { draft03 } = Profile

/** A viewer and a publisher, each with a monitor, and a track that the viewer reads. */
const watched = (options?: Session.Options) =>
  Effect.gen(function*() {
    const [viewing, publishing] = [record(), record()]
    const { client, server, connections } = yield* pair(
      { ...options, monitor: viewing.monitor },
      { ...options, monitor: publishing.monitor }
    )
    const track = yield* Track.make(["live"])
    yield* server.publish(track.track)
    return { viewing, publishing, client, server, track, connections }
  })

for (const profile of Profile.all) {
  describe(`Monitor, ${profile.name}`, () => {
    it.effect("groups, frames and bytes of payload: what leaves is what comes, whole frames and growing ones", () =>
      Effect.gen(function*() {
        const { client, publishing, track, viewing } = yield* watched({ profiles: [profile] })
        const { log } = yield* read(yield* client.subscribe(["live"], { from: 0 }))
        yield* settle
        const first = yield* track.appendGroup
        for (const text of ["a", "", "ccc"]) yield* first.writeFrame(bytes(text))
        yield* first.finish
        yield* settle
        const second = yield* track.appendGroup
        const frame = yield* second.createFrame(50_000)
        yield* frame.write(new Uint8Array(30_000))
        yield* settle
        assert.strictEqual(viewing.frames.received, 3)
        assert.strictEqual(viewing.bytes.received, 30_004)
        yield* frame.write(new Uint8Array(20_000))
        yield* second.writeFrame(bytes("z"))
        yield* second.finish
        yield* settle
        assert.strictEqual(log.length, 7)
        assert.deepStrictEqual(viewing.group, { received: 2, sent: 0 })
        assert.deepStrictEqual(viewing.frames, { received: 5, sent: 0 })
        assert.deepStrictEqual(viewing.bytes, { received: 50_005, sent: 0 })
        assert.deepStrictEqual(publishing.group, { received: 0, sent: 2 })
        assert.deepStrictEqual(publishing.frames, { received: 0, sent: 5 })
        assert.deepStrictEqual(publishing.bytes, { received: 0, sent: 50_005 })
        assert.deepStrictEqual([viewing.drops, publishing.drops, viewing.limits, publishing.limits], [{}, {}, {}, {}])
      }))

    if (profile.servesFetch) {
      it.effect("a fetch, with what it brings", () =>
        Effect.gen(function*() {
          const { client, publishing, track, viewing } = yield* watched({ profiles: [profile] })
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes("abc"))
          yield* group.finish
          const fetched = yield* client.fetch(["live"], 0)
          yield* Stream.runDrain(fetched.frames)
          assert.deepStrictEqual([viewing.fetch, publishing.fetch], [{ received: 1, sent: 0 }, {
            received: 0,
            sent: 1
          }])
          assert.deepStrictEqual([viewing.group.received, publishing.group.sent], [1, 1])
          assert.deepStrictEqual([viewing.bytes.received, publishing.bytes.sent], [3, 3])
        }))
    }

    const endings = {
      "its scope closes": Effect.void,
      "its scope fails": Effect.fail("cut"),
      "it is interrupted": Effect.interrupt
    }
    for (const [how, ending] of Object.entries(endings)) {
      it.effect(`subscriptions and announces go back to nothing when ${how}`, () =>
        Effect.gen(function*() {
          const [viewing, publishing] = [record(), record()]
          const scope = yield* Scope.make()
          const { client } = yield* Scope.provide(
            Effect.gen(function*() {
              const sessions = yield* pair(
                { profiles: [profile], monitor: viewing.monitor },
                { profiles: [profile], monitor: publishing.monitor }
              )
              const track = yield* Track.make(["live"])
              yield* sessions.server.publish(track.track)
              return { ...sessions, track }
            }),
            scope
          )
          yield* Effect.forkScoped(Effect.ignore(Stream.runDrain(client.announced())))
          yield* Effect.forkScoped(Effect.ignore(Effect.scoped(
            Effect.flatMap(client.subscribe(["live"]), (track) => Stream.runDrain(track.frames))
          )))
          yield* settle
          assert.deepStrictEqual([viewing.subscription.received, publishing.subscription.sent], [1, 1])
          assert.isAtLeast(viewing.announce.received, 1)
          assert.strictEqual(publishing.announce.sent, viewing.announce.received)
          yield* Effect.forkScoped(Scope.close(scope, yield* Effect.exit(ending)))
          yield* settle
          yield* TestClock.adjust("30 seconds")
          yield* settle
          for (const side of [viewing, publishing]) {
            assert.deepStrictEqual(side.subscription, { received: 0, sent: 0 })
            assert.deepStrictEqual(side.announce, { received: 0, sent: 0 })
          }
        }))
    }

    it.effect("interrupted at any step, a session leaves nothing counted", () =>
      Effect.gen(function*() {
        for (let steps = 0; steps < 60; steps++) {
          const { announce, monitor, subscription } = record()
          const router = yield* Router.make
          const track = yield* Track.make(["live"])
          yield* router.publish(track.track)
          const [left, right] = yield* Memory.pair()
          const both = Effect.gen(function*() {
            const accepting = yield* Effect.forkScoped(Session.accept(right, { profiles: [profile], router, monitor }))
            const session = yield* connect(left, { profiles: [profile], monitor })
            yield* Fiber.join(accepting)
            yield* Effect.forkScoped(Effect.ignore(Stream.runDrain(session.announced())))
            yield* (yield* session.subscribe(["live"])).ended
          })
          const fiber = yield* Effect.forkChild(Effect.scoped(both), { startImmediately: true })
          yield* Effect.repeat(Effect.yieldNow, { times: steps })
          const stopping = yield* Effect.forkChild(Fiber.interrupt(fiber))
          yield* settle
          yield* TestClock.adjust("30 seconds")
          yield* Fiber.join(stopping)
          yield* settle
          assert.deepStrictEqual([subscription, announce], [{ received: 0, sent: 0 }, { received: 0, sent: 0 }])
        }
      }))

    it.effect("a subscription that is refused does not stay", () =>
      Effect.gen(function*() {
        const { client, publishing, viewing } = yield* watched({ profiles: [profile] })
        yield* Effect.flip(client.subscribe(["nobody has it"]))
        yield* settle
        assert.deepStrictEqual([viewing.subscription.received, publishing.subscription.sent], [0, 0])
      }))

    it.effect("a publisher that gives a group up: a drop on both sides", () =>
      Effect.gen(function*() {
        const { client, publishing, track, viewing } = yield* watched({ profiles: [profile] })
        yield* read(yield* client.subscribe(["live"], { from: 0 }))
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("a"))
        yield* settle
        yield* group.fail(new App({ code: 7, detail: "" }))
        yield* settle
        assert.deepStrictEqual(publishing.drops, { "sent reset": 1 })
        assert.deepStrictEqual(viewing.drops, { "received reset": 1 })
      }))
  })
}

describe("Monitor", () => {
  it.effect("why groups did not leave: expired, lagged, unwanted", () =>
    Effect.gen(function*() {
      const { drops, monitor } = record()
      const { peer, session } = yield* client(draft03, { monitor, limits: { unsent: 5_000 } }, { window: 100 })
      const track = yield* Track.make(["live"], { expires: 1_000 })
      yield* session.publish(track.track)
      const stream = yield* peer.subscribe(["live"])
      yield* settle
      const whole = Effect.gen(function*() {
        const group = yield* track.appendGroup
        yield* group.writeFrame(new Uint8Array(4_000))
        yield* group.finish
        yield* settle
      })
      yield* Effect.replicateEffect(whole, 3)
      assert.deepStrictEqual(drops, { "sent lagged": 1 })
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(drops, { "sent lagged": 1, "sent expired": 1 })
      yield* stream.say(SubscribeUpdate.encode, update({ min: 10 }))
      yield* settle
      assert.deepStrictEqual(drops, { "sent lagged": 1, "sent expired": 1, "sent unwanted": 1 })
    }))

  it.effect("what was not read in time is given up once, whatever still comes of it", () =>
    Effect.gen(function*() {
      const { drops, limits, monitor } = record()
      const { peer, session } = yield* server(draft03, { monitor, limits: { unread: 1_000 } })
      const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], { from: 0 })))
      const { message, stream } = yield* takeSubscribe(peer)
      yield* stream.say(Info.encode, info(0))
      yield* Fiber.join(asking)
      const half = frame("x".repeat(600))
      const old = yield* peer.openUni(peer.header(message.id, 0), half)
      yield* settle
      yield* peer.openUni(peer.header(message.id, 1), half)
      // on its way before the stop has come
      yield* Effect.ignore(old.write([half]))
      yield* settle
      assert.deepStrictEqual([drops, limits], [{ "received lagged": 1 }, { unread: 1 }])
    }))

  it.effect("what the peer says does not come counts by its code, and for 1,024 groups at most", () =>
    Effect.gen(function*() {
      const { drops, monitor } = record()
      const { peer, session } = yield* server(draft03, { monitor })
      const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], { from: 0 })))
      const { stream } = yield* takeSubscribe(peer)
      yield* stream.say(Info.encode, info(0))
      yield* Fiber.join(asking)
      yield* stream.say(SubscribeGap.encode, gap(0, 2, 31))
      yield* stream.say(SubscribeGap.encode, gap(3, 0, 2))
      yield* stream.say(SubscribeGap.encode, gap(0, 4, 26))
      yield* settle
      assert.deepStrictEqual(drops, { "received evicted": 3, "received expired": 1, "received lagged": 1 })
      yield* stream.say(SubscribeGap.encode, gap(10, 2 ** 52, 7))
      // the end of the track is no loss
      yield* stream.say(SubscribeGap.encode, gap(2 ** 53 - 100, 99, 0))
      yield* settle
      assert.strictEqual(drops["received reset"], 1024)
      assert.isUndefined(drops["received unwanted"])
    }))

  it.effect("latency: of groups that came while the viewer was subscribed, through a session on each side", () =>
    Effect.gen(function*() {
      const { latency, monitor } = record()
      const router = yield* Router.make
      const upstream = yield* server(draft03, { monitor })
      const asking = yield* Effect.forkScoped(owned(upstream.session.subscribe(["live"], { from: 0 })))
      const { message, stream } = yield* takeSubscribe(upstream.peer)
      yield* stream.say(Info.encode, info(0))
      const { value: track } = yield* Fiber.join(asking)
      yield* router.publish(track)
      const early = yield* upstream.peer.group(message.id, 0, "early")
      yield* early.finish
      yield* settle
      yield* TestClock.adjust("3 seconds")
      const downstream = yield* client(draft03, { monitor, router })
      yield* downstream.peer.subscribe(["live"], { min: 0 })
      yield* settle
      // what was there before is late for no fault of anybody
      assert.deepStrictEqual(latency, [])
      // begun, without a frame: its first byte leaves with the first frame
      const begun = yield* upstream.peer.openUni(upstream.peer.header(message.id, 1))
      yield* settle
      yield* TestClock.adjust("1500 millis")
      yield* begun.write([Uint8Array.of(1, 65)])
      yield* settle
      assert.deepStrictEqual(latency, [1500])
      yield* begun.write([Uint8Array.of(1, 66)])
      yield* settle
      assert.strictEqual(latency.length, 1)
    }))
})

describe("Monitor", () => {
  it.effect("one that throws is told of, and costs nobody anything", () =>
    Effect.gen(function*() {
      const printed: Array<ReadonlyArray<unknown>> = []
      const console = { ...globalThis.console, error: (...args: ReadonlyArray<unknown>) => void printed.push(args) }
      const own = new Error("of its own")
      let count = 0
      const throwing = () => {
        count++
        throw own
      }
      const monitor = Object.fromEntries(
        Object.keys(Monitor.none).map((name) => [name, throwing])
      ) as unknown as Monitor.Monitor
      const { client, server } = yield* Effect.provideService(pair({ monitor }, { monitor }), Console.Console, console)
      const track = yield* Track.make(["live"])
      yield* server.publish(track.track)
      const { fiber, log } = yield* read(yield* client.subscribe(["live"], { from: 0 }))
      for (const text of ["a", "b", "c"]) {
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes(text))
        yield* group.finish
        yield* settle
      }
      yield* track.finish
      yield* settle
      assert.deepStrictEqual(log, ["0:a", "0.", "1:b", "1.", "2:c", "2."])
      assert.strictEqual(ended(fiber)?._tag, "Success")
      assert.strictEqual(printed.length, count)
      assert.deepStrictEqual(printed[0], ["a monitor threw", own])
    }))
})
