/**
 * A relay, in ten lines. It runs until Ctrl-C.
 *
 *   npm run example relay
 *   npm run example clock publish                      # in another terminal
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { NodeTransport } from "effect-moq/node"
import { Relay } from "effect-moq/relay"

const RelayLayer = Relay.layer().pipe(
  Layer.provide(NodeTransport.layerServer({ port: Number(process.argv[2] ?? 4443), tls: { generate: ["localhost"] } }))
)

const program = Effect.gen(function*() {
  const { urls } = yield* Relay.Relay
  yield* Console.log(`relay at ${urls[0]}`)
  return yield* Effect.never
})

program.pipe(Effect.provide(RelayLayer), NodeRuntime.runMain)
