import { assert, describe, it } from "@effect/vitest"
import * as Writer from "../../src/coding/Writer.ts"
import { BoundsExceeded } from "../../src/core/MoqError.ts"
import { random, randomBytes, toHex } from "../fixtures/bytes.ts"

describe("Writer", () => {
  it("writes fields one after the other", () => {
    const writer = Writer.make()
    writer.u8(255)
    writer.varint(64)
    writer.bytes(Uint8Array.of(1, 2))
    writer.blob(Uint8Array.of(3))
    writer.string("é")
    assert.strictEqual(writer.length, 10)
    assert.strictEqual(toHex(writer.finish()), "ff40400102010302c3a9")
    assert.strictEqual(writer.length, 0)
    assert.strictEqual(writer.finish().length, 0)
  })

  it("writes text of every length and width as UTF-8", () => {
    for (const character of ["a", "é", "€", "😀", "\u{feff}", "\0"]) {
      for (const length of [0, 1, 15, 16, 23, 24, 47, 48, 63, 64, 100]) {
        const text = character.repeat(length)
        const writer = Writer.make()
        writer.string(text)
        const expected = Buffer.from(text)
        const bytes = writer.finish()
        assert.strictEqual(toHex(bytes.subarray(bytes.length - expected.length)), expected.toString("hex"))
        assert.strictEqual(bytes.length, expected.length + (expected.length < 64 ? 1 : 2))
      }
    }
  })

  it("refuses text that is not well formed", () => {
    for (const text of ["\ud800", "a\udc00", "\udc00\ud800", "x".repeat(100) + "\ud800"]) {
      assert.throws(() => Writer.make().string(text), BoundsExceeded)
    }
  })

  it("refuses what is no byte", () => {
    for (const value of [-1, 256, 0.5, NaN]) assert.throws(() => Writer.make().u8(value), BoundsExceeded)
  })

  it("never rewrites what it has handed out", () => {
    const next = random(3)
    for (const slabSize of [1, 7, 64, 16384]) {
      const writer = Writer.make({ slabSize })
      const taken: Array<[Uint8Array, string]> = []
      for (let i = 0; i < 500; i++) {
        writer.varint(next() & 0xffff)
        writer.string("x".repeat(next() & 15))
        if (next() & 1) writer.bytes(randomBytes(next, next() & 63))
        if (next() & 1) writer.rewind(next() & 7)
        if (next() & 1) continue
        const bytes = writer.finish()
        taken.push([bytes, toHex(bytes)])
      }
      for (const [bytes, hex] of taken) assert.strictEqual(toHex(bytes), hex)
    }
  })

  it("shares one slab between small messages", () => {
    const writer = Writer.make()
    const buffers = new Set<ArrayBufferLike>()
    for (let i = 0; i < 1000; i++) {
      writer.varint(i)
      buffers.add(writer.finish().buffer)
    }
    assert.strictEqual(buffers.size, 1)
  })

  it("takes no memory before the first byte, and a slab of its own for what is larger than one", () => {
    const writer = Writer.make({ slabSize: 16 })
    assert.strictEqual(writer.finish().buffer.byteLength, 0)
    const payload = randomBytes(random(1), 1000)
    writer.u8(1)
    writer.bytes(payload)
    assert.strictEqual(toHex(writer.finish()), "01" + toHex(payload))
  })

  it("takes back a message that fails half way, and keeps what was before it", () => {
    const writer = Writer.make()
    writer.u8(7)
    const write = (writer: Writer.Writer, value: number) => {
      writer.u8(1)
      writer.varint(value)
    }
    assert.throws(() => Writer.encode(writer, write, -1, undefined), BoundsExceeded)
    assert.strictEqual(toHex(Writer.encode(writer, write, 5, undefined)), "070105")
  })
})
