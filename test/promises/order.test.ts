/** Promise 11: under congestion the most important and the newest goes first, and what is too old is dropped. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Option, Stream } from "effect"
import type { RequestError } from "../../src/core/MoqError.ts"
import type { Group } from "../../src/model/Group.ts"
import type * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import * as Session from "../../src/session/Session.ts"
import * as Simulator from "../../src/testing/Simulator.ts"

export const narrow: Simulator.Options = { bandwidth: "1 Mbit", latency: "20 millis" }

// what a Mbit carries in a second
export const second = 125_000

/** A publisher and a viewer, each a session with the other. */
export const meet = (options?: { readonly publisher?: Session.Options; readonly viewer?: Session.Options }) =>
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

export const publish = (session: Session.Session, name: string, options?: Parameters<typeof Track.make>[1]) =>
  Effect.tap(Track.make([name], options), (track) => session.publish(track.track))

const chunk = 1_000

/** Writes a group of so many bytes, in frames of 1,000. */
export const write = (track: Track.Producer, bytes: number, sequence?: number) =>
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

/** What a viewer sees: frames as they come, groups as they end, gaps as they are told. */
class Watching {
  readonly frames: Array<Seen> = []
  readonly groups: Array<Seen> = []
  readonly gaps: Array<{ readonly from: number; readonly to: number; readonly code: number }> = []
  bytes(from = 0, to = Infinity): number {
    return this.frames.reduce((sum, { at, bytes }) => at >= from && at < to ? sum + bytes : sum, 0)
  }
}

export const watch = (
  session: Session.Session,
  name: string,
  options?: Subscription.Options
): Effect.Effect<Watching & { readonly track: Subscription.Subscription }, RequestError, never> =>
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
        Effect.map((at) => seen.groups.push({ sequence: group.sequence, bytes: group.size, at })),
        Effect.ignore
      )
    yield* track.events.pipe(
      Stream.mapEffect((event) => event._tag === "Group" ? one(event) : Effect.sync(() => seen.gaps.push(event)), {
        concurrency: "unbounded"
      }),
      Stream.runDrain,
      Effect.ignore,
      Effect.forkScoped({ startImmediately: true })
    )
    return seen
  }) as never

describe("promise 11: order under congestion", () => {
  it.effect("the track of a higher priority arrives first", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { publisher, viewer } = yield* meet()
        const [low, high] = [yield* publish(publisher, "low"), yield* publish(publisher, "high")]
        const less = yield* watch(viewer, "low", { priority: 1 })
        const more = yield* watch(viewer, "high", { priority: 2 })
        const start = yield* Clock.currentTimeMillis
        yield* write(low, second)
        yield* Effect.sleep("100 millis")
        yield* write(high, second)
        yield* Effect.sleep("3 seconds")
        const [first, last] = [more.groups[0]!.at, less.groups[0]!.at]
        console.log("high", first - start, "low", last - start, less.bytes(start + 100, first))
      }),
      narrow
    ))

  it.effect.each([[0, 20_000, 20_000], [1_000_000, 20_000, 20_000], [1_000_000, 4_000, 200_000], [0, 500_000, 1_000], [0, 300, 100_000]] as const)(
    "two tracks share: from %d, groups of %d and %d bytes",
    ([from, a, b]) =>
      Simulator.run(
        Effect.gen(function*() {
          const { publisher, viewer } = yield* meet()
          const [one, two] = [yield* publish(publisher, "one"), yield* publish(publisher, "two", { first: from })]
          const seen = [yield* watch(viewer, "one"), yield* watch(viewer, "two")]
          const start = yield* Clock.currentTimeMillis
          const flood = (track: Track.Producer, bytes: number) =>
            Effect.gen(function*() {
              for (let sent = 0; sent < 10 * second; sent += bytes) {
                yield* write(track, bytes)
                yield* Effect.sleep(bytes * 1000 / second / 1.2)
              }
            })
          yield* Effect.all([flood(one, a), flood(two, b)], { concurrency: 2 })
          const bytes = seen.map((s) => s.bytes(start + 1000, start + 8000))
          console.log("share", from, a, b, bytes, bytes[0]! / (bytes[0]! + bytes[1]!))
        }),
        narrow
      )
  )
})
