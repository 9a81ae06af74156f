import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Scope, Stream } from "effect"
import { vi } from "vitest"
import * as Bounds from "../../src/transport/Bounds.ts"
import * as Qmux from "../../src/transport/Qmux.ts"
import * as QmuxSession from "../../src/transport/QmuxSession.ts"
import { join, type Options, QmuxSocket } from "../../src/transport/QmuxSocket.ts"
import * as Wire from "../../src/transport/QmuxWire.ts"
import type { SendStream } from "../../src/transport/Transport.ts"

/** One end of a WebSocket in this process. While it is narrow, what it is given stays with it. */
class MemorySocket extends QmuxSocket {
  peer!: MemorySocket
  isNarrow = false
  /** A close is under way, by whichever side. */
  isClosing = false
  readonly sent: Array<Uint8Array> = []
  /** The same, as it was given. */
  readonly parts: Array<ReadonlyArray<Uint8Array>> = []
  private readonly held: Array<Uint8Array> = []

  close(): void {
    this.widen()
    this.end()
    // an event of its own, after those of the messages
    setImmediate(() => this.peer.end())
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
    this.end()
    this.peer.end()
  }

  get isOpen(): boolean {
    return !this.ended && !this.isClosing
  }

  protected get buffered(): number {
    return this.held.reduce((sum, { length }) => sum + length, 0)
  }

  protected transmit(parts: ReadonlyArray<Uint8Array>, length: number): void {
    const message = join(parts, length)
    this.parts.push(parts)
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
  const sessions: Partial<Record<"client" | "server", QmuxSession.QmuxSession>> = {}
  const make = (role: "client" | "server") =>
    Qmux.make(() =>
      sessions[role] = QmuxSession.begin({
        open: (events) => {
          options[role] = events
          return sockets[role]!
        },
        role,
        protocol: "qmux-02.test",
        limits: { ...Bounds.resolve(), ...limits[role] }
      }), undefined)
  // each socket must know its peer before its session sends the first message
  for (const role of ["client", "server"] as const) {
    const late: Options = {
      maxBacklog: Bounds.resolve().maxBacklog,
      writeTimeout: Bounds.resolve().writeTimeout,
      onMessage: (message) => options[role]!.onMessage(message),
      onRoom: () => options[role]!.onRoom(),
      onEnd: () => options[role]!.onEnd(),
      ask: () => options[role]!.ask()
    }
    sockets[role] = new MemorySocket(late)
  }
  const [near, far] = [sockets.client!, sockets.server!]
  near.peer = far
  far.peer = near
  const [client, server] = yield* Effect.all([make("client"), make("server")], { concurrency: 2 })
  return { client, server, near, far, sessions: { client: sessions.client!, server: sessions.server! } }
})

const isPing = (message: Uint8Array): boolean => message[0] === 0xf4 && message[7] === 0xbd

/** The stream of the first frame. */
const idOf = (message: Uint8Array): number => {
  const record = new Wire.Cursor(message)
  record.varint()
  return record.varint()
}

const numberOf = (ping: Uint8Array): number => ping[8]!

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

  it.effect("pings that look for silence and those that are asked for are numbered together", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      for (let i = 0; i < 3; i++) {
        yield* client.ping
        // it asks after a third of 20 seconds, which it looks for every sixth
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
        [7_000, 7_000]
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

  it.effect("who only listens says so, or would be given up", () =>
    Effect.gen(function*() {
      const { near, server } = yield* pair()
      const send = yield* server.openUni()
      for (let i = 0; i < 5; i++) {
        yield* send.write([Uint8Array.of(i)])
        yield* turns
        vi.advanceTimersByTime(2_000)
      }
      assert.deepStrictEqual(near.sent.filter(isPing).map(numberOf), [0])
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

  it.effect("while the peer takes nothing one piece of a stream waits, and what waits for room goes on when it takes some", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair({ server: { maxData: 1_000 } })
      const filling = yield* client.openUni()
      yield* filling.write([new Uint8Array(1_000)])
      yield* turns
      const send = yield* client.openUni()
      yield* send.write([new Uint8Array(10)])
      const writing = yield* Effect.forkChild(send.write([new Uint8Array(20)]))
      yield* turns
      assert.isUndefined(writing.pollUnsafe(), "the second one")
      yield* (yield* server.acceptUni).pull
      yield* Fiber.join(writing)
      const receive = yield* server.acceptUni
      let arrived = 0
      while (arrived < 30) for (const chunk of yield* receive.pull) arrived += chunk.length
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

  it.effect("what is written in one turn leaves in one message, of one stream and of several", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      const one = yield* client.openUni()
      const other = yield* client.openUni()
      near.sent.length = 0
      for (let i = 0; i < 10; i++) yield* one.write([new Uint8Array(100).fill(i)])
      yield* other.write([Uint8Array.of(1, 2, 3)])
      yield* other.finish
      yield* turns
      assert.deepStrictEqual(near.sent.map(({ length }) => length), [1000 + 5 + 3 + 4])
      const receive = yield* server.acceptUni
      assert.deepStrictEqual((yield* receive.pull).map(({ length }) => length), [1000])
      assert.deepStrictEqual(yield* (yield* server.acceptUni).pull, [Uint8Array.of(1, 2, 3)])
    }))

  it.effect("chunks that are written together go as they are, in one frame", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      const opened = (use: (send: SendStream) => void) =>
        client.onOpenUni!(undefined, (exit) => use(Exit.getSuccess(exit).pipe(Option.getOrThrow)))
      const chunks = [Uint8Array.of(1, 2), new Uint8Array(5000).fill(3), Uint8Array.of(4)] as const
      near.parts.length = 0
      opened((send) => assert.isTrue(send.offer!(chunks)))
      const receive = yield* server.acceptUni
      assert.lengthOf(yield* receive.pull, 1)
      assert.lengthOf(near.parts, 1)
      const [, ...payload] = near.parts[0]!
      payload.forEach((part, i) => assert.strictEqual(part, chunks[i]))
      assert.lengthOf(payload, 3)
    }))

  it.effect("who hears of the end of a stream may close the connection on the spot: all that was said arrives", () =>
    Effect.gen(function*() {
      const { server, sessions } = yield* pair()
      const got: Array<Uint8Array> = []
      server.onUni!((receive) => receive.onPull!({ chunks: (chunks) => got.push(...chunks) > 0, end: () => {} }))
      sessions.client.adapt().createUnidirectionalStream().then((stream) => {
        const writer = stream.getWriter()
        void writer.write(Uint8Array.of(1, 2, 3))
        void writer.close()
        void writer.closed.then(() => sessions.client.close(7, "done"))
      })
      const { code, reason } = yield* server.closed
      assert.deepStrictEqual({ code, reason }, { code: 7, reason: "done" })
      assert.deepStrictEqual(got, [Uint8Array.of(1, 2, 3)])
    }))

  it.effect("records that are full are of one size, whatever the numbers in them", () =>
    Effect.gen(function*() {
      const limits = { maxStreamData: 4 * 1024 * 1024 }
      const { client, near, server } = yield* pair({ server: limits })
      // ids and offsets of one, two and four bytes
      for (let i = 0; i < 20; i++) {
        const size = i % 10 === 0 ? 1_700_000 : 100_000
        const written = Uint8Array.from({ length: size }, (_, at) => at % 251)
        near.sent.length = 0
        const stream = yield* client.openUni()
        yield* Effect.forkChild(Effect.andThen(stream.write([written]), stream.finish))
        const receive = yield* server.acceptUni
        const got = yield* Stream.runCollect(Stream.fromPull(Effect.succeed(receive.pull)))
        assert.isTrue(Buffer.concat(got).equals(written))
        const full = near.sent.map(({ length }) => length).filter((length) => length > 16_000)
        assert.isAtLeast(full.length, Math.floor(size / 16_384))
        assert.deepStrictEqual([...new Set(full)], [Wire.fullRecord])
      }
    }))

  it.effect("of what waits, the higher rank leaves first, and equals in turns", () =>
    Effect.gen(function*() {
      const { client, near } = yield* pair()
      const filler = yield* client.openUni()
      const streams = yield* Effect.forEach([0, 0, 5], (priority) => client.openUni({ priority }))
      near.isNarrow = true
      yield* Effect.forkChild(filler.write([new Uint8Array(256 * 1024)]))
      const more = yield* client.openUni({ priority: 9 })
      yield* Effect.forkChild(more.write([new Uint8Array(100_000)]))
      yield* turns
      assert.isTrue(isPing(near.sent.at(-1)!), "it is full")
      for (const stream of streams) yield* stream.write([new Uint8Array(30_000)])
      near.sent.length = 0
      near.widen()
      yield* turns
      // client streams 2, 6, 10, 14 and 18
      const order = near.sent.filter((message) => message[0] === 0x0e).map((message) => idOf(message) >> 2)
      const first = (index: number) => order.indexOf(index)
      assert.isBelow(order.lastIndexOf(4), first(3), "9 before 5")
      assert.isBelow(order.lastIndexOf(3), Math.min(first(1), first(2)), "5 before 0")
      assert.isBelow(first(2), order.lastIndexOf(1), "in turns")
      assert.isBelow(first(1), order.lastIndexOf(2), "in turns")
    }))

  it.effect("a reset drops what has not left", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair()
      const send = yield* client.openUni()
      yield* send.write([new Uint8Array(10)])
      yield* turns
      near.sent.length = 0
      yield* send.write([new Uint8Array(20_000)])
      yield* send.reset(7)
      yield* turns
      // RESET_STREAM of stream 2, code 7, after 10 bytes
      assert.deepStrictEqual(near.sent, [Uint8Array.of(0x04, 2, 7, 10)])
      const receive = yield* server.acceptUni
      assert.strictEqual((yield* Effect.flip(Effect.forever(receive.pull)))._tag, "MoqStreamReset")
    }))

  it.effect("what arrives for streams that were stopped, and what resets leave out, is given back to the window", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair({ server: { maxData: 100_000 } })
      for (let i = 0; i < 40; i++) {
        const id = [0x40, 2 + 4 * i]
        far.arrive(Uint8Array.of(0x0a, ...id, 1, 0))
        const receive = yield* server.acceptUni
        yield* receive.stop(1)
        far.arrive(Uint8Array.of(0x0a, ...id, 0x67, 0x10, ...new Uint8Array(10_000)))
        // RESET_STREAM at 15,001 bytes
        far.arrive(Uint8Array.of(0x04, ...id, 0, 0x7a, 0x99))
        yield* turns
      }
      assert.isFalse(far.ended)
      assert.isFalse(far.sent.some(([type]) => type === 0x1c))
    }))

  it.effect("a stream that is given up before it said anything is over on both ends", () =>
    Effect.gen(function*() {
      const { client, far, near, server } = yield* pair({ server: { maxStreamsBidi: 8 } })
      const serving = yield* Effect.forkChild(
        Effect.forever(Effect.scoped(Effect.flatMap(server.acceptBi, ({ receive }) => Effect.exit(receive.pull)))),
        { startImmediately: true }
      )
      near.sent.length = 0
      // far more than there may be at once
      for (let i = 0; i < 100; i++) {
        yield* Effect.scoped(client.openBi)
        yield* turn
      }
      assert.deepStrictEqual(near.sent.slice(0, 3), [
        Uint8Array.of(0x0e, 0, 0, 0),
        Uint8Array.of(0x04, 0, 0, 0),
        Uint8Array.of(0x05, 0, 0)
      ])
      assert.isUndefined(serving.pollUnsafe())
      assert.isFalse(near.ended || far.ended)
    }))

  it.effect("a stop goes ahead of what waits to be sent, and is heard", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair()
      // STOP_SENDING of stream 0 with code 9, and then its first byte
      far.arrive(Uint8Array.of(0x05, 0, 9))
      far.arrive(Uint8Array.of(0x0a, 0, 1, 7))
      const { receive, send } = yield* server.acceptBi
      assert.strictEqual(yield* send.stopped, 9)
      assert.deepStrictEqual(yield* receive.pull, [Uint8Array.of(7)])
      yield* turns
      assert.isTrue(far.sent.some((message) => message.join() === [0x04, 0, 9, 0].join()), "the answer to it")
    }))

  it.effect("a window that is given before the first byte counts", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair({ client: { maxStreamData: 10 } })
      far.arrive(Uint8Array.of(0x11, 0, 20))
      const { send } = yield* server.acceptBi
      yield* send.write([new Uint8Array(20)])
      yield* turns
      assert.strictEqual(far.sent.at(-1)!.length, 4 + 20)
    }))

  it.effect("a reset is an answer for its own half alone", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair()
      far.arrive(Uint8Array.of(0x04, 0, 9, 0))
      const { receive, send } = yield* server.acceptBi
      assert.deepInclude(yield* Effect.flip(receive.pull), { _tag: "MoqStreamReset", code: 9 })
      yield* send.write([Uint8Array.of(1)])
      yield* turns
      assert.deepStrictEqual(far.sent.at(-1), Uint8Array.of(0x0e, 0, 0, 1, 1))
    }))

  it.effect("streams whose other half the peer leaves open count as open", () =>
    Effect.gen(function*() {
      const { client, far, near } = yield* pair({ server: { maxStreamsBidi: 3 } })
      // MAX_STREAMS: as many as there are
      near.arrive(Uint8Array.of(0x12, 0x80, 1, 0, 0))
      // what the other end answers stays with it
      far.isNarrow = true
      for (let i = 0; i < 3; i++) yield* Effect.scoped(client.openBi)
      const fourth = yield* Effect.forkChild(client.openBi, { startImmediately: true })
      yield* turns
      assert.isUndefined(fourth.pollUnsafe())
      // RESET_STREAM of stream 0
      near.arrive(Uint8Array.of(0x04, 0, 0, 0))
      yield* Fiber.join(fourth)
      assert.isFalse(near.ended || far.ended)
    }))

  it.effect("a peer gets a place back once both halves are over and the stream was accepted", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair({ server: { maxStreamsBidi: 1 } })
      const granted = () => far.sent.filter(([type]) => type === 0x12)
      // the only byte of stream 0, and its end
      far.arrive(Uint8Array.of(0x0b, 0, 1, 7))
      yield* turns
      assert.deepStrictEqual(granted(), [])
      const { send } = yield* server.acceptBi
      yield* turns
      assert.deepStrictEqual(granted(), [])
      yield* send.finish
      yield* turns
      assert.deepStrictEqual(granted(), [Uint8Array.of(0x12, 2)])
    }))

  it.effect("who waited for a stream and was interrupted gets none", () =>
    Effect.gen(function*() {
      const { client, near, server } = yield* pair({ server: { maxStreamsUni: 1 } })
      const first = yield* client.openUni()
      for (let i = 0; i < 10; i++) {
        const waiting = yield* Effect.forkChild(client.openUni(), { startImmediately: true })
        yield* turn
        yield* Fiber.interrupt(waiting)
      }
      const last = yield* Effect.forkChild(client.openUni(), { startImmediately: true })
      yield* first.write([Uint8Array.of(1)])
      yield* first.finish
      const receive = yield* server.acceptUni
      yield* receive.pull
      yield* Effect.exit(receive.pull)
      near.sent.length = 0
      const send = yield* Fiber.join(last)
      yield* send.write([Uint8Array.of(2)])
      yield* turns
      // stream 6: no id is spent on those who left
      assert.deepStrictEqual(near.sent.filter(([type]) => type !== 0x10), [Uint8Array.of(0x0e, 6, 0, 1, 2)])
    }))

  it.effect("answers that a peer asks for and does not take end the connection before they cost much", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair()
      const filling = yield* Effect.forEach([1, 2], () => server.openUni())
      far.isNarrow = true
      for (const send of filling) yield* Effect.forkChild(send.write([new Uint8Array(256 * 1024)]))
      yield* turns
      let pings = 0
      for (; pings < 100_000 && !far.ended; pings++) {
        far.arrive(Uint8Array.of(0xf4, 0x8c, 0x67, 0x52, 0x9e, 0xf8, 0xc7, 0xbd, 0))
        if (pings % 1000 === 0) yield* turn
      }
      assert.isBelow(pings, 20_000)
      assert.include((yield* server.closed).reason, "does not read")
    }))

  it.effect("what is unread keeps no more than itself of what arrived with it", () =>
    Effect.gen(function*() {
      const { far, server } = yield* pair()
      const packet = new Uint8Array(65_536)
      packet.set([0x0a, 2, 1, 7])
      far.arrive(packet.subarray(0, 4))
      yield* turns
      const receive = yield* server.acceptUni
      const [piece] = yield* receive.pull
      assert.strictEqual(piece.buffer.byteLength, 1)
    }))

  it.effect.each<readonly [string, ReadonlyArray<number>]>([
    ["a stream that may not be opened", [0x0a, 0x40 | 0x20, 0x02, 1, 0]],
    ["more than a stream may carry", [0x0a, 0x02, 0x44, 0x01, ...new Uint8Array(1025)]],
    ["a reset beyond what a stream may carry", [0x04, 0x02, 0, 0x44, 0x01]],
    ["bytes for a stream that only receives", [0x0a, 0x03, 1, 0]],
    ["a frame without its end", [0x0a, 0x02, 9, 0]],
    ["transport parameters again", [0xff, 0x51, 0x53, 0x30, 0x0d, 0x0a, 0x0d, 0x0a, 0]],
    ["a ping that is none", [0xf4, 0x8c, 0x67, 0x52, 0x9e, 0xf8, 0xc7, 0xbf, 0]]
  ])("%s ends the connection, and says so", ([, bytes]) =>
    Effect.gen(function*() {
      const { far, server } = yield* pair({ server: { maxStreamData: 1024, maxStreamsUni: 8 } })
      far.arrive(Uint8Array.from(bytes))
      assert.strictEqual((yield* server.closed).by, "transport")
      assert.strictEqual(far.sent.at(-1)![0], 0x1c)
    }))

  it.effect("a peer that begins with something else is refused in words", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Qmux.make(() =>
        QmuxSession.begin({
          open: (options) => {
            const socket = new MemorySocket(options)
            socket.peer = new MemorySocket(options)
            queueMicrotask(() => socket.arrive(Uint8Array.of(0x01)))
            return socket
          },
          role: "client",
          protocol: "qmux-02.test",
          limits: Bounds.resolve()
        }), undefined))
      assert.strictEqual(error._tag, "MoqTransportError")
      assert.include(error.message, "the QMux handshake failed: its first record has no transport parameters")
    }))
})

const turn = Effect.promise(async () => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
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
