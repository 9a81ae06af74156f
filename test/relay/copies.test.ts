import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { type Connection, type SendStream, Transport } from "../../src/transport/Transport.ts"
import { publish, settle, start } from "./relays.ts"

/** A transport whose connections tell of all that is written to them. */
const watched = (network: Memory.Network, onWrite: (chunk: Uint8Array) => void): Transport => ({
  connect: (url, options) =>
    Effect.map(network.transport.connect(url, options), (connection) => {
      const openUni: Connection["openUni"] = (options) =>
        Effect.map(connection.openUni(options), (stream): SendStream => {
          return {
            write: (chunks) => {
              chunks.forEach(onWrite)
              return stream.write(chunks)
            },
            finish: stream.finish,
            reset: (code) => stream.reset(code),
            setPriority: (priority) => stream.setPriority(priority),
            stopped: stream.stopped
          }
        })
      return Object.create(connection, { openUni: { value: openUni }, onOpenUni: { value: undefined } })
    })
})

describe("a relay", () => {
  it.effect.each([
    { size: 300, frames: 800, batch: 40, viewers: 3 },
    { size: 1_200, frames: 1, batch: 1, viewers: 3 },
    { size: 8_192, frames: 40, batch: 2, viewers: 3 }
  ])(
    "gives its viewers the memory that came in: $frames frames of $size bytes",
    ({ batch, frames, size, viewers }) =>
      Effect.gen(function*() {
        const relay = yield* start()
        const written = new Set<ArrayBufferLike>()
        const session = yield* Effect.provideService(
          Session.connect("https://relay.example"),
          Transport,
          watched(relay.network, (chunk) => void written.add(chunk.buffer))
        )
        const { track } = yield* publish(session, ["video"])
        let got = 0
        let copied = 0
        const view = Effect.gen(function*() {
          const viewer = yield* relay.connect()
          const track = yield* viewer.subscribe(["video"])
          yield* Effect.forkScoped(
            Stream.runForEach(Stream.flatMap(track.groups, (group) => group.frames), (frame) =>
              Effect.sync(() => {
                got++
                if (!written.has(frame.buffer)) copied++
              }))
          )
          yield* settle
        })
        yield* Effect.all(Array.from({ length: viewers }, () => view))

        for (let sequence = 0; sequence < 3; sequence++) {
          const group = yield* track.appendGroup
          for (let i = 0; i < frames; i++) {
            yield* group.writeFrame(new Uint8Array(size).fill(i))
            if (i % batch === batch - 1) yield* settle
          }
          yield* group.finish
          yield* settle
        }
        assert.strictEqual(got, 3 * frames * viewers)
        // a chunk that is a small part of a larger buffer is copied, to let go of that: here the last one of a page
        assert.isBelow(copied, got / 10)
      })
  )
})
