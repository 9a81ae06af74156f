/**
 * A relay beside the routes of Effect's `HttpRouter`, on the same server: `/` tells what is live, `/moq` is the relay.
 *
 *   npm run example relay-beside-router
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { Session } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

const server = createServer()

// the relay takes its upgrades before the router sees them
const RelayLayer = Relay.layer().pipe(Layer.provide(NodeTransport.layerUpgrade(server)))

const Live = HttpRouter.add(
  "GET",
  "/",
  Effect.map(
    Relay.Relay,
    ({ origin }) => HttpServerResponse.text(origin.paths.map((path) => path.join("/")).join("\n"))
  )
)

// what is provided outermost closes last: the sessions of the relay end before the server waits for its connections
const AppLayer = HttpRouter.serve(Live, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(RelayLayer),
  Layer.provideMerge(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
)

const program = Effect.gen(function*() {
  const { urls: [url = ""] } = yield* Relay.Relay
  yield* Console.log(`relay at ${url}`)
  const session = yield* Session.connect(`${url}/room`)
  const broadcast = yield* session.broadcast(["alice"])
  yield* broadcast.track("chat")
  // by HTTP it is there once the relay has heard of it
  const other = yield* Session.connect(url)
  yield* other.subscribe(["room", "alice", "chat"], { wait: "5 seconds" })
  const page = yield* Effect.promise(() => fetch(url.replace(/^ws(.*)\/moq$/, "http$1/")))
  yield* Console.log(`live: ${yield* Effect.promise(() => page.text())}`)
}).pipe(Effect.scoped)

program.pipe(Effect.provide([AppLayer, NodeTransport.layer]), NodeRuntime.runMain)
