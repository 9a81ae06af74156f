/**
 * What the parts of a session work with.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import type * as Effect from "effect/Effect"
import type { Fibers } from "../core/Fibers.ts"
import type { MoqError } from "../core/MoqError.ts"
import type { Profile } from "../message/Profile.ts"
import type { Router } from "../model/Router.ts"
import type { Connection } from "../transport/Transport.ts"
import type { Deadlines } from "./Deadlines.ts"
import type { Limits } from "./Limits.ts"
import type { Limit, Monitor } from "./Monitor.ts"
import type { Unread } from "./Unread.ts"

/** @internal */
export interface SessionContext {
  readonly connection: Connection
  readonly profile: Profile
  readonly limits: Limits
  readonly monitor: Monitor
  readonly clock: Clock.Clock
  /** What runs for as long as the session. */
  readonly fibers: Fibers
  /** Ends the session because the peer broke a rule, or a limit, that costs it the session. */
  end(error: MoqError, limit?: Limit): Effect.Effect<void>
}

/** @internal */
export interface PublisherContext extends SessionContext {
  /** What is offered to the peer. */
  readonly router: Router
}

/** @internal */
export interface SubscriberContext extends SessionContext {
  /** The answers that the peer owes. */
  readonly answers: Deadlines
  readonly unread: Unread
  /** When the last bytes of a group came, in milliseconds. */
  heard: number
  /** Hears of every batch of a group's bytes. */
  onBytes(): void
}

/**
 * How many separate ranges of sequences or ids of one peer are told apart: beyond that, what is between the lowest two
 * counts as having been there too.
 *
 * @internal
 */
export const maxRanges = 1024

/**
 * How long a peer is given to take the last of what is sent where it does not say that it has it.
 *
 * @internal
 */
export const linger = "1 second"
