import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as peers from "../node/fixtures/peers.ts"
import * as TcpNetwork from "../node/fixtures/tcpNetwork.ts"

const heapUsed = Effect.sync(() => {
  V8.setFlagsFromString("--expose-gc")
  const collect = Vm.runInNewContext("gc") as () => void
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
})

const passes = ({ rule, run }: TransportConformance.Case, timeout: number) =>
  it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), timeout)

const viaNetwork = new Set<TransportConformance.Hook | undefined>(["kill", "silence", "idle", "narrow"])

const suite = (name: string, scheme: "https" | "ws") =>
  describe(name, () => {
    const cases = TransportConformance.cases({
      pair: Effect.flatMap(peers.server(), (bound) => peers.pair(bound, scheme)),
      heapUsed,
      server: Effect.map(peers.server(), (server) => ({
        server,
        connect: (path) =>
          NodeTransport.make({ transports: ["websocket"] }).connect(
            new URL(path, `${scheme}://127.0.0.1:${peers.portOf(server)}`),
            { fingerprints: scheme === "https" ? [server.fingerprint!] : [] }
          )
      }))
    })
    for (const one of cases) if (!viaNetwork.has(one.needs)) passes(one, 90_000)
  })

suite("WebSocket over TLS", "https")
suite("WebSocket on loopback", "ws")

type Network = Effect.Success<ReturnType<typeof TcpNetwork.make>>

const networks = new WeakMap<TransportConformance.Pair, Network>()

const over = (act: (network: Network) => Effect.Effect<void>) => (pair: TransportConformance.Pair) =>
  Effect.suspend(() => act(networks.get(pair)!))

describe("WebSocket over a network that fails", () => {
  const limits = { idleTimeout: "600 millis" } as const
  const cases = TransportConformance.cases({
    pair: Effect.gen(function*() {
      const bound = yield* peers.server({ limits })
      const network = yield* TcpNetwork.make(peers.portOf(bound))
      const accepting = yield* peers.acceptNext(bound)
      const client = yield* NodeTransport.make({ transports: ["websocket"], limits }).connect(
        new URL(`https://127.0.0.1:${network.port}`),
        { fingerprints: [bound.fingerprint!] }
      )
      const pair = { client, server: yield* Fiber.join(accepting) }
      networks.set(pair, network)
      return pair
    }),
    kill: over(({ kill }) => kill),
    silence: over(({ silence }) => silence),
    narrow: over(({ narrow }) => narrow),
    idle: Effect.sleep("3 seconds")
  })
  for (const one of cases) if (viaNetwork.has(one.needs)) passes(one, 90_000)
})
