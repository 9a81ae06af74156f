import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { generateKeyPairSync, randomBytes } from "node:crypto"
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { inspect } from "node:util"
import * as Token from "../../src/node/Token.ts"
import * as TokenKey from "../../src/node/TokenKey.ts"
import {
  base64url,
  directory,
  edDsa,
  es256,
  type Hand,
  hs256,
  rs256,
  secret,
  token,
  watched
} from "./fixtures/tokens.ts"

const detailOf = <A>(effect: Effect.Effect<A, TokenKey.InvalidKey>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error._tag, "MoqInvalidKey")
    assert.strictEqual(error.message, error.detail)
    return error.detail
  })

const everything = { root: "", put: [""], get: [""] }

describe("a key", () => {
  it.effect("is read as a JWK, a set, and base64url of either", () =>
    Effect.gen(function*() {
      const set = { keys: [es256.jwk, hs256.jwk] }
      const texts = [
        [JSON.stringify(es256.jwk), 1],
        [` \n${JSON.stringify(es256.jwk, null, 2)}\n`, 1],
        [`${base64url(es256.jwk)}\n`, 1],
        [JSON.stringify(set), 2],
        [base64url(set), 2]
      ] as const
      for (const [text, count] of texts) {
        const keys = yield* TokenKey.parse(text)
        assert.strictEqual(keys.length, count)
        assert.deepStrictEqual((yield* Token.verify(keys, token(es256, everything))).put, [""])
      }
    }))

  it.effect("of each algorithm signs what its public half verifies, and no other key", () =>
    Effect.gen(function*() {
      for (const algorithm of TokenKey.algorithms) {
        // an RSA key takes its time: one of ours, and one by hand
        const isRsa = algorithm.endsWith("S256") && algorithm.startsWith("R")
        const byHand = TokenKey.fromJwk({ ...rs256.secretJwk, alg: algorithm, kid: "one" })
        const generated = TokenKey.generate({ algorithm, kid: "one" })
        const key = yield* /^[RP]/.test(algorithm) && !isRsa ? byHand : generated
        assert.deepStrictEqual([key.algorithm, key.kid], [algorithm, "one"])
        const signed = yield* Token.sign(key, everything)
        const other = yield* isRsa ? byHand : generated
        const verifying = algorithm.startsWith("HS") ? key : yield* TokenKey.toPublic(key)
        assert.strictEqual((yield* Token.verify([verifying], signed)).root, "")
        assert.isTrue((yield* Effect.exit(Token.verify([other], signed)))._tag === "Failure", algorithm)
        // and again, from what is written
        const [read] = yield* TokenKey.parse(TokenKey.format(key))
        assert.strictEqual((yield* Token.verify([read!], signed)).root, "")
        assert.strictEqual((yield* Token.verify([verifying], yield* Token.sign(read!, everything))).root, "")
      }
    }))

  it.effect("that is public has nothing secret, does not sign, and keeps name and scope", () =>
    Effect.gen(function*() {
      const scope = { root: "live", put: ["a"], get: [] }
      for (const hand of [es256, edDsa, rs256]) {
        const key = yield* TokenKey.fromJwk({ ...hand.secretJwk, scope })
        const half = yield* TokenKey.toPublic(key)
        const written = JSON.parse(TokenKey.format(half)) as Record<string, unknown>
        for (const name of ["d", "p", "q", "dp", "dq", "qi", "k"]) assert.notProperty(written, name)
        assert.deepStrictEqual([half.kid, half.scope, half.isSecret], [key.kid, scope, false])
        assert.deepStrictEqual(written["key_ops"], ["verify"])
        assert.deepStrictEqual(
          yield* detailOf(Token.sign(half, everything) as Effect.Effect<string, TokenKey.InvalidKey>),
          "the key does not sign: it is a public one"
        )
      }
      const shared = yield* TokenKey.generate()
      assert.match(yield* detailOf(TokenKey.toPublic(shared)), /both sides know the same secret/)
    }))

  it.effect("has a name that is random unless it is given, and good for a file", () =>
    Effect.gen(function*() {
      const names = new Set<string>()
      for (let i = 0; i < 20; i++) names.add((yield* TokenKey.generate()).kid!)
      assert.strictEqual(names.size, 20)
      assert.isTrue([...names].every(TokenKey.isKid))
      for (const kid of ["", "a b", "../a", "a/b", "a.b", "ü", "x".repeat(129)]) {
        assert.isFalse(TokenKey.isKid(kid))
        assert.match(yield* detailOf(TokenKey.generate({ kid })), /letters, digits, - and _/)
      }
      assert.isTrue(TokenKey.isKid("x".repeat(128)))
    }))

  it.effect("that cannot be used is refused in words that do not quote it", () =>
    Effect.gen(function*() {
      const { alg: _, ...noAlg } = hs256.jwk
      const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" })
      const refused: ReadonlyArray<readonly [unknown, RegExp]> = [
        [undefined, /no JSON Web Key/],
        ["text", /no JSON Web Key/],
        [{}, /does not say how/],
        [noAlg, /does not say how it signs/],
        [{ ...hs256.jwk, alg: "none" }, /no JSON Web Key/],
        [{ ...hs256.jwk, alg: "ES256" }, /no key for ES256/],
        [{ ...es256.jwk, alg: "HS256" }, /no key for HS256/],
        [{ ...es256.jwk, alg: "ES384" }, /no key for ES384/],
        [{ ...es256.jwk, alg: "EdDSA" }, /no key for EdDSA/],
        [{ ...edDsa.jwk, crv: "X25519" }, /no key for EdDSA/],
        [{ ...es256.jwk, x: "AAAA" }, /no key for ES256/],
        [{ ...es256.jwk, x: 1 }, /no key for ES256/],
        [{ ...es256.jwk, kid: "../../etc/passwd" }, /letters, digits/],
        [{ ...es256.jwk, kid: 7 }, /no JSON Web Key/],
        [{ ...es256.jwk, use: "enc" }, /not for signatures/],
        [{ ...es256.jwk, key_ops: ["encrypt"] }, /neither sign nor verify/],
        [{ ...es256.jwk, key_ops: ["sign"] }, /neither sign nor verify/],
        [{ ...hs256.jwk, k: randomBytes(31).toString("base64url") }, /shorter than 32 bytes/],
        [{ ...hs256.jwk, k: "" }, /shorter than 32 bytes/],
        [{ ...weak, alg: "RS256" }, /less than 2,048 bits/],
        [{ ...hs256.jwk, scope: {} }, /scope of the key allows nothing/],
        [{ ...hs256.jwk, scope: { root: "a", put: [] } }, /scope of the key allows nothing/],
        [{ ...hs256.jwk, scope: "a" }, /no JSON Web Key/]
      ]
      for (const [jwk, why] of refused) {
        const detail = yield* detailOf(TokenKey.fromJwk(jwk))
        assert.match(detail, why, JSON.stringify(jwk))
        assert.notInclude(detail, String(hs256.jwk["k"]))
      }
      for (
        const text of [
          "",
          "{",
          "{}",
          "not base64!",
          `{"k":${hs256.jwk["k"]}}`,
          `${JSON.stringify(hs256.jwk)}x`,
          "{\"keys\":[]}",
          "{\"keys\":{}}"
        ]
      ) {
        assert.notInclude(yield* detailOf(TokenKey.parse(text)), String(hs256.jwk["k"]).slice(0, 8))
      }
    }))

  it.effect("may leave out what can be told: alg where the curve tells, and kty as in the oldest keys", () =>
    Effect.gen(function*() {
      for (const hand of [es256, edDsa]) {
        const { alg, ...rest } = hand.jwk
        assert.strictEqual((yield* TokenKey.fromJwk(rest)).algorithm, alg)
      }
      const { kty: _, ...rest } = hs256.jwk
      const key = yield* TokenKey.fromJwk(rest)
      assert.strictEqual((yield* Token.verify([key], token(hs256, everything))).root, "")
    }))

  it.effect("honours key_ops and use", () =>
    Effect.gen(function*() {
      const check = Effect.fnUntraced(function*(hand: Hand, more: object, signs: boolean, verifies: boolean) {
        const key = yield* TokenKey.fromJwk({ ...hand.secretJwk, ...more })
        assert.deepStrictEqual([key.signing !== undefined, key.verifying !== undefined], [signs, verifies])
      })
      for (const hand of [hs256, es256, rs256, edDsa]) {
        yield* check(hand, {}, true, true)
        yield* check(hand, { use: "sig" }, true, true)
        yield* check(hand, { key_ops: ["sign"] }, true, false)
        yield* check(hand, { key_ops: ["verify"] }, false, true)
        yield* check(hand, { key_ops: ["verify", "sign"], use: "sig" }, true, true)
      }
    }))

  it.effect("shows nothing that is secret, however it is printed", () =>
    Effect.gen(function*() {
      for (const hand of [hs256, es256, edDsa]) {
        const key = yield* TokenKey.fromJwk(hand.secretJwk)
        const hidden = String(hand.secretJwk[hand === hs256 ? "k" : "d"])
        const { lines } = yield* watched(Effect.logInfo("a key", key))
        const shown = [inspect(key, { depth: 9, showHidden: true }), JSON.stringify(key), String(key), ...lines].join(
          "\n"
        )
        assert.include(shown, String(hand.jwk["kid"]))
        assert.notInclude(shown, hidden)
        assert.notInclude(shown, secret.toString())
        assert.include(TokenKey.format(key), hidden)
      }
    }))
})

describe("a key file", () => {
  it.effect("with something secret that others may read is warned of, once", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      const warnings: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))])
      const cases = [
        [es256.secretJwk, 0o600, 0],
        [es256.secretJwk, 0o400, 0],
        [es256.secretJwk, 0o640, 1],
        [hs256.jwk, 0o644, 1],
        [es256.jwk, 0o644, 0]
      ] as const
      for (const [index, [jwk, mode, count]] of cases.entries()) {
        const file = `${dir}/${index}`
        writeFileSync(file, JSON.stringify(jwk), { mode })
        warnings.length = 0
        yield* Effect.provide(TokenKey.readFileKeys(file), logger)
        assert.strictEqual(warnings.length, count, `${index}`)
        for (const warning of warnings) assert.match(warning, /chmod 600/)
      }
    }))

  it.effect("that is not there, or none, is named", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      assert.strictEqual(yield* detailOf(TokenKey.readFileKeys(`${dir}/a`)), `${dir}/a cannot be read: ENOENT`)
      assert.strictEqual(yield* detailOf(TokenKey.readFileKeys(dir)), `${dir} cannot be read: EISDIR`)
      writeFileSync(`${dir}/a`, "garbage")
      assert.match(
        yield* detailOf(TokenKey.readFileKeys(`${dir}/a`)),
        /\/a: this is neither JSON nor base64url of JSON$/
      )
    }))
})

describe("a directory of keys", () => {
  it.effect("has the key <kid> in the file of that name, and may have other files", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      const { kid: _, ...nameless } = edDsa.jwk
      writeFileSync(`${dir}/es.jwk`, JSON.stringify(es256.jwk))
      writeFileSync(`${dir}/named-by-file.json`, base64url(nameless))
      writeFileSync(`${dir}/README`, "these are keys")
      writeFileSync(`${dir}/.hidden.jwk`, "garbage")
      mkdirSync(`${dir}/.data`)
      writeFileSync(`${dir}/.data/rs`, JSON.stringify(rs256.jwk))
      symlinkSync(".data/rs", `${dir}/rs.jwk`)
      const keys = yield* TokenKey.readDir(dir)
      assert.deepStrictEqual(keys.map((key) => key.kid), ["es", "named-by-file", "rs"])
      assert.strictEqual((yield* Token.verify(keys, token(es256, everything))).root, "")
    }))

  it.effect("is refused when a file in it is none, or another key than its name says", () =>
    Effect.gen(function*() {
      const dir = yield* directory
      assert.match(yield* detailOf(TokenKey.readDir(dir)), /there is no key in/)
      assert.match(yield* detailOf(TokenKey.readDir(`${dir}/x`)), /cannot be read: ENOENT/)
      const refused = [
        ["other.jwk", JSON.stringify(es256.jwk), /other\.jwk holds the key es/],
        ["a b.jwk", JSON.stringify(es256.jwk), /made of letters/],
        ["es.jwk", JSON.stringify({ keys: [es256.jwk, hs256.jwk] }), /several keys/],
        ["es.jwk", "garbage", /es\.jwk: this is neither/]
      ] as const
      for (const [index, [name, text, why]] of refused.entries()) {
        mkdirSync(`${dir}/${index}`)
        writeFileSync(`${dir}/${index}/${name}`, text, { mode: 0o600 })
        assert.match(yield* detailOf(TokenKey.readDir(`${dir}/${index}`)), why)
      }
    }))
})
