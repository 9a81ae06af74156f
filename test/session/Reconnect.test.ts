import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App, Cancelled, Duplicate, Evicted, Remote, TransportError, Unauthorized } from "../../src/core/MoqError.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Router from "../../src/model/Router.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"
import * as Relays from "../relay/relays.ts"
import { goesOn, start, watch } from "./reconnecting.ts"
import { bytes, failure, owned, read, settle, text } from "./sessions.ts"

const every = (duration: string) => Schedule.spaced(duration as "1 second")

/** Offers a track in a router, until `end`. */
const offer = Effect.fnUntraced(function*(
  router: Router.Router,
  path: ReadonlyArray<string>,
  options?: Parameters<typeof Track.make>[1]
) {
  const { close, value } = yield* owned(
    Effect.tap(Track.make(path, options), ({ track }) => router.publish(track))
  )
  return {
    ...value,
    appendGroup: value.appendGroup,
    createGroup: value.createGroup,
    fail: value.fail,
    finish: value.finish,
    used: value.used,
    unused: value.unused,
    close
  }
})

/** Writes a whole group with one frame that says something. */
const group = (track: Pick<Track.Producer, "createGroup">, sequence: number, say = String(sequence)) =>
  Effect.gen(function*() {
    const group = yield* track.createGroup(sequence)
    yield* group.writeFrame(bytes(say))
    yield* group.finish
    yield* settle
  })

const pass = (duration: string) => Effect.andThen(TestClock.adjust(duration as "1 second"), settle)

describe("Session.reconnect: connections", () => {
  it.effect("gives the session once a connection is open, after as many attempts as that takes", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const opening = yield* Effect.forkChild(world.open)
      yield* settle
      yield* pass("1 second")
      assert.isTrue(goesOn(opening))
      yield* world.serve(yield* Router.make)
      yield* pass("1 second")
      const session = yield* Fiber.join(opening)
      assert.lengthOf(world.attempts, 3)
      assert.strictEqual(session.profile, "draft03")
      assert.strictEqual(session.transport.transport, "memory")
      yield* session.ping
      // what is left of three attempts is the driver and one connection
      const { scope } = session as unknown as {
        readonly scope: { readonly state: { readonly finalizers: Map<unknown, unknown> } }
      }
      assert.strictEqual(scope.state.finalizers.size, 2)
    }))

  it.effect("fails with the last error when the schedule ends before that", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second").pipe(Schedule.upTo({ times: 2 })) } })
      const opening = yield* Effect.forkChild(world.open)
      yield* settle
      yield* pass("1 second")
      yield* pass("1 second")
      assert.strictEqual((yield* failure(opening))._tag, "MoqTransportError")
      assert.lengthOf(world.attempts, 3)
    }))

  it.effect("makes no second attempt with a client that is refused, or what is no URL", () =>
    Effect.gen(function*() {
      const refused = yield* start({ url: Effect.fail(new Unauthorized({})) })
      assert.strictEqual((yield* Effect.flip(refused.open))._tag, "MoqUnauthorized")
      const old = yield* start({ client: { profiles: [Profile.fork02] }, server: { profiles: [Profile.draft03] } })
      yield* old.serve(yield* Router.make)
      assert.strictEqual((yield* Effect.flip(old.open))._tag, "MoqUnsupportedVersion")
      assert.lengthOf(old.attempts, 1)
      const nowhere = yield* start({ url: "no url" })
      assert.strictEqual((yield* Effect.flip(nowhere.open))._tag, "MoqTransportError")
    }))

  it.effect("asks for the URL before each attempt", () =>
    Effect.gen(function*() {
      let asked = 0
      const world = yield* start({
        url: Effect.suspend(() => {
          asked++
          return asked === 2
            ? Effect.fail(new TransportError({}))
            : Effect.succeed(`https://relay.example/?jwt=${asked}`)
        }),
        client: { schedule: every("1 second") }
      })
      yield* world.serve(yield* Router.make)
      yield* world.open
      yield* world.cut
      yield* pass("1 second")
      yield* pass("1 second")
      assert.deepStrictEqual(world.attempts, ["https://relay.example/?jwt=1", "https://relay.example/?jwt=3"])
    }))

  it.effect("dies of a URL that does, and fails everything when that happens later", () =>
    Effect.gen(function*() {
      const first = yield* start({ url: Effect.die("broken") })
      assert.isTrue(Cause.hasDies(yield* Effect.flip(Effect.sandbox(first.open))))
      let asked = 0
      const world = yield* start({
        url: Effect.suspend(() => asked++ > 0 ? Effect.die("broken") : Effect.succeed("https://relay.example/"))
      })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      yield* world.cut
      yield* pass("1 second")
      assert.strictEqual((yield* session.closed).by, "local")
      assert.strictEqual((yield* Effect.flip(session.trackInfo(["a"])))._tag, "MoqSessionClosed")
    }))

  it.effect("tells any number of readers what it does: the present first, then every change", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second").pipe(Schedule.upTo({ times: 3 })) } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const one = yield* watch(session)
      yield* world.shut
      const two = yield* watch(session)
      yield* pass("1 second")
      yield* world.serve(router)
      yield* pass("1 second")
      yield* world.shut
      const three = yield* watch(session)
      yield* pass("1 second")
      const last = [
        "waiting 3 1000 MoqSessionClosed",
        "connecting 3",
        "closed MoqTransportError"
      ]
      const all = [
        "waiting 1 1000 MoqSessionClosed",
        "connecting 1",
        "waiting 2 1000 MoqTransportError",
        "connecting 2",
        "connected draft03 memory",
        ...last
      ]
      assert.deepStrictEqual(one.log, ["connected draft03 memory", ...all])
      assert.deepStrictEqual(two.log, all)
      assert.deepStrictEqual(three.log, last)
      for (const { fiber } of [one, two, three]) assert.isFalse(goesOn(fiber))
      assert.deepStrictEqual((yield* watch(session)).log, ["closed MoqTransportError"])
      const closed = yield* session.closed
      assert.deepStrictEqual([closed.code, closed.by], [4, "transport"])
    }))

  it.effect("starts the schedule anew only after a connection that has been stable", () =>
    Effect.gen(function*() {
      const world = yield* start({
        client: { schedule: Schedule.exponential("1 second"), stableAfter: "5 seconds" }
      })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const { log } = yield* watch(session)
      for (let i = 0; i < 3; i++) {
        yield* world.cut
        yield* pass("4 seconds")
      }
      yield* pass("5 seconds")
      yield* world.cut
      const waits = log.filter((status) => status.startsWith("waiting"))
      assert.deepStrictEqual(waits, [
        "waiting 1 1000 MoqSessionClosed",
        "waiting 2 2000 MoqSessionClosed",
        "waiting 3 4000 MoqSessionClosed",
        "waiting 0 1000 MoqSessionClosed"
      ])
    }))

  it.effect("takes a clean close of the server for the loss of a connection", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      yield* world.peer().close()
      yield* settle
      yield* pass("1 second")
      assert.lengthOf(world.attempts, 2)
      yield* session.ping
    }))

  it.effect("gives up when the server refuses it after the handshake, but not once it has been stable", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second"), stableAfter: "5 seconds" } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      yield* pass("5 seconds")
      yield* world.peer().close(new Unauthorized({ detail: "the token has expired" }))
      yield* settle
      yield* pass("1 second")
      assert.lengthOf(world.attempts, 2)
      yield* session.ping
      yield* world.peer().close(new Unauthorized({ detail: "the token has expired" }))
      yield* settle
      const closed = yield* session.closed
      assert.deepStrictEqual([closed.code, closed.by], [6, "remote"])
      assert.deepStrictEqual((yield* watch(session)).log, ["closed MoqUnauthorized"])
      yield* pass("1 minute")
      assert.lengthOf(world.attempts, 2)
    }))

  it.effect("gives up when all that it publishes has been taken over, however long it has been stable", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second"), stableAfter: "5 seconds" } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      yield* pass("1 minute")
      yield* world.peer().close(new Duplicate({ detail: "room/a has a newer publisher" }))
      yield* settle
      const closed = yield* session.closed
      assert.deepStrictEqual([closed.code, closed.by], [12, "remote"])
      assert.deepStrictEqual((yield* watch(session)).log, ["closed MoqSessionClosed"])
      yield* pass("1 minute")
      assert.lengthOf(world.attempts, 1)
    }))

  it.effect("closes for good: when it is told to, and with its scope", () =>
    Effect.gen(function*() {
      for (const away of [false, true]) {
        for (const by of ["close", "scope"]) {
          const world = yield* start({ client: { schedule: every("1 second") } })
          yield* world.serve(yield* Router.make)
          const session = yield* world.open
          const waiting = yield* Effect.forkChild(Stream.runDrain(session.announced()), { startImmediately: true })
          yield* settle
          if (away) yield* world.shut
          if (by === "close") yield* session.close(new App({ code: 5 }))
          else yield* world.leave()
          const closed = yield* session.closed
          assert.deepStrictEqual([closed.code, closed.by], [by === "close" ? 69 : 0, "local"])
          assert.strictEqual((yield* failure(waiting))._tag, "MoqSessionClosed")
          assert.strictEqual((yield* Effect.flip(session.subscribe(["a"])))._tag, "MoqSessionClosed")
          if (!away) assert.strictEqual((yield* world.peer().closed).code, by === "close" ? 69 : 0)
          yield* pass("1 minute")
          assert.lengthOf(world.attempts, 1)
          assert.strictEqual(world.held(), 0)
          if (by === "close") yield* world.leave()
        }
      }
    }))

  it.effect("makes no other attempt once it closes, however soon the next one would be", () =>
    Effect.gen(function*() {
      for (const by of ["close", "scope", "clean scope"]) {
        const world = yield* start({ client: { schedule: Schedule.forever } })
        yield* world.serve(yield* Router.make)
        const session = yield* world.open
        yield* by === "close" ? session.close() : world.leave(by === "scope" ? Exit.interrupt() : Exit.void)
        yield* settle
        assert.lengthOf(world.attempts, 1, by)
        if (by === "close") yield* world.leave()
      }
    }))

  it.effect("makes no other attempt when the connection is lost while it lets what is in flight arrive", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: Schedule.forever } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const track = yield* Track.make(["a"])
      yield* session.publish(track.track)
      const reading = yield* read(yield* world.peer().subscribe(["a"]))
      yield* (yield* track.appendGroup).writeFrame(bytes("open"))
      yield* settle
      const leaving = yield* Effect.forkChild(world.leave())
      yield* settle
      assert.isTrue(goesOn(leaving))
      yield* world.cut
      yield* settle
      yield* settle
      assert.isFalse(goesOn(leaving))
      assert.lengthOf(world.attempts, 1)
      assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqSessionClosed")
    }))

  it.effect("leaves nothing of an attempt that failed", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const network = yield* Memory.makeNetwork()
      const silent = yield* network.listen()
      yield* Effect.forkScoped(Stream.runForEach(silent.requests, ({ accept }) => accept))
      let closed = 0
      const opening = yield* Effect.forkChild(
        Session.reconnect("https://silent.example", { schedule: every("1 second") }).pipe(
          Effect.provideService(Transport, {
            connect: (url, options) =>
              Effect.tap(
                network.transport.connect(url, options),
                ({ closed: end }) => Effect.forkDetach(Effect.andThen(end, Effect.sync(() => closed++)))
              )
          }),
          Effect.scoped
        )
      )
      yield* settle
      for (let attempt = 1; attempt < 4; attempt++) {
        yield* pass("5 seconds")
        assert.strictEqual(closed, attempt)
        yield* pass("1 second")
      }
      yield* Fiber.interrupt(opening)
      yield* world.leave()
    }))

  it.effect("leaves nothing behind, whenever it is interrupted while it connects", () =>
    Effect.gen(function*() {
      for (let steps = 0; steps < 60; steps += 2) {
        const world = yield* start({ client: { schedule: every("1 second") } })
        yield* world.serve(yield* Router.make)
        const opening = yield* Effect.forkChild(world.open, { startImmediately: true })
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(opening)
        yield* world.leave(Exit.interrupt())
        yield* settle
        assert.strictEqual(world.held(), 0, `after ${steps} steps`)
        for (const session of world.sessions) assert.strictEqual((yield* session.closed).by, "remote")
      }
    }))

  it.effect("makes no other attempt when it is given up while it waits", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const opening = yield* Effect.forkChild(world.open)
      yield* settle
      yield* Fiber.interrupt(opening)
      yield* world.leave(Exit.interrupt())
      yield* pass("1 minute")
      assert.lengthOf(world.attempts, 1)
    }))
})

describe("Session.reconnect: what it offers", () => {
  it.effect("is served again: the routes, and what they announce", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const log: Array<string> = []
      yield* session.route(["made"], (path) =>
        Effect.gen(function*() {
          log.push("made")
          yield* Effect.addFinalizer(() => Effect.sync(() => log.push("gone")))
          const track = yield* Track.make(path)
          track.appendGroupUnsafe()?.writeFrameUnsafe(bytes("here"))
          return track.track
        }))
      yield* session.announce(["made", "one"])
      for (let connection = 1; connection < 3; connection++) {
        const announced = yield* world.peer().announced().pipe(Stream.take(1), Stream.runCollect)
        assert.deepStrictEqual(announced, [{ _tag: "Active", path: ["made", "one"] }])
        const { log: seen } = yield* read(yield* world.peer().subscribe(["made", "one"]))
        yield* settle
        assert.deepStrictEqual(seen, ["0:here"])
        yield* world.cut
        yield* pass("1 second")
      }
      assert.deepStrictEqual(log, ["made", "gone", "made", "gone"])
    }))

  it.effect("outlives the connection: it can be written to meanwhile, and is announced and served again", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const track = yield* (yield* session.broadcast(["room"])).track("clock")
      yield* group(track, 0)
      yield* world.cut
      yield* group(track, 1)
      yield* pass("1 second")
      yield* group(track, 2)
      const announced = yield* world.peer().announced().pipe(Stream.take(1), Stream.runCollect)
      assert.deepStrictEqual(announced, [{ _tag: "Active", path: ["room", "clock"] }])
      const { log } = yield* read(yield* world.peer().subscribe(["room", "clock"], { from: 0 }))
      yield* settle
      assert.deepStrictEqual([...log].sort(), ["0.", "0:0", "1.", "1:1", "2.", "2:2"])
    }))

  it.effect("fails with SessionClosed when it gives up", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: Schedule.recurs(0) } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const track = yield* (yield* session.broadcast(["room"])).track("clock")
      const open = yield* track.appendGroup
      yield* world.shut
      assert.strictEqual((yield* Effect.flip(open.writeFrame(bytes("late"))))._tag, "MoqSessionClosed")
      assert.strictEqual((yield* Effect.flip(track.appendGroup))._tag, "MoqSessionClosed")
    }))

  it.effect("sends what has finished before its scope closes", () =>
    Effect.gen(function*() {
      const world = yield* start()
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const { close, value: track } = yield* owned(
        Effect.flatMap(session.broadcast([]), (broadcast) => broadcast.track("a"))
      )
      const { fiber, log } = yield* read(yield* world.peer().subscribe(["a"]))
      yield* settle
      const open = yield* track.appendGroup
      yield* open.writeFrame(bytes("last"))
      yield* close
      yield* Effect.forkChild(world.leave(), { startImmediately: true })
      yield* settle
      yield* pass("5 seconds")
      assert.deepStrictEqual(log, ["0:last", "0."])
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.void)
    }))
})

describe("Session.reconnect: subscriptions", () => {
  it.effect("go on with the next group; what was on its way fails, what was missed is a gap", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"], { cache: { maxAge: "500 millis" } })
      yield* group(track, 0)
      const reading = yield* read(yield* session.subscribe(["a"], { from: 0 }))
      yield* settle
      yield* group(track, 2)
      const open = yield* track.createGroup(3)
      yield* open.writeFrame(bytes("part"))
      yield* settle
      yield* world.cut
      assert.deepStrictEqual(reading.log, ["0:0", "0.", "2:2", "2.", "3:part", "3!MoqSessionClosed"])
      yield* open.finish
      yield* group(track, 4)
      yield* group(track, 5)
      yield* pass("1 second")
      yield* group(track, 6)
      assert.deepStrictEqual(reading.log.slice(6), ["1-1!4", "4-4!31", "5:5", "5.", "6:6", "6."])
      assert.isTrue(goesOn(reading.fiber))
      yield* track.close
      yield* settle
      assert.deepStrictEqual(reading.fiber.pollUnsafe(), Exit.void)
    }))

  it.effect("let go of what was read of a long group; who comes then gets all of it", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const long = yield* track.appendGroup
      const all: Array<number> = []
      const write = (count: number) =>
        Effect.gen(function*() {
          for (let i = 0; i < count; i++) {
            all.push(all.length & 255)
            yield* long.writeFrame(new Uint8Array(16 * 1024).fill(all.at(-1)!))
          }
          yield* settle
        })
      const watch = Effect.gen(function*() {
        const track = yield* session.subscribe(["a"])
        const got: Array<number> = []
        yield* Effect.forkScoped(Track.forEachFrame(track, (payload) => void got.push(payload[0]!)))
        yield* settle
        return { got, track }
      })
      yield* write(1)
      const first = yield* watch
      for (let i = 0; i < 20; i++) yield* write(10)
      assert.isAtLeast(first.track.group(0)!.first, 190)
      const late = yield* watch
      yield* write(3)
      for (const { got } of [first, late]) assert.deepStrictEqual(got, all)
      yield* world.leave()
    }))

  it.effect("get what is still cached when nothing had come yet", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const reading = yield* read(yield* session.subscribe(["a"], { from: 1 }))
      yield* settle
      yield* world.cut
      for (let i = 0; i < 3; i++) yield* group(track, i)
      yield* pass("1 second")
      assert.deepStrictEqual([...reading.log].sort(), ["1.", "1:1", "2.", "2:2"])
    }))

  it.effect("end as their publisher says", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const one = yield* offer(router, ["one"])
      const two = yield* offer(router, ["two"])
      const finished = yield* read(yield* session.subscribe(["one"]))
      const failed = yield* read(yield* session.subscribe(["two"]))
      yield* settle
      yield* world.cut
      yield* pass("1 second")
      yield* group(one, 0)
      yield* one.finish
      yield* two.fail(new App({ code: 7 }))
      yield* settle
      assert.deepStrictEqual(finished.fiber.pollUnsafe(), Exit.void)
      assert.deepStrictEqual(finished.log, ["0:0", "0."])
      const error = yield* failure(failed.fiber)
      assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 7])
    }))

  it.effect("tell a publisher that was interrupted from a server that lets go of its tracks before it closes", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      yield* group(track, 0)
      const reading = yield* read(yield* session.subscribe(["a"]))
      yield* settle
      yield* track.fail(new Cancelled({}))
      yield* settle
      const after = yield* Router.make
      const again = yield* offer(after, ["a"], { first: 1 })
      yield* world.serve(after)
      yield* pass("1 second")
      yield* group(again, 1)
      assert.deepStrictEqual(reading.log, ["0:0", "0.", "1:1", "1."])
      yield* again.fail(new Cancelled({}))
      yield* settle
      yield* pass("1 second")
      assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqCancelled")
    }))

  it.effect("wait for a publisher that comes back later than they do", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const before = yield* offer(router, ["a"])
      yield* group(before, 0)
      const reading = yield* read(yield* session.subscribe(["a"]))
      yield* settle
      yield* world.serve(yield* Router.make)
      const later = yield* Router.make
      yield* world.serve(later)
      yield* pass("1 second")
      assert.strictEqual(world.sessions.length, 2)
      yield* pass("1 minute")
      assert.isTrue(goesOn(reading.fiber))
      const after = yield* offer(later, ["a"], { first: 1 })
      yield* group(after, 1)
      yield* settle
      assert.deepStrictEqual(reading.log, ["0:0", "0.", "1:1", "1."])
    }))

  it.effect("wait for it also when the server does not know yet that it has gone", () =>
    Effect.gen(function*() {
      for (const gone of [new Remote({ code: 4 }), new Cancelled({})]) {
        const world = yield* start({ client: { schedule: every("1 second") } })
        const router = yield* Router.make
        yield* world.serve(router)
        const session = yield* world.open
        const track = yield* offer(router, ["a"])
        yield* group(track, 0)
        const reading = yield* read(yield* session.subscribe(["a"]))
        yield* settle
        const next = yield* Router.make
        const ghost = yield* owned(next.add({
          ...Router.fromTrack(track.track),
          subscribe: () => Effect.fail(gone)
        }))
        yield* world.serve(next)
        yield* pass("1 second")
        yield* ghost.close
        const again = yield* offer(next, ["a"], { first: 1 })
        yield* group(again, 1)
        assert.deepStrictEqual(reading.log, ["0:0", "0.", "1:1", "1."])
        yield* world.shut
      }
    }))

  it.effect("fail when the server refuses them on the next connection", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const reading = yield* read(yield* session.subscribe(["a"]))
      yield* settle
      const next = yield* Router.make
      yield* next.add({
        ...Router.fromTrack(track.track),
        subscribe: () => Effect.fail(new App({ code: 9 }))
      })
      yield* world.serve(next)
      yield* pass("1 second")
      const error = yield* failure(reading.fiber)
      assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 9])
    }))

  it.effect("go on with a publisher that has begun anew, under numbers that never go back", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const before = yield* offer(router, ["a"])
      for (let i = 0; i < 8; i++) yield* group(before, i, "old")
      const subscription = yield* session.subscribe(["a"], { to: 11, order: "asc" })
      const reading = yield* read(subscription)
      yield* settle
      const again = yield* Router.make
      yield* world.serve(again)
      const after = yield* offer(again, ["a"])
      yield* group(after, 0, "new")
      yield* group(after, 1, "new")
      yield* pass("1 second")
      yield* group(after, 2, "new")
      yield* world.cut
      yield* pass("1 second")
      yield* group(after, 3, "new")
      yield* group(after, 4, "new")
      assert.deepStrictEqual(
        reading.log,
        [7, 8, 9, 10, 11].flatMap((sequence) => [`${sequence}:${sequence === 7 ? "old" : "new"}`, `${sequence}.`])
      )
      // all of the range is here
      assert.deepStrictEqual(reading.fiber.pollUnsafe(), Exit.void)
    }))

  it.effect("go on at once when a relay evicts them because their publisher has begun anew", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const old = yield* offer(router, ["a"])
      for (let i = 0; i < 8; i++) yield* group(old, i, "old")
      const { fiber, log } = yield* read(yield* session.subscribe(["a"]))
      yield* settle
      const open = yield* old.createGroup(9)
      yield* open.writeFrame(bytes("part"))
      yield* settle
      yield* old.fail(new Evicted({}))
      yield* old.close
      const next = yield* offer(router, ["a"], { cache: { maxAge: "1 second" } })
      yield* group(next, 0, "new")
      // nobody has moved the clock, and the connection is the same
      const part = ["9:part", "9!MoqEvicted"]
      assert.deepStrictEqual(log, ["7:old", "7.", ...part, "8-8!31", "10:new", "10."])
      yield* group(next, 1, "new")
      assert.deepStrictEqual(log.slice(7), ["11:new", "11."])
      assert.lengthOf(world.attempts, 1)
      // and over the next connection
      yield* world.cut
      yield* pass("1 second")
      yield* group(next, 2, "new")
      assert.deepStrictEqual(log.slice(9), ["12:new", "12."])
      assert.isTrue(goesOn(fiber))
    }))

  it.effect("wait for a publisher that has begun anew and is not there yet", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const old = yield* offer(router, ["a"])
      yield* group(old, 0, "old")
      const { log } = yield* read(yield* session.subscribe(["a"]))
      yield* settle
      yield* old.fail(new Evicted({}))
      yield* old.close
      yield* pass("1 minute")
      const next = yield* offer(router, ["a"])
      yield* group(next, 0, "new")
      assert.deepStrictEqual(log, ["0:old", "0.", "1:new", "1."])
    }))

  it.effect("ask less and less often when they are evicted again before anything has come", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* Track.make(["a"])
      yield* group(track, 0)
      let asked = 0
      yield* router.add({
        ...Router.fromTrack(track.track),
        subscribe: (request) =>
          Effect.gen(function*() {
            asked++
            const evicted = yield* Track.make(["a"], { first: 5 })
            yield* Effect.forkChild(Effect.andThen(Effect.yieldNow, evicted.fail(new Evicted({}))))
            return Subscription.make(evicted.track, request)
          })
      })
      const reading = yield* read(yield* session.subscribe(["a"]))
      yield* settle
      const counts: Array<number> = []
      for (let second = 0; second < 8; second++) {
        counts.push(asked)
        yield* pass("1 second")
      }
      // once at once, then after 1, 2 and 4 seconds
      assert.deepStrictEqual(counts, [2, 3, 3, 4, 4, 4, 4, 5])
      assert.isTrue(goesOn(reading.fiber))
    }))

  it.effect("ask for no more when all of their range was here", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const subscription = yield* session.subscribe(["a"], { from: 0, to: 1 })
      const reading = yield* read(subscription)
      yield* settle
      yield* group(track, 0)
      const open = yield* track.createGroup(1)
      yield* open.writeFrame(bytes("part"))
      yield* settle
      yield* world.cut
      assert.deepStrictEqual(reading.log, ["0:0", "0.", "1:part", "1!MoqSessionClosed"])
      assert.deepStrictEqual(reading.fiber.pollUnsafe(), Exit.void)
      let asked = 0
      const counting = yield* Router.make
      yield* counting.add({
        ...Router.fromTrack(track.track),
        subscribe: (request) =>
          Effect.suspend(() => {
            asked++
            return Router.fromTrack(track.track).subscribe(request)
          })
      })
      yield* world.serve(counting)
      yield* pass("1 second")
      yield* session.ping
      assert.strictEqual(asked, 0)
      assert.deepStrictEqual(subscription.end, Exit.void)
    }))

  it.effect("fail with SessionClosed when the session gives up", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: Schedule.recurs(1) } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      yield* offer(router, ["a"])
      const subscription = yield* session.subscribe(["a"])
      const reading = yield* read(subscription)
      yield* settle
      yield* world.shut
      yield* pass("1 second")
      assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqSessionClosed")
      assert.strictEqual((yield* Effect.flip(subscription.update({ priority: 3 })))._tag, "MoqSessionClosed")
    }))

  it.effect("carry a frame as it grows, and chunks as they are", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const subscription = yield* session.subscribe(["a"])
      const pull = yield* subscription.reader()
      yield* settle
      const open = yield* track.appendGroup
      yield* open.writeFrame(bytes("whole"))
      const growing = yield* open.createFrame(6)
      yield* growing.write(bytes("abc"))
      yield* settle
      const [event] = yield* pull
      if (event._tag !== "Group") return assert.fail("no group")
      const frames = yield* Effect.flatten(event.reader)
      assert.deepStrictEqual(frames.map(({ isComplete, size }) => [size, isComplete]), [[5, true], [6, false]])
      const chunks: Array<string> = []
      yield* Effect.forkChild(
        Stream.runForEach(frames[1]!.chunks, (chunk) => Effect.sync(() => chunks.push(text(chunk)))),
        { startImmediately: true }
      )
      yield* settle
      assert.deepStrictEqual(chunks, ["abc"])
      yield* growing.write(bytes("def"))
      yield* settle
      assert.deepStrictEqual(chunks, ["abc", "def"])
      yield* open.writeFrame(bytes("after"))
      yield* open.finish
      yield* settle
      const all = yield* Stream.runCollect(event.frames)
      assert.deepStrictEqual(all.map(text), ["whole", "abcdef", "after"])
    }))

  it.effect("pass on what is changed of them, at once or with the next connection", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const subscription = yield* session.subscribe(["a"], { from: 0 })
      const reading = yield* read(subscription)
      yield* settle
      yield* group(track, 0)
      yield* subscription.update({ priority: 5, to: 9 })
      yield* settle
      yield* world.cut
      yield* subscription.update({ to: 3, from: 3 })
      assert.deepStrictEqual([subscription.request.priority, subscription.request.to], [5, 3])
      yield* pass("1 second")
      for (let i = 1; i < 6; i++) yield* group(track, i)
      assert.deepStrictEqual(reading.log.filter((entry) => entry.includes(":")), ["0:0", "3:3"])
      assert.deepStrictEqual(reading.fiber.pollUnsafe(), Exit.void)
    }))

  it.effect("pass on what is changed while they are asked for again", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const subscription = yield* session.subscribe(["a"])
      const slow = yield* Router.make
      yield* slow.add({
        ...Router.fromTrack(track.track),
        subscribe: (request) => Effect.delay(Router.fromTrack(track.track).subscribe(request), "3 seconds")
      })
      yield* world.serve(slow)
      yield* pass("1 second")
      yield* subscription.update({ to: 0 })
      yield* pass("3 seconds")
      const used = yield* Effect.forkChild(track.unused)
      yield* settle
      assert.isTrue(goesOn(used))
      yield* group(track, 0)
      yield* pass("6 seconds")
      // all that is wanted has been sent
      assert.isFalse(goesOn(used))
      assert.deepStrictEqual(subscription.end, Exit.void)
    }))

  it.effect("fail with Cancelled for whoever still reads them when they are left", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      yield* offer(router, ["a"])
      const { close, value } = yield* owned(session.subscribe(["a"]))
      const reading = yield* read(value)
      yield* close
      assert.strictEqual((yield* failure(reading.fiber))._tag, "MoqCancelled")
    }))

  it.effect("leave nothing behind of the connections that they outlive", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      const { scope } = yield* owned(session.subscribe(["a"]))
      const inScope = () => (scope.state._tag === "Open" ? scope.state.finalizers?.size ?? 0 : 0)
      yield* settle
      const before = inScope()
      for (let connection = 0; connection < 5; connection++) {
        yield* group(track, connection)
        yield* world.cut
        yield* pass("1 second")
      }
      assert.strictEqual(inScope(), before)
    }))

  it.effect("leave nothing behind, whenever they are left", () =>
    Effect.gen(function*() {
      for (let steps = 0; steps < 120; steps += 3) {
        const world = yield* start({ client: { schedule: every("1 second") } })
        const router = yield* Router.make
        yield* world.serve(router)
        const session = yield* world.open
        const track = yield* offer(router, ["a"])
        yield* group(track, 0)
        const viewer = yield* Effect.forkChild(
          Effect.scoped(Effect.flatMap(session.subscribe(["a"]), (track) => Stream.runDrain(track.frames))),
          { startImmediately: true }
        )
        const cut = steps % 2 === 0
        if (cut) {
          yield* settle
          yield* world.cut
          yield* TestClock.adjust("1 second")
        }
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(viewer)
        yield* settle
        yield* pass("6 seconds")
        // the session's own stream
        assert.strictEqual(world.held(), 1, `after ${steps} steps`)
        yield* world.leave(Exit.interrupt())
        assert.strictEqual(world.held(), 0)
        yield* world.shut
      }
    }))
})

describe("Session.reconnect: requests", () => {
  it.effect("wait for a connection, for as long as a request may take", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("8 seconds") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      yield* group(track, 0)
      const requests = Effect.all([
        Effect.forkChild(Effect.flip(session.trackInfo(["a"]))),
        Effect.forkChild(Effect.flip(Effect.scoped(session.fetch(["a"], 0)))),
        Effect.forkChild(Effect.flip(Effect.scoped(session.subscribe(["a"]))))
      ])
      yield* world.shut
      const tooLong = yield* requests
      const patient = yield* Effect.forkChild(session.subscribe(["a"], { wait: "30 seconds" }))
      yield* settle
      yield* pass("10 seconds")
      const errors = yield* Effect.all([Fiber.join(tooLong[0]), Fiber.join(tooLong[1]), Fiber.join(tooLong[2])])
      for (const error of errors) assert.strictEqual(error._tag, "MoqTimeout")
      assert.isTrue(goesOn(patient))
      const inTime = yield* Effect.all([
        Effect.forkChild(session.trackInfo(["a"])),
        Effect.forkChild(
          Effect.scoped(Effect.flatMap(session.fetch(["a"], 0), (group) => Stream.runCollect(group.frames)))
        )
      ])
      yield* world.serve(router)
      yield* pass("8 seconds")
      assert.strictEqual((yield* Fiber.join(inTime[0])).latest, 0)
      assert.deepStrictEqual((yield* Fiber.join(inTime[1])).map(text), ["0"])
      const { log } = yield* read(yield* Fiber.join(patient))
      yield* settle
      assert.deepStrictEqual(log, ["0:0", "0."])
    }))

  it.effect("wait for a track no longer than they say, however long it takes to connect", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("12 seconds") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      yield* world.shut
      const patient = yield* Effect.forkChild(Effect.flip(session.subscribe(["a"], { wait: "20 seconds" })))
      yield* settle
      yield* world.serve(router)
      yield* pass("12 seconds")
      yield* pass("7 seconds")
      assert.isTrue(goesOn(patient))
      yield* pass("1 second")
      assert.strictEqual((yield* Fiber.join(patient))._tag, "MoqNotFound")
    }))

  it.effect("are made again when the connection is lost before the answer", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const slow = yield* Router.make
      yield* slow.add({
        path: ["a"],
        subscribe: () => Effect.never,
        trackInfo: Effect.never,
        fetch: () => Effect.never
      })
      yield* world.serve(slow)
      const session = yield* world.open
      const info = yield* Effect.forkChild(session.trackInfo(["a"]))
      const subscription = yield* Effect.forkChild(session.subscribe(["a"]))
      yield* settle
      const quick = yield* Router.make
      const track = yield* offer(quick, ["a"])
      yield* group(track, 0)
      yield* world.serve(quick)
      yield* pass("1 second")
      assert.strictEqual((yield* Fiber.join(info)).latest, 0)
      const { log } = yield* read(yield* Fiber.join(subscription))
      yield* settle
      assert.deepStrictEqual(log, ["0:0", "0."])
    }))

  it.effect("fail as they do on any session", () =>
    Effect.gen(function*() {
      const world = yield* start()
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const errors = yield* Effect.all([
        Effect.flip(session.subscribe(["nobody"])),
        Effect.flip(session.trackInfo(["nobody"])),
        Effect.flip(session.fetch(["nobody"], 0)),
        Effect.flip(session.subscribe([])),
        Effect.flip(Stream.runDrain(session.announced(["x".repeat(1024)])))
      ])
      assert.deepStrictEqual(
        errors.map(({ _tag }) => _tag),
        ["MoqNotFound", "MoqNotFound", "MoqNotFound", "MoqBoundsExceeded", "MoqBoundsExceeded"]
      )
    }))

  it.effect("leave nothing behind when they are interrupted", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const track = yield* offer(router, ["a"])
      yield* group(track, 0)
      const requests: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        session.trackInfo(["a"]),
        Effect.scoped(Effect.flatMap(session.fetch(["a"], 0), (group) => Stream.runDrain(group.frames))),
        Stream.runDrain(session.announced()),
        Effect.scoped(session.subscribe(["b"], { wait: "1 minute" }))
      ]
      for (const request of requests) {
        for (let steps = 0; steps < 60; steps += 3) {
          const fiber = yield* Effect.forkChild(request, { startImmediately: true })
          for (let i = 0; i < steps; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(fiber)
          yield* settle
          yield* pass("6 seconds")
          assert.strictEqual(world.held(), 1)
        }
      }
    }))

  it.effect("tell the next connection, too, how fast this side can send, and hear how fast the other can", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      yield* world.serve(yield* Router.make)
      const session = yield* world.open
      const heard: Array<number | undefined> = []
      const hearing = yield* Effect.forkChild(
        Stream.runForEach(session.bitrate, (bits) => Effect.sync(() => heard.push(bits))),
        { startImmediately: true }
      )
      yield* settle
      const peerHears = Effect.map(
        Effect.suspend(() => Stream.runCollect(Stream.take(world.peer().bitrate, 1))),
        ([bits]) => bits
      )
      yield* session.reportBitrate(1_000)
      yield* world.peer().reportBitrate(5_000)
      assert.strictEqual(yield* peerHears, 1_000)
      yield* world.cut
      yield* pass("1 second")
      assert.strictEqual(yield* peerHears, 1_000)
      yield* world.cut
      yield* session.reportBitrate(2_000)
      yield* pass("1 second")
      assert.strictEqual(yield* peerHears, 2_000)
      yield* world.peer().reportBitrate(6_000)
      yield* settle
      assert.deepStrictEqual(heard, [5_000, 6_000])
      yield* session.close()
      yield* Fiber.join(hearing)
      assert.strictEqual((yield* Effect.flip(session.reportBitrate(1)))._tag, "MoqSessionClosed")
    }))

  it.effect("announced tells what has vanished, and does not repeat what is still there", () =>
    Effect.gen(function*() {
      const world = yield* start({ client: { schedule: every("1 second") } })
      const before = yield* Router.make
      yield* offer(before, ["room", "stays"])
      yield* offer(before, ["room", "goes"])
      yield* world.serve(before)
      const session = yield* world.open
      const heard: Array<string> = []
      const listening = yield* Effect.forkChild(Stream.runForEach(session.announced(["room"]), (event) =>
        Effect.sync(() =>
          heard.push(event._tag === "Live" ? "live" : `${event._tag} ${event.path.at(-1)}`)
        )))
      yield* settle
      assert.deepStrictEqual(heard, ["Active stays", "Active goes", "live"])
      const after = yield* Router.make
      yield* offer(after, ["room", "comes"])
      yield* offer(after, ["room", "stays"])
      yield* world.serve(after)
      yield* pass("1 second")
      assert.deepStrictEqual(heard.slice(3), ["Active comes", "Ended goes"])
      const late = yield* offer(after, ["room", "late"])
      yield* settle
      yield* late.close
      yield* settle
      assert.deepStrictEqual(heard.slice(5), ["Active late", "Ended late"])
      // neither a server that says no more is an end of the stream, nor one that goes cleanly
      const silent: Router.Router = Object.create(after, {
        announced: {
          value: () =>
            Stream.make(Announced.active(["room", "last"]), Announced.live("marker"))
        }
      })
      yield* world.serve(silent)
      yield* pass("1 second")
      assert.deepStrictEqual([...heard.slice(7)].sort(), ["Active last", "Ended comes", "Ended stays"])
      heard.length = 7
      yield* world.peer().close()
      yield* settle
      yield* pass("1 second")
      assert.isTrue(goesOn(listening))
      assert.lengthOf(heard, 7)
    }))
})

describe("Session.reconnect: a relay that stops", () => {
  it.effect("is lost as a whole: no track ends, nothing is announced as ended", () =>
    Simulator.run(
      Effect.gen(function*() {
        const network = yield* Simulator.Network
        const relay = yield* network.host("relay")
        const near = yield* network.host("near")
        const far = yield* network.host("far")
        const first = yield* owned(relay.serve(Relay.make()))
        const connect = Session.reconnect(relay.url, { schedule: every("1 second") })
        const before = yield* far.provide(Session.connect(relay.url))
        const publisher = yield* near.provide(connect)
        const track = yield* (yield* publisher.broadcast(["room"])).track("one")
        const viewer = yield* far.provide(connect)
        const after = yield* far.provide(Session.connect(relay.url))
        const { heard } = yield* Relays.listen(viewer)
        const reading = yield* read(yield* viewer.subscribe(["room", "one"], { wait: "1 second" }))
        const plain = yield* Effect.forEach([before, after], (session) =>
          Effect.flatMap(session.subscribe(["room", "one"]), read))
        yield* Effect.sleep("1 second")
        yield* group(track, 0)
        yield* Effect.sleep("1 second")
        yield* first.close
        yield* Effect.sleep("500 millis")
        for (const { fiber } of plain) {
          assert.strictEqual((yield* failure(fiber))._tag, "MoqSessionClosed")
        }
        assert.deepStrictEqual(heard, ["+room/one", "live"])
        yield* group(track, 1)
        yield* relay.serve(Relay.make())
        yield* Effect.sleep("2 seconds")
        yield* group(track, 2)
        yield* Effect.sleep("1 second")
        assert.deepStrictEqual([...reading.log].sort(), ["0.", "0:0", "1.", "1:1", "2.", "2:2"])
      }),
      { latency: "50 millis" }
    ))
})
