/** What a session does for a peer that fetches a group: heard by hand. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Pull, Scope } from "effect"
import { TestClock } from "effect/testing"
import { App, Evicted } from "../../src/core/MoqError.ts"
import * as Fetch from "../../src/message/Fetch.ts"
import * as FetchUpdate from "../../src/message/FetchUpdate.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import * as Rank from "../../src/session/Rank.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { BiStream, Connection } from "../../src/transport/Transport.ts"
import { ByHand, client, closed, concat, frame, type Hand, hello, type } from "./byHand.ts"
import { bytes, ended, settle, streams } from "./sessions.ts"

const { draft03 } = Profile

const publish = (session: Session.Session, path: ReadonlyArray<string>, options?: Parameters<typeof Track.make>[1]) =>
  Effect.tap(Track.make(path, options), (track) => session.publish(track.track))

const whole = (track: Track.Producer, ...frames: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const group = yield* track.appendGroup
    for (const frame of frames) yield* group.writeFrame(bytes(frame))
    yield* group.finish
  })

const fetch = (peer: ByHand, path: ReadonlyArray<string>, group: number, rest: Partial<Fetch.Fetch> = {}) =>
  peer.open(
    type("fetch"),
    peer.bytesOf(Fetch.encode, { _tag: "Fetch", path, group, priority: 0, frame: 0, ...rest })
  )

/** Everything that comes on a stream until it ends. */
const reply = (hand: Hand) =>
  Effect.gen(function*() {
    const chunks: Array<Uint8Array> = []
    yield* hand.stream.receive.pull.pipe(
      Effect.map((batch) => chunks.push(...batch)),
      Effect.forever({ disableYield: true }),
      Pull.catchDone(() => Effect.void)
    )
    return concat(...chunks)
  })

for (const profile of Profile.all) {
  const isDraft = profile === draft03

  describe(`FetchServing, ${profile.name}`, () => {
    it.effect("the reply is the frames and nothing else, then the end; both sides close", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const before = streams(peer.connection)
        const track = yield* publish(session, ["room", "file"])
        yield* whole(track, "zero")
        yield* whole(track, "a", "", "ccc")
        const stream = yield* fetch(peer, ["room", "file"], 1)
        assert.deepStrictEqual(yield* reply(stream), concat(frame("a"), frame(""), frame("ccc")))
        yield* stream.finish
        yield* settle
        assert.strictEqual(streams(peer.connection), before)
      }))

    it.effect("begins with the frame that is asked for", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publish(session, ["file"])
        yield* whole(track, "a", "b", "c")
        for (const [index, expected] of [[1, ["b", "c"]], [2, ["c"]], [3, []], [9, []]] as const) {
          const stream = yield* fetch(peer, ["file"], 0, { frame: index })
          assert.deepStrictEqual(yield* reply(stream), concat(...expected.map(frame)), `frame ${index}`)
        }
      }))

    it.effect("the end of the fetcher's side right after FETCH does not cancel the reply; STOP_SENDING does", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publish(session, ["live"])
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("a"))
        const [stays, leaves] = [yield* fetch(peer, ["live"], 0), yield* fetch(peer, ["live"], 0)]
        yield* stays.finish
        yield* leaves.finish
        yield* settle
        yield* leaves.stream.receive.stop(0)
        yield* settle
        assert.strictEqual(Group.bodyOf(group.group).readers, 1)
        yield* group.writeFrame(bytes("b"))
        yield* group.finish
        assert.deepStrictEqual(yield* reply(stays), concat(frame("a"), frame("b")))
        // nothing tells when the peer has it: it gets some time
        yield* TestClock.adjust("1 second")
      }))

    it.effect("a group that grows is sent as it grows, in the chunks of its frames", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publish(session, ["live"])
        const group = yield* track.appendGroup
        const growing = yield* group.createFrame(4)
        yield* growing.write(bytes("ab"))
        const stream = yield* fetch(peer, ["live"], 0)
        assert.deepStrictEqual(concat(...yield* stream.stream.receive.pull), frame("abcd").slice(0, 3))
        yield* growing.write(bytes("cd"))
        assert.deepStrictEqual(concat(...yield* stream.stream.receive.pull), bytes("cd"))
        yield* group.finish
        assert.deepStrictEqual(yield* reply(stream), new Uint8Array(0))
      }))

    it.effect("what is not there resets the stream: NotFound 13, Evicted 31 where the peer knows it", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publish(session, ["live"], { cache: { maxAge: "1 second" } })
        yield* whole(track, "a")
        yield* whole(track, "b")
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* (yield* fetch(peer, ["nobody"], 0)).ends, [13, 13])
        assert.deepStrictEqual(yield* (yield* fetch(peer, ["live"], 7)).ends, [13, 13])
        const evicted = isDraft ? 31 : 0
        assert.deepStrictEqual(yield* (yield* fetch(peer, ["live"], 0)).ends, [evicted, evicted])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("a group that fails resets the stream with its code", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publish(session, ["live"])
        const groups = [yield* track.appendGroup, yield* track.appendGroup]
        const fetches = yield* Effect.forEach([0, 1], (i) => fetch(peer, ["live"], i))
        yield* settle
        yield* groups[0]!.fail(new App({ code: 5 }))
        yield* groups[1]!.fail(new Evicted({}))
        assert.deepStrictEqual(yield* fetches[0]!.ends, [69, 69])
        assert.strictEqual((yield* fetches[1]!.ends)[0], isDraft ? 31 : 0)
      }))

    it.effect("an empty path is refused", () =>
      Effect.gen(function*() {
        const { peer } = yield* client(profile)
        assert.deepStrictEqual(yield* (yield* fetch(peer, [], 0)).ends, [15, 15])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("what follows FETCH and is no FETCH_UPDATE costs the stream", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* publish(session, ["live"])
        yield* track.appendGroup
        const stream = yield* fetch(peer, ["live"], 0)
        yield* stream.write(isDraft ? Uint8Array.of(0xc0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff) : Uint8Array.of(0x80))
        yield* settle
        assert.strictEqual((yield* stream.ends)[0], isDraft ? "open" : 5)
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("it counts among the subscriptions that are served at a time", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile, { limits: { subscriptions: 1 } })
        const track = yield* publish(session, ["live"])
        const group = yield* track.appendGroup
        const first = yield* fetch(peer, ["live"], 0)
        assert.deepStrictEqual(yield* (yield* fetch(peer, ["live"], 0)).ends, [11, 11])
        yield* group.finish
        yield* reply(first)
        yield* first.finish
        yield* settle
        assert.strictEqual((yield* (yield* fetch(peer, ["live"], 0)).ends)[0], "fin")
      }))

    it.effect("a session that closes lets a fetch come to its end", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair()
        const scope = yield* Scope.make()
        const accepting = yield* Effect.forkScoped(Scope.provide(Session.accept(right, { profiles: [profile] }), scope))
        const peer = new ByHand(left, profile)
        yield* (yield* peer.open(hello([profile.version]))).hear(SessionServer.decode)
        const session = yield* Fiber.join(accepting)
        const track = yield* Track.make(["live"])
        yield* Scope.provide(session.publish(track.track), scope)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("a"))
        const stream = yield* fetch(peer, ["live"], 0)
        yield* settle
        const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
        yield* settle
        yield* group.writeFrame(bytes("b"))
        yield* group.finish
        assert.deepStrictEqual(yield* reply(stream), concat(frame("a"), frame("b")))
        assert.isUndefined(ended(closing))
        yield* stream.finish
        yield* settle
        assert.strictEqual(ended(closing)?._tag, "Success")
      }))
  })
}

describe("FetchServing", () => {
  it.effect("its priority is its rank, and FETCH_UPDATE changes that", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const ranks: Array<number> = []
      const ranking: Connection = Object.create(right, {
        capabilities: { value: { ...right.capabilities, priority: true } },
        acceptBi: {
          value: Effect.map(right.acceptBi, ({ receive, send }): BiStream => {
            const { finish, reset, stopped, write } = send
            const setPriority = (rank: number) => Effect.sync(() => ranks.push(rank))
            return { receive, send: { finish, reset, stopped, write, setPriority } }
          })
        }
      })
      const accepting = yield* Effect.forkScoped(Session.accept(ranking, { profiles: [draft03] }))
      const peer = new ByHand(left, draft03)
      yield* (yield* peer.open(hello([draft03.version]))).stream.receive.pull
      const track = yield* publish(yield* Fiber.join(accepting), ["live"])
      yield* track.appendGroup
      ranks.length = 0
      const stream = yield* fetch(peer, ["live"], 0, { priority: 4 })
      yield* settle
      assert.deepStrictEqual(ranks, [Rank.of(4, 0)])
      yield* stream.say(FetchUpdate.encode, { _tag: "FetchUpdate", priority: -4 })
      yield* settle
      assert.deepStrictEqual(ranks, [Rank.of(4, 0), Rank.of(-4, 0)])
    }))

  it.effect("it takes its turn among subscriptions by its priority", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* client(draft03, {}, { window: 1_000 })
      const [live, file] = [yield* publish(session, ["live"]), yield* publish(session, ["file"])]
      yield* whole(file, "x".repeat(100_000))
      yield* peer.subscribe(["live"])
      const stream = yield* fetch(peer, ["file"], 0, { priority: 1 })
      yield* settle
      yield* whole(live, "x".repeat(100_000))
      // the subscription gets little while the fetch is under way
      let received = 0
      const uni = yield* peer.connection.acceptUni
      yield* Effect.forkScoped(Effect.ignore(Effect.forever(Effect.map(uni.pull, (chunks) => {
        for (const chunk of chunks) received += chunk.length
      }))))
      yield* reply(stream)
      assert.isBelow(received, 50_000)
      yield* Effect.repeat(settle, { times: 10 })
      assert.isAbove(received, 100_000)
    }))
})
