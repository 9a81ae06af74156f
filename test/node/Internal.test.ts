import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Metric } from "effect"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Internal from "../../src/node/Internal.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { TransportServer } from "../../src/transport/Transport.ts"

interface Reply {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

const ask = (url: string, options?: Http.RequestOptions) =>
  Effect.callback<Reply, Error>((resume) => {
    const request = Http.request(url, { agent: false, ...options }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => void (body += chunk))
      response.on(
        "end",
        () => resume(Effect.succeed({ status: response.statusCode!, headers: response.headers, body }))
      )
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end()
    return Effect.sync(() => request.destroy())
  })

const session: Relay.SessionState = {
  session: 3,
  root: ["room", "a"],
  transport: "h3",
  peer: "1.2.3.4:5",
  profile: "draft03",
  isRelay: false,
  since: Date.UTC(2026, 0, 1),
  publishing: [["room", "a", "clock"]],
  watching: [["room", "a", "x"], ["room", "a", "x"]]
}

const tree: ReadonlyArray<Relay.TrackState> = [
  { path: ["room", "a", "clock"], publisher: { _tag: "Session", session: 3 }, hops: [], watchers: [4, 4, 5] },
  {
    path: ["b\u0007\u009b31m"],
    publisher: { _tag: "Upstream", url: "https://b.example/" },
    hops: ["0b"],
    watchers: []
  },
  { path: ["c"], publisher: { _tag: "Program" }, hops: [], watchers: [] },
  { path: ["room", "a", "x"], publisher: undefined, hops: [], watchers: [3, 3] }
]

const state = { isReady: true }

const relay: Internal.Options["relay"] = {
  ready: Effect.sync(() => state.isReady),
  state: Effect.succeed([session]),
  tree: Effect.succeed(tree)
}

const listening = (host = "127.0.0.1") => Effect.map(Internal.make({ host, port: 0, relay }), ({ urls }) => urls[0]!)

describe("the internal listener", () => {
  it.live("answers what it has", () =>
    Effect.gen(function*() {
      const url = yield* listening()
      assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/)
      const health = yield* ask(`${url}/health?verbose`)
      assert.deepStrictEqual([health.status, health.body], [200, "ok\n"])
      assert.strictEqual((yield* ask(`${url}/ready`)).body, "ready\n")
      state.isReady = false
      const draining = yield* ask(`${url}/ready`)
      state.isReady = true
      assert.deepStrictEqual([draining.status, draining.body], [503, "draining\n"])
      const sessions = yield* ask(`${url}/sessions`)
      assert.match(sessions.headers["content-type"]!, /^application\/json/)
      assert.deepStrictEqual(JSON.parse(sessions.body), [{
        session: 3,
        root: "room/a",
        transport: "h3",
        peer: "1.2.3.4:5",
        profile: "draft03",
        isRelay: false,
        since: "2026-01-01T00:00:00.000Z",
        publishing: ["room/a/clock"],
        watching: ["room/a/x", "room/a/x"]
      }])
      const { body } = yield* ask(`${url}/tree`)
      assert.deepStrictEqual(JSON.parse(body), {
        "room/a/clock": { publisher: { session: 3 }, hops: [], watchers: [4, 4, 5] },
        "b\u0007\u009b31m": { publisher: { upstream: "https://b.example/" }, hops: ["0b"], watchers: [] },
        c: { publisher: { program: true }, hops: [], watchers: [] },
        "room/a/x": { publisher: null, hops: [], watchers: [3, 3] }
      })
      // oxlint-disable-next-line no-control-regex
      assert.notMatch(body, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
    }))

  it.live("knows HEAD, and refuses what is not for it", () =>
    Effect.gen(function*() {
      const url = yield* listening()
      const head = yield* ask(`${url}/health`, { method: "HEAD" })
      assert.deepStrictEqual([head.status, head.body, head.headers["content-length"]], [200, "", "3"])
      const posted = yield* ask(`${url}/health`, { method: "POST" })
      assert.deepStrictEqual([posted.status, posted.headers.allow], [405, "GET, HEAD"])
      const unknown = yield* ask(`${url}/nothing`)
      assert.deepStrictEqual([unknown.status, unknown.body.includes("/metrics")], [404, true])
      for (const host of ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example"]) {
        assert.strictEqual((yield* ask(`${url}/health`, { headers: { host } })).status, 403, host)
      }
      for (const host of ["localhost", "LOCALHOST:9101", "[::1]:9101", "127.0.0.2"]) {
        assert.strictEqual((yield* ask(`${url}/health`, { headers: { host } })).status, 200, host)
      }
    }))

  it.live("warns where others can reach it, and is reached by any name there", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
      const log = Logger.layer([logger])
      yield* Effect.provide(listening(), log)
      assert.deepStrictEqual(lines, [])
      const failed = yield* Effect.flip(Internal.make({ host: "203.0.113.1", port: 0, relay }))
      assert.strictEqual(failed._tag, "MoqTransportError")
      yield* Effect.provide(listening(""), log)
      assert.strictEqual(lines.length, 1)
      assert.match(lines[0]!, /^Warn the internal listener at http.* is not on a loopback address/)
    }))

  it.live("bounds how many wait, and lets the others in", () =>
    Effect.gen(function*() {
      const url = yield* listening()
      const port = Number(new URL(url).port)
      const sockets = yield* Effect.acquireRelease(
        Effect.sync((): Array<Net.Socket> => []),
        (sockets) => Effect.sync(() => sockets.forEach((socket) => socket.destroy()))
      )
      const connect = Effect.callback<Net.Socket>((resume) => {
        const socket = Net.connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
        socket.on("error", () => {})
        sockets.push(socket)
      })
      // they say nothing
      yield* Effect.forEach(Array.from({ length: 64 }), () => connect)
      const late = yield* connect
      yield* Effect.callback<void>((resume) => void late.on("close", () => resume(Effect.void)).resume())
      assert.isTrue((yield* Effect.result(ask(`${url}/health`)))._tag === "Failure")
      sockets[0]!.destroy()
      yield* Effect.retry(ask(`${url}/health`), { times: 1000 })
    }))

  it.live("frees its port", () =>
    Effect.gen(function*() {
      const url = yield* Effect.scoped(listening())
      assert.strictEqual((yield* Effect.result(ask(`${url}/health`)))._tag, "Failure")
    }))

  it.live("tells exactly the metrics that docs/observability.md tells of", () =>
    Effect.gen(function*() {
      const network = yield* Memory.makeNetwork()
      const server = yield* network.listen({ host: "relay.example" })
      const relay = yield* Effect.provideService(Relay.make(), TransportServer, server)
      const { urls } = yield* Internal.make({ host: "127.0.0.1", port: 0, relay })
      const { body, headers } = yield* ask(`${urls[0]}/metrics`)
      assert.strictEqual(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")

      const types = new Map(Array.from(body.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, type]) => [name!, type!]))
      const labels = new Map<string, Set<string>>()
      for (const [, name, list = ""] of body.matchAll(/^([a-z_0-9]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$/gm)) {
        const known = labels.get(name!) ?? new Set()
        for (const [, label] of list.matchAll(/([a-z]+)="/g)) if (label !== "le") known.add(label!)
        labels.set(name!, known)
      }
      const printed = Array.from(types, ([name, type]) => `${name} ${type} ${[...labels.get(name)!].sort()}`)

      const page = readFileSync(new URL("../../docs/observability.md", import.meta.url), "utf8")
      const told = Array.from(page.matchAll(/^\| `([a-z_0-9]+)` *\| (gauge|counter|histogram) *\| ([^|]*)\|/gm)).map((
        [, name, type, list]
      ) => `${name} ${type} ${Array.from(list!.matchAll(/`([a-z]+)`/g), ([, label]) => label!).sort()}`)
      assert.deepStrictEqual(printed.sort(), told.sort())

      const values = (label: string) =>
        new Set(Array.from(body.matchAll(new RegExp(`${label}="([a-z0-9_]+)"`, "g")), ([, value]) => value!))
      for (const value of [...values("transport"), ...values("reason")]) assert.include(page, `\`${value}\``)
      assert.match(body, /^nodejs_heap_size_used_bytes \d{6,}$/m)
      assert.match(body, /^process_open_fds [1-9]\d*$/m)
      assert.match(body, /^nodejs_eventloop_lag_p99_seconds [\d.e-]+$/m)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
