import { assert, describe, it } from "@effect/vitest"
import { type Arrival, Unread } from "../../src/transport/QmuxUnread.ts"

const arrival = (bytes: number): Arrival => ({ bytes, unread: 0 })

describe("QmuxUnread", () => {
  it("counts each piece, and each record for as long as a piece of it is unread", () => {
    const unread = new Unread()
    const a = unread.stream()
    const b = unread.stream()
    const record = arrival(10_000)
    a.add(record)
    a.add(record)
    b.add(record)
    assert.strictEqual(unread.cost, 10_000 + 3 * 256)
    a.read()
    b.read()
    assert.strictEqual(unread.cost, 10_000 + 256)
    a.add(arrival(1_000))
    a.read()
    assert.strictEqual(unread.cost, 1_000 + 256)
    a.read()
    assert.strictEqual(unread.cost, 0)
  })

  it("does not count what somebody waits for", () => {
    const unread = new Unread()
    const stream = unread.stream()
    stream.read()
    stream.add(arrival(1_000))
    assert.strictEqual(unread.cost, 0)
    stream.add(arrival(1_000))
    assert.strictEqual(unread.cost, 1_256)
  })

  it("forgets a stream that nobody reads on", () => {
    const unread = new Unread()
    const stream = unread.stream()
    for (let i = 0; i < 100; i++) stream.add(arrival(1_000))
    for (let i = 0; i < 30; i++) stream.read()
    assert.strictEqual(unread.cost, 70 * 1_256)
    stream.clear()
    assert.strictEqual(unread.cost, 0)
  })
})
