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
  heapUsed,
  server: Effect.gen(function*() {
    const { listen, transport } = yield* Memory.makeNetwork()
    const server = yield* listen()
    return { server, connect: (path) => transport.connect(new URL(path, server.urls[0])) }
  })
}

const objectOptions: WebTransport.Options = {
  info: { transport: "websocket", peer: undefined },
  capabilities: { codes: "any", maxStreams: 10_000, idleTimeout: Infinity }
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
const unlessExpected = (exceptions: Record<string, TransportConformance.Outcome["_tag"]>) => {
  return ({ rule, run }: TransportConformance.Case) =>
    Effect.map(run, ({ _tag }) => {
      const [, expected] = Object.entries(exceptions).find(([start]) => rule.startsWith(start)) ?? []
      assert.strictEqual(_tag, expected ?? "Passed")
    })
}

describe("Memory", () => {
  const check = unlessExpected({
    "a ping succeeds": "Declared",
    "of what waits to be sent": "Declared",
    "a client that falls silent": "Declared"
  })
  for (const one of TransportConformance.cases(memory)) it.effect(one.rule, () => check(one), 60_000)
})

describe("WebTransport.fromObject", () => {
  const check = unlessExpected({
    "a ping succeeds": "Declared",
    "of what waits to be sent": "Declared",
    "a client that falls silent": "Declared",
    "with the declared number of streams open": "Declared",
    "streams that nobody accepts": "Declared",
    "an opening that is interrupted while it waits": "Declared",
    "a connection with nothing to say": "NotChecked",
    "the path and the query": "NotChecked",
    "a client that is refused": "NotChecked",
    "a client that gives up": "NotChecked",
    "the end of one connection": "NotChecked"
  })
  for (const one of TransportConformance.cases(objects)) it.live(one.rule, () => check(one), 60_000)
})

describe("report", () => {
  const of = (result: TransportConformance.Result) => result

  it.effect("tells what became of every case, and format puts it into lines", () =>
    Effect.gen(function*() {
      const results = yield* TransportConformance.report({
        pair: Effect.map(Memory.pair({ maxStreams: 20 }), ([client, server]) => ({
          client: { ...client, close: (code: number) => client.close(code, "") },
          server
        }))
      })
      assert.lengthOf(results, TransportConformance.cases(memory).length)
      const lines = TransportConformance.format(results).split("\n")
      assert.include(
        lines,
        "passed       1 B arrive whole and in order, in one chunk and in many, on every kind of stream"
      )
      const failed = lines.findIndex((line) => line.startsWith("FAILED"))
      assert.match(lines[failed]!, /^FAILED {7}a close arrives with its code and reason/)
      assert.match(lines[failed + 1]!, /^ {13}.*expected a close by .* with code 6 and reason "not authorised"/)
      assert.match(lines.at(-1)!, /^\d+ passed, 3 declared, 7 not checked, 1 failed$/)
    }), 60_000)

  it("shows what is declared and what was not checked", () => {
    const text = TransportConformance.format([
      of({ rule: "it flies", outcome: { _tag: "Declared", limit: "has no wings" } }),
      of({ rule: "it lives", outcome: { _tag: "NotChecked", needs: "kill" } })
    ])
    assert.deepStrictEqual(text.split("\n"), [
      "declared     it flies",
      "             it has no wings",
      "not checked  it lives",
      "             for want of the hook `kill`",
      "0 passed, 1 declared, 1 not checked, 0 failed"
    ])
  })
})
