/**
 * The crate `moq-transfork`, to the letter, on one side of a relay, with draft-03 on the other. What is the crate's here
 * is byte by byte what it says, and what it leaves out.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Evicted, Expired } from "../../src/core/MoqError.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as Fetch from "../../src/message/Fetch.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as Memory from "../../src/transport/Memory.ts"
import {
  announce,
  arrived,
  ByHand,
  gap,
  hello,
  info,
  received,
  subscribeLikeTheCrate,
  takeAnnounce,
  takeFetch,
  takeSubscribe,
  type,
  whole
} from "../session/byHand.ts"
import { streams } from "../session/sessions.ts"
import { bytes, listen, publish, settle, start, view } from "./relays.ts"

/** A client of a relay that speaks by hand. */
const joined = (relay: Effect.Success<ReturnType<typeof start>>, profile: Profile.Profile, path = "") =>
  Effect.gen(function*() {
    const connection = yield* relay.network.transport.connect(new URL(`https://relay.example${path}`))
    const peer = new ByHand(connection, profile)
    const control = yield* peer.open(hello([profile.version]))
    assert.strictEqual((yield* control.hear(SessionServer.decode)).version, profile.version)
    return { peer, control }
  })

for (const profile of [Profile.fork02, Profile.fork04]) {
  describe(`A relay, ${profile.name}`, () => {
    it.effect("the crate publishes, draft-03 views: skips are gaps, drops keep their code, the end is clean", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: crate } = yield* joined(relay, profile, "/room")
        const { prefix, stream: announces } = yield* takeAnnounce(crate)
        assert.deepStrictEqual(prefix, [])
        yield* announce(announces, "active", "live")
        yield* settle
        const { peer: viewer } = yield* joined(relay, Profile.draft03)
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
        const { peer: crate } = yield* joined(relay, profile)
        const announces = (yield* takeAnnounce(crate)).stream
        yield* announce(announces, "active", "live")
        yield* settle
        const { peer: viewer } = yield* joined(relay, Profile.draft03)
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
        assert.deepStrictEqual(yield* arrived(seen.stream.receive), [])
        assert.strictEqual(yield* received(seen.stream.receive), "fin")
      }))

    it.effect("draft-03 publishes, the crate views: INFO and groups, the end, codes, and it leaves by dropping", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: crate } = yield* joined(relay, profile)
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
        yield* settle
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

        const still = yield* publish(source, ["other"])
        const other = yield* subscribeLikeTheCrate(crate, 2, "other")
        yield* other.hear(Info.decode)
        yield* other.finish
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(relay.count("UpstreamClosed", "other"), 0)
        yield* still.group("still")
        yield* settle
        assert.deepStrictEqual((yield* crate.takeGroup).frames, ["still"])
        yield* other.stream.receive.stop(0)
        yield* settle
        assert.strictEqual(relay.count("UpstreamClosed", "other"), 1)
      }))

    it.effect("a crate that publishes the same path anew, told by both statuses at once", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: crate } = yield* joined(relay, profile)
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
        const next = yield* takeSubscribe(crate)
        yield* next.stream.say(Info.encode, info(0))
        yield* whole(crate, next.message.id, 0, "new")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(heard.heard, ["+live", "live", "-live", "+live"])
        assert.deepStrictEqual([before.got, after.got], [["old"], ["new"]])
        assert.deepStrictEqual(yield* before.ended, Exit.void)
      }))

    it.effect("one that comes back with a session of its own serves who asks then, from 0 again", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: first } = yield* joined(relay, profile)
        yield* announce((yield* takeAnnounce(first)).stream, "active", "a")
        yield* settle
        const { peer: viewer } = yield* joined(relay, profile)
        const announces = yield* viewer.open(type("announce"), Uint8Array.of(0))
        const live = profile.sendsLive ? [2] : []
        assert.deepStrictEqual(yield* arrived(announces.stream.receive), [1, 1, 1, 0x61, ...live])
        const before = yield* subscribeLikeTheCrate(viewer, 0, "a")
        const old = yield* takeSubscribe(first)
        yield* old.stream.say(Info.encode, info(9))
        yield* whole(first, old.message.id, 9, "old")
        assert.deepStrictEqual((yield* viewer.takeGroup).frames, ["old"])
        // the new one is there before the old one is missed: it is asked for what follows, and has begun anew
        const { peer: second } = yield* joined(relay, profile)
        yield* announce((yield* takeAnnounce(second)).stream, "active", "a")
        yield* settle
        assert.strictEqual((yield* first.connection.closed).code, 12)
        assert.deepStrictEqual(yield* arrived(announces.stream.receive), [])
        const probe = yield* takeSubscribe(second)
        yield* probe.stream.say(Info.encode, info(0))
        yield* settle
        // never active twice, nor ended twice: that would cost the crate its Announce stream
        assert.deepStrictEqual(yield* arrived(announces.stream.receive), [0, 1, 1, 0x61, 1, 1, 1, 0x61])
        assert.strictEqual(yield* received(before.stream.receive), 0)
        const after = yield* subscribeLikeTheCrate(viewer, 1, "a")
        const next = yield* takeSubscribe(second)
        yield* next.stream.say(Info.encode, info(0))
        yield* whole(second, next.message.id, 0, "new")
        assert.strictEqual((yield* after.hear(Info.decode)).latest, 0)
        const group = yield* viewer.takeGroup
        assert.deepStrictEqual([group.subscribe, group.sequence, group.frames], [1, 0, ["new"]])
        // the drop of its Announce stream is the end of that
        const open = streams(viewer.connection)
        yield* announces.finish
        yield* announces.stream.receive.stop(0)
        yield* settle
        assert.strictEqual(streams(viewer.connection), open - 1)
      }))

    it.effect("who is told of a path anew and asks at once is not given what is about to end", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: crate } = yield* joined(relay, profile)
        const { origin } = relay.relay
        yield* Effect.forkScoped(
          Stream.runForEach(origin.announced(), (event) =>
            event._tag === "Active"
              ? Effect.asVoid(Effect.forkScoped(Effect.ignore(origin.subscribe(event.path))))
              : Effect.void)
        )
        const announces = (yield* takeAnnounce(crate)).stream
        yield* announce(announces, "active", "a")
        const old = yield* takeSubscribe(crate)
        yield* old.stream.say(Info.encode, info(5))
        yield* settle
        yield* announces.write(Uint8Array.of(0, 1, 1, 0x61, 1, 1, 1, 0x61))
        const next = yield* Effect.forkScoped(takeSubscribe(crate))
        yield* settle
        assert.strictEqual(next.pollUnsafe()?._tag, "Success")
      }))

    it.effect.each(
      [["fin", 0], ["reset", 4], ["close", 0], ["kill", 4]] as const
    )("the end of its session, by %s, fails its tracks with %s", ([how, code]) =>
      Effect.gen(function*() {
        const relay = yield* start({ linger: 0 })
        const { control, peer: crate } = yield* joined(relay, profile)
        yield* announce((yield* takeAnnounce(crate)).stream, "active", "live")
        yield* settle
        const { peer: viewer } = yield* joined(relay, Profile.draft03)
        const seen = yield* viewer.subscribe(["live"])
        const { message, stream } = yield* takeSubscribe(crate)
        yield* stream.say(Info.encode, info(0))
        yield* crate.group(message.id, 0, "a")
        const group = yield* viewer.takeGroup
        switch (how) {
          case "fin":
            yield* control.finish
            break
          case "reset":
            yield* control.stream.send.reset(4)
            break
          case "close":
            yield* crate.connection.close(0, "cancelled")
            break
          case "kill":
            yield* Memory.kill(crate.connection)
        }
        yield* settle
        assert.deepStrictEqual([group.end, yield* received(seen.stream.receive)], [code, code])
        assert.deepStrictEqual(relay.relay.origin.paths, [])
      }))

    it.effect("FETCH of what is not cached is NotFound, however the crate refuses it, and never waits for ever", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: crate } = yield* joined(relay, profile)
        yield* announce((yield* takeAnnounce(crate)).stream, "active", "live")
        yield* settle
        const { peer: viewer } = yield* joined(relay, Profile.draft03)
        const fetch = viewer.open(
          type("fetch"),
          viewer.bytesOf(Fetch.encode, { _tag: "Fetch", path: ["live"], priority: 0, group: 1, frame: 0 })
        )
        for (const how of ["drop", 13, 501] as const) {
          const asking = yield* fetch
          const { stream } = yield* takeFetch(crate)
          if (how === "drop") {
            yield* stream.finish
            yield* stream.stream.receive.stop(0)
          } else yield* stream.stream.abort(how)
          yield* settle
          assert.strictEqual((yield* asking.ends)[0], 13, String(how))
        }
        const waiting = yield* fetch
        yield* takeFetch(crate)
        yield* TestClock.adjust("10 seconds")
        yield* settle
        assert.strictEqual((yield* waiting.ends)[0], 3)
      }))

    it.effect("a viewer that drops its stream in the middle of a group lets go of all", () =>
      Effect.gen(function*() {
        const relay = yield* start()
        const { peer: crate } = yield* joined(relay, profile)
        const publisher = yield* publish(yield* relay.connect("", { profiles: [Profile.draft03] }), ["live"])
        const stream = yield* subscribeLikeTheCrate(crate, 0, "live")
        yield* stream.hear(Info.decode)
        const open = yield* publisher.track.appendGroup
        yield* open.writeFrame(Uint8Array.of(0x61))
        yield* settle
        const group = yield* crate.takeGroup
        assert.deepStrictEqual([group.frames, group.end], [["a"], "open"])
        yield* stream.finish
        yield* stream.stream.receive.stop(0)
        yield* settle
        assert.deepStrictEqual([group.end, relay.count("UpstreamClosed", "live")], [0, 1])
      }))
  })
}
