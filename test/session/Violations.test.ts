/** What a peer must not do, and what it costs: the table of violations, row by row. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Remote, type SessionClosed } from "../../src/core/MoqError.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import type { Source } from "../../src/model/Router.ts"
import type * as Track from "../../src/model/Track.ts"
import type * as Session from "../../src/session/Session.ts"
import {
  type ByHand,
  client,
  closed,
  concat,
  frame,
  type Hand,
  info,
  stopped,
  takeSubscribe,
  type,
  update,
  written
} from "./byHand.ts"
import { failure, publishNumbers, read, settle } from "./sessions.ts"

interface Case {
  readonly session: Session.Session
  readonly peer: ByHand
  readonly control: Hand
  readonly profile: Profile.Profile
  readonly track: Track.Producer
}

/** After all that, a subscription like any other is served, and one of ours is answered. */
const goesOn = ({ peer, session, track }: Case) =>
  Effect.gen(function*() {
    assert.isUndefined(yield* closed(peer.connection))
    const stream = yield* peer.subscribe(["room", "numbers"])
    assert.strictEqual((yield* stream.hear(Info.decode)).latest, 2)
    const group = yield* peer.takeGroup
    assert.deepStrictEqual([group.sequence, group.frames, group.end], [2, ["2"], "open"])
    assert.strictEqual(track.track.end, undefined)
    const asking = yield* Effect.forkScoped(session.trackInfo(["other"]))
    const question = yield* peer.acceptType("info")
    yield* question.hear(InfoPlease.decode)
    yield* question.say(Info.encode, info(7))
    yield* settle
    assert.strictEqual(asking.pollUnsafe()?._tag, "Success")
  })

const run = (
  profile: Profile.Profile,
  test: (c: Case) => Effect.Effect<void, unknown, Scope.Scope>,
  options?: Session.Options
): Effect.Effect<void, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const { control, peer, session } = yield* client(profile, options)
    const track = yield* publishNumbers(session, ["room", "numbers"], 3)
    yield* test({ session, peer, control, profile, track })
  })

const sessionClosed = (peer: ByHand, code: number) =>
  Effect.gen(function*() {
    const end: SessionClosed | undefined = yield* closed(peer.connection)
    assert.deepStrictEqual([end?.code, end?.by], [code, "remote"])
  })

// as a relay's upstream may fail
const upstream = new Remote({ code: 10 })
const broken: Source = {
  path: ["broken"],
  subscribe: () => Effect.fail(upstream),
  trackInfo: Effect.fail(upstream),
  fetch: () => Effect.fail(upstream)
}

const unknownType = written((writer) => writer.varint(9))

for (const profile of Profile.all) {
  const isDraft = profile.name === "draft03"

  describe(`Violations, ${profile.name}`, () => {
    it.effect("a bidirectional stream of an unknown type", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.open(unknownType)
          if (isDraft) return yield* sessionClosed(c.peer, 10)
          assert.deepStrictEqual(yield* stream.ends, [5, 5])
          yield* goesOn(c)
        })))

    it.effect("a unidirectional stream of an unknown type", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.openUni(unknownType)
          if (isDraft) return yield* sessionClosed(c.peer, 10)
          assert.strictEqual(yield* stopped(stream), 5)
          yield* goesOn(c)
        })))

    it.effect("a second Session stream", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.open(type("session"))
          if (isDraft) return yield* sessionClosed(c.peer, 10)
          assert.deepStrictEqual(yield* stream.ends, [10, 10])
          yield* goesOn(c)
        })))

    it.effect("an undecodable message on the Session stream: the session, 5", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          // a SESSION_UPDATE that is cut off
          yield* c.control.write(Uint8Array.of(0xc0, 1))
          yield* c.control.finish
          yield* sessionClosed(c.peer, 5)
        })))

    // order 9, a path part that is not UTF-8, a path of 33 parts, a number above 2^53-1
    const subscribeWith = (path: ReadonlyArray<number>, order: number) =>
      concat(
        type("subscribe"),
        Uint8Array.of(0, ...path, ...(isDraft ? [0x40, 0x80] : [0x80]), order, ...(profile.expires ? [0] : []), 0, 0)
      )
    const undecodable: ReadonlyArray<readonly [what: string, code: number, bytes: Uint8Array]> = [
      ["a group order that does not exist", 5, subscribeWith([1, 1, 0x61], 9)],
      ["a path that is not UTF-8", 5, subscribeWith([1, 1, 0xff], 1)],
      ["a path of 33 parts", 11, subscribeWith([33, ...Array.from({ length: 33 }, () => [1, 0x61]).flat()], 1)],
      ["a path of 1,024 bytes", 11, subscribeWith([1, 0x44, 0, ...Array.from({ length: 1024 }, () => 0x61)], 1)],
      [
        "a number above 2^53-1",
        11,
        concat(type("subscribe"), Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
      ],
      ["a prefix of 33 parts", 11, concat(type("announce"), Uint8Array.of(33, ...Array.from({ length: 66 }, () => 0)))],
      ["a question for a path that is not UTF-8", 5, concat(type("info"), Uint8Array.of(1, 1, 0xff))]
    ]
    it.effect.each(undecodable)("%s: the stream, %s", ([, code, bytes]) =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.open(bytes)
          assert.deepStrictEqual(yield* stream.ends, [code, code])
          yield* goesOn(c)
        })))

    it.effect.each(
      [
        ["nothing at all", new Uint8Array(0)],
        ["a stream type alone", type("subscribe")],
        ["half a SUBSCRIBE", concat(type("subscribe"), Uint8Array.of(0, 2, 1))],
        ["half a prefix", concat(type("announce"), Uint8Array.of(2, 1))],
        ["half a FETCH", concat(type("fetch"), Uint8Array.of(1))]
      ] as const
    )("the end of a stream after %s: the stream, 5", ([, bytes]) =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.open(...(bytes.length > 0 ? [bytes] : []))
          yield* stream.finish
          assert.strictEqual((yield* stream.ends)[0], 5)
          yield* goesOn(c)
        })))

    it.effect("an undecodable SUBSCRIBE_UPDATE: the Subscribe stream, 5", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.subscribe(["room", "numbers"])
          yield* stream.hear(Info.decode)
          assert.strictEqual((yield* c.peer.takeGroup).end, "open")
          yield* stream.write(isDraft ? Uint8Array.of(0x40, 0x80, 9) : Uint8Array.of(1, 9))
          assert.deepStrictEqual(yield* stream.ends, [5, 5])
          yield* goesOn(c)
        })))

    it.effect("an undecodable INFO or SUBSCRIBE_GAP: the Subscribe stream, which takes only its track", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const asking = yield* Effect.forkScoped(Effect.flip(c.session.subscribe(["other"])))
          const first = yield* takeSubscribe(c.peer)
          yield* first.stream.write(isDraft ? Uint8Array.of(0x40, 0x80, 0, 9) : Uint8Array.of(0x80, 9))
          yield* settle
          const exit = asking.pollUnsafe()
          assert.deepStrictEqual(exit?._tag === "Success" && exit.value._tag, "MoqDecodeError")
          assert.deepStrictEqual(yield* first.stream.ends, [isDraft ? 5 : "fin", 5])

          const other = yield* Effect.forkScoped(c.session.subscribe(["other"]))
          const second = yield* takeSubscribe(c.peer)
          yield* second.stream.say(Info.encode, info(0))
          yield* settle
          const track = other.pollUnsafe()
          assert.strictEqual(track?._tag, "Success")
          if (track?._tag !== "Success") return
          const reading = yield* read(track.value)
          yield* second.stream.write(Uint8Array.of(0, ...Array.from({ length: 16 }, () => 0xff)))
          yield* settle
          assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqBoundsExceeded")
          assert.deepStrictEqual(yield* second.stream.ends, [isDraft ? 11 : "fin", 11])
          yield* goesOn(c)
        })))

    it.effect("a subscribe id used again: the session, 15", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.subscribe(["room", "numbers"], { id: 3 })
          yield* stream.hear(Info.decode)
          yield* stream.stream.abort(0)
          yield* settle
          yield* c.peer.subscribe(["room", "numbers"], { id: 3 })
          yield* sessionClosed(c.peer, 15)
        })))

    it.effect("the same of a peer that has as many subscriptions as it may", () =>
      run(
        profile,
        (c) =>
          Effect.gen(function*() {
            const stream = yield* c.peer.subscribe(["room", "numbers"], { id: 3 })
            yield* stream.hear(Info.decode)
            const empty = yield* c.peer.subscribe([], { id: 4 })
            assert.deepStrictEqual(yield* empty.ends, [15, 15])
            yield* c.peer.subscribe(["room", "numbers"], { id: 3 })
            yield* sessionClosed(c.peer, 15)
          }),
        { limits: { subscriptions: 1 } }
      ))

    it.effect("an empty path: the Subscribe stream, 15", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.subscribe([])
          assert.deepStrictEqual(yield* stream.ends, [15, 15])
          yield* goesOn(c)
        })))

    it.effect.each(
      [
        ["an earlier first group", { min: 0 }],
        ["a later last group", { max: 11 }]
      ] as const
    )("an update with %s: the Subscribe stream, 15", ([, range]) =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const stream = yield* c.peer.subscribe(["room", "numbers"], { min: 1, max: 10 })
          yield* stream.hear(Info.decode)
          yield* c.peer.takeGroup
          yield* c.peer.takeGroup
          yield* stream.say(SubscribeUpdate.encode, update(range))
          assert.deepStrictEqual(yield* stream.ends, [15, 15])
          yield* goesOn(c)
        })))

    it.effect("a group of an unknown subscription: STOP_SENDING 13, never more", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const streams = yield* Effect.forEach([0, 1, 2], (sequence) => c.peer.group(77, sequence, "x"))
          for (const stream of streams) assert.strictEqual(yield* stopped(stream), 13)
          yield* goesOn(c)
        })))

    it.effect("a frame over the limit, and a truncated one: 27 and the group fails alone", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const asking = yield* Effect.forkScoped(c.session.subscribe(["other"]))
          const { message, stream } = yield* takeSubscribe(c.peer)
          yield* stream.say(Info.encode, info(0))
          yield* settle
          const exit = asking.pollUnsafe()
          if (exit?._tag !== "Success") return assert.fail("no track")
          const reading = yield* read(exit.value)
          const large = yield* c.peer.group(message.id, 0, "fine")
          yield* large.write([written((writer) => writer.varint(16 * 1024 * 1024 + 1))])
          // the code is unknown to the crate: its nearest relative
          assert.strictEqual(yield* stopped(large), isDraft ? 27 : 14)
          const short = yield* c.peer.group(message.id, 1, "fine")
          yield* short.write([frame("cut off").slice(0, -2)])
          yield* short.finish
          yield* settle
          const half = yield* c.peer.group(message.id, 2, "fine")
          yield* half.write([Uint8Array.of(0x40)])
          yield* half.finish
          yield* settle
          assert.deepStrictEqual(reading.log.filter((entry) => entry.includes("!")), [
            "0!MoqFrameTooLarge",
            "1!MoqWrongSize",
            "2!MoqDecodeError"
          ])
          const good = yield* c.peer.group(message.id, 3, "good")
          yield* good.finish
          yield* settle
          assert.include(reading.log, "3:good")
          assert.strictEqual(yield* stopped(good), "open")
          yield* goesOn(c)
        })))

    it.effect("a sequence twice, and one outside of the range: STOP_SENDING 12 and 0", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const asking = yield* Effect.forkScoped(c.session.subscribe(["other"], { from: 5 }))
          const { message, stream } = yield* takeSubscribe(c.peer)
          yield* stream.say(Info.encode, info(9))
          yield* settle
          const exit = asking.pollUnsafe()
          if (exit?._tag !== "Success") return assert.fail("no track")
          const reading = yield* read(exit.value)
          yield* c.peer.group(message.id, 6, "once")
          yield* settle
          const again = yield* c.peer.group(message.id, 6, "again")
          const below = yield* c.peer.group(message.id, 4, "below")
          const early = yield* c.peer.group(message.id, 5, "early")
          assert.strictEqual(yield* stopped(again), 12)
          assert.strictEqual(yield* stopped(below), 0)
          assert.strictEqual(yield* stopped(early), "open")
          assert.deepStrictEqual(reading.log, ["6:once", "5:early"])
          yield* goesOn(c)
        })))

    it.effect("announce twice, and `ended` for an unknown path: tolerated", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          const heard: Array<string> = []
          yield* Effect.forkScoped(
            Stream.runForEach(c.session.announced(["a"]), (event) => Effect.sync(() => heard.push(event._tag)))
          )
          const stream = yield* c.peer.accept
          assert.strictEqual(yield* stream.hear(StreamType.decodeBi), "announce")
          yield* stream.hear(AnnouncePlease.decode)
          for (const status of ["active", "active", "ended", "ended"] as const) {
            yield* stream.say(Announce.encode, { _tag: "Announce", status, suffix: ["x"] })
          }
          assert.deepStrictEqual(yield* stream.ends, ["open", "open"])
          assert.deepStrictEqual(heard, ["Active", "Ended"])
          yield* goesOn(c)
        })))

    it.effect.each(["bidirectional", "unidirectional"] as const)(
      "a %s stream whose first message trickles in, a byte per second: 3 after 5 seconds",
      (kind) =>
        run(profile, (c) =>
          Effect.gen(function*() {
            const code = isDraft ? 3 : 0
            const bytes = kind === "bidirectional"
              ? concat(
                type("subscribe"),
                c.peer.bytesOf(Subscribe.encode, {
                  _tag: "Subscribe",
                  id: 0,
                  path: ["a long enough path"],
                  priority: 0,
                  order: "desc",
                  expires: 0
                })
              )
              : written((writer) => {
                writer.varint(0)
                writer.varint(2 ** 40)
                writer.varint(2 ** 40)
              })
            const stream = kind === "bidirectional" ? yield* c.peer.open() : undefined
            const send = stream?.stream.send ?? (yield* c.peer.openUni())
            yield* settle
            for (let i = 0; i < 5; i++) {
              assert.strictEqual(yield* stopped(send), "open", `after ${i} seconds`)
              yield* send.write([bytes.slice(i, i + 1)])
              yield* settle
              yield* TestClock.adjust("1 second")
            }
            assert.strictEqual(yield* stopped(send), code)
            if (stream !== undefined) assert.strictEqual((yield* stream.ends)[0], code)
            yield* goesOn(c)
          }))
    )

    it.effect("a track whose source fails with the code of a violation costs nobody the session", () =>
      run(profile, (c) =>
        Effect.gen(function*() {
          yield* c.session.router.add(broken)
          const stream = yield* c.peer.subscribe(["broken"])
          assert.deepStrictEqual(yield* stream.ends, [10, 10])
          yield* goesOn(c)
        })))
  })
}
