// Runs cells, each in a process of its own, adapters taking turns round by round, and makes rows of what they say.
import { spawn } from "node:child_process"
import path from "node:path"
import { isLowerBetter, parse } from "../scenarios/catalogue.mjs"
import { median, summary } from "./measuring.mjs"
import { bench } from "./setup.mjs"

/** Runs one cell; one that fails gets a second try. */
export async function runCell(options, spec) {
  const cell = await attempt(options, spec)
  return cell.error === undefined ? cell : attempt(options, spec)
}

function attempt({ http3, ms, node, timeout }, spec) {
  const command = spec.transport === "h3" ? http3 : node
  const argument = JSON.stringify({ ms, ...spec })
  const script = path.join(bench, "scenarios/cell.mjs")
  return new Promise((done) => {
    const child = spawn(command[0], [...command.slice(1), "--expose-gc", script, argument], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    let out = "", problem = ""
    child.stdout.on("data", (data) => out += data)
    child.stderr.on("data", (data) => problem += data)
    const timer = setTimeout(() => child.kill("SIGKILL"), timeout * 1000)
    child.on("close", (code, signal) => {
      clearTimeout(timer)
      const line = out.split("\n").find((line) => line.startsWith("{"))
      done(line === undefined ? { ...spec, error: `exit ${code ?? signal}: ${problem.slice(-300)}` } : JSON.parse(line))
    })
  })
}

/** The cells of every round, `{ [adapter]: Array<cell> }`, of one scenario on one transport. */
export async function runRounds(options, { adapters, rounds, scenario, transport }) {
  const cells = Object.fromEntries(adapters.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    // the order alternates, so that a slow spell of the machine does not always hit the same adapter
    for (const { file, name } of round % 2 ? adapters.toReversed() : adapters) {
      cells[name].push(await runCell(options, { adapter: name, file, scenario, transport }))
    }
  }
  return cells
}

/**
 * A row per adapter and measure: its values, and the median of its ratios to the adapters that things are measured by,
 * round by round. A ratio is what this adapter has divided by what that has, whichever is better.
 */
export function toRows(scenario, transport, cells) {
  const measures = parse(scenario).kind === "latency"
    ? [[scenario, "value"], [`${scenario} p99`, "p99"]]
    : [[scenario, "value"]]
  return measures.flatMap(([measure, key]) =>
    Object.keys(cells).map((adapter) => toRow({ scenario, measure, transport, adapter }, key, cells))
  )
}

function toRow(row, key, cells) {
  const own = cells[row.adapter]
  const good = own.filter((cell) => cell.error === undefined)
  if (good.length === 0) return { ...row, error: own[0].error }
  const ratios = {}
  for (const base of ["moq-lite", "floor"]) {
    if (base === row.adapter || cells[base] === undefined) continue
    const each = own.map((cell, round) => cell[key] / cells[base][round][key]).filter(Number.isFinite)
    if (each.length > 0) ratios[base] = median(each)
  }
  const { machine, p99, unit, version } = good[0]
  return {
    ...row,
    unit,
    version,
    ...summary(good.map((cell) => cell[key])),
    values: good.map((cell) => cell[key]),
    failed: own.length - good.length,
    ...(key === "value" && p99 !== undefined ? { p99: median(good.map((cell) => cell.p99)) } : {}),
    ratios,
    node: machine.node
  }
}

/** Ratios turned so that more is better. */
export const gain = (row, base) => {
  const ratio = row.ratios?.[base]
  return ratio === undefined ? undefined : isLowerBetter(row.unit) ? 1 / ratio : ratio
}
