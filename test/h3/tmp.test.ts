import { it } from "@effect/vitest"
import { Effect } from "effect"
import * as peers from "./peers.ts"
it.live("measure", () => Effect.forEach([0, 1, 3, 6, 9, 12.3], (wait) => Effect.gen(function*() {
  const bound = yield* peers.server()
  const network = yield* peers.network(bound.port)
  const pair = yield* peers.pair(bound, network.port)
  yield* Effect.sleep(wait * 1000)
  yield* network.cut
  const t0 = performance.now()
  yield* Effect.all([
   Effect.tap(pair.server.closed, (c) => Effect.sync(() => console.log(wait, "server", performance.now() - t0, c.message))),
   Effect.tap(pair.client.closed, (c) => Effect.sync(() => console.log(wait, "client", performance.now() - t0, c.message)))
  ], { concurrency: 2 })
}), { concurrency: 10 }), 90_000)
