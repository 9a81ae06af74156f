/**
 * Peers that keep to QMux and Transfork, to the letter, and try to make a relay hold far more than they send; and others
 * that begin and never go on. Beside all of them a publisher and its viewer go on.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule, type Scope, Stream } from "effect"
import * as Tls from "node:tls"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import { draft03 } from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import type { Transport } from "../../src/transport/Transport.ts"
import * as peers from "../node/fixtures/peers.ts"
import * as Smuggler from "../node/fixtures/smuggler.ts"
import * as byHand from "../session/byHand.ts"

const outer = 120_000

const relayWith = (options: { readonly relay?: Relay.Options; readonly limits?: NodeTransport.Limits } = {}) =>
  Layer.mergeAll(
    NodeTransport.layerWith({ transports: ["websocket"] }),
    Relay.layer(options.relay).pipe(
      Layer.provide(NodeTransport.layerServer({
        port: 0,
        transports: ["websocket"],
        tls: { generate: ["localhost"] },
        limits: options.limits
      }))
    )
  )

V8.setFlagsFromString("--expose-gc")
const collect = Vm.runInNewContext("gc") as () => void

/** What this process holds, in MB. The attackers are in it too, but hold next to nothing. */
const held = (): number => {
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return (arrayBuffers + heapUsed) / 1e6
}

const urlOf = Effect.map(Relay.Relay, ({ urls }) => urls[0]!)

/** A publisher and its viewer; what it gives runs one frame through. */
const beside = Effect.gen(function*() {
  const url = yield* urlOf
  const publisher = yield* Session.connect(url, { insecure: true })
  const track = yield* (yield* publisher.broadcast(["fine"])).track("numbers")
  const viewer = yield* Session.connect(url, { insecure: true })
  const watched = yield* viewer.subscribe(["fine", "numbers"], { wait: "5 seconds" })
  const pull = yield* Stream.toPull(watched.frames)
  let sent = 0
  return Effect.gen(function*() {
    const group = yield* track.appendGroup
    yield* group.writeFrame(Uint8Array.of(++sent))
    yield* group.finish
    assert.deepStrictEqual(yield* pull, [Uint8Array.of(sent)])
  })
})

/** A session made by hand, over a connection past which frames can be smuggled. */
const hostile = Effect.gen(function*() {
  const { connection, smuggler } = yield* Smuggler.connect(yield* urlOf)
  const peer = new byHand.ByHand(connection, draft03)
  const control = yield* peer.open(byHand.hello([draft03.version]))
  yield* control.hear(SessionServer.decode)
  return { peer, smuggler }
})

/** One that publishes `bad`, and has been asked for it. */
const asked = Effect.fnUntraced(function*(watch: Effect.Effect<void, unknown, Transport | Relay.Relay | Scope.Scope>) {
  const { peer, smuggler } = yield* hostile
  const { stream } = yield* byHand.takeAnnounce(peer)
  yield* byHand.announce(stream, "active", "bad")
  yield* Effect.forkScoped(watch)
  const subscribed = yield* byHand.takeSubscribe(peer)
  return {
    smuggler,
    group: (sequence: number) => Uint8Array.of(0, subscribed.message.id, sequence),
    accept: subscribed.stream.say(Info.encode, byHand.info(0))
  }
})

/** A viewer that takes all there is. */
const eager = Effect.gen(function*() {
  const viewer = yield* Session.connect(yield* urlOf, { insecure: true })
  const track = yield* viewer.subscribe(["bad"], { wait: "5 seconds" })
  yield* Stream.runDrain(Stream.flatMap(track.groups, (group) => Stream.ignoreCause(group.frames), {
    concurrency: "unbounded"
  }))
})

/** A viewer that takes nothing of what it has asked for. */
const idle = Effect.gen(function*() {
  const { peer } = yield* hostile
  const subscribe = Effect.gen(function*() {
    const stream = yield* peer.open(byHand.type("subscribe"))
    yield* stream.say(Subscribe.encode, {
      _tag: "Subscribe",
      id: 0,
      path: ["bad"],
      priority: 0,
      order: "asc",
      expires: 0
    })
    yield* stream.hear(Info.decode)
  })
  yield* Effect.retry(subscribe, Schedule.spaced("20 millis"))
  yield* Effect.never
})

describe("what is sent in single bytes costs a relay what it carries, not two hundred times that", () => {
  // so that the limit on time, on a busy machine, does not do the work of those on memory
  const slow: Relay.Options = { session: { limits: { firstMessage: "1 minute" } } }
  const measured = <A, E, R>(
    name: string,
    options: { readonly attack: Effect.Effect<A, E, R | Scope.Scope>; readonly atMost: number }
  ) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const works = yield* beside
        const before = held()
        let most = 0
        const looking = yield* Effect.forkScoped(
          Effect.repeat(Effect.sync(() => most = Math.max(most, held() - before)), Schedule.spaced("500 millis"))
        )
        yield* options.attack
        yield* Fiber.interrupt(looking)
        assert.isBelow(Math.max(most, held() - before), options.atMost)
        yield* works
      }).pipe(Effect.provide(relayWith({ relay: slow }))) as Effect.Effect<void, unknown, Scope.Scope>, outer)

  // 100 MB when each byte is kept as a piece
  measured("one frame", {
    atMost: 40,
    attack: Effect.gen(function*() {
      const { accept, group, smuggler } = yield* asked(eager)
      yield* accept
      const id = smuggler.open("uni")
      yield* Effect.promise(async () => {
        await smuggler.send([id, group(0)], [id, Uint8Array.of(0x80, 0xff, 0xff, 0xff)])
        await smuggler.stuff(id, new Uint8Array(500_000), 1)
      })
      assert.isTrue(smuggler.isOpen)
    })
  })

  // 120 MB when frames count as their bytes
  const tiny = (group: (sequence: number) => Uint8Array, smuggler: Smuggler.Smuggler, groups: number) =>
    Effect.promise(() =>
      Promise.all(Array.from({ length: groups }, async (_, sequence) => {
        const id = smuggler.open("uni")
        await smuggler.send([id, group(sequence)])
        await smuggler.stuff(id, new Uint8Array(2 * 60_000).fill(1), 2)
      }))
    )
  measured("many frames, which are read", {
    atMost: 75,
    attack: Effect.gen(function*() {
      const { accept, group, smuggler } = yield* asked(eager)
      yield* accept
      yield* tiny(group, smuggler, 15)
      assert.isTrue(smuggler.isOpen)
    })
  })
  measured("many frames, which nobody reads", {
    atMost: 50,
    attack: Effect.gen(function*() {
      const { accept, group, smuggler } = yield* asked(idle)
      yield* accept
      yield* tiny(group, smuggler, 15)
      assert.isTrue(smuggler.isOpen)
    })
  })

  // 120 MB when each byte is kept as a piece
  measured("500 requests that never end", {
    atMost: 70,
    attack: Effect.gen(function*() {
      const { smuggler } = yield* hostile
      const path = byHand.written((writer) =>
        InfoPlease.encode(writer, { _tag: "InfoPlease", path: ["x".repeat(1000)] }, draft03)
      )
      yield* Effect.promise(async () => {
        for (let i = 0; i < 500; i++) {
          const id = smuggler.open("bi")
          await smuggler.stuff(id, byHand.concat(byHand.type("info"), path.subarray(0, -1)), 1)
        }
      })
      assert.isTrue(smuggler.isOpen)
    })
  })
})

describe("what nobody can read yet", () => {
  // a publisher that does not answer SUBSCRIBE: until it does, nobody knows what its groups are. 16 MiB of single bytes are
  // within the windows, and would cost 4 GB
  it.live("is limited by what it costs", () =>
    Effect.gen(function*() {
      const works = yield* beside
      const { events } = yield* Relay.Relay
      const closed = yield* events.pipe(
        Stream.filter((event) => event._tag === "SessionClosed"),
        Stream.runHead,
        Effect.flatMap(Effect.fromOption),
        Effect.forkScoped({ startImmediately: true })
      )
      const { group, smuggler } = yield* asked(eager)
      const before = held()
      let most = 0
      yield* Effect.promise(async () => {
        for (let sequence = 0; smuggler.isOpen && sequence < 50; sequence++) {
          const id = smuggler.open("uni")
          await smuggler.send([id, group(sequence)])
          await smuggler.stuff(id, new Uint8Array(50_000), 1)
          most = Math.max(most, held() - before)
        }
      })
      const { by, reason } = yield* Fiber.join(closed)
      assert.strictEqual(by, "transport")
      assert.match(reason, /nobody has read costs \d+ bytes/)
      assert.isBelow(most, 150)
      yield* works
    }).pipe(Effect.provide(relayWith())), outer)
})

describe("peers that begin and never go on", () => {
  const timeout = "1 second"
  const clientHello = Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc)
  const half = byHand.hello([draft03.version]).subarray(0, 4)

  /** Sends messages over a WebSocket, and waits for its end. */
  const upgraded = (...messages: ReadonlyArray<Uint8Array>) => (port: number) =>
    Effect.gen(function*() {
      const peer = yield* peers.webSocket(`wss://127.0.0.1:${port}`, [peers.subprotocol])
      yield* peer.opened
      for (const message of messages) peer.socket.send(message)
      yield* peer.closed
    })
  const raw = (bytes: string | Uint8Array) => (port: number) =>
    Effect.flatMap(peers.raw(port, bytes), ({ ended }) => ended)
  const secure = (bytes: string) => (port: number) =>
    Effect.callback<void>((resume) => {
      const socket = Tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => socket.write(bytes))
      socket.on("error", () => {})
      socket.on("close", () => resume(Effect.void))
      socket.resume()
      return Effect.sync(() => socket.destroy())
    })

  const steps: ReadonlyArray<(port: number) => Effect.Effect<unknown, never, Scope.Scope>> = [
    raw(""),
    raw(clientHello),
    secure(""),
    secure("GET / HTTP/1.1\r\nHost: localh"),
    upgraded(),
    upgraded(peers.parameters),
    upgraded(peers.parameters, Uint8Array.of(0x0a, 0x00, half.length, ...half))
  ]

  it.live("a hundred of them, at each step of the handshake, keep nobody from anything", () =>
    Effect.gen(function*() {
      const works = yield* beside
      const { sessions, urls } = yield* Relay.Relay
      const port = Number(new URL(urls[0]!).port)
      const loris = Array.from({ length: 105 }, (_, index) => steps[index % steps.length]!(port))
      const all = yield* Effect.forkScoped(Effect.all(loris, { concurrency: "unbounded", discard: true }))
      while (all.pollUnsafe() === undefined) {
        yield* works
        yield* Effect.sleep("20 millis")
      }
      yield* Fiber.join(all)
      yield* sessions.pipe(Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (open) => open === 2 }))
      yield* works
    }).pipe(
      Effect.provide(relayWith({
        limits: { handshakeTimeout: timeout },
        relay: { session: { limits: { setup: timeout } } }
      }))
    ), outer)

  it.live("a message without an end is cut off at the largest that there may be", () =>
    Effect.gen(function*() {
      const works = yield* beside
      const { urls } = yield* Relay.Relay
      const peer = yield* peers.webSocket(`wss://127.0.0.1:${new URL(urls[0]!).port}`, [peers.subprotocol])
      yield* peer.opened
      peer.socket.send(peers.parameters)
      let sent = 0
      const more = () => {
        if (peer.socket.readyState !== peer.socket.OPEN || sent >= 64 * 1024 * 1024) return
        sent += 1024
        peer.socket.send(new Uint8Array(1024), { fin: false }, () => setImmediate(more))
      }
      more()
      yield* peer.closed
      assert.isBelow(sent, 64 * 1024 * 1024)
      yield* works
    }).pipe(Effect.provide(relayWith())), outer)
})
