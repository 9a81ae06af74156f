import { assert, describe, it } from "@effect/vitest"
import * as Rank from "../../src/session/Rank.ts"

describe("Rank", () => {
  it("puts priority before sequence, and control before all", () => {
    const ranks = [
      Rank.control,
      Rank.ofGroup(127, "desc", 0),
      Rank.ofGroup(1, "desc", 9),
      Rank.ofGroup(1, "default", 8),
      Rank.ofGroup(1, "desc", 7),
      Rank.ofGroup(0, "asc", 7),
      Rank.ofGroup(0, "asc", 8),
      Rank.ofGroup(-128, "desc", 1_000_000)
    ]
    assert.deepStrictEqual([...ranks].sort((a, b) => b - a), ranks)
    assert.strictEqual(new Set(ranks).size, ranks.length)
  })

  it("stays within 32 bits for any sequence", () => {
    for (const priority of [-128, 0, 127]) {
      for (const order of ["asc", "desc", "default"] as const) {
        for (const sequence of [0, 2 ** 22 - 1, 2 ** 22, Number.MAX_SAFE_INTEGER - 1]) {
          const rank = Rank.ofGroup(priority, order, sequence)
          assert.strictEqual(rank, rank | 0)
          assert.isTrue(rank >= 0 && rank < Rank.control)
        }
      }
    }
  })
})
