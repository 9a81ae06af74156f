/**
 * A relay that goes away and comes back, with a publisher and a viewer that go on. It ends by itself.
 *
 *   npm run example reconnect
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Exit, Fiber, Layer, Schedule, Scope, Stream } from "effect"
import { Session } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"

const startRelay = Effect.fnUntraced(function*(port: number) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const RelayLayer = Relay.layer().pipe(
    Layer.provide(NodeTransport.layerServer({ port, tls: { generate: ["localhost"] } }))
  )
  const { urls } = Context.get(yield* Layer.buildWithScope(RelayLayer, scope), Relay.Relay)
  return { url: new URL(urls[0]!), stop: Scope.close(scope, Exit.void) }
})

const connect = (url: URL) =>
  Session.reconnect(url, { insecure: true, schedule: Schedule.spaced("200 millis").pipe(Schedule.jittered) })

const publish = Effect.fnUntraced(function*(url: URL) {
  const session = yield* connect(url)
  const broadcast = yield* session.broadcast(["demo"])
  const track = yield* broadcast.track("numbers")
  yield* Stream.tick("100 millis").pipe(
    Stream.scan(() => 0, (n) => n + 1),
    Stream.map((n) => new TextEncoder().encode(String(n))),
    Stream.run(track.sink({ group: { frames: 5 } }))
  )
}, Effect.scoped)

const watch = Effect.fnUntraced(function*(session: Session.Session) {
  const track = yield* session.subscribe(["demo", "numbers"], { wait: "10 seconds", order: "asc" })
  const numbers = Stream.flatMap(track.events, (event) =>
    event._tag === "Gap"
      ? Stream.succeed(`groups ${event.from} to ${event.to} are missing`)
      : event.frames.pipe(
        Stream.map((frame) => new TextDecoder().decode(frame)),
        // the group that was on its way; its track goes on
        Stream.catch((error) => Stream.succeed(`group ${event.sequence}: ${error.message}`))
      ))
  yield* Stream.runForEach(Stream.take(numbers, 30), Console.log)
}, Effect.scoped)

const program = Effect.gen(function*() {
  const relay = yield* startRelay(0)
  yield* Effect.forkScoped(publish(relay.url))
  const session = yield* connect(relay.url)
  yield* Effect.forkScoped(Stream.runForEach(session.status, (status) => Console.log(`the viewer is ${status._tag}`)))
  const watching = yield* Effect.forkScoped(watch(session))

  yield* Effect.sleep("1 second")
  yield* relay.stop
  yield* Console.log("the relay has gone")
  yield* Effect.sleep("1 second")
  yield* startRelay(Number(relay.url.port))
  yield* Console.log("the relay is back")
  yield* Fiber.join(watching)
}).pipe(Effect.scoped)

program.pipe(Effect.provide(NodeTransport.layer), NodeRuntime.runMain)
