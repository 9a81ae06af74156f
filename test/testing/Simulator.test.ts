import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Random, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { SessionClosed, StreamReset, Timeout, TransportError } from "../../src/core/MoqError.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import { connect, elapsed, open, pair, readAll, send } from "./wires.ts"

const between = (value: number, low: number, high: number) => {
  assert.isAtLeast(value, low)
  assert.isAtMost(value, high)
}

const failsWith = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)

describe("time", () => {
  it.effect("begins at 0, and goes on when nothing is left to run", () =>
    Simulator.run(Effect.gen(function*() {
      const order: Array<string> = []
      const note = (name: string, after: number) =>
        Effect.andThen(Effect.sleep(after), Effect.map(Clock.currentTimeMillis, (at) => order.push(`${name} ${at}`)))
      yield* Effect.all([note("c", 30), note("a", 10), note("b", 10), note("d", 3_600_000 - 30)], {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(order, ["a 10", "b 10", "c 30", "d 3599970"])
    })))

  it.effect("adjust suspends until all that was due has happened", () =>
    Simulator.run(Effect.gen(function*() {
      const order: Array<number> = []
      yield* Effect.forkChild(Effect.gen(function*() {
        for (let i = 0; i < 3; i++) {
          yield* Effect.sleep("1 second")
          yield* Effect.yieldNow
          order.push(i)
        }
      }))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(order, [0, 1, 2])
      yield* TestClock.setTime(10_000)
      assert.strictEqual(yield* Clock.currentTimeMillis, 10_000)
    })))

  it("needs no event loop", () => {
    const program = Simulator.run(Effect.andThen(Effect.sleep("10 minutes"), Clock.currentTimeMillis))
    assert.strictEqual(Effect.runSync(program), 600_000)
  })

  it.effect("runs within a run", () =>
    Simulator.run(Effect.gen(function*() {
      yield* Effect.sleep("1 second")
      const inner = yield* Simulator.run(Effect.andThen(Effect.sleep("1 hour"), Clock.currentTimeMillis))
      assert.strictEqual(inner, 3_600_000)
      assert.strictEqual(yield* Clock.currentTimeMillis, 1_000)
    })))
})

describe("latency", () => {
  it.effect("is exact, one way; a connection takes a round trip, and so does a ping", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, server } = yield* pair()
        assert.strictEqual(yield* Clock.currentTimeMillis, 160)
        const { receive, send } = yield* open(client, server)
        assert.strictEqual(yield* Clock.currentTimeMillis, 240)
        yield* send.write([Uint8Array.of(1)])
        assert.strictEqual(yield* elapsed(receive.pull), 80)
        assert.strictEqual(yield* elapsed(server.ping), 160)
      }),
      { latency: "80 millis" }
    ))

  it.effect("is that of the slower side", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, far, network } = yield* pair({ near: { latency: 20 }, far: { latency: 70 } })
        assert.strictEqual(yield* elapsed(client.ping), 140)
        yield* far.set({ latency: 10 })
        assert.strictEqual(yield* elapsed(client.ping), 40)
        // a host's own conditions stay its own
        yield* network.set({ latency: 500 })
        assert.strictEqual(yield* elapsed(client.ping), 40)
      }),
      { latency: "80 millis" }
    ))

  it.effect("varies by the jitter", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client } = yield* pair()
        const times = new Set<number>()
        for (let i = 0; i < 50; i++) {
          const time = yield* elapsed(client.ping)
          between(time, 100, 141)
          times.add(time)
        }
        assert.isAbove(times.size, 10)
      }),
      { latency: "50 millis", jitter: "20 millis" }
    ))
})

describe("bandwidth", () => {
  const duration = (conditions: Parameters<typeof pair>[0], options?: Simulator.Options) =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, server } = yield* pair(conditions)
        const { receive, send: stream } = yield* open(client, server)
        const reading = yield* Effect.forkChild(readAll(receive))
        const from = yield* Clock.currentTimeMillis
        yield* send(stream, 500_000)
        const { at, bytes } = yield* Fiber.join(reading)
        assert.strictEqual(bytes, 500_001 - 1)
        return at - from
      }),
      options
    )

  it.effect("is what the stream gets", () =>
    Effect.gen(function*() {
      between(yield* duration({}, { bandwidth: "1 Mbit" }), 3_990, 4_040)
      between(yield* duration({ near: { bandwidth: { up: "2 Mbit" } } }), 1_990, 2_020)
      between(yield* duration({ far: { bandwidth: { down: 4e6 } } }), 990, 1_010)
      between(yield* duration({ near: { bandwidth: { down: "1 Kbit" } }, far: { bandwidth: { up: "1 Kbit" } } }), 0, 20)
      between(
        yield* duration({ near: { bandwidth: "unlimited" }, far: { bandwidth: "8 Mbit" } }, { bandwidth: 10 }),
        490,
        510
      )
    }))

  it.effect("is less by what is lost", () =>
    Effect.gen(function*() {
      const time = yield* duration({}, { bandwidth: "1 Mbit", loss: 0.2, seed: 5 })
      between(time, 4_700, 5_400)
    }))

  it.effect("is shared by all connections of a host", () =>
    Simulator.run(Effect.gen(function*() {
      const network = yield* Simulator.Network
      const relay = yield* network.host("relay")
      const viewers = yield* Effect.forEach(["a", "b", "c", "d"], (name) => network.host(name))
      const streams = yield* Effect.forEach(
        viewers,
        (viewer) => Effect.flatMap(connect(relay, viewer), ({ client, server }) => open(client, server))
      )
      yield* relay.set({ bandwidth: "1 Mbit" })
      yield* Effect.forEach(streams, (stream) => Effect.forkChild(send(stream.send, 50_000)))
      const ends = yield* Effect.forEach(streams, ({ receive }) => Effect.forkChild(readAll(receive)))
      for (const { at } of yield* Fiber.joinAll(ends)) between(at, 1_550, 1_610)
    })))

  it.effect("bitrate tells it", () =>
    Simulator.run(Effect.gen(function*() {
      const { client, far, server } = yield* pair({ near: { bandwidth: { up: "3 Mbit" } } })
      assert.strictEqual(yield* client.bitrate!, 3e6)
      assert.strictEqual(yield* server.bitrate!, undefined)
      yield* far.set({ bandwidth: { up: 7_000, down: "2 Kbit" } })
      assert.strictEqual(yield* client.bitrate!, 2_000)
      assert.strictEqual(yield* server.bitrate!, 7_000)
    })))
})

describe("priority", () => {
  const race = (ranks: ReadonlyArray<number>, options?: Simulator.Options, sizes = ranks.map(() => 100_000)) =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, network, server } = yield* pair()
        const streams = yield* Effect.forEach(ranks, (rank) => open(client, server, rank))
        yield* network.set({ bandwidth: "1 Mbit" })
        const from = yield* Clock.currentTimeMillis
        const reading = yield* Effect.forEach(streams, ({ receive }) => Effect.forkChild(readAll(receive)))
        yield* Effect.forEach(streams, (stream, i) => Effect.forkChild(send(stream.send, sizes[i]!)))
        return (yield* Fiber.joinAll(reading)).map(({ at }) => at - from)
      }),
      options
    )

  it.effect("higher ranks go first, whatever was opened first", () =>
    Effect.gen(function*() {
      const [low, high, middle] = yield* race([-5, 2_000_000_000, 0])
      between(high!, 790, 830)
      between(middle!, 1_590, 1_660)
      between(low!, 2_390, 2_490)
    }))

  it.effect("equal ranks share it evenly, by bytes", () =>
    Effect.gen(function*() {
      for (const time of yield* race([7, 7, 7])) between(time, 2_350, 2_450)
      const [small, large] = yield* race([0, 0], {}, [50_000, 150_000])
      between(small!, 780, 840)
      between(large!, 1_590, 1_630)
    }))

  it.effect("without it all take turns, and the capabilities say so", () =>
    Effect.gen(function*() {
      for (const time of yield* race([1, 2, 3], { priority: false })) between(time, 2_350, 2_450)
      const capabilities = Effect.map(pair(), ({ client }) => client.capabilities.priority)
      assert.strictEqual(yield* Simulator.run(capabilities), true)
      assert.strictEqual(yield* Simulator.run(capabilities, { priority: false }), false)
    }))

  it.effect("one that begins later does not get what it did not use before", () =>
    Simulator.run(Effect.gen(function*() {
      const { client, network, server } = yield* pair()
      const [early, late] = yield* Effect.all([open(client, server), open(client, server)])
      yield* network.set({ bandwidth: "1 Mbit" })
      yield* Effect.forkChild(send(early.send, 300_000))
      yield* Effect.forkChild(readAll(early.receive))
      yield* Effect.sleep("1 second")
      yield* Effect.forkChild(send(late.send, 50_000))
      between((yield* readAll(late.receive)).at, 1_780, 1_830)
    })))

  it.effect("holds across connections, and can change", () =>
    Simulator.run(Effect.gen(function*() {
      const network = yield* Simulator.Network
      const from = yield* network.host("from")
      const first = yield* connect(from, yield* network.host("first"))
      const second = yield* connect(from, yield* network.host("second"))
      const one = yield* open(first.client, first.server, 1)
      const two = yield* open(second.client, second.server, 0)
      yield* from.set({ bandwidth: "1 Mbit" })
      const reading = yield* Effect.forEach([one, two], ({ receive }) => Effect.forkChild(readAll(receive)))
      yield* Effect.forEach([one, two], ({ send: stream }) => Effect.forkChild(send(stream, 100_000)))
      yield* Effect.sleep("400 millis")
      yield* two.send.setPriority(2)
      const [oneEnd, twoEnd] = yield* Fiber.joinAll(reading)
      between(twoEnd!.at, 1_190, 1_240)
      between(oneEnd!.at, 1_590, 1_630)
    })))
})

describe("flow control", () => {
  it.effect("a write suspends beyond the window and the send buffer, and goes on when the peer has read", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, server } = yield* pair()
        const { receive, send } = yield* open(client, server)
        yield* send.write([new Uint8Array(9_999 + 500)])
        const blocked = yield* Effect.forkChild(send.write([new Uint8Array(1)]))
        yield* Effect.sleep("1 minute")
        assert.isUndefined(blocked.pollUnsafe())
        yield* receive.pull
        yield* Fiber.join(blocked)
      }),
      { window: 10_000, sendBuffer: 500, latency: "5 millis" }
    ))

  it.effect("a narrow network suspends a write too", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client } = yield* pair()
        const send = yield* client.openUni()
        between(yield* elapsed(send.write([new Uint8Array(50_000)])), 190, 280)
      }),
      { bandwidth: "1 Mbit" }
    ))

  it.effect("opening beyond maxStreams waits", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, server } = yield* pair()
        const first = yield* open(client, server)
        yield* open(client, server)
        const third = yield* Effect.forkChild(client.openUni())
        yield* Effect.sleep("1 minute")
        assert.isUndefined(third.pollUnsafe())
        yield* first.send.reset(0)
        yield* Fiber.join(third)
      }),
      { maxStreams: 2 }
    ))
})

describe("loss", () => {
  it.effect("stalls its stream for more than a round trip, and no other", () =>
    Effect.gen(function*() {
      const packets: Array<Simulator.Packet> = []
      const scenario = Effect.gen(function*() {
        const { client, server } = yield* pair()
        const streams = yield* Effect.all([open(client, server), open(client, server)])
        for (const { receive, send: stream } of streams) {
          yield* Effect.forkScoped(readAll(receive))
          yield* Effect.forkScoped(send(stream, 60_000))
        }
        yield* Effect.sleep("30 seconds")
      })
      yield* Simulator.run(scenario, {
        latency: "100 millis",
        bandwidth: "10 Mbit",
        loss: 0.05,
        seed: 2,
        onPacket: (packet) => packets.push(packet)
      })
      const lost = packets.findIndex(({ bytes, losses }) => losses === 1 && bytes > 1)
      const packet = packets[lost]!
      between(packet.arrives - packet.sent, 100 + 200 * 9 / 8, 100 + 200 * 9 / 8 + 5)
      const after = packets.slice(lost + 1)
      const next = after.find(({ stream }) => stream === packet.stream)!
      const other = after.find(({ losses, stream }) => stream !== packet.stream && losses === 0)!
      assert.isAtLeast(next.arrives, packet.arrives)
      between(other.arrives - other.sent, 100, 102)
      assert.isAbove(packets.filter(({ losses }) => losses > 0).length, 1)
    }))
})

describe("order", () => {
  const arrivals = (options: Simulator.Options) =>
    Effect.gen(function*() {
      const packets: Array<Simulator.Packet> = []
      const scenario = Effect.gen(function*() {
        const { client, server } = yield* pair()
        const streams = yield* Effect.replicateEffect(client.openUni(), 100)
        for (const stream of streams) {
          yield* send(stream, 100)
          yield* Effect.sleep(1)
        }
        return yield* Effect.replicateEffect(Effect.flatMap(server.acceptUni, readAll), 100)
      })
      yield* Simulator.run(scenario, { ...options, onPacket: (packet) => packets.push(packet) })
      return packets
    })
  const isSorted = (packets: ReadonlyArray<Simulator.Packet>) =>
    packets.every(({ arrives }, i) => i === 0 || arrives >= packets[i - 1]!.arrives)

  it.effect("streams overtake each other with `reorder`, not by jitter", () =>
    Effect.gen(function*() {
      assert.isTrue(isSorted(yield* arrivals({ latency: "50 millis", jitter: "40 millis" })))
      const reordered = yield* arrivals({ latency: "50 millis", reorder: 0.2 })
      assert.isFalse(isSorted(reordered))
      // most are as fast as ever
      assert.isAbove(reordered.filter(({ arrives, sent }) => Math.abs(arrives - sent - 50) < 0.001).length, 60)
    }))
})

describe("faults", () => {
  const isCode4 = (error: unknown) => {
    assert.instanceOf(error, StreamReset)
    assert.strictEqual((error as StreamReset).code, 4)
  }

  it.effect("reset: the stream ends at both ends", () =>
    Simulator.run(Effect.gen(function*() {
      const { client, network, server } = yield* pair()
      const { receive, send } = yield* open(client, server)
      yield* network.set({ reset: 1 })
      yield* send.write([Uint8Array.of(1)])
      isCode4(yield* failsWith(receive.pull))
      isCode4(yield* failsWith(send.write([Uint8Array.of(1)])))
      yield* network.set({ reset: 0 })
      yield* open(client, server)
    })))

  it.effect("stop: the stream ends at both ends, and its writer knows the code", () =>
    Simulator.run(Effect.gen(function*() {
      const { client, network, server } = yield* pair()
      const { receive, send } = yield* open(client, server)
      yield* network.set({ stop: 1 })
      yield* send.write([Uint8Array.of(1)])
      assert.strictEqual(yield* send.stopped, 4)
      isCode4(yield* failsWith(receive.pull))
      isCode4(yield* failsWith(send.write([Uint8Array.of(1)])))
    })))

  it.effect("reset and stop: a stream that ends cleanly is whole, whatever else is lost on the way", () =>
    Effect.gen(function*() {
      const bytes = 5 * 1_200 + 7
      const whole = yield* Simulator.runAll(
        Effect.gen(function*() {
          const { client, network, server } = yield* pair()
          const { receive, send } = yield* open(client, server)
          yield* network.set({ reset: 0.05, stop: 0.2, loss: 0.2, bandwidth: "1 Mbit", latency: "20 millis" })
          yield* Effect.forkScoped(Effect.ignore(Effect.andThen(send.write([new Uint8Array(bytes)]), send.finish)))
          const read = yield* Effect.exit(readAll(receive))
          if (Exit.isSuccess(read)) assert.strictEqual(read.value.bytes, bytes)
          return Exit.isSuccess(read)
        }),
        { seeds: 300 }
      )
      assert.sameMembers(Array.from(new Set(whole)), [true, false])
    }))

  it.effect("death: the connection ends at both ends, and others live on", () =>
    Simulator.run(Effect.gen(function*() {
      const { client, far, network, server } = yield* pair()
      const other = yield* connect(far, yield* network.host("other"))
      const send = yield* client.openUni()
      yield* network.set({ death: 1 })
      yield* send.write([Uint8Array.of(1)])
      for (const side of [client, server]) {
        assert.deepInclude({ ...yield* side.closed }, { code: 4, by: "transport" })
      }
      yield* other.client.ping
    })))
})

describe("death of a host", () => {
  it.effect("its peers hear nothing, until the silence is over", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, near, server } = yield* pair()
        const { receive } = yield* open(client, server)
        yield* near.kill()
        assert.strictEqual((yield* client.closed).by, "transport")
        const pulling = yield* Effect.forkChild(failsWith(receive.pull))
        const pinging = yield* Effect.forkChild(failsWith(server.ping))
        yield* Effect.sleep("19 seconds")
        assert.isUndefined(pulling.pollUnsafe())
        assert.strictEqual(yield* elapsed(server.closed), 1_000)
        for (const error of yield* Fiber.joinAll([pulling, pinging])) {
          assert.instanceOf(error, SessionClosed)
          assert.deepInclude({ ...error }, { code: 4, by: "transport" })
        }
      }),
      { silence: "20 seconds", latency: "10 millis" }
    ))

  it.effect("they notice at once when only the process dies; the host can be used again", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { far, near, client } = yield* pair()
        yield* far.kill({ noticed: true })
        assert.strictEqual(yield* elapsed(client.closed), 10)
        const refused = yield* failsWith(near.transport.connect(new URL(far.url)))
        assert.instanceOf(refused, TransportError)
        const again = yield* connect(near, yield* (yield* Simulator.Network).host("Far"))
        yield* again.client.ping
      }),
      { latency: "10 millis" }
    ))
})

describe("connecting", () => {
  it.effect("fails where nobody listens, is refused, or is not answered", () =>
    Simulator.run(Effect.gen(function*() {
      const network = yield* Simulator.Network
      const [a, b] = [yield* network.host("a"), yield* network.host("b")]
      const to = (url: string) => failsWith(a.transport.connect(new URL(url)))
      assert.include((yield* to("https://nowhere")).message, "there is no host nowhere")
      assert.include((yield* to(b.url)).message, "nobody listens on b")
      const { requests } = yield* b.listen
      assert.include((yield* failsWith(Effect.scoped(b.listen))).message, "b listens already")
      assert.strictEqual(yield* elapsed(to(b.url)), 5_000)
      const refusing = yield* Effect.forkChild(Stream.runForEach(requests, (request) => request.refuse(403)))
      assert.include((yield* to(b.url)).message, "status 403")
      yield* Fiber.interrupt(refusing)
      yield* b.set({ offline: true })
      assert.strictEqual(yield* elapsed(Effect.map(to(b.url), (error) => assert.instanceOf(error, Timeout))), 5_000)
      yield* b.set({ offline: false })
      assert.strictEqual((yield* network.ledger).connections, 0)
    })))

  it.effect("a request tells the host, the path and the query", () =>
    Simulator.run(Effect.gen(function*() {
      const network = yield* Simulator.Network
      const [a, b] = [yield* network.host("a"), yield* network.host("b")]
      const { requests } = yield* b.listen
      yield* Effect.forkChild(Effect.scoped(a.transport.connect(new URL("https://b:4443/room?token=1"))))
      const [request] = yield* Stream.runCollect(Stream.take(requests, 1))
      assert.strictEqual(request!.peer, "a")
      assert.strictEqual(request!.url.pathname + request!.url.search, "/room?token=1")
      yield* request!.refuse(404)
    })))
})

describe("partitions", () => {
  it.effect("nothing passes, and nothing is lost once it is over", () =>
    Simulator.run(
      Effect.gen(function*() {
        const { client, far, near, network, server } = yield* pair()
        const { receive, send: stream } = yield* open(client, server)
        const other = yield* connect(near, yield* network.host("other"))
        yield* network.partition([near], [far])
        yield* stream.write([Uint8Array.of(1)])
        const pulling = yield* Effect.forkChild(receive.pull)
        const pinging = yield* Effect.forkChild(server.ping)
        assert.strictEqual(yield* elapsed(other.client.ping), 20)
        yield* Effect.sleep("25 seconds")
        assert.isUndefined(pulling.pollUnsafe())
        assert.isUndefined(pinging.pollUnsafe())
        yield* network.heal
        assert.strictEqual(yield* elapsed(Fiber.join(pulling)), 10)
        assert.strictEqual(yield* elapsed(Fiber.join(pinging)), 10)
        // the silence is counted anew
        yield* Effect.sleep("10 seconds")
        yield* client.ping
      }),
      { latency: "10 millis" }
    ))

  it.effect("the keep-alive of a session notices one before the transport does", () =>
    Simulator.run(
      Effect.gen(function*() {
        const network = yield* Simulator.Network
        const relay = yield* network.host("relay")
        const alice = yield* network.host("alice")
        yield* relay.serve(Relay.make())
        const session = yield* alice.provide(Session.connect(relay.url))
        yield* Effect.sleep("5 minutes")
        assert.isTrue((yield* network.ledger).connections === 1)
        yield* alice.set({ offline: true })
        between(yield* elapsed(session.closed), 15_000, 26_000)
      }),
      { latency: "40 millis", silence: "10 minutes" }
    ))
})

// a publisher, a relay, and a viewer; `network.set` in the middle
const watching = Effect.gen(function*() {
  const network = yield* Simulator.Network
  const relay = yield* network.host("relay")
  yield* relay.serve(Relay.make())
  const publisher = yield* (yield* network.host("alice")).provide(Session.connect(relay.url))
  const track = yield* (yield* publisher.broadcast(["room"])).track("numbers")
  yield* Stream.tick("1 second").pipe(
    Stream.mapEffect(() => Effect.map(Random.nextIntBetween(100, 3_000), (size) => new Uint8Array(size))),
    Stream.run(track.sink({ group: { frames: 2 } })),
    Effect.forkScoped
  )
  const viewer = yield* (yield* network.host("bob")).provide(Session.connect(relay.url))
  const watched = yield* viewer.subscribe(["room", "numbers"], { wait: "10 seconds" })
  const frames = yield* Stream.runCollect(Stream.take(watched.frames, 5))
  return frames.map(({ length }) => length)
})

const bad: Simulator.Options = { latency: "80 millis", jitter: "20 millis", loss: 0.02, bandwidth: "1 Mbit" }

describe("seeds", () => {
  const trace = (seed: number) =>
    Effect.gen(function*() {
      const packets: Array<Simulator.Packet> = []
      const frames = yield* Simulator.run(watching, { ...bad, seed, onPacket: (packet) => packets.push(packet) })
      return { packets, frames }
    })

  it.effect("the same seed is the same run, another one another", () =>
    Effect.gen(function*() {
      const first = yield* trace(7)
      assert.isAbove(first.packets.length, 20)
      assert.deepStrictEqual(yield* trace(7), first)
      assert.notDeepEqual((yield* trace(8)).packets, first.packets)
      assert.notDeepEqual((yield* trace(7.5)).packets, first.packets)
    }))

  it.effect("1,000 runs of a session", () =>
    Effect.gen(function*() {
      const runs = yield* Simulator.runAll(watching, { ...bad, seeds: 1_000 })
      assert.strictEqual(runs.length, 1_000)
      assert.isAbove(new Set(runs.map(String)).size, 990)
    }), 120_000)

  it.effect("runAll stops at the first seed that fails", () =>
    Effect.gen(function*() {
      const ran: Array<number> = []
      const scenario = Effect.gen(function*() {
        const { seed } = yield* Simulator.Network
        ran.push(seed)
        if (seed === 12) return yield* Effect.fail("twelve")
        return seed
      })
      const exit = yield* Effect.exit(Simulator.runAll(scenario, { seed: 10, seeds: 20 }))
      assert.deepStrictEqual(ran, [10, 11, 12])
      assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("with seed 12"))
      assert.deepStrictEqual(yield* Simulator.runAll(scenario, { seeds: [3, 1] }), [3, 1])
    }))
})

describe("failures", () => {
  const causeOf = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.map(Effect.exit(effect), (exit) => Exit.isFailure(exit) ? exit.cause : assert.fail("it succeeded"))

  it.effect("stay what they are, and their cause tells the seed", () =>
    Effect.gen(function*() {
      const error = new Timeout({ detail: "too late" })
      const failing = Simulator.run(Effect.andThen(Effect.sleep(10), Effect.fail(error)), { seed: 77 })
      assert.strictEqual(yield* Effect.catchTag(failing, "MoqTimeout", (error) => Effect.succeed(error)), error)
      assert.include(Cause.pretty(yield* causeOf(failing)), "Simulator.run with seed 77")
      const dying = Simulator.run(Effect.sync(() => assert.strictEqual(1, 2)), { seed: 78 })
      assert.include(Cause.pretty(yield* causeOf(dying)), "Simulator.run with seed 78")
      const waiting = yield* causeOf(Simulator.run(Effect.never, { seed: 79 }))
      assert.include(Cause.pretty(waiting), "seed 79")
    }))

  it.effect("a deadlock is found, and tells who waits", () =>
    Effect.gen(function*() {
      let isInterrupted = false
      const scenario = Effect.gen(function*() {
        const { client, server } = yield* pair()
        yield* open(client, server)
        yield* Effect.forkChild(server.acceptBi)
        const deferred = yield* Deferred.make<void>()
        yield* Effect.onInterrupt(Deferred.await(deferred), () =>
          Effect.sync(() => {
            isInterrupted = true
          }))
      })
      const error = yield* failsWith(Simulator.run(scenario, { latency: "10 millis" }))
      assert.isTrue(isInterrupted)
      assert.strictEqual(error._tag, "Deadlock")
      assert.deepInclude({ ...error }, { time: 30, fibers: 2, suspended: ["far: acceptBi with near"] })
    }))

  it.effect("a scenario does not go on for ever", () =>
    Effect.gen(function*() {
      const ticking = Effect.forever(Effect.sleep("1 second"))
      const error = yield* failsWith(Simulator.run(ticking, { timeLimit: "2 minutes" }))
      assert.deepInclude({ ...error }, { _tag: "TimeLimit", timeLimit: 120_000, seed: 1 })
    }))

  it.effect("a fiber that is left over is found", () =>
    Effect.gen(function*() {
      const error = yield* failsWith(Simulator.run(Effect.forkDetach(Effect.never)))
      assert.deepInclude({ ...error }, { _tag: "Leak", fibers: 1, connections: 0, streams: 0 })
      yield* Simulator.run(Effect.forkDetach(Effect.never), { allowLeaks: true })
      // what comes to an end by itself is not
      yield* Simulator.run(Effect.forkDetach(Effect.sleep("10 seconds")))
    }))

  it.effect("a connection that is left over is found, with its streams", () =>
    Effect.gen(function*() {
      const scenario = Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { client } = yield* Scope.provide(pair(), scope)
        yield* Scope.provide(client.openBi, scope)
      })
      const error = yield* failsWith(Simulator.run(scenario))
      assert.deepInclude({ ...error }, { _tag: "Leak", fibers: 0, connections: 1, streams: 1 })
    }))

  it.effect("the ledger counts while it runs", () =>
    Simulator.run(Effect.gen(function*() {
      const { client, network, server } = yield* pair()
      assert.deepStrictEqual(yield* network.ledger, { connections: 1, streams: 0, fibers: 1 })
      const { send, receive } = yield* open(client, server)
      yield* client.openBi
      assert.strictEqual((yield* network.ledger).streams, 2)
      yield* send.finish
      yield* readAll(receive)
      yield* Effect.sleep(1)
      assert.strictEqual((yield* network.ledger).streams, 1)
    })))

  it.effect("an interruption ends the scenario, its finalizers too", () =>
    Effect.gen(function*() {
      const ended: Array<string> = []
      const started = yield* Deferred.make<void>()
      const scenario = Effect.gen(function*() {
        yield* Effect.addFinalizer(() =>
          Effect.andThen(Effect.sleep("5 seconds"), Effect.sync(() => ended.push("ended")))
        )
        yield* pair()
        yield* Deferred.succeed(started, undefined)
        yield* Effect.forever(Effect.yieldNow)
      })
      const fiber = yield* Effect.forkChild(Simulator.run(scenario))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(ended, ["ended"])
    }))

  it.effect("invalid options are a defect", () =>
    Effect.gen(function*() {
      const invalid: ReadonlyArray<Simulator.Options> = [
        { loss: 2 },
        { latency: "-1 millis" },
        { latency: "Infinity" },
        { bandwidth: 0 },
        { bandwidth: "1.2.3 Mbit" as "1 Mbit" },
        { window: 0 },
        { seed: Number.NaN }
      ]
      for (const options of invalid) {
        const cause = yield* causeOf(Simulator.run(Effect.void, options))
        assert.isTrue(Cause.hasDies(cause), JSON.stringify(options))
      }
    }))
})
