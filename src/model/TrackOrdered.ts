/**
 * The events of a track in sequence.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import { Timeout, toCode } from "../core/MoqError.ts"
import * as Gap from "./Gap.ts"
import type * as Group from "./Group.ts"

/**
 * Puts the events of a track in the order of their sequences. One that comes early is held back until what is missing has
 * come too, or for `maxWait`; then the missing sequences become a gap with code 3 (timeout), and are left out should they
 * still come.
 *
 * **Example** (Reading a track in sequence)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { type Track, TrackOrdered } from "effect-moq"
 *
 * const sequences = (track: Track.Track) =>
 *   track.events.pipe(
 *     TrackOrdered.ordered({ maxWait: "500 millis" }),
 *     Stream.runForEach((event) => Effect.log(event._tag === "Gap" ? `missing ${event.from}` : `group ${event.sequence}`))
 *   )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const ordered = (options?: {
  /** The sequence that comes first; that of the first event by default. */
  readonly from?: number | undefined
  /** How long to wait for what is missing; 1 second by default. */
  readonly maxWait?: Duration.Input | undefined
}) =>
<E, R>(events: Stream.Stream<Group.Group | Gap.Gap, E, R>): Stream.Stream<Group.Group | Gap.Gap, E, R> =>
  Stream.unwrap(Effect.gen(function*() {
    const source = yield* Stream.toPull(events)
    const clock = yield* Clock.Clock
    const maxWait = Duration.toMillis(Duration.fromInputUnsafe(options?.maxWait ?? "1 second"))
    return Stream.fromPull(Effect.succeed(new Ordering(source, clock, maxWait, options?.from).pull))
  }))

// internal

type Event = Group.Group | Gap.Gap

const codeTimeout = toCode(new Timeout({}))

const firstOf = (event: Event): number => event._tag === "Gap" ? event.from : event.sequence

const lastOf = (event: Event): number => event._tag === "Gap" ? event.to : event.sequence

class Ordering<E, R> {
  readonly source: Pull.Pull<NonEmptyReadonlyArray<Event>, E, void, R>
  readonly clock: Clock.Clock
  readonly maxWait: number
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Event>, E, void, R>
  // by sequence; what comes before the first of them is missing
  readonly held: Array<Event>
  expected: number | undefined
  // when the first of `held` began to wait, in milliseconds
  since: number
  end: Pull.Pull<never, E> | undefined
  constructor(
    source: Pull.Pull<NonEmptyReadonlyArray<Event>, E, void, R>,
    clock: Clock.Clock,
    maxWait: number,
    from: number | undefined
  ) {
    this.source = source
    this.clock = clock
    this.maxWait = maxWait
    this.held = []
    this.expected = from
    this.since = 0
    this.end = undefined
    this.pull = Effect.suspend(() => this.step())
  }
  step(): Pull.Pull<NonEmptyReadonlyArray<Event>, E, void, R> {
    const out = this.release()
    if (out.length > 0) return Effect.succeed(out as unknown as NonEmptyReadonlyArray<Event>)
    if (this.held.length === 0) return this.end ?? Effect.flatMap(this.next, () => this.pull)
    const left = this.end === undefined ? this.since + this.maxWait - this.clock.currentTimeMillisUnsafe() : 0
    if (left <= 0) {
      const to = firstOf(this.held[0]!) - 1
      this.held.unshift(Gap.make(this.expected!, to, codeTimeout))
      return this.pull
    }
    return Effect.flatMap(Effect.timeoutOption(this.next, left), (took) => {
      if (Option.isNone(took)) this.since = -Infinity
      return this.pull
    })
  }
  get next(): Effect.Effect<void, never, R> {
    return Effect.map(Effect.exit(this.source), (exit) => {
      if (Exit.isFailure(exit)) this.end = exit as Exit.Exit<never, E>
      else for (const event of exit.value) this.hold(event)
    })
  }
  hold(event: Event): void {
    this.expected ??= firstOf(event)
    if (this.held.length === 0) this.since = this.clock.currentTimeMillisUnsafe()
    let at = this.held.length
    while (at > 0 && firstOf(this.held[at - 1]!) > firstOf(event)) at--
    this.held.splice(at, 0, event)
  }
  release(): Array<Event> {
    const out: Array<Event> = []
    while (this.held.length > 0 && firstOf(this.held[0]!) <= this.expected!) {
      const event = this.held.shift()!
      if (lastOf(event) < this.expected!) continue
      out.push(event._tag === "Gap" ? Gap.make(this.expected!, event.to, event.code) : event)
      this.expected = lastOf(event) + 1
      this.since = this.clock.currentTimeMillisUnsafe()
    }
    return out
  }
}
