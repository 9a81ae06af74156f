// What each transport of Node carries through the contract: both ends in this process, over loopback.
//   node networks.mjs [websocket,h3,h2]
import { Effect, Fiber, Stream } from "effect"
import { performance } from "node:perf_hooks"
import { NodeTransport } from "../dist/node/index.js"

const names = (process.argv[2] ?? "websocket,h3,h2").split(",")
const count = { small: 100_000, large: 4_000, streams: 5_000, trips: 500 }

const connected = (name) =>
  Effect.gen(function*() {
    const server = yield* NodeTransport.makeServer({ port: 0, tls: { generate: ["127.0.0.1"] }, transports: [name] })
    const accepting = yield* Effect.forkChild(
      Stream.runHead(server.requests).pipe(
        Effect.flatMap(Effect.fromOption),
        Effect.flatMap((request) => request.accept)
      )
    )
    const url = new URL(server.urls.find((url) => url.includes("127.0.0.1")))
    const client = yield* NodeTransport.make({ transports: [name] }).connect(url, {
      fingerprints: [server.fingerprint]
    })
    return { client, server: yield* Fiber.join(accepting) }
  })

const drain = (receive) => {
  let bytes = 0
  return Effect.forever(Effect.map(receive.pull, (chunks) => chunks.forEach((chunk) => bytes += chunk.length))).pipe(
    Effect.catchCause(() => Effect.sync(() => bytes))
  )
}

const timed = (effect) =>
  Effect.gen(function*() {
    const start = performance.now()
    yield* effect
    return (performance.now() - start) / 1000
  })

// writes of `size` bytes on one stream, until the last has arrived
const writes = ({ client, server }, size, times) =>
  Effect.gen(function*() {
    const send = yield* client.openUni()
    const chunk = new Uint8Array(size).fill(7)
    yield* send.write([chunk])
    const receive = yield* server.acceptUni
    const seconds = yield* timed(Effect.all([
      Effect.andThen(Effect.repeat(send.write([chunk]), { times: times - 1 }), send.finish),
      drain(receive)
    ], { concurrency: 2 }))
    return times / seconds
  }).pipe(Effect.scoped)

// streams of one write, one after the other, until the last has arrived
const streams = ({ client, server }, times) =>
  Effect.gen(function*() {
    const chunk = new Uint8Array(1200).fill(7)
    const one = Effect.scoped(Effect.gen(function*() {
      const send = yield* client.openUni()
      yield* send.write([chunk])
      yield* send.finish
    }))
    const other = Effect.scoped(Effect.flatMap(server.acceptUni, drain))
    const seconds = yield* timed(Effect.all([
      Effect.repeat(one, { times: times - 1 }),
      Effect.repeat(other, { times: times - 1 })
    ], { concurrency: 2 }))
    return times / seconds
  })

const roundTrip = ({ client, server }, times) =>
  Effect.gen(function*() {
    const near = yield* client.openBi
    yield* near.send.write([Uint8Array.of(1)])
    const far = yield* server.acceptBi
    yield* Effect.forkChild(
      Effect.ignore(Effect.forever(Effect.flatMap(far.receive.pull, (chunks) => far.send.write(chunks))))
    )
    yield* near.receive.pull
    const measured = []
    for (let i = 0; i < times; i++) {
      const start = performance.now()
      yield* near.send.write([Uint8Array.of(1)])
      yield* near.receive.pull
      measured.push(performance.now() - start)
    }
    return measured.sort((a, b) => a - b)[times >> 1]
  }).pipe(Effect.scoped)

const round = (n) => n.toLocaleString("en", { maximumFractionDigits: 0 }).replaceAll(",", " ")

console.log("| transport | writes of 1,200 B /s | MB/s in 16 KiB | new streams of 1,200 B /s | round trip, median ms |")
console.log("| --- | ---: | ---: | ---: | ---: |")
for (const name of names) {
  const row = Effect.gen(function*() {
    const pair = yield* connected(name)
    yield* writes(pair, 1200, count.small / 10)
    const small = yield* writes(pair, 1200, count.small)
    const large = (yield* writes(pair, 16384, count.large)) * 16384 / 1e6
    const opened = yield* streams(pair, count.streams)
    const trip = yield* roundTrip(pair, count.trips)
    return `| ${name} | ${round(small)} | ${round(large)} | ${round(opened)} | ${trip.toFixed(3)} |`
  })
  console.log(await Effect.runPromise(Effect.scoped(row)).catch((error) => `| ${name} | ${error.message} |`))
}
process.exit()
