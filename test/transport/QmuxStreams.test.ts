import { assert, describe, it } from "@effect/vitest"
import { ById } from "../../src/transport/QmuxStreams.ts"

describe("ById", () => {
  // the same numbers each time
  const random = (seed: number) => (below: number) => {
    seed = Math.imul(seed, 1_103_515_245) + 12_345 >>> 0
    return (seed >>> 8) % below
  }

  it.each([
    ["in their order", (n: number) => 4 * n],
    ["of all kinds", (n: number) => n],
    ["of few places", (n: number) => n * 2 ** 20],
    ["all of one place", (n: number) => n * 2 ** 40]
  ])("finds what a Map would: ids %s", (_, idOf) => {
    const next = random(7)
    const streams = new ById<{ readonly id: number }>()
    const expected = new Map<number, { readonly id: number }>()
    for (let i = 0; i < 20_000; i++) {
      const id = idOf(next(200))
      assert.strictEqual(streams.get(id), expected.get(id))
      if (next(3) === 0 || expected.has(id)) {
        streams.delete(id)
        expected.delete(id)
      } else {
        const stream = { id }
        streams.add(stream)
        expected.set(id, stream)
      }
    }
    assert.sameMembers([...streams.drain()], [...expected.values()])
    for (let n = 0; n < 200; n++) assert.isUndefined(streams.get(idOf(n)))
    assert.deepStrictEqual(streams.drain(), [])
  })

  it("is no larger than it has to be, whatever passes through it", () => {
    const streams = new ById<{ readonly id: number }>()
    const slots = () => (streams as unknown as { readonly slots: ReadonlyArray<unknown> }).slots.length
    for (let n = 0; n < 100_000; n++) {
      streams.add({ id: 4 * n })
      if (n >= 10) streams.delete(4 * (n - 10))
    }
    assert.strictEqual(slots(), 32)
  })
})
