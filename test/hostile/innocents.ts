/**
 * A process with an honest publisher and an honest viewer, a session each: one frame every 5 milliseconds, 20 to a group.
 * Between two questions of its parent it measures how long frames take from the one to the other, and what is missing.
 */
import { Effect, Stream } from "effect"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Session from "../../src/session/Session.ts"

/** What was measured in a while: latencies in milliseconds. */
export interface Measured {
  readonly sent: number
  readonly lost: number
  /** Frames that came twice, or not in order within their group. */
  readonly disordered: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const [url = "", room = "fine"] = process.argv.slice(2)

const frameOf = (number: number): Uint8Array => {
  const bytes = Buffer.alloc(200)
  bytes.writeDoubleBE(performance.now(), 0)
  bytes.writeDoubleBE(number, 8)
  return new Uint8Array(bytes)
}

const program = Effect.gen(function*() {
  const publisher = yield* Session.connect(url, { insecure: true })
  const track = yield* (yield* publisher.broadcast([room])).track("numbers", { order: "asc" })
  const viewer = yield* Session.connect(url, { insecure: true })
  const watched = yield* viewer.subscribe([room, "numbers"], { wait: "5 seconds", order: "asc" })

  let sent = 0
  let begun = 0
  let latencies: Array<number> = []
  let received = 0
  let disordered = 0
  yield* Effect.forkScoped(watched.groups.pipe(
    Stream.flatMap((group) => {
      let last = -1
      return Stream.map(group.frames, (bytes) => {
        const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
        const number = frame.readDoubleBE(8)
        received++
        if (last !== -1 && number !== last + 1) disordered++
        last = number
        if (number >= begun) latencies.push(performance.now() - frame.readDoubleBE(0))
      })
    }, { concurrency: "unbounded" }),
    Stream.runDrain
  ))

  let group = yield* track.appendGroup
  const timer = setInterval(() => {
    if (sent > 0 && sent % 20 === 0) {
      group.finishUnsafe()
      group = track.appendGroupUnsafe()!
    }
    if (group.writeFrameUnsafe(frameOf(sent))) sent++
  }, 5)
  yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(timer)))

  const answer = async () => {
    // what is under way has ten seconds to arrive
    const expected = sent
    for (let i = 0; i < 1000 && received < expected; i++) await new Promise((resolve) => setTimeout(resolve, 10))
    const sorted = latencies.toSorted((a, b) => a - b)
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Infinity
    const measured: Measured = {
      sent: expected - begun,
      lost: Math.max(0, expected - received),
      disordered,
      p50: at(0.5),
      p99: at(0.99),
      max: sorted.at(-1) ?? Infinity
    }
    begun = sent
    latencies = []
    process.send!(measured)
  }
  process.on("message", () => void answer())
  process.on("disconnect", () => process.exit())
  process.send!("ready")
  const { code, reason } = yield* Effect.raceFirst(publisher.closed, viewer.closed)
  return yield* Effect.die(new Error(`a session of honest people was closed with ${code}: ${reason}`))
})

program.pipe(
  Effect.scoped,
  Effect.provide(NodeTransport.layerWith({ transports: ["websocket"] })),
  Effect.runPromise
).catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`)
  process.exit(1)
})
