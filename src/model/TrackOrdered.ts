/**
 * The events of a track in sequence.
 *
 * @since 0.1.0
 */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Timeout, toCode } from "../core/MoqError.ts"
import * as Gap from "./Gap.ts"
import * as Log from "./Log.ts"
import * as TrackEvent from "./TrackEvent.ts"

/**
 * Puts the events of a track in the order of their sequences. One that comes early is held back until what is missing
 * has come too, or for `maxWait`; then the missing sequences become a gap with code 3 (timeout), and are left out
 * should they still come.
 *
 * **Example** (Reading a track in sequence)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { type Track, TrackOrdered } from "effect-moq"
 *
 * const sequences = (track: Track.Track) =>
 *   track.events.pipe(
 *     TrackOrdered.ordered({ from: track.begin, maxWait: "500 millis" }),
 * Stream.runForEach((event) => Effect.log(event._tag === "Gap" ? `missing ${event.from}` : `group ${event.sequence}`))
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
<E, R>(events: Stream.Stream<TrackEvent.TrackEvent, E, R>): Stream.Stream<TrackEvent.TrackEvent, E, R> =>
  Stream.unwrap(Effect.gen(function*() {
    const source = yield* Stream.toPull(events)
    const clock = yield* Clock.Clock
    const scope = yield* Effect.scope
    const maxWait = Duration.toMillis(options?.maxWait ?? "1 second")
    return Stream.fromPull(Effect.succeed(new Ordering(source, scope, clock, maxWait, options?.from).pull))
  }))

// internal

const codeTimeout = toCode(new Timeout({}))

interface Held {
  readonly event: TrackEvent.TrackEvent
  /** Until when it waits for what is missing before it, in milliseconds. */
  readonly until: number
}

class Ordering<E, R> {
  readonly source: Pull.Pull<NonEmptyReadonlyArray<TrackEvent.TrackEvent>, E, void, R>
  readonly scope: Scope.Scope
  readonly clock: Clock.Clock
  readonly maxWait: number
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<TrackEvent.TrackEvent>, E, void, R>
  // by sequence; what comes before the first of them is missing
  readonly held: Array<Held>
  expected: number | undefined
  // the pull that is under way: it goes on when the time of what is held runs out
  pulling: Fiber.Fiber<void> | undefined
  end: Pull.Pull<never, E> | undefined
  constructor(
    source: Pull.Pull<NonEmptyReadonlyArray<TrackEvent.TrackEvent>, E, void, R>,
    scope: Scope.Scope,
    clock: Clock.Clock,
    maxWait: number,
    from: number | undefined
  ) {
    this.source = source
    this.scope = scope
    this.clock = clock
    this.maxWait = maxWait
    this.held = []
    this.expected = from
    this.pulling = undefined
    this.end = undefined
    this.pull = Log.handingOut(() => {
      const out = this.release()
      return isReadonlyArrayNonEmpty(out) ? out : undefined
    }, () => this.step())
  }
  // when there is nothing to take
  step(): Pull.Pull<NonEmptyReadonlyArray<TrackEvent.TrackEvent>, E, void, R> {
    const [first] = this.held
    if (first === undefined) return this.end ?? Effect.andThen(this.next, this.pull)
    const left = this.end === undefined ? this.until - this.clock.currentTimeMillisUnsafe() : 0
    if (left > 0) return Effect.andThen(Effect.timeoutOption(this.next, left), this.pull)
    const missing = Gap.make(this.expected!, TrackEvent.first(first.event) - 1, codeTimeout)
    this.held.unshift({ event: missing, until: first.until })
    return this.pull
  }
  // whoever has waited longest says when the waiting is over, for all that comes before it
  get until(): number {
    let until = Infinity
    for (const held of this.held) until = Math.min(until, held.until)
    return until
  }
  get next(): Effect.Effect<void, never, R> {
    return Effect.suspend(() =>
      this.pulling !== undefined ? Fiber.join(this.pulling) : Effect.flatMap(
        Effect.forkIn(this.took, this.scope, { startImmediately: true }),
        (fiber) => {
          this.pulling = fiber.pollUnsafe() === undefined ? fiber : undefined
          return Fiber.join(fiber)
        }
      )
    )
  }
  get took(): Effect.Effect<void, never, R> {
    return Effect.map(Effect.exit(this.source), (exit) => {
      this.pulling = undefined
      if (Exit.isFailure(exit)) this.end = exit as Exit.Exit<never, E>
      else for (const event of exit.value) this.hold(event)
    })
  }
  hold(event: TrackEvent.TrackEvent): void {
    this.expected ??= TrackEvent.first(event)
    let at = this.held.length
    while (at > 0 && TrackEvent.first(this.held[at - 1]!.event) > TrackEvent.first(event)) at--
    this.held.splice(at, 0, { event, until: this.clock.currentTimeMillisUnsafe() + this.maxWait })
  }
  release(): Array<TrackEvent.TrackEvent> {
    const out: Array<TrackEvent.TrackEvent> = []
    while (this.held.length > 0 && TrackEvent.first(this.held[0]!.event) <= this.expected!) {
      const { event } = this.held.shift()!
      const last = TrackEvent.last(event)
      if (last < this.expected!) continue
      out.push(event._tag === "Gap" ? Gap.make(this.expected!, last, event.code) : event)
      this.expected = last + 1
    }
    return out
  }
}
