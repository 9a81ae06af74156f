import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { BoundsExceeded, NotSupportedByPeer, type UpdateError } from "../../src/core/MoqError.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, brief, bytes, nobody, read, settle, text } from "./fixtures.ts"

const publish = (producer: Track.Producer, ...sequences: ReadonlyArray<number>) =>
  Effect.forEach(sequences, (sequence) =>
    Effect.gen(function*() {
      const group = yield* producer.createGroup(sequence)
      yield* group.writeFrame(bytes(`${sequence}`))
      return group
    }))

const refused = (subscription: Subscription.Subscription, changes: Subscription.Changes) =>
  Effect.map(Effect.flip(subscription.update(changes)), (error) => assert.instanceOf(error, BoundsExceeded))

describe("Subscription", () => {
  it.effect("reads what it asks for, and says what that is", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      yield* publish(producer, 0, 1, 2, 3)
      const subscription = Subscription.make(producer.track, { from: 1, to: 2, priority: 3 })
      assert.deepStrictEqual(subscription.request, { from: 1, to: 2, priority: 3 })
      const { fiber, got } = yield* read(subscription.events, brief)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(got, ["1", "2"])
      assert.strictEqual(subscription.begin, 1)
    }))

  it.effect("that becomes narrower ends a reader that waits, and one that has not begun", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      yield* publish(producer, 0, 1)
      const subscription = Subscription.make(producer.track, { from: 0 })
      const events = yield* read(subscription.events, brief)
      const later = yield* subscription.reader()
      yield* subscription.update({ from: 1, to: 1 })
      yield* Fiber.join(events.fiber)
      assert.deepStrictEqual(events.got, ["0", "1"])
      assert.deepStrictEqual((yield* later).map(brief), ["1"])
      yield* Effect.flip(later)
      assert.deepStrictEqual(attached(producer), nobody)
    }))

  it.effect("that becomes narrower leaves out what comes outside of it", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const subscription = Subscription.make(producer.track, { from: 0 })
      const events = yield* read(subscription.events, brief)
      yield* publish(producer, 0)
      yield* settle
      yield* subscription.update({ from: 3 })
      yield* subscription.update({ to: 5 })
      yield* publish(producer, 1, 2, 3, 6, 5)
      yield* settle
      assert.isUndefined(events.fiber.pollUnsafe())
      yield* publish(producer, 4)
      yield* Fiber.join(events.fiber)
      assert.deepStrictEqual(events.got, ["0", "3", "5", "4"])
    }))

  it.effect("cannot become wider", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      yield* publish(producer, 0, 1, 2, 3, 4, 5)
      const subscription = Subscription.make(producer.track, { from: 2, to: 4 })
      yield* refused(subscription, { from: 1 })
      yield* refused(subscription, { to: 5 })
      yield* refused(subscription, { from: 1, to: 3 })
      yield* subscription.update({ from: 3, to: 4 })
      yield* refused(subscription, { from: 2 })
      assert.deepStrictEqual(subscription.request.from, 3)
      // one that began with the newest group began there, whichever is the newest by now
      const latest = Subscription.make(producer.track, { from: "latest" })
      yield* publish(producer, 6, 7, 8)
      yield* refused(latest, { from: 4 })
      yield* latest.update({ from: 7 })
      assert.deepStrictEqual((yield* read(latest.events, brief)).got, ["7", "8"])
    }))

  it.effect("changes only what it is told to, for itself alone", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const [one, other] = [
        Subscription.make(producer.track, { from: 0, priority: 1, order: "asc", expires: 5 }),
        Subscription.make(producer.track, { from: 0 })
      ]
      yield* one.update({ priority: 2, expires: undefined })
      yield* one.update({ to: 9 })
      assert.deepStrictEqual(one.request, { from: 0, to: 9, priority: 2, order: "asc", expires: 5 })
      assert.deepStrictEqual(other.request, { from: 0 })
    }))

  it.effect("changes nothing when the other side refuses, and one thing after the other", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const told: Array<Subscription.Request> = []
      let answer: Effect.Effect<void, UpdateError> = Effect.fail(new NotSupportedByPeer({}))
      const subscription = Subscription.make(producer.track, { from: 0 }, (next) =>
        Effect.suspend(() => {
          told.push(next)
          return answer
        }))
      assert.instanceOf(yield* Effect.flip(subscription.update({ priority: 1 })), NotSupportedByPeer)
      assert.deepStrictEqual(subscription.request, { from: 0 })
      yield* refused(subscription, { from: -1 })
      assert.strictEqual(told.length, 1)
      answer = Effect.sleep("1 second")
      const both = yield* Effect.forkChild(
        Effect.all([subscription.update({ priority: 1 }), subscription.update({ to: 4 })], { concurrency: 2 }),
        { startImmediately: true }
      )
      yield* settle
      assert.strictEqual(told.length, 2)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(both)
      assert.deepStrictEqual(told.slice(1).map(({ priority, to }) => [priority, to]), [[1, undefined], [1, 4]])
      assert.deepStrictEqual([subscription.request.priority, subscription.request.to], [1, 4])
    }))

  it.effect("gives the frames of its range, and leaves a group that falls out of it", () =>
    Effect.gen(function*() {
      for (const order of ["asc", "desc"] as const) {
        const producer = yield* Track.make(["a"], { order })
        const [zero] = yield* publish(producer, 0)
        const subscription = Subscription.make(producer.track, { from: 0, to: 3 })
        const { fiber, got } = yield* read(subscription.frames, text)
        const [one, two] = yield* publish(producer, 1, 2)
        yield* settle
        assert.deepStrictEqual(got, ["0"])
        yield* subscription.update({ from: 1 })
        yield* settle
        assert.deepStrictEqual(got, order === "asc" ? ["0", "1"] : ["0", "2"])
        yield* zero!.writeFrame(bytes("not this"))
        yield* (order === "asc" ? two! : one!).writeFrame(bytes("nor this"))
        // what is being read is read to its end
        yield* subscription.update({ to: 2 })
        yield* publish(producer, 3)
        yield* one!.writeFrame(bytes("1b"))
        yield* one!.finish
        yield* settle
        yield* two!.writeFrame(bytes("2b"))
        yield* settle
        assert.isUndefined(fiber.pollUnsafe())
        yield* two!.finish
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(got, order === "asc" ? ["0", "1", "1b", "2", "nor this", "2b"] : ["0", "2", "2b"])
        assert.deepStrictEqual(attached(producer), nobody)
      }
    }))

  it.effect("goes on within its range when what waited is no longer in it", () =>
    Effect.gen(function*() {
      for (const order of ["asc", "desc"] as const) {
        const producer = yield* Track.make(["a"], { order })
        const subscription = Subscription.make(producer.track, { from: 0 })
        const { fiber, got } = yield* read(subscription.frames, text)
        const [zero] = yield* publish(producer, 0)
        yield* settle
        yield* publish(producer, 6)
        yield* settle
        yield* subscription.update({ to: 5 })
        // nothing newer that is wanted is there: it is not left
        yield* TestClock.adjust("2 seconds")
        yield* zero!.writeFrame(bytes("0b"))
        yield* zero!.finish
        const [five] = yield* publish(producer, 5)
        yield* five!.finish
        yield* producer.finish
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(got, ["0", "0b", "5"])
      }
    }))

  it.effect("waits for the end of a group that is the last of its range, without spinning", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const [group] = yield* publish(producer, 0)
      const { fiber, got } = yield* read(Track.range(producer.track, { from: 0, to: 0 }).frames, text)
      assert.strictEqual(attached(producer).pulling, 1)
      yield* publish(producer, 1)
      yield* group!.writeFrame(bytes("more"))
      yield* group!.finish
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(got, ["0", "more"])
    }))
})
