import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import * as WebTransport from "../../src/transport/WebTransport.ts"
import { makeObjectPair, type ObjectPair } from "./objectPair.ts"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

const heapUsed = Effect.sync(() => {
  collect()
  return process.memoryUsage().heapUsed
})

const memory: TransportConformance.Harness = {
  pair: Effect.map(Memory.pair(), ([client, server]) => ({ client, server })),
  kill: ({ client }) => Memory.kill(client),
  idle: TestClock.adjust("10 minutes"),
  heapUsed
}

const objectOptions: WebTransport.Options = {
  info: { transport: "websocket", peer: undefined },
  capabilities: { codes: "any", maxStreams: 10_000 }
}

const objectsOf = new WeakMap<Connection, ObjectPair>()

const objects: TransportConformance.Harness = {
  pair: Effect.gen(function*() {
    const pair = makeObjectPair()
    const client = yield* WebTransport.fromObject(pair.client, objectOptions)
    const server = yield* WebTransport.fromObject(pair.server, objectOptions)
    objectsOf.set(client, pair)
    return { client, server }
  }),
  kill: ({ client }) => Effect.sync(() => objectsOf.get(client)!.client.break("the wire was cut")),
  heapUsed
}

// every case passes but for these
const unlessDeclared = (exceptions: Record<string, TransportConformance.Outcome["_tag"]>) => {
  return ({ rule, run }: TransportConformance.Case) =>
    Effect.map(run, ({ _tag }) => assert.strictEqual(_tag, exceptions[rule] ?? "Passed"))
}

describe("Memory", () => {
  const check = unlessDeclared({ "a ping succeeds while the peer is alive": "Declared" })
  for (const one of TransportConformance.cases(memory)) it.effect(one.rule, () => check(one), 60_000)
})

describe("WebTransport.fromObject", () => {
  const check = unlessDeclared({
    "a ping succeeds while the peer is alive": "Declared",
    "with the declared number of streams open, opening one more waits, and goes on when streams close": "Declared",
    "an opening that is interrupted while it waits for a place takes none": "Declared",
    "a connection with nothing to say lives on": "NotChecked"
  })
  for (const one of TransportConformance.cases(objects)) it.live(one.rule, () => check(one), 60_000)
})
