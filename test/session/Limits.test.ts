/** What a session allows its peer: each limit, broken. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import type * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import * as Limits from "../../src/session/Limits.ts"
import { Rate } from "../../src/session/Rate.ts"
import type * as Session from "../../src/session/Session.ts"
import {
  announce,
  type ByHand,
  client,
  closed,
  concat,
  frame,
  type Hand,
  info,
  server,
  stopped,
  takeAnnounce,
  takeFetch,
  takeSubscribe,
  type,
  written
} from "./byHand.ts"
import { ended, failure, owned, read, settle, streams } from "./sessions.ts"

const { draft03 } = Profile

/** A subscription that is answered. */
const subscribed = (peer: ByHand, session: Session.Session, name: string, options?: Subscription.Options) =>
  Effect.gen(function*() {
    const asking = yield* Effect.forkScoped(owned(session.subscribe([name], options)))
    const { message, stream } = yield* takeSubscribe(peer)
    yield* stream.say(Info.encode, info(0))
    const { close, value } = yield* Fiber.join(asking)
    return { id: message.id, stream, track: value, close }
  })

const large = (size: number) => frame("x".repeat(size))

/** Opens a group with frames of the given sizes, and lets them arrive. */
const group = (peer: ByHand, id: number, sequence: number, ...sizes: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    const stream = yield* peer.openUni(peer.header(id, sequence), ...sizes.map(large))
    yield* settle
    return stream
  })

const ended11 = (peer: ByHand) =>
  Effect.gen(function*() {
    const end = yield* closed(peer.connection)
    assert.deepStrictEqual([end?.code, end?.by], [11, "remote"])
    assert.isNotEmpty(end?.reason)
  })

for (const profile of Profile.all) {
  const isDraft = profile === draft03
  const lagged = isDraft ? 26 : 0

  describe(`Limits, ${profile.name}`, () => {
    it.effect("received and not read: above the limit the oldest group goes, the rest goes on", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { unread: 1_000 } })
        const paused = yield* subscribed(peer, session, "paused", { from: 0 })
        const live = yield* subscribed(peer, session, "live", { from: 0 })
        const reading = yield* read(live.track)
        // it is told of, and held without being read
        const pull = yield* paused.track.reader()
        const old = yield* group(peer, paused.id, 0, 400)
        const [first] = yield* pull
        const next = yield* group(peer, paused.id, 1, 500)
        for (let i = 0; i < 5; i++) yield* (yield* group(peer, live.id, i, 50)).finish
        assert.deepStrictEqual([yield* stopped(old), yield* stopped(next)], ["open", "open"])
        yield* next.write([large(150)])
        assert.deepStrictEqual([yield* stopped(old), yield* stopped(next)], [lagged, "open"])
        assert.strictEqual(first._tag === "Group" && first.size, 0)
        if (first._tag === "Group") {
          assert.strictEqual((yield* Effect.flip(Stream.runDrain(first.frames)))._tag, "MoqLagged")
        }
        // one that was complete is told as a gap to those who have not heard of it
        yield* next.finish
        yield* (yield* group(peer, paused.id, 2, 900)).finish
        assert.deepStrictEqual(
          (yield* pull).map((event) => event._tag === "Gap" ? [event.from, event.to, event.code] : event.sequence),
          [[1, 1, 26], 2]
        )
        const late = yield* read(paused.track)
        yield* settle
        assert.deepStrictEqual(late.log.map((entry) => entry.slice(0, 6)), ["0-1!26", "2:xxxx", "2."])
        assert.strictEqual(reading.log.filter((entry) => entry.includes(":")).length, 5)
        // meanwhile everything else goes on
        const asking = yield* Effect.forkScoped(session.trackInfo(["other"]))
        const question = yield* peer.acceptType("info")
        yield* question.hear(InfoPlease.decode)
        yield* question.say(Info.encode, info(7))
        assert.strictEqual((yield* Fiber.join(asking)).latest, 7)
      }))

    it.effect("any amount passes through what is read: whole frames, growing ones, bytes as they come", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { unread: 1_000 } })
        const { id, track } = yield* subscribed(peer, session, "live", { from: 0 })
        const reading = yield* read(track)
        const stream = yield* group(peer, id, 0)
        for (let i = 0; i < 10; i++) {
          yield* stream.write([large(400)])
          yield* settle
          const bytes = large(600)
          yield* stream.write([bytes.slice(0, 300)])
          yield* settle
          yield* stream.write([bytes.slice(300)])
          yield* settle
        }
        assert.strictEqual(reading.log.length, 20)
        assert.strictEqual(yield* stopped(stream), "open")
        // one frame that is larger than all that may be unread, as a relay passes it on
        const big = yield* group(peer, id, 1)
        let seen = 0
        yield* Effect.forkScoped(
          Stream.runForEach(track.group(1)!.frames, (frame) => Effect.sync(() => seen += frame.length))
        )
        const pull = yield* track.group(1)!.reader
        const bytes = large(5_000)
        yield* big.write([bytes.slice(0, 2)])
        const [growing] = yield* pull
        for (let at = 2; at < bytes.length; at += 500) {
          yield* big.write([bytes.slice(at, at + 500)])
          yield* settle
        }
        assert.strictEqual((yield* growing.bytes).length, 5_000)
        assert.strictEqual(seen, 5_000)
        assert.strictEqual(yield* stopped(big), "open")
      }))

    it.effect("a frame that its reader waits for may be larger than all that may be unread", () =>
      Effect.gen(function*() {
        for (const kind of ["frames", "each", "group"] as const) {
          const { peer, session } = yield* server(profile, { limits: { unread: 1_000 } })
          const { id, track } = yield* subscribed(peer, session, "live", { from: 0 })
          const sizes: Array<number> = []
          const add = (payload: Uint8Array) => void sizes.push(payload.length)
          const take = (frames: Stream.Stream<Uint8Array, unknown>) =>
            Stream.runForEach(frames, (payload) => Effect.sync(() => add(payload)))
          yield* Effect.forkScoped(
            kind === "each"
              ? Track.forEachFrame(track, add)
              : kind === "frames"
              ? take(track.frames)
              : Stream.runForEach(track.groups, (group) => take(group.frames))
          )
          const stream = yield* group(peer, id, 0)
          for (const bytes of [large(5_000), large(3_000)]) {
            for (let at = 0; at < bytes.length; at += 500) {
              yield* stream.write([bytes.slice(at, at + 500)])
              yield* settle
            }
          }
          assert.deepStrictEqual([kind, ...sizes], [kind, 5_000, 3_000])
          assert.strictEqual(yield* stopped(stream), "open")
        }
      }))

    it.effect("what is let go of does not count any more", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { unread: 1_000 } })
        const { close, id } = yield* subscribed(peer, session, "a", { from: 0 })
        yield* (yield* group(peer, id, 0, 800)).finish
        yield* close
        const older = yield* subscribed(peer, session, "older", { from: 0 })
        const old = yield* group(peer, older.id, 0, 50)
        const other = yield* subscribed(peer, session, "b", { from: 0 })
        const first = yield* group(peer, other.id, 0, 800)
        assert.deepStrictEqual([yield* stopped(old), yield* stopped(first)], ["open", "open"])
        yield* first.finish
        // it is too old to be kept when the next but one comes
        yield* group(peer, other.id, 1)
        yield* TestClock.adjust("11 seconds")
        const last = yield* group(peer, other.id, 2, 900)
        assert.deepStrictEqual([yield* stopped(old), yield* stopped(last)], ["open", "open"])
        assert.deepStrictEqual(
          (yield* (yield* other.track.reader({ from: 0 }))).map((event) => event._tag === "Gap" && event.code),
          [31, false, false]
        )
      }))

    it.effect("a fetched group counts as well", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { unread: 1_000 } })
        const asking = yield* Effect.forkScoped(session.fetch(["a"], 0))
        const { stream } = yield* takeFetch(peer)
        yield* stream.write(large(600))
        const fetched = yield* Fiber.join(asking)
        yield* stream.write(large(600))
        assert.deepStrictEqual(yield* stream.ends, [lagged, lagged])
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(fetched.frames)))._tag, "MoqLagged")
        assert.strictEqual(fetched.size, 0)
      }))

    it.effect("a frame of more than 16 MiB: its group's stream, 27", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const { id, track } = yield* subscribed(peer, session, "live", { from: 0 })
        const reading = yield* read(track)
        const stream = yield* peer.openUni(peer.header(id, 0), written((writer) => writer.varint(2 ** 24 + 1)))
        assert.strictEqual(yield* stopped(stream), isDraft ? 27 : 14)
        assert.deepStrictEqual(reading.log, ["0!MoqFrameTooLarge"])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    const announced = (limits: Session.Options["limits"]) =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits })
        const heard: Array<string> = []
        const fiber = yield* Effect.forkScoped(
          Stream.runForEach(session.announced(), (event) => Effect.sync(() => heard.push(event._tag)))
        )
        const { stream } = yield* takeAnnounce(peer)
        return { peer, heard, fiber, stream }
      })

    it.effect("more tracks than may be announced at a time: the Announce stream, 11", () =>
      Effect.gen(function*() {
        const { fiber, heard, peer, stream } = yield* announced({ announces: 3, announceRate: 1_000 })
        for (let i = 0; i < 3; i++) yield* announce(stream, "active", `a${i}`)
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* announce(stream, "ended", "a0")
        yield* announce(stream, "active", "a3")
        yield* settle
        assert.isUndefined(ended(fiber))
        yield* announce(stream, "active", "a4")
        assert.strictEqual((yield* failure(fiber))._tag, "MoqBoundsExceeded")
        assert.deepStrictEqual(yield* stream.ends, [11, 11])
        assert.include(heard, "Active")
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("announces that change too fast: the Announce stream, 11", () =>
      Effect.gen(function*() {
        const { fiber, peer, stream } = yield* announced({ announces: 10, announceRate: 2 })
        const flicker = Effect.andThen(announce(stream, "active", "a"), announce(stream, "ended", "a"))
        yield* Effect.repeat(flicker, { times: 4 })
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        yield* flicker
        yield* settle
        assert.isUndefined(ended(fiber))
        yield* announce(stream, "active", "a")
        assert.strictEqual((yield* failure(fiber))._tag, "MoqBoundsExceeded")
        assert.deepStrictEqual(yield* stream.ends, [11, 11])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("more Announce streams than are served at a time: the stream, 11", () =>
      Effect.gen(function*() {
        const { peer } = yield* client(profile, { limits: { announceStreams: 2 } })
        const ask = peer.open(
          concat(type("announce"), peer.bytesOf(AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix: [] }))
        )
        const open: ReadonlyArray<Hand> = [yield* ask, yield* ask]
        yield* settle
        assert.deepStrictEqual(yield* (yield* ask).ends, [11, 11])
        yield* open[0]!.stream.abort(0)
        yield* settle
        const again = yield* ask
        yield* settle
        if (profile.sendsLive) assert.strictEqual((yield* again.hear(Announce.decode)).status, "live")
        assert.deepStrictEqual(yield* again.ends, ["open", "open"])
      }))

    it.effect("too many streams for no live subscription: the session, 11", () =>
      Effect.gen(function*() {
        const { peer } = yield* server(profile, { limits: { strayRate: 5 } })
        const before = streams(peer.connection)
        const stray = Effect.flatMap(peer.group(77, 0, "x"), stopped)
        for (let i = 0; i < 20; i++) assert.strictEqual(yield* stray, 13)
        yield* TestClock.adjust("1 second")
        for (let i = 0; i < 5; i++) assert.strictEqual(yield* stray, 13)
        assert.strictEqual(streams(peer.connection), before)
        yield* peer.group(77, 0, "x")
        yield* ended11(peer)
      }))

    it.effect("too many streams without a header: the session, 11", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { strayStreams: 3, groupsInFlight: 2 } })
        const silent = yield* Effect.replicateEffect(peer.openUni(), 3)
        yield* settle
        assert.isUndefined(yield* closed(peer.connection))
        // those that have waited for 5 seconds are gone
        yield* TestClock.adjust("5 seconds")
        for (const stream of silent) assert.strictEqual(yield* stopped(stream), isDraft ? 3 : 0)
        // a subscription may have so many groups under way
        yield* subscribed(peer, session, "a")
        yield* Effect.replicateEffect(peer.openUni(), 5)
        yield* settle
        assert.isUndefined(yield* closed(peer.connection))
        yield* peer.openUni()
        yield* ended11(peer)
      }))

    it.effect("too many streams that are reset before their header: the session, 11", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { strayResetRate: 2 } })
        const { id } = yield* subscribed(peer, session, "a")
        const reset = (...chunks: ReadonlyArray<Uint8Array>) =>
          Effect.gen(function*() {
            const stream = yield* peer.openUni(...chunks)
            yield* settle
            yield* stream.reset(0)
            yield* settle
          })
        // those of a subscription are how publishers answer congestion
        for (let i = 0; i < 30; i++) yield* reset(peer.header(id, i), frame("x"))
        for (let i = 0; i < 8; i++) yield* reset()
        assert.isUndefined(yield* closed(peer.connection))
        yield* reset(Uint8Array.of(0))
        yield* ended11(peer)
      }))

    it.effect("what was under way when a subscription ended here is no fault of the peer", () =>
      Effect.gen(function*() {
        const limits = { strayRate: 1, strayResetRate: 1, strayStreams: 1, groupsInFlight: 20 }
        const { peer, session } = yield* server(profile, { limits })
        const { close, id } = yield* subscribed(peer, session, "a")
        const early = yield* Effect.replicateEffect(peer.openUni(), 12)
        yield* settle
        yield* close
        for (let i = 0; i < 30; i++) yield* peer.group(id, i, "x")
        for (const stream of early) yield* stream.reset(0)
        yield* settle
        const reset = Effect.flatMap(
          peer.openUni(),
          (stream) => Effect.andThen(settle, Effect.andThen(stream.reset(0), settle))
        )
        // 8 more that it may have had, and 4 that may come anyway
        yield* Effect.replicateEffect(reset, 12)
        assert.isUndefined(yield* closed(peer.connection))
        yield* reset
        yield* ended11(peer)
      }))

    it.effect("but for 10 seconds only", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, { limits: { strayRate: 1, keepAlive: "1 hour" } })
        const { close, id } = yield* subscribed(peer, session, "a")
        yield* close
        yield* settle
        yield* TestClock.adjust("10 seconds")
        for (let i = 0; i < 4; i++) yield* peer.group(id, i, "x")
        yield* settle
        assert.isUndefined(yield* closed(peer.connection))
        yield* peer.group(id, 4, "x")
        yield* ended11(peer)
      }))

    it.effect("a stream that says nothing, or half of something, for 5 seconds: the stream, 3", () =>
      Effect.gen(function*() {
        const { peer } = yield* client(profile, { limits: { firstMessage: "2 seconds" } })
        const nothing = yield* peer.open()
        const half = yield* peer.open(type("subscribe"), Uint8Array.of(0, 2))
        yield* settle
        yield* TestClock.adjust("1999 millis")
        assert.deepStrictEqual(yield* half.ends, ["open", "open"])
        yield* TestClock.adjust("1 millis")
        const code = isDraft ? 3 : 0
        assert.deepStrictEqual([yield* nothing.ends, yield* half.ends], [[code, code], [code, code]])
        assert.isUndefined(yield* closed(peer.connection))
      }))
  })
}

describe("Limits", () => {
  it("are those that are given, else the defaults; none of them is 0", () => {
    assert.deepStrictEqual(Limits.make(), Limits.defaults)
    assert.strictEqual(Limits.make({ unread: 5, drain: 0 }).unread, 5)
    assert.throws(() => Limits.make({ groupsInFlight: 0 }), RangeError)
    assert.throws(() => Limits.make({ strayRate: Number.NaN }), RangeError)
  })

  it.effect("a rate fills up with time, up to its burst", () =>
    Effect.gen(function*() {
      const rate = new Rate(yield* Clock.Clock, 10, 3)
      const take = (times: number) => Array.from({ length: times }, () => rate.take())
      assert.deepStrictEqual(take(4), [true, true, true, false])
      yield* TestClock.adjust("99 millis")
      assert.deepStrictEqual(take(1), [false])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(take(2), [true, false])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(take(4), [true, true, true, false])
      // the clock is set back: nothing is taken away for that
      yield* TestClock.setTime(0)
      assert.deepStrictEqual(take(1), [false])
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(take(3), [true, true, false])
    }))
})
