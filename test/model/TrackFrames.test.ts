import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Expired } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, bytes, nobody, read, settle, text } from "./fixtures.ts"

const path = ["room", "alice"]

const write = (group: Group.Producer, ...frames: ReadonlyArray<string>) =>
  Effect.andThen(
    Effect.sync(() => {
      for (const frame of frames) assert.isTrue(group.writeFrameUnsafe(bytes(frame)))
    }),
    settle
  )

const frames = (producer: Track.Producer, start: Track.Start = "latest") =>
  read(Track.range(producer.track, { from: start }).frames, text)

describe("Track.frames", () => {
  it.effect("begins with the latest group and follows it, then the next ones", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const old = yield* producer.appendGroup
      yield* write(old, "old")
      yield* old.finish
      const first = yield* producer.appendGroup
      yield* write(first, "1a")
      const { fiber, got } = yield* frames(producer)
      yield* write(first, "1b")
      yield* first.finish
      const second = yield* producer.appendGroup
      yield* write(second, "2a", "2b")
      assert.deepStrictEqual(got, ["1a", "1b", "2a", "2b"])
      yield* producer.finish
      yield* Fiber.join(fiber)
    }))

  it.effect("gives two readers at different paces the same frames of the group that they read", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const group = yield* producer.appendGroup
      const fast = yield* frames(producer)
      const slow = yield* Stream.toPull(producer.track.frames)
      yield* write(group, "a")
      yield* write(group, "b")
      yield* write(group, "c")
      assert.deepStrictEqual(fast.got, ["a", "b", "c"])
      assert.deepStrictEqual((yield* slow).map(text), ["a", "b", "c"])
    }))

  it.effect("ends one group before it begins another, and then takes the newest", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const first = yield* producer.appendGroup
      const { got } = yield* frames(producer)
      yield* write(first, "0a")
      const second = yield* producer.appendGroup
      const third = yield* producer.appendGroup
      yield* write(second, "1a")
      yield* write(third, "2a")
      yield* write(first, "0b")
      assert.deepStrictEqual(got, ["0a", "0b"])
      yield* first.finish
      yield* settle
      assert.deepStrictEqual(got, ["0a", "0b", "2a"])
      yield* write(second, "1b")
      yield* third.finish
      yield* write(yield* producer.createGroup(5), "5a")
      assert.deepStrictEqual(got, ["0a", "0b", "2a", "5a"])
    }))

  it.effect("goes through the groups in sequence when the order is asc", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path, { order: "asc" })
      const reading = yield* frames(producer, 0)
      const first = yield* producer.createGroup(0)
      yield* write(first, "0a")
      for (const sequence of [3, 1, 2]) {
        const group = yield* producer.createGroup(sequence)
        yield* write(group, `${sequence}a`, `${sequence}b`)
        yield* group.finish
      }
      yield* first.finish
      yield* producer.finish
      yield* Fiber.join(reading.fiber)
      assert.deepStrictEqual(reading.got, ["0a", "1a", "1b", "2a", "2b", "3a", "3b"])
    }))

  it.effect("waits for up to a second, when the order is asc, for a group that has been overtaken", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path, { order: "asc" })
      const create = (sequence: number) =>
        Effect.gen(function*() {
          const group = yield* producer.createGroup(sequence)
          yield* write(group, String(sequence))
          yield* group.finish
          yield* settle
        })
      yield* create(0)
      const { got } = yield* frames(producer)
      yield* create(2)
      yield* TestClock.adjust("900 millis")
      yield* create(1)
      yield* settle
      assert.deepStrictEqual(got, ["0", "1", "2"])

      yield* create(4)
      yield* TestClock.adjust("500 millis")
      yield* create(5)
      yield* TestClock.adjust("499 millis")
      yield* settle
      assert.deepStrictEqual(got.slice(3), [])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual(got.slice(3), ["4", "5"])

      // what was said not to come is not waited for
      yield* producer.gap({ from: 6, to: 8, code: 2 })
      yield* create(9)
      assert.deepStrictEqual(got.slice(5), ["9"])
    }))

  it.effect("goes in the order that a subscription asks for, whatever the track says", () =>
    Effect.gen(function*() {
      for (
        const [of, asked, expected] of [["desc", "asc", "012"], ["asc", "desc", "02"], [
          "asc",
          "default",
          "012"
        ]] as const
      ) {
        const producer = yield* Track.make(path, { order: of })
        const group = yield* producer.appendGroup
        yield* write(group, "0")
        const subscription = Subscription.make(producer.track, { from: 0, order: asked })
        const { got } = yield* read(subscription.frames, text)
        for (const name of ["1", "2"]) {
          const group = yield* producer.appendGroup
          yield* write(group, name)
          yield* group.finish
        }
        yield* group.finish
        yield* settle
        assert.strictEqual(got.join(""), expected)
      }
    }))

  it.effect("never goes back to an older group that comes late", () =>
    Effect.gen(function*() {
      for (const order of ["asc", "desc"] as const) {
        const producer = yield* Track.make(path, { order })
        const reading = yield* frames(producer)
        for (const sequence of [5, 4, 6]) {
          const group = yield* producer.createGroup(sequence)
          yield* write(group, `${sequence}`)
          yield* group.finish
          yield* settle
        }
        assert.deepStrictEqual(reading.got, ["5", "6"])
      }
    }))

  it.effect("jumps over a group that fails, after the frames that are there", () =>
    Effect.gen(function*() {
      for (const order of ["asc", "desc"] as const) {
        const producer = yield* Track.make(path, { order })
        const reading = yield* frames(producer)
        const first = yield* producer.appendGroup
        yield* write(first, "0a")
        const frame = yield* first.createFrame(4)
        yield* frame.write(bytes("cut"))
        yield* first.fail(new Expired({}))
        yield* settle
        const second = yield* producer.appendGroup
        yield* write(second, "1a")
        yield* second.fail(new Expired({}))
        yield* producer.finish
        yield* Fiber.join(reading.fiber)
        assert.deepStrictEqual(reading.got, ["0a", "1a"])
      }
    }))

  it.effect("leaves a group that gives nothing for a second while a newer one is there", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const { got } = yield* frames(producer)
      const first = yield* producer.appendGroup
      yield* write(first, "0a")
      yield* TestClock.adjust("1 hour")
      yield* write(first, "0b")
      const second = yield* producer.appendGroup
      yield* write(second, "1a")
      yield* TestClock.adjust("900 millis")
      yield* write(first, "0c")
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(got, ["0a", "0b", "0c"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(got, ["0a", "0b", "0c", "1a"])
      yield* write(first, "0d")
      yield* write(second, "1b")
      assert.deepStrictEqual(got, ["0a", "0b", "0c", "1a", "1b"])
      assert.deepStrictEqual(attached(first.group), nobody)
    }))

  it.effect("leaves a group whose frame stops growing", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const { got } = yield* frames(producer)
      const first = yield* producer.appendGroup
      const frame = yield* first.createFrame(4)
      yield* frame.write(bytes("0a"))
      yield* settle
      yield* write(yield* producer.appendGroup, "1a")
      assert.deepStrictEqual(got, [])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(got, ["1a"])
      assert.deepStrictEqual(attached(first.group), nobody)
    }))

  it.effect("gives a frame that grows in time", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const { got } = yield* frames(producer)
      const group = yield* producer.appendGroup
      const frame = yield* group.createFrame(4)
      yield* settle
      yield* frame.write(bytes("0a"))
      yield* settle
      yield* frame.write(bytes("0b"))
      yield* settle
      assert.deepStrictEqual(got, ["0a0b"])
    }))

  it.effect("leaves a group that was cut before it was read", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const pull = yield* Stream.toPull(producer.track.frames)
      const group = yield* producer.appendGroup
      group.writeFrameUnsafe(bytes("0a"))
      assert.deepStrictEqual((yield* pull).map(text), ["0a"])
      for (let i = 0; i <= Group.maxFrames; i++) group.writeFrameUnsafe(bytes(""))
      const next = yield* producer.appendGroup
      next.writeFrameUnsafe(bytes("1a"))
      assert.deepStrictEqual((yield* pull).map(text), ["1a"])
    }))

  it.effect("keeps no more than it needs of what waits: the rest stays with the track", () =>
    Effect.gen(function*() {
      for (const order of ["asc", "desc"] as const) {
        const producer = yield* Track.make(path, { order })
        const reading = yield* frames(producer)
        const first = yield* producer.appendGroup
        yield* write(first, "0")
        for (let i = 1; i <= 50; i++) {
          const group = yield* producer.appendGroup
          yield* write(group, `${i}`)
          yield* group.finish
          yield* TestClock.adjust("500 millis")
          yield* write(first, "0")
        }
        yield* first.finish
        yield* producer.finish
        yield* Fiber.join(reading.fiber)
        // of those that came meanwhile it had taken only the first; the track has dropped what is older than 10 seconds
        const kept = Array.from({ length: 20 }, (_, i) => `${31 + i}`)
        assert.deepStrictEqual([...new Set(reading.got)], order === "asc" ? ["0", "1", ...kept] : ["0", "50"])
      }
    }))

  it.effect("leaves nothing behind when it is interrupted in the middle of a frame", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const group = yield* producer.appendGroup
      const frame = yield* group.createFrame(4)
      yield* frame.write(bytes("ab"))
      const { fiber } = yield* frames(producer)
      yield* producer.appendGroup
      yield* settle
      assert.strictEqual(attached(group.group).readers, 1)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual([attached(producer), attached(group.group)], [nobody, nobody])
    }))

  it.effect("has all of a group that came while another was read, whoever else has taken that meanwhile", () =>
    Effect.gen(function*() {
      for (const order of ["default", "asc"] as const) {
        const producer = yield* Track.make(["a"], { order, start: 0, cache: { maxTaken: 100 } })
        const [first, second] = [yield* producer.appendGroup, yield* producer.appendGroup]
        const got: Array<number> = []
        yield* first.writeFrame(Uint8Array.of(1))
        const slow = yield* Effect.forkChild(
          Stream.runForEach(producer.track.frames, (frame) => Effect.sync(() => got.push(frame.length))),
          { startImmediately: true }
        )
        yield* settle
        yield* Effect.forkChild(Track.forEachFrame(producer.track, () => {}), { startImmediately: true })
        for (let i = 0; i < 5; i++) {
          yield* second.writeFrame(new Uint8Array(100 + i))
          yield* settle
        }
        yield* first.finish
        yield* second.finish
        yield* producer.finish
        yield* Fiber.join(slow)
        assert.deepStrictEqual([order, ...got.slice(-5)], [order, 100, 101, 102, 103, 104])
      }
    }))
})
