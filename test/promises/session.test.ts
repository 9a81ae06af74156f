/** What is promised of sessions, as a user would write it: over memory, and over a bad network. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Ref, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { type Announced, Memory, Profile, Session, Track, Transport } from "../../src/index.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import { bytes, owned, pair, settle, text } from "../session/sessions.ts"

/** Two sessions that are each other's peer, on one version of the protocol. */
const peers = (profile: Profile.Profile) => pair({ profiles: [profile] }, { profiles: [profile] })

/** Lets everything happen that happens within a time. */
const pass = (duration: "1 second" | "6 seconds") => Effect.andThen(TestClock.adjust(duration), settle)

/** All frames of a track, until it ends. */
const collect = (track: Track.Track) => Effect.map(Stream.runCollect(track.frames), (frames) => frames.map(text))

/** Writes one group with one frame. */
const say = (track: Track.Producer, word: string) =>
  Effect.gen(function*() {
    const group = yield* track.appendGroup
    yield* group.writeFrame(bytes(word))
    yield* group.finish
  })

for (const profile of Profile.all) {
  describe(`promise 1, ${profile.name}: a session connects or accepts, publishes, subscribes, or both at once`, () => {
    it.effect("each side publishes a track and reads the other's", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const both = yield* Effect.forEach(
          [[client, server, "a"], [server, client, "b"]] as const,
          ([from, to, name]) =>
            Effect.gen(function*() {
              const { close, value } = yield* owned(
                Effect.flatMap(from.broadcast(["talk"]), (talk) => talk.track(name))
              )
              const track = yield* to.subscribe(["talk", name])
              const reading = yield* Effect.forkChild(collect(track), { startImmediately: true })
              yield* settle
              yield* say(value, `from ${name}`)
              yield* settle
              yield* close
              return reading
            })
        )
        yield* settle
        yield* pass("6 seconds")
        const heard = yield* Effect.forEach(both, (fiber) => Fiber.join(fiber))
        assert.deepStrictEqual(heard, [["from a"], ["from b"]])
      }))

    it.effect("one that only subscribes needs to publish nothing, and the other way round", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const track = yield* Track.make(["one"])
        yield* server.publish(track.track)
        const reading = yield* Effect.forkChild(
          Stream.runHead((yield* client.subscribe(["one"])).frames),
          { startImmediately: true }
        )
        yield* settle
        yield* say(track, "word")
        const head = yield* Fiber.join(reading)
        assert.strictEqual(head._tag === "Some" ? text(head.value) : "", "word")
        assert.lengthOf(client.router.paths, 0)
      }))
  })

  describe(`promise 5, ${profile.name}: what is bound to a session fails once that is gone`, () => {
    it.effect("with SessionClosed, who closed it, and the code", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const bound = yield* client.broadcast(["bound"])
        const track = yield* bound.track("one")
        const group = yield* track.appendGroup
        yield* server.close()
        yield* settle
        const later = yield* bound.track("two")
        const failed = yield* Effect.all([
          Effect.flip(group.writeFrame(bytes("late"))),
          Effect.flip(track.appendGroup),
          Effect.flip(later.appendGroup)
        ])
        for (const error of failed) {
          if (error._tag !== "MoqSessionClosed") return assert.fail(error._tag)
          assert.deepStrictEqual([error.by, error.code], ["remote", 0])
        }
      }))
  })

  describe(`promise 8, ${profile.name}: a publisher that finishes ends its viewers, one that goes fails them`, () => {
    it.effect("finished: the Stream ends, with everything", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const track = yield* Track.make(["one"])
        yield* server.publish(track.track)
        const watched = yield* client.subscribe(["one"], { order: "asc" })
        const reading = yield* Effect.forkChild(
          Stream.runCollect(Stream.flatMap(watched.groups, (group) => group.frames)),
          { startImmediately: true }
        )
        yield* settle
        for (const word of ["a", "b", "c"]) yield* say(track, word)
        yield* track.finish
        yield* settle
        yield* pass("6 seconds")
        assert.deepStrictEqual((yield* Fiber.join(reading)).map(text), ["a", "b", "c"])
      }))

    it.effect("disconnected: the Stream fails", () =>
      Effect.gen(function*() {
        const { client, connections: [, right], server } = yield* peers(profile)
        const track = yield* Track.make(["one"])
        yield* server.publish(track.track)
        const watched = yield* client.subscribe(["one"])
        const reading = yield* Effect.forkChild(Effect.flip(collect(watched)), { startImmediately: true })
        yield* settle
        yield* say(track, "a")
        yield* settle
        yield* Memory.kill(right)
        const error = yield* Fiber.join(reading)
        if (error._tag !== "MoqSessionClosed") return assert.fail(error._tag)
        assert.strictEqual(error.by, "transport")
      }))

    it.effect("interrupted: the Stream fails with Cancelled", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const publishing = yield* Effect.forkChild(
          Effect.scoped(Effect.andThen(
            Effect.flatMap(Effect.flatMap(server.broadcast([]), (all) => all.track("one")), (track) => say(track, "a")),
            Effect.never
          ))
        )
        yield* settle
        const reading = yield* Effect.forkChild(Effect.flip(Effect.flatMap(client.subscribe(["one"]), collect)))
        yield* settle
        yield* Fiber.interrupt(publishing)
        yield* settle
        assert.strictEqual((yield* Fiber.join(reading))._tag, "MoqCancelled")
      }))
  })

  describe(`promise 9, ${profile.name}: whoever asks is told of tracks, and tracks are made on demand`, () => {
    it.effect("announced: what is there, that this was all, who joins and who leaves, below a prefix", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const room = yield* server.broadcast(["room"])
        yield* room.track("first")
        yield* (yield* server.broadcast(["room-2"])).track("other")
        const heard: Array<string> = []
        const hear = (event: Announced.Announced) =>
          Effect.sync(() =>
            heard.push(event._tag === "Live" ? `live by ${event.by}` : `${event._tag} ${event.path[1]}`)
          )
        yield* Effect.forkChild(Stream.runForEach(client.announced(["room"]), hear), { startImmediately: true })
        yield* settle
        yield* pass("1 second")
        const { close } = yield* owned(room.track("second"))
        yield* settle
        yield* close
        yield* settle
        assert.deepStrictEqual(heard, [
          "Active first",
          profile.sendsLive ? "live by marker" : "live by quiet",
          "Active second",
          "Ended second"
        ])
      }))

    it.effect("route: made for the first viewer, shared, gone with the last, and made again", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const log: Array<string> = []
        yield* server.route(["squares"], ([, n]) =>
          Effect.gen(function*() {
            log.push(`made ${n}`)
            yield* Effect.addFinalizer(() => Effect.sync(() => log.push(`gone ${n}`)))
            const track = yield* Track.make(["squares", n!])
            track.appendGroupUnsafe()?.writeFrameUnsafe(bytes(String(Number(n) ** 2)))
            return track.track
          }))
        const view = Effect.gen(function*() {
          const { close, value } = yield* owned(client.subscribe(["squares", "7"]))
          const head = yield* Stream.runHead(value.frames)
          assert.strictEqual(head._tag === "Some" ? text(head.value) : "", "49")
          return close
        })
        const one = yield* view
        const two = yield* view
        yield* one
        yield* settle
        assert.deepStrictEqual(log, ["made 7"])
        yield* two
        yield* settle
        yield* pass("6 seconds")
        assert.deepStrictEqual(log, ["made 7", "gone 7"])
        yield* yield* view
        assert.deepStrictEqual(log.slice(2, 3), ["made 7"])
      }))

    it.effect("used and unused: the publisher hears over the wire that nobody watches, and begins again", () =>
      Effect.gen(function*() {
        const { client, server } = yield* peers(profile)
        const track = yield* (yield* server.broadcast(["room"])).track("camera")
        const camera = yield* Ref.make("off")
        yield* Effect.forkChild(Effect.forever(Effect.gen(function*() {
          yield* track.used
          yield* Ref.set(camera, "on")
          yield* track.unused
          yield* Ref.set(camera, "off")
        })))
        yield* settle
        for (let round = 0; round < 3; round++) {
          assert.strictEqual(yield* Ref.get(camera), "off")
          const one = yield* owned(client.subscribe(["room", "camera"]))
          const two = yield* owned(client.subscribe(["room", "camera"]))
          yield* settle
          assert.strictEqual(yield* Ref.get(camera), "on")
          yield* one.close
          yield* settle
          assert.strictEqual(yield* Ref.get(camera), "on")
          yield* two.close
          yield* settle
        }
        assert.strictEqual(yield* Ref.get(camera), "off")
      }))
  })
}

for (const profile of Profile.all) {
  describe(`a session that reconnects, ${profile.name}`, () => {
    it.effect("is lost and found: the publisher writes on, the viewer goes on, with a gap for what it missed", () =>
      Effect.gen(function*() {
        const network = yield* Memory.makeNetwork()
        const server = yield* network.listen()
        const track = yield* Track.make(["one"], { cache: { maxAge: "2 seconds" } })
        const connections: Array<Transport.Connection> = []
        yield* Effect.forkScoped(Stream.runForEach(server.requests, (request) =>
          Effect.gen(function*() {
            const connection = yield* request.accept
            connections.push(connection)
            const session = yield* Session.accept(connection, { profiles: [profile] })
            yield* session.publish(track.track)
            yield* session.closed
          }).pipe(Effect.scoped, Effect.ignore, Effect.forkScoped)))
        const session = yield* Session.reconnect("https://relay.example", {
          profiles: [profile],
          schedule: Schedule.spaced("6 seconds")
        }).pipe(Effect.provideService(Transport.Transport, network.transport))
        const watched = yield* session.subscribe(["one"], { order: "asc" })
        const seen: Array<string> = []
        yield* Effect.forkScoped(Stream.runForEach(watched.events, (event) =>
          event._tag === "Gap"
            ? Effect.sync(() => seen.push(`${event.from}-${event.to} missed`))
            : Stream.runForEach(event.frames, (frame) => Effect.sync(() => seen.push(text(frame))))))
        yield* settle
        yield* say(track, "a")
        yield* settle
        yield* Memory.kill(connections[0]!)
        yield* settle
        yield* say(track, "b")
        yield* say(track, "c")
        yield* pass("6 seconds")
        // the server has the newest; what a peer skips without a word is a gap once it is clear that it does not come
        yield* say(track, "d")
        yield* settle
        yield* pass("6 seconds")
        assert.deepStrictEqual(seen.filter((entry) => entry.length === 1), ["a", "c", "d"])
        assert.deepStrictEqual(seen.filter((entry) => entry.length > 1), ["1-1 missed"])
      }))
  })
}

describe("Session as a Layer", () => {
  const echo = Effect.gen(function*() {
    const session = yield* Session.Session
    const track = yield* (yield* session.broadcast(["echo"])).track("one")
    yield* say(track, "word")
    return yield* Effect.never
  }).pipe(Effect.scoped)
  const network = Effect.gen(function*() {
    const { listen, transport } = yield* Memory.makeNetwork()
    const server = yield* listen()
    const connections: Array<Transport.Connection> = []
    yield* Effect.forkScoped(
      Stream.runForEach(
        server.requests,
        (request) => Effect.andThen(request.accept, (connection) => Effect.sync(() => connections.push(connection)))
      )
    )
    return { TransportLayer: Layer.succeed(Transport.Transport)(transport), connections, transport }
  })

  it.effect("connect and accept are the Effects, layerConnect and layer the same as Layers", () =>
    Effect.gen(function*() {
      const { TransportLayer, connections, transport } = yield* network
      const url = "https://peer.example"
      const clients = [
        Effect.provide(echo, Session.layerConnect(url).pipe(Layer.provide(TransportLayer))),
        Effect.provide(echo, Session.layerReconnect(url).pipe(Layer.provide(TransportLayer))),
        Session.connect(url).pipe(
          Effect.provideService(Transport.Transport, transport),
          Effect.flatMap((session) => Effect.provideService(echo, Session.Session, session))
        ),
        Session.reconnect(url).pipe(
          Effect.provideService(Transport.Transport, transport),
          Effect.flatMap((session) => Effect.provideService(echo, Session.Session, session))
        )
      ]
      for (const [index, client] of clients.entries()) {
        const running = yield* Effect.forkChild(Effect.scoped(client))
        yield* settle
        const listen = Effect.gen(function*() {
          const session = yield* Session.Session
          const heard = yield* Stream.runHead((yield* session.subscribe(["echo", "one"], { wait: "1 second" })).frames)
          return heard._tag === "Some" ? text(heard.value) : ""
        }).pipe(Effect.scoped)
        const connection = connections[index]!
        const accepted = index % 2 === 0
          ? Effect.provide(listen, Session.layer(connection))
          : Effect.scoped(Effect.flatMap(
            Session.accept(connection),
            (session) => Effect.provideService(listen, Session.Session, session)
          ))
        assert.strictEqual(yield* accepted, "word")
        yield* Fiber.interrupt(running)
      }
      assert.lengthOf(connections, 4)
    }))

  it.effect("one constant provided twice in a program is one session, and closes with the program", () =>
    Effect.gen(function*() {
      const { TransportLayer, connections } = yield* network
      const SessionLayer = Session.layerReconnect("https://peer.example").pipe(Layer.provide(TransportLayer))
      class Watcher extends Context.Service<Watcher, Session.Session>()("test/Watcher") {
        static readonly layer = Layer.effect(this)(Session.Session).pipe(Layer.provide(SessionLayer))
      }
      class Publisher extends Context.Service<Publisher, Session.Session>()("test/Publisher") {
        static readonly layer = Layer.effect(this)(Session.Session).pipe(Layer.provide(SessionLayer))
      }
      yield* Effect.forkScoped(Effect.gen(function*() {
        while (connections.length === 0) yield* Effect.yieldNow
        yield* Session.accept(connections[0]!)
        yield* Effect.never
      }))
      const both = Effect.all([Watcher, Publisher, Effect.provide(Session.Session, SessionLayer)]).pipe(
        Effect.provide([Watcher.layer, Publisher.layer, SessionLayer])
      )
      const [watcher, publisher, third] = yield* both
      assert.strictEqual(watcher, publisher)
      assert.strictEqual(watcher, third)
      assert.lengthOf(connections, 1)
      assert.strictEqual((yield* watcher.closed).by, "local")
    }))
})

describe("a session that reconnects, on a bad network", () => {
  const schedule = Schedule.spaced("1 second").pipe(Schedule.jittered)

  // a publisher and a viewer around a relay, and what the viewer got
  const around = (
    happens: (world: { readonly network: Simulator.Network; readonly relay: Simulator.Host }) => Effect.Effect<void>
  ) =>
    Effect.gen(function*() {
      const network = yield* Simulator.Network
      const relay = yield* network.host("relay", { bandwidth: "unlimited" })
      const camera = yield* network.host("camera")
      const viewer = yield* network.host("viewer")
      const serving = yield* Effect.forkScoped(Effect.scoped(Effect.andThen(relay.serve(Relay.make()), Effect.never)))
      const publishing = yield* camera.provide(Session.reconnect(relay.url, { schedule }))
      const track = yield* (yield* publishing.broadcast(["room"])).track("numbers")
      let written = 0
      const writing = yield* Effect.forkScoped(
        Effect.sleep("1 second").pipe(
          Effect.andThen(Effect.suspend(() => say(track, String(written++)))),
          Effect.forever
        )
      )
      const session = yield* viewer.provide(Session.reconnect(relay.url, { schedule }))
      const watched = yield* session.subscribe(["room", "numbers"], { wait: "1 minute" })
      const got: Array<number> = []
      const gaps: Array<number> = []
      const watching = yield* Effect.forkScoped(
        Stream.runForEach(watched.events, (event) =>
          event._tag === "Gap"
            ? Effect.sync(() => {
              for (let missing = event.from; missing <= event.to; missing++) gaps.push(missing)
            })
            : Stream.runForEach(event.frames, (frame) => Effect.sync(() => got.push(Number(text(frame))))).pipe(
              Effect.catch(() => Effect.sync(() => gaps.push(event.sequence)))
            ))
      )
      yield* Effect.sleep("20 seconds")
      const before = got.length
      yield* happens({ network, relay })
      yield* Effect.sleep("2 minutes")
      yield* Fiber.interrupt(writing)
      yield* Effect.sleep("10 seconds")
      const told = [...got, ...gaps].sort((a, b) => a - b)
      yield* Effect.all([Fiber.interrupt(watching), Fiber.interrupt(serving)])
      return { before, got, told, written, end: watched.end }
    })

  const network = { latency: "50 millis", jitter: "20 millis", loss: 0.02, bandwidth: "1 Mbit" } as const

  it.effect("the relay dies and comes back: both go on, and nothing is told twice or left out", () =>
    Effect.gen(function*() {
      const { before, got, told, written } = yield* Simulator.run(
        around(({ relay }) =>
          Effect.gen(function*() {
            yield* relay.kill({ noticed: true })
            yield* Effect.sleep("5 seconds")
            yield* Effect.forkDetach(
              Effect.scoped(Effect.andThen(Effect.orDie(relay.serve(Relay.make())), Effect.sleep("3 minutes")))
            )
          })
        ),
        { ...network, seed: 3 }
      )
      assert.isAbove(before, 15)
      assert.isAbove(got.length, before + 100)
      assert.strictEqual(got.at(-1), written - 1)
      assert.deepStrictEqual(told, Array.from(told, (_, i) => told[0]! + i))
    }))

  it.effect("a partition is noticed by the silence, and healed", () =>
    Effect.gen(function*() {
      const { before, got, told, written } = yield* Simulator.run(
        around(({ network }) =>
          Effect.gen(function*() {
            const relay = yield* network.host("relay")
            const viewer = yield* network.host("viewer")
            yield* network.partition([viewer], [relay])
            yield* Effect.sleep("40 seconds")
            yield* network.heal
          })
        ),
        { ...network, seed: 4 }
      )
      assert.isAbove(got.length, before + 60)
      assert.strictEqual(got.at(-1), written - 1)
      assert.deepStrictEqual(told, Array.from(told, (_, i) => told[0]! + i))
    }))

  it.effect("whichever connections die: it goes on to the newest group, or its publisher has failed", () =>
    Effect.forEach(Array.from({ length: 10 }, (_, seed) => seed), (seed) =>
      Effect.gen(function*() {
        const { end, got, told, written } = yield* Simulator.run(
          around(({ relay }) =>
            Effect.gen(function*() {
              yield* relay.kill({ noticed: seed % 2 === 0 })
              yield* Effect.sleep("5 seconds")
              yield* Effect.forkDetach(
                Effect.scoped(Effect.andThen(Effect.orDie(relay.serve(Relay.make())), Effect.sleep("3 minutes")))
              )
            })
          ),
          { ...network, death: 0.001, seed }
        )
        assert.deepStrictEqual(told, Array.from(told, (_, i) => told[0]! + i))
        if (end === undefined) assert.strictEqual(got.at(-1), written - 1)
        else assert.include(String(end), "transport failed")
      }), { discard: true }))
})
