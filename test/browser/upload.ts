/**
 * How fast a page uploads: prints MB/s for each transport, with and without the `WebSocketStream` that some browsers have,
 * and fails when a WebSocket moves less than 15 MB/s.
 *
 *   npm run build && sh test/h3/newer-glibc.sh --or-without vitest run --config test/browser/long.config.ts upload
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Chromium from "./chromium.ts"
import * as Relays from "./relays.ts"

const megabytes = 64

// takes everything of every stream, and ends it when all is there
const sink = Effect.fnUntraced(function*(transport: Relays.Name) {
  const server = yield* Relays.server([transport])
  yield* Effect.forkScoped(
    Stream.runForEach(server.requests, (request) =>
      Effect.forkScoped(Effect.gen(function*() {
        const connection = yield* request.accept
        const { receive, send } = yield* connection.acceptBi
        yield* Effect.ignore(Effect.forever(receive.pull))
        yield* send.finish
        yield* connection.closed
      })))
  )
  return Relays.targetOf({ url: server.urls[0]!, fingerprint: server.fingerprint })
})

const measure = Effect.fnUntraced(function*(transport: Relays.Name, hidden?: "WebSocketStream") {
  const to = yield* sink(transport)
  const page = yield* Chromium.open()
  if (hidden !== undefined) yield* page.run("hide", hidden)
  let best = 0
  for (let round = 0; round < 3; round++) {
    const { milliseconds } = yield* page.run("upload", { to: { ...to, transports: [transport] }, megabytes })
    best = Math.max(best, megabytes * 1.048576 / (milliseconds / 1000))
  }
  const name = hidden === undefined ? transport : `${transport} without ${hidden}`
  yield* Effect.sync(() => process.stdout.write(`${name}: ${best.toFixed(1)} MB/s\n`))
  return best
}, Effect.scoped)

layer(Chromium.layer, { excludeTestServices: true, timeout: 60_000 })("a page uploads", (it) => {
  it.effect.runIf(Relays.here.includes("h3"))("over HTTP/3", () => measure("h3"), 60_000)

  it.effect("more than 15 MB/s over WebSocket, with and without WebSocketStream", () =>
    Effect.gen(function*() {
      assert.isAbove(yield* measure("websocket"), 15)
      assert.isAbove(yield* measure("websocket", "WebSocketStream"), 15)
    }), 60_000)
})
