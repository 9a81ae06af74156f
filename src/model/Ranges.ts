/**
 * Sets of integers, kept as ranges: small as long as the numbers come more or less in order.
 *
 * @since 0.1.0
 */

/**
 * A range of integers, both ends included.
 *
 * @internal
 */
export interface Range {
  from: number
  to: number
}

/**
 * A set of integers.
 *
 * @internal
 */
export interface Ranges {
  /** In order, neither overlapping nor touching. */
  readonly ranges: Array<Range>
  /** With more ranges than this, the lowest two and what is between them become one. */
  readonly limit: number
}

/** @internal */
export const make = (limit: number = Infinity): Ranges => ({ ranges: [], limit })

/** @internal */
export const has = ({ ranges }: Ranges, value: number): boolean => {
  for (let i = ranges.length - 1; i >= 0; i--) {
    const range = ranges[i]!
    if (range.from <= value) return value <= range.to
  }
  return false
}

/**
 * Whether everything from `from` up to, and without, `end` is in the set.
 *
 * @internal
 */
export const covers = ({ ranges }: Ranges, from: number, end: number): boolean => {
  for (const range of ranges) if (range.from <= from && end - 1 <= range.to) return true
  return from >= end
}

/**
 * Adds one integer; `false` when it was there.
 *
 * @internal
 */
export const claimOne = (self: Ranges, value: number): boolean => {
  // most come in order, or in short runs that go down
  const last = self.ranges.at(-1)
  if (last !== undefined && last.to + 1 === value) last.to = value
  else if (last !== undefined && last.from - 1 === value && !has(self, value - 1)) last.from = value
  else return claim(self, value).length > 0
  return true
}

/**
 * Adds the integers `from` to `to`, and gives those of them that are new, in order.
 *
 * @internal
 */
export const claim = (self: Ranges, from: number, to: number = from): ReadonlyArray<Readonly<Range>> => {
  if (from > to) return []
  const { ranges } = self
  // what follows is near the end most of the time
  let end = ranges.length
  while (end > 0 && ranges[end - 1]!.from > to + 1) end--
  let start = end
  while (start > 0 && ranges[start - 1]!.to >= from - 1) start--
  const claimed: Array<Range> = []
  let at = from
  for (let i = start; i < end; i++) {
    const range = ranges[i]!
    if (range.from > at) claimed.push({ from: at, to: range.from - 1 })
    at = Math.max(at, range.to + 1)
  }
  if (at <= to) claimed.push({ from: at, to })
  const merged = start === end
    ? { from, to }
    : { from: Math.min(from, ranges[start]!.from), to: Math.max(to, ranges[end - 1]!.to) }
  ranges.splice(start, end - start, merged)
  if (ranges.length > self.limit) ranges.splice(0, 2, { from: ranges[0]!.from, to: ranges[1]!.to })
  return claimed
}
