import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { Cancelled, Duplicate, Evicted, NotFound } from "../../src/core/MoqError.ts"
import * as Path from "../../src/core/Path.ts"
import * as Broadcast from "../../src/model/Broadcast.ts"
import * as Router from "../../src/model/Router.ts"
import { bytes, read, settle, text } from "./fixtures.ts"

const prefix = ["room", "alice"]

describe("Broadcast", () => {
  it.effect("offers its tracks under their full paths", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const broadcast = yield* Broadcast.make(prefix, { router })
      const clock = yield* broadcast.track("clock", { priority: 10, order: "desc" })
      const video = yield* broadcast.track(["video", "hd"])
      assert.deepStrictEqual([clock.path, video.path], [[...prefix, "clock"], [...prefix, "video", "hd"]])
      assert.deepStrictEqual(clock.track.info, { priority: 10, order: "desc", expires: 0 })
      assert.deepStrictEqual(router.paths, [clock.path, video.path])
      assert.strictEqual(broadcast.router, router)
    }))

  it.effect("stands alone when it is given no router", () =>
    Effect.gen(function*() {
      const broadcast = yield* Broadcast.make(prefix)
      yield* broadcast.track("clock")
      assert.deepStrictEqual(broadcast.router.paths, [[...prefix, "clock"]])
      assert.notStrictEqual((yield* Broadcast.make(prefix)).router, broadcast.router)
    }))

  it.effect("takes one track per name, and can take the name again", () =>
    Effect.gen(function*() {
      const broadcast = yield* Broadcast.make(prefix)
      const scope = yield* Scope.make()
      yield* Scope.provide(broadcast.track("clock"), scope)
      assert.instanceOf(yield* Effect.flip(broadcast.track("clock")), Duplicate)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(broadcast.router.paths, [])
      yield* broadcast.track("clock")
    }))

  it.effect("keeps nothing of a track that it could not offer, or that has gone", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const held = () => scope.state._tag === "Open" ? scope.state.finalizers?.size : 0
      const broadcast = yield* Scope.provide(Broadcast.make(prefix), scope)
      yield* broadcast.track("clock")
      yield* broadcast.track("video")
      const before = held()
      assert.strictEqual(before, 2)
      for (let i = 0; i < 10; i++) {
        yield* Effect.flip(Effect.scoped(broadcast.track("clock")))
        yield* Effect.scoped(broadcast.track("other"))
      }
      assert.strictEqual(held(), before)
      const long = yield* Scope.make()
      for (let i = 0; i < 10; i++) yield* Effect.flip(Scope.provide(broadcast.track("clock"), long))
      assert.strictEqual(held(), before)
    }))

  it.effect("is read by its prefix", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const { subscribe, tracks } = Broadcast.consume(router, prefix)
      const { got } = yield* read(tracks, (event) => event._tag === "Live" ? "live" : Path.format(event.path))
      const broadcast = yield* Broadcast.make(prefix, { router })
      const clock = yield* broadcast.track("clock")
      yield* Broadcast.make(["room", "bob"], { router }).pipe(Effect.flatMap((other) => other.track("clock")))
      yield* settle
      assert.deepStrictEqual(got, ["live", "room/alice/clock"])
      const group = yield* clock.appendGroup
      yield* group.writeFrame(bytes("tick"))
      const track = yield* subscribe("clock")
      assert.deepStrictEqual((yield* read(track.frames, text)).got, ["tick"])
      assert.instanceOf(yield* Effect.flip(subscribe(["video", "hd"])), NotFound)
    }))

  it.effect("ends its tracks as its scope closes, or as that of the track does", () =>
    Effect.gen(function*() {
      for (const which of ["broadcast", "track"] as const) {
        for (const exit of [Exit.void, Exit.fail("broken"), Exit.interrupt(1)]) {
          const scopes = { broadcast: yield* Scope.make(), track: yield* Scope.make() }
          const broadcast = yield* Scope.provide(Broadcast.make(prefix), scopes.broadcast)
          const clock = yield* Scope.provide(broadcast.track("clock"), scopes.track)
          const { fiber } = yield* read(clock.track.events, () => "")
          yield* Scope.close(scopes[which], exit)
          const end = yield* Fiber.await(fiber)
          if (exit === Exit.void) assert.deepStrictEqual(end, Exit.void)
          else assert.instanceOf(yield* Effect.flip(end as Exit.Exit<void, unknown>), Cancelled)
          assert.deepStrictEqual(broadcast.router.paths, [])
          yield* Scope.close(scopes.track, Exit.void)
          yield* Scope.close(scopes.broadcast, Exit.void)
          assert.deepStrictEqual(clock.track.end, end)
        }
      }
    }))

  it.effect("fails all of its tracks by hand, later ones too, and no other", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const broadcast = yield* Broadcast.make(prefix, { router })
      const [a, b] = [yield* broadcast.track("a"), yield* broadcast.track("b")]
      const other = yield* Effect.flatMap(Broadcast.make(["other"], { router }), (other) => other.track("a"))
      const error = new Evicted({ detail: "gone" })
      yield* broadcast.fail(error)
      const late = yield* broadcast.track("late")
      for (const { track } of [a, b, late]) assert.strictEqual(yield* Effect.flip(Stream.runDrain(track.events)), error)
      // the first failure stays
      yield* broadcast.fail(new Cancelled({}))
      const { track } = yield* broadcast.track("later")
      assert.strictEqual(yield* Effect.flip(Stream.runDrain(track.events)), error)
      assert.isUndefined(other.track.end)
    }))
})
