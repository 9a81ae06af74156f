// Whether things are as fast as they were: a short version against floor alone, beside the ratios of baseline.json.
import fs from "node:fs"
import path from "node:path"
import { gain, runRounds, toRows } from "./rounds.mjs"
import { bench } from "./setup.mjs"
import { number, table } from "./table.mjs"

const file = path.join(bench, "baseline.json")
const tolerance = 0.7
const cells = {
  memory: ["frames-100", "frames-1200", "frames-16384", "groups-1200", "fanout-100", "join", "latency", "mem-session"],
  ws: ["frames-1200", "groups-1200", "fanout-100", "join"]
}
const adapters = [{ name: "floor" }, { name: "effect-moq" }]

/** How good ours is beside floor: the median of the rounds, more is better. */
async function measure(options, { rounds, scenario, transport }) {
  const all = toRows(scenario, transport, await runRounds(options, { adapters, rounds, scenario, transport }))
  const ours = all.find((row) => row.adapter === "effect-moq" && row.measure === scenario)
  const floor = all.find((row) => row.adapter === "floor" && row.measure === scenario)
  const error = ours.error ?? floor.error
  if (error !== undefined) throw new Error(`${transport} ${scenario}: ${error}`)
  return gain(ours, "floor")
}

export async function check(options, { about, rounds }) {
  const baseline = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : undefined
  if (baseline === undefined) throw new Error("there is no baseline.json: record one with --check --record")
  const fallen = []
  const rows = []
  for (const [transport, scenarios] of Object.entries(cells)) {
    for (const scenario of scenarios) {
      const recorded = baseline.ratios[`${transport} ${scenario}`]
      if (recorded === undefined) continue
      let now = await measure(options, { rounds, scenario, transport })
      // once more before it is said to have fallen: a slow spell of the machine is none of its own
      if (now < recorded * tolerance) {
        now = Math.max(now, await measure(options, { rounds: rounds + 2, scenario, transport }))
      }
      const row = [scenario, transport, number(recorded), number(now), `${Math.round(100 * (now / recorded - 1))} %`]
      rows.push(row)
      if (now < recorded * tolerance) fallen.push(row)
      console.error(row.join("  "))
    }
  }
  const columns = [["scenario", false], ["over", false], ["recorded", true], ["now", true], ["change", true]]
  console.log(`${about}\nbaseline: ${baseline.about}\n\n${table(columns, rows)}`)
  if (fallen.length > 0) {
    console.log(`\nmore than ${Math.round(100 * (1 - tolerance))} % below:\n\n${table(columns, fallen)}`)
  }
  return fallen.length === 0
}

export async function record(options, { about, rounds }) {
  const ratios = {}
  for (const [transport, scenarios] of Object.entries(cells)) {
    for (const scenario of scenarios) {
      const ratio = await measure(options, { rounds, scenario, transport })
      ratios[`${transport} ${scenario}`] = Math.round(ratio * 1000) / 1000
      console.error(`${transport} ${scenario}: ${number(ratio)} of floor`)
    }
  }
  fs.writeFileSync(file, `${JSON.stringify({ about, ratios }, null, 2)}\n`)
  console.log(`wrote ${file}`)
}
