/**
 * Which clients a relay lets in: how many, from where, and how fast.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { BoundsExceeded } from "../core/MoqError.ts"

/**
 * The limits of a relay over all its sessions. All of them are on by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** How many sessions may be open at once; 1,000 by default. Further ones are refused with status 503. */
  readonly sessions: number
  /** How many sessions one address may have open at once; 100 by default. Further ones are refused with status 503. */
  readonly sessionsPerAddress: number
  /**
   * How many clients a second may begin a session, after a burst of as many; 200 by default. Further ones are refused
   * with status 429.
   */
  readonly handshakeRate: number
}

/** @internal */
export const defaults: Limits = { sessions: 1000, sessionsPerAddress: 100, handshakeRate: 200 }

/**
 * Counts those who are in.
 *
 * @internal
 */
export class Admission {
  static make(limits: Partial<Limits> = {}): Effect.Effect<Admission> {
    return Clock.clockWith((clock) => Effect.sync(() => new Admission({ ...defaults, ...limits }, clock)))
  }

  readonly limits: Limits
  readonly clock: Clock.Clock
  /** How many are in. */
  open: number
  constructor(limits: Limits, clock: Clock.Clock) {
    this.limits = limits
    this.clock = clock
    this.open = 0
  }

  /** Lets a client in, until `leave`; or tells which limit forbids it. */
  enter(_peer: string | undefined): Refusal | { readonly leave: () => void } {
    if (this.open >= this.limits.sessions) {
      return { limit: "sessions", error: new BoundsExceeded({ detail: `${this.open} sessions are open` }) }
    }
    this.open++
    return { leave: () => void this.open-- }
  }
}

/** @internal */
export interface Refusal {
  readonly limit: keyof Limits
  readonly error: BoundsExceeded
}
