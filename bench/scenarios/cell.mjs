// One cell: one scenario, one adapter, one transport, in a fresh process: a warm-up, then one measured run, and a line
// of JSON. Publisher and subscribers share this process and its event loop.
import fs from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import { adapters } from "../adapters/index.mjs"
import { machine, now, quiet, sleep } from "../lib/measuring.mjs"
import { profiled } from "../lib/profiler.mjs"
import { transports } from "../transports/index.mjs"
import { parse } from "./catalogue.mjs"

const kinds = {
  frames: async () => (await import("./frames.mjs")).frames,
  join: async () => (await import("./time.mjs")).join,
  latency: async () => (await import("./time.mjs")).latency,
  sessions: async () => (await import("./memory.mjs")).sessions,
  tracks: async () => (await import("./memory.mjs")).tracks,
  retained: async () => (await import("./memory.mjs")).retained,
  codec: async () => (await import("./codec.mjs")).codec
}
const broadcast = "bench/room"

const { adapter, file, ms, profile, scenario, transport } = JSON.parse(process.argv[2])
quiet()
// a stalled cell must run into the driver's timeout, not end with an empty event loop
setInterval(() => {}, 1000)

const cell = { adapter, scenario, transport }
try {
  const { kind, parameters, unit } = parse(scenario)
  const implementation = file === undefined
    ? await adapters[adapter]()
    : await import(pathToFileURL(path.resolve(file)))
  const bench = { adapter, ms, transport, measured: profile === undefined ? (run) => run() : profiled(profile) }
  if (transport !== "none") Object.assign(bench, await connecting(implementation))
  const result = await (await kinds[kind]())(bench, parameters)
  emit({ ...cell, unit, version: implementation.version, ...result, machine: machine() })
} catch (error) {
  emit({ ...cell, error: String(error?.stack ?? error).slice(0, 400) })
}
process.exit(0)

function emit(result) {
  fs.writeSync(1, `${JSON.stringify(result)}\n`)
}

async function connecting(implementation) {
  const host = await (await transports[transport]()).open({ protocol: implementation.protocol ?? "" })
  // a subscription that nobody refers to may be collected, and on h3 that resets its streams
  const held = []
  const publisher = () => implementation.publisher({ broadcast })
  const session = async (publisher) => {
    const { client, server } = await host.pair()
    const [, subscriber] = await Promise.all([publisher.attach(server), implementation.subscriber(client)])
    held.push(subscriber)
    return subscriber
  }
  const subscribe = async (session, track, onFrame) => {
    const subscription = await session.subscribe({ broadcast, track, onFrame })
    held.push(subscription)
    return subscription
  }
  const live = async (publisher, track, n) => {
    const end = now() + 10_000
    while (publisher.subscribers(track) < n) {
      if (now() > end) throw new Error(`only ${publisher.subscribers(track)} of ${n} subscribers`)
      await sleep(1)
    }
  }
  return { publisher, session, subscribe, live, pair: host.pair }
}
