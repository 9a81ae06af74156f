/**
 * What the parts of a session work with.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { ProtocolViolation } from "../core/MoqError.ts"
import type { Profile } from "../message/Profile.ts"
import type { Router } from "../model/Router.ts"
import type { Connection } from "../transport/Transport.ts"
import type { Limits } from "./Limits.ts"

/** @internal */
export interface SessionContext {
  readonly connection: Connection
  readonly profile: Profile
  readonly limits: Limits
}

/** @internal */
export interface PublisherContext extends SessionContext {
  /** What is offered to the peer. */
  readonly router: Router
  /** Ends the session because the peer broke a rule that costs it the session. */
  readonly violation: (error: ProtocolViolation) => Effect.Effect<never, ProtocolViolation>
}

/**
 * How many separate ranges of sequences or ids of one peer are told apart: beyond that, what is between the lowest two
 * counts as having been there too.
 *
 * @internal
 */
export const maxRanges = 1024
