import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Exit, Fiber, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { BoundsExceeded, Cancelled, Duplicate, Evicted, NotFound } from "../../src/core/MoqError.ts"
import * as Path from "../../src/core/Path.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Broadcast from "../../src/model/Broadcast.ts"
import * as Group from "../../src/model/Group.ts"
import * as Router from "../../src/model/Router.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, bytes, nobody, read, settle, text } from "./fixtures.ts"

const clock = ["room", "alice", "clock"]

const show = (event: Announced.Announced): string =>
  event._tag === "Live" ? "live" : `${event._tag === "Active" ? "+" : "-"}${Path.format(event.path)}`

const publish = (router: Router.Router, path: Path.Path) =>
  Effect.gen(function*() {
    const producer = yield* Track.make(path)
    yield* router.publish(producer.track)
    return producer
  })

/** Publishes until the scope that it gives is closed. */
const publishIn = (router: Router.Router, path: Path.Path) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const producer = yield* Scope.provide(publish(router, path), scope)
    return { producer, withdraw: Scope.close(scope, Exit.void) }
  })

/** A route until it is withdrawn, what it has been asked for, and what of that has been closed again. */
const routing = (router: Router.Router, prefix: Path.Path, slow?: Duration.Input) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const made: Array<string> = []
    const closed: Array<string> = []
    const producers: Array<Track.Producer> = []
    const serve = (path: Path.Path) =>
      Effect.gen(function*() {
        if (slow !== undefined) yield* Effect.sleep(slow)
        made.push(Path.format(path))
        yield* Effect.addFinalizer(() => Effect.sync(() => closed.push(Path.format(path))))
        const producer = yield* Track.make(path)
        producers.push(producer)
        return producer.track
      })
    yield* Scope.provide(router.route(prefix, serve), scope)
    const close = (exit: Exit.Exit<void>) => Scope.close(scope, exit)
    return { made, closed, producers, close, withdraw: close(Exit.void) }
  })

describe("Router", () => {
  it.effect("gives the track of a path to those who subscribe, and says what is known of it", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const producer = yield* publish(router, clock)
      const group = yield* producer.appendGroup
      yield* group.writeFrame(bytes("tick"))
      yield* producer.appendGroup
      const track = yield* router.subscribe(clock)
      const early = yield* router.subscribe(clock, { from: 0 })
      yield* producer.finish
      assert.strictEqual((yield* Stream.runCollect(track.groups)).length, 1)
      assert.strictEqual((yield* Stream.runCollect(early.groups)).length, 2)
      assert.deepStrictEqual(yield* router.trackInfo(clock), { priority: 0, order: "default", expires: 0, latest: 1 })
      assert.deepStrictEqual(router.paths, [clock])
    }))

  it.effect("takes one publisher per path", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const first = yield* publishIn(router, clock)
      assert.instanceOf(yield* Effect.flip(publish(router, clock)), Duplicate)
      assert.instanceOf(yield* Effect.flip(publish(router, [...clock])), Duplicate)
      const track = yield* router.subscribe(clock)
      assert.isUndefined(track.end)
      yield* first.withdraw
      const second = yield* publishIn(router, clock)
      assert.deepStrictEqual(router.paths, [clock])
      yield* second.withdraw
      assert.deepStrictEqual(router.paths, [])
    }))

  describe("rendezvous", () => {
    it.effect("is NotFound at once when nobody has the path", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        assert.instanceOf(yield* Effect.flip(router.subscribe(clock)), NotFound)
        assert.instanceOf(yield* Effect.flip(router.trackInfo(clock)), NotFound)
        yield* publish(router, ["room", "alice"])
        assert.instanceOf(yield* Effect.flip(router.subscribe(clock)), NotFound)
      }))

    it.effect("is NotFound after the time to wait", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const fiber = yield* Effect.forkChild(Effect.flip(router.subscribe(clock, { wait: "10 seconds" })))
        yield* TestClock.adjust("9999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.instanceOf(yield* Fiber.join(fiber), NotFound)
        assert.deepStrictEqual(attached((router as unknown as { registry: { log: never } }).registry), nobody)
      }))

    it.effect("asks for everything still cached when the path had to be waited for", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const fiber = yield* Effect.forkChild(
          Effect.gen(function*() {
            const track = yield* router.subscribe(clock, { wait: "10 seconds" })
            return yield* Stream.runCollect(track.groups)
          }).pipe(Effect.scoped),
          { startImmediately: true }
        )
        yield* TestClock.adjust("5 seconds")
        yield* publish(router, ["room", "bob", "clock"])
        const producer = yield* publish(router, clock)
        // the publisher is faster than the one who waits
        yield* producer.appendGroup
        yield* producer.appendGroup
        yield* settle
        yield* producer.finish
        assert.deepStrictEqual((yield* Fiber.join(fiber)).map((group) => group.sequence), [0, 1])
      }))

    it.effect("begins where it is told to, and with the latest group when it need not wait", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const producer = yield* publish(router, clock)
        for (let i = 0; i < 3; i++) yield* producer.appendGroup
        const latest = yield* router.subscribe(clock, { wait: "10 seconds" })
        const told = yield* router.subscribe(clock, { wait: "10 seconds", from: 1 })
        yield* producer.finish
        assert.deepStrictEqual((yield* Stream.runCollect(latest.groups)).length, 1)
        assert.deepStrictEqual((yield* Stream.runCollect(told.groups)).length, 2)
      }))

    it.effect("goes on waiting, and does not spin, when what was announced has gone again", () =>
      Effect.gen(function*() {
        let asked = 0
        const router = yield* Router.make
        const track = yield* Track.make(clock)
        const fiber = yield* Effect.forkChild(
          Router.rendezvous(clock, { wait: "10 seconds" }, {
            subscribe: (request) =>
              Effect.suspend(() =>
                ++asked < 4 ? Effect.fail(new NotFound({})) : Effect.succeed(Subscription.make(track.track, request))
              ),
            announced: router.announced
          }),
          { startImmediately: true }
        )
        yield* publish(router, [...clock, "below"])
        yield* settle
        assert.strictEqual(asked, 1)
        for (let i = 0; i < 3; i++) {
          const { withdraw } = yield* publishIn(router, clock)
          yield* settle
          assert.strictEqual(asked, i + 2)
          yield* withdraw
        }
        assert.strictEqual((yield* Fiber.join(fiber)).path, track.path)
      }))

    it.effect("keeps what it subscribed to for as long as the scope of the one who asked", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const closed: Array<string> = []
        const track = yield* Track.make(clock)
        const scope = yield* Scope.make()
        const fiber = yield* Effect.forkChild(
          Scope.provide(router.subscribe(clock, { wait: "1 minute" }), scope),
          { startImmediately: true }
        )
        yield* settle
        yield* router.add({
          path: clock,
          subscribe: (request) =>
            Effect.as(
              Effect.addFinalizer(() => Effect.sync(() => closed.push("closed"))),
              Subscription.make(track.track, request)
            ),
          trackInfo: Effect.fail(new Cancelled({})),
          fetch: () => Effect.fail(new Cancelled({}))
        })
        yield* Fiber.join(fiber)
        yield* settle
        assert.deepStrictEqual(closed, [])
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(closed, ["closed"])
      }))

    it.effect("leaves nothing behind when it is interrupted", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const fiber = yield* Effect.forkChild(router.subscribe(clock, { wait: "1 minute" }), { startImmediately: true })
        yield* settle
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(attached((router as unknown as { registry: { log: never } }).registry), nobody)
      }))
  })

  describe("announced", () => {
    it.effect("tells what is there, that this was all, then what changes", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const a = yield* publishIn(router, ["room", "a"])
        yield* publish(router, ["other"])
        const { fiber, got } = yield* read(router.announced(["room"]), show)
        assert.deepStrictEqual(got, ["+room/a", "live"])
        const b = yield* publishIn(router, ["room", "b"])
        yield* publishIn(router, ["room-2"])
        yield* a.withdraw
        yield* b.withdraw
        yield* publish(router, ["room", "a"])
        yield* settle
        assert.deepStrictEqual(got.slice(2), ["+room/b", "-room/a", "-room/b", "+room/a"])
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(attached((router as unknown as { registry: { log: never } }).registry), nobody)
      }))

    it.effect("is everything without a prefix, and nothing but live where there is nothing", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        assert.deepStrictEqual((yield* read(router.announced(), show)).got, ["live"])
        yield* publish(router, ["x"])
        assert.deepStrictEqual((yield* read(router.announced(), show)).got, ["+x", "live"])
        assert.deepStrictEqual((yield* read(router.announced(["y"]), show)).got, ["live"])
      }))

    it.effect.prop("is a view without duplicates of what is published, for readers that begin at any time", [
      Schema.Array(Schema.Literals(["a", "b", "a/b", "a/c", "read", "pull"])).check(Schema.isMaxLength(60))
    ], ([steps]) =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const published = new Map<string, Effect.Effect<void>>()
        const readers: Array<ReadonlyArray<string>> = []
        for (const step of steps) {
          if (step === "read") readers.push((yield* read(router.announced(["a"]), show)).got)
          else if (step === "pull") yield* settle
          else if (published.has(step)) {
            yield* published.get(step)!
            published.delete(step)
          } else {
            published.set(step, (yield* publishIn(router, Path.fromString(step))).withdraw)
          }
        }
        yield* settle
        for (const got of readers) {
          const seen = new Set<string>()
          for (const event of got.filter((event) => event !== "live")) {
            const path = event.slice(1)
            if (event.startsWith("+")) {
              assert.isFalse(seen.has(path))
              seen.add(path)
            } else {
              assert.isTrue(seen.delete(path))
            }
          }
          const below = [...published.keys()].filter((path) => path.startsWith("a"))
          assert.deepStrictEqual([...seen].sort(), below.sort())
          assert.strictEqual(got.filter((event) => event === "live").length, 1)
        }
      }), { arbitrary: { runs: 150, seed: 1 } })
  })

  describe("scoped", () => {
    it.effect("is the part below a prefix, seen as a whole", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const room = Router.below(router, ["room"])
        assert.strictEqual(Router.below(router, []), router)
        yield* publish(router, ["elsewhere"])
        const producer = yield* publish(room, ["alice"])
        yield* producer.appendGroup
        assert.deepStrictEqual(router.paths, [["elsewhere"], ["room", "alice"]])
        assert.deepStrictEqual(room.paths, [["alice"]])
        assert.deepStrictEqual((yield* read(room.announced(), show)).got, ["+alice", "live"])
        assert.strictEqual((yield* room.trackInfo(["alice"])).latest, 0)
        assert.instanceOf(yield* Effect.flip(room.subscribe(["elsewhere"])), NotFound)
        const track = yield* room.subscribe(["alice"], { wait: "1 second" })
        yield* producer.finish
        assert.strictEqual((yield* Stream.runCollect(track.groups)).length, 1)
        assert.instanceOf(yield* Effect.flip(publish(router, ["room", "alice"])), Duplicate)
      }))

    it.effect("offers sources that are objects of a class", () =>
      Effect.gen(function*() {
        class Made implements Router.Source {
          readonly path = ["made"]
          readonly track: Track.Track
          constructor(track: Track.Track) {
            this.track = track
          }
          subscribe(request: Subscription.Request) {
            return Effect.succeed(Subscription.make(this.track, request))
          }
          fetch(sequence: number) {
            return Router.cached(this.track, sequence)
          }
          get trackInfo() {
            return Effect.succeed({ ...this.track.info, latest: this.track.latest })
          }
        }
        const router = yield* Router.make
        const producer = yield* Track.make(["made"])
        yield* producer.appendGroup
        yield* Router.below(router, ["room"]).add(new Made(producer.track))
        assert.strictEqual((yield* router.subscribe(["room", "made"])).latest, 0)
        assert.strictEqual((yield* router.fetch(["room", "made"], 0)).sequence, 0)
        assert.strictEqual((yield* router.trackInfo(["room", "made"])).latest, 0)
      }))
  })

  describe("include", () => {
    it.effect("offers in one router what another has, now and later", () =>
      Effect.gen(function*() {
        const [self, that] = [yield* Router.make, yield* Router.make]
        const before = yield* publishIn(that, ["before"])
        const scope = yield* Scope.make()
        yield* Scope.provide(Router.include(self, that), scope)
        assert.deepStrictEqual(self.paths, [["before"]])
        const after = yield* publish(that, ["after"])
        yield* before.withdraw
        yield* settle
        assert.deepStrictEqual(self.paths, [["after"]])
        const group = yield* after.appendGroup
        yield* group.writeFrame(bytes("x"))
        const track = yield* self.subscribe(["after"])
        assert.deepStrictEqual((yield* read(track.frames, text)).got, ["x"])
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(self.paths, [])
        assert.deepStrictEqual(that.paths, [["after"]])
      }))

    it.effect("fails for a path that is taken at the beginning, and offers nothing then", () =>
      Effect.gen(function*() {
        const [self, that] = [yield* Router.make, yield* Router.make]
        yield* publish(self, clock)
        yield* publish(that, ["free"])
        yield* publish(that, clock)
        assert.instanceOf(yield* Effect.flip(Router.include(self, that)), Duplicate)
        assert.deepStrictEqual(self.paths, [clock])
      }))

    it.effect("leaves out a path that is taken later, until it is free", () =>
      Effect.gen(function*() {
        const [self, that] = [yield* Router.make, yield* Router.make]
        const own = yield* publishIn(self, clock)
        yield* Router.include(self, that)
        const first = yield* publishIn(that, clock)
        yield* own.producer.appendGroup
        yield* settle
        assert.strictEqual((yield* self.trackInfo(clock)).latest, 0)
        yield* own.withdraw
        yield* settle
        assert.isUndefined((yield* self.trackInfo(clock)).latest)
        yield* first.withdraw
        yield* settle
        assert.deepStrictEqual(self.paths, [])
        // one that has gone meanwhile is not tried again
        const other = yield* publishIn(self, clock)
        yield* settle
        const second = yield* publishIn(that, clock)
        yield* settle
        yield* second.withdraw
        yield* settle
        yield* other.withdraw
        yield* settle
        assert.deepStrictEqual(self.paths, [])
        yield* publish(that, clock)
        yield* settle
        assert.deepStrictEqual(self.paths, [clock])
      }))

    it.effect("offers routes and what is announced of them, now and later", () =>
      Effect.gen(function*() {
        const [self, that] = [yield* Router.make, yield* Router.make]
        const before = yield* routing(that, ["before"])
        yield* that.announce(["before", "x"])
        const scope = yield* Scope.make()
        yield* Scope.provide(Router.include(self, that), scope)
        const after = yield* routing(that, ["after"])
        yield* settle
        assert.deepStrictEqual(self.paths, [["before", "x"]])
        yield* self.subscribe(["before", "x"])
        yield* self.subscribe(["before", "y"])
        yield* self.subscribe(["after", "z"])
        assert.deepStrictEqual([before.made, after.made], [["before/x", "before/y"], ["after/z"]])
        yield* Scope.close(scope, Exit.void)
        assert.instanceOf(yield* Effect.flip(self.subscribe(["before", "y"])), NotFound)
      }))
  })

  describe("publishing", () => {
    const tooLong = [["a".repeat(1_024)], Array.from({ length: 33 }, () => "a"), ["\ud800"]]

    it.effect("takes paths that are within bounds", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const broadcast = yield* Broadcast.make([], { router })
        for (const path of [[], ...tooLong]) {
          const offers = [
            publish(router, path),
            router.announce(path),
            publish(Router.below(router, ["room"]), path),
            Router.below(router, ["room"]).announce(path),
            broadcast.track(path)
          ]
          for (const offer of offers) assert.instanceOf(yield* Effect.flip(offer), BoundsExceeded)
        }
        for (const path of tooLong) assert.instanceOf(yield* Effect.flip(routing(router, path)), BoundsExceeded)
        assert.deepStrictEqual(router.paths, [])
        // a path that nobody can publish is not waited for
        assert.instanceOf(yield* Effect.flip(router.subscribe([], { wait: "1 day" })), BoundsExceeded)
      }))

    it.effect("below a prefix counts the whole path", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const room = Router.below(router, ["a".repeat(1_000)])
        yield* publish(room, ["b".repeat(23)])
        assert.instanceOf(yield* Effect.flip(publish(room, ["b".repeat(24)])), BoundsExceeded)
      }))
  })

  describe("route", () => {
    it.effect("makes a track for the first who asks, shares it, and closes it with the last", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const route = yield* routing(router, ["on", "demand"])
        const [one, two] = [yield* Scope.make(), yield* Scope.make()]
        const path = ["on", "demand", "x"]
        const first = yield* Scope.provide(router.subscribe(path), one)
        yield* Scope.provide(router.subscribe(path, { from: 0 }), two)
        yield* router.subscribe(["on", "demand"])
        assert.deepStrictEqual(route.made, ["on/demand/x", "on/demand"])
        yield* Scope.close(one, Exit.void)
        assert.deepStrictEqual(route.closed, [])
        assert.isUndefined(first.end)
        yield* Scope.close(two, Exit.void)
        assert.deepStrictEqual(route.closed, ["on/demand/x"])
        assert.deepStrictEqual(first.end, Exit.void)
        yield* router.subscribe(path)
        assert.deepStrictEqual(route.made, ["on/demand/x", "on/demand", "on/demand/x"])
        for (const path of [["on"], ["on", "other"], ["elsewhere"]]) {
          assert.instanceOf(yield* Effect.flip(router.subscribe(path)), NotFound)
        }
      }))

    it.effect("is a route again when the same effect is run again", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const route = router.route(["echo"], (path) => Effect.map(Track.make(path), ({ track }) => track))
        for (const name of ["one", "two"]) {
          const scope = yield* Scope.make()
          yield* Scope.provide(route, scope)
          const track = yield* router.subscribe(["echo", name])
          assert.isUndefined(track.end)
          yield* Scope.close(scope, Exit.void)
          assert.isDefined(track.end)
        }
      }))

    it.effect("serves from the longest prefix, and only what nobody publishes", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const all = yield* routing(router, [])
        const room = yield* routing(router, ["room"])
        assert.instanceOf(yield* Effect.flip(routing(router, ["room"])), Duplicate)
        yield* publish(router, ["room", "there"])
        for (const path of [["x"], ["room", "x"], ["room-2"], ["room", "there"]]) yield* router.subscribe(path)
        assert.deepStrictEqual([all.made, room.made], [["x", "room-2"], ["room/x"]])
        assert.deepStrictEqual(router.paths, [["room", "there"]])
        yield* room.withdraw
        yield* router.subscribe(["room", "y"])
        assert.deepStrictEqual(all.made, ["x", "room-2", "room/y"])
      }))

    it.effect("does not remember what it could not make", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        let asked = 0
        yield* router.route(["a"], (path) =>
          Effect.gen(function*() {
            asked++
            yield* Effect.sleep("1 second")
            if (asked < 3) return yield* new NotFound({ detail: String(asked) })
            return (yield* Track.make(path)).track
          }))
        const scope = yield* Effect.scope
        for (let i = 1; i < 3; i++) {
          const both = yield* Effect.forEach([1, 2], () =>
            Effect.forkChild(Effect.flip(Scope.provide(router.subscribe(["a"]), scope)), { startImmediately: true }))
          yield* TestClock.adjust("1 second")
          for (const fiber of both) {
            assert.deepStrictEqual((yield* Fiber.join(fiber)).message, `not found: ${i}`)
          }
          assert.strictEqual(asked, i)
        }
        const fiber = yield* Effect.forkChild(router.subscribe(["a"]), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
      }))

    it.effect("asks again for those who try again at once", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        let asked = 0
        yield* router.route(["a"], (path) =>
          Effect.gen(function*() {
            yield* Effect.sleep("1 second")
            if (asked++ === 0) return yield* new NotFound({})
            return (yield* Track.make(path)).track
          }))
        const both = yield* Effect.forkChild(
          Effect.all([1, 2].map(() => Effect.retry(router.subscribe(["a"]), { times: 1 })), { concurrency: 2 }),
          { startImmediately: true }
        )
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(both)
        assert.strictEqual(asked, 2)
      }))

    it.effect("goes on for others when one who waits is interrupted, and stops when nobody is left", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const route = yield* routing(router, ["a"], "1 second")
        const [one, two, three] = yield* Effect.forEach(
          [1, 2, 3],
          () =>
            Effect.forkChild(Effect.scoped(Effect.andThen(router.subscribe(["a"]), Effect.never)), {
              startImmediately: true
            })
        )
        yield* Fiber.interrupt(one!)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([route.made, route.closed], [["a"], []])
        yield* Fiber.interrupt(two!)
        assert.deepStrictEqual(route.closed, [])
        yield* Fiber.interrupt(three!)
        assert.deepStrictEqual(route.closed, ["a"])
        const alone = yield* Effect.forkChild(router.subscribe(["a"]), { startImmediately: true })
        yield* settle
        yield* Fiber.interrupt(alone)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([route.made, route.closed], [["a"], ["a"]])
      }))

    it.effect("ends what it has made, and fails those who wait, when its scope closes", () =>
      Effect.gen(function*() {
        for (const exit of [Exit.void, Exit.die("oh")]) {
          const router = yield* Router.make
          const route = yield* routing(router, ["a"])
          const slow = yield* routing(router, ["slow"], "1 second")
          const track = yield* router.subscribe(["a"])
          const waiting = yield* Effect.forkChild(Effect.flip(router.subscribe(["slow"])), { startImmediately: true })
          yield* settle
          yield* route.close(exit)
          yield* slow.close(exit)
          assert.deepStrictEqual(track.end?._tag, Exit.isSuccess(exit) ? "Success" : "Failure")
          assert.instanceOf(yield* Fiber.join(waiting), Cancelled)
          assert.instanceOf(yield* Effect.flip(router.subscribe(["a"])), NotFound)
        }
      }))

    it.effect("makes another track when one has failed, though somebody still holds that", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const route = yield* routing(router, ["a"])
        yield* router.subscribe(["a"])
        yield* route.producers[0]!.fail(new Cancelled({}))
        yield* settle
        assert.isUndefined((yield* router.subscribe(["a"])).end)
        // one that has finished is shared like any other
        yield* route.producers[1]!.finish
        yield* settle
        assert.isDefined((yield* router.subscribe(["a"])).end)
        assert.strictEqual(route.made.length, 2)
      }))

    it.effect("answers INFO and FETCH, for as long as that takes", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const closed: Array<string> = []
        yield* router.route(["a"], (path) =>
          Effect.gen(function*() {
            yield* Effect.addFinalizer(() => Effect.sync(() => closed.push("closed")))
            const producer = yield* Track.make(path, { priority: 3 })
            const group = yield* producer.appendGroup
            group.writeFrameUnsafe(bytes("x"))
            return producer.track
          }))
        assert.deepStrictEqual(yield* router.trackInfo(["a"]), {
          priority: 3,
          order: "default",
          expires: 0,
          latest: 0
        })
        assert.strictEqual(closed.length, 1)
        const scope = yield* Scope.make()
        const group = yield* Scope.provide(router.fetch(["a"], 0), scope)
        assert.deepStrictEqual((yield* read(group.frames, text)).got, ["x"])
        assert.strictEqual(closed.length, 1)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(closed.length, 2)
        // what does not have the group is not held, though the scope goes on
        assert.instanceOf(yield* Effect.flip(router.fetch(["a"], 1)), NotFound)
        assert.strictEqual(closed.length, 3)
      }))

    it.effect("is seen from below a prefix with the path that is left", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const room = Router.below(router, ["room"])
        const route = yield* routing(room, ["x"])
        yield* room.announce(["x", "1"])
        yield* router.subscribe(["room", "x", "1"])
        yield* room.subscribe(["x", "2"])
        assert.deepStrictEqual(route.made, ["x/1", "x/2"])
        assert.deepStrictEqual(router.paths, [["room", "x", "1"]])
        assert.deepStrictEqual((yield* read(room.routed, show)).got, ["+x", "live"])
        assert.deepStrictEqual((yield* read(router.routed, show)).got, ["+room/x", "live"])
      }))
  })

  describe("announce", () => {
    it.effect("tells of a path that a route serves, and takes it", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const { got } = yield* read(router.announced(), show)
        const scope = yield* Scope.make()
        yield* Scope.provide(router.announce(clock), scope)
        assert.instanceOf(yield* Effect.flip(publish(router, clock)), Duplicate)
        assert.instanceOf(yield* Effect.flip(router.announce(clock)), Duplicate)
        // nobody serves it yet
        assert.instanceOf(yield* Effect.flip(router.subscribe(clock)), NotFound)
        const route = yield* routing(router, ["room"])
        yield* router.subscribe(clock)
        yield* router.subscribe(clock)
        assert.strictEqual(route.made.length, 1)
        yield* Scope.close(scope, Exit.void)
        yield* settle
        assert.deepStrictEqual(got, ["live", "+room/alice/clock", "-room/alice/clock"])
      }))
  })

  describe("fetch", () => {
    it.effect("gives a group that is cached, from a frame on; it goes on when it grows", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        const producer = yield* publish(router, clock)
        const group = yield* producer.appendGroup
        for (const frame of ["a", "b"]) yield* group.writeFrame(bytes(frame))
        const all = yield* read((yield* router.fetch(clock, 0)).frames, text)
        const rest = yield* read((yield* router.fetch(clock, 0, { frame: 1 })).frames, text)
        const future = yield* read((yield* router.fetch(clock, 0, { frame: 3 })).frames, text)
        for (const frame of ["c", "d"]) yield* group.writeFrame(bytes(frame))
        yield* group.finish
        for (const { fiber } of [all, rest, future]) yield* Fiber.join(fiber)
        assert.deepStrictEqual([all.got, rest.got, future.got], [["a", "b", "c", "d"], ["b", "c", "d"], ["d"]])
      }))

    it.effect("fails with NotFound for what was never there, and with Evicted for what no longer is", () =>
      Effect.gen(function*() {
        const router = yield* Router.make
        assert.instanceOf(yield* Effect.flip(router.fetch(clock, 0)), NotFound)
        const producer = yield* publish(router, clock)
        yield* producer.createGroup(1)
        const group = yield* producer.createGroup(2)
        yield* producer.gap({ from: 3, to: 3, code: 65 })
        for (const sequence of [0, 3, 4]) {
          assert.instanceOf(yield* Effect.flip(router.fetch(clock, sequence)), NotFound)
        }
        yield* TestClock.adjust("10 seconds")
        for (const sequence of [0, 1]) {
          assert.instanceOf(yield* Effect.flip(router.fetch(clock, sequence)), Evicted)
        }
        for (let i = 0; i <= Group.maxFrames; i++) group.writeFrameUnsafe(bytes(""))
        assert.instanceOf(yield* Effect.flip(router.fetch(clock, 2)), Evicted)
        assert.strictEqual((yield* router.fetch(clock, 2, { frame: 1 })).first, 1)
      }))
  })
})
