// Where the time of a cell goes: self time by module and by function, from a CPU profile.
import fs from "node:fs"
import path from "node:path"
import { runCell } from "./rounds.mjs"
import { number, table } from "./table.mjs"

export async function profile(options, { adapters, out, scenarios, transports }) {
  fs.mkdirSync(out, { recursive: true })
  for (const transport of transports) {
    for (const scenario of scenarios) {
      for (const { file, name } of adapters) {
        const to = path.join(out, `${transport}-${scenario.replaceAll(/[^\w-]+/g, "_")}-${name}.cpuprofile`)
        const cell = await runCell({ ...options, ms: options.ms * 4 }, {
          adapter: name,
          file,
          scenario,
          transport,
          profile: to
        })
        if (cell.error !== undefined) throw new Error(`${transport} ${scenario} ${name}: ${cell.error}`)
        const { functions, modules } = selfTimes(JSON.parse(fs.readFileSync(to, "utf8")))
        console.log(`\n## ${name}, ${scenario} over ${transport}\n`)
        const all = total(modules), idle = take(modules, "(idle)") / all
        take(functions, "(idle)")
        console.log(`${number(cell.value)} ${cell.unit} under the profiler, which wrote ${to}`)
        console.log(`${(100 * idle).toFixed(0)} % of the time was idle; shares of the rest:\n`)
        console.log(shares("module", modules, 25))
        console.log(`\n${shares("function", functions, 25)}`)
      }
    }
  }
}

function take(times, key) {
  const time = times.get(key) ?? 0
  times.delete(key)
  return time
}

const total = (times) => [...times.values()].reduce((sum, time) => sum + time, 0)

function shares(heading, times, count) {
  const all = total(times)
  const first = [...times].sort(([, a], [, b]) => b - a).slice(0, count)
  return table(
    [["self", true], [heading, false]],
    first.map(([name, time]) => [`${(100 * time / all).toFixed(1)} %`, name])
  )
}

/** Microseconds by module, and by function. */
export function selfTimes({ nodes, samples, timeDeltas }) {
  const frames = new Map(nodes.map((node) => [node.id, node.callFrame]))
  const modules = new Map(), functions = new Map()
  const add = (to, key, time) => to.set(key, (to.get(key) ?? 0) + time)
  samples.forEach((id, i) => {
    const frame = frames.get(id), module = moduleOf(frame)
    // the profiler's own, as it starts
    if (module === "(native)" && frame.functionName === "dispatch") return
    add(modules, module, timeDeltas[i])
    const name = frame.functionName || "(anonymous)"
    add(
      functions,
      name.startsWith("(") && module === name ? name : `${name}, ${module}:${frame.lineNumber + 1}`,
      timeDeltas[i]
    )
  })
  return { modules, functions }
}

/** Ours by file; Effect, packages and Node by name. */
export function moduleOf({ functionName, url }) {
  // (idle), (garbage collector), (program): what is not JavaScript
  if (url === "") return functionName.startsWith("(") ? functionName : "(native)"
  if (url.includes("webstreams")) return "node web streams"
  if (url.startsWith("node:")) return url
  const parts = url.split("/node_modules/")
  const [scope, name, ...rest] = parts.at(-1).split("/")
  const build = /\/(?:dist|dist-[^/]+)\/(.*)$/.exec(url)
  if (build !== null && parts.length === 1 || scope === ".cache") return build[1]
  if (parts.length === 1) return url.split("/").slice(-2).join("/")
  return scope === "effect" ? `effect/${rest.at(-1) ?? name}` : scope.startsWith("@") ? `${scope}/${name}` : scope
}
