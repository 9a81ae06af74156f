/** What a session does for a peer that subscribes: heard by hand. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Reader from "../../src/coding/Reader.ts"
import { App, Cancelled, ProtocolViolation, toCode } from "../../src/core/MoqError.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import * as Body from "../../src/model/Body.ts"
import * as Group from "../../src/model/Group.ts"
import * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import * as Rank from "../../src/session/Rank.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection, SendStream } from "../../src/transport/Transport.ts"
import { fromHex } from "../fixtures/bytes.ts"
import {
  ByHand,
  client,
  closed,
  concat,
  frame,
  gaps,
  hello,
  Incoming,
  received,
  stopped,
  type,
  update
} from "./byHand.ts"
import { record } from "./monitors.ts"
import { bytes, ledger, owned, readers, settle, streams } from "./sessions.ts"

const { draft03, fork02, fork04 } = Profile

/** A live track of a session. */
const live = (session: Session.Session, options?: Parameters<typeof Track.make>[1]) =>
  Effect.gen(function*() {
    const track = yield* Track.make(["live"], options)
    yield* session.publish(track.track)
    return track
  })

const whole = (track: Track.Producer, sequence: number, ...frames: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const group = yield* track.createGroup(sequence)
    for (const frame of frames) yield* group.writeFrame(bytes(frame))
    yield* group.finish
  })

/**
 * Takes every group that the peer is sent from now on. What it gives tells of those that have changed since it was last
 * asked: `sequence:frames end`.
 */
const collect = (peer: ByHand) =>
  Effect.gen(function*() {
    const groups: Array<{ readonly group: Incoming; told: string }> = []
    yield* Effect.forkScoped(Effect.forever(Effect.flatMap(
      Effect.scope,
      (scope) =>
        Effect.flatMap(peer.connection.acceptUni, (stream) => {
          const group = new Incoming(stream, peer.profile)
          groups.push({ group, told: "" })
          return Effect.forkIn(group.read, scope)
        })
    )))
    return Effect.map(settle, () => {
      const news: Array<string> = []
      for (const entry of groups) {
        const now = `${entry.group.sequence}:${entry.group.frames.join(",")} ${entry.group.end}`
        if (now !== entry.told) news.push(now)
        entry.told = now
      }
      return news.sort((a, b) => parseInt(a, 10) - parseInt(b, 10))
    })
  })

for (const profile of Profile.all) {
  const isDraft = profile === draft03

  describe(`Serving, ${profile.name}`, () => {
    it.effect("answers INFO first, then sends each group on a stream of its own, byte for byte", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session, { priority: -3, order: "asc", expires: 250 })
        yield* whole(track, 4, "old")
        yield* whole(track, 5, "hello", "")
        const stream = yield* peer.subscribe(["live"])
        assert.deepStrictEqual(yield* stream.hear(Info.decode), {
          _tag: "Info",
          priority: -3,
          order: "asc",
          expires: profile.expires ? 250 : 0,
          latest: 5
        })
        const group = yield* peer.connection.acceptUni
        const chunks = yield* group.pull
        // type 0, subscribe 0, sequence 5, a frame of 5 bytes and an empty one
        assert.deepStrictEqual(concat(...chunks), fromHex("0000050568656c6c6f00"))
        yield* whole(track, 6, "next")
        const arrived = yield* collect(peer)
        assert.deepStrictEqual(yield* arrived, ["6:next fin"])
      }))

    it.effect("what is written in one turn leaves in one write, with its header", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session)
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        yield* whole(track, 0, "a", "b", "c")
        const stream = yield* peer.connection.acceptUni
        const reader = Reader.make()
        for (const chunk of yield* stream.pull) reader.push(chunk)
        assert.strictEqual(reader.available, 3 + 6)
      }))

    it.effect("a group that says nothing for a long time is not opened before it does", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        const group = yield* track.appendGroup
        assert.deepStrictEqual(yield* arrived, [])
        yield* group.createFrame(3)
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* arrived, [])
        yield* group.finish.pipe(Effect.ignore)
        assert.deepStrictEqual(yield* arrived, [])
      }))

    it.effect("a frame travels in the chunks that it is written in, before it is complete", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session)
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        const group = yield* track.appendGroup
        const growing = yield* group.createFrame(6)
        yield* growing.write(bytes("abc"))
        const stream = yield* peer.connection.acceptUni
        assert.deepStrictEqual(concat(...yield* stream.pull), concat(fromHex("000000"), frame("abcdef").slice(0, 4)))
        yield* growing.write(bytes("def"))
        yield* group.writeFrame(bytes("g"))
        yield* group.finish
        yield* settle
        assert.deepStrictEqual(concat(...yield* stream.pull), concat(bytes("def"), frame("g")))
      }))

    it.effect("whole frames do not wait for one that has begun after them", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session)
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("whole"))
        yield* group.createFrame(6)
        const stream = yield* peer.connection.acceptUni
        const begun = concat(fromHex("000000"), frame("whole"), frame("begun!").slice(0, 1))
        assert.deepStrictEqual(concat(...yield* stream.pull), begun)
      }))

    it.effect("a group without frames is a header and an end", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        yield* whole(track, 0)
        assert.deepStrictEqual(yield* arrived, ["0: fin"])
      }))

    it.effect("a group that fails is reset with its code and reported as a gap; the others go on", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        const [a, b, c] = yield* Effect.all([track.appendGroup, track.appendGroup, track.appendGroup])
        yield* Effect.forEach([a, b, c], (group) => group.writeFrame(bytes("x")))
        yield* settle
        yield* a.fail(new App({ code: 7 }))
        // the crate does not know 26
        yield* b.fail(new Cancelled({}))
        yield* settle
        yield* c.finish
        assert.deepStrictEqual(yield* arrived, ["0:x 71", "1:x 0", "2:x fin"])
        assert.deepStrictEqual(yield* gaps(stream), isDraft ? ["0-0!71", "1-1!0"] : [])
      }))

    it.effect("a code that the peer does not know becomes its nearest relative", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session, { cache: { maxBytes: 10 } })
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("12345678"))
        yield* settle
        // more than the track may hold: the older group is cut off as evicted
        yield* whole(track, 1, "12345678")
        assert.deepStrictEqual((yield* arrived)[0], isDraft ? "0:12345678 31" : "0:12345678 0")
      }))

    it.effect("the peer stops a group: it becomes a gap, and the others go on", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session)
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        const [a, b] = yield* Effect.all([track.appendGroup, track.appendGroup])
        yield* a.writeFrame(bytes("x"))
        const first = yield* peer.connection.acceptUni
        yield* first.stop(3)
        yield* a.writeFrame(bytes("y"))
        yield* b.writeFrame(bytes("z"))
        yield* b.finish
        const arrived = yield* collect(peer)
        assert.deepStrictEqual(yield* arrived, ["1:z fin"])
        assert.deepStrictEqual(yield* gaps(stream), isDraft ? ["0-0!3"] : [])
        yield* a.finish
        yield* whole(track, 2, "more")
        assert.deepStrictEqual(yield* arrived, ["2:more fin"])
      }))

    it.effect("groups that were given up are gaps, and so is the rest of a track that ends", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        yield* whole(track, 0, "a")
        yield* track.gap({ from: 1, to: 3, code: 70 })
        yield* whole(track, 6, "b")
        yield* track.finish
        assert.deepStrictEqual(yield* arrived, ["0:a fin", "6:b fin"])
        assert.deepStrictEqual(yield* gaps(stream), isDraft ? ["1-3!70", "4-5!13", "7-!0", "fin"] : ["fin"])
      }))

    it.effect("a track that fails resets the Subscribe stream with its code", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("x"))
        yield* settle
        yield* track.fail(new App({ code: 1 }))
        assert.deepStrictEqual(yield* arrived, ["0:x 65"])
        assert.deepStrictEqual(yield* stream.ends, [65, 65])
        assert.isUndefined(yield* closed(peer.connection))
      }))

    it.effect("sends what is cached from `min` on, and nothing beyond `max`", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        for (let i = 0; i < 5; i++) yield* whole(track, i, `${i}`)
        const stream = yield* peer.subscribe(["live"], { min: 2, max: 6 })
        assert.strictEqual((yield* stream.hear(Info.decode)).latest, 4)
        assert.deepStrictEqual(yield* arrived, ["2:2 fin", "3:3 fin", "4:4 fin"])
        // out of order: the range is complete only when all of it is
        yield* whole(track, 6, "6")
        yield* whole(track, 7, "7")
        assert.deepStrictEqual(yield* arrived, ["6:6 fin"])
        assert.deepStrictEqual(yield* gaps(stream), [])
        yield* whole(track, 5, "5")
        assert.deepStrictEqual(yield* arrived, ["5:5 fin"])
        assert.deepStrictEqual(yield* gaps(stream), ["fin"])
      }))

    it.effect("a range that lies in the past, or holds nothing, ends at once", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        for (let i = 3; i < 6; i++) yield* whole(track, i, `${i}`)
        const past = yield* peer.subscribe(["live"], { min: 3, max: 4 })
        yield* past.hear(Info.decode)
        assert.deepStrictEqual(yield* arrived, ["3:3 fin", "4:4 fin"])
        assert.deepStrictEqual(yield* gaps(past), ["fin"])
        const empty = yield* peer.subscribe(["live"], { min: 9, max: 8 })
        yield* empty.hear(Info.decode)
        assert.deepStrictEqual(yield* gaps(empty), ["fin"])
        assert.deepStrictEqual(yield* arrived, [])
      }))

    it.effect("a bounded range of a track that ends before it is told to the end", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session)
        yield* whole(track, 0, "0")
        const stream = yield* peer.subscribe(["live"], { min: 0, max: 9 })
        yield* stream.hear(Info.decode)
        yield* track.finish
        assert.deepStrictEqual(yield* gaps(stream), isDraft ? ["1-9!0", "fin"] : ["fin"])
      }))

    it.effect("an update that narrows the range cuts what is in flight outside of it, and ends what is complete", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        const groups = yield* Effect.replicateEffect(track.appendGroup, 4)
        yield* Effect.forEach(groups, (group) => group.writeFrame(bytes(`${group.sequence}`)))
        yield* settle
        yield* stream.say(SubscribeUpdate.encode, update({ min: 1, max: 2 }))
        yield* settle
        yield* Effect.forEach(groups, (group) => group.finish)
        assert.deepStrictEqual(yield* arrived, ["0:0 0", "1:1 fin", "2:2 fin", "3:3 0"])
        assert.deepStrictEqual(yield* gaps(stream), isDraft ? ["0-0!0", "3-3!0", "fin"] : ["fin"])
        yield* TestClock.adjust("10 seconds")
        yield* settle
        assert.strictEqual(readers(track), 0)
      }))

    it.effect("an update that narrows away all that could still come ends the subscription", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        yield* whole(track, 0, "0")
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        assert.deepStrictEqual(yield* arrived, ["0:0 fin"])
        yield* stream.say(SubscribeUpdate.encode, update({ max: 0 }))
        assert.deepStrictEqual(yield* gaps(stream), ["fin"])
      }))

    it.effect("the subscriber's FIN unsubscribes on draft-03, and says nothing on a fork", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        const stream = yield* peer.subscribe(["live"])
        yield* stream.hear(Info.decode)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("x"))
        yield* settle
        assert.strictEqual(readers(track), 1)
        yield* stream.finish
        yield* settle
        assert.strictEqual(readers(track), isDraft ? 0 : 1)
        yield* group.finish
        assert.deepStrictEqual(yield* arrived, isDraft ? ["0:x 0"] : ["0:x fin"])
        assert.deepStrictEqual(yield* gaps(stream), isDraft ? ["fin"] : [])
        yield* whole(track, 1, "more")
        assert.deepStrictEqual(yield* arrived, isDraft ? [] : ["1:more fin"])
      }))

    it.effect.each(["reset", "stop", "both"] as const)(
      "unsubscribing by a %s stops groups and reader",
      (how) =>
        Effect.gen(function*() {
          const { peer, session } = yield* client(profile)
          const arrived = yield* collect(peer)
          const track = yield* live(session)
          const before = streams(peer.connection)
          const stream = yield* peer.subscribe(["live"])
          yield* stream.hear(Info.decode)
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes("x"))
          yield* settle
          assert.strictEqual(readers(track), 1)
          if (how !== "stop") yield* stream.stream.send.reset(0)
          if (how !== "reset") yield* stream.stream.receive.stop(0)
          assert.deepStrictEqual(yield* arrived, ["0:x 0"])
          assert.strictEqual(readers(track), 0)
          yield* group.writeFrame(bytes("y"))
          yield* whole(track, 1, "more")
          assert.deepStrictEqual(yield* arrived, [])
          yield* stream.stream.abort(0)
          assert.strictEqual(streams(peer.connection), before)
        })
    )

    it.effect("unsubscribing reaches a source that has not answered yet", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        let asking = 0
        yield* session.router.add({
          path: ["slow"],
          subscribe: () =>
            Effect.andThen(
              Effect.acquireRelease(Effect.sync(() => asking++), () => Effect.sync(() => asking--)),
              Effect.never
            ),
          trackInfo: Effect.never,
          fetch: () => Effect.never
        })
        const stream = yield* peer.subscribe(["slow"])
        yield* settle
        assert.strictEqual(asking, 1)
        yield* stream.stream.abort(0)
        yield* settle
        assert.strictEqual(asking, 0)
      }))

    it.effect("a source that dies when it is let go of leaves nothing behind", () =>
      Effect.gen(function*() {
        const { monitor, subscription } = record()
        const { peer, session } = yield* client(profile, { monitor, limits: { subscriptions: 1 } })
        const dying = Effect.andThen(Effect.addFinalizer(() => Effect.die("let go of")), Track.make(["dying"]))
        yield* session.router.add(Router.fromEffect(["dying"], Effect.map(dying, ({ track }) => track)))
        for (let i = 0; i < 2; i++) {
          const stream = yield* peer.subscribe(["dying"])
          yield* stream.hear(Info.decode)
          assert.strictEqual(subscription.sent, 1)
          yield* stream.stream.receive.stop(0)
          yield* settle
          assert.strictEqual(subscription.sent, 0)
          assert.deepStrictEqual(yield* stopped(stream.stream.send), 0)
        }
      }))

    it.effect("no more than 128 groups of a subscription are in flight; the others wait", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const arrived = yield* collect(peer)
        const track = yield* live(session)
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        const groups = yield* Effect.replicateEffect(track.appendGroup, 130)
        yield* Effect.forEach(groups, (group) => group.writeFrame(bytes("x")))
        // of those that come together the newest go first
        const first = yield* arrived
        assert.deepStrictEqual([first.length, first[0], first[127]], [128, "2:x open", "129:x open"])
        yield* (yield* track.appendGroup).writeFrame(bytes("x"))
        assert.deepStrictEqual(yield* arrived, [])
        yield* groups[2]!.finish
        yield* groups[5]!.finish
        assert.deepStrictEqual(yield* arrived, ["1:x open", "2:x fin", "5:x fin", "130:x open"])
      }).pipe(Effect.scoped))

    it.effect("answers INFO_PLEASE, and ends the stream", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        const track = yield* live(session, { priority: 9, order: "desc" })
        yield* whole(track, 8, "x")
        const ask = (path: ReadonlyArray<string>) =>
          peer.open(type("info"), peer.bytesOf(InfoPlease.encode, { _tag: "InfoPlease", path }))
        const stream = yield* ask(["live"])
        const { latest, order, priority } = yield* stream.hear(Info.decode)
        assert.deepStrictEqual([latest, order, priority], [8, "desc", 9])
        assert.strictEqual((yield* stream.ends)[0], "fin")
        assert.deepStrictEqual(yield* (yield* ask(["nobody"])).ends, [13, 13])
        assert.strictEqual(readers(track), 0)
      }))

    it.effect("announces what is there, `live` where the peer can read it, then the changes", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* client(profile)
        yield* session.publish((yield* Track.make(["room", "a"])).track)
        yield* session.publish((yield* Track.make(["room-2"])).track)
        const stream = yield* peer.open(
          type("announce"),
          peer.bytesOf(AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix: ["room"] })
        )
        const next = Effect.map(
          stream.hear(Announce.decode),
          (news) => news.status === "live" ? "live" : `${news.status} ${news.suffix.join("/")}`
        )
        assert.strictEqual(yield* next, "active a")
        if (profile.sendsLive) assert.strictEqual(yield* next, "live")
        const { close } = yield* owned(
          Effect.flatMap(Track.make(["room", "b", "c"]), ({ track }) => session.publish(track))
        )
        yield* session.publish((yield* Track.make(["room"])).track)
        assert.strictEqual(yield* next, "active b/c")
        assert.strictEqual(yield* next, "active ")
        yield* close
        assert.strictEqual(yield* next, "ended b/c")
        // the crate finishes its side at once
        yield* stream.finish
        assert.deepStrictEqual(yield* stream.ends, [isDraft ? "fin" : "open", "open"])
      }))

    it.effect("a path that cannot travel is left out, and costs nobody the others", () =>
      Effect.gen(function*() {
        const local = yield* Router.make
        const router: Router.Router = Object.create(local, {
          announced: {
            value: () => Stream.fromIterable([["\ud800"], ["fine"]].map((path) => ({ _tag: "Active", path })))
          }
        })
        const { peer } = yield* client(profile, { router })
        const stream = yield* peer.open(
          type("announce"),
          peer.bytesOf(AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix: [] })
        )
        const news = yield* stream.hear(Announce.decode)
        assert.deepStrictEqual(news, { _tag: "Announce", status: "active", suffix: ["fine"] })
      }))
  })
}

describe("Serving", () => {
  it.effect("tells the transport the rank of each group, and again when another one or an update changes it", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const ranks: Array<string> = []
      const ranking: Connection = Object.create(right, {
        onOpenUni: { value: undefined },
        capabilities: { value: { ...right.capabilities, priority: true } },
        openUni: {
          value: (options?: { readonly priority?: number | undefined }) =>
            Effect.map(right.openUni(), (stream): SendStream => {
              const name = String.fromCharCode(97 + opened++)
              ranks.push(`${name} ${options?.priority}`)
              return {
                write: stream.write,
                finish: stream.finish,
                reset: stream.reset,
                stopped: stream.stopped,
                setPriority: (rank) => Effect.sync(() => ranks.push(`${name} ${rank}`))
              }
            })
        }
      })
      let opened = 0
      const accepting = yield* Effect.forkScoped(Session.accept(ranking, { profiles: [draft03] }))
      const peer = new ByHand(left, draft03)
      yield* (yield* peer.open(hello([draft03.version]))).stream.receive.pull
      const track = yield* live(yield* Fiber.join(accepting), { order: "desc" })
      const stream = yield* peer.subscribe(["live"])
      yield* stream.hear(Info.decode)
      const next = Effect.map(settle, () => ranks.splice(0))
      const open = Effect.tap(track.appendGroup, (group) => Effect.andThen(group.writeFrame(bytes("x")), settle))
      yield* open
      assert.deepStrictEqual(yield* next, [`a ${Rank.of(0, 0)}`])
      const group = yield* open
      // the newer one first, the older one behind it
      assert.deepStrictEqual(yield* next, [`a ${Rank.of(0, 1)}`, `b ${Rank.of(0, 0)}`])
      yield* stream.say(SubscribeUpdate.encode, update({}))
      assert.deepStrictEqual(yield* next, [`a ${Rank.of(5, 0)}`, `b ${Rank.of(5, 1)}`])
      yield* group.finish
      assert.deepStrictEqual(yield* next, [])
      yield* open
      assert.deepStrictEqual(yield* next, [`c ${Rank.of(5, 1)}`])
    }))

  it.effect("what a peer says before it is answered, or while the last group leaves, is what ends its subscription", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* client(draft03)
      yield* session.router.add({
        path: ["slow"],
        subscribe: () => Effect.never,
        trackInfo: Effect.never,
        fetch: () => Effect.never
      })
      const left = yield* peer.subscribe(["slow"])
      const wide = yield* peer.subscribe(["slow"], { min: 1 })
      const track = yield* live(session)
      const last = yield* peer.subscribe(["live"], { max: 0 })
      const lost = yield* peer.subscribe(["live"], { max: 0 })
      const group = yield* track.createGroup(0)
      yield* group.writeFrame(bytes("0"))
      yield* settle
      yield* left.finish
      yield* wide.say(SubscribeUpdate.encode, update({ min: 0 }))
      yield* last.finish
      yield* lost.say(SubscribeUpdate.encode, update({ max: 1 }))
      yield* settle
      const violation = toCode(new ProtocolViolation({}))
      const ends = yield* Effect.forEach([left, wide, last, lost], ({ stream }) => received(stream.receive))
      assert.deepStrictEqual(ends, ["fin", violation, "fin", violation])
      assert.strictEqual(readers(track), 0)
    }))

  it.effect("a peer that leaves before it is answered, on a stream that takes no end, does not keep the session from closing", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      // the first is that of the session
      let count = 0
      const connection: Connection = Object.create(right, {
        onBi: { value: undefined },
        acceptBi: {
          value: Effect.map(right.acceptBi, ({ receive, send: { reset, setPriority, stopped, write } }) => ({
            receive,
            send: { reset, setPriority, stopped, write, finish: count++ === 0 ? Effect.void : Effect.never }
          }))
        }
      })
      const accepting = yield* Effect.forkScoped(owned(Session.accept(connection, { profiles: [draft03] })))
      const peer = new ByHand(left, draft03)
      yield* (yield* peer.open(hello([draft03.version]))).hear(SessionServer.decode)
      const { close, value: { router } } = yield* Fiber.join(accepting)
      yield* router.add(Router.fromEffect(["slow"], Effect.never))
      yield* (yield* peer.subscribe(["slow"])).finish
      yield* settle
      const closing = yield* Effect.forkScoped(close)
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual(closing.pollUnsafe()?._tag, "Success")
    }))

  it.effect("a group that waits for its turn while the range narrows is not begun", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* client(draft03, { limits: { groupsInFlight: 1 } })
      const arrived = yield* collect(peer)
      const track = yield* live(session)
      const stream = yield* peer.subscribe(["live"])
      yield* stream.hear(Info.decode)
      yield* (yield* track.appendGroup).writeFrame(bytes("x"))
      assert.deepStrictEqual(yield* arrived, ["0:x open"])
      const [, last] = yield* Effect.replicateEffect(
        Effect.tap(track.appendGroup, (group) => group.writeFrame(bytes("x"))),
        2
      )
      assert.deepStrictEqual(yield* arrived, [])
      yield* stream.say(SubscribeUpdate.encode, update({ min: 2 }))
      assert.deepStrictEqual(yield* arrived, ["0:x 0", "2:x open"])
      assert.deepStrictEqual(yield* gaps(stream), ["0-0!0"])
      yield* last!.finish
      assert.deepStrictEqual(yield* arrived, ["2:x fin"])
    }))

  it.effect("a peer that reads nothing blocks neither another subscription nor the publisher", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* client(draft03, {}, { window: 16 })
      const track = yield* live(session)
      const other = yield* Track.make(["other"])
      yield* session.publish(other.track)
      yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
      yield* whole(track, 0, "x".repeat(1_000))
      const blocked = new Incoming(yield* peer.connection.acceptUni, draft03)
      yield* settle
      yield* (yield* peer.subscribe(["other"])).hear(Info.decode)
      yield* whole(other, 0, "short")
      const arrived = yield* collect(peer)
      assert.deepStrictEqual(yield* arrived, ["0:short fin"])
      yield* blocked.read
      assert.deepStrictEqual([blocked.frames[0]?.length, blocked.end], [1_000, "fin"])
    }))

  it.effect.each(
    [draft03, fork04, fork02].flatMap((profile) =>
      [true, false].map((isDirect) => ({ isDirect, name: profile.name, profile }))
    )
  )(
    "interrupting a session at any point leaves nothing behind: $name, direct: $isDirect",
    ({ isDirect, profile }) =>
      Effect.gen(function*() {
        for (let steps = 0; steps < 80; steps++) {
          const [left, right] = yield* Memory.pair()
          const books = ledger(right)
          // a ledger has none of the members that do without fibers, and counts scopes; without it there are none
          const connection = isDirect ? right : books.connection
          const track = yield* Track.make(["live"])
          yield* whole(track, 0, "x")
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes("x"))
          const fiber = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
            const session = yield* Session.accept(connection, { profiles: [profile] })
            yield* session.publish(track.track)
            yield* Effect.never
          })))
          const peer = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
            const peer = new ByHand(left, profile)
            const control = yield* peer.open(hello([profile.version]))
            yield* control.stream.receive.pull
            yield* peer.subscribe(["live"], { min: 0 })
            yield* peer.subscribe(["live"])
            yield* peer.open(type("announce"), Uint8Array.of(0))
            yield* peer.group(3, 3, "unknown")
            yield* Effect.never
          })))
          for (let i = 0; i < steps; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(fiber)
          assert.strictEqual(books.held(), 0, `after ${steps} steps`)
          assert.strictEqual(readers(track), 0, `after ${steps} steps`)
          const body = Group.bodyOf(group.group)
          assert.deepStrictEqual([body.readers, Body.waitingOf(body).size], [0, 0], `after ${steps} steps`)
          assert.isTrue(Group.isTaken(group.group))
          yield* Fiber.interrupt(peer)
          if (steps === 79 && !isDirect) assert.isAbove(books.total(), 5)
          assert.strictEqual(streams(left), 0)
        }
      })
  )
})
