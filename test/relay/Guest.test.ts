import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Schema, Scope, Stream } from "effect"
import { NotFound } from "../../src/core/MoqError.ts"
import * as Path from "../../src/core/Path.ts"
import type * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import { Authenticator, everything, type Grant } from "../../src/relay/Authenticator.ts"
import * as Guest from "../../src/relay/Guest.ts"
import * as Origin from "../../src/relay/Origin.ts"
import { listen, publish, settle, start, view } from "./relays.ts"

const grant = (subscribe: Grant["subscribe"], publish: Grant["publish"] = []): Grant => ({ subscribe, publish })

/** A relay whose sessions have what the table grants to the path of their URL; others have everything. */
const granting = (grants: Readonly<Record<string, Grant>>) =>
  Effect.provideService(start(), Authenticator, {
    authenticate: ({ url }) => Effect.succeed(grants[url.pathname] ?? grant([[]], [[]]))
  })

describe("a grant", () => {
  it.effect("that ends at no time that there is has ended", () =>
    Effect.gen(function*() {
      const { connect } = yield* granting({ "/": { ...everything, expires: NaN } })
      assert.strictEqual((yield* (yield* connect()).closed).code, 6)
    }))
})

describe("a session that may see some of a relay", () => {
  it.effect("hears of what it may see alone, however it asks, and of its end", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* granting({
        "/": grant([["a", "x"], ["b"], ["a", "x", "deep"]]),
        "/a": grant([["a", "x"], ["b"]]),
        "/b/c": grant([["b"]]),
        "/d": grant([], [["d"]])
      })
      yield* publish(relay.origin, ["a", "x"])
      yield* publish(relay.origin, ["a", "x", "deep", "1"])
      yield* publish(relay.origin, ["a", "xy"])
      yield* publish(relay.origin, ["a", "y", "2"])
      yield* publish(relay.origin, ["b", "c", "3"])
      const hidden = yield* publish(relay.origin, ["c"])
      const all = yield* connect("/")
      const heard = (prefix?: ReadonlyArray<string>) => Effect.map(listen(all, prefix), ({ heard }) => heard)
      assert.deepStrictEqual(yield* heard(), ["+a/x", "+a/x/deep/1", "+b/c/3", "live"])
      assert.deepStrictEqual(yield* heard(["a"]), ["+a/x", "+a/x/deep/1", "live"])
      assert.deepStrictEqual(yield* heard(["a", "x", "deep"]), ["+a/x/deep/1", "live"])
      for (const prefix of [["a", "y"], ["a", "xy"], ["c"], ["nowhere"]]) {
        assert.deepStrictEqual(yield* heard(prefix), ["live"], prefix.join("/"))
      }
      assert.deepStrictEqual((yield* listen(yield* connect("/a"))).heard, ["+x", "+x/deep/1", "live"])
      assert.deepStrictEqual((yield* listen(yield* connect("/b/c"))).heard, ["+3", "live"])
      assert.deepStrictEqual((yield* listen(yield* connect("/d"))).heard, ["live"])

      const news = yield* listen(all)
      const before = news.heard.length
      const seen = yield* publish(relay.origin, ["b", "new"])
      const unseen = yield* publish(relay.origin, ["a", "new"])
      yield* seen.end()
      yield* unseen.end()
      yield* hidden.end()
      assert.deepStrictEqual(news.heard.slice(before), ["+b/new", "-b/new"])
    }))

  it.effect("gets nothing else: Unauthorized, whether it is there or not", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* granting({ "/": grant([["a"]], [["w"]]), "/a": grant([["a", "x"]]) })
      for (const path of [["a", "x"], ["ab"], ["b", "a"], ["w", "taken"]]) {
        const there = yield* publish(relay.origin, path)
        yield* there.group(path.join("/"))
      }
      const session = yield* connect("/")
      assert.deepStrictEqual((yield* view(session, ["a", "x"])).got, ["a/x"])
      yield* session.trackInfo(["a", "x"])
      yield* Effect.scoped(session.fetch(["a", "x"], 0))
      const below = yield* connect("/a")
      assert.deepStrictEqual((yield* view(below, ["x"])).got, ["a/x"])
      const outside = [["ab"], ["b", "a"], ["b"], ["nowhere"], ["", "a", "x"], ["A", "x"], ["..", "a", "x"], ["w"]]
      for (const path of outside) {
        const name = path.join("/")
        assert.strictEqual((yield* Effect.flip(session.subscribe(path)))._tag, "MoqUnauthorized", name)
        assert.strictEqual((yield* Effect.flip(session.fetch(path, 0)))._tag, "MoqUnauthorized", name)
        if (path[0] !== "w") {
          assert.strictEqual((yield* Effect.flip(session.trackInfo(path)))._tag, "MoqUnauthorized", name)
        }
      }
      // waiting for it does not help
      assert.strictEqual((yield* Effect.flip(session.subscribe(["b"], { wait: "1 minute" })))._tag, "MoqUnauthorized")
      assert.strictEqual((yield* Effect.flip(below.subscribe(["y"])))._tag, "MoqUnauthorized")
      assert.strictEqual((yield* Effect.flip(session.subscribe(["a", "y"])))._tag, "MoqNotFound")
      assert.strictEqual((yield* view(session, ["a", "x"])).isThere(), true)
    }))

  it.effect("may ask whether what it may publish is taken, though it may not see it", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* granting({ "/w": grant([], [["w", "mine"]]) })
      const other = yield* publish(relay.origin, ["w", "mine", "taken"], { priority: 7 })
      yield* publish(relay.origin, ["w", "theirs"])
      yield* other.group("x")
      const session = yield* connect("/w")
      assert.strictEqual((yield* Effect.flip(session.trackInfo(["mine", "free"])))._tag, "MoqNotFound")
      const { latest, priority } = yield* session.trackInfo(["mine", "taken"])
      assert.deepStrictEqual([latest, priority], [0, 7])
      assert.strictEqual((yield* Effect.flip(session.trackInfo(["theirs"])))._tag, "MoqUnauthorized")
      assert.strictEqual((yield* Effect.flip(session.subscribe(["mine", "taken"])))._tag, "MoqUnauthorized")
      const mine = yield* publish(session, ["mine", "new"])
      yield* mine.group("y")
      assert.deepStrictEqual((yield* view(relay.origin, ["w", "mine", "new"])).got, ["y"])
    }))

  it.effect("offers below its root what the program offers through it", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      const { router } = Guest.make(origin, { root: ["r"], grant: grant([["r", "seen"]]) })
      yield* publish(router, ["seen", "1"])
      yield* publish(router, ["unseen"])
      yield* router.route(["seen", "made"], (path) => Effect.map(Track.make(path), ({ track }) => track))
      yield* router.route(["made"], () => Effect.fail(new NotFound({})))
      yield* router.announce(["seen", "made", "x"])
      assert.deepStrictEqual(origin.paths, [["r", "seen", "1"], ["r", "unseen"], ["r", "seen", "made", "x"]])
      assert.deepStrictEqual(router.paths, [["seen", "1"], ["seen", "made", "x"]])
      assert.deepStrictEqual((yield* listen({ announced: () => router.routed })).heard, ["+seen/made", "live"])
      assert.isTrue((yield* view(router, ["seen", "made", "x"])).isThere())
    }))
})

// few letters, so that two of them often begin alike
const path = Schema.Array(Schema.Literals(["a", "b", "ab"])).check(Schema.isMaxLength(3))
const track = Schema.Array(Schema.Literals(["a", "b", "ab"])).check(Schema.isBetweenLength(1, 4))
const some = <S extends Schema.Top>(schema: S) => Schema.Array(schema).check(Schema.isMaxLength(6))

/** A path as text in which one is a prefix of the other exactly when its parts are. */
const text = (parts: ReadonlyArray<string>): string => parts.map((part) => `${part}/`).join("")

describe("what a guest hears", () => {
  it.effect.prop("is what the text of paths says, at the beginning and later", [
    some(path),
    path,
    path,
    some(track),
    some(track)
  ], ([prefixes, root, prefix, first, later]) =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      const { router } = Guest.make(origin, { root, grant: grant(prefixes) })
      const publishing = new Map<string, { readonly end: () => Effect.Effect<void> }>()
      const toggle = Effect.fnUntraced(function*(path: ReadonlyArray<string>) {
        const key = text(path)
        const there = publishing.get(key)
        publishing.delete(key)
        if (there !== undefined) return yield* there.end()
        publishing.set(key, yield* publish(origin, path))
      })
      const expected = (path: ReadonlyArray<string>) =>
        text(path).startsWith(text([...root, ...prefix])) &&
        prefixes.some((allowed) => text(path).startsWith(text(allowed)))
      for (const path of first) yield* toggle(path)
      const { heard } = yield* listen(router, prefix)
      const names = () => [...publishing.keys()].map((key) => key.split("/").slice(0, -1)).filter(expected)
      const relative = (path: ReadonlyArray<string>) => path.slice(root.length).join("/")
      assert.deepStrictEqual(heard.slice(0, -1).sort(), names().map((path) => `+${relative(path)}`).sort())
      assert.strictEqual(heard.at(-1), "live")
      for (const path of later) {
        const before = heard.length
        const isNew = !publishing.has(text(path))
        yield* toggle(path)
        yield* settle
        assert.deepStrictEqual(
          heard.slice(before),
          expected(path) ? [`${isNew ? "+" : "-"}${relative(path)}`] : []
        )
      }
    }).pipe(Effect.scoped), { arbitrary: { runs: 60, seed: 11 } })
})

/** A guest at the root that may see everything, and what it watches, as text. */
const guestOf = (origin: Origin.Origin, root: Path.Path = []) => {
  const guest = Guest.make(origin, { root, grant: grant([[]]) })
  return { router: guest.router, watching: () => guest.watching.map(Path.format) }
}

describe("what a guest watches", () => {
  it.effect("is what it subscribes to, once for each, for as long as it does", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      yield* publish(origin, ["r", "a"])
      yield* publish(origin, ["r", "b"])
      const { router, watching } = guestOf(origin, ["r"])
      assert.deepStrictEqual(watching(), [])
      const one = yield* view(router, ["a"])
      const two = yield* view(router, ["a"])
      const three = yield* view(router, ["b"])
      assert.deepStrictEqual(watching(), ["r/a", "r/a", "r/b"])
      yield* one.leave
      assert.deepStrictEqual(watching(), ["r/a", "r/b"])
      yield* two.leave
      yield* three.leave
      assert.deepStrictEqual(watching(), [])
      yield* Effect.scoped(router.fetch(["a"], 0)).pipe(Effect.ignore)
      assert.deepStrictEqual(watching(), [])
    }))

  it.effect("has neither what is not there nor what is not allowed, in whatever scope it was asked for", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      const guest = Guest.make(origin, { root: [], grant: grant([["a"]]) })
      // the scope of this test goes on
      yield* Effect.flip(guest.router.subscribe(["a", "missing"]))
      yield* Effect.flip(guest.router.subscribe(["b"]))
      assert.deepStrictEqual(guest.watching, [])
      const waiting = yield* Effect.forkScoped(guest.router.subscribe(["a", "later"], { wait: "1 minute" }), {
        startImmediately: true
      })
      yield* settle
      assert.deepStrictEqual(guest.watching, [])
      yield* publish(origin, ["a", "later"])
      yield* settle
      assert.isTrue(Exit.isSuccess(waiting.pollUnsafe()!))
      assert.deepStrictEqual(guest.watching, [["a", "later"]])
    }))

  it.effect("is exact when subscribing is interrupted anywhere", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      const source: Router.Source = {
        path: ["slow"],
        subscribe: (request) =>
          Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 5 }), origin.subscribe(["quick"], request)),
        trackInfo: Effect.fail(new NotFound({})),
        fetch: () => Effect.fail(new NotFound({}))
      }
      yield* publish(origin, ["quick"])
      yield* origin.add(source)
      const { router, watching } = guestOf(origin)
      for (let steps = 0; steps < 40; steps++) {
        const scope = yield* Scope.make()
        const fiber = yield* Effect.forkChild(Scope.provide(router.subscribe(["slow"]), scope))
        for (let step = 0; step < steps; step++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        const isThere = Exit.isSuccess(yield* Fiber.await(fiber))
        assert.deepStrictEqual(watching(), isThere ? ["slow"] : [], `${steps}`)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(watching(), [])
      }
    }))

  it.effect("is nothing any more when its session has gone, however it went", () =>
    Effect.gen(function*() {
      const { connectBy, relay } = yield* granting({})
      const publisher = yield* publish(relay.origin, ["a"])
      const watched = Effect.map(relay.state, (sessions) => sessions.map(({ watching }) => watching))
      const { kill, session } = yield* connectBy()
      yield* publish(relay.origin, ["b"])
      const viewers = [yield* view(session, ["b"]), yield* view(session, ["a"])]
      assert.deepStrictEqual(yield* watched, [[["b"], ["a"]]])
      yield* viewers[0]!.leave
      assert.deepStrictEqual(yield* watched, [[["a"]]])
      yield* kill
      yield* settle
      assert.deepStrictEqual(yield* watched, [])
      const next = yield* connectBy()
      const last = yield* view(next.session, ["a"])
      assert.deepStrictEqual(yield* watched, [[["a"]]])
      yield* publisher.end()
      yield* settle
      assert.isTrue(Exit.isSuccess(yield* last.ended))
      assert.deepStrictEqual(yield* watched, [[]])
    }))

  it.effect("stays small beside ten thousand tracks of others", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      const guest = Guest.make(origin, { root: [], grant: grant([["mine"], ["anon"]]) })
      let heard = 0
      yield* Effect.forkScoped(
        Stream.runForEach(guest.router.announced(), () => Effect.sync(() => void heard++)),
        { startImmediately: true }
      )
      const others = yield* Scope.fork(yield* Effect.scope)
      for (let i = 0; i < 10_000; i++) {
        const path = ["others", `${i}`]
        const source: Router.Source = {
          path,
          subscribe: () => Effect.fail(new NotFound({})),
          trackInfo: Effect.fail(new NotFound({})),
          fetch: () => Effect.fail(new NotFound({}))
        }
        yield* Scope.provide(origin.add(source), others)
      }
      yield* publish(origin, ["mine", "1"])
      yield* settle
      assert.strictEqual(heard, 2)
      assert.deepStrictEqual(guest.router.paths, [["mine", "1"]])
      yield* Scope.close(others, Exit.void)
      yield* settle
      assert.strictEqual(heard, 2)
    }))
})

describe("what one session asks for", () => {
  it.effect("is sixteen subscriptions to one track at a time, and as many to another", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      yield* publish(origin, ["a"])
      yield* publish(origin, ["b"])
      let broken = 0
      const guest = Guest.make(origin, { root: [], grant: everything, onLimit: () => void broken++ })
      const subscribe = Effect.gen(function*() {
        const scope = yield* Scope.fork(yield* Effect.scope)
        yield* Scope.provide(guest.router.subscribe(["a"]), scope)
        return scope
      })
      const scopes = yield* Effect.all(Array.from({ length: 16 }, () => subscribe))
      assert.strictEqual((yield* Effect.flip(subscribe))._tag, "MoqBoundsExceeded")
      assert.strictEqual(broken, 1)
      yield* guest.router.subscribe(["b"])
      yield* Scope.close(scopes[3]!, Exit.void)
      yield* subscribe
      assert.strictEqual((yield* Effect.flip(subscribe))._tag, "MoqBoundsExceeded")
    }))

  it.effect("reaches a publisher 32 fetches at a time", () =>
    Effect.gen(function*() {
      const origin = yield* Origin.make()
      let asked = 0
      const gate = Latch.makeUnsafe(false)
      yield* origin.add({
        path: ["a"],
        subscribe: () => Effect.fail(new NotFound({})),
        trackInfo: Effect.fail(new NotFound({})),
        fetch: () =>
          Effect.suspend(() => {
            asked++
            return Effect.andThen(gate.await, Effect.fail(new NotFound({})))
          })
      })
      const guest = Guest.make(origin, { root: [], grant: everything })
      const fibers = yield* Effect.all(
        Array.from({ length: 50 }, (_, i) =>
          Effect.forkScoped(Effect.flip(guest.router.fetch(["a"], i)), { startImmediately: true }))
      )
      yield* settle
      assert.strictEqual(asked, 32)
      yield* Fiber.interrupt(fibers[0]!)
      yield* settle
      assert.strictEqual(asked, 33)
      yield* gate.open
      for (const fiber of fibers.slice(1)) {
        yield* Fiber.join(fiber)
      }
      assert.strictEqual(asked, 50)
    }))
})
