/**
 * What this process takes, as metrics of Effect, under the names that other Node programs use for it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { readdirSync } from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"

/**
 * Registers them in the registry of the context until the scope closes. They are measured when they are read. Where they
 * are registered already, nothing happens.
 *
 * @internal
 */
export const make: Effect.Effect<void, never, Scope.Scope> = Effect.gen(function*() {
  const context = yield* Effect.context<never>()
  const registry = Context.get(context, Metric.MetricRegistry)
  if (there.has(registry)) return
  const delay = yield* eventLoopDelay
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      there.add(registry)
      return gauges(delay).map(([name, description, unit, get]) =>
        Metric.registerUnsafe(
          Metric.gauge(name, { description, attributes: unit === undefined ? {} : { unit } }),
          context,
          { get: () => ({ value: get() }), update: () => {}, modify: () => {} }
        )
      )
    }),
    (registrations) =>
      Effect.sync(() => {
        there.delete(registry)
        for (const registration of registrations) registration.remove()
      })
  )
})

// internal

type Gauge = readonly [name: string, description: string, unit: string | undefined, get: () => number]

const there = new WeakSet<Metric.MetricRegistry>()

const gauges = (delay: () => number): ReadonlyArray<Gauge> => {
  const started = (Date.now() - process.uptime() * 1000) / 1000
  const all: Array<Gauge> = [
    ["process_start_time_seconds", "When this process started, since 1970", "seconds", () => started],
    ["process_resident_memory_bytes", "Memory of this process", "bytes", () => process.memoryUsage.rss()],
    ["nodejs_heap_size_total_bytes", "Size of the heap of JavaScript", "bytes", () => process.memoryUsage().heapTotal],
    ["nodejs_heap_size_used_bytes", "What of the heap is used", "bytes", () => process.memoryUsage().heapUsed],
    ["nodejs_external_memory_bytes", "Memory beside the heap: buffers", "bytes", () => process.memoryUsage().external],
    [
      "nodejs_eventloop_lag_p99_seconds",
      "How late timers are, 99 of 100 at most, over the last half a minute to a minute",
      "seconds",
      delay
    ]
  ]
  const descriptors = openDescriptors()
  return descriptors === undefined
    ? all
    : [...all, ["process_open_fds", "Open file descriptors", undefined, () => openDescriptors() ?? descriptors]]
}

// where the system tells
const openDescriptors = (): number | undefined => {
  for (const folder of ["/proc/self/fd", "/dev/fd"]) {
    try {
      return readdirSync(folder).length
    } catch {
      // the next one
    }
  }
  return undefined
}

// whoever reads does not reset it: there may be several
const eventLoopDelay: Effect.Effect<() => number, never, Scope.Scope> = Effect.gen(function*() {
  const histogram = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  )
  // what is measured is the time between two ticks
  const late = () => Math.max(0, histogram.percentile(99) / 1e9 - resolution / 1000)
  let before = 0
  const turn = Effect.sync(() => {
    before = late()
    histogram.reset()
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("30 seconds"), turn)))
  return () => Math.max(before, late())
})

// in milliseconds
const resolution = 20
