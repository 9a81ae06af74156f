import { assert, describe, it } from "@effect/vitest"
import { Batch, Slabs, small } from "../../src/node/WebSocketSlabs.ts"

/** Takes so many bytes for a batch. */
const fill = (slabs: Slabs, batch: Batch, length: number, value: number) => {
  const slab = slabs.withRoom(length)
  batch.hold(slab)
  batch.chunks.push(slab.bytes.subarray(slab.filled, slab.filled + length).fill(value))
  slab.filled += length
  return slab
}

describe("Slabs", () => {
  it("a slab that nobody holds is used again from its beginning, and its words are the same memory", () => {
    const slabs = new Slabs(1024, 1)
    const batch = new Batch()
    const slab = fill(slabs, batch, 1000, 1)
    batch.release()
    assert.strictEqual(slabs.withRoom(1024), slab)
    assert.strictEqual(slab.filled, 0)
    assert.strictEqual(slab.words.buffer, slab.bytes.buffer)
    assert.strictEqual(slab.words.byteOffset, slab.bytes.byteOffset)
    assert.strictEqual(slab.words.byteLength, 1024)
  })

  it("a slab is not used again while anybody holds a part of it", () => {
    const slabs = new Slabs(1024, 4)
    const [one, other] = [new Batch(), new Batch()]
    const slab = fill(slabs, one, 300, 1)
    assert.strictEqual(fill(slabs, other, 300, 2), slab)
    assert.strictEqual(fill(slabs, one, 300, 1), slab)
    one.release()
    // a second time is no third holder
    one.release()
    for (let i = 0; i < 100; i++) {
      const next = new Batch()
      assert.notStrictEqual(fill(slabs, next, 500, 3), slab)
      next.release()
    }
    assert.deepStrictEqual([...other.chunks[0]!], Array.from({ length: 300 }, () => 2))
    other.release()
    const all = Array.from({ length: 10 }, () => fill(slabs, new Batch(), 500, 3))
    assert.include(all, slab)
  })

  it("no more are kept than was said, and none that is still held", () => {
    const slabs = new Slabs(1024, 3)
    const batches = Array.from({ length: 20 }, () => new Batch())
    const first = new Set(batches.map((batch, i) => fill(slabs, batch, 1000, i)))
    assert.strictEqual(first.size, 20)
    for (const batch of batches) batch.release()
    const second = Array.from({ length: 20 }, () => fill(slabs, new Batch(), 1000, 0))
    // the one that was current, and those that are spare
    assert.strictEqual(second.filter((slab) => first.has(slab)).length, 4)
    assert.strictEqual(new Set(second).size, 20, "each once")
  })

  it("what is owned keeps no slab for small parts, and others as they are", () => {
    const slabs = new Slabs(64 * 1024, 4)
    const batch = new Batch()
    const slab = fill(slabs, batch, 100, 7)
    const foreign = new Uint8Array(small)
    batch.chunks.push(foreign)
    batch.own()
    assert.deepStrictEqual(batch.chunks, [Buffer.alloc(100, 7), foreign])
    assert.strictEqual(batch.chunks[1], foreign)
    assert.notStrictEqual(batch.chunks[0]!.buffer, slab.bytes.buffer)
    assert.strictEqual(slab.filled, 0, "it is free")
    // nothing is let go of twice
    const [next, large] = [new Batch(), new Batch()]
    assert.strictEqual(fill(slabs, next, 10, 1), slab)
    batch.release()
    assert.strictEqual(slab.filled, 10)
    fill(slabs, large, small, 2)
    large.own()
    next.release()
    assert.strictEqual(slab.filled, 10 + small, "a large part holds it")
    assert.strictEqual(large.chunks[0]!.buffer, slab.bytes.buffer)
  })
})
