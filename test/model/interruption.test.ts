import { assert, describe, it } from "@effect/vitest"
import { Channel, Effect, Fiber, type Pull, type Scope } from "effect"
import * as Announced from "../../src/model/Announced.ts"
import * as Group from "../../src/model/Group.ts"
import * as Log from "../../src/model/Log.ts"
import * as Track from "../../src/model/Track.ts"
import * as TrackOrdered from "../../src/model/TrackOrdered.ts"

/** Pulls that have something to give at once. */
const pulls: ReadonlyArray<readonly [string, Effect.Effect<Pull.Pull<unknown, unknown>, never, Scope.Scope>]> = [
  [
    "a log",
    Effect.sync(() => {
      const log = Log.makeUnsafe<number>()
      Log.appendUnsafe(log, 1)
      return Log.pull(log, Log.openUnsafe(log))
    })
  ],
  [
    "the frames of a group",
    Effect.suspend(() => {
      const group = Group.makeUnsafe(0)
      group.writeFrameUnsafe(Uint8Array.of(1))
      return group.group.reader
    })
  ],
  [
    "the chunks of a frame",
    Effect.suspend(() => {
      const group = Group.makeUnsafe(0)
      group.createFrameUnsafe(2)!.writeUnsafe(Uint8Array.of(1))
      return Effect.flatMap(
        group.group.reader,
        (frames) => Effect.flatMap(Effect.orDie(frames), ([frame]) => frame.reader)
      )
    })
  ],
  [
    "the events of a track",
    Effect.gen(function*() {
      const track = yield* Track.make(["a"])
      track.appendGroupUnsafe()
      return yield* track.track.reader()
    })
  ],
  [
    "the frames of a track",
    Effect.gen(function*() {
      const track = yield* Track.make(["a"])
      track.appendGroupUnsafe()!.writeFrameUnsafe(Uint8Array.of(1))
      return yield* Channel.toPullScoped(track.track.frames.channel, yield* Effect.scope)
    })
  ],
  [
    "the events of a track in sequence",
    Effect.gen(function*() {
      const track = yield* Track.make(["a"])
      track.appendGroupUnsafe()
      const events = TrackOrdered.ordered({ from: 0 })(track.track.events)
      return yield* Channel.toPullScoped(events.channel, yield* Effect.scope)
    })
  ],
  [
    "what is announced",
    Effect.gen(function*() {
      const registry = new Announced.Registry()
      registry.add(["a"])
      return yield* Channel.toPullScoped(registry.announced([]).channel, yield* Effect.scope)
    })
  ]
]

/** So many operations of a fiber, then an effect. */
const after = <A, E>(operations: number, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  operations === 0 ? effect : Effect.suspend(() => after(operations - 1, effect))

describe("interrupting a pull", () => {
  it.effect.each(pulls)("of %s loses nothing, wherever its fiber yields", ([what, make]) =>
    Effect.gen(function*() {
      // a fiber yields after 2,048 operations: in this range it does so at every place inside the pull
      for (let before = 1990; before < 2050; before++) {
        const pull = yield* make
        let got = 0
        const take = Effect.map(pull, () => void got++)
        const fiber = yield* Effect.forkChild(after(before, take), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        const again = yield* Effect.forkChild(take, { startImmediately: true })
        yield* Effect.yieldNow
        yield* Fiber.interrupt(again)
        assert.strictEqual(got, 1, `${what}, after ${before} operations`)
      }
    }))
})

describe("opening a reader of a frame", () => {
  it.effect("misses no chunk that is joined meanwhile, wherever its fiber yields", () =>
    Effect.gen(function*() {
      for (let before = 2030; before < 2050; before++) {
        const group = Group.makeUnsafe(0)
        const producer = group.createFrameUnsafe(600)!
        const [frame] = yield* Effect.orDie(yield* group.group.reader)
        producer.writeUnsafe(new Uint8Array(300))
        producer.writeUnsafe(new Uint8Array(300))
        const read = Effect.scoped(Effect.flatten(frame.reader))
        const fiber = yield* Effect.forkChild(after(before, read), { startImmediately: true })
        assert.lengthOf(frame.payload!, 600)
        const chunks = yield* Fiber.join(fiber)
        assert.strictEqual(chunks.reduce((sum, { length }) => sum + length, 0), 600, `after ${before} operations`)
      }
    }))
})
