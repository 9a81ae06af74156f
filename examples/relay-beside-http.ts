/**
 * A relay beside the routes of an HTTP server of Node: one port, one certificate, one process.
 *
 *   npm run example relay-beside-http
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Broadcast, Session } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"
import { createServer } from "node:http"

// the server is yours: its routes, its TLS, its other WebSockets
const server = createServer((request, response) => {
  response.setHeader("content-type", "text/plain")
  response.end(`this is ${request.url}\n`)
})

const RelayLayer = Relay.layer().pipe(Layer.provide(NodeTransport.layerUpgrade(server, { path: "/moq" })))

const listening = Effect.acquireRelease(
  Effect.callback<void>((resume) => {
    server.listen(0, "127.0.0.1", () => resume(Effect.void))
  }),
  () =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
)

const program = Effect.gen(function*() {
  yield* listening
  const relay = yield* Relay.Relay
  const [url = ""] = relay.urls
  yield* Console.log(`relay at ${url}`)
  const page = yield* Effect.promise(() => fetch(url.replace(/^ws(.*)\/moq$/, "http$1/page")))
  yield* Console.log((yield* Effect.promise(() => page.text())).trim())

  const broadcast = yield* Broadcast.make(["room"], { router: relay.origin })
  const track = yield* broadcast.track("count")
  yield* Stream.tick("100 millis").pipe(
    Stream.scan(() => 0, (n) => n + 1),
    Stream.map((n) => new TextEncoder().encode(String(n))),
    Stream.run(track.sink({ group: { frames: 10 } })),
    Effect.forkScoped
  )
  // what follows the path is the root: below it the track is `count`
  const session = yield* Session.connect(`${url}/room`)
  const watched = yield* session.subscribe(["count"])
  yield* watched.frames.pipe(
    Stream.take(3),
    Stream.runForEach((frame) => Console.log(new TextDecoder().decode(frame)))
  )
}).pipe(Effect.scoped)

program.pipe(Effect.provide([RelayLayer, NodeTransport.layer]), NodeRuntime.runMain)
