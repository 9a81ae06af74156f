/**
 * A test of your own program, with a relay in memory: no port, no certificate, and the clock is virtual, so that a minute
 * passes at once. In a test file, `it.effect` of `@effect/vitest` provides that clock.
 *
 *   npm run example relay-in-a-test
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Stream } from "effect"
import { Memory, Session } from "effect-moq"
import { Relay } from "effect-moq/relay"
import { TestClock } from "effect/testing"

// the program: two users of a room, each with a session of its own

const beat = Effect.gen(function*() {
  const session = yield* Session.connect("https://relay.example/room")
  const broadcast = yield* session.broadcast(["alice"])
  const track = yield* broadcast.track("heart")
  yield* Stream.tick("1 second").pipe(
    Stream.map(() => new TextEncoder().encode("beat")),
    Stream.run(track.sink({ group: { every: "10 seconds" } }))
  )
}).pipe(Effect.scoped)

const listen = (beats: number) =>
  Effect.gen(function*() {
    const session = yield* Session.connect("https://relay.example/room")
    const track = yield* session.subscribe(["alice", "heart"], { wait: "10 seconds" })
    return yield* track.frames.pipe(Stream.take(beats), Stream.runCount)
  }).pipe(Effect.scoped)

// its test

const RelayLayer = Relay.layer().pipe(Layer.provideMerge(Memory.layer))

const test = Effect.gen(function*() {
  const heard = yield* Effect.forkChild(listen(60))
  yield* Effect.forkChild(beat)
  yield* TestClock.adjust("1 second").pipe(Effect.repeat({ until: () => heard.pollUnsafe() !== undefined, times: 70 }))
  yield* Console.log(`ok: ${yield* Fiber.join(heard)} beats`)
})

test.pipe(Effect.provide([RelayLayer, TestClock.layer()]), NodeRuntime.runMain)
