import { it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as http2 from "./node/fixtures/http2.ts"
import { drain } from "../src/testing/conformance/Rule.ts"
it.live("both ways", () => Effect.gen(function*() {
  const bound = yield* http2.server({ idleTimeout: 8000 })
  const { client, server } = yield* http2.pair(bound, { idleTimeout: 8000 })
  let arrived = 0
  const flows = [[client, server], [server, client]].flatMap(([from, to]) => Array.from({ length: 100 }, () => Effect.gen(function*() {
    const s = yield* from!.openUni()
    yield* s.write([new Uint8Array(1)])
    const r = yield* to!.acceptUni
    yield* Effect.all([
      Effect.andThen(s.write([new Uint8Array(4 << 20)]), s.finish),
      drain(r, (c) => { arrived += c.length })
    ], { concurrency: "unbounded" })
  })))
  console.time("x")
  const watching = yield* Effect.forkChild(Effect.forever(Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => console.log(arrived, process.memoryUsage().rss >> 20)))))
  yield* Effect.all(flows, { concurrency: "unbounded" }).pipe(Effect.catch((e) => Effect.sync(() => console.log("failed", e))))
  console.timeLog("x", arrived)
  yield* Fiber.interrupt(watching)
}), 60000)
