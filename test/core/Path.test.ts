import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Exit, Schema } from "effect"
import { BoundsExceeded } from "../../src/core/MoqError.ts"
import * as Path from "../../src/core/Path.ts"

const utf8 = new TextEncoder()

const wellFormed = Schema.String.check(
  Schema.isMaxLength(40),
  Schema.makeFilter((s: string) => s.isWellFormed(), { expected: "a well-formed string" })
)

const paths = Schema.Array(wellFormed).check(Schema.isMaxLength(6))

// few letters, so that two of them often begin alike
const similar = Schema.Array(Schema.Literals(["", "a", "b", "a/b", "\"", ","])).check(Schema.isMaxLength(4))

const isBoundsExceeded = (path: Path.Path) =>
  Effect.map(Effect.exit(Path.validate(path)), (exit) => {
    if (Exit.isSuccess(exit)) return false
    const [reason] = exit.cause.reasons
    return reason?._tag === "Fail" && reason.error instanceof BoundsExceeded
  })

describe("Path", () => {
  it.effect("is within its bounds up to 32 parts and 1,023 bytes, and not beyond", () =>
    Effect.gen(function*() {
      const within = [
        Path.empty,
        Array.from({ length: 32 }, () => "x"),
        ["x".repeat(1023)],
        ["\u00e9".repeat(511), "x"],
        ["\u20ac".repeat(341)],
        ["\u{1f600}".repeat(255), "abc"]
      ]
      const beyond = [
        Array.from({ length: 33 }, () => "x"),
        ["x".repeat(1024)],
        ["x".repeat(1023), "y"],
        ["\u00e9".repeat(512)],
        ["\u20ac".repeat(341), "x"],
        ["\u{1f600}".repeat(256)],
        ["\ud800"],
        ["ok", "\udc00\ud800"]
      ]
      for (const path of within) {
        assert.strictEqual(yield* Path.validate(path), path)
        assert.isTrue(Schema.is(Path.Path)(path))
      }
      for (const path of beyond) {
        assert.isTrue(yield* isBoundsExceeded(path))
        assert.isFalse(Schema.is(Path.Path)(path))
      }
    }))

  it("reads and writes the form that people type", () => {
    assert.deepStrictEqual(Path.fromString("room/alice/clock"), ["room", "alice", "clock"])
    assert.deepStrictEqual(Path.fromString("/room//alice/"), ["room", "alice"])
    assert.deepStrictEqual(Path.fromString(""), [])
    assert.deepStrictEqual(Path.fromString("///"), [])
    assert.strictEqual(Path.format(["room", "alice"]), "room/alice")
    assert.strictEqual(Path.format(Path.empty), "")
  })

  it.effect.prop("counts bytes as TextEncoder does", [paths], ([path]) =>
    Effect.sync(() => {
      const expected = path.reduce((total, part) => total + utf8.encode(part).length, 0)
      assert.strictEqual(Path.byteLength(path), expected)
    }), { arbitrary: { runs: 500, seed: 1 } })

  it.effect.prop("has one schema and one validation", [Arbitrary.schema(paths)], ([path]) =>
    Effect.gen(function*() {
      assert.strictEqual(Schema.is(Path.Path)(path), !(yield* isBoundsExceeded(path)))
    }), { arbitrary: { runs: 200, seed: 2 } })

  it.effect.prop("has a key that equal paths share, and no others", [similar, similar], ([a, b]) =>
    Effect.sync(() => {
      const same = a.length === b.length && a.every((part, i) => part === b[i])
      assert.strictEqual(Path.key(a) === Path.key(b), same)
      assert.strictEqual(Path.equals(a, b), same)
    }), { arbitrary: { runs: 500, seed: 3 } })

  it.effect.prop("reads back what it formats, when no part is empty or has a slash", [
    Schema.Array(wellFormed.check(Schema.makeFilter((s: string) => s !== "" && !s.includes("/"))))
      .check(Schema.isMaxLength(6))
  ], ([path]) =>
    Effect.sync(() => {
      assert.deepStrictEqual(Path.fromString(Path.format(path)), path)
    }), { arbitrary: { runs: 200, seed: 4 } })

  it.effect.prop(
    "finds and strips the prefixes that it was put together from",
    [similar, similar],
    ([a, b]) =>
      Effect.sync(() => {
        const whole = Path.concat(a, b)
        assert.deepStrictEqual(whole, [...a, ...b])
        assert.isTrue(Path.hasPrefix(whole, a))
        assert.isTrue(Path.hasPrefix(whole, Path.empty))
        assert.deepStrictEqual(Path.stripPrefix(whole, a), b)
        const prefix = b.length <= a.length && b.every((part, i) => part === a[i])
        assert.strictEqual(Path.hasPrefix(a, b), prefix)
        assert.strictEqual(Path.stripPrefix(a, b) === undefined, !prefix)
      }),
    { arbitrary: { runs: 500, seed: 5 } }
  )

  it("compares parts, not text", () => {
    assert.isFalse(Path.hasPrefix(["room-2"], ["room"]))
    assert.isFalse(Path.hasPrefix(["room"], ["room", "alice"]))
    assert.isFalse(Path.equals(["a/b"], ["a", "b"]))
  })
})
