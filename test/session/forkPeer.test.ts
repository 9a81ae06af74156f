/**
 * A peer that does what the crate `moq-transfork` does, to the letter: what its publisher and its subscriber say, leave
 * out, and take for what. Nothing may hang, and everything ends as it should.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  App,
  Evicted,
  Expired,
  FrameTooLarge,
  Lagged,
  StreamReset,
  Timeout,
  Unauthorized
} from "../../src/core/MoqError.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import {
  announce,
  answer,
  arrived,
  ByHand,
  client,
  closed,
  concat,
  gap,
  type Hand,
  info,
  received,
  server,
  stopped,
  subscribeLikeTheCrate,
  takeAnnounce,
  takeFetch,
  takeSubscribe,
  type,
  whole,
  written
} from "./byHand.ts"
import { bytes, connect, ended, failure, publishNumbers, read, readers, settle, streams } from "./sessions.ts"

for (const profile of [Profile.fork02, Profile.fork04]) {
  describe(`A publisher like the crate, ${profile.name}`, () => {
    it.effect("groups before INFO, no end before the subscriber's, groups missing without a word", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        // it begins with its cached latest group, and INFO comes when it comes
        yield* whole(peer, message.id, 5, "a")
        yield* settle
        yield* stream.say(Info.encode, info(5))
        const reading = yield* read(yield* Fiber.join(asking))
        // the subscriber has said all that it has to say: else the crate would never end the track
        assert.strictEqual(yield* received(stream.stream.receive), "fin")
        yield* whole(peer, message.id, 7, "c")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(reading.log, ["5:a", "5.", "7:c", "7.", "6-6!31"])
        yield* stream.finish
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.strictEqual(ended(reading.fiber)?._tag, "Success")
      }))

    it.effect("`ended` is the end of the track, with the last group still to come", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(0))
        const reading = yield* read(yield* Fiber.join(asking))
        const announces = (yield* takeAnnounce(peer)).stream
        yield* announce(announces, "active")
        yield* announce(announces, "ended")
        const last = yield* peer.group(message.id, 0, "a")
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(ended(reading.fiber))
        yield* last.finish
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.strictEqual(ended(reading.fiber)?._tag, "Success")
        assert.deepStrictEqual(reading.log, ["0:a", "0."])
        // it goes on serving until somebody stops it
        assert.deepStrictEqual(yield* stream.ends, ["fin", 0])
      }))

    it.effect("somebody who listens to announces already hears of the end of a track without a stream more", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        yield* Effect.forkScoped(Stream.runDrain(session.announced()))
        const announces = (yield* takeAnnounce(peer)).stream
        yield* announce(announces, "active", "live")
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(0))
        const reading = yield* read(yield* Fiber.join(asking))
        yield* settle
        // the Session stream, that of the announces, and the subscription
        assert.strictEqual(streams(peer.connection), 3)
        yield* announce(announces, "ended", "live")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.strictEqual(ended(reading.fiber)?._tag, "Success")
      }))

    it.effect("no `live`, duplicates, and `ended` for what was not there", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const heard: Array<string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(session.announced(), (event) => Effect.sync(() => heard.push(event._tag)))
        )
        const { stream } = yield* takeAnnounce(peer)
        for (const status of ["ended", "active", "active"] as const) yield* announce(stream, status, "a")
        if (profile.sendsLive) yield* stream.say(Announce.encode, { _tag: "Announce", status: "live" })
        yield* settle
        yield* TestClock.adjust("500 millis")
        yield* settle
        assert.deepStrictEqual(heard, ["Active", "Live"])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("a GroupDrop of count 0 is one group; old and repeated sequences are read and not shown", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(5))
        const reading = yield* read(yield* Fiber.join(asking))
        yield* whole(peer, message.id, 5, "a")
        yield* settle
        yield* stream.say(SubscribeGap.encode, gap(6, 0, 13))
        yield* whole(peer, message.id, 3, "old")
        yield* settle
        yield* whole(peer, message.id, 5, "again")
        yield* whole(peer, message.id, 7, "b")
        yield* settle
        assert.deepStrictEqual(reading.log, ["5:a", "5.", "6-6!13", "7:b", "7."])
        assert.isUndefined(ended(reading.fiber))
      }))

    it.effect("an error resets one stream and stops the other, and costs that track alone", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(0))
        const reading = yield* read(yield* Fiber.join(asking))
        yield* stream.stream.abort(5)
        assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqDecodeError")
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("FETCH: a task that panics drops its stream, a track that is not there is NotFound", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const dropped = yield* Effect.forkScoped(session.fetch(["live"], 0))
        const one = yield* takeFetch(peer)
        yield* one.stream.finish
        yield* one.stream.stream.receive.stop(0)
        assert.strictEqual((yield* failure(dropped))._tag, "MoqNotSupportedByPeer")
        const missing = yield* Effect.forkScoped(session.fetch(["live"], 0))
        yield* (yield* takeFetch(peer)).stream.stream.abort(13)
        assert.strictEqual((yield* failure(missing))._tag, "MoqNotFound")
      }))

    it.effect("nothing is sent to it that it cannot read", () =>
      Effect.gen(function*() {
        const { control, peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"], { from: 0 }))
        const { stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, { ...info(0), priority: 7 })
        const track = yield* Fiber.join(asking)
        for (const change of [{ priority: 1 }, { from: 1 }, { to: 9 }]) {
          assert.strictEqual((yield* Effect.flip(track.update(change)))._tag, "MoqNotSupportedByPeer")
        }
        assert.strictEqual((yield* Effect.flip(session.reportBitrate(1)))._tag, "MoqNotSupportedByPeer")
        assert.strictEqual(yield* received(stream.stream.receive), "fin")
        const rest: Array<number> = []
        yield* Effect.forkScoped(
          Effect.forever(Effect.map(control.stream.receive.pull, (chunks) => rest.push(chunks.length)))
        )
        yield* TestClock.adjust("1 minute")
        yield* settle
        assert.deepStrictEqual(rest, [])
      }))
  })

  describe(`A subscriber like the crate, ${profile.name}`, () => {
    it.effect("its FIN does not unsubscribe, its STOP_SENDING 0 does", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publishNumbers(session, ["live"], 1)
        const stream = yield* subscribeLikeTheCrate(peer, 0, "live")
        assert.strictEqual((yield* stream.hear(Info.decode)).latest, 0)
        yield* stream.finish
        const first = yield* peer.takeGroup
        assert.deepStrictEqual([first.sequence, first.frames], [0, ["0"]])
        const next = yield* track.appendGroup
        yield* next.writeFrame(bytes("more"))
        assert.deepStrictEqual((yield* peer.takeGroup).frames, ["more"])
        yield* stream.stream.receive.stop(0)
        yield* settle
        assert.strictEqual(readers(track), 0)
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("a track that ends is finished, after its own FIN or before", () =>
      Effect.gen(function*() {
        for (const finishesFirst of [true, false]) {
          const { peer, session } = yield* client(profile)
          const track = yield* publishNumbers(session, ["live"], 1)
          const stream = yield* subscribeLikeTheCrate(peer, 0, "live")
          yield* stream.hear(Info.decode)
          if (finishesFirst) yield* stream.finish
          const group = yield* peer.takeGroup
          yield* track.finish
          yield* settle
          assert.strictEqual(group.end, "fin")
          assert.strictEqual(yield* received(stream.stream.receive), "fin")
          yield* TestClock.adjust("2 seconds")
        }
      }))

    it.effect("a path that nobody has, INFO, and announces with `live` only where it can be read", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        yield* publishNumbers(session, ["live"], 3)
        assert.deepStrictEqual(yield* (yield* subscribeLikeTheCrate(peer, 0, "dead")).ends, [13, 13])
        const question = yield* peer.open(
          type("info"),
          peer.bytesOf(InfoPlease.encode, { _tag: "InfoPlease", path: ["live"] })
        )
        assert.strictEqual((yield* question.hear(Info.decode)).latest, 2)
        assert.strictEqual(yield* received(question.stream.receive), "fin")
        const announces = yield* peer.open(
          type("announce"),
          peer.bytesOf(AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix: [] })
        )
        // it finishes its side at once, and wants to hear more
        yield* announces.finish
        assert.deepStrictEqual(yield* announces.hear(Announce.decode), {
          _tag: "Announce",
          status: "active",
          suffix: ["live"]
        })
        if (profile.sendsLive) assert.strictEqual((yield* announces.hear(Announce.decode)).status, "live")
        yield* publishNumbers(session, ["more"], 1)
        const next = yield* announces.hear(Announce.decode)
        assert.deepStrictEqual(next.status === "active" && next.suffix, ["more"])
      }))

    it.effect("streams that it should not open cost it those streams", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        yield* publishNumbers(session, ["live"], 1)
        const unknown = written((writer) => writer.varint(9))
        const ends = (open: Effect.Effect<Hand, unknown, never>) => Effect.flatMap(open, (hand) => hand.ends)
        const scope = yield* Effect.scope
        const open = (...chunks: ReadonlyArray<Uint8Array>) => Scope.provide(peer.open(...chunks), scope)
        assert.deepStrictEqual(yield* ends(open(unknown)), [5, 5])
        assert.deepStrictEqual(yield* ends(open(concat(type("session"), Uint8Array.of(0, 0)))), [10, 10])
        assert.strictEqual(yield* stopped(yield* peer.openUni(unknown)), 5)
        const stream = yield* subscribeLikeTheCrate(peer, 0, "live")
        assert.strictEqual((yield* stream.hear(Info.decode)).latest, 0)
      }))

    it.effect("the end of its Session stream is the end of the session", () =>
      Effect.gen(function*() {
        const { control, peer, session } = yield* client(profile)
        yield* control.finish
        yield* settle
        assert.strictEqual((yield* closed(peer.connection))?.code, 0)
        assert.strictEqual((yield* session.closed).by, "local")
      }))
  })
}

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
        const connecting = yield* Effect.forkScoped(connect(left, { greeting: { instance: undefined } }))
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
        yield* failing.fail(new App({ code: 35 }))
        yield* settle
        assert.deepStrictEqual([group.frames, group.end], [["x"], 99])
        yield* track.finish
        yield* settle
        assert.deepStrictEqual(yield* arrived(stream.stream.receive), [0x7f, 0, ...(profile.expires ? [3] : []), 5])
        assert.strictEqual(yield* received(stream.stream.receive), "fin")
      }))

    it.effect.each(
      [
        ["Expired", 0, new Expired({})],
        ["Timeout", 0, new Timeout({})],
        ["Unauthorized", 13, new Unauthorized({})],
        ["Lagged", 0, new Lagged({})],
        ["FrameTooLarge", 14, new FrameTooLarge({})],
        ["Evicted", 0, new Evicted({})],
        ["App", 99, new App({ code: 35 })]
      ] as const
    )("%s is sent as %s", ([, code, error]) =>
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
        const next = yield* takeSubscribe(peer)
        yield* next.stream.say(Info.encode, info(0))
        const after = yield* read(yield* Fiber.join(again))
        yield* whole(peer, next.message.id, 0, "new")
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

    it.effect("an answer counts even when the peer stops the stream before it has taken its end", () =>
      Effect.gen(function*() {
        // a transport may wait with the end of a stream until the other side has it, and hear of a stop meanwhile
        const [left, right] = yield* Memory.pair()
        const connection = new Proxy(left, {
          get: (target, key) =>
            key !== "openBi" ? Reflect.get(target, key) : Effect.map(target.openBi, ({ receive, send }) => ({
              receive,
              send: new Proxy(send, {
                get: (target, key) =>
                  key !== "finish"
                    ? Reflect.get(target, key)
                    : Effect.flatMap(target.stopped, (code) => Effect.fail(new StreamReset({ code })))
              })
            }))
        })
        const connecting = yield* Effect.forkScoped(connect(connection, { profiles: [profile] }))
        const peer = new ByHand(right, profile)
        yield* (yield* peer.accept).write(answer(profile.version))
        const session = yield* Fiber.join(connecting)
        const asking = yield* Effect.forkScoped(session.trackInfo(["live"]))
        const question = yield* peer.acceptType("info")
        yield* question.say(Info.encode, info(3))
        yield* question.finish
        yield* question.stream.receive.stop(0)
        assert.strictEqual((yield* Fiber.join(asking)).latest, 3)
        const subscribing = yield* Effect.forkScoped(session.subscribe(["dead"]))
        const { stream } = yield* takeSubscribe(peer)
        // a transport that does not know the code of a stop says 0
        yield* stream.stream.send.reset(13)
        yield* stream.stream.receive.stop(0)
        assert.strictEqual((yield* failure(subscribing))._tag, "MoqNotFound")
      }))

    it.effect("an announce source that ends says so path by path, then FIN", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const heard: Array<string> = []
        const listening = yield* Effect.forkScoped(
          Stream.runForEach(session.announced(), (event) =>
            Effect.sync(() => event._tag === "Live" ? 0 : heard.push(`${event._tag} ${event.path}`)))
        )
        const { prefix, stream } = yield* takeAnnounce(peer)
        assert.deepStrictEqual(prefix, [])
        yield* announce(stream, "active", "a")
        yield* announce(stream, "active", "b")
        yield* settle
        yield* announce(stream, "ended", "a")
        yield* announce(stream, "ended", "b")
        yield* stream.finish
        yield* settle
        assert.deepStrictEqual(heard, ["Active a", "Active b", "Ended a", "Ended b"])
        assert.strictEqual(ended(listening)?._tag, "Success")
        assert.isUndefined(yield* closed(peer.connection))
      }))
  })
}
