/** How a page gets a connection, or none. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as peers from "../node/fixtures/peers.ts"
import * as Chromium from "./chromium.ts"
import * as Relays from "./relays.ts"

const fingerprint = "ab".repeat(32)

layer(Chromium.layer, { excludeTestServices: true, timeout: 60_000 })("a page connects", (it) => {
  it.effect("over WebSocket where UDP is silently dropped, and the next time at once", () =>
    Effect.gen(function*() {
      const relay = yield* Relays.relay(["websocket"])
      const { senders } = yield* Relays.silence(relay.port)
      const page = yield* Chromium.open()
      assert.strictEqual(yield* page.run("connect", relay.target), "websocket")
      assert.strictEqual(senders.size, 1, "HTTP/3 was tried first")
      assert.strictEqual(yield* page.run("connect", relay.target), "websocket")
      assert.strictEqual(senders.size, 1, "and not again")
    }), 60_000)

  it.effect("not at all where nothing listens, and says so in words", () =>
    Effect.gen(function*() {
      const port = yield* Effect.scoped(peers.tcpServer(() => {}))
      const page = yield* Chromium.open()
      const { message, tag } = yield* Effect.flip(
        page.run("connect", { url: `https://127.0.0.1:${port}`, fingerprints: [fingerprint] })
      )
      assert.strictEqual(tag, "MoqTransportError")
      assert.match(message, /h3: .*nothing listens.*; websocket: .*nothing listens/)
    }), 60_000)

  it.effect.runIf(Relays.here.includes("h3"))(
    "not where the certificate is another one than the pinned one",
    () =>
      Effect.gen(function*() {
        const relay = yield* Relays.relay(["h3"])
        const page = yield* Chromium.open()
        const { message, tag } = yield* Effect.flip(
          page.run("connect", { ...relay.target, transports: ["h3"], fingerprints: [fingerprint] })
        )
        assert.strictEqual(tag, "MoqTransportError")
        assert.include(message, "another certificate than the pinned one")
      }),
    60_000
  )

  it.effect("not where the relay refuses it", () =>
    Effect.gen(function*() {
      for (const transport of Relays.here) {
        const relay = yield* Relays.relay([transport])
        const page = yield* Chromium.open()
        const { message, tag } = yield* Effect.flip(
          page.run("connect", { ...relay.target, url: `${relay.target.url}/%zz`, transports: [transport] })
        )
        assert.strictEqual(tag, "MoqTransportError", transport)
        assert.include(message, "the relay refused")
      }
    }), 60_000)

  it.effect("not with what a browser cannot do, and says what it can", () =>
    Effect.gen(function*() {
      const page = yield* Chromium.open()
      const refused = [
        [{ url: "https://127.0.0.1:1", insecure: true }, "pin the fingerprint"],
        [{ url: "https://127.0.0.1:1", roots: ["a certificate"] }, "pin the fingerprint"],
        [{ url: "https://127.0.0.1:1", fingerprints: ["12:34"] }, "\"12:34\" is not a SHA-256 fingerprint"],
        [{ url: "moqf://127.0.0.1:1" }, "use https://127.0.0.1:1"],
        [{ url: "ftp://127.0.0.1:1" }, "use https://127.0.0.1:1"],
        [{ url: "ws://relay.example:1" }, "use https://relay.example:1"],
        [{ url: "wss://127.0.0.1:1", transports: ["h3"] }, "use https://127.0.0.1:1"],
        [
          { url: "wss://relay.example:1", fingerprints: [fingerprint] },
          "a browser cannot pin the certificate of a WebSocket"
        ]
      ] as const
      for (const [target, words] of refused) {
        const { message, tag } = yield* Effect.flip(page.run("connect", target))
        assert.strictEqual(tag, "MoqTransportError", target.url)
        assert.include(message, words)
      }
      yield* page.run("hide", "WebTransport")
      const { message } = yield* Effect.flip(page.run("connect", { url: "https://127.0.0.1:1", transports: ["h3"] }))
      assert.include(message, "this browser has no WebTransport")
    }), 60_000)

  it.effect("and leaves nothing behind when that is interrupted, or takes too long", () =>
    Effect.gen(function*() {
      // it takes TCP connections and UDP packets, and answers none
      const port = yield* peers.tcpServer(() => {})
      yield* Relays.silence(port)
      const page = yield* Chromium.open()
      const to = { url: `https://127.0.0.1:${port}`, fingerprints: [fingerprint] }
      assert.deepStrictEqual(yield* page.run("interrupt", to), { made: 2, open: 0 })
      for (const transports of [["h3"], ["websocket"]] as const) {
        assert.deepStrictEqual(
          yield* page.run("timeout", { ...to, transports, timeout: "300 millis" }),
          { error: "MoqTimeout", made: 1, open: 0 }
        )
      }
    }), 60_000)
})
