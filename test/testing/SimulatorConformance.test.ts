import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Simulator from "../../src/testing/Simulator.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"

const open = Effect.gen(function*() {
  const network = yield* Simulator.Network
  const near = yield* network.host("client")
  const far = yield* network.host("server")
  const { requests } = yield* far.listen
  const [client, [server]] = yield* Effect.all([
    near.transport.connect(new URL(far.url)),
    requests.pipe(Stream.mapEffect((request) => request.accept), Stream.take(1), Stream.runCollect)
  ], { concurrency: "unbounded" })
  return { client, server: server! }
})

const kill = Effect.gen(function*() {
  const network = yield* Simulator.Network
  yield* (yield* network.host("client")).kill()
})

const check = (rule: string, options: Simulator.Options) => {
  const scenario = Effect.gen(function*() {
    const network = yield* Simulator.Network
    const cases = TransportConformance.cases({
      pair: Effect.provideService(open, Simulator.Network, network),
      kill: () => Effect.provideService(kill, Simulator.Network, network),
      idle: Effect.sleep("10 minutes"),
      timeout: "30 minutes"
    })
    return yield* cases.find((one) => one.rule === rule)!.run
  })
  return Effect.map(Simulator.run(scenario, options), ({ _tag }) => assert.include(["Passed", "NotChecked"], _tag))
}

// it has no memory of its own to check: what one run has made is gone with it
const rules = TransportConformance.cases({ pair: Effect.die("never opened") })
  .filter(({ needs }) => needs !== "heapUsed")
  .map(({ rule }) => rule)

const bad: Simulator.Options = { latency: "20 millis", jitter: "5 millis", loss: 0.02, reorder: 0.02, seed: 3 }

describe("on a perfect network", () => {
  for (const rule of rules) it.effect(rule, () => check(rule, {}), 60_000)
})

describe("on a bad network", () => {
  for (const rule of rules) it.effect(rule, () => check(rule, bad), 60_000)
})

describe("on a narrow network", () => {
  for (const rule of rules) it.effect(rule, () => check(rule, { ...bad, bandwidth: "500 Mbit" }), 60_000)
})
