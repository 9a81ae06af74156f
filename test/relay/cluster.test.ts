import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import * as Router from "../../src/model/Router.ts"
import { countAnnounces, makeWorld, pass, settle, topologies, type World } from "./clusters.ts"
import { listen, publish, view } from "./relays.ts"

const hello = ["room", "hello"]

const pathsOf = (names: ReadonlyArray<string>, paths: ReadonlyArray<string>) =>
  Object.fromEntries(names.map((name) => [name, paths]))

const viewEverywhere = (world: World, names = world.names) =>
  Effect.forEach(names, (at) => Effect.flatMap(world.connect(at), (session) => view(session, hello)))

/** Writes a group, and lets it arrive. */
const send = (publisher: Effect.Success<ReturnType<typeof publish>>, ...frames: ReadonlyArray<string>) =>
  Effect.andThen(publisher.group(...frames), settle)

describe("relays of any topology", () => {
  for (const [name, topology] of Object.entries(topologies)) {
    const links = Object.entries(topology).flatMap(([one, others]) => others.map((other) => [one, other] as const))

    it.effect(`${name}: viewers everywhere get every group once, and nothing is left`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld(topology)
        assert.strictEqual(world.count("RelayConnected"), links.length)
        const announces = yield* countAnnounces
        const publisher = yield* publish(yield* world.connect("a"), hello)
        yield* settle
        assert.deepStrictEqual(world.paths(), pathsOf(world.names, ["room/hello"]))
        yield* send(publisher, "before")
        // nobody views: nobody subscribes
        assert.strictEqual(world.count("UpstreamOpened"), 0)
        const viewers = yield* viewEverywhere(world)
        yield* settle
        for (let i = 0; i < 5; i++) yield* send(publisher, `${i}`)
        for (const { got } of viewers) assert.deepStrictEqual(got, ["before", "0", "1", "2", "3", "4"])
        // one subscription for each relay, whoever views there
        const more = yield* viewEverywhere(world)
        assert.strictEqual(world.count("UpstreamOpened"), world.names.length)
        for (const viewer of more) yield* viewer.leave
        yield* publisher.end()
        yield* pass(20)
        for (const viewer of viewers) assert.deepStrictEqual(yield* viewer.ended, Exit.void)
        assert.deepStrictEqual(world.paths(), pathsOf(world.names, []))
        assert.strictEqual(world.count("UpstreamClosed"), world.names.length)
        // it has come and gone, over each link in each direction at most once
        assert.isAtMost(announces(), 4 * links.length, "announces")
      }))

    it.effect(`${name}: whichever link breaks, all is well again, and no ghost remains`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld(topology)
        const publisher = yield* publish(yield* world.connect("a"), hello)
        yield* send(publisher, "zero")
        for (const [one, other] of links) {
          yield* world.cut(one, other)
          yield* pass(10)
          const reachable = reach("a", links.filter((link) => !link.includes(one) || !link.includes(other)))
          for (const [at, paths] of Object.entries(world.paths())) {
            assert.deepStrictEqual(paths, reachable.has(at) ? ["room/hello"] : [], `${at} without ${one}-${other}`)
          }
          yield* world.heal
          // the next attempt may be 25 seconds and a fifth away
          yield* pass(31)
          assert.deepStrictEqual(world.paths(), pathsOf(world.names, ["room/hello"]))
        }
        const viewers = yield* viewEverywhere(world)
        yield* settle
        yield* send(publisher, "one")
        for (const { got } of viewers) assert.deepStrictEqual(got, ["zero", "one"])
        yield* publisher.end()
        yield* pass(20)
        assert.deepStrictEqual(world.paths(), pathsOf(world.names, []))
      }), 60_000)

    it.effect(`${name}: whichever relay dies, all is well again, and no ghost remains`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld(topology)
        const announces = yield* countAnnounces
        for (const name of world.names) {
          const home = world.names.find((other) => other !== name)!
          const publisher = yield* publish((yield* world.client(home)).session, hello)
          yield* settle
          yield* world.kill(name)
          yield* pass(10)
          const reachable = reach(home, links.filter((link) => !link.includes(name)))
          for (const [at, paths] of Object.entries(world.paths())) {
            assert.deepStrictEqual(paths, reachable.has(at) ? ["room/hello"] : [], `${at} without ${name}`)
          }
          yield* world.start(name)
          yield* pass(31)
          assert.deepStrictEqual(world.paths(), pathsOf(world.names, ["room/hello"]))
          yield* publisher.end()
          yield* pass(10)
          assert.deepStrictEqual(world.paths(), pathsOf(world.names, []))
        }
        assert.isAtMost(announces(), world.names.length * links.length * 12, "announces")
      }), 60_000)

    it.effect(`${name}: a publisher that dies with its relay is no ghost`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld(topology)
        const announces = yield* countAnnounces
        yield* publish((yield* world.client("a")).session, hello)
        yield* settle
        yield* world.kill("a")
        yield* pass(30)
        assert.deepStrictEqual(world.paths(), pathsOf(world.names.filter((name) => name !== "a"), []))
        assert.isAtMost(announces(), links.length * 12, "announces")
      }))
  }
})

/** The relays that are connected to one, whoever is the client of whom. */
const reach = (from: string, links: ReadonlyArray<readonly [string, string]>): ReadonlySet<string> => {
  const reached = new Set([from])
  for (const at of reached) {
    for (const [one, other] of links) {
      if (one === at) reached.add(other)
      if (other === at) reached.add(one)
    }
  }
  return reached
}

describe("a track between relays", () => {
  for (const name of ["ring of three", "ring of four", "mesh"]) {
    it.effect(
      `goes on by another way when a link breaks, and viewers miss no group: ${name}`,
      () =>
        Effect.gen(function*() {
          const world = yield* makeWorld(topologies[name]!)
          const publisher = yield* publish(yield* world.connect("a"), hello)
          const viewers = yield* viewEverywhere(world)
          yield* send(publisher, "0")
          const sent = ["0"]
          for (const other of world.names.slice(1)) {
            // at once: there is no time to wait for
            yield* world.cut("a", other)
            for (let i = 0; i < 3; i++) {
              sent.push(`${sent.length}`)
              yield* send(publisher, sent.at(-1)!)
            }
            for (const { got } of viewers) assert.deepStrictEqual(got, sent)
            yield* world.heal
            yield* pass(31)
          }
          assert.strictEqual(world.count("Ended"), 0)
        }),
      20_000
    )
  }

  it.effect("is not asked for again because it comes another way of the same length, further on", () =>
    Effect.gen(function*() {
      // from c on there are two ways to a, and e has one to c
      const world = yield* makeWorld({ a: [], b: ["a"], c: ["b", "d"], d: ["a"], e: ["c"] })
      const publisher = yield* publish(yield* world.connect("a"), hello)
      const viewer = yield* view(yield* world.connect("e"), hello)
      yield* send(publisher, "0")
      const idOf = (at: string) => Effect.map(world.connect(at), ({ greeting }) => greeting.instance!)
      const ways = yield* listen(
        yield* world.connect("e", { greeting: { instance: "f".repeat(16), isRelay: true } }),
        [".relay", "f".repeat(16)]
      )
      const requests = world.requests("e", "c")
      assert.isAbove(requests, 0)
      yield* world.cut("a", "b")
      yield* send(publisher, "1")
      yield* world.heal
      yield* pass(31)
      yield* world.cut("a", "d")
      yield* send(publisher, "2")
      assert.deepStrictEqual(viewer.got, ["0", "1", "2"])
      assert.strictEqual(world.requests("e", "c"), requests)
      assert.strictEqual(world.count("Ended"), 0)
      // whoever comes after is told which way it comes now
      const way = [yield* idOf("e"), yield* idOf("c"), yield* idOf("b"), yield* idOf("a")].join(".")
      const active = ways.heard.filter((event) => event.startsWith("+"))
      assert.isAbove(active.length, 1)
      assert.include(active.at(-1), `/${way}!`)
      assert.strictEqual(ways.heard.filter((event) => event.startsWith("-")).length, active.length - 1)
      // and can ask for it so
      const late = yield* view(yield* world.connect("e"), hello, { from: 0 })
      assert.deepStrictEqual(late.got, ["2", "1"])
    }))

  it.effect("comes from the nearest of two publishers, and from the other once that has gone", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld(topologies.line!)
      const one = yield* publish((yield* world.client("a")).session, hello)
      const two = yield* publish((yield* world.client("c")).session, hello)
      yield* settle
      const got = (at: string, what: string) =>
        Effect.gen(function*() {
          const viewer = yield* view(yield* world.connect(at), hello)
          yield* Effect.ignore(send(one, "one"))
          yield* Effect.ignore(send(two, "two"))
          assert.include(viewer.got, what, at)
          yield* viewer.leave
        })
      yield* got("a", "one")
      yield* got("c", "two")
      // as far from both: the newer one
      yield* got("b", "two")
      yield* two.end()
      yield* pass(6)
      for (const at of world.names) yield* got(at, "one")
      yield* one.end()
      yield* pass(20)
      assert.deepStrictEqual(world.paths(), pathsOf(world.names, []))
    }))

  it.effect("goes on when its publisher moves from one relay to another", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld(topologies["ring of three"]!)
      const router = yield* Router.make
      const publisher = yield* publish(router, hello)
      const first = yield* world.client("a", { router })
      yield* settle
      const viewers = yield* viewEverywhere(world)
      for (let i = 0; i < 3; i++) yield* send(publisher, `${i}`)
      yield* first.kill
      yield* world.client("b", { router })
      yield* settle
      for (let i = 3; i < 6; i++) yield* send(publisher, `${i}`)
      for (const { got } of viewers) assert.deepStrictEqual(got, ["0", "1", "2", "3", "4", "5"])
      yield* publisher.end()
    }))

  it.effect("is served again when its relay is back in time", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld(topologies["ring of three"]!)
      const router = yield* Router.make
      const publisher = yield* publish(router, hello)
      yield* world.client("a", { router })
      yield* settle
      const viewers = yield* viewEverywhere(world, ["b", "c"])
      yield* send(publisher, "0")
      yield* world.kill("a")
      yield* pass(1)
      yield* world.start("a")
      yield* world.client("a", { router })
      yield* pass(3)
      yield* send(publisher, "1")
      for (const { got } of viewers) assert.deepStrictEqual(got, ["0", "1"])
      assert.strictEqual(world.count("Ended", "b"), 0)
      yield* publisher.end()
    }))

  it.effect("is asked about and fetched from afar", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld(topologies.line!)
      const publisher = yield* publish(yield* world.connect("a"), hello, { priority: 7 })
      yield* send(publisher, "0")
      yield* send(publisher, "1")
      const session = yield* world.connect("c")
      assert.strictEqual((yield* session.trackInfo(hello)).priority, 7)
      const group = yield* session.fetch(hello, 0)
      assert.strictEqual(group.sequence, 0)
      assert.strictEqual((yield* Effect.flip(session.fetch(hello, 9)))._tag, "MoqNotFound")
    }))

  it.effect("is taken over at another relay, and the older publisher is told", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld(topologies.pair!)
      const older = yield* world.client("a")
      yield* publish(older.session, hello)
      const newer = yield* world.client("a")
      yield* publish(newer.session, hello)
      yield* settle
      assert.strictEqual((yield* older.session.closed).code, 12)
    }))
})
