/**
 * Streams that a peer opens and that lead nowhere: without a header, or for no live subscription.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import { BoundsExceeded } from "../core/MoqError.ts"
import type { Limits } from "./Limits.ts"
import { Rate } from "./Rate.ts"

/**
 * Counts them. Each method gives what the peer has exceeded, if it has.
 *
 * @internal
 */
export class Strays {
  readonly limits: Limits
  readonly rate: Rate
  readonly resets: Rate
  /** How many streams wait for their header. */
  waiting: number
  constructor(limits: Limits, clock: Clock.Clock) {
    this.limits = limits
    this.rate = new Rate(clock, limits.strayRate, 4 * limits.strayRate)
    this.resets = new Rate(clock, limits.strayResetRate, 4 * limits.strayResetRate)
    this.waiting = 0
  }

  /** One is opened. A publisher may have as many under way as its subscriptions allow, for `live` of them. */
  opened(live: number): BoundsExceeded | undefined {
    this.waiting++
    const { groupsInFlight, strayStreams } = this.limits
    return this.waiting > strayStreams + live * groupsInFlight
      ? new BoundsExceeded({ detail: `${this.waiting} streams without a header` })
      : undefined
  }

  /** One was reset before its header came. */
  reset(): BoundsExceeded | undefined {
    return this.resets.take() ? undefined : new BoundsExceeded({ detail: "too many streams reset before their header" })
  }

  /** One is for no live subscription. */
  stray(): BoundsExceeded | undefined {
    return this.rate.take() ? undefined : new BoundsExceeded({ detail: "too many streams for no live subscription" })
  }
}
