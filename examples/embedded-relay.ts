/**
 * A relay inside a program: the program publishes into it and watches it without a socket, and a client over one.
 *
 *   npm run example embedded-relay
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Broadcast, type MoqError, type Router, Session } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"

const RelayLayer = Relay.layer({ limits: { sessions: 500 } }).pipe(
  Layer.provide(NodeTransport.layerServer({ port: 0, tls: { generate: ["localhost"] } }))
)

// what watches need not know whether there is a socket between
const watch = (source: Router.Subscribable<MoqError.RequestError>, who: string) =>
  Effect.gen(function*() {
    const track = yield* source.subscribe(["numbers", "squares"])
    yield* track.frames.pipe(
      Stream.take(5),
      Stream.runForEach((frame) => Console.log(`${who}: ${new TextDecoder().decode(frame)}`))
    )
  })

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
  yield* Effect.all([watch(relay.origin, "here"), watch(session, "client")], { concurrency: 2 })
}).pipe(Effect.scoped)

program.pipe(Effect.provide([RelayLayer, NodeTransport.layer]), NodeRuntime.runMain)
