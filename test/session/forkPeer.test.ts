/**
 * A peer that does what the crate `moq-transfork` does, to the letter: what its publisher and its subscriber say, leave
 * out, and take for what. Nothing may hang, and everything ends as it should.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import {
  announce,
  type ByHand,
  client,
  closed,
  concat,
  gap,
  type Hand,
  info,
  received,
  server,
  stopped,
  takeAnnounce,
  takeFetch,
  takeSubscribe,
  type,
  written
} from "./byHand.ts"
import { bytes, ended, failure, publishNumbers, read, readers, settle, streams } from "./sessions.ts"

const whole = (peer: ByHand, id: number, sequence: number, ...frames: ReadonlyArray<string>) =>
  Effect.flatMap(peer.group(id, sequence, ...frames), (stream) => stream.finish)

/** SUBSCRIBE as the crate writes it: priority 0x80, order 1, no range. */
const subscribeLikeTheCrate = (peer: ByHand, id: number, name: string) =>
  peer.open(
    type("subscribe"),
    Uint8Array.of(id, 1, name.length, ...bytes(name), 0x80, 1, ...(peer.profile.expires ? [0] : []), 0, 0)
  )

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
