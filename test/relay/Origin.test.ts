import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App, SessionClosed } from "../../src/core/MoqError.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Router from "../../src/model/Router.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import type { Session } from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { held, listen, publish, settle, start, view } from "./relays.ts"

const hello = ["room", "hello"]
const later = (duration: "2 seconds" | "5 seconds" | "9 seconds" | "10 seconds") =>
  Effect.andThen(TestClock.adjust(duration), settle)

describe("viewers of a relay", () => {
  it.effect("all get everything in order, over one subscription to the publisher", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const idle = held(relay.origin)
      const viewers = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => Effect.flatMap(connect(), (session) => view(session, hello, { wait: "10 seconds" }))
      )
      const publisher = yield* publish(yield* connect(), hello, { order: "asc" })
      yield* settle
      const frames: Array<string> = []
      for (let group = 0; group < 10; group++) {
        const names = Array.from({ length: 5 }, (_, frame) => `${group}.${frame}`)
        yield* publisher.group(...names)
        frames.push(...names)
      }
      yield* settle
      assert.strictEqual(count("UpstreamOpened"), 1)
      yield* publisher.end()
      yield* later("10 seconds")
      for (const viewer of viewers) {
        assert.deepStrictEqual(viewer.got, frames)
        assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      }
      yield* later("10 seconds")
      assert.strictEqual(count("UpstreamOpened"), 1)
      assert.strictEqual(count("UpstreamClosed"), 1)
      assert.deepStrictEqual(held(relay.origin), idle)
    }))

  it.effect("that come late begin with the first frame of the latest group", () =>
    Effect.gen(function*() {
      const { connect, count } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      const early = yield* view(yield* connect(), hello)
      yield* publisher.group("old")
      yield* settle
      const group = yield* publisher.track.appendGroup
      yield* group.writeFrame(new Uint8Array([65]))
      yield* settle
      const late = yield* view(yield* connect(), hello)
      yield* group.writeFrame(new Uint8Array([66]))
      yield* group.finish
      yield* settle
      assert.deepStrictEqual(late.got, ["A", "B"])
      assert.deepStrictEqual(early.got, ["old", "A", "B"])
      assert.strictEqual(count("UpstreamOpened"), 1)
    }))

  it.effect("that wait get all that is cached, and do not slow down those who are there", () =>
    Effect.gen(function*() {
      const { connect, count } = yield* start()
      const session = yield* connect()
      const patient = yield* view(yield* connect(), hello, { wait: "10 seconds" })
      const publisher = yield* publish(session, ["elsewhere"])
      yield* publisher.group("one")
      const there = yield* publish(session, hello, { order: "asc" })
      for (const name of ["one", "two", "three"]) yield* there.group(name)
      yield* settle
      const other = yield* view(yield* connect(), hello)
      assert.deepStrictEqual(patient.got, ["one", "two", "three"])
      assert.deepStrictEqual(other.got, ["three"])
      assert.strictEqual(count("UpstreamOpened"), 1)
    }))

  it.effect("that ask for more than the open subscription has get one that has it", () =>
    Effect.gen(function*() {
      const { connect, count } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      for (const name of ["one", "two", "three"]) yield* publisher.group(name)
      const latest = yield* view(yield* connect(), hello)
      const all = yield* view(yield* connect(), hello, { from: 0 })
      assert.deepStrictEqual(latest.got, ["three"])
      assert.deepStrictEqual([...all.got].sort(), ["one", "three", "two"])
      assert.strictEqual(count("UpstreamOpened"), 2)
      yield* view(yield* connect(), hello)
      yield* view(yield* connect(), hello, { from: 1 })
      assert.strictEqual(count("UpstreamOpened"), 2)
      // only the one that is given to further viewers lingers
      yield* publisher.end()
      assert.deepStrictEqual(yield* latest.ended, Exit.void)
      assert.deepStrictEqual(yield* all.ended, Exit.void)
      assert.strictEqual(count("UpstreamClosed"), 1)
    }))

  it.effect("drop the subscription with the last of them, and open another one with the next", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      yield* publisher.group("one")
      const session = yield* connect()
      const one = yield* view(session, hello)
      const two = yield* view(yield* connect(), hello)
      yield* publisher.track.used
      yield* one.leave
      assert.strictEqual(count("UpstreamClosed"), 0)
      yield* two.leave
      assert.strictEqual(count("UpstreamClosed"), 1)
      assert.strictEqual(held(relay.origin).shares, 0)
      const unused = yield* Effect.forkChild(publisher.track.unused)
      yield* settle
      assert.deepStrictEqual(unused.pollUnsafe(), Exit.void)
      yield* publisher.group("two")
      const three = yield* view(session, hello)
      assert.deepStrictEqual(three.got, ["two"])
      assert.strictEqual(count("UpstreamOpened"), 2)
    }))

  it.effect("release the subscription whenever they are interrupted", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      const session = yield* connect()
      const idle = held(relay.origin)
      for (let turns = 0; turns < 40; turns++) {
        const fiber = yield* Effect.forkChild(
          Effect.scoped(Effect.andThen(session.subscribe(hello), Effect.never)),
          { startImmediately: true }
        )
        const local = yield* Effect.forkChild(
          Effect.scoped(Effect.andThen(relay.origin.subscribe(hello), Effect.never)),
          { startImmediately: true }
        )
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        yield* Fiber.interrupt(local)
        yield* settle
        assert.deepStrictEqual(held(relay.origin), idle, `after ${turns} turns`)
        assert.strictEqual(count("UpstreamOpened"), count("UpstreamClosed"))
      }
      assert.isAbove(count("UpstreamOpened"), 0)
      const unused = yield* Effect.forkChild(publisher.track.unused)
      yield* settle
      assert.deepStrictEqual(unused.pollUnsafe(), Exit.void)
    }))

  it.effect("are told NotFound of what nobody has, be it by themselves or by the publisher", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const session = yield* connect()
      assert.strictEqual((yield* Effect.flip(session.subscribe(hello)))._tag, "MoqNotFound")
      const idle = held(relay.origin)
      for (let i = 0; i < 3; i++) {
        yield* relay.origin.subscribe(hello).pipe(Effect.flip)
      }
      assert.deepStrictEqual(held(relay.origin), idle)
      const waiting = yield* view(session, hello, { wait: "2 seconds" })
      yield* later("2 seconds")
      assert.strictEqual((yield* waiting.failed)._tag, "MoqNotFound")
    }))

  it.effect("are told what the publisher refuses with, each time that they ask", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const publisher = yield* connect()
      let asked = 0
      yield* publisher.router.add({
        path: hello,
        subscribe: () => Effect.suspend(() => (asked++, Effect.fail(new App({ code: 7 })))),
        trackInfo: Effect.fail(new App({ code: 8 })),
        fetch: () => Effect.fail(new App({ code: 9 }))
      })
      yield* settle
      const session = yield* connect()
      for (let i = 1; i <= 3; i++) {
        const error = yield* Effect.flip(session.subscribe(hello))
        assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 7])
        // in one scope that goes on
        const local = yield* Effect.flip(relay.origin.subscribe(hello))
        assert.deepStrictEqual([local._tag, "code" in local && local.code], ["MoqApp", 7])
        assert.strictEqual(asked, 2 * i)
      }
      const info = yield* Effect.flip(session.trackInfo(hello))
      assert.deepStrictEqual([info._tag, "code" in info && info.code], ["MoqApp", 8])
      assert.strictEqual(held(relay.origin).shares, 0)
      assert.strictEqual(count("UpstreamOpened"), 0)
    }))
})

describe("a publisher of a relay", () => {
  it.effect("that fails its track fails the viewers with its own code", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      const viewers = [yield* view(yield* connect(), hello), yield* view(relay.origin, hello)]
      yield* publisher.group("one")
      yield* settle
      yield* publisher.track.fail(new App({ code: 42 }))
      yield* settle
      for (const viewer of viewers) {
        const error = yield* viewer.failed
        assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 42])
        assert.deepStrictEqual(viewer.got, ["one"])
      }
      assert.strictEqual(held(relay.origin).shares, 0)
    }))

  it.effect("that fails its track may begin it again, though somebody still holds the failed one", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const session = yield* connect()
      const tracks = [yield* Track.make(hello), yield* Track.make(hello)]
      let asked = 0
      yield* session.router.add({
        path: hello,
        subscribe: (request) => Effect.sync(() => Subscription.make(tracks[asked++]!.track, request)),
        trackInfo: Effect.succeed({ ...tracks[0]!.track.info, latest: undefined }),
        fetch: (sequence) => Router.cached(tracks[0]!.track, sequence)
      })
      yield* settle
      const holding = yield* relay.origin.subscribe(hello)
      yield* tracks[0]!.fail(new App({ code: 1 }))
      yield* settle
      assert.isTrue(holding.end !== undefined && Exit.isFailure(holding.end))
      const viewer = yield* view(yield* connect(), hello)
      const group = yield* tracks[1]!.appendGroup
      yield* group.writeFrame(new Uint8Array([65]))
      yield* settle
      assert.deepStrictEqual(viewer.got, ["A"])
      assert.deepStrictEqual([count("UpstreamOpened"), count("UpstreamClosed")], [2, 0])
    }))

  it.effect("that closes right after a short track: 50 viewers still get all of it, be they late", () =>
    Effect.gen(function*() {
      const { connect } = yield* start({}, { network: yield* Memory.makeNetwork({ window: 64 }) })
      const early = yield* Effect.forEach(
        Array.from({ length: 25 }),
        () => Effect.flatMap(connect(), (session) => view(session, hello, { wait: "10 seconds" }))
      )
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(connect(), scope)
      const publisher = yield* publish(session, hello)
      const frames: Array<string> = []
      for (let group = 0; group < 20; group++) {
        const names = Array.from({ length: 5 }, (_, frame) => `${group}.${frame} ${"x".repeat(100)}`)
        yield* publisher.group(...names)
        frames.push(...names)
      }
      yield* publisher.track.finish
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      yield* settle
      assert.isDefined(closing.pollUnsafe())
      yield* later("5 seconds")
      const late = yield* Effect.forEach(
        Array.from({ length: 25 }),
        () => Effect.flatMap(connect(), (session) => view(session, hello, { from: 0 }))
      )
      yield* later("5 seconds")
      for (const viewer of [...early, ...late]) {
        assert.deepStrictEqual([...viewer.got].sort(), [...frames].sort())
        assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      }
    }))

  it.effect("that is interrupted fails the viewers with Cancelled", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      const viewer = yield* view(yield* connect(), hello)
      yield* publisher.end(Exit.failCause(Cause.interrupt()))
      yield* settle
      assert.strictEqual((yield* viewer.failed)._tag, "MoqCancelled")
    }))

  it.effect("that dies fails the viewers, and its paths are gone, where nothing lingers", () =>
    Effect.gen(function*() {
      const { connect, connectBy, count, relay } = yield* start({ linger: 0 })
      const idle = held(relay.origin)
      const { kill, session } = yield* connectBy()
      const publisher = yield* publish(session, hello)
      yield* publish(session, ["room", "other"])
      const watcher = yield* connect()
      const announces = yield* listen(watcher)
      const viewer = yield* view(watcher, hello)
      yield* publisher.group("one")
      yield* settle
      yield* kill
      yield* settle
      assert.strictEqual((yield* viewer.failed)._tag, "MoqTransportError")
      assert.deepStrictEqual(announces.heard.slice(3).sort(), ["-room/hello", "-room/other"])
      assert.strictEqual((yield* Effect.flip(watcher.subscribe(hello)))._tag, "MoqNotFound")
      assert.deepStrictEqual(relay.origin.paths, [])
      assert.strictEqual(count("UpstreamClosed"), 1)
      assert.strictEqual(held(relay.origin).entries + held(relay.origin).shares, 0)
      assert.strictEqual(held(relay.origin).announced, idle.announced)
      assert.strictEqual(yield* relay.sessions, 1)
    }))

  it.effect("that has finished leaves its track for 10 seconds, and then nothing", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start()
      const publisher = yield* publish(yield* connect(), hello)
      const session = yield* connect()
      const first = yield* view(session, hello, { from: 0 })
      yield* publisher.group("one")
      yield* publisher.group("two")
      yield* publisher.end()
      assert.deepStrictEqual(yield* first.ended, Exit.void)
      assert.deepStrictEqual(relay.origin.paths, [])
      yield* later("9 seconds")
      for (const source of [yield* connect(), relay.origin, session]) {
        const late = yield* view(source, hello, { from: 0 })
        yield* settle
        assert.deepStrictEqual([...late.got].sort(), ["one", "two"])
        assert.deepStrictEqual(yield* late.ended, Exit.void)
        // whoever wants to be live waits for the next publisher, and the path is free for one
        assert.strictEqual((yield* (yield* view(source, hello)).failed)._tag, "MoqNotFound")
        assert.strictEqual((yield* Effect.flip(source.trackInfo(hello)))._tag, "MoqNotFound")
      }
      yield* later("2 seconds")
      assert.strictEqual(held(relay.origin).shares, 0)
      assert.strictEqual(count("UpstreamClosed"), 1)
      const tooLate = yield* view(session, hello, { from: 0 })
      assert.strictEqual((yield* tooLate.failed)._tag, "MoqNotFound")
    }))

  it.effect("that is new replaces the track that lingers", () =>
    Effect.gen(function*() {
      const { connect, count } = yield* start()
      const session = yield* connect()
      const old = yield* publish(session, hello)
      const viewer = yield* view(yield* connect(), hello)
      yield* old.group("old")
      yield* old.end()
      assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      const next = yield* publish(session, hello)
      assert.strictEqual(count("UpstreamClosed"), 1)
      yield* next.group("new")
      const late = yield* view(yield* connect(), hello, { from: 0 })
      assert.deepStrictEqual(late.got, ["new"])
      // the time of the old one has nothing to do with it
      yield* later("10 seconds")
      yield* next.group("newer")
      yield* settle
      assert.deepStrictEqual(late.got, ["new", "newer"])
    }))

  it.effect("may be the program itself, which keeps sessions in reserve", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const mine = yield* publish(relay.origin, hello)
      const theirs = yield* publish(yield* connect(), hello)
      yield* mine.group("mine")
      yield* theirs.group("theirs")
      const viewer = yield* view(yield* connect(), hello)
      assert.deepStrictEqual(viewer.got, ["mine"])
      yield* mine.end()
      assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      const after = yield* view(relay.origin, hello)
      assert.deepStrictEqual(after.got, ["theirs"])
      const error = yield* Effect.flip(publish(relay.origin, hello))
      assert.strictEqual(error._tag, "MoqDuplicate")
    }))
})

describe("INFO through a relay", () => {
  it.effect("comes from the publisher, and from what viewers get once there is something", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const session = yield* connect()
      let asked = 0
      const producer = yield* publish(
        {
          publish: (track: Track.Track) =>
            session.router.add({
              ...Router.fromTrack(track),
              trackInfo: Effect.sync(() => (asked++, { ...track.info, latest: track.latest }))
            })
        },
        hello,
        { priority: 5, order: "asc", expires: 700 }
      )
      const watcher = yield* connect()
      yield* producer.group("one")
      yield* producer.group("two")
      const expected = { priority: 5, order: "asc" as const, expires: 700, latest: 1 }
      assert.deepStrictEqual(yield* watcher.trackInfo(hello), expected)
      assert.strictEqual(asked, 1)
      const viewer = yield* view(watcher, hello)
      assert.deepStrictEqual(viewer.got, ["two"])
      assert.deepStrictEqual(yield* watcher.trackInfo(hello), expected)
      assert.strictEqual(asked, 1)
      yield* viewer.leave
      assert.deepStrictEqual(yield* watcher.trackInfo(hello), expected)
      assert.strictEqual(asked, 2)
      assert.strictEqual((yield* Effect.flip(watcher.trackInfo(["nobody"])))._tag, "MoqNotFound")
    }))
})

describe("announces of a relay", () => {
  it.effect("are those below the prefix", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const session = yield* connect()
      yield* publish(session, ["room", "a", "x"])
      yield* publish(session, ["room-2", "a"])
      const watcher = yield* connect()
      const all = yield* listen(watcher)
      const room = yield* listen(watcher, ["room"])
      const late = yield* publish(session, ["room", "b"])
      yield* late.end()
      assert.deepStrictEqual(room.heard, ["+room/a/x", "live", "+room/b", "-room/b"])
      assert.deepStrictEqual(all.heard, ["+room/a/x", "+room-2/a", "live", "+room/b", "-room/b"])
    }))

  it.effect("are asked for again when a publisher's stream of them breaks, for as long as its session lives", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const ends = [
        new App({ code: 4 }),
        new App({ code: 4 }),
        new SessionClosed({ code: 0, reason: "", by: "remote" })
      ]
      const broken = yield* Effect.forEach(ends, () => Deferred.make<never, App | SessionClosed>())
      let asked = 0
      const announced = () =>
        Stream.suspend(() => {
          const end = broken[asked++]!
          return Stream.concat(Stream.make(Announced.active(["x"])), Stream.never).pipe(
            Stream.interruptWhen(Deferred.await(end))
          )
        })
      const publisher: Session = Object.create(yield* connect(), { announced: { value: announced } })
      yield* relay.origin.attach(publisher, ["again"])
      for (let i = 0; i < ends.length; i++) {
        yield* settle
        assert.deepStrictEqual(relay.origin.paths, [["again", "x"]])
        yield* Deferred.fail(broken[i]!, ends[i]!)
        yield* settle
        // nobody has said that it has ended
        assert.deepStrictEqual(relay.origin.paths, [["again", "x"]])
        yield* later("2 seconds")
      }
      assert.deepStrictEqual(relay.origin.paths, [["again", "x"]])
      yield* later("5 seconds")
      assert.deepStrictEqual(relay.origin.paths, [])
      assert.strictEqual(asked, 3)
    }))

  it.effect("leave nothing behind, however many come and go", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const session = yield* connect()
      const idle = held(relay.origin)
      for (let i = 0; i < 300; i++) {
        const one = yield* publish(session, ["churn", String(i)])
        if (i % 10 === 0) {
          const viewer = yield* view(relay.origin, ["churn", String(i)])
          yield* viewer.leave
        }
        yield* one.end()
      }
      assert.deepStrictEqual(held(relay.origin), idle)
      const { log } = (relay.origin as unknown as {
        readonly registry: { readonly log: { readonly first: number; readonly next: number } }
      }).registry
      assert.strictEqual(log.next, 601)
      assert.isBelow(log.next - log.first, 200)
    }))
})
