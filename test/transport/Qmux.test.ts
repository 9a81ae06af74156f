import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { vi } from "vitest"
import * as Bounds from "../../src/transport/Bounds.ts"
import * as Qmux from "../../src/transport/Qmux.ts"
import * as QmuxSession from "../../src/transport/QmuxSession.ts"
import { type Options, QmuxSocket } from "../../src/transport/QmuxSocket.ts"

/** One end of a WebSocket in this process. While it is narrow, what it is given stays with it. */
class MemorySocket extends QmuxSocket {
  peer!: MemorySocket
  isNarrow = false
  /** A close is under way, by whichever side. */
  isClosing = false
  readonly sent: Array<Uint8Array> = []
  private readonly held: Array<Uint8Array> = []

  close(): void {
    this.widen()
    this.end(1000, "")
    // an event of its own, after those of the messages
    setImmediate(() => this.peer.end(1000, ""))
  }

  arrive(message: Uint8Array): void {
    this.receive(message)
  }

  widen(): void {
    this.isNarrow = false
    for (const message of this.held.splice(0)) this.pass(message)
    this.unblock()
  }

  protected terminate(): void {
    this.end(1006, "")
    this.peer.end(1006, "")
  }

  protected get isOpen(): boolean {
    return !this.ended && !this.isClosing
  }

  protected get buffered(): number {
    return this.held.reduce((sum, { length }) => sum + length, 0)
  }

  protected transmit(message: Uint8Array): void {
    this.sent.push(message.slice())
    if (this.isNarrow) this.held.push(message)
    else this.pass(message)
  }

  protected override onBlocked(): void {
    this.options.ask()
  }

  private pass(message: Uint8Array): void {
    const copy = message.slice()
    queueMicrotask(() => this.peer.receive(copy))
  }
}

/** Both ends of a connection, and their sockets. */
const pair = Effect.fnUntraced(function*(
  limits: { readonly client?: Partial<Bounds.Bounds>; readonly server?: Partial<Bounds.Bounds> } = {}
) {
  const sockets: Partial<Record<"client" | "server", MemorySocket>> = {}
  const options: Partial<Record<"client" | "server", Options>> = {}
  const make = (role: "client" | "server") =>
    Qmux.make((onWarning) =>
      QmuxSession.begin({
        open: (events) => {
          options[role] = events
          return sockets[role]!
        },
        role,
        protocol: "qmux-02.test",
        limits: { ...Bounds.resolve(), ...limits[role] },
        onWarning
      }), undefined)
  // each socket must know its peer before its session sends the first message
  for (const role of ["client", "server"] as const) {
    const late: Options = {
      protocol: "qmux-02.test",
      maxBacklog: Bounds.resolve().maxBacklog,
      writeTimeout: Bounds.resolve().writeTimeout,
      onMessage: (message) => options[role]!.onMessage(message),
      onSend: (message) => options[role]!.onSend(message),
      ask: () => options[role]!.ask(),
      onWarning: (line) => options[role]!.onWarning(line)
    }
    sockets[role] = new MemorySocket(late)
  }
  const [near, far] = [sockets.client!, sockets.server!]
  near.peer = far
  far.peer = near
  const [client, server] = yield* Effect.all([make("client"), make("server")], { concurrency: 2 })
  return { client, server, near, far }
})

const isPing = (message: Uint8Array): boolean => message[0] === 0xf4 && message[7] === 0xbd

const numberOf = (ping: Uint8Array): number => new DataView(ping.buffer, ping.byteOffset).getUint32(12)

describe("Qmux", () => {
  it.effect("a ping is answered, at once or behind others, on both ends", () =>
    Effect.gen(function*() {
      const { client, far, near, server } = yield* pair()
      yield* Effect.all([client.ping, client.ping, server.ping, client.ping], { concurrency: "unbounded" })
      yield* server.ping
      assert.deepStrictEqual(near.sent.filter(isPing).map(numberOf), [0, 1, 2])
      assert.deepStrictEqual(far.sent.filter(isPing).map(numberOf), [0, 1])
      assert.isFalse(near.ended || far.ended)
    }))

  it.effect("pings of the package and ours are numbered together", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      for (let i = 0; i < 3; i++) {
        yield* client.ping
        // the package asks after a third of 20 seconds, which it looks for every sixth
        vi.advanceTimersByTime(10_000)
        yield* server.ping
      }
      const numbers = near.sent.filter(isPing).map(numberOf)
      assert.deepStrictEqual(numbers, Array.from({ length: 6 }, (_, i) => i))
      assert.isFalse(near.ended)
    }).pipe(withFakeTimers))

  it.effect("a ping that is interrupted leaves nothing, and its answer does no harm", () =>
    Effect.gen(function*() {
      const { client, far, near } = yield* pair()
      near.isNarrow = true
      const asking = yield* Effect.forkChild(client.ping, { startImmediately: true })
      yield* Fiber.interrupt(asking)
      near.widen()
      yield* client.ping
      assert.isFalse(near.ended || far.ended)
    }))

  it.effect("declares by when a silent peer is noticed, by the shorter of both timeouts", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair({ server: { idleTimeout: 6_000 } })
      assert.deepStrictEqual(
        [client.capabilities.idleTimeout, server.capabilities.idleTimeout],
        [10_000, 10_000]
      )
    }))

  it.effect("and keeps to it", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair({ server: { idleTimeout: 6_000 } })
      yield* client.ping
      near.isNarrow = true
      vi.advanceTimersByTime(server.capabilities.idleTimeout)
      const { by, reason } = yield* server.closed
      assert.deepStrictEqual({ by, reason }, { by: "transport", reason: "idle timeout" })
    }).pipe(withFakeTimers))

  it.effect("a socket that is full makes writes wait, and asks for a sign of life behind them", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      // of several streams, because one stops at its own window
      near.isNarrow = true
      const writing = yield* Effect.forEach([1, 2, 3, 4], () =>
        Effect.gen(function*() {
          const send = yield* client.openUni()
          yield* send.write([new Uint8Array(200 * 1024)])
          yield* send.finish
        }).pipe(Effect.forkChild))
      yield* turns
      const before = near.sent.length
      yield* turns
      assert.strictEqual(near.sent.length, before, "it sends no more")
      assert.isTrue(isPing(near.sent.at(-1)!), "but a ping")
      assert.isTrue(writing.some((fiber) => fiber.pollUnsafe() === undefined))
      near.widen()
      for (let i = 0; i < 4; i++) {
        const receive = yield* server.acceptUni
        yield* Effect.exit(Effect.forever(receive.pull))
      }
      yield* Fiber.joinAll(writing)
    }))

  it.effect("a close waits for no room, but goes behind what was written", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      near.isNarrow = true
      yield* Effect.forEach([1, 2, 3, 4], () =>
        Effect.flatMap(client.openUni(), (send) => Effect.forkChild(send.write([new Uint8Array(200 * 1024)]))))
      yield* turns
      assert.isTrue(isPing(near.sent.at(-1)!), "it is full")
      yield* client.close(7, "enough")
      yield* turns
      const { by, code, reason } = yield* server.closed
      assert.deepStrictEqual({ by, code, reason }, { by: "remote", code: 7, reason: "enough" })
      assert.strictEqual(near.sent.at(-1)![0], 0x1d)
    }))

  it.effect("while the WebSocket closes, nothing fails before the end is known, and then with the end", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      const incoming = yield* server.openUni()
      yield* incoming.write([new Uint8Array(100)])
      const receive = yield* client.acceptUni
      const send = yield* client.openUni()
      near.isClosing = true
      const writing = yield* Effect.forkChild(
        Effect.flip(Effect.forever(send.write([new Uint8Array(1000)]))),
        { startImmediately: true }
      )
      yield* turns
      assert.isUndefined(writing.pollUnsafe(), "a write waits")
      assert.strictEqual((yield* receive.pull)[0].length, 100, "what had arrived is here")
      yield* turns
      const pulling = yield* Effect.forkChild(Effect.flip(receive.pull), { startImmediately: true })
      yield* turns
      near.close()
      assert.strictEqual((yield* Fiber.join(writing))._tag, "MoqSessionClosed")
      assert.strictEqual((yield* Fiber.join(pulling))._tag, "MoqSessionClosed")
      assert.strictEqual((yield* client.closed).by, "transport")
    }))

  it.effect("a scope closes over a WebSocket that closes already", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { client, near } = yield* Scope.provide(pair(), scope)
      const send = yield* client.openUni()
      near.isClosing = true
      yield* Effect.forkChild(send.write([new Uint8Array(1000)]), { startImmediately: true })
      yield* turns
      // the package closes the WebSocket a moment later in any case
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* turns
      near.close()
      assert.deepStrictEqual(yield* Fiber.await(closing), Exit.void)
      assert.strictEqual((yield* client.closed).by, "local")
    }))

  it.effect("a peer that begins with something else is refused in words", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Qmux.make((onWarning) =>
        QmuxSession.begin({
          open: (options) => {
            const socket = new MemorySocket(options)
            socket.peer = new MemorySocket(options)
            queueMicrotask(() => socket.arrive(Uint8Array.of(0x01)))
            return socket
          },
          role: "client",
          protocol: "qmux-02.test",
          limits: Bounds.resolve(),
          onWarning
        }), undefined))
      assert.strictEqual(error._tag, "MoqTransportError")
      assert.include(error.message, "the QMux handshake failed: its first record has no transport parameters")
    }))
})

const turns = Effect.promise(async () => {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
})

const withFakeTimers = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() =>
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"] })
    ),
    () => effect,
    () => Effect.sync(() => vi.useRealTimers())
  )
