import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Pace from "../../src/cli/Pace.ts"

describe("pace", () => {
  it.effect("lets a kilobyte per second through", () =>
    Effect.gen(function*() {
      let through = 0
      const fiber = yield* Stream.fromIterable(Array.from({ length: 100 }, () => new Uint8Array(100))).pipe(
        Pace.pace(1000),
        Stream.runForEach(() => Effect.sync(() => through++)),
        Effect.forkChild({ startImmediately: true })
      )
      for (let second = 1; second <= 9; second++) {
        yield* TestClock.adjust("1 second")
        assert.strictEqual(through, 10 * second + 1)
      }
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
    }))

  it.effect("does not make up for a source that was slow", () =>
    Effect.gen(function*() {
      let through = 0
      yield* Stream.fromEffect(Effect.sleep("1 minute")).pipe(
        Stream.flatMap(() => Stream.fromIterable(Array.from({ length: 100 }, () => new Uint8Array(100)))),
        Pace.pace(1000),
        Stream.runForEach(() => Effect.sync(() => through++)),
        Effect.forkChild({ startImmediately: true })
      )
      yield* TestClock.adjust("1 minute")
      // one at once, and one for the 100 ms that it may be late
      assert.strictEqual(through, 2)
    }))
})
