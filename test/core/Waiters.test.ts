import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scheduler } from "effect"
import { Condition, untilAny, Waiters } from "../../src/core/Waiters.ts"

const settle = Effect.gen(function*() {
  for (let i = 0; i < 20; i++) yield* Effect.yieldNow
})

const dispatcher = Effect.withFiber((fiber) => Effect.succeed(fiber.currentDispatcher))

describe("Waiters", () => {
  it.effect("each waits for a condition of its own", () =>
    Effect.gen(function*() {
      const waiters = new Waiters()
      let n = 0
      const [one, two] = yield* Effect.forEach([1, 2], (at) => Effect.forkChild(waiters.until(() => n >= at)))
      yield* settle
      assert.strictEqual(waiters.size, 2)
      n = 1
      waiters.notify()
      yield* Fiber.join(one!)
      assert.isUndefined(two!.pollUnsafe())
      n = 2
      waiters.wake(yield* dispatcher)
      yield* Fiber.join(two!)
      assert.strictEqual(waiters.size, 0)
    }))

  it.effect("a wake is a task: it runs nobody on the stack of whoever acts, and comes once", () =>
    Effect.gen(function*() {
      let asked = 0
      let isReady = false
      const condition = new Condition(() => {
        asked++
        return isReady
      })
      const fiber = yield* Effect.forkChild(condition.wait)
      yield* settle
      asked = 0
      isReady = true
      const tasks = yield* dispatcher
      for (let i = 0; i < 10; i++) condition.wake(tasks)
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.join(fiber)
      assert.strictEqual(asked, 1)
    }))

  it.live("a wake does not wait for the event loop", () =>
    Effect.gen(function*() {
      let isReady = false
      const condition = new Condition(() => isReady)
      const fiber = yield* Effect.forkChild(condition.wait)
      yield* settle
      isReady = true
      condition.wake(yield* dispatcher)
      assert.isUndefined(fiber.pollUnsafe())
      yield* Effect.promise(() => Promise.resolve())
      assert.isDefined(fiber.pollUnsafe())
    }))

  it.live("fibers that keep waking each other let the event loop have its turn", () =>
    Effect.gen(function*() {
      const waiters = new Waiters()
      let turn = 0
      let isOver = false
      const play = (me: number): Effect.Effect<void> =>
        Effect.flatMap(waiters.until(() => isOver || turn % 2 === me), () => {
          // a failure must not hang
          if (++turn >= 100_000) isOver = true
          waiters.notify()
          return isOver ? Effect.void : play(me)
        })
      const players = yield* Effect.forEach([0, 1], (me) => Effect.forkChild(play(me), { startImmediately: true }))
      yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      assert.isBelow(turn, 1_000)
      isOver = true
      waiters.notify()
      for (const player of players) yield* Fiber.join(player)
    }))

  it("under a scheduler of another kind a wake is a task of it", () => {
    class Other implements Scheduler.Scheduler {
      readonly executionMode = "async"
      readonly tasks: Array<() => void> = []
      shouldYield = () => false
      makeDispatcher = () => ({
        scheduleTask: (task: () => void) => void this.tasks.push(task),
        flush: () => {}
      })
    }
    const scheduler = new Other()
    const waiters = new Waiters()
    let isReady = false
    const fiber = Effect.runFork(waiters.until(() => isReady), { scheduler })
    isReady = true
    waiters.notify()
    assert.strictEqual(scheduler.tasks.length, 1)
    assert.isUndefined(fiber.pollUnsafe())
    scheduler.tasks[0]!()
    assert.isDefined(fiber.pollUnsafe())
  })

  it.effect("where no fiber acts it comes at once", () =>
    Effect.gen(function*() {
      let isReady = false
      const condition = new Condition(() => isReady)
      const fiber = yield* Effect.forkChild(condition.wait)
      yield* settle
      isReady = true
      condition.wake()
      assert.isDefined(fiber.pollUnsafe())
    }))

  it.effect("one is woken after the other, while the condition holds", () =>
    Effect.gen(function*() {
      let places = 0
      const condition = new Condition(() => places > 0)
      const take: Effect.Effect<void> = Effect.suspend(() => {
        if (places === 0) return Effect.flatMap(condition.wait, () => take)
        places--
        return Effect.void
      })
      const fibers = yield* Effect.replicateEffect(Effect.forkChild(take), 5)
      yield* settle
      places = 2
      condition.wake(yield* dispatcher)
      yield* settle
      assert.deepStrictEqual(fibers.map((fiber) => fiber.pollUnsafe() !== undefined), [true, true, false, false, false])
      // an interrupted one takes nothing away from the others
      yield* Fiber.interrupt(fibers[2]!)
      places = 1
      condition.wake(yield* dispatcher)
      yield* Fiber.join(fibers[3]!)
      assert.strictEqual(condition.size, 1)
      yield* Fiber.interrupt(fibers[4]!)
    }))

  it.effect("a fiber that yields between looking and parking misses no wake", () =>
    Effect.gen(function*() {
      for (let budget = 3; budget < 20; budget++) {
        for (let turns = 0; turns < 8; turns++) {
          let isReady = false
          const condition = new Condition(() => isReady)
          const look: Effect.Effect<void> = Effect.suspend(() =>
            isReady ? Effect.void : Effect.flatMap(condition.wait, () => look)
          )
          const fiber = yield* look.pipe(
            Effect.provideService(Scheduler.MaxOpsBeforeYield, budget),
            Effect.forkChild({ startImmediately: true })
          )
          for (let i = 0; i < turns; i++) yield* Effect.yieldNow
          isReady = true
          condition.wake(yield* dispatcher)
          yield* settle
          yield* settle
          assert.isDefined(fiber.pollUnsafe(), `budget ${budget}, turns ${turns}`)
        }
      }
    }))

  it.effect("several can be waited for, and are left together", () =>
    Effect.gen(function*() {
      const [a, b] = [new Waiters(), new Waiters()]
      let isReady = false
      const fiber = yield* Effect.forkChild(untilAny([a, b], () => isReady))
      yield* settle
      a.notify()
      yield* settle
      assert.strictEqual(a.size + b.size, 2)
      isReady = true
      b.notify()
      yield* Fiber.join(fiber)
      assert.strictEqual(a.size + b.size, 0)
      const interrupted = yield* Effect.forkChild(untilAny([a, b], () => false))
      yield* settle
      yield* Fiber.interrupt(interrupted)
      assert.strictEqual(a.size + b.size, 0)
    }))
})
