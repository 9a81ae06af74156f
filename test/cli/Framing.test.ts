import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import * as Framing from "../../src/cli/Framing.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const lengthPrefixed = (frames: ReadonlyArray<Uint8Array>): Uint8Array =>
  Buffer.concat(frames.flatMap((frame) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(frame.length)
    return [length, frame]
  }))

/** The same bytes in chunks of a size, two to a batch. */
const fed = (bytes: Uint8Array, size: number) => {
  const chunks: Array<Uint8Array> = []
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
  return Stream.fromIterable(chunks).pipe(Stream.rechunk(2))
}

const cut = (framing: Framing.Framing, bytes: Uint8Array, size: number) => Stream.runCollect(framing(fed(bytes, size)))

const texts = (frames: ReadonlyArray<Uint8Array>) => frames.map((frame) => decoder.decode(frame))

describe("lines", () => {
  it.effect("are the same however the bytes come", () =>
    Effect.gen(function*() {
      for (const size of [1, 2, 3, 5, 100]) {
        assert.deepStrictEqual(
          texts(yield* cut(Framing.lines, encoder.encode("one\n\ntwo\r\nthree é\nrest"), size)),
          ["one", "", "two\r", "three é", "rest"]
        )
        assert.deepStrictEqual(texts(yield* cut(Framing.lines, encoder.encode("one\n"), size)), ["one"])
        assert.deepStrictEqual(yield* cut(Framing.lines, new Uint8Array(0), size), [])
      }
    }))

  it.effect("that never end are not held for ever", () =>
    Effect.gen(function*() {
      let pulled = 0
      const endless = Stream.fromIterable(Array.from({ length: 64 }, () => new Uint8Array(1024 * 1024))).pipe(
        Stream.rechunk(1),
        Stream.tap(() => Effect.sync(() => pulled++))
      )
      const error = yield* Effect.flip(Stream.runDrain(Framing.lines(endless)))
      assert.strictEqual(error._tag, "MoqFrameTooLarge")
      assert.strictEqual(pulled, 17)
    }))
})

describe("chunks", () => {
  it.effect("have their size, but for the last", () =>
    Effect.gen(function*() {
      for (const size of [1, 3, 4, 5, 9, 100]) {
        assert.deepStrictEqual(texts(yield* cut(Framing.chunks(4), encoder.encode("0123456789"), size)), [
          "0123",
          "4567",
          "89"
        ])
      }
      assert.deepStrictEqual(texts(yield* cut(Framing.chunks(5), encoder.encode("0123456789"), 3)), ["01234", "56789"])
    }))
})

describe("length-prefixed", () => {
  it.effect.prop(
    "gives what was put in",
    [Schema.Array(Schema.String), Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 30 }))],
    ([frames, size]) =>
      Effect.gen(function*() {
        const whole = frames.map((frame) => frame.toWellFormed())
        const bytes = lengthPrefixed(whole.map((frame) => encoder.encode(frame)))
        assert.deepStrictEqual(texts(yield* cut(Framing.lengthPrefixed, bytes, size)), whole)
      })
  )

  it.effect("that ends inside a frame fails after the frames before it", () =>
    Effect.gen(function*() {
      const bytes = lengthPrefixed([encoder.encode("one"), encoder.encode("two")])
      for (const missing of [1, 3, 4, 6]) {
        const got: Array<string> = []
        const error = yield* Framing.lengthPrefixed(fed(bytes.subarray(0, -missing), 100)).pipe(
          Stream.runForEach((frame) => Effect.sync(() => got.push(decoder.decode(frame)))),
          Effect.flip
        )
        assert.strictEqual(error._tag, "MoqWrongSize")
        assert.deepStrictEqual(got, ["one"])
      }
    }))

  it.effect("that is too large fails before its payload is held", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(cut(Framing.lengthPrefixed, Uint8Array.of(1, 0, 0, 1, 9), 5))
      assert.strictEqual(error._tag, "MoqFrameTooLarge")
    }))
})
