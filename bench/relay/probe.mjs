// Loaded before anything else in each process of the relay benchmark: it answers what the process has used, and begins
// and ends its CPU profile.
import fs from "node:fs"
import { Session } from "node:inspector/promises"
import { performance } from "node:perf_hooks"

const extras = []

/** Adds what a function gives to the answers of this process. */
export const answering = (extra) => void extras.push(extra)

if (process.env.BENCH_COPIES !== undefined) answering((await import("./copies.mjs")).count())

let before = performance.eventLoopUtilization()
let profiler

process.on("message", async ({ ask, profile }) => {
  if (ask === undefined) return
  if (profile !== undefined) await toggle(profile)
  const now = performance.eventLoopUtilization()
  const { utilization } = performance.eventLoopUtilization(now, before)
  before = now
  const usage = { cpu: process.cpuUsage(), memory: process.memoryUsage(), utilization }
  process.send({ answer: ask, ...Object.assign(usage, ...extras.map((extra) => extra())) })
})
// nobody asks any more
process.on("disconnect", () => process.exit(0))

// a profile that has begun is written to a file
async function toggle(file) {
  if (profiler !== undefined) {
    const { profile } = await profiler.post("Profiler.stop")
    return fs.writeFileSync(file, JSON.stringify(profile))
  }
  profiler = new Session()
  profiler.connect()
  await profiler.post("Profiler.enable")
  await profiler.post("Profiler.start")
}
