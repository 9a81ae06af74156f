import { it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Net from "node:net"
import * as http2 from "./node/fixtures/http2.ts"
import * as peers from "./node/fixtures/peers.ts"
import { drain } from "../src/testing/conformance/Rule.ts"
const pump = (from: Net.Socket, to: Net.Socket, rate: number) => {
  from.pause()
  const each = rate / 100
  let credit = 0
  const timer = setInterval(() => {
    credit = Math.min(credit + each, each * 3)
    while (credit > 0 && to.writableLength < 65536) {
      const c = from.read(Math.min(from.readableLength, Math.floor(credit))) as Buffer | null
      if (c === null || c.length === 0) { from.read(0); break }
      credit -= c.length
      to.write(c)
    }
  }, 10)
  from.on("close", () => { clearInterval(timer); to.destroy() })
}
const up = Number(process.env.UP ?? 2.5e6), down = Number(process.env.DOWN ?? 2.5e6)
it.live("both ways", () => Effect.gen(function*() {
  const bound = yield* http2.server({ idleTimeout: 20000 })
  const port = yield* peers.tcpServer((near) => {
    const far = Net.connect(bound.port, "127.0.0.1")
    for (const s of [near, far]) s.on("error", () => {})
    pump(near, far, up); pump(far, near, down)
  })
  const accepting = yield* http2.acceptNext(bound)
  const client = yield* http2.connect({ ...bound, port }, { idleTimeout: 20000 })
  const server = yield* Fiber.join(accepting)
  const arrived = [0, 0]
  const flows = [[client, server], [server, client]].flatMap(([from, to], i) => Array.from({ length: 60 }, () => Effect.gen(function*() {
    const s = yield* from!.openUni()
    yield* s.write([new Uint8Array(1)])
    const r = yield* to!.acceptUni
    yield* Effect.all([
      Effect.andThen(s.write([new Uint8Array(4 << 20)]), s.finish),
      drain(r, (c) => { arrived[i]! += c.length })
    ], { concurrency: "unbounded" })
  })))
  const watching = yield* Effect.forkChild(Effect.forever(Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => console.log(arrived.join(" "), process.memoryUsage().rss >> 20)))))
  yield* Effect.all(flows, { concurrency: "unbounded" }).pipe(Effect.catch((e) => Effect.sync(() => console.log("failed", e))), Effect.timeoutOption("12 seconds"))
  yield* Fiber.interrupt(watching)
}), 60000)
