/**
 * The keys that sign tokens and verify them: JSON Web Keys, one with a secret that both sides know, or a pair of a
 * private key that signs and a public one that verifies.
 *
 * **Details**
 *
 * A key file holds a JWK (RFC 7517), a set of them (`{ "keys": [...] }`), or either as base64url. A directory of keys has
 * one in each file, called `<kid>.jwk` or `<kid>.json`. Whatever is secret in a key never shows when it is printed or
 * logged, nor in an error: {@link format} gives it.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { exportJWK, generateKeyPair, importJWK } from "jose"
import { randomBytes, webcrypto } from "node:crypto"
import { readdir, readFile, stat } from "node:fs/promises"
import { extname, join } from "node:path"

/**
 * A key that is none, cannot be read, or may not do what it is asked for. The message says which one and why, never what
 * is in it.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidKey extends Data.TaggedError("MoqInvalidKey")<{ readonly detail: string }> {
  override get message() {
    return this.detail
  }
}

/**
 * How a token is signed (RFC 7518, RFC 8037). A key has one of them, and tokens that are signed in another way are not
 * its own.
 *
 * @category models
 * @since 0.1.0
 */
export type Algorithm =
  | "HS256"
  | "HS384"
  | "HS512"
  | "ES256"
  | "ES384"
  | "RS256"
  | "RS384"
  | "RS512"
  | "PS256"
  | "PS384"
  | "PS512"
  | "EdDSA"

/**
 * The most that tokens of a key may grant: paths relative to `root`, as in the claims of a token.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scope {
  readonly root: string
  /** Prefixes that may be published below. */
  readonly put: ReadonlyArray<string>
  /** Prefixes that may be subscribed below. */
  readonly get: ReadonlyArray<string>
}

/**
 * A key that has been checked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Key {
  /** Its name, in the header of the tokens that it signs. */
  readonly kid: string | undefined
  readonly algorithm: Algorithm
  /** It bounds what tokens of this key may grant; without one, nothing does. */
  readonly scope: Scope | undefined
  /** There is something in it that others must not know. */
  readonly isSecret: boolean
  /** The whole key as a JWK: see {@link format}. */
  readonly jwk: Redacted.Redacted<Readonly<Record<string, unknown>>>
  /** There is none where the key does not sign: it is a public one, or `key_ops` forbids it. */
  readonly signing: webcrypto.CryptoKey | undefined
  /** There is none where `key_ops` forbids it. */
  readonly verifying: webcrypto.CryptoKey | undefined
}

/**
 * All algorithms.
 *
 * @category constants
 * @since 0.1.0
 */
export const algorithms: ReadonlyArray<Algorithm> = [
  "HS256",
  "HS384",
  "HS512",
  "ES256",
  "ES384",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "EdDSA"
]

/**
 * Makes a key, of which {@link toPublic} gives the public half. Its name is a random one unless `kid` says it: up to 128
 * letters, digits, `-` and `_`. Fails with {@link InvalidKey} when that is none, and when the scope allows nothing.
 *
 * **Example** (A key for tokens that publish below `live`)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Token, TokenKey } from "effect-moq/node"
 *
 * const program = Effect.gen(function*() {
 *   const key = yield* TokenKey.generate({ algorithm: "ES256", scope: { root: "live", put: [""], get: [] } })
 *   return yield* Token.sign(key, { root: "live", put: ["alice"], get: [] })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const generate: (options?: {
  /** `"HS256"` by default. */
  readonly algorithm?: Algorithm | undefined
  readonly kid?: string | undefined
  readonly scope?: Scope | undefined
}) => Effect.Effect<Key, InvalidKey> = Effect.fnUntraced(
  function*({ algorithm = "HS256", kid, scope } = {}) {
    const made = yield* attempt(async () => {
      if (algorithm.startsWith("HS")) {
        return { kty: "oct", k: randomBytes(Number(algorithm.slice(2)) / 8).toString("base64url") }
      }
      const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
      return exportJWK(privateKey)
    }, "a key could not be made")
    return yield* fromJwk({
      alg: algorithm,
      key_ops: ["sign", "verify"],
      ...made,
      kid: kid ?? randomBytes(8).toString("hex"),
      ...(scope === undefined ? {} : { scope })
    })
  }
)

/**
 * Checks a JWK.
 *
 * **Details**
 *
 * `alg` says how its tokens are signed; it may be left out of EC and OKP keys, where the curve tells. `key_ops` and `use`
 * are honoured, `scope` bounds what tokens may grant. A secret has at least 32 bytes, an RSA key at least 2,048 bits.
 * Fails with {@link InvalidKey} when it is none, is of a kind that signs no tokens, or may neither sign nor verify.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromJwk: (jwk: unknown) => Effect.Effect<Key, InvalidKey> = Effect.fnUntraced(function*(value) {
  const decoded = Schema.decodeUnknownOption(Jwk)(value)
  // without what the issue is, which quotes the key
  if (Option.isNone(decoded)) return yield* invalid("this is no JSON Web Key that signs tokens")
  // keys of the first versions of moq-token have no `kty`
  const { alg, crv, k = "", key_ops, kid, kty = "oct", use } = decoded.value
  const algorithm = alg ?? algorithmOf(kty, crv)
  if (algorithm === undefined) return yield* invalid("the key does not say how it signs (alg)")
  const kind = kinds[algorithm]
  if (kind.kty !== kty || (kind.crv !== undefined && kind.crv !== crv)) {
    return yield* invalid(`this is no key for ${algorithm}`)
  }
  if (kid !== undefined && !isKid(kid)) {
    return yield* invalid("the name of the key (kid) is made of letters, digits, - and _")
  }
  if (use !== undefined && use !== "sig") return yield* invalid("the key is not for signatures (use)")
  if (kty === "oct" && Buffer.from(k, "base64url").length < 32) {
    return yield* invalid("the secret is shorter than 32 bytes")
  }
  const scope = decoded.value.scope && pathsOf(decoded.value.scope)
  if (scope?.put.length === 0 && scope.get.length === 0) return yield* invalid("the scope of the key allows nothing")
  const jwk: Parts = { ...value as Parts, kty, alg: algorithm }
  const isSecret = kty === "oct" || "d" in jwk
  const maySign = isSecret && (key_ops === undefined || key_ops.includes("sign"))
  const mayVerify = key_ops === undefined || key_ops.includes("verify")
  if (!maySign && !mayVerify) return yield* invalid("the key may neither sign nor verify (key_ops)")
  const [signing, verifying] = yield* attempt(
    async () => [
      maySign ? await importKey(jwk, algorithm, "sign") : undefined,
      mayVerify ? await importKey(kty === "oct" ? jwk : publicParts(jwk), algorithm, "verify") : undefined
    ],
    `this is no key for ${algorithm}`
  )
  const details = (signing ?? verifying)!.algorithm
  if ("modulusLength" in details && (details.modulusLength as number) < 2048) {
    return yield* invalid("the RSA key has less than 2,048 bits")
  }
  return { kid, algorithm, scope, isSecret, jwk: Redacted.make(jwk, { label: "key" }), signing, verifying }
})

/**
 * Reads the text of a key file. Fails with {@link InvalidKey} when that holds no keys, or one that cannot be used.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse: (text: string) => Effect.Effect<ReadonlyArray<Key>, InvalidKey> = Effect.fnUntraced(
  function*(text) {
    const trimmed = text.trim()
    const json = trimmed.startsWith("{") ? trimmed : Buffer.from(trimmed, "base64url").toString()
    const value = yield* Effect.try({
      try: () => JSON.parse(json) as unknown,
      // the message quotes the text
      catch: () => new InvalidKey({ detail: "this is neither JSON nor base64url of JSON" })
    })
    if (typeof value !== "object" || value === null || !("keys" in value)) return [yield* fromJwk(value)]
    if (!Array.isArray(value.keys) || value.keys.length === 0) return yield* invalid("there is no key in it")
    return yield* Effect.forEach(value.keys, fromJwk)
  }
)

/**
 * Reads a key file. One that others may read although there is something secret in it is logged as a warning. Fails with
 * {@link InvalidKey} when it cannot be read, and as {@link parse} does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const readFileKeys: (file: string) => Effect.Effect<ReadonlyArray<Key>, InvalidKey> = Effect.fnUntraced(
  function*(file) {
    const { mode, text } = yield* Effect.tryPromise({
      try: async () => ({ text: await readFile(file, "utf8"), mode: (await stat(file)).mode }),
      catch: (error) => new InvalidKey({ detail: `${file} cannot be read: ${(error as NodeJS.ErrnoException).code}` })
    })
    const keys = yield* Effect.mapError(
      parse(text),
      ({ detail }) => new InvalidKey({ detail: `${file}: ${detail}` })
    )
    // where files have modes
    if ((mode & 0o077) !== 0 && process.platform !== "win32" && keys.some((key) => key.isSecret)) {
      yield* Effect.logWarning(
        `${file} holds a secret, and others may read it (mode ${(mode & 0o777).toString(8)}): chmod 600`
      )
    }
    return keys
  }
)

/**
 * Reads a directory of keys: the file `<kid>.jwk` (or `.json`) holds the key that is called so. Other files, and those
 * whose name begins with a dot, are left alone. Fails with {@link InvalidKey} when it cannot be read, holds no key, or one
 * that cannot be used.
 *
 * @category constructors
 * @since 0.1.0
 */
export const readDir: (dir: string) => Effect.Effect<ReadonlyArray<Key>, InvalidKey> = Effect.fnUntraced(
  function*(dir) {
    const names = yield* Effect.tryPromise({
      try: () => readdir(dir),
      catch: (error) => new InvalidKey({ detail: `${dir} cannot be read: ${(error as NodeJS.ErrnoException).code}` })
    })
    const files = names.filter((name) => !name.startsWith(".") && [".jwk", ".json"].includes(extname(name))).sort()
    if (files.length === 0) return yield* invalid(`there is no key in ${dir}: they are called <kid>.jwk`)
    return yield* Effect.forEach(files, (name) => readNamed(join(dir, name), name.slice(0, -extname(name).length)))
  }
)

/**
 * The public half of a key, which only verifies. Fails with {@link InvalidKey} when it has none, because both sides know
 * the same secret, and when it may not verify.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toPublic = (key: Key): Effect.Effect<Key, InvalidKey> => {
  const jwk = Redacted.value(key.jwk)
  if (jwk["kty"] === "oct") return invalid(`${key.algorithm} has no public key: both sides know the same secret`)
  if (key.verifying === undefined) return invalid("the key may not verify (key_ops)")
  return fromJwk({ ...publicParts(jwk), key_ops: ["verify"] })
}

/**
 * The whole key as a line of JSON, with what is secret in it.
 *
 * @category conversions
 * @since 0.1.0
 */
export const format = (key: Key): string => JSON.stringify(Redacted.value(key.jwk))

/**
 * Whether something can be the name of a key: 1 to 128 letters, digits, `-` and `_`, so that it is good for a file.
 *
 * @category guards
 * @since 0.1.0
 */
export const isKid = (text: string): boolean => /^[\w-]{1,128}$/.test(text)

// internal

const Prefixes = Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)]))

/**
 * What a token, or the scope of a key, says of paths: anything of it may be left out, and a list of one may be a string.
 *
 * @internal
 */
export const Paths = { root: Schema.optionalKey(Schema.String), put: Prefixes, get: Prefixes }

/** @internal */
export const pathsOf = ({ get, put, root = "" }: Schema.Struct<typeof Paths>["Type"]): Scope => ({
  root,
  put: listOf(put),
  get: listOf(get)
})

const listOf = (prefixes: string | ReadonlyArray<string> = []): ReadonlyArray<string> =>
  typeof prefixes === "string" ? [prefixes] : prefixes

const Jwk = Schema.Struct({
  kty: Schema.optionalKey(Schema.Literals(["oct", "EC", "RSA", "OKP"])),
  alg: Schema.optionalKey(Schema.Literals(algorithms)),
  crv: Schema.optionalKey(Schema.String),
  k: Schema.optionalKey(Schema.String),
  kid: Schema.optionalKey(Schema.String),
  key_ops: Schema.optionalKey(Schema.Array(Schema.String)),
  use: Schema.optionalKey(Schema.String),
  scope: Schema.optionalKey(Schema.Struct(Paths))
})

interface Kind {
  readonly kty: "oct" | "EC" | "RSA" | "OKP"
  readonly crv?: string
}

const oct: Kind = { kty: "oct" }
const rsa: Kind = { kty: "RSA" }

const kinds: Readonly<Record<Algorithm, Kind>> = {
  HS256: oct,
  HS384: oct,
  HS512: oct,
  ES256: { kty: "EC", crv: "P-256" },
  ES384: { kty: "EC", crv: "P-384" },
  RS256: rsa,
  RS384: rsa,
  RS512: rsa,
  PS256: rsa,
  PS384: rsa,
  PS512: rsa,
  EdDSA: { kty: "OKP", crv: "Ed25519" }
}

const algorithmOf = (kty: string, crv: string | undefined): Algorithm | undefined =>
  crv === undefined
    ? undefined
    : algorithms.find((algorithm) => kinds[algorithm].kty === kty && kinds[algorithm].crv === crv)

const invalid = (detail: string): Effect.Effect<never, InvalidKey> => Effect.fail(new InvalidKey({ detail }))

const attempt = <A>(make: () => Promise<A>, detail: string): Effect.Effect<A, InvalidKey> =>
  Effect.tryPromise({ try: make, catch: () => new InvalidKey({ detail }) })

type Parts = Readonly<Record<string, unknown>>

const publicNames = new Set(["kty", "crv", "x", "y", "n", "e", "alg", "kid", "use", "scope"])

const publicParts = (jwk: Parts): Parts =>
  Object.fromEntries(Object.entries(jwk).filter(([name]) => publicNames.has(name)))

// WebCrypto takes each half of a pair for its own use only
const importKey = async (jwk: Parts, algorithm: Algorithm, use: "sign" | "verify"): Promise<webcrypto.CryptoKey> => {
  if (jwk["kty"] !== "oct") return await importJWK({ ...jwk, key_ops: [use] }, algorithm) as webcrypto.CryptoKey
  const secret = Buffer.from(jwk["k"] as string, "base64url")
  return webcrypto.subtle.importKey("raw", secret, { name: "HMAC", hash: `SHA-${algorithm.slice(2)}` }, false, [use])
}

const readNamed: (file: string, kid: string) => Effect.Effect<Key, InvalidKey> = Effect.fnUntraced(
  function*(file, kid) {
    if (!isKid(kid)) return yield* invalid(`${file}: the name of a key is made of letters, digits, - and _`)
    const keys = yield* readFileKeys(file)
    const key = keys[0]!
    if (keys.length > 1) return yield* invalid(`${file} holds several keys; in a directory each has its own file`)
    if (key.kid !== undefined && key.kid !== kid) return yield* invalid(`${file} holds the key ${key.kid}`)
    return { ...key, kid }
  }
)
