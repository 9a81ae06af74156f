/** What it costs to find a group among thousands that are kept. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import * as Group from "../../src/model/Group.ts"
import { TrackCache } from "../../src/model/TrackCache.ts"

const count = 8_000

/** A cache that counts how often one of what it keeps is looked at. */
const counting = Effect.map(Clock.Clock, (clock) => {
  const cache = new TrackCache(clock, { maxAge: 10_000, maxBytes: 1_000_000, first: 0 })
  const looks = { count: 0 }
  const kept = new Proxy(cache.kept, {
    get: (target, key, receiver) => {
      if (typeof key === "string" && /^\d+$/.test(key)) looks.count++
      return Reflect.get(target, key, receiver)
    }
  })
  return { cache, looks, watch: () => void Object.assign(cache, { kept }) }
})

describe("TrackCache", () => {
  it.effect("finds any of thousands of groups in a few looks", () =>
    Effect.gen(function*() {
      const { cache, looks, watch } = yield* counting
      for (let i = 0; i < count; i++) Group.endUnsafe(cache.keep(2 * i, i))
      watch()
      for (const sequence of [0, 2, 1_998, 8_000, 15_996, 15_998]) {
        looks.count = 0
        assert.strictEqual(cache.group(sequence)?.sequence, sequence)
        assert.isBelow(looks.count, 40, `group ${sequence}`)
        assert.isUndefined(cache.group(sequence + 1))
      }
      // most come after all others
      looks.count = 0
      assert.strictEqual(cache.placeOf(15_999), count)
      assert.strictEqual(looks.count, 1)
    }))

  it.effect("keeps groups in order that come in any", () =>
    Effect.gen(function*() {
      const { cache } = yield* counting
      // downwards, upwards, and from the middle outwards
      const sequences = [9, 8, 7, 20, 21, 22, 15, 14, 16, 13, 17, 0, 30]
      for (const sequence of sequences) cache.keep(sequence, cache.placeOf(sequence))
      assert.deepStrictEqual(cache.kept.map(({ first }) => first), sequences.toSorted((a, b) => a - b))
      for (const sequence of sequences) assert.strictEqual(cache.group(sequence)?.sequence, sequence)
      cache.fill(0, 31, 5)
      let next = 0
      for (const { first, last } of cache.kept) {
        assert.strictEqual(first, next)
        next = last + 1
      }
      assert.strictEqual(next, 32)
    }))
})
