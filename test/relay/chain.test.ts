import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Stream } from "effect"
import { TestClock } from "effect/testing"
import { App } from "../../src/core/MoqError.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { bytes, held, listen, publish, settle, start, text, view } from "./relays.ts"

const hello = ["room", "hello"]

const chain = Effect.gen(function*() {
  const network = yield* Memory.makeNetwork()
  const near = yield* start({}, { network, host: "a.example" })
  const far = yield* start({}, { network, host: "b.example" })
  const link = yield* near.connectBy("/room")
  yield* far.relay.origin.attach(link.session, ["from", "a"])
  yield* settle
  return { near, far, link }
})

describe("two relays in a row", () => {
  it.effect("pass on tracks, what is said of them, their ends, and who is there", () =>
    Effect.gen(function*() {
      const { near, far } = yield* chain
      const idle = held(far.relay.origin)
      const watcher = yield* far.connect("/from")
      const announces = yield* listen(watcher)
      const waiting = yield* view(watcher, ["a", "hello"], { wait: "10 seconds" })
      const publisher = yield* publish(yield* near.connect(), hello, { priority: 9 })
      yield* publish(yield* near.connect(), ["elsewhere"])
      yield* publisher.group("one", "two")
      yield* settle
      const others = yield* Effect.forEach(
        Array.from({ length: 5 }),
        () => Effect.flatMap(far.connect(), (session) => view(session, ["from", "a", "hello"]))
      )
      assert.strictEqual((yield* watcher.trackInfo(["a", "hello"])).priority, 9)
      yield* publisher.group("three")
      yield* settle
      yield* publisher.end()
      yield* TestClock.adjust("5 seconds")
      yield* settle
      for (const viewer of [waiting, ...others]) {
        assert.deepStrictEqual(viewer.got, ["one", "two", "three"])
        assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      }
      assert.deepStrictEqual(announces.heard, ["live", "+a/hello", "-a/hello"])
      assert.strictEqual(near.count("UpstreamOpened"), 1)
      assert.strictEqual(far.count("UpstreamOpened"), 1)
      yield* TestClock.adjust("10 seconds")
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.strictEqual(near.count("UpstreamClosed"), 1)
      assert.deepStrictEqual(held(far.relay.origin), idle)
    }))

  it.effect("pass on codes, and the leaving of the last viewer", () =>
    Effect.gen(function*() {
      const { near, far } = yield* chain
      const session = yield* near.connect()
      const publisher = yield* publish(session, hello)
      const one = yield* view(yield* far.connect(), ["from", "a", "hello"])
      yield* publisher.track.used
      yield* one.leave
      assert.strictEqual(near.count("UpstreamClosed"), 1)
      const two = yield* view(yield* far.connect(), ["from", "a", "hello"])
      yield* publisher.track.fail(new App({ code: 99 }))
      yield* settle
      const error = yield* two.failed
      assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 99])
      yield* session.router.add({
        path: ["room", "refused"],
        subscribe: () => Effect.fail(new App({ code: 98 })),
        trackInfo: Effect.fail(new App({ code: 97 })),
        fetch: () => Effect.fail(new App({ code: 96 }))
      })
      yield* settle
      const watcher = yield* far.connect()
      const refused = yield* Effect.flip(watcher.subscribe(["from", "a", "refused"]))
      assert.deepStrictEqual([refused._tag, "code" in refused && refused.code], ["MoqApp", 98])
      const info = yield* Effect.flip(watcher.trackInfo(["from", "a", "refused"]))
      assert.deepStrictEqual([info._tag, "code" in info && info.code], ["MoqApp", 97])
    }))

  it.effect("lose what comes over a link that dies for good", () =>
    Effect.gen(function*() {
      const { near, far, link } = yield* chain
      const publisher = yield* publish(yield* near.connect(), hello)
      yield* publisher.group("one")
      const watcher = yield* far.connect()
      const announces = yield* listen(watcher)
      const before = yield* view(watcher, ["from", "a", "hello"])
      yield* link.kill
      yield* settle
      assert.strictEqual(near.count("UpstreamClosed"), 1)
      assert.deepStrictEqual(far.relay.origin.paths, [["from", "a", "hello"]])
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual((yield* before.failed)._tag, "MoqTransportError")
      assert.deepStrictEqual(far.relay.origin.paths, [])
      const after = yield* view(watcher, ["from", "a", "hello"], { wait: "10 seconds" })
      yield* far.relay.origin.attach(yield* near.connect("/room"), ["from", "a"])
      yield* settle
      assert.deepStrictEqual(after.got, ["one"])
      assert.deepStrictEqual(announces.heard, [
        "+from/a/hello",
        "live",
        "-from/a/hello",
        "+from/a/hello"
      ])
    }))
})

describe("a relay whose link dies", () => {
  it.effect("goes on with the next one, and its viewers notice nothing", () =>
    Effect.gen(function*() {
      const { near, far, link } = yield* chain
      const publisher = yield* publish(yield* near.connect(), hello)
      yield* publisher.group("one")
      const watcher = yield* far.connect()
      const announces = yield* listen(watcher)
      const viewer = yield* view(watcher, ["from", "a", "hello"])
      yield* link.kill
      yield* settle
      yield* publisher.group("two")
      yield* far.relay.origin.attach(yield* near.connect("/room"), ["from", "a"])
      yield* settle
      yield* publisher.group("three")
      yield* settle
      assert.deepStrictEqual(viewer.got, ["one", "two", "three"])
      assert.deepStrictEqual(announces.heard, ["+from/a/hello", "live"])
      assert.deepStrictEqual([near.count("UpstreamOpened"), far.count("UpstreamOpened")], [2, 1])
    }))
})

describe("a relay between profiles", () => {
  for (const from of Profile.all) {
    for (const to of Profile.all) {
      it.effect(`${from.name} to ${to.name}: everything in order, the end, and codes`, () =>
        Effect.gen(function*() {
          const { connect, count } = yield* start()
          const session = yield* connect("/room", { profiles: [from] })
          const watcher = yield* connect("", { profiles: [to] })
          assert.deepStrictEqual([session.profile, watcher.profile], [from.name, to.name])
          const announces = yield* listen(watcher)
          const all = yield* view(watcher, hello, { wait: "10 seconds" })
          const publisher = yield* publish(session, ["hello"], { priority: -3, order: "asc", expires: 5_000 })
          for (let i = 0; i < 5; i++) {
            yield* publisher.group(`${i}a`, `${i}b`)
            yield* settle
          }
          const late = yield* view(watcher, hello)
          const { expires, latest, order, priority } = yield* watcher.trackInfo(hello)
          assert.deepStrictEqual({ latest, order, priority }, { latest: 4, order: "asc", priority: -3 })
          assert.strictEqual(expires, from.expires && to.expires ? 5_000 : 0)
          yield* publisher.end()
          yield* TestClock.adjust("10 seconds")
          yield* settle
          assert.deepStrictEqual(all.got, ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b"])
          assert.deepStrictEqual(late.got, ["4a", "4b"])
          assert.deepStrictEqual(yield* all.ended, Exit.void)
          assert.deepStrictEqual(yield* late.ended, Exit.void)
          assert.strictEqual(count("UpstreamOpened"), 1)
          const failing = yield* publish(session, ["failing"])
          const viewer = yield* view(watcher, ["room", "failing"])
          yield* failing.track.fail(new App({ code: 5 }))
          yield* settle
          const error = yield* viewer.failed
          assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 5])
          yield* failing.end()
          assert.deepStrictEqual(announces.heard.filter((event) => event !== "live"), [
            "+room/hello",
            "-room/hello",
            "+room/failing",
            "-room/failing"
          ])
          assert.include(announces.heard, "live")
        }))

      it.effect(`${from.name} to ${to.name}: what is left out is a gap, live comes, and FETCH finds what is there`, () =>
        Effect.gen(function*() {
          const { connect } = yield* start()
          const session = yield* connect("/room", { profiles: [from] })
          const watcher = yield* connect("", { profiles: [to] })
          const announces = yield* listen(watcher)
          // the mark that all has been told, or what is taken for it: nothing for a while
          yield* TestClock.adjust("500 millis")
          yield* settle
          assert.deepStrictEqual(announces.heard, ["live"])
          const publisher = yield* publish(session, ["hello"])
          const told: Array<string> = []
          const track = yield* watcher.subscribe(hello)
          yield* Effect.forkScoped(
            Stream.runForEach(track.events, (event) =>
              Effect.sync(() =>
                void told.push(
                  event._tag === "Group" ? `${event.sequence}` : `${event.from}-${event.to}!${event.code}`
                )
              ))
          )
          yield* publisher.group("zero")
          yield* settle
          const third = yield* publisher.track.createGroup(3)
          yield* third.writeFrame(bytes("three"))
          yield* third.writeFrame(bytes("more"))
          yield* third.finish
          yield* settle
          yield* TestClock.adjust("5 seconds")
          yield* settle
          const group = yield* watcher.fetch(hello, 3, { frame: 1 })
          assert.deepStrictEqual((yield* Stream.runCollect(group.frames)).map(text), ["more"])
          assert.include(["MoqNotFound", "MoqNotSupportedByPeer"], (yield* Effect.flip(watcher.fetch(hello, 2)))._tag)
          yield* publisher.end()
          yield* TestClock.adjust("10 seconds")
          yield* settle
          // who says nothing of a group is taken to have left it out; else its publisher tells, at the end
          const silent = from.name !== "draft03" || to.name !== "draft03"
          assert.deepStrictEqual(told, ["0", "3", silent ? "1-2!31" : "1-2!13"])
        }))
    }
  }
})
