// A relay in a process of its own, to be killed. Publishes room/clock: the frame that it is told, again and again.
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Stream } from "effect"
import { Session, Transport } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"

const { frame, port = 0, tls, transports } = JSON.parse(process.argv[2])

Effect.gen(function*() {
  const server = yield* Transport.TransportServer
  const url = server.urls[0]
  const session = yield* Session.connect(url, { insecure: true }).pipe(
    Effect.provide(NodeTransport.layerWith({ transports: [transports.at(-1)] }))
  )
  const broadcast = yield* session.broadcast(["room"])
  const clock = yield* broadcast.track("clock")
  process.stdout.write(`${JSON.stringify({ url, fingerprint: server.fingerprint })}\n`)
  yield* Stream.tick("50 millis").pipe(
    Stream.map(() => new TextEncoder().encode(frame)),
    Stream.run(clock.sink({ group: { frames: 1 } }))
  )
}).pipe(
  Effect.scoped,
  Effect.provide(
    Relay.layer().pipe(
      Layer.provideMerge(NodeTransport.layerServer({
        host: "127.0.0.1",
        port,
        tls: tls ?? { generate: ["127.0.0.1"] },
        transports
      }))
    )
  ),
  NodeRuntime.runMain
)
