import { assert, describe, it } from "@effect/vitest"
import { Effect, Equal, Schema } from "effect"
import * as MoqError from "../../src/core/MoqError.ts"

// the codes as design and drafts name them; written out here so that a slip in the source does not repeat itself
const named: ReadonlyArray<[number, MoqError.WireError, string]> = [
  [0, new MoqError.Cancelled({}), "MoqCancelled"],
  [1, new MoqError.RequiredExtension({}), "MoqRequiredExtension"],
  [2, new MoqError.Expired({}), "MoqExpired"],
  [3, new MoqError.Timeout({}), "MoqTimeout"],
  [4, new MoqError.TransportError({}), "MoqTransportError"],
  [5, new MoqError.DecodeError({}), "MoqDecodeError"],
  [6, new MoqError.Unauthorized({}), "MoqUnauthorized"],
  [9, new MoqError.UnsupportedVersion({}), "MoqUnsupportedVersion"],
  [10, new MoqError.UnexpectedStream({}), "MoqUnexpectedStream"],
  [11, new MoqError.BoundsExceeded({}), "MoqBoundsExceeded"],
  [12, new MoqError.Duplicate({}), "MoqDuplicate"],
  [13, new MoqError.NotFound({}), "MoqNotFound"],
  [14, new MoqError.WrongSize({}), "MoqWrongSize"],
  [15, new MoqError.ProtocolViolation({}), "MoqProtocolViolation"],
  [26, new MoqError.Lagged({}), "MoqLagged"],
  [27, new MoqError.FrameTooLarge({}), "MoqFrameTooLarge"],
  [31, new MoqError.Evicted({}), "MoqEvicted"]
]

describe("MoqError", () => {
  it.effect.each([...named])("code %s", ([code, error, tag]) =>
    Effect.sync(() => {
      assert.strictEqual(error._tag, tag)
      assert.strictEqual(MoqError.toCode(error), code)
      const back = MoqError.fromCode(code)
      assert.strictEqual(back.constructor, error.constructor)
      assert.isTrue(MoqError.isMoqError(error))
      assert.notStrictEqual(error.message, "")
      assert.strictEqual(MoqError.fromCode(code, "why").message, `${error.message}: why`)
      assert.strictEqual(MoqError.fromCode(code, "").message, error.message)
    }))

  it("gives every small code back, named or not", () => {
    const codes = new Set(named.map(([code]) => code))
    for (let code = 0; code < 300; code++) {
      const error = MoqError.fromCode(code)
      assert.strictEqual(MoqError.toCode(error), code)
      assert.isTrue(MoqError.isMoqError(error))
      assert.strictEqual(error._tag === "MoqRemote", code < 64 && !codes.has(code))
      assert.strictEqual(error._tag === "MoqApp", code >= 64)
    }
  })

  it.effect.prop("gives every code that a varint can hold back", [
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
  ], ([code]) =>
    Effect.sync(() => {
      assert.strictEqual(MoqError.toCode(MoqError.fromCode(code, "reason")), code)
    }), { arbitrary: { runs: 500, seed: 1 } })

  it("keeps an application's own code", () => {
    const error = MoqError.fromCode(64 + 7, "bye")
    assert.deepStrictEqual(error, new MoqError.App({ code: 7, detail: "bye" }))
    assert.throws(() => new MoqError.App({ code: -1 }))
  })

  it("has codes for the local errors, where they must travel", () => {
    const closed = new MoqError.SessionClosed({ code: 6, reason: "no", by: "remote" })
    assert.strictEqual(MoqError.toCode(closed), 6)
    assert.strictEqual(MoqError.toCode(new MoqError.StreamReset({ code: 77 })), 77)
    assert.strictEqual(MoqError.toCode(new MoqError.Overflow({})), 26)
    assert.strictEqual(MoqError.toCode(new MoqError.NotSupportedByPeer({})), 15)
    for (
      const error of [
        closed,
        new MoqError.StreamReset({ code: 0 }),
        new MoqError.Overflow({}),
        new MoqError.NotSupportedByPeer({})
      ]
    ) assert.isTrue(MoqError.isMoqError(error))
  })

  it("says who closed a session, and why", () => {
    const message = (by: MoqError.SessionClosed["by"], reason: string) =>
      new MoqError.SessionClosed({ code: 4, reason, by }).message
    assert.strictEqual(message("local", "done"), "session closed here: done (code 4)")
    assert.strictEqual(message("remote", ""), "session closed by the peer: code 4")
    assert.strictEqual(message("transport", ""), "connection lost: code 4")
  })

  it("reads well, as text and as JSON, and is equal by what it says", () => {
    const error = new MoqError.App({ code: 7, detail: "bye" })
    assert.strictEqual(String(error), "MoqApp: application code 7: bye")
    assert.deepStrictEqual(JSON.parse(JSON.stringify(error)), { _tag: "MoqApp", code: 7, detail: "bye" })
    assert.isTrue(Equal.equals(error, MoqError.fromCode(71, "bye")))
    assert.isFalse(Equal.equals(error, MoqError.fromCode(71, "no")))
    assert.throws(() => new MoqError.App({ code: 0.5 }), RangeError)
  })

  it("tells its own errors from anything else", () => {
    for (const other of [undefined, null, 0, "MoqCancelled", {}, { _tag: "Cancelled" }, { _tag: 1 }, new Error("x")]) {
      assert.isFalse(MoqError.isMoqError(other))
    }
  })

  it.effect("is caught by its tag", () =>
    Effect.gen(function*() {
      const caught = yield* Effect.catchTag(
        Effect.fail(MoqError.fromCode(13, "x")),
        "MoqNotFound",
        (error) => Effect.succeed(error.detail)
      )
      assert.strictEqual(caught, "x")
    }))
})
