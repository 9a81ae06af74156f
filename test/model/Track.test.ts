import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Cancelled, Duplicate, Evicted, SessionClosed } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, brief, bytes, nobody, poll, read, settle, text } from "./fixtures.ts"

const path = ["room", "alice"]

/** Writes groups of one frame, each finished, that say their own sequence. */
const publish = (producer: Track.Producer, sequences: ReadonlyArray<number>) =>
  Effect.forEach(sequences, (sequence) =>
    Effect.gen(function*() {
      const group = yield* producer.createGroup(sequence)
      yield* group.writeFrame(bytes(`${sequence}`))
      yield* group.finish
    }), { discard: true })

const kilobytes = (n: number) => new Uint8Array(n * 1024)

const eventsFrom = (track: Track.Track, start: Track.Start) => read(Track.range(track, { from: start }).events, brief)

describe("Track", () => {
  it.effect("what is no sequence begins no group", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      for (const sequence of [1.5, Number.NaN, Infinity, 2 ** 53]) {
        const cause = yield* Effect.flip(Effect.sandbox(producer.createGroup(sequence)))
        assert.instanceOf(Cause.squash(cause), RangeError)
      }
      assert.isUndefined(producer.track.latest)
    }).pipe(Effect.scoped))

  it.effect("says what its publisher says of it", () =>
    Effect.gen(function*() {
      const plain = yield* Track.make(path)
      assert.deepStrictEqual(plain.track.info, { priority: 0, order: "default", expires: 0 })
      const { track } = yield* Track.make(path, { priority: 9, order: "asc", expires: 500 })
      assert.deepStrictEqual(track.info, { priority: 9, order: "asc", expires: 500 })
      assert.deepStrictEqual([track.path, track.latest, track.end], [path, undefined, undefined])
    }))

  describe("groups", () => {
    it.effect("are appended one after the other", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        assert.strictEqual((yield* producer.appendGroup).sequence, 0)
        assert.strictEqual(producer.appendGroupUnsafe()?.sequence, 1)
        yield* producer.createGroup(10)
        assert.strictEqual((yield* producer.appendGroup).sequence, 11)
        assert.strictEqual(producer.track.latest, 11)
        const later = yield* Track.make(path, { first: 40 })
        assert.strictEqual((yield* later.appendGroup).sequence, 40)
      }))

    it.effect("are written out of order and at the same time, and come as they begin", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const reading = yield* eventsFrom(producer.track, 0)
        const [c, a, b] = [
          yield* producer.createGroup(4),
          yield* producer.createGroup(0),
          yield* producer.createGroup(2)
        ]
        yield* settle
        assert.deepStrictEqual(reading.got, ["4", "0", "2"])
        assert.strictEqual(producer.track.latest, 4)
        for (const group of [a, c, b]) yield* group.writeFrame(bytes("x"))
      }))

    it.effect("cannot begin twice, nor when they were given up, nor below the first one", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { first: 2 })
        yield* producer.createGroup(3)
        assert.instanceOf(yield* Effect.flip(producer.createGroup(3)), Duplicate)
        assert.instanceOf(yield* Effect.flip(producer.createGroup(1)), Evicted)
        yield* producer.gap({ from: 4, to: 6, code: 2 })
        assert.instanceOf(yield* Effect.flip(producer.createGroup(5)), Evicted)
        assert.strictEqual((yield* producer.appendGroup).sequence, 7)
        yield* producer.createGroup(2)
      }))

    it.effect("can no longer begin once the track has ended", () =>
      Effect.gen(function*() {
        const finished = yield* Track.make(path)
        yield* finished.finish
        assert.instanceOf(yield* Effect.flip(finished.appendGroup), Cancelled)
        assert.instanceOf(yield* Effect.flip(finished.createGroup(5)), Cancelled)
        assert.isUndefined(finished.appendGroupUnsafe())
        const closed = new SessionClosed({ code: 0, reason: "bye", by: "remote" })
        const failed = yield* Track.make(path)
        yield* failed.fail(closed)
        yield* failed.finish
        assert.strictEqual(yield* Effect.flip(failed.appendGroup), closed)
        assert.deepStrictEqual(failed.track.end, Exit.fail(closed))
      }))
  })

  describe("a reader", () => {
    it.effect("begins at the first frame of the latest group, and gets what follows", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0, 1])
        const open = yield* producer.appendGroup
        yield* open.writeFrame(bytes("first"))
        const groups: Array<ReadonlyArray<string>> = []
        const fiber = yield* Effect.forkChild(
          producer.track.groups.pipe(
            Stream.mapEffect((group) => Stream.runCollect(group.frames)),
            Stream.runForEach((frames) => Effect.sync(() => void groups.push(frames.map(text))))
          ),
          { startImmediately: true }
        )
        yield* settle
        yield* open.writeFrame(bytes("second"))
        yield* open.finish
        yield* publish(producer, [3])
        yield* producer.finish
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(groups, [["first", "second"], ["3"]])
      }))

    it.effect("of an empty track begins at its first group", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { first: 3 })
        const reading = yield* eventsFrom(producer.track, "latest")
        yield* publish(producer, [5, 3])
        yield* settle
        assert.deepStrictEqual(reading.got, ["5", "3"])
      }))

    it.effect("begins where it is told to, whatever the handle says", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0, 1, 2, 3])
        const pull = yield* producer.track.reader({ from: 2 })
        assert.deepStrictEqual((yield* pull).map(brief), ["2", "3"])
        assert.deepStrictEqual((yield* yield* Track.range(producer.track, { from: 1 }).reader()).map(brief), [
          "1",
          "2",
          "3"
        ])
        assert.deepStrictEqual((yield* yield* producer.track.reader()).map(brief), ["3"])
        const ahead = yield* producer.track.reader({ from: 6 })
        yield* publish(producer, [4, 5, 6, 7])
        assert.deepStrictEqual((yield* ahead).map(brief), ["6", "7"])
      }))

    it.effect("has its own pace", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const [fast, slow] = [yield* producer.track.reader(), yield* producer.track.reader()]
        const got: Array<string> = []
        for (let i = 0; i < 5; i++) {
          yield* publish(producer, [i])
          got.push(...(yield* fast).map(brief))
        }
        assert.deepStrictEqual(got, ["0", "1", "2", "3", "4"])
        assert.deepStrictEqual((yield* slow).map(brief), got)
      }))

    it.effect("that reads nothing never slows the producer, and is told what it missed", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxAge: "1 second" } })
        const pull = yield* producer.track.reader()
        yield* publish(producer, [0])
        assert.deepStrictEqual((yield* pull).map(brief), ["0"])
        yield* publish(producer, [1, 2, 3])
        yield* TestClock.adjust("1 second")
        yield* publish(producer, [4, 5])
        assert.deepStrictEqual((yield* pull).map(brief), ["1-2!31", "3", "4", "5"])
      }))

    it.effect("loses nothing when a pull is interrupted", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const pull = yield* producer.track.reader()
        assert.isUndefined(yield* poll(pull))
        yield* publish(producer, [0, 1])
        assert.deepStrictEqual((yield* poll(pull))?.map(brief), ["0", "1"])
        assert.isUndefined(yield* poll(pull))
      }))

    it.effect("that is 8,192 events behind still hears of every sequence once", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxAge: "1 minute" } })
        const pull = yield* producer.track.reader({ from: 0 })
        yield* publish(producer, [0, 2])
        assert.deepStrictEqual((yield* pull).map(brief), ["0", "2"])
        for (let i = 0; i < 30_000; i++) producer.appendGroupUnsafe()
        const [missing, lost, ...rest] = yield* pull
        assert.strictEqual(brief(missing), "1-1!26")
        // the last is 30,002, and the 8,192 up to it are kept
        assert.strictEqual(brief(lost!), "3-21810!26")
        assert.deepStrictEqual(rest.map(brief), Array.from({ length: 8_192 }, (_, i) => String(21_811 + i)))
      }))
  })

  describe("the end", () => {
    it.effect("of a finished track comes after all that is there, for everybody", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0])
        const group = yield* producer.appendGroup
        yield* group.writeFrame(bytes("last"))
        const early = yield* eventsFrom(producer.track, 0)
        yield* producer.finish
        const late = yield* eventsFrom(producer.track, 0)
        for (const { fiber, got } of [early, late]) {
          yield* Fiber.join(fiber)
          assert.deepStrictEqual(got, ["0", "1"])
        }
        assert.deepStrictEqual(group.group.end, Exit.void)
        assert.deepStrictEqual((yield* Stream.runCollect(producer.track.frames)).map(text), ["last"])
        assert.deepStrictEqual(attached(producer), nobody)
      }))

    it.effect("of a failed track is its failure, after all that is there", () =>
      Effect.gen(function*() {
        const error = new Evicted({ detail: "why" })
        const producer = yield* Track.make(path)
        const group = yield* producer.appendGroup
        yield* group.writeFrame(bytes("last"))
        const events = yield* eventsFrom(producer.track, 0)
        const frames = yield* read(producer.track.frames, text)
        yield* producer.fail(error)
        assert.deepStrictEqual(yield* Fiber.await(events.fiber), Exit.fail(error))
        assert.deepStrictEqual(yield* Fiber.await(frames.fiber), Exit.fail(error))
        assert.deepStrictEqual([events.got, frames.got], [["0"], ["last"]])
        assert.deepStrictEqual(group.group.end, Exit.fail(error))
        assert.strictEqual(yield* Effect.flip(Stream.runDrain(producer.track.events)), error)
        assert.deepStrictEqual(attached(producer), nobody)
        assert.deepStrictEqual(attached(group.group), nobody)
      }))

    it.effect("is clean when the scope closes with success, and Cancelled otherwise", () =>
      Effect.gen(function*() {
        const ends = [Exit.void, Exit.fail("broken"), Exit.interrupt(1)]
        for (const exit of ends) {
          const scope = yield* Scope.make()
          const producer = yield* Scope.provide(Track.make(path), scope)
          const group = yield* producer.appendGroup
          const events = yield* read(producer.track.events, brief)
          const frames = yield* read(producer.track.frames, text)
          yield* group.writeFrame(bytes("x"))
          yield* Scope.close(scope, exit)
          for (const { fiber } of [events, frames]) {
            const end = yield* Fiber.await(fiber)
            if (exit === Exit.void) assert.deepStrictEqual(end, Exit.void)
            else assert.instanceOf(yield* Effect.flip(end as Exit.Exit<void, unknown>), Cancelled)
          }
          assert.deepStrictEqual([events.got, frames.got], [["0"], ["x"]])
          assert.instanceOf(yield* Effect.flip(group.writeFrame(bytes("y"))), Cancelled)
        }
      }))
  })

  describe("gaps", () => {
    it.effect("are told as they are, joined where they touch and mean the same", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const pull = yield* producer.track.reader({ from: 0 })
        yield* producer.gap({ from: 0, to: 1, code: 2 })
        yield* producer.gap({ from: 2, to: 2, code: 2 })
        yield* producer.gap({ from: 3, to: 3, code: 65 })
        assert.deepStrictEqual((yield* pull).map(brief), ["0-2!2", "3-3!65"])
        const late = yield* producer.track.reader({ from: 1 })
        assert.deepStrictEqual((yield* late).map(brief), ["1-2!2", "3-3!65"])
      }))

    it.effect("leave out what has begun and what was given up before", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const pull = yield* producer.track.reader({ from: 0 })
        assert.isUndefined(yield* poll(pull))
        yield* publish(producer, [3])
        yield* producer.gap({ from: 5, to: 6, code: 9 })
        yield* producer.gap({ from: 1, to: 8, code: 2 })
        assert.deepStrictEqual((yield* pull).map(brief), ["3", "5-6!9", "1-2!2", "4-4!2", "7-8!2"])
        yield* producer.gap({ from: 0, to: 8, code: 3 })
        assert.deepStrictEqual((yield* pull).map(brief), ["0-0!3"])
        yield* producer.gap({ from: 0, to: 8, code: 3 })
        assert.isUndefined(yield* poll(pull))
      }))

    it.effect("begin where their reader does", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [4])
        const pull = yield* producer.track.reader()
        assert.deepStrictEqual((yield* pull).map(brief), ["4"])
        yield* producer.gap({ from: 0, to: 6, code: 2 })
        assert.deepStrictEqual((yield* pull).map(brief), ["5-6!2"])
      }))

    it.effect("cover what was left out when the track finishes", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const early = yield* eventsFrom(producer.track, 0)
        yield* publish(producer, [2, 5])
        yield* producer.finish
        const late = yield* eventsFrom(producer.track, 0)
        assert.deepStrictEqual(early.got, ["2", "5", "0-1!13", "3-4!13"])
        assert.deepStrictEqual(late.got, ["0-1!13", "2", "3-4!13", "5"])
      }))
  })

  describe("a range", () => {
    const events = (producer: Track.Producer, range: Track.Range) =>
      read(Track.range(producer.track, range).events, brief)

    it.effect("in the past is told at once, and ends", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0, 1, 2, 3, 5])
        const { fiber, got } = yield* events(producer, { from: 1, to: 2 })
        assert.deepStrictEqual(got, ["1", "2"])
        yield* Fiber.join(fiber)
        // nobody has said of 4 that it will not come
        const open = yield* events(producer, { from: 3, to: 4 })
        assert.deepStrictEqual(open.got, ["3"])
        assert.isUndefined(open.fiber.pollUnsafe())
        yield* producer.gap({ from: 4, to: 4, code: 65 })
        yield* Fiber.join(open.fiber)
        assert.deepStrictEqual(open.got, ["3", "4-4!65"])
        assert.deepStrictEqual(attached(producer), nobody)
      }))

    it.effect("that is no longer kept is a gap, and ends", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0, 1, 2])
        yield* TestClock.adjust("10 seconds")
        const { fiber, got } = yield* events(producer, { from: 0, to: 1 })
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(got, ["0-1!31"])
      }))

    it.effect("in the future is waited for, whatever comes before and after", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0])
        const { fiber, got } = yield* events(producer, { from: 3, to: 4 })
        yield* publish(producer, [1, 6, 4])
        yield* settle
        assert.isUndefined(fiber.pollUnsafe())
        yield* publish(producer, [3])
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(got, ["4", "3"])
        const ends = yield* events(producer, { from: 9, to: 10 })
        yield* producer.finish
        yield* Fiber.join(ends.fiber)
        assert.deepStrictEqual(ends.got, [])
      }))

    it.effect("from the newest group on begins there", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0, 1])
        const { fiber, got } = yield* events(producer, { from: "latest", to: 2 })
        const past = yield* events(producer, { from: "latest", to: 0 })
        yield* Fiber.join(past.fiber)
        yield* publish(producer, [2, 3])
        yield* Fiber.join(fiber)
        assert.deepStrictEqual([got, past.got], [["1", "2"], []])
      }))

    it.effect("ends its reader though the track fails afterwards, and lets its groups go on", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const group = yield* producer.appendGroup
        const groups = yield* Stream.runCollect(Track.range(producer.track, { from: 0, to: 0 }).groups)
        const frames = yield* read(groups[0]!.frames, text)
        yield* group.writeFrame(bytes("x"))
        yield* group.finish
        yield* producer.fail(new Cancelled({}))
        yield* Fiber.join(frames.fiber)
        assert.deepStrictEqual(frames.got, ["x"])
      }))

    it.effect("that is over is nothing to wait for, though its reader is still open", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const pull = yield* producer.track.reader({ from: 0, to: 0 })
        yield* publish(producer, [0])
        yield* pull
        yield* Effect.flip(pull)
        yield* publish(producer, [1, 2])
        yield* producer.taken
        yield* producer.unused
        yield* Effect.flip(pull)
      }))
  })

  describe("the cache", () => {
    it.effect("keeps the latest group for ever", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0])
        yield* TestClock.adjust("1000 days")
        const reading = yield* eventsFrom(producer.track, "latest")
        const frames = yield* read(producer.track.frames, text)
        assert.deepStrictEqual([reading.got, frames.got], [["0"], ["0"]])
      }))

    it.effect("keeps other groups for 10 seconds after a newer one has come", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0])
        yield* TestClock.adjust("1 minute")
        yield* publish(producer, [1])
        yield* TestClock.adjust("5 seconds")
        yield* publish(producer, [2])
        yield* TestClock.adjust("4999 millis")
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0", "1", "2"])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1", "2"])
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-1!31", "2"])
        assert.instanceOf(yield* Effect.flip(producer.createGroup(1)), Evicted)
      }))

    it.effect("says of sequences that came too late that they will not come", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const reading = yield* eventsFrom(producer.track, 0)
        yield* publish(producer, [2, 5, 6])
        yield* TestClock.adjust("10 seconds")
        yield* publish(producer, [7])
        yield* settle
        assert.deepStrictEqual(reading.got, ["2", "5", "6", "7", "0-1!31", "3-4!31"])
        assert.instanceOf(yield* Effect.flip(producer.createGroup(4)), Evicted)
      }))

    it.effect("drops the oldest groups above its bytes, but never the latest", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 10 * 1024 } })
        for (let i = 0; i < 3; i++) {
          const group = yield* producer.appendGroup
          yield* group.writeFrame(kilobytes(4))
          yield* group.finish
        }
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1", "2"])
        const large = yield* producer.appendGroup
        yield* large.writeFrame(kilobytes(2))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1", "2", "3"])
        yield* large.writeFrame(kilobytes(1))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-1!31", "2", "3"])
        yield* large.writeFrame(kilobytes(100))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-2!31", "3"])
        yield* large.finish
        yield* publish(producer, [4])
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-3!31", "4"])
      }))

    it.effect("holds 32 MiB, unless told otherwise", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        for (let i = 0; i < 4; i++) {
          const group = yield* producer.appendGroup
          yield* group.writeFrame(kilobytes(8 * 1024))
          yield* group.finish
        }
        const last = yield* producer.appendGroup
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0", "1", "2", "3", "4"])
        yield* last.writeFrame(bytes("x"))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1", "2", "3", "4"])
      }))

    it.effect("counts what a growing frame has, not what it will have", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 10 * 1024 } })
        yield* publish(producer, [0])
        const frame = yield* (yield* producer.appendGroup).createFrame(12 * 1024)
        yield* frame.write(kilobytes(8))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0", "1"])
        yield* frame.write(kilobytes(4))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1"])
      }))

    it.effect("holds no more than 8,192 groups, be they empty, and no more gaps", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        for (let i = 0; i < 8_292; i++) producer.appendGroupUnsafe()
        const [first, ...rest] = yield* yield* producer.track.reader({ from: 0 })
        assert.strictEqual(brief(first), "0-99!31")
        assert.strictEqual(rest.length, 8_192)
        for (let i = 0; i < 20_000; i++) yield* producer.gap({ from: 9_000 + 2 * i, to: 9_000 + 2 * i, code: 2 })
        assert.isAtMost((yield* yield* producer.track.reader({ from: 0 })).length, 8_192 + 2)
      }))

    it.effect("lets a group that is dropped while it is written go on for those who read it", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const old = yield* producer.appendGroup
        const reading = yield* read(old.group.frames, text)
        yield* publish(producer, [1])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1"])
        yield* old.writeFrame(bytes("still here"))
        yield* old.finish
        yield* Fiber.join(reading.fiber)
        assert.deepStrictEqual(reading.got, ["still here"])
      }))

    it.effect("fails such a group when the bytes run out", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 10 * 1024 } })
        const old = yield* producer.appendGroup
        yield* publish(producer, [1])
        yield* TestClock.adjust("10 seconds")
        yield* publish(producer, [2])
        yield* old.writeFrame(kilobytes(8))
        const latest = yield* producer.appendGroup
        assert.isUndefined(old.group.end)
        yield* latest.writeFrame(kilobytes(4))
        assert.instanceOf(yield* Effect.flip(Stream.runDrain(old.group.frames)), Evicted)
        assert.instanceOf(yield* Effect.flip(old.writeFrame(bytes("x"))), Cancelled)
        // its bytes no longer count
        yield* latest.writeFrame(kilobytes(5))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 2)).got, ["2", "3"])
      }))

    it.effect("fails an open group rather than drop more than it must", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 10 * 1024 } })
        const [old, next, latest] = [
          yield* producer.appendGroup,
          yield* producer.appendGroup,
          yield* producer.appendGroup
        ]
        yield* old.writeFrame(kilobytes(6))
        yield* next.writeFrame(kilobytes(3))
        yield* latest.writeFrame(kilobytes(2))
        assert.instanceOf(yield* Effect.flip(Stream.runDrain(old.group.frames)), Evicted)
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-0!31", "1", "2"])
      }))

    it.effect("fails an open group by the beginning of a frame as well, where there are very many", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 10 * 1024 } })
        const old = yield* producer.appendGroup
        yield* producer.appendGroup
        let frames = 0
        while (old.group.end === undefined && frames < 20_000) {
          const frame = old.createFrameUnsafe(1)
          assert.isDefined(frame)
          frames++
          if (frame.writeUnsafe(Uint8Array.of(1))) continue
          assert.instanceOf(yield* Effect.flip(frame.write(bytes("x"))), Cancelled)
        }
        assert.isAtMost(frames, 8_300)
        assert.instanceOf(yield* Effect.flip(Stream.runDrain(old.group.frames)), Evicted)
      }))

    it.effect("does not count the frames twice that a group loses after it was dropped", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 34 * 1024 * 1024 } })
        const frame = kilobytes(16 * 1024)
        const old = yield* producer.appendGroup
        const latest = yield* producer.appendGroup
        yield* old.writeFrame(frame)
        yield* old.writeFrame(frame)
        // too much for the track, and for the group
        yield* old.writeFrame(frame)
        assert.strictEqual(old.group.first, 1)
        yield* latest.writeFrame(frame)
        yield* latest.writeFrame(frame)
        yield* (yield* producer.appendGroup).writeFrame(frame)
        assert.deepStrictEqual((yield* eventsFrom(producer.track, 0)).got, ["0-1!31", "2"])
      }))

    it.effect("never holds more bytes than it may, however many groups are written at once", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path, { cache: { maxBytes: 64 * 1024 } })
        const groups: Array<Group.Producer> = []
        for (let i = 0; i < 50; i++) groups.push(yield* producer.appendGroup)
        for (let round = 0; round < 20; round++) {
          for (const group of groups) group.writeFrameUnsafe(kilobytes(1))
          const open = groups.filter(({ group }) => group.end === undefined)
          const held = open.reduce((total, { group }) => total + group.size, 0)
          assert.isAtMost(held, 64 * 1024)
        }
        assert.isUndefined(groups.at(-1)!.group.end)
      }))

    it.effect("gives a group that has lost its beginning to nobody new", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const group = yield* producer.appendGroup
        for (let i = 0; i <= Group.maxFrames; i++) group.writeFrameUnsafe(bytes(""))
        assert.deepStrictEqual((yield* eventsFrom(producer.track, "latest")).got, ["0-0!31"])
      }))
  })

  describe("who reads it", () => {
    it.effect("is known to its producer", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const used = yield* Effect.forkChild(producer.used, { startImmediately: true })
        yield* producer.unused
        yield* settle
        assert.isUndefined(used.pollUnsafe())
        const scope = yield* Scope.make()
        yield* Scope.provide(producer.track.reader(), scope)
        yield* Fiber.join(used)
        const unused = yield* Effect.forkChild(producer.unused, { startImmediately: true })
        yield* settle
        assert.isUndefined(unused.pollUnsafe())
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(unused)
        assert.deepStrictEqual(attached(producer), nobody)
      }))

    it.effect("is waited for at most until the track ends", () =>
      Effect.gen(function*() {
        for (const end of ["finish", "fail"] as const) {
          const producer = yield* Track.make(path)
          const used = yield* Effect.forkChild(producer.used, { startImmediately: true })
          yield* settle
          yield* end === "finish" ? producer.finish : producer.fail(new Evicted({}))
          yield* Fiber.join(used)
        }
      }))

    it.effect("has taken everything once it has read the events and the frames", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* publish(producer, [0])
        yield* producer.taken
        const pull = yield* producer.track.reader()
        const taken = yield* Effect.forkChild(producer.taken, { startImmediately: true })
        yield* settle
        assert.isUndefined(taken.pollUnsafe())
        const [group] = yield* pull
        assert.strictEqual(group._tag, "Group")
        // a finished group counts as long as somebody is on the way through it
        const frames = yield* (group as Group.Group).reader
        yield* settle
        assert.isUndefined(taken.pollUnsafe())
        yield* frames
        yield* Fiber.join(taken)
      }))

    it.effect("has not taken what was there before it opened", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        // the log behind the track keeps what nobody has to read up to here, and drops it with this one
        for (let i = 0; i < 64; i++) yield* producer.appendGroup
        const pull = yield* producer.track.reader()
        const taken = yield* Effect.forkChild(producer.taken, { startImmediately: true })
        yield* settle
        assert.isUndefined(taken.pollUnsafe())
        yield* pull
        yield* Fiber.join(taken)
      }))

    it.effect("is waited for in a group that is no longer kept for others", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const old = yield* producer.appendGroup
        const pull = yield* old.group.reader
        yield* publish(producer, [1])
        yield* TestClock.adjust("10 seconds")
        yield* publish(producer, [2])
        yield* old.writeFrame(bytes("x"))
        const taken = yield* Effect.forkChild(producer.taken, { startImmediately: true })
        yield* settle
        assert.isUndefined(taken.pollUnsafe())
        yield* pull
        yield* Fiber.join(taken)
      }))

    it.effect("is not waited for once the track has failed", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        yield* producer.track.reader()
        yield* publish(producer, [0])
        const taken = yield* Effect.forkChild(producer.taken, { startImmediately: true })
        yield* settle
        assert.isUndefined(taken.pollUnsafe())
        yield* producer.fail(new Evicted({}))
        yield* Fiber.join(taken)
      }))

    it.effect("leaves nothing behind", () =>
      Effect.gen(function*() {
        const producer = yield* Track.make(path)
        const group = yield* producer.appendGroup
        const readings = [
          yield* read(producer.track.events, brief),
          yield* read(producer.track.frames, text),
          yield* read(producer.track.groups, brief),
          yield* read(group.group.frames, text)
        ]
        assert.deepStrictEqual(attached(producer).readers, 3)
        for (const { fiber } of readings) yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(attached(producer), nobody)
        assert.deepStrictEqual(attached(group.group), nobody)
      }))
  })
})
