import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Evicted } from "../../src/core/MoqError.ts"
import * as Gap from "../../src/model/Gap.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import * as TrackOrdered from "../../src/model/TrackOrdered.ts"
import { brief, read, settle } from "./fixtures.ts"

/** Events from nowhere, in any order. */
const setup = (options?: Parameters<typeof TrackOrdered.ordered>[0]) =>
  Effect.gen(function*() {
    const track = yield* Track.make(["a"])
    const reading = yield* read(Track.range(track.track, { from: 0 }).events.pipe(TrackOrdered.ordered(options)), brief)
    const begin = (...sequences: ReadonlyArray<number>) =>
      Effect.gen(function*() {
        for (const sequence of sequences) yield* track.createGroup(sequence)
        yield* settle
      })
    return { ...reading, track, begin }
  })

describe("TrackOrdered", () => {
  it.effect("lets pass at once what comes in sequence", () =>
    Effect.gen(function*() {
      const { begin, got, track } = yield* setup()
      yield* begin(0, 1)
      yield* track.gap({ from: 2, to: 4, code: 2 })
      yield* begin(5)
      assert.deepStrictEqual(got, ["0", "1", "2-4!2", "5"])
    }))

  it.effect("holds back what comes early until what is missing has come", () =>
    Effect.gen(function*() {
      const { begin, got, track } = yield* setup()
      yield* begin(0)
      yield* begin(3)
      yield* begin(2)
      assert.deepStrictEqual(got, ["0"])
      yield* begin(1)
      assert.deepStrictEqual(got, ["0", "1", "2", "3"])
      yield* begin(6)
      yield* track.gap({ from: 4, to: 5, code: 2 })
      yield* settle
      assert.deepStrictEqual(got.slice(4), ["4-5!2", "6"])
    }))

  it.effect("gives up what is missing after a while, and leaves it out should it still come", () =>
    Effect.gen(function*() {
      const { begin, got } = yield* setup({ maxWait: "500 millis" })
      yield* begin(0, 3)
      yield* TestClock.adjust("499 millis")
      assert.deepStrictEqual(got, ["0"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(got, ["0", "1-2!3", "3"])
      yield* begin(2, 1, 4)
      assert.deepStrictEqual(got, ["0", "1-2!3", "3", "4"])
    }))

  it.effect("holds nothing longer than that, however much is missing before it", () =>
    Effect.gen(function*() {
      const { begin, got } = yield* setup({ maxWait: "500 millis" })
      yield* begin(0, 6)
      yield* TestClock.adjust("300 millis")
      yield* begin(2)
      yield* begin(8)
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(got, ["0", "1-1!3", "2", "3-5!3", "6"])
      yield* TestClock.adjust("299 millis")
      assert.strictEqual(got.length, 5)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(got.slice(5), ["7-7!3", "8"])
    }))

  it.effect("begins where it is told to", () =>
    Effect.gen(function*() {
      const { begin, got } = yield* setup({ from: 2, maxWait: "500 millis" })
      yield* begin(0, 3)
      assert.deepStrictEqual(got, [])
      yield* begin(2)
      assert.deepStrictEqual(got, ["2", "3"])
    }))

  it.effect("ends with what it holds", () =>
    Effect.gen(function*() {
      const { begin, fiber, got, track } = yield* setup({ maxWait: "1 hour" })
      yield* begin(0, 2, 5)
      yield* track.fail(new Evicted({}))
      assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), Evicted)
      assert.deepStrictEqual(got, ["0", "1-1!3", "2", "3-4!3", "5"])
    }))

  it.effect("fits the part of a gap that is still expected", () =>
    Effect.gen(function*() {
      const events = Stream.make(Gap.make(0, 3, 2), Gap.make(2, 6, 9), Gap.make(1, 5, 9), Gap.make(7, 7, 9))
      const got = yield* Stream.runCollect(events.pipe(TrackOrdered.ordered()))
      assert.deepStrictEqual(got.map(brief), ["0-3!2", "4-5!9", "6-6!9", "7-7!9"])
    }))

  it.effect("does not break a stream that would not survive the interruption of its pull", () =>
    Effect.gen(function*() {
      const queue = yield* Queue.unbounded<number>()
      const interrupted: Array<number> = []
      const events = Stream.fromQueue(queue).pipe(
        Stream.rechunk(1),
        Stream.mapEffect((sequence) =>
          Effect.sleep("2 seconds").pipe(
            Effect.as(Group.makeUnsafe(sequence).group),
            Effect.onInterrupt(() => Effect.sync(() => void interrupted.push(sequence)))
          )
        )
      )
      const { got } = yield* read(events.pipe(TrackOrdered.ordered({ maxWait: "1 second" })), brief)
      yield* Queue.offerAll(queue, [0, 2, 3, 1, 4])
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(interrupted, [])
      assert.deepStrictEqual(got, ["0", "1-1!3", "2", "3", "4"])
    }))

  it.effect.prop("gives each sequence once and in order, whatever comes when", [
    Schema.Array(Schema.Tuple([
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 })),
      Schema.Literals([0, 0, 100, 400, 600])
    ])).check(Schema.isMaxLength(20))
  ], ([steps]) =>
    Effect.gen(function*() {
      const { fiber, got, track } = yield* setup({ maxWait: "500 millis", from: 0 })
      for (const [sequence, wait] of steps) {
        if (sequence === 12) yield* track.gap({ from: 3, to: 5, code: 2 })
        else yield* Effect.exit(track.createGroup(sequence))
        yield* TestClock.adjust(wait)
      }
      yield* track.finish
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.void)
      let next = 0
      for (const event of got) {
        const [, from, to] = /^(\d+)(?:-(\d+)!\d+)?$/.exec(event)!
        assert.strictEqual(Number(from), next)
        next = Number(to ?? from) + 1
      }
      assert.isAtLeast(next, (track.track.latest ?? -1) + 1)
    }), { arbitrary: { runs: 150, seed: 1 } })
})
