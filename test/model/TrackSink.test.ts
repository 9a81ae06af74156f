import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Cancelled, FrameTooLarge, Overflow } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import type * as TrackSink from "../../src/model/TrackSink.ts"
import { attached, brief, bytes, nobody, poll, read, settle, text } from "./fixtures.ts"

const path = ["room", "alice"]

const stream = (...frames: ReadonlyArray<string>) => Stream.fromIterable(frames.map(bytes))

/** What a finished track has, group by group. */
const contents = (producer: Track.Producer) =>
  Track.range(producer.track, { from: 0 }).groups.pipe(
    Stream.mapEffect((group) => Effect.map(Stream.runCollect(group.frames), (frames) => frames.map(text).join(" "))),
    Stream.runCollect
  )

const written = (options: TrackSink.Options, ...frames: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const producer = yield* Track.make(path)
    yield* Stream.run(stream(...frames), producer.sink(options))
    yield* producer.finish
    return yield* contents(producer)
  })

describe("Track.sink", () => {
  it.effect("begins a group after so many frames", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* written({ group: { frames: 2 } }, "a", "b", "c", "d", "e"), ["a b", "c d", "e"])
      assert.deepStrictEqual(yield* written({ group: { frames: 1 } }, "a", "b"), ["a", "b"])
      assert.deepStrictEqual(yield* written({ group: { frames: 2 } }), [])
    }))

  it.effect("begins a group after so many bytes", () =>
    Effect.gen(function*() {
      const got = yield* written({ group: { bytes: 4 } }, "aa", "bb", "c", "dddddd", "e")
      assert.deepStrictEqual(got, ["aa bb", "c dddddd", "e"])
    }))

  it.effect("writes one group when told so", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* written({ group: "single" }, "a", "b", "c"), ["a b c"])
    }))

  it.effect("begins a group with the first frame after so much time", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const queue = yield* Queue.unbounded<Uint8Array>()
      yield* Effect.forkScoped(
        Stream.run(Stream.fromQueue(queue), producer.sink({ group: { every: "10 seconds" } }))
      )
      for (const [wait, frame] of [[0, "a"], [9_999, "b"], [1, "c"], [25_000, "d"], [9_999, "e"]] as const) {
        yield* TestClock.adjust(wait)
        yield* Queue.offer(queue, bytes(frame))
        yield* settle
      }
      const sequences = yield* Stream.runCollect(Stream.take(Track.range(producer.track, { from: 2 }).groups, 1))
      assert.strictEqual(sequences[0]?.count, 2)
      assert.strictEqual(producer.track.latest, 2)
    }))

  it.effect("finishes its last group, and leaves the track open for more", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      yield* Stream.run(stream("a"), producer.sink({ group: "single" }))
      assert.isUndefined(producer.track.end)
      yield* Stream.run(stream("b"), producer.sink({ group: "single" }))
      yield* producer.finish
      assert.deepStrictEqual(yield* contents(producer), ["a", "b"])
    }))

  it.effect("fails its last group when the stream fails or is interrupted", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const sink = producer.sink({ group: "single" })
      const failing = Stream.concat(stream("a"), Stream.fail("broken" as const))
      assert.strictEqual(yield* Effect.flip(Stream.run(failing, sink)), "broken")
      const first = yield* read(Stream.flatMap(Stream.take(producer.track.groups, 1), (group) => group.frames), text)
      assert.instanceOf(yield* Effect.flip(Fiber.join(first.fiber)), Cancelled)
      const fiber = yield* Effect.forkChild(Stream.run(Stream.concat(stream("b"), Stream.never), sink))
      yield* settle
      const second = yield* read(Stream.flatMap(producer.track.groups, (group) => group.frames), text)
      yield* Fiber.interrupt(fiber)
      assert.instanceOf(yield* Effect.flip(Fiber.join(second.fiber)), Cancelled)
      assert.deepStrictEqual([first.got, second.got], [["a"], ["b"]])
    }))

  it.effect("fails for a frame above 16 MiB, and once the track has ended", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const sink = producer.sink({ group: { frames: 2 } })
      const large = Stream.make(bytes("a"), new Uint8Array(Group.maxFrameBytes + 1))
      assert.instanceOf(yield* Effect.flip(Stream.run(large, sink)), FrameTooLarge)
      yield* producer.finish
      assert.instanceOf(yield* Effect.flip(Stream.run(stream("a"), sink)), Cancelled)
    }))

  it.effect("goes on without readers, and with slow ones, unless told to suspend", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      yield* producer.track.reader()
      yield* Stream.run(stream("a", "b", "c"), producer.sink({ group: { frames: 1 } }))
      yield* Stream.run(stream("a", "b", "c"), producer.sink({ group: { frames: 1 }, overflow: "drop" }))
      assert.strictEqual(producer.track.latest, 5)
    }))

  it.effect("waits for its first reader when told to", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      let taken = 0
      const source = Stream.tap(stream("a", "b"), () => Effect.sync(() => void taken++))
      const fiber = yield* Effect.forkChild(
        Stream.run(source, producer.sink({ group: "single", waitForReader: true })),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 day")
      assert.strictEqual(taken, 0)
      const reading = yield* read(producer.track.frames, text)
      yield* Fiber.join(fiber)
      yield* settle
      assert.deepStrictEqual(reading.got, ["a", "b"])
    }))

  it.effect("does not wait for a reader of a track that has ended", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const fiber = yield* Effect.forkChild(
        Effect.flip(Stream.run(stream("a"), producer.sink({ group: "single", waitForReader: true }))),
        { startImmediately: true }
      )
      yield* settle
      yield* producer.finish
      assert.instanceOf(yield* Fiber.join(fiber), Cancelled)
    }))

  it.effect("suspends until the slowest reader has taken what is there", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const fast = yield* read(producer.track.frames, text)
      const slow = yield* Stream.toPull(producer.track.frames)
      // a Stream opens with its first pull
      assert.isUndefined(yield* poll(slow))
      let asked = 0
      const source = Stream.rechunk(stream("a", "b", "c", "d"), 1).pipe(
        Stream.tap(() => Effect.sync(() => void asked++))
      )
      const fiber = yield* Effect.forkChild(
        Stream.run(source, producer.sink({ group: { frames: 2 }, overflow: "suspend" })),
        { startImmediately: true }
      )
      yield* settle
      assert.deepStrictEqual([asked, fast.got], [1, ["a"]])
      const got: Array<string> = []
      for (let i = 1; i <= 4; i++) {
        assert.isUndefined(fiber.pollUnsafe())
        got.push(...(yield* slow).map(text))
        yield* settle
        assert.deepStrictEqual(fast.got.length, Math.min(4, i + 1))
      }
      yield* Fiber.join(fiber)
      assert.deepStrictEqual([got, fast.got], [["a", "b", "c", "d"], ["a", "b", "c", "d"]])
      assert.strictEqual(attached(producer).watching, 0)
    }))

  it.effect("loses no frame when it suspends, even with many groups in one batch", () =>
    Effect.gen(function*() {
      const all = Array.from({ length: 100 }, (_, i) => `${i}`)
      for (const order of ["asc", "desc"] as const) {
        const producer = yield* Track.make(path, { order })
        const reading = yield* read(producer.track.frames, text)
        yield* Stream.run(stream(...all), producer.sink({ group: { frames: 3 }, overflow: "suspend" }))
        yield* producer.finish
        yield* Fiber.join(reading.fiber)
        assert.deepStrictEqual(reading.got, all)
        assert.deepStrictEqual(attached(producer), nobody)
      }
    }))

  it.effect("does not stay suspended when the slow reader leaves, or the track fails", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path)
      const slow = yield* Effect.forkChild(
        Stream.runForEach(producer.track.frames, () => Effect.never),
        { startImmediately: true }
      )
      yield* settle
      const suspended = (frames: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          const source = Stream.rechunk(stream(...frames), 1)
          const fiber = yield* Effect.forkChild(
            Effect.exit(Stream.run(source, producer.sink({ group: "single", overflow: "suspend" }))),
            { startImmediately: true }
          )
          yield* settle
          return fiber
        })
      const first = yield* suspended(["a", "b", "c"])
      assert.isUndefined(first.pollUnsafe())
      yield* Fiber.interrupt(slow)
      assert.deepStrictEqual(yield* Fiber.join(first), Exit.void)
      yield* producer.track.reader()
      const second = yield* suspended(["d", "e"])
      assert.isUndefined(second.pollUnsafe())
      yield* producer.fail(new Cancelled({}))
      assert.isTrue(Exit.isFailure(yield* Fiber.join(second)))
    }))

  describe("told to fail", () => {
    const fail = { group: { frames: 1 }, overflow: "fail" } as const

    const run = (producer: Track.Producer, options: TrackSink.Options, ...frames: ReadonlyArray<string>) =>
      Effect.result(Stream.run(stream(...frames), producer.sink(options)))

    const empty = (count: number) => Array.from({ length: count }, () => bytes(""))

    it.effect("drops what nobody reads", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 4 } })
        assert.strictEqual((yield* run(producer, fail, "aaa", "bbb", "ccc"))._tag, "Success")
        yield* producer.finish
        assert.deepStrictEqual(yield* contents(producer), ["ccc"])
      }))

    it.effect("fails before it drops what a reader has not taken, and writes no more", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 8 } })
        const fast = yield* read(producer.track.events, brief)
        const slow = yield* producer.track.reader()
        const frames = Stream.tap(Stream.rechunk(stream("aaa", "bbb", "ccc", "ddd"), 1), () => settle)
        assert.instanceOf(yield* Effect.flip(Stream.run(frames, producer.sink(fail))), Overflow)
        assert.deepStrictEqual(fast.got, ["0", "1"])
        assert.deepStrictEqual((yield* slow).map(brief), ["0", "1"])
        // there is room again
        assert.strictEqual((yield* run(producer, fail, "ccc"))._tag, "Success")
        assert.deepStrictEqual((yield* slow).map(brief), ["2"])
        assert.isUndefined(producer.track.end)
      }))

    it.effect("does not mind a reader that is slow within the limits, or has lost what it had not taken", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 8 } })
        const slow = yield* producer.track.reader()
        for (const frame of ["aaa", "bbb", "ccc", "ddd", "eee"]) {
          assert.strictEqual((yield* run(producer, fail, frame))._tag, "Success")
          if (frame !== "aaa" && frame !== "ddd") yield* slow
        }
        // two are there, of which it has taken one
        assert.strictEqual((yield* run(producer, fail, "fff"))._tag, "Success")
        assert.strictEqual((yield* run(producer, fail, "ggg"))._tag, "Success")
        assert.strictEqual((yield* run(producer, fail, "hhh"))._tag, "Failure")
        yield* run(producer, { group: { frames: 1 } }, "hhh", "iii")
        assert.deepStrictEqual((yield* slow).map(brief), ["5-6!31", "7", "8"])
      }))

    it.effect("does not mind what is dropped for its age", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 8 } })
        yield* producer.track.reader()
        assert.strictEqual((yield* run(producer, fail, "aaa", "bbb"))._tag, "Success")
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* run(producer, fail, "ccc"))._tag, "Success")
        assert.strictEqual((yield* run(producer, fail, "ddd"))._tag, "Failure")
      }))

    it.effect("fails above 8,192 groups that are not taken", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const pull = yield* producer.track.reader()
        yield* Stream.run(Stream.fromIterable(empty(8_192)), producer.sink(fail))
        assert.strictEqual((yield* run(producer, fail, ""))._tag, "Failure")
        assert.strictEqual((yield* pull).length, 8_192)
        assert.strictEqual((yield* run(producer, fail, ""))._tag, "Success")
      }))

    it.effect("fails when a group outgrows its limits before it is read", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const pull = yield* producer.track.reader()
        const sink = producer.sink({ group: "single", overflow: "fail" })
        // the reader of the track has not seen the group
        const many = Stream.fromIterable(empty(Group.maxFrames + 1))
        assert.instanceOf(yield* Effect.flip(Stream.run(many, sink)), Overflow)
        yield* pull
        const queue = yield* Queue.unbounded<Uint8Array>()
        const sinking = yield* Effect.forkChild(Stream.run(Stream.fromQueue(queue), sink), { startImmediately: true })
        yield* Queue.offerAll(queue, empty(Group.maxFrames))
        yield* settle
        const [group] = yield* pull
        assert(group._tag === "Group")
        const frames = yield* group.reader
        yield* frames
        // as many again as it has taken
        yield* Queue.offerAll(queue, empty(Group.maxFrames))
        yield* settle
        assert.isUndefined(sinking.pollUnsafe())
        yield* Queue.offer(queue, bytes(""))
        assert.instanceOf(yield* Effect.flip(Fiber.join(sinking)), Overflow)
        assert.strictEqual((yield* frames).length, Group.maxFrames)
      }))

    it.effect("fails when a group that others write would have to be given up", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 8 } })
        const slow = yield* producer.appendGroup
        yield* slow.writeFrame(bytes("aaa"))
        const reading = yield* producer.track.reader()
        const [group] = yield* reading
        assert(group._tag === "Group")
        const frames = yield* group.reader
        assert.strictEqual((yield* run(producer, fail, "bbb"))._tag, "Success")
        yield* reading
        assert.strictEqual((yield* run(producer, fail, "ccc"))._tag, "Failure")
        yield* frames
        assert.strictEqual((yield* run(producer, fail, "ccc"))._tag, "Success")
      }))

    it.effect("fails also when such a group is no longer kept for others", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 8 } })
        const slow = yield* producer.appendGroup
        yield* slow.writeFrame(bytes("aaa"))
        const reading = yield* producer.track.reader()
        const [group] = yield* reading
        assert(group._tag === "Group")
        const frames = yield* group.reader
        assert.strictEqual((yield* run(producer, fail, "bbb"))._tag, "Success")
        yield* TestClock.adjust("10 seconds")
        assert.isUndefined(producer.track.group(0))
        assert.strictEqual((yield* run(producer, fail, "ccc"))._tag, "Failure")
        yield* frames
        assert.strictEqual((yield* run(producer, { ...fail, group: "single" }, "c"))._tag, "Success")
      }))
  })

  it.effect("goes on in a new group when the track gave up the one that it wrote", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(path, { cache: { maxBytes: 8 } })
      const queue = yield* Queue.unbounded<Uint8Array>()
      const sinking = yield* Effect.forkChild(Stream.run(Stream.fromQueue(queue), producer.sink({ group: "single" })), {
        startImmediately: true
      })
      yield* Queue.offer(queue, bytes("aaa"))
      yield* settle
      const large = yield* producer.appendGroup
      yield* large.writeFrame(bytes("too large"))
      yield* Queue.offer(queue, bytes("bbb"))
      yield* settle
      assert.strictEqual(producer.track.latest, 2)
      assert.isUndefined(sinking.pollUnsafe())
    }))
})
