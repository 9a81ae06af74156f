import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Simulator from "../../src/testing/Simulator.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import type { Capabilities, Connection } from "../../src/transport/Transport.ts"

const hosts = Effect.gen(function*() {
  const network = yield* Simulator.Network
  const near = yield* network.host(`client${++pairs}`)
  const far = yield* network.host(`server${pairs}`)
  return { near, far }
})

let pairs = 0

// which hosts a connection is between
const hostsOf = new WeakMap<Connection, Effect.Success<typeof hosts>>()

const open = Effect.gen(function*() {
  const { far, near } = yield* hosts
  const { requests } = yield* far.listen
  const [client, [server]] = yield* Effect.all([
    near.transport.connect(new URL(far.url)),
    requests.pipe(Stream.mapEffect((request) => request.accept), Stream.take(1), Stream.runCollect)
  ], { concurrency: "unbounded" })
  return { near, far, pair: { client, server: server! } }
})

const run = (
  rule: string,
  options: Simulator.Options,
  change: (side: Connection) => Partial<Connection> = () => ({})
) =>
  Simulator.run(
    Effect.gen(function*() {
      const network = yield* Simulator.Network
      const on = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideService(effect, Simulator.Network, network)
      const cases = TransportConformance.cases({
        pair: Effect.map(on(open), ({ far, near, pair }) => {
          const client = { ...pair.client, ...change(pair.client) }
          hostsOf.set(client, { far, near })
          return { client, server: { ...pair.server, ...change(pair.server) } }
        }),
        kill: ({ client }) => hostsOf.get(client)!.near.kill(),
        silence: ({ client }) => {
          // nobody tells the other side
          const { far, near } = hostsOf.get(client)!
          return network.partition([near], [far])
        },
        idle: Effect.sleep("10 minutes"),
        narrow: () => network.set({ bandwidth: "100 Mbit" }),
        server: Effect.gen(function*() {
          const { far, near } = yield* on(hosts)
          const server = yield* far.listen
          return { server, connect: (path) => near.transport.connect(new URL(path, far.url)) }
        }),
        timeout: "30 minutes"
      })
      return yield* cases.find((one) => one.rule.startsWith(rule))!.run
    }),
    options
  )

const check = (rule: string, options: Simulator.Options) =>
  Effect.map(run(rule, options), ({ _tag }) => assert.strictEqual(_tag, "Passed"))

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

describe("cases catch", () => {
  const catches = (
    rule: string,
    detail: RegExp,
    options: Simulator.Options,
    capabilities: Partial<Capabilities>,
    change: (side: Connection) => Partial<Connection> = () => ({})
  ) =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip(
        run(rule, options, (side) => ({ ...change(side), capabilities: { ...side.capabilities, ...capabilities } }))
      )
      assert.instanceOf(failure, TransportConformance.ConformanceFailure)
      assert.match(failure.detail, detail)
    })

  const ranks = "of what waits to be sent"

  it.effect(
    "ranks that are declared and not kept",
    () => catches(ranks, /100 % of the lower rank had arrived/, { priority: false }, { priority: true })
  )

  it.effect("ranks that are kept and not declared", () => catches(ranks, /no order of rank/, {}, { priority: false }))

  it.effect("ranks that are not declared, and not kept, as declared", () =>
    Effect.gen(function*() {
      const outcome = yield* run(ranks, { priority: false })
      assert.deepStrictEqual(outcome, { _tag: "Declared", limit: "sends in no order of rank" })
    }))

  const silent = "a client that falls silent"

  it.effect(
    "an idle timeout that is longer than declared",
    () => catches(silent, /30000 ms to notice, and 20000 ms/, {}, { idleTimeout: 20_000 })
  )

  it.effect(
    "a silent peer that nobody notices",
    () =>
      catches(silent, /the server's end is still open/, { silence: "1 hour", timeLimit: "3 hours" }, {
        idleTimeout: Infinity
      })
  )

  it.effect(
    "a ping that asks nobody",
    () => catches(silent, /a ping succeeded/, {}, { ping: true }, () => ({ ping: Effect.void }))
  )
})
