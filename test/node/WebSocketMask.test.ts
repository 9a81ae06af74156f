import { assert, describe, it } from "@effect/vitest"
import * as WebSocketMask from "../../src/node/WebSocketMask.ts"

/** Reads a frame as RFC 6455 has it. */
const read = (frame: Uint8Array) => {
  assert.strictEqual(frame[0], 0x82, "a binary message in one frame")
  assert.strictEqual(frame[1]! & 0x80, 0x80, "masked")
  const short = frame[1]! & 0x7f
  assert.isBelow(short, 127)
  const size = short < 126 ? 2 : 4
  const length = short < 126 ? short : frame[2]! << 8 | frame[3]!
  assert.strictEqual(frame.length, size + 4 + length)
  if (size === 4) assert.isAtLeast(length, 126, "the shortest form")
  const mask = frame.subarray(size, size + 4)
  return { mask: mask.join(), payload: frame.subarray(size + 4).map((byte, i) => byte ^ mask[i % 4]!) }
}

const frame = (parts: ReadonlyArray<Uint8Array>, length: number): Uint8Array => {
  const frames = new WebSocketMask.Frames()
  frames.add(parts, length)
  return frames.take().chunks[0]!
}

const numbered = (length: number, from = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => from + 7 * i)

describe("WebSocketMask", () => {
  it("a server reads what was written, of any length and in any parts", () => {
    for (const length of [0, 1, 2, 3, 4, 5, 125, 126, 127, 1203, 16_382, 65_535]) {
      const payload = numbered(length)
      for (const size of [1, 3, 8, 1000, 65_535]) {
        if (length / size > 5000) continue
        const parts = Array.from(
          { length: Math.ceil(length / size) },
          (_, i) => payload.subarray(i * size, (i + 1) * size)
        )
        assert.deepStrictEqual(read(frame(parts, length)).payload, payload)
      }
    }
  })

  it("what was handed out is not written over while it is held", () => {
    const frames = Array.from({ length: 500 }, (_, i) => frame([numbered(3000 + i, i)], 3000 + i))
    for (let i = 0; i < frames.length; i++) assert.deepStrictEqual(read(frames[i]!).payload, numbered(3000 + i, i))
  })

  it("what is written stays as it is", () => {
    const payload = numbered(100)
    frame([payload], 100)
    assert.deepStrictEqual(payload, numbered(100))
  })

  it("masks do not repeat, and each of their bits is as often set as not", () => {
    const masks = Array.from({ length: 10_000 }, () => read(frame([], 0)).mask)
    // by chance about 0.01 of them
    assert.isAbove(new Set(masks).size, 9_990)
    for (let bit = 0; bit < 32; bit++) {
      const set = masks.filter((mask) => (Number(mask.split(",")[bit >> 3]) >> (bit & 7) & 1) === 1).length
      // 20 standard deviations
      assert.closeTo(set, 5_000, 1_000)
    }
  })
})
