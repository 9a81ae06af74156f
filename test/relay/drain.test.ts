/** How a relay ends: what is on its way arrives first, and nothing new comes in. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { TransportError } from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as Authenticator from "../../src/relay/Authenticator.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type Request, TransportServer } from "../../src/transport/Transport.ts"
import { ByHand, closed, hello, received } from "../session/byHand.ts"
import { joined } from "./joined.ts"
import { bytes, publish, settle, start } from "./relays.ts"

/** A relay with a publisher that is writing a group, and a viewer by hand that has begun to get it. */
const live = (profile: Profile.Profile) =>
  Effect.gen(function*() {
    const relay = yield* start()
    const source = yield* relay.connect()
    const { track } = yield* publish(source, ["live"])
    const { peer } = yield* joined(relay, profile)
    const stream = yield* peer.subscribe(["live"])
    yield* stream.hear(Info.decode)
    const open = yield* track.appendGroup
    yield* open.writeFrame(bytes("a"))
    yield* settle
    const group = yield* peer.takeGroup
    return { relay, source, track, peer, stream, open, group }
  })

const began = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.tap(Effect.forkScoped(effect), () => settle)

const isOver = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() !== undefined

for (const profile of Profile.all) {
  describe(`A relay that drains, ${profile.name}`, () => {
    it.effect("goes on to forward the groups that have begun, and begins no more; then all close with code 0", () =>
      Effect.gen(function*() {
        const { group, open, peer, relay, source, stream, track } = yield* live(profile)
        const { drain, ready } = relay.relay
        assert.isTrue(yield* ready)
        const draining = yield* began(drain)
        assert.isFalse(yield* ready)
        yield* open.writeFrame(bytes("b"))
        yield* settle
        assert.deepStrictEqual(group.frames, ["a", "b"])
        const next = yield* track.appendGroup
        yield* next.writeFrame(bytes("too late"))
        yield* next.finish
        yield* settle
        const another = yield* began(Effect.scoped(peer.connection.acceptUni))
        yield* TestClock.adjust("3 seconds")
        yield* settle
        // the publisher has nothing to wait for, and stays for those who have
        assert.deepStrictEqual([yield* closed(peer.connection), isOver(yield* began(source.closed))], [
          undefined,
          false
        ])
        yield* open.writeFrame(bytes("c"))
        yield* open.finish
        yield* settle
        assert.deepStrictEqual([group.frames, group.end], [["a", "b", "c"], "fin"])
        assert.isFalse(isOver(draining))
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.isTrue(isOver(draining))
        const [end, ofSource] = [yield* peer.connection.closed, yield* source.closed]
        assert.deepStrictEqual([end.code, end.by, ofSource.code, ofSource.by], [0, "remote", 0, "remote"])
        assert.isTrue(isOver(another))
        assert.isFalse((yield* Effect.exit(Fiber.join(another)))._tag === "Success")
        // the track has not ended: nobody says so
        assert.strictEqual(yield* received(stream.stream.receive), "session")
        assert.strictEqual(yield* relay.relay.sessions, 0)
        yield* track.finish
      }))

    it.effect("waits for as long as `session.limits.drain`, whoever is slow", () =>
      Effect.gen(function*() {
        const { group, peer, relay } = yield* live(profile)
        const draining = yield* began(relay.relay.drain)
        yield* TestClock.adjust("4999 millis")
        yield* settle
        assert.isFalse(isOver(draining))
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.isTrue(isOver(draining))
        assert.strictEqual((yield* peer.connection.closed).code, 0)
        assert.strictEqual(group.end, "session")
      }))
  })
}

describe("A relay that drains", () => {
  it.effect("ends at once where nothing is watched", () =>
    Effect.gen(function*() {
      const relay = yield* start()
      const source = yield* relay.connect()
      yield* publish(source, ["live"])
      const draining = yield* began(relay.relay.drain)
      assert.isTrue(isOver(draining))
      assert.strictEqual((yield* source.closed).code, 0)
    }))

  it.effect("a track that has finished arrives whole, with its end, however slow the viewer", () =>
    Effect.gen(function*() {
      const relay = yield* start()
      const publisher = yield* publish(yield* relay.connect(), ["whole"])
      const { peer } = yield* joined(relay, Profile.draft03)
      const stream = yield* peer.subscribe(["whole"])
      yield* stream.hear(Info.decode)
      for (const text of ["a", "b"]) yield* publisher.group(text)
      yield* publisher.end()
      const draining = yield* began(relay.relay.drain)
      const groups = [yield* peer.takeGroup, yield* peer.takeGroup]
      assert.deepStrictEqual(groups.map(({ frames }) => frames), [["b"], ["a"]])
      const end = yield* stream.hear(SubscribeGap.decode)
      assert.deepStrictEqual([end.start, end.start + end.count], [2, Number.MAX_SAFE_INTEGER])
      assert.strictEqual(yield* received(stream.stream.receive), "fin")
      assert.isFalse(isOver(draining))
      yield* stream.finish
      yield* settle
      assert.isTrue(isOver(draining))
    }))

  it.effect("lets nobody in, those included who are on their way", () =>
    Effect.gen(function*() {
      const decided = yield* Deferred.make<void>()
      const relay = yield* Effect.provideService(start(), Authenticator.Authenticator, {
        authenticate: ({ url }) =>
          Effect.as(url.pathname === "/slow" ? Deferred.await(decided) : Effect.void, Authenticator.everything)
      })
      const { track } = yield* publish(yield* relay.connect(), ["live"])
      const viewer = yield* relay.connect()
      const seen = yield* viewer.subscribe(["live"])
      yield* Effect.forkScoped(Stream.runDrain(seen.frames))
      yield* settle
      const open = yield* track.appendGroup
      yield* open.writeFrame(bytes("a"))
      const slow = yield* began(Effect.flip(relay.connect("/slow")))
      const draining = yield* began(relay.relay.drain)
      assert.instanceOf(yield* Effect.flip(relay.connect()), TransportError)
      yield* Deferred.succeed(decided, undefined)
      yield* settle
      assert.instanceOf(yield* Fiber.join(slow), TransportError)
      assert.strictEqual(relay.count("SessionRefused"), 2)
      assert.isFalse(isOver(draining))
      yield* open.finish
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.isTrue(isOver(draining))
      assert.instanceOf(yield* Effect.flip(relay.connect()), TransportError)
      assert.strictEqual(relay.count("SessionOpened"), relay.count("SessionClosed"))
    }))

  it.effect("a client that comes to the end of its handshake meanwhile gets no session", () =>
    Effect.gen(function*() {
      const { open, relay } = yield* live(Profile.draft03)
      const late = new ByHand(
        yield* relay.network.transport.connect(new URL("https://relay.example")),
        Profile.draft03
      )
      yield* settle
      const draining = yield* began(relay.relay.drain)
      yield* late.open(hello([Profile.draft03.version]))
      assert.strictEqual((yield* late.connection.closed).code, 0)
      assert.deepStrictEqual([relay.count("SessionOpened"), relay.count("SessionRefused")], [2, 1])
      assert.isFalse(isOver(draining))
      yield* open.finish
    }))

  it.effect("a client that is still shaking hands is closed with the others", () =>
    Effect.gen(function*() {
      const relay = yield* start()
      const connection = yield* relay.network.transport.connect(new URL("https://relay.example"))
      yield* settle
      assert.strictEqual(yield* relay.relay.sessions, 1)
      const draining = yield* began(relay.relay.drain)
      assert.isTrue(isOver(draining))
      assert.strictEqual((yield* connection.closed).code, 0)
      assert.strictEqual(yield* relay.relay.sessions, 0)
    }))

  it.effect("a client whose transport takes longer to let it in than the others to end is closed as well", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const there = yield* Deferred.make<void>()
      const request: Request = {
        url: new URL("https://relay.example"),
        headers: undefined,
        peer: undefined,
        transport: "memory",
        accept: Effect.as(Deferred.await(there), right),
        refuse: () => Effect.void
      }
      const relay = yield* Effect.provideService(Relay.make(), TransportServer, {
        urls: [],
        transports: ["memory"],
        unavailable: [],
        fingerprint: undefined,
        requests: Stream.concat(Stream.make(request), Stream.never)
      })
      yield* settle
      assert.isTrue(isOver(yield* began(relay.drain)))
      assert.isUndefined(yield* closed(left))
      yield* Deferred.succeed(there, undefined)
      yield* settle
      assert.strictEqual((yield* left.closed).code, 0)
      assert.strictEqual(yield* relay.sessions, 0)
    }))

  it.effect("twice at the same time is once; interrupted, it has not ended, and can be done again", () =>
    Effect.gen(function*() {
      const { group, open, peer, relay, source } = yield* live(Profile.draft03)
      const { drain, ready } = relay.relay
      const interrupted = yield* began(drain)
      yield* Fiber.interrupt(interrupted)
      yield* settle
      // what it has given up, it has given up: what has begun goes on
      assert.isFalse(yield* ready)
      assert.isUndefined(yield* closed(peer.connection))
      yield* open.writeFrame(bytes("b"))
      yield* settle
      assert.deepStrictEqual(group.frames, ["a", "b"])
      assert.deepStrictEqual((yield* source.trackInfo(["live"])).latest, 0)
      const both = [yield* began(drain), yield* began(drain)]
      yield* open.finish
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(both.map(isOver), [true, true])
      assert.strictEqual(group.end, "fin")
      assert.strictEqual((yield* peer.connection.closed).code, 0)
      const again = yield* began(drain)
      assert.isTrue(isOver(again))
    }))
})
