import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Queue, Stream } from "effect"
import { StreamReset } from "../../src/core/MoqError.ts"
import * as Certificate from "../../src/node/Certificate.ts"
import * as Http3Client from "../../src/node/Http3Client.ts"
import type { KeyRing } from "../../src/node/KeyRing.ts"
import type { ConnectOptions, TransportServer } from "../../src/transport/Transport.ts"
import * as peers from "./peers.ts"

const outer = 60_000

const detailOf = (url: string, options?: ConnectOptions) =>
  Effect.flip(Http3Client.connect(new URL(url), options)).pipe(
    Effect.map((error) => {
      const detail = error.detail ?? ""
      assert.notInclude(detail, "\n")
      return `${error._tag}: ${detail}`
    }),
    Effect.scoped
  )

const megabytes = (n: number) => [new Uint8Array(n * 1024 * 1024)] as const

/** How many bytes come until the end of a stream, and what that is. */
const readAll = Effect.fnUntraced(
  function*(receive: { readonly pull: Effect.Effect<ReadonlyArray<Uint8Array>, unknown> }) {
    let bytes = 0
    const exit = yield* Effect.exit(Effect.forever(Effect.map(receive.pull, (chunks) => {
      for (const chunk of chunks) bytes += chunk.length
    })))
    return { bytes, end: Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined }
  }
)

describe("connecting over native HTTP/3", () => {
  it.live("says in words what is wrong", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      const url = bound.urls[0]!
      const name = `127.0.0.1:${bound.port}`
      assert.strictEqual(
        yield* detailOf("ws://127.0.0.1:1/"),
        "MoqTransportError: HTTP/3 is for https: URLs; use https://127.0.0.1:1"
      )
      assert.strictEqual(
        yield* detailOf(url, { roots: [(yield* Certificate.generate({ hosts: ["localhost"] })).cert] }),
        "MoqTransportError: native HTTP/3 trusts the system's authorities alone; pin a fingerprint, or use another " +
          "transport"
      )
      assert.strictEqual(
        yield* detailOf(url, { fingerprints: ["abc"] }),
        "MoqTransportError: \"abc\" is not a SHA-256 fingerprint (64 hex digits)"
      )
      assert.strictEqual(
        yield* detailOf("https://nowhere.invalid/"),
        "MoqTransportError: the host nowhere.invalid is unknown"
      )
      assert.strictEqual(
        yield* detailOf(url, { fingerprints: ["0".repeat(64)] }),
        `MoqTransportError: ${name} has another certificate than the pinned one`
      )
      assert.strictEqual(
        yield* detailOf(url),
        `MoqTransportError: the certificate of ${name} is not trusted (UnknownIssuer); pin the fingerprint of a ` +
          "self-signed one"
      )
      const refusing = yield* Effect.forkChild(
        Effect.flatMap(peers.nextRequest(bound), (request) => request.refuse(403))
      )
      assert.strictEqual(
        yield* detailOf(url, { insecure: true }),
        `MoqTransportError: ${name} refused the connection`
      )
      yield* Fiber.join(refusing)
    }), outer)

  it.live(
    "accepts any of the pinned certificates in any spelling, and any certificate when told so",
    () =>
      Effect.gen(function*() {
        const bound = yield* peers.server()
        const fingerprint = bound.fingerprint!.toUpperCase().replaceAll(/(..)(?=.)/g, "$1:")
        for (const options of [{ fingerprints: ["0".repeat(64), fingerprint] }, { insecure: true }]) {
          const accepting = yield* Effect.forkChild(
            Effect.flatMap(peers.nextRequest(bound), (request) => request.accept)
          )
          const client = yield* peers.connect(bound, bound.port, { fingerprints: [], ...options })
          yield* peers.works(client, yield* Fiber.join(accepting))
        }
      }),
    outer
  )

  it.live("gives up after its time where nobody listens, and where nobody answers", () =>
    Effect.gen(function*() {
      const silent = yield* peers.socket()
      for (const port of [yield* peers.freePort, peers.portOf(silent)]) {
        assert.strictEqual(
          yield* detailOf(`https://127.0.0.1:${port}/`, { insecure: true, timeout: "150 millis" }),
          `MoqTimeout: connecting to 127.0.0.1:${port} took over 150ms`
        )
      }
    }), outer)

  it.live("closes a session that comes after its time, though the scope around goes on", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      const requesting = yield* Effect.forkChild(peers.nextRequest(bound))
      const error = yield* Effect.flip(peers.connect(bound, bound.port, { timeout: "300 millis" }))
      assert.strictEqual(error._tag, "MoqTimeout")
      const connection = yield* Effect.flatMap(Fiber.join(requesting), (request) => request.accept)
      assert.strictEqual((yield* connection.closed).by, "remote")
    }), outer)

  it.live("leaves no session behind when accepting is interrupted", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      for (let turns = 0; turns < 5; turns++) {
        const connecting = yield* Effect.forkChild(peers.connect(bound))
        const request = yield* peers.nextRequest(bound)
        const accepting = yield* Effect.forkChild(request.accept, { startImmediately: true })
        for (let i = 0; i < turns; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(accepting)
        // it may have been quicker
        const accepted = yield* Fiber.await(accepting)
        if (Exit.isSuccess(accepted)) yield* accepted.value.close(0, "")
        const connected = yield* Effect.exit(Fiber.join(connecting))
        if (Exit.isSuccess(connected)) assert.strictEqual((yield* connected.value.closed).by, "remote")
      }
    }), outer)
})

describe("a connection of native HTTP/3", () => {
  it.live("carries any code of 32 bits", () =>
    Effect.gen(function*() {
      const { client, server } = yield* peers.pair(yield* peers.server())
      for (const code of [256, 2 ** 31, 2 ** 32 - 1]) {
        const reset = yield* client.openUni()
        yield* reset.write([Uint8Array.of(1)])
        const receive = yield* server.acceptUni
        yield* reset.reset(code)
        assert.deepStrictEqual((yield* readAll(receive)).end, new StreamReset({ code }))
        const stopped = yield* client.openUni()
        yield* stopped.write([Uint8Array.of(1)])
        yield* Effect.flatMap(server.acceptUni, (receive) => receive.stop(code))
        const refused = yield* Effect.flip(Effect.forever(stopped.write([Uint8Array.of(1)])))
        assert.deepStrictEqual(refused, new StreamReset({ code }))
        assert.strictEqual(yield* stopped.stopped, code)
      }
      yield* client.close(2 ** 32 - 1, "all bits")
      const { by, code, reason } = yield* server.closed
      assert.deepStrictEqual([by, code, reason], ["remote", 2 ** 32 - 1, "all bits"])
    }), outer)

  it.live("resets behind the write under way, which is small, and drops what waits", () =>
    Effect.gen(function*() {
      const { client, server } = yield* peers.pair(yield* peers.server())
      const send = yield* client.openUni()
      const writing = yield* Effect.forkChild(Effect.flip(send.write(megabytes(16))), { startImmediately: true })
      const receive = yield* server.acceptUni
      for (let i = 0; i < 50; i++) yield* peers.works(client, server)
      assert.isUndefined(writing.pollUnsafe())
      yield* send.reset(31)
      assert.deepStrictEqual(yield* Fiber.join(writing), new StreamReset({ code: 31 }))
      const { bytes, end } = yield* readAll(receive)
      assert.deepStrictEqual(end, new StreamReset({ code: 31 }))
      assert.isBelow(bytes, 4 * 1024 * 1024)
    }), outer)

  it.live(
    "takes other ranks for a stream whose write is blocked, and its reset thereafter",
    () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers.pair(yield* peers.server())
        const send = yield* client.openUni({ priority: 5 })
        yield* Effect.forkChild(Effect.ignore(send.write(megabytes(16))), { startImmediately: true })
        const receive = yield* server.acceptUni
        for (let rank = -500; rank < 500; rank++) yield* send.setPriority(rank)
        yield* send.reset(1)
        yield* send.setPriority(7)
        assert.deepStrictEqual((yield* readAll(receive)).end, new StreamReset({ code: 1 }))
        yield* peers.works(client, server)
      }),
    outer
  )

  it.live("gives back the place of a stream that the peer has stopped", () =>
    Effect.gen(function*() {
      const { client, server } = yield* peers.pair(yield* peers.server())
      for (let i = 0; i < 250; i++) {
        // in a scope that stays open: only ending it here gives the place back
        const send = yield* client.openUni()
        yield* send.write([Uint8Array.of(1)])
        yield* Effect.flatMap(server.acceptUni, (receive) => receive.stop(2))
        yield* Effect.flip(Effect.forever(send.write([Uint8Array.of(1)])))
      }
    }), outer)

  it.live("keeps a stream that nobody but its scope refers to", () =>
    Effect.gen(function*() {
      const { client, server } = yield* peers.pair(yield* peers.server())
      const open = Effect.flatMap(client.openUni(), (send) => send.write([Uint8Array.of(1)]))
      yield* open
      const receive = yield* server.acceptUni
      yield* receive.pull
      const pulling = yield* Effect.forkChild(Effect.exit(receive.pull), { startImmediately: true })
      for (let i = 0; i < 5; i++) {
        yield* peers.collectGarbage
        yield* peers.works(client, server)
      }
      assert.isUndefined(pulling.pollUnsafe())
    }), outer)

  it.live("is one of 200 with one server", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server()
      const accepted = yield* Effect.forkChild(
        Stream.runCollect(Stream.take(Stream.mapEffect(bound.requests, (request) => request.accept), 200))
      )
      const clients = yield* Effect.replicateEffect(peers.connect(bound, bound.port, { timeout: "30 seconds" }), 200, {
        concurrency: 50
      })
      const servers = yield* Fiber.join(accepted)
      // each says its number, and hears it again
      yield* Effect.all([
        Effect.forEach(servers, (server) =>
          Effect.gen(function*() {
            const { receive, send } = yield* server.acceptBi
            yield* send.write(yield* receive.pull)
            yield* send.finish
          }), { concurrency: "unbounded" }),
        Effect.forEach(clients, (client, i) =>
          Effect.gen(function*() {
            const { receive, send } = yield* client.openBi
            yield* send.write([Uint8Array.of(i)])
            assert.deepStrictEqual([...(yield* receive.pull)[0]], [i])
          }), { concurrency: "unbounded" })
      ], { concurrency: "unbounded" })
    }), outer)
})

/** A ring whose certificate a test changes. */
const changing = Effect.gen(function*() {
  const changes = yield* Queue.unbounded<Certificate.Certificate>()
  let current = yield* Certificate.generate({ hosts: ["127.0.0.1"] })
  const ring: KeyRing = { generated: true, currentUnsafe: () => current, changes: Stream.fromQueue(changes) }
  const change = Effect.gen(function*() {
    current = yield* Certificate.generate({ hosts: ["127.0.0.1"] })
    yield* Queue.offer(changes, current)
    return current
  })
  return { ring, change }
})

/** Accepts whoever comes from now on; each gets back the first byte of a stream. */
const answering = (bound: TransportServer) =>
  Effect.forkScoped(Stream.runForEach(bound.requests, (request) =>
    Effect.forkScoped(Effect.gen(function*() {
      const connection = yield* request.accept
      const { receive, send } = yield* connection.acceptBi
      yield* send.write(yield* receive.pull)
      yield* send.finish
    }))))

/** Connects again and again until it works. */
const eventually = (bound: TransportServer & { readonly port: number }) =>
  Effect.gen(function*() {
    const client = yield* peers.connect(bound, bound.port, { timeout: "300 millis" })
    const { receive, send } = yield* client.openBi
    yield* send.write([Uint8Array.of(42)])
    assert.deepStrictEqual([...(yield* receive.pull)[0]], [42])
    return client
  }).pipe(Effect.retry({ times: 100 }))

describe("a server of native HTTP/3", () => {
  it.live("says in words why a port cannot be bound", () =>
    Effect.gen(function*() {
      const socket = yield* peers.socket()
      const port = peers.portOf(socket)
      const reasonOf = (options: peers.Options) =>
        Effect.scoped(peers.server(options)).pipe(
          Effect.catchDefect((error) => Effect.succeed(String(error)))
        )
      assert.include(yield* reasonOf({ port }), `UDP 127.0.0.1:${port} is in use`)
      assert.include(yield* reasonOf({ hosts: ["192.0.2.1"] }), "192.0.2.1 is not an address of this machine")
      const one = yield* Certificate.generate({ hosts: ["localhost"] })
      const two = yield* Certificate.generate({ hosts: ["localhost"] })
      const ring = { generated: true, currentUnsafe: () => ({ ...one, key: two.key }), changes: Stream.never }
      assert.include(yield* reasonOf({ ring }), "certificate and key cannot be used: ")
    }), outer)

  it.live("serves every address that it is given", () =>
    Effect.gen(function*() {
      const bound = yield* peers.server({ hosts: ["127.0.0.1", "::1"] })
      for (const host of ["127.0.0.1", "[::1]"]) {
        const accepting = yield* Effect.forkChild(
          Effect.flatMap(peers.nextRequest(bound), (request) => request.accept)
        )
        const client = yield* Http3Client.connect(new URL(`https://${host}:${bound.port}`), {
          fingerprints: [bound.fingerprint!]
        })
        yield* peers.works(client, yield* Fiber.join(accepting))
      }
    }), outer)

  it.live(
    "closes while it waits for clients, and another has its port, whoever still holds what is over",
    () =>
      Effect.gen(function*() {
        const port = yield* peers.freePort
        const kept: Array<unknown> = []
        for (let i = 0; i < 3; i++) {
          const serving = yield* peers.inScope(peers.server({ port }))
          const pair = yield* peers.pair(serving.value)
          const { receive, send } = yield* pair.server.openBi
          yield* send.write([Uint8Array.of(1)])
          kept.push(pair, send, receive, yield* pair.client.acceptBi)
          yield* serving.close
          assert.strictEqual((yield* pair.client.closed).by, "remote")
        }
        assert.strictEqual(kept.length, 12)
      }),
    outer
  )

  it.live("refuses who waits when it closes", () =>
    Effect.gen(function*() {
      const serving = yield* peers.inScope(peers.server())
      const connecting = yield* Effect.forkChild(Effect.flip(peers.connect(serving.value)))
      yield* peers.nextRequest(serving.value)
      yield* serving.close
      assert.strictEqual((yield* Fiber.join(connecting))._tag, "MoqTransportError")
    }), outer)

  it.live("renews its certificate at once when nobody is there", () =>
    Effect.gen(function*() {
      const { change, ring } = yield* changing
      const bound = yield* peers.server({ ring })
      yield* answering(bound)
      for (let i = 0; i < 2; i++) {
        const before = bound.fingerprint!
        yield* change
        assert.notStrictEqual(bound.fingerprint, before)
        yield* Effect.scoped(eventually(bound))
      }
    }), outer)

  it.live("lets sessions go on until they end, and then renews its certificate", () =>
    Effect.gen(function*() {
      const { change, ring } = yield* changing
      const bound = yield* peers.server({ ring })
      const before = bound.fingerprint!
      const old = yield* peers.pair(bound)
      yield* change
      // nobody is let in, with neither certificate
      for (const fingerprint of [before, bound.fingerprint!]) {
        const error = yield* Effect.flip(
          peers.connect(bound, bound.port, { fingerprints: [fingerprint], timeout: "300 millis" })
        )
        assert.include(["MoqTimeout", "MoqTransportError"], error._tag)
      }
      yield* peers.works(old.client, old.server)
      yield* old.client.close(3, "done")
      yield* answering(bound)
      yield* eventually(bound)
      const error = yield* Effect.flip(peers.connect(bound, bound.port, { fingerprints: [before] }))
      assert.include(error.detail ?? "", "another certificate than the pinned one")
    }), outer)

  it.live("closes sessions that outlive the grace of a renewal", () =>
    Effect.gen(function*() {
      const { change, ring } = yield* changing
      const bound = yield* peers.server({ ring, renewGrace: 500 })
      const old = yield* peers.pair(bound)
      yield* change
      const { by, code, reason } = yield* old.client.closed
      assert.deepStrictEqual([by, code, reason], ["remote", 0, "the server renews its certificate"])
      assert.strictEqual((yield* old.server.closed).by, "local")
      yield* answering(bound)
      yield* eventually(bound)
    }), outer)

  it.live("closes in the middle of a renewal", () =>
    Effect.gen(function*() {
      const { change, ring } = yield* changing
      const port = yield* peers.freePort
      const serving = yield* peers.inScope(peers.server({ ring, port }))
      const old = yield* peers.pair(serving.value)
      yield* change
      yield* peers.works(old.client, old.server)
      yield* serving.close
      assert.strictEqual((yield* old.client.closed).by, "remote")
      const another = yield* peers.pair(yield* peers.server({ ring, port }))
      yield* peers.works(another.client, another.server)
    }), outer)
})
