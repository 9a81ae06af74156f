import { it } from "@effect/vitest"
import { Effect } from "effect"
import * as http2 from "./node/fixtures/http2.ts"
import { drain } from "../src/testing/conformance/Rule.ts"
it.live("one way", () => Effect.gen(function*() {
  const bound = yield* http2.server({ idleTimeout: 8000, maxStreamData: Number(process.env.WIN ?? 262144) })
  const { client, server } = yield* http2.pair(bound, { idleTimeout: 8000 })
  for (const [from, to] of [[client, server], [server, client]] as const) {
    const s = yield* from!.openUni()
    yield* s.write([new Uint8Array(1)])
    const r = yield* to!.acceptUni
    let arrived = 0
    const t = performance.now()
    yield* Effect.all([
      Effect.andThen(Effect.forEach(Array.from({ length: 1600 }), () => s.write([new Uint8Array(256 << 10)]), { discard: true }), s.finish),
      drain(r, (c) => { arrived += c.length })
    ], { concurrency: "unbounded" })
    console.log("MB/s", Math.round(arrived / 1e3 / (performance.now() - t)))
  }
  {
    const t = performance.now()
    let n = 0
    const bytes = new Uint8Array(1200)
    yield* Effect.all([
      Effect.forEach(Array.from({ length: 10000 }), () => Effect.scoped(Effect.gen(function*() { const s = yield* client.openUni(); yield* s.write([bytes]); yield* s.finish })), { discard: true }),
      Effect.forEach(Array.from({ length: 10000 }), () => Effect.scoped(Effect.gen(function*() { const r = yield* server.acceptUni; yield* drain(r, () => {}); n++ })), { discard: true })
    ], { concurrency: "unbounded" })
    console.log("streams/s", Math.round(n / (performance.now() - t) * 1000))
  }
  {
    const s = yield* client.openUni()
    yield* s.write([new Uint8Array(1)])
    const r = yield* server.acceptUni
    const t = performance.now()
    let arrived = 0
    const bytes = new Uint8Array(1200)
    yield* Effect.all([
      Effect.andThen(Effect.forEach(Array.from({ length: 50000 }), () => s.write([bytes]), { discard: true }), s.finish),
      drain(r, (c) => { arrived += c.length })
    ], { concurrency: "unbounded" })
    console.log("frames/s", Math.round(50000 / (performance.now() - t) * 1000))
  }
}), 60000)
