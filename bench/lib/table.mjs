// The results as Markdown tables, padded so that they can be read as they are.
import { isLowerBetter } from "../scenarios/catalogue.mjs"
import { targets, titles } from "./targets.mjs"

export const number = (x) => {
  if (x === undefined || Number.isNaN(x)) return ""
  const size = Math.abs(x)
  if (size >= 1000) return Math.round(x).toLocaleString("en-US").replaceAll(",", " ")
  return x.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3)
}
const ratio = (x) => x === undefined ? "" : x >= 10 ? x.toFixed(1) : x.toFixed(2)

/** Columns are `[heading, isNumber]`; one with nothing in it is left out. */
export function table(columns, rows) {
  const kept = [...columns.keys()].filter((i) => rows.some((row) => row[i] !== ""))
  const width = columns.map(([heading], i) => Math.max(3, heading.length, ...rows.map((row) => row[i].length)))
  const pad = (text, i) => columns[i][1] ? text.padStart(width[i]) : text.padEnd(width[i])
  const line = (cell) => `| ${kept.map(cell).join(" | ")} |`
  return [
    line((i) => pad(columns[i][0], i)),
    line((i) => columns[i][1] ? `${"-".repeat(width[i] - 1)}:` : "-".repeat(width[i])),
    ...rows.map((row) => line((i) => pad(row[i], i)))
  ].join("\n")
}

/** The rows of one measure on one transport, by adapter. */
function grouped(rows) {
  const groups = new Map()
  for (const row of rows) {
    const key = `${row.transport} ${row.measure}`
    if (!groups.has(key)) groups.set(key, {})
    groups.get(key)[row.adapter] = row
  }
  return [...groups.values()]
}

function judge(value, target, isAtMost) {
  if (target === undefined) return ""
  const isMet = isAtMost ? value <= target : value >= target
  return `${isAtMost ? "<=" : ">="} ${target.toLocaleString("en-US").replaceAll(",", " ")}, ${isMet ? "met" : "missed"}`
}

const bases = ["moq-lite", "floor"]
const titleOf = (by) => {
  const { measure, transport } = Object.values(by)[0]
  return [titles.get(measure) ?? measure, transport === "none" ? "" : transport]
}
const target = (row) => targets.find(({ measure }) => measure === row.measure)

/** Ratios to what things are measured by; those of the first adapter that is none of these beside their targets. */
export function ratiosTable(rows) {
  const adapters = [...new Set(rows.map((row) => row.adapter))].filter((adapter) => !bases.includes(adapter))
  const cells = adapters.flatMap((adapter, i) =>
    bases.flatMap((base) => [
      [`${adapter} ÷ ${base}`, true, (by) => ratio(by[adapter]?.ratios?.[base])],
      ...(i > 0 ? [] : [["target", false, (by) => {
        const row = by[adapter]
        const value = row?.ratios?.[base]
        if (value === undefined) return ""
        return judge(value, target(row)?.[base]?.[row.transport], isLowerBetter(row.unit))
      }]])
    ])
  )
  const lines = grouped(rows)
    // of what is kept per frame floor has nothing, and codecs have no transport: they have limits of their own
    .filter((by) => target(Object.values(by)[0])?.absolute === undefined)
    .map((by) => titleOf(by).concat(cells.map(([, , cell]) => cell(by))))
  return table([["scenario", false], ["over", false], ...cells], lines)
}

/** What was measured, in units. */
export function valuesTable(rows) {
  const adapters = [...new Set(rows.map((row) => row.adapter))]
  const first = adapters.find((adapter) => !bases.includes(adapter))
  const lines = grouped(rows).map((by) => {
    const any = Object.values(by).find((row) => row.unit !== undefined) ?? Object.values(by)[0]
    const values = adapters.map((adapter) => by[adapter]?.error === undefined ? number(by[adapter]?.median) : "failed")
    const judged = by[first]?.median === undefined
      ? ""
      : judge(by[first].median, target(any)?.absolute, isLowerBetter(any.unit))
    return titleOf(by).concat(any.unit ?? "", values, judged)
  })
  const columns = [["scenario", false], ["over", false], ["unit", false], ...adapters.map((adapter) => [adapter, true])]
  return table([...columns, ["target", false]], lines)
}

export const machineLine = ({ machine, options, versions }) =>
  `${machine.cores} cores of ${machine.cpu}, ${machine.memGiB} GiB, ${machine.os}, Node ${machine.node.slice(1)}; ` +
  `effect-moq ${versions["effect-moq"]}${versions.commit ? ` (${versions.commit})` : ""}, effect ${versions.effect}, ` +
  `@moq/lite ${versions["@moq/lite"]}; medians of ${options.rounds} rounds, ${machine.when.slice(0, 10)}.`
