/** The transport contract in a real browser: the page has one end of each connection, and drives the other one in Node. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Bridge from "./bridge.ts"
import * as Chromium from "./chromium.ts"
import * as Relays from "./relays.ts"

const cases = TransportConformance.cases({ pair: Effect.die("only their names are wanted") })

const viaNetwork = new Set<TransportConformance.Hook | undefined>(["kill", "silence", "idle", "narrow"])

for (const transport of Relays.here) {
  describe(`the transport contract over ${transport}, in a page`, () => {
    layer(Bridge.layer, { excludeTestServices: true, timeout: 60_000 })((it) => {
      for (const { needs, rule } of cases) {
        // the former are about servers, the latter about minutes: see `soak.ts`
        if (needs === "server" || Bridge.long.has(rule)) continue
        if (transport === "h3" && Bridge.unmet.has(rule)) continue
        const network = viaNetwork.has(needs)
        it.effect(rule, () => Bridge.check({ rule, spec: { transport, network } }), {
          timeout: 200_000,
          // those only wait
          concurrent: network && transport === "h3"
        })
      }

      it.effect("a reset passes a write that is blocked by the peer, from the page", () =>
        Effect.gen(function*() {
          const page = yield* Chromium.open()
          const { arrived, ...rest } = yield* page.run("resetPastWrite", {
            bridge: yield* Bridge.Port,
            spec: { transport, network: false }
          })
          assert.deepStrictEqual(rest, { wasBlocked: true, isReset: true })
          assert.isBelow(arrived, 4 * 1024 * 1024)
        }), 60_000)
    })
  })
}
