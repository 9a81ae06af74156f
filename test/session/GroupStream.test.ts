/** The streams of groups, in every state that one can be in, however the transport gives them. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { StreamReset } from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import { draft03 } from "../../src/message/Profile.ts"
import type * as Peer from "../../src/session/Peer.ts"
import type * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection, Listener, ReceiveStream } from "../../src/transport/Transport.ts"
import { ByHand, concat, frame, greet, info, stopped, takeSubscribe } from "./byHand.ts"
import { connect, ended, owned, read, settle, streams } from "./sessions.ts"

/** A connection that is as another one, but for its unidirectional streams of the peer. */
const but = (connection: Connection, members: Partial<Connection>): Connection =>
  Object.create(connection, Object.getOwnPropertyDescriptors(members)) as Connection

/** One that hands them over. */
const handing = (connection: Connection): Connection =>
  but(connection, {
    onUni: (take) => {
      const next: Effect.Effect<never, unknown> = Effect.flatMap(
        Effect.suspend(() => Scope.provide(connection.acceptUni, Scope.makeUnsafe())),
        (stream) => {
          take(stream)
          return next
        }
      )
      Effect.runFork(next)
    }
  })

/** One of which they can only be pulled, on a fiber. */
const pulling = (connection: Connection): Connection =>
  but(connection, {
    acceptUni: Effect.map(connection.acceptUni, ({ pull, stop }): ReceiveStream => ({ pull, stop })),
    onUni: undefined
  })

const ways = { handing, "as it is": (connection: Connection) => connection, pulling }

const begin = (way: keyof typeof ways, options?: Session.Options, memory?: Memory.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair(memory)
    const connecting = yield* Effect.forkScoped(owned(connect(ways[way](left), { profiles: [draft03], ...options })))
    const hand = new ByHand(right, draft03)
    yield* greet(hand)
    const { scope, value: session } = yield* Fiber.join(connecting)
    const { peer } = session as unknown as { readonly peer: Peer.Peer }
    return { hand, left, peer, scope, session }
  })

/** Asks for a track, and reads it once INFO has come, which `answered` sends. */
const subscribe = ({ hand, session }: { readonly hand: ByHand; readonly session: Session.Session }) =>
  Effect.gen(function*() {
    const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], { from: 0 })))
    const { message, stream } = yield* takeSubscribe(hand)
    const answered = Effect.gen(function*() {
      yield* stream.say(Info.encode, info(0))
      const { close, value } = yield* Fiber.join(asking)
      return { leave: close, reading: yield* read(value) }
    })
    return { id: message.id, answered, leave: Fiber.interrupt(asking) }
  })

/** What a session still does, or keeps, for streams of groups. */
const held = ({ subscriber }: Peer.Peer) => ({
  waiting: subscriber.strays.waiting,
  reading: [...subscriber.sharing.receiving.values()].reduce((sum, { reading }) => sum + reading.size, 0),
  unread: subscriber.context.unread.bytes,
  due: subscriber.newcomers.waiting.first !== undefined
})

const nothing = { waiting: 0, reading: 0, unread: 0, due: false }

const fibers = (peer: Peer.Peer): number =>
  (peer.fibers as unknown as { readonly running?: { readonly size: number } }).running?.size ?? 0

for (const way of Object.keys(ways) as ReadonlyArray<keyof typeof ways>) {
  describe(`GroupStream, ${way}`, () => {
    it.effect.each(["leaves", "closes", "dies"] as const)(
      "in every state, when its session %s, it is stopped, and nothing is left of it",
      (how) =>
        Effect.gen(function*() {
          for (const state of ["header", "track", "frame", "frames"] as const) {
            const all = yield* begin(way)
            const before = streams(all.left)
            const { answered, id, leave } = yield* subscribe(all)
            const begun = state === "track" ? undefined : yield* answered
            const header = all.hand.header(id, 0)
            const stream = yield* state === "header"
              ? all.hand.openUni(header.subarray(0, 2))
              : all.hand.openUni(header, frame("one"), state === "frame" ? frame("two").subarray(0, 2) : frame("two"))
            yield* settle
            assert.deepStrictEqual(
              { ...held(all.peer), unread: 0 },
              state === "header" ? { ...nothing, waiting: 1, due: true } : { ...nothing, reading: 1 },
              state
            )
            switch (how) {
              case "leaves":
                yield* begun?.leave ?? leave
                break
              case "closes":
                yield* Scope.close(all.scope, Exit.fail("no patience"))
                break
              case "dies":
                yield* Memory.kill(all.hand.connection)
            }
            yield* settle
            if (state === "header" && how === "leaves") {
              assert.strictEqual(yield* stopped(stream), "open")
              yield* TestClock.adjust("5 seconds")
            }
            const code = how !== "leaves" ? "open" : state === "header" ? 3 : 0
            assert.deepStrictEqual([state, yield* stopped(stream)], [state, code])
            assert.deepStrictEqual(held(all.peer), nothing, state)
            const group = begun?.reading.log.at(-1)
            // one that closes may let go of its groups before they hear of its end
            const tags = [...(how === "dies" ? [] : ["Cancelled"]), ...(how === "leaves" ? [] : ["SessionClosed"])]
            if (state.startsWith("frame")) assert.include(tags.map((tag) => `0!Moq${tag}`), group)
            if (how === "leaves") assert.strictEqual(streams(all.left), before, state)
            else assert.strictEqual(streams(all.left), 0, state)
            yield* Scope.close(all.scope, Exit.void)
          }
        })
    )

    it.effect("while the track has not come, no more is taken of it", () =>
      Effect.gen(function*() {
        const all = yield* begin(way, {}, { window: 64 })
        const { answered, id } = yield* subscribe(all)
        const stream = yield* all.hand.group(id, 0)
        yield* settle
        const chunks = Array.from({ length: 10 }, (_, i) => frame(String(i).repeat(60)))
        const writing = yield* Effect.forkScoped(
          Effect.andThen(Effect.forEach(chunks, (chunk) => stream.write([chunk])), stream.finish)
        )
        yield* settle
        assert.isUndefined(ended(writing))
        const { reading } = yield* answered
        yield* settle
        assert.strictEqual(ended(writing)?._tag, "Success")
        assert.deepStrictEqual(reading.log, [...chunks.map((_, i) => `0:${String(i).repeat(60)}`), "0."])
        assert.deepStrictEqual(held(all.peer), nothing)
      }))

    it.effect("one that is given up for others, or for what it brings itself, is stopped", () =>
      Effect.gen(function*() {
        const all = yield* begin(way, { limits: { unread: 1000 } })
        const { answered, id } = yield* subscribe(all)
        const asking = yield* Effect.forkScoped(answered)
        const quiet = yield* all.hand.group(id, 0, "x".repeat(600))
        const other = yield* all.hand.group(id, 1, "y".repeat(600))
        const large = yield* all.hand.group(id, 2)
        yield* large.write([frame("z".repeat(2000))])
        // those of before INFO are taken when it comes, before anybody could read them
        const { reading } = yield* Fiber.join(asking)
        yield* settle
        assert.deepStrictEqual([yield* stopped(quiet), yield* stopped(other), yield* stopped(large)], [26, 26, 26])
        assert.deepStrictEqual(held(all.peer), nothing)
        assert.deepStrictEqual(reading.log, ["0-2!26"])
      }))
  })
}

describe("GroupStream", () => {
  it.effect("one that a transport hands over takes no fiber", () =>
    Effect.gen(function*() {
      const all = yield* begin("handing")
      const { answered, id } = yield* subscribe(all)
      const { reading } = yield* answered
      // the one that looks whether they are late
      yield* all.hand.group(id, 0, "0")
      yield* settle
      const before = fibers(all.peer)
      for (let i = 1; i < 50; i++) yield* all.hand.group(id, i, String(i))
      yield* settle
      assert.strictEqual(held(all.peer).reading, 50)
      assert.strictEqual(fibers(all.peer), before)
      assert.strictEqual(reading.log.length, 50)
    }))

  it.effect("a header comes in any cut: byte by byte, among chunks of nothing, with frames or the end right after it", () =>
    Effect.gen(function*() {
      const all = yield* begin("handing")
      const { answered, id } = yield* subscribe(all)
      const { reading } = yield* answered
      const cut = (bytes: Uint8Array) => Array.from(bytes, (byte) => Uint8Array.of(byte))
      const nothings = Array.from({ length: 20_000 }, () => new Uint8Array(0))
      const cuts: ReadonlyArray<ReadonlyArray<Uint8Array>> = [
        cut(all.hand.header(id, 0)),
        cut(concat(all.hand.header(id, 1), frame("one"))),
        [...nothings, ...cut(all.hand.header(id, 20_000)), ...nothings, frame("two")]
      ]
      for (const chunks of cuts) {
        all.peer.subscriber.read({
          pull: Effect.never,
          stop: () => Effect.void,
          onPull: (listener) => {
            assert.isTrue(listener.chunks(chunks as Parameters<Listener["chunks"]>[0]))
            listener.end(Exit.fail(Cause.Done()))
          }
        })
        yield* settle
      }
      assert.deepStrictEqual(reading.log, ["0.", "1:one", "1.", "20000:two", "20000."])
      assert.deepStrictEqual(held(all.peer), nothing)
    }))

  it.effect("one that was stopped takes nothing of what was on its way, and hears no other end", () =>
    Effect.gen(function*() {
      const all = yield* begin("handing")
      const codes: Array<number> = []
      let listener: Listener | undefined
      const { subscriber } = all.peer
      subscriber.read({
        pull: Effect.never,
        stop: (code) => Effect.sync(() => void codes.push(code)),
        onPull: (to) => {
          listener = to
        }
      })
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(listener!.chunks([all.hand.header(0, 0)]))
      listener!.end(Exit.fail(new StreamReset({ code: 3 })))
      assert.deepStrictEqual(codes, [3])
      assert.deepStrictEqual(held(all.peer), nothing)
    }))
})
