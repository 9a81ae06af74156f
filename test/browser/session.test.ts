/** Sessions of a page: over HTTP/3 with a pinned certificate, and over WebSocket. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import * as Certificate from "../../src/node/Certificate.ts"
import * as Chromium from "./chromium.ts"
import * as Relays from "./relays.ts"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const megabyte = new Uint8Array(1024 * 1024).fill(7)

/** Runs the scenario "application" against a relay with a publisher of `room/clock`, and checks what both sides saw. */
const application = Effect.fnUntraced(function*(offered: ReadonlyArray<Relays.Name>, expected: Relays.Name) {
  const relay = yield* Relays.relay(offered)
  const session = yield* relay.session
  const broadcast = yield* session.broadcast(["room"])
  const clock = yield* broadcast.track("clock")
  const group = yield* clock.appendGroup
  yield* group.writeFrame(bytes("one"))

  const published = yield* Deferred.make<void>()
  const listening = yield* Effect.forkScoped(
    Effect.gen(function*() {
      const chat = yield* session.subscribe(["page", "chat"], { wait: "20 seconds" })
      yield* Deferred.succeed(published, undefined)
      return yield* Stream.runCollect(Stream.take(chat.frames, 2))
    }).pipe(Effect.scoped)
  )
  const page = yield* Chromium.open({
    watching: () =>
      Effect.andThen(group.writeFrame(bytes("two")), group.writeFrame(bytes("three"))).pipe(
        Effect.andThen(group.finish)
      ),
    published: () => Deferred.await(published),
    heard: () => Effect.asVoid(Fiber.join(listening))
  })
  assert.deepStrictEqual(yield* page.run("application", relay.target), {
    transport: expected,
    seen: ["room/clock", "live"],
    watched: ["one", "two", "three"],
    fetched: ["one", "two", "three"],
    missing: "MoqNotFound"
  })
  const [hello, large] = yield* Fiber.join(listening)
  assert.deepStrictEqual(hello, bytes("hello"))
  assert.isTrue(Buffer.compare(large!, megabyte) === 0, "a frame of 1 MiB as it was")
  return page
})

layer(Chromium.layer, { excludeTestServices: true, timeout: 60_000 })("a page", (it) => {
  it.effect.runIf(Relays.here.includes("h3"))(
    "watches, publishes, fetches and sees what is announced, over HTTP/3 with a pinned certificate",
    () =>
      Effect.gen(function*() {
        const page = yield* application(["h3", "websocket"], "h3")
        const { webSocketChunk } = yield* Chromium.Chromium
        assert.notInclude(page.requests, webSocketChunk, "the code for WebSocket is not loaded")
      }),
    60_000
  )

  it.effect(
    "does the same over WebSocket where there is no HTTP/3, and then loads the code for it",
    () =>
      Effect.gen(function*() {
        const page = yield* application(["websocket"], "websocket")
        const { webSocketChunk } = yield* Chromium.Chromium
        assert.include(page.requests, webSocketChunk)
      }),
    60_000
  )

  for (const transport of Relays.here) {
    it.effect(`closing its session is a clean close for the relay, over ${transport}`, () =>
      Effect.gen(function*() {
        const relay = yield* Relays.relay([transport])
        const page = yield* Chromium.open({ connected: () => Effect.void })
        yield* page.run("leave", relay.target)
        const { by, code } = yield* relay.nextEvent("SessionClosed")
        assert.deepStrictEqual({ by, code }, { by: "remote", code: 0 })
      }), 60_000)

    it.effect(`that is closed by its user is lost to the relay, over ${transport}`, () =>
      Effect.gen(function*() {
        const relay = yield* Relays.relay([transport])
        const scope = yield* Scope.fork(yield* Effect.scope)
        const connected = yield* Deferred.make<unknown>()
        const page = yield* Chromium.open({ connected: (transport) => Deferred.succeed(connected, transport) }).pipe(
          Scope.provide(scope)
        )
        yield* Effect.forkScoped(Effect.exit(page.run("stay", relay.target)))
        assert.strictEqual(yield* Deferred.await(connected), transport)
        yield* Scope.close(scope, Exit.void)
        yield* relay.nextEvent("SessionClosed")
      }), 60_000)

    it.effect(`learns of a relay that is killed, over ${transport}`, () =>
      Effect.gen(function*() {
        const relay = yield* Relays.killable({ transports: [transport] })
        const page = yield* Chromium.open({ connected: () => relay.kill })
        const ended = yield* page.run("stay", Relays.targetOf(relay))
        assert.deepStrictEqual(ended, { by: "transport", code: 4, later: "MoqSessionClosed" })
      }), 60_000)

    it.effect(`comes back after a relay was killed, over ${transport}`, () =>
      Effect.gen(function*() {
        const tls = transport === "h3" ? yield* Certificate.generate({ hosts: ["127.0.0.1"] }) : undefined
        const relay = yield* Relays.killable({ transports: [transport], tls, frame: "before" })
        const page = yield* Chromium.open({
          before: () =>
            Effect.andThen(
              relay.kill,
              Relays.killable({ transports: [transport], tls, port: relay.port, frame: "after" })
            ).pipe(Scope.provide(scope))
        })
        const scope = yield* Effect.scope
        const { frames, statuses, transport: last } = yield* page.run("reconnect", {
          ...Relays.targetOf(relay),
          fingerprints: [tls?.fingerprint ?? relay.fingerprint!]
        })
        assert.deepStrictEqual({ frames, last }, { frames: ["before", "after"], last: transport })
        assert.deepStrictEqual([...new Set(statuses)], ["Connected", "Waiting", "Connecting"])
        assert.strictEqual(statuses.at(-1), "Connected")
      }), 60_000)
  }
})
