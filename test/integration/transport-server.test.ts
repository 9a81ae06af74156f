import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Logger, References, Scope, Stream } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import { join } from "node:path"
import * as Tls from "node:tls"
import { fileURLToPath } from "node:url"
import * as Certificate from "../../src/node/Certificate.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as peers from "../node/fixtures/peers.ts"

const outer = 30_000

const get = (
  port: number,
  path: string,
  options?: { readonly headers?: string; readonly secure?: boolean; readonly host?: string }
) =>
  Effect.callback<{ readonly head: string; readonly body: string }>((resume) => {
    const host = options?.host ?? "127.0.0.1"
    const socket = options?.secure === true
      ? Tls.connect({ host, port, rejectUnauthorized: false })
      : Net.connect({ host, port })
    let text = ""
    socket.on("error", () => {})
    socket.on("data", (data) => {
      text += data
    })
    socket.on("close", () => {
      const [head = "", body = ""] = text.split("\r\n\r\n")
      resume(Effect.succeed({ head, body }))
    })
    socket.write(`GET ${path} HTTP/1.1\r\n${options?.headers ?? "Host: localhost"}\r\n\r\n`)
    return Effect.sync(() => socket.destroy())
  })

const statusOf = (answer: { readonly head: string }) => Number(answer.head.split(" ")[1])

const upgradeStatus = (url: string, protocols: ReadonlyArray<string>, headers?: Record<string, string>) =>
  peers.webSocket(url, protocols, headers === undefined ? {} : { headers }).pipe(
    Effect.flatMap((peer) => peer.status),
    Effect.scoped
  )

const outside = Object.values(Os.networkInterfaces()).flat().find((address) =>
  address?.family === "IPv4" && !address.internal
)?.address

describe("binding", () => {
  it.live(
    "names the addresses that work, on both loopbacks with one port, and frees it with the scope",
    () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const bound = yield* Scope.provide(peers.server(), scope)
        const port = peers.portOf(bound)
        assert.strictEqual(bound.urls[0], `https://127.0.0.1:${port}`)
        assert.strictEqual(bound.urls.at(-1), `https://localhost:${port}`)
        assert.deepStrictEqual(bound.transports, ["websocket"])
        for (const url of bound.urls) {
          const accepting = yield* peers.acceptNext(bound)
          const client = yield* NodeTransport.make().connect(new URL(url), { fingerprints: [bound.fingerprint!] })
          yield* peers.works(client, yield* Fiber.join(accepting))
        }
        const inUse = yield* Effect.flip(peers.server({ port })).pipe(Effect.scoped)
        assert.strictEqual(inUse.detail, `127.0.0.1:${port} is in use`)
        yield* Scope.close(scope, Exit.void)
        yield* Effect.scoped(peers.server({ port }))
      }),
    outer
  )

  it.live("says what is wrong with an address or a certificate", () =>
    Effect.gen(function*() {
      const one = yield* Certificate.generate({ hosts: ["localhost"] })
      const other = yield* Certificate.generate({ hosts: ["localhost"] })
      const details = yield* Effect.forEach([
        peers.server({ host: "192.0.2.77" }),
        peers.server({ tls: { cert: one.cert, key: other.key } }),
        peers.server({ tls: { cert: "nonsense", key: "nonsense" } }),
        peers.server({ tls: { generate: [] } })
      ], (make) => Effect.scoped(Effect.flip(make)))
      assert.deepStrictEqual(details.map((error) => error._tag), Array.from({ length: 4 }, () => "MoqTransportError"))
      assert.include(details[0]!.detail, "192.0.2.77 is not an address of this machine")
      assert.include(details[1]!.detail, "certificate and key cannot be used")
      assert.include(details[2]!.detail, "certificate and key cannot be used")
      assert.include(details[3]!.detail, "at least one host")
    }), outer)

  it.live("leaves nothing behind when it fails, though its scope goes on", () =>
    Effect.gen(function*() {
      const port = peers.portOf(yield* peers.server())
      const keys = yield* Certificate.generate({ hosts: ["localhost"] })
      const dir = yield* Effect.acquireRelease(
        Effect.promise(() => Fs.mkdtemp(join(Os.tmpdir(), "server-"))),
        (dir) => Effect.promise(() => Fs.rm(dir, { recursive: true }))
      )
      const [certFile, keyFile] = [join(dir, "cert.pem"), join(dir, "key.pem")]
      yield* Effect.promise(() => Promise.all([Fs.writeFile(certFile, keys.cert), Fs.writeFile(keyFile, keys.key)]))
      let follows: boolean | undefined
      const reload = Stream.suspend(() => {
        follows = true
        return Stream.never
      }).pipe(Stream.ensuring(Effect.sync(() => {
        follows = false
      })))
      const error = yield* Effect.flip(peers.server({ port, tls: { certFile, keyFile }, reload }))
      assert.strictEqual(error.detail, `127.0.0.1:${port} is in use`)
      assert.isFalse(follows)
    }), outer)

  it.live("names the hosts of a certificate of your own first", () =>
    Effect.gen(function*() {
      const keys = yield* Certificate.generate({ hosts: ["relay.example", "*.example"] })
      const bound = yield* peers.server({ tls: { cert: keys.cert, key: keys.key }, host: "127.0.0.1" })
      const port = new URL(bound.urls[0]!).port
      assert.deepStrictEqual(bound.urls, [`https://relay.example:${port}`, `https://127.0.0.1:${port}`])
      assert.isUndefined(bound.fingerprint)
    }), outer)

  it.live(
    "closes every connection with code 0 when the scope closes, and leaves no handle open",
    () =>
      Effect.gen(function*() {
        const handles = () => process.getActiveResourcesInfo().filter((name) => /TCP|TLS|Timeout/.test(name)).sort()
        const before = handles()
        const scope = yield* Scope.make()
        const bound = yield* Scope.provide(peers.server(), scope)
        const { client } = yield* Scope.provide(peers.pair(bound), scope)
        const waiting = yield* Scope.provide(peers.raw(peers.portOf(bound), "GET / HTT"), scope)
        assert.notDeepEqual(handles(), before)
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(waiting.socket.destroyed)
        assert.include(["local", "remote"], (yield* client.closed).by)
        // what is left ends by itself, or this never ends
        while (handles().length > before.length) yield* Effect.sleep("20 millis")
      }),
    outer
  )

  it.live("tells clients of its end with code 0", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const bound = yield* Scope.provide(peers.server(), scope)
      const accepting = yield* peers.acceptNext(bound)
      const client = yield* peers.connect(bound)
      yield* Fiber.join(accepting)
      yield* Scope.close(scope, Exit.void)
      const closed = yield* client.closed
      assert.deepStrictEqual({ ...closed }, { ...closed, code: 0, by: "remote" })
    }), outer)
})

describe("plain HTTP", () => {
  it.live(
    "serves the fingerprint of a generated certificate to everybody, with and without TLS",
    () =>
      Effect.gen(function*() {
        const bound = yield* peers.server()
        const port = peers.portOf(bound)
        for (const path of ["/certificate.sha256", "/fingerprint", "/fingerprint?x=1"]) {
          for (const secure of [false, true]) {
            const answer = yield* get(port, path, { secure, headers: "Host: evil.example" })
            assert.strictEqual(answer.body, `${bound.fingerprint}\n`)
            assert.match(answer.head, /content-type: text\/plain/i)
            assert.match(answer.head, /access-control-allow-origin: \*/i)
          }
        }
        assert.strictEqual(statusOf(yield* get(port, "/")), 404)
        assert.strictEqual(statusOf(yield* get(port, "/", { headers: "Host: evil.example" })), 403)
        assert.strictEqual(statusOf(yield* get(port, "/", { secure: true, headers: "Host: evil.example" })), 404)
      }),
    outer
  )

  it.live("serves nothing beside a certificate of your own", () =>
    Effect.gen(function*() {
      const keys = yield* Certificate.generate({ hosts: ["127.0.0.1"] })
      const bound = yield* peers.server({ tls: { cert: keys.cert, key: keys.key } })
      const port = peers.portOf(bound)
      assert.strictEqual(statusOf(yield* get(port, "/certificate.sha256")), 403)
      assert.strictEqual(statusOf(yield* get(port, "/certificate.sha256", { secure: true })), 404)
      assert.strictEqual(yield* upgradeStatus(`ws://127.0.0.1:${port}`, [peers.subprotocol]), 403)
    }), outer)

  it.live.runIf(outside !== undefined)(
    "gives a peer from outside the fingerprint, and nothing else",
    () =>
      Effect.gen(function*() {
        const bound = yield* peers.server({ host: "" })
        const port = peers.portOf(bound)
        const options = { host: outside! }
        assert.strictEqual(statusOf(yield* get(port, "/certificate.sha256", options)), 200)
        assert.strictEqual(statusOf(yield* get(port, "/", options)), 403)
        const headers = { Host: "localhost" }
        assert.strictEqual(yield* upgradeStatus(`ws://${outside}:${port}`, [peers.subprotocol], headers), 403)
        assert.strictEqual(statusOf(yield* get(port, "/")), 404)
      }),
    outer
  )
})

describe("upgrading", () => {
  it.live("takes only a subprotocol with flow control", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      yield* Effect.forkScoped(Stream.runForEach(bound.requests, (request) => Effect.exit(request.accept)))
      const url = `wss://127.0.0.1:${peers.portOf(bound)}`
      for (const offered of [[], ["qmux-00.moqf-02"], ["qmux-02"], ["webtransport"], ["moqf-02"], ["qmux-02.other"]]) {
        assert.strictEqual(yield* upgradeStatus(url, offered), 400, offered.join())
      }
      for (const offered of [["qmux-01.moqf-02"], ["qmux-00.moqf-02", "qmux-02.moqf-02"]]) {
        assert.strictEqual(yield* upgradeStatus(url, offered), 101, offered.join())
      }
    }), outer)

  it.live("takes no page from elsewhere without TLS", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      yield* Effect.forkScoped(Stream.runForEach(bound.requests, (request) => Effect.exit(request.accept)))
      const port = peers.portOf(bound)
      const url = `ws://127.0.0.1:${port}`
      const cases: ReadonlyArray<readonly [Record<string, string>, number]> = [
        [{}, 101],
        [{ Origin: "http://localhost:5173" }, 101],
        [{ Origin: "http://127.0.0.1" }, 101],
        [{ Host: `localhost:${port}` }, 101],
        [{ Origin: "https://evil.example" }, 403],
        [{ Origin: "http://localhost.evil.example" }, 403],
        [{ Origin: "null" }, 403],
        [{ Host: `evil.example:${port}` }, 403],
        [{ Host: "localhost@evil.example" }, 403]
      ]
      for (const [headers, status] of cases) {
        const seen = yield* upgradeStatus(url, [peers.subprotocol], headers)
        assert.strictEqual(seen, status, JSON.stringify(headers))
      }
    }), outer)

  it.live("takes pages only from allowed origins, and programs, over TLS", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ allowOrigin: ["https://app.example"] })
      yield* Effect.forkScoped(Stream.runForEach(bound.requests, (request) => Effect.exit(request.accept)))
      const url = `wss://127.0.0.1:${peers.portOf(bound)}`
      const status = (headers: Record<string, string>) => upgradeStatus(url, [peers.subprotocol], headers)
      assert.strictEqual(yield* status({}), 101)
      assert.strictEqual(yield* status({ Origin: "https://app.example" }), 101)
      assert.strictEqual(yield* status({ Origin: "https://evil.example" }), 403)
      assert.strictEqual(yield* status({ Origin: "http://localhost" }), 403)
    }), outer)

  it.live("tells what the client asked for", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      const port = peers.portOf(bound)
      const protocols = [peers.subprotocol]
      yield* peers.webSocket(`wss://localhost:${port}/a%20b/c?token=1`, protocols, { headers: { "X-Thing": "yes" } })
      const request = yield* peers.nextRequest(bound)
      assert.strictEqual(request.url.href, `https://localhost:${port}/a%20b/c?token=1`)
      assert.strictEqual(request.headers?.get("x-thing"), "yes")
      assert.match(request.peer ?? "", /^(127\.0\.0\.1|\[::1\]):\d+$/)
      assert.strictEqual(request.transport, "websocket")
      yield* request.refuse(403)
    }), outer)

  it.live("answers once: with a refusal, or with 503 when nobody does", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ takeTimeout: "100 millis", waiting: 1 })
      const url = `wss://127.0.0.1:${peers.portOf(bound)}`
      const asking = yield* Effect.forkScoped(upgradeStatus(url, [peers.subprotocol]))
      const request = yield* peers.nextRequest(bound)
      yield* request.refuse(401)
      assert.strictEqual(yield* Fiber.join(asking), 401)
      assert.include((yield* Effect.flip(Effect.scoped(request.accept))).message, "has had its answer")
      // taken, and then forgotten
      const forgotten = yield* Effect.forkScoped(upgradeStatus(url, [peers.subprotocol]))
      yield* peers.nextRequest(bound)
      assert.strictEqual(yield* Fiber.join(forgotten), 503)
      // never taken, and one too many
      const statuses = yield* Effect.all([0, 1].map(() => upgradeStatus(url, [peers.subprotocol])), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(statuses, [503, 503])
    }), outer)
})

describe("limits", () => {
  it.live(
    "a crowd that opens connections and says nothing loses its oldest, and keeps nobody out",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const server = yield* peers.server({ limits: { handshakeTimeout: "1 minute" } })
        const port = peers.portOf(server)
        const silent: Array<Net.Socket> = []
        yield* Effect.addFinalizer(() => Effect.sync(() => silent.forEach((socket) => socket.destroy())))
        const open = Effect.callback<void>((resume) => {
          const socket = Net.connect({ host: "127.0.0.1", port }, () => resume(Effect.void))
          socket.on("error", () => {})
          silent.push(socket)
        })
        for (let i = 0; i < 512; i++) yield* open
        const [first, second] = silent
        const gone = Effect.callback<void>((resume) => {
          first!.on("close", () => resume(Effect.void))
          first!.resume()
        })
        const waiting = yield* Effect.forkScoped(gone, { startImmediately: true })
        const { status } = yield* peers.webSocket(server.urls[0]!, ["nothing"])
        assert.strictEqual(yield* status, 400)
        yield* Fiber.join(waiting)
        assert.isFalse(second!.destroyed)
      })),
    outer
  )

  it.live("may be longer than a timer of Node can wait", () =>
    Effect.gen(function*() {
      const limits: NodeTransport.Limits = {
        idleTimeout: Duration.infinity,
        writeTimeout: Duration.infinity,
        handshakeTimeout: "30 days"
      }
      const bound = yield* peers.server({ takeTimeout: Duration.infinity, limits: limits })
      const accepting = yield* peers.acceptNext(bound)
      const client = yield* peers.connect(bound, "https", limits)
      yield* peers.works(client, yield* Fiber.join(accepting))
    }), outer)
})

const hello = Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc)

describe("peers that misbehave lose their connection, and no other", () => {
  const printed: Array<unknown> = []
  const { error, warn } = console
  beforeAll(() => {
    console.error = console.warn = (...args) => void printed.push(args)
  })
  afterAll(() => {
    Object.assign(console, { error, warn })
    assert.deepStrictEqual(printed, [], "something was printed")
  })

  const limits = {
    handshakeTimeout: "300 millis",
    writeTimeout: "300 millis",
    maxBacklog: 256 * 1024,
    idleTimeout: "1 hour"
  } as const
  const ready = Effect.gen(function*() {
    const bound = yield* peers.server({ limits })
    const good = yield* peers.pair(bound)
    yield* Effect.forkScoped(
      Stream.runForEach(
        bound.requests,
        (request) => Effect.forkScoped(Effect.exit(Effect.flatMap(request.accept, (connection) => connection.closed)))
      )
    )
    return { port: peers.portOf(bound), works: peers.works(good.client, good.server) }
  })

  it.live.each<readonly [string, string | Uint8Array]>([
    ["nothing", ""],
    ["noise", Uint8Array.of(0, 1, 2, 3, 255)],
    ["half a ClientHello", hello],
    ["a ClientHello of noise", Uint8Array.of(...hello, ...Array.from({ length: 600 }, (_, i) => i & 255))],
    ["half a request", "GET / HTTP/1.1\r\nHost: localh"],
    ["a request without its end", "GET / HTTP/1.1\r\nHost: localhost\r\nX: "],
    [
      "an upgrade without a key",
      "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    ],
    ["an upgrade to something else", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"]
  ])("sending %s", ([, bytes]) =>
    Effect.gen(function*() {
      const { port, works } = yield* ready
      const { ended } = yield* peers.raw(port, bytes)
      yield* ended
      yield* works
    }), outer)

  const records: ReadonlyArray<readonly [string, ReadonlyArray<Uint8Array | string>]> = [
    ["nothing", []],
    ["no transport parameters", [Uint8Array.of(0)]],
    ["a frame before them", [Uint8Array.of(0x05, 0x00, 0x00)]],
    ["them twice", [peers.parameters, peers.parameters]],
    ["noise", [peers.parameters, Uint8Array.of(0x3f, 0x3f, 0x3f)]],
    ["half a frame", [peers.parameters, Uint8Array.of(0x0a, 0x02, 0x40)]],
    ["a stream of ours", [peers.parameters, Uint8Array.of(0x0a, 0x03, 0x01, 0x01)]],
    ["a stream beyond the limit", [peers.parameters, Uint8Array.of(0x0a, 0x7f, 0xff, 0x01, 0x01)]],
    ["a datagram", [peers.parameters, Uint8Array.of(0x31, 0x01, 0x01)]],
    ["text", [peers.parameters, "hello"]],
    ["a record of 20,000 bytes", [peers.parameters, new Uint8Array(20_000)]],
    ["a message of 1 MiB", [peers.parameters, new Uint8Array(1024 * 1024)]]
  ]
  it.live.each(records)("opening a WebSocket and sending %s", ([, messages]) =>
    Effect.gen(function*() {
      const { port, works } = yield* ready
      const peer = yield* peers.webSocket(`wss://127.0.0.1:${port}`, [peers.subprotocol])
      yield* peer.opened
      for (const message of messages) peer.socket.send(message)
      yield* peer.closed
      yield* works
    }), outer)

  it.live("which is told in the log, at debug level", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${String(message)}`))
    return Effect.gen(function*() {
      const bound = yield* peers.server({ limits })
      const accepting = yield* peers.acceptNext(bound)
      const peer = yield* peers.webSocket(`wss://127.0.0.1:${peers.portOf(bound)}`, [peers.subprotocol])
      yield* peer.opened
      peer.socket.send(peers.parameters)
      const connection = yield* Fiber.join(accepting)
      peer.socket.send(Uint8Array.of(0x3f))
      const closed = yield* connection.closed
      assert.include(closed.reason, "Invalid QMux frame type: 0x3f")
      assert.deepStrictEqual(lines, ["Debug qmux: Protocol violation: Invalid QMux frame type: 0x3f"])
    }).pipe(
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  }, outer)

  it.live("flooding without reading", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ limits: { ...limits, writeTimeout: "1 hour" } })
      const good = yield* peers.pair(bound)
      const accepting = yield* peers.acceptNext(bound)
      const peer = yield* peers.webSocket(`wss://127.0.0.1:${peers.portOf(bound)}`, [peers.subprotocol])
      yield* peer.opened
      peer.socket.send(peers.parameters)
      const connection = yield* Fiber.join(accepting)
      peer.socket.pause()
      // 1,000 pings in each record, whose answers nobody takes
      let sequence = 0
      const flood = () => {
        const record = new Uint8Array(12_000)
        const view = new DataView(record.buffer)
        for (let at = 0; at < record.length; at += 12) {
          record.set([0xf4, 0x8c, 0x67, 0x52, 0x9e, 0xf8, 0xc7, 0xbd], at)
          view.setUint32(at + 8, 0x80000000 + sequence++)
        }
        if (peer.socket.readyState === peer.socket.OPEN) peer.socket.send(record, () => setImmediate(flood))
      }
      flood()
      const closed = yield* connection.closed
      assert.strictEqual(closed.by, "transport")
      assert.match(closed.reason, /took nothing of ours|floods and does not read/)
      yield* peers.works(good.client, good.server)
    }), outer)

  it.live("opening streams and leaving us our halves", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ limits: { maxStreamsBidi: 3 } })
      const { client, server } = yield* peers.pair(bound)
      const open = Effect.gen(function*() {
        const near = yield* client.openBi
        yield* near.send.write([Uint8Array.of(1)])
        yield* near.send.finish
        return near
      })
      const accept = Effect.tap(server.acceptBi, (far) => far.receive.pull)
      const held = yield* Effect.forEach([0, 1, 2], () => Effect.andThen(open, accept))
      // the peer's own halves are over, but ours keep their places
      const fourth = yield* Effect.forkChild(open, { startImmediately: true })
      for (let i = 0; i < 20; i++) yield* client.ping
      assert.isUndefined(fourth.pollUnsafe())
      yield* held[1]!.send.finish
      const near = yield* Fiber.join(fourth)
      const far = yield* accept
      yield* far.send.write([Uint8Array.of(2)])
      assert.deepStrictEqual(yield* near.receive.pull, [new Uint8Array([2])])
    }), outer)

  it.live("taking nothing of what it asked for", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ limits })
      const good = yield* peers.pair(bound)
      const accepting = yield* peers.acceptNext(bound)
      const peer = yield* peers.webSocket(`wss://127.0.0.1:${peers.portOf(bound)}`, [peers.subprotocol])
      yield* peer.opened
      // a window of 1 GiB, so that only the socket holds the writer back
      const large = Uint8Array.from(peers.parameters)
      for (const at of [11, 15, 19, 23]) large.set([0x7f, 0xff], at)
      peer.socket.send(large)
      const connection = yield* Fiber.join(accepting)
      // MAX_DATA and, once the stream is there, MAX_STREAM_DATA of 2^30 - 1
      peer.socket.send(Uint8Array.of(0x10, 0xbf, 0xff, 0xff, 0xff))
      const stream = yield* connection.openUni()
      yield* stream.write([new Uint8Array(1)])
      peer.socket.send(Uint8Array.of(0x11, 0x03, 0xbf, 0xff, 0xff, 0xff))
      yield* connection.ping
      peer.socket.pause()
      const writing = yield* Effect.forkChild(Effect.exit(stream.write([new Uint8Array(64 * 1024 * 1024)])))
      const closed = yield* connection.closed
      assert.strictEqual(closed.by, "transport")
      assert.include(closed.reason, "the peer took nothing for 300 ms")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(writing)))
      yield* peers.works(good.client, good.server)
    }), outer)

  it.live("being killed", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      const good = yield* peers.pair(bound)
      const accepting = yield* peers.acceptNext(bound)
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, [
            fileURLToPath(new URL("../node/fixtures/peer.mjs", import.meta.url)),
            `wss://127.0.0.1:${peers.portOf(bound)}`,
            peers.subprotocol,
            Buffer.from(peers.parameters).toString("hex")
          ], { stdio: "inherit" })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const connection = yield* Fiber.join(accepting)
      yield* connection.ping
      child.kill("SIGKILL")
      assert.strictEqual((yield* connection.closed).by, "transport")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(connection.ping)))
      yield* peers.works(good.client, good.server)
    }), outer)
})
