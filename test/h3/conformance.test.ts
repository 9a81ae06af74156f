import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Http3Client from "../../src/node/Http3Client.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as peers from "./peers.ts"

const direct: TransportConformance.Harness = {
  pair: Effect.flatMap(peers.server(), (bound) => peers.pair(bound)),
  heapUsed: peers.heapUsed,
  server: Effect.map(peers.server(), (server) => ({
    server,
    connect: (path) => Http3Client.connect(new URL(path, server.urls[0]), { fingerprints: [server.fingerprint!] })
  }))
}

type Network = Effect.Success<ReturnType<typeof peers.network>>

const networks = new WeakMap<TransportConformance.Pair, Network>()

const over = (use: (network: Network) => Effect.Effect<void>) => (pair: TransportConformance.Pair) =>
  Effect.suspend(() => use(networks.get(pair)!))

const overNetwork: TransportConformance.Harness = {
  pair: Effect.gen(function*() {
    const bound = yield* peers.server()
    const network = yield* peers.network(bound.port)
    const pair = yield* peers.pair(bound, network.port)
    networks.set(pair, network)
    return pair
  }),
  kill: over((network) => network.cut),
  silence: over((network) => network.cut),
  narrow: over((network) => network.narrow),
  idle: Effect.sleep("38 seconds")
}

const declared = new Set([
  "a reset passes a write that is blocked by the peer",
  "a ping succeeds while the peer is alive"
])

const check = (harness: TransportConformance.Harness, needsNetwork: boolean) => {
  for (const { needs, rule, run } of TransportConformance.cases(harness)) {
    if ((needs !== undefined && needs !== "heapUsed" && needs !== "server") !== needsNetwork) continue
    it.live(rule, () =>
      Effect.map(run, (outcome) => {
        assert.strictEqual(outcome._tag, declared.has(rule) ? "Declared" : "Passed")
      }), 120_000)
  }
}

describe("native HTTP/3", () => check(direct, false))
// each of these waits for most of a minute
describe.concurrent("native HTTP/3 over a network that fails", () => check(overNetwork, true))
