import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Clock from "../../src/cli/clock.ts"
import * as Track from "../../src/model/Track.ts"

describe("clock", () => {
  it.effect("tells every second, and a late joiner the whole time", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const track = yield* Scope.provide(Track.make(["clock"]), scope)
      yield* TestClock.setTime(Date.UTC(2025, 0, 13, 10, 20, 57, 250))
      const watch = (times: Array<string>) =>
        Stream.runForEach(track.track.groups, (group) =>
          Stream.runForEach(Clock.minute(group), (time) => Effect.sync(() => times.push(time)))).pipe(
            Effect.forkChild({ startImmediately: true })
          )
      const early: Array<string> = []
      yield* watch(early)
      yield* Effect.forkChild(Clock.tick(track), { startImmediately: true })
      yield* TestClock.adjust("4 seconds")
      const late: Array<string> = []
      yield* watch(late)
      yield* TestClock.adjust("1 second")
      const times = ["57", "58", "59"].map((second) =>
        `2025-01-13 10:20:${second}`
      )
      const next = ["00", "01", "02"].map((second) => `2025-01-13 10:21:${second}`)
      assert.deepStrictEqual(early, [...times, ...next])
      assert.deepStrictEqual(late, next)
      yield* Scope.close(scope, Exit.void)
    }))
})
