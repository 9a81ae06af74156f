/**
 * Tokens that say what a client of a relay may do: JSON Web Tokens, which the client puts into its URL as `?jwt=`.
 *
 * **Details**
 *
 * The claims, and how they match paths, are those of moq-token: `put` and `get` are prefixes of what may be published and
 * subscribed below `root`. They match part by part, and slashes at their ends, or two in a row, make no difference: `foo`
 * covers `foo/bar`, not `foobar`; the empty prefix covers everything below the root.
 *
 * **Example** (A token for one publisher)
 *
 * ```ts
 * import { Clock, Effect } from "effect"
 * import { Token, TokenKey } from "effect-moq/node"
 *
 * const program = Effect.gen(function*() {
 *   const [key] = yield* TokenKey.readFileKeys("private.jwk")
 *   const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
 *   const token = yield* Token.sign(key, { root: "room/123", put: ["alice"], get: [""], exp: now + 3600 })
 *   return `https://relay.example/room/123?jwt=${token}`
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { decodeProtectedHeader, errors, jwtVerify, SignJWT } from "jose"
import * as Path from "../core/Path.ts"
import * as Authenticator from "../relay/Authenticator.ts"
import { InvalidKey, type Key, Paths, pathsOf, type Scope } from "./TokenKey.ts"

/**
 * A token that says nothing: one that is none, has expired, or is not signed by a key that counts. The message says why in
 * words for the client, never what is in it.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidToken extends Data.TaggedError("MoqInvalidToken")<{ readonly detail: string }> {
  override get message() {
    return this.detail
  }
}

/**
 * What a token says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claims {
  /** What `put` and `get` are relative to; a session must be at or below it. Empty for the whole relay. */
  readonly root: string
  /** The prefixes that may be published below. */
  readonly put: ReadonlyArray<string>
  /** The prefixes that may be subscribed below. */
  readonly get: ReadonlyArray<string>
  /** When it expires, in seconds since 1970; never by default. A session ends then. */
  readonly exp?: number | undefined
  /** When it was signed, in seconds since 1970. */
  readonly iat?: number | undefined
  /** From when on it is good, in seconds since 1970. */
  readonly nbf?: number | undefined
}

/**
 * The longest token that is looked at, in bytes: 8 KiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 8192

/**
 * Signs a token. It says that it was signed now, unless `iat` does.
 *
 * Fails with {@link InvalidToken} when it grants nothing, more than the scope of the key allows, or would be longer than
 * {@link maxBytes}, and with `InvalidKey` when the key does not sign.
 *
 * @category signing
 * @since 0.1.0
 */
export const sign: (key: Key, claims: Claims) => Effect.Effect<string, InvalidToken | InvalidKey> = Effect.fnUntraced(
  function*({ algorithm, kid, scope, signing }, claims) {
    if (signing === undefined) return yield* new InvalidKey({ detail: "the key does not sign: it is a public one" })
    yield* check(claims, scope)
    const { exp, get, iat, nbf, put, root } = claims
    const seconds = Math.floor((yield* Clock.currentTimeMillis) / 1000)
    const payload = {
      root,
      ...(put.length === 0 ? {} : { put }),
      ...(get.length === 0 ? {} : { get }),
      ...(exp === undefined ? {} : { exp: Math.floor(exp) }),
      ...(nbf === undefined ? {} : { nbf: Math.floor(nbf) }),
      iat: Math.floor(iat ?? seconds)
    }
    const header = { alg: algorithm, typ: "JWT", ...(kid === undefined ? {} : { kid }) }
    const token = yield* Effect.tryPromise({
      try: () => new SignJWT(payload).setProtectedHeader(header).sign(signing),
      catch: () => new InvalidToken({ detail: "the token could not be signed" })
    })
    return token.length > maxBytes ? yield* tooLong : token
  }
)

/**
 * Gives the claims of a token that one of the keys has signed: the one that the token names, or, where it names none or
 * the key has no name, the only one that there is.
 *
 * Fails with {@link InvalidToken} when it is none, longer than {@link maxBytes}, signed by no such key or in another way
 * than that key signs, has expired (to the second), is not good yet, or grants nothing, or more than the scope of the key
 * allows.
 *
 * @category verifying
 * @since 0.1.0
 */
export const verify: (keys: ReadonlyArray<Key>, token: string) => Effect.Effect<Claims, InvalidToken> = Effect
  .fnUntraced(
    function*(keys, token) {
      if (token.length > maxBytes) return yield* tooLong
      const kid = yield* kidOf(token)
      const only = keys.length === 1 && (kid === undefined || keys[0]!.kid === undefined) ? keys[0] : undefined
      const key = only ?? keys.find((key) => kid !== undefined && key.kid === kid)
      if (key?.verifying === undefined) return yield* notOurs
      const now = yield* Clock.currentTimeMillis
      const { verifying } = key
      const { payload } = yield* Effect.tryPromise({
        try: () => jwtVerify(token, verifying, { algorithms: [key.algorithm], currentDate: new Date(now) }),
        catch: (error) => new InvalidToken({ detail: reasonOf(error) })
      })
      const decoded = Schema.decodeUnknownOption(Payload)(payload)
      if (Option.isNone(decoded)) return yield* malformed
      const { exp, iat, nbf } = decoded.value
      const claims: Claims = {
        ...pathsOf(decoded.value),
        ...(exp === undefined ? {} : { exp }),
        ...(iat === undefined ? {} : { iat }),
        ...(nbf === undefined ? {} : { nbf })
      }
      yield* check(claims, key.scope)
      return claims
    }
  )

/**
 * What a token grants a session below a root, a path of the relay; `undefined` when it is not good there: the root is not
 * at or below that of the token, or beside all of its prefixes.
 *
 * @category authorization
 * @since 0.1.0
 */
export const grantAt = (claims: Claims, root: Path.Path): Authenticator.Grant | undefined => {
  if (!Path.hasPrefix(root, Path.fromString(claims.root))) return undefined
  const { get, put } = absolute(claims)
  const publish = Authenticator.within(put, root)
  const subscribe = Authenticator.within(get, root)
  if (publish.length === 0 && subscribe.length === 0) return undefined
  return { publish, subscribe, expires: claims.exp === undefined ? undefined : claims.exp * 1000 }
}

// internal

const Payload = Schema.Struct({
  ...Paths,
  exp: Schema.optionalKey(Schema.Finite),
  iat: Schema.optionalKey(Schema.Finite),
  nbf: Schema.optionalKey(Schema.Finite)
})

const tooLong = new InvalidToken({ detail: "the token is longer than 8 KiB" })
const malformed = new InvalidToken({ detail: "the token is malformed" })
const notOurs = new InvalidToken({ detail: "the token is signed by nobody known here" })

const absolute = ({ get, put, root }: Scope): { readonly put: Array<Path.Path>; readonly get: Array<Path.Path> } => {
  const base = Path.fromString(root)
  const full = (prefix: string) => Path.concat(base, Path.fromString(prefix))
  return { put: put.map(full), get: get.map(full) }
}

const check = (claims: Claims, scope: Scope | undefined): Effect.Effect<void, InvalidToken> => {
  if (claims.put.length === 0 && claims.get.length === 0) {
    return Effect.fail(new InvalidToken({ detail: "the token allows nothing" }))
  }
  if (scope === undefined) return Effect.void
  const [asked, allowed] = [absolute(claims), absolute(scope)]
  return asked.put.every((path) => Authenticator.covers(allowed.put, path)) &&
      asked.get.every((path) => Authenticator.covers(allowed.get, path))
    ? Effect.void
    : Effect.fail(new InvalidToken({ detail: "the token allows more than its key may grant" }))
}

// Only what an encoder writes counts: the last character of a part has bits that mean nothing, and a token that differs in
// them would be another one that is as good.
const kidOf = (token: string): Effect.Effect<string | undefined, InvalidToken> =>
  Effect.try({
    try: () => {
      const parts = token.split(".")
      if (parts.length !== 3 || !parts.every(isCanonical)) throw malformed
      const { kid } = decodeProtectedHeader(token)
      if (kid !== undefined && typeof kid !== "string") throw malformed
      return kid
    },
    catch: () => malformed
  })

const isCanonical = (part: string): boolean => Buffer.from(part, "base64url").toString("base64url") === part

const reasonOf = (error: unknown): string => {
  if (error instanceof errors.JWTExpired) return "the token has expired"
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === "nbf" && error.reason === "check_failed") {
    return "the token is not valid yet"
  }
  const isForeign = error instanceof errors.JWSSignatureVerificationFailed ||
    error instanceof errors.JOSEAlgNotAllowed
  return (isForeign ? notOurs : malformed).detail
}
