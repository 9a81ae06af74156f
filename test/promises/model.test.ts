/** What is promised of tracks, groups and frames, as a user would write it: in one program, and between two sessions. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Pull, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { type Announced, Broadcast, type Group, MoqError, Router, Track } from "../../src/index.ts"
import { bytes, owned, pair, settle, text } from "../session/sessions.ts"

/** Writes one whole group. */
const say = (track: Track.Producer, ...words: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const group = yield* track.appendGroup
    for (const word of words) yield* group.writeFrame(bytes(word))
    yield* group.finish
  })

/** All frames, until the end. */
const collect = <E>(frames: Stream.Stream<Uint8Array, E>) =>
  Effect.map(Stream.runCollect(frames), (frames) => frames.map(text))

/** Reads while the test goes on: what has come so far, and how it ended. */
const reading = <A, E>(stream: Stream.Stream<A, E>, show: (a: A) => string) =>
  Effect.gen(function*() {
    const got: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(stream, (a) => Effect.sync(() => void got.push(show(a)))),
      { startImmediately: true }
    )
    yield* settle
    return { got, fiber }
  })

const ended = <A, E>({ fiber }: { readonly fiber: Fiber.Fiber<A, E> }) => fiber.pollUnsafe()

const sequence = (group: Group.Group): string => String(group.sequence)

const event = (event: Track.Event): string =>
  event._tag === "Group" ? String(event.sequence) : `${event.from}-${event.to}!${event.code}`

const announced = (event: Announced.Announced): string =>
  event._tag === "Live" ? "live" : `${event._tag === "Active" ? "+" : "-"}${event.path.join("/")}`

describe("promise 2: a broadcast has any number of tracks, each with its own priority and order", () => {
  it.effect("and each is asked for by itself", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const broadcast = yield* server.broadcast(["room", "alice"])
      for (let i = 0; i < 50; i++) {
        const track = yield* broadcast.track(`${i}`, { priority: i - 25, order: i % 2 === 0 ? "asc" : "desc" })
        yield* say(track, `frame of ${i}`)
      }
      const alice = Broadcast.consume(client, ["room", "alice"])
      for (const i of [0, 17, 49]) {
        const track = yield* alice.subscribe(`${i}`)
        assert.deepStrictEqual([track.info.priority, track.info.order], [i - 25, i % 2 === 0 ? "asc" : "desc"])
        assert.deepStrictEqual((yield* reading(track.frames, text)).got, [`frame of ${i}`])
      }
    }))

  it.effect("and a path has one publisher: a second one is Duplicate", () =>
    Effect.gen(function*() {
      const { server } = yield* pair()
      const broadcast = yield* server.broadcast(["room"])
      const first = yield* owned(broadcast.track("clock"))
      assert.instanceOf(yield* Effect.flip(broadcast.track("clock")), MoqError.Duplicate)
      const other = yield* Track.make(["room", "clock"])
      assert.instanceOf(yield* Effect.flip(server.publish(other.track)), MoqError.Duplicate)
      assert.instanceOf(yield* Effect.flip(server.announce(["room", "clock"])), MoqError.Duplicate)
      yield* first.close
      yield* server.publish(other.track)
    }))
})

describe("promise 3: groups are appended, or created with a sequence", () => {
  it.effect("out of order and in parallel, and each comes whole", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["t"], { order: "asc" })
      yield* server.publish(track.track)
      const watched = yield* client.subscribe(["t"], { from: 0 })
      const groups = yield* Effect.forkScoped(
        Stream.runCollect(Stream.mapEffect(watched.groups, (group) =>
          Effect.map(collect(group.frames), (frames) =>
            [group.sequence, ...frames] as const), { concurrency: 5 }))
      )
      const open = yield* Effect.forEach([4, 0, 2], track.createGroup)
      for (const word of ["a", "b"]) {
        for (const group of open) {
          yield* group.writeFrame(bytes(`${group.sequence}${word}`))
        }
      }
      for (const group of open) {
        yield* group.finish
      }
      assert.strictEqual((yield* track.appendGroup).sequence, 5)
      assert.instanceOf(yield* Effect.flip(track.createGroup(2)), MoqError.Duplicate)
      yield* track.finish
      yield* settle
      assert.deepStrictEqual(
        [...(yield* Fiber.join(groups))].sort(([a], [b]) =>
          a - b
        ),
        [
          [0, "0a", "0b"],
          [2, "2a", "2b"],
          [4, "4a", "4b"],
          [5]
        ]
      )
    }))

  it.effect("and whoever joins begins at the first frame of a group", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["t"])
      yield* server.publish(track.track)
      yield* say(track, "old")
      const group = yield* track.appendGroup
      yield* group.writeFrame(bytes("first"))
      yield* group.writeFrame(bytes("second"))
      const joined = yield* reading((yield* client.subscribe(["t"])).frames, text)
      yield* group.writeFrame(bytes("third"))
      yield* settle
      assert.deepStrictEqual(joined.got, ["first", "second", "third"])
    }))
})

describe("promise 4: a frame is written whole, or in chunks of a size that is told before", () => {
  it.effect("and arrives as it was written", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["t"])
      yield* server.publish(track.track)
      const group = yield* track.appendGroup
      yield* group.writeFrame(bytes("whole"))
      const frame = yield* group.createFrame(6)
      yield* frame.write(bytes("in "))
      const watched = yield* client.subscribe(["t"])
      yield* settle
      const received = yield* Stream.runHead(watched.groups)
      assert(received._tag === "Some")
      const [whole, growing] = yield* yield* received.value.reader
      assert.strictEqual(text(whole.payload!), "whole")
      // the chunks come as they are written, before the frame is complete
      assert(growing !== undefined)
      const chunks = yield* reading(growing.chunks, text)
      assert.deepStrictEqual([growing.size, chunks.got], [6, ["in "]])
      yield* frame.write(bytes("two"))
      assert.strictEqual(text(yield* growing.bytes), "in two")
      yield* settle
      assert.deepStrictEqual(chunks.got, ["in ", "two"])
    }))

  it.effect("and too many bytes are WrongSize, and so are too few", () =>
    Effect.gen(function*() {
      const track = yield* Track.make(["t"])
      const group = yield* track.appendGroup
      const frame = yield* group.createFrame(3)
      assert.instanceOf(yield* Effect.flip(frame.write(bytes("four"))), MoqError.WrongSize)
      yield* frame.write(bytes("in"))
      assert.instanceOf(yield* Effect.flip(frame.finish), MoqError.WrongSize)
      assert.instanceOf(yield* Effect.flip(group.writeFrame(bytes("next"))), MoqError.WrongSize)
      const reader = yield* reading(group.group.frames, text)
      assert.instanceOf(yield* Effect.flip(group.finish), MoqError.WrongSize)
      assert.instanceOf(yield* Effect.flip(Fiber.join(reader.fiber)), MoqError.WrongSize)
    }))
})

describe("promise 5: producing never waits", () => {
  it.effect("without a reader, or with one that does not read, within the limits of the cache", () =>
    Effect.gen(function*() {
      const track = yield* Track.make(["t"], { cache: { maxBytes: 1_000 } })
      yield* track.track.reader()
      // what would suspend would still be there when it is looked at, without a turn of any other fiber
      for (let i = 0; i < 100; i++) {
        const written = yield* Effect.forkChild(say(track, "x".repeat(100)), { startImmediately: true })
        assert.deepStrictEqual(ended({ fiber: written }), Exit.void)
      }
      const late = yield* track.track.reader({ from: 0 })
      const [gone, ...kept] = yield* late
      assert.deepStrictEqual([event(gone), kept.length], ["0-89!31", 10])
    }))

  it.effect("but a Stream may be told to wait for the slowest reader", () =>
    Effect.gen(function*() {
      const track = yield* Track.make(["t"])
      const reader = yield* Stream.toPull(Stream.rechunk(track.track.frames, 1))
      const first = yield* Effect.forkChild(reader, { startImmediately: true })
      const words = Stream.rechunk(Stream.map(Stream.make("a", "b", "c"), bytes), 1)
      const sinking = yield* Effect.forkChild(
        Stream.run(words, track.sink({ group: { frames: 2 }, overflow: "suspend" })),
        { startImmediately: true }
      )
      yield* settle
      const got = [...(yield* Fiber.join(first))].map(text)
      for (let i = 0; i < 2; i++) {
        assert.isUndefined(ended({ fiber: sinking }))
        got.push(...(yield* reader).map(text))
        yield* settle
      }
      yield* Fiber.join(sinking)
      assert.deepStrictEqual(got, ["a", "b", "c"])
    }))

  it.effect("or to fail rather than drop what a reader has not taken", () =>
    Effect.gen(function*() {
      const track = yield* Track.make(["t"], { cache: { maxBytes: 1_000 } })
      const slow = yield* track.track.reader()
      const frames = Stream.map(Stream.range(1, 100), () => new Uint8Array(100))
      const error = yield* Effect.flip(Stream.run(frames, track.sink({ group: { frames: 1 }, overflow: "fail" })))
      assert.instanceOf(error, MoqError.Overflow)
      assert.strictEqual((yield* slow).length, 10)
    }))
})

describe("promise 6: every reader has its own pace", () => {
  it.effect("and a slow one slows nobody", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["t"], { order: "asc" })
      yield* server.publish(track.track)
      const fast = yield* reading((yield* client.subscribe(["t"], { from: 0 })).frames, text)
      // it takes one frame, and then nothing
      yield* Effect.forkScoped(Stream.runForEach((yield* client.subscribe(["t"])).frames, () => Effect.never))
      const late = yield* client.subscribe(["t"], { from: 0 })
      const words = Array.from({ length: 20 }, (_, i) => `${i}`)
      for (const word of words) {
        yield* say(track, word)
        yield* settle
      }
      assert.deepStrictEqual(fast.got, words)
      assert.deepStrictEqual((yield* reading(late.events, event)).got, words)
    }))
})

describe("promise 7: every wait ends in a value, the end, or a typed error", () => {
  it.effect("of a track that finishes, and of one that fails", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      for (const error of [undefined, new MoqError.App({ code: 7 })]) {
        const scope = yield* Scope.make()
        const track = yield* Scope.provide(Track.make(["t"]), scope)
        yield* Scope.provide(server.publish(track.track), scope)
        const watched = yield* client.subscribe(["t"])
        const pull = yield* watched.reader()
        const waiting = yield* Effect.forkChild(pull, { startImmediately: true })
        const frames = yield* reading(watched.frames, text)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("x"))
        assert.deepStrictEqual((yield* Fiber.join(waiting)).map(event), ["0"])
        const received = yield* reading(watched.group(0)!.frames, text)
        yield* error === undefined ? track.finish : track.fail(error)
        yield* settle
        const expected = error === undefined ? Exit.void : Exit.fail(error)
        for (const wait of [frames, received]) assert.deepStrictEqual(ended(wait)?._tag, expected._tag)
        assert.deepStrictEqual((yield* watched.ended)._tag, expected._tag)
        const end = yield* Pull.catchDone(Effect.asVoid(pull), () => Effect.void).pipe(Effect.exit)
        assert.deepStrictEqual(end._tag, expected._tag)
        assert.strictEqual(group.writeFrameUnsafe(bytes("too late")), false)
        yield* Scope.close(scope, Exit.void)
      }
    }))

  it.effect("of a publisher that is interrupted, and of a path that nobody publishes", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const scope = yield* Scope.make()
      const track = yield* Scope.provide(Track.make(["t"]), scope)
      yield* server.publish(track.track)
      const watching = yield* reading((yield* client.subscribe(["t"])).frames, text)
      yield* Scope.close(scope, Exit.failCause(Cause.interrupt()))
      yield* settle
      assert.instanceOf(yield* Effect.flip(Fiber.join(watching.fiber)), MoqError.Cancelled)
      assert.instanceOf(yield* Effect.flip(client.subscribe(["nobody"])), MoqError.NotFound)
      const waiting = yield* Effect.forkChild(Effect.flip(client.subscribe(["nobody"], { wait: "5 seconds" })))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      assert.instanceOf(yield* Fiber.join(waiting), MoqError.NotFound)
    }))

  it.effect("and groups come from the boundary and in the order that was asked for", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["t"])
      yield* server.publish(track.track)
      for (let i = 0; i < 5; i++) yield* say(track, `${i}`)
      const orders = { asc: ["2", "3", "4"], desc: ["4", "3", "2"] }
      for (const order of ["asc", "desc"] as const) {
        const watched = yield* owned(client.subscribe(["t"], { from: 2, to: 4, order }))
        const groups = yield* reading(watched.value.groups, sequence)
        assert.deepStrictEqual(groups.got, orders[order])
        assert.deepStrictEqual(ended(groups), Exit.void)
        yield* watched.close
        yield* settle
      }
      const latest = yield* client.subscribe(["t"])
      assert.deepStrictEqual((yield* reading(latest.groups, sequence)).got, ["4"])
    }))
})

describe("promise 8: being cut off is a failure, and only a publisher that finishes ends a track", () => {
  it.effect("whether the network dies or the peer leaves in the middle", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const finished = yield* Track.make(["finished"])
      const running = yield* Track.make(["running"])
      for (const track of [finished, running]) {
        yield* server.publish(track.track)
        yield* say(track, "frame")
      }
      const [one, other] = [
        yield* reading((yield* client.subscribe(["finished"])).frames, text),
        yield* reading((yield* client.subscribe(["running"])).frames, text)
      ]
      yield* finished.finish
      yield* settle
      yield* server.close(new MoqError.App({ code: 3 }))
      yield* settle
      assert.deepStrictEqual([one.got, other.got], [["frame"], ["frame"]])
      assert.deepStrictEqual(ended(one), Exit.void)
      const error = yield* Effect.flip(Fiber.join(other.fiber))
      assert(error._tag === "MoqSessionClosed")
      assert.deepStrictEqual([error.code, error.by], [67, "remote"])
    }))
})

describe("promise 9: who has which track is known as it changes", () => {
  it.effect("below a prefix, part by part: what is there, live, then who comes and goes", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const publish = (path: ReadonlyArray<string>) =>
        owned(Effect.flatMap(Track.make(path), ({ track }) => server.publish(track)))
      yield* publish(["room", "alice"])
      yield* publish(["room-2", "bob"])
      const room = yield* reading(client.announced(["room"]), announced)
      assert.deepStrictEqual(room.got, ["+room/alice", "live"])
      const carol = yield* publish(["room", "carol", "camera"])
      yield* publish(["other"])
      yield* settle
      yield* carol.close
      yield* settle
      assert.deepStrictEqual(room.got.slice(2), ["+room/carol/camera", "-room/carol/camera"])
    }))

  it.effect("a route makes a track when somebody asks, for as long as anybody does", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const log: Array<string> = []
      yield* server.route(["echo"], (path) =>
        Effect.gen(function*() {
          log.push(`made ${path[1]}`)
          yield* Effect.addFinalizer(() => Effect.sync(() => log.push(`closed ${path[1]}`)))
          if (path[1] === "nothing") return yield* new MoqError.NotFound({})
          const track = yield* Track.make(path)
          const group = yield* track.appendGroup
          group.writeFrameUnsafe(bytes(path[1]!))
          return track.track
        }))
      yield* server.announce(["echo", "hello"])
      assert.deepStrictEqual((yield* reading(client.announced(), announced)).got, ["+echo/hello", "live"])
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(client.subscribe(["echo", "hello"]), scope)
      const two = yield* Scope.provide(server.router.subscribe(["echo", "hello"]), scope)
      for (const { frames } of [one, two]) assert.deepStrictEqual((yield* reading(frames, text)).got, ["hello"])
      assert.deepStrictEqual(log, ["made hello"])
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(log, ["made hello", "closed hello"])
      assert.instanceOf(yield* Effect.flip(client.subscribe(["echo", "nothing"])), MoqError.NotFound)
      assert.instanceOf(yield* Effect.flip(client.subscribe(["elsewhere"])), MoqError.NotFound)
    }))

  it.effect("a publisher knows when it is used, when no longer, and when again", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair()
      const track = yield* Track.make(["t"])
      yield* server.publish(track.track)
      const log: Array<string> = []
      yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
        yield* track.used
        log.push("used")
        yield* track.unused
        log.push("unused")
      })))
      yield* settle
      for (let i = 0; i < 2; i++) {
        const [one, two] = [yield* owned(client.subscribe(["t"])), yield* owned(client.subscribe(["t"]))]
        yield* settle
        yield* one.close
        yield* settle
        assert.strictEqual(log.at(-1), "used")
        yield* two.close
        yield* settle
      }
      assert.deepStrictEqual(log, ["used", "unused", "used", "unused"])
    }))

  it.effect("in one program without a session, too", () =>
    Effect.gen(function*() {
      const router = yield* Router.make
      const waiting = yield* Effect.forkChild(router.subscribe(["t"], { wait: "1 minute" }))
      yield* settle
      const track = yield* Track.make(["t"])
      yield* router.publish(track.track)
      const frames = yield* reading((yield* Fiber.join(waiting)).frames, text)
      yield* say(track, "hello")
      yield* settle
      assert.deepStrictEqual(frames.got, ["hello"])
    }))
})
