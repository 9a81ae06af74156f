/** What a relay allows its clients: each limit, broken by one of them beside a publisher and a viewer who notice nothing. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Metric, Scope, Stream } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import * as Profile from "../../src/message/Profile.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport, TransportServer } from "../../src/transport/Transport.ts"
import { announce, ByHand, closed, hello, takeAnnounce, type, written } from "../session/byHand.ts"
import { publish, settle, view } from "./relays.ts"

const { draft03 } = Profile

const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

/** What a counter of the relay says. */
const counter = (series: string) =>
  Effect.map(PrometheusMetrics.format(), (page) => {
    const line = page.split("\n").find((line) => line.startsWith(`${series} `))
    return line === undefined ? undefined : Number(line.slice(series.length + 1))
  })

/** A relay that takes the address of its clients from the path of the URL, and an innocent publisher and viewer. */
const start = (options: Relay.Options) =>
  Effect.gen(function*() {
    const network = yield* Memory.makeNetwork()
    const server = yield* network.listen({ host: "relay.example" })
    const relay = yield* Relay.make(options).pipe(Effect.provideService(TransportServer, {
      ...server,
      requests: Stream.map(server.requests, (request) => ({
        url: new URL("https://relay.example"),
        headers: request.headers,
        peer: request.url.searchParams.get("from") ?? undefined,
        transport: request.transport,
        accept: request.accept,
        refuse: request.refuse
      }))
    }))
    const events: Array<Relay.Event> = []
    yield* Effect.forkScoped(
      Stream.runForEach(relay.events, (event) => Effect.sync(() => void events.push(event))),
      { startImmediately: true }
    )
    const url = (from: string) => new URL(`https://relay.example/?from=${from}`)
    const connect = (from: string) => Effect.provideService(Session.connect(url(from)), Transport, network.transport)
    const clock = yield* publish(yield* connect("192.0.2.10:1"), ["clock"])
    const viewer = yield* view(yield* connect("192.0.2.11:1"), ["clock"], { from: 0 })
    let sent = 0
    return {
      relay,
      events,
      connect,
      /** A session of a client that is done with by hand. */
      open: (from: string) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          yield* Scope.provide(connect(from), scope)
          return Scope.close(scope, Exit.void)
        }),
      /** The attacker. */
      byHand: Effect.gen(function*() {
        const peer = new ByHand(yield* network.transport.connect(url("192.0.2.66:1")), draft03)
        const control = yield* peer.open(hello([draft03.version]))
        yield* settle
        return { peer, control }
      }),
      /** One that connects, and says nothing. */
      mutely: network.transport.connect(url("192.0.2.66:2")),
      isWell: Effect.gen(function*() {
        yield* clock.group(String(sent))
        yield* settle
        assert.strictEqual(viewer.got.at(-1), String(sent++))
        assert.strictEqual(viewer.got.length, sent)
      })
    }
  })

describe("Whom a relay lets in", () => {
  const cases = {
    // two are in: the innocent ones
    sessions: { options: { limits: { sessions: 4 } }, let: 2, status: 503, reason: "sessions" },
    sessionsPerAddress: {
      options: { limits: { sessionsPerAddress: 2 } },
      let: 2,
      status: 503,
      reason: "sessions_per_address"
    },
    handshakeRate: { options: { limits: { handshakeRate: 1 } }, let: 3, status: 429, reason: "handshake_rate" },
    handshakeRatePerAddress: {
      options: { limits: { handshakeRatePerAddress: 1 } },
      let: 10,
      status: 429,
      reason: "handshake_rate_per_address"
    }
  } as const
  for (const [name, { let: places, options, reason, status }] of Object.entries(cases)) {
    it.effect(`${name}: further ones get ${status}`, () =>
      Effect.gen(function*() {
        const { connect, events, isWell, open, relay } = yield* start(options)
        const leave: Array<Effect.Effect<void>> = []
        for (let i = 0; i < places; i++) leave.push(yield* open(`192.0.2.66:${i}`))
        const error = yield* Effect.flip(connect("192.0.2.66:99"))
        assert.deepStrictEqual([error._tag, error.message.includes(String(status))], ["MoqTransportError", true])
        yield* settle
        const told = events.filter((event) => event._tag === "SessionRefused")
        assert.strictEqual(told.length, 1)
        assert.deepStrictEqual([told[0]!.why, told[0]!.peer], [name, "192.0.2.66:99"])
        assert.include(told[0]!.reason, name)
        assert.strictEqual(yield* counter(`moq_relay_sessions_refused_total{reason="${reason}"}`), 1)
        assert.strictEqual(yield* relay.sessions, 2 + places)
        yield* isWell
        for (const one of leave) yield* Effect.forkChild(one)
        yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.strictEqual(yield* relay.sessions, 2)
        yield* open("192.0.2.66:100")
        yield* isWell
      }).pipe(isolated))
  }
})

describe("What a relay takes from a client", () => {
  it.effect("more announces than may be: 11, and none of them stays", () =>
    Effect.gen(function*() {
      const { byHand, events, isWell, relay } = yield* start({ session: { limits: { announces: 10 } } })
      const { peer } = yield* byHand
      const { stream } = yield* takeAnnounce(peer)
      for (let i = 0; i < 10; i++) yield* announce(stream, "active", `flood${i}`)
      yield* settle
      assert.strictEqual(relay.origin.paths.length, 11)
      yield* announce(stream, "active", "one too many")
      assert.deepStrictEqual(yield* stream.ends, [11, 11])
      assert.strictEqual(yield* counter("moq_relay_limits_total{limit=\"announce_rate\"}"), 1)
      assert.strictEqual(events.filter((event) => event._tag === "LimitBroken").length, 1)
      yield* isWell
      yield* peer.connection.close(0, "")
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(relay.origin.paths, [["clock"]])
      assert.strictEqual(yield* counter("moq_relay_announces{side=\"received\"}"), 1)
      yield* isWell
    }).pipe(isolated))

  it.effect("streams for nothing: the session, 11", () =>
    Effect.gen(function*() {
      const { byHand, isWell, relay } = yield* start({ session: { limits: { strayRate: 10 } } })
      const { peer } = yield* byHand
      for (let i = 0; i < 41; i++) yield* peer.group(77, i, "x")
      yield* settle
      assert.strictEqual((yield* closed(peer.connection))?.code, 11)
      assert.strictEqual(yield* relay.sessions, 2)
      assert.strictEqual(yield* counter("moq_relay_limits_total{limit=\"stray_rate\"}"), 1)
      yield* isWell
    }).pipe(isolated))

  it.effect("requests without end: the streams, then the session, 11", () =>
    Effect.gen(function*() {
      const { byHand, isWell, relay } = yield* start({ session: { limits: { requestRate: 10, strayRate: 10 } } })
      const { peer } = yield* byHand
      const ask = peer.open(
        type("info"),
        written((writer) => {
          writer.varint(1)
          writer.string("nobody has it")
        })
      )
      // the relay asks nothing of the sort, and lets 40 ask
      const streams = yield* Effect.replicateEffect(ask, 41)
      yield* settle
      assert.deepStrictEqual(yield* streams[39]!.ends, [13, 13])
      assert.deepStrictEqual(yield* streams[40]!.ends, [11, 11])
      yield* Effect.replicateEffect(ask, 40)
      yield* settle
      assert.strictEqual((yield* closed(peer.connection))?.code, 11)
      assert.strictEqual(yield* counter("moq_relay_limits_total{limit=\"request_rate\"}"), 41)
      assert.strictEqual(yield* relay.sessions, 2)
      yield* isWell
    }).pipe(isolated))

  it.effect("a path that is too long, and no handshake at all", () =>
    Effect.gen(function*() {
      const { byHand, isWell, mutely, relay } = yield* start({})
      const { peer } = yield* byHand
      const odd = yield* peer.open(type("info"), written((writer) => writer.varint(33)))
      assert.deepStrictEqual(yield* odd.ends, [11, 11])
      assert.strictEqual(yield* counter("moq_relay_limits_total{limit=\"message\"}"), 1)
      assert.strictEqual(yield* relay.sessions, 3)
      const mute = yield* mutely
      yield* settle
      assert.strictEqual(yield* relay.sessions, 4)
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual((yield* closed(mute))?.code, 3)
      assert.strictEqual(yield* counter("moq_relay_limits_total{limit=\"setup\"}"), 1)
      assert.strictEqual(yield* counter("moq_relay_sessions_refused_total{reason=\"handshake\"}"), 1)
      assert.strictEqual(yield* relay.sessions, 3)
      yield* isWell
    }).pipe(isolated))
})
