/**
 * How often something may happen: so many times a second, after a burst.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"

/**
 * A bucket of tokens that fills with time, by itself: nothing runs while nobody asks.
 *
 * @internal
 */
export class Rate {
  readonly clock: Clock.Clock
  readonly perSecond: number
  readonly burst: number
  tokens: number
  filled: number
  constructor(clock: Clock.Clock, perSecond: number, burst: number) {
    this.clock = clock
    this.perSecond = perSecond
    this.burst = burst
    this.tokens = burst
    this.filled = clock.currentTimeMillisUnsafe()
  }

  /** Takes a token; `false` when there is none. */
  take(): boolean {
    const now = this.clock.currentTimeMillisUnsafe()
    // a clock that is set back takes nothing away
    const passed = Math.max(0, now - this.filled)
    this.tokens = Math.min(this.burst, this.tokens + passed * this.perSecond / 1000)
    this.filled = now
    if (this.tokens < 1) return false
    this.tokens--
    return true
  }
}
