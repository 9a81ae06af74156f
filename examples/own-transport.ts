/**
 * A transport of one's own: the report of the conformance suite about it, and then a relay in a worker thread with a
 * publisher and a viewer out here. The transport is in own-transport-message-port.ts and own-transport-streams.ts.
 *
 *   npm run example own-transport
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Session, Transport } from "effect-moq"
import { Relay } from "effect-moq/relay"
import { TransportConformance } from "effect-moq/testing"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { isMainThread, Worker, workerData } from "node:worker_threads"
import * as MessagePortTransport from "./own-transport-message-port.ts"

// ---- the report

// between the ports of both ends is a post office, so that the client can be cut off
const postOffices = new WeakMap<
  TransportConformance.Pair,
  { readonly close: () => void; readonly strike: () => void }
>()

const pair = Effect.gen(function*() {
  const [near, far] = [new MessageChannel(), new MessageChannel()]
  let isOnStrike = false
  for (const [from, to] of [[near.port2, far.port1], [far.port1, near.port2]] as const) {
    from.addEventListener("message", ({ data }) => {
      if (!isOnStrike) to.postMessage(data, [])
    })
    from.addEventListener("close", () => to.close())
    from.start()
  }
  const options = { idleTimeout: "3 seconds" } as const
  const pair: TransportConformance.Pair = {
    client: yield* MessagePortTransport.make(near.port1, "client", options),
    server: yield* MessagePortTransport.make(far.port2, "server", options)
  }
  postOffices.set(pair, {
    close: () => far.port1.close(),
    strike: () => {
      isOnStrike = true
    }
  })
  return pair
})

const harness: TransportConformance.Harness = {
  pair,
  kill: (pair) => Effect.sync(() => postOffices.get(pair)!.close()),
  silence: (pair) => Effect.sync(() => postOffices.get(pair)!.strike()),
  idle: Effect.sleep("4 seconds"),
  heapUsed: Effect.sync(() => {
    setFlagsFromString("--expose-gc")
    runInNewContext("gc")()
    const { arrayBuffers, heapUsed } = process.memoryUsage()
    return arrayBuffers + heapUsed
  }),
  server: Effect.gen(function*() {
    const door = new MessageChannel()
    const server = yield* MessagePortTransport.makeServer(door.port2)
    const { connect } = MessagePortTransport.makeClient(door.port1)
    return { server, connect: (path) => connect(new URL(path, server.urls[0])) }
  })
}

const report = Effect.gen(function*() {
  const results = yield* TransportConformance.report(harness)
  yield* Console.log(TransportConformance.format(results))
  if (results.some(({ outcome }) => outcome._tag === "Failed")) return yield* Effect.die("the transport is not ready")
})

// ---- a relay over it

const relay = (door: MessagePort) =>
  Relay.layer().pipe(Layer.provide(Layer.effect(Transport.TransportServer)(MessagePortTransport.makeServer(door))))

// a thread of its own, with the door to it
const startRelay = Effect.acquireRelease(
  Effect.sync(() => {
    const { port1, port2 } = new MessageChannel()
    // the types of Node and of browsers do not know each other
    const worker = new Worker(new URL(import.meta.url), { workerData: port2, transferList: [port2 as never] })
    return { door: port1, worker }
  }),
  ({ door, worker }) => {
    door.close()
    return Effect.promise(() => worker.terminate())
  }
)

const publishAndWatch = Effect.gen(function*() {
  const { door } = yield* startRelay
  const transport = MessagePortTransport.makeClient(door)
  const connect = Session.connect("https://relay").pipe(Effect.provideService(Transport.Transport, transport))

  const publisher = yield* connect
  const broadcast = yield* publisher.broadcast(["numbers"])
  const track = yield* broadcast.track("squares")
  yield* Stream.tick("50 millis").pipe(
    Stream.scan(() => 0, (n) => n + 1),
    Stream.map((n) => new TextEncoder().encode(`${n} * ${n} = ${n * n}`)),
    Stream.run(track.sink({ group: { frames: 10 } })),
    Effect.forkScoped
  )

  const viewer = yield* connect
  const watched = yield* viewer.subscribe(["numbers", "squares"], { wait: "5 seconds" })
  yield* watched.frames.pipe(
    Stream.take(5),
    Stream.runForEach((frame) => Console.log(new TextDecoder().decode(frame)))
  )
}).pipe(Effect.scoped)

NodeRuntime.runMain(
  isMainThread ? Effect.andThen(report, publishAndWatch) : Layer.launch(relay(workerData))
)
