import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import type { RequestError } from "../../src/core/MoqError.ts"
import * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import * as Origin from "../../src/relay/Origin.ts"
import { bytes, held, listen, publish, settle, start, view } from "./relays.ts"

const hello = ["room", "hello"]

/** Writes whole groups, with a frame that says who writes. */
const write = (track: Track.Producer, who: string, ...sequences: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    for (const sequence of sequences) {
      const group = yield* track.createGroup(sequence)
      yield* group.writeFrame(bytes(`${who} ${sequence}`))
      yield* group.finish
      yield* settle
    }
  })

describe("a newer publisher of a path", () => {
  it.effect("takes it over: the older session is told, and closed when it has no other path", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const older = yield* connect()
      const both = [yield* publish(older, hello), yield* publish(older, ["room", "other"])]
      const newer = yield* connect()
      const one = yield* publish(newer, hello)
      yield* write(one.track, "newer", 0)
      assert.deepStrictEqual((yield* view(relay.origin, hello)).got, ["newer 0"])
      yield* older.ping
      yield* publish(yield* connect(), ["room", "other"])
      const closed = yield* older.closed
      assert.deepStrictEqual([closed.code, closed.by], [12, "remote"])
      yield* newer.ping
      yield* settle
      assert.deepStrictEqual([...relay.origin.paths].sort(), [hello, ["room", "other"]])
      for (const { end } of both) yield* end()
    }))

  it.effect("goes on in the same tracks when it is the same instance, whose old session nobody missed yet", () =>
    Effect.gen(function*() {
      const { connect, connectBy, count, relay } = yield* start()
      const router = yield* Router.make
      const track = yield* Track.make(hello)
      yield* router.publish(track.track)
      yield* write(track, "it", 0)
      const ghost = yield* connectBy("", { router })
      yield* settle
      const watcher = yield* connect()
      const announces = yield* listen(watcher)
      const viewer = yield* view(watcher, hello)
      const again = yield* connectBy("", { router })
      yield* settle
      assert.strictEqual((yield* ghost.session.closed).code, 12)
      yield* write(track, "it", 1, 2)
      assert.deepStrictEqual(viewer.got, ["it 0", "it 1", "it 2"])
      assert.deepStrictEqual(announces.heard, ["+room/hello", "live"])
      assert.strictEqual(count("UpstreamOpened"), 1)
      assert.deepStrictEqual(relay.origin.paths, [hello])
      yield* again.kill
      yield* settle
    }))

  it.effect("begins another track when its numbers are below those that were seen", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const older = yield* publish(yield* connect(), hello)
      yield* write(older.track, "older", 0, 1, 2)
      const watcher = yield* connect()
      const announces = yield* listen(watcher)
      const viewer = yield* view(watcher, hello)
      const newer = yield* publish(yield* connect(), hello)
      yield* write(newer.track, "newer", 0)
      yield* settle
      assert.strictEqual((yield* viewer.failed)._tag, "MoqEvicted")
      assert.deepStrictEqual(viewer.got, ["older 2"])
      assert.deepStrictEqual(announces.heard, ["+room/hello", "live", "-room/hello", "+room/hello"])
      const next = yield* view(watcher, hello)
      yield* write(newer.track, "newer", 1)
      assert.deepStrictEqual(next.got, ["newer 0", "newer 1"])
      yield* newer.end()
      assert.deepStrictEqual(yield* next.ended, Exit.void)
    }))

  it.effect("is announced as another one where nobody views it, unless it is the same instance", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const announces = yield* listen(relay.origin)
      const router = yield* Router.make
      const track = yield* Track.make(hello)
      yield* router.publish(track.track)
      yield* connect("", { router })
      yield* settle
      yield* connect("", { router })
      yield* settle
      assert.deepStrictEqual(announces.heard, ["live", "+room/hello"])
      yield* publish(yield* connect(), hello)
      assert.deepStrictEqual(announces.heard, ["live", "+room/hello", "-room/hello", "+room/hello"])
    }))

  it.effect("leaves the older one in reserve, which serves again when it goes", () =>
    Effect.gen(function*() {
      const { connect, connectBy, relay } = yield* start()
      const older = yield* connect()
      const reserve = yield* publish(older, hello)
      yield* publish(older, ["keeps", "it", "open"])
      const newer = yield* connectBy()
      const current = yield* publish(newer.session, hello)
      yield* write(current.track, "newer", 0, 1)
      yield* write(reserve.track, "older", 0)
      const watcher = yield* connect()
      const announces = yield* listen(watcher, ["room"])
      const before = yield* view(watcher, hello)
      assert.deepStrictEqual(before.got, ["newer 1"])
      yield* newer.kill
      yield* settle
      assert.strictEqual((yield* before.failed)._tag, "MoqEvicted")
      assert.deepStrictEqual(announces.heard, ["+room/hello", "live", "-room/hello", "+room/hello"])
      const after = yield* view(watcher, hello)
      assert.deepStrictEqual(after.got, ["older 0"])
      yield* reserve.end()
      assert.deepStrictEqual(yield* after.ended, Exit.void)
      assert.deepStrictEqual(relay.origin.paths, [["keeps", "it", "open"]])
    }))

  it.effect("leaves the older one its session when it has given a path back before it takes another", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const older = yield* connect()
      yield* publish(older, hello)
      yield* publish(older, ["room", "other"])
      const one = yield* publish(yield* connect(), hello)
      yield* one.end()
      yield* publish(yield* connect(), ["room", "other"])
      yield* older.ping
      const publishers = (yield* relay.tree).map(({ publisher }) => publisher)
      assert.deepStrictEqual(publishers, [{ _tag: "Session", session: 1 }, { _tag: "Session", session: 3 }])
      yield* publish(yield* connect(), hello)
      assert.strictEqual((yield* older.closed).code, 12)
    }))

  it.effect("that ends its track lets it come to its end, and then the older one serves", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const older = yield* connect()
      const reserve = yield* publish(older, hello)
      yield* publish(older, ["keeps", "it", "open"])
      const current = yield* publish(yield* connect(), hello)
      yield* write(reserve.track, "older", 0)
      const watcher = yield* connect()
      const viewer = yield* view(watcher, hello)
      yield* write(current.track, "newer", 0, 1)
      yield* current.end()
      assert.deepStrictEqual([...viewer.got].sort(), ["newer 0", "newer 1"])
      assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      assert.deepStrictEqual((yield* view(watcher, hello)).got, ["older 0"])
    }))
})

describe("sources of a path", () => {
  /** An origin, and sources that say when they serve. */
  const world = Effect.gen(function*() {
    const log: Array<string> = []
    const names = new Map<Origin.Offered, string>()
    const origin = yield* Origin.make({
      linger: 0,
      onServing: (_, source) => void log.push(source === undefined ? "nobody" : names.get(source) ?? "the program")
    })
    const offer = (name: string, hops: number) => {
      const source: Origin.Offered = {
        path: hello,
        subscribe: () => Effect.never as Effect.Effect<never, RequestError>,
        trackInfo: Effect.never,
        fetch: () => Effect.never,
        hops: Array.from({ length: hops }, (_, i) => String(i)),
        instance: name,
        onDuplicate: () => void log.push(`${name} is a duplicate`)
      }
      names.set(source, name)
      return origin.offer(source)
    }
    return { log, offer, origin }
  })

  it.effect("serve in the order of their distance, the newest of equals first", () =>
    Effect.gen(function*() {
      const { log, offer, origin } = yield* world
      const far = offer("far", 2)
      const near = offer("near", 1)
      offer("other far", 2)
      const newer = offer("newer near", 1)
      const here = offer("here", 0)
      assert.deepStrictEqual(log, [
        "far",
        "near",
        "far is a duplicate",
        "newer near",
        "near is a duplicate",
        "here",
        "newer near is a duplicate"
      ])
      log.length = 0
      near.withdraw("lost")
      here.withdraw("lost")
      newer.withdraw("ended")
      far.withdraw("ended")
      far.withdraw("ended")
      assert.deepStrictEqual(log, ["newer near", "other far"])
      assert.deepStrictEqual(origin.paths, [hello])
    }))

  it.effect("wait for what the program publishes, which cannot take over", () =>
    Effect.gen(function*() {
      const { log, offer, origin } = yield* world
      const scope = yield* Scope.make()
      const track = yield* Track.make(hello)
      yield* Scope.provide(origin.publish(track.track), scope)
      const source = offer("session", 0)
      assert.deepStrictEqual(log, ["the program"])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(log, ["the program", "session"])
      assert.strictEqual((yield* Effect.flip(Effect.scoped(origin.publish(track.track))))._tag, "MoqDuplicate")
      source.withdraw("ended")
      yield* origin.publish(track.track)
      assert.deepStrictEqual(log.slice(2), ["nobody", "the program"])
    }))
})

describe("the program of a relay", () => {
  it.effect("may publish a path that lingers: viewers of the track before are evicted", () =>
    Effect.gen(function*() {
      const { connect, connectBy, relay } = yield* start()
      const { kill, session } = yield* connectBy()
      const theirs = yield* publish(session, hello)
      yield* write(theirs.track, "theirs", 0)
      const watcher = yield* connect()
      const viewer = yield* view(watcher, hello)
      yield* kill
      yield* settle
      const waiting = yield* view(yield* connect(), hello)
      const mine = yield* publish(relay.origin, hello)
      yield* write(mine.track, "mine", 7)
      assert.strictEqual((yield* viewer.failed)._tag, "MoqEvicted")
      assert.deepStrictEqual(waiting.got, ["mine 7"])
      yield* mine.end()
      assert.strictEqual(held(relay.origin).entries, 0)
    }))
})
