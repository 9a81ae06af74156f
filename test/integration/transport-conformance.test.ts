import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Net from "node:net"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as peers from "../node/fixtures/peers.ts"

// a proxy in between dies with the client: what a kernel does with the sockets of a killed process
const killable = Effect.gen(function*() {
  const bound = yield* peers.server()
  const through = new Set<Net.Socket>()
  const port = yield* peers.tcpServer((near) => {
    const far = Net.connect(peers.portOf(bound), "127.0.0.1")
    for (const socket of [near, far]) {
      socket.on("error", () => {})
      through.add(socket)
    }
    near.pipe(far).pipe(near)
  })
  const accepting = yield* peers.acceptNext(bound)
  const client = yield* NodeTransport.make().connect(new URL(`https://127.0.0.1:${port}`), {
    fingerprints: [bound.fingerprint!]
  })
  const pair = { client, server: yield* Fiber.join(accepting) }
  return { pair, kill: Effect.sync(() => through.forEach((socket) => socket.resetAndDestroy())) }
})

const heapUsed = Effect.sync(() => {
  V8.setFlagsFromString("--expose-gc")
  const collect = Vm.runInNewContext("gc") as () => void
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
})

const shortIdle = { idleTimeout: "600 millis" } as const

const kills = new WeakMap<TransportConformance.Pair, Effect.Effect<void>>()

const suite = (name: string, scheme: "https" | "ws") =>
  describe(name, () => {
    const cases = TransportConformance.cases({
      pair: Effect.flatMap(peers.server(), (bound) => peers.pair(bound, scheme)),
      heapUsed
    })
    for (const { needs, rule, run } of cases) {
      if (needs === "kill" || needs === "idle") continue
      it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 90_000)
    }
    for (
      const { needs, rule, run } of TransportConformance.cases({
        pair: Effect.gen(function*() {
          const bound = yield* peers.server({ limits: shortIdle })
          const accepting = yield* peers.acceptNext(bound)
          const client = yield* peers.connect(bound, scheme, shortIdle)
          return { client, server: yield* Fiber.join(accepting) }
        }),
        idle: Effect.sleep("2 seconds")
      })
    ) {
      if (needs !== "idle") continue
      it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 90_000)
    }
  })

suite("WebSocket over TLS", "https")
suite("WebSocket on loopback", "ws")

describe("WebSocket of a process that is killed", () => {
  const cases = TransportConformance.cases({
    pair: Effect.map(killable, ({ kill, pair }) => {
      kills.set(pair, kill)
      return pair
    }),
    kill: (pair) => Effect.suspend(() => kills.get(pair)!)
  })
  for (const { needs, rule, run } of cases) {
    if (needs !== "kill") continue
    it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 30_000)
  }
})
