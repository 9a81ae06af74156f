/** Networks that drop or delay UDP, and pass TCP: the race ends with WebSocket, and nothing is left of the other. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Schedule, Scope } from "effect"
import * as Fs from "node:fs"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import { Transport } from "../../src/transport/Transport.ts"
import * as network from "../node/fixtures/network.ts"

V8.setFlagsFromString("--expose-gc")
const collect = Vm.runInNewContext("gc") as () => void

// the binding's sockets are not Node's, so the kernel is asked
const sockets = (): number => {
  collect()
  return Fs.readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return Fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:")
    } catch {
      return false
    }
  }).length
}

const until = (ready: Effect.Effect<boolean>) =>
  Effect.repeat(ready, { schedule: Schedule.spaced("100 millis"), until: (is) => is })

const host = Effect.gen(function*() {
  const context = yield* Layer.build(
    Relay.layer().pipe(
      Layer.provide(NodeTransport.layerServer({ port: 0, host: "127.0.0.1", tls: { generate: ["127.0.0.1"] } }))
    )
  )
  const { sessions, urls } = Context.get(context, Relay.Relay)
  const port = Number(new URL(urls[0]!).port)
  const tcp = yield* network.tcp(port)
  return { sessions, port, at: tcp.port, url: `https://127.0.0.1:${tcp.port}` }
})

describe("the race over a network that", () => {
  const falls = (udp: (port: number, at: number) => Effect.Effect<unknown, never, Scope.Scope>, relayed: number) =>
    Effect.gen(function*() {
      const { at, port, sessions, url } = yield* host
      yield* udp(port, at)
      const before = sockets()
      const scope = yield* Scope.make()
      const session = yield* Session.connect(url, { insecure: true, timeout: "2 seconds" }).pipe(
        Effect.provideService(Transport, NodeTransport.make()),
        Scope.provide(scope)
      )
      assert.strictEqual(session.transport.transport, "websocket")
      // both ends of both halves of the way, and what the network has opened: the loser's own goes once it has given up
      yield* until(Effect.sync(() => sockets() <= before + 4 + relayed))
      assert.strictEqual(yield* sessions, 1)
      yield* session.ping
      yield* Scope.close(scope, Exit.void)
      yield* until(Effect.map(sessions, (open) => open === 0))
      yield* until(Effect.sync(() => sockets() <= before + relayed))
    })

  it.live(
    "swallows UDP ends with WebSocket, and leaves nothing behind",
    () => falls((port, at) => Effect.flatMap(network.udp(port, { at }), ({ cut }) => cut), 0),
    60_000
  )

  it.live(
    "delays UDP ends with WebSocket, and the server has one session",
    () => falls((port, at) => network.udp(port, { at, delay: 250 }), 1),
    60_000
  )

  it.live("passes both ends with HTTP/3", () =>
    Effect.gen(function*() {
      const { at, port, sessions, url } = yield* host
      yield* network.udp(port, { at })
      const session = yield* Session.connect(url, { insecure: true }).pipe(
        Effect.provideService(Transport, NodeTransport.make({ headStart: "4 seconds" }))
      )
      assert.strictEqual(session.transport.transport, "h3")
      assert.strictEqual(yield* sessions, 1)
    }), 60_000)
})
