/** Hearing of tracks, and waiting for them, over the wire. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Announce from "../../src/message/Announce.ts"
import * as Profile from "../../src/message/Profile.ts"
import type * as Announced from "../../src/model/Announced.ts"
import type { ReadError } from "../../src/model/Frame.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { announce as say, closed, server, takeAnnounce } from "./byHand.ts"
import { bytes, ended, failure, owned, pair, publishNumbers, read, settle, streams } from "./sessions.ts"

const { draft03, fork02 } = Profile

/** A reader of announcements, in few letters: `+a/b`, `-a/b`, `live(by)`. */
const hear = (
  stream: Stream.Stream<Announced.Announced, ReadError>
): Effect.Effect<
  { readonly heard: Array<string>; readonly fiber: Fiber.Fiber<void, ReadError> },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const heard: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(stream, (event) =>
        Effect.sync(() => {
          if (event._tag === "Live") heard.push(`live(${event.by})`)
          else heard.push(`${event._tag === "Active" ? "+" : "-"}${event.path.join("/")}`)
        })),
      { startImmediately: true }
    )
    return { heard, fiber }
  })

const publish = (path: ReadonlyArray<string>, session: Session.Session) =>
  Effect.flatMap(Track.make(path), ({ track }) => session.publish(track))

for (const profile of Profile.all) {
  const both = [{ profiles: [profile] }, { profiles: [profile] }] as const

  describe(`Announced, ${profile.name}`, () => {
    it.effect("tells of what is there, then that this was all, then of the changes", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair(...both)
        yield* publish(["room", "a"], server)
        const { heard } = yield* hear(client.announced(["room"]))
        yield* settle
        const live = profile.sendsLive ? "live(marker)" : "live(quiet)"
        if (!profile.sendsLive) {
          assert.deepStrictEqual(heard, ["+room/a"])
          yield* TestClock.adjust("499 millis")
          yield* publish(["room", "b"], server)
          yield* settle
          yield* TestClock.adjust("499 millis")
          yield* settle
          assert.deepStrictEqual(heard, ["+room/a", "+room/b"])
          yield* TestClock.adjust("1 millis")
          yield* settle
          assert.deepStrictEqual(heard, ["+room/a", "+room/b", live])
        } else {
          assert.deepStrictEqual(heard, ["+room/a", live])
          yield* publish(["room", "b"], server)
        }
        const c = yield* owned(publish(["room", "c"], server))
        yield* settle
        yield* c.close
        yield* settle
        assert.deepStrictEqual(heard.slice(-2), ["+room/c", "-room/c"])
        // who comes later hears of all that is there at once
        const later = yield* hear(client.announced(["room"]))
        yield* settle
        assert.deepStrictEqual(later.heard, ["+room/a", "+room/b", live])
      }))

    it.effect("prefixes match part by part", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair(...both)
        for (const path of [["room"], ["room", "a", "b"], ["room-2", "a"], ["other"]]) yield* publish(path, server)
        const { heard } = yield* hear(client.announced(["room"]))
        const all = yield* hear(client.announced())
        yield* settle
        assert.deepStrictEqual(heard.filter((event) => event.startsWith("+")), ["+room", "+room/a/b"])
        assert.strictEqual(all.heard.filter((event) => event.startsWith("+")).length, 4)
      }))

    it.effect("one wire stream per prefix is shared, and let go with its last reader", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const before = streams(peer.connection)
        const readers = yield* Effect.replicateEffect(
          owned(Effect.suspend(() => hear(session.announced(["room"])))),
          3
        )
        const { prefix, stream } = yield* takeAnnounce(peer)
        assert.deepStrictEqual(prefix, ["room"])
        yield* say(stream, "active", "a")
        yield* settle
        assert.deepStrictEqual(readers.map(({ value }) => value.heard[0]), ["+room/a", "+room/a", "+room/a"])
        assert.strictEqual(streams(peer.connection), before + 1)
        const other = yield* owned(hear(session.announced(["room", "a"])))
        assert.deepStrictEqual((yield* takeAnnounce(peer)).prefix, ["room", "a"])
        yield* other.close
        yield* readers[0]!.close
        yield* readers[1]!.close
        assert.deepStrictEqual(yield* stream.ends, ["open", "open"])
        yield* readers[2]!.close
        assert.deepStrictEqual(yield* stream.ends, [0, 0])
        assert.isUndefined(yield* closed(peer.connection))
        // and opened again for the next one
        yield* hear(session.announced(["room"]))
        assert.deepStrictEqual((yield* takeAnnounce(peer)).prefix, ["room"])
      }))

    it.effect("duplicates, and `ended` for what was not there, are no news", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const { heard } = yield* hear(session.announced(["room"]))
        const { stream } = yield* takeAnnounce(peer)
        yield* say(stream, "ended", "a")
        yield* say(stream, "active", "a")
        yield* say(stream, "active", "a")
        yield* say(stream, "ended", "a")
        yield* say(stream, "ended", "a")
        yield* say(stream, "active", "a")
        yield* settle
        assert.deepStrictEqual(heard, ["+room/a", "-room/a", "+room/a"])
      }))

    it.effect("a path that is too long with its prefix ends the stream with 11, and the readers with it", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const prefix = ["x".repeat(1_000)]
        const first = yield* hear(session.announced(prefix))
        const { stream } = yield* takeAnnounce(peer)
        yield* say(stream, "active", "y".repeat(23))
        yield* settle
        assert.strictEqual(first.heard.length, 1)
        yield* say(stream, "active", "y".repeat(24))
        assert.strictEqual((yield* failure(first.fiber))._tag, "MoqBoundsExceeded")
        assert.deepStrictEqual(yield* stream.ends, [11, 11])
        // the next one asks again
        const second = yield* hear(session.announced(prefix))
        const again = yield* takeAnnounce(peer)
        yield* say(again.stream, "active", "z")
        yield* settle
        assert.strictEqual(second.heard.length, 1)
      }))

    it.effect("a message that is none ends the stream with 5, and only that", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const { fiber } = yield* hear(session.announced())
        const { stream } = yield* takeAnnounce(peer)
        yield* stream.write(Uint8Array.of(7))
        assert.strictEqual((yield* failure(fiber))._tag, "MoqDecodeError")
        assert.deepStrictEqual(yield* stream.ends, [5, 5])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("ends as the peer ends it", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const quiet = yield* hear(session.announced(["a"]))
        const a = yield* takeAnnounce(peer)
        yield* say(a.stream, "active", "x")
        yield* a.stream.finish
        yield* settle
        assert.strictEqual(ended(quiet.fiber)?._tag, "Success")
        assert.deepStrictEqual(quiet.heard, ["+a/x"])
        assert.strictEqual((yield* a.stream.ends)[0], 0)

        const refused = yield* hear(session.announced(["b"]))
        const b = yield* takeAnnounce(peer)
        yield* b.stream.stream.abort(6)
        assert.strictEqual((yield* failure(refused.fiber))._tag, "MoqUnauthorized")

        const lost = yield* hear(session.announced(["c"]))
        yield* takeAnnounce(peer)
        yield* Memory.kill(peer.connection)
        assert.strictEqual((yield* failure(lost.fiber))._tag, "MoqSessionClosed")
      }))

    it.effect("who asks after the end gets another stream, even while somebody has not heard of that end", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        // opened, and never pulled again
        const slow = yield* Stream.toPull(session.announced())
        yield* Effect.forkScoped(slow)
        const first = yield* takeAnnounce(peer)
        yield* say(first.stream, "active", "a")
        yield* settle
        yield* first.stream.finish
        yield* settle
        const { fiber, heard } = yield* hear(session.announced())
        const second = yield* takeAnnounce(peer)
        yield* say(second.stream, "active", "b")
        yield* settle
        assert.deepStrictEqual(heard, ["+b"])
        assert.isUndefined(ended(fiber))
      }))

    it.effect("without `wait`, a path that nobody has is NotFound at once", () =>
      Effect.gen(function*() {
        const { client, connections } = yield* pair(...both)
        const before = streams(connections[0])
        assert.strictEqual((yield* Effect.flip(client.subscribe(["nobody"])))._tag, "MoqNotFound")
        yield* settle
        assert.strictEqual(streams(connections[0]), before)
      }))

    it.effect("`wait` waits so long, and no longer", () =>
      Effect.gen(function*() {
        const { client, connections } = yield* pair(...both)
        const before = streams(connections[0])
        const asking = yield* Effect.forkScoped(client.subscribe(["nobody"], { wait: "3 seconds" }))
        yield* settle
        yield* TestClock.adjust("2999 millis")
        yield* settle
        assert.isUndefined(ended(asking))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* failure(asking))._tag, "MoqNotFound")
        yield* settle
        assert.strictEqual(streams(connections[0]), before)
      }))

    it.effect("`wait` finds the track when it comes, from its first group that is cached", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair(...both)
        const asking = yield* Effect.forkScoped(client.subscribe(["room", "numbers"], { wait: "1 minute" }))
        yield* settle
        yield* TestClock.adjust("30 seconds")
        // a path below it, and one beside it, are not the one
        yield* publish(["room", "numbers", "more"], server)
        yield* publish(["room", "letters"], server)
        yield* settle
        assert.isUndefined(ended(asking))
        yield* publishNumbers(server, ["room", "numbers"], 4)
        const { log } = yield* read(yield* Fiber.join(asking))
        yield* settle
        assert.deepStrictEqual(log.filter((entry) => entry.includes(":")).sort(), ["0:0", "1:1", "2:2", "3:3"])
      }))

    it.effect("`wait` goes on when the track has gone again by the time it is asked for", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["room"], { wait: "1 minute" }))
        yield* (yield* peer.accept).stream.abort(13)
        const { stream } = yield* takeAnnounce(peer)
        yield* say(stream, "active")
        yield* (yield* peer.accept).stream.abort(13)
        yield* settle
        assert.isUndefined(ended(asking))
        yield* say(stream, "ended")
        yield* say(stream, "active")
        yield* (yield* peer.accept).stream.abort(65)
        assert.strictEqual((yield* failure(asking))._tag, "MoqApp")
      }))
  })
}

describe("Announced", () => {
  it.effect("a marker that never comes is not guessed at where the version has one", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const { heard } = yield* hear(session.announced())
      const { stream } = yield* takeAnnounce(peer)
      yield* say(stream, "active", "a")
      yield* settle
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.deepStrictEqual(heard, ["+a"])
      yield* stream.say(Announce.encode, { _tag: "Announce", status: "live" })
      yield* settle
      assert.deepStrictEqual(heard, ["+a", "live(marker)"])
    }))

  it.effect("a marker from a peer that is not expected to send it counts", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(fork02)
      const { heard } = yield* hear(session.announced())
      const { stream } = yield* takeAnnounce(peer)
      // as a crate of 0.8 may, when its application asks for it
      yield* stream.write(Uint8Array.of(2))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(heard, ["live(marker)"])
    }))

  it.effect("what is on its way when the quiet time is over is not lost, wherever its reader is interrupted", () =>
    Effect.gen(function*() {
      const names = Array.from({ length: 600 }, (_, i) => String(i))
      for (let steps = 0; steps < 30; steps++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const { peer, session } = yield* server(fork02)
          const { heard } = yield* hear(session.announced())
          const { stream } = yield* takeAnnounce(peer)
          yield* settle
          // more than a fiber reads without giving way to others
          yield* stream.write(
            ...names.map((name) =>
              peer.bytesOf(Announce.encode, { _tag: "Announce", status: "active", suffix: [name] })
            )
          )
          for (let i = 0; i < steps; i++) yield* Effect.yieldNow
          for (let i = 0; i < 2; i++) {
            yield* TestClock.adjust("500 millis")
            yield* settle
          }
          assert.deepStrictEqual(heard.filter((event) => event !== "live(quiet)"), names.map((name) => `+${name}`))
          assert.include(heard, "live(quiet)")
        }))
      }
    }))

  it.effect("prefixes that overlap are streams of their own, each with its own copy", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const prefixes = [[], ["room"], ["room", "a"]]
      const all = []
      for (const prefix of prefixes) {
        const { heard } = yield* hear(session.announced(prefix))
        const { prefix: asked, stream } = yield* takeAnnounce(peer)
        assert.deepStrictEqual(asked, prefix)
        yield* say(stream, "active", ...["room", "a"].slice(prefix.length))
        yield* stream.say(Announce.encode, { _tag: "Announce", status: "live" })
        all.push({ heard, stream })
      }
      yield* say(all[1]!.stream, "ended", "a")
      yield* settle
      assert.deepStrictEqual(all.map(({ heard }) => heard), [
        ["+room/a", "live(marker)"],
        ["+room/a", "live(marker)", "-room/a"],
        ["+room/a", "live(marker)"]
      ])
    }))

  it.effect("a quiet time in the middle of a message loses nothing of it", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(fork02)
      const { heard } = yield* hear(session.announced())
      const { stream } = yield* takeAnnounce(peer)
      yield* stream.write(Uint8Array.of(1, 1))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      yield* stream.write(new Uint8Array([1, ...bytes("a")]))
      yield* settle
      assert.deepStrictEqual(heard, ["live(quiet)", "+a"])
    }))
})
