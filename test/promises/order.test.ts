/** Promise 11: under congestion the most important and the newest goes first, and what is too old is dropped. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Option, type Scope, Stream } from "effect"
import type { RequestError } from "../../src/core/MoqError.ts"
import type { Group } from "../../src/model/Group.ts"
import type * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import * as Session from "../../src/session/Session.ts"
import * as Simulator from "../../src/testing/Simulator.ts"

const narrow: Simulator.Options = { bandwidth: "1 Mbit", latency: "20 millis" }

// what a Mbit carries in a second
const second = 125_000

/** A publisher and a viewer, each a session with the other. */
const meet = (options?: { readonly publisher?: Session.Options; readonly viewer?: Session.Options }) =>
  Effect.gen(function*() {
    const network = yield* Simulator.Network
    const here = yield* network.host("publisher")
    const there = yield* network.host("viewer")
    const server = yield* here.listen
    const accepting = yield* Effect.forkScoped(Effect.gen(function*() {
      const request = Option.getOrThrow(yield* Stream.runHead(server.requests))
      return yield* Session.accept(yield* request.accept, options?.publisher)
    }))
    const viewer = yield* there.provide(Session.connect(here.url, options?.viewer))
    return { publisher: yield* Fiber.join(accepting), viewer, network }
  })

const publish = (session: Session.Session, name: string, options?: Parameters<typeof Track.make>[1]) =>
  Effect.tap(Track.make([name], options), (track) => session.publish(track.track))

const chunk = 1_000

/** Writes a group of so many bytes, in frames of 1,000. */
const write = (track: Track.Producer, bytes: number, sequence?: number) =>
  Effect.gen(function*() {
    const group = yield* sequence === undefined ? track.appendGroup : track.createGroup(sequence)
    for (let left = bytes; left > 0; left -= chunk) yield* group.writeFrame(new Uint8Array(Math.min(chunk, left)))
    yield* group.finish
    return group
  })

interface Seen {
  readonly sequence: number
  readonly bytes: number
  readonly at: number
}

/** What a viewer sees: frames as they come, groups as they end. */
class Watching {
  readonly frames: Array<Seen> = []
  readonly groups: Array<Seen> = []
  readonly failures: Map<number, string> = new Map()
  bytes(from = 0, to = Infinity): number {
    return this.frames.reduce((sum, { at, bytes }) => at >= from && at < to ? sum + bytes : sum, 0)
  }
}

const watch = (
  session: Session.Session,
  name: string,
  options?: Subscription.Options
): Effect.Effect<Watching & { readonly track: Subscription.Subscription }, RequestError, Scope.Scope> =>
  Effect.gen(function*() {
    const track = yield* session.subscribe([name], options)
    const seen = Object.assign(new Watching(), { track })
    const one = (group: Group) =>
      group.frames.pipe(
        Stream.runForEach((frame) =>
          Effect.map(Clock.currentTimeMillis, (at) =>
            seen.frames.push({ sequence: group.sequence, bytes: frame.length, at }))
        ),
        Effect.andThen(Clock.currentTimeMillis),
        Effect.map((at) => {
          seen.groups.push({ sequence: group.sequence, bytes: group.size, at })
        }),
        Effect.catch((error) =>
          Effect.sync(() => seen.failures.set(group.sequence, error._tag))
        )
      )
    yield* track.groups.pipe(
      Stream.mapEffect(one, { concurrency: "unbounded" }),
      Stream.runDrain,
      Effect.ignore,
      Effect.forkScoped({ startImmediately: true })
    )
    return seen
  })

/** Writes groups of one size faster than they can be sent, for so many milliseconds. */
const flood = (track: Track.Producer, bytes: number, millis: number) =>
  Effect.gen(function*() {
    const end = (yield* Clock.currentTimeMillis) + millis
    while ((yield* Clock.currentTimeMillis) < end) {
      yield* write(track, bytes)
      yield* Effect.sleep(bytes * 1000 / second / 1.5)
    }
  })

/** A frame of 160 bytes every 20 milliseconds, in groups of so many; gives how long each took, shortest first. */
const talk = (publisher: Session.Session, viewer: Session.Session, frames: number, priority: number) =>
  Effect.gen(function*() {
    const voice = yield* publish(publisher, "voice")
    const heard = yield* watch(viewer, "voice", { priority })
    yield* Effect.sleep("1 second")
    const said: Array<number> = []
    for (let group = 0; group < 500 / frames; group++) {
      const producer = yield* voice.appendGroup
      for (let i = 0; i < frames; i++) {
        said.push(yield* Clock.currentTimeMillis)
        yield* producer.writeFrame(new Uint8Array(160))
        yield* Effect.sleep("20 millis")
      }
      yield* producer.finish
    }
    yield* Effect.sleep("5 seconds")
    const nth = new Map<number, number>()
    const latencies = heard.frames.map(({ at, sequence }) => {
      const i = nth.get(sequence) ?? 0
      nth.set(sequence, i + 1)
      return at - said[sequence * frames + i]!
    })
    assert.strictEqual(latencies.length, 500)
    return latencies.sort((a, b) => a - b)
  })

const p99 = (latencies: ReadonlyArray<number>): number => latencies[Math.ceil(latencies.length * 0.99) - 1]!

describe("promise 11: order under congestion", () => {
  it.effect("the track of a higher priority arrives first, as if the other one were not there", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const [low, high] = [yield* publish(publisher, "low"), yield* publish(publisher, "high")]
        const less = yield* watch(viewer, "low", { priority: 1 })
        const more = yield* watch(viewer, "high", { priority: 2 })
        yield* write(low, second)
        yield* Effect.sleep("100 millis")
        const start = yield* Clock.currentTimeMillis
        yield* write(high, second)
        yield* Effect.sleep("3 seconds")
        const first = more.groups[0]!.at
        assert.isAtMost(first - start, 1_000 + 20 + 50)
        // but for what was on its way, nothing of the other one arrives before
        assert.isAtMost(less.bytes(start + 40, first), 2_000)
        assert.strictEqual(less.groups[0]?.bytes, second)
      }),
      narrow
    ))

  it.effect("desc: the newest group goes first, and what has expired is given up with code 2", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const track = yield* publish(publisher, "video")
        const seen = yield* watch(viewer, "video", { order: "desc", expires: 1_000 })
        // twice as much as can be sent
        for (let i = 0; i < 20; i++) {
          const begun = yield* Clock.currentTimeMillis
          yield* write(track, 50_000)
          yield* Effect.sleep("200 millis")
          // what arrives meanwhile is of the newest group
          const newest = seen.frames.filter(({ at }) => at >= begun + 40)
          assert.isAbove(newest.length, 15, `group ${i}`)
          for (const frame of newest) assert.strictEqual(frame.sequence, i)
        }
        yield* Effect.sleep("10 seconds")
        assert.deepStrictEqual(seen.groups.map(({ sequence }) => sequence), [19, 18])
        assert.deepStrictEqual([...seen.failures.keys()].sort((a, b) => a - b), Array.from({ length: 18 }, (_, i) => i))
        assert.deepStrictEqual(new Set(seen.failures.values()), new Set(["MoqExpired"]))
      }),
      narrow
    ))

  it.effect("asc: the groups arrive in order, however late", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const track = yield* publish(publisher, "file")
        const seen = yield* watch(viewer, "file", { order: "asc" })
        for (let i = 0; i < 20; i++) {
          yield* write(track, 50_000)
          yield* Effect.sleep("100 millis")
        }
        yield* Effect.sleep("10 seconds")
        assert.deepStrictEqual(seen.groups.map(({ sequence }) => sequence), Array.from({ length: 20 }, (_, i) => i))
        const sequences = seen.frames.map(({ sequence }) => sequence)
        assert.deepStrictEqual([...sequences].sort((a, b) => a - b), sequences)
      }),
      narrow
    ))

  it.effect("an update takes effect on groups that wait: priority, order and range", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const [a, b] = [yield* publish(publisher, "a"), yield* publish(publisher, "b")]
        const one = yield* watch(viewer, "a", { priority: 5, order: "asc" })
        const two = yield* watch(viewer, "b", { priority: 1 })
        for (let i = 0; i < 4; i++) yield* write(a, second)
        for (let i = 0; i < 4; i++) yield* write(b, second)
        yield* Effect.sleep("1500 millis")
        yield* two.track.update({ priority: 9, order: "asc" })
        const updated = (yield* Clock.currentTimeMillis) + 60
        yield* Effect.sleep("2 seconds")
        assert.isAtMost(one.bytes(updated), 2_000)
        assert.deepStrictEqual(two.groups.map(({ sequence }) => sequence), [0])
        yield* two.track.update({ to: 1 })
        yield* Effect.sleep("6 seconds")
        assert.deepStrictEqual(two.groups.map(({ sequence }) => sequence), [0, 1])
        assert.deepStrictEqual(one.groups.map(({ sequence }) => sequence), [0, 1, 2, 3])
      }),
      narrow
    ))

  it.effect.each([1, 50])(
    "audio of %d frames per group beside video that fills the link: p99 within 2 RTT + 100 ms",
    (n) =>
      Simulator.run(
        Effect.gen(function*() {
          const { publisher, viewer } = yield* meet()
          const video = yield* publish(publisher, "video")
          const seen = yield* watch(viewer, "video", { priority: 1 })
          yield* Effect.forkScoped(flood(video, 100_000, 14_000))
          const latencies = yield* talk(publisher, viewer, n, 2)
          assert.isAtMost(p99(latencies), 2 * 40 + 100)
          // the link is full
          assert.isAbove(seen.bytes(2_000, 12_000), 8 * second)
        }),
        narrow
      )
  )

  it.effect.each([
    [0, 20_000, 20_000],
    [1_000_000, 20_000, 20_000],
    [1_000_000, 200_000, 20_000],
    [0, 20_000, 500_000]
  ])(
    "two tracks of one priority share the link, one from group %d on, with groups of %d and %d bytes",
    ([first, one, two]) =>
      Simulator.run(
        Effect.gen(function*() {
          const { publisher, viewer } = yield* meet()
          const a = yield* publish(publisher, "a", { first })
          const b = yield* publish(publisher, "b")
          const seen = [yield* watch(viewer, "a"), yield* watch(viewer, "b")] as const
          const start = yield* Clock.currentTimeMillis
          yield* Effect.all([flood(a, one!, 10_000), flood(b, two!, 10_000)], { concurrency: 2 })
          const [left, right] = [
            seen[0].bytes(start + 1_000, start + 9_000),
            seen[1].bytes(start + 1_000, start + 9_000)
          ]
          assert.isAbove(left + right, 7.5 * second)
          assert.isAtLeast(left / (left + right), 0.45)
          assert.isAtMost(left / (left + right), 0.55)
        }),
        narrow
      )
  )

  it.effect("who was idle gets nothing for it", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const [a, b] = [yield* publish(publisher, "a"), yield* publish(publisher, "b")]
        const seen = [yield* watch(viewer, "a"), yield* watch(viewer, "b")] as const
        yield* Effect.forkScoped(flood(a, 20_000, 12_000))
        yield* Effect.sleep("5 seconds")
        const start = yield* Clock.currentTimeMillis
        yield* flood(b, 20_000, 6_000)
        const [left, right] = [seen[0].bytes(start + 500, start + 5_500), seen[1].bytes(start + 500, start + 5_500)]
        assert.isAtLeast(left / (left + right), 0.45)
        assert.isAtMost(left / (left + right), 0.55)
      }),
      narrow
    ))

  it.effect("answers to INFO, and announces, do not wait behind data of the highest priority", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const video = yield* publish(publisher, "video")
        yield* watch(viewer, "video", { priority: 127 })
        yield* Effect.forkScoped(flood(video, 50_000, 10_000))
        yield* Effect.sleep("3 seconds")
        const begin = yield* Clock.currentTimeMillis
        yield* viewer.trackInfo(["video"])
        assert.isAtMost((yield* Clock.currentTimeMillis) - begin, 40 + 20)
        const active = yield* viewer.announced(["new"]).pipe(
          Stream.filter((event) => event._tag === "Active"),
          Stream.runHead,
          Effect.forkScoped({ startImmediately: true })
        )
        yield* Effect.sleep("1 second")
        const announced = yield* Clock.currentTimeMillis
        yield* publish(publisher, "new")
        yield* Fiber.join(active)
        assert.isAtMost((yield* Clock.currentTimeMillis) - announced, 20 + 20)
      }),
      narrow
    ))
})

// Without priorities all streams of the network take turns, so that what a stream has taken already, 16 KiB, is out of the
// session's hands.
describe("promise 11: what holds of it on a network without priorities", () => {
  const flat: Simulator.Options = { ...narrow, priority: false }

  it.effect("the track of a higher priority arrives first", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const [low, high] = [yield* publish(publisher, "low"), yield* publish(publisher, "high")]
        const less = yield* watch(viewer, "low", { priority: 1 })
        const more = yield* watch(viewer, "high", { priority: 2 })
        yield* write(low, 2 * second)
        yield* Effect.sleep("100 millis")
        const start = yield* Clock.currentTimeMillis
        yield* write(high, 4 * second)
        yield* Effect.sleep("7 seconds")
        const first = more.groups[0]!.at
        assert.isAtMost(less.bytes(start, first), 4 * second * 0.25)
        assert.isAbove(less.groups[0]!.at, first)
      }),
      flat
    ))

  it.effect("asc keeps the order of the groups", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const track = yield* publish(publisher, "file")
        const seen = yield* watch(viewer, "file", { order: "asc" })
        for (let i = 0; i < 20; i++) yield* write(track, 50_000)
        yield* Effect.sleep("10 seconds")
        assert.deepStrictEqual(seen.groups.map(({ sequence }) => sequence), Array.from({ length: 20 }, (_, i) => i))
      }),
      flat
    ))

  it.effect.each([[20_000, 20_000], [200_000, 10_000]])(
    "two tracks of one priority share the link, with groups of %d and %d bytes",
    ([one, two]) =>
      Simulator.run(
        Effect.gen(function*() {
          const { publisher, viewer } = yield* meet()
          const [a, b] = [yield* publish(publisher, "a", { first: 1_000_000 }), yield* publish(publisher, "b")]
          const seen = [yield* watch(viewer, "a"), yield* watch(viewer, "b")] as const
          const start = yield* Clock.currentTimeMillis
          yield* Effect.all([flood(a, one!, 10_000), flood(b, two!, 10_000)], { concurrency: 2 })
          const [left, right] = [
            seen[0].bytes(start + 1_000, start + 9_000),
            seen[1].bytes(start + 1_000, start + 9_000)
          ]
          assert.isAtLeast(left / (left + right), 0.45)
          assert.isAtMost(left / (left + right), 0.55)
        }),
        flat
      )
  )

  it.effect("audio beside video that fills the link: p99 within 300 ms", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const video = yield* publish(publisher, "video")
        yield* watch(viewer, "video", { priority: 1, expires: 2_000 })
        yield* Effect.forkScoped(flood(video, 100_000, 14_000))
        assert.isAtMost(p99(yield* talk(publisher, viewer, 50, 2)), 300)
      }),
      flat
    ))
})

describe("promise 5, over a network", () => {
  it.effect("a sink that suspends goes no faster than the network, and nothing is dropped", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet({ publisher: { limits: { unsent: 50_000, groupsInFlight: 4 } } })
        const file = yield* publish(publisher, "file")
        const seen = yield* watch(viewer, "file")
        const sent = yield* Stream.range(1, 500).pipe(
          Stream.map(() => new Uint8Array(chunk)),
          Stream.rechunk(7),
          Stream.run(file.sink({ group: { frames: 10 }, overflow: "suspend" })),
          Effect.andThen(Clock.currentTimeMillis)
        )
        yield* file.finish
        yield* Effect.sleep("1 second")
        assert.isAbove(sent, 3_000)
        assert.strictEqual(seen.frames.length, 500)
        assert.strictEqual(seen.failures.size, 0)
      }),
      narrow
    ))

  it.effect("nor does it wait for a viewer that has gone", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const file = yield* publish(publisher, "file")
        const reading = yield* Effect.forkScoped(
          Effect.scoped(Effect.flatMap(viewer.subscribe(["file"]), ({ groups }) => Stream.runDrain(groups)))
        )
        yield* Effect.sleep("1 second")
        const writing = yield* Stream.range(1, 2_000).pipe(
          Stream.map(() => new Uint8Array(chunk)),
          Stream.rechunk(7),
          Stream.run(file.sink({ group: { frames: 10 }, overflow: "suspend" })),
          Effect.andThen(Clock.currentTimeMillis),
          Effect.forkScoped
        )
        yield* Effect.sleep("2 seconds")
        assert.isUndefined(writing.pollUnsafe())
        yield* Fiber.interrupt(reading)
        assert.isBelow(yield* Fiber.join(writing), 4_000)
      }),
      narrow
    ))
})
