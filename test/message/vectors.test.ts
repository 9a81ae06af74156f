import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import * as Reader from "../../src/coding/Reader.ts"
import * as Wire from "../../src/coding/Wire.ts"
import * as Writer from "../../src/coding/Writer.ts"
import { BoundsExceeded, DecodeError } from "../../src/core/MoqError.ts"
import * as Message from "../../src/message/Message.ts"
import * as Profile from "../../src/message/Profile.ts"
import { fromHex, toHex } from "../fixtures/bytes.ts"
import vectors from "../fixtures/vectors.json" with { type: "json" }
import { cases } from "./messages.ts"

interface Vector {
  readonly profile: string
  readonly message: string
  readonly value?: unknown
  readonly hex: string
  readonly error?: string
  readonly decodeOnly?: boolean
}

const find = (vector: Vector) =>
  cases.find((self) => self.name === vector.message && self.profile.name === vector.profile)!

describe("golden bytes", () => {
  it("there are some of every message in every profile", () => {
    const seen = new Set((vectors as ReadonlyArray<Vector>).map(({ message, profile }) => `${message} in ${profile}`))
    for (const { title } of cases) assert.isTrue(seen.has(title), title)
    assert.strictEqual(seen.size, cases.length)
  })

  const titled = (vectors as ReadonlyArray<Vector>).map((vector) =>
    [`${vector.profile} ${vector.message} ${vector.hex.slice(0, 40)}`, vector] as const
  )

  it.effect.each(titled)("%s", ([, vector]) =>
    Effect.gen(function*() {
      const self = find(vector)
      const { entry } = self
      const bytes = fromHex(vector.hex)
      const decoded = yield* Effect.result(Message.decodeHex(entry, vector.hex))
      if (vector.error !== undefined) {
        const error: new(fields: {}) => Wire.CodecError = vector.error === "bounds" ? BoundsExceeded : DecodeError
        assert(Result.isFailure(decoded))
        assert.instanceOf(decoded.failure, error)
        assert.throws(() => self.decode(Reader.fromBytes(bytes), self.profile), error)
        if (vector.value === undefined) return
        // larger than what JSON can hold exactly: refused, never rounded
        assert.instanceOf(yield* Effect.flip(Message.encodeHex(entry, vector.value)), BoundsExceeded)
        return
      }
      assert(Result.isSuccess(decoded))
      assert.deepStrictEqual(decoded.success, vector.value as Schema.Json)
      const message = self.decode(Reader.fromBytes(bytes), self.profile)
      assert(message !== Reader.NeedMore)
      assert.deepStrictEqual(message, yield* Schema.decodeEffect(entry.codec)(bytes))
      if (vector.decodeOnly === true) return
      assert.strictEqual(yield* Message.encodeHex(entry, vector.value), vector.hex)
      assert.strictEqual(toHex(Writer.encode(Writer.make(), self.encode, message, self.profile)), vector.hex)
    }))

  // whole streams, written out by hand from the text of the protocol
  const decodeText = (profile: Profile.Profile, name: string, hex: string) =>
    Message.decodeHex(Message.lookup(name, profile)!, hex.replaceAll(" ", ""))

  it.effect("the whole-stream examples of the text", () =>
    Effect.gen(function*() {
      const { fork02, fork04 } = Profile
      assert.deepStrictEqual(yield* decodeText(fork02, "SESSION_CLIENT", "01 c0000000ff0bad02 00"), {
        versions: [0xff0bad02],
        extensions: []
      })
      const request = { id: 0, path: ["a", "b"], priority: 0, order: "desc", min: null, max: null }
      assert.deepStrictEqual(yield* decodeText(fork02, "SUBSCRIBE", "00 02 0161 0162 80 01 00 00 00"), {
        ...request,
        expires: 0
      })
      assert.deepStrictEqual(yield* decodeText(fork04, "SUBSCRIBE", "00 02 0161 0162 80 01 00 00"), request)
      assert.deepStrictEqual(yield* decodeText(fork02, "INFO", "80 01 00 05"), {
        priority: 0,
        order: "desc",
        latest: 5,
        expires: 0
      })
      assert.deepStrictEqual(yield* decodeText(fork04, "INFO", "80 01 05"), { priority: 0, order: "desc", latest: 5 })
      assert.deepStrictEqual(yield* decodeText(fork02, "GROUP", "00 05"), { subscribe: 0, sequence: 5 })
      assert.deepStrictEqual(yield* decodeText(fork02, "FRAME", "05 68656c6c6f"), { payload: "68656c6c6f" })
    }))
})

describe("Message", () => {
  it("knows the messages of a profile and no other", () => {
    assert.strictEqual(Message.names(Profile.draft03).length, 14)
    assert.notInclude(Message.names(Profile.fork02), "FETCH_UPDATE")
    assert.isUndefined(Message.lookup("FETCH_UPDATE", Profile.fork04))
    assert.isUndefined(Message.lookup("toString", Profile.draft03))
    assert.strictEqual(Message.lookup("GROUP", Profile.draft03), Message.lookup("GROUP", Profile.draft03))
  })

  it.effect("carries extensions as pairs of id and hex", () =>
    Effect.gen(function*() {
      const entry = Message.lookup("SESSION_SERVER", Profile.draft03)!
      const json = { version: 1, extensions: [[7, "beef"], [64, ""]] }
      assert.strictEqual(yield* Message.encodeHex(entry, json), "01020702beef404000")
      assert.deepStrictEqual(yield* Message.decodeHex(entry, "01020702BEEF404000"), json)
    }))

  it.effect("names the error of bad input", () =>
    Effect.gen(function*() {
      const subscribe = Message.lookup("SUBSCRIBE", Profile.draft03)!
      const value = { id: 0, path: ["a"], priority: 0, order: "desc", min: null, max: null, expires: 0 }
      const fail = (change: object) => Effect.flip(Message.encodeHex(subscribe, { ...value, ...change }))
      for (
        const change of [
          { id: -1 },
          { id: 0.5 },
          { priority: 128 },
          { min: 2 ** 53 - 1 },
          { path: Array(33).fill("") },
          { path: ["\ud800"] }
        ]
      ) {
        assert.instanceOf(yield* fail(change), BoundsExceeded)
      }
      for (const change of [{ id: "0" }, { order: "none" }, { path: "a" }, { expires: undefined }]) {
        assert.instanceOf(yield* fail(change), DecodeError)
      }
      for (const hex of ["0", "zz", "", "00"]) {
        const error = yield* Effect.flip(Message.decodeHex(subscribe, hex))
        assert.instanceOf(error, DecodeError)
        assert.isTrue(Wire.isCodecError(error))
      }
    }))
})
