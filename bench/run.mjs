#!/usr/bin/env node
// The driver: runs every cell in its own child process, one after another, adapters taking turns round by round, and
// writes raw JSON and a Markdown table with ratios. See README.md.
import { spawn } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { machine, median, summary } from "./lib/measuring.mjs"

const here = path.dirname(fileURLToPath(import.meta.url))
const { values: o } = parseArgs({
  options: {
    transports: { type: "string", default: "memory,ws" },
    adapters: { type: "string", default: "moq-lite,effect-moq,floor" }, // first = base of the ratios; name or name=FILE
    scenarios: {
      type: "string",
      default:
        "frames-100,frames-1200,frames-16384,groups-1200,fanout-1,fanout-10,fanout-100,join,join-fresh,latency,mem-session,mem-track,retained"
    },
    rounds: { type: "string", default: "5" },
    node: { type: "string", default: process.execPath }, // command line of the node that runs the cells
    label: { type: "string", default: "" },
    out: { type: "string", default: path.join(here, "results", "latest") },
    timeout: { type: "string", default: "60" }
  }
})
const list = (s) => s.split(",").filter(Boolean)
const rounds = Number(o.rounds), transports = list(o.transports)
const adapters = list(o.adapters).map((a) => {
  const [name, file] = a.split("=")
  return { name, file: file && path.resolve(file) }
})
const memoryOnly = new Set(["mem-session", "mem-track", "retained"])
const lowerIsBetter = (unit) => /^(ms|bytes)/.test(unit)
const cells = []

function child(script, arg) {
  const cmd = o.node.split(" ")
  return new Promise((resolve) => {
    const p = spawn(
      cmd[0],
      [...cmd.slice(1), "--expose-gc", path.join(here, "scenarios", script), JSON.stringify(arg)],
      { stdio: ["ignore", "pipe", "pipe"] }
    )
    let out = "", err = ""
    p.stdout.on("data", (d) => (out += d))
    p.stderr.on("data", (d) => (err += d))
    const timer = setTimeout(() => p.kill("SIGKILL"), Number(o.timeout) * 1000)
    p.on("close", (code, signal) => {
      clearTimeout(timer)
      const got = out.split("\n").flatMap((l) => {
        try {
          return l.startsWith("{") ? [JSON.parse(l)] : []
        } catch {
          return []
        }
      })
      if (!got.length) {
        got.push({
          group: script,
          ...arg,
          metric: arg.scenario ?? script,
          error: `exit ${code ?? signal}: ${err.slice(-300)}`
        })
      }
      resolve(got)
    })
  })
}
const fmt = (
  x
) => (x === undefined || Number.isNaN(x)
  ? "-"
  : Math.abs(x) >= 1000
  ? Math.round(x).toLocaleString("en-US").replaceAll(",", " ")
  : x >= 100
  ? x.toFixed(0)
  : x >= 10
  ? x.toFixed(1)
  : x.toFixed(3))
const log = (c) =>
  process.stderr.write(
    `${[c.transport, c.adapter, c.metric].filter(Boolean).join(" ")}: ${
      c.error
        ? `ERROR ${c.error.slice(0, 160)}`
        : `${fmt(c.median)} [${fmt(c.min)}..${fmt(c.max)}] ${c.unit}${c.ratio ? `  x${c.ratio.median.toFixed(2)}` : ""}`
    }\n`
  )
const push = (c) => {
  c.label = o.label
  cells.push(c)
  log(c)
}

for (const transport of transports) {
  for (const scenario of list(o.scenarios)) {
    if (memoryOnly.has(scenario) && transport !== "memory") continue
    const got = new Map(adapters.map((a) => [a.name, []]))
    for (let r = 0; r < rounds; r++) {
      // Alternate the order, so that a slow spell of the machine does not always hit the same adapter.
      for (const a of r % 2 ? [...adapters].reverse() : adapters) {
        const [c] = await child("pubsub.mjs", { scenario, transport, adapter: a.name, file: a.file })
        got.get(a.name).push(c)
      }
    }
    const base = got.get(adapters[0].name)
    for (const a of adapters) {
      const cs = got.get(a.name), ok = cs.filter((c) => !c.error)
      if (!ok.length) {
        push({ group: "pubsub", adapter: a.name, transport, metric: scenario, error: cs[0].error })
        continue
      }
      const unit = ok[0].unit,
        ratios = cs.flatMap((c, i) => (c.error || base[i].error
          ? []
          : [lowerIsBetter(unit) ? base[i].value / c.value : c.value / base[i].value])
        )
      const extra = {}
      for (const k of ["MBps", "p99", "p999", "pairBytes"]) {
        if (ok[0][k] !== undefined) {
          extra[k] = median(ok.map((c) => c[k]))
        }
      }
      push({
        group: "pubsub",
        adapter: a.name,
        version: ok[0].version,
        transport,
        metric: scenario,
        unit,
        ...summary(ok.map((c) => c.value)),
        values: ok.map((c) => c.value),
        failed: cs.length - ok.length,
        ...extra,
        ...(a !== adapters[0] && ratios.length ? { ratio: summary(ratios) } : {}),
        machine: ok[0].machine
      })
    }
  }
}

const m = machine()
fs.mkdirSync(path.dirname(o.out), { recursive: true })
fs.writeFileSync(o.out + ".json", JSON.stringify({ label: o.label, driver: m, options: o, cells }, null, 1))
const md = [
  `# Benchmark ${o.label}`,
  "",
  `${m.cpu}, ${m.cores} cores, ${m.memGiB} GiB, ${m.os}; cells on Node ${
    cells.find((c) => c.machine)?.machine.node
  }; load ${m.loadavg.join("/")}; ${m.when}`,
  "",
  `Median [min..max] of ${rounds} runs. "ratio" is the median of the per-round ratios to ${
    adapters[0].name
  }, turned so that more than 1 is better.`,
  "",
  "| group | transport | who | metric | median | min | max | unit | MB/s | p99 | ratio |",
  "|---|---|---|---|--:|--:|--:|---|--:|--:|--:|",
  ...cells.map((c) =>
    `| ${[c.group, c.transport ?? "", c.adapter ?? "", c.metric].join(" | ")} | ${
      c.error
        ? `ERROR ${c.error.split("\n")[0].slice(0, 80)} | | | | | | |`
        : `${[c.median, c.min, c.max].map(fmt).join(" | ")} | ${c.unit} | ${c.MBps ? fmt(c.MBps) : ""} | ${
          c.p99 ? fmt(c.p99) : ""
        } | ${c.ratio ? c.ratio.median.toFixed(2) : ""} |`
    }`
  )
]
fs.writeFileSync(o.out + ".md", md.join("\n") + "\n")
process.stderr.write(`wrote ${o.out}.{json,md}\n`)
