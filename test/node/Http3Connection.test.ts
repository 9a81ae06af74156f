import { afterEach, assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { vi } from "vitest"
import { SessionClosed, StreamReset, TransportError } from "../../src/core/MoqError.ts"
import * as Http3Connection from "../../src/node/Http3Connection.ts"
import type { Connection, ReceiveStream, SendStream } from "../../src/transport/Transport.ts"
import { FakeBi, FakeReceive, FakeSend, FakeSession, settled } from "./fixtures/http3.ts"

const settle = Effect.promise(settled)

/** A connection over a session that does nothing by itself, in a scope that the test may close. */
const connected = Effect.gen(function*() {
  const session = new FakeSession()
  const users = new Set<Connection>()
  const scope = yield* Scope.make()
  const connection = yield* Http3Connection.make({
    session: () => Promise.resolve(session),
    explain: (error) => new TransportError({ detail: String(error) }),
    users
  }).pipe(Scope.provide(scope))
  return { session, users, scope, connection }
})

const sending = Effect.gen(function*() {
  const { connection, session } = yield* connected
  const native = new FakeSend()
  const opening = yield* Effect.forkChild(connection.openUni(), { startImmediately: true })
  yield* Effect.promise(() => session.unis.answer(native))
  const send: SendStream = yield* Fiber.join(opening)
  return { native, send, session, connection }
})

const receiving = Effect.gen(function*() {
  const { connection, session } = yield* connected
  const native = new FakeReceive()
  const accepting = yield* Effect.forkChild(connection.acceptUni, { startImmediately: true })
  yield* Effect.promise(() => session.incomingUnis.answer(native))
  const receive: ReceiveStream = yield* Fiber.join(accepting)
  return { native, receive }
})

const bytes = (size: number, from = 0) => Uint8Array.from({ length: size }, (_, i) => (from + i) & 0xff)

const collectGarbage = Effect.andThen(
  settle,
  Effect.sync(() => {
    V8.setFlagsFromString("--expose-gc")
    const collect = Vm.runInNewContext("gc") as () => void
    collect()
  })
)

const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

afterEach(() => {
  vi.useRealTimers()
})

const fakeTimers = Effect.sync(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] })
})

const pass = (millis: number) => Effect.promise(() => vi.advanceTimersByTimeAsync(millis).then(settled))

describe("a sending half of native HTTP/3", () => {
  it.effect("joins what is small behind the write under way, and cuts what is large", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      yield* send.write([bytes(3)])
      const small = Array.from({ length: 10 }, (_, i) => bytes(100, i))
      for (const chunk of small) yield* send.write([chunk])
      assert.deepStrictEqual(native.writes.all.map(([data]) => data.length), [3])
      yield* Effect.promise(() => native.writes.answer())
      assert.deepStrictEqual(Buffer.from(native.writes.all[1]![0]), Buffer.concat(small))
      const large = bytes(100_000)
      const writing = yield* started(send.write([bytes(1), large]))
      yield* settle
      assert.isUndefined(writing.pollUnsafe())
      while (native.writes.waiting > 0) {
        assert.strictEqual(native.writes.waiting, 1)
        yield* Effect.promise(() => native.writes.answer())
      }
      yield* Fiber.join(writing)
      const pieces = native.writes.all.slice(2).map(([data]) => data)
      assert.isTrue(pieces.every((piece) => piece.length <= 16 * 1024))
      assert.deepStrictEqual(Buffer.concat(pieces), Buffer.concat([bytes(1), large]))
      assert.strictEqual(native.finishes.all.length, 0)
    }))

  it.effect("goes on with a write when little of it waits, and keeps nothing that is written", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      const first: Array<number> = []
      const chunks: Array<WeakRef<Uint8Array>> = []
      let written = () => {}
      const native = Object.assign(new FakeSend(), {
        write: (data: Uint8Array) => {
          first.push(data[0]!)
          return new Promise<void>((resolve) => (written = resolve))
        }
      })
      const opening = yield* started(connection.openUni())
      yield* Effect.promise(() => session.unis.answer(native))
      const send: SendStream = yield* Fiber.join(opening)
      // something always waits
      for (let i = 0; i < 300; i++) {
        const writing = yield* started(Effect.suspend(() => {
          const chunk = bytes(16 * 1024, i)
          chunks.push(new WeakRef(chunk))
          return send.write([chunk])
        }))
        if (i > 1) {
          assert.isUndefined(writing.pollUnsafe())
          written()
          yield* settle
        }
        yield* Fiber.join(writing)
      }
      assert.deepStrictEqual(first, Array.from({ length: 299 }, (_, i) => i & 0xff))
      yield* collectGarbage
      const kept = () => chunks.filter((chunk) => chunk.deref() !== undefined).length
      assert.isBelow(kept(), 100)
      // but for the write under way
      yield* send.reset(0)
      yield* collectGarbage
      assert.isAtMost(kept(), 1)
    }))

  it.effect("finishes behind what it has written", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      yield* send.write([bytes(1)])
      yield* send.write([bytes(2)])
      const finishing = yield* started(send.finish)
      yield* Effect.promise(() => native.writes.answer())
      assert.strictEqual(native.finishes.waiting, 0)
      assert.deepStrictEqual(yield* Effect.flip(send.write([bytes(1)])), new StreamReset({ code: 0 }))
      yield* Effect.promise(() => native.writes.answer())
      assert.strictEqual(native.writes.all.length, 2)
      yield* Effect.promise(() => native.finishes.answer())
      yield* Fiber.join(finishing)
      yield* send.finish
      yield* send.reset(5)
      assert.deepStrictEqual(native.resets.all, [])
    }))

  it.effect("resets at once, whatever the write under way waits for", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      const writing = yield* started(Effect.flip(send.write([bytes(100_000)])))
      yield* send.reset(31)
      assert.deepStrictEqual(yield* Fiber.join(writing), new StreamReset({ code: 31 }))
      assert.deepStrictEqual(native.resets.all, [[31]])
      yield* Effect.promise(() => native.writes.fail("stream closed"))
      assert.strictEqual(native.writes.all.length, 1)
      yield* send.reset(32)
      assert.deepStrictEqual(native.resets.all, [[31]])
    }))

  it.effect("answers a STOP_SENDING by a reset, and tells its code", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      yield* send.write([bytes(1)])
      yield* Effect.promise(() => native.writes.fail("STOP_SENDING: 4294967295"))
      const code = 2 ** 32 - 1
      assert.strictEqual(yield* send.stopped, code)
      assert.deepStrictEqual(yield* Effect.flip(send.write([bytes(1)])), new StreamReset({ code }))
      assert.deepStrictEqual(native.resets.all, [[code]])
    }))

  it.effect("takes what is offered where a write would not wait, and all of it or nothing", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      const offer = (...sizes: readonly [number, ...Array<number>]) => {
        const [first, ...rest] = sizes.map((size) => bytes(size))
        return send.offer!([first!, ...rest])
      }
      assert.isFalse(offer(32 * 1024, 1))
      assert.strictEqual(native.writes.all.length, 0)
      assert.isTrue(offer(16 * 1024, 16 * 1024))
      assert.isFalse(offer(1))
      yield* Effect.promise(() => native.writes.answer())
      assert.isTrue(offer(16 * 1024))
      assert.isFalse(offer(1))
      assert.deepStrictEqual(native.writes.all.map(([data]) => data.length), [16 * 1024, 16 * 1024])
      let end: Exit.Exit<void, unknown> | undefined
      send.onFinish!((exit) => {
        end = exit
      })
      assert.isFalse(offer(1))
      while (native.writes.waiting > 0) yield* Effect.promise(() => native.writes.answer())
      assert.strictEqual(native.writes.all.length, 3)
      assert.isUndefined(end)
      yield* Effect.promise(() => native.finishes.answer())
      assert.deepStrictEqual(end, Exit.void)
      assert.isFalse(offer(1))
    }))

  it.effect("tells no rank behind its end", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      yield* send.write([bytes(1)])
      const finishing = yield* started(send.finish)
      yield* send.setPriority(1)
      yield* Effect.promise(() => native.writes.answer())
      assert.strictEqual(native.finishes.waiting, 1)
      yield* Effect.promise(() => native.ranks.answer())
      yield* send.setPriority(2)
      assert.deepStrictEqual(native.ranks.all, [[1]])
      yield* Effect.promise(() => native.finishes.answer())
      yield* Fiber.join(finishing)
    }))

  it.effect("has one call for ranks under way, and the last rank in the end", () =>
    Effect.gen(function*() {
      const { native, send } = yield* sending
      for (let rank = 1; rank <= 100; rank++) yield* send.setPriority(rank)
      assert.deepStrictEqual(native.ranks.all, [[1]])
      yield* Effect.promise(() => native.ranks.answer())
      assert.deepStrictEqual(native.ranks.all, [[1], [100]])
      yield* Effect.promise(() => native.ranks.answer())
      yield* send.setPriority(100)
      assert.deepStrictEqual(native.ranks.all, [[1], [100]])
    }))
})

describe("a receiving half of native HTTP/3", () => {
  it.effect("reads ahead, but not without end", () =>
    Effect.gen(function*() {
      const { native, receive } = yield* receiving
      assert.strictEqual(native.reads.all.length, 0)
      const pulling = yield* started(receive.pull)
      yield* Effect.promise(() => native.reads.answer(bytes(1_000)))
      assert.strictEqual((yield* Fiber.join(pulling))[0].length, 1_000)
      for (let i = 0; i < 200 && native.reads.waiting > 0; i++) {
        assert.strictEqual(native.reads.waiting, 1)
        yield* Effect.promise(() => native.reads.answer(bytes(1_000, i)))
      }
      assert.strictEqual(native.reads.all.length, 67)
      const chunks = yield* receive.pull
      assert.deepStrictEqual(chunks.map((chunk) => chunk[0]), Array.from({ length: 66 }, (_, i) => i))
      assert.strictEqual(native.reads.waiting, 1)
    }))

  it.effect("gives Uint8Arrays, never empty ones, and the end again and again", () =>
    Effect.gen(function*() {
      const { native, receive } = yield* receiving
      const pulling = yield* started(receive.pull)
      yield* Effect.promise(() => native.reads.answer(Buffer.alloc(0)))
      yield* Effect.promise(() => native.reads.answer(Buffer.from([1, 2])))
      yield* Effect.promise(() => native.reads.answer(null))
      const chunks = yield* Fiber.join(pulling)
      assert.deepStrictEqual(chunks, [Uint8Array.of(1, 2)])
      assert.isFalse(Buffer.isBuffer(chunks[0]))
      for (let i = 0; i < 2; i++) assert.isTrue(Cause.isDone(yield* Effect.flip(receive.pull)))
    }))

  it.effect("stops at once, and throws away what the read under way brings", () =>
    Effect.gen(function*() {
      const { native, receive } = yield* receiving
      const pulling = yield* started(Effect.flip(receive.pull))
      yield* receive.stop(9)
      assert.deepStrictEqual(yield* Fiber.join(pulling), new StreamReset({ code: 9 }))
      assert.deepStrictEqual(native.stops.all, [[9]])
      yield* Effect.promise(() => native.reads.answer(bytes(10)))
      assert.deepStrictEqual(yield* Effect.flip(receive.pull), new StreamReset({ code: 9 }))
      assert.strictEqual(native.reads.waiting, 0)
    }))

  it.effect("is heard by a listener until that wants no more, and reads ahead for the next", () =>
    Effect.gen(function*() {
      const { native, receive } = yield* receiving
      const heard: Array<unknown> = []
      const listen = (more: boolean) =>
        receive.onPull!({
          chunks: (chunks) => {
            heard.push(...chunks.map((chunk) => chunk.length))
            return more
          },
          end: (exit) => void heard.push(exit._tag)
        })
      listen(false)
      for (const size of [1, 2, 3]) yield* Effect.promise(() => native.reads.answer(bytes(size)))
      assert.deepStrictEqual(heard.splice(0), [1])
      listen(true)
      assert.deepStrictEqual(heard.splice(0), [2, 3])
      yield* Effect.promise(() => native.reads.answer(bytes(4)))
      yield* Effect.promise(() => native.reads.answer(null))
      assert.deepStrictEqual(heard, [4, "Failure"])
    }))

  it.effect("takes a code that is none of WebTransport for 0", () =>
    Effect.gen(function*() {
      const { native, receive } = yield* receiving
      const pulling = yield* started(Effect.flip(receive.pull))
      yield* Effect.promise(() => native.reads.fail("invalid RESET_STREAM: 268"))
      assert.deepStrictEqual(yield* Fiber.join(pulling), new StreamReset({ code: 0 }))
    }))
})

describe("a connection of native HTTP/3", () => {
  it.effect("says every 5 seconds that it is alive, until it ends, whatever becomes of that", () =>
    Effect.gen(function*() {
      yield* fakeTimers
      const { connection, session } = yield* connected
      yield* pass(15_000)
      assert.strictEqual(session.datagrams, 3)
      yield* connection.close(0, "")
      yield* pass(60_000)
      assert.strictEqual(session.datagrams, 3)
    }))

  it.effect("tells a connection that broke from one that was closed", () =>
    Effect.gen(function*() {
      const cases = [
        [0, "connection error: timed out", "transport", 4, "the other end has gone without a word"],
        [0, "connection error: closed", "transport", 4, "the other end has gone"],
        [0, "connection error: reset by peer", "transport", 4, "reset by peer"],
        [0, "", "remote", 0, ""],
        [7, "connection error: of an application", "remote", 7, "connection error: of an application"]
      ] as const
      for (const [closeCode, text, by, code, reason] of cases) {
        const { connection, session, users } = yield* connected
        assert.strictEqual(users.size, 1)
        yield* Effect.promise(() => session.ends.answer({ closeCode, reason: text }))
        assert.deepStrictEqual(yield* connection.closed, new SessionClosed({ code, reason, by }))
        assert.strictEqual(users.size, 0)
      }
    }))

  it.effect("keeps what it said itself when it closed", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      yield* connection.close(7, "bye")
      assert.deepStrictEqual(session.closes, [[7, "bye"]])
      yield* Effect.promise(() => session.ends.answer({ closeCode: 0, reason: "connection error: closed" }))
      assert.deepStrictEqual(yield* connection.closed, new SessionClosed({ code: 7, reason: "bye", by: "local" }))
    }))

  it.effect("is given up when a call says that it is over, and nothing tells how", () =>
    Effect.gen(function*() {
      yield* fakeTimers
      const { connection, session } = yield* connected
      const accepting = yield* started(Effect.flip(connection.acceptUni))
      yield* Effect.promise(() => session.incomingUnis.fail("connection error: strange"))
      assert.isUndefined(accepting.pollUnsafe())
      yield* pass(1_000)
      const { by, code } = yield* Fiber.join(accepting)
      assert.deepStrictEqual([by, code], ["transport", 4])
      assert.deepStrictEqual(session.closes, [[4, ""]])
    }))

  it.effect("is not given up for what becomes of a stream that is over", () =>
    Effect.gen(function*() {
      yield* fakeTimers
      const { connection, native, send, session } = yield* sending
      yield* send.write([bytes(1)])
      yield* send.reset(1)
      yield* Effect.promise(() => native.writes.fail("something odd"))
      const accepting = yield* started(connection.acceptUni)
      const incoming = new FakeReceive()
      yield* Effect.promise(() => session.incomingUnis.answer(incoming))
      const receive: ReceiveStream = yield* Fiber.join(accepting)
      yield* started(receive.pull)
      yield* receive.stop(1)
      yield* Effect.promise(() => incoming.reads.fail("something odd"))
      yield* pass(60_000)
      assert.deepStrictEqual(session.closes, [])
    }))

  it.effect("waits for its close to leave, but not for ever", () =>
    Effect.gen(function*() {
      yield* fakeTimers
      const { scope, session, users } = yield* connected
      const closing = yield* started(Scope.close(scope, Exit.void))
      yield* settle
      assert.deepStrictEqual(session.closes, [[0, ""]])
      assert.isUndefined(closing.pollUnsafe())
      yield* pass(1_000)
      yield* Fiber.join(closing)
      assert.strictEqual(users.size, 0)
    }))

  it.effect("keeps an opening that was interrupted for the next one, and ends a stream that nobody wants", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      for (let i = 0; i < 3; i++) yield* Fiber.interrupt(yield* started(connection.openUni()))
      assert.strictEqual(session.unis.all.length, 1)
      const opening = yield* started(connection.openUni())
      assert.strictEqual(session.unis.all.length, 1)
      const wanted = new FakeSend()
      yield* Effect.promise(() => session.unis.answer(wanted))
      yield* Fiber.join(opening)
      assert.deepStrictEqual(wanted.resets.all, [])

      yield* Fiber.interrupt(yield* started(connection.openUni()))
      const unwanted = new FakeSend()
      yield* Effect.promise(() => session.unis.answer(unwanted))
      assert.deepStrictEqual(unwanted.resets.all, [[0]])
      yield* Fiber.interrupt(yield* started(connection.openBi))
      const both = new FakeBi()
      yield* Effect.promise(() => session.bis.answer(both))
      assert.deepStrictEqual([both.send.resets.all, both.receive.stops.all], [[[0]], [[0]]])
    }))

  it.effect("asks for one stream of the peer at a time, and keeps it for the next who wants one", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      yield* Fiber.interrupt(yield* started(connection.acceptUni))
      yield* Effect.promise(() => session.incomingUnis.answer(new FakeReceive()))
      assert.strictEqual(session.incomingUnis.all.length, 1)
      yield* connection.acceptUni
      const two = [yield* started(connection.acceptUni), yield* started(connection.acceptUni)]
      assert.strictEqual(session.incomingUnis.waiting, 1)
      yield* Effect.promise(() => session.incomingUnis.answer(new FakeReceive()))
      assert.strictEqual(session.incomingUnis.waiting, 1)
      yield* Effect.promise(() => session.incomingUnis.answer(new FakeReceive()))
      yield* Fiber.joinAll(two)
      assert.strictEqual(session.incomingUnis.waiting, 0)
    }))

  it.effect("opens for functions as they came, and ends what none of them wants any more", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      const told: Array<string> = []
      const begin = (name: string) =>
        connection.onOpenUni!({ priority: 7 }, (exit) => {
          told.push(`${name} ${exit._tag}`)
        })
      const takeBack = begin("a")
      begin("b")
      takeBack()
      const wanted = new FakeSend()
      yield* Effect.promise(() => session.unis.answer(wanted))
      assert.deepStrictEqual(told.splice(0), ["b Success"])
      assert.deepStrictEqual(wanted.ranks.all, [[7]])
      const unwanted = new FakeSend()
      yield* Effect.promise(() => session.unis.answer(unwanted))
      assert.deepStrictEqual(unwanted.resets.all, [[0]])

      begin("c")
      const withdraw = begin("d")
      yield* connection.close(0, "")
      withdraw()
      assert.deepStrictEqual(told, [])
      yield* settle
      assert.deepStrictEqual(told.splice(0), ["c Failure"])
      begin("e")
      assert.deepStrictEqual(told, ["e Failure"])
    }))

  it.effect("hands over what came before somebody takes it, then what comes, and asks for one at a time", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      yield* Fiber.interrupt(yield* started(connection.acceptUni))
      const natives = [new FakeReceive(), new FakeReceive(), new FakeReceive()]
      yield* Effect.promise(() => session.incomingUnis.answer(natives[0]!))
      const taken: Array<ReceiveStream> = []
      connection.onUni!((receive) => void taken.push(receive))
      assert.strictEqual(taken.length, 1)
      for (const native of natives.slice(1)) {
        assert.strictEqual(session.incomingUnis.waiting, 1)
        yield* Effect.promise(() => session.incomingUnis.answer(native))
      }
      assert.strictEqual(taken.length, 3)
      for (const receive of taken) yield* receive.stop(3)
      assert.deepStrictEqual(natives.map((native) => native.stops.all), [[[3]], [[3]], [[3]]])
      yield* connection.close(0, "")
      yield* Effect.promise(() => session.incomingUnis.answer(new FakeReceive()))
      assert.deepStrictEqual([taken.length, session.incomingUnis.waiting], [3, 0])
    }))

  it.effect("hands over nothing more once the function has closed it", () =>
    Effect.gen(function*() {
      const { connection, session } = yield* connected
      const waiting: Array<Fiber.Fiber<unknown, unknown>> = []
      let asked = 0
      Object.assign(session, {
        acceptUni: () => {
          // two came at once, for nobody any more
          if (++asked === 2) { for (const fiber of waiting) fiber.interruptUnsafe() }
          return Promise.resolve(new FakeReceive())
        }
      })
      waiting.push(yield* started(connection.acceptUni), yield* started(connection.acceptUni))
      yield* settle
      assert.strictEqual(asked, 2)
      const taken: Array<ReceiveStream> = []
      connection.onUni!((receive) => {
        taken.push(receive)
        Effect.runSync(connection.close(5, ""))
      })
      yield* settle
      assert.deepStrictEqual([taken.length, asked], [1, 2])
      assert.strictEqual(((yield* Effect.flip(taken[0]!.pull)) as SessionClosed).code, 5)
    }))

  it.effect("closes a session that comes for nobody", () =>
    Effect.gen(function*() {
      const session = new FakeSession()
      let open: (session: FakeSession) => void = () => {}
      const connecting = yield* started(Effect.scoped(Http3Connection.make({
        session: () => new Promise((resolve) => (open = resolve)),
        explain: () => new TransportError({})
      })))
      yield* Fiber.interrupt(connecting)
      open(session)
      yield* settle
      assert.deepStrictEqual(session.closes, [[0, ""]])
    }))
})
