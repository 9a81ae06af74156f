import { assert, describe, it } from "@effect/vitest"
import { type Cause, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { SessionClosed, StreamReset } from "../../src/core/MoqError.ts"
import * as WebTransport from "../../src/transport/WebTransport.ts"
import { makeObjectPair, type ObjectOptions } from "./objectPair.ts"

const info = { transport: "websocket", peer: undefined } as const

const connect = (options?: ObjectOptions & { readonly client?: Partial<WebTransport.Options> }) =>
  Effect.gen(function*() {
    const objects = makeObjectPair(options)
    const client = yield* WebTransport.fromObject(objects.client, { info, ...options?.client })
    const server = yield* WebTransport.fromObject(objects.server, { info })
    return { objects, client, server }
  })

// everything that is on its way within the process has arrived
const settle = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

type Bytes = Uint8Array<ArrayBuffer>

describe("write", () => {
  it.live("joins small chunks, and passes large ones on as views", () =>
    Effect.gen(function*() {
      const { client, objects, server } = yield* connect({ client: { chunkSize: 100 } })
      const send = yield* client.openUni()
      const header = Uint8Array.of(1, 2, 3)
      const payload = new Uint8Array(350).fill(9)
      yield* send.write([header, new Uint8Array(45).fill(8), new Uint8Array(0), payload, Uint8Array.of(4)])
      yield* send.write([new Uint8Array(0)])
      yield* send.write([new Uint8Array(49).fill(5), new Uint8Array(49).fill(6), new Uint8Array(49).fill(7)])
      yield* send.finish
      assert.deepStrictEqual(objects.client.writes, [48, 100, 100, 100, 50, 1, 98, 49])
      const receive = yield* server.acceptUni
      const all: Array<number> = []
      yield* Effect.forever(Effect.map(receive.pull, (chunks) => chunks.forEach((chunk) => all.push(...chunk)))).pipe(
        Effect.exit
      )
      assert.deepStrictEqual(
        all,
        [
          ...header,
          ...Array<number>(45).fill(8),
          ...payload,
          4,
          ...Array<number>(49).fill(5),
          ...Array<number>(49).fill(6),
          ...Array<number>(49).fill(7)
        ]
      )
    }))

  it.live("what is joined for one stream serves another that is given the same chunks, and no other", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect()
      const [a, b, c] = [1, 2, 3].map((value) => new Uint8Array(8_000).fill(value)) as [Bytes, Bytes, Bytes]
      const written: ReadonlyArray<[Bytes, Bytes]> = [[a, b], [a, c], [a, b], [b, a], [a, b]]
      for (const chunks of written) {
        const send = yield* client.openUni()
        yield* send.write(chunks)
        yield* send.finish
        const received = yield* (yield* server.acceptUni).pull
        assert.deepStrictEqual(Buffer.concat(received), Buffer.concat(chunks))
      }
    }))

  it.live("after finish fails, and finish again does not", () =>
    Effect.gen(function*() {
      const { client } = yield* connect()
      const send = yield* client.openUni()
      yield* send.finish
      yield* send.finish
      assert.strictEqual((yield* Effect.flip(send.write([Uint8Array.of(1)])))._tag, "MoqStreamReset")
    }))
})

describe("open", () => {
  it.live("passes the priority as sendOrder, and asks to wait for a free place", () =>
    Effect.gen(function*() {
      const { client, objects } = yield* connect()
      yield* client.openUni({ priority: -5 })
      yield* client.openUni()
      yield* client.openBi
      assert.deepStrictEqual(objects.client.opened, [
        { waitUntilAvailable: true, sendOrder: -5 },
        { waitUntilAvailable: true },
        { waitUntilAvailable: true }
      ])
    }))

  it.live("a stream that comes after its opening was interrupted is reset", () =>
    Effect.gen(function*() {
      const { client, objects, server } = yield* connect()
      let openGate = () => {}
      objects.client.gate = new Promise((resolve) => {
        openGate = resolve
      })
      for (const open of [client.openUni(), Effect.map(client.openBi, ({ send }) => send)]) {
        const opening = yield* Effect.forkChild(open, { startImmediately: true })
        yield* Fiber.interrupt(opening)
      }
      openGate()
      const uni = yield* server.acceptUni
      assert.strictEqual(((yield* Effect.flip(uni.pull)) as StreamReset).code, 0)
      const bi = yield* server.acceptBi
      assert.strictEqual(((yield* Effect.flip(bi.receive.pull)) as StreamReset).code, 0)
      const refused = yield* Effect.flip(Effect.forever(bi.send.write([Uint8Array.of(1)])))
      assert.strictEqual((refused as StreamReset).code, 0)
    }))

  it.live("a stream that comes after its scope was closed is reset", () =>
    Effect.gen(function*() {
      const { client, objects, server } = yield* connect()
      let openGate = () => {}
      objects.client.gate = new Promise((resolve) => {
        openGate = resolve
      })
      const scope = yield* Scope.make()
      const opening = yield* Effect.forkChild(Scope.provide(client.openUni(), scope), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      openGate()
      const send = yield* Fiber.join(opening)
      assert.strictEqual(((yield* Effect.flip(send.finish)) as StreamReset).code, 0)
      const receive = yield* server.acceptUni
      assert.strictEqual(((yield* Effect.flip(receive.pull)) as StreamReset).code, 0)
    }))

  it.live("an opening for a function is told of the end, unless it was taken back", () =>
    Effect.gen(function*() {
      const { client, objects } = yield* connect()
      objects.client.gate = new Promise(() => {})
      const told: Array<string> = []
      client.onOpenUni!(undefined, (exit) => told.push(`uni ${exit._tag}`))
      client.onOpenBi!((exit) => told.push(`bi ${exit._tag}`))
      const takeBack = client.onOpenUni!(undefined, () => told.push("taken back"))
      takeBack()
      const late = client.onOpenUni!(undefined, () => told.push("taken back late"))
      yield* client.close(1, "")
      late()
      yield* settle
      assert.deepStrictEqual(told.sort(), ["bi Failure", "uni Failure"])
    }))

  it.live("fails when the connection ends while it waits", () =>
    Effect.gen(function*() {
      const { client, objects } = yield* connect()
      objects.client.gate = new Promise(() => {})
      const opening = yield* Effect.forkChild(Effect.flip(client.openUni()), { startImmediately: true })
      objects.server.close({ closeCode: 7, reason: "enough" })
      const error = yield* Fiber.join(opening)
      assert.deepStrictEqual([error.code, error.reason, error.by], [7, "enough", "remote"])
    }))
})

describe("the end", () => {
  it.live("a stream that fails without a code is reset with 0, or closed with its connection", () =>
    Effect.gen(function*() {
      const { client, objects, server } = yield* connect()
      const raw = yield* Effect.promise(() => objects.client.createUnidirectionalStream())
      const receive = yield* server.acceptUni
      yield* Effect.promise(() => raw.abort("no code at all"))
      assert.strictEqual(((yield* Effect.flip(receive.pull)) as StreamReset).code, 0)
      // the object errors its streams before it says how it was closed
      const send = yield* client.openUni()
      yield* send.write([Uint8Array.of(1)])
      const open = yield* server.acceptUni
      yield* open.pull
      const pulling = yield* Effect.forkChild(Effect.flip(open.pull), { startImmediately: true })
      yield* client.close(31, "over")
      const error = (yield* Fiber.join(pulling)) as SessionClosed
      assert.deepStrictEqual([error._tag, error.code, error.by], ["MoqSessionClosed", 31, "remote"])
    }))

  it.live("a read that throws in place of rejecting is told to who pulls and to who listens", () =>
    Effect.gen(function*() {
      const throwing = () =>
        Object.assign(new ReadableStream<Uint8Array>(), {
          getReader: () => ({
            read: () => {
              throw Object.assign(new Error("odd"), { streamErrorCode: 7 })
            },
            cancel: () => Promise.resolve()
          })
        })
      const incomingUnidirectionalStreams = new ReadableStream<ReadableStream<Uint8Array>>({
        start: (controller) => [throwing(), throwing()].forEach((stream) => controller.enqueue(stream))
      })
      const server = yield* WebTransport.fromObject(
        Object.assign(makeObjectPair().server, { incomingUnidirectionalStreams }),
        { info }
      )
      const pulled: StreamReset | SessionClosed | Cause.Done = yield* Effect.flip((yield* server.acceptUni).pull)
      const listening = yield* server.acceptUni
      const ends: Array<unknown> = []
      listening.onPull!({ chunks: () => true, end: (exit) => void ends.push(exit) })
      yield* settle
      assert.deepStrictEqual(ends, [Exit.fail(pulled)])
      assert.strictEqual((pulled as StreamReset).code, 7)
    }))

  it.live("stopped gives the code of the peer's stop", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect()
      const send = yield* client.openUni()
      yield* (yield* server.acceptUni).stop(77)
      assert.strictEqual(yield* send.stopped, 77)
    }))

  it.live("a connection that never becomes ready fails, and its object is closed when the wait is interrupted", () =>
    Effect.gen(function*() {
      const broken = Object.assign(makeObjectPair().client, { ready: Promise.reject(new Error("no route")) })
      const error = yield* Effect.flip(WebTransport.fromObject(broken, { info }))
      assert.deepStrictEqual([error.code, error.reason, error.by], [4, "no route", "transport"])

      const { client } = makeObjectPair()
      const slow = Object.assign(client, { ready: new Promise<void>(() => {}) })
      const connecting = yield* Effect.forkChild(Effect.scoped(WebTransport.fromObject(slow, { info })), {
        startImmediately: true
      })
      yield* Fiber.interrupt(connecting)
      assert.deepStrictEqual(yield* Effect.promise(() => slow.closed), { closeCode: 0, reason: "" })
    }))

  it.effect("an object that ends its streams but never says how is given up after a second", () =>
    Effect.gen(function*() {
      const objects = makeObjectPair()
      const mute = Object.assign(objects.client, { closed: new Promise<unknown>(() => {}) })
      const connection = yield* WebTransport.fromObject(mute, { info })
      const accepting = yield* Effect.forkChild(Effect.flip(connection.acceptUni), { startImmediately: true })
      objects.server.close({ closeCode: 1 })
      yield* settle
      assert.strictEqual(accepting.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(accepting)
      assert.deepStrictEqual([error.code, error.by], [4, "transport"])
    }))

  it.live("gives up a ping that has no answer", () =>
    Effect.gen(function*() {
      const { client } = yield* connect({ client: { ping: Effect.never } })
      const asking = yield* Effect.forkChild(Effect.flip(client.ping), { startImmediately: true })
      yield* client.close(3, "")
      assert.strictEqual((yield* Fiber.join(asking)).code, 3)
    }), 5_000)

  it.live("leaves no rejected promise without a handler", () =>
    Effect.gen(function*() {
      const unhandled: Array<unknown> = []
      const listener = (error: unknown) => unhandled.push(error)
      process.on("unhandledRejection", listener)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.off("unhandledRejection", listener)))
      for (const end of ["close", "break", "reset", "stop"] as const) {
        const scope = yield* Scope.make()
        const { client, objects, server } = yield* Scope.provide(connect({ window: 1_000, queue: 4 }), scope)
        const send = yield* Scope.provide(client.openUni(), scope)
        yield* Effect.forkChild(send.write([new Uint8Array(100_000)]), { startImmediately: true })
        const receive = yield* Scope.provide(server.acceptUni, scope)
        const { receive: answer } = yield* Scope.provide(client.openBi, scope)
        yield* Effect.forkChild(answer.pull, { startImmediately: true })
        yield* Effect.forkChild(Effect.scoped(client.acceptBi), { startImmediately: true })
        if (end === "close") yield* client.close(1, "")
        if (end === "break") objects.client.break("cut")
        if (end === "reset") yield* send.reset(1)
        if (end === "stop") yield* receive.stop(1)
        yield* settle
        yield* Scope.close(scope, Exit.void)
        yield* settle
      }
      assert.deepStrictEqual(unhandled, [])
    }))

  it.live("a reason and a code of the object's own kind reach the peer through streamError", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const { client, server } = yield* connect({
        client: {
          streamError: (code) => {
            seen.push(code)
            return Object.assign(new Error("mine"), { streamErrorCode: code })
          }
        }
      })
      const { receive, send } = yield* client.openBi
      yield* send.reset(5)
      yield* receive.stop(6)
      const far = yield* server.acceptBi
      assert.strictEqual(((yield* Effect.flip(far.receive.pull)) as StreamReset).code, 5)
      assert.deepStrictEqual(seen, [5, 6])
    }))
})

// the browser's own fits without a cast
export const native = (object: globalThis.WebTransport): WebTransport.WebTransportLike => object
