import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestSchema } from "effect/testing"
import * as Reader from "../../src/coding/Reader.ts"
import * as Wire from "../../src/coding/Wire.ts"
import { BoundsExceeded, DecodeError, FrameTooLarge } from "../../src/core/MoqError.ts"
import { fromHex } from "../fixtures/bytes.ts"

const Point = Schema.TaggedStruct("Point", {
  x: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 })),
  y: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
})

const swapped = { swap: true }
const plain = { swap: false }

const codec = Wire.codec<typeof Point, { readonly swap: boolean }>(Point, {
  encode: (writer, { x, y }, { swap }) => {
    if (x === 13) throw new FrameTooLarge({})
    writer.u8(swap ? y : x)
    if (x === 66) throw new TypeError("a bug")
    writer.u8(swap ? x : y)
  },
  decode: (reader, { swap }) =>
    Reader.decode(
      reader,
      (reader): typeof Point.Type => {
        const first = reader.u8()
        const second = reader.u8()
        if (first === 255) throw new DecodeError({ detail: "255" })
        if (first === 254) throw new BoundsExceeded({ detail: "254" })
        if (first === 253) throw new TypeError("a bug")
        return swap ? { _tag: "Point", x: second, y: first } : { _tag: "Point", x: first, y: second }
      },
      undefined
    )
})

const point = (x: number, y: number): typeof Point.Type => ({ _tag: "Point", x, y })

const decodeError = (hex: string) =>
  Schema.decodeEffect(codec(plain))(fromHex(hex)).pipe(Effect.flip, Effect.map(Wire.toError))

describe("Wire", () => {
  it("makes one codec per profile", () => {
    assert.strictEqual(codec(plain), codec(plain))
    assert.notStrictEqual(codec(plain), codec(swapped))
  })

  it.effect("encodes and decodes by the profile", () =>
    Effect.gen(function*() {
      const asserts = new TestSchema.Asserts(codec(plain))
      yield* asserts.decoding().succeedEffect(fromHex("0102"), point(1, 2))
      yield* asserts.encoding().succeedEffect(point(1, 2), fromHex("0102"))
      const other = new TestSchema.Asserts(codec(swapped))
      yield* other.decoding().succeedEffect(fromHex("0102"), point(2, 1))
      yield* other.encoding().succeedEffect(point(1, 2), fromHex("0201"))
    }))

  it.effect("keeps the layout's error, also inside other schemas", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* decodeError("ff00"), new DecodeError({ detail: "255" }))
      assert.deepStrictEqual(yield* decodeError("fe00"), new BoundsExceeded({ detail: "254" }))
      const nested = Schema.Struct({ points: Schema.Array(codec(plain)) })
      const deep = yield* Effect.flip(Schema.decodeEffect(nested)({ points: [fromHex("0101"), fromHex("fe00")] }))
      assert.deepStrictEqual(Wire.toError(deep), new BoundsExceeded({ detail: "254" }))
      const encoding = yield* Effect.flip(Schema.encodeEffect(codec(plain))(point(13, 0)))
      assert.deepStrictEqual(Wire.toError(encoding), new FrameTooLarge({}))
      assert.include(encoding.message, "frame too large")
    }))

  it.effect("takes exactly one message", () =>
    Effect.gen(function*() {
      for (const hex of ["", "01", "010203"]) assert.instanceOf(yield* decodeError(hex), DecodeError)
    }))

  it.effect("tells a value out of its range from one of another kind", () =>
    Effect.gen(function*() {
      const fail = (value: unknown) =>
        Schema.encodeUnknownEffect(codec(plain))(value).pipe(Effect.flip, Effect.map(Wire.toError))
      assert.instanceOf(yield* fail(point(256, 0)), BoundsExceeded)
      assert.instanceOf(yield* fail({ _tag: "Point", x: "1", y: 0 }), DecodeError)
      assert.instanceOf(yield* fail(undefined), DecodeError)
      const bytes = yield* Effect.flip(Schema.decodeUnknownEffect(codec(plain))("0101"))
      assert.instanceOf(Wire.toError(bytes), DecodeError)
    }))

  it.effect("does not hide a bug in a layout", () =>
    Effect.gen(function*() {
      const decoding = yield* Effect.exit(Schema.decodeEffect(codec(plain))(fromHex("fd00")))
      assert.isTrue(decoding._tag === "Failure" && decoding.cause.reasons[0]?._tag === "Die")
      const encoding = yield* Effect.exit(Schema.encodeEffect(codec(plain))(point(66, 0)))
      assert.isTrue(encoding._tag === "Failure" && encoding.cause.reasons[0]?._tag === "Die")
      // and the shared writer keeps nothing of it
      assert.deepStrictEqual(yield* Schema.encodeEffect(codec(plain))(point(1, 2)), fromHex("0102"))
    }))
})
