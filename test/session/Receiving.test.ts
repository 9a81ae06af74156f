/** What a session makes of what a publisher sends, which is made by hand. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import type * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type ByHand, concat, frame, gap, type Hand, info, rest, server, stopped, takeSubscribe } from "./byHand.ts"
import {
  ended,
  failure,
  ledger,
  over,
  owned,
  pair,
  publishNumbers,
  read,
  readers,
  type Reading,
  settle,
  streams
} from "./sessions.ts"

const { draft03 } = Profile

interface Subscribed {
  readonly peer: ByHand
  readonly session: Session.Session
  readonly stream: Hand
  readonly id: number
  readonly track: Track.Track
  readonly reading: Reading
  /** Closes the scope of the subscription. */
  readonly leave: Effect.Effect<void>
}

/** A subscription that is answered with INFO, and read. */
const subscribed = (profile: Profile.Profile, latest = 0, options?: Subscription.Options) =>
  Effect.gen(function*() {
    const { peer, session } = yield* server(profile)
    const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], options)))
    const { message, stream } = yield* takeSubscribe(peer)
    yield* stream.say(Info.encode, info(latest))
    const { close, value } = yield* Fiber.join(asking)
    const reading = yield* read(value)
    const result: Subscribed = { peer, session, stream, id: message.id, track: value, reading, leave: close }
    return result
  })

const whole = (peer: ByHand, id: number, sequence: number, ...frames: ReadonlyArray<string>) =>
  Effect.flatMap(peer.group(id, sequence, ...frames), (stream) => stream.finish)

/** Waits until nothing happens any more, and looks at what a reader got. */
const got = (reading: Reading) => Effect.map(settle, () => reading.log)

const isOver = (reading: Reading) => Effect.map(settle, () => ended(reading.fiber)?._tag)

for (const profile of Profile.all) {
  const isDraft = profile === draft03

  describe(`Receiving, ${profile.name}`, () => {
    it.effect("asks with what it is told to, and FINs early where the peer waits for that", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        yield* Effect.forkScoped(Effect.exit(session.subscribe(["a", "b"])))
        const first = yield* takeSubscribe(peer)
        assert.deepStrictEqual(first.message, {
          _tag: "Subscribe",
          id: 0,
          path: ["a", "b"],
          priority: 0,
          order: isDraft ? "default" : "desc",
          expires: 0
        })
        assert.strictEqual((yield* first.stream.ends)[0], isDraft ? "open" : "fin")
        yield* Effect.forkScoped(
          Effect.exit(session.subscribe(["a", "b"], { from: 7, to: 9, priority: -5, order: "asc", expires: 30 }))
        )
        const second = yield* takeSubscribe(peer)
        assert.deepStrictEqual(second.message, {
          _tag: "Subscribe",
          id: 1,
          path: ["a", "b"],
          priority: -5,
          order: "asc",
          expires: profile.expires ? 30 : 0,
          min: 7,
          max: 9
        })
      }))

    it.effect("groups that overtake INFO wait for it", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"], { from: 3 }))
        const { message, stream } = yield* takeSubscribe(peer)
        const early = yield* peer.group(message.id, 3, "a")
        yield* whole(peer, message.id, 4, "b")
        const late = yield* peer.group(message.id, 2, "below the first one")
        yield* settle
        assert.isUndefined(ended(asking))
        yield* stream.say(Info.encode, info(3))
        const reading = yield* read(yield* Fiber.join(asking))
        yield* early.write([frame("c")])
        yield* early.finish
        assert.deepStrictEqual((yield* got(reading)).sort(), ["3.", "3:a", "3:c", "4.", "4:b"])
        assert.strictEqual(yield* stopped(late), 0)
      }))

    it.effect("a group may arrive in any pieces", () =>
      Effect.gen(function*() {
        const { id, peer, reading } = yield* subscribed(profile)
        const all = concat(peer.header(id, 0), frame("hello"), frame(""), frame("world"))
        const stream = yield* peer.openUni()
        for (const byte of all) {
          yield* stream.write([Uint8Array.of(byte)])
          yield* settle
        }
        yield* stream.finish
        assert.deepStrictEqual(yield* got(reading), ["0:hello", "0:", "0:world", "0."])
      }))

    it.effect("a group that is reset fails with its code; the track goes on", () =>
      Effect.gen(function*() {
        const { id, peer, reading } = yield* subscribed(profile)
        const first = yield* peer.group(id, 0, "a")
        yield* settle
        yield* first.reset(64 + 1)
        yield* whole(peer, id, 1, "b")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0!MoqApp", "1:b", "1."])
        assert.isUndefined(yield* isOver(reading))
      }))

    it.effect("a finite range ends cleanly when all of it is here, whatever the publisher goes on to do", () =>
      Effect.gen(function*() {
        const { id, peer, reading, stream } = yield* subscribed(profile, 9, { from: 3, to: 6 })
        yield* whole(peer, id, 6, "d")
        yield* whole(peer, id, 3, "a")
        yield* stream.say(SubscribeGap.encode, gap(4, 0, 66))
        const last = yield* peer.group(id, 5, "c")
        const beyond = yield* peer.group(id, 7, "e")
        yield* settle
        assert.strictEqual(yield* stopped(beyond), 0)
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(yield* isOver(reading), "a group is in flight")
        yield* last.finish
        assert.strictEqual(yield* isOver(reading), "Success")
        assert.deepStrictEqual((yield* got(reading)).sort(), ["3.", "3:a", "4-4!66", "5.", "5:c", "6.", "6:d"])
        // the publisher is told: with a FIN, or where that says nothing, with a stop
        assert.deepStrictEqual(yield* stream.ends, ["fin", isDraft ? "open" : 0])
        assert.strictEqual(yield* stopped(yield* peer.group(id, 8, "f")), 0)
      }))

    it.effect("a range that is over before it begins", () =>
      Effect.gen(function*() {
        const { reading, stream } = yield* subscribed(profile, 9, { to: 4 })
        assert.strictEqual(yield* isOver(reading), "Success")
        assert.deepStrictEqual(yield* got(reading), [])
        assert.deepStrictEqual(yield* stream.ends, ["fin", isDraft ? "open" : 0])
      }))

    it.effect("takes gaps, before and after the groups that they are about", () =>
      Effect.gen(function*() {
        const { id, peer, reading, stream } = yield* subscribed(profile)
        yield* whole(peer, id, 0, "a")
        yield* settle
        yield* stream.say(SubscribeGap.encode, gap(1, 2, 66))
        yield* settle
        yield* whole(peer, id, 4, "b")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0.", "1-3!66", "4:b", "4."])
        const again = yield* peer.group(id, 1, "late")
        assert.strictEqual(yield* stopped(again), 12)
      }))

    it.effect("a subscription is refused with the code of the refusal", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const before = streams(peer.connection)
        for (const [code, tag] of [[13, "MoqNotFound"], [65, "MoqApp"], [6, "MoqUnauthorized"]] as const) {
          const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
          const { stream } = yield* takeSubscribe(peer)
          yield* stream.stream.abort(code)
          assert.strictEqual((yield* failure(asking))._tag, tag)
        }
        assert.strictEqual(streams(peer.connection), before)
      }))

    it.effect("a FIN in place of INFO is a failure, not a hang", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { stream } = yield* takeSubscribe(peer)
        yield* stream.finish
        assert.strictEqual((yield* failure(asking))._tag, "MoqDecodeError")
        assert.strictEqual((yield* stream.ends)[0], isDraft ? 5 : "fin")
      }))

    it.effect("waits 10 seconds for INFO, then lets go of everything", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        const group = yield* peer.group(message.id, 0, "x")
        yield* settle
        yield* TestClock.adjust("9999 millis")
        yield* settle
        assert.isUndefined(ended(asking))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* failure(asking))._tag, "MoqTimeout")
        assert.deepStrictEqual(yield* stream.ends, isDraft ? [3, 3] : ["fin", 0])
        assert.strictEqual(yield* stopped(group), 0)
      }))

    it.effect("leaving tells the publisher: the Subscribe stream and every group in flight are stopped", () =>
      Effect.gen(function*() {
        const { id, leave, peer, reading, stream } = yield* subscribed(profile)
        const group = yield* peer.group(id, 0, "x")
        assert.deepStrictEqual(yield* got(reading), ["0:x"])
        yield* leave
        assert.strictEqual(yield* stopped(group), 0)
        assert.deepStrictEqual(yield* stream.ends, isDraft ? [0, 0] : ["fin", 0])
        assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqCancelled")
        // the race with unsubscribing that is normal
        assert.strictEqual(yield* stopped(yield* peer.group(id, 1, "y")), 13)
      }))

    it.effect.each(["dies", "closes"] as const)(
      "when the publisher %s, reader and groups fail with SessionClosed",
      (how) =>
        Effect.gen(function*() {
          const { id, peer, reading, session } = yield* subscribed(profile)
          yield* peer.group(id, 0, "x")
          assert.deepStrictEqual(yield* got(reading), ["0:x"])
          yield* how === "dies" ? Memory.kill(peer.connection) : peer.connection.close(7, "bye")
          const error = yield* failure(reading.fiber)
          assert.deepStrictEqual(
            error._tag === "MoqSessionClosed" && [error.code, error.by],
            how === "dies" ? [4, "transport"] : [7, "remote"]
          )
          assert.deepStrictEqual(yield* got(reading), ["0:x", "0!MoqSessionClosed"])
          assert.strictEqual((yield* Effect.flip(session.subscribe(["live"])))._tag, "MoqSessionClosed")
          assert.strictEqual((yield* Effect.flip(session.trackInfo(["live"])))._tag, "MoqSessionClosed")
          assert.strictEqual((yield* Effect.flip(Stream.runDrain(session.announced())))._tag, "MoqSessionClosed")
        })
    )

    it.effect("a track that is not read does not hold up its publisher, nor anybody else", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile, {}, { window: 1024 })
        const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
        const { message, stream } = yield* takeSubscribe(peer)
        yield* stream.say(Info.encode, info(0))
        const track = yield* Fiber.join(asking)
        const sending = yield* Effect.forkScoped(whole(peer, message.id, 0, "x".repeat(10_000), "y".repeat(10_000)))
        yield* settle
        assert.strictEqual(ended(sending)?._tag, "Success")
        const reading = yield* read(track)
        assert.deepStrictEqual((yield* got(reading)).map((entry) => entry.length), [10_002, 10_002, 2])
      }))

    it.effect("gets all that is cached from the group that it asks for", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        yield* publishNumbers(server, ["numbers"], 5)
        const reading = yield* read(yield* client.subscribe(["numbers"], { from: 1 }))
        assert.deepStrictEqual((yield* got(reading)).filter((entry) => entry.includes(":")).sort(), [
          "1:1",
          "2:2",
          "3:3",
          "4:4"
        ])
      }))

    it.effect("refuses a path that cannot travel before anything is sent", () =>
      Effect.gen(function*() {
        const { client } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const paths = [[], Array.from({ length: 33 }, () => "a"), ["x".repeat(1024)], ["\udc00"]]
        for (const path of paths) {
          assert.strictEqual((yield* Effect.flip(client.subscribe(path)))._tag, "MoqBoundsExceeded")
          assert.strictEqual((yield* Effect.flip(client.trackInfo(path)))._tag, "MoqBoundsExceeded")
          if (path.length === 0) continue
          assert.strictEqual((yield* Effect.flip(Stream.runDrain(client.announced(path))))._tag, "MoqBoundsExceeded")
        }
      }))

    it.effect("trackInfo gives what the publisher says", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const track = yield* Track.make(["live"], { priority: 4, order: "asc", expires: 9 })
        yield* server.publish(track.track)
        for (let i = 0; i < 3; i++) yield* track.appendGroup
        assert.deepStrictEqual(yield* client.trackInfo(["live"]), {
          priority: 4,
          order: "asc",
          expires: profile.expires ? 9 : 0,
          latest: 2
        })
        assert.strictEqual(readers(track), 0)
      }))

    it.effect("trackInfo waits 10 seconds, and leaves no stream", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const before = streams(peer.connection)
        const asking = yield* Effect.forkScoped(session.trackInfo(["live"]))
        const stream = yield* peer.accept
        assert.strictEqual(yield* stream.hear(StreamType.decodeBi), "info")
        yield* stream.hear(InfoPlease.decode)
        yield* settle
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* failure(asking))._tag, "MoqTimeout")
        assert.deepStrictEqual(yield* stream.ends, ["fin", isDraft ? 3 : 0])
        assert.strictEqual(streams(peer.connection), before)
      }))

    it.effect("interrupting a subscriber at any point leaves nothing behind, on either side", () =>
      Effect.gen(function*() {
        for (let steps = 0; steps < 120; steps++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const [left, right] = yield* Memory.pair()
            const books = [ledger(left), ledger(right)] as const
            const { client, server } = yield* over([books[0].connection, books[1].connection], {
              profiles: [profile]
            })
            const track = yield* publishNumbers(server, ["numbers"], 3)
            yield* settle
            const held = books.map(({ held }) => held())
            const before = streams(left)
            const fiber = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
              const track = yield* client.subscribe(["numbers"], { from: 0 })
              yield* Stream.runDrain(track.frames)
            })))
            const waiting = yield* Effect.forkChild(Effect.scoped(client.subscribe(["nobody"], { wait: "1 minute" })))
            for (let i = 0; i < steps; i++) yield* Effect.yieldNow
            yield* Fiber.interruptAll([fiber, waiting])
            yield* settle
            assert.deepStrictEqual(
              [...books.map(({ held }) => held()), streams(left), readers(track)],
              [...held, before, 0],
              `after ${steps} steps`
            )
            if (steps === 119) assert.isAtLeast(books[1].total(), 6)
          }))
        }
      }))
  })
}

describe("Receiving, draft03", () => {
  it.effect("a stream that is lost before its header: what is missing 10 seconds after it was overtaken is a gap", () =>
    Effect.gen(function*() {
      const { id, peer, reading } = yield* subscribed(draft03)
      yield* whole(peer, id, 1, "b")
      yield* settle
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* got(reading), ["1:b", "1."], "whatever is missing may still come")
      const lost = yield* peer.openUni(peer.header(id, 0).subarray(0, 1))
      yield* settle
      yield* lost.reset(4)
      yield* settle
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* got(reading), ["1:b", "1."])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* got(reading), ["1:b", "1.", "0-0!3"])

      // the newest one: until another comes, nothing is missing
      const newest = yield* peer.openUni(peer.header(id, 2).subarray(0, 1))
      yield* settle
      yield* newest.reset(4)
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* whole(peer, id, 3, "d")
      yield* settle
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual((yield* got(reading)).slice(3), ["3:d", "3.", "2-2!3"])

      // that was it: what is missing now may still come
      yield* whole(peer, id, 5, "f")
      yield* settle
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual((yield* got(reading)).slice(6), ["5:f", "5."])
    }))

  it.effect("the end of the Subscribe stream may overtake groups: the track ends when the last one is here", () =>
    Effect.gen(function*() {
      const { id, peer, reading, stream } = yield* subscribed(draft03)
      yield* whole(peer, id, 0, "a")
      yield* stream.say(SubscribeGap.encode, rest(3))
      yield* stream.finish
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* whole(peer, id, 2, "c")
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.isUndefined(yield* isOver(reading))
      const last = yield* peer.group(id, 1, "b")
      yield* settle
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(yield* isOver(reading), "a group is still on its way")
      yield* last.finish
      assert.strictEqual(yield* isOver(reading), "Success")
      assert.deepStrictEqual(yield* got(reading), ["0:a", "0.", "2:c", "2.", "1:b", "1."])
      // tells the publisher that everything is here
      assert.deepStrictEqual(yield* stream.ends, ["fin", "open"])
    }))

  it.effect("with everything here, the track ends with the stream and needs no clock", () =>
    Effect.gen(function*() {
      const { id, peer, reading, stream } = yield* subscribed(draft03)
      yield* whole(peer, id, 0, "a")
      yield* stream.say(SubscribeGap.encode, gap(1, 0, 66))
      yield* stream.say(SubscribeGap.encode, rest(2))
      yield* stream.finish
      assert.strictEqual(yield* isOver(reading), "Success")
      assert.deepStrictEqual((yield* got(reading)).sort(), ["0.", "0:a", "1-1!66"])
    }))

  it.effect("a track that ends before its first group", () =>
    Effect.gen(function*() {
      const { reading, stream } = yield* subscribed(draft03)
      yield* stream.say(SubscribeGap.encode, rest(0))
      yield* stream.finish
      assert.strictEqual(yield* isOver(reading), "Success")
      assert.deepStrictEqual(yield* got(reading), [])
    }))

  it.effect("the publisher finishes after the subscriber has: nothing is left of the subscription", () =>
    Effect.gen(function*() {
      const { client, connections, server } = yield* pair()
      const before = streams(connections[0])
      const track = yield* publishNumbers(server, ["numbers"], 3)
      const reading = yield* read(yield* client.subscribe(["numbers"]))
      yield* track.finish
      assert.strictEqual(yield* isOver(reading), "Success")
      assert.deepStrictEqual(yield* got(reading), ["2:2", "2."])
      assert.strictEqual(streams(connections[0]), before)
    }))
})

for (const profile of Profile.all) {
  describe(`Receiving, ${profile.name}`, () => {
    it.effect("an end that tells nothing of the last group: 2 seconds without a new one", () =>
      Effect.gen(function*() {
        const { id, peer, reading, stream } = yield* subscribed(profile)
        yield* stream.finish
        const open = yield* peer.group(id, 0, "a")
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(yield* isOver(reading))
        yield* open.finish
        yield* settle
        yield* TestClock.adjust("1999 millis")
        yield* whole(peer, id, 1, "b")
        yield* settle
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(yield* isOver(reading))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* isOver(reading), "Success")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0.", "1:b", "1."])
        // too late: the track has ended
        assert.strictEqual(yield* stopped(yield* peer.group(id, 2, "c")), 0)
      }))
  })
}

for (const profile of [Profile.fork04, Profile.fork02]) {
  describe(`Receiving, ${profile.name}`, () => {
    it.effect("a sequence that is skipped without a word is a gap 2 seconds after a later group has finished", () =>
      Effect.gen(function*() {
        const { id, peer, reading } = yield* subscribed(profile)
        yield* whole(peer, id, 0, "a")
        const later = yield* peer.group(id, 3, "d")
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0.", "3:d"], "a later group has only begun")
        yield* later.finish
        yield* settle
        yield* TestClock.adjust("1 second")
        // late, but not too late
        yield* whole(peer, id, 2, "c")
        yield* settle
        yield* TestClock.adjust("999 millis")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0.", "3:d", "3.", "2:c", "2."])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0.", "3:d", "3.", "2:c", "2.", "1-1!31"])
        assert.strictEqual(yield* stopped(yield* peer.group(id, 1, "b")), 12)
      }))

    it.effect("a track ends 2 seconds after its path is announced as ended, when no group is in flight", () =>
      Effect.gen(function*() {
        const { id, peer, reading } = yield* subscribed(profile)
        const announces = yield* peer.accept
        assert.strictEqual(yield* announces.hear(StreamType.decodeBi), "announce")
        assert.deepStrictEqual((yield* announces.hear(AnnouncePlease.decode)).prefix, ["live"])
        yield* announces.say(Announce.encode, { _tag: "Announce", status: "active", suffix: [] })
        yield* announces.say(Announce.encode, { _tag: "Announce", status: "active", suffix: ["other"] })
        const last = yield* peer.group(id, 0, "a")
        yield* announces.say(Announce.encode, { _tag: "Announce", status: "ended", suffix: ["other"] })
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(yield* isOver(reading), "another track has ended")
        yield* announces.say(Announce.encode, { _tag: "Announce", status: "ended", suffix: [] })
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(yield* isOver(reading), "a group is in flight")
        yield* last.finish
        yield* settle
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(yield* isOver(reading))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* isOver(reading), "Success")
        assert.deepStrictEqual(yield* got(reading), ["0:a", "0."])
      }))
  })
}
