/** The transport contract in a real browser: the page has one end of each connection, and drives the other one in Node. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Bridge from "./bridge.ts"
import * as Chromium from "./chromium.ts"
import type { Spec } from "./page/bridgeMessages.ts"
import * as Relays from "./relays.ts"

class BridgePort extends Context.Service<BridgePort, number>()("test/browser/BridgePort") {}

const services = Layer.merge(
  Layer.effect(Chromium.Chromium)(Chromium.make(["--js-flags=--expose-gc", "--enable-precise-memory-info"])),
  Layer.effect(BridgePort)(Bridge.make)
)

const cases = TransportConformance.cases({ pair: Effect.die("only their names are wanted") })

const viaNetwork = new Set<TransportConformance.Hook | undefined>(["kill", "silence", "idle", "narrow"])

const declared: Readonly<Record<Relays.Name, ReadonlyArray<string>>> = {
  h3: [
    // by Node's end: what the page's own does is checked below
    "a reset passes a write that is blocked by the peer",
    "a ping succeeds while the peer is alive",
    "of what waits to be sent, streams of a higher rank go first, whichever were opened first"
  ],
  websocket: []
}

layer(services, { excludeTestServices: true, timeout: 60_000 })("the transport contract, in a page", (it) => {
  for (const transport of Relays.here) {
    for (const { needs, rule } of cases) {
      // those are about servers
      if (needs === "server") continue
      const network = viaNetwork.has(needs)
      const spec: Spec = { transport, network, limits: network ? { idleTimeout: "600 millis" } : {} }
      it.effect(`${transport}: ${rule}`, () =>
        Effect.gen(function*() {
          const page = yield* Chromium.open()
          const outcome = yield* page.run("checkRule", { bridge: yield* BridgePort, rule, spec })
          assert.strictEqual(outcome._tag, declared[transport].includes(rule) ? "Declared" : "Passed")
        }), 200_000)
    }

    it.effect(
      `${transport}: a reset passes a write that is blocked by the peer, from the page`,
      () =>
        Effect.gen(function*() {
          const page = yield* Chromium.open()
          const spec: Spec = { transport, network: false, limits: {} }
          const { arrived, ...rest } = yield* page.run("resetPastWrite", { bridge: yield* BridgePort, spec })
          assert.deepStrictEqual(rest, { wasBlocked: true, isReset: true })
          assert.isBelow(arrived, 4 * 1024 * 1024)
        }),
      60_000
    )
  }
})
