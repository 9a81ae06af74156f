// (2) One pub/sub scenario, one adapter, one transport: a warm-up, then one measured run, in a fresh process.
// Publisher and subscribers share this process and its event loop.
import { pathToFileURL } from "node:url"
import { adapters } from "../adapters/index.mjs"
import { emit, machine, now, paced, quantile, quiet, readStamp, sleep, stamp, tick, Window } from "../lib/measuring.mjs"
import { transports } from "../transports/index.mjs"

const opt = JSON.parse(process.argv[2])
const { scenario, transport, adapter, file, ms = 500 } = opt
quiet()
setInterval(() => {}, 1000) // a stalled cell must run into the driver's timeout, not end with an empty event loop
const A = file ? await import(pathToFileURL(file)) : await adapters[adapter]()
const host = await (await transports[transport]()).open({ protocol: A.protocol ?? "" })
const B = "bench/room"
const cleanup = []
const hold = [] // an unreferenced subscription may be collected; on h3 that resets its streams

async function session(pub) {
  const { client, server } = await host.pair()
  const [, sub] = await Promise.all([pub.attach(server), A.subscriber(client)])
  cleanup.push(() => sub.close())
  return sub
}
async function live(pub, track, n) {
  const end = now() + 10000
  while (pub.subscribers(track) < n) {
    if (now() > end) throw new Error(`only ${pub.subscribers(track)} of ${n} subscribers`)
    await sleep(1)
  }
}

// frames(): one group (or a group per frame), `subs` sessions; at most `window` deliveries per subscriber in flight.
async function frames({ size, subs = 1, perGroup = Infinity, window = 256 }) {
  const pub = await A.publisher({ broadcast: B }), win = new Window(window * subs)
  let got = 0, bytes = 0, bad = 0
  const onFrame = (f) => {
    got++
    bytes += f.byteLength
    if (f.byteLength !== size || f[size - 1] !== 7) bad++
    win.done()
  }
  for (let i = 0; i < subs; i++) hold.push(await (await session(pub)).subscribe({ broadcast: B, track: "t", onFrame }))
  await live(pub, "t", subs)
  const frame = new Uint8Array(size).fill(7)
  async function run(duration) {
    const start = got, t0 = now(), end = t0 + duration
    let sent = 0, g, inGroup = 0
    while (now() < end) {
      for (let i = 0; i < 8; i++) {
        // Awaits only what asks to be awaited, so a publisher may burst up to the window within one turn.
        let p = win.room()
        if (p) await p
        win.add(subs)
        if (!g) {
          g = pub.group("t")
          if (g.then) g = await g
          inGroup = 0
        }
        if ((p = g.write(frame))) await p
        sent++
        if (++inGroup >= perGroup) {
          if ((p = g.close())) await p
          g = undefined
        }
      }
    }
    const stop = now() + 8000
    while (got - start < sent * subs) {
      if (now() > stop) throw new Error(`got ${got - start} of ${sent * subs}`)
      await (transport === "memory" ? tick() : sleep(0))
    }
    const s = (now() - t0) / 1e3
    await g?.close()
    return (sent * subs) / s
  }
  await run(ms * 0.6)
  globalThis.gc?.()
  const cpu0 = process.cpuUsage(), v = await run(ms), cpu = process.cpuUsage(cpu0)
  if (bad) throw new Error(`${bad} corrupt frames`)
  return { value: v, MBps: (v * size) / 1e6, cpuMs: (cpu.user + cpu.system) / 1e3 }
}
async function latency({ rate = 1000, duration = 1500, size = 1200 }) {
  const pub = await A.publisher({ broadcast: B }), lat = []
  hold.push(
    await (await session(pub)).subscribe({ broadcast: B, track: "t", onFrame: (f) => lat.push(now() - readStamp(f)) })
  )
  await live(pub, "t", 1)
  const g = await pub.group("t")
  const send = async () => {
    const f = new Uint8Array(size)
    stamp(f)
    await g.write(f)
  }
  await paced(rate, 400, send)
  await sleep(50)
  lat.length = 0
  globalThis.gc?.()
  const n = await paced(rate, duration, send)
  await sleep(100)
  if (lat.length !== n) throw new Error(`got ${lat.length} of ${n}`)
  return { value: quantile(lat, 0.5), p99: quantile(lat, 0.99), p999: quantile(lat, 0.999) }
}
async function join({ n = 100, fresh = false }) {
  const pub = await A.publisher({ broadcast: B })
  pub.setInitial("*", new Uint8Array(1200).fill(7))
  let s = await session(pub)
  const one = async (i) => {
    const t0 = now()
    if (fresh) s = await session(pub)
    let handle, took
    await new Promise((res, rej) => {
      const timer = setTimeout(() => rej(new Error("no first frame")), 5000)
      s.subscribe({
        broadcast: B,
        track: `t${i}`,
        onFrame: () => {
          took ??= now() - t0
          clearTimeout(timer)
          res()
        }
      }).then((h) => {
        handle = h
      }, rej)
    })
    // Leave again, outside the measured time: fails-components allows 100 open bidi streams a session.
    await sleep(0)
    handle?.close()
    return took
  }
  for (let i = 0; i < n / 4; i++) await one(`w${i}`)
  const ts = []
  for (let i = 0; i < n; i++) {
    ts.push(await one(i))
    await sleep(0)
  }
  return { value: quantile(ts, 0.5), p99: quantile(ts, 0.99) }
}
const heap = async () => {
  for (let i = 0; i < 4; i++) {
    globalThis.gc()
    await sleep(30)
  }
  const m = process.memoryUsage()
  return m.heapUsed + m.external
}
// Idle memory, both ends together; the transport pair's own memory is measured apart and taken off for `sessions`.
async function memory({ n = 200, kind }) {
  const pub = await A.publisher({ broadcast: B })
  const s = await session(pub), keep = [await s.subscribe({ broadcast: B, track: "warm", onFrame() {} })]
  await live(pub, "warm", 1)
  if (kind === "tracks") {
    const h0 = await heap()
    for (let i = 0; i < n; i++) keep.push(await s.subscribe({ broadcast: B, track: `t${i}`, onFrame() {} }))
    for (let i = 0; i < n; i++) await live(pub, `t${i}`, 1)
    return { value: ((await heap()) - h0) / n, n: keep.length }
  }
  const h0 = await heap()
  for (let i = 0; i < n; i++) keep.push(await host.pair())
  const h1 = await heap()
  for (let i = 0; i < n; i++) {
    const sub = await session(pub)
    keep.push(sub, await sub.subscribe({ broadcast: B, track: "t", onFrame() {} }))
  }
  await live(pub, "t", n)
  const h2 = await heap()
  return { value: ((h2 - h1) - (h1 - h0)) / n, pairBytes: (h1 - h0) / n, n: keep.length }
}
// Heap still held per frame after `n` frames went through one group that stays open.
async function retained({ n = 40000, size = 100 }) {
  const pub = await A.publisher({ broadcast: B }), win = new Window(256)
  let got = 0
  hold.push(
    await (await session(pub)).subscribe({
      broadcast: B,
      track: "t",
      onFrame: () => {
        got++
        win.done()
      }
    })
  )
  await live(pub, "t", 1)
  const g = await pub.group("t"), frame = new Uint8Array(size).fill(7)
  const push = async (k) => {
    const want = got + k
    for (let i = 0; i < k; i++) {
      await win.room()
      win.add()
      await g.write(frame)
    }
    while (got < want) await sleep(1)
  }
  await push(2000)
  const h0 = await heap()
  await push(n)
  const h1 = await heap()
  return { value: (h1 - h0) / n }
}

const scenarios = {
  "frames-100": ["frames/s", () => frames({ size: 100 })],
  "frames-1200": ["frames/s", () => frames({ size: 1200 })],
  "frames-16384": ["frames/s", () => frames({ size: 16384, window: 64 })],
  "groups-1200": ["groups/s", () => frames({ size: 1200, perGroup: 1, window: 64 })],
  "fanout-1": ["deliveries/s", () => frames({ size: 1200, subs: 1, window: 64 })],
  "fanout-10": ["deliveries/s", () => frames({ size: 1200, subs: 10, window: 64 })],
  "fanout-100": ["deliveries/s", () => frames({ size: 1200, subs: 100, window: 64 })],
  "join": ["ms", () => join({})],
  "join-fresh": ["ms", () => join({ n: 40, fresh: true })],
  "latency": ["ms", () => latency({})],
  "mem-session": ["bytes", () => memory({ kind: "sessions", n: transport === "memory" ? 200 : 60 })],
  "mem-track": ["bytes", () => memory({ kind: "tracks", n: transport === "memory" ? 500 : 60 })],
  "retained": ["bytes/frame", () => retained({})]
}
try {
  const [unit, fn] = scenarios[scenario]
  const r = await fn()
  emit({ group: "pubsub", adapter, version: A.version, transport, metric: scenario, unit, ...r, machine: machine() })
} catch (e) {
  emit({ group: "pubsub", adapter, transport, metric: scenario, error: String(e?.stack ?? e).slice(0, 400) })
}
hold.length = 0
setTimeout(() => process.exit(0), 10)
