import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Pull, Schema } from "effect"
import { untilAny } from "../../src/core/Waiters.ts"
import * as Log from "../../src/model/Log.ts"
import { attached, nobody, poll, settle } from "./fixtures.ts"

const fill = <A>(log: Log.Log<A>, entries: ReadonlyArray<A>) => {
  for (const entry of entries) assert.isTrue(Log.appendUnsafe(log, entry))
}

/** What a pull gives as long as the log is open, or how it ended. */
const outcome = <A, E>(pull: Pull.Pull<A, E>): Effect.Effect<A | "end" | undefined, E> =>
  Pull.catchDone(poll(pull), () => Effect.succeed("end" as const))

describe("Log", () => {
  it.effect("gives each reader everything in one batch, then the end", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      fill(log, [1, 2, 3])
      const a = Log.pull(log, yield* Log.open(log))
      const b = Log.pull(log, yield* Log.open(log, 2))
      assert.deepStrictEqual(yield* a, [1, 2, 3])
      assert.deepStrictEqual(yield* b, [3])
      fill(log, [4, 5])
      Log.endUnsafe(log, Exit.void)
      assert.deepStrictEqual(yield* a, [4, 5])
      assert.strictEqual(yield* outcome(a), "end")
      assert.strictEqual(yield* outcome(a), "end")
      assert.deepStrictEqual(yield* b, [4, 5])
    }))

  it.effect("fails, once all is read, and again for who pulls again", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number, "broken">()
      Log.appendUnsafe(log, 1)
      assert.isTrue(Log.endUnsafe(log, Exit.fail("broken")))
      assert.isFalse(Log.endUnsafe(log, Exit.void))
      assert.isFalse(Log.appendUnsafe(log, 2))
      const pull = Log.pull(log, yield* Log.open(log))
      assert.deepStrictEqual(yield* pull, [1])
      for (let i = 0; i < 2; i++) assert.strictEqual(yield* Effect.flip(pull), "broken")
    }))

  it.effect("wakes a reader once for all that happens in one turn", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      const pull = Log.pull(log, yield* Log.open(log))
      const batches: Array<ReadonlyArray<number>> = []
      const fiber = yield* Effect.forkChild(
        pull.pipe(
          Effect.map((batch) => void batches.push(batch)),
          Effect.forever({ disableYield: true }),
          Pull.catchDone(() => Effect.void)
        ),
        { startImmediately: true }
      )
      for (let turn = 0; turn < 3; turn++) {
        fill(log, [turn, turn, turn])
        yield* settle
      }
      fill(log, [9])
      Log.endUnsafe(log, Exit.void)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(batches, [[0, 0, 0], [1, 1, 1], [2, 2, 2], [9]])
    }))

  it.effect("asks who waits once per turn, however much happens and whoever waits beside", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      let asked = 0
      const fiber = yield* Effect.forkChild(
        Log.awaitUntil(log, () => {
          asked++
          return log.next >= 300
        }),
        { startImmediately: true }
      )
      assert.strictEqual(asked, 1)
      for (let turn = 0; turn < 3; turn++) {
        for (let i = 0; i < 100; i++) Log.appendUnsafe(log, i)
        yield* settle
      }
      yield* Fiber.join(fiber)
      assert.strictEqual(asked, 4)
    }))

  it.effect("wakes readers by the thousand", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      const fibers: Array<Fiber.Fiber<ReadonlyArray<number>, Cause.Done<void>>> = []
      for (let i = 0; i < 1000; i++) {
        const pull = Log.pull(log, yield* Log.open(log))
        fibers.push(yield* Effect.forkChild(pull, { startImmediately: true }))
      }
      assert.strictEqual(attached({ log }).pulling, 1000)
      fill(log, [1, 2])
      for (const fiber of fibers) assert.deepStrictEqual(yield* Fiber.join(fiber), [1, 2])
      assert.strictEqual(attached({ log }).pulling, 0)
      assert.strictEqual(log.readers, 1000)
    }))

  it.effect("loses nothing when a pull is interrupted, before or after it was woken", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      const pull = Log.pull(log, yield* Log.open(log))
      const parked = yield* Effect.forkChild(pull, { startImmediately: true })
      yield* settle
      yield* Fiber.interrupt(parked)
      assert.strictEqual(attached({ log }).pulling, 0)
      fill(log, [1])
      const again = yield* Effect.forkChild(pull, { startImmediately: true })
      assert.deepStrictEqual(yield* Fiber.join(again), [1])
      const woken = yield* Effect.forkChild(pull, { startImmediately: true })
      yield* settle
      // the wake is scheduled and the interruption comes first
      fill(log, [2])
      woken.interruptUnsafe()
      yield* settle
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(woken)))
      fill(log, [3])
      assert.deepStrictEqual(yield* pull, [2, 3])
    }))

  it.effect("still wakes the others when the one whose turn it was is gone", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      const [a, b] = [yield* Log.open(log), yield* Log.open(log)]
      const first = yield* Effect.forkChild(Log.pull(log, a), { startImmediately: true })
      const second = yield* Effect.forkChild(Log.pull(log, b), { startImmediately: true })
      fill(log, [1])
      first.interruptUnsafe()
      assert.deepStrictEqual(yield* Fiber.join(second), [1])
      fill(log, [2])
      assert.deepStrictEqual(yield* Log.pull(log, b), [2])
    }))

  it.effect("waits for any of several logs", () =>
    Effect.gen(function*() {
      const [a, b] = [Log.makeUnsafe<number>(), Log.makeUnsafe<string>()]
      for (const other of [() => Log.appendUnsafe(a, 1), () => Log.endUnsafe(b, Exit.void)]) {
        const start = [a.next, b.end] as const
        const fiber = yield* Effect.forkChild(
          untilAny([Log.waitingOf(a), Log.waitingOf(b)], () => a.next > start[0] || b.end !== start[1]),
          { startImmediately: true }
        )
        yield* settle
        assert.isUndefined(fiber.pollUnsafe())
        other()
        yield* Fiber.join(fiber)
        assert.deepStrictEqual([attached({ log: a }).pulling, attached({ log: b }).pulling], [0, 0])
      }
    }))

  it.effect("moves a reader that was cut on to what is kept, or to what comes", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      fill(log, [0, 1, 2, 3])
      const goesOn = Log.pull(log, yield* Log.open(log))
      const late = Log.pull(log, yield* Log.open(log))
      Log.trimUnsafe(log, 2)
      assert.strictEqual(log.first, 2)
      assert.strictEqual(Log.getUnsafe(log, 1), undefined)
      assert.strictEqual(Log.getUnsafe(log, 2), 2)
      assert.deepStrictEqual(yield* goesOn, [2, 3])
      Log.trimUnsafe(log, 100)
      assert.deepStrictEqual([log.first, log.next], [4, 4])
      const waiting = yield* Effect.forkChild(late, { startImmediately: true })
      yield* settle
      assert.strictEqual(attached({ log }).pulling, 1)
      fill(log, [4])
      assert.deepStrictEqual(yield* Fiber.join(waiting), [4])
    }))

  it.effect("holds on to nothing that was cut", () =>
    Effect.sync(() => {
      const log = Log.makeUnsafe<number>()
      fill(log, [0, 1, 2, 3, 4, 5, 6, 7])
      const { buffer } = log as unknown as { readonly buffer: ReadonlyArray<number | undefined> }
      for (let first = 1; first <= 8; first++) {
        Log.trimUnsafe(log, first)
        const held = buffer.filter((entry) => entry !== undefined)
        assert.deepStrictEqual(held, [0, 1, 2, 3, 4, 5, 6, 7].slice(first))
      }
    }))

  it.effect("tells who has not taken everything; a reader that was cut does not count", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      assert.isTrue(Log.isTaken(log))
      fill(log, [0, 1, 2])
      assert.isTrue(Log.isTaken(log))
      const [a, b] = [Log.openUnsafe(log), Log.openUnsafe(log, 1)]
      assert.strictEqual(Log.unreadUnsafe(log), 0)
      const taken = yield* Effect.forkChild(Log.awaitReaders(log, () => Log.isTaken(log)), { startImmediately: true })
      Log.takeUnsafe(log, b)
      yield* settle
      assert.isUndefined(taken.pollUnsafe())
      Log.trimUnsafe(log, 2)
      yield* Fiber.join(taken)
      assert.strictEqual(a.index, 0)
      Log.takeUnsafe(log, a)
      fill(log, [3])
      assert.isFalse(Log.isTaken(log))
      const gone = yield* Effect.forkChild(Log.awaitReaders(log, () => log.readers === 0), { startImmediately: true })
      Log.closeUnsafe(log, a)
      Log.closeUnsafe(log, a)
      Log.closeUnsafe(log, b)
      yield* Fiber.join(gone)
      assert.deepStrictEqual(attached({ log }), nobody)
    }))

  it.effect("closes its cursors with their scope", () =>
    Effect.gen(function*() {
      const log = Log.makeUnsafe<number>()
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Log.open(log)
        yield* Log.open(log)
        assert.strictEqual(log.readers, 2)
      }))
      assert.deepStrictEqual(attached({ log }), nobody)
    }))

  const operation = Schema.Tuple([
    Schema.Literals(["append", "append", "append", "take", "open", "close", "trim", "replace"]),
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))
  ])

  it.effect.prop(
    "behaves as a plain array does",
    [Schema.Array(operation).check(Schema.isMaxLength(120))],
    ([steps]) =>
      Effect.sync(() => {
        const log = Log.makeUnsafe<number>()
        const all: Array<number> = []
        let first = 0
        const readers: Array<{ readonly cursor: Log.Cursor; index: number }> = []
        for (const [name, n] of steps) {
          const reader = readers[n % Math.max(1, readers.length)]
          if (name === "append") {
            for (let i = 0; i <= n; i++) {
              all.push(all.length * 10)
              Log.appendUnsafe(log, all.at(-1)!)
            }
          } else if (name === "open") {
            readers.push({ cursor: Log.openUnsafe(log), index: first })
          } else if (name === "take" && reader !== undefined) {
            const expected = all.slice(Math.max(reader.index, first))
            assert.deepStrictEqual([...(Log.takeUnsafe(log, reader.cursor) ?? [])], expected)
            if (expected.length > 0) reader.index = all.length
          } else if (name === "close" && reader !== undefined) {
            readers.splice(readers.indexOf(reader), 1)
            Log.closeUnsafe(log, reader.cursor)
          } else if (name === "trim") {
            first = Math.max(first, Math.min(first + n, all.length))
            Log.trimUnsafe(log, first)
          } else if (name === "replace") {
            if (first + n < all.length) all[first + n] = -1
            Log.replaceUnsafe(log, first + n, -1)
          }
          assert.deepStrictEqual([log.first, log.next, log.readers], [first, all.length, readers.length])
          for (let i = 0; i <= all.length; i++) {
            assert.strictEqual(Log.getUnsafe(log, i), i < first ? undefined : all[i])
          }
          const unread = readers.filter(({ index }) => index >= first).map(({ index }) => index)
          assert.strictEqual(Log.unreadUnsafe(log), Math.min(all.length, ...unread))
        }
      }),
    { arbitrary: { runs: 300, seed: 1 } }
  )
})
