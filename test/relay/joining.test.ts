import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { Event } from "../../src/model/Track.ts"
import { bytes, publish, settle, start } from "./relays.ts"

describe("a viewer that joins a running track through a relay", () => {
  it.effect("begins at the newest group, without a gap, also when it is the first one there", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const publisher = yield* connect()
      const { group, track } = yield* publish(publisher, ["numbers"])
      yield* group("zero")
      yield* group("one")
      const open = yield* track.appendGroup
      yield* open.writeFrame(bytes("two"))

      const viewer = yield* connect()
      const watched = yield* viewer.subscribe(["numbers"])
      const events: Array<Event> = []
      yield* Effect.forkScoped(Stream.runForEach(watched.events, (event) => Effect.sync(() => void events.push(event))))
      yield* settle
      assert.deepStrictEqual(events.map((event) => event._tag === "Gap" ? event : event.sequence), [2])
      assert.strictEqual(watched.first, 2)
    }))

  it.effect("hears of its end at once, also when no group came", () =>
    Effect.gen(function*() {
      const { connect } = yield* start()
      const publisher = yield* connect()
      const { end, group } = yield* publish(publisher, ["numbers"])
      yield* group("zero")
      yield* group("one")
      const viewer = yield* connect()
      const watched = yield* viewer.subscribe(["numbers"], { from: 5 })
      yield* end()
      // without waiting: the clock does not move
      assert.strictEqual((yield* watched.ended)._tag, "Success")
    }))
})
