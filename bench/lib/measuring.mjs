// Shared helpers: polyfills for Node 20, statistics, timed measuring, quiet console.
import fs from "node:fs"
import os from "node:os"

// @moq/lite and @moq/signals call these; Node 20 lacks them (Node 22+ has both).
Promise.withResolvers ??= function() {
  let resolve, reject
  const promise = new Promise((a, b) => {
    resolve = a
    reject = b
  })
  return { promise, resolve, reject }
}
Set.prototype.difference ??= function(other) {
  const out = new Set()
  for (const v of this) if (!other.has(v)) out.add(v)
  return out
}

export const median = (xs) => quantile(xs, 0.5)
export function quantile(xs, q) {
  const s = Float64Array.from(xs).sort()
  if (s.length === 0) return NaN
  const i = (s.length - 1) * q, lo = Math.floor(i), hi = Math.ceil(i)
  return s[lo] + (s[hi] - s[lo]) * (i - lo)
}
export const summary = (xs) => ({
  median: median(xs),
  min: Math.min(...xs),
  max: Math.max(...xs),
  runs: xs.length
})
export const sleep = (ms) => new Promise((r) => setTimeout(r, ms))
export const tick = () => new Promise((r) => setImmediate(r))
export const now = () => performance.now()

/** `warm` unmeasured calls of `fn`, then `runs` measured ones; `fn` returns one number (or an object of numbers). */
export async function measure(fn, { runs = 5, warm = 1 } = {}) {
  for (let i = 0; i < warm; i++) await fn(-1)
  const out = []
  for (let i = 0; i < runs; i++) {
    globalThis.gc?.()
    out.push(await fn(i))
  }
  return out
}

export function machine() {
  const cpu = os.cpus()
  return {
    cpu: cpu[0]?.model ?? "?",
    cores: cpu.length,
    memGiB: Math.round(os.totalmem() / 2 ** 30),
    os: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    v8: process.versions.v8,
    loadavg: os.loadavg().map((x) => Math.round(x * 100) / 100),
    glibc: process.report?.getReport?.().header?.glibcVersionRuntime,
    when: new Date().toISOString()
  }
}

/** Quiet third-party console noise; results go through `emit`. */
export function quiet() {
  for (const k of ["debug", "log", "info", "warn"]) console[k] = () => {}
  if (!process.env.BENCH_VERBOSE) console.error = () => {}
}
/** One result cell, as a JSON line on stdout; the driver (run.mjs) collects these. */
export const emit = (cell) => fs.writeSync(1, JSON.stringify(cell) + "\n")

/** Credit window: keeps at most `max` items in flight; the consumer calls `done()`, the producer awaits `room()`. */
export class Window {
  constructor(max) {
    this.max = max
    this.inflight = 0
    this.wake = null
  }
  room() {
    if (this.inflight < this.max) return undefined
    return new Promise((r) => {
      this.wake = r
    })
  }
  add(n = 1) {
    this.inflight += n
  }
  done(n = 1) {
    this.inflight -= n
    // Refill when half empty, so that the producer works in bursts and not in ping-pong.
    if (this.wake && this.inflight <= this.max >> 1) {
      const w = this.wake
      this.wake = null
      w()
    }
  }
}

/** Calls send(i) `rate` times a second for `ms`, on an absolute schedule (late ticks catch up). */
export async function paced(rate, ms, send) {
  const t0 = now(), total = Math.floor((rate * ms) / 1000)
  let i = 0
  while (i < total) {
    const due = Math.min(total, Math.floor(((now() - t0) * rate) / 1000))
    while (i < due) await send(i++)
    if (i < total) await sleep(1)
  }
  return total
}
const stampView = (u8) => new DataView(u8.buffer, u8.byteOffset, 8)
export const stamp = (u8) => stampView(u8).setFloat64(0, now())
export const readStamp = (u8) => stampView(u8).getFloat64(0)
