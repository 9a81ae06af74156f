/**
 * A relay between versions of the protocol: what it makes of the one for the other, beside what `forkPeer.test.ts` holds
 * against the crate, and that whoever breaks one of them is alone with that. Every peer speaks by hand.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Unauthorized } from "../../src/core/MoqError.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Fetch from "../../src/message/Fetch.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import * as Authenticator from "../../src/relay/Authenticator.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import {
  announce,
  arrived,
  ByHand,
  closed,
  frame,
  gap,
  gaps,
  type Hand,
  hello,
  info,
  received,
  rest,
  stopped,
  takeAnnounce,
  takeSubscribe,
  type,
  update,
  whole,
  written
} from "../session/byHand.ts"
import { joined, publishing } from "./joined.ts"
import { settle, start } from "./relays.ts"

const { draft03 } = Profile

const pairs = Profile.all.flatMap((up) => Profile.all.map((down) => [up, down] as const))

const nameOf = ([up, down]: readonly [Profile.Profile, Profile.Profile]): string => `${up.name} to ${down.name}`

/** A relay between a publisher and a viewer, which has subscribed and got INFO. */
const between = (
  up: Profile.Profile,
  down: Profile.Profile,
  told: Info.Info = info(0),
  options?: { readonly window?: number; readonly network?: Memory.Network }
) =>
  Effect.gen(function*() {
    const network = options?.network ?? (yield* Memory.makeNetwork(options))
    const relay = yield* start({}, { network })
    const source = yield* publishing(relay, up, "live")
    const { peer: viewer } = yield* joined(relay, down)
    const seen = yield* viewer.subscribe(["live"])
    const { message, stream } = yield* takeSubscribe(source.peer)
    yield* stream.say(Info.encode, told)
    const answer = yield* seen.hear(Info.decode)
    return { relay, source: source.peer, announces: source.announces, id: message.id, stream, viewer, seen, answer }
  })

const fetch = (peer: ByHand, group: number) =>
  peer.open(
    type("fetch"),
    peer.bytesOf(Fetch.encode, { _tag: "Fetch", path: ["live"], priority: 0, group, frame: 0 })
  )

describe("A relay between profiles", () => {
  for (const profiles of pairs) {
    const [up, down] = profiles

    it.effect(`${nameOf(profiles)}: INFO says the same, as far as the version can`, () =>
      Effect.gen(function*() {
        const told: Info.Info = { _tag: "Info", priority: -7, order: "asc", expires: 9_000, latest: 5 }
        const { answer } = yield* between(up, down, told)
        assert.deepStrictEqual(answer, { ...told, expires: up.expires && down.expires ? 9_000 : 0 })
      }))

    it.effect(`${nameOf(profiles)}: a group that is given up keeps its code, as far as the peer knows it`, () =>
      Effect.gen(function*() {
        const { id, seen, source, viewer } = yield* between(up, down)
        for (const [sequence, code] of [[0, 99], [1, 31], [2, 5], [3, 0], [4, 200]] as const) {
          const sending = yield* source.group(id, sequence, "a")
          const group = yield* viewer.takeGroup
          assert.deepStrictEqual([group.frames, group.end], [["a"], "open"])
          yield* sending.reset(code)
          yield* settle
          assert.strictEqual(group.end, down.toWireCode(code))
        }
        // a reset is followed by a gap, where the peer can use it
        assert.deepStrictEqual(
          yield* gaps(seen),
          down.sendsGaps ? ["0-0!99", "1-1!31", "2-2!5", "3-3!0", "4-4!200"] : []
        )
      }))

    it.effect(`${nameOf(profiles)}: a track that fails keeps its code`, () =>
      Effect.gen(function*() {
        for (const code of [70, 31, 13]) {
          const { seen, stream } = yield* between(up, down)
          yield* stream.stream.abort(code)
          yield* settle
          assert.strictEqual((yield* seen.ends)[0], down.toWireCode(code))
        }
      }))

    it.effect(`${nameOf(profiles)}: expiry counts from when the relay has seen the end of a group`, () =>
      Effect.gen(function*() {
        for (const [wait, expired] of [["1999 millis", false], ["2 seconds", true]] as const) {
          const { id, source, viewer } = yield* between(up, down, { ...info(0), expires: 2_000 }, { window: 64 })
          // more than may wait for a viewer that does not read
          const first = yield* source.group(id, 0, "a".repeat(100))
          const blocked = yield* viewer.connection.acceptUni
          yield* settle
          yield* first.write([frame("b")])
          yield* settle
          yield* TestClock.adjust("5 seconds")
          yield* first.finish
          // the newest group never expires
          yield* whole(source, id, 1, "b")
          yield* settle
          yield* TestClock.adjust(wait)
          yield* settle
          const isExpired = expired && up.expires
          assert.strictEqual(yield* received(blocked), isExpired ? down.toWireCode(2) : "fin", wait)
        }
      }))

    it.effect(`${nameOf(profiles)}: gaps and the end are told where the peer can use them`, () =>
      Effect.gen(function*() {
        const { id, seen, source, stream, viewer } = yield* between(up, down)
        yield* whole(source, id, 0, "a")
        yield* stream.say(SubscribeGap.encode, gap(1, 1, 99))
        yield* whole(source, id, 3, "b")
        const groups = [yield* viewer.takeGroup, yield* viewer.takeGroup]
        assert.deepStrictEqual(groups.map(({ frames, sequence }) => `${sequence} ${frames}`).sort(), ["0 a", "3 b"])
        if (up.sendsGaps) yield* stream.say(SubscribeGap.encode, rest(4))
        yield* stream.finish
        yield* settle
        // the crate has no word for the last group: the quiet after it tells
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* gaps(seen), down.sendsGaps ? ["1-2!99", "4-!0", "fin"] : ["fin"])
      }))

    it.effect(`${nameOf(profiles)}: a sequence that is left out is a gap only where nothing else would tell`, () =>
      Effect.gen(function*() {
        const { id, seen, source } = yield* between(up, down)
        yield* whole(source, id, 0, "a")
        yield* whole(source, id, 2, "c")
        yield* settle
        yield* TestClock.adjust("1999 millis")
        assert.deepStrictEqual(yield* gaps(seen), [])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* gaps(seen), up.skipsSilently && down.sendsGaps ? ["1-1!31"] : [])
      }))

    it.effect(`${nameOf(profiles)}: what a viewer prefers is for the relay, not for the publisher`, () =>
      Effect.gen(function*() {
        const { id, seen, source, stream, viewer } = yield* between(up, down)
        yield* seen.say(SubscribeUpdate.encode, update({}))
        yield* settle
        assert.deepStrictEqual(yield* arrived(stream.stream.receive), [])
        assert.strictEqual(yield* received(stream.stream.receive), up.subscriberFinishesEarly ? "fin" : "open")
        yield* whole(source, id, 0, "a")
        assert.deepStrictEqual((yield* viewer.takeGroup).frames, ["a"])
      }))

    it.effect(`${nameOf(profiles)}: FETCH comes from what the relay has, and asks nobody`, () =>
      Effect.gen(function*() {
        const { id, source, viewer } = yield* between(up, down)
        yield* whole(source, id, 0, "a", "b")
        yield* whole(source, id, 1, "c")
        yield* settle
        const asking = yield* fetch(viewer, 0)
        assert.deepStrictEqual(yield* arrived(asking.stream.receive), [...frame("a"), ...frame("b")])
        assert.strictEqual(yield* received(asking.stream.receive), "fin")
        const asked = yield* Effect.forkScoped(source.accept)
        yield* settle
        assert.isUndefined(asked.pollUnsafe())
      }))

    it.effect(`${nameOf(profiles)}: announces are told once, and \`live\` where the peer can read it`, () =>
      Effect.gen(function*() {
        const { announces, viewer } = yield* between(up, down)
        const hearing = yield* viewer.open(
          type("announce"),
          viewer.bytesOf(AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix: [] })
        )
        const heard = Effect.map(arrived(hearing.stream.receive), (bytes) => bytes.join(" "))
        // the crate of fork02 says it to nobody, and does not know it
        const live = down.sendsLive ? " 2" : ""
        assert.strictEqual(yield* heard, `1 1 4 108 105 118 101${live}`)
        // twice, the end of something unknown, and one of its own
        yield* announce(announces, "active", "live")
        yield* announce(announces, "ended", "never")
        yield* announce(announces, "active", "x")
        yield* settle
        assert.strictEqual(yield* heard, "1 1 1 120")
        yield* announce(announces, "ended", "x")
        yield* settle
        assert.strictEqual(yield* heard, "0 1 1 120")
      }))
  }
})

/** A network whose servers have connections that carry no code above 255. */
const bytesOnly: Effect.Effect<Memory.Network> = Effect.map(Memory.makeNetwork(), (network) => ({
  ...network,
  listen: (options) =>
    Effect.map(network.listen(options), (server) => ({
      ...server,
      requests: Stream.map(server.requests, (request) => ({
        ...request,
        accept: Effect.map(
          request.accept,
          (connection): Connection =>
            Object.create(connection, {
              capabilities: { value: { ...connection.capabilities, codes: "byte" } }
            })
        )
      }))
    }))
}))

describe("A relay over a transport whose codes are bytes", () => {
  it.effect.each(pairs)(
    "a code above 255 arrives as 255, one below as it is: %#",
    ([up, down]) =>
      Effect.gen(function*() {
        const { id, seen, source, viewer } = yield* between(up, down, info(0), { network: yield* bytesOnly })
        for (const [sequence, code] of [[0, 300], [1, 255], [2, 2 ** 31]] as const) {
          const sending = yield* source.group(id, sequence, "a")
          const group = yield* viewer.takeGroup
          yield* sending.reset(code)
          yield* settle
          assert.strictEqual(group.end, 255)
        }
        // a message carries any
        assert.deepStrictEqual(yield* gaps(seen), down.sendsGaps ? ["0-0!300", "1-1!255", `2-2!${2 ** 31}`] : [])
      })
  )
})

interface Offender {
  readonly peer: ByHand
  readonly control: Hand
  readonly profile: Profile.Profile
}

/** What an offence closes: a session, or a stream as its offender sees it. */
type Outcome = { readonly session: number } | { readonly stream: ReadonlyArray<unknown> }

interface Offence {
  readonly what: string
  readonly commit: (offender: Offender) => Effect.Effect<ReadonlyArray<unknown>, unknown, Scope.Scope>
  readonly closes: (profile: Profile.Profile) => Outcome
}

const unknownType = written((writer) => writer.varint(9))

const ofPeer = <A>(draft: A, fork: A) => (profile: Profile.Profile): A => profile.name === "draft03" ? draft : fork

/** An offender that publishes as well, and somebody who views that. */
const publishes = ({ peer, profile }: Offender) =>
  Effect.gen(function*() {
    yield* announce((yield* takeAnnounce(peer)).stream, "active", "bad")
    const { message, stream } = yield* takeSubscribe(peer)
    yield* stream.say(Info.encode, info(0))
    yield* settle
    return { id: message.id, profile }
  })

const offences: ReadonlyArray<Offence> = [
  {
    what: "a bidirectional stream of an unknown type",
    commit: ({ peer }) => Effect.flatMap(peer.open(unknownType), ({ ends }) => ends),
    closes: ofPeer<Outcome>({ session: 10 }, { stream: [5, 5] })
  },
  {
    what: "a unidirectional stream of an unknown type",
    commit: ({ peer }) =>
      Effect.flatMap(peer.openUni(unknownType), (stream) => Effect.map(stopped(stream), (code) => [code])),
    closes: ofPeer<Outcome>({ session: 10 }, { stream: [5] })
  },
  {
    what: "a second Session stream",
    commit: ({ peer }) => Effect.flatMap(peer.open(type("session")), ({ ends }) => ends),
    closes: ofPeer<Outcome>({ session: 10 }, { stream: [10, 10] })
  },
  {
    what: "an undecodable message on the Session stream",
    commit: ({ control }) => Effect.as(Effect.andThen(control.write(Uint8Array.of(0xc0, 1)), control.finish), []),
    closes: () => ({ session: 5 })
  },
  {
    what: "a question that is not UTF-8",
    commit: ({ peer }) => Effect.flatMap(peer.open(type("info"), Uint8Array.of(1, 1, 0xff)), ({ ends }) => ends),
    closes: () => ({ stream: [5, 5] })
  },
  {
    what: "a prefix beyond the bounds",
    commit: ({ peer }) =>
      Effect.flatMap(peer.open(type("announce"), Uint8Array.of(33, ...new Uint8Array(66))), ({ ends }) => ends),
    closes: () => ({ stream: [11, 11] })
  },
  {
    what: "a stream that ends inside a message",
    commit: ({ peer }) =>
      Effect.gen(function*() {
        const stream = yield* peer.open(type("fetch"), Uint8Array.of(1))
        yield* stream.finish
        return [(yield* stream.ends)[0]]
      }),
    closes: () => ({ stream: [5] })
  },
  {
    what: "a group for an unknown subscription",
    commit: ({ peer }) =>
      Effect.flatMap(peer.group(77, 0, "x"), (stream) => Effect.map(stopped(stream), (code) => [code])),
    closes: () => ({ stream: [13] })
  },
  {
    what: "a subscribe id that is used again",
    commit: ({ peer }) =>
      Effect.as(Effect.andThen(peer.subscribe(["a"], { id: 3 }), peer.subscribe(["a"], { id: 3 })), []),
    closes: () => ({ session: 15 })
  },
  {
    what: "an update that widens its range",
    commit: ({ peer }) =>
      Effect.gen(function*() {
        const stream = yield* peer.subscribe(["innocent"], { max: 10 })
        yield* stream.hear(Info.decode)
        yield* stream.say(SubscribeUpdate.encode, update({ max: 11 }))
        return yield* stream.ends
      }),
    closes: () => ({ stream: [15, 15] })
  },
  {
    what: "a frame over the limit",
    commit: (offender) =>
      Effect.gen(function*() {
        const { id } = yield* publishes(offender)
        const stream = yield* offender.peer.group(id, 0)
        yield* stream.write([written((writer) => writer.varint(16 * 1024 * 1024 + 1))])
        return [yield* stopped(stream)]
      }),
    closes: ofPeer<Outcome>({ stream: [27] }, { stream: [14] })
  },
  {
    what: "a sequence twice, and one outside of the range",
    commit: (offender) =>
      Effect.gen(function*() {
        const { id } = yield* publishes(offender)
        yield* whole(offender.peer, id, 1, "once")
        yield* settle
        const [again, below] = [yield* offender.peer.group(id, 1, "again"), yield* offender.peer.group(id, 0, "below")]
        // the relay takes all from the newest on: 0 is not above the range
        return [yield* stopped(again), yield* stopped(below)]
      }),
    closes: () => ({ stream: [12, "open"] })
  }
]

describe("Whoever breaks the protocol at a relay", () => {
  for (const profile of Profile.all) {
    it.effect.each(offences)(
      `is alone with that, ${profile.name}: $what`,
      ({ closes, commit }) =>
        Effect.gen(function*() {
          const relay = yield* start()
          const source = yield* publishing(relay, draft03, "innocent")
          const viewers = yield* Effect.forEach(Profile.all, (profile) =>
            Effect.gen(function*() {
              const { peer } = yield* joined(relay, profile)
              return { peer, stream: yield* peer.subscribe(["innocent"]) }
            }))
          const { message, stream } = yield* takeSubscribe(source.peer)
          yield* stream.say(Info.encode, info(0))
          for (const { stream } of viewers) yield* stream.hear(Info.decode)
          const watching = yield* relay.connect()
          yield* Effect.forkScoped(Effect.ignore(watching.subscribe(["bad"], { wait: "1 minute" })))
          yield* settle

          const offender = yield* joined(relay, profile)
          const got = yield* commit({ ...offender, profile })
          const outcome = closes(profile)
          const end = yield* closed(offender.peer.connection)
          if ("session" in outcome) assert.deepStrictEqual([end?.code, end?.by], [outcome.session, "remote"])
          else assert.deepStrictEqual([got, end], [outcome.stream, undefined])

          yield* whole(source.peer, message.id, 0, "fine")
          for (const { peer } of viewers) {
            const group = yield* peer.takeGroup
            assert.deepStrictEqual([group.frames, group.end], [["fine"], "fin"])
          }
          assert.strictEqual(yield* relay.relay.sessions, "session" in outcome ? 5 : 6)
        })
    )
  }

  it.effect.each(
    [
      ["a first stream that is not Session", 10, (peer) => peer.open(type("announce"), Uint8Array.of(0))],
      ["a stream before SETUP is done", 15, (peer) => Effect.andThen(peer.openUni(unknownType), peer.open())],
      ["no SETUP in time", 3, () => TestClock.adjust("5 seconds")]
    ] satisfies ReadonlyArray<
      readonly [what: string, code: number, commit: (peer: ByHand) => Effect.Effect<unknown, unknown, Scope.Scope>]
    >
  )("before there is a session: %s, %s", ([, code, commit]) =>
    Effect.gen(function*() {
      const relay = yield* start()
      const peer = new ByHand(yield* relay.network.transport.connect(new URL("https://relay.example")), draft03)
      yield* commit(peer)
      yield* settle
      assert.strictEqual((yield* closed(peer.connection))?.code, code)
      assert.deepStrictEqual([yield* relay.relay.sessions, relay.count("SessionOpened")], [0, 0])
      assert.strictEqual(relay.count("SessionRefused"), 1)
    }))

  it.effect.each(Profile.all)(
    "is told that it may not, by the session and with 6: $name",
    (profile) =>
      Effect.gen(function*() {
        const relay = yield* Effect.provideService(start(), Authenticator.Authenticator, {
          authenticate: () => Effect.fail(new Unauthorized({ detail: "not you" }))
        })
        const peer = new ByHand(yield* relay.network.transport.connect(new URL("https://relay.example")), profile)
        yield* Effect.ignore(peer.open(hello([profile.version])))
        yield* settle
        const end = yield* closed(peer.connection)
        assert.strictEqual(end?.code, 6)
        assert.include(end?.reason ?? "", "not you")
        assert.strictEqual(relay.count("SessionOpened"), 0)
      })
  )
})
