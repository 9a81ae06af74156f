/** How soon what was asked for is there: nothing on the way waits for a turn of the event loop. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Fiber, type Scope } from "effect"
import * as Reader from "../../src/coding/Reader.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { BiStream, Connection, ReceiveStream } from "../../src/transport/Transport.ts"
import { answer, ByHand, concat, frame, info } from "./byHand.ts"
import { connect } from "./sessions.ts"

const profile = Profile.draft03

/** The receiving half of a stream whose chunks come when the test says so, on the test's stack. */
const receiving = () => {
  let resume: ((effect: Effect.Effect<readonly [Uint8Array], Cause.Done>) => void) | undefined
  const stream: ReceiveStream = {
    pull: Effect.callback<readonly [Uint8Array], Cause.Done>((next) => {
      resume = next
    }),
    stop: () => Effect.void
  }
  return {
    stream,
    come: (chunk: Uint8Array) => resume!(Effect.succeed([chunk])),
    end: () => resume!(Effect.fail(Cause.Done()))
  }
}

/** A session whose streams are made by the test, once it is up. */
const byTest = Effect.gen(function*() {
  const [left, right] = yield* Memory.pair()
  const written: Array<Uint8Array> = []
  const answers = receiving()
  const opened: BiStream = {
    send: {
      write: (chunks) => Effect.sync(() => void written.push(...chunks)),
      finish: Effect.void,
      reset: () => Effect.void,
      setPriority: () => Effect.void,
      stopped: Effect.never
    },
    receive: answers.stream
  }
  let isUp = false
  let open: ((stream: ReceiveStream) => void) | undefined
  const connection: Connection = {
    info: left.info,
    capabilities: left.capabilities,
    close: left.close,
    closed: left.closed,
    ping: left.ping,
    openBi: Effect.suspend(() => isUp ? Effect.succeed(opened) : left.openBi),
    openUni: left.openUni,
    acceptBi: left.acceptBi,
    acceptUni: Effect.callback<ReceiveStream, never, Scope.Scope>((resume) => {
      open = (stream) => resume(Effect.succeed(stream))
    })
  }
  const connecting = yield* Effect.forkScoped(connect(connection, { profiles: [profile] }))
  const peer = new ByHand(right, profile)
  const control = yield* peer.accept
  yield* control.hear(StreamType.decodeBi)
  yield* control.hear(SessionClient.decode)
  yield* control.write(answer(profile.version))
  const session = yield* Fiber.join(connecting)
  isUp = true
  return { session, peer, written, answers, open: (stream: ReceiveStream) => open!(stream) }
})

/** A track that is subscribed to, and every look at what has happened on the way to it. */
const joined = Effect.gen(function*() {
  const made = yield* byTest
  const asking = yield* Effect.forkScoped(made.session.subscribe(["live"]), { startImmediately: true })
  const asked = made.written.slice()
  made.answers.come(made.peer.bytesOf(Info.encode, info(0)))
  const answered = asking.pollUnsafe()
  return { ...made, asked, answered, track: yield* Fiber.join(asking) }
})

describe("Joining", () => {
  it.effect("SUBSCRIBE leaves before whoever asks has gone on, and the track is there as soon as INFO is", () =>
    Effect.gen(function*() {
      const { answered, asked, peer } = yield* joined
      assert.strictEqual(asked.length, 1, "one write")
      const reader = Reader.fromBytes(asked[0]!)
      assert.strictEqual(StreamType.decodeBi(reader), "subscribe")
      const message = Subscribe.decode(reader, peer.profile)
      assert.deepStrictEqual(message !== Reader.NeedMore && message.path, ["live"])
      assert.strictEqual(answered?._tag, "Success")
    }))

  it.effect("a group is there, whole, as soon as its stream has come with all of it", () =>
    Effect.gen(function*() {
      const { open, peer, track } = yield* joined
      const { come, end, stream } = receiving()
      open(stream)
      come(concat(peer.header(0, 0), frame("hello"), frame("world")))
      const begun = track.group(0)
      assert.deepStrictEqual([begun?.count, begun?.size, begun?.end], [2, 10, undefined])
      end()
      assert.strictEqual(begun?.end?._tag, "Success")
    }))

  it.effect("a header that is cut anywhere is read as one", () =>
    Effect.gen(function*() {
      const { open, peer, track } = yield* joined
      for (let cut = 1; cut < peer.header(0, 1_000_000).length; cut++) {
        const bytes = concat(peer.header(0, 1_000_000 + cut), frame("hello"))
        const { come, end, stream } = receiving()
        open(stream)
        come(bytes.subarray(0, cut))
        assert.isUndefined(track.group(1_000_000 + cut), `after ${cut} bytes`)
        // one that is whole comes in between
        const other = receiving()
        open(other.stream)
        other.come(concat(peer.header(0, cut), frame("between")))
        other.end()
        come(bytes.subarray(cut))
        end()
        assert.deepStrictEqual([1_000_000 + cut, cut].map((sequence) => track.group(sequence)?.size), [5, 7])
      }
    }))
})
