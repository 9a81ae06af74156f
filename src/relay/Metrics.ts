/**
 * What a relay counts of itself, as metrics of Effect: they are exposed by whatever exposes those.
 *
 * **Details**
 *
 * Counting is adding plain numbers, and the metrics read them when they are read. Relays that share a registry and the
 * attributes of their context add up.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as Limits from "../session/Limits.ts"
import type * as Monitor from "../session/Monitor.ts"
import type { TransportName } from "../transport/Transport.ts"
import type * as Cluster from "./Cluster.ts"
import type { Refusal } from "./Relay.ts"

/**
 * Where a relay counts.
 *
 * @internal
 */
export interface Metrics {
  /** What its sessions tell. */
  readonly monitor: Monitor.Monitor
  readonly session: (change: 1 | -1, transport: TransportName) => void
  readonly refused: (why: Refusal) => void
  readonly unauthorized: () => void
  /** What the caches of all tracks hold now. */
  readonly cache: (bytes: number, groups: number) => void
  /** What happened to a session with another relay, which this one is a client of. */
  readonly upstream: (event: Cluster.Event) => void
}

/**
 * Counts into the registry of the context until the scope closes: then this relay's part of what is there now (sessions,
 * subscriptions, cache) is gone from it; what has been counted stays.
 *
 * @internal
 */
export const make: Effect.Effect<Metrics, never, Scope.Scope> = Effect.gen(function*() {
  const series = seriesOf(yield* Effect.context<never>())
  const gauges: Array<Gauge> = []
  const gauge = (cell: Cell): Gauge => {
    const gauge = new Gauge(cell)
    gauges.push(gauge)
    return gauge
  }
  const bySide = (cells: BySide<Cell>): BySide<Gauge> => ({ received: gauge(cells.received), sent: gauge(cells.sent) })
  const sessions = new Map(Array.from(series.activeSessions, ([name, cell]) => [name, gauge(cell)]))
  const announces = bySide(series.announces)
  const subscriptions = bySide(series.activeSubscriptions)
  const cacheBytes = gauge(series.cacheBytes)
  const cacheGroups = gauge(series.cacheGroups)
  const upstreams = gauge(series.upstreams)
  const connected = new Set<string>()
  yield* Effect.addFinalizer(() => Effect.sync(() => gauges.forEach((gauge) => gauge.set(0))))
  return {
    monitor: {
      limit: (limit) => {
        series.limits.get(limit)!.value++
      },
      subscription: (side, change) => {
        subscriptions[side].add(change)
        if (change === 1) series.subscriptions[side].value++
      },
      announce: (side, change) => announces[side].add(change),
      fetch: (side) => {
        series.fetches[side].value++
      },
      group: (side) => {
        series.groups[side].value++
      },
      traffic: (side, frames, bytes) => {
        series.frames[side].value += frames
        series.bytes[side].value += bytes
      },
      drop: (side, reason, groups) => {
        series.drops[side].get(reason)!.value += groups
      },
      latency: (millis) => observe(series.latency, millis / 1000)
    },
    session: (change, transport) => {
      const name = sessions.has(transport) ? transport : "other"
      sessions.get(name)!.add(change)
      if (change === 1) series.sessions.get(name)!.value++
    },
    refused: (why) => {
      series.refused.get(why)!.value++
    },
    unauthorized: () => {
      series.unauthorized.value++
    },
    cache: (bytes, groups) => {
      cacheBytes.set(bytes)
      cacheGroups.set(groups)
    },
    upstream: (event) => {
      if (event._tag === "RelayConnected") connected.add(event.url)
      else connected.delete(event.url)
      upstreams.set(connected.size)
    }
  }
})

// internal

interface Cell {
  value: number
}

// what one relay has of a gauge that all in its registry share
class Gauge {
  readonly cell: Cell
  value: number
  constructor(cell: Cell) {
    this.cell = cell
    this.value = 0
  }
  add(change: number): void {
    this.value += change
    this.cell.value += change
  }
  set(value: number): void {
    this.add(value - this.value)
  }
}

interface BySide<A> {
  readonly received: A
  readonly sent: A
}

interface Histogram {
  // one more than there are boundaries
  readonly counts: Float64Array
  count: number
  sum: number
  min: number
  max: number
}

type Series = ReturnType<typeof register>

// The metrics of a registry and of the attributes that its context adds. They outlive relays: what has been counted is
// not forgotten when one begins anew.
const registered = new WeakMap<Metric.MetricRegistry, Map<string, Series>>()

const seriesOf = (context: Context.Context<never>): Series => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const attributes = JSON.stringify(Object.entries(Context.get(context, Metric.CurrentMetricAttributes)).sort())
  const all = registered.get(registry) ?? new Map<string, Series>()
  registered.set(registry, all)
  const series = all.get(attributes) ?? register(context)
  all.set(attributes, series)
  return series
}

// by a transport's own name only where the names are known: they are labels
const transports: Record<string, true> = { h3: true, websocket: true, h2: true, memory: true, other: true }

// records, so that none is forgotten

const refusals: Record<Refusal, true> = {
  sessions: true,
  sessionsPerAddress: true,
  handshakeRate: true,
  handshakeRatePerAddress: true,
  url: true,
  draining: true,
  unauthorized: true,
  handshake: true
}

const { groupsInFlight: _groups, keepAlive: _keepAlive, ...breakable } = Limits.defaults

const limits: Record<Monitor.Limit, unknown> = { ...breakable, message: true, frame: true }

const drops: Record<Monitor.Drop, true> = { expired: true, lagged: true, evicted: true, reset: true, unwanted: true }

// in seconds
const boundaries = [
  0.0001,
  0.00025,
  0.0005,
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
  5,
  10
]

const register = (context: Context.Context<never>) => {
  const counter = (name: string, description: string, attributes: Record<string, string> = {}): Cell => {
    const cell = { value: 0 }
    const metric = Metric.counter(name, { description, attributes, incremental: true })
    Metric.registerUnsafe(metric, context, { get: () => ({ count: cell.value, incremental: true }), ...readOnly })
    return cell
  }
  const gauge = (name: string, description: string, attributes: Record<string, string> = {}): Cell => {
    const cell = { value: 0 }
    const metric = Metric.gauge(name, { description, attributes })
    Metric.registerUnsafe(metric, context, { get: () => ({ value: cell.value }), ...readOnly })
    return cell
  }
  const bySide = <A>(make: (side: Monitor.Side) => A): BySide<A> => ({ received: make("received"), sent: make("sent") })
  const byLabel = <K extends string>(values: Record<K, unknown>, make: (value: string) => Cell): ReadonlyMap<K, Cell> =>
    new Map((Object.keys(values) as Array<K>).map((value) => [value, make(labelOf(value))]))
  return {
    activeSessions: byLabel(
      transports,
      (transport) => gauge("moq_relay_active_sessions", "Sessions that are open", { transport })
    ),
    sessions: byLabel(
      transports,
      (transport) => counter("moq_relay_sessions_total", "Sessions that were opened", { transport })
    ),
    refused: byLabel(
      refusals,
      (reason) => counter("moq_relay_sessions_refused_total", "Clients that got no session", { reason })
    ),
    unauthorized: counter("moq_relay_unauthorized_total", "Clients that may not do what they asked for"),
    announces: bySide((side) =>
      gauge("moq_relay_announces", "Tracks that are announced, once per Announce stream", { side })
    ),
    activeSubscriptions: bySide((side) =>
      gauge("moq_relay_active_subscriptions", "Subscriptions that are open", { side })
    ),
    subscriptions: bySide((side) =>
      counter("moq_relay_subscriptions_total", "Subscriptions that were opened", { side })
    ),
    fetches: bySide((side) => counter("moq_relay_fetches_total", "Fetches of single groups", { side })),
    groups: bySide((side) => counter("moq_relay_groups_total", "Groups that were begun", { side })),
    frames: bySide((side) => counter("moq_relay_frames_total", "Frames that have passed", { side })),
    bytes: bySide((side) =>
      counter("moq_relay_bytes_total", "Bytes of payload that have passed", { side, unit: "bytes" })
    ),
    drops: bySide((side) =>
      byLabel(
        drops,
        (reason) => counter("moq_relay_drops_total", "Groups that were given up", { side, reason })
      )
    ),
    limits: byLabel(
      limits,
      (limit) => counter("moq_relay_limits_total", "How often a limit of a session was broken", { limit })
    ),
    cacheBytes: gauge("moq_relay_cache_bytes", "Bytes that the caches of all tracks hold", { unit: "bytes" }),
    cacheGroups: gauge("moq_relay_cache_groups", "Groups that the caches of all tracks hold"),
    upstreams: gauge("moq_relay_upstream_connected", "Relays that this one is a client of, and has a session with"),
    latency: latency(context)
  }
}

const latency = (context: Context.Context<never>): Histogram => {
  const histogram: Histogram = {
    counts: new Float64Array(boundaries.length + 1),
    count: 0,
    sum: 0,
    min: Number.MAX_VALUE,
    max: -Number.MAX_VALUE
  }
  const metric = Metric.histogram("moq_relay_latency_seconds", {
    description: "From the first byte of a group in to its first byte out, once per viewer",
    attributes: { unit: "seconds" },
    boundaries
  })
  Metric.registerUnsafe(metric, context, {
    get: () => {
      let below = 0
      const { count, counts, max, min, sum } = histogram
      return {
        buckets: boundaries.map((boundary, i) => [boundary, below += counts[i]!] as [number, number]),
        count,
        min,
        max,
        sum
      }
    },
    ...readOnly
  })
  return histogram
}

const observe = (histogram: Histogram, value: number): void => {
  let bucket = 0
  while (bucket < boundaries.length && value > boundaries[bucket]!) bucket++
  histogram.counts[bucket]!++
  histogram.count++
  histogram.sum += value
  if (value < histogram.min) histogram.min = value
  if (value > histogram.max) histogram.max = value
}

const readOnly = { update: () => {}, modify: () => {} }

// "sessionsPerAddress" and "setup extensions" as labels are usually spelled
const labelOf = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll(" ", "_")
