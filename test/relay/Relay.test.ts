import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Logger, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Authenticator from "../../src/relay/Authenticator.ts"
import * as Relay from "../../src/relay/Relay.ts"
import { encode } from "../../src/session/MessageStream.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type Connection, type Request, Transport, TransportServer } from "../../src/transport/Transport.ts"
import { bytes, held, listen, publish, settle, start, text, view } from "./relays.ts"

const hello = ["room", "hello"]

describe("the root of a session", () => {
  it.effect("is the path of its URL: it sees that part of the tree, and publishes there", () =>
    Effect.gen(function*() {
      const { connect, events, relay } = yield* start()
      const all = yield* connect()
      const room = yield* connect("/room/")
      const other = yield* connect("//other")
      const inRoom = yield* publish(room, ["hello"])
      const outside = yield* publish(all, ["other", "secret"])
      yield* inRoom.group("hi")
      yield* outside.group("psst")
      assert.deepStrictEqual(relay.origin.paths, [["room", "hello"], ["other", "secret"]])
      assert.deepStrictEqual((yield* listen(all)).heard, ["+room/hello", "+other/secret", "live"])
      assert.deepStrictEqual((yield* listen(room)).heard, ["+hello", "live"])
      assert.deepStrictEqual((yield* listen(other)).heard, ["+secret", "live"])
      assert.deepStrictEqual((yield* view(all, hello)).got, ["hi"])
      assert.deepStrictEqual((yield* view(yield* connect("/room"), ["hello"])).got, ["hi"])
      assert.deepStrictEqual((yield* view(other, ["secret"])).got, ["psst"])
      for (const path of [["other", "secret"], ["secret"], ["..", "other", "secret"], ["room", "hello"]]) {
        assert.strictEqual((yield* Effect.flip(room.subscribe(path)))._tag, "MoqNotFound")
        assert.strictEqual((yield* Effect.flip(room.trackInfo(path)))._tag, "MoqNotFound")
      }
      const roots = events.flatMap((event) => event._tag === "SessionOpened" ? [event.root] : [])
      assert.deepStrictEqual(roots, [[], ["room"], ["other"], ["room"]])
    }))

  it.effect("is percent-decoded part by part", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      yield* publish(yield* connect("/a%2Fb/%C3%BC/%25"), ["x"])
      assert.deepStrictEqual(relay.origin.paths, [["a/b", "ü", "%", "x"]])
    }))

  it.effect("is refused with 400 when it is malformed, or no path", () =>
    Effect.gen(function*() {
      const { connect, events, relay } = yield* start()
      const roots = ["/%zz", "/a/%C3", "/a/%", `/${"x".repeat(1024)}`, "/a".repeat(33)]
      for (const root of roots) {
        const error = yield* Effect.flip(connect(root))
        assert.deepStrictEqual([error._tag, error.message], [
          "MoqTransportError",
          "transport failed: refused with status 400"
        ])
      }
      assert.strictEqual(events.filter((event) => event._tag === "SessionRefused").length, roots.length)
      assert.strictEqual(yield* relay.sessions, 0)
      yield* connect(`/${"x".repeat(1023)}`)
      assert.strictEqual(yield* relay.sessions, 1)
    }))

  it.effect("leaves out what is too long below it, and nothing else", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const session = yield* connect(`/${"x".repeat(1000)}`)
      const long = yield* publish(session, ["y".repeat(24)])
      yield* publish(session, ["y".repeat(23)])
      assert.deepStrictEqual(relay.origin.paths.map((path) => path[1]!.length), [23])
      yield* long.end()
      const viewer = yield* view(session, ["y".repeat(24)])
      assert.strictEqual((yield* viewer.failed)._tag, "MoqBoundsExceeded")
      assert.deepStrictEqual(relay.origin.paths.map((path) => path[1]!.length), [23])
    }))
})

describe("a relay", () => {
  it.effect("refuses sessions above its limit with 503, and takes them when others have gone", () =>
    Effect.gen(function*() {
      const { connect, count, relay } = yield* start({ limits: { sessions: 2 } })
      const scope = yield* Scope.make()
      yield* Scope.provide(connect(), scope)
      yield* connect()
      for (let i = 0; i < 3; i++) {
        assert.strictEqual((yield* Effect.flip(connect())).message, "transport failed: refused with status 503")
      }
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.strictEqual(yield* relay.sessions, 1)
      yield* connect()
      assert.strictEqual(count("SessionRefused"), 3)
      assert.deepStrictEqual([count("SessionOpened"), count("SessionClosed")], [3, 1])
    }))

  it.effect("takes what its own program publishes to its sessions, and the other way round", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start()
      const session = yield* connect("/room")
      const mine = yield* publish(relay.origin, ["room", "mine"])
      const viewer = yield* view(session, ["mine"])
      yield* mine.group("1", "2")
      yield* settle
      yield* mine.end()
      assert.deepStrictEqual(viewer.got, ["1", "2"])
      assert.deepStrictEqual(yield* viewer.ended, Exit.void)
      const waiting = yield* view(relay.origin, ["room", "theirs"], { wait: "10 seconds" })
      const theirs = yield* publish(session, ["theirs"])
      yield* theirs.group("3")
      yield* settle
      assert.deepStrictEqual(waiting.got, ["3"])
      yield* theirs.end()
      assert.deepStrictEqual(yield* waiting.ended, Exit.void)
    }))

  it.effect("gives a session its own tracks like any others, and lets go of all when it ends", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start({ linger: 0 })
      const idle = held(relay.origin)
      const session = yield* connect()
      const publisher = yield* publish(session, hello)
      const announces = yield* listen(session)
      const viewer = yield* view(session, hello)
      yield* publisher.group("echo")
      yield* settle
      assert.deepStrictEqual(viewer.got, ["echo"])
      assert.deepStrictEqual(announces.heard, ["+room/hello", "live"])
      yield* session.close()
      yield* settle
      assert.strictEqual((yield* viewer.failed)._tag, "MoqSessionClosed")
      assert.deepStrictEqual(held(relay.origin), idle)
    }))

  it.effect("tells how each session ended", () =>
    Effect.gen(function*() {
      const { connect, connectBy, events } = yield* start()
      const clean = yield* connect()
      yield* clean.close()
      const { kill } = yield* connectBy("/b")
      yield* kill
      yield* settle
      assert.deepStrictEqual(events.filter((event) => event._tag.startsWith("Session")), [
        { _tag: "SessionOpened", session: 1, root: [], transport: "memory", peer: undefined },
        { _tag: "SessionClosed", session: 1, code: 0, reason: "", by: "remote" },
        { _tag: "SessionOpened", session: 2, root: ["b"], transport: "memory", peer: undefined },
        { _tag: "SessionClosed", session: 2, code: 4, reason: "connection killed", by: "transport" }
      ])
    }))

  it.effect("lets go of a client that never shakes hands, and serves others meanwhile", () =>
    Effect.gen(function*() {
      const { connect, events, network, relay } = yield* start()
      const silent = yield* network.transport.connect(new URL("https://relay.example/"))
      yield* settle
      yield* connect()
      assert.strictEqual(yield* relay.sessions, 2)
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual((yield* silent.closed).code, 3)
      assert.strictEqual(yield* relay.sessions, 1)
      assert.strictEqual(events.filter((event) => event._tag === "SessionRefused").length, 1)
    }))

  it.effect("survives whatever a session asks for, announces, or does to its streams", () =>
    Effect.gen(function*() {
      const { connect, network, relay } = yield* start()
      const good = yield* publish(yield* connect(), hello)
      const viewer = yield* view(yield* connect(), hello)
      const idle = held(relay.origin)
      for (const profile of Profile.all) {
        const connections: Array<Connection> = []
        const scope = yield* Scope.make()
        const hostile = yield* Effect.provideService(
          Session.connect("https://relay.example", { profiles: [profile] }),
          Transport,
          {
            connect: (url) =>
              Effect.tap(network.transport.connect(url), (connection) =>
                Effect.sync(() => void connections.push(connection)))
          }
        ).pipe(Scope.provide(scope))
        const paths = [
          ["internal", "origins", "node"],
          ["internal", "origins"],
          ["internal"],
          [""],
          ["", "", ""],
          ["__proto__"],
          ["constructor", "prototype"],
          ["room", "hello", ""],
          ["\u0000"],
          ["[]"],
          Array.from({ length: 32 }, () =>
            ""),
          ["x".repeat(1023)]
        ]
        for (const path of paths) {
          assert.strictEqual((yield* Effect.flip(hostile.subscribe(path)))._tag, "MoqNotFound", path.join("/"))
          assert.strictEqual((yield* Effect.flip(hostile.trackInfo(path)))._tag, "MoqNotFound", path.join("/"))
          const announced = yield* publish(hostile, path)
          yield* announced.end()
        }
        const raw = connections[0]!
        const info = encode(InfoPlease.encode, { _tag: "InfoPlease", path: ["room"] }, profile)
        for (const type of ["announce", "subscribe", "info", "fetch"] as const) {
          for (const garbage of [[], [0], [0xff], [0, 0xff, 0xff, 0xff], Array.from(info), [0x21, ...bytes("room")]]) {
            const stream = yield* Scope.provide(raw.openBi, scope)
            const first = new Uint8Array([StreamType.bi.indexOf(type), ...garbage])
            yield* Effect.ignore(stream.send.write([first]))
            yield* settle
            yield* stream.send.reset(200)
            yield* stream.receive.stop(201)
          }
        }
        yield* settle
        yield* Memory.kill(raw)
        yield* settle
        yield* Scope.close(scope, Exit.void)
      }
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(held(relay.origin), idle)
      assert.strictEqual(yield* relay.sessions, 2)
      yield* good.group("still here")
      yield* settle
      assert.deepStrictEqual(viewer.got, ["still here"])
      assert.deepStrictEqual((yield* view(yield* connect(), hello)).got, ["still here"])
    }))

  it.effect("goes on when one of its sessions runs into a bug, wherever that is", () =>
    Effect.gen(function*() {
      const network = yield* Memory.makeNetwork()
      const server = yield* network.listen()
      const refused: Array<number> = []
      const broken: Request = {
        url: new URL("https://localhost/"),
        headers: undefined,
        peer: undefined,
        transport: "memory",
        accept: Effect.die(new Error("a bug")),
        refuse: (status) => Effect.sync(() => void refused.push(status))
      }
      const unrefusable: Request = {
        ...broken,
        url: new URL("https://localhost/%ff"),
        refuse: () => Effect.die(new Error("a bug"))
      }
      const logged: Array<unknown> = []
      const relay = yield* Relay.make().pipe(
        Effect.provideService(TransportServer, {
          ...server,
          requests: Stream.concat(Stream.make(broken, unrefusable), server.requests)
        }),
        Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(message))]))
      )
      yield* settle
      assert.strictEqual(logged.length, 2)
      assert.deepStrictEqual(refused, [500])
      assert.strictEqual(yield* relay.sessions, 0)
      const session = yield* Effect.provideService(Session.connect("https://localhost"), Transport, network.transport)
      const publisher = yield* publish(session, hello)
      yield* publisher.group("on")
      assert.deepStrictEqual((yield* view(relay.origin, hello)).got, ["on"])
    }))

  it.effect("tells that nobody comes in any more", () =>
    Effect.gen(function*() {
      const logged: Array<unknown> = []
      yield* Relay.make().pipe(
        Effect.provideService(TransportServer, {
          urls: [],
          transports: ["memory"],
          unavailable: [],
          fingerprint: undefined,
          requests: Stream.die(new Error("a bug"))
        }),
        Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(message))]))
      )
      yield* settle
      assert.include(String(logged), "takes no more sessions")
    }))

  it.effect("refuses whom nobody decides about in time, or who cannot be decided about", () =>
    Effect.gen(function*() {
      const { connect, events, relay } = yield* Effect.provideService(start(), Authenticator.Authenticator, {
        authenticate: ({ url }) => url.pathname === "/never" ? Effect.never : Effect.die(new Error("a bug"))
      })
      yield* Effect.forkScoped(Effect.ignore(connect("/never")))
      const bug = yield* Effect.flip(connect())
      assert.include(bug.message, "500")
      assert.strictEqual(yield* relay.sessions, 1)
      const visitor = yield* Effect.forkScoped(Effect.flip(relay.visit({
        url: new URL("https://relay.example/never"),
        root: ["never"],
        headers: undefined,
        peer: undefined,
        transport: "memory"
      })))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.strictEqual(yield* relay.sessions, 0)
      assert.strictEqual((yield* Fiber.join(visitor))._tag, "MoqTimeout")
      const refused = events.find(({ _tag }) => _tag === "SessionRefused")!
      assert.strictEqual("why" in refused && refused.why, "handshake")
    }))

  it.effect("tells that a path which lingers has no publisher", () =>
    Effect.gen(function*() {
      const { connectBy, relay } = yield* start()
      const { kill, session } = yield* connectBy()
      yield* publish(session, hello)
      const publisher = Effect.map(relay.tree, ([track]) => track!.publisher)
      assert.deepStrictEqual(yield* publisher, { _tag: "Session", session: 1 })
      yield* kill
      yield* settle
      assert.isUndefined(yield* publisher)
    }))

  it.effect("that closes ends sessions, viewers, announces and events, and holds on to nothing", () =>
    Effect.gen(function*() {
      const { connect, count, listening, network, relay, stop } = yield* start()
      const session = yield* connect()
      const publisher = yield* publish(session, hello)
      const lingering = yield* publish(session, ["short"])
      const viewers = [yield* view(yield* connect(), hello), yield* view(relay.origin, hello)]
      const short = yield* view(session, ["short"])
      yield* lingering.group("short")
      yield* lingering.end()
      assert.deepStrictEqual(yield* short.ended, Exit.void)
      const mine = yield* publish(relay.origin, ["mine"])
      const local = yield* listen(relay.origin)
      const remote = yield* listen(session)
      yield* publisher.group("one")
      yield* settle
      yield* stop
      yield* settle
      assert.strictEqual((yield* viewers[0]!.failed)._tag, "MoqSessionClosed")
      assert.include(["MoqSessionClosed", "MoqCancelled"], (yield* viewers[1]!.failed)._tag)
      assert.strictEqual((yield* session.closed).by, "remote")
      assert.deepStrictEqual(local.fiber.pollUnsafe(), Exit.void)
      assert.deepStrictEqual(local.heard.slice(-2).sort(), ["-mine", "-room/hello"])
      assert.isTrue(Exit.isFailure(remote.fiber.pollUnsafe()!))
      assert.deepStrictEqual(held(relay.origin), { entries: 0, shares: 0, announced: 0, inScope: 0 })
      assert.strictEqual(yield* relay.sessions, 0)
      yield* Fiber.join(listening)
      yield* Stream.runDrain(relay.events)
      assert.deepStrictEqual([count("SessionOpened"), count("SessionClosed")], [2, 2])
      assert.deepStrictEqual([count("UpstreamOpened"), count("UpstreamClosed")], [2, 2])
      const unused = yield* Effect.forkChild(publisher.track.unused)
      yield* settle
      assert.deepStrictEqual(unused.pollUnsafe(), Exit.void)
      assert.strictEqual((yield* Effect.flip(connect()))._tag, "MoqTransportError")
      assert.strictEqual((yield* Effect.flip(relay.origin.subscribe(hello)))._tag, "MoqNotFound")
      yield* mine.end()
      // the host is free again
      yield* start({}, { network })
    }))

  it.effect("is a layer beside the clients of its own program", () =>
    Effect.gen(function*() {
      const RelayLayer = Relay.layer({ limits: { sessions: 3 } })
      const Everything = Layer.merge(RelayLayer, Session.layerConnect("https://localhost/room")).pipe(
        Layer.provide(Memory.layer)
      )
      const program = Effect.gen(function*() {
        const relay = yield* Relay.Relay
        const session = yield* Session.Session
        assert.deepStrictEqual(relay.urls, ["https://localhost"])
        const publisher = yield* publish(relay.origin, hello)
        yield* publisher.group("composed")
        const track = yield* session.subscribe(["hello"], { wait: "1 second" })
        return yield* Stream.runHead(track.frames)
      }).pipe(Effect.scoped, Effect.provide(Everything))
      const frame = yield* Effect.flatMap(program, Effect.fromOption)
      assert.strictEqual(text(frame), "composed")
    }))
})
