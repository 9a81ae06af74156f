import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Profile from "../../src/message/Profile.ts"
import * as Router from "../../src/model/Router.ts"
import type * as Authenticator from "../../src/relay/Authenticator.ts"
import * as Origin from "../../src/relay/Origin.ts"
import * as Via from "../../src/relay/Via.ts"
import * as Session from "../../src/session/Session.ts"
import { makeWorld, pass, serve, settle } from "./clusters.ts"
import { listen, publish, view } from "./relays.ts"

// what the query says: `?put=room&get=room`
const byQuery: Authenticator.Authenticator = {
  authenticate: ({ url }) => {
    const prefixes = (name: string) => url.searchParams.getAll(name).map((prefix) => prefix.split("/").filter(Boolean))
    return Effect.succeed(
      url.search === "" ? { publish: [[]], subscribe: [[]] } : { publish: prefixes("put"), subscribe: prefixes("get") }
    )
  }
}

describe("what relays say among themselves", () => {
  it.effect("is nothing to a client", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"] })
      const publisher = yield* publish(yield* world.connect("a"), ["room", "hello"])
      const client = yield* world.connect("a")
      const [id, other] = [client.greeting.instance!, (yield* world.connect("b")).greeting.instance!]
      const { heard } = yield* listen(client, [".relay", other])
      assert.deepStrictEqual(heard, ["live"])
      const name = [".relay", other, `${id}!${"0".repeat(16)}`, "room", "hello"]
      assert.strictEqual((yield* Effect.flip(client.subscribe(name)))._tag, "MoqNotFound")
      assert.strictEqual((yield* Effect.flip(client.trackInfo(name)))._tag, "MoqNotFound")
      assert.strictEqual((yield* Effect.flip(client.fetch(name, 0)))._tag, "MoqNotFound")
      // with a root, any part may be the first
      yield* publish(client, [".relay", "x"])
      yield* publish(client, ["room", ".relay", "x"])
      yield* settle
      assert.deepStrictEqual(world.paths(), { a: ["room/hello"], b: ["room/hello"] })
      yield* publisher.end()
    }))

  it.effect("is refused to a relay that asks by a way which is none any more, or is not its own", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [] })
      const publisher = yield* publish(yield* world.connect("a"), ["hello"])
      const id = "e".repeat(16)
      const relay = yield* world.connect("a", { greeting: { instance: id, isRelay: true } })
      const name = yield* relay.announced([".relay", id]).pipe(
        Stream.filter((event) => event._tag === "Active"),
        Stream.map((event) => event.path),
        Stream.runHead,
        Effect.flatMap(Effect.fromOption)
      )
      assert.deepStrictEqual([name.length, name[0], name[1], name[3]], [4, ".relay", id, "hello"])
      assert.deepStrictEqual(Via.parse(name[2]!)!.hops, [relay.greeting.instance!])
      assert.strictEqual((yield* relay.trackInfo(name)).priority, 0)
      const ask = (name: ReadonlyArray<string>) => Effect.flip(relay.subscribe(name))
      const stale = yield* ask([name[0]!, id, name[2]!.replace("!", ".ffffffffffffffff!"), "hello"])
      assert.deepStrictEqual([stale._tag, "code" in stale && stale.code], ["MoqRemote", 62])
      assert.strictEqual((yield* ask([name[0]!, "d".repeat(16), name[2]!, "hello"]))._tag, "MoqNotFound")
      assert.strictEqual((yield* ask(["hello"]))._tag, "MoqNotFound")
      yield* publisher.end()
      const gone = yield* ask(name)
      assert.deepStrictEqual([gone._tag, "code" in gone && gone.code], ["MoqRemote", 62])
    }))

  it.effect("leaves out a path that becomes too long by it", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"], c: ["b"] })
      const session = yield* world.connect("a")
      // with ".relay", an id, and one relay and a publisher this is 1,023; with two relays more
      const long = "x".repeat(1023 - 6 - 16 - 33)
      yield* publish(session, [long])
      yield* publish(session, [`${long}x`])
      yield* publish(session, Array.from({ length: 30 }, () => "x"))
      yield* publish(session, ["short"])
      yield* settle
      assert.strictEqual(world.paths().a!.length, 4)
      assert.deepStrictEqual(world.paths().b, ["short", long])
      assert.deepStrictEqual(world.paths().c, ["short"])
    }))
})

describe("what a relay may pass on and take in", () => {
  it.effect("is what its token says", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a/?get=room&put=out"] }, { authenticator: byQuery })
      for (const at of ["a", "b"]) {
        const session = yield* world.connect(at)
        for (const path of ["room", "out", "secret"]) yield* publish(session, [path, at])
      }
      yield* settle
      assert.deepStrictEqual(world.paths(), {
        a: ["out/a", "out/b", "room/a", "secret/a"],
        b: ["out/b", "room/a", "room/b", "secret/b"]
      })
      const viewer = yield* Effect.flip((yield* world.connect("b")).subscribe(["secret", "a"]))
      assert.strictEqual(viewer._tag, "MoqNotFound")
    }))

  it.effect("is no more for a client that says it is a relay", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a"] }, { authenticator: byQuery })
      const source = yield* world.connect("a")
      const [room, secret] = [yield* publish(source, ["room", "a"]), yield* publish(source, ["secret", "a"])]
      for (const { group } of [room, secret]) yield* group("it")
      const id = "e".repeat(16)
      const instance = source.greeting.instance!
      const router = yield* Router.make
      // by ways that lead through others, and through itself
      for (const path of ["room", "out", "secret"]) {
        for (const way of [`${id}!${id}`, `${id}.${instance}!${id}`, `${instance}!${id}`]) {
          yield* router.announce([".relay", instance, way, path, "e"])
        }
      }
      const liar = yield* world.connect("a/?get=room&put=out", { router, greeting: { instance: id, isRelay: true } })
      const { heard } = yield* listen(liar, [".relay", id])
      yield* settle
      assert.deepStrictEqual(heard.map((event) => event.split("/").slice(3).join("/")), ["room/a", ""])
      const [, , way = ""] = heard[0]!.split("/")
      const ask = (...path: ReadonlyArray<string>) => Effect.flip(liar.fetch([".relay", id, way, ...path], 0))
      assert.strictEqual((yield* ask("secret", "a"))._tag, "MoqRemote")
      assert.strictEqual((yield* Effect.flip(liar.subscribe(["secret", "a"])))._tag, "MoqNotFound")
      assert.strictEqual((yield* liar.fetch([".relay", id, way, "room", "a"], 0)).sequence, 0)
      assert.deepStrictEqual(world.paths(), { a: ["out/e", "room/a", "secret/a"], b: ["out/e", "room/a", "secret/a"] })
    }))

  it.effect("is below the path of the URL", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [], b: ["a/room"], c: ["b"] })
      const publisher = yield* publish(yield* world.connect("a"), ["room", "one"])
      yield* publish(yield* world.connect("b"), ["two"])
      yield* publish(yield* world.connect("a"), ["elsewhere"])
      yield* settle
      assert.deepStrictEqual(world.paths(), {
        a: ["elsewhere", "room/one", "room/two"],
        b: ["one", "two"],
        c: ["one", "two"]
      })
      const viewer = yield* view(yield* world.connect("c"), ["one"])
      yield* publisher.group("hello")
      yield* settle
      assert.deepStrictEqual(viewer.got, ["hello"])
    }))

  it.effect("is closed to a client that may not publish what it announces", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ a: [] }, { authenticator: byQuery })
      const session = yield* world.connect("a/room?put=room/mine&get=room")
      yield* publish(session, ["mine", "one"])
      yield* settle
      assert.deepStrictEqual(world.paths(), { a: ["room/mine/one"] })
      yield* publish(session, ["other"])
      yield* settle
      const { code, reason } = yield* session.closed
      assert.strictEqual(code, 6)
      assert.include(reason, "other")
    }))
})

describe("an upstream that is no relay of this library", () => {
  for (const profile of Profile.all) {
    it.effect(`${profile.name}: gives what it has, and gets what did not come from it`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld({ a: ["old"], b: ["old"] })
        const hub = yield* Origin.make({ linger: 0 })
        const offered: Array<ReadonlyArray<string>> = []
        yield* serve(world, "old", (connection) =>
          Effect.gen(function*() {
            const session = yield* Session.accept(connection, {
              router: hub,
              profiles: [profile],
              greeting: { instance: undefined, isRelay: undefined }
            })
            yield* hub.attach(session, [])
            const { heard } = yield* listen(session)
            offered.push(heard)
          }))
        // the next attempt
        yield* pass(5)
        assert.strictEqual(world.count("RelayConnected"), 2)
        const one = yield* publish(yield* world.connect("a"), ["one"])
        const two = yield* publish(yield* world.connect("b"), ["two"])
        yield* publish(hub, ["three"])
        yield* settle
        assert.deepStrictEqual(world.paths(), { a: ["one", "three", "two"], b: ["one", "three", "two"] })
        const active = offered.map((heard) => heard.filter((event) => event !== "live"))
        assert.deepStrictEqual(active.sort(), [["+one"], ["+two"]])
        const viewers = yield* Effect.forEach(
          ["a", "b"],
          (at) => Effect.flatMap(world.connect(at), (session) => view(session, [at === "a" ? "two" : "one"]))
        )
        yield* settle
        yield* one.group("1")
        yield* two.group("2")
        yield* settle
        assert.deepStrictEqual(viewers.map(({ got }) => got), [["2"], ["1"]])
        yield* one.end()
        yield* two.end()
        yield* pass(20)
        assert.deepStrictEqual(world.paths(), { a: ["three"], b: ["three"] })
      }))
  }
})
