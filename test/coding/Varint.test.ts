import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Reader from "../../src/coding/Reader.ts"
import * as Varint from "../../src/coding/Varint.ts"
import * as Writer from "../../src/coding/Writer.ts"
import { BoundsExceeded } from "../../src/core/MoqError.ts"
import { fromHex, toHex } from "../fixtures/bytes.ts"

const encode = (value: number) =>
  Writer.encode(Writer.make(), (writer, value) => writer.varint(value), value, undefined)

const decode = (bytes: Uint8Array) => Reader.decode(Reader.fromBytes(bytes), (reader) => reader.varint(), undefined)

// RFC 9000, appendix A.1, and the edges of each size
const samples: ReadonlyArray<[number, string]> = [
  [0, "00"],
  [37, "25"],
  [63, "3f"],
  [64, "4040"],
  [15293, "7bbd"],
  [16383, "7fff"],
  [16384, "80004000"],
  [494878333, "9d7f3e7d"],
  [2 ** 30 - 1, "bfffffff"],
  [2 ** 30, "c000000040000000"],
  [2 ** 32 - 1, "c0000000ffffffff"],
  [2 ** 32, "c000000100000000"],
  [0xff0bad03, "c0000000ff0bad03"],
  [2 ** 53 - 1, "c01fffffffffffff"]
]

describe("Varint", () => {
  it.effect.each([...samples])("%s is %s", ([value, hex]) =>
    Effect.sync(() => {
      assert.strictEqual(toHex(encode(value)), hex)
      assert.strictEqual(decode(fromHex(hex)), value)
      assert.strictEqual(Varint.size(value), hex.length / 2)
    }))

  it("reads numbers that are longer than need be", () => {
    for (const hex of ["07", "4007", "80000007", "c000000000000007"]) assert.strictEqual(decode(fromHex(hex)), 7)
  })

  it("refuses numbers above 2^53-1 instead of rounding them", () => {
    for (const hex of ["c020000000000000", "ffffffffffffffff"]) {
      assert.throws(() => decode(fromHex(hex)), BoundsExceeded)
    }
  })

  it("refuses to write what is no number of the protocol", () => {
    for (const value of [-1, 0.5, 2 ** 53, NaN, Infinity]) {
      assert.isFalse(Varint.isEncodable(value))
      assert.throws(() => encode(value), BoundsExceeded)
    }
  })

  it.effect.prop("keeps every number, in the shortest form, however it is cut", [
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Varint.max }))
  ], ([value]) =>
    Effect.sync(() => {
      const bytes = encode(value)
      assert.strictEqual(bytes.length, Varint.size(value))
      for (let cut = 0; cut < bytes.length; cut++) {
        const reader = Reader.fromBytes(bytes.subarray(0, cut))
        assert.strictEqual(Reader.decode(reader, (reader) => reader.varint(), undefined), Reader.NeedMore)
        reader.push(bytes.subarray(cut))
        assert.strictEqual(Reader.decode(reader, (reader) => reader.varint(), undefined), value)
      }
    }), { arbitrary: { runs: 500, seed: 1 } })
})
