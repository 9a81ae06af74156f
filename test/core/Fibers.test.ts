import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Fibers } from "../../src/core/Fibers.ts"
import { ignore } from "../../src/core/Ignore.ts"

setFlagsFromString("--expose-gc")
const collect: (options?: { readonly type: "minor" }) => void = runInNewContext("gc")

describe("Fibers", () => {
  it.effect("begin on the stack of the caller", () =>
    Effect.gen(function*() {
      const fibers = yield* Fibers.make
      let isBegun = false
      fibers.fork(Effect.sync(() => {
        isBegun = true
      }))
      assert.isTrue(isBegun)
      yield* fibers.awaitEmpty()
    }))

  it.effect("are waited for, those that begin meanwhile and those that ran before as well", () =>
    Effect.gen(function*() {
      const fibers = yield* Fibers.make
      const [first, second, third] = [
        Deferred.makeUnsafe<void>(),
        Deferred.makeUnsafe<void>(),
        Deferred.makeUnsafe<void>()
      ]
      fibers.fork(Effect.andThen(
        Deferred.await(first),
        Effect.sync(() => fibers.fork(Deferred.await(second)))
      ))
      fibers.add(yield* Effect.forkChild(Deferred.await(third)))
      const empty = yield* Effect.forkChild(fibers.awaitEmpty(), { startImmediately: true })
      for (const next of [first, second, third]) {
        assert.isUndefined(empty.pollUnsafe())
        yield* Deferred.succeed(next, undefined)
        for (let i = 0; i < 10; i++) yield* Effect.yieldNow
      }
      yield* Fiber.join(empty)
    }))

  it.effect("end with their scope, after which no more begin", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const fibers = yield* Scope.provide(Fibers.make, scope)
      const ended: Array<string> = []
      const begin = (name: string) =>
        fibers.fork(Effect.ensuring(
          Effect.never,
          Effect.sync(() => {
            ended.push(name)
            // whoever ends may want another one in its place
            fibers.fork(Effect.sync(() => ended.push("too late")))
          })
        ))
      begin("a")
      begin("b")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(ended, ["a", "b"])
      begin("too late")
      const running = yield* Effect.forkChild(Effect.never, { startImmediately: true })
      fibers.add(running)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(running)))
      yield* fibers.awaitEmpty()
      assert.deepStrictEqual(ended, ["a", "b"])
    }))

  it.effect("one of them may close their scope: it does not wait for itself", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const fibers = yield* Scope.provide(Fibers.make, scope)
      const [start, closed] = [Deferred.makeUnsafe<void>(), Deferred.makeUnsafe<void>()]
      const ended: Array<string> = []
      fibers.fork(Effect.ensuring(Effect.never, Effect.sync(() => ended.push("the other"))))
      fibers.fork(
        Deferred.await(start).pipe(
          Effect.andThen(Scope.close(scope, Exit.void)),
          Effect.andThen(Effect.sync(() => ended.push("itself"))),
          Effect.andThen(Deferred.succeed(closed, undefined))
        )
      )
      yield* Deferred.succeed(start, undefined)
      yield* Deferred.await(closed)
      assert.deepStrictEqual(ended, ["the other", "itself"])
    }))

  it.effect("how they end is nobody's business", () =>
    Effect.gen(function*() {
      const fibers = yield* Fibers.make
      fibers.fork(Effect.fail("no"))
      fibers.fork(Effect.andThen(Effect.yieldNow, Effect.die("bug")))
      yield* fibers.awaitEmpty()
    }))

  it.effect("a minor collection takes those that have ended", () =>
    Effect.gen(function*() {
      const fibers = yield* Fibers.make
      const goOn: Array<() => void> = []
      const park = Effect.callback<void>((resume) => {
        goOn.push(() => resume(Effect.void))
      })
      const through = (count: number) => {
        for (let i = 0; i < count; i++) {
          fibers.fork(park)
          if (goOn.length > 16) goOn.shift()!()
        }
      }
      // what counts them grows old first
      through(10_000)
      collect()
      const before = process.memoryUsage().heapUsed
      through(50_000)
      collect({ type: "minor" })
      collect({ type: "minor" })
      assert.isBelow((process.memoryUsage().heapUsed - before) / 50_000, 64)
      for (const one of goOn) one()
    }))
})

describe("ignore", () => {
  it.effect("hides a failure, and nothing else", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* ignore(Effect.succeed(1)))
      assert.isUndefined(yield* ignore(Effect.fail("no")))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(ignore(Effect.die("bug")))))
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(ignore(Effect.interrupt))))
    }))
})
