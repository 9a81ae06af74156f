import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Metric, Scope } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import * as Metrics from "../../src/relay/Metrics.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"
import { publish, settle, start, view } from "./relays.ts"

/** The value of each series that is not 0, by its name and labels. */
const read = Effect.map(PrometheusMetrics.format(), (page) =>
  Object.fromEntries(
    page.split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const at = line.lastIndexOf(" ")
        return [line.slice(0, at), Number(line.slice(at + 1))] as const
      })
      .filter(([name, value]) => value !== 0 && !name.includes("_latency_seconds"))
  ))

const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

const counted = Effect.gen(function*() {
  const metrics = yield* Metrics.make
  metrics.session(1, "h3")
  metrics.session(1, "h3")
  metrics.session(-1, "h3")
  metrics.session(1, "carrier pigeon")
  metrics.refused("sessionsPerAddress")
  metrics.refused("draining")
  metrics.unauthorized()
  metrics.cache(1000, 10)
  metrics.cache(400, 4)
  for (let i = 0; i < 3; i++) metrics.upstream({ _tag: "RelayConnected", url: `https://${i}.example` })
  metrics.upstream({ _tag: "RelayConnected", url: "https://1.example" })
  metrics.upstream({ _tag: "RelayLost", url: "https://2.example", reason: "", retryIn: 1 })
  metrics.upstream({ _tag: "RelayLost", url: "https://2.example", reason: "", retryIn: 2 })
  const { monitor } = metrics
  monitor.limit("announceRate")
  monitor.limit("firstMessage")
  monitor.limit("firstMessage")
  monitor.subscription("sent", 1)
  monitor.subscription("sent", 1)
  monitor.subscription("sent", -1)
  monitor.announce("received", 1)
  monitor.fetch("sent")
  monitor.group("received")
  monitor.traffic("received", 3, 300)
  monitor.traffic("sent", 2, 200)
  monitor.traffic("sent", 1, 100)
  monitor.drop("sent", "lagged", 5)
})

const there = {
  "moq_relay_active_sessions{transport=\"h3\"}": 1,
  "moq_relay_active_sessions{transport=\"other\"}": 1,
  "moq_relay_active_subscriptions{side=\"sent\"}": 1,
  "moq_relay_announces{side=\"received\"}": 1,
  "moq_relay_cache_bytes": 400,
  "moq_relay_cache_groups": 4,
  "moq_relay_upstream_connected": 2
}

const everCounted = {
  "moq_relay_sessions_total{transport=\"h3\"}": 2,
  "moq_relay_sessions_total{transport=\"other\"}": 1,
  "moq_relay_sessions_refused_total{reason=\"sessions_per_address\"}": 1,
  "moq_relay_sessions_refused_total{reason=\"draining\"}": 1,
  "moq_relay_unauthorized_total": 1,
  "moq_relay_limits_total{limit=\"announce_rate\"}": 1,
  "moq_relay_limits_total{limit=\"first_message\"}": 2,
  "moq_relay_subscriptions_total{side=\"sent\"}": 2,
  "moq_relay_fetches_total{side=\"sent\"}": 1,
  "moq_relay_groups_total{side=\"received\"}": 1,
  "moq_relay_frames_total{side=\"received\"}": 3,
  "moq_relay_frames_total{side=\"sent\"}": 3,
  "moq_relay_bytes_total{side=\"received\"}": 300,
  "moq_relay_bytes_total{side=\"sent\"}": 300,
  "moq_relay_drops_total{side=\"sent\",reason=\"lagged\"}": 5
}

const times = (n: number, values: Record<string, number>) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value * n]))

describe("metrics", () => {
  it.effect("are exact, and what a relay has goes with it", () =>
    isolated(Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(counted, scope)
      assert.deepStrictEqual(yield* read, { ...there, ...everCounted })
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* read, everCounted)
    })))

  it.effect("of two relays in one registry add up, unless their contexts have attributes of their own", () =>
    isolated(Effect.gen(function*() {
      const first = yield* Scope.make()
      yield* Scope.provide(counted, first)
      const second = yield* Scope.make()
      yield* Scope.provide(counted, second)
      assert.deepStrictEqual(yield* read, times(2, { ...there, ...everCounted }))
      yield* Scope.close(first, Exit.void)
      assert.deepStrictEqual(yield* read, { ...there, ...times(2, everCounted) })
      yield* Scope.close(second, Exit.void)
      yield* Effect.provideService(counted, Metric.CurrentMetricAttributes, { relay: "third" })
      const values = yield* read
      assert.strictEqual(values["moq_relay_cache_bytes{relay=\"third\"}"], 400)
      assert.strictEqual(values["moq_relay_unauthorized_total{relay=\"third\"}"], 1)
      assert.strictEqual(values["moq_relay_unauthorized_total"], 2)
    })))

  it.effect("begin with 0, so that a first time is seen as a change", () =>
    isolated(Effect.gen(function*() {
      yield* Metrics.make
      const page = yield* PrometheusMetrics.format()
      assert.include(page, "moq_relay_sessions_refused_total{reason=\"handshake_rate\"} 0\n")
      assert.include(page, "moq_relay_drops_total{side=\"received\",reason=\"evicted\"} 0\n")
      assert.include(page, "moq_relay_limits_total{limit=\"stray_rate\"} 0\n")
    })))

  it.effect("have the distribution of latencies, in seconds", () =>
    isolated(Effect.gen(function*() {
      const { monitor } = yield* Metrics.make
      for (const millis of [0, 0.1, 0.11, 3, 10_000, 10_001]) monitor.latency(millis)
      const lines = (yield* PrometheusMetrics.format()).split("\n").filter((line) =>
        line.startsWith("moq_relay_latency_seconds")
      )
      const counts = lines.map((line) => line.slice("moq_relay_latency_seconds".length).split(" "))
      const sum = counts.find(([name]) => name === "_sum")!
      assert.approximately(Number(sum[1]), 20.00421, 1e-9)
      assert.deepStrictEqual(counts.filter((count) => count !== sum), [
        ["_bucket{le=\"0.0001\"}", "2"],
        ["_bucket{le=\"0.00025\"}", "3"],
        ["_bucket{le=\"0.0005\"}", "3"],
        ["_bucket{le=\"0.001\"}", "3"],
        ["_bucket{le=\"0.0025\"}", "3"],
        ["_bucket{le=\"0.005\"}", "4"],
        ["_bucket{le=\"0.01\"}", "4"],
        ["_bucket{le=\"0.025\"}", "4"],
        ["_bucket{le=\"0.05\"}", "4"],
        ["_bucket{le=\"0.1\"}", "4"],
        ["_bucket{le=\"0.25\"}", "4"],
        ["_bucket{le=\"0.5\"}", "4"],
        ["_bucket{le=\"1\"}", "4"],
        ["_bucket{le=\"2.5\"}", "4"],
        ["_bucket{le=\"5\"}", "4"],
        ["_bucket{le=\"10\"}", "5"],
        ["_bucket{le=\"+Inf\"}", "6"],
        ["_count", "6"]
      ])
    })))
})

describe("the metrics of a relay", () => {
  it.effect("are what went through it", () =>
    isolated(Effect.gen(function*() {
      const relay = yield* start({ limits: { sessions: 3 } })
      const publisher = yield* publish(yield* relay.connect(), ["room", "hello"])
      const viewers = yield* Effect.forEach([1, 2], () =>
        Effect.flatMap(relay.connect("/room"), (session) => view(session, ["hello"])))
      yield* Effect.flip(relay.connect())
      yield* publisher.group("one", "two")
      yield* settle
      yield* publisher.group("three")
      yield* settle
      assert.deepStrictEqual(
        viewers.map(({ got }) =>
          got
        ),
        [["one", "two", "three"], ["one", "two", "three"]]
      )
      const values = yield* read
      const expected: Record<string, number> = {
        "moq_relay_active_sessions{transport=\"memory\"}": 3,
        "moq_relay_sessions_total{transport=\"memory\"}": 3,
        "moq_relay_sessions_refused_total{reason=\"sessions\"}": 1,
        "moq_relay_announces{side=\"received\"}": 1,
        "moq_relay_active_subscriptions{side=\"received\"}": 1,
        "moq_relay_active_subscriptions{side=\"sent\"}": 2,
        "moq_relay_subscriptions_total{side=\"received\"}": 1,
        "moq_relay_subscriptions_total{side=\"sent\"}": 2,
        "moq_relay_groups_total{side=\"received\"}": 2,
        "moq_relay_groups_total{side=\"sent\"}": 4,
        "moq_relay_frames_total{side=\"received\"}": 3,
        "moq_relay_frames_total{side=\"sent\"}": 6,
        "moq_relay_bytes_total{side=\"received\"}": 11,
        "moq_relay_bytes_total{side=\"sent\"}": 22,
        "moq_relay_cache_bytes": 11,
        "moq_relay_cache_groups": 2
      }
      for (const name of Object.keys(expected)) assert.strictEqual(values[name], expected[name], name)
      assert.include(yield* PrometheusMetrics.format(), "moq_relay_latency_seconds_count 4\n")
      yield* publisher.end()
      yield* relay.stop
      yield* TestClock.adjust("1 minute")
      yield* settle
      const left = yield* read
      for (const name of Object.keys(left)) assert.match(name, /_total/, "only what was counted is left")
    })))
})

describe("the state of a relay", () => {
  it.effect("tells who publishes what, and who watches it", () =>
    isolated(Effect.gen(function*() {
      const network = yield* Memory.makeNetwork()
      const far = yield* start({}, { network, host: "far.example" })
      yield* publish(yield* far.connect(), ["far"])
      const near = yield* Effect.provideService(
        start({ upstreams: [{ url: "https://far.example/?jwt=secret" }] }, { network, host: "near.example" }),
        Transport,
        network.transport
      )
      yield* settle
      yield* publish(yield* near.connect("/room"), ["near"])
      yield* publish(near.relay.origin, ["own"])
      const session = yield* near.connect()
      const viewer = yield* view(session, ["room", "near"])
      yield* view(session, ["far"])
      yield* view(session, ["far"])
      const tree = yield* near.relay.tree
      assert.deepStrictEqual(
        tree.map(({ hops, path, publisher, watchers }) => [path.join("/"), publisher, hops.length, watchers]),
        [
          ["far", { _tag: "Upstream", url: "https://far.example/" }, 1, [2]],
          ["room/near", { _tag: "Session", session: 1 }, 0, [2]],
          ["own", { _tag: "Program" }, 0, []]
        ]
      )
      assert.strictEqual((yield* read)["moq_relay_upstream_connected"], 1)
      yield* viewer.leave
      assert.deepStrictEqual((yield* near.relay.tree)[1]!.watchers, [])
      assert.strictEqual((yield* far.relay.state).find(({ isRelay }) => isRelay)?.watching.length, 1)
      yield* far.stop
      yield* settle
      assert.isUndefined((yield* read)["moq_relay_upstream_connected"])
    })))

  it.effect("tells once of each limit that a session breaks", () =>
    isolated(Effect.gen(function*() {
      const relay = yield* start({ session: { limits: { subscriptions: 1 } } })
      for (const name of ["one", "two", "three", "four"]) yield* publish(relay.relay.origin, [name])
      const session = yield* relay.connect()
      yield* view(session, ["one"])
      for (const name of ["two", "three", "four"]) yield* Effect.flip(session.subscribe([name]))
      yield* settle
      assert.deepStrictEqual(relay.events.filter((event) => event._tag === "LimitBroken"), [
        { _tag: "LimitBroken", session: 1, limit: "subscriptions", peer: undefined }
      ])
      assert.strictEqual((yield* read)["moq_relay_limits_total{limit=\"subscriptions\"}"], 3)
    })))
})
