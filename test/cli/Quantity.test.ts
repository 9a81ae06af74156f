import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import * as Quantity from "../../src/cli/Quantity.ts"

describe("integer and sequence", () => {
  it("read whole numbers in their range", () => {
    const priority = (text: string) => Quantity.integer(text, { min: -128, max: 127 })
    assert.deepStrictEqual(["-128", "0", "127"].map(priority), [-128, 0, 127])
    assert.deepStrictEqual(["0", "9007199254740990"].map(Quantity.sequence), [0, 2 ** 53 - 2])
  })

  it("refuse the rest", () => {
    for (const text of ["-129", "128", "1.5", "1e2", "", " ", "x", "0x10"]) {
      assert.throws(() => Quantity.integer(text, { min: -128, max: 127 }), /from -128 to 127/, text)
    }
    for (const text of ["-1", "9007199254740991", "9007199254740993", "9".repeat(400)]) {
      assert.throws(() => Quantity.sequence(text), /from 0 to 9007199254740990/, text)
    }
  })
})

describe("duration", () => {
  it("reads what people type", () => {
    const read = (text: string) => Duration.toMillis(Quantity.duration(text))
    assert.deepStrictEqual(
      ["500ms", "10s", "1.5m", "2h", "10 seconds", "1 minute", " 3S ", "0", "0s"].map(read),
      [500, 10_000, 90_000, 7_200_000, 10_000, 60_000, 3_000, 0, 0]
    )
  })

  it("refuses the rest", () => {
    for (const text of ["", "10", "-1s", "s", "1 fortnight", "1s2", "1e3s", "Infinity"]) {
      assert.throws(() => Quantity.duration(text), /a duration such as/, text)
    }
  })
})

describe("expires", () => {
  it("is whole milliseconds, and never for ever by rounding", () => {
    assert.deepStrictEqual(["0", "0s", "0.2ms", "1.5ms", "2s", "1h"].map(Quantity.expires), [
      0,
      0,
      1,
      2,
      2000,
      3_600_000
    ])
  })

  it("refuses what does not fit on the wire", () => {
    for (const text of ["9007199254740992ms", `${"9".repeat(400)}h`]) {
      assert.throws(() => Quantity.expires(text), /not so long/, text)
    }
  })
})

describe("bytes", () => {
  it("reads what people type", () => {
    assert.deepStrictEqual(
      ["1048576", "64KiB", "20MB", "20MB/s", "1.5 kb", "1b", "1GiB", "2gb/s", "4MiB/s"].map(Quantity.bytes),
      [1_048_576, 65_536, 20e6, 20e6, 1500, 1, 1024 ** 3, 2e9, 4 * 1024 ** 2]
    )
  })

  it("refuses the rest", () => {
    for (const text of ["", "0", "-1", "MB", "1TB", "1MB/m", "0.5", "fast", "1 2"]) {
      assert.throws(() => Quantity.bytes(text), /a number of bytes such as/, text)
    }
  })
})
