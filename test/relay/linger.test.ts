import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import type * as Duration from "effect/Duration"
import { TestClock } from "effect/testing"
import * as Profile from "../../src/message/Profile.ts"
import * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Session from "../../src/session/Session.ts"
import { brief } from "../session/sessions.ts"
import { bytes, held, listen, publish, settle, start, text, view } from "./relays.ts"

const hello = ["room", "hello"]

const pass = (duration: Duration.Input) => Effect.andThen(TestClock.adjust(duration), settle)

/** A relay, and publishers that do not wait for anything when the test is over. */
const world = (options?: Parameters<typeof start>[0]) =>
  Effect.gen(function*() {
    const relay = yield* start(options)
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.interrupt()))
    /** A session that publishes what a router has. */
    const serve = (router: Router.Router, options?: Session.Options) =>
      Effect.tap(Scope.provide(relay.connectBy("", { ...options, router }), scope), settle)
    return { ...relay, serve }
  })

/** A track in a router, and groups of one frame each. */
const track = (router: Router.Router, options?: Parameters<typeof Track.make>[1]) =>
  Effect.gen(function*() {
    const producer = yield* Track.make(hello, options)
    yield* router.publish(producer.track)
    const group = (sequence: number, say = String(sequence)) =>
      Effect.gen(function*() {
        const group = yield* producer.createGroup(sequence)
        yield* group.writeFrame(bytes(say))
        yield* group.finish
        yield* settle
      })
    return { producer, group }
  })

/** All that a viewer is told of: gaps, frames of groups, and the groups that fail. */
const events = (track: Track.Track) =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(track.events, (event) =>
        event._tag === "Gap"
          ? Effect.sync(() => void told.push(brief(event)))
          : Effect.forkChild(
            Stream.runForEach(
              event.frames,
              (frame) => Effect.sync(() => void told.push(`${event.sequence}:${text(frame)}`))
            ).pipe(
              Effect.catch((error) => Effect.sync(() => void told.push(`${event.sequence}!${error._tag}`)))
            ),
            { startImmediately: true }
          )),
      { startImmediately: true }
    )
    yield* settle
    return { told, fiber }
  })

describe("a publisher that was lost", () => {
  for (const profile of Profile.all) {
    it.effect(`and comes back in time goes on in the tracks of its viewers (${profile.name})`, () =>
      Effect.gen(function*() {
        const { connect, count, relay, serve } = yield* world()
        const router = yield* Router.make
        const { group, producer } = yield* track(router)
        yield* group(0)
        const first = yield* serve(router, { profiles: [profile] })
        const watcher = yield* connect()
        const announces = yield* listen(watcher)
        const { fiber, told } = yield* events(yield* watcher.subscribe(hello, { from: 0 }))
        const local = yield* events(yield* relay.origin.subscribe(hello))
        yield* group(1)
        const open = yield* producer.createGroup(2)
        yield* open.writeFrame(bytes("part"))
        yield* settle
        yield* first.kill
        yield* settle
        yield* pass("4 seconds")
        yield* open.finish
        yield* group(3)
        yield* serve(router, { profiles: [profile] })
        yield* group(4)
        const ended = (tag: string) => ["0:0", "1:1", "2:part", `2!${tag}`, "3:3", "4:4"]
        assert.deepStrictEqual(told, ended("MoqTransportError"))
        assert.deepStrictEqual(local.told, ended("MoqSessionClosed"))
        assert.isUndefined(fiber.pollUnsafe())
        // as if nothing had happened
        yield* pass("1 minute")
        assert.deepStrictEqual(announces.heard, ["+room/hello", "live"])
        assert.deepStrictEqual([count("UpstreamOpened"), count("UpstreamClosed")], [1, 0])
        yield* group(5)
        assert.deepStrictEqual(told.slice(6), ["5:5"])
      }))
  }

  it.effect("does not send again what others had overtaken: that becomes a gap with the code of its end", () =>
    Effect.gen(function*() {
      const { connect, serve } = yield* world()
      const router = yield* Router.make
      const { group } = yield* track(router)
      yield* group(0)
      const { kill } = yield* serve(router)
      const { told } = yield* events(yield* (yield* connect()).subscribe(hello))
      yield* group(3)
      yield* kill
      yield* settle
      yield* group(1)
      yield* group(4)
      yield* serve(router)
      assert.deepStrictEqual(told, ["0:0", "3:3", "1-2!4", "4:4"])
    }))

  it.effect("fails its viewers with the code of its end when it does not come back, and its paths end", () =>
    Effect.gen(function*() {
      const { connect, connectBy, count, relay } = yield* world({ linger: "3 seconds" })
      const idle = held(relay.origin)
      const { kill, session } = yield* connectBy()
      const publisher = yield* publish(session, hello)
      const watcher = yield* connect()
      const announces = yield* listen(watcher)
      const viewer = yield* view(watcher, hello)
      yield* publisher.group("one")
      yield* settle
      yield* kill
      yield* pass("2 seconds")
      assert.deepStrictEqual(relay.origin.paths, [hello])
      assert.deepStrictEqual(announces.heard, ["+room/hello", "live"])
      assert.strictEqual((yield* Effect.flip(watcher.trackInfo(hello)))._tag, "MoqNotFound")
      yield* pass("1 second")
      assert.strictEqual((yield* viewer.failed)._tag, "MoqTransportError")
      assert.deepStrictEqual(announces.heard, ["+room/hello", "live", "-room/hello"])
      assert.strictEqual((yield* Effect.flip(watcher.subscribe(hello)))._tag, "MoqNotFound")
      assert.deepStrictEqual([count("UpstreamOpened"), count("UpstreamClosed")], [1, 1])
      yield* announces.leave
      assert.deepStrictEqual(held(relay.origin), idle)
    }))

  it.effect("is missed path by path, each for as long as it may be away", () =>
    Effect.gen(function*() {
      const { connectBy, relay } = yield* world()
      const one = yield* connectBy()
      const two = yield* connectBy()
      yield* publish(one.session, ["one"])
      yield* publish(two.session, ["two"])
      yield* one.kill
      yield* pass("3 seconds")
      yield* two.kill
      yield* settle
      assert.deepStrictEqual(relay.origin.paths, [["one"], ["two"]])
      yield* pass("2 seconds")
      assert.deepStrictEqual(relay.origin.paths, [["two"]])
      yield* pass("3 seconds")
      assert.deepStrictEqual(relay.origin.paths, [])
    }))

  it.effect("is missed without keeping others waiting, however many paths it had", () =>
    Effect.gen(function*() {
      const { relay, serve } = yield* world()
      const router = yield* Router.make
      for (let i = 0; i < 1000; i++) yield* router.announce([String(i)])
      const { kill } = yield* serve(router)
      yield* Effect.repeat(settle, { until: () => relay.origin.paths.length === 1000 })
      yield* kill
      yield* settle
      const left = new Set<number>()
      const look = Effect.andThen(Effect.sync(() => left.add(relay.origin.paths.length)), Effect.yieldNow)
      yield* Effect.forkScoped(Effect.forever(look, { disableYield: true }), { startImmediately: true })
      yield* pass("5 seconds")
      assert.deepStrictEqual([...left], [1000, 744, 488, 232, 0])
    }))

  it.effect("is not waited for when it has said that it ends, nor when its track had finished", () =>
    Effect.gen(function*() {
      const { connect, connectBy, relay } = yield* world()
      const { kill, session } = yield* connectBy()
      const ends = yield* publish(session, ["ends"])
      const finishes = yield* publish(session, ["finishes"])
      const watcher = yield* connect()
      const viewers = [yield* view(watcher, ["ends"]), yield* view(watcher, ["finishes"])]
      yield* ends.end()
      assert.deepStrictEqual(relay.origin.paths, [["finishes"]])
      yield* finishes.track.finish
      yield* settle
      for (const { ended } of viewers) assert.deepStrictEqual(yield* ended, Exit.void)
      yield* kill
      yield* settle
      assert.deepStrictEqual(relay.origin.paths, [])
    }))

  it.effect("is waited for by those who ask for its track meanwhile", () =>
    Effect.gen(function*() {
      const { connect, relay, serve } = yield* world()
      const router = yield* Router.make
      const { group } = yield* track(router)
      yield* group(0)
      const { kill } = yield* serve(router)
      yield* kill
      yield* settle
      const watcher = yield* connect()
      const viewers = [yield* view(watcher, hello), yield* view(relay.origin, hello, { from: 0 })]
      const leaving = yield* view(watcher, hello)
      yield* pass("4 seconds")
      assert.isFalse(viewers[0]!.isThere())
      yield* leaving.leave
      yield* serve(router)
      for (const { got } of viewers) assert.deepStrictEqual(got, ["0"])
    }))

  it.effect("is NotFound to them when it does not come", () =>
    Effect.gen(function*() {
      const { connect, connectBy } = yield* world()
      const { kill, session } = yield* connectBy()
      yield* publish(session, hello)
      yield* kill
      yield* settle
      const watcher = yield* connect()
      const viewer = yield* view(watcher, hello)
      yield* pass("5 seconds")
      assert.strictEqual((yield* viewer.failed)._tag, "MoqNotFound")
    }))

  it.effect("may be lost while it is asked, and asked again when it is back", () =>
    Effect.gen(function*() {
      const { connect, count, serve } = yield* world()
      const slow = yield* Router.make
      const silent = yield* Track.make(hello)
      yield* slow.add({ ...Router.fromTrack(silent.track), subscribe: () => Effect.never })
      const { kill } = yield* serve(slow)
      const viewer = yield* view(yield* connect(), hello)
      yield* kill
      yield* pass("1 second")
      const router = yield* Router.make
      const { group } = yield* track(router)
      yield* group(7)
      yield* serve(router)
      assert.deepStrictEqual(viewer.got, ["7"])
      assert.strictEqual(count("UpstreamOpened"), 1)
    }))

  it.effect("answers no FETCH, what it left in the cache does", () =>
    Effect.gen(function*() {
      const { connect, serve } = yield* world()
      const router = yield* Router.make
      const { group } = yield* track(router)
      for (const sequence of [3, 4, 5]) yield* group(sequence)
      const { kill } = yield* serve(router)
      const watcher = yield* connect()
      yield* view(watcher, hello)
      const fetch = (sequence: number) =>
        Effect.scoped(Effect.flatMap(watcher.fetch(hello, sequence), (group) => Stream.runCollect(group.frames)))
      // not in the cache, because nobody has asked for it
      assert.deepStrictEqual((yield* fetch(4)).map(text), ["4"])
      yield* kill
      yield* settle
      assert.deepStrictEqual((yield* fetch(5)).map(text), ["5"])
      assert.strictEqual((yield* Effect.flip(fetch(4)))._tag, "MoqEvicted")
      assert.strictEqual((yield* Effect.flip(fetch(6)))._tag, "MoqNotFound")
    }))

  it.effect("leaves nothing behind, whenever a viewer leaves around its loss", () =>
    Effect.gen(function*() {
      const { connect, count, relay, serve } = yield* world()
      const idle = held(relay.origin)
      const watcher = yield* connect()
      const router = yield* Router.make
      const { group } = yield* track(router)
      yield* group(0)
      for (let steps = 0; steps < 90; steps += 3) {
        const first = yield* serve(router)
        const viewer = yield* Effect.forkChild(
          Effect.scoped(Effect.andThen(watcher.subscribe(hello), Effect.never)),
          { startImmediately: true }
        )
        if (steps % 2 === 0) yield* settle
        yield* first.kill
        if (steps % 9 === 0) yield* settle
        const second = yield* serve(router)
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(viewer)
        yield* second.kill
        yield* pass("5 seconds")
        yield* settle
        assert.deepStrictEqual(held(relay.origin), idle, `after ${steps} steps`)
      }
      assert.strictEqual(count("UpstreamOpened"), count("UpstreamClosed"))
    }))
})

describe("a publisher that has begun anew", () => {
  /** A relay with a viewer of ten groups whose publisher is lost. */
  const lost = (last = 9, options?: Session.Options) =>
    Effect.gen(function*() {
      const it = yield* world()
      const before = yield* Router.make
      const old = yield* track(before)
      for (let i = 0; i <= last; i++) yield* old.group(i, `old ${i}`)
      const first = yield* it.serve(before, options)
      const watcher = yield* it.connect()
      const announces = yield* listen(watcher)
      const viewer = yield* view(watcher, hello)
      const local = yield* view(it.relay.origin, hello, { from: 0 })
      yield* first.kill
      yield* settle
      return { ...it, watcher, announces, viewer, local }
    })

  for (const last of [9, 0]) {
    it.effect(`is told from one that goes on: its tracks are evicted, its path is announced anew (after group ${last})`, () =>
      Effect.gen(function*() {
        const { announces, count, local, serve, viewer, watcher } = yield* lost(last)
        const router = yield* Router.make
        const { group } = yield* track(router)
        yield* group(0, "new")
        yield* serve(router)
        for (const { failed } of [viewer, local]) assert.strictEqual((yield* failed)._tag, "MoqEvicted")
        assert.deepStrictEqual(announces.heard, ["+room/hello", "live", "-room/hello", "+room/hello"])
        const next = yield* view(watcher, hello)
        assert.deepStrictEqual(next.got, ["new"])
        assert.deepStrictEqual(viewer.got, [`old ${last}`])
        yield* pass("10 seconds")
        yield* group(1, "newer")
        assert.deepStrictEqual(next.got, ["new", "newer"])
        // whoever begins where another has begun shares what is open
        assert.strictEqual(count("UpstreamOpened"), last === 0 ? 2 : 3)
      }))
  }

  it.effect("is told by its instance, though it has overtaken the numbers that were seen", () =>
    Effect.gen(function*() {
      const { serve, viewer, watcher } = yield* lost()
      const router = yield* Router.make
      const { group } = yield* track(router)
      for (let i = 0; i < 20; i++) yield* group(i, `new ${i}`)
      yield* serve(router)
      assert.strictEqual((yield* viewer.failed)._tag, "MoqEvicted")
      assert.deepStrictEqual((yield* view(watcher, hello)).got, ["new 19"])
    }))

  it.effect("goes on when it is the same instance, though only group 0 was there", () =>
    Effect.gen(function*() {
      const { connect, serve } = yield* world()
      const router = yield* Router.make
      const { group } = yield* track(router)
      yield* group(0)
      const { kill } = yield* serve(router)
      const viewer = yield* view(yield* connect(), hello)
      yield* kill
      yield* serve(router)
      yield* group(1)
      assert.deepStrictEqual(viewer.got, ["0", "1"])
    }))

  it.effect("is noticed through another relay that has nothing of it yet", () =>
    Effect.gen(function*() {
      const network = (yield* start()).network
      const near = yield* start({}, { network, host: "near.example" })
      const far = yield* start({}, { network, host: "far.example" })
      const link = yield* near.connectBy()
      yield* far.relay.origin.attach(link.session, [])
      const before = yield* Router.make
      const old = yield* track(before)
      for (let i = 0; i < 5; i++) yield* old.group(i, "old")
      const publisher = yield* near.connectBy("", { router: before })
      yield* settle
      const viewer = yield* view(yield* far.connect(), hello)
      yield* link.kill
      yield* publisher.kill
      const after = yield* Router.make
      const { group } = yield* track(after)
      yield* group(0, "new")
      yield* near.connect("", { router: after })
      yield* far.relay.origin.attach(yield* near.connect(), [])
      yield* settle
      yield* settle
      assert.strictEqual((yield* viewer.failed)._tag, "MoqEvicted")
      assert.deepStrictEqual((yield* view(yield* far.connect(), hello)).got, ["new"])
    }))

  it.effect("answers no FETCH for a number of the one before while viewers of that are there", () =>
    Effect.gen(function*() {
      // versions that have no instance
      const { serve, viewer, watcher } = yield* lost(9, { profiles: [Profile.fork02] })
      const fetch = (sequence: number) =>
        Effect.scoped(Effect.flatMap(watcher.fetch(hello, sequence), (group) => Stream.runCollect(group.frames)))
      const router = yield* Router.make
      const { group, producer } = yield* track(router)
      for (let i = 0; i < 20; i++) yield* group(i, `new ${i}`)
      yield* serve(router, { profiles: [Profile.fork02] })
      // it has overtaken the old numbers, and goes on after them
      assert.deepStrictEqual([...viewer.got].sort(), [
        ...Array.from({ length: 10 }, (_, i) => `new ${i + 10}`),
        "old 9"
      ])
      assert.strictEqual(producer.track.latest, 19)
      assert.deepStrictEqual((yield* fetch(9)).map(text), ["old 9"])
      yield* pass("11 seconds")
      yield* group(20, "new 20")
      yield* pass("11 seconds")
      for (const sequence of [0, 5, 9]) {
        assert.strictEqual((yield* Effect.flip(fetch(sequence)))._tag, "MoqEvicted", `${sequence}`)
      }
      assert.deepStrictEqual((yield* fetch(20)).map(text), ["new 20"])
    }))

  it.effect("is not fetched from before it is known whether it goes on", () =>
    Effect.gen(function*() {
      const { connect, serve, watcher } = yield* lost(9, { profiles: [Profile.fork02] })
      const router = yield* Router.make
      const { group, producer } = yield* track(router)
      yield* group(0, "new")
      const slow = yield* Router.make
      const source = Router.fromTrack(producer.track)
      yield* slow.add({ ...source, subscribe: (request) => Effect.delay(source.subscribe(request), "3 seconds") })
      yield* serve(slow, { profiles: [Profile.fork02] })
      const fetch = (sequence: number) =>
        Effect.scoped(Effect.flatMap(watcher.fetch(hello, sequence), (group) => Stream.runCollect(group.frames)))
      assert.deepStrictEqual((yield* fetch(0)).map(text), ["old 0"])
      assert.strictEqual((yield* Effect.flip(fetch(10)))._tag, "MoqNotFound")
      const late = yield* view(yield* connect(), hello)
      assert.isFalse(late.isThere())
      yield* pass("3 seconds")
      yield* pass("3 seconds")
      assert.deepStrictEqual(late.got, ["new"])
      assert.deepStrictEqual((yield* fetch(0)).map(text), ["new"])
    }))
})
