/** How sessions end: with what is under way delivered, or at once. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App, Cancelled, SessionClosed } from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as Track from "../../src/model/Track.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import { ByHand, hello } from "./byHand.ts"
import { bytes, connect, ended, failure, over, owned, pair, read, settle, text } from "./sessions.ts"

const { draft03 } = Profile

/** A session pair whose server side lives in a scope of its own. */
const closable = (profile: Profile.Profile, memory?: Memory.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair(memory)
    const scope = yield* Scope.make()
    const options = { profiles: [profile] }
    const [client, server] = yield* Effect.all(
      [connect(left, options), Scope.provide(Session.accept(right, options), scope)],
      { concurrency: 2 }
    )
    return { client, server, scope }
  })

/** A connection that can ask whether the other side is alive, and gets an answer or none. */
const pinging = (connection: Connection, pings: { count: number; readonly answered: boolean }): Connection =>
  Object.create(connection, {
    capabilities: { value: { ...connection.capabilities, ping: true } },
    ping: {
      value: Effect.suspend(() => {
        pings.count++
        return pings.answered ? Effect.void : Effect.never
      })
    }
  })

/** Closes a scope on a fiber of its own, and lets happen what needs no clock. */
const closing = (scope: Scope.Closeable, exit: Exit.Exit<void, unknown> = Exit.void) =>
  Effect.tap(Effect.forkScoped(Scope.close(scope, exit)), () => settle)

for (const profile of Profile.all) {
  describe(`Closing, ${profile.name}`, () => {
    it.effect("a track that has finished arrives whole before its session closes", () =>
      Effect.gen(function*() {
        const { client, scope, server } = yield* closable(profile, { window: 2_000 })
        const broadcast = yield* Scope.provide(server.broadcast(["room"]), scope)
        const track = yield* Scope.provide(broadcast.track("frames"), scope)
        const { fiber, log } = yield* read(yield* client.subscribe(["room", "frames"]))
        yield* settle
        for (let i = 0; i < 10; i++) {
          const group = yield* track.appendGroup
          for (let j = 0; j < 100; j++) yield* group.writeFrame(bytes(`frame ${i * 100 + j}`))
          yield* group.finish
        }
        const close = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
        for (let i = 0; i < 5; i++) yield* settle
        // the end of a fork's track is known by the quiet after it
        if (!profile.finUnsubscribes) {
          assert.isUndefined(ended(close))
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        assert.strictEqual(ended(close)?._tag, "Success")
        assert.strictEqual(log.filter((entry) => entry.includes("frame")).length, 1_000)
        assert.strictEqual(log.filter((entry) => /^\d+\.$/.test(entry)).length, 10)
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.strictEqual(ended(fiber)?._tag, "Success")
      }))

    it.effect("what it withdraws with its session has ended, and is not lost", () =>
      Effect.gen(function*() {
        const { client, scope, server } = yield* closable(profile)
        const broadcast = yield* Scope.provide(server.broadcast(["room"]), scope)
        yield* Scope.provide(broadcast.track("frames"), scope)
        const told: Array<string> = []
        const listening = yield* Effect.forkScoped(
          Stream.runForEach(client.announced([]), ({ _tag }) => Effect.sync(() => void told.push(_tag)))
        )
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.sameMembers(told, ["Active", "Live"])
        yield* closing(scope)
        assert.deepStrictEqual(told.slice(2), ["Ended"])
        assert.strictEqual((yield* Effect.flip(Fiber.join(listening)))._tag, "MoqSessionClosed")
      }))

    it.effect("of a live track, groups that have begun come to their end, and no more begin", () =>
      Effect.gen(function*() {
        const { client, scope, server } = yield* closable(profile)
        const track = yield* Track.make(["live"])
        yield* server.publish(track.track).pipe(Scope.provide(scope))
        const { fiber, log } = yield* read(yield* client.subscribe(["live"]))
        yield* settle
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("a"))
        yield* settle
        const close = yield* closing(scope)
        const next = yield* track.appendGroup
        yield* next.writeFrame(bytes("too late"))
        yield* next.finish
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.isUndefined(ended(close))
        yield* group.writeFrame(bytes("b"))
        yield* group.finish
        yield* settle
        // nothing tells when the peer has it: it gets some time
        assert.isUndefined(ended(close))
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.strictEqual(ended(close)?._tag, "Success")
        assert.deepStrictEqual(log, ["0:a", "0:b", "0."])
        // the track has not ended, only the session has: but the crate has no other word for the end of a track
        if (profile.announceEndsTracks) return assert.strictEqual(ended(fiber)?._tag, "Success")
        assert.deepStrictEqual(
          yield* failure(fiber),
          new SessionClosed({ code: 0, reason: "", by: "remote" })
        )
      }))

    it.effect("a live track has no end in a session that closes, even while another one holds that up", () =>
      Effect.gen(function*() {
        const { client, scope, server } = yield* closable(profile)
        const [quiet, busy] = yield* Effect.all([Track.make(["quiet"]), Track.make(["busy"])])
        yield* Effect.all([server.publish(quiet.track), server.publish(busy.track)]).pipe(Scope.provide(scope))
        const { fiber } = yield* read(yield* client.subscribe(["quiet"]))
        yield* client.subscribe(["busy"])
        yield* settle
        yield* (yield* busy.appendGroup).writeFrame(bytes("a"))
        yield* settle
        const close = yield* closing(scope)
        yield* TestClock.adjust("4 seconds")
        yield* settle
        assert.isUndefined(ended(close))
        const soon = ended(fiber)
        yield* TestClock.adjust("1 second")
        yield* settle
        if (profile.announceEndsTracks) {
          // the crate has no other word for the end of a track than that it is not announced any more
          assert.strictEqual(soon?._tag, "Success")
        } else {
          assert.isUndefined(soon)
          assert.strictEqual((yield* failure(fiber))._tag, "MoqSessionClosed")
        }
      }))

    it.effect("a group of a live track that does not end is cut after 5 seconds", () =>
      Effect.gen(function*() {
        const { client, scope, server } = yield* closable(profile)
        const track = yield* Track.make(["live"])
        yield* server.publish(track.track).pipe(Scope.provide(scope))
        const { log } = yield* read(yield* client.subscribe(["live"]))
        yield* settle
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("a"))
        const close = yield* closing(scope)
        yield* TestClock.adjust("4999 millis")
        yield* settle
        assert.isUndefined(ended(close))
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.strictEqual(ended(close)?._tag, "Success")
        assert.deepStrictEqual(log, ["0:a", "0!MoqSessionClosed"])
      }))

    it.effect("a peer that does not read holds up the close for 5 seconds, and no longer", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair({ window: 100 })
        const scope = yield* Scope.make()
        const accepting = yield* Effect.forkScoped(Scope.provide(Session.accept(right, { profiles: [profile] }), scope))
        const peer = new ByHand(left, profile)
        yield* (yield* peer.open(hello([profile.version]))).stream.receive.pull
        const session = yield* Fiber.join(accepting)
        const track = yield* Track.make(["live"]).pipe(Scope.provide(scope))
        yield* session.publish(track.track).pipe(Scope.provide(scope))
        yield* (yield* peer.subscribe(["live"])).hear(Info.decode)
        const group = yield* track.appendGroup
        yield* group.writeFrame(new Uint8Array(1_000))
        yield* settle
        const close = yield* closing(scope)
        yield* TestClock.adjust("4999 millis")
        yield* settle
        assert.isUndefined(ended(close))
        assert.strictEqual(yield* Effect.map(Effect.timeoutOption(left.closed, 0), (end) => end._tag), "None")
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.strictEqual(ended(close)?._tag, "Success")
        assert.strictEqual((yield* left.closed).code, 0)
      }))

    it.effect("a failure, or an interruption, closes at once and fails what is being sent", () =>
      Effect.gen(function*() {
        for (const exit of [Exit.fail("failure"), Exit.interrupt()]) {
          const { client, scope, server } = yield* closable(profile)
          const broadcast = yield* Scope.provide(server.broadcast(["room"]), scope)
          const track = yield* Scope.provide(broadcast.track("live"), scope)
          const group = yield* track.appendGroup
          yield* group.writeFrame(bytes("a"))
          const { fiber, log } = yield* read(yield* client.subscribe(["room", "live"]))
          yield* settle
          const close = yield* closing(scope, exit)
          assert.strictEqual(ended(close)?._tag, "Success")
          assert.deepStrictEqual(log[0], "0:a")
          assert.include(["0!MoqCancelled", "0!MoqSessionClosed"], log[1])
          assert.include(["MoqCancelled", "MoqSessionClosed"], (yield* failure(fiber))._tag)
        }
      }))
  })
}

/** Something that goes on for as long as it takes, and what could happen at once has happened. */
const begun = <A, E>(effect: Effect.Effect<A, E>) => Effect.tap(Effect.forkScoped(effect), () => settle)

for (const profile of Profile.all) {
  describe(`Draining, ${profile.name}`, () => {
    /** A session that publishes `live`, with a group that a viewer has begun to get. */
    const live = Effect.gen(function*() {
      const { client, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
      const track = yield* Track.make(["live"])
      yield* server.publish(track.track)
      const { fiber, log } = yield* read(yield* client.subscribe(["live"]))
      yield* settle
      const group = yield* track.appendGroup
      yield* group.writeFrame(bytes("a"))
      yield* settle
      return { client, server, track, fiber, log, group }
    })

    it.effect("lets the groups end that have begun, begins no more, and leaves the session open", () =>
      Effect.gen(function*() {
        const { client, fiber, group, log, server, track } = yield* live
        const drain = yield* begun(server.drain)
        const next = yield* track.appendGroup
        yield* next.writeFrame(bytes("too late"))
        yield* next.finish
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.isUndefined(ended(drain))
        yield* group.writeFrame(bytes("b"))
        yield* group.finish
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.strictEqual(ended(drain)?._tag, "Success")
        assert.deepStrictEqual(log, ["0:a", "0:b", "0."])
        assert.isUndefined(ended(fiber))
        assert.strictEqual((yield* client.trackInfo(["live"])).latest, 1)
        yield* server.close()
        yield* settle
        assert.isDefined(ended(fiber))
        assert.deepStrictEqual(log, ["0:a", "0:b", "0."])
      }))

    it.effect("what is asked for meanwhile, or has no track yet, gets nothing before the session ends", () =>
      Effect.gen(function*() {
        const { client, server, track } = yield* live
        const there = yield* Deferred.make<void>()
        yield* server.route(["made"], () =>
          Effect.gen(function*() {
            yield* Deferred.await(there)
            const made = yield* Track.make(["made", "late"])
            yield* (yield* made.appendGroup).writeFrame(bytes("never seen"))
            return made.track
          }).pipe(Effect.catchTag(["MoqFrameTooLarge", "MoqWrongSize", "MoqCancelled"], Effect.die)))
        const seen: Array<string> = []
        const late = yield* begun(
          Effect.flatMap(
            client.subscribe(["made", "late"]),
            (track) => Stream.runForEach(track.frames, (frame) => Effect.sync(() => void seen.push(text(frame))))
          ).pipe(
            Effect.scoped
          )
        )
        const drain = yield* begun(server.drain)
        yield* Deferred.succeed(there, undefined)
        const other = yield* Track.make(["other"])
        yield* server.publish(other.track)
        yield* (yield* other.appendGroup).writeFrame(bytes("x"))
        const asking = yield* begun(Effect.scoped(client.subscribe(["other"])))
        const fetching = yield* begun(Effect.scoped(client.fetch(["live"], 0)))
        yield* TestClock.adjust("4 seconds")
        yield* settle
        assert.isUndefined(ended(drain))
        assert.deepStrictEqual([ended(late), ended(asking), ended(fetching), seen], [
          undefined,
          undefined,
          undefined,
          []
        ])
        yield* track.fail(new App({ code: 1 }))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.strictEqual(ended(drain)?._tag, "Success")
        yield* server.close()
        yield* settle
        for (const request of [asking, late, fetching]) {
          assert.strictEqual((yield* failure<unknown, { readonly _tag: string }>(request))._tag, "MoqSessionClosed")
        }
        assert.deepStrictEqual(seen, [])
      }))

    it.effect("waits for `limits.drain` at most, and cuts nothing itself", () =>
      Effect.gen(function*() {
        const { group, log, server } = yield* live
        const drain = yield* begun(server.drain)
        yield* TestClock.adjust("4999 millis")
        yield* settle
        assert.isUndefined(ended(drain))
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.strictEqual(ended(drain)?._tag, "Success")
        yield* group.writeFrame(bytes("still"))
        yield* settle
        assert.deepStrictEqual(log, ["0:a", "0:still"])
      }))

    it.effect("a track that has finished arrives whole, and is known to have ended", () =>
      Effect.gen(function*() {
        const [left, right] = yield* Memory.pair({ window: 2_000 })
        const { client, server } = yield* over([left, right], { profiles: [profile] }, { profiles: [profile] })
        const track = yield* Track.make(["whole"])
        yield* server.publish(track.track)
        const { fiber, log } = yield* read(yield* client.subscribe(["whole"]))
        yield* settle
        for (let i = 0; i < 10; i++) {
          const group = yield* track.appendGroup
          for (let j = 0; j < 100; j++) yield* group.writeFrame(bytes(`frame ${i * 100 + j}`))
          yield* group.finish
        }
        yield* track.finish
        const drain = yield* begun(server.drain)
        for (let i = 0; i < 5; i++) yield* settle
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual([ended(drain)?._tag, ended(fiber)?._tag], ["Success", "Success"])
        assert.strictEqual(log.filter((entry) => entry.includes("frame")).length, 1_000)
      }))

    it.effect("two at the same time are one, and one that is interrupted can be done again", () =>
      Effect.gen(function*() {
        const { group, log, server, track } = yield* live
        const interrupted = yield* begun(server.drain)
        yield* Fiber.interrupt(interrupted)
        const [one, two] = [yield* begun(server.drain), yield* begun(server.drain)]
        yield* (yield* track.appendGroup).writeFrame(bytes("too late"))
        yield* group.finish
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.deepStrictEqual([ended(one)?._tag, ended(two)?._tag], ["Success", "Success"])
        assert.deepStrictEqual(log, ["0:a", "0."])
        const again = yield* begun(server.drain)
        assert.strictEqual(ended(again)?._tag, "Success")
      }))
  })
}

describe("Closing", () => {
  it.effect("a session that serves nothing has drained at once", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["live"])
      yield* client.publish(track.track)
      yield* server.subscribe(["live"])
      yield* (yield* track.appendGroup).writeFrame(bytes("a"))
      yield* settle
      assert.strictEqual(ended(yield* begun(server.drain))?._tag, "Success")
    }))

  it.effect("a subscription that is over holds up nothing while what was made for it is given back", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["live"])
      const given = Deferred.makeUnsafe<void>()
      yield* server.route(
        [],
        () => Effect.as(Effect.addFinalizer(() => Deferred.await(given)), track.track)
      )
      const { close } = yield* owned(client.subscribe(["live"]))
      yield* settle
      yield* close
      yield* settle
      const exit = ended(yield* begun(server.drain))
      yield* Deferred.succeed(given, undefined)
      assert.strictEqual(exit?._tag, "Success")
    }))

  it.effect("a session that sends nothing closes without waiting", () =>
    Effect.gen(function*() {
      const { client, scope, server } = yield* closable(draft03)
      const track = yield* Track.make(["live"])
      yield* client.publish(track.track)
      yield* Scope.provide(server.subscribe(["live"]), scope)
      const close = yield* closing(scope)
      assert.strictEqual(ended(close)?._tag, "Success")
      assert.deepStrictEqual(yield* client.closed, new SessionClosed({ code: 0, reason: "", by: "remote" }))
      assert.deepStrictEqual(yield* server.closed, new SessionClosed({ code: 0, reason: "", by: "local" }))
    }))

  it.effect("a session that is over closes without waiting, whatever it was sending", () =>
    Effect.gen(function*() {
      const { client, scope, server } = yield* closable(draft03)
      const track = yield* Track.make(["live"])
      yield* Scope.provide(server.publish(track.track), scope)
      yield* client.subscribe(["live"])
      yield* (yield* track.appendGroup).writeFrame(bytes("a"))
      yield* settle
      yield* client.close()
      yield* settle
      const close = yield* closing(scope)
      assert.strictEqual(ended(close)?._tag, "Success")
    }))

  it.effect("`close` tells the peer why", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      yield* client.close(new App({ code: 3, detail: "enough" }))
      const end = yield* server.closed
      assert.deepStrictEqual([end.code, end.by], [67, "remote"])
      assert.include(end.reason, "enough")
    }))

  it.effect("a reason has at most 1,024 bytes", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      yield* client.close(new Cancelled({ detail: "x".repeat(2_000) }))
      assert.strictEqual((yield* server.closed).reason, `cancelled: ${"x".repeat(1_024 - 11)}`)
    }))

  it.effect("a reason is not cut inside a character", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      yield* client.close(new Cancelled({ detail: "ü€𝄞".repeat(200) }))
      const { reason } = yield* server.closed
      const size = bytes(reason).length
      assert.isTrue(size <= 1_024 && size > 1_020, `${size} bytes`)
      assert.isTrue(reason.isWellFormed())
      assert.isTrue(`cancelled: ${"ü€𝄞".repeat(200)}`.startsWith(reason))
    }))

  it.effect("a broadcast of a session fails with it: writes say why", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const broadcast = yield* server.broadcast(["room"])
      const track = yield* broadcast.track("live")
      const group = yield* track.appendGroup
      yield* client.close(new App({ code: 1 }))
      yield* settle
      for (const write of [group.writeFrame(bytes("x")), track.appendGroup]) {
        const error = yield* Effect.flip(Effect.asVoid<unknown, { readonly _tag: string }, never>(write))
        assert.strictEqual(error._tag, "MoqSessionClosed")
      }
    }))

  it.effect("a track that stands alone outlives the sessions that it is published to", () =>
    Effect.gen(function*() {
      const track = yield* Track.make(["live"])
      const one = yield* pair()
      const two = yield* pair()
      yield* one.server.publish(track.track)
      yield* two.server.publish(track.track)
      const gone = yield* read(yield* one.client.subscribe(["live"]))
      const here = yield* read(yield* two.client.subscribe(["live"]))
      yield* one.server.close()
      yield* settle
      assert.strictEqual((yield* failure(gone.fiber))._tag, "MoqSessionClosed")
      const group = yield* track.appendGroup
      yield* group.writeFrame(bytes("x"))
      yield* settle
      assert.deepStrictEqual([gone.log, here.log], [[], ["0:x"]])
    }))

  it.effect("a peer that does not answer for 20 seconds is given up: 3", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const pings = { count: 0, answered: true }
      const { client, server } = yield* over([pinging(left, pings), right])
      const closed = yield* Effect.forkScoped(client.closed)
      for (let i = 0; i < 6; i++) {
        yield* TestClock.adjust("5 seconds")
        yield* settle
      }
      assert.strictEqual(pings.count, 6)
      assert.isUndefined(ended(closed))
      // the last sign of life was just now
      pings.answered = false
      yield* TestClock.adjust("19999 millis")
      yield* settle
      assert.isUndefined(ended(closed))
      yield* TestClock.adjust("1 millis")
      yield* settle
      const end = yield* Fiber.join(closed)
      assert.deepStrictEqual([end.code, end.by], [3, "local"])
      assert.strictEqual((yield* server.closed).code, 3)
    }))

  it.effect("a peer that does not answer is alive for as long as it sends", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const { client, server } = yield* over([pinging(left, { count: 0, answered: false }), right])
      const closed = yield* Effect.forkScoped(client.closed)
      const track = yield* Track.make(["live"])
      yield* server.publish(track.track)
      yield* client.subscribe(["live"])
      const group = yield* track.appendGroup
      for (let i = 0; i < 10; i++) {
        yield* TestClock.adjust("15 seconds")
        yield* group.writeFrame(bytes("x"))
        yield* settle
      }
      assert.isUndefined(ended(closed))
      yield* TestClock.adjust("19999 millis")
      yield* settle
      assert.isUndefined(ended(closed))
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.strictEqual((yield* Fiber.join(closed)).code, 3)
    }))

  it.effect("without a way to ask, silence is no reason to close", () =>
    Effect.gen(function*() {
      const { client } = yield* pair()
      const closed = yield* Effect.forkScoped(client.closed)
      yield* TestClock.adjust("1 day")
      yield* settle
      assert.isUndefined(ended(closed))
      yield* client.ping
    }))
})
