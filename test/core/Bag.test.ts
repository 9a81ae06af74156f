import { assert, describe, it } from "@effect/vitest"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Bag, type Item } from "../../src/core/Bag.ts"

interface Named extends Item {
  readonly name: number
}

const named = (name: number): Named => ({ place: -1, name })

setFlagsFromString("--expose-gc")
const collect: (options?: { readonly type: "minor" }) => void = runInNewContext("gc")

describe("Bag", () => {
  it("has what was added and not deleted, whatever the order", () => {
    const bag = new Bag<Named>()
    const items = Array.from({ length: 100 }, (_, i) => named(i))
    const model = new Set<Named>()
    for (let i = 0, seed = 1; i < 2_000; i++) {
      seed = (seed * 48_271) % 2_147_483_647
      const at = seed % items.length
      const item = items[at]!
      assert.strictEqual(bag.has(item), model.has(item))
      if (model.has(item)) {
        assert.isTrue(bag.delete(item))
        model.delete(item)
      } else {
        bag.add(item)
        model.add(item)
      }
      assert.isFalse(bag.delete(named(at)))
      assert.strictEqual(bag.size, model.size)
    }
    const byName = (one: Named, other: Named) => one.name - other.name
    assert.isAbove(model.size, 0)
    assert.deepStrictEqual([...bag.drain()].sort(byName), [...model].sort(byName))
    assert.strictEqual(bag.size, 0)
    for (const item of items) assert.isFalse(bag.delete(item))
    bag.add(items[7]!)
    assert.deepStrictEqual(bag.drain(), [items[7]!])
  })

  it("keeps nothing of what was in it from a minor collection, as a Set does", () => {
    const kept = (bag: Pick<Bag<Named>, "add" | "delete">) => {
      const through = (count: number) => {
        const here: Array<Named> = []
        for (let i = 0; i < count; i++) {
          const item = { place: -1, name: i, payload: [i, i, i, i, i, i, i, i] }
          bag.add(item)
          const old = here[i % 16]
          if (old !== undefined) bag.delete(old)
          here[i % 16] = item
        }
      }
      // it grows old first
      through(50_000)
      collect()
      const before = process.memoryUsage().heapUsed
      through(200_000)
      collect({ type: "minor" })
      collect({ type: "minor" })
      return (process.memoryUsage().heapUsed - before) / 200_000
    }
    const bytes = kept(new Bag())
    const set = new Set<Named>()
    assert.isBelow(bytes, kept({ add: (item) => void set.add(item), delete: (item) => set.delete(item) }) / 4)
  })
})
