import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, PubSub, Scope, Stream } from "effect"
import { App, Overflow } from "../../src/core/MoqError.ts"
import * as Track from "../../src/model/Track.ts"
import * as TrackPubSub from "../../src/model/TrackPubSub.ts"
import { attached, bytes, nobody, read, settle, text } from "./fixtures.ts"

const write = (producer: Track.Producer, ...frames: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const group = yield* producer.appendGroup
    for (const frame of frames) yield* group.writeFrame(bytes(frame))
    yield* group.finish
  })

describe("TrackPubSub.toPubSub", () => {
  it.effect("publishes the frames to all who subscribe, and ends as the track does", () =>
    Effect.gen(function*() {
      for (const error of [undefined, new App({ code: 3 })]) {
        const producer = yield* Track.make(["a"])
        const pubsub = yield* PubSub.unbounded<Uint8Array>()
        const listeners = [yield* read(Stream.fromPubSub(pubsub), text), yield* read(Stream.fromPubSub(pubsub), text)]
        const fiber = yield* TrackPubSub.toPubSub(producer.track, pubsub)
        yield* write(producer, "one", "two")
        yield* settle
        yield* write(producer, "three")
        yield* settle
        for (const { got } of listeners) assert.deepStrictEqual(got, ["one", "two", "three"])
        assert.isUndefined(fiber.pollUnsafe())
        yield* error === undefined ? producer.finish : producer.fail(error)
        assert.deepStrictEqual(yield* Fiber.await(fiber), error === undefined ? Exit.void : Exit.fail(error))
        // the PubSub is its owner's: it goes on
        assert.isFalse(PubSub.isShutdownUnsafe(pubsub))
      }
    }))

  it.effect("stops with its scope, and when the PubSub is shut down", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const pubsub = yield* PubSub.unbounded<Uint8Array>()
      const scope = yield* Scope.make()
      yield* Scope.provide(TrackPubSub.toPubSub(producer.track, pubsub), scope)
      yield* settle
      assert.strictEqual(attached(producer).readers, 1)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(attached(producer), nobody)
      const fiber = yield* TrackPubSub.toPubSub(producer.track, pubsub)
      yield* settle
      yield* PubSub.shutdown(pubsub)
      yield* write(producer, "one")
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.void)
      assert.deepStrictEqual(attached(producer), nobody)
    }))

  it.effect("is live again after a subscriber was slow", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const pubsub = yield* PubSub.bounded<Uint8Array>(1)
      const slow = yield* PubSub.subscribe(pubsub)
      yield* TrackPubSub.toPubSub(producer.track, pubsub)
      const got: Array<string> = []
      for (let i = 0; i < 5; i++) {
        yield* write(producer, `${i}`)
        yield* settle
      }
      for (let i = 0; i < 3; i++) {
        got.push(text(yield* PubSub.take(slow)))
        yield* settle
      }
      assert.deepStrictEqual(got, ["0", "1", "4"])
    }))
})

describe("TrackPubSub.fromPubSub", () => {
  it.effect("writes what is published, in groups as told, and leaves the track open", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const pubsub = yield* PubSub.unbounded<Uint8Array>()
      const fiber = yield* TrackPubSub.fromPubSub(producer, pubsub, { group: { frames: 2 } })
      // it is subscribed already
      for (const frame of ["a", "b", "c"]) yield* PubSub.publish(pubsub, bytes(frame))
      yield* settle
      yield* PubSub.shutdown(pubsub)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.void)
      assert.isUndefined(producer.track.end)
      yield* producer.finish
      const groups = yield* Stream.runCollect(Track.range(producer.track, { from: 0 }).groups)
      const contents = yield* Effect.forEach(groups, (group) => Stream.runCollect(group.frames))
      assert.deepStrictEqual(contents.map((frames) => frames.map(text)), [["a", "b"], ["c"]])
    }))

  it.effect("stops with its scope, and fails as the sink does", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"], { cache: { maxBytes: 4 } })
      const pubsub = yield* PubSub.unbounded<Uint8Array>()
      const scope = yield* Scope.make()
      yield* Scope.provide(TrackPubSub.fromPubSub(producer, pubsub, { group: "single" }), scope)
      yield* PubSub.publish(pubsub, bytes("x"))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* PubSub.publish(pubsub, bytes("y"))
      yield* settle
      assert.strictEqual(producer.track.group(0)?.count, 1)
      yield* producer.track.reader()
      const fiber = yield* TrackPubSub.fromPubSub(producer, pubsub, { group: { frames: 1 }, overflow: "fail" })
      for (const frame of ["aaa", "bbb", "ccc"]) yield* PubSub.publish(pubsub, bytes(frame))
      assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), Overflow)
    }))
})
