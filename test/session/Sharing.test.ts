/** Subscriptions to one path in one session: what they share on the wire, and what they do not. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import type * as SubscribeMessage from "../../src/message/Subscribe.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import * as Router from "../../src/model/Router.ts"
import type * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Session from "../../src/session/Session.ts"
import { random } from "../fixtures/bytes.ts"
import { type ByHand, type Hand, info, server, stopped, takeSubscribe } from "./byHand.ts"
import { bytes, ended, failure, owned, pair, publishNumbers, read, readers, settle, streams } from "./sessions.ts"

const { draft03 } = Profile

/** Subscribes, and answers when that asks the peer. */
const first = (peer: ByHand, session: Session.Session, options?: Subscription.Options, latest = 0) =>
  Effect.gen(function*() {
    const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], options)))
    const { message, stream } = yield* takeSubscribe(peer)
    yield* stream.say(Info.encode, info(latest))
    return { ...(yield* Fiber.join(asking)), message, stream }
  })

const more = (session: Session.Session, options?: Subscription.Options) => owned(session.subscribe(["live"], options))

const hearUpdate = (stream: Hand) => Effect.map(stream.hear(SubscribeUpdate.decode), ({ _tag, ...fields }) => fields)

for (const profile of Profile.all) {
  describe(`Sharing, ${profile.name}`, () => {
    it.effect("one that lies within another needs no stream of its own", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        yield* first(peer, session, { from: 5, to: 50 }, 9)
        yield* settle
        const before = streams(peer.connection)
        for (const options of [{ from: 5, to: 50 }, { to: 50 }, { from: 7, to: 9 }]) yield* more(session, options)
        yield* settle
        assert.strictEqual(streams(peer.connection), before)
        // what reaches further asks for itself
        for (const options of [{ from: 4, to: 50 }, { from: 5 }, { from: 0, to: 70 }]) {
          yield* Effect.forkScoped(more(session, options))
          const { message } = yield* takeSubscribe(peer)
          assert.deepStrictEqual([message.min, message.max], [options.from, options.to])
        }
      }))

    it.effect("until the publisher has said where its newest group is, a number is not within `latest`", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const asking = yield* Effect.forkScoped(more(session))
        const { stream } = yield* takeSubscribe(peer)
        const before = streams(peer.connection)
        const sharing = yield* Effect.forkScoped(more(session))
        yield* settle
        assert.strictEqual(streams(peer.connection), before)
        yield* Effect.forkScoped(more(session, { from: 7 }))
        assert.strictEqual((yield* takeSubscribe(peer)).message.min, 7)
        yield* stream.say(Info.encode, info(3))
        assert.strictEqual((yield* Fiber.join(asking)).value.begin, 3)
        assert.strictEqual((yield* Fiber.join(sharing)).value.begin, 3)
        yield* settle
        const with4 = streams(peer.connection)
        yield* more(session, { from: 4 })
        yield* settle
        assert.strictEqual(streams(peer.connection), with4)
      }))

    it.effect("one that joins begins where it asked to, with what is here", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        yield* publishNumbers(server, ["numbers"], 5)
        const all = yield* read(yield* client.subscribe(["numbers"], { from: 0 }))
        yield* settle
        const some = yield* read(yield* client.subscribe(["numbers"], { from: 2, to: 3 }))
        const newest = yield* read(yield* client.subscribe(["numbers"]))
        yield* settle
        const frames = (log: ReadonlyArray<string>) => log.filter((entry) => entry.includes(":")).sort()
        assert.deepStrictEqual(frames(all.log), ["0:0", "1:1", "2:2", "3:3", "4:4"])
        assert.deepStrictEqual(frames(some.log), ["2:2", "3:3"])
        assert.strictEqual(ended(some.fiber)?._tag, "Success")
        assert.deepStrictEqual(frames(newest.log), ["4:4"])
      }))

    it.effect("who comes when the group has let go of what others took gets all of it, by a stream of its own", () =>
      Effect.gen(function*() {
        const { client, connections, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const broadcast = yield* server.broadcast([])
        const track = yield* broadcast.track(["live"])
        const group = yield* track.appendGroup
        const size = 16 * 1024
        let written = 0
        const write = (count: number) =>
          Effect.gen(function*() {
            for (let i = 0; i < count; i++) yield* group.writeFrame(new Uint8Array(size).fill(written++))
            yield* settle
          })
        const watch = (options?: Subscription.Options) =>
          Effect.gen(function*() {
            const track = yield* client.subscribe(["live"], options)
            const got: Array<number> = []
            yield* Effect.forkScoped(Track.forEachFrame(track, (payload) => void got.push(payload[0]!)))
            yield* settle
            return { got, received: track.group(0)! }
          })
        yield* write(1)
        const first = yield* watch()
        const before = streams(connections[0])
        const early = yield* watch()
        assert.strictEqual(streams(connections[0]), before)
        for (let i = 0; i < 20; i++) yield* write(10)
        assert.isAtLeast(first.received.first, 190)
        assert.isBelow(first.received.size, 10 * size)
        // the publisher has it all still
        assert.strictEqual(group.group.first, 0)
        const late = [yield* watch(), yield* watch({ from: 0 })]
        assert.isAbove(streams(connections[0]), before)
        yield* write(7)
        const all = Array.from({ length: written }, (_, i) => i & 255)
        for (const { got } of [first, early, ...late]) assert.deepStrictEqual(got, all)
      }))

    it.effect("what is passed on is kept, for those who join there later", () =>
      Effect.gen(function*() {
        const options = { profiles: [profile] }
        const { client, server } = yield* pair(options, options)
        const group = yield* (yield* (yield* server.broadcast([])).track(["live"])).appendGroup
        const write = (count: number) =>
          Effect.gen(function*() {
            for (let i = 0; i < count; i++) yield* group.writeFrame(new Uint8Array(16 * 1024))
            yield* settle
          })
        yield* write(1)
        const router = yield* Router.make
        // and read here as well: what is being sent to somebody stays anyway
        const read = (track: Track.Track) => Effect.forkScoped(Track.forEachFrame(track, () => {}))
        const published = yield* client.subscribe(["live"])
        yield* read(published)
        yield* router.publish(published)
        const { client: other } = yield* pair(options, { ...options, router: server.router })
        yield* router.route(["routed"], () => Effect.tap(other.subscribe(["live"]), read))
        // each on a session of its own: on the same one it would ask again
        const watch = (path: ReadonlyArray<string>) =>
          Effect.gen(function*() {
            const { client } = yield* pair(options, { ...options, router })
            const got: Array<number> = []
            const track = yield* client.subscribe(path)
            yield* Effect.forkScoped(Track.forEachFrame(track, (payload) => void got.push(payload.length)))
            yield* settle
            return got
          })
        const paths = [["live"], ["routed", "live"]]
        const early = yield* Effect.forEach(paths, watch)
        for (let i = 0; i < 10; i++) yield* write(10)
        const late = yield* Effect.forEach(paths, watch)
        for (const got of [...early, ...late]) assert.lengthOf(got, 101)
      }))

    it.effect("who leaves gets no more; the others do not notice; the last one takes the wire with it", () =>
      Effect.gen(function*() {
        const { client, connections, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const before = streams(connections[0])
        const track = yield* publishNumbers(server, ["numbers"], 2)
        const one = yield* owned(client.subscribe(["numbers"]))
        const two = yield* owned(client.subscribe(["numbers"]))
        const events = yield* Effect.forkScoped(Stream.runDrain(one.value.events))
        const readings = [yield* read(one.value), yield* read(two.value)] as const
        const frames = yield* Effect.forkScoped(Effect.flip(Stream.runDrain(one.value.frames)))
        yield* settle
        assert.strictEqual(readers(track), 1)
        yield* one.close
        assert.strictEqual((yield* failure(events))._tag, "MoqCancelled")
        const error = ended(frames)
        assert.strictEqual(error?._tag === "Success" && error.value._tag, "MoqCancelled")
        assert.strictEqual(readers(track), 1)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("more"))
        yield* group.finish
        yield* settle
        assert.deepStrictEqual(readings.map(({ log }) => log.at(-1)), ["1:1", "2."])
        yield* two.close
        yield* settle
        assert.strictEqual(readers(track), 0)
        if (profile === draft03) assert.strictEqual(streams(connections[0]), before)
      }))

    it.effect("the interruption of the one that asks does not hurt those who wait with it", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const one = yield* Effect.forkScoped(more(session))
        const { stream } = yield* takeSubscribe(peer)
        const two = yield* Effect.forkScoped(more(session))
        yield* settle
        yield* Fiber.interrupt(one)
        yield* stream.say(Info.encode, info(0))
        assert.strictEqual((yield* Fiber.join(two)).value.begin, 0)
        assert.strictEqual((yield* stream.ends)[1], "open")
      }))

    it.effect("all wait in vain together, and the next one asks again", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const before = streams(peer.connection)
        const asking = [yield* Effect.forkScoped(more(session)), yield* Effect.forkScoped(more(session))]
        const { stream } = yield* takeSubscribe(peer)
        yield* settle
        yield* stream.stream.abort(65)
        for (const fiber of asking) assert.strictEqual((yield* failure(fiber))._tag, "MoqApp")
        assert.strictEqual(streams(peer.connection), before)
        yield* first(peer, session)
      }))

    it.effect("who asks again at once does not meet the failure a second time", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const stubborn = Effect.catchTag(session.subscribe(["live"]), "MoqApp", () => session.subscribe(["live"]))
        const asking = [yield* Effect.forkScoped(stubborn), yield* Effect.forkScoped(stubborn)]
        yield* (yield* takeSubscribe(peer)).stream.stream.abort(65)
        yield* settle
        yield* (yield* takeSubscribe(peer)).stream.say(Info.encode, info(0))
        yield* settle
        assert.deepStrictEqual(asking.map((fiber) => ended(fiber)?._tag), ["Success", "Success"])
      }))

    it.effect("a track that fails fails for all with the same error, and the next one asks again", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const { stream, value } = yield* first(peer, session)
        const readings = [yield* read(value), yield* read((yield* more(session)).value)]
        yield* settle
        yield* stream.stream.abort(66)
        for (const { fiber } of readings) assert.strictEqual((yield* failure(fiber))._tag, "MoqApp")
        const again = yield* first(peer, session)
        assert.isUndefined(again.value.end)
      }))

    it.effect("a track that has ended is asked for again", () =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const track = yield* publishNumbers(server, ["numbers"], 3)
        const reading = yield* read(yield* client.subscribe(["numbers"], { from: 0 }))
        yield* track.finish
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.strictEqual(ended(reading.fiber)?._tag, "Success")
        const again = yield* read(yield* client.subscribe(["numbers"], { from: 0 }))
        yield* settle
        assert.strictEqual(again.log.filter((entry) => entry.includes(":")).length, 3)
        yield* TestClock.adjust("3 seconds")
      }))
  })
}

for (const profile of [Profile.fork04, Profile.fork02]) {
  describe(`Sharing, ${profile.name}`, () => {
    it.effect("what is asked for cannot be changed", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const { stream, value } = yield* first(peer, session, { from: 0 })
        const other = yield* more(session, { from: 3, priority: 9 })
        assert.strictEqual((yield* Effect.flip(value.update({ priority: 1 })))._tag, "MoqNotSupportedByPeer")
        assert.isUndefined(value.request.priority)
        yield* other.close
        yield* settle
        assert.deepStrictEqual(yield* stream.ends, ["fin", "open"])
      }))
  })
}

describe("Sharing, draft03", () => {
  it.effect("what they prefer is merged, and merged again when one leaves", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const a = yield* first(peer, session, { priority: 3, order: "asc", expires: 1_000 })
      const b = yield* more(session, { priority: 7, order: "asc", expires: 5_000 })
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { priority: 7, order: "asc", expires: 5_000 })
      // one that says nothing: any order will do, for ever
      const c = yield* more(session)
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { priority: 7, order: "default", expires: 0 })
      yield* b.close
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { priority: 3, order: "default", expires: 0 })
      yield* c.close
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { priority: 3, order: "asc", expires: 1_000 })
      yield* a.value.update({ priority: -4 })
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { priority: -4, order: "asc", expires: 1_000 })
    }))

  it.effect("the range becomes narrower once the last wider one has gone", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const a = yield* first(peer, session, { from: 0 })
      const wide = yield* more(session, { from: 0 })
      const narrow = yield* more(session, { from: 10, to: 20 })
      const reading = yield* read(narrow.value)
      yield* a.close
      yield* settle
      assert.strictEqual((yield* a.stream.ends)[1], "open")
      yield* wide.close
      const preferences = { priority: 0, order: "default", expires: 0 } as const
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { ...preferences, min: 10, max: 20 })
      yield* narrow.value.update({ from: 12, to: 15 })
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { ...preferences, min: 12, max: 15 })
      // it was under way when the range became narrower
      for (const sequence of [11, 16]) {
        assert.strictEqual(yield* stopped(yield* peer.group(a.message.id, sequence, "x")), 0)
      }
      yield* peer.group(a.message.id, 12, "y")
      yield* settle
      assert.deepStrictEqual(reading.log, ["12:y"])
      assert.strictEqual((yield* Effect.flip(narrow.value.update({ to: 16 })))._tag, "MoqBoundsExceeded")
    }))

  it.effect("without a priority of its own, it has that of the publisher", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const ask = (options?: Subscription.Options) =>
        Effect.gen(function*() {
          const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], options)))
          const { stream } = yield* takeSubscribe(peer)
          yield* stream.say(Info.encode, { ...info(0), priority: 5 })
          return { ...(yield* Fiber.join(asking)), stream }
        })
      const a = yield* ask()
      assert.deepStrictEqual(yield* hearUpdate(a.stream), { priority: 5, order: "default", expires: 0 })
      yield* a.close
      const b = yield* ask({ priority: 2 })
      assert.deepStrictEqual(yield* b.stream.ends, ["open", "open"])
      // it counts beside one that names its own
      yield* more(session)
      assert.strictEqual((yield* hearUpdate(b.stream)).priority, 5)
    }))

  it.effect("an update of a session that is over says so", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const { value } = yield* first(peer, session)
      yield* peer.connection.close(7, "bye")
      yield* settle
      assert.strictEqual((yield* Effect.flip(value.update({ priority: 1 })))._tag, "MoqSessionClosed")
    }))

  it.effect("values that cannot travel are refused", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* server(draft03)
      const before = streams(peer.connection)
      for (
        const options of [{ priority: 128 }, { priority: 1.5 }, { from: -1 }, { to: 2 ** 53 }, { expires: -1 }, {
          expires: Infinity
        }]
      ) {
        assert.strictEqual((yield* Effect.flip(session.subscribe(["live"], options)))._tag, "MoqBoundsExceeded")
      }
      assert.strictEqual(streams(peer.connection), before)
      const { value } = yield* first(peer, session)
      assert.strictEqual((yield* Effect.flip(value.update({ priority: -129 })))._tag, "MoqBoundsExceeded")
    }))

  it.effect(
    "whoever comes, changes and goes: what was asked for last is what all of them want together",
    () =>
      Effect.gen(function*() {
        for (let seed = 0; seed < 40; seed++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const next = random(seed * 7919 + 5)
            const pick = (n: number) => next() % n
            const { peer, session } = yield* server(draft03)
            const a = yield* first(peer, session, { from: 0 })
            let asked: Partial<SubscribeMessage.Subscribe> = a.message
            yield* Effect.forkScoped(
              Effect.forever(Effect.map(hearUpdate(a.stream), (update) => {
                assert.isTrue(
                  (update.min ?? Infinity) > (asked.min ?? 0) && (update.max ?? 0) < (asked.max ?? Infinity)
                )
                asked = { ...asked, ...update }
              })).pipe(Effect.catch(() => Effect.void))
            )
            const holders: Array<Pick<typeof a, "value" | "close">> = [a]
            for (let step = 0; step < 40 && holders.length > 0; step++) {
              const at = pick(holders.length)
              const { request, update } = holders[at]!.value
              const what = pick(4)
              const order = (["asc", "desc", "default"] as const)[pick(3)]!
              if (what === 0 && holders.length > 1) {
                yield* holders.splice(at, 1)[0]!.close
              } else if (what === 1) {
                const from = typeof request.from === "number" ? request.from + pick(3) : 0
                yield* update({ from, to: Math.max(from, (request.to ?? 1_000) - pick(30)), priority: pick(200) - 100 })
              } else {
                // one that reached further would ask for itself
                yield* settle
                const from = (asked.min ?? 0) + pick(5)
                const to = Math.min(asked.max ?? 1_000, 1_000 - pick(100))
                if (from > to) continue
                holders.push(yield* more(session, { from, to, priority: pick(9), order, expires: pick(3) * 100 }))
              }
              if (pick(2) === 0) yield* settle
            }
            yield* settle
            const requests = holders.map(({ value }) => value.request)
            const orders = new Set(requests.map(({ order = "default" }) => order))
            const expiries = requests.map(({ expires = 0 }) => expires)
            assert.deepInclude(asked, {
              priority: Math.max(...requests.map(({ priority = 0 }) => priority)),
              order: orders.size === 1 ? [...orders][0]! : "default",
              expires: expiries.includes(0) ? 0 : Math.max(...expiries)
            }, `seed ${seed}`)
            const to = requests.some((request) => request.to === undefined)
              ? undefined
              : Math.max(...requests.map((request) => request.to!))
            assert.deepStrictEqual(
              [asked.min, asked.max],
              [Math.min(...requests.map(({ from }) => from as number)), to],
              `seed ${seed}`
            )
          }))
        }
      }),
    30_000
  )
})
