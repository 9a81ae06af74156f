import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Ranges from "../../src/model/Ranges.ts"

describe("Ranges", () => {
  it("gives what is new, and joins what touches", () => {
    const ranges = Ranges.make()
    assert.deepStrictEqual(Ranges.claim(ranges, 3, 5), [{ from: 3, to: 5 }])
    assert.deepStrictEqual(Ranges.claim(ranges, 6, 6), [{ from: 6, to: 6 }])
    assert.deepStrictEqual(ranges.ranges, [{ from: 3, to: 6 }])
    assert.deepStrictEqual(Ranges.claim(ranges, 10, 12), [{ from: 10, to: 12 }])
    assert.deepStrictEqual(Ranges.claim(ranges, 0, 11), [{ from: 0, to: 2 }, { from: 7, to: 9 }])
    assert.deepStrictEqual(ranges.ranges, [{ from: 0, to: 12 }])
    assert.deepStrictEqual(Ranges.claim(ranges, 4, 8), [])
    assert.deepStrictEqual(Ranges.claim(ranges, 5, 4), [])
  })

  it.effect.prop("is a set of integers", [
    Schema.Array(Schema.Tuple([
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30 })),
      Schema.Int.check(Schema.isBetween({ minimum: -1, maximum: 6 }))
    ])).check(Schema.isMaxLength(20))
  ], ([claims]) =>
    Effect.sync(() => {
      const ranges = Ranges.make()
      const model = new Set<number>()
      for (const [from, length] of claims) {
        const fresh: Array<number> = []
        for (let n = from; n <= from + length; n++) if (!model.has(n)) fresh.push(n)
        const claimed = Ranges.claim(ranges, from, from + length)
        assert.deepStrictEqual(spread(claimed), fresh)
        for (const n of fresh) model.add(n)
        assert.deepStrictEqual(spread(ranges.ranges), [...model].sort((a, b) => a - b))
        for (let i = 1; i < ranges.ranges.length; i++) {
          assert.isAbove(ranges.ranges[i]!.from, ranges.ranges[i - 1]!.to + 1)
        }
      }
    }), { arbitrary: { runs: 500, seed: 1 } })
})

const spread = (ranges: ReadonlyArray<Ranges.Range>): Array<number> =>
  ranges.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i))
