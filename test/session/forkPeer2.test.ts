import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App, Evicted, Expired, FrameTooLarge, Lagged, Timeout, Unauthorized } from "../../src/core/MoqError.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { listen, publish, start, view } from "../relay/relays.ts"
import {
  announce,
  arrived,
  ByHand,
  client,
  closed,
  concat,
  gap,
  hello,
  info,
  received,
  server,
  stopped,
  takeAnnounce,
  takeSubscribe,
  type
} from "./byHand.ts"
import { bytes, connect, ended, failure, publishNumbers, read, settle } from "./sessions.ts"

const whole = (peer: ByHand, id: number, sequence: number, ...frames: ReadonlyArray<string>) =>
  Effect.flatMap(peer.group(id, sequence, ...frames), (stream) => stream.finish)

const subscribeLikeTheCrate = (peer: ByHand, id: number, ...path: ReadonlyArray<string>) =>
  peer.open(
    type("subscribe"),
    Uint8Array.of(id, path.length),
    ...path.flatMap((part) => [Uint8Array.of(part.length), bytes(part)]),
    Uint8Array.of(0x80, 1, ...(peer.profile.expires ? [0] : []), 0, 0)
  )

/** A client of a relay that speaks by hand. */
const joined = (relay: Effect.Success<ReturnType<typeof start>>, profile: Profile.Profile, path = "") =>
  Effect.gen(function*() {
    const connection = yield* relay.network.transport.connect(new URL(`https://relay.example${path}`))
    const peer = new ByHand(connection, profile)
    const control = yield* peer.open(hello([profile.version]))
    assert.strictEqual((yield* control.hear(SessionServer.decode)).version, profile.version)
    return peer
  })

for (const profile of [Profile.fork02, Profile.fork04]) {
  const last = profile.name === "fork02" ? 2 : 4
  describe(`A peer like the crate, ${profile.name}`, () => {
    it.effect("a client that offers one version", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair()
        const accepting = yield* Effect.forkScoped(Session.accept(right))
        const control = yield* new ByHand(left, profile).open(
          Uint8Array.of(0, 1, 0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, last, 0)
        )
        assert.deepStrictEqual(yield* arrived(control.stream.receive), [0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, last, 0])
        assert.strictEqual((yield* Fiber.join(accepting)).profile, profile.name)
      }))

    it.effect("a server that has one version", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair()
        const connecting = yield* Effect.forkScoped(connect(left))
        const control = yield* new ByHand(right, profile).accept
        const version = (n: number) => [0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, n]
        assert.deepStrictEqual(yield* arrived(control.stream.receive), [
          0,
          3,
          ...version(3),
          ...version(4),
          ...version(2),
          0
        ])
        yield* control.write(Uint8Array.of(...version(last), 0))
        assert.strictEqual((yield* Fiber.join(connecting)).profile, profile.name)
      }))

    it.effect("a server that answers with a version nobody offered", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair()
        const others = Profile.all.filter((other) => other !== profile)
        const connecting = yield* Effect.forkScoped(connect(left, { profiles: others }))
        const control = yield* new ByHand(right, profile).accept
        yield* control.write(Uint8Array.of(0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, last, 0))
        assert.strictEqual((yield* failure(connecting))._tag, "MoqProtocolViolation")
        assert.strictEqual((yield* closed(right))?.code, 15)
      }))

    it.effect("what it is sent as a publisher, byte for byte", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const expires = profile.expires ? [0] : []
        yield* Effect.forkScoped(Stream.runDrain(session.announced()))
        assert.deepStrictEqual(yield* arrived((yield* peer.accept).stream.receive), [1, 0])
        const asking = yield* Effect.forkScoped(session.subscribe(["a", "b"]))
        const stream = yield* peer.accept
        assert.deepStrictEqual(yield* arrived(stream.stream.receive), [
          2,
          0,
          2,
          1,
          0x61,
          1,
          0x62,
          0x80,
          1,
          ...expires,
          0,
          0
        ])
        yield* stream.write(Uint8Array.of(0x80, 1, ...expires, 5))
        const track = yield* Fiber.join(asking)
        assert.deepStrictEqual([track.info, track.first], [{ priority: 0, order: "desc", expires: 0 }, 5])
        const reading = yield* read(track)
        const group = yield* peer.openUni(Uint8Array.of(0, 0, 5, 5, 0x68, 0x65, 0x6c, 0x6c, 0x6f))
        yield* group.finish
        yield* settle
        assert.deepStrictEqual(reading.log, ["5:hello", "5."])
        yield* Effect.forkScoped(session.subscribe(["c"]))
        const second = yield* peer.accept
        assert.deepStrictEqual(yield* arrived(second.stream.receive), [2, 1, 1, 1, 0x63, 0x80, 1, ...expires, 0, 0])
        yield* Effect.forkScoped(session.trackInfo(["c"]))
        assert.deepStrictEqual(yield* arrived((yield* peer.accept).stream.receive), [4, 1, 1, 0x63])
        yield* Effect.forkScoped(session.fetch(["c"], 3, { frame: 1 }))
        assert.deepStrictEqual(yield* arrived((yield* peer.accept).stream.receive), [3, 1, 1, 0x63, 0x80, 3, 1])
      }))

    it.effect("what it is sent as a subscriber, byte for byte: no gap, whatever is left out", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const broadcast = yield* session.broadcast(["a"])
        const track = yield* broadcast.track("b", { priority: -1, order: "asc", expires: 3 })
        const first = yield* track.createGroup(5)
        yield* first.writeFrame(bytes("hello"))
        yield* first.finish
        const stream = yield* subscribeLikeTheCrate(peer, 0, "a", "b")
        yield* settle
        const uni = yield* peer.connection.acceptUni
        assert.deepStrictEqual(yield* arrived(uni), [0, 0, 5, 5, 0x68, 0x65, 0x6c, 0x6c, 0x6f])
        yield* track.gap({ from: 6, to: 7, code: 31 })
        const failing = yield* track.createGroup(8)
        yield* failing.writeFrame(bytes("x"))
        yield* settle
        const group = yield* peer.takeGroup
        yield* failing.fail(new App({ code: 99 }))
        yield* settle
        assert.deepStrictEqual([group.frames, group.end], [["x"], 99])
        yield* track.finish
        yield* settle
        assert.deepStrictEqual(yield* arrived(stream.stream.receive), [0x7f, 0, ...(profile.expires ? [3] : []), 5])
        assert.strictEqual(yield* received(stream.stream.receive), "fin")
      }))

    it.effect.each(
      [
        [new Expired({}), 0],
        [new Timeout({}), 0],
        [new Unauthorized({}), 13],
        [new Lagged({}), 0],
        [new FrameTooLarge({}), 14],
        [new Evicted({}), 0],
        [new App({ code: 99 }), 99]
      ] as const
    )("%s is sent as %s", ([error, code]) =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publishNumbers(session, ["live"], 1)
        const stream = yield* subscribeLikeTheCrate(peer, 0, "live")
        yield* stream.hear(Info.decode)
        const group = yield* peer.takeGroup
        yield* track.fail(error)
        yield* settle
        assert.deepStrictEqual([group.end, yield* received(stream.stream.receive)], [code, code])
      }))

    it.effect("a group that is reset, and said to be dropped before or after that", () =>
      Effect.gen(function*() {
        for (const dropFirst of [true, false]) {
          const { peer, session } = yield* server(profile)
          const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
          const { message, stream } = yield* takeSubscribe(peer)
          yield* stream.say(Info.encode, info(0))
          const reading = yield* read(yield* Fiber.join(asking))
          const group = yield* peer.group(message.id, 0, "a")
          yield* settle
          const drop = stream.say(SubscribeGap.encode, gap(0, 0, 99))
          if (dropFirst) yield* drop
          yield* settle
          yield* group.reset(99)
          yield* settle
          if (!dropFirst) yield* drop
          yield* whole(peer, message.id, 1, "b")
          yield* settle
          yield* TestClock.adjust("10 seconds")
          yield* settle
          assert.deepStrictEqual(reading.log, ["0:a", "0!MoqApp", "1:b", "1."])
        }
      }))

    it.effect("a track without a group says 0: what comes later may begin anywhere", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(0))
        const reading = yield* read(yield* Fiber.join(asking))
        yield* TestClock.adjust("1 minute")
        yield* whole(peer, message.id, 7, "a")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(reading.log, ["7:a", "7.", "0-6!31"])
        yield* stream.finish
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.strictEqual(ended(reading.fiber)?._tag, "Success")
      }))

    it.effect("a range in the past of one that only goes on", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"], { from: 0, to: 3 }))
        const { message, stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(10))
        const reading = yield* read(yield* Fiber.join(asking))
        yield* whole(peer, message.id, 10, "a")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(reading.log, ["0-3!31"])
        assert.strictEqual(ended(reading.fiber)?._tag, "Success")
        assert.deepStrictEqual(yield* stream.ends, ["fin", 0])
      }))

    it.effect("a track that fails is announced as ended first", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(0))
        const reading = yield* read(yield* Fiber.join(asking))
        const announces = (yield* takeAnnounce(peer)).stream
        yield* announce(announces, "active")
        yield* announce(announces, "ended")
        yield* whole(peer, message.id, 0, "a")
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* stream.say(SubscribeGap.encode, gap(1, 0, 98))
        yield* settle
        yield* stream.stream.abort(99)
        yield* settle
        assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqApp")
        assert.deepStrictEqual(reading.log, ["0:a", "0.", "1-1!98"])
      }))

    it.effect("a track that ends and is there again is asked for again", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const heard: Array<string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(session.announced(), (event) => Effect.sync(() => heard.push(event._tag)))
        )
        const announces = (yield* takeAnnounce(peer)).stream
        yield* announce(announces, "active", "live")
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const old = yield* takeSubscribe(peer)
        yield* old.stream.say(Info.encode, info(5))
        const before = yield* read(yield* Fiber.join(asking))
        yield* whole(peer, old.message.id, 5, "old")
        yield* settle
        yield* announces.write(
          peer.bytesOf(Announce.encode, { _tag: "Announce", status: "ended", suffix: ["live"] }),
          peer.bytesOf(Announce.encode, { _tag: "Announce", status: "active", suffix: ["live"] })
        )
        yield* settle
        assert.deepStrictEqual(heard, ["Active", "Ended", "Active"])
        const again = yield* Effect.forkScoped(session.subscribe(["live"]))
        const next = yield* takeSubscribe(peer).pipe(Effect.timeoutOption("1 millis"), Effect.forkScoped)
        yield* settle
        yield* TestClock.adjust("1 millis")
        const taken = yield* Fiber.join(next)
        if (taken._tag === "None") return assert.fail("no SUBSCRIBE")
        yield* taken.value.stream.say(Info.encode, info(0))
        const after = yield* read(yield* Fiber.join(again))
        yield* whole(peer, taken.value.message.id, 0, "new")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual([before.log, after.log], [["5:old", "5."], ["0:new", "0."]])
        assert.deepStrictEqual([ended(before.fiber)?._tag, ended(after.fiber)], ["Success", undefined])
      }))

    it.effect("a task that drops its stream in place of an answer: FIN and STOP_SENDING 0", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        for (const request of [session.subscribe(["live"]), session.trackInfo(["live"])]) {
          const asking = yield* Effect.forkScoped(request as Effect.Effect<unknown, { _tag: string }, Scope.Scope>)
          const stream = yield* peer.accept
          yield* settle
          yield* stream.finish
          yield* stream.stream.receive.stop(0)
          assert.strictEqual((yield* failure(asking))._tag, "MoqDecodeError")
        }
        // one that has answered drops it as well
        const asking = yield* Effect.forkScoped(session.trackInfo(["live"]))
        const stream = yield* peer.accept
        yield* settle
        yield* stream.say(Info.encode, info(3))
        yield* stream.finish
        yield* stream.stream.receive.stop(0)
        assert.strictEqual((yield* Fiber.join(asking)).latest, 3)
      }))

    it.effect("an announce source that ends says so path by path, then FIN", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const heard = yield* listen(session)
        const { prefix, stream } = yield* takeAnnounce(peer)
        assert.deepStrictEqual(prefix, [])
        yield* announce(stream, "active", "a")
        yield* announce(stream, "active", "b")
        yield* settle
        yield* announce(stream, "ended", "a")
        yield* announce(stream, "ended", "b")
        yield* stream.finish
        yield* settle
        assert.deepStrictEqual(heard.heard.filter((event) => event !== "live"), ["+a", "+b", "-a", "-b"])
        assert.strictEqual(ended(heard.fiber)?._tag, "Success")
        assert.isUndefined(yield* closed(peer.connection))
      }))
  })

  describe(`A relay, ${profile.name}`, () => {
    it.effect("the crate publishes, draft-03 views: skips are gaps, drops keep their code, the end is clean", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const crate = yield* joined(relay, profile, "/room")
        const { prefix, stream: announces } = yield* takeAnnounce(crate)
        assert.deepStrictEqual(prefix, [])
        yield* announce(announces, "active", "live")
        yield* settle
        const viewer = yield* joined(relay, Profile.draft03)
        const seen = yield* viewer.subscribe(["room", "live"])
        const { message, stream } = yield* takeSubscribe(crate)
        assert.deepStrictEqual([message.priority, message.order, message.min, message.max], [
          0,
          "desc",
          undefined,
          undefined
        ])
        yield* whole(crate, message.id, 5, "a")
        yield* settle
        yield* stream.say(Info.encode, { ...info(5), priority: -7, order: "asc" })
        assert.deepStrictEqual(yield* seen.hear(Info.decode), { ...info(5), priority: -7, order: "asc" })
        assert.deepStrictEqual((yield* viewer.takeGroup).frames, ["a"])
        yield* stream.say(SubscribeGap.encode, gap(6, 0, 99))
        yield* whole(crate, message.id, 8, "c")
        yield* settle
        assert.deepStrictEqual(yield* seen.hear(SubscribeGap.decode), gap(6, 0, 99))
        assert.strictEqual((yield* viewer.takeGroup).sequence, 8)
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(yield* seen.hear(SubscribeGap.decode), gap(7, 0, 31))
        yield* stream.finish
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(yield* seen.hear(SubscribeGap.decode), gap(9, Number.MAX_SAFE_INTEGER - 9, 0))
        assert.strictEqual(yield* received(seen.stream.receive), "fin")
      }))

    it.effect("draft-03 asks the crate for what is past", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const crate = yield* joined(relay, profile)
        const announces = (yield* takeAnnounce(crate)).stream
        yield* announce(announces, "active", "live")
        yield* settle
        const viewer = yield* joined(relay, Profile.draft03)
        const seen = yield* viewer.subscribe(["live"], { min: 2, max: 4 })
        const { message, stream } = yield* takeSubscribe(crate)
        assert.strictEqual(message.max, undefined)
        yield* stream.say(Info.encode, info(9))
        yield* whole(crate, message.id, 9, "a")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        yield* seen.hear(Info.decode)
        assert.deepStrictEqual(yield* seen.hear(SubscribeGap.decode), gap(2, 2, 31))
        // beyond the range there is nothing to say
        yield* settle
        const rest = yield* arrived(seen.stream.receive)
        assert.isAtMost(rest.length, 17)
        assert.strictEqual(yield* received(seen.stream.receive), "fin")
      }))

    it.effect("draft-03 publishes, the crate views: INFO and groups, the end, codes, and it leaves by dropping", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const crate = yield* joined(relay, profile)
        const source = yield* relay.connect("", { profiles: [Profile.draft03] })
        const publisher = yield* publish(source, ["live"], { priority: 9, order: "asc", expires: 0 })
        yield* publisher.group("a")
        const stream = yield* subscribeLikeTheCrate(crate, 0, "live")
        yield* settle
        const group = yield* crate.takeGroup
        assert.deepStrictEqual([group.subscribe, group.sequence, group.frames, group.end], [0, 0, ["a"], "fin"])
        yield* publisher.track.gap({ from: 1, to: 2, code: 99 })
        const third = yield* publisher.track.createGroup(3)
        yield* third.writeFrame(bytes("b"))
        yield* third.fail(new Expired({}))
        yield* settle
        assert.strictEqual((yield* crate.takeGroup).end, 0)
        yield* publisher.end()
        yield* settle
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* arrived(stream.stream.receive), [0x89, 0, ...(profile.expires ? [0] : []), 0])
        assert.strictEqual(yield* received(stream.stream.receive), "fin")

        const failing = yield* publish(source, ["failing"])
        const second = yield* subscribeLikeTheCrate(crate, 1, "failing")
        yield* second.hear(Info.decode)
        yield* failing.track.fail(new Evicted({}))
        yield* settle
        assert.strictEqual(yield* received(second.stream.receive), 0)

        const other = yield* publish(source, ["other"])
        const third2 = yield* subscribeLikeTheCrate(crate, 2, "other")
        yield* third2.hear(Info.decode)
        yield* third2.finish
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(relay.count("UpstreamClosed", "other"), 0)
        yield* other.group("still")
        yield* settle
        assert.deepStrictEqual((yield* crate.takeGroup).frames, ["still"])
        yield* third2.stream.receive.stop(0)
        yield* settle
        assert.strictEqual(relay.count("UpstreamClosed", "other"), 1)
      }))

    it.effect("a crate that publishes the same path anew, told by both statuses at once", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const crate = yield* joined(relay, profile)
        const announces = (yield* takeAnnounce(crate)).stream
        yield* announce(announces, "active", "live")
        yield* settle
        const watcher = yield* relay.connect("", { profiles: [Profile.draft03] })
        const heard = yield* listen(watcher)
        const before = yield* view(watcher, ["live"])
        const old = yield* takeSubscribe(crate)
        yield* old.stream.say(Info.encode, info(5))
        yield* whole(crate, old.message.id, 5, "old")
        yield* settle
        yield* announces.write(
          crate.bytesOf(Announce.encode, { _tag: "Announce", status: "ended", suffix: ["live"] }),
          crate.bytesOf(Announce.encode, { _tag: "Announce", status: "active", suffix: ["live"] })
        )
        yield* settle
        const other = yield* relay.connect("", { profiles: [Profile.draft03] })
        const after = yield* view(other, ["live"])
        const next = yield* takeSubscribe(crate).pipe(Effect.timeoutOption("1 millis"), Effect.forkScoped)
        yield* settle
        yield* TestClock.adjust("1 millis")
        const taken = yield* Fiber.join(next)
        if (taken._tag === "None") return assert.fail("no SUBSCRIBE")
        yield* taken.value.stream.say(Info.encode, info(0))
        yield* whole(crate, taken.value.message.id, 0, "new")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(heard.heard, ["+live", "live", "-live", "+live"])
        assert.deepStrictEqual([before.got, after.got], [["old"], ["new"]])
        assert.deepStrictEqual(yield* before.ended, Exit.void)
      }))
  })
}
