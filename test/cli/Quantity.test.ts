import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import * as Quantity from "../../src/cli/Quantity.ts"

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
