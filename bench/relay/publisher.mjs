// The publisher of the relay benchmark: a client of the relay, or, without one, the server that viewers connect to.
//
// It keeps `window` frames on their way: viewers tell through a socket of their own, past what is measured, how many
// frames the slowest of them has. With a `rate` it writes so many frames a second, whatever is on its way.
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import net from "node:net"
import { load, now, options, orExit, track as path } from "./common.mjs"
import { answering } from "./probe.mjs"

const { perGroup, rate, relay, size, window } = options()
const [{ Router, Session, Track, Transport }, { NodeTransport }] = await Promise.all([
  load("index"),
  load("node/index")
])

const scope = Scope.makeUnsafe()
const run = (effect) => Effect.runPromise(Scope.provide(effect, scope))

// every frame must arrive: without an order, a group that newer ones overtake could be given up
const track = Effect.runSync(Scope.provide(Track.make(path, { order: "asc" }), scope))

// frames

let sent = 0
let seen = 0
let isSending = false
let group
let inGroup = 0
// frames are not changed once they are written, so all can be one
const frame = new Uint8Array(size).fill(7)

const write = (payload) => {
  if (group === undefined || inGroup === perGroup) {
    group?.finishUnsafe()
    group = track.appendGroupUnsafe()
    inGroup = 0
  }
  group.writeFrameUnsafe(payload)
  inGroup++
  sent++
}

const fill = () => {
  while (isSending && sent - seen < window) write(frame)
}

// on an absolute schedule: a late timer makes up for what it missed
const pace = () => {
  const begin = now()
  let count = 0
  const tick = () => {
    if (!isSending) return
    for (const due = (now() - begin) * rate / 1000; count < due; count++) {
      const stamped = new Uint8Array(size)
      new DataView(stamped.buffer).setFloat64(0, now())
      write(stamped)
    }
    setTimeout(tick, 1)
  }
  tick()
}

process.on("message", (message) => {
  if (message.send === undefined) return
  isSending = message.send
  if (isSending) rate === undefined ? fill() : pace()
})
answering(() => ({ sent }))

const credits = net.createServer((socket) => {
  let rest = Buffer.alloc(0)
  socket.on("data", (data) => {
    const all = rest.length === 0 ? data : Buffer.concat([rest, data])
    const end = all.length - all.length % 4
    if (end > 0) seen = all.readUInt32LE(end - 4)
    rest = all.subarray(end)
    if (rate === undefined) fill()
  })
  socket.on("error", () => {})
})

// where the viewers connect

const serve = Effect.gen(function*() {
  const server = yield* NodeTransport.makeServer({
    port: 0,
    tls: { generate: ["localhost"] },
    transports: ["websocket"]
  })
  const router = yield* Router.make
  yield* router.publish(track.track)
  const accept = (request) =>
    Effect.scoped(Effect.gen(function*() {
      const session = yield* Session.accept(yield* request.accept, { router })
      yield* session.closed
    })).pipe(Effect.ignore)
  yield* server.requests.pipe(
    Stream.mapEffect(accept, { concurrency: "unbounded", unordered: true }),
    Stream.runDrain,
    Effect.forkScoped
  )
  return { url: server.urls[0], fingerprint: server.fingerprint }
})

const connect = Effect.gen(function*() {
  const session = yield* Session.connect(relay.url, { fingerprints: [relay.fingerprint] })
  yield* session.publish(track.track)
  return relay
}).pipe(
  Effect.provideService(Transport.Transport, NodeTransport.make({ transports: ["websocket"] }))
)

orExit(
  run(relay === undefined ? serve : connect).then((at) => {
    credits.listen(0, "127.0.0.1", () => process.send({ ready: { ...at, credits: credits.address().port } }))
  })
)
