/**
 * The certificate that a server shows now, and those that take its place.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { TransportError } from "../core/MoqError.ts"
import * as Certificate from "./Certificate.ts"

/**
 * The server's certificate: one of the user's, or one generated for hosts (for development).
 *
 * @category models
 * @since 0.1.0
 */
export type ServerCertificate =
  | { readonly cert: string; readonly key: string }
  | { readonly generate: ReadonlyArray<string> }

/**
 * A certificate in force.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyRing {
  /** It was generated here, for development: clients have to pin it. */
  readonly generated: boolean
  readonly currentUnsafe: () => Certificate.Certificate
  /** Each certificate that takes the place of the one before, from now on. */
  readonly changes: Stream.Stream<Certificate.Certificate>
}

/**
 * Loads or makes the certificate, and keeps it in force for as long as the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (tls: ServerCertificate) => Effect.Effect<KeyRing, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(tls) {
    const current = "generate" in tls
      ? yield* Certificate.generate({ hosts: tls.generate })
      : { ...tls, fingerprint: yield* Certificate.fingerprintOf(tls.cert) }
    return { generated: "generate" in tls, currentUnsafe: () => current, changes: Stream.never }
  }
)
