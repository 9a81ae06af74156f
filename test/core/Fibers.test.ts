import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { Fibers } from "../../src/core/Fibers.ts"
import { ignore } from "../../src/core/Ignore.ts"

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
