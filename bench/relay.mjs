// The relay with real processes on loopback, over this library's WebSocket: a publisher, the relay of the command line
// with its default limits, and viewers that share one process; beside it the same viewers straight at the publisher.
//
// A frame takes two hops through the relay and one without, and three processes share the machine in place of two. Where
// there are fewer cores than processes the CPU time of each process for one delivery says more than frames per second.
import fs from "node:fs"
import path from "node:path"
import { machine, median } from "./lib/measuring.mjs"
import { selfTimes } from "./lib/profile.mjs"
import { versions } from "./lib/setup.mjs"
import { machineLine, number, table } from "./lib/table.mjs"
import { cell } from "./relay/cell.mjs"

const scenarios = {
  "frames of 1,200 B": { size: 1200, perGroup: 1000, window: 3072 },
  "frames of 16 KiB": { size: 16384, perGroup: 100, window: 224 },
  "one group per frame": { size: 1200, perGroup: 1, window: 64 }
}
const ways = [
  { via: "direct", viewers: 1 },
  { via: "relay", viewers: 1 },
  { via: "relay", viewers: 10 },
  { via: "relay", viewers: 100 }
]
const latency = { size: 1200, perGroup: 1000, rate: 1000 }

/** Measures, prints tables, and writes relay.{json,md} into `out`; with `profile` the CPU profiles of a cell each. */
export async function run({ out, profile = false, rounds = 3, seconds = 3 }) {
  fs.mkdirSync(out, { recursive: true })
  if (profile) return profiles(path.join(out, "profiles"), seconds)
  const rows = []
  for (const [scenario, load] of [...Object.entries(scenarios), ["latency at 1,000 frames/s", latency]]) {
    const taken = load.rate === undefined ? ways : ways.slice(0, 2)
    const results = taken.map(() => [])
    for (let round = 0; round < rounds; round++) {
      for (const [i, way] of taken.entries()) {
        results[i].push(await cell({ ...load, ...way, seconds }))
        console.error(progress(scenario, way, results[i].at(-1)))
      }
    }
    taken.forEach((way, i) => rows.push({ scenario, ...way, rounds: results[i] }))
  }
  const copies = []
  for (const [scenario, load] of Object.entries(scenarios)) {
    const { copied } = await cell({ ...load, via: "relay", viewers: 1, copies: true, seconds })
    copies.push({ scenario, copied })
  }
  const results = { machine: machine(), versions: versions(), options: { rounds, seconds }, rows, copies }
  const text = [
    machineLine(results),
    ratiosTable(rows),
    valuesTable(rows),
    "Bytes copied in the relay for each byte of payload that comes in, by who copies:",
    copiesTable(copies)
  ].join("\n\n")
  console.log(text)
  fs.writeFileSync(path.join(out, "relay.json"), JSON.stringify(results, null, 1))
  fs.writeFileSync(path.join(out, "relay.md"), `# Relay\n\n${text}\n`)
}

async function profiles(out, seconds) {
  fs.mkdirSync(out, { recursive: true })
  for (const [scenario, load] of Object.entries(scenarios)) {
    for (const viewers of [1, 100]) {
      const { cpu } = await cell({ ...load, via: "relay", viewers, seconds: 2 * seconds, profile: out })
      const file = path.join(out, "relay-relay.cpuprofile")
      const { modules } = selfTimes(withoutProfiler(JSON.parse(fs.readFileSync(file, "utf8"))))
      modules.delete("(idle)")
      const total = [...modules.values()].reduce((sum, time) => sum + time, 0)
      const first = [...modules].sort(([, a], [, b]) => b - a).slice(0, 25)
      console.log(`\n## The relay, ${scenario}, ${viewers} viewers: ${number(cpu.relay)} us for one delivery\n`)
      console.log(
        table(
          [["self", true], ["module", false]],
          first.map(([name, t]) => [`${(100 * t / total).toFixed(1)} %`, name])
        )
      )
    }
  }
}

/** Less the end of the profile itself, which takes long. */
function withoutProfiler({ nodes, samples, timeDeltas }) {
  const own = new Set(
    nodes.filter(({ callFrame }) => callFrame.functionName === "dispatch" && callFrame.url === "")
      .map(({ id }) => id)
  )
  const isOther = (_, i) => !own.has(samples[i])
  return { nodes, samples: samples.filter(isOther), timeDeltas: timeDeltas.filter(isOther) }
}

const progress = (scenario, { via, viewers }, { cpu, p50, p99, rate }) => {
  const used = Object.entries(cpu).map(([name, micros]) => `${name} ${number(micros)}`).join(", ")
  const late = p50 === undefined ? "" : `, latency ${number(p50)} ms, p99 ${number(p99)} ms`
  return `${scenario}, ${via}, ${viewers}: ${number(rate)} deliveries/s, us each: ${used}${late}`
}

const of = (row, value) => median(row.rounds.map(value))

/** The median over the rounds of what one way has, divided by what another has. */
const ratio = (row, other, value) => median(row.rounds.map((round, i) => value(round) / value(other.rounds[i])))

const judged = (value, target, isMet) => [number(value), `${target}, ${isMet ? "met" : "missed"}`]

function ratiosTable(rows) {
  const find = (scenario, via, viewers) =>
    rows.find((row) => row.scenario === scenario && row.via === via && row.viewers === viewers)
  const lines = []
  for (const scenario of Object.keys(scenarios)) {
    const [direct, one] = [find(scenario, "direct", 1), find(scenario, "relay", 1)]
    const [ten, hundred] = [find(scenario, "relay", 10), find(scenario, "relay", 100)]
    const through = ratio(one, direct, ({ rate }) => rate)
    lines.push(
      [scenario, "deliveries/s, relay ÷ direct, end to end", number(through), ""],
      [scenario, "the same per hop (two hops ÷ one)", ...judged(2 * through, ">= 0.8", 2 * through >= 0.8)]
    )
    const flat = ratio(hundred, ten, ({ cpu }) => cpu.relay)
    lines.push([scenario, "CPU of the relay per delivery, 100 viewers ÷ 10", ...judged(flat, "<= 1.1", flat <= 1.1)])
  }
  const [direct, relay] = rows.filter(({ rounds: [{ p50 }] }) => p50 !== undefined)
  for (const name of ["p50", "p99"]) {
    const added = median(
      relay.rounds.map((round, i) => (round[name] - direct.rounds[i][name]) / direct.rounds[i][name])
    )
    const target = name === "p99" ? judged(added, "<= 1.5", added <= 1.5) : [number(added), ""]
    lines.push([relay.scenario, `${name} that the relay adds ÷ direct`, ...target])
  }
  return table([["scenario", false], ["ratio", false], ["value", true], ["target", false]], lines)
}

function valuesTable(rows) {
  const columns = [["scenario", false], ["way", false], ["viewers", true], ["deliveries/s", true]]
  const micros = ["publisher", "relay", "viewers"].map((name) => [`${name}, us`, true])
  const lines = rows.map((row) => [
    row.scenario,
    row.via,
    `${row.viewers}`,
    number(of(row, ({ rate }) => rate)),
    ...["publisher", "relay", "viewers"].map((name) =>
      row.rounds[0].cpu[name] === undefined
        ? ""
        : number(of(row, ({ cpu }) => cpu[name]))
    ),
    ...["p50", "p99"].map((name) => row.rounds[0][name] === undefined ? "" : number(of(row, (round) => round[name])))
  ])
  return table([...columns, ...micros, ["p50, ms", true], ["p99, ms", true]], lines)
}

function copiesTable(copies) {
  const lines = copies.flatMap(({ copied, scenario }) =>
    Object.entries(copied)
      .filter(([, bytes]) => bytes >= 0.005)
      .sort(([, a], [, b]) => b - a)
      .map(([who, bytes]) => [scenario, who, bytes.toFixed(2)])
  )
  return table([["scenario", false], ["who", false], ["bytes", true]], lines)
}
