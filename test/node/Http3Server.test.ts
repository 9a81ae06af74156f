import { afterEach, assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, PubSub, Queue, Scope, Stream } from "effect"
import { vi } from "vitest"
import * as Http3Server from "../../src/node/Http3Server.ts"
import type { KeyRing } from "../../src/node/KeyRing.ts"
import type { Client, Lobby } from "../../src/node/Lobby.ts"
import { fakeBinding, FakeRequest, FakeSession, settled } from "./fixtures/http3.ts"

const settle = Effect.promise(settled)

afterEach(() => {
  vi.useRealTimers()
})

const pass = (millis: number) => Effect.promise(() => vi.advanceTimersByTimeAsync(millis).then(settled))

/** A server over a binding that does nothing by itself, in a scope that the test closes. */
const served = (
  options?: { readonly ring?: KeyRing; readonly host?: string; readonly fake?: ReturnType<typeof fakeBinding> }
) =>
  Effect.gen(function*() {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] })
    const fake = options?.fake ?? fakeBinding()
    const admitted: Array<Client> = []
    const lobby: Lobby = {
      admit: (client) => {
        admitted.push(client)
        return { leave: () => {} }
      },
      requests: Stream.never
    }
    const warnings: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void warnings.push(String(message)))
    const ring = options?.ring ?? {
      generated: true,
      currentUnsafe: () => ({ cert: "cert", key: "key", fingerprint: "" }),
      changes: Stream.never
    }
    const scope = yield* Scope.make()
    yield* Http3Server.makeWith(fake.binding, {
      addresses: [{ host: options?.host ?? "127.0.0.1", port: 4443 }],
      ring,
      lobby,
      renewGrace: 1_000
    }).pipe(Scope.provide(scope), Effect.provide(Logger.layer([logger])))
    const close = Scope.close(scope, Exit.void).pipe(Effect.provide(Logger.layer([logger])))
    return { ...fake, admitted, warnings, close }
  })

// made in a frame of its own, so that nothing refers to it
const leaveIn = (registry: FinalizationRegistry<undefined>) => registry.register({ session: "over" }, undefined)

describe("a server of native HTTP/3", () => {
  it.effect("lets clients wait with the URL that they ask for", () =>
    Effect.gen(function*() {
      const { admitted, server } = yield* served()
      const request = new FakeRequest("https://localhost:4443/room?token=a")
      yield* Effect.promise(() => server.accepts.answer(request))
      assert.strictEqual(server.accepts.waiting, 1)
      const [client] = admitted
      assert.strictEqual(client!.url.href, "https://localhost:4443/room?token=a")
      assert.strictEqual(client!.transport, "h3")
      client!.refuse(403)
      assert.deepStrictEqual(request.rejects.all, [[403]])
    }))

  it.effect("refuses a client whose URL is none, and forgets one that leaves before it says it", () =>
    Effect.gen(function*() {
      const { admitted, server } = yield* served()
      const odd = new FakeRequest("://")
      yield* Effect.promise(() => server.accepts.answer(odd))
      assert.deepStrictEqual(odd.rejects.all, [[400]])
      yield* Effect.promise(() => server.accepts.answer(new FakeRequest(Promise.reject(new Error("it left")))))
      assert.deepStrictEqual(admitted, [])
      assert.strictEqual(server.accepts.waiting, 1)
    }))

  it.effect("tries again in a second when accepting fails", () =>
    Effect.gen(function*() {
      const { server } = yield* served()
      yield* Effect.promise(() => server.accepts.fail("strange"))
      assert.strictEqual(server.accepts.waiting, 0)
      yield* pass(1_000)
      yield* Effect.promise(() => server.accepts.answer(null))
      assert.strictEqual(server.accepts.waiting, 0)
      yield* pass(1_000)
      assert.strictEqual(server.accepts.waiting, 1)
    }))

  it.effect("connects to itself before it closes, because closing would wait for a client", () =>
    Effect.gen(function*() {
      for (const [host, own] of [["127.0.0.1", "127.0.0.1"], ["::", "[::1]"], ["0.0.0.0", "127.0.0.1"]] as const) {
        const { close, connects, server } = yield* served({ host })
        const closing = yield* Effect.forkChild(close, { startImmediately: true })
        yield* settle
        assert.deepStrictEqual(connects.all, [[`https://${own}:4443/`]])
        assert.isFalse(server.closed)
        const request = new FakeRequest("https://127.0.0.1:4443/")
        yield* Effect.promise(() => server.accepts.answer(request))
        yield* Fiber.join(closing)
        assert.isTrue(server.closed)
        assert.deepStrictEqual(request.rejects.all, [[503]])
        assert.strictEqual(server.accepts.waiting, 0)
      }
    }))

  it.effect("does not wait for ever where it cannot reach itself, and closes when somebody comes", () =>
    Effect.gen(function*() {
      const { admitted, close, connects, server, warnings } = yield* served()
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      yield* settle
      yield* Effect.promise(() => connects.fail("connection error: timed out"))
      assert.isUndefined(closing.pollUnsafe())
      yield* pass(2_000)
      yield* Fiber.join(closing)
      assert.isFalse(server.closed)
      assert.include(warnings.join(), "UDP 127.0.0.1:4443 stays bound until the next client comes to it")
      const late = new FakeRequest("https://127.0.0.1:4443/")
      yield* Effect.promise(() => server.accepts.answer(late))
      assert.deepStrictEqual(late.rejects.all, [[503]])
      assert.isTrue(server.closed)
      assert.deepStrictEqual(admitted, [])
    }))

  it.effect("collects what is left of sessions that are over, when it wants a port again that they hold", () =>
    Effect.gen(function*() {
      const first = yield* served()
      const closing = yield* Effect.forkChild(first.close, { startImmediately: true })
      yield* settle
      yield* Effect.promise(() => first.server.accepts.answer(new FakeRequest("https://127.0.0.1:4443/")))
      yield* Fiber.join(closing)
      let held = true
      const registry = new FinalizationRegistry(() => {
        held = false
      })
      leaveIn(registry)
      const fake = fakeBinding()
      let attempts = 0
      const { bind } = fake.binding.NapiServer
      Object.assign(fake.binding.NapiServer, {
        bind: (...args: Parameters<typeof bind>) => {
          attempts++
          if (held) throw new Error("io error: Address already in use (os error 98)")
          return bind(...args)
        }
      })
      const serving = yield* Effect.forkChild(served({ fake }), { startImmediately: true })
      for (let i = 0; i < 20 && serving.pollUnsafe() === undefined; i++) yield* pass(100)
      yield* Fiber.join(serving)
      assert.isAbove(attempts, 1)
    }))

  it.effect("fails at once when the port is another's", () =>
    Effect.gen(function*() {
      const fake = fakeBinding()
      Object.assign(fake.binding.NapiServer, {
        bind: () => {
          throw new Error("io error: Address already in use (os error 98)")
        }
      })
      const error = yield* Effect.flip(served({ fake, host: "127.0.0.2" }))
      assert.strictEqual(error.detail, "UDP 127.0.0.2:4443 is in use")
    }))

  it.effect("does not bind again for a certificate that it has already", () =>
    Effect.gen(function*() {
      const changes = yield* Queue.unbounded<ReturnType<KeyRing["currentUnsafe"]>>()
      let current = { cert: "one", key: "key", fingerprint: "" }
      const { bound, connects, server } = yield* served({
        ring: { generated: true, currentUnsafe: () => current, changes: Stream.fromQueue(changes) }
      })
      yield* Queue.offer(changes, current)
      yield* settle
      assert.deepStrictEqual(connects.all, [])
      current = { cert: "two", key: "key", fingerprint: "" }
      yield* Queue.offerAll(changes, [current, current])
      yield* settle
      yield* Effect.promise(() => server.accepts.answer(new FakeRequest("https://127.0.0.1:4443/")))
      assert.strictEqual(bound.length, 2)
      assert.strictEqual(connects.all.length, 1)
      assert.strictEqual(server.accepts.waiting, 1)
    }))

  it.effect("shows a certificate that came while it was being bound", () =>
    Effect.gen(function*() {
      const changes = yield* PubSub.sliding<ReturnType<KeyRing["currentUnsafe"]>>(1)
      let current = { cert: "one", key: "key", fingerprint: "" }
      const fake = fakeBinding()
      const shown: Array<string> = []
      Object.assign(fake.binding.NapiServer, {
        bind: (_address: string, cert: Buffer) => {
          shown.push(cert.toString())
          current = { cert: "two", key: "key", fingerprint: "" }
          PubSub.publishUnsafe(changes, current)
          return fake.server
        }
      })
      yield* served({
        fake,
        ring: { generated: true, currentUnsafe: () => current, changes: Stream.fromPubSub(changes) }
      })
      yield* settle
      yield* Effect.promise(() => fake.server.accepts.answer(new FakeRequest("https://127.0.0.1:4443/")))
      assert.deepStrictEqual(shown, ["one", "two"])
    }))

  it.effect("counts a session from when it is let in until it is over", () =>
    Effect.gen(function*() {
      const changes = yield* Queue.unbounded<ReturnType<KeyRing["currentUnsafe"]>>()
      let current = { cert: "one", key: "key", fingerprint: "" }
      const { admitted, bound, server } = yield* served({
        ring: { generated: true, currentUnsafe: () => current, changes: Stream.fromQueue(changes) }
      })
      const request = new FakeRequest("https://127.0.0.1:4443/")
      yield* Effect.promise(() => server.accepts.answer(request))
      const accepting = yield* Effect.forkChild(admitted[0]!.accept, { startImmediately: true })
      const session = new FakeSession()
      yield* Effect.promise(() => request.oks.answer(session))
      const connection = yield* Fiber.join(accepting)
      current = { cert: "two", key: "key", fingerprint: "" }
      yield* Queue.offer(changes, current)
      yield* settle
      yield* Effect.promise(() => server.accepts.answer(new FakeRequest("https://127.0.0.1:4443/")))
      // it is open, and may stay so for a while
      assert.strictEqual(bound.length, 1)
      yield* connection.close(0, "")
      yield* Effect.promise(() => session.ends.answer({ closeCode: 0, reason: "" }))
      assert.strictEqual(bound.length, 2)
    }))
})
