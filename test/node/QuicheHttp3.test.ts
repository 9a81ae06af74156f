import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scope, Stream } from "effect"
import { vi } from "vitest"
import * as Certificate from "../../src/node/Certificate.ts"
import * as KeyRing from "../../src/node/KeyRing.ts"
import * as Lobby from "../../src/node/Lobby.ts"
import type * as QuicheHttp3 from "../../src/node/QuicheHttp3.ts"
import { makeObjectPair, type ObjectEnd } from "../transport/objectPair.ts"

const addOn = "@fails-components/webtransport-transport-http3-quiche"

/** Stands at the border for the package: what is asked of it is written down, and its sessions are objects of our own. */
class FakePackage {
  readonly clients: Array<{ readonly url: string; readonly options: Record<string, unknown> }> = []
  readonly servers: Array<FakeServer> = []
  readonly sessions: Array<ObjectEnd> = []
  startup: Promise<unknown> = Promise.resolve()
  readonly module = {
    quicheLoaded: Promise.resolve(),
    WebTransport: connecting(this),
    Http3Server: serving(this)
  }
}

const connecting = (fake: FakePackage) =>
  function(url: string, options: Record<string, unknown>) {
    fake.clients.push({ url, options })
    const { client, server } = makeObjectPair()
    fake.sessions.push(server)
    return client
  }

interface FakeServer {
  readonly options: Record<string, unknown>
  readonly calls: Array<string>
  onRequest: (request: { readonly header: object }) => Promise<{ status: number; path: string; userData: object }>
  sessions: ReadableStreamDefaultController<object>
}

const serving = (fake: FakePackage) =>
  function(options: Record<string, unknown>) {
    const calls: Array<string> = []
    let sessions!: ReadableStreamDefaultController<object>
    const stream = new ReadableStream<object>({
      start: (controller) => {
        sessions = controller
      }
    })
    const server = {
      options,
      calls,
      sessions,
      onRequest: () => Promise.reject(new Error("nobody answers")),
      ready: fake.startup,
      startServer: () => void calls.push("start"),
      stopServer: () => void calls.push("stop"),
      updateCert: (cert: string) => void calls.push(`certificate ${cert.slice(0, 27)}`),
      setRequestCallback: (callback: FakeServer["onRequest"]) => {
        server.onRequest = callback
      },
      sessionStream: (path: string) => {
        calls.push(`sessions of ${path}`)
        return stream
      }
    } as FakeServer
    fake.servers.push(server)
    return server
  }

const withPackage = <A, E, R>(
  addOnModule: (() => object) | undefined,
  use: (quiche: typeof QuicheHttp3, fake: FakePackage) => Effect.Effect<A, E, R>
) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const fake = new FakePackage()
      vi.resetModules()
      vi.doMock("@fails-components/webtransport", () => fake.module)
      if (addOnModule !== undefined) vi.doMock(addOn, addOnModule)
      return { fake, quiche: await import("../../src/node/QuicheHttp3.ts") }
    }),
    ({ fake, quiche }) => use(quiche, fake),
    () =>
      Effect.sync(() => {
        vi.doUnmock("@fails-components/webtransport")
        vi.doUnmock(addOn)
        vi.resetModules()
      })
  )

const installed = () => ({ default: {} })

describe("HTTP/3 by quiche", () => {
  it.live("is available with its add-on, and says in one line why not without", () =>
    Effect.gen(function*() {
      const detail = (addOnModule: (() => object) | undefined) =>
        withPackage(addOnModule, ({ available }) =>
          Effect.map(Effect.result(available), (result) =>
            result._tag === "Success" ? undefined : result.failure.detail))
      assert.strictEqual(yield* detail(installed), undefined)
      assert.strictEqual(yield* detail(undefined), `${addOn} is not installed`)
      const broken = yield* detail(() => {
        throw new Error("its binary is for another system")
      })
      assert.match(broken ?? "", new RegExp(`^${addOn} cannot be loaded: `))
    }))

  it.live("trusts fingerprints and the system, and refuses what it cannot do", () =>
    withPackage(installed, ({ connect }, fake) =>
      Effect.gen(function*() {
        const url = new URL("https://relay.example:4443/room?token=x")
        const { cert, fingerprint } = yield* Certificate.generate({ hosts: ["relay.example"] })
        const refusal = (options: Parameters<typeof connect>[1], to = url) =>
          Effect.map(Effect.flip(Effect.scoped(connect(to, options))), (error) => String(error.detail))
        assert.include(yield* refusal({ roots: [cert] }), "takes no authorities to trust")
        assert.include(yield* refusal({ insecure: true }), "always checks certificates")
        assert.include(yield* refusal({}, new URL("wss://relay.example")), "takes https: URLs")
        assert.lengthOf(fake.clients, 0)
        yield* connect(url, {})
        const connection = yield* connect(url, { fingerprints: [fingerprint] })
        assert.deepStrictEqual(connection.info, { transport: "h3", peer: "relay.example:4443" })
        const [trusting, pinning] = fake.clients
        assert.strictEqual(trusting?.url, url.href)
        assert.isUndefined(trusting?.options.serverCertificateHashes)
        assert.isTrue(pinning?.options.requireUnreliable)
        assert.deepStrictEqual(pinning?.options.serverCertificateHashes, [
          { algorithm: "sha-256", value: Buffer.from(fingerprint, "hex") }
        ])
      })))

  it.live("reads codes from the text of errors, and sends them as the package wants them", () =>
    withPackage(installed, ({ connect }, fake) =>
      Effect.gen(function*() {
        const connection = yield* connect(new URL("https://localhost"), {})
        const reader = fake.sessions[0]!.incomingUnidirectionalStreams.getReader()
        const sent = yield* connection.openUni()
        const aborted = yield* Effect.promise(() => reader.read())
        const failing = Effect.promise(() => aborted.value!.getReader().read().catch((error: unknown) => error))
        const ending = yield* Effect.forkChild(failing, { startImmediately: true })
        yield* sent.reset(31)
        assert.deepStrictEqual(yield* Fiber.join(ending), { code: 31 })
        const writable = yield* Effect.promise(() => fake.sessions[0]!.createUnidirectionalStream())
        const receive = yield* connection.acceptUni
        const pulling = yield* Effect.forkChild(Effect.flip(receive.pull), { startImmediately: true })
        yield* Effect.promise(() => writable.abort(new Error("Resetstream with code:13")))
        assert.deepInclude(yield* Fiber.join(pulling), { _tag: "MoqStreamReset", code: 13 })
      })))

  const lobby = Effect.gen(function*() {
    const sessions = yield* Effect.scope
    const lobby = yield* Lobby.make({ waiting: 4, takeTimeout: 5_000, sessions })
    const ring = yield* KeyRing.make({ generate: ["localhost"] })
    return { lobby, ring, addresses: [{ host: "127.0.0.1", port: 4443 }], limits: { handshakeTimeout: 300 } }
  })

  it.live("lets clients wait in the lobby, and gives them their answer", () =>
    withPackage(installed, ({ make }, fake) =>
      Effect.gen(function*() {
        const options = yield* lobby
        const scope = yield* Scope.make()
        yield* Scope.provide(make(options), scope)
        const server = fake.servers[0]!
        assert.deepStrictEqual(server.calls, ["sessions of /", "start"])
        assert.strictEqual(server.options.port, 4443)
        const next = Stream.runHead(options.lobby.requests).pipe(Effect.flatMap(Effect.fromOption))
        const asking = (path: string) =>
          server.onRequest({ header: { ":path": path, ":authority": "localhost:4443", Origin: "https://page" } })

        const refused = asking("/no")
        yield* Effect.flatMap(next, (request) => request.refuse(403))
        assert.strictEqual((yield* Effect.promise(() => refused)).status, 403)
        assert.strictEqual((yield* Effect.promise(() => asking("no path"))).status, 400)

        const welcome = asking("/room?token=x")
        const request = yield* next
        assert.strictEqual(request.url.href, "https://localhost:4443/room?token=x")
        assert.strictEqual(request.headers?.get("origin"), "https://page")
        const accepting = yield* Effect.forkChild(request.accept, { startImmediately: true })
        const { status, userData } = yield* Effect.promise(() => welcome)
        assert.strictEqual(status, 200)
        const { client, server: session } = makeObjectPair()
        server.sessions.enqueue(Object.assign(session, { userData }))
        const connection = yield* Fiber.join(accepting)
        client.close({ closeCode: 7, reason: "bye" })
        assert.strictEqual((yield* connection.closed).code, 7)

        const lost = asking("/lost")
        const outcome = yield* Effect.flatMap(next, (request) => Effect.flip(request.accept))
        assert.strictEqual((yield* Effect.promise(() => lost)).status, 200)
        assert.deepInclude(outcome, { _tag: "MoqTransportError", detail: "the client left" })

        yield* Scope.close(scope, yield* Effect.exit(Effect.void))
        assert.strictEqual(server.calls.at(-1), "stop")
      })))

  it.live("fails when the port cannot be bound, or the package does not say", () =>
    withPackage(installed, ({ make }, fake) =>
      Effect.gen(function*() {
        const options = yield* lobby
        fake.startup = Promise.reject(new Error("in use"))
        fake.startup.catch(() => {})
        const refused = yield* Effect.flip(Effect.scoped(make(options)))
        assert.include(refused.detail ?? "", "UDP port 4443 of 127.0.0.1 cannot be bound: Error: in use")
        fake.startup = new Promise(() => {})
        const silent = yield* Effect.flip(Effect.scoped(make(options)))
        assert.include(silent.detail ?? "", "could not be bound in time")
      })))
})
