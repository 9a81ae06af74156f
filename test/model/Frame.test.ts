import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema, Stream } from "effect"
import { Cancelled, Evicted, Lagged, SessionClosed, WrongSize } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import * as Frame from "../../src/model/Frame.ts"
import * as Group from "../../src/model/Group.ts"
import { attached, bytes, nobody, settle, text } from "./fixtures.ts"

const chunksOf = (frame: Frame.Frame) => Effect.map(Stream.runCollect(frame.chunks), (chunks) => chunks.map(text))

/** A frame of a group of its own, that grows. */
const growing = (size: number) => {
  const group = Group.makeUnsafe(0)
  const producer = group.createFrameUnsafe(size)!
  const body = Group.bodyOf(group.group)
  const place = Body.openUnsafe(body)
  const [frame] = Body.takeFramesUnsafe(body, place)!
  Body.closeUnsafe(body, place)
  return { body, frame, producer, fail: (error: Frame.ReadError) => Group.endUnsafe(group, error) }
}

describe("Frame", () => {
  it.effect("is whole from the start when made from bytes", () =>
    Effect.gen(function*() {
      const payload = bytes("whole")
      const frame = Frame.fromBytes(payload)
      assert.deepStrictEqual([frame.size, frame.isComplete], [5, true])
      assert.strictEqual(frame.payload, payload)
      assert.strictEqual(yield* frame.bytes, payload)
      assert.deepStrictEqual(yield* chunksOf(frame), ["whole"])
      assert.deepStrictEqual(yield* yield* frame.reader, [payload])
      assert.deepStrictEqual(yield* chunksOf(Frame.fromBytes(bytes(""))), [])
    }))

  it.effect("grows chunk by chunk, for several readers at once", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(6)
      assert.deepStrictEqual([frame.size, frame.isComplete, frame.payload], [6, false, undefined])
      yield* producer.write(bytes("ab"))
      const early = yield* Effect.forkChild(chunksOf(frame), { startImmediately: true })
      const whole = yield* Effect.forkChild(frame.bytes, { startImmediately: true })
      yield* settle
      yield* producer.write(bytes("c"))
      yield* settle
      assert.isUndefined(whole.pollUnsafe())
      yield* producer.write(bytes("def"))
      assert.deepStrictEqual(yield* Fiber.join(early), ["ab", "c", "def"])
      assert.strictEqual(text(yield* Fiber.join(whole)), "abcdef")
      yield* producer.finish
      assert.isTrue(frame.isComplete)
      assert.deepStrictEqual(attached(frame), nobody)
    }))

  it.effect("joins its chunks once, for all readers", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(4)
      yield* producer.write(bytes("ab"))
      const slow = yield* frame.reader
      assert.deepStrictEqual((yield* slow).map(text), ["ab"])
      yield* producer.write(bytes("cd"))
      const joined = yield* frame.bytes
      assert.strictEqual(yield* frame.bytes, joined)
      assert.strictEqual(frame.payload, joined)
      // who is on the way through the chunks still gets the rest of them
      assert.deepStrictEqual((yield* slow).map(text), ["cd"])

      assert.deepStrictEqual(yield* chunksOf(frame), ["abcd"])
    }))

  it.effect("keeps its bytes when its group loses them", () =>
    Effect.gen(function*() {
      for (const missing of [0, 2]) {
        const group = Group.makeUnsafe(0)
        const frame = yield* group.createFrame(4)
        const [there] = yield* yield* group.group.reader
        const slow = yield* there.reader
        yield* frame.write(bytes("ab"))
        assert.deepStrictEqual((yield* slow).map(text), ["ab"])
        if (missing === 0) yield* frame.write(bytes("cd"))
        const error = new Lagged({})
        Group.dropUnsafe(group, error)
        assert.strictEqual(group.group.size, 0)
        if (missing === 0) {
          assert.deepStrictEqual((yield* slow).map(text), ["cd"])
          assert.strictEqual(text(yield* there.bytes), "abcd")
          assert.isTrue(Exit.isFailure(yield* Effect.exit(slow)))
        } else {
          assert.strictEqual(yield* Effect.flip(slow), error)
          assert.strictEqual(yield* Effect.flip(there.bytes), error)
          assert.strictEqual(text((yield* yield* there.reader)[0]), "ab")
        }
      }
    }))

  it.effect("of one chunk is that chunk, and of no bytes is complete at once", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(300)
      const chunk = new Uint8Array(300)
      yield* producer.write(chunk)
      assert.strictEqual(frame.payload, chunk)
      assert.deepStrictEqual(yield* Stream.runCollect(frame.chunks), [chunk])
      const none = growing(0)
      assert.isTrue(none.frame.isComplete)
      assert.strictEqual((yield* none.frame.bytes).length, 0)
      assert.deepStrictEqual(yield* chunksOf(none.frame), [])
      yield* none.producer.finish
    }))

  it.effect("refuses too many bytes, and takes none of them", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(3)
      yield* producer.write(bytes("ab"))
      assert.instanceOf(yield* Effect.flip(producer.write(bytes("cd"))), WrongSize)
      assert.isFalse(producer.writeUnsafe(bytes("cd")))
      assert.isTrue(producer.writeUnsafe(bytes("c")))
      assert.strictEqual(text(yield* frame.bytes), "abc")
      assert.instanceOf(yield* Effect.flip(producer.write(bytes("d"))), WrongSize)
      assert.isFalse(producer.writeUnsafe(bytes("d")))
    }))

  it.effect("refuses to end with too few bytes, and can go on", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(3)
      yield* producer.write(bytes("ab"))
      assert.instanceOf(yield* Effect.flip(producer.finish), WrongSize)
      yield* producer.write(bytes("c"))
      yield* producer.finish
      assert.isTrue(frame.isComplete)
    }))

  it.effect("takes empty chunks at any time, also when it is complete", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(2)
      yield* producer.write(bytes(""))
      yield* producer.write(bytes("ab"))
      yield* producer.write(bytes(""))
      assert.isTrue(producer.writeUnsafe(bytes("")))
      assert.deepStrictEqual(yield* chunksOf(frame), ["ab"])
    }))

  it.effect("fails for its readers, after the chunks that are here, and for its writer", () =>
    Effect.gen(function*() {
      const error = new Evicted({})
      const self = growing(4)
      const { frame, producer } = self
      yield* producer.write(bytes("ab"))
      const waiting = yield* Effect.forkChild(Effect.exit(frame.bytes), { startImmediately: true })
      yield* settle
      self.fail(error)
      assert.deepStrictEqual(yield* Fiber.join(waiting), Exit.fail(error))
      const pull = yield* frame.reader
      assert.deepStrictEqual((yield* pull).map(text), ["ab"])
      for (let i = 0; i < 2; i++) assert.deepStrictEqual(yield* Effect.exit(pull), Exit.fail(error))
      assert.isFalse(producer.writeUnsafe(bytes("cd")))
      assert.isFalse(producer.writeUnsafe(bytes("")))
      assert.instanceOf(yield* Effect.flip(producer.write(bytes("cd"))), Cancelled)
      assert.instanceOf(yield* Effect.flip(producer.finish), Cancelled)
    }))

  it.effect("tells its writer of the session that has gone", () =>
    Effect.gen(function*() {
      const closed = new SessionClosed({ code: 0, reason: "bye", by: "remote" })
      const self = growing(4)
      const { producer } = self
      self.fail(closed)
      assert.strictEqual(yield* Effect.flip(producer.write(bytes("abcd"))), closed)
    }))

  it.effect("does not fail any more once it is complete", () =>
    Effect.gen(function*() {
      const self = growing(2)
      const { frame, producer } = self
      yield* producer.write(bytes("ab"))
      self.fail(new Evicted({}))
      assert.strictEqual(text(yield* frame.bytes), "ab")
    }))

  it.effect("loses no waiter when one is interrupted", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(2)
      const [a, b] = [
        yield* Effect.forkChild(frame.bytes, { startImmediately: true }),
        yield* Effect.forkChild(frame.bytes, { startImmediately: true })
      ]
      yield* settle
      yield* Fiber.interrupt(a)
      yield* producer.write(bytes("ab"))
      assert.strictEqual(text(yield* Fiber.join(b)), "ab")
      assert.deepStrictEqual(attached(frame), nobody)
    }))

  it.effect("puts small pieces together, and gives none of them twice", () =>
    Effect.gen(function*() {
      const { frame, producer } = growing(600)
      const reader = yield* frame.reader
      const byte = (value: number) => producer.write(Uint8Array.of(value))
      for (let i = 0; i < 100; i++) yield* byte(i)
      const first = yield* reader
      assert.deepStrictEqual(first.flatMap((chunk) => Array.from(chunk)), Array.from({ length: 100 }, (_, i) => i))
      assert.isBelow(first.length, 10)
      const waiting = yield* Effect.forkChild(reader, { startImmediately: true })
      yield* settle
      yield* byte(100)
      assert.deepStrictEqual((yield* Fiber.join(waiting)).map((chunk) => Array.from(chunk)), [[100]])
      for (let i = 101; i < 600; i++) yield* byte(i)
      assert.strictEqual((yield* reader).reduce((sum, { length }) => sum + length, 0), 499)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(reader)))
      assert.isBelow((yield* Stream.runCollect(frame.chunks)).length, 12)
      assert.deepStrictEqual(yield* frame.bytes, Uint8Array.from({ length: 600 }, (_, i) => i))
    }))

  it.effect.prop("is its bytes, however they are cut", [
    Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))).check(Schema.isMaxLength(12))
  ], ([lengths]) =>
    Effect.gen(function*() {
      const size = lengths.reduce((total, length) => total + length, 0)
      const expected = Uint8Array.from({ length: size }, (_, i) => i)
      const { body, frame, producer } = growing(size)
      let at = 0
      for (const length of lengths) {
        assert.isTrue(producer.writeUnsafe(expected.subarray(at, at + length)))
        at += length
      }
      assert.strictEqual(body.size, size)
      const chunks = yield* Stream.runCollect(frame.chunks)
      assert.deepStrictEqual(chunks.flatMap((chunk) => Array.from(chunk)), Array.from(expected))
      assert.deepStrictEqual(Array.from(yield* frame.bytes), Array.from(expected))
    }), { arbitrary: { runs: 200, seed: 1 } })
})
