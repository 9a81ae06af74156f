import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { Turns } from "../../src/core/Turns.ts"

const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("Turns", () => {
  it.effect("runs one at a time, in the order in which they came, whatever becomes of each", () =>
    Effect.gen(function*() {
      const turns = new Turns()
      const log: Array<string> = []
      const gates = yield* Effect.forEach([0, 1, 2, 3], () => Deferred.make<void, string>())
      const fibers = yield* Effect.forEach(gates, (gate, i) =>
        Effect.forkChild(
          turns.take(Effect.gen(function*() {
            log.push(`begin ${i}`)
            yield* Deferred.await(gate)
          })),
          { startImmediately: true }
        ))
      yield* settle
      assert.deepStrictEqual(log, ["begin 0"])
      // one that waits gives up: nobody else's turn comes by that
      yield* Fiber.interrupt(fibers[1]!)
      yield* settle
      assert.deepStrictEqual(log, ["begin 0"])
      yield* Deferred.fail(gates[0]!, "no")
      yield* settle
      assert.deepStrictEqual(log, ["begin 0", "begin 2"])
      assert.deepStrictEqual(yield* Fiber.await(fibers[0]!), Exit.fail("no"))
      // one that comes now does not overtake those that wait
      const late = yield* Effect.forkChild(turns.take(Effect.sync(() => log.push("late"))), { startImmediately: true })
      yield* Fiber.interrupt(fibers[2]!)
      yield* settle
      assert.deepStrictEqual(log, ["begin 0", "begin 2", "begin 3"])
      yield* Deferred.succeed(gates[3]!, undefined)
      yield* Fiber.join(late)
      assert.deepStrictEqual(log, ["begin 0", "begin 2", "begin 3", "late"])
    }))
})
