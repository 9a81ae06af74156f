import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as Output from "../../src/cli/Output.ts"
import * as TrackPrinter from "../../src/cli/TrackPrinter.ts"
import { Cancelled } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"

const encoder = new TextEncoder()

interface Printing {
  readonly isTerminal?: boolean
  readonly blocked?: Effect.Effect<void>
}

const outputTo = (writes: Array<string>, { blocked = Effect.void, isTerminal = false }: Printing = {}) =>
  Output.Output.of({
    isTerminal,
    write: (data) =>
      Effect.andThen(
        blocked,
        Effect.sync(() => void writes.push(typeof data === "string" ? data : Buffer.from(data).toString("latin1")))
      ),
    note: () => Effect.void,
    progress: () => Effect.void
  })

/** Prints a track of which all groups are wanted, or a range; `printed` is what has been. */
const start = (
  { range = { from: 0 }, ...options }: TrackPrinter.Options & Printing & { readonly range?: Track.Range }
) =>
  Effect.gen(function*() {
    const writes: Array<string> = []
    const producer = yield* Track.make(["a"])
    const fiber = yield* TrackPrinter.print(Track.range(producer.track, range), options).pipe(
      Effect.provideService(Output.Output, outputTo(writes, options)),
      Effect.forkChild({ startImmediately: true })
    )
    const group = (sequence: number, ...frames: ReadonlyArray<string | Uint8Array>) =>
      Effect.gen(function*() {
        const group = yield* producer.createGroup(sequence)
        for (const frame of frames) yield* group.writeFrame(typeof frame === "string" ? encoder.encode(frame) : frame)
        return group
      })
    const settle = TestClock.adjust(0)
    return { producer, fiber, group, settle, writes, printed: () => writes.join("") }
  })

const objects = (text: string) => text.trim().split("\n").map((line) => JSON.parse(line) as unknown)

describe("raw", () => {
  it.effect("writes groups in sequence, whatever came first, and payloads as they are", () =>
    Effect.gen(function*() {
      const { fiber, group, printed, producer } = yield* start({ format: "raw" })
      const second = yield* group(1, "c", "d")
      yield* second.finish
      const first = yield* group(0, Uint8Array.of(0xff, 0x0a))
      yield* first.writeFrame(encoder.encode("b"))
      yield* producer.finish
      yield* Fiber.join(fiber)
      assert.strictEqual(printed(), "\u00ff\nbcd")
    }))

  it.effect("fails at a gap, after what is before it", () =>
    Effect.gen(function*() {
      const { fiber, group, printed, producer } = yield* start({ format: "raw" })
      yield* Effect.flatMap(group(0, "a"), (group) => group.finish)
      yield* producer.gap({ from: 1, to: 2, code: 31 })
      yield* group(3, "d")
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.message, "groups 1 to 2 are missing (code 31): what was written is not complete")
      assert.strictEqual(printed(), "a")
    }))

  it.effect("fails as a group does", () =>
    Effect.gen(function*() {
      const { fiber, group } = yield* start({ format: "raw" })
      yield* Effect.flatMap(group(0, "a"), (group) => group.fail(new Cancelled({})))
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "MoqCancelled")
    }))
})

describe("json", () => {
  it.effect("tells frames, gaps, failed groups and the end", () =>
    Effect.gen(function*() {
      const { fiber, group, printed, producer, settle } = yield* start({ format: "json" })
      const first = yield* group(0, "one", Uint8Array.of(0xff))
      yield* settle
      yield* producer.gap({ from: 1, to: 4, code: 2 })
      yield* settle
      yield* first.fail(new Cancelled({}))
      yield* settle
      yield* producer.finish
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(objects(printed()), [
        { event: "frame", group: 0, frame: 0, bytes: 3, text: "one" },
        { event: "frame", group: 0, frame: 1, bytes: 1, base64: "/w==" },
        { event: "gap", from: 1, to: 4, code: 2 },
        { event: "gap", from: 0, to: 0, code: 0 },
        { event: "end" }
      ])
    }))

  it.effect("does not let a group that stalls hold up the next", () =>
    Effect.gen(function*() {
      const { group, printed, settle } = yield* start({ format: "json" })
      yield* group(0, "one")
      yield* group(1, "two")
      yield* settle
      assert.strictEqual(objects(printed()).length, 2)
    }))

  it.effect("fails as the track does, and tells no end", () =>
    Effect.gen(function*() {
      const { fiber, group, printed, producer, settle } = yield* start({ format: "json" })
      yield* group(0, "one")
      yield* settle
      yield* producer.fail(new Cancelled({}))
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.isTrue(TrackPrinter.isReadError(error))
      assert.notInclude(printed(), "end")
    }))
})

describe("lines", () => {
  it.effect("are the bytes of the frames, unless a terminal reads them", () =>
    Effect.gen(function*() {
      const frame = "\u001b[31mred\u0007"
      for (const isTerminal of [false, true]) {
        const { fiber, group, printed, producer } = yield* start({ format: "lines", isTerminal })
        yield* group(0, frame, "two")
        yield* producer.finish
        yield* Fiber.join(fiber)
        assert.strictEqual(printed(), isTerminal ? "[31mred\ntwo\n" : `${frame}\ntwo\n`)
      }
    }))

  it.effect("stop after so many frames, though the track goes on", () =>
    Effect.gen(function*() {
      const { fiber, group, printed } = yield* start({ format: "lines", count: 3 })
      yield* group(0, "a", "b")
      yield* group(1, "c", "d")
      yield* Fiber.join(fiber)
      assert.strictEqual(printed().split("\n").length, 4)
    }))

  it.effect("wait while nobody takes them", () =>
    Effect.gen(function*() {
      const taken = yield* Deferred.make<void>()
      const { fiber, group, printed, producer, settle } = yield* start({
        format: "lines",
        blocked: Deferred.await(taken)
      })
      yield* group(0, "a")
      yield* settle
      yield* producer.finish
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      assert.strictEqual(printed(), "")
      yield* Deferred.succeed(taken, undefined)
      yield* Fiber.join(fiber)
      assert.strictEqual(printed(), "a\n")
    }))
})

describe("a range", () => {
  it.effect("ends with the last of its groups, though the track goes on", () =>
    Effect.gen(function*() {
      const { fiber, group, printed, producer, settle } = yield* start({ format: "json", range: { from: 1, to: 3 } })
      yield* group(0, "zero")
      const third = yield* group(3, "three")
      yield* group(4, "four")
      yield* settle
      yield* producer.gap({ from: 2, to: 2, code: 2 })
      yield* settle
      yield* Effect.flatMap(group(1, "one"), (group) => group.finish)
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* third.finish
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(objects(printed()), [
        { event: "frame", group: 3, frame: 0, bytes: 5, text: "three" },
        { event: "gap", from: 2, to: 2, code: 2 },
        { event: "frame", group: 1, frame: 0, bytes: 3, text: "one" },
        { event: "end" }
      ])
    }))

  it.effect("is raw in sequence, and complete without its neighbours", () =>
    Effect.gen(function*() {
      const { fiber, group, printed, producer } = yield* start({ format: "raw", range: { from: 1, to: 2 } })
      yield* producer.gap({ from: 0, to: 0, code: 2 })
      yield* Effect.flatMap(group(2, "two"), (group) => group.finish)
      yield* producer.gap({ from: 3, to: 3, code: 2 })
      yield* Effect.flatMap(group(1, "one"), (group) => group.finish)
      yield* Fiber.join(fiber)
      assert.strictEqual(printed(), "onetwo")
    }))
})

describe("a group", () => {
  const print = (group: Group.Group, format: TrackPrinter.Format, first: number) =>
    Effect.gen(function*() {
      const writes: Array<string> = []
      const exit = yield* TrackPrinter.printGroup(group, { format, first }).pipe(
        Effect.provideService(Output.Output, outputTo(writes)),
        Effect.exit
      )
      return { exit, printed: writes.join("") }
    })

  it.effect("tells its frames by their index, then the end", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(7)
      const tail = Group.tail(producer.group, 1)
      const growing = yield* Effect.forkChild(print(tail, "json", 1), { startImmediately: true })
      for (const text of ["a", "b", "c"]) {
        yield* producer.writeFrame(encoder.encode(text))
        yield* TestClock.adjust(0)
      }
      yield* producer.finish
      assert.deepStrictEqual(objects((yield* Fiber.join(growing)).printed), [
        { event: "frame", group: 7, frame: 1, bytes: 1, text: "b" },
        { event: "frame", group: 7, frame: 2, bytes: 1, text: "c" },
        { event: "end" }
      ])
      assert.strictEqual((yield* print(tail, "lines", 1)).printed, "b\nc\n")
      assert.strictEqual((yield* print(producer.group, "raw", 0)).printed, "abc")
    }))

  it.effect("fails as it does, after what is there", () =>
    Effect.gen(function*() {
      const producer = Group.makeUnsafe(7)
      yield* producer.writeFrame(encoder.encode("a"))
      yield* producer.fail(new Cancelled({}))
      const { exit, printed } = yield* print(producer.group, "json", 0)
      assert.deepStrictEqual(exit, Exit.fail(new Cancelled({})))
      assert.lengthOf(objects(printed), 1)
    }))
})
