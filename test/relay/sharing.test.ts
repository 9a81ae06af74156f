import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App, BoundsExceeded, type FetchError, NotSupportedByPeer } from "../../src/core/MoqError.ts"
import type * as Group from "../../src/model/Group.ts"
import * as Router from "../../src/model/Router.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { bytes, held, publish, settle, start, text, view } from "./relays.ts"

const hello = ["room", "hello"]

/** Reads a group: what it has given, and how that ended. */
const reading = (group: Group.Group) =>
  Effect.gen(function*() {
    const got: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(group.frames, (frame) => Effect.sync(() => void got.push(text(frame)))),
      { startImmediately: true }
    )
    yield* settle
    return { got, fiber }
  })

/** The events of a track as they come: a group by its sequence, a gap as `from-to!code`. */
const events = (track: Track.Track) =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(track.events, (event) =>
        Effect.sync(() =>
          void told.push(
            event._tag === "Group" ? String(event.sequence) : `${event.from}-${event.to}!${event.code}`
          )
        )),
      { startImmediately: true }
    )
    yield* settle
    return { told, fiber }
  })

/** A track whose publisher remembers what it was asked. */
const watched = Effect.gen(function*() {
  const asked: Array<Subscription.Request> = []
  const fetched: Array<number> = []
  const producer = yield* Track.make(hello, { priority: 7, order: "asc" })
  const source: Router.Source = {
    ...Router.fromTrack(producer.track),
    subscribe: (request) =>
      Effect.sync(() => {
        asked.push(request)
        return Subscription.make(producer.track, request, (next) => Effect.sync(() => void asked.push(next)))
      }),
    fetch: (sequence, options) =>
      Effect.suspend((): Effect.Effect<Group.Group, FetchError> => {
        fetched.push(sequence)
        return sequence === 99 ? Effect.fail(new App({ code: 9 })) : Router.cached(producer.track, sequence, options)
      })
  }
  const group = (...frames: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const group = yield* producer.appendGroup
      for (const frame of frames) yield* group.writeFrame(bytes(frame))
      yield* group.finish
    })
  return { asked, fetched, producer, source, group }
})

describe("what a relay asks of a publisher", () => {
  it.effect("is everything from the first viewer's start on, and nobody's preferences", () =>
    Effect.gen(function*() {
      const { relay } = yield* start()
      const { asked, group, source } = yield* watched
      yield* relay.origin.add(source)
      const viewer = yield* view(relay.origin, hello, { from: 0, to: 1, priority: -5, order: "desc", expires: 10 })
      const longer = yield* view(relay.origin, hello, { from: 1, to: 2 })
      for (const name of ["zero", "one", "two", "three"]) yield* group(name)
      yield* settle
      assert.deepStrictEqual([viewer.got, longer.got], [["zero", "one"], ["one", "two"]])
      for (const { ended } of [viewer, longer]) assert.deepStrictEqual(yield* ended, Exit.void)
      assert.deepStrictEqual(asked, [{ from: 0 }])
    }))

  it.effect("has nothing to do with what a viewer changes, and neither have other viewers", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const { asked, group, source } = yield* watched
      yield* relay.origin.add(source)
      const track = yield* (yield* connect()).subscribe(hello, { from: 0 })
      const narrow = yield* events(track)
      const local = yield* relay.origin.subscribe(hello, { from: 0 })
      const other = yield* view(yield* connect(), hello, { from: 0 })
      yield* group("zero")
      yield* settle
      yield* track.update({ priority: 5, order: "desc", to: 1 })
      yield* local.update({ from: 2, to: 2 })
      yield* settle
      for (const name of ["one", "two", "three"]) yield* group(name)
      yield* settle
      assert.deepStrictEqual(narrow.told, ["0", "1"])
      assert.deepStrictEqual(other.got, ["zero", "one", "two", "three"])
      assert.deepStrictEqual(narrow.fiber.pollUnsafe(), Exit.void)
      assert.strictEqual(asked.length, 1)
    }))
})

describe("a range through a relay", () => {
  it.effect("in the past that nobody has kept is a gap with code 31", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      for (const name of ["zero", "one", "two"]) yield* publisher.group(name)
      yield* TestClock.adjust("10 seconds")
      yield* settle
      const watcher = yield* connect()
      const all = yield* events(yield* watcher.subscribe(hello, { from: 0 }))
      assert.deepStrictEqual(all.told, ["0-1!31", "2"])
      const past = yield* events(yield* watcher.subscribe(hello, { from: 0, to: 0 }))
      assert.deepStrictEqual(past.told, ["0-0!31"])
      assert.deepStrictEqual(past.fiber.pollUnsafe(), Exit.void)
    }))

  it.effect("in the future comes when it comes, whatever others watch", () =>
    Effect.gen(function*() {
      const { connect, count } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      yield* publisher.group("zero")
      yield* view(yield* connect(), hello)
      const future = yield* view(yield* connect(), hello, { from: 2, to: 3 })
      for (const name of ["one", "two", "three", "four"]) {
        yield* publisher.group(name)
        yield* settle
      }
      assert.deepStrictEqual(future.got, ["two", "three"])
      assert.deepStrictEqual(yield* future.ended, Exit.void)
      assert.strictEqual(count("UpstreamOpened"), 1)
    }))
})

describe("FETCH through a relay", () => {
  it.effect("is answered from what viewers get, else by the publisher, with its own errors", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const { fetched, group, source } = yield* watched
      const session = yield* connect()
      yield* session.router.add(source)
      yield* settle
      const watcher = yield* connect()
      for (const name of ["zero", "one"]) yield* group(name, `${name} more`)
      const first = yield* reading(yield* watcher.fetch(hello, 0, { frame: 1 }))
      yield* Fiber.join(first.fiber)
      assert.deepStrictEqual([first.got, fetched], [["zero more"], [0]])
      const viewer = yield* view(watcher, hello)
      for (const at of [watcher, relay.origin]) {
        const cached = yield* reading(yield* at.fetch(hello, 1))
        yield* Fiber.join(cached.fiber)
        assert.deepStrictEqual(cached.got, ["one", "one more"])
      }
      assert.deepStrictEqual(fetched, [0])
      // it begins with group 1: what was before that has never been here
      yield* Fiber.join((yield* reading(yield* watcher.fetch(hello, 0))).fiber)
      assert.deepStrictEqual(fetched, [0, 0])
      const error = yield* Effect.flip(watcher.fetch(hello, 99))
      assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 9])
      assert.strictEqual((yield* Effect.flip(watcher.fetch(hello, 5)))._tag, "MoqNotFound")
      assert.strictEqual((yield* Effect.flip(watcher.fetch(["nobody"], 0)))._tag, "MoqNotFound")
      yield* group("two")
      yield* settle
      assert.deepStrictEqual(viewer.got, ["one", "one more", "two"])
    }))

  it.effect("goes on with a group that grows, though all viewers leave", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      const idle = held(relay.origin)
      const growing = yield* publisher.track.appendGroup
      yield* growing.writeFrame(bytes("a"))
      const viewer = yield* view(yield* connect(), hello)
      const scope = yield* Scope.make()
      const fetched = yield* reading(yield* Scope.provide(relay.origin.fetch(hello, 0), scope))
      const remote = yield* reading(yield* (yield* connect()).fetch(hello, 0))
      yield* viewer.leave
      yield* growing.writeFrame(bytes("b"))
      yield* growing.finish
      yield* settle
      for (const { fiber, got } of [fetched, remote]) {
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.void)
        assert.deepStrictEqual(got, ["a", "b"])
      }
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.strictEqual(count("UpstreamClosed"), 1)
      assert.deepStrictEqual(held(relay.origin), idle)
    }))

  it.effect("that fails for one hurts nobody else", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const session = yield* connect()
      const producer = yield* Track.make(hello)
      let asked = 0
      yield* session.router.add({
        ...Router.fromTrack(producer.track),
        fetch: (sequence) =>
          Effect.suspend((): Effect.Effect<Group.Group, FetchError> =>
            asked++ === 0 ? Effect.fail(new App({ code: 1 })) : Router.cached(producer.track, sequence)
          )
      })
      const group = yield* producer.appendGroup
      yield* group.writeFrame(bytes("a"))
      yield* group.finish
      yield* settle
      const results = yield* Effect.all(
        [1, 2, 3].map(() =>
          Effect.result(
            Effect.scoped(Effect.flatMap(relay.origin.fetch(hello, 0), (group) => Stream.runCollect(group.frames)))
          )
        ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(results.map(({ _tag }) => _tag).sort(), ["Failure", "Success", "Success"])
    }))

  it.effect("is NotFound where the publisher's version has no FETCH and nothing is cached", () =>
    Effect.gen(function*() {
      const { relay } = yield* start()
      const { group, source } = yield* watched
      yield* relay.origin.add({ ...source, fetch: () => Effect.fail(new NotSupportedByPeer({})) })
      yield* group("zero")
      assert.strictEqual((yield* Effect.flip(relay.origin.fetch(hello, 0)))._tag, "MoqNotFound")
      yield* view(relay.origin, hello)
      assert.strictEqual((yield* relay.origin.fetch(hello, 0)).count, 1)
    }))
})

describe("the program of a relay", () => {
  it.effect("publishes paths that are within bounds", () =>
    Effect.gen(function*() {
      const { relay } = yield* start()
      for (const path of [[], ["a".repeat(1_024)]]) {
        assert.instanceOf(yield* Effect.flip(publish(relay.origin, path)), BoundsExceeded)
        assert.instanceOf(yield* Effect.flip(relay.origin.announce(path)), BoundsExceeded)
      }
      assert.deepStrictEqual(relay.origin.paths, [])
    }))
})

describe("routes of a relay", () => {
  it.effect("serve on demand what nobody publishes, through sessions and below a root", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const idle = held(relay.origin)
      const scope = yield* Scope.make()
      const log: Array<string> = []
      const serve = (path: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          log.push(`+${path.join("/")}`)
          yield* Effect.addFinalizer(() => Effect.sync(() => log.push(`-${path.join("/")}`)))
          const producer = yield* Track.make(path)
          const group = yield* producer.appendGroup
          group.writeFrameUnsafe(bytes(path.at(-1)!))
          group.finishUnsafe()
          return producer.track
        })
      yield* Scope.provide(relay.origin.route(["made"], serve), scope)
      yield* Scope.provide(relay.origin.announce(["made", "b"]), scope)
      const there = yield* publish(relay.origin, ["made", "there"])
      yield* there.group("published")
      const watcher = yield* connect("/made")
      const viewers = yield* Effect.forEach(["a", "a", "b", "there"], (name) => view(watcher, [name]))
      assert.deepStrictEqual(viewers.map(({ got }) => got), [["a"], ["a"], ["b"], ["published"]])
      assert.deepStrictEqual(log, ["+made/a", "+made/b"])
      assert.strictEqual((yield* watcher.trackInfo(["a"])).latest, 0)
      assert.strictEqual((yield* Effect.flip((yield* connect()).subscribe(["other"])))._tag, "MoqNotFound")
      for (const { leave } of viewers) yield* leave
      yield* settle
      assert.deepStrictEqual(log.slice(2).sort(), ["-made/a", "-made/b"])
      yield* Scope.close(scope, Exit.void)
      yield* there.end()
      assert.strictEqual((yield* Effect.flip(watcher.subscribe(["a"])))._tag, "MoqNotFound")
      assert.deepStrictEqual(held(relay.origin), idle)
    }))
})
