/**
 * Sets of sequence numbers, kept as ranges: what is nearly contiguous costs nearly nothing.
 *
 * @since 0.1.0
 */

/**
 * A growing set of integers.
 *
 * @internal
 */
export class Sequences {
  // disjoint, not adjacent, lowest first
  private readonly ranges: Array<{ from: number; to: number }>
  private readonly maxRanges: number
  /** Beyond `maxRanges` the lowest two ranges, and what is between them, become one. */
  constructor(maxRanges: number = 1024) {
    this.ranges = []
    this.maxRanges = maxRanges
  }
  has(value: number): boolean {
    for (let i = this.ranges.length - 1; i >= 0; i--) {
      const range = this.ranges[i]!
      if (range.from <= value) return value <= range.to
    }
    return false
  }
  /** Adds `from` to `to`, both included. */
  add(from: number, to: number = from): void {
    let at = this.ranges.length
    while (at > 0 && this.ranges[at - 1]!.to >= from - 1) at--
    let end = at
    let low = from
    let high = to
    while (end < this.ranges.length && this.ranges[end]!.from <= to + 1) {
      low = Math.min(low, this.ranges[end]!.from)
      high = Math.max(high, this.ranges[end]!.to)
      end++
    }
    this.ranges.splice(at, end - at, { from: low, to: high })
    if (this.ranges.length > this.maxRanges) {
      const [first, second] = this.ranges as [{ from: number; to: number }, { from: number; to: number }]
      this.ranges.splice(0, 2, { from: first.from, to: second.to })
    }
  }
  /** Whether everything from `from` up to, and without, `end` is in the set. */
  covers(from: number, end: number): boolean {
    if (from >= end) return true
    return this.ranges.some((range) => range.from <= from && end - 1 <= range.to)
  }
}
