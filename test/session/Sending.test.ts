/** What a session sends when not all can be: turns, streams, and what is given up. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Limits from "../../src/session/Limits.ts"
import * as Rank from "../../src/session/Rank.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection, SendStream } from "../../src/transport/Transport.ts"
import { ByHand, client, closed, gaps, hello, Incoming, type, update } from "./byHand.ts"
import { bytes, readers, settle } from "./sessions.ts"

const { draft03, fork04 } = Profile

const publish = (session: Session.Session, name: string, options?: Parameters<typeof Track.make>[1]) =>
  Effect.tap(Track.make([name], options), (track) => session.publish(track.track))

const whole = (track: Track.Producer, size: number) =>
  Effect.gen(function*() {
    const group = yield* track.appendGroup
    yield* group.writeFrame(new Uint8Array(size))
    yield* group.finish
  })

/** Reads whatever arrives from now on; gives what has ended, `sequence end`, and what has not. */
const readAll = (peer: ByHand): Effect.Effect<Effect.Effect<Array<string>>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const groups: Array<Incoming> = []
    const scope = yield* Effect.scope
    yield* peer.connection.acceptUni.pipe(
      Effect.flatMap((stream) => {
        const group = new Incoming(stream, peer.profile)
        groups.push(group)
        return Effect.forkIn(group.read, scope)
      }),
      Effect.forever,
      Effect.forkScoped
    )
    return Effect.map(
      Effect.repeat(settle, { times: 5 }),
      () => groups.map(({ end, sequence }) => `${sequence} ${end}`)
    )
  })

const subscribe = (peer: ByHand, path: string, message: Partial<Subscribe.Subscribe> = {}) =>
  Effect.gen(function*() {
    const stream = yield* peer.open(
      type("subscribe"),
      peer.bytesOf(Subscribe.encode, {
        _tag: "Subscribe",
        id: peer.nextId++,
        path: [path],
        priority: 0,
        order: "desc",
        expires: 0,
        ...message
      })
    )
    yield* stream.hear(Info.decode)
    return stream
  })

/** A session with a peer who speaks by hand, over a connection whose outgoing streams of groups are seen by a test. */
const observed = (
  observe: (stream: SendStream, priority: number | undefined) => Partial<SendStream>,
  profile: Profile.Profile = draft03
) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair()
    const connection: Connection = Object.create(right, {
      capabilities: { value: { ...right.capabilities, priority: true } },
      onOpenUni: { value: undefined },
      openUni: {
        value: (options?: { readonly priority?: number | undefined }) =>
          Effect.map(right.openUni(), (stream) => {
            const { finish, reset, setPriority, stopped, write } = stream
            return { finish, reset, setPriority, stopped, write, ...observe(stream, options?.priority) }
          })
      }
    })
    const accepting = yield* Effect.forkScoped(Session.accept(connection, { profiles: [profile] }))
    const peer = new ByHand(left, profile)
    yield* (yield* peer.open(hello([profile.version]))).stream.receive.pull
    return { peer, session: yield* Fiber.join(accepting) }
  })

const limited = (limits: Partial<Limits.Limits>, memory?: Memory.Options) => client(draft03, { limits }, memory)

describe("Sending", () => {
  it.effect("writes are of about 16 KiB: what is small leaves together, what is large in pieces, no header alone", () =>
    Effect.gen(function*() {
      const writes: Array<number> = []
      let slow = 20
      const { peer, session } = yield* observed(({ write }) => ({
        write: (chunks) => {
          writes.push(chunks.reduce((sum, { length }) => sum + length, 0))
          return slow > 0 ? Effect.andThen(write(chunks), Effect.sleep(slow)) : write(chunks)
        }
      }))
      const arrived = yield* readAll(peer)
      const track = yield* publish(session, "live")
      yield* subscribe(peer, "live")
      const group = yield* track.appendGroup
      const written = (...frames: ReadonlyArray<number>) =>
        Effect.gen(function*() {
          for (const size of frames) yield* group.writeFrame(new Uint8Array(size))
          yield* Effect.repeat(Effect.andThen(settle, TestClock.adjust("20 millis")), { times: 8 })
          yield* arrived
          return writes.splice(0)
        })
      // type, subscribe and sequence; then each frame with its size
      assert.deepStrictEqual(yield* written(10, 10, 10), [3 + 3 * 11])
      assert.deepStrictEqual(yield* written(16 * 1024), [4 + 16 * 1024])
      assert.deepStrictEqual(yield* written(40_000), [16_384, 16_384, 7_236])
      assert.deepStrictEqual(yield* written(5_000, 5_000, 5_000, 5_000, 5_000), [16_384, 8_626])
      assert.deepStrictEqual(yield* written(12_000, 12_000, 12_000), [16_384, 19_622])

      // twice as much once a whole one was taken at once; as much while it takes a moment; as usual once one was held up
      slow = 0
      assert.deepStrictEqual(yield* written(16 * 1024, 40_000), [16_384, 40_008])
      slow = 2
      assert.deepStrictEqual(yield* written(100_000), [65_536, 34_468])
      slow = 20
      assert.deepStrictEqual(yield* written(100_000), [65_536, 16_384, 18_084])
      yield* group.finish
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* arrived, ["0 fin"])
    }))

  it.effect("the subscriber's priority rules; one of 0 from a crate means the track's own", () =>
    Effect.gen(function*() {
      for (
        const [profile, asked, expected] of [[draft03, 0, 0], [draft03, 3, 3], [fork04, 0, 7], [fork04, 3, 3]] as const
      ) {
        const ranks: Array<number | undefined> = []
        const { peer, session } = yield* observed((_, rank) => {
          ranks.push(rank)
          return {}
        }, profile)
        const track = yield* publish(session, "live", { priority: 7 })
        yield* subscribe(peer, "live", { priority: asked })
        yield* whole(track, 10)
        yield* settle
        assert.deepStrictEqual(ranks, [Rank.of(expected, 0)], `${profile.name} ${asked}`)
      }
    }))

  it.effect("who leaves while groups of his wait or are being written holds up nobody", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 1_000 })
      const [a, b] = [yield* publish(session, "a"), yield* publish(session, "b")]
      const stream = yield* subscribe(peer, "a", { priority: 1 })
      yield* subscribe(peer, "b")
      for (let i = 0; i < 20; i++) yield* whole(a, 16_000)
      yield* settle
      for (let i = 0; i < 20; i++) yield* whole(b, 16_000)
      yield* settle
      yield* stream.stream.abort(0)
      yield* settle
      assert.deepStrictEqual([readers(a), readers(b)], [0, 1])
      const ends = yield* yield* readAll(peer)
      assert.strictEqual(ends.filter((end) => end.endsWith("fin")).length, 20)
    }))

  it.effect("no write waits for ever because another stream is not read", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 100 })
      const [a, b] = [yield* publish(session, "a"), yield* publish(session, "b")]
      yield* subscribe(peer, "a", { priority: 1 })
      yield* subscribe(peer, "b")
      yield* whole(a, 50_000)
      const stuck = yield* peer.connection.acceptUni
      for (let i = 0; i < 3; i++) yield* whole(b, 50_000)
      const arrived = yield* readAll(peer)
      assert.isBelow((yield* arrived).filter((end) => end.endsWith("fin")).length, 3)
      for (let i = 0; i < 40; i++) {
        yield* TestClock.adjust("250 millis")
        yield* settle
      }
      assert.deepStrictEqual((yield* arrived).sort(), ["0 fin", "1 fin", "2 fin"])
      yield* stuck.stop(0)
    }))

  it.effect("who waits goes on as soon as a write is taken, whether or not its group goes on", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 1_000 })
      const [low, high] = [yield* publish(session, "low"), yield* publish(session, "high")]
      yield* subscribe(peer, "low", { priority: 1 })
      yield* subscribe(peer, "high", { priority: 2 })
      const group = yield* high.appendGroup
      yield* group.writeFrame(new Uint8Array(10_000))
      yield* settle
      // the first one passes, the second one waits
      yield* whole(low, 10_000)
      const [first, passes] = [yield* peer.connection.acceptUni, yield* peer.connection.acceptUni]
      yield* Effect.replicateEffect(passes.pull, 11)
      yield* whole(low, 10_000)
      const arrived = yield* readAll(peer)
      assert.deepStrictEqual(yield* arrived, [])
      yield* Effect.replicateEffect(first.pull, 11)
      assert.deepStrictEqual(yield* arrived, ["1 fin"])
    }))

  it.effect("of the groups beyond those in flight the newest goes first", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({ groupsInFlight: 10 }, { window: 1_000 })
      const track = yield* publish(session, "live")
      yield* subscribe(peer, "live")
      for (let i = 0; i < 15; i++) {
        yield* whole(track, 18_000)
        yield* settle
      }
      const arrived = yield* readAll(peer)
      assert.strictEqual((yield* arrived).length, 15)
      for (let i = 0; i < 10; i++) yield* arrived
      const sequences = (yield* arrived).map((end) => Number.parseInt(end, 10))
      assert.deepStrictEqual(sequences, [0, 1, 2, 3, 4, 5, 6, 7, 14, 13, 12, 11, 10, 9, 8])
    }))
})

describe("Sending, limits", () => {
  it.effect("subscriptions: more subscriptions and fetches than that at a time are refused", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({ subscriptions: 2 })
      yield* publish(session, "live")
      const first = yield* subscribe(peer, "live")
      yield* subscribe(peer, "live")
      const third = yield* peer.subscribe(["live"])
      assert.deepStrictEqual(yield* third.ends, [11, 11])
      yield* first.stream.abort(0)
      yield* settle
      yield* subscribe(peer, "live")
      assert.isUndefined(yield* closed(peer.connection))
    }))

  it.effect("unsent: the oldest groups that wait become gaps with code 26; the one being sent and the newest stay", () =>
    Effect.gen(function*() {
      for (const order of ["asc", "desc"] as const) {
        const { peer, session } = yield* limited({ unsent: 10_000 }, { window: 100 })
        const track = yield* publish(session, "live")
        const stream = yield* subscribe(peer, "live", { order })
        for (let i = 0; i < 8; i++) {
          yield* whole(track, 4_000)
          yield* settle
        }
        // two of them may wait beside those
        assert.deepStrictEqual(
          yield* gaps(stream),
          order === "asc" ? ["1-1!26", "2-2!26", "3-3!26", "4-4!26"] : [
            "0-0!26",
            "1-1!26",
            "2-2!26",
            "3-3!26",
            "4-4!26"
          ]
        )
        const ends = (yield* yield* readAll(peer)).filter((end) => end.endsWith("fin")).sort()
        assert.deepStrictEqual(
          ends,
          order === "asc" ? ["0 fin", "5 fin", "6 fin", "7 fin"] : ["5 fin", "6 fin", "7 fin"]
        )
      }
    }))

  it.effect("unsent: of several subscriptions the least important loses groups first", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({ unsent: 10_000 }, { window: 100 })
      const [a, b] = [yield* publish(session, "a"), yield* publish(session, "b")]
      const more = yield* subscribe(peer, "a", { priority: 2 })
      const less = yield* subscribe(peer, "b", { priority: 1 })
      for (let i = 0; i < 4; i++) {
        yield* whole(a, 4_000)
        yield* whole(b, 4_000)
        yield* settle
      }
      assert.deepStrictEqual(yield* gaps(more), ["0-0!26"])
      assert.deepStrictEqual(yield* gaps(less), ["0-0!26", "1-1!26", "2-2!26"])
    }))

  it.effect("a group that outgrows its limits before it has left is reset, and a gap", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 1_000 })
      const track = yield* publish(session, "live")
      const stream = yield* subscribe(peer, "live")
      const group = yield* track.appendGroup
      yield* group.writeFrame(new Uint8Array(10_000))
      yield* settle
      for (let i = 0; i <= Group.maxFrames; i++) group.writeFrameUnsafe(new Uint8Array(1))
      // the write of the first frame is under way: that one arrives
      const arrived = yield* readAll(peer)
      assert.deepStrictEqual(yield* arrived, ["0 26"])
      assert.deepStrictEqual(yield* gaps(stream), ["0-0!26"])
      assert.isTrue(Group.isTaken(group.group))
    }))

  it.effect("unsent: what is cached arrives whole, however much it is", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({ unsent: 10_000 }, { window: 1_000 })
      const track = yield* publish(session, "file")
      for (let i = 0; i < 200; i++) yield* whole(track, 20_000)
      const stream = yield* subscribe(peer, "file", { order: "asc", min: 0 })
      const arrived = yield* readAll(peer)
      for (let i = 0; i < 40; i++) yield* arrived
      assert.deepStrictEqual(yield* arrived, Array.from({ length: 200 }, (_, i) => `${i} fin`))
      assert.deepStrictEqual(yield* gaps(stream), [])
    }))

  it.effect("stalled: a session in which no write is taken for 30 seconds ends with code 3", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 100 })
      const track = yield* publish(session, "live")
      yield* subscribe(peer, "live")
      const reading = Effect.gen(function*() {
        const stream = yield* peer.connection.acceptUni
        yield* stream.pull
        return stream
      })
      yield* whole(track, 40_000)
      const stream = yield* reading
      yield* TestClock.adjust("29 seconds")
      // the write of 16 KiB that was under way is taken
      for (let i = 0; i < 300; i++) yield* stream.pull
      yield* settle
      yield* TestClock.adjust("29 seconds")
      yield* settle
      assert.isUndefined(yield* closed(peer.connection))
      yield* TestClock.adjust("1 seconds")
      yield* settle
      const end = yield* closed(peer.connection)
      assert.deepStrictEqual([end?.code, end?.reason], [3, "timed out: no write was taken for 30 seconds"])
    }))

  it.effect("stalled: not while the peer takes something, of whichever stream", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 100 })
      const track = yield* publish(session, "live")
      yield* subscribe(peer, "live")
      for (let i = 0; i < 2; i++) {
        yield* whole(track, 10_000)
        yield* settle
      }
      yield* TestClock.adjust("29 seconds")
      const stream = yield* peer.connection.acceptUni
      for (let i = 0; i < 100; i++) yield* stream.pull
      yield* settle
      yield* TestClock.adjust("29 seconds")
      yield* settle
      assert.isUndefined(yield* closed(peer.connection))
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual((yield* closed(peer.connection))?.code, 3)
    }))

  it.effect("stalled: not while nothing waits", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({})
      const track = yield* publish(session, "live")
      yield* subscribe(peer, "live")
      const arrived = yield* readAll(peer)
      yield* (yield* track.appendGroup).writeFrame(bytes("x"))
      yield* arrived
      yield* TestClock.adjust("10 minutes")
      yield* whole(track, 10)
      assert.deepStrictEqual(yield* arrived, ["0 open", "1 fin"])
    }))

  it.effect.each(["asc", "desc"] as const)(
    "maxStreams: %s: the last group gives way, and is a gap",
    (order) =>
      Effect.gen(function*() {
        const { peer, session } = yield* limited({}, { maxStreams: 3 })
        const track = yield* publish(session, "live")
        const stream = yield* subscribe(peer, "live", { order })
        const arrived = yield* readAll(peer)
        const groups: Array<{ readonly finish: Effect.Effect<unknown, unknown> }> = []
        for (let i = 0; i < 5; i++) {
          const group = yield* track.appendGroup
          groups.push(group)
          yield* group.writeFrame(bytes("x"))
          yield* settle
        }
        if (order === "asc") {
          assert.deepStrictEqual(yield* arrived, ["0 open", "1 open", "2 open"])
          yield* groups[1]!.finish
          assert.deepStrictEqual(yield* arrived, ["0 open", "1 fin", "2 open", "3 open"])
          assert.deepStrictEqual(yield* gaps(stream), [])
        } else {
          assert.deepStrictEqual(yield* arrived, ["0 26", "1 26", "2 open", "3 open", "4 open"])
          assert.deepStrictEqual(yield* gaps(stream), ["0-0!26", "1-1!26"])
        }
      })
  )

  it.effect("maxStreams: a group of a lower priority gives way to one of a higher", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { maxStreams: 3 })
      const [low, high] = [yield* publish(session, "low"), yield* publish(session, "high")]
      const less = yield* subscribe(peer, "low", { priority: 1, order: "asc" })
      const more = yield* subscribe(peer, "high", { priority: 2, order: "asc" })
      for (const track of [low, low, low, high, low, high, high]) {
        yield* (yield* track.appendGroup).writeFrame(bytes("x"))
        yield* settle
      }
      assert.deepStrictEqual(yield* gaps(less), ["2-2!26", "1-1!26", "0-0!26"])
      assert.deepStrictEqual(yield* gaps(more), [])
    }))
})

describe("Sending, expiry", () => {
  /** A peer that takes hardly anything. */
  const slow = (own: number, asked: number) =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({}, { window: 100 })
      const track = yield* publish(session, "live", { expires: own })
      const stream = yield* subscribe(peer, "live", { expires: asked })
      return { peer, track, stream, gaps: gaps(stream) }
    })

  it.effect.each([[1_000, 0], [0, 1_000], [1_000, 5_000], [5_000, 1_000]])(
    "a group that waits is given up when it has expired: own %d, asked for %d",
    ([own, asked]) =>
      Effect.gen(function*() {
        const { gaps, peer, track } = yield* slow(own!, asked!)
        yield* whole(track, 1_000)
        yield* settle
        // the newest one does not expire
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(yield* gaps, [])
        const group = yield* track.appendGroup
        yield* group.writeFrame(new Uint8Array(1_000))
        assert.deepStrictEqual(yield* gaps, ["0-0!2"])
        yield* whole(track, 1_000)
        yield* settle
        // it counts from the end of the group, which is later than the next one
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(yield* gaps, [])
        yield* group.finish
        yield* TestClock.adjust("999 millis")
        assert.deepStrictEqual(yield* gaps, [])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* gaps, ["1-1!2"])
        // the peer has not even seen the headers
        assert.deepStrictEqual((yield* yield* readAll(peer)).sort(), ["2 fin", "undefined 2", "undefined 2"])
      })
  )

  it.effect("0 on both sides is never", () =>
    Effect.gen(function*() {
      const { gaps, track } = yield* slow(0, 0)
      for (let i = 0; i < 3; i++) yield* whole(track, 1_000)
      yield* settle
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* gaps, [])
    }))

  it.effect("an update of it takes effect on groups that wait", () =>
    Effect.gen(function*() {
      const { gaps, stream, track } = yield* slow(0, 0)
      for (let i = 0; i < 3; i++) yield* whole(track, 1_000)
      yield* settle
      yield* TestClock.adjust("2 seconds")
      yield* stream.say(SubscribeUpdate.encode, { ...update({}), expires: 3_000 })
      yield* settle
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(yield* gaps, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* gaps, ["0-0!2", "1-1!2"])
    }))

  it.effect("what has expired in the cache is not sent at all", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* limited({})
      const track = yield* publish(session, "live", { expires: 1_000 })
      yield* whole(track, 10)
      yield* TestClock.adjust("1 seconds")
      for (let i = 0; i < 2; i++) yield* whole(track, 10)
      const stream = yield* subscribe(peer, "live", { min: 0 })
      const ends = yield* yield* readAll(peer)
      assert.deepStrictEqual(ends.sort(), ["1 fin", "2 fin"])
      assert.deepStrictEqual(yield* gaps(stream), ["0-0!2"])
    }))
})
