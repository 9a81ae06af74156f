/**
 * What a viewer sees of a live track when the network gets worse, and what a priority is good for. Eight minutes of
 * virtual time, in about a second; every run is the same.
 *
 *   npm run example bad-network
 */
import { Clock, Console, Effect, Stream } from "effect"
import { Session } from "effect-moq"
import { Relay } from "effect-moq/relay"
import { Simulator } from "effect-moq/testing"

const seconds = 120

// a camera of 25 frames per second in groups of one second, beside a microphone that matters more
const publish = Effect.fnUntraced(function*(session: Session.Session, name: string, bytes: number, priority: number) {
  const broadcast = yield* session.broadcast(["room", name])
  const track = yield* broadcast.track("live", { priority })
  yield* Stream.tick("40 millis").pipe(
    Stream.mapEffect(() => Clock.currentTimeMillis),
    Stream.map((now) => {
      const frame = new Uint8Array(bytes)
      new DataView(frame.buffer).setFloat64(0, now)
      return frame
    }),
    Stream.run(track.sink({ group: { frames: 25 } })),
    Effect.forkScoped
  )
})

// how many frames came, and how old they were on arrival
const watch = Effect.fnUntraced(function*(session: Session.Session, name: string, priority: number) {
  const track = yield* session.subscribe(["room", name, "live"], { wait: "10 seconds", priority })
  const ages: Array<number> = []
  yield* Stream.runForEach(track.frames, (frame) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const sent = new DataView(frame.buffer, frame.byteOffset).getFloat64(0)
      ages.push(now - sent)
    })).pipe(Effect.timeoutOption(`${seconds} seconds`))
  ages.sort((a, b) => a - b)
  const at = (part: number) => `${Math.round(ages[Math.floor((ages.length - 1) * part)] ?? Number.NaN)} ms`.padStart(8)
  const came = `${Math.min(100, Math.round(100 * ages.length / (seconds * 25)))} %`.padStart(5)
  return `${name.padEnd(10)} ${came} of the frames, age ${at(0.5)}, worst of 100: ${at(0.99)}`
})

const scenario = Effect.gen(function*() {
  const network = yield* Simulator.Network
  const relay = yield* network.host("relay", { bandwidth: "unlimited" })
  const studio = yield* network.host("studio", { bandwidth: "unlimited" })
  const viewer = yield* network.host("viewer")
  yield* relay.serve(Relay.make())

  const publisher = yield* studio.provide(Session.connect(relay.url))
  yield* publish(publisher, "camera", 4_000, 0)
  yield* publish(publisher, "microphone", 200, 10)

  const session = yield* viewer.provide(Session.connect(relay.url))
  return yield* Effect.all([watch(session, "camera", 0), watch(session, "microphone", 10)], {
    concurrency: "unbounded"
  })
})

const networks: ReadonlyArray<readonly [name: string, conditions: Simulator.Conditions]> = [
  ["perfect", {}],
  ["far away", { latency: "120 millis", jitter: "30 millis" }],
  ["lossy", { latency: "40 millis", loss: 0.05 }],
  ["narrow: half of what the camera needs", { latency: "40 millis", bandwidth: "400 Kbit" }]
]

const program = Effect.forEach(networks, ([name, conditions]) =>
  Effect.gen(function*() {
    const lines = yield* Simulator.run(scenario, { ...conditions, seed: 7 })
    yield* Console.log(`${name}\n  ${lines.join("\n  ")}`)
  }), { discard: true })

Effect.runSync(program)
