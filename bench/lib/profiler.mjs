// Runs a stretch of a cell under the CPU profiler, and writes what it saw.
import fs from "node:fs"
import { Session } from "node:inspector/promises"

export const profiled = (file) => async (run) => {
  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.setSamplingInterval", { interval: 200 })
  await session.post("Profiler.start")
  try {
    return await run()
  } finally {
    const { profile } = await session.post("Profiler.stop")
    fs.writeFileSync(file, JSON.stringify(profile))
    session.disconnect()
  }
}
