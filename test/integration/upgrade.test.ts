import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { WebSocketServer } from "ws"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import { TransportServer } from "../../src/transport/Transport.ts"
import { e2eSuite } from "../fixtures/e2e.ts"
import { plain, portOf, secure } from "../node/fixtures/httpServers.ts"
import * as peers from "../node/fixtures/peers.ts"

const outer = 30_000

const heapUsed = Effect.sync(() => {
  V8.setFlagsFromString("--expose-gc")
  const collect = Vm.runInNewContext("gc") as () => void
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
})

/** A server of a user's with ours on it. */
const attached = (options?: NodeTransport.UpgradeOptions) =>
  Effect.gen(function*() {
    const server = yield* plain
    const bound = yield* NodeTransport.makeUpgrade(server, options)
    return { server, port: portOf(server), bound }
  })

const connect = (url: string, options?: Parameters<ReturnType<typeof NodeTransport.make>["connect"]>[1]) =>
  NodeTransport.make({ transports: ["websocket"] }).connect(new URL(url), options)

/** The HTTP status that a WebSocket gets, 101 when it is let in. */
const statusOf = (url: string, headers: Record<string, string> = {}, protocol = peers.subprotocol) =>
  peers.webSocket(url, [protocol], { headers }).pipe(
    Effect.flatMap((peer) => peer.status),
    Effect.scoped
  )

/** What a raw request is answered with, up to the end of the connection. */
const ask = (port: number, request: ReadonlyArray<string>) =>
  Effect.scoped(
    Effect.flatMap(peers.raw(port, `${request.join("\r\n")}\r\n\r\n`), ({ ended }) => ended)
  )

/** Lets in whoever comes. */
const acceptAll = (bound: TransportServer) =>
  Effect.forkScoped(Stream.runForEach(bound.requests, (request) => Effect.forkScoped(Effect.ignore(request.accept))))

describe("WebSocket on a user's HTTP server, by the rules of transports", () => {
  const cases = TransportConformance.cases({
    pair: Effect.flatMap(attached(), ({ bound }) =>
      Effect.gen(function*() {
        const accepting = yield* peers.acceptNext(bound)
        const client = yield* connect(bound.urls[0]!)
        return { client, server: yield* Fiber.join(accepting) }
      })),
    heapUsed,
    server: Effect.map(attached(), ({ bound }) => ({
      server: bound,
      connect: (path) => connect(`${bound.urls[0]}${path}`)
    }))
  })
  const needless = new Set<TransportConformance.Hook | undefined>(["kill", "silence", "idle", "narrow"])
  for (const { needs, rule, run } of cases) {
    if (needless.has(needs)) continue
    it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 90_000)
  }
})

e2eSuite(
  "end to end beside an HTTP server",
  Layer.merge(
    NodeTransport.layer,
    Layer.effect(
      TransportServer,
      Effect.gen(function*() {
        const { fingerprint, server } = yield* secure
        const bound = yield* NodeTransport.makeUpgrade(server, { path: "/" })
        return { ...bound, urls: bound.urls, fingerprint }
      })
    )
  ),
  true
)

describe("beside others on one HTTP server", () => {
  it.live("routes and other WebSockets go on, and what follows the path is the root", () =>
    Effect.gen(function*() {
      const { bound, port, server } = yield* attached()
      // it aborts every upgrade but those of its own path
      const chat = new WebSocketServer({ server, path: "/chat" })
      yield* Effect.addFinalizer(() => Effect.sync(() => chat.close()))
      chat.on("connection", (socket) => socket.on("message", (data: Buffer) => socket.send(data)))
      assert.deepStrictEqual(bound.urls, [`ws://127.0.0.1:${port}/moq`])

      const { client, server: ours } = yield* Effect.gen(function*() {
        const next = yield* Effect.forkScoped(peers.nextRequest(bound))
        const connecting = yield* Effect.forkScoped(connect(`ws://127.0.0.1:${port}/moq/room/a%2Fb?jwt=x`))
        const request = yield* Fiber.join(next)
        assert.strictEqual(`${request.url.pathname}${request.url.search}`, "/room/a%2Fb?jwt=x")
        assert.strictEqual(request.headers?.get("host"), `127.0.0.1:${port}`)
        const server = yield* request.accept
        return { client: yield* Fiber.join(connecting), server }
      })
      yield* peers.works(client, ours)

      const talk = yield* peers.webSocket(`ws://127.0.0.1:${port}/chat`, [])
      yield* talk.opened
      talk.socket.send("hello")
      assert.strictEqual(
        yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/moq/page`).then((answer) => answer.text())),
        "GET /moq/page"
      )
      while (talk.messages.length === 0) yield* Effect.sleep("2 millis")
      assert.strictEqual(Buffer.from(talk.messages[0]!).toString(), "hello")
      assert.strictEqual(yield* statusOf(`ws://127.0.0.1:${port}/moqqe`), 400)
      yield* peers.works(client, ours)
    }), outer)

  it.live(
    "where nobody else takes upgrades, those that are not ours are requests like any other",
    () =>
      Effect.gen(function*() {
        const { port } = yield* attached()
        const h2c = [
          "Host: localhost",
          "Connection: Upgrade, HTTP2-Settings",
          "Upgrade: h2c",
          "HTTP2-Settings: AAMAAABk"
        ]
        assert.match(yield* ask(port, ["GET /page HTTP/1.1", ...h2c]), /^HTTP\/1\.1 200 OK[^]*GET \/page$/)
        assert.match(yield* ask(port, ["POST /page HTTP/1.1", ...h2c, "Content-Length: 1"]), /^HTTP\/1\.1 400 /)
        assert.match(yield* ask(port, ["GET /moq HTTP/1.1", ...h2c]), /^HTTP\/1\.1 400 /)
      }),
    outer
  )

  it.live(
    "refuses what is no WebSocket with QMux: 400, and leads nowhere but below its path",
    () =>
      Effect.gen(function*() {
        const { bound, port } = yield* attached()
        yield* acceptAll(bound)
        const url = `ws://127.0.0.1:${port}/moq`
        assert.strictEqual(yield* statusOf(url), 101)
        assert.strictEqual(yield* statusOf(url, {}, "qmux-02"), 400)
        assert.strictEqual(yield* statusOf(url, { Host: "a@b" }), 400)
        const upgrade = [
          "Host: localhost",
          "Connection: Upgrade",
          "Upgrade: websocket",
          "Sec-WebSocket-Version: 13",
          "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
          `Sec-WebSocket-Protocol: ${peers.subprotocol}`
        ]
        assert.match(yield* ask(port, ["GET /moq/../page HTTP/1.1", ...upgrade]), /^HTTP\/1\.1 400 /)
        assert.match(yield* ask(port, ["GET /moq/%2e%2e/page HTTP/1.1", ...upgrade]), /^HTTP\/1\.1 400 /)
      }),
    outer
  )

  it.live("pages of its own origin connect; others only where that is said", () =>
    Effect.gen(function*() {
      const server = yield* plain
      const port = portOf(server)
      for (
        const [path, allowOrigin, expected] of [
          ["own", undefined, [101, 101, 403, 403]],
          ["listed", ["https://a.example"], [101, 403, 101, 403]],
          ["all", ["*"], [101, 101, 101, 101]]
        ] as const
      ) {
        yield* acceptAll(yield* NodeTransport.makeUpgrade(server, { path, allowOrigin }))
        const origins = [undefined, `http://127.0.0.1:${port}`, "https://a.example", "null"]
        const statuses = yield* Effect.forEach(
          origins,
          (origin) => statusOf(`ws://127.0.0.1:${port}/${path}`, origin === undefined ? {} : { Origin: origin })
        )
        assert.deepStrictEqual(statuses, [...expected], path)
      }
    }), outer)

  it.live("a proxy tells the address of a client only when it is trusted", () =>
    Effect.gen(function*() {
      const server = yield* plain
      for (const [path, trustProxy] of [["direct", false], ["proxied", true]] as const) {
        const bound = yield* NodeTransport.makeUpgrade(server, { path, trustProxy })
        const next = yield* Effect.forkScoped(peers.nextRequest(bound))
        yield* peers.webSocket(`ws://127.0.0.1:${portOf(server)}/${path}`, [peers.subprotocol], {
          headers: { "X-Forwarded-For": "192.0.2.1, 198.51.100.7", Cookie: "a=1; b=2" }
        })
        const { headers, peer } = yield* Fiber.join(next)
        assert.strictEqual(headers?.get("cookie"), "a=1; b=2")
        if (trustProxy) assert.strictEqual(peer, "198.51.100.7")
        else assert.match(peer!, /^127\.0\.0\.1:\d+$/)
      }
    }), outer)

  it.live(
    "closing it ends its own connections with code 0, refuses who waits, and leaves the server as it was",
    () =>
      Effect.gen(function*() {
        const server = yield* plain
        const port = portOf(server)
        const scope = yield* Scope.make()
        const bound = yield* Scope.provide(NodeTransport.makeUpgrade(server), scope)
        const other = new WebSocketServer({ server, path: "/chat" })
        yield* Effect.addFinalizer(() => Effect.sync(() => other.close()))
        const chat = yield* peers.webSocket(`ws://127.0.0.1:${port}/chat`, [])
        yield* chat.opened
        const accepting = yield* peers.acceptNext(bound)
        const client = yield* connect(`ws://127.0.0.1:${port}/moq`)
        yield* Fiber.join(accepting)
        const waiting = yield* peers.webSocket(`ws://127.0.0.1:${port}/moq`, [peers.subprotocol])
        yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 20)))

        yield* Scope.close(scope, Exit.void)
        const { by, code } = yield* client.closed
        assert.deepStrictEqual([by, code], ["remote", 0])
        assert.strictEqual(yield* waiting.status, 503)
        assert.strictEqual(server.listenerCount("upgrade"), 1)
        assert.isFalse(Object.hasOwn(server, "emit"))
        assert.strictEqual(chat.socket.readyState, chat.socket.OPEN)
        assert.strictEqual(yield* statusOf(`ws://127.0.0.1:${port}/moq`), 400)
        assert.strictEqual(
          yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.status)),
          200
        )
      }),
    outer
  )

  it.live("who wraps the same server later finds it working, whoever goes first", () =>
    Effect.gen(function*() {
      const server = yield* plain
      const port = portOf(server)
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* acceptAll(yield* Scope.provide(NodeTransport.makeUpgrade(server, { path: "/a" }), first))
      const { emit } = server
      let seen = 0
      server.emit = (event: string, ...args: Array<unknown>) => {
        seen++
        return Reflect.apply(emit, server, [event, ...args])
      }
      const wrapped = server.emit
      yield* acceptAll(yield* Scope.provide(NodeTransport.makeUpgrade(server, { path: "/a/b" }), second))
      assert.deepStrictEqual(
        [yield* statusOf(`ws://127.0.0.1:${port}/a/x`), yield* statusOf(`ws://127.0.0.1:${port}/a/b/x`)],
        [101, 101]
      )
      const taken = yield* Effect.exit(NodeTransport.makeUpgrade(server, { path: "a/" }))
      assert.isTrue(Exit.hasDies(taken))
      yield* Scope.close(first, Exit.void)
      assert.strictEqual(yield* statusOf(`ws://127.0.0.1:${port}/a/b/x`), 101)
      yield* Scope.close(second, Exit.void)
      assert.strictEqual(server.emit, wrapped)
      const before = seen
      assert.strictEqual(
        yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/page`).then((answer) => answer.status)),
        200
      )
      assert.isAbove(seen, before)
      assert.strictEqual(server.listenerCount("upgrade"), 0)
    }), outer)
})
