/** JSON Web Tokens by hand, good and bad. */
import { createHmac, createPrivateKey, generateKeyPairSync, type JsonWebKey, sign } from "node:crypto"

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** What may be claimed; times are in seconds since 1970. */
export interface Claims {
  readonly root?: string
  readonly put?: string
  readonly get?: string
  readonly exp?: number
  readonly nbf?: number
}

/** Everything below the root, for so many seconds. */
export const everything = (seconds: number): Claims => ({
  root: "",
  put: "",
  get: "",
  exp: Math.floor(Date.now() / 1000) + seconds
})

/** A key pair for ES256, as JWK. */
export const keyPair = (): { readonly privateKey: JsonWebKey; readonly publicKey: JsonWebKey } => {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const of = (key: { readonly export: (options: { readonly format: "jwk" }) => JsonWebKey }): JsonWebKey => ({
    ...key.export({ format: "jwk" }),
    alg: "ES256",
    kid: "k1"
  })
  return { privateKey: of(pair.privateKey), publicKey: of(pair.publicKey) }
}

/** A token that is signed with a key of ES256. */
export const signed = (claims: Claims, key: JsonWebKey, header: object = { alg: "ES256", kid: "k1" }): string => {
  const text = `${part(header)}.${part(claims)}`
  const privateKey = createPrivateKey({ key, format: "jwk" })
  return `${text}.${
    sign("sha256", Buffer.from(text), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")
  }`
}

/** A token without a signature. */
export const unsigned = (claims: Claims): string => `${part({ alg: "none" })}.${part(claims)}.`

/** A token that takes the public key, which everybody may know, for a shared secret. */
export const confused = (claims: Claims, { x, y }: JsonWebKey): string => {
  const text = `${part({ alg: "HS256", kid: "k1" })}.${part(claims)}`
  const secret = JSON.stringify({ kty: "EC", crv: "P-256", x, y })
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`
}
