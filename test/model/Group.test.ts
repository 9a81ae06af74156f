import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema, Stream } from "effect"
import { Cancelled, Evicted, FrameTooLarge, Lagged, WrongSize } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import { attached, bytes, nobody, poll, read, settle, text } from "./fixtures.ts"

const write = (group: Group.Producer, frames: ReadonlyArray<string>) => {
  for (const frame of frames) assert.isTrue(group.writeFrameUnsafe(bytes(frame)))
}

/** Fills a group up to exactly its largest number of frames. */
const fill = (group: Group.Producer) => {
  for (let i = group.group.count; i < Group.maxFrames; i++) group.writeFrameUnsafe(bytes(""))
}

describe("Group", () => {
  it.effect("gives every frame to every reader, from the first on, then the end", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(7)
      const { group } = producer
      write(producer, ["a", "b"])
      const early = yield* read(group.frames, text)
      yield* producer.writeFrame(bytes("c"))
      yield* settle
      const late = yield* read(group.frames, text)
      write(producer, ["d"])
      yield* producer.finish
      yield* Fiber.join(early.fiber)
      yield* Fiber.join(late.fiber)
      assert.deepStrictEqual(early.got, ["a", "b", "c", "d"])
      assert.deepStrictEqual(late.got, early.got)
      assert.deepStrictEqual((yield* Stream.runCollect(group.frames)).map(text), early.got)
      assert.deepStrictEqual([group.sequence, group.count, group.size, group.first], [7, 4, 4, 0])
      assert.deepStrictEqual(group.end, Exit.void)
      assert.deepStrictEqual(attached(group), nobody)
    }))

  it.effect("hands frames out in batches, growing ones included", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const pull = yield* producer.group.reader
      write(producer, ["a", "b"])
      const frame = yield* producer.createFrame(2)
      const batch = yield* pull
      assert.deepStrictEqual(batch.map((frame) => frame.isComplete), [true, true, false])
      yield* frame.write(bytes("cd"))
      assert.strictEqual(text(yield* batch[2]!.bytes), "cd")
      assert.isUndefined(yield* poll(pull))
    }))

  it.effect("gives the payload of a growing frame once it is complete, and none before it is", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const reading = yield* read(producer.group.frames, text)
      write(producer, ["a"])
      const frame = yield* producer.createFrame(4)
      yield* frame.write(bytes("bc"))
      yield* settle
      assert.deepStrictEqual(reading.got, ["a"])
      yield* frame.write(bytes("de"))
      write(producer, ["f"])
      yield* producer.finish
      yield* Fiber.join(reading.fiber)
      assert.deepStrictEqual(reading.got, ["a", "bcde", "f"])
    }))

  it.effect("has one incomplete frame at most", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const frame = yield* producer.createFrame(2)
      assert.instanceOf(yield* Effect.flip(producer.writeFrame(bytes("x"))), WrongSize)
      assert.instanceOf(yield* Effect.flip(producer.createFrame(1)), WrongSize)
      assert.isFalse(producer.writeFrameUnsafe(bytes("x")))
      assert.isUndefined(producer.createFrameUnsafe(1))
      yield* frame.write(bytes("ab"))
      yield* producer.writeFrame(bytes("x"))
      assert.strictEqual(producer.group.count, 2)
    }))

  it.effect("refuses a frame above 16 MiB, and sizes that are none", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const large = new Uint8Array(Group.maxFrameBytes + 1)
      assert.instanceOf(yield* Effect.flip(producer.writeFrame(large)), FrameTooLarge)
      assert.isFalse(producer.writeFrameUnsafe(large))
      assert.instanceOf(yield* Effect.flip(producer.createFrame(large.length)), FrameTooLarge)
      assert.isUndefined(producer.createFrameUnsafe(large.length))
      for (const size of [-1, 0.5, NaN]) assert.instanceOf(yield* Effect.flip(producer.createFrame(size)), WrongSize)
      yield* producer.writeFrame(large.subarray(1))
      assert.strictEqual(producer.group.size, Group.maxFrameBytes)
    }))

  it.effect("takes nothing more once it has finished", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      write(producer, ["a"])
      yield* producer.finish
      assert.instanceOf(yield* Effect.flip(producer.writeFrame(bytes("b"))), Cancelled)
      assert.instanceOf(yield* Effect.flip(producer.createFrame(1)), Cancelled)
      assert.isFalse(producer.writeFrameUnsafe(bytes("b")))
      assert.isUndefined(producer.createFrameUnsafe(1))
      yield* producer.finish
      yield* producer.fail(new Evicted({}))
      assert.deepStrictEqual((yield* Stream.runCollect(producer.group.frames)).map(text), ["a"])
    }))

  it.effect("fails when it is finished with an incomplete frame", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const reading = yield* read(producer.group.frames, text)
      write(producer, ["a"])
      const frame = yield* producer.createFrame(2)
      const error = yield* Effect.flip(producer.finish)
      assert.instanceOf(error, WrongSize)
      assert.deepStrictEqual(yield* Fiber.await(reading.fiber), Exit.fail(error))
      assert.deepStrictEqual(reading.got, ["a"])
      assert.instanceOf(yield* Effect.flip(frame.write(bytes("bc"))), Cancelled)
    }))

  it.effect("fails its readers, after the frames that are here, with the error that it was failed with", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const error = new Evicted({ detail: "why" })
      write(producer, ["a", "b"])
      const frame = yield* producer.createFrame(9)
      yield* frame.write(bytes("part"))
      const early = yield* read(producer.group.frames, text)
      yield* producer.fail(error)
      const late = yield* read(producer.group.frames, text)
      for (const { fiber, got } of [early, late]) {
        assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail(error))
        assert.deepStrictEqual(got, ["a", "b"])
      }
      assert.strictEqual(frame.writeUnsafe(bytes("more!")), false)
      assert.deepStrictEqual(attached(producer.group), nobody)
    }))

  it.effect("is cut above 65,536 frames: who is behind lags, who keeps up reads on", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const { group } = producer
      write(producer, ["a"])
      const behind = yield* group.reader
      const keepsUp = yield* group.reader
      yield* keepsUp
      fill(producer)
      yield* keepsUp
      assert.deepStrictEqual([group.count, group.first], [Group.maxFrames, 0])
      assert.deepStrictEqual((yield* poll(yield* group.reader))?.length, Group.maxFrames)
      write(producer, ["b"])
      assert.deepStrictEqual([group.count, group.first, group.size], [Group.maxFrames + 1, 1, 1])
      assert.strictEqual(text((yield* keepsUp)[0].payload!), "b")
      for (let i = 0; i < 2; i++) assert.instanceOf(yield* Effect.flip(behind), Lagged)
      assert.instanceOf(yield* Effect.flip(Stream.runDrain(group.frames)), Lagged)
    }))

  it.effect("is cut above 32 MiB, and says what it gains and loses", () =>
    Effect.gen(function*() {
      let held = 0
      const producer = Group.keptUnsafe(0, {
        maxTaken: Infinity,
        resize: (_, bytes) => void (held += bytes),
        release: () => {}
      })
      const mebibytes = new Uint8Array(8 * 1024 * 1024)
      for (let i = 0; i < 4; i++) producer.writeFrameUnsafe(mebibytes)
      assert.deepStrictEqual([held, producer.group.first], [Group.maxBytes, 0])
      const frame = yield* producer.createFrame(2)
      yield* frame.write(bytes("a"))
      assert.deepStrictEqual([producer.group.first, held], [1, 3 * mebibytes.length + 1])
      yield* frame.write(bytes("b"))
      producer.writeFrameUnsafe(new Uint8Array(Group.maxFrameBytes))
      assert.strictEqual(held, producer.group.size)
      assert.isAtMost(held, Group.maxBytes)
      assert.strictEqual(producer.group.first, 3)
    }))

  it.effect("waits until its readers have taken what is here, but not for one that was cut, nor once it has failed", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      yield* producer.taken
      write(producer, ["a"])
      yield* producer.taken
      const [a, b] = [yield* producer.group.reader, yield* producer.group.reader]
      const taken = yield* Effect.forkChild(producer.taken, { startImmediately: true })
      yield* a
      yield* settle
      assert.isUndefined(taken.pollUnsafe())
      yield* b
      yield* Fiber.join(taken)

      fill(producer)
      yield* a
      const cut = yield* Effect.forkChild(producer.taken, { startImmediately: true })
      yield* settle
      assert.isUndefined(cut.pollUnsafe())
      write(producer, ["b", "c"])
      yield* a
      yield* Fiber.join(cut)

      write(producer, ["d"])
      const failed = yield* Effect.forkChild(producer.taken, { startImmediately: true })
      yield* settle
      assert.isUndefined(failed.pollUnsafe())
      yield* producer.fail(new Evicted({}))
      yield* Fiber.join(failed)
      assert.strictEqual(attached(producer.group).watching, 0)
    }))

  it.effect("loses nothing when a pull is interrupted, also in the middle of a growing frame", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const pull = yield* Stream.toPull(producer.group.frames)
      assert.isUndefined(yield* poll(pull))
      const frame = yield* producer.createFrame(2)
      yield* frame.write(bytes("a"))
      assert.isUndefined(yield* poll(pull))
      yield* frame.write(bytes("b"))
      write(producer, ["c"])
      assert.deepStrictEqual((yield* pull).map(text), ["ab", "c"])
    }))

  const operation = Schema.Tuple([
    Schema.Literals(["write", "create", "chunk", "read", "pull", "close", "finish", "fail"]),
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 }))
  ])

  it.effect.prop("gives each reader the frames as they were written, whatever happens in between", [
    Schema.Array(operation).check(Schema.isMaxLength(60))
  ], ([steps]) =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(0)
      const written: Array<string> = []
      const readers: Array<{ readonly got: Array<string>; readonly fiber: Fiber.Fiber<void, unknown> }> = []
      let open: { frame: ReturnType<Group.Producer["createFrameUnsafe"]>; said: string; left: number } | undefined
      let ended = false
      for (const [name, n] of steps) {
        const said = `${written.length}`.padEnd(n, "-")
        const blocked = ended || open !== undefined
        if (name === "write") {
          assert.strictEqual(producer.writeFrameUnsafe(bytes(said)), !blocked)
          if (!blocked) written.push(said)
        } else if (name === "create") {
          const frame = producer.createFrameUnsafe(said.length)
          assert.strictEqual(frame === undefined, blocked)
          if (!blocked) open = { frame, said, left: said.length }
        } else if (name === "chunk" && open !== undefined) {
          const at = open.said.length - open.left
          const took = open.frame!.writeUnsafe(bytes(open.said.slice(at, at + n)))
          assert.strictEqual(took, !ended)
          if (took) open.left -= Math.min(n, open.left)
          if (open.left === 0) {
            written.push(open.said)
            open = undefined
          }
        } else if (name === "read") readers.push(yield* read(producer.group.frames, text))
        else if (name === "pull") yield* settle
        else if (name === "close" && readers.length > 0) {
          const [reader] = readers.splice(n % readers.length, 1)
          yield* Fiber.interrupt(reader!.fiber)
          assert.deepStrictEqual(reader!.got, written.slice(0, reader!.got.length))
        } else if (name === "finish") {
          yield* Effect.exit(producer.finish)
          ended = true
        } else if (name === "fail") {
          yield* producer.fail(new Evicted({}))
          ended = true
        }
      }
      yield* settle
      for (const reader of readers) {
        assert.deepStrictEqual(reader.got, written)
        if (ended) yield* Fiber.await(reader.fiber)
        else yield* Fiber.interrupt(reader.fiber)
      }
      assert.deepStrictEqual(attached(producer.group), nobody)
    }), { arbitrary: { runs: 200, seed: 1 } })

  describe("from a frame on", () => {
    it.effect("is the same group without the frames before it", () =>
      Effect.gen(function*() {
        const producer = Group.makeUnsafe(7)
        write(producer, ["a", "b", "c"])
        const tail = Group.tail(producer.group, 1)
        assert.strictEqual(Group.tail(producer.group, 0), producer.group)
        assert.deepStrictEqual([tail.sequence, tail.first, tail.count, tail.end], [7, 1, 3, undefined])
        const reading = yield* read(tail.frames, text)
        const shorter = yield* read(Group.tail(Group.tail(producer.group, 2), 1).frames, text)
        write(producer, ["d"])
        yield* producer.finish
        for (const { fiber } of [reading, shorter]) yield* Fiber.join(fiber)
        assert.deepStrictEqual([reading.got, shorter.got], [["b", "c", "d"], ["c", "d"]])
        assert.deepStrictEqual(yield* Stream.runCollect(Group.tail(producer.group, 4).frames), [])
        assert.deepStrictEqual(tail.end, Exit.void)
      }))

    it.effect("that has not come yet waits for it, and nobody waits for who waits", () =>
      Effect.gen(function*() {
        const producer = Group.makeUnsafe(0)
        const { fiber, got } = yield* read(Group.tail(producer.group, 2).frames, text)
        write(producer, ["a", "b"])
        yield* settle
        yield* producer.taken
        assert.deepStrictEqual(got, [])
        write(producer, ["c"])
        yield* settle
        assert.deepStrictEqual(got, ["c"])
        yield* producer.fail(new Evicted({}))
        assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), Evicted)
      }))

    it.effect("lags only when that frame was cut", () =>
      Effect.gen(function*() {
        const producer = Group.makeUnsafe(0)
        fill(producer)
        const [first, second] = [
          yield* Group.tail(producer.group, 1).reader,
          yield* Group.tail(producer.group, 2).reader
        ]
        write(producer, ["x", "y"])
        assert.strictEqual(producer.group.first, 2)
        assert.instanceOf(yield* Effect.flip(first), Lagged)
        assert.strictEqual((yield* second).length, Group.maxFrames)
        const tail = Group.tail(producer.group, 1)
        assert.strictEqual(tail.first, 2)
        assert.instanceOf(yield* Effect.flip(Stream.runDrain(tail.frames)), Lagged)
        assert.strictEqual((yield* Stream.runCollect(Stream.take(Group.tail(producer.group, 2).frames, 3))).length, 3)
      }))
  })
})
