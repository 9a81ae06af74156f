/**
 * The requests of the protocol, as a user makes them: one group from any frame, what there is to know of a track, ranges
 * in the past and in the future, changes of a subscription, gaps, rates.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App, toCode } from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as Track from "../../src/model/Track.ts"
import { encode } from "../../src/session/MessageStream.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { ByHand, type } from "../session/byHand.ts"
import { bytes, pair, read, settle, text } from "../session/sessions.ts"

/** A client, a server that publishes, and a track of it with the given groups. */
const publishing = (
  profile: Profile.Profile,
  groups: ReadonlyArray<ReadonlyArray<string>>,
  info?: Partial<Track.TrackInfo>
) =>
  Effect.gen(function*() {
    const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
    const track = yield* Track.make(["room", "clock"], info)
    yield* server.publish(track.track)
    for (const frames of groups) {
      const group = yield* track.appendGroup
      for (const frame of frames) yield* group.writeFrame(bytes(frame))
      yield* group.finish
    }
    return { client, server, track }
  })

const path = ["room", "clock"]

const texts = <E>(frames: Stream.Stream<Uint8Array, E>) =>
  Effect.map(Stream.runCollect(frames), (frames) => frames.map(text))

/** Lets what waits for the end of a quiet time come to its end. */
const calm = Effect.gen(function*() {
  yield* settle
  yield* TestClock.adjust("3 seconds")
  yield* settle
})

const minutes = [["0:00", "0:01", "0:02"], ["1:00", "1:01"], ["2:00"]]

for (const profile of Profile.all) {
  const isDraft = profile.name === "draft03"

  describe(`promise 10, ${profile.name}`, () => {
    it.effect("FETCH gives one group that is cached, from any frame", () =>
      Effect.gen(function*() {
        const { client, track } = yield* publishing(profile, minutes)
        const whole = yield* client.fetch(path, 0)
        assert.deepStrictEqual(yield* texts(whole.frames), ["0:00", "0:01", "0:02"])
        const tail = yield* client.fetch(path, 0, { frame: 2, priority: 5 })
        assert.deepStrictEqual([tail.sequence, tail.first, yield* texts(tail.frames)], [0, 2, ["0:02"]])
        // one that is still being written goes on
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("3:00"))
        const growing = yield* client.fetch(path, 3)
        const reading = yield* Effect.forkChild(texts(growing.frames))
        yield* settle
        yield* group.writeFrame(bytes("3:01"))
        yield* group.finish
        assert.deepStrictEqual(yield* Fiber.join(reading), ["3:00", "3:01"])
      }))

    it.effect("FETCH of what is not there fails with a reason", () =>
      Effect.gen(function*() {
        const { client, track } = yield* publishing(profile, [["old"], ["new"]])
        assert.strictEqual((yield* Effect.flip(client.fetch(path, 7)))._tag, "MoqNotFound")
        assert.strictEqual((yield* Effect.flip(client.fetch(["nobody"], 0)))._tag, "MoqNotFound")
        yield* TestClock.adjust("11 seconds")
        yield* track.appendGroup
        const error = yield* Effect.flip(client.fetch(path, 0))
        // the crate has no code for it
        assert.strictEqual(error._tag, isDraft ? "MoqEvicted" : "MoqNotSupportedByPeer")
      }))

    it.effect("INFO tells of a track, with and without a subscription to it", () =>
      Effect.gen(function*() {
        const { client } = yield* publishing(profile, minutes, { priority: 3, order: "asc", expires: 500 })
        const expected = { priority: 3, order: "asc", expires: profile.expires ? 500 : 0 } as const
        assert.deepStrictEqual(yield* client.trackInfo(path), { ...expected, latest: 2 })
        const subscription = yield* client.subscribe(path)
        assert.deepStrictEqual(subscription.info, expected)
        assert.deepStrictEqual(yield* client.trackInfo(path), { ...expected, latest: 2 })
        assert.strictEqual((yield* Effect.flip(client.trackInfo(["nobody"])))._tag, "MoqNotFound")
      }))

    it.effect("a range in the past: what is cached of it comes, then the end", () =>
      Effect.gen(function*() {
        const { client } = yield* publishing(profile, [...minutes, ["3:00"], ["4:00"]])
        const reading = yield* read(yield* client.subscribe(path, { from: 1, to: 2 }))
        yield* calm
        assert.deepStrictEqual(reading.log.filter((entry) => entry.includes(":")).sort(), [
          "1:1:00",
          "1:1:01",
          "2:2:00"
        ])
        assert.strictEqual(reading.fiber.pollUnsafe()?._tag, "Success")
      }))

    it.effect("a range in the future: it begins and ends when its groups do", () =>
      Effect.gen(function*() {
        const { client, track } = yield* publishing(profile, minutes)
        const reading = yield* read(yield* client.subscribe(path, { from: 4, to: 5 }))
        for (let sequence = 3; sequence < 8; sequence++) {
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes(`${sequence}:00`))
          yield* group.finish
          yield* settle
        }
        yield* calm
        assert.deepStrictEqual(reading.log.filter((entry) => entry.includes(":")), ["4:4:00", "5:5:00"])
        assert.strictEqual(reading.fiber.pollUnsafe()?._tag, "Success")
      }))

    it.effect("UPDATE changes priority, order, expires and range", () =>
      Effect.gen(function*() {
        const { client, track } = yield* publishing(profile, minutes)
        const subscription = yield* client.subscribe(path, { from: 0 })
        const change = subscription.update({ priority: 9, order: "asc", expires: 1_000, from: 3, to: 4 })
        if (!isDraft) {
          // the crate takes none; the subscription stays as it is
          assert.strictEqual((yield* Effect.flip(change))._tag, "MoqNotSupportedByPeer")
          assert.deepStrictEqual(subscription.request, { from: 0 })
          return
        }
        yield* change
        assert.deepStrictEqual(subscription.request, { priority: 9, order: "asc", expires: 1_000, from: 3, to: 4 })
        assert.strictEqual((yield* Effect.flip(subscription.update({ to: 5 })))._tag, "MoqBoundsExceeded")
        assert.strictEqual((yield* Effect.flip(subscription.update({ from: 2 })))._tag, "MoqBoundsExceeded")
        const reading = yield* read(subscription)
        for (const frame of ["3:00", "4:00", "5:00"]) {
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes(frame))
          yield* group.finish
          yield* settle
        }
        assert.deepStrictEqual(reading.log.filter((entry) => entry.includes(":")), ["3:3:00", "4:4:00"])
        assert.strictEqual(reading.fiber.pollUnsafe()?._tag, "Success")
      }))

    it.effect("a group that will not come is a gap, with its range and a code", () =>
      Effect.gen(function*() {
        const { client, track } = yield* publishing(profile, [["a"]])
        const reading = yield* read(yield* client.subscribe(path, { from: 0 }))
        yield* settle
        yield* track.gap({ from: 1, to: 3, code: toCode(new App({ code: 2 })) })
        const group = yield* track.createGroup(4)
        yield* group.writeFrame(bytes("e"))
        yield* group.finish
        yield* calm
        // the crate says nothing of groups that it leaves out: time tells, with a code for that
        const gap = isDraft ? "1-3!66" : "1-3!31"
        assert.deepStrictEqual([...reading.log].sort(), ["0.", "0:a", gap, "4.", "4:e"])
      }))

    it.effect("a group that fails fails alone, with the code of its publisher", () =>
      Effect.gen(function*() {
        const { client, track } = yield* publishing(profile, [])
        const reading = yield* read(yield* client.subscribe(path))
        yield* settle
        const broken = yield* track.appendGroup
        yield* broken.writeFrame(bytes("a"))
        yield* settle
        yield* broken.fail(new App({ code: 7 }))
        const whole = yield* track.appendGroup
        yield* whole.writeFrame(bytes("b"))
        yield* whole.finish
        yield* calm
        assert.deepStrictEqual(reading.log, ["0:a", "0!MoqApp", "1:b", "1."])
      }))

    it.effect("SESSION_UPDATE: each side may tell the rate at which it can send", () =>
      Effect.gen(function*() {
        const { client, server } = yield* publishing(profile, [])
        if (!isDraft) {
          assert.strictEqual((yield* Effect.flip(server.reportBitrate(1)))._tag, "MoqNotSupportedByPeer")
          return
        }
        const heard = yield* Effect.forkChild(Stream.runCollect(Stream.take(client.bitrate, 2)))
        yield* settle
        yield* server.reportBitrate(2_500_000)
        yield* settle
        yield* server.reportBitrate(undefined)
        assert.deepStrictEqual(yield* Fiber.join(heard), [2_500_000, undefined])
      }))

    it.effect("extensions of SETUP that nobody here knows are no obstacle", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair()
        const accepting = yield* Effect.forkScoped(Session.accept(right, { profiles: [profile] }))
        const peer = new ByHand(left, profile)
        const extension = { id: 4_242, payload: bytes("from the future") }
        const control = yield* peer.open(
          type("session"),
          encode(
            SessionClient.encode,
            { _tag: "SessionClient", versions: [profile.version], extensions: [extension] },
            profile
          )
        )
        const answer = yield* control.hear(SessionServer.decode)
        assert.deepStrictEqual([answer.version, answer.extensions], [profile.version, []])
        const session = yield* Fiber.join(accepting)
        yield* session.publish((yield* Track.make(path, { priority: 4 })).track)
        const stream = yield* peer.subscribe(path)
        assert.strictEqual((yield* stream.hear(Info.decode)).priority, 4)
      }))
  })
}
