/**
 * A relay inside a program: the program publishes into it without a socket, and a client watches over one.
 *
 *   npm run example embedded-relay
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Broadcast, Session } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"

const RelayLayer = Relay.layer({ limits: { sessions: 500 } }).pipe(
  Layer.provide(NodeTransport.layerServer({ port: 0, tls: { generate: ["localhost"] } }))
)

const program = Effect.gen(function*() {
  const relay = yield* Relay.Relay
  const [url = ""] = relay.urls
  yield* Console.log(`relay at ${url}`)

  const broadcast = yield* Broadcast.make(["numbers"], { router: relay.origin })
  const track = yield* broadcast.track("squares")
  yield* Stream.tick("200 millis").pipe(
    Stream.scan(() => 0, (n) => n + 1),
    Stream.map((n) => new TextEncoder().encode(`${n} * ${n} = ${n * n}`)),
    Stream.run(track.sink({ group: { frames: 10 } })),
    Effect.forkScoped
  )

  const session = yield* Session.connect(url, { insecure: true })
  const watched = yield* session.subscribe(["numbers", "squares"])
  yield* watched.frames.pipe(
    Stream.take(5),
    Stream.runForEach((frame) => Console.log(new TextDecoder().decode(frame)))
  )
}).pipe(Effect.scoped)

program.pipe(Effect.provide([RelayLayer, NodeTransport.layer]), NodeRuntime.runMain)
