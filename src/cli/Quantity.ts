/**
 * Amounts as people type them: durations and sizes.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"

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
