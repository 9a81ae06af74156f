/** What a group lets go of once its readers have taken it: see `Group.maxTaken`. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Pull, Stream } from "effect"
import { Lagged } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, brief, nobody, poll, read, settle } from "./fixtures.ts"

const kib = 1024

/** Larger than what is copied into pages: each is a piece of memory of its own. */
const frame = 10 * kib

const maxTaken = 64 * kib

const numbered = (number: number, size = frame) => new Uint8Array(size).fill(number)

const number = (payload: Uint8Array) => String(payload[0])

const upTo = (count: number) => Array.from({ length: count }, (_, i) => String(i))

const start = (cache: Track.CacheOptions = { maxTaken }) =>
  Effect.gen(function*() {
    const track = Track.makeUnsafe(yield* Clock.Clock, ["live"], { cache })
    const producer = track.appendGroupUnsafe()!
    return { track, producer, group: producer.group }
  })

/** Writes frames, and lets them be read, a few at a time. */
const write = (producer: Group.Producer, from: number, to: number) =>
  Effect.gen(function*() {
    for (let i = from; i < to; i++) {
      assert.isTrue(producer.writeFrameUnsafe(numbered(i)))
      if (i % 4 === 3) yield* settle
    }
    yield* settle
  })

describe("Group.maxTaken", () => {
  it.effect("beyond it, nothing that was taken is kept but the last frame", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      const { got } = yield* read(group.frames, number)
      yield* write(producer, 0, 4)
      assert.deepStrictEqual([group.first, group.size], [0, 4 * frame])
      yield* write(producer, 4, 100)
      assert.deepStrictEqual([group.first, group.count, group.size], [99, 100, frame])
      assert.deepStrictEqual(got, upTo(100))
      // pieces that are put together go page by page
      for (let i = 0; i < 4_000; i++) {
        producer.writeFrameUnsafe(numbered(1, 100))
        if (i % 100 === 0) yield* settle
      }
      yield* settle
      assert.isBelow(group.size, 2 * maxTaken)
      assert.strictEqual(got.length, 4_100)
    }))

  it.effect("whoever is slower keeps what it has not read", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      const slow = yield* group.reader
      const { got } = yield* read(group.frames, number)
      yield* write(producer, 0, 100)
      assert.strictEqual(got.length, 100)
      assert.deepStrictEqual([group.first, group.size], [0, 100 * frame])
      const batch = yield* slow
      assert.deepStrictEqual(batch.map((frame) => number(frame.payload!)), upTo(100))
      assert.strictEqual(group.size, frame)
    }))

  it.effect("when the slowest goes, what it had not read goes", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      const slow = yield* Effect.forkChild(Effect.scoped(Effect.andThen(group.reader, Effect.never)), {
        startImmediately: true
      })
      const { fiber, got } = yield* read(group.frames, number)
      yield* write(producer, 0, 50)
      assert.strictEqual(group.size, 50 * frame)
      yield* Fiber.interrupt(slow)
      assert.strictEqual(group.size, frame)
      yield* producer.finish
      yield* Fiber.join(fiber)
      assert.strictEqual(got.length, 50)
      assert.deepStrictEqual(attached(group), nobody)
    }))

  it.effect("who has left keeps nothing for others, and lets nothing go either", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      yield* write(producer, 0, 20)
      assert.strictEqual(group.size, 20 * frame)
      yield* Effect.scoped(Effect.asVoid(group.reader))
      assert.strictEqual(group.size, 20 * frame)
      const { got } = yield* read(group.frames, number)
      assert.deepStrictEqual(got, upTo(20))
      assert.strictEqual(group.size, frame)
    }))

  it.effect("once it has ended and all is taken, its last frame goes too", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      const slow = yield* group.reader
      const { fiber, got } = yield* read(group.frames, number)
      yield* write(producer, 0, 20)
      yield* producer.finish
      yield* Fiber.join(fiber)
      assert.deepStrictEqual([got.length, group.size], [20, 20 * frame])
      assert.strictEqual((yield* slow).length, 20)
      assert.deepStrictEqual([group.first, group.count, group.size], [20, 20, 0])
      assert.isTrue(Pull.isDoneCause(yield* Effect.flip(Effect.sandbox(slow))))
    }))

  it.effect("the last frame goes with an end that comes behind it, but not of a group that is a place to join", () =>
    Effect.gen(function*() {
      const { group, producer, track } = yield* start()
      const { fiber } = yield* read(group.frames, number)
      yield* write(producer, 0, 20)
      assert.strictEqual(group.size, frame)
      yield* producer.finish
      yield* Fiber.join(fiber)
      assert.strictEqual(group.size, 0)
      const small = track.appendGroupUnsafe()!
      const reading = yield* read(small.group.frames, number)
      yield* write(small, 0, 4)
      yield* small.finish
      yield* Fiber.join(reading.fiber)
      assert.strictEqual(small.group.size, 4 * frame)
      const large = track.appendGroupUnsafe()!
      const another = yield* read(large.group.frames, number)
      assert.isTrue(large.writeFrameUnsafe(numbered(1, 2 * maxTaken)))
      yield* large.finish
      yield* Fiber.join(another.fiber)
      assert.strictEqual(large.group.size, 2 * maxTaken)
    }))

  it.effect("it is no place to join any more", () =>
    Effect.gen(function*() {
      const { group, producer, track } = yield* start()
      yield* write(producer, 0, 6)
      yield* read(group.frames, number)
      assert.isTrue(Track.isWholeFrom(track.track, "latest"))
      const inTime = yield* read(group.frames, number)
      assert.deepStrictEqual(inTime.got, upTo(6))
      yield* write(producer, 6, 20)
      assert.isFalse(Track.isWholeFrom(track.track, "latest"))
      assert.isFalse(Track.isWholeFrom(track.track, 0))
      assert.isTrue(Track.isWholeFrom(track.track, 1))
      assert.instanceOf(yield* Effect.flip(Stream.runDrain(group.frames)), Lagged)
      const late = yield* read(track.track.events, brief)
      assert.deepStrictEqual(late.got, ["0-0!31"])
      // the others go on, and so does the next group
      yield* write(producer, 20, 24)
      assert.deepStrictEqual(inTime.got, upTo(24))
      assert.isTrue(track.appendGroupUnsafe()!.writeFrameUnsafe(numbered(0)))
      assert.isTrue(Track.isWholeFrom(track.track, "latest"))
      assert.isFalse(Track.isWholeFrom(track.track, 0))
      yield* settle
      assert.deepStrictEqual(late.got, ["0-0!31", "1"])
    }))

  it.effect("a frame that grows is not touched, and comes whole", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      const pull = yield* group.reader
      yield* write(producer, 0, 12)
      assert.strictEqual((yield* pull).length, 12)
      const growing = yield* producer.createFrame(20 * frame)
      const [given] = yield* pull
      const chunks = yield* read(given!.chunks, number)
      for (let i = 0; i < 20; i++) {
        assert.isTrue(growing.writeUnsafe(numbered(i)))
        yield* settle
        assert.strictEqual(group.size, (i + 1) * frame)
      }
      assert.deepStrictEqual(chunks.got, upTo(20))
      assert.strictEqual((yield* given!.bytes).length, 20 * frame)
      yield* write(producer, 0, 1)
      assert.strictEqual((yield* pull).length, 1)
      assert.strictEqual(group.size, frame)
    }))

  it.effect("bytes that end inside of a frame are kept until all of it was taken", () =>
    Effect.gen(function*() {
      const { group } = yield* start()
      const body = Group.bodyOf(group)
      const place = Body.openUnsafe(body)
      const out: Array<Uint8Array> = []
      // frames of 10 KiB in chunks of 7 KiB, taken at once
      const wire = new Uint8Array(40 * (4 + frame))
      for (let i = 0; i < 40; i++) wire.set([0x80, 0, frame >> 8, frame & 255, i], i * (4 + frame))
      for (let at = 0; at < wire.length; at += 7 * kib) {
        Body.feedUnsafe(body, wire.slice(at, at + 7 * kib))
        Body.takeBytesUnsafe(body, place, Infinity, out)
        assert.isBelow(group.size, maxTaken + 4 * frame)
      }
      assert.strictEqual(group.count, 40)
      assert.isAtLeast(group.first, 38)
      const taken = new Uint8Array(wire.length)
      let at = 0
      for (const view of out) {
        taken.set(view, at)
        at += view.length
      }
      assert.deepStrictEqual(taken, wire)
      assert.strictEqual(Body.framesUntil(body, place), 40)
      assert.strictEqual(Body.payloadUntil(body, place), 40 * frame)
    }))

  it.effect("many readers, each at its own pace, all get everything; what is kept is what the slowest lacks", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start()
      const pulls = yield* Effect.all(Array.from({ length: 20 }, () => group.reader))
      const got = pulls.map(() => 0)
      let seed = 1
      const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
      for (let written = 0; written < 120; written++) {
        producer.writeFrameUnsafe(numbered(written))
        for (let i = 0; i < 4; i++) {
          const who = Math.floor(random() * pulls.length)
          for (const taken of (yield* poll(pulls[who]!)) ?? []) {
            assert.strictEqual(number(taken.payload!), String(got[who]!++))
          }
          const slowest = Math.min(...got)
          assert.isAtMost(group.first, slowest)
          // the last frame stays, and the first of all until it is too much
          if ((written + 1) * frame > maxTaken && slowest > 0) {
            assert.strictEqual(group.first, Math.min(slowest, written))
          }
        }
      }
      yield* producer.finish
      for (const [who, pull] of pulls.entries()) {
        yield* pull.pipe(
          Effect.tap((batch) => Effect.sync(() => void (got[who]! += batch.length))),
          Effect.forever,
          Pull.catchDone(() => Effect.void)
        )
      }
      assert.deepStrictEqual(got, pulls.map(() => 120))
    }))

  it.effect("whoever bounds many tracks hears of what goes, also once the group has ended", () =>
    Effect.gen(function*() {
      const kept = { bytes: 0, frames: 0, groups: 0 }
      const account = {
        change: (bytes: number, frames: number, groups: number) => {
          kept.bytes += bytes
          kept.frames += frames
          kept.groups += groups
        },
        spare: () => {}
      }
      const { group, producer, track } = yield* start({ account, maxTaken })
      const early = yield* group.reader
      yield* write(producer, 0, 20)
      yield* producer.finish
      assert.deepStrictEqual(kept, { bytes: 20 * frame, frames: 20, groups: 1 })
      yield* early
      assert.deepStrictEqual(kept, { bytes: 0, frames: 0, groups: 1 })
      const second = track.appendGroupUnsafe()!
      const behind = yield* second.group.reader
      yield* write(second, 0, 20)
      yield* second.finish
      yield* track.appendGroup
      Track.evictUnsafe(track, 1)
      assert.deepStrictEqual(kept, { bytes: 0, frames: 0, groups: 1 })
      // no longer kept, and still read
      assert.strictEqual((yield* behind).length, 20)
      assert.strictEqual(second.group.size, 0)
      assert.deepStrictEqual(kept, { bytes: 0, frames: 0, groups: 1 })
    }))

  it.effect("a group of any other track keeps what it may", () =>
    Effect.gen(function*() {
      const { group, producer } = yield* start({})
      const { got } = yield* read(group.frames, number)
      yield* write(producer, 0, 200)
      assert.strictEqual(got.length, 200)
      assert.deepStrictEqual([group.first, group.size], [0, 200 * frame])
    }))
})
