import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Command from "../cli/fixtures/command.ts"

const deadline = 60_000

beforeAll(Command.build, deadline)

describe("doctor", () => {
  it.live("finds QUIC, and a session over every transport", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay(["--transport", "h3,websocket,h2"])
      const { code, stderr, stdout } = yield* Command.run(["doctor", url, "--json"])
      assert.deepStrictEqual([code, stderr], [0, ""])
      const events = Command.events(stdout.toString().trim().split("\n"))
      const ok = Object.fromEntries(events.slice(0, -1).map((event) => [event["step"], event["ok"]]))
      assert.deepStrictEqual(ok, {
        name: true,
        tcp: true,
        tls: true,
        certificate: true,
        udp: true,
        h3: true,
        websocket: true,
        h2: true
      })
      assert.deepStrictEqual(events.at(-1), { event: "verdict", ok: true, transports: ["h3", "websocket", "h2"] })
    }), deadline)

  it.live("finds a relay of HTTP/3 alone", () =>
    Effect.gen(function*() {
      const { listening, url } = yield* Command.relay(["--transport", "h3"])
      const { code, stdout } = yield* Command.run(["doctor", url, "--json", "--fingerprint", listening.fingerprint])
      assert.strictEqual(code, 0)
      const events = Command.events(stdout.toString().trim().split("\n"))
      assert.deepStrictEqual(events.at(-1), { event: "verdict", ok: true, transports: ["h3"] })
    }), deadline)
})
