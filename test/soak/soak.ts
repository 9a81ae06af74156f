/**
 * A relay for a long time, with people who come and go: memory must not grow, and when all have gone nothing may be left.
 * Writes the samples and a picture of them, and ends with 1 when either is not so.
 */
import { Clock, Effect, Exit, Layer, Metric, Schedule, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import type { Transport } from "../../src/transport/Transport.ts"
import { csv, type Sample, settled, slope, svg } from "./plot.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    out: { type: "string", default: "bench/results" }
  }
})
const minutes = Number(values.minutes)
if (!(minutes > 0)) throw new RangeError("--minutes must be above 0")

const collect = globalThis.gc!

const print = (line: string): void => void process.stdout.write(`${line}\n`)

/** A crowd that is killed from time to time, and replaced by another. */
const crowd = (name: string, url: string, life: number): Effect.Effect<never> => {
  const start = Effect.acquireRelease(
    Effect.sync(() => fork(new URL("crowd.mjs", import.meta.url).pathname, [url, name], { stdio: "inherit" })),
    killed
  )
  return Effect.forever(Effect.scoped(Effect.andThen(start, Effect.sleep(life))))
}

const killed = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    child.on("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Everything that a relay counts, which must be what it was when nobody is there any more. */
const ledger = Effect.gen(function*() {
  const relay = yield* Relay.Relay
  const counted: Record<string, number> = {
    sessions: yield* relay.sessions,
    "sessions in detail": (yield* relay.state).length,
    tracks: relay.origin.paths.length
  }
  for (const metric of yield* Metric.snapshot) {
    if (metric.type !== "Gauge") continue
    const attributes = Object.entries(metric.attributes ?? {}).map(([key, value]) => `${key}=${value}`).join(",")
    counted[`${metric.id}{${attributes}}`] = Number(metric.state.value)
  }
  return counted
})

const differences = (before: Record<string, number>, after: Record<string, number>): ReadonlyArray<string> =>
  Object.entries(after)
    .filter(([name, count]) => count !== (before[name] ?? 0))
    .map(([name, count]) => `${name}: ${before[name] ?? 0} before, ${count} after`)

const soak: Effect.Effect<boolean, unknown, Relay.Relay | Transport | Scope.Scope> = Effect.gen(function*() {
  const relay = yield* Relay.Relay
  const url = relay.urls[0]!
  const started = yield* Clock.currentTimeMillis
  const samples: Array<Sample> = []
  const sample = Effect.gen(function*() {
    collect()
    collect()
    const { arrayBuffers, heapUsed, rss } = process.memoryUsage()
    const taken: Sample = {
      minute: ((yield* Clock.currentTimeMillis) - started) / 60_000,
      used: (heapUsed + arrayBuffers) / 1e6,
      rss: rss / 1e6,
      sessions: yield* relay.sessions,
      tracks: relay.origin.paths.length
    }
    samples.push(taken)
    return taken
  })
  // a first session, for what is made once and stays
  yield* Effect.scoped(Session.connect(url, { insecure: true }))
  yield* Effect.sleep("10 seconds")
  const before = yield* ledger
  const { used: atFirst } = yield* sample

  const people = Effect.all([crowd("one", url, 41_000), crowd("two", url, 67_000), crowd("three", url, 600_000)], {
    concurrency: "unbounded"
  })
  const sampling = Effect.repeat(sample, Schedule.spaced("5 seconds"))
  const reporting = Effect.repeat(
    Effect.sync(() => {
      const { minute, rss, sessions, tracks, used } = samples.at(-1)!
      print(
        `${minute.toFixed(1)} min: ${used.toFixed(1)} MB, resident ${
          rss.toFixed(0)
        }, ${sessions} sessions, ${tracks} tracks`
      )
    }),
    Schedule.spaced("1 minute")
  )
  yield* Effect.timeoutOption(Effect.all([people, sampling, reporting], { concurrency: "unbounded" }), minutes * 60_000)

  const growth = slope(settled(samples))
  // what is lost lingers, and a connection that was cut may have to be missed
  const left = yield* Effect.map(ledger, (after) => differences(before, after)).pipe(
    Effect.repeat({ schedule: Schedule.spaced("1 second"), until: (left) => left.length === 0, times: 60 })
  )
  const { used: atLast } = yield* sample
  const isFlat = growth < 1
  const verdict =
    `${isFlat && left.length === 0 ? "flat" : "NOT flat"}: ${growth.toFixed(2)} MB a minute after the start, ` +
    `${atFirst.toFixed(1)} MB before, ${atLast.toFixed(1)} MB after ${minutes} minutes, ` +
    (left.length === 0 ? "nothing left" : `left: ${left.join("; ")}`)
  print(verdict)
  mkdirSync(values.out, { recursive: true })
  writeFileSync(`${values.out}/soak.csv`, csv(samples))
  writeFileSync(`${values.out}/soak.svg`, svg(samples, `A relay over ${minutes} minutes`))
  return isFlat && left.length === 0
})

const RelayLayer = Relay.layer().pipe(
  Layer.provide(NodeTransport.layerServer({ port: 0, transports: ["websocket"], tls: { generate: ["localhost"] } }))
)

Effect.runPromiseExit(soak.pipe(
  Effect.scoped,
  Effect.provide([RelayLayer, NodeTransport.layerWith({ transports: ["websocket"] })]),
  Metric.enableRuntimeMetrics
)).then((exit) => {
  if (Exit.isFailure(exit)) process.stderr.write(`${String(exit.cause)}\n`)
  process.exit(Exit.isSuccess(exit) && exit.value ? 0 : 1)
})
