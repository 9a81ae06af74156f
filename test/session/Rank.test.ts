import { assert, describe, it } from "@effect/vitest"
import * as Rank from "../../src/session/Rank.ts"

describe("Rank", () => {
  it("puts priority before place, and control before all", () => {
    const ranks = [
      Rank.control,
      Rank.of(127, 0),
      Rank.of(1, 0),
      Rank.of(1, 1),
      Rank.of(1, Rank.places - 1),
      Rank.of(0, 0),
      Rank.of(-128, 0),
      Rank.of(-128, Rank.places - 1)
    ]
    assert.deepStrictEqual([...ranks].sort((a, b) => b - a), ranks)
    assert.strictEqual(new Set(ranks).size, ranks.length)
  })

  it("stays dense, and those far behind share the lowest place", () => {
    for (const priority of [-128, 0, 127]) {
      assert.strictEqual(Rank.of(priority, 1_000_000), Rank.of(priority, Rank.places - 1))
      for (const place of [0, 1, Rank.places, 1_000_000]) {
        const rank = Rank.of(priority, place)
        assert.strictEqual(rank, rank | 0)
        assert.isTrue(rank >= 0 && rank < 256 * Rank.places)
      }
    }
  })
})
