import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as http2 from "../node/fixtures/http2.ts"
import * as peers from "../node/fixtures/peers.ts"
import * as TcpNetwork from "../node/fixtures/tcpNetwork.ts"

const passes = ({ rule, run }: TransportConformance.Case, timeout: number) =>
  it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), timeout)

const viaNetwork = new Set<TransportConformance.Hook | undefined>(["kill", "silence", "idle", "narrow"])

describe("HTTP/2", () => {
  const cases = TransportConformance.cases({
    pair: Effect.flatMap(http2.server(), (bound) => http2.pair(bound)),
    heapUsed: Effect.sync(http2.heapUsed),
    server: Effect.map(http2.server(), (server) => ({
      server,
      connect: (path) => http2.connect(server, undefined, { path })
    }))
  })
  for (const one of cases) if (!viaNetwork.has(one.needs)) passes(one, 90_000)
})

type Network = Effect.Success<ReturnType<typeof TcpNetwork.make>>

const networks = new WeakMap<TransportConformance.Pair, Network>()

const over = (act: (network: Network) => Effect.Effect<void>) => (pair: TransportConformance.Pair) =>
  Effect.suspend(() => act(networks.get(pair)!))

describe("HTTP/2 over a network that fails", () => {
  const limits = { idleTimeout: "2 seconds" } as const
  const cases = TransportConformance.cases({
    pair: Effect.gen(function*() {
      const bound = yield* http2.server(limits)
      const network = yield* TcpNetwork.make(peers.portOf(bound))
      const pair = yield* http2.pair(bound, limits, { port: network.port })
      networks.set(pair, network)
      return pair
    }),
    kill: over(({ kill }) => kill),
    silence: over(({ silence }) => silence),
    narrow: over(({ narrow }) => narrow),
    idle: Effect.sleep("4 seconds")
  })
  for (const one of cases) if (viaNetwork.has(one.needs)) passes(one, 90_000)
})
