import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestSchema } from "effect/testing"
import * as Reader from "../../src/coding/Reader.ts"
import * as Wire from "../../src/coding/Wire.ts"
import * as Writer from "../../src/coding/Writer.ts"
import { fromHex, random, randomBytes, toHex } from "../fixtures/bytes.ts"
import vectors from "../fixtures/vectors.json" with { type: "json" }
import { canonical, type Case, cases, samples } from "./messages.ts"

const encode = (self: Case, message: Parameters<Case["encode"]>[1]) =>
  Writer.encode(Writer.make(), self.encode, message, self.profile)

// the largest a message may be, with all of a frame's payload
const limit = (self: Case) => self.name === "FRAME" ? 16 * 1024 * 1024 + 8 : Reader.maxMessage

// decodes to a message of the schema that encodes again, needs more within the limit, or throws a typed error; else
// throws
const survives = (self: Case, isMessage: (u: unknown) => boolean, bytes: Uint8Array): "message" | "more" | "error" => {
  const reader = Reader.fromBytes(bytes)
  const message = attempt(() => self.decode(reader, self.profile))
  if (message === undefined) return "error"
  if (message === Reader.NeedMore) {
    assert.isAbove(reader.needed, bytes.length)
    assert.isAtMost(reader.needed, limit(self))
    return "more"
  }
  assert.isTrue(isMessage(message), JSON.stringify(message))
  const again = Reader.fromBytes(encode(self, message))
  assert.deepStrictEqual(self.decode(again, self.profile), canonical(message, self.profile))
  return "message"
}

const attempt = <A>(run: () => A): A | undefined => {
  try {
    return run()
  } catch (error) {
    if (Wire.isCodecError(error)) return undefined
    throw error
  }
}

const golden = (self: Case) =>
  vectors.filter((vector) => vector.message === self.name && vector.profile === self.profile.name)
    .filter((vector) => !("error" in vector))
    .map((vector) => fromHex(vector.hex))

describe.each(cases.map((self) => [self.title, self] as const))("%s", (_, self) => {
  it.effect("comes back as it went, or in its canonical form", () =>
    Effect.gen(function*() {
      const equals = Schema.toEquivalence(self.schema)
      for (const message of yield* samples(self, 300)) {
        const bytes = yield* Schema.encodeEffect(self.entry.codec)(message)
        const back = yield* Schema.decodeEffect(self.entry.codec)(bytes)
        assert.isTrue(equals(back, canonical(message, self.profile)), JSON.stringify([message, back]))
        assert.strictEqual(toHex(encode(self, back)), toHex(bytes))
        const json = yield* Schema.encodeEffect(self.entry.json)(back)
        assert.isTrue(equals(back, yield* Schema.decodeEffect(self.entry.json)(JSON.parse(JSON.stringify(json)))))
      }
    }))

  it.effect("decodes the same byte by byte, in any two pieces and all at once", () =>
    Effect.gen(function*() {
      for (const message of yield* samples(self, 40)) {
        const bytes = encode(self, message)
        const whole = canonical(message, self.profile)
        for (let cut = 0; cut < bytes.length; cut++) {
          const reader = Reader.fromBytes(bytes.subarray(0, cut))
          assert.strictEqual(self.decode(reader, self.profile), Reader.NeedMore)
          assert.strictEqual(reader.available, cut)
          reader.push(bytes.subarray(cut))
          assert.deepStrictEqual(self.decode(reader, self.profile), whole)
          assert.strictEqual(reader.available, 0)
        }
        const reader = Reader.make()
        for (let at = 0; at < bytes.length; at++) {
          assert.strictEqual(self.decode(reader, self.profile), Reader.NeedMore)
          reader.push(bytes.subarray(at, at + 1))
        }
        assert.deepStrictEqual(self.decode(reader, self.profile), whole)
      }
    }))

  it.effect("survives every flip of a bit", () =>
    Effect.gen(function*() {
      const isMessage = Schema.is(self.schema)
      const encoded = [...golden(self), ...(yield* samples(self, 10)).map((message) => encode(self, message))]
      assert.isAbove(encoded.length, 10)
      for (const bytes of encoded) {
        for (let bit = 0; bit < bytes.length * 8; bit++) {
          const flipped = bytes.slice()
          flipped[bit >> 3]! ^= 1 << (bit & 7)
          survives(self, isMessage, flipped)
        }
      }
    }))

  it("survives random bytes", () => {
    const next = random(self.title.length)
    const isMessage = Schema.is(self.schema)
    const seen = { message: 0, more: 0, error: 0 }
    for (let run = 0; run < 10_000; run++) {
      const bytes = randomBytes(next, next() & 31)
      // small numbers get further than random ones: counts and lengths fit, enumerations are met
      if (run & 1) { for (let i = 0; i < bytes.length; i++) bytes[i]! &= next() & 3 ? 0x03 : 0x43 }
      seen[survives(self, isMessage, bytes)]++
    }
    assert.isAbove(seen.message, 100)
    assert.isAbove(seen.more, 10)
  })
})

describe("draft03", () => {
  it.effect.each(cases.filter(({ profile }) => profile.name === "draft03"))(
    "$name keeps every value",
    (self) => new TestSchema.Asserts(self.entry.codec).verifyRoundTripEffect({ runs: 200, seed: 5 })
  )
})
