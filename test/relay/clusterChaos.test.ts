import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Random, Scope, Stream } from "effect"
import * as Track from "../../src/model/Track.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import { bytes, text } from "./relays.ts"

const hello = ["room", "hello"]
const count = 4

// Relays in a ring with a chord or two, on a network that falls apart and heals while relays die and come back; then all
// is well again. Publisher and viewers connect again by themselves.
const scenario = Effect.gen(function*() {
  const network = yield* Simulator.Network
  const world = yield* Effect.scope
  const hosts = yield* Effect.forEach(Array.from({ length: count }, (_, i) => i), (i) => network.host(`relay-${i}`))
  const clients = yield* Effect.forEach(hosts, (_, i) => network.host(`client-${i}`))
  const author = yield* network.host("author")
  const chords = yield* Random.nextIntBetween(0, 2)
  const up = new Map<number, { readonly relay: Relay.Relay; readonly scope: Scope.Closeable }>()
  const start = Effect.fnUntraced(function*(i: number) {
    const scope = yield* Scope.fork(world)
    const next = [hosts[(i + 1) % count]!, ...(i < chords ? [hosts[(i + 2) % count]!] : [])]
    const relay = yield* hosts[i]!.provide(
      hosts[i]!.serve(Relay.make({ upstreams: next.map(({ url }) => ({ url })) }))
    ).pipe(Scope.provide(scope), Effect.orDie)
    up.set(i, { relay, scope })
  })
  for (let i = 0; i < count; i++) yield* start(i)
  yield* Effect.sleep("5 seconds")

  const at = yield* Random.nextIntBetween(0, count - 1)
  const live = yield* Scope.fork(world)
  const publisher = yield* author.provide(Session.reconnect(hosts[at]!.url)).pipe(Effect.orDie)
  const track = yield* Scope.provide(Track.make(hello), live)
  yield* Effect.orDie(Scope.provide(publisher.publish(track.track), live))
  yield* Stream.tick("500 millis").pipe(
    Stream.runForEach(() =>
      Effect.ignore(
        Effect.flatMap(track.appendGroup, (group) =>
          Effect.andThen(group.writeFrame(bytes(`${group.group.sequence}`)), group.finish))
      )
    ),
    Effect.forkIn(live)
  )
  const got = yield* Effect.forEach(clients, (client, i) =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const session = yield* client.provide(Session.reconnect(hosts[i]!.url)).pipe(Effect.orDie)
      // one whose relay had nothing for too long asks again, as an application would
      const watch = Effect.gen(function*() {
        const subscription = yield* session.subscribe(hello, { wait: "1 hour" })
        yield* Stream.runForEach(subscription.frames, (frame) => Effect.sync(() => void seen.push(Number(text(frame)))))
      }).pipe(Effect.scoped, Effect.ignore, Effect.andThen(Effect.sleep("1 second")), Effect.forever)
      yield* Effect.forkIn(watch, live)
      return seen
    }))

  for (let round = 0; round < 6; round++) {
    const i = yield* Random.nextIntBetween(0, count - 1)
    const j = (i + (yield* Random.nextIntBetween(1, count - 1))) % count
    const time = yield* Random.nextIntBetween(1, 40)
    if (yield* Random.nextBoolean) {
      yield* network.partition([hosts[i]!], [hosts[j]!])
      yield* Effect.sleep(`${time} seconds`)
      yield* network.heal
    } else {
      const { scope } = up.get(i)!
      yield* hosts[i]!.kill({ noticed: yield* Random.nextBoolean })
      yield* Scope.close(scope, Exit.void)
      yield* Effect.sleep(`${time} seconds`)
      yield* start(i)
    }
    yield* Effect.sleep(`${yield* Random.nextIntBetween(1, 40)} seconds`)
  }
  // as long as the slowest attempt, and what may have to be noticed before
  yield* Effect.sleep("90 seconds")
  const before = got.map((seen) => seen.length)
  yield* Effect.sleep("20 seconds")
  got.forEach((seen, i) => {
    const news = seen.slice(before[i])
    assert.isAtLeast(news.length, 30, `viewer ${i}`)
    assert.strictEqual(new Set(news).size, news.length, `viewer ${i} got a group twice`)
  })
  for (const [i, { relay }] of up) assert.deepStrictEqual(relay.origin.paths, [hello], `relay ${i}`)
  yield* Scope.close(live, Exit.void)
  yield* Effect.sleep("20 seconds")
  for (const [i, { relay }] of up) assert.deepStrictEqual(relay.origin.paths, [], `a ghost at relay ${i}`)
})

describe("relays in a ring with chords, on a network that falls apart", () => {
  it.effect(
    "serve everybody again when it heals, and leave no ghost",
    () => Simulator.runAll(scenario, { latency: "20 millis", jitter: "20 millis", loss: 0.01, seeds: 15 }),
    240_000
  )
})
