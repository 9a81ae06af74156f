/**
 * Streams that a peer opens and that lead nowhere: without a header, or for no live subscription.
 *
 * @since 0.1.0
 */
import { BoundsExceeded } from "../core/MoqError.ts"
import type { Limit } from "./Monitor.ts"
import { Rate } from "./Rate.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * Counts them. When the peer exceeds something the session ends, and each method gives what for.
 *
 * @internal
 */
export class Strays {
  readonly context: SessionContext
  readonly rate: Rate
  readonly resets: Rate
  /** How many streams wait for their header. */
  waiting: number
  // the subscriptions that have ended here of late, oldest first, and how many resets each of them excuses
  private readonly left: Array<{ readonly id: number; readonly until: number; resets: number }>
  constructor(context: SessionContext) {
    const { clock, limits } = context
    this.context = context
    this.left = []
    this.rate = new Rate(clock, limits.strayRate, 4 * limits.strayRate)
    this.resets = new Rate(clock, limits.strayResetRate, 4 * limits.strayResetRate)
    this.waiting = 0
  }

  /**
   * A subscription has ended here. Its publisher hears of that later: the groups that are under way until then lead
   * nowhere, and are no fault.
   */
  unsubscribed(id: number): void {
    const { clock, limits } = this.context
    this.forget()
    this.left.push({ id, until: clock.currentTimeMillisUnsafe() + underWay, resets: limits.groupsInFlight })
  }

  /** One is opened. A publisher may have as many under way as its subscriptions allow, for `live` of them. */
  opened(live: number): BoundsExceeded | undefined {
    this.waiting++
    const { groupsInFlight, strayStreams } = this.context.limits
    this.forget()
    return this.waiting > strayStreams + (live + this.left.length) * groupsInFlight
      ? this.exceeded("strayStreams", `${this.waiting} streams without a header`)
      : undefined
  }

  /** One was reset before its header came, or what it was to ask for. */
  reset(isRequest: boolean): BoundsExceeded | undefined {
    return (!isRequest && this.isExcused()) || this.resets.take()
      ? undefined
      : this.exceeded("strayResetRate", "too many resets in a short time")
  }

  /** One is for a subscription of that id, which does not live, or asks for something beyond its rate. */
  stray(id?: number): BoundsExceeded | undefined {
    this.forget()
    return this.left.some((one) => one.id === id) || this.rate.take()
      ? undefined
      : this.exceeded("strayRate", "too many streams in a short time")
  }

  private exceeded(limit: Limit, detail: string): BoundsExceeded {
    const error = new BoundsExceeded({ detail })
    this.context.fibers.fork(this.context.end(error, limit))
    return error
  }

  private isExcused(): boolean {
    this.forget()
    const first = this.left.find(({ resets }) => resets > 0)
    if (first === undefined) return false
    first.resets--
    return true
  }

  private forget(): void {
    if (this.left.length === 0) return
    const now = this.context.clock.currentTimeMillisUnsafe()
    while (this.left.length > 0 && this.left[0]!.until <= now) this.left.shift()
  }
}

// internal

// how long, in milliseconds, what was sent for a subscription that has ended may be on its way
const underWay = 10_000
