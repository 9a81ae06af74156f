import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Tls from "node:tls"
import { WebSocketServer } from "ws"
import * as Certificate from "../../src/node/Certificate.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import type { ConnectOptions } from "../../src/transport/Transport.ts"
import * as peers from "../node/fixtures/peers.ts"

const outer = 20_000

const transport = NodeTransport.make({ transports: ["websocket"], limits: { handshakeTimeout: "200 millis" } })

const detailOf = (url: string, options?: ConnectOptions) =>
  Effect.flip(transport.connect(new URL(url), options)).pipe(
    Effect.map((error) => {
      assert.strictEqual(error._tag, "MoqTransportError")
      const detail = error.detail ?? ""
      assert.notInclude(detail, "\n")
      return detail
    }),
    Effect.scoped
  )

const keys = Certificate.generate({ hosts: ["localhost", "127.0.0.1"] })

describe("connecting", () => {
  it.live.each([
    { url: "http://localhost:1", words: "http: URLs are not supported; use https://localhost:1" },
    { url: "ftp://localhost", words: "ftp: URLs are not supported" },
    { url: "moqf://relay.example:1", words: "raw QUIC (moqf:) is not supported yet" },
    { url: "ws://relay.example:1", words: "ws: has no encryption and is for loopback addresses only" },
    { url: "ws://127.0.0.1.example:1", words: "loopback addresses only" },
    { url: "https://nowhere.invalid", words: "the host nowhere.invalid is unknown" }
  ])("to $url says: $words", ({ url, words }) =>
    Effect.gen(function*() {
      assert.include(yield* detailOf(url), words)
    }), outer)

  it.live.each([
    { url: "wss://localhost:1", words: "wss: URLs are for WebSocket alone; use https://localhost:1" },
    { url: "http://localhost:1", words: "http: URLs are not supported; use https://localhost:1" }
  ])("to $url without WebSocket says: $words", ({ url, words }) =>
    Effect.gen(function*() {
      const without = NodeTransport.make({ transports: ["h2"] })
      const error = yield* Effect.flip(Effect.scoped(without.connect(new URL(url))))
      assert.strictEqual(error.detail, words)
    }), outer)

  it.live("says that nothing listens", () =>
    Effect.gen(function*() {
      // a port that was free a moment ago
      const port = yield* Effect.scoped(peers.tcpServer(() => {}))
      for (const url of [`https://127.0.0.1:${port}`, `wss://localhost:${port}`, `ws://127.0.0.1:${port}`]) {
        assert.strictEqual(yield* detailOf(url), `nothing listens at ${new URL(url).host}`)
      }
    }), outer)

  it.live("refuses what is no fingerprint", () =>
    Effect.gen(function*() {
      const detail = yield* detailOf("https://127.0.0.1:1", { fingerprints: ["abc"] })
      assert.strictEqual(detail, "\"abc\" is not a SHA-256 fingerprint (64 hex digits)")
    }), outer)

  it.live("trusts no self-signed certificate by itself, and says what helps", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      const detail = yield* detailOf(bound.urls[0]!)
      assert.include(detail, "is not trusted")
      assert.include(detail, "pin the fingerprint")
    }), outer)

  it.live(
    "accepts a pinned certificate in any spelling, and any certificate when told so",
    () =>
      Effect.gen(function*() {
        const bound = yield* peers.server({ tls: { generate: ["another.example"] } })
        const fingerprint = bound.fingerprint!.toUpperCase().replaceAll(/(..)(?=.)/g, "$1:")
        for (const options of [{ fingerprints: ["0".repeat(64), fingerprint] }, { insecure: true }]) {
          const accepting = yield* peers.acceptNext(bound)
          const client = yield* transport.connect(new URL(bound.urls[0]!), options)
          yield* peers.works(client, yield* Fiber.join(accepting))
        }
      }),
    outer
  )

  it.live("sends nothing to a server with another certificate than the pinned one", () =>
    Effect.gen(function*() {
      const received: Array<Buffer> = []
      const ended = yield* Deferred.make<void>()
      const made = yield* keys
      const port = yield* peers.listening(() => {
        const server = Tls.createServer(made, (socket) => {
          socket.on("error", () => {})
          socket.on("data", (data) => received.push(data))
        })
        // the TCP connection: the TLS one may never be finished
        server.on("connection", (socket) => socket.on("close", () => Deferred.doneUnsafe(ended, Effect.void)))
        return server
      })
      const detail = yield* detailOf(`https://127.0.0.1:${port}/secret`, { fingerprints: ["0".repeat(64)] })
      assert.include(detail, "another certificate than the pinned one")
      assert.include(detail, made.fingerprint)
      yield* Deferred.await(ended)
      assert.deepStrictEqual(received, [])
      // the same server does see the request of a client that pins the right one
      yield* Effect.exit(
        transport.connect(new URL(`https://127.0.0.1:${port}/secret`), {
          fingerprints: [made.fingerprint],
          timeout: "200 millis"
        })
      ).pipe(Effect.scoped)
      assert.include(Buffer.concat(received).toString(), "GET /secret")
    }), outer)

  it.live("tells servers that are none", () =>
    Effect.gen(function*() {
      const made = yield* keys
      const fingerprints = [made.fingerprint]
      const silent = yield* peers.tcpServer((socket) => socket.destroy())
      assert.include(yield* detailOf(`https://127.0.0.1:${silent}`), "closed the connection during the TLS handshake")
      const plain = yield* peers.listening(() => Http.createServer())
      assert.include(yield* detailOf(`https://127.0.0.1:${plain}`), "it does not speak TLS")
      const noise = yield* peers.tlsServer(made, (socket) => {
        socket.on("error", () => {})
        socket.end("220 mail.example ESMTP\r\n")
      })
      assert.include(yield* detailOf(`https://127.0.0.1:${noise}`, { fingerprints }), "is not a WebSocket server")
      const quits = yield* peers.tlsServer(made, (socket) => {
        socket.on("error", () => {})
        socket.once("data", () => socket.destroy())
      })
      assert.include(
        yield* detailOf(`https://127.0.0.1:${quits}`, { fingerprints }),
        "closed the connection during the WebSocket handshake"
      )
    }), outer)

  it.live("tells the status and the words of a refusal", () =>
    Effect.gen(function*() {
      const made = yield* keys
      const port = yield* peers.listening(() =>
        Https.createServer(made, (request, response) => {
          response.statusCode = Number(request.url!.slice(1))
          response.end("not\u0007 today\n")
        })
      )
      const fingerprints = [made.fingerprint]
      assert.include(
        yield* detailOf(`https://127.0.0.1:${port}/403`, { fingerprints }),
        "refused the connection (HTTP 403: not today)"
      )
      assert.include(
        yield* detailOf(`https://127.0.0.1:${port}/404`, { fingerprints }),
        "offers no WebSocket here (HTTP 404"
      )
      assert.include(
        yield* detailOf(`https://127.0.0.1:${port}/200`, { fingerprints }),
        "offers no WebSocket here (HTTP 200"
      )
    }), outer)

  it.live("takes only a server that selects QMux with Transfork", () =>
    Effect.gen(function*() {
      const made = yield* keys
      for (const selected of [undefined, "qmux-00.moqf-02", "qmux-02", "other"]) {
        const port = yield* peers.listening(() => {
          const server = Https.createServer(made)
          const upgrader = new WebSocketServer({ noServer: true, handleProtocols: () => selected ?? false })
          server.on("upgrade", (request, socket, head) => upgrader.handleUpgrade(request, socket, head, () => {}))
          return server
        })
        const detail = yield* detailOf(`https://127.0.0.1:${port}`, { fingerprints: [made.fingerprint] })
        assert.include(detail, "speaks WebSocket but not QMux with Transfork (qmux-02.moqf-02 or qmux-01.moqf-02)")
      }
    }).pipe(Effect.scoped), outer)

  it.live("offers the newest draft first, and takes the older one", () =>
    Effect.gen(function*() {
      const made = yield* keys
      let offered: string | undefined
      const port = yield* peers.listening(() => {
        const server = Https.createServer(made)
        const upgrader = new WebSocketServer({ server, handleProtocols: () => "qmux-01.moqf-02" })
        upgrader.on("connection", (socket, request) => {
          offered = request.headers["sec-websocket-protocol"]
          socket.send(peers.parameters)
        })
        return server
      })
      const connection = yield* transport.connect(new URL(`https://127.0.0.1:${port}`), {
        fingerprints: [made.fingerprint]
      })
      assert.strictEqual(offered, "qmux-02.moqf-02,qmux-01.moqf-02")
      assert.strictEqual(connection.capabilities.maxStreams, 42)
      assert.strictEqual(connection.info.peer, `127.0.0.1:${port}`)
    }), outer)

  it.live("fails when the server does not begin with its transport parameters", () =>
    Effect.gen(function*() {
      const made = yield* keys
      const behaviours: ReadonlyArray<readonly [Uint8Array | string | undefined, string]> = [
        [undefined, "sent no transport parameters in time"],
        [Uint8Array.of(1, 2, 3), "its first record has no transport parameters"],
        ["hello", "a text message"]
      ]
      for (const [first, words] of behaviours) {
        const port = yield* peers.listening(() => {
          const server = Https.createServer(made)
          new WebSocketServer({ server }).on("connection", (socket) => {
            if (first !== undefined) socket.send(first)
          })
          return server
        })
        assert.include(yield* detailOf(`https://127.0.0.1:${port}`, { fingerprints: [made.fingerprint] }), words)
      }
    }).pipe(Effect.scoped), outer)

  it.live("gives up after its time, and leaves no socket behind", () =>
    Effect.gen(function*() {
      const gone = yield* Deferred.make<void>()
      const port = yield* peers.tcpServer((socket) => {
        socket.resume()
        socket.on("close", () => Deferred.doneUnsafe(gone, Effect.void))
      })
      const error = yield* Effect.flip(
        transport.connect(new URL(`https://127.0.0.1:${port}`), { timeout: "100 millis" })
      ).pipe(Effect.scoped)
      assert.strictEqual(error._tag, "MoqTimeout")
      assert.strictEqual(error.detail, `connecting to 127.0.0.1:${port} took over 100ms`)
      yield* Deferred.await(gone)
    }), outer)

  it.live("leaves no socket behind when it is interrupted", () =>
    Effect.gen(function*() {
      const came = yield* Deferred.make<void>()
      const gone = yield* Deferred.make<void>()
      const port = yield* peers.tcpServer((socket) => {
        socket.on("close", () => Deferred.doneUnsafe(gone, Effect.void))
        socket.on("data", () => Deferred.doneUnsafe(came, Effect.void))
      })
      const fiber = yield* Effect.forkChild(Effect.scoped(transport.connect(new URL(`https://127.0.0.1:${port}`))))
      yield* Deferred.await(came)
      yield* Fiber.interrupt(fiber)
      yield* Deferred.await(gone)
    }), outer)
})
