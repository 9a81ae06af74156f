import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { createHmac } from "node:crypto"
import * as Token from "../../src/node/Token.ts"
import * as TokenKey from "../../src/node/TokenKey.ts"
import { base64url, edDsa, es256, type Hand, hs256, now, rs256, token } from "./fixtures/tokens.ts"

const keyOf = (hand: Hand) => TokenKey.fromJwk(hand.jwk)

const reason = <A>(effect: Effect.Effect<A, Token.InvalidToken>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error._tag, "MoqInvalidToken")
    return error.message
  })

const atNow = TestClock.setTime(now * 1000)

const claims = { root: "room/123", put: ["alice"], get: ["", "bob"], iat: now - 10, exp: now + 10 }

const unknown = "the token is signed by nobody known here"
const malformed = "the token is malformed"

describe("a token", () => {
  it.effect("made by hand is read, with each kind of key", () =>
    Effect.gen(function*() {
      yield* atNow
      for (const hand of [hs256, es256, edDsa, rs256]) {
        const key = yield* keyOf(hand)
        assert.deepStrictEqual(yield* Token.verify([key], token(hand, claims)), claims)
        // strings for lists, nothing where nothing is said, and whatever else a token may say
        const sparse = { put: "a", cluster: true, sub: "somebody", aud: ["x"], extra: { deep: [1] } }
        assert.deepStrictEqual(yield* Token.verify([key], token(hand, sparse)), { root: "", put: ["a"], get: [] })
      }
    }))

  it.effect("that is signed here is what others read: checked by hand", () =>
    Effect.gen(function*() {
      yield* atNow
      const key = yield* keyOf(hs256)
      const signed = yield* Token.sign(key, { root: "room", put: ["a"], get: [], exp: now + 1.9 })
      const [header, payload, signature] = signed.split(".") as [string, string, string]
      const read = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString()) as unknown
      assert.deepStrictEqual(read(header), { alg: "HS256", typ: "JWT", kid: "hs" })
      // whole seconds, and no list that is empty
      assert.deepStrictEqual(read(payload), { root: "room", put: ["a"], exp: now + 1, iat: now })
      assert.strictEqual(signature, hs256.sign(`${header}.${payload}`))
    }))

  it.effect("with any byte changed is refused", () =>
    Effect.gen(function*() {
      yield* atNow
      for (const hand of [hs256, es256, edDsa]) {
        const keys = [yield* keyOf(hand)]
        const good = token(hand, claims)
        yield* Token.verify(keys, good)
        for (let index = 0; index < good.length; index++) {
          for (const bit of [1, 2, 4, 32]) {
            const changed = good.slice(0, index) + String.fromCharCode(good.charCodeAt(index) ^ bit) +
              good.slice(index + 1)
            assert.include(
              [unknown, malformed],
              yield* reason(Token.verify(keys, changed)),
              `byte ${index}, bit ${bit}`
            )
          }
        }
        for (const odd of ["", ".", "..", "...", `${good}.`, `${good}=`, ` ${good}`, good.slice(0, -1), `${good}A`]) {
          assert.include([unknown, malformed], yield* reason(Token.verify(keys, odd)), odd)
        }
      }
    }))

  it.effect("signed in another way than its key signs is refused", () =>
    Effect.gen(function*() {
      yield* atNow
      const keys = [yield* keyOf(rs256), yield* keyOf(es256), yield* keyOf(hs256)]
      const body = base64url(claims)
      // the public key, which everybody knows, as a secret: as PEM is, as JSON, and as it was written
      for (const hand of [rs256, es256]) {
        for (const secret of [JSON.stringify(hand.jwk), base64url(hand.jwk), String(hand.jwk["x"] ?? hand.jwk["n"])]) {
          for (const alg of ["HS256", "HS512"]) {
            const input = `${base64url({ alg, kid: hand.jwk["kid"] })}.${body}`
            const forged = `${input}.${createHmac(alg.replace("HS", "sha"), secret).update(input).digest("base64url")}`
            assert.strictEqual(yield* reason(Token.verify(keys, forged)), unknown)
          }
        }
      }
      for (const hand of [rs256, es256, hs256]) {
        for (const alg of ["none", "NONE", "", "HS384", "ES256K", "RS512", "PS256", "EdDSA", undefined, 7, null]) {
          const input = `${base64url({ alg, kid: hand.jwk["kid"] })}.${body}`
          for (const signature of ["", hand.sign(input)]) {
            const forged = `${input}.${signature}`
            assert.include([unknown, malformed], yield* reason(Token.verify(keys, forged)), `${hand.alg} ${alg}`)
          }
        }
      }
      // a header that brings its own key, or asks for what nobody understands
      for (const more of [{ jwk: es256.jwk }, { crit: ["b64"], b64: false }, { crit: ["x"], x: 1 }, { zip: "DEF" }]) {
        const header = { alg: "HS256", kid: "es", ...more }
        assert.include([unknown, malformed], yield* reason(Token.verify(keys, token(hs256, claims, header))))
      }
    }))

  it.effect("is looked at with the key that it names, or with the only one", () =>
    Effect.gen(function*() {
      yield* atNow
      const [hs, es] = [yield* keyOf(hs256), yield* keyOf(es256)]
      const { kid: _, ...jwk } = hs256.jwk
      const nameless = yield* TokenKey.fromJwk(jwk)
      const named = (kid?: unknown) => token(hs256, claims, { alg: "HS256", ...(kid === undefined ? {} : { kid }) })
      yield* Token.verify([es, hs], named("hs"))
      yield* Token.verify([hs], named())
      yield* Token.verify([nameless], named())
      yield* Token.verify([nameless], named("hs"))
      for (const keys of [[], [es, hs], [es], [nameless, es]]) {
        assert.strictEqual(yield* reason(Token.verify(keys, named())), unknown)
      }
      assert.strictEqual(yield* reason(Token.verify([nameless, es], named("hs"))), unknown)
      const kids = ["es", "other", "../hs", "/etc/passwd", "hs\0", "__proto__", "constructor", "", "x".repeat(5000)]
      for (const kid of kids) {
        assert.strictEqual(yield* reason(Token.verify([hs, es], named(kid))), unknown, kid)
        assert.strictEqual(yield* reason(Token.verify([hs], named(kid))), unknown, kid)
      }
      for (const kid of [7, null, {}, ["hs"]]) {
        assert.strictEqual(yield* reason(Token.verify([hs, es], named(kid))), malformed)
      }
    }))

  it.effect("is good until the second in which it expires, and not before nbf", () =>
    Effect.gen(function*() {
      const keys = [yield* keyOf(hs256)]
      const timed = token(hs256, { put: "", nbf: now, exp: now + 60 })
      yield* TestClock.setTime(now * 1000 - 1)
      assert.strictEqual(yield* reason(Token.verify(keys, timed)), "the token is not valid yet")
      yield* TestClock.setTime(now * 1000)
      yield* Token.verify(keys, timed)
      yield* TestClock.setTime((now + 60) * 1000 - 1)
      yield* Token.verify(keys, timed)
      yield* TestClock.setTime((now + 60) * 1000)
      assert.strictEqual(yield* reason(Token.verify(keys, timed)), "the token has expired")
      // without an end it goes on, and when it was signed does not matter
      yield* Token.verify(keys, token(hs256, { put: "", iat: now + 1e6 }))
    }))

  it.effect("that says something else than claims is refused", () =>
    Effect.gen(function*() {
      yield* atNow
      const keys = [yield* keyOf(hs256)]
      const odd = [
        { put: "", exp: "tomorrow" },
        { put: "", exp: `${now + 10}` },
        { put: "", exp: null },
        { put: "", nbf: {} },
        { put: "", root: 7 },
        { put: "", root: null },
        { put: 7 },
        { put: [7] },
        { put: { a: "" } },
        { put: null, get: "" },
        { get: [["a"]] },
        []
      ]
      for (const payload of odd) {
        assert.strictEqual(yield* reason(Token.verify(keys, token(hs256, payload))), malformed, JSON.stringify(payload))
      }
      for (const payload of ["null", "7", "\"text\"", "{", ""]) {
        const input = `${base64url({ alg: "HS256" })}.${Buffer.from(payload).toString("base64url")}`
        assert.strictEqual(yield* reason(Token.verify(keys, `${input}.${hs256.sign(input)}`)), malformed, payload)
      }
    }))

  it.effect("that allows nothing is neither signed nor taken", () =>
    Effect.gen(function*() {
      yield* atNow
      const key = yield* keyOf(hs256)
      for (const useless of [{}, { root: "a" }, { put: [], get: [] }]) {
        assert.strictEqual(yield* reason(Token.verify([key], token(hs256, useless))), "the token allows nothing")
      }
      const signing = Token.sign(key, { root: "a", put: [], get: [] }) as Effect.Effect<string, Token.InvalidToken>
      assert.strictEqual(yield* reason(signing), "the token allows nothing")
    }))

  it.effect("longer than 8 KiB is neither signed nor looked at", () =>
    Effect.gen(function*() {
      yield* atNow
      const key = yield* keyOf(hs256)
      const ofRoot = (length: number) => token(hs256, { put: "", root: "x".repeat(length) })
      let length = 6000
      while (ofRoot(length + 1).length <= Token.maxBytes) length++
      yield* Token.verify([key], ofRoot(length))
      assert.strictEqual(yield* reason(Token.verify([key], ofRoot(length + 1))), "the token is longer than 8 KiB")
      assert.strictEqual(yield* reason(Token.verify([key], "x".repeat(1e6))), "the token is longer than 8 KiB")
      const long = { root: "x".repeat(8192), put: [""], get: [] }
      const signing = Token.sign(key, long) as Effect.Effect<string, Token.InvalidToken>
      assert.strictEqual(yield* reason(signing), "the token is longer than 8 KiB")
    }))

  it.effect("grants no more than the scope of its key, which is looked at on both sides", () =>
    Effect.gen(function*() {
      yield* atNow
      const scope = { root: "live", put: ["a"], get: ["", "b"] }
      const key = yield* TokenKey.fromJwk({ ...hs256.jwk, scope })
      const within = [
        { root: "live", put: ["a"], get: [] },
        { root: "", put: ["live/a/b", "/live//a/"], get: ["live"] },
        { root: "live/a", put: [""], get: ["x"] }
      ]
      const beyond = [
        { root: "", put: [""], get: [] },
        { root: "live", put: [""], get: [] },
        { root: "live", put: ["a", "b"], get: [] },
        { root: "live", put: ["ab"], get: [] },
        { root: "lively", put: [], get: [""] },
        { root: "", put: [], get: ["live", "other"] }
      ]
      for (const good of within) {
        yield* Token.verify([key], token(hs256, good))
        yield* Token.verify([key], yield* Token.sign(key, good))
      }
      for (const bad of beyond) {
        const signing = Token.sign(key, bad) as Effect.Effect<string, Token.InvalidToken>
        const tooMuch = "the token allows more than its key may grant"
        assert.strictEqual(yield* reason(signing), tooMuch, JSON.stringify(bad))
        assert.strictEqual(yield* reason(Token.verify([key], token(hs256, bad))), tooMuch, JSON.stringify(bad))
      }
      // a part called .. is a part like any other
      yield* Token.verify([key], token(hs256, { root: "live", get: ["../other"] }))
    }))
})

// paths as people write them, of few letters, so that they often begin alike
const written = Schema.Array(Schema.Literals(["", "a", "b", "ab", "/", "a/b", "//"])).check(Schema.isMaxLength(4))

/** The rule in terms of text: a path with a slash at each end covers what begins with it. */
const slashed = (...texts: ReadonlyArray<string>) => `/${texts.join("/")}/`.replace(/\/+/g, "/")
const covers = (prefix: string, path: string) => path.startsWith(prefix)

describe("what a token grants", () => {
  it.effect.prop(
    "is what the text of paths says",
    [written, written, written, written, written],
    ([rootParts, putParts, getParts, urlParts, askedParts]) =>
      Effect.sync(() => {
        const [root, put, get, url] = [rootParts, putParts, getParts, urlParts].map((parts) => parts.join("/")) as [
          string,
          string,
          string,
          string
        ]
        const at = url.split("/").filter((part) => part !== "")
        const asked = askedParts.join("/").split("/").filter((part) => part !== "")
        const grant = Token.grantAt({ root, put: [put], get: [get] }, at)

        const place = slashed(...at)
        const overlaps = (prefix: string) => covers(prefix, place) || covers(place, prefix)
        const isHere = covers(slashed(root), place) && (overlaps(slashed(root, put)) || overlaps(slashed(root, get)))
        assert.strictEqual(grant !== undefined, isHere)
        if (grant === undefined) return
        const full = slashed(place, ...asked)
        const may = (prefixes: ReadonlyArray<ReadonlyArray<string>>) =>
          prefixes.some((prefix) => covers(slashed(...prefix), full))
        assert.strictEqual(may(grant.publish), covers(slashed(root, put), full))
        assert.strictEqual(may(grant.subscribe), covers(slashed(root, get), full))
        // nothing outside of the session's root
        for (const prefix of [...grant.publish, ...grant.subscribe]) assert.isTrue(covers(place, slashed(...prefix)))
      }),
    { arbitrary: { runs: 2000, seed: 5 } }
  )

  it("ends when the token expires", () => {
    const grant = (exp?: number) => Token.grantAt({ root: "", put: [""], get: [], exp }, [])
    assert.deepStrictEqual(grant(now), { publish: [[]], subscribe: [], expires: now * 1000 })
    assert.isUndefined(grant()!.expires)
  })
})
