import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Net from "node:net"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as http2 from "../node/fixtures/http2.ts"
import * as peers from "../node/fixtures/peers.ts"

const kills = new WeakMap<TransportConformance.Pair, Effect.Effect<void>>()

// a proxy in between dies with the client: what a kernel does with the sockets of a killed process
const pair = Effect.gen(function*() {
  const bound = yield* http2.server()
  const through = new Set<Net.Socket>()
  const port = yield* peers.tcpServer((near) => {
    const far = Net.connect(bound.port, "127.0.0.1")
    for (const socket of [near, far]) {
      socket.on("error", () => {})
      through.add(socket)
    }
    near.pipe(far).pipe(near)
  })
  const accepting = yield* http2.acceptNext(bound)
  const client = yield* http2.connect({ ...bound, port })
  const pair = { client, server: yield* Fiber.join(accepting) }
  kills.set(pair, Effect.sync(() => through.forEach((socket) => socket.resetAndDestroy())))
  return pair
})

const heapUsed = Effect.sync(() => {
  V8.setFlagsFromString("--expose-gc")
  const collect = Vm.runInNewContext("gc") as () => void
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
})

describe("HTTP/2", () => {
  const cases = TransportConformance.cases({
    pair: Effect.flatMap(http2.server(), (bound) => http2.pair(bound)),
    heapUsed
  })
  for (const { needs, rule, run } of cases) {
    if (needs === "kill" || needs === "idle") continue
    it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 90_000)
  }
})

describe("HTTP/2 with little patience", () => {
  const short = { idleTimeout: 600 }
  const cases = TransportConformance.cases({
    pair: Effect.flatMap(http2.server(short), (bound) => http2.pair(bound, short)),
    idle: Effect.sleep("2 seconds")
  })
  for (const { needs, rule, run } of cases) {
    if (needs !== "idle") continue
    it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 30_000)
  }
})

describe("HTTP/2 of a process that is killed", () => {
  const cases = TransportConformance.cases({ pair, kill: (pair) => Effect.suspend(() => kills.get(pair)!) })
  for (const { needs, rule, run } of cases) {
    if (needs !== "kill") continue
    it.live(rule, () => Effect.map(run, (outcome) => assert.strictEqual(outcome._tag, "Passed")), 30_000)
  }
})
