// The viewers of the relay benchmark, each with a session of its own. Every frame is checked, and must come.
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import net from "node:net"
import { load, now, options, orExit, track as path } from "./common.mjs"
import { answering } from "./probe.mjs"

const { credits, fingerprint, rate, size, url, viewers, window } = options()
const [{ Session, Track, Transport }, { NodeTransport }] = await Promise.all([load("index"), load("node/index")])

const socket = net.connect(credits, "127.0.0.1")
socket.setNoDelay(true)

let delivered = 0
let bad = 0
let latencies = []
// how many viewers have passed each multiple of `step`: the slowest of them sets the pace
const step = Math.max(1, window >> 3)
const passed = []
let told = 0

const pass = (count) => {
  const index = count / step
  passed[index] = (passed[index] ?? 0) + 1
  while (passed[told + 1] === viewers) {
    delete passed[++told]
    const credit = Buffer.alloc(4)
    credit.writeUInt32LE(told * step)
    socket.write(credit)
  }
}

const viewer = () => {
  let count = 0
  return (payload) => {
    delivered++
    count++
    if (payload.length !== size) bad++
    if (rate === undefined) {
      if (payload[size - 1] !== 7) bad++
      if (count % step === 0) pass(count)
    } else latencies.push(now() - new DataView(payload.buffer, payload.byteOffset).getFloat64(0))
  }
}

answering(() => {
  const sorted = Float64Array.from(latencies).sort()
  latencies = []
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]
  return { delivered, bad, p50: at(0.5), p99: at(0.99) }
})

const watch = Effect.gen(function*() {
  const session = yield* Session.connect(url, { fingerprints: [fingerprint] })
  const track = yield* session.subscribe(path, { wait: "10 seconds" })
  yield* Effect.forkScoped(Track.forEachFrame(track, viewer()))
})

const transport = NodeTransport.make({ transports: ["websocket"] })
const scope = Scope.makeUnsafe()
// a relay takes 50 sessions a second from one address, after a burst of ten times as many
const all = Effect.forEach(Array.from({ length: viewers }), () => watch, { concurrency: 10, discard: true })
orExit(
  Effect.runPromise(Scope.provide(Effect.provideService(all, Transport.Transport, transport), scope))
    .then(() => process.send({ ready: {} }))
)
