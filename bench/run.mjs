#!/usr/bin/env node
// The benchmark's command line: see README.md.
import fs from "node:fs"
import path from "node:path"
import { parseArgs } from "node:util"
import { check, record } from "./lib/check.mjs"
import { writeDocs } from "./lib/docs.mjs"
import { machine } from "./lib/measuring.mjs"
import { profile } from "./lib/profile.mjs"
import { runRounds, toRows } from "./lib/rounds.mjs"
import { bench, nodeForHttp3, setup, versions } from "./lib/setup.mjs"
import { machineLine, number, ratiosTable, valuesTable } from "./lib/table.mjs"
import { list, named, parse } from "./scenarios/catalogue.mjs"

const { positionals, values: given } = commandLine({
  allowPositionals: true,
  options: {
    transports: { type: "string" },
    scenarios: { type: "string" },
    adapters: { type: "string" }, // NAME, or NAME=FILE for one of your own
    rounds: { type: "string" },
    ms: { type: "string", default: "500" },
    timeout: { type: "string", default: "60" },
    out: { type: "string", default: path.join(bench, "results/latest") },
    node: { type: "string", default: process.execPath },
    "h3-node": { type: "string", default: process.env.BENCH_H3_NODE ?? "" },
    from: { type: "string" },
    "write-docs": { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    relay: { type: "boolean", default: false }
  }
})

const out = path.resolve(given.out)
const adaptersOf = (text) =>
  text.split(",").filter(Boolean).map((part) => {
    const [name, file] = part.split("=")
    return { name, file: file && path.resolve(file) }
  })

try {
  process.exitCode = await main() === false ? 1 : 0
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}

function commandLine(config) {
  try {
    return parseArgs(config)
  } catch (error) {
    console.error(
      `${error.message.split(". ")[0]}\nits options: ${
        Object.keys(config.options).map((name) => `--${name}`).join(" ")
      }`
    )
    process.exit(2)
  }
}

async function main() {
  if (given.from !== undefined) return report(merge(given.from.split(",")))
  setup()
  if (given.relay) {
    const { run } = await import("./relay.mjs")
    return run({ rounds: Number(given.rounds ?? 3), out: path.dirname(out), profile: given.profile })
  }
  const options = { ms: Number(given.ms), node: given.node.split(" "), timeout: Number(given.timeout) }
  const rounds = (normal) => ({ rounds: Number(given.rounds ?? normal) })
  if (given.check || given.record) {
    const about = machineLine({ machine: machine(), options: rounds(3), versions: versions() })
    return (given.record ? record : check)(options, { about, ...rounds(given.record ? 5 : 3) })
  }
  const scenarios = list(positionals[0] ?? given.scenarios ?? "")
  scenarios.forEach(parse)
  const { http3, transports } = reachable((given.transports ?? (given.profile ? "memory" : "memory,ws,h3")).split(","))
  if (given.profile) {
    return profile({ ...options, http3 }, {
      adapters: adaptersOf(given.adapters ?? "effect-moq"),
      out: path.join(path.dirname(out), "profiles"),
      scenarios: scenarios.length > 0 ? scenarios : ["frames-1200", "groups-1200", "fanout-100", "join", "latency"],
      transports
    })
  }
  return report(
    await measure({ ...options, http3 }, {
      adapters: adaptersOf(given.adapters ?? "moq-lite,floor,effect-moq,effect-moq-stream"),
      scenarios: scenarios.length > 0 ? scenarios : Object.keys(named),
      transports,
      ...rounds(5)
    })
  )
}

/** Those of the transports that there is a Node for. */
function reachable(wanted) {
  if (!wanted.includes("h3")) return { transports: wanted }
  const http3 = nodeForHttp3(given["h3-node"])
  if (http3 !== undefined) return { http3, transports: wanted }
  console.error("h3 is left out: the native binding of @moq/web-transport does not load here")
  return { transports: wanted.filter((transport) => transport !== "h3") }
}

async function measure(options, { adapters, rounds, scenarios, transports }) {
  const rows = []
  for (const transport of [...transports, "none"]) {
    for (const scenario of scenarios) {
      const { transports: only = transports } = parse(scenario)
      if (!only.includes(transport)) continue
      for (
        const row of toRows(scenario, transport, await runRounds(options, { adapters, rounds, scenario, transport }))
      ) {
        rows.push(row)
        console.error(progress(row))
      }
    }
  }
  return { machine: machine(), versions: versions(), options: { ms: options.ms, rounds }, rows }
}

function progress(row) {
  const what = `${row.transport} ${row.adapter} ${row.measure}`
  if (row.error !== undefined) return `${what}: FAILED ${row.error.split("\n")[0]}`
  const ratios = Object.entries(row.ratios).map(([base, ratio]) => `  ${number(ratio)} of ${base}`).join("")
  return `${what}: ${number(row.median)} [${number(row.min)}..${number(row.max)}] ${row.unit}${ratios}`
}

/** Several results as one: transports or scenarios that were measured apart. */
function merge(files) {
  const results = files.map((file) => JSON.parse(fs.readFileSync(file, "utf8")))
  return { ...results[0], rows: results.flatMap(({ rows }) => rows) }
}

function report(results) {
  const text = [machineLine(results), ratiosTable(results.rows), valuesTable(results.rows)].join("\n\n")
  console.log(text)
  if (given.from === undefined) {
    fs.mkdirSync(path.dirname(out), { recursive: true })
    fs.writeFileSync(`${out}.json`, JSON.stringify(results, null, 1))
    fs.writeFileSync(`${out}.md`, `# Benchmark\n\n${text}\n`)
    console.error(`wrote ${out}.{json,md}`)
  }
  if (given["write-docs"]) console.error(`wrote ${writeDocs(results)} and its chart`)
}
