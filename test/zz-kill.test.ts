import { it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Net from "node:net"
import * as http2 from "./node/fixtures/http2.ts"
import * as peers from "./node/fixtures/peers.ts"
it.live("kill", () => Effect.gen(function*() {
  const bound = yield* http2.server({ idleTimeout: 4000 })
  const through = new Set<Net.Socket>()
  const port = yield* peers.tcpServer((near) => {
    const far = Net.connect(bound.port, "127.0.0.1")
    for (const socket of [near, far]) { socket.on("error", (e) => console.log("err", e.message)); through.add(socket) }
    near.pipe(far).pipe(near)
  })
  const accepting = yield* http2.acceptNext(bound)
  const client = yield* http2.connect({ ...bound, port }, { idleTimeout: 4000 })
  const server = yield* Fiber.join(accepting)
  for (const [from, to] of [[client, server], [server, client]] as const) {
    const s = yield* from.openUni()
    yield* s.write([new Uint8Array(1)])
    yield* to.acceptUni
    yield* Effect.forkChild(s.write([new Uint8Array(16 << 20)]), { startImmediately: true })
    if (process.env.ONE) break
  }
  if (process.env.SLEEP) yield* Effect.sleep("100 millis")
  console.time("x")
  through.forEach((s) => s.resetAndDestroy())
  console.log(yield* client.closed); console.timeLog("x")
  console.log(yield* server.closed)
  console.timeLog("x")
}), 60000)
