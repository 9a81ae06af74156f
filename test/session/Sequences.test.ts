import { assert, describe, it } from "@effect/vitest"
import { Sequences } from "../../src/session/Sequences.ts"
import { random } from "../fixtures/bytes.ts"

describe("Sequences", () => {
  it("holds what was added, in any order", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed * 31)
      const sequences = new Sequences()
      const expected = new Set<number>()
      for (let i = 0; i < 30; i++) {
        const from = next() % 60
        const to = from + (next() % 3 === 0 ? next() % 10 : 0)
        sequences.add(from, to)
        for (let n = from; n <= to; n++) expected.add(n)
      }
      for (let n = 0; n < 80; n++) assert.strictEqual(sequences.has(n), expected.has(n), `${n}, seed ${seed}`)
      for (let from = 0; from < 70; from += 7) {
        for (let end = from - 1; end < from + 12; end++) {
          let all = true
          for (let n = from; n < end; n++) all &&= expected.has(n)
          assert.strictEqual(sequences.covers(from, end), all, `${from} to ${end}, seed ${seed}`)
        }
      }
    }
  })

  it("takes the largest numbers there are", () => {
    const sequences = new Sequences()
    sequences.add(5, Number.MAX_SAFE_INTEGER)
    assert.isTrue(sequences.has(Number.MAX_SAFE_INTEGER))
    assert.isTrue(sequences.covers(5, Number.MAX_SAFE_INTEGER))
    assert.isFalse(sequences.has(4))
  })

  it("of too many ranges, the lowest become one", () => {
    const sequences = new Sequences(3)
    for (const n of [0, 10, 20, 30]) sequences.add(n)
    assert.isTrue(sequences.has(5))
    assert.isFalse(sequences.has(15))
    assert.isTrue(sequences.has(30))
  })
})
