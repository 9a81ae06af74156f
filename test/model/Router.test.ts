import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Cancelled, Duplicate, NotFound } from "../../src/core/MoqError.ts"
import * as Path from "../../src/core/Path.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Router from "../../src/model/Router.ts"
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
          Router.rendezvous<never>(clock, { wait: "10 seconds" }, {
            subscribe: () =>
              Effect.suspend(() => ++asked < 4 ? Effect.fail(new NotFound({})) : Effect.succeed(track.track)),
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
        assert.strictEqual(yield* Fiber.join(fiber), track.track)
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
          subscribe: () => Effect.as(Effect.addFinalizer(() => Effect.sync(() => closed.push("closed"))), track.track),
          trackInfo: Effect.fail(new Cancelled({}))
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
        yield* publish(router, [])
        assert.deepStrictEqual((yield* read(router.announced(), show)).got, ["+x", "+", "live"])
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
          subscribe() {
            return Effect.succeed(this.track)
          }
          get trackInfo() {
            return Effect.succeed({ ...this.track.info, latest: this.track.latest })
          }
        }
        const router = yield* Router.make
        const { track } = yield* Track.make(["made"])
        yield* Router.below(router, ["room"]).add(new Made(track))
        assert.strictEqual(yield* router.subscribe(["room", "made"]), track)
        assert.isUndefined((yield* router.trackInfo(["room", "made"])).latest)
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

    it.effect("fails for a path that is taken at the beginning, and leaves out one that is taken later", () =>
      Effect.gen(function*() {
        const [self, that] = [yield* Router.make, yield* Router.make]
        const own = yield* publish(self, clock)
        const { withdraw } = yield* publishIn(that, clock)
        assert.instanceOf(yield* Effect.flip(Effect.scoped(Router.include(self, that))), Duplicate)
        yield* withdraw
        yield* Router.include(self, that)
        yield* publishIn(that, clock)
        yield* settle
        assert.deepStrictEqual(self.paths, [clock])
        yield* own.appendGroup
        assert.strictEqual((yield* self.trackInfo(clock)).latest, 0)
      }))
  })
})
