import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Stream } from "effect"
import { Unauthorized } from "../../src/core/MoqError.ts"
import * as Path from "../../src/core/Path.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Router from "../../src/model/Router.ts"
import { end } from "../../src/session/Peer.ts"
import * as Session from "../../src/session/Session.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import { makeWorld, pass, serve, settle, type World } from "./clusters.ts"
import { bytes, publish, view } from "./relays.ts"

const idOf = (digit: string): string => digit.repeat(16)

/** A relay of ours, by what it says of itself, that announces whatever names it likes. */
const impostor =
  (names: (peer: string) => ReadonlyArray<Path.Path>, asked: Array<string> = []) => (connection: Connection) =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const lies: Router.Router = {
        ...router,
        announced: (prefix = Path.empty) =>
          Stream.concat(Stream.fromIterable(names(prefix[1] ?? "").map(Announced.active)), Stream.never),
        subscribe: (path) => {
          asked.push(path.join("/"))
          return Effect.fail(Router.notFound(path))
        }
      }
      return yield* Session.accept(connection, { router: lies, greeting: { instance: idOf("e"), isRelay: true } })
    })

/** A publisher and a viewer at a relay, and how they do while time goes by. */
const locals = Effect.fnUntraced(function*(world: World, at: string) {
  const publisher = yield* publish(yield* world.connect(at), ["local"])
  const viewer = yield* view(yield* world.connect(at), ["local"])
  return Effect.fnUntraced(function*(seconds: number) {
    for (let i = 0; i < seconds; i++) {
      yield* publisher.group(`${i}`)
      yield* pass(1)
    }
    assert.deepStrictEqual(viewer.got, Array.from({ length: seconds }, (_, i) => `${i}`))
    yield* publisher.end()
  })
})

describe("an upstream that fails does not disturb those who are here", () => {
  const worldOf = (names: ReadonlyArray<string> = ["bad"]) => makeWorld({ a: names })

  it.effect("when nobody is there", () =>
    Effect.gen(function*() {
      const world = yield* worldOf()
      yield* (yield* locals(world, "a"))(60)
      const lost = world.events.flatMap(({ event }) => event._tag === "RelayLost" ? [event] : [])
      assert.strictEqual(lost[0]!.url, "https://bad.example/")
      // half a second, one, two, ... 25, a fifth more or less
      lost.forEach(({ retryIn }, i) => {
        const about = Math.min(500 * 2 ** i, 25_000)
        assert.isAtLeast(retryIn!, 0.8 * about)
        assert.isAtMost(retryIn!, 1.2 * about)
      })
      assert.isAtLeast(lost.length, 6)
    }))

  it.effect("when it refuses, and it is tried again", () =>
    Effect.gen(function*() {
      const world = yield* worldOf()
      yield* serve(world, "bad", (connection) => end(connection, new Unauthorized({ detail: "who are you?" })))
      yield* (yield* locals(world, "a"))(60)
      const reasons = world.events.flatMap(({ event }) => event._tag === "RelayLost" ? [event.reason] : [])
      assert.isAtLeast(reasons.length, 6)
      assert.include(reasons.at(-1), "who are you?")
    }))

  it.effect("when it never answers", () =>
    Effect.gen(function*() {
      const world = yield* worldOf(["bad", "worse"])
      // one does not take the connection, the other says nothing on it
      yield* world.network.listen({ host: "worse.example" })
      yield* serve(world, "bad", () => Effect.never)
      yield* (yield* locals(world, "a"))(60)
      assert.strictEqual(world.count("RelayConnected"), 0)
      assert.isAtLeast(world.count("RelayLost"), 4)
    }))

  it.effect("when it talks garbage", () =>
    Effect.gen(function*() {
      const world = yield* worldOf()
      yield* serve(world, "bad", (connection) =>
        Effect.gen(function*() {
          const stream = yield* connection.acceptBi
          yield* stream.send.write([Uint8Array.from({ length: 4096 }, (_, i) => (i * 7919) % 251)])
        }))
      yield* (yield* locals(world, "a"))(30)
      assert.strictEqual(world.count("RelayConnected"), 0)
      assert.isAtLeast(world.count("RelayLost"), 4)
    }))

  it.effect("when it is the relay itself", () =>
    Effect.gen(function*() {
      const world = yield* worldOf(["a"])
      yield* (yield* locals(world, "a"))(30)
      assert.strictEqual(world.count("RelayConnected"), 0)
      const lost = world.events.find(({ event }) => event._tag === "RelayLost")!.event
      assert.include("reason" in lost ? lost.reason : "", "the relay itself")
    }))

  it.effect("when it announces names that no relay gives", () =>
    Effect.gen(function*() {
      const world = yield* worldOf()
      const asked: Array<string> = []
      yield* serve(
        world,
        "bad",
        impostor((peer) => {
          const mine = idOf("e")
          const name = (way: string, ...path: ReadonlyArray<string>) => [".relay", peer, way, ...path]
          return [
            name("", "nothing"),
            name("..", "dots"),
            name(`${mine}`, "nobody"),
            name(`${mine}!xyz`, "letters"),
            name(`${mine}!${"f".repeat(17)}`, "long"),
            name(`${idOf("d")}!${idOf("f")}`, "not itself"),
            name(`${mine}.${peer}!${idOf("f")}`, "a circle"),
            name(`${mine}!${idOf("f")}`),
            name(`${mine}!${idOf("f")}`, ".relay", peer, "twice"),
            name(`${mine}!${idOf("f")}`, "fine")
          ]
        }, asked)
      )
      const run = yield* locals(world, "a")
      yield* pass(2)
      assert.deepStrictEqual(world.paths(), { a: ["fine", "local"] })
      // what it announces, and then does not have
      const session = yield* world.connect("a")
      assert.strictEqual((yield* Effect.flip(session.subscribe(["fine"])))._tag, "MoqNotFound")
      assert.strictEqual(asked.length, 1)
      yield* run(5)
    }))

  for (const count of [10_000, 10_001]) {
    it.effect(`when it announces ${count} tracks`, () =>
      Effect.gen(function*() {
        const world = yield* worldOf()
        const run = yield* locals(world, "a")
        const paths = Array.from({ length: count }, (_, i) => ["many", `${i}`])
        yield* serve(world, "bad", (connection) =>
          Effect.gen(function*() {
            const router = yield* Router.make
            const many: Router.Router = {
              ...router,
              announced: () => Stream.concat(Stream.fromIterable(paths.map(Announced.active)), Stream.never)
            }
            return yield* Session.accept(connection, { router: many })
          }))
        yield* run(3)
        if (count === 10_000) assert.strictEqual(world.relay("a").origin.paths.length, count)
        assert.isAtMost(world.relay("a").origin.paths.length, 10_000)
        yield* world.kill("a")
      }), 30_000)
  }
})

describe("a viewer at a relay", () => {
  it.effect("that asks for ever more of a track keeps nobody else from asking for all of it", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"] })
      const publisher = yield* publish(yield* world.connect("a"), ["hello"])
      for (let i = 0; i < 30; i++) yield* publisher.group(`${i}`)
      yield* settle
      // so that all are there
      yield* view(yield* world.connect("a"), ["hello"], { from: 0 })
      const greedy = yield* world.connect("b")
      for (let from = 29; from > 13; from--) yield* view(greedy, ["hello"], { from })
      const other = yield* view(yield* world.connect("b"), ["hello"], { from: 3 })
      yield* settle
      assert.sameMembers(other.got, Array.from({ length: 27 }, (_, i) => `${i + 3}`))
    }))
})

describe("a session with another relay", () => {
  it.effect("is told of in SETUP, and counts as one", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"] })
      const [state] = yield* world.relay("a").state
      assert.isTrue(state!.isRelay)
      const client = yield* world.connect("a")
      assert.isTrue(client.greeting.isRelay)
      assert.match(client.greeting.instance!, /^[0-9a-f]{16}$/)
      const publisher = yield* publish(yield* world.connect("b"), ["room", "hello"])
      yield* settle
      assert.deepStrictEqual((yield* world.relay("a").state)[0]!.publishing, [["room", "hello"]])
      const viewer = yield* view(yield* world.connect("a"), ["room", "hello"])
      yield* publisher.track.used
      yield* viewer.leave
      yield* publisher.end()
    }))

  it.effect("is closed when the relay drains, and none is opened again", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"] })
      const publisher = yield* publish(yield* world.connect("b"), ["hello"])
      const viewer = yield* view(yield* world.connect("a"), ["hello"])
      const group = yield* publisher.track.appendGroup
      yield* group.writeFrame(bytes("begun"))
      yield* settle
      const drained = yield* Effect.forkChild(world.relay("b").drain, { startImmediately: true })
      yield* settle
      yield* group.writeFrame(bytes("and ended"))
      yield* group.finish
      yield* pass(6)
      assert.deepStrictEqual(drained.pollUnsafe(), Exit.void)
      assert.deepStrictEqual(viewer.got, ["begun", "and ended"])
      assert.strictEqual(yield* world.relay("a").sessions, 1)
      yield* pass(60)
      assert.strictEqual(world.count("RelayConnected"), 1)
      assert.strictEqual(world.count("RelayLost"), 0)
    }))

  it.effect("stays for as long as the relay drains: what its clients get may come over it", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"] })
      const publisher = yield* publish(yield* world.connect("a"), ["hello"])
      const viewer = yield* view(yield* world.connect("b"), ["hello"])
      const group = yield* publisher.track.appendGroup
      yield* group.writeFrame(bytes("begun"))
      yield* settle
      const drained = yield* Effect.forkChild(world.relay("b").drain, { startImmediately: true })
      yield* settle
      assert.isUndefined(drained.pollUnsafe())
      yield* group.writeFrame(bytes("and ended"))
      yield* group.finish
      yield* pass(2)
      assert.deepStrictEqual(drained.pollUnsafe(), Exit.void)
      assert.deepStrictEqual(viewer.got, ["begun", "and ended"])
      assert.strictEqual(yield* world.relay("a").sessions, 1)
    }))

  it.effect("is closed when it comes too late", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: ["bad"] })
      const answered = yield* Deferred.make<void>()
      const closed: Array<number> = []
      yield* serve(world, "bad", (connection) =>
        Effect.gen(function*() {
          yield* Effect.forkScoped(Effect.map(connection.closed, ({ code }) => void closed.push(code)))
          yield* Deferred.await(answered)
          yield* Session.accept(connection)
        }))
      yield* pass(3)
      yield* world.relay("a").drain
      yield* Deferred.succeed(answered, undefined)
      yield* pass(1)
      assert.deepStrictEqual([closed.at(-1), world.count("RelayConnected")], [0, 0])
    }))
})
