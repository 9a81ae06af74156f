/**
 * A process of people who come and go at a relay: publishers of small and of large frames, and viewers, some of whom are
 * slow. Whoever ends does so in one of the ways there are; that all of them end without a word is for the parent to do, who
 * kills the process.
 */
import { Effect, Random, Stream } from "effect"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Session from "../../src/session/Session.ts"

const [url = "", name = "crowd"] = process.argv.slice(2)

const publishers = 6
const viewers = 16

const broadcastOf = (index: number) => ["soak", name, `${index}`]

const between = (least: number, most: number) =>
  Effect.map(Random.nextIntBetween(least, most), (millis) => `${millis} millis` as const)

// it begins again under the same name: at once, which a relay takes for the same publisher, or long after
const publisher = (index: number) =>
  Effect.gen(function*() {
    const isLarge = index % 3 === 0
    const payload = new Uint8Array(isLarge ? 100_000 : 100).fill(index)
    const session = yield* Session.connect(url, { insecure: true })
    const broadcast = yield* session.broadcast(broadcastOf(index))
    const track = yield* broadcast.track("track", { priority: index, order: index % 2 === 0 ? "asc" : "desc" })
    const write = Stream.tick(isLarge ? "250 millis" : "20 millis").pipe(
      Stream.map(() => payload),
      Stream.run(track.sink({ group: { frames: isLarge ? 4 : 50 } }))
    )
    yield* Effect.timeoutOption(write, yield* between(1000, 20_000))
    if (yield* Random.nextBoolean) yield* Effect.fail("gives up")
  }).pipe(Effect.scoped, Effect.ignore, Effect.andThen(between(0, 8000)), Effect.flatMap(Effect.sleep), Effect.forever)

const viewer = Effect.gen(function*() {
  const session = yield* Session.connect(url, { insecure: true })
  const index = yield* Random.nextIntBetween(0, publishers - 1)
  const isSlow = (yield* Random.nextIntBetween(0, 4)) === 0
  const track = yield* session.subscribe([...broadcastOf(index), "track"], { wait: "3 seconds" })
  const watch = isSlow
    ? Stream.runForEach(
      track.groups,
      (group) => Effect.andThen(Effect.ignore(Stream.runDrain(Stream.take(group.frames, 1))), Effect.sleep("2 seconds"))
    )
    : Stream.runDrain(track.frames)
  yield* Effect.timeoutOption(watch, yield* between(200, 15_000))
  yield* Effect.ignore(session.trackInfo([...broadcastOf(index), "track"]))
  if (yield* Random.nextBoolean) yield* Effect.fail("gives up")
}).pipe(Effect.scoped, Effect.ignore, Effect.andThen(between(0, 500)), Effect.flatMap(Effect.sleep), Effect.forever)

// hears of everything, again and again
const listener = Effect.gen(function*() {
  const session = yield* Session.connect(url, { insecure: true })
  yield* Effect.timeoutOption(Stream.runDrain(session.announced(["soak"])), yield* between(1000, 10_000))
}).pipe(Effect.scoped, Effect.ignore, Effect.forever)

process.on("disconnect", () => process.exit())

Effect.all([
  ...Array.from({ length: publishers }, (_, index) => publisher(index)),
  ...Array.from({ length: viewers }, () => viewer),
  listener
], { concurrency: "unbounded", discard: true }).pipe(
  Effect.provide(NodeTransport.layerWith({ transports: ["websocket"] })),
  Effect.runFork
)
