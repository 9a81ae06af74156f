import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { App } from "../../src/core/MoqError.ts"
import { News } from "../../src/session/News.ts"
import type { Status } from "../../src/session/Status.ts"
import { watch } from "./reconnecting.ts"
import { pair, settle } from "./sessions.ts"

describe("Status", () => {
  it.effect("of a session is Connected until it is Closed, for any number of readers", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const readers = [yield* watch(client), yield* watch(client), yield* watch(server)]
      yield* server.close(new App({ code: 3 }))
      yield* settle
      for (const { fiber, log } of readers) {
        assert.deepStrictEqual(log, ["connected draft03 memory", "closed MoqSessionClosed"])
        assert.isDefined(fiber.pollUnsafe())
      }
      assert.deepStrictEqual((yield* watch(client)).log, ["closed MoqSessionClosed"])
      const [last] = yield* Stream.runCollect(client.status)
      if (last?._tag !== "Closed" || last.error._tag !== "MoqSessionClosed") return assert.fail("not closed")
      assert.deepStrictEqual([last.error.code, last.error.by], [67, "remote"])
    }))

  it.effect("begins with the newest, tells every change, and keeps only what somebody has not read", () =>
    Effect.gen(function*() {
      const statuses = new News<Status>()
      const attempts = (count: number) =>
        Stream.runCollect(Stream.take(statuses.stream, count)).pipe(
          Effect.map((all) => all.map((status) => status._tag === "Connecting" ? status.attempt : -1))
        )
      const tell = (attempt: number) => statuses.tell({ _tag: "Connecting", attempt })
      tell(0)
      tell(1)
      const one = yield* Effect.forkChild(attempts(3), { startImmediately: true })
      tell(2)
      tell(3)
      assert.deepStrictEqual(yield* attempts(1), [3])
      assert.deepStrictEqual(yield* Fiber.join(one), [1, 2, 3])
      // one that reads nothing is no reason to keep more than a few
      yield* Stream.toPull(statuses.stream)
      for (let attempt = 4; attempt < 1_000; attempt++) tell(attempt)
      assert.isAtMost(statuses.log.next - statuses.log.first, 64)
      assert.deepStrictEqual(yield* attempts(1), [999])
    }))
})
