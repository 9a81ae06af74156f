import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as MoqError from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { answer, ByHand, closed, concat, hello, info, server, takeSubscribe, type, written } from "./byHand.ts"
import { bytes, connect, ended, ledger, pair, publishNumbers, read, settle } from "./sessions.ts"

const { draft03, fork02, fork04 } = Profile

/** A server session to be, and a client made by hand. */
const accepting = (options?: Session.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair()
    const fiber = yield* Effect.forkScoped(Effect.flip(Session.accept(right, options)))
    yield* settle
    return { peer: new ByHand(left, draft03), fiber, right }
  })

/** A client session to be, and a server made by hand that has read the client's offer. */
const connecting = (options?: Session.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair()
    const fiber = yield* Effect.forkScoped(Effect.flip(connect(left, options)))
    const peer = new ByHand(right, draft03)
    const control = yield* peer.accept
    yield* control.stream.receive.pull
    return { peer, fiber, control }
  })

const failure = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.map(settle, () => {
    const exit = ended(fiber)
    assert.isDefined(exit, "the handshake hangs")
    if (!Exit.isSuccess(exit)) throw new Error("the handshake was to fail with an error")
    return exit.value
  })

describe("Handshake", () => {
  it.effect.each(
    [
      [[draft03, fork04, fork02], [draft03, fork04, fork02], "draft03"],
      [[fork02, fork04, draft03], [draft03, fork04, fork02], "draft03"],
      [[draft03, fork04, fork02], [fork02, fork04, draft03], "fork02"],
      [[fork04, fork02], [draft03, fork02, fork04], "fork02"],
      [[draft03, fork04], [fork02, fork04], "fork04"],
      [[fork04], [fork04], "fork04"]
    ] as const
  )(
    "the server takes the first of its own list that the client offers: %#",
    ([offered, preferred, chosen]) =>
      Effect.gen(function*() {
        const { client, server } = yield* pair({ profiles: offered }, { profiles: preferred })
        assert.strictEqual(client.profile, chosen)
        assert.strictEqual(server.profile, chosen)
      })
  )

  it.effect("a client offers what it speaks, in its order", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      yield* Effect.forkScoped(connect(left, { profiles: [fork02, draft03] }))
      const control = yield* new ByHand(right, draft03).accept
      assert.strictEqual(yield* control.hear(StreamType.decodeBi), "session")
      const { versions } = yield* control.hear(SessionClient.decode)
      assert.deepStrictEqual(versions, [fork02.version, draft03.version])
    }))

  it.effect("refuses a client with which it shares no version: 9, and both sides fail typed", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting({ profiles: [draft03] })
      const control = yield* peer.open(hello([fork02.version, 0xff0bad99]))
      const error = yield* failure(fiber)
      assert.strictEqual(error._tag, "MoqUnsupportedVersion")
      assert.include(error.message, "0xff0bad02")
      assert.deepStrictEqual(yield* control.ends, [9, 9])
      assert.strictEqual((yield* closed(peer.connection))?.code, 9)
    }))

  it.effect("a client with no version in common fails with UnsupportedVersion", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const [client, server] = yield* Effect.all([
        Effect.flip(connect(left, { profiles: [fork02] })),
        Effect.flip(Session.accept(right, { profiles: [draft03, fork04] }))
      ], { concurrency: 2 })
      assert.strictEqual(client._tag, "MoqUnsupportedVersion")
      assert.strictEqual(server._tag, "MoqUnsupportedVersion")
    }))

  it.effect("a client takes a reset of the Session stream with 9 for UnsupportedVersion", () =>
    Effect.gen(function*() {
      const { control, fiber } = yield* connecting()
      yield* control.stream.send.reset(9)
      assert.strictEqual((yield* failure(fiber))._tag, "MoqUnsupportedVersion")
    }))

  it.effect("a client takes a close with 6 for Unauthorized, with its reason", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* connecting()
      yield* peer.connection.close(6, "no token")
      const error = yield* failure(fiber)
      assert.strictEqual(error._tag, "MoqUnauthorized")
      assert.include(error.message, "no token")
    }))

  it.effect("a client fails with SessionClosed when the server just leaves", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* connecting()
      yield* peer.connection.close(42, "bye")
      assert.deepStrictEqual(
        yield* failure(fiber),
        new MoqError.SessionClosed({ code: 42, reason: "bye", by: "remote" })
      )
    }))

  it.effect("a client refuses a version that it has not offered: 15", () =>
    Effect.gen(function*() {
      const { control, fiber, peer } = yield* connecting({ profiles: [fork02] })
      yield* control.write(answer(draft03.version))
      assert.strictEqual((yield* failure(fiber))._tag, "MoqProtocolViolation")
      assert.strictEqual((yield* closed(peer.connection))?.code, 15)
    }))

  it.effect("a client refuses garbage in place of an answer: 5", () =>
    Effect.gen(function*() {
      const { control, fiber, peer } = yield* connecting()
      yield* control.write(answer(draft03.version).slice(0, 4))
      yield* control.finish
      assert.strictEqual((yield* failure(fiber))._tag, "MoqDecodeError")
      assert.strictEqual((yield* closed(peer.connection))?.code, 5)
    }))

  it.effect("a client waits for the answer, and no longer than 5 seconds: 3", () =>
    Effect.gen(function*() {
      const { control, fiber, peer } = yield* connecting()
      const bytes = answer(draft03.version)
      yield* control.write(bytes.slice(0, 3))
      yield* settle
      yield* TestClock.adjust("4999 millis")
      yield* settle
      assert.isUndefined(ended(fiber))
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* failure(fiber))._tag, "MoqTimeout")
      assert.strictEqual((yield* closed(peer.connection))?.code, 3)
    }))

  it.effect.each(["announce", "subscribe", "fetch", "info"] as const)(
    "refuses a first stream that is not Session: %s, 10",
    (other) =>
      Effect.gen(function*() {
        const { fiber, peer } = yield* accepting()
        yield* peer.open(type(other))
        assert.strictEqual((yield* failure(fiber))._tag, "MoqUnexpectedStream")
        assert.strictEqual((yield* closed(peer.connection))?.code, 10)
      })
  )

  it.effect("refuses a first stream of an unknown type: 10", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting()
      yield* peer.open(written((writer) => writer.varint(77)))
      assert.strictEqual((yield* failure(fiber))._tag, "MoqUnexpectedStream")
      assert.strictEqual((yield* closed(peer.connection))?.code, 10)
    }))

  it.effect("refuses a second bidirectional stream before SETUP is done: 15", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting()
      yield* peer.open(type("session"))
      yield* settle
      assert.isUndefined(ended(fiber))
      yield* peer.open(type("announce"))
      yield* failure(fiber)
      assert.strictEqual((yield* closed(peer.connection))?.code, 15)
    }))

  it.effect("refuses a unidirectional stream before SETUP is done: 15", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting()
      yield* peer.group(0, 0)
      yield* failure(fiber)
      assert.strictEqual((yield* closed(peer.connection))?.code, 15)
    }))

  it.effect("streams that follow SETUP at once are no violation", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const fiber = yield* Effect.forkScoped(Session.accept(right))
      const peer = new ByHand(left, fork02)
      const control = yield* peer.open(hello([fork02.version]))
      yield* control.hear(SessionServer.decode)
      const stream = yield* peer.subscribe(["nobody"])
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* stream.ends, [13, 13])
      assert.isUndefined(yield* closed(left))
    }))

  it.effect("waits 5 seconds in all for the Session stream and its SETUP, however they trickle: 3", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting()
      yield* TestClock.adjust("3 seconds")
      const control = yield* peer.open(type("session"))
      const setup = hello([draft03.version]).slice(1)
      for (let i = 0; i < 2; i++) {
        yield* settle
        assert.isUndefined(ended(fiber))
        yield* control.write(setup.slice(i, i + 1))
        yield* settle
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual((yield* failure(fiber))._tag, "MoqTimeout")
      assert.strictEqual((yield* closed(peer.connection))?.code, 3)
    }))

  it.effect("a client that opens no stream has 5 seconds: 3", () =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting()
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* failure(fiber))._tag, "MoqTimeout")
      assert.strictEqual((yield* closed(peer.connection))?.code, 3)
    }))

  it.effect.each(
    [
      ["half a SETUP", 5, hello([draft03.version]).slice(0, 5)],
      ["nothing but the stream type", 5, type("session")],
      ["nothing", 5, new Uint8Array(0)],
      ["an extension twice", 5, concat(type("session"), Uint8Array.of(1, 3, 2, 1, 0, 1, 0))],
      ["65 versions", 11, concat(type("session"), Uint8Array.of(0x40, 65), new Uint8Array(66))],
      ["65 extensions", 11, concat(type("session"), Uint8Array.of(1, 3, 0x40, 65))]
    ] as const
  )("refuses %s: %s", ([, code, bytes]) =>
    Effect.gen(function*() {
      const { fiber, peer } = yield* accepting()
      const control = yield* peer.open(...(bytes.length > 0 ? [bytes] : []))
      yield* control.finish
      const error = yield* failure(fiber)
      assert.strictEqual(MoqError.toCode(error), code)
      assert.strictEqual((yield* closed(peer.connection))?.code, code)
    }))

  it.effect("64 versions are no problem, unknown extensions neither", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const fiber = yield* Effect.forkScoped(Session.accept(right))
      const versions = Array.from({ length: 63 }, (_, i) => 0xff0bad40 + i)
      const control = yield* new ByHand(left, draft03).open(
        hello([...versions, fork04.version]).slice(0, -1),
        Uint8Array.of(1, 9, 2, 7, 7)
      )
      assert.strictEqual((yield* control.hear(SessionServer.decode)).version, fork04.version)
      assert.strictEqual((yield* Fiber.join(fiber)).profile, "fork04")
    }))

  it.effect("the end of the Session stream, by either side, is the end of the session", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const fiber = yield* Effect.forkScoped(Session.accept(right))
      const control = yield* new ByHand(left, draft03).open(hello([draft03.version]))
      const session = yield* Fiber.join(fiber)
      yield* control.finish
      yield* settle
      assert.strictEqual((yield* session.closed).code, 0)
      assert.strictEqual((yield* closed(left))?.code, 0)
    }))

  it.effect("so is a reset of it, and a peer that wants no more of it", () =>
    Effect.gen(function*() {
      for (const [how, code] of [["reset", 65], ["stop", 0]] as const) {
        const { control, peer, session } = yield* server(draft03)
        yield* how === "reset" ? control.stream.send.reset(65) : control.stream.receive.stop(7)
        yield* settle
        assert.strictEqual((yield* closed(peer.connection))?.code, code, how)
        assert.strictEqual((yield* session.closed).by, "local")
      }
    }))

  // extensions: [id, payload] as they are written
  const extended = (...extensions: ReadonlyArray<readonly [number, string]>) =>
    written((writer) => {
      writer.varint(extensions.length)
      for (const [id, payload] of extensions) {
        writer.varint(id)
        writer.blob(bytes(payload))
      }
    })

  it.effect("unknown extensions of a client are ignored: the session works", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const fiber = yield* Effect.forkScoped(Session.accept(right))
      const peer = new ByHand(left, draft03)
      const offer = hello([draft03.version]).slice(0, -1)
      const control = yield* peer.open(offer, extended([9, "what"], [4_000, ""], [0, "x".repeat(4_096)]))
      const { extensions } = yield* control.hear(SessionServer.decode)
      assert.deepStrictEqual(extensions, [])
      const session = yield* Fiber.join(fiber)
      yield* publishNumbers(session, ["room", "numbers"], 2)
      const stream = yield* peer.subscribe(["room", "numbers"])
      assert.strictEqual((yield* stream.hear(Info.decode)).latest, 1)
      assert.deepStrictEqual((yield* peer.takeGroup).frames, ["1"])
    }))

  it.effect("unknown extensions of a server are ignored: the session works", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const fiber = yield* Effect.forkScoped(connect(left))
      const peer = new ByHand(right, draft03)
      const control = yield* peer.accept
      yield* control.stream.receive.pull
      yield* control.write(answer(draft03.version).slice(0, -1), extended([9, "what"], [70_000, "ever"]))
      const session = yield* Fiber.join(fiber)
      const asking = yield* Effect.forkScoped(session.subscribe(["live"]))
      const { message, stream } = yield* takeSubscribe(peer)
      yield* stream.say(Info.encode, info(0))
      const reading = yield* read(yield* Fiber.join(asking))
      yield* peer.group(message.id, 0, "a")
      yield* settle
      assert.deepStrictEqual(reading.log, ["0:a"])
    }))

  it.effect("an extension twice is refused on both sides: 5", () =>
    Effect.gen(function*() {
      const twice = extended([9, "a"], [8, "b"], [9, "a"])
      const one = yield* accepting()
      yield* one.peer.open(hello([draft03.version]).slice(0, -1), twice)
      assert.strictEqual((yield* failure(one.fiber))._tag, "MoqDecodeError")
      assert.strictEqual((yield* closed(one.peer.connection))?.code, 5)
      const other = yield* connecting()
      yield* other.control.write(answer(draft03.version).slice(0, -1), twice)
      assert.strictEqual((yield* failure(other.fiber))._tag, "MoqDecodeError")
      assert.strictEqual((yield* closed(other.peer.connection))?.code, 5)
    }))

  it.effect("SETUP has at most 64 extensions, of 4 KiB each, and 64 KiB in all: 11", () =>
    Effect.gen(function*() {
      const many = (count: number, size: number) =>
        extended(...Array.from({ length: count }, (_, id) => [id, "x".repeat(size)] as const))
      for (const extensions of [many(65, 0), many(1, 4_097), many(17, 4_000)]) {
        const one = yield* accepting()
        const control = yield* one.peer.open(hello([draft03.version]).slice(0, -1))
        yield* Effect.forkScoped(Effect.ignore(control.write(extensions)))
        assert.strictEqual((yield* failure(one.fiber))._tag, "MoqBoundsExceeded")
        assert.strictEqual((yield* closed(one.peer.connection))?.code, 11)
        const other = yield* connecting()
        yield* Effect.forkScoped(
          Effect.ignore(other.control.write(answer(draft03.version).slice(0, -1), extensions))
        )
        assert.strictEqual((yield* failure(other.fiber))._tag, "MoqBoundsExceeded")
        assert.strictEqual((yield* closed(other.peer.connection))?.code, 11)
      }
    }))

  it.effect("interrupting either side at any point leaves no stream and no connection behind", () =>
    Effect.gen(function*() {
      for (const side of ["client", "server"] as const) {
        for (let steps = 1; steps < 60; steps++) {
          const [left, right] = yield* Memory.pair()
          const ledgers = [ledger(left), ledger(right)] as const
          const sessions = {
            client: connect(ledgers[0].connection),
            server: Session.accept(ledgers[1].connection)
          }
          const other = yield* Effect.forkChild(
            Effect.scoped(Effect.andThen(sessions[side === "client" ? "server" : "client"], Effect.never))
          )
          const one = yield* Effect.forkChild(Effect.scoped(Effect.andThen(sessions[side], Effect.never)))
          for (let i = 0; i < steps; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(one)
          yield* settle
          assert.isDefined(yield* closed(left))
          yield* Fiber.interrupt(other)
          yield* settle
          assert.deepStrictEqual(ledgers.map(({ held }) => held()), [0, 0], `${side} after ${steps} steps`)
        }
      }
    }))
})
