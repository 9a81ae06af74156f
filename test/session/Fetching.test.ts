/** Fetching single groups: what is asked, what comes of the answers, and what is left behind. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Profile from "../../src/message/Profile.ts"
import type * as Group from "../../src/model/Group.ts"
import type { FetchOptions } from "../../src/model/Router.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { closed, frame, server, takeFetch, written } from "./byHand.ts"
import { ended, failure, ledger, over, owned, pair, publishNumbers, settle, streams, text } from "./sessions.ts"

/** Reads all of a group: its frames, then how it ended. */
const read = (group: Group.Group) =>
  Effect.gen(function*() {
    const log: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(group.frames, (frame) => Effect.sync(() => log.push(text(frame)))).pipe(
        Effect.andThen(Effect.sync(() => log.push("."))),
        Effect.catch((error) => Effect.sync(() => log.push(`!${error._tag}`)))
      )
    )
    return log
  })

/** A fetch that is asked for, and not answered yet. */
const asked = (profile: Profile.Profile, options?: FetchOptions) =>
  Effect.gen(function*() {
    const { peer, session } = yield* server(profile)
    const before = streams(peer.connection)
    const asking = yield* Effect.forkScoped(owned(session.fetch(["live"], 7, options)))
    const { message, stream } = yield* takeFetch(peer)
    return { session, peer, before, asking, message, stream }
  })

for (const profile of Profile.all) {
  const isDraft = profile.name === "draft03"

  describe(`Fetching, ${profile.name}`, () => {
    it.effect("gives a group from a frame on, as it comes", () =>
      Effect.gen(function*() {
        const { asking, message, stream } = yield* asked(profile, { frame: 3, priority: -5 })
        assert.deepStrictEqual(message, { _tag: "Fetch", path: ["live"], priority: -5, group: 7, frame: 3 })
        yield* settle
        assert.isUndefined(ended(asking))
        yield* stream.write(frame("d").slice(0, 1))
        const { value: group } = yield* Fiber.join(asking)
        assert.deepStrictEqual([group.sequence, group.first, group.count], [7, 3, 4])
        const log = yield* read(group)
        yield* stream.write(frame("d").slice(1), frame(""), frame("e"))
        yield* settle
        assert.deepStrictEqual(log, ["d", "", "e"])
        assert.deepStrictEqual([group.first, group.count, group.end], [3, 6, undefined])
        yield* stream.finish
        yield* settle
        assert.deepStrictEqual(log, ["d", "", "e", "."])
        assert.deepStrictEqual(yield* stream.ends, ["fin", "open"])
        // read again from its beginning, which is frame 3
        const again = yield* read(group)
        yield* settle
        assert.deepStrictEqual(again, ["d", "", "e", "."])
      }))

    it.effect("a refusal is a failure of the fetch, and leaves nothing", () =>
      Effect.gen(function*() {
        const refusals = [
          [13, "MoqNotFound"],
          [6, "MoqUnauthorized"],
          [65, "MoqApp"],
          [11, "MoqBoundsExceeded"],
          [31, "MoqEvicted"],
          // the crate drops the stream, browsers of its time say 501
          [0, isDraft ? "MoqCancelled" : "MoqNotSupportedByPeer"],
          [501, isDraft ? "MoqApp" : "MoqNotSupportedByPeer"],
          [8, isDraft ? "MoqRemote" : "MoqNotSupportedByPeer"]
        ] as const
        for (const [code, tag] of refusals) {
          const { asking, before, peer, stream } = yield* asked(profile)
          yield* stream.stream.abort(code)
          assert.strictEqual((yield* failure(asking))._tag, tag, String(code))
          assert.strictEqual(streams(peer.connection), before)
        }
      }))

    it.effect("an end without anything: an empty group, or a peer that does not serve FETCH", () =>
      Effect.gen(function*() {
        const { asking, stream } = yield* asked(profile)
        yield* stream.finish
        if (!isDraft) return assert.strictEqual((yield* failure(asking))._tag, "MoqNotSupportedByPeer")
        const log = yield* read((yield* Fiber.join(asking)).value)
        yield* settle
        assert.deepStrictEqual(log, ["."])
        assert.strictEqual((yield* stream.ends)[0], "fin")
      }))

    it.effect("silence is a Timeout after 10 seconds", () =>
      Effect.gen(function*() {
        const { asking, before, peer, stream } = yield* asked(profile)
        yield* TestClock.adjust("9999 millis")
        yield* settle
        assert.isUndefined(ended(asking))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* failure(asking))._tag, "MoqTimeout")
        const code = isDraft ? 3 : 0
        assert.deepStrictEqual(yield* stream.ends, [code, code])
        yield* stream.stream.abort(0)
        assert.strictEqual(streams(peer.connection), before)
      }))

    it.effect("what goes wrong later fails the group, and only that", () =>
      Effect.gen(function*() {
        const cut = frame("whole").slice(0, 3)
        const failures = [
          ["!MoqApp", 65, new Uint8Array(0), undefined],
          ["!MoqWrongSize", undefined, cut, 14],
          ["!MoqDecodeError", undefined, Uint8Array.of(0x40), 5],
          ["!MoqFrameTooLarge", undefined, written((writer) => writer.varint(16 * 1024 * 1024 + 1)), isDraft ? 27 : 14]
        ] as const
        for (const [expected, reset, last, code] of failures) {
          const { asking, peer, stream } = yield* asked(profile)
          yield* stream.write(frame("a"), last)
          const log = yield* read((yield* Fiber.join(asking)).value)
          yield* settle
          if (reset === undefined) yield* Effect.ignore(stream.finish)
          else yield* stream.stream.send.reset(reset)
          yield* settle
          assert.deepStrictEqual(log, ["a", expected])
          if (code !== undefined) assert.strictEqual((yield* stream.ends)[0], code)
          assert.isUndefined(yield* closed(peer.connection))
        }
      }))

    it.effect("leaving stops the stream and fails the group; a group that is whole stays readable", () =>
      Effect.gen(function*() {
        const { asking, stream } = yield* asked(profile)
        yield* stream.write(frame("a"))
        const { close, value } = yield* Fiber.join(asking)
        const log = yield* read(value)
        yield* settle
        yield* close
        yield* settle
        assert.deepStrictEqual(log, ["a", "!MoqCancelled"])
        assert.deepStrictEqual(yield* stream.ends, [0, 0])

        const whole = yield* asked(profile)
        yield* whole.stream.write(frame("b"))
        yield* whole.stream.finish
        const fetched = yield* Fiber.join(whole.asking)
        yield* settle
        yield* fetched.close
        const after = yield* read(fetched.value)
        yield* settle
        assert.deepStrictEqual(after, ["b", "."])
      }))

    it.effect("the end of the session fails the fetch, and the group", () =>
      Effect.gen(function*() {
        const { asking, peer, session, stream } = yield* asked(profile)
        yield* stream.write(frame("a"))
        const log = yield* read((yield* Fiber.join(asking)).value)
        const waiting = yield* Effect.forkScoped(session.fetch(["live"], 8))
        yield* settle
        yield* Memory.kill(peer.connection)
        assert.strictEqual((yield* failure(waiting))._tag, "MoqSessionClosed")
        assert.deepStrictEqual(log, ["a", "!MoqSessionClosed"])
        assert.strictEqual((yield* Effect.flip(session.fetch(["live"], 9)))._tag, "MoqSessionClosed")
      }))

    it.effect("what cannot travel is refused before anything is sent", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* server(profile)
        const before = streams(peer.connection)
        const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, number, FetchOptions?]> = [
          [[], 0],
          [["x".repeat(1024)], 0],
          [["a"], -1],
          [["a"], 2 ** 53],
          [["a"], 0, { frame: 0.5 }],
          [["a"], 0, { priority: 128 }]
        ]
        for (const [path, sequence, options] of wrong) {
          assert.strictEqual((yield* Effect.flip(session.fetch(path, sequence, options)))._tag, "MoqBoundsExceeded")
        }
        yield* settle
        assert.strictEqual(streams(peer.connection), before)
      }))

    it.effect("from one session to another", () =>
      Effect.gen(function*() {
        const { client, connections, server } = yield* pair({ profiles: [profile] }, { profiles: [profile] })
        const before = streams(connections[0])
        const track = yield* publishNumbers(server, ["numbers"], 3)
        const log = yield* read((yield* owned(client.fetch(["numbers"], 1))).value)
        const growing = yield* read(yield* client.fetch(["numbers"], 2))
        yield* settle
        assert.deepStrictEqual([log, growing], [["1", "."], ["2"]])
        assert.strictEqual((yield* Effect.flip(client.fetch(["numbers"], 9)))._tag, "MoqNotFound")
        assert.strictEqual((yield* Effect.flip(client.fetch(["nobody"], 0)))._tag, "MoqNotFound")
        yield* track.finish
        yield* settle
        assert.deepStrictEqual(growing, ["2", "."])
        assert.strictEqual(streams(connections[0]), before)
      }))

    it.effect("interrupting it at any point leaves nothing behind, on either side", () =>
      Effect.gen(function*() {
        for (let steps = 0; steps < 60; steps++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const [left, right] = yield* Memory.pair()
            const books = [ledger(left), ledger(right)] as const
            const { client, server } = yield* over([books[0].connection, books[1].connection], {
              profiles: [profile]
            })
            yield* publishNumbers(server, ["numbers"], 3)
            yield* settle
            const held = books.map(({ held }) => held())
            const before = streams(left)
            const fiber = yield* Effect.forkChild(Effect.scoped(
              Effect.flatMap(client.fetch(["numbers"], 2), (group) => Stream.runDrain(group.frames))
            ))
            for (let i = 0; i < steps; i++) yield* Effect.yieldNow
            yield* Fiber.interrupt(fiber)
            yield* settle
            assert.deepStrictEqual([...books.map(({ held }) => held()), streams(left)], [...held, before], `${steps}`)
          }))
        }
      }))
  })
}
