/**
 * Amounts as people type them: numbers, durations and sizes.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Varint from "../coding/Varint.ts"

/**
 * Reads a whole number from `min` to `max`. Throws an `Error` that says what is expected.
 *
 * @category parsing
 * @since 0.1.0
 */
export const integer = (text: string, { max, min }: { readonly min: number; readonly max: number }): number => {
  const number = /^-?\d+$/.test(text) ? Number(text) : NaN
  if (number >= min && number <= max) return number
  throw new Error(`a whole number from ${min} to ${max}`)
}

/**
 * Reads the sequence of a group, 0..2^53-2. Throws an `Error` that says what is expected.
 *
 * @category parsing
 * @since 0.1.0
 */
export const sequence = (text: string): number => integer(text, { min: 0, max: Varint.max - 1 })

/**
 * Reads a duration such as `500ms`, `10s`, `1.5m`, `2h` or `10 seconds`. Throws an `Error` that says what is expected.
 *
 * @category parsing
 * @since 0.1.0
 */
export const duration = (text: string): Duration.Duration => {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(text.trim())
  const unit = match === null ? undefined : milliseconds.get(match[2]!.toLowerCase())
  if (unit !== undefined) return Duration.millis(Number(match![1]) * unit)
  if (text.trim() === "0") return Duration.zero
  throw new Error("a duration such as 500ms, 10s or 2m")
}

/**
 * Reads a duration as a whole number of milliseconds, rounded up; `0` is for ever. Throws an `Error` that says what is
 * expected.
 *
 * @category parsing
 * @since 0.1.0
 */
export const expires = (text: string): number => {
  const millis = Math.ceil(Duration.toMillis(duration(text)))
  if (millis > Varint.max) throw new Error("a duration that is not so long, or 0 for ever")
  return millis
}

/**
 * Reads a number of bytes such as `1048576`, `64KiB` or `20MB`; a rate may end with `/s`. `KB`, `MB` and `GB` are
 * powers of 1,000, `KiB`, `MiB` and `GiB` of 1,024. Throws an `Error` that says what is expected.
 *
 * @category parsing
 * @since 0.1.0
 */
export const bytes = (text: string): number => {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]i?b|b)?(?:\/s)?$/i.exec(text.trim())
  const unit = match === null ? undefined : sizes.get((match[2] ?? "b").toLowerCase())
  const size = unit === undefined ? 0 : Number(match![1]) * unit
  if (size < 1) throw new Error("a number of bytes such as 1048576, 64KiB or 20MB, at least 1")
  return size
}

// internal

const milliseconds = new Map(
  ([
    [["ms", "milli", "millis", "millisecond", "milliseconds"], 1],
    [["s", "sec", "secs", "second", "seconds"], 1_000],
    [["m", "min", "mins", "minute", "minutes"], 60_000],
    [["h", "hour", "hours"], 3_600_000]
  ] as const).flatMap(([names, unit]) => names.map((name) => [name as string, unit as number] as const))
)

const sizes = new Map([
  ["b", 1],
  ["kb", 1e3],
  ["mb", 1e6],
  ["gb", 1e9],
  ["kib", 1024],
  ["mib", 1024 ** 2],
  ["gib", 1024 ** 3]
])
