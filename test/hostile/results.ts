/** The table of results in docs/hostile.md. */
import { readFileSync, writeFileSync } from "node:fs"
import type { Attack } from "./Attack.ts"
import type { End } from "./Peer.ts"

/** The medians of several runs: latencies in milliseconds, memory in MB. */
export interface Result {
  readonly attack: Attack
  readonly ends: Readonly<Record<End, number>>
  readonly baseline: number
  readonly p99: number
  readonly max: number
  readonly kept: number
  readonly rss: number
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2
}

const file = new URL("../../docs/hostile.md", import.meta.url)
const begin = "<!-- results -->"
const end = "<!-- end of results -->"

/** Puts the table where the last one was. */
export const write = (results: ReadonlyArray<Result>, runs: number): void => {
  const rows = results.map(({ attack, baseline, ends, kept, max, p99, rss }) =>
    [
      attack.name,
      Object.entries(ends).map(([end, count]) => `${end} (${Math.round(count / runs)})`).join(", "),
      baseline.toFixed(1),
      p99.toFixed(1),
      max.toFixed(0),
      rss.toFixed(0),
      kept.toFixed(1)
    ].join(" | ")
  )
  const table = [
    "attack | how the relay ended it (times) | p99 before | p99 during | longest | resident | kept",
    "--- | --- | --: | --: | --: | --: | --:",
    ...rows
  ].map((row) => `| ${row} |`).join("\n")
  const text = readFileSync(file, "utf8")
  const [head, rest = ""] = text.split(begin)
  writeFileSync(file, `${head}${begin}\n\n${table}\n\n${end}${rest.split(end)[1]}`)
}
