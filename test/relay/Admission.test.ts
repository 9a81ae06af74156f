import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Admission from "../../src/relay/Admission.ts"

const { make } = Admission.Admission

/** Lets so many in, one after the other, and tells how the last of them fared. */
const enter = (admission: Admission.Admission, times: number, peer: (n: number) => string | undefined) => {
  let last: ReturnType<Admission.Admission["enter"]> | undefined
  for (let n = 0; n < times; n++) last = admission.enter(peer(n))
  return last === undefined || "leave" in last ? "in" : `${last.status} ${last.limit}`
}

const unknown = () => undefined

const from = (address: string) => (port: number) => `${address}:${port + 1024}`

/** An address of its own for each. */
const each = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}:443`

describe("Admission", () => {
  it.effect("lets in as many as may be open, and again one when one leaves", () =>
    Effect.gen(function*() {
      const admission = yield* make({ sessions: 3 })
      const first = admission.enter(undefined)
      assert.strictEqual(enter(admission, 2, unknown), "in")
      const refused = admission.enter(undefined)
      assert("limit" in refused)
      assert.deepStrictEqual([refused.limit, refused.status], ["sessions", 503])
      assert.strictEqual(refused.error._tag, "MoqBoundsExceeded")
      assert.include(refused.error.message, "3 sessions are open (the limit sessions)")
      assert("leave" in first)
      first.leave()
      assert.strictEqual(admission.open, 2)
      assert.strictEqual(enter(admission, 1, unknown), "in")
      assert.strictEqual(enter(admission, 1, unknown), "503 sessions")
    }))

  it.effect("lets in as many of one address, whatever their ports; others are not touched", () =>
    Effect.gen(function*() {
      const admission = yield* make({ sessionsPerAddress: 2 })
      const first = admission.enter("192.0.2.1:1")
      assert.strictEqual(enter(admission, 1, from("192.0.2.1")), "in")
      const refused = admission.enter("192.0.2.1:9")
      assert("limit" in refused && refused.limit === "sessionsPerAddress")
      assert.include(refused.error.message, "2 sessions are open from 192.0.2.1 (the limit sessionsPerAddress)")
      assert.strictEqual(enter(admission, 1, from("192.0.2.2")), "in")
      assert.strictEqual(enter(admission, 10, unknown), "in")
      assert("leave" in first)
      first.leave()
      assert.strictEqual(enter(admission, 1, from("192.0.2.1")), "in")
      assert.strictEqual(enter(admission, 1, from("192.0.2.1")), "503 sessionsPerAddress")
    }))

  it.effect("lets them begin at a rate, after a burst of five seconds of it", () =>
    Effect.gen(function*() {
      const admission = yield* make({ handshakeRate: 10 })
      assert.strictEqual(enter(admission, 50, unknown), "in")
      assert.strictEqual(enter(admission, 1, unknown), "429 handshakeRate")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(enter(admission, 10, unknown), "in")
      assert.strictEqual(enter(admission, 1, unknown), "429 handshakeRate")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(enter(admission, 50, unknown), "in")
      assert.strictEqual(enter(admission, 1, unknown), "429 handshakeRate")
    }))

  it.effect("and at a rate of their address; who is too fast takes nothing from the others", () =>
    Effect.gen(function*() {
      const admission = yield* make({ handshakeRate: 20, handshakeRatePerAddress: 2 })
      assert.strictEqual(enter(admission, 20, from("192.0.2.1")), "in")
      assert.strictEqual(enter(admission, 1000, from("192.0.2.1")), "429 handshakeRatePerAddress")
      assert.strictEqual(enter(admission, 80, each), "in")
      assert.strictEqual(enter(admission, 1, unknown), "429 handshakeRate")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(enter(admission, 2, from("192.0.2.1")), "in")
      assert.strictEqual(enter(admission, 1, from("192.0.2.1")), "429 handshakeRatePerAddress")
    }))

  it.effect("by default takes 1,000 clients at once, but 500 of one address", () =>
    Effect.gen(function*() {
      assert.strictEqual(enter(yield* make(), 1000, each), "in")
      assert.strictEqual(enter(yield* make(), 1001, each), "503 sessions")
      assert.strictEqual(enter(yield* make(), 500, from("127.0.0.1")), "in")
      assert.strictEqual(enter(yield* make(), 501, from("127.0.0.1")), "503 sessionsPerAddress")
      // one that comes and goes
      const admission = yield* make()
      for (let n = 0; n < 500; n++) {
        const place = admission.enter("127.0.0.1:1")
        assert("leave" in place)
        place.leave()
      }
      assert.strictEqual(enter(admission, 1, from("127.0.0.1")), "429 handshakeRatePerAddress")
      assert.strictEqual(admission.open, 0)
    }))

  it.effect("remembers an address until its rate is at rest: any number of them comes and goes", () =>
    Effect.gen(function*() {
      const admission = yield* make()
      let most = 0
      for (let n = 0; n < 50_000; n++) {
        const place = admission.enter(each(n))
        if ("leave" in place) place.leave()
        if (n % 250 === 0) yield* TestClock.adjust("1 second")
        most = Math.max(most, admission.addresses.size)
      }
      // the burst of 1,000, and 200 a second for twice the time in which a rate fills up
      assert.isAtMost(most, 1000 + 20 * 200)
      yield* TestClock.adjust("1 minute")
      admission.enter(each(0))
      assert.strictEqual(admission.addresses.size, 1)
      // who is in is not forgotten
      yield* TestClock.adjust("1 minute")
      admission.enter(each(1))
      yield* TestClock.adjust("1 minute")
      admission.enter(each(2))
      assert.strictEqual(admission.addresses.size, 3)
    }))

  it.effect("takes other limits for those who come from then on", () =>
    Effect.gen(function*() {
      const admission = yield* make({ sessions: 2, handshakeRatePerAddress: 1 })
      assert.strictEqual(enter(admission, 2, from("192.0.2.1")), "in")
      assert.strictEqual(enter(admission, 1, from("192.0.2.1")), "503 sessions")
      admission.limits = { ...admission.limits, sessions: 100, handshakeRatePerAddress: 2 }
      assert.strictEqual(enter(admission, 20, from("192.0.2.1")), "in")
      assert.strictEqual(enter(admission, 1, from("192.0.2.1")), "429 handshakeRatePerAddress")
      admission.limits = { ...admission.limits, sessions: 1, handshakeRate: 1 }
      assert.strictEqual(enter(admission, 1, unknown), "503 sessions")
    }))

  it.effect("a limit that is not above 0 is a defect", () =>
    Effect.gen(function*() {
      for (const name of Object.keys(Admission.defaults)) {
        const exit = yield* Effect.exit(make({ [name]: 0 }))
        assert.include(String(exit), name)
      }
      const admission = yield* make()
      assert.throws(() => admission.limits = { ...admission.limits, sessions: Number.NaN }, RangeError)
    }))

  it("counts addresses without their port, IPv6 by its first 64 bits", () => {
    const addresses: Record<string, string> = {
      "192.0.2.1:4443": "192.0.2.1",
      "192.0.2.1": "192.0.2.1",
      "[::1]:4443": "0:0:0:0::/64",
      "::1": "0:0:0:0::/64",
      "[2001:db8::1]:4443": "2001:db8:0:0::/64",
      "[2001:DB8:0:0:1:2:3:4]:1": "2001:db8:0:0::/64",
      "[2001:0db8:0000:0001::]:1": "2001:db8:0:1::/64",
      "2001:db8:a:b:c:d:e:f": "2001:db8:a:b::/64",
      "[fe80::1%eth0]:1": "fe80:0:0:0::/64",
      "[::ffff:192.0.2.1]:4443": "192.0.2.1",
      "a name": "a name"
    }
    for (const [peer, address] of Object.entries(addresses)) assert.strictEqual(Admission.addressOf(peer), address)
  })
})
