/** What the adapter adds to the package, and clients and servers that are none of ours. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { execFile } from "node:child_process"
import * as Http2 from "node:http2"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { SessionClosed, StreamReset, TransportError } from "../../src/core/MoqError.ts"
import * as Certificate from "../../src/node/Certificate.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import { converse, drain, expectContent, failureOf, openBi, openUni } from "../../src/testing/conformance/Rule.ts"
import { e2eSuite } from "../fixtures/e2e.ts"
import * as http2 from "../node/fixtures/http2.ts"
import * as peers from "../node/fixtures/peers.ts"

const generated = { generate: ["localhost", "127.0.0.1", "::1"] }

e2eSuite(
  "end to end over HTTP/2",
  Layer.merge(
    NodeTransport.layerWith({ transports: ["h2"] }),
    NodeTransport.layerServer({ port: 0, tls: generated, transports: ["h2"] })
  ),
  true
)

const direction = (pair: Effect.Success<ReturnType<typeof http2.pair>>, from: "client" | "server" = "client") => ({
  name: from,
  from: pair[from],
  to: pair[from === "client" ? "server" : "client"]
})

const repeat = <E, R>(times: number, effect: Effect.Effect<unknown, E, R>) =>
  Effect.forEach(Array.from({ length: times }), () => effect, { discard: true })

describe("HTTP/2, beyond what the package does", () => {
  it.live("codes of streams and sessions may have 32 bits", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      const pair = yield* http2.pair(bound)
      for (const code of [256, 0x7fffffff, 0xffffffff]) {
        const reset = yield* openUni(direction(pair))
        yield* reset.send.reset(code)
        assert.deepStrictEqual(yield* failureOf(reset.receive.pull), new StreamReset({ code }))
        const stopped = yield* openUni(direction(pair, "server"))
        yield* stopped.receive.stop(code)
        assert.strictEqual(yield* stopped.send.stopped, code)
      }
      yield* pair.client.close(0xffffffff, "enough")
      const { by, code, reason } = yield* pair.server.closed
      assert.deepStrictEqual({ by, code, reason }, { by: "remote", code: 0xffffffff, reason: "enough" })
      // the process and the server live
      yield* converse(yield* http2.pair(bound), 3)
    }), 30_000)

  it.live("a reset passes a write that waits for the reader, who gets no more of it", () =>
    Effect.gen(function*() {
      const pair = yield* http2.pair(yield* http2.server())
      for (const from of ["client", "server"] as const) {
        const { receive, send } = yield* openUni(direction(pair, from))
        const writing = yield* Effect.forkChild(failureOf(send.write([new Uint8Array(1024 * 1024)])), {
          startImmediately: true
        })
        yield* converse(pair, 10)
        yield* send.reset(31)
        assert.deepStrictEqual(yield* Fiber.join(writing), new StreamReset({ code: 31 }))
        yield* converse(pair, 10)
        let arrived = 0
        const ending = drain(receive, (chunk) => {
          arrived += chunk.length
        })
        assert.deepStrictEqual(yield* failureOf(ending), new StreamReset({ code: 31 }))
        // one chunk is read ahead
        assert.isAtMost(arrived, 16 * 1024)
      }
    }), 30_000)

  it.live("bidirectional streams that both ends finish give their places back", () =>
    Effect.gen(function*() {
      const limits = { maxStreamsBidi: 20 }
      const pair = yield* http2.pair(yield* http2.server(limits), limits)
      assert.strictEqual(pair.client.capabilities.maxStreams, 9)
      for (const from of ["client", "server"] as const) {
        yield* repeat(
          100,
          Effect.gen(function*() {
            const { back, forth } = yield* openBi(direction(pair, from))
            for (const { receive, send } of [forth, back]) {
              yield* send.finish
              yield* drain(receive, () => {})
            }
          }).pipe(Effect.scoped)
        )
      }
    }), 30_000)

  it.live(
    "a closed stream leaves nothing behind, neither in its place nor among those to be sent",
    () =>
      Effect.gen(function*() {
        const { client, server } = yield* http2.pair(yield* http2.server())
        const streams = (count: number) =>
          Effect.all([
            repeat(
              count,
              Effect.scoped(
                Effect.flatMap(client.openUni(), (send) => Effect.andThen(send.write([new Uint8Array(1)]), send.finish))
              )
            ),
            repeat(count, Effect.scoped(Effect.flatMap(server.acceptUni, (receive) => drain(receive, () => {}))))
          ], { concurrency: "unbounded", discard: true })
        yield* streams(5_000)
        const before = http2.heapUsed()
        yield* streams(20_000)
        assert.isBelow((http2.heapUsed() - before) / 20_000, 100)
      }),
    60_000
  )

  it.live(
    "what comes for a stream that was stopped is dropped, and does not use up the connection's window",
    () =>
      Effect.gen(function*() {
        const limits = { maxData: 256 * 1024, maxStreamData: 64 * 1024 }
        const pair = yield* http2.pair(yield* http2.server(limits), limits)
        for (const from of ["client", "server"] as const) {
          yield* repeat(
            50,
            Effect.gen(function*() {
              const { receive, send } = yield* openUni(direction(pair, from))
              const writing = yield* Effect.forkChild(failureOf(send.write([new Uint8Array(60_000)])), {
                startImmediately: true
              })
              yield* receive.stop(3)
              yield* Fiber.join(writing)
              assert.deepStrictEqual(
                yield* failureOf(Effect.forever(send.write([new Uint8Array(1)]))),
                new StreamReset({ code: 3 })
              )
            }).pipe(Effect.scoped)
          )
          const { receive, send } = yield* openUni(direction(pair, from))
          const reading = yield* Effect.forkChild(drain(receive, () => {}))
          yield* repeat(20, send.write([new Uint8Array(64 * 1024)]))
          yield* send.finish
          yield* Fiber.join(reading)
        }
      }),
    30_000
  )

  it.live("the first bidirectional stream of a server loses nothing", () =>
    Effect.gen(function*() {
      const pair = yield* http2.pair(yield* http2.server())
      const opened = yield* pair.server.openBi
      const bytes = Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * 31 + (i >>> 8) * 17 + 1) & 0xff)
      yield* Effect.forkChild(Effect.andThen(opened.send.write([bytes]), opened.send.finish))
      const { receive } = yield* pair.client.acceptBi
      yield* expectContent(receive, { seed: 1, size: bytes.length })
    }), 30_000)

  it.live("a direction that is stuck does not hold up the other one", () =>
    Effect.gen(function*() {
      const limits = { maxData: 64 * 1024 * 1024, idleTimeout: "1 minute", writeTimeout: "1 minute" } as const
      const bound = yield* http2.server(limits)
      let stuck = false
      const port = yield* peers.tcpServer((near) => {
        const far = Net.connect(peers.portOf(bound), "127.0.0.1")
        far.on("error", () => {})
        near.on("data", (bytes) => {
          far.write(bytes)
          if (stuck) near.pause()
        })
        near.on("close", () => far.destroy())
        far.pipe(near)
      })
      const pair = yield* http2.pair(bound, limits, { port })
      const back = yield* openUni(direction(pair, "server"))
      const streams = yield* Effect.forEach(Array.from({ length: 200 }), () => openUni(direction(pair)))
      stuck = true
      // more than any buffers of the system: it stays under way
      const writing = yield* Effect.forEach(streams, ({ send }) =>
        Effect.forkChild(Effect.ignore(send.write([new Uint8Array(256 * 1024)])), { startImmediately: true }))
      const left = () =>
        writing.filter((fiber) =>
          fiber.pollUnsafe() === undefined
        ).length
      for (let before = Infinity; before !== left();) {
        before = left()
        yield* Effect.sleep("200 millis")
      }
      yield* Effect.forkChild(back.send.write([new Uint8Array(200_000)]))
      let arrived = 0
      yield* Effect.whileLoop({
        while: () => arrived < 200_000,
        body: () => back.receive.pull,
        step: (chunks) => {
          for (const chunk of chunks) arrived += chunk.length
        }
      })
      assert.isAbove(left(), 0)
    }), 60_000)

  it.live("a server that stops closes its sessions, and tells its clients", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const bound = yield* Scope.provide(http2.server(), scope)
      const { client } = yield* http2.pair(bound)
      const { receive } = yield* client.openBi
      const pulling = yield* Effect.forkChild(failureOf(receive.pull), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      const closed = yield* client.closed
      assert.deepStrictEqual(closed, new SessionClosed({ code: 0, reason: "", by: "remote" }))
      assert.deepStrictEqual(yield* Fiber.join(pulling), closed)
      // and the port is free
      const again = yield* peers.server({ port: peers.portOf(bound), transports: ["h2"] })
      assert.strictEqual(peers.portOf(again), peers.portOf(bound))
    }), 30_000)

  it.live("200 sessions at once", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ transports: ["h2"], waiting: 200 })
      const accepted: Array<Effect.Success<ReturnType<typeof http2.connect>>> = []
      yield* Effect.forkScoped(
        Stream.runForEach(bound.requests, ({ accept }) => Effect.map(accept, (server) => accepted.push(server)))
      )
      const clients = yield* Effect.forEach(
        Array.from({ length: 200 }),
        () => http2.connect(bound, undefined, { timeout: "30 seconds" }),
        { concurrency: 20 }
      )
      assert.lengthOf(accepted, 200)
      yield* Effect.forEach(accepted, (server, i) => server.close(i % 256, "bye"), { discard: true })
      const codes = yield* Effect.forEach(clients, ({ closed }) => Effect.map(closed, ({ code }) => code))
      assert.deepStrictEqual(codes.sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i % 256))
    }), 60_000)
})

describe("HTTP/2, a request", () => {
  it.live("carries URL, headers in lower case, and the client's address", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      const { session } = yield* http2.raw(peers.portOf(bound))
      session.request({
        ":method": "CONNECT",
        ":protocol": "webtransport",
        ":scheme": "https",
        ":authority": "relay.example:7",
        ":path": "/a/b?token=x",
        "X-Custom": ["one", "two"]
      })
      const request = yield* peers.nextRequest(bound)
      assert.strictEqual(request.url.href, "https://relay.example:7/a/b?token=x")
      assert.strictEqual(request.headers?.get("x-custom"), "one, two")
      assert.match(request.peer ?? "", /^127\.0\.0\.1:\d+$/)
      assert.strictEqual(request.transport, "h2")
    }), 30_000)

  it.live("that asks for something else is sent to HTTP/1.1, where it is answered", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      const raw = yield* http2.raw(peers.portOf(bound))
      const required = { reset: Http2.constants.NGHTTP2_HTTP_1_1_REQUIRED }
      assert.deepStrictEqual(yield* raw.request({ ":path": "/certificate.sha256" }), required)
      const webSocket = { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": "/" }
      assert.deepStrictEqual(yield* raw.request(webSocket), required)
      const fingerprint = yield* Effect.callback<string | undefined>((resume) => {
        execFile("curl", ["-ks", `https://127.0.0.1:${peers.portOf(bound)}/certificate.sha256`], (error, text) => {
          resume(Effect.succeed(error !== null && "code" in error && error.code === "ENOENT" ? undefined : text.trim()))
        })
      })
      // where there is no curl, nobody can tell
      if (fingerprint !== undefined) assert.strictEqual(fingerprint, bound.fingerprint)
    }), 30_000)

  it.live("that has no proper host gets 400", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      for (const authority of ["user@host", "host:99999", "[::1"]) {
        const raw = yield* http2.raw(peers.portOf(bound))
        assert.strictEqual(yield* raw.open("/", authority).status, 400)
      }
    }), 30_000)
})

const refusal = (connecting: ReturnType<typeof http2.connect>) =>
  Effect.map(
    Effect.flip(connecting),
    (error) => error instanceof TransportError ? error.detail ?? "" : `not a TransportError: ${error}`
  )

describe("HTTP/2, a client that cannot connect", () => {
  it.live("is told why", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      const port = peers.portOf(bound)
      const pinned = yield* Certificate.generate({ hosts: ["localhost"] })
      assert.include(
        yield* refusal(http2.connect(bound, undefined, { fingerprints: [pinned.fingerprint] })),
        `has another certificate than the pinned one: its fingerprint is ${bound.fingerprint}`
      )
      assert.include(yield* refusal(http2.connect(bound, undefined, { fingerprints: [] })), "is not trusted")
      assert.include(yield* refusal(http2.connect(bound, undefined, { port: 1 })), "nothing listens at 127.0.0.1:1")
      assert.include(
        yield* refusal(http2.connect(bound, undefined, { fingerprints: [], roots: ["no PEM"] })),
        "has to be a certificate in PEM"
      )
      const connecting = yield* Effect.forkChild(refusal(http2.connect(bound)), { startImmediately: true })
      yield* Effect.flatMap(peers.nextRequest(bound), (request) => request.refuse(403))
      assert.strictEqual(yield* Fiber.join(connecting), `127.0.0.1:${port} refused the connection (HTTP 403)`)
    }), 30_000)

  it.live("is told that the other end is something else", () =>
    Effect.gen(function*() {
      const keys = yield* Certificate.generate({ hosts: ["127.0.0.1"] })
      const at = (port: number) =>
        NodeTransport.make({ transports: ["h2"] }).connect(new URL(`https://127.0.0.1:${port}`), {
          fingerprints: [keys.fingerprint]
        })
      const oneOne = yield* peers.server({ tls: keys, transports: ["websocket"] })
      assert.include(yield* refusal(at(peers.portOf(oneOne))), "offers no HTTP/2")
      const noAlpn = yield* peers.tlsServer(keys, () => {})
      assert.include(yield* refusal(at(noAlpn)), "offers no HTTP/2")
      const silent = yield* peers.listening(() => Tls.createServer({ ...keys, ALPNProtocols: ["h2"] }, (s) => s.end()))
      assert.include(yield* refusal(at(silent)), "closed the connection during the HTTP/2 handshake")
      const plain = yield* peers.listening(() => Http2.createSecureServer(keys))
      assert.include(yield* refusal(at(plain)), "offers no WebTransport over HTTP/2")
      const other = yield* peers.listening(() => {
        const server = Http2.createSecureServer({ ...keys, settings: { enableConnectProtocol: true } })
        return server.on("stream", (stream) => stream.respond({ ":status": 404 }, { endStream: true }))
      })
      assert.include(yield* refusal(at(other)), "offers no WebTransport over HTTP/2 here (HTTP 404)")
    }), 30_000)

  it.live("trusts authorities of its own, and checks the name", () =>
    Effect.gen(function*() {
      const named = yield* Certificate.generate({ hosts: ["127.0.0.1"] })
      const other = yield* Certificate.generate({ hosts: ["relay.example"] })
      for (const [keys, good] of [[named, true], [other, false]] as const) {
        const bound = yield* peers.server({ tls: keys, transports: ["h2"] })
        const accepting = yield* peers.acceptNext(bound)
        const outcome = yield* Effect.result(
          http2.connect(bound, undefined, { fingerprints: [], roots: [keys.cert] })
        )
        assert.strictEqual(outcome._tag, good ? "Success" : "Failure")
        yield* Fiber.interrupt(accepting)
      }
    }), 30_000)

  it.live("gives up after its timeout, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      const failure = yield* Effect.flip(Effect.scoped(http2.connect(bound, undefined, { timeout: "300 millis" })))
      assert.strictEqual(failure._tag, "MoqTimeout")
      // the next to be taken is the next client
      const accepting = yield* Effect.forkChild(peers.nextRequest(bound))
      yield* Effect.forkChild(http2.connect(bound, undefined, { path: "/next" }), { startImmediately: true })
      assert.strictEqual((yield* Fiber.join(accepting)).url.pathname, "/next")
    }), 30_000)
})
