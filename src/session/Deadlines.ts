/**
 * What the peer must do in time.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Chain, type Link } from "../core/Chain.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * All of them give as long, so the one that began first is the first to be late: one timer looks after those of a
 * session, while there are any. It looks often, so that it does not last for as long as they had when all were met.
 *
 * @internal
 */
export class Deadlines {
  readonly context: Pick<SessionContext, "clock" | "fibers">
  readonly millis: number
  readonly waiting: Chain<Deadline>
  isWatched: boolean
  constructor(context: Pick<SessionContext, "clock" | "fibers">, duration: Duration.Input) {
    this.context = context
    this.millis = Duration.toMillis(duration)
    this.waiting = new Chain()
    this.isWatched = false
  }

  /** Begins one; `late` is called, for `who`, when it has not been met in time. */
  begin<A>(late: (who: A) => void, who: A = undefined as A): Deadline {
    const at = this.context.clock.currentTimeMillisUnsafe() + this.millis
    const deadline = new Deadline(this.waiting, at, late as Deadline["late"], who)
    if (!this.isWatched) {
      this.isWatched = true
      this.context.fibers.fork(this.watch())
    }
    return deadline
  }

  private watch(): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (let next = this.waiting.first; next !== undefined; next = this.waiting.first) {
        const left = next.at - this.context.clock.currentTimeMillisUnsafe()
        if (left > 0) return Effect.andThen(Effect.sleep(Math.min(left, often)), this.watch())
        next.meet()
        next.late(next.who)
      }
      this.isWatched = false
      return Effect.void
    })
  }
}

// in milliseconds
const often = 100

/** @internal */
export class Deadline implements Link<Deadline> {
  /** In milliseconds. */
  readonly at: number
  readonly late: (who: unknown) => void
  readonly who: unknown
  previous: Deadline | undefined
  next: Deadline | undefined
  private chain: Chain<Deadline> | undefined
  constructor(chain: Chain<Deadline>, at: number, late: (who: unknown) => void, who: unknown) {
    this.at = at
    this.late = late
    this.who = who
    this.previous = undefined
    this.next = undefined
    this.chain = chain
    chain.add(this)
  }

  /** Tells whether that was in time. */
  meet(): boolean {
    const { chain } = this
    this.chain = undefined
    chain?.delete(this)
    return chain !== undefined
  }
}
