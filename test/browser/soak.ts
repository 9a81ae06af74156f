/** The rules of the transport contract that take a page some minutes: tens of thousands of streams, and what they leave. */
import { describe, layer } from "@effect/vitest"
import * as Bridge from "./bridge.ts"
import * as Relays from "./relays.ts"

for (const transport of Relays.here) {
  describe(`the transport contract over ${transport}, in a page`, () => {
    layer(Bridge.layer, { excludeTestServices: true, timeout: 60_000 })((it) => {
      for (const rule of Bridge.long) {
        it.effect(rule, () => Bridge.check({ rule, spec: { transport, network: false } }), 600_000)
      }
    })
  })
}
