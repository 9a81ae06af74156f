import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit } from "effect"
import * as Dgram from "node:dgram"
import type * as Net from "node:net"
import * as Tls from "node:tls"
import * as Certificate from "../../src/node/Certificate.ts"
import * as Probe from "../../src/node/Probe.ts"
import * as peers from "./fixtures/peers.ts"

const outer = 20_000

const timeout = "10 seconds"

/** Tells when the client has hung up. */
const hungUp = () => {
  const deferred = Deferred.makeUnsafe<void>()
  return {
    hungUp: Deferred.await(deferred),
    watch: (socket: Net.Socket) => {
      socket.on("close", () => Deferred.doneUnsafe(deferred, Exit.void))
    }
  }
}

/** A UDP socket that answers each datagram. */
const udp = (answer: (packet: Buffer) => Buffer) =>
  Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket("udp4")
      socket.on("message", (packet, { address, port }) => socket.send(answer(packet), port, address))
      socket.bind(0, "127.0.0.1", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.close())
  )

// what a server says that knows only version 1: the connection's numbers the other way round, then its versions
const negotiation = (packet: Buffer): Buffer => {
  const destination = packet.subarray(6, 6 + packet[5]!)
  const source = packet.subarray(7 + destination.length, 7 + destination.length + packet[6 + destination.length]!)
  return Buffer.concat([
    Uint8Array.of(0x80, 0, 0, 0, 0, source.length),
    source,
    Uint8Array.of(destination.length),
    destination,
    Uint8Array.of(0, 0, 0, 1, 0x1a, 0x2a, 0x3a, 0x4a)
  ])
}

describe("a probe", () => {
  it.live("hangs up once TCP has answered", () =>
    Effect.gen(function*() {
      const { hungUp: gone, watch } = hungUp()
      const port = yield* peers.tcpServer((socket) => watch(socket.resume()))
      assert.strictEqual((yield* Probe.tcp("127.0.0.1", port, timeout)).state, "open")
      yield* gone
    }), outer)

  it.live("hangs up once TLS has answered", () =>
    Effect.gen(function*() {
      const { hungUp: gone, watch } = hungUp()
      const keys = yield* Certificate.generate({ hosts: ["localhost"] })
      const port = yield* peers.listening(() => Tls.createServer(keys).on("connection", watch))
      const spoken = yield* Probe.tls({ host: "localhost", port }, {
        address: "127.0.0.1",
        roots: undefined,
        timeout
      })
      assert.strictEqual(spoken._tag === "Tls" ? spoken.certificate.fingerprint : undefined, keys.fingerprint)
      yield* gone
    }), outer)

  it.live("asks UDP no more once it has answered", () =>
    Effect.gen(function*() {
      const handles = () => process.getActiveResourcesInfo().filter((name) => name === "UDPWrap").length
      const socket = yield* udp(negotiation)
      const before = handles()
      const answer = yield* Probe.quic("127.0.0.1", socket.address().port, timeout)
      assert.deepStrictEqual([answer.state, answer.versions], ["quic", [1]])
      // what is closed goes with the next turn, or this never ends
      while (handles() > before) yield* Effect.sleep("5 millis")
    }), outer)

  it.live("takes a UDP address that the system refuses for one that cannot be reached", () =>
    Effect.gen(function*() {
      const { code, state } = yield* Probe.quic("255.255.255.255", 443, timeout)
      assert.deepStrictEqual([state, code], ["unreachable", "EACCES"])
    }), outer)
})
