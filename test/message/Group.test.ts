/** What the stream of a group begins with, which has a short way past the Writer and the Reader. */
import { assert, describe, it } from "@effect/vitest"
import * as Writer from "../../src/coding/Writer.ts"
import { BoundsExceeded, UnexpectedStream } from "../../src/core/MoqError.ts"
import * as Group from "../../src/message/Group.ts"
import { draft03 } from "../../src/message/Profile.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import { fromHex, toHex } from "../fixtures/bytes.ts"

// the edges of each size
const numbers = [0, 1, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 2 ** 32, 2 ** 53 - 1]

const pairs = numbers.flatMap((subscribe) => numbers.map((sequence) => ({ subscribe, sequence })))

describe("Group", () => {
  it("a header is the type of the stream, then the message", () => {
    const writer = Writer.make()
    for (const { sequence, subscribe } of pairs) {
      StreamType.encodeUni(writer, "group")
      Group.encode(writer, { _tag: "Group", subscribe, sequence }, draft03)
      assert.strictEqual(toHex(Group.encodeHeader(subscribe, sequence)), toHex(writer.finish()))
    }
  })

  it("a header is read once all of it is there, and nothing of what follows", () => {
    for (const { sequence, subscribe } of pairs) {
      const header = Group.encodeHeader(subscribe, sequence)
      for (let length = 0; length < header.length; length++) {
        assert.isUndefined(Group.decodeHeader(header.subarray(0, length)))
      }
      const expected = { subscribe, sequence, length: header.length }
      assert.deepStrictEqual(Group.decodeHeader(header), expected)
      assert.deepStrictEqual(Group.decodeHeader(new Uint8Array([...header, 0xff, 7])), expected)
    }
  })

  it("reads numbers that are longer than need be", () => {
    const header = Group.decodeHeader(fromHex("4000800000070009"))
    assert.deepStrictEqual(header, { subscribe: 7, sequence: 0, length: 7 })
  })

  it("refuses another type as soon as that is there, and numbers above 2^53-1", () => {
    for (const hex of ["01", "0107", "40010707", "ffffffffffffffff"]) {
      assert.throws(() => Group.decodeHeader(fromHex(hex)), hex.startsWith("ff") ? BoundsExceeded : UnexpectedStream)
    }
    for (const hex of ["00c020000000000000", "0007ffffffffffffffff"]) {
      assert.throws(() => Group.decodeHeader(fromHex(hex)), BoundsExceeded)
    }
  })
})
