import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Ranges from "../../src/model/Ranges.ts"
import { random } from "../fixtures/bytes.ts"

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

  it("holds what was added, in any order", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed * 31)
      const sequences = Ranges.make()
      const expected = new Set<number>()
      for (let i = 0; i < 30; i++) {
        const from = next() % 60
        const to = from + (next() % 3 === 0 ? next() % 10 : 0)
        Ranges.claim(sequences, from, to)
        for (let n = from; n <= to; n++) expected.add(n)
      }
      for (let n = 0; n < 80; n++) assert.strictEqual(Ranges.has(sequences, n), expected.has(n), `${n}, seed ${seed}`)
      for (let from = 0; from < 70; from += 7) {
        for (let end = from - 1; end < from + 12; end++) {
          let all = true
          for (let n = from; n < end; n++) all &&= expected.has(n)
          assert.strictEqual(Ranges.covers(sequences, from, end), all, `${from} to ${end}, seed ${seed}`)
        }
      }
    }
  })

  it("takes the largest numbers there are", () => {
    const sequences = Ranges.make()
    Ranges.claim(sequences, 5, Number.MAX_SAFE_INTEGER)
    assert.isTrue(Ranges.has(sequences, Number.MAX_SAFE_INTEGER))
    assert.isTrue(Ranges.covers(sequences, 5, Number.MAX_SAFE_INTEGER))
    assert.isFalse(Ranges.has(sequences, 4))
  })

  it("of too many ranges, the lowest become one", () => {
    const sequences = Ranges.make(3)
    for (const n of [0, 10, 20, 30]) Ranges.claim(sequences, n)
    assert.isTrue(Ranges.has(sequences, 5))
    assert.isFalse(Ranges.has(sequences, 15))
    assert.isTrue(Ranges.has(sequences, 30))
  })
})

const spread = (ranges: ReadonlyArray<Ranges.Range>): Array<number> =>
  ranges.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i))
