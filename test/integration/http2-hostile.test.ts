/** Peers of HTTP/2 that break rules: each loses its session, and everybody else goes on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Net from "node:net"
import { StreamReset } from "../../src/core/MoqError.ts"
import type * as NodeTransport from "../../src/node/NodeTransport.ts"
import { converse, drain, failureOf } from "../../src/testing/conformance/Rule.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import * as http2 from "../node/fixtures/http2.ts"
import * as peers from "../node/fixtures/peers.ts"

// of the client: bidirectional and unidirectional streams by their number
const bi = (n: number) => 4 * n + 1
const uni = (n: number) => 4 * n + 3

const bytes = (size: number) => new Uint8Array(size).fill(7)

/** A session by hand, and the server's end of it. */
const hostile = Effect.fnUntraced(function*(limits?: NodeTransport.Limits) {
  const bound = yield* http2.server(limits)
  const accepting = yield* peers.acceptNext(bound)
  const backwards = new Set<Net.Socket>()
  const port = yield* peers.tcpServer((near) => {
    const far = Net.connect(peers.portOf(bound), "127.0.0.1")
    far.on("error", () => {})
    near.on("data", (bytes) => far.write(bytes))
    near.on("close", () => far.destroy())
    far.pipe(near)
    backwards.add(far)
  })
  const raw = yield* http2.raw(port)
  const session = raw.open()
  const server = yield* Fiber.join(accepting)
  assert.strictEqual(yield* session.status, 200)
  /** It reads no more, and there is more for it than any buffers of the system hold. */
  const deaf = (server: Connection) =>
    Effect.andThen(
      Effect.sync(() => backwards.forEach((far) => far.unpipe().pause())),
      Effect.forEach(Array.from({ length: 60 }), () =>
        Effect.flatMap(server.openUni(), (send) =>
          Effect.forkScoped(Effect.ignore(send.write([bytes(256 * 1024)])))), { discard: true })
    )
  return { bound, deaf, raw, session, server }
})

const lives = (bound: Effect.Success<ReturnType<typeof http2.server>>) =>
  Effect.flatMap(http2.pair(bound), (pair) => converse(pair, 3))

const reasonOf = (connection: Connection) =>
  Effect.map(connection.closed, ({ by, code, reason }) => {
    assert.deepStrictEqual({ by, code }, { by: "transport", code: 4 })
    return reason
  })

describe("over HTTP/2, who breaks the rules loses the session", () => {
  const violations: ReadonlyArray<readonly [what: string, capsule: Uint8Array, reason: string]> = [
    [
      "sends on a stream of ours that was never opened",
      http2.capsule(http2.streamData, [4 * 9], bytes(1)),
      "it means a stream that was never opened"
    ],
    [
      "resets a stream of ours that was never opened",
      http2.capsule(http2.resetStream, [4 * 9 + 2, 1]),
      "it means a stream that was never opened"
    ],
    ["sends more than a stream may", http2.capsule(http2.streamData, [uni(0)], bytes(65_537)), "more than it may"],
    [
      "opens more streams than it may",
      http2.capsule(http2.streamData, [uni(64)], bytes(1)),
      "exceed stream count limit"
    ],
    ["announces a capsule of 2^61 bytes", http2.capsule(http2.streamData, [uni(0)], bytes(1), 2 ** 53), "too big"],
    ["sends a long capsule of no known type", http2.capsule(0x1234, [], bytes(5000), 100_000), "too long"]
  ]
  for (const [what, capsule, reason] of violations) {
    it.live(`who ${what}`, () =>
      Effect.gen(function*() {
        const { bound, server, session } = yield* hostile({ maxStreamData: 65_536, maxStreamsUni: 64 })
        yield* Effect.forkChild(Effect.exit(session.send(capsule)))
        assert.include(yield* reasonOf(server), reason)
        yield* session.ended
        yield* lives(bound)
      }), 30_000)
  }

  it.live("who sends garbage", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      for (let seed = 1; seed <= 20; seed++) {
        const accepting = yield* peers.acceptNext(bound)
        const session = (yield* http2.raw(peers.portOf(bound))).open()
        const server = yield* Fiber.join(accepting)
        const garbage = bytes(100_000)
        for (let i = 0, x = seed; i < garbage.length; i++) {
          x = (x * 1_103_515_245 + 12_345) & 0x7fff_ffff
          garbage[i] = x >> 16
        }
        yield* Effect.forkChild(Effect.exit(session.send(garbage)))
        session.stream.end()
        const { code } = yield* server.closed
        assert.isAtLeast(code, 0)
      }
      yield* lives(bound)
    }), 60_000)

  it.live("who asks for signs of life without end, and reads none", () =>
    Effect.gen(function*() {
      const { bound, deaf, raw, server } = yield* hostile({ maxBacklog: 256 * 1024 })
      yield* deaf(server)
      yield* Effect.forkChild(Effect.gen(function*() {
        while (!raw.session.destroyed) {
          for (let i = 0; i < 1000 && !raw.session.destroyed; i++) raw.session.ping(() => {})
          yield* Effect.sleep("1 millis")
        }
      }))
      assert.match(yield* reasonOf(server), /floods and does not read/)
      yield* lives(bound)
    }), 60_000)

  it.live("who sends, and takes nothing for the time that it has for that", () =>
    Effect.gen(function*() {
      const { deaf, server, session } = yield* hostile({ idleTimeout: "400 millis", writeTimeout: "400 millis" })
      yield* Effect.forkChild(Effect.forever(Effect.andThen(
        Effect.sleep("20 millis"),
        session.send(http2.capsule(0x1234, [], bytes(1)))
      )))
      yield* deaf(server)
      assert.include(yield* reasonOf(server), "it took nothing for 0.4 seconds")
    }), 30_000)
})

describe("over HTTP/2, what a peer can make us hold is bounded", () => {
  it.live("streams that end at once keep their places until they are accepted", () =>
    Effect.gen(function*() {
      const { server, session } = yield* hostile({ maxStreamsUni: 8 })
      for (let n = 0; n < 8; n++) {
        yield* session.send(
          http2.capsule(http2.streamData, [uni(n)], bytes(1)),
          http2.capsule(http2.streamWithFin, [uni(n)]),
          http2.capsule(http2.streamWithFin, [uni(n)])
        )
      }
      yield* session.send(http2.capsule(http2.streamData, [uni(8)]))
      assert.include(yield* reasonOf(server), "exceed stream count limit")
    }), 30_000)

  it.live("ending a stream again and again gives back one place", () =>
    Effect.gen(function*() {
      const { server, session } = yield* hostile({ maxStreamsUni: 8 })
      for (let n = 0; n < 8; n++) yield* session.send(http2.capsule(http2.streamData, [uni(n)], bytes(1)))
      const receive = yield* server.acceptUni
      yield* receive.pull
      for (let i = 0; i < 20; i++) yield* session.send(http2.capsule(http2.resetStream, [uni(0), 5]))
      assert.deepStrictEqual(yield* failureOf(receive.pull), new StreamReset({ code: 5 }))
      yield* session.send(http2.capsule(http2.streamData, [uni(8)], bytes(1)))
      // one has become free and was taken: there is no other
      yield* session.send(http2.capsule(http2.streamData, [uni(9)], bytes(1)))
      assert.include(yield* reasonOf(server), "exceed stream count limit")
    }), 30_000)

  it.live("a stream that was forgotten is not taken for a new one", () =>
    Effect.gen(function*() {
      const { server, session } = yield* hostile()
      yield* session.send(http2.capsule(http2.streamWithFin, [uni(0)], bytes(1)))
      yield* Effect.scoped(Effect.flatMap(server.acceptUni, (receive) => drain(receive, () => {})))
      for (const type of [http2.streamData, http2.streamWithFin]) {
        yield* session.send(http2.capsule(type, [uni(0)], bytes(100)))
      }
      yield* session.send(
        http2.capsule(http2.resetStream, [uni(0), 3]),
        http2.capsule(http2.stopSending, [uni(0), 3]),
        http2.capsule(http2.maxStreamData, [uni(0), 1_000_000]),
        http2.capsule(http2.streamWithFin, [uni(1)], Uint8Array.of(1, 2))
      )
      const next = yield* server.acceptUni
      const arrived: Array<number> = []
      yield* drain(next, (chunk) => void arrived.push(...chunk))
      assert.deepStrictEqual(arrived, [1, 2])
    }), 30_000)

  it.live("tiny pieces take little more than their bytes", () =>
    Effect.gen(function*() {
      const { server, session } = yield* hostile()
      const size = 200_000
      const capsules = Buffer.alloc(size * 7)
      const one = http2.capsule(http2.streamData, [uni(0)], bytes(1))
      assert.lengthOf(one, 7)
      for (let i = 0; i < size; i++) capsules.set(one, i * 7)
      const before = http2.heapUsed()
      yield* session.send(capsules)
      // what comes last has come after all of it
      yield* session.send(http2.capsule(http2.streamWithFin, [bi(0)], bytes(1)))
      yield* server.acceptBi
      assert.isBelow(http2.heapUsed() - before, 10 * size)
      const receive = yield* server.acceptUni
      let arrived = 0
      while (arrived < size) for (const chunk of yield* receive.pull) arrived += chunk.length
      assert.strictEqual(arrived, size)
    }), 60_000)

  it.live("one who connects and asks for nothing has to go", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server({ handshakeTimeout: "300 millis" })
      const raw = yield* http2.raw(peers.portOf(bound))
      yield* raw.closed
      // the same after a session has ended
      const accepting = yield* peers.acceptNext(bound)
      const again = yield* http2.raw(peers.portOf(bound))
      const session = again.open()
      const server = yield* Fiber.join(accepting)
      yield* server.close(0, "")
      yield* session.ended
      yield* again.closed
      yield* lives(bound)
    }), 30_000)

  it.live("one who leaves while it waits is not served", () =>
    Effect.gen(function*() {
      const bound = yield* http2.server()
      const raw = yield* http2.raw(peers.portOf(bound))
      const session = raw.open("/leaves")
      const request = yield* peers.nextRequest(bound)
      session.stream.close(8)
      yield* session.ended
      yield* lives(bound)
      assert.strictEqual((yield* Effect.exit(Effect.scoped(request.accept)))._tag, "Failure")
    }), 30_000)
})

describe("over HTTP/2, with peers of another make", () => {
  it.live("nothing follows a reset, whatever was waiting to be sent", () =>
    Effect.gen(function*() {
      const { server, session } = yield* hostile()
      const { send } = yield* server.openBi
      const writing = yield* Effect.forkChild(failureOf(send.write([bytes(400 * 1024)])), { startImmediately: true })
      const ids = new Set<number>()
      const until = (condition: () => boolean) =>
        Effect.whileLoop({ while: () => !condition(), body: () => Effect.sleep("2 millis"), step: () => {} })
      const dataOf = (id: number) =>
        session.received().reduce(
          (sum, capsule) => sum + (capsule.type === http2.streamData && capsule.id === id ? capsule.length : 0),
          0
        )
      yield* until(() => session.received().some(({ id, type }) => type === http2.streamData && ids.add(id).size > 0))
      const [id] = [...ids] as [number]
      yield* until(() => dataOf(id) === 256 * 1024)
      yield* send.reset(5)
      assert.deepStrictEqual(yield* Fiber.join(writing), new StreamReset({ code: 5 }))
      yield* session.send(http2.capsule(http2.maxStreamData, [id, 1_000_000]), http2.capsule(http2.maxData, [2 ** 25]))
      // what comes last has come after all of it
      yield* session.send(http2.capsule(http2.streamWithFin, [uni(0)], bytes(1)))
      yield* drain(yield* server.acceptUni, () => {})
      const last = yield* server.openUni()
      yield* last.write([bytes(1)])
      yield* until(() => session.received().at(-1)?.type === http2.streamData && session.received().at(-1)?.id !== id)
      assert.lengthOf(session.received().filter(({ type }) => type === http2.resetStream), 1)
      assert.strictEqual(dataOf(id), 256 * 1024)
    }), 30_000)

  it.live("an end within a capsule that spans two reads is an end", () =>
    Effect.gen(function*() {
      const { server, session } = yield* hostile()
      const capsule = http2.capsule(http2.streamWithFin, [uni(0)], bytes(1000))
      yield* session.send(capsule.subarray(0, 500))
      const receive = yield* server.acceptUni
      let arrived = (yield* receive.pull)[0].length
      yield* session.send(capsule.subarray(500))
      yield* drain(receive, (chunk) => {
        arrived += chunk.length
      })
      assert.strictEqual(arrived, 1000)
    }), 30_000)

  it.live("a close is told from an end without one", () =>
    Effect.gen(function*() {
      const closing = yield* hostile()
      const reason = new TextEncoder().encode("bye")
      yield* closing.session.send(http2.capsule(http2.closeSession, [], Buffer.concat([Buffer.alloc(4, 255), reason])))
      const { by, code, reason: said } = yield* closing.server.closed
      assert.deepStrictEqual({ by, code, said }, { by: "remote", code: 0xffffffff, said: "bye" })
      const ending = yield* hostile()
      ending.session.stream.end()
      assert.include(yield* reasonOf(ending.server), "without a close")
      const cut = yield* hostile()
      cut.raw.session.destroy()
      yield* reasonOf(cut.server)
      const lost = yield* hostile()
      lost.raw.socket.destroy()
      yield* reasonOf(lost.server)
    }), 30_000)
})
