// How long things take: joining a track that has a frame, and a frame's way from `write` to `onFrame`.
import { now, paced, quantile, readStamp, sleep, stamp } from "../lib/measuring.mjs"

export async function join(bench, { fresh = 0, n, size = 1200 }) {
  const publisher = await bench.publisher()
  publisher.setInitial("*", new Uint8Array(size).fill(7))
  let session = await bench.session(publisher)
  const one = async (track) => {
    const start = now()
    if (fresh) session = await bench.session(publisher)
    const arrived = Promise.withResolvers()
    const timer = setTimeout(() => arrived.reject(new Error("no first frame")), 5000)
    const subscribing = bench.subscribe(session, track, () => arrived.resolve(now() - start))
    subscribing.catch(arrived.reject)
    const took = await arrived.promise
    clearTimeout(timer)
    // leaves again, outside of the measured time
    await sleep(0)
    ;(await subscribing).close()
    return took
  }
  for (let i = 0; i < n / 4; i++) await one(`w${i}`)
  return bench.measured(async () => {
    const times = []
    for (let i = 0; i < n; i++) {
      times.push(await one(`t${i}`))
      await sleep(0)
    }
    return { value: quantile(times, 0.5), p99: quantile(times, 0.99) }
  })
}

export async function latency(bench, { duration = 1500, rate, size }) {
  const publisher = await bench.publisher()
  const times = []
  await bench.subscribe(await bench.session(publisher), "t", (frame) => times.push(now() - readStamp(frame)))
  await bench.live(publisher, "t", 1)
  const group = await publisher.group("t")
  const send = async () => {
    const frame = new Uint8Array(size)
    stamp(frame)
    await group.write(frame)
  }
  await paced(rate, 400, send)
  await sleep(50)
  times.length = 0
  globalThis.gc()
  return bench.measured(async () => {
    const sent = await paced(rate, duration, send)
    await sleep(100)
    if (times.length !== sent) throw new Error(`got ${times.length} of ${sent} frames`)
    return { value: quantile(times, 0.5), p99: quantile(times, 0.99), p999: quantile(times, 0.999) }
  })
}
