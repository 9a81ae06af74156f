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
  readonly from: number
  readonly to: number
}

/**
 * A set of integers.
 *
 * @internal
 */
export interface Ranges {
  /** In order, neither overlapping nor touching. */
  readonly ranges: Array<Range>
}

/** @internal */
export const make = (): Ranges => ({ ranges: [] })

/**
 * Adds the integers `from` to `to`, and gives those of them that are new, in order.
 *
 * @internal
 */
export const claim = (self: Ranges, from: number, to: number): ReadonlyArray<Range> => {
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
  return claimed
}
