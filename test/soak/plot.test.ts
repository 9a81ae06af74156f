import { assert, describe, it } from "@effect/vitest"
import { csv, type Sample, settled, slope, svg } from "./plot.ts"

const sample = (minute: number, used: number): Sample => ({ minute, used, rss: 2 * used, sessions: 3, tracks: 2 })

describe("the verdict of a soak", () => {
  it("is the slope of the line with the least squares", () => {
    assert.strictEqual(slope([sample(0, 10), sample(1, 10), sample(2, 10)]), 0)
    assert.approximately(slope([sample(0, 10), sample(1, 13), sample(2, 12), sample(3, 15)]), 1.4, 1e-9)
    assert.strictEqual(slope([sample(1, 10)]), 0)
  })

  it("is about what comes after ten minutes, or after a third of a short run", () => {
    const minutes = (count: number) => Array.from({ length: count + 1 }, (_, minute) => sample(minute, 0))
    assert.strictEqual(settled(minutes(30))[0]!.minute, 10)
    assert.strictEqual(settled(minutes(9))[0]!.minute, 3)
  })

  it("comes with its samples, as a table and as a picture", () => {
    const samples = [sample(0, 10), sample(1, 20)]
    assert.strictEqual(
      csv(samples),
      "minute,used_mb,rss_mb,sessions,tracks\n0.000,10.00,20.0,3,2\n1.000,20.00,40.0,3,2\n"
    )
    // the last sample is at the right end, and 20 of 50 MB high
    assert.include(svg(samples, "title"), "60.0,232.0 840.0,184.0")
  })
})
