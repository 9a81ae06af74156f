import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { readFileSync } from "node:fs"
import { capabilities as browserHttp3 } from "../../src/browser/NativeWebTransport.ts"
import { capabilities as http3 } from "../../src/node/Http3Connection.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Capabilities } from "../../src/transport/Transport.ts"
import * as peers from "../node/fixtures/peers.ts"

const [header, , ...rows] = readFileSync(new URL("../../docs/transports.md", import.meta.url), "utf8")
  .split("\n")
  .filter((line, i, lines) => line.startsWith("|") && lines.slice(0, i + 1).some((l) => l.startsWith("| capability")))
  .slice(0, 10)
  .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", "")))

const told = (column: string): Record<string, string> => {
  const at = header!.indexOf(column)
  return Object.fromEntries(rows.map((row) => [row[0]!, row[at]!]))
}

const shown = (capabilities: Partial<Capabilities>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(capabilities).map(([name, value]) => [
      name,
      value === true ?
        "yes" :
        value === false ?
        "no" :
        value === Infinity ?
        "never" :
        `${typeof value === "number" ? Math.floor(value) : value}`
    ])
  )

describe("the table of docs/transports.md", () => {
  it.live("has the capabilities of WebSocket and HTTP/2", () =>
    Effect.gen(function*() {
      for (const name of ["websocket", "h2"] as const) {
        const bound = yield* peers.server({ transports: [name] })
        const accepting = yield* peers.acceptNext(bound)
        const client = yield* NodeTransport.make({ transports: [name] }).connect(new URL(bound.urls[0]!), {
          fingerprints: [bound.fingerprint!]
        })
        yield* Fiber.join(accepting)
        assert.deepStrictEqual(told(name), shown(client.capabilities))
      }
    }))

  it.effect("has those of memory and of HTTP/3", () =>
    Effect.gen(function*() {
      const [client] = yield* Memory.pair()
      assert.deepStrictEqual(told("memory"), shown(client.capabilities))
      assert.deepStrictEqual(told("h3 (Node)"), shown(http3))
      assert.deepStrictEqual(told("h3 (browser)"), shown(browserHttp3))
    }))
})
