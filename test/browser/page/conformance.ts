/** The conformance suite in the page, with both ends of each connection. */
import { Effect, Exit, Fiber } from "effect"
import { BrowserTransport } from "effect-moq/browser"
import { TransportConformance } from "effect-moq/testing"
import * as Bridge from "./bridge.ts"
import { limitsOf, type Spec } from "./bridgeMessages.ts"

/** By `--expose-gc`. */
declare const gc: () => void

declare const performance: Performance & { readonly memory: { readonly usedJSHeapSize: number } }

type Pair = Effect.Success<ReturnType<typeof Bridge.pair>>

/** A rule, and on what it is checked. */
export interface Check {
  readonly bridge: number
  readonly rule: string
  readonly spec: Spec
}

const transportOf = (spec: Spec) => BrowserTransport.make({ transports: [spec.transport], limits: limitsOf(spec) })

/** What becomes of one rule. */
export const check = Effect.fnUntraced(function*({ bridge, rule, spec }: Check) {
  const client = yield* Bridge.connect(bridge)
  const transport = transportOf(spec)
  const pairs = new WeakMap<TransportConformance.Pair, Pair>()
  const over = (what: "kill" | "silence" | "narrow") => (pair: TransportConformance.Pair) =>
    pairs.get(pair)!.network(what)
  const one = TransportConformance.cases({
    // each operation on the other end is a message there and back
    timeout: "9 minutes",
    pair: Effect.map(Bridge.pair(client, spec, transport), (pair) => {
      const { client, server } = pair
      // the end in Node has limits of its own
      const resetPastWrite = client.capabilities.resetPastWrite && server.capabilities.resetPastWrite
      const both = {
        client: Object.assign(client, { capabilities: { ...client.capabilities, resetPastWrite } }),
        server
      }
      pairs.set(both, pair)
      return both
    }),
    heapUsed: Effect.andThen(
      Effect.andThen(Effect.sync(() => gc()), Effect.sleep("50 millis")),
      Effect.sync(() => performance.memory.usedJSHeapSize)
    ),
    ...spec.network && {
      kill: over("kill"),
      silence: over("silence"),
      // only where the page declares an order of its own
      ...spec.transport === "websocket" && { narrow: over("narrow") },
      idle: Effect.sleep(spec.transport === "websocket" ? "3 seconds" : "38 seconds")
    }
  }).find((one) => one.rule === rule)!
  const outcome: TransportConformance.Result["outcome"] = yield* Effect.catch(
    one.run,
    ({ detail }) => Effect.succeed({ _tag: "Failed" as const, detail })
  )
  return { outcome }
})

/** How many bytes arrive of a write that the reader has blocked, when the page resets its stream. */
export const resetPastWrite = Effect.fnUntraced(function*({ bridge, spec }: Omit<Check, "rule">) {
  const { client, server } = yield* Bridge.pair(yield* Bridge.connect(bridge), spec, transportOf(spec))
  const send = yield* client.openUni()
  yield* send.write([Uint8Array.of(1)])
  const receive = yield* server.acceptUni
  const writing = yield* Effect.forkScoped(send.write([new Uint8Array(16 * 1024 * 1024)]))
  yield* Effect.sleep("500 millis")
  const wasBlocked = writing.pollUnsafe() === undefined
  yield* send.reset(31)
  yield* Fiber.await(writing)
  let arrived = 0
  const end = yield* Effect.exit(
    Effect.forever(Effect.map(receive.pull, (chunks) => {
      for (const chunk of chunks) arrived += chunk.length
    }))
  )
  const isReset = Exit.isFailure(end) && String(end.cause).includes("31")
  return { wasBlocked, isReset, arrived }
})
