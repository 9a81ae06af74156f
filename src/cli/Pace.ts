/**
 * Lets bytes through no faster than at a given rate.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

/**
 * Delays each element until those before it have had their time at `rate` bytes per second. A source that was slower
 * than that for a while is not made up for by more than 100 ms.
 *
 * @category combinators
 * @since 0.1.0
 */
export const pace = (rate: number) => <E, R>(self: Stream.Stream<Uint8Array, E, R>): Stream.Stream<Uint8Array, E, R> =>
  Stream.unwrap(Effect.map(Clock.Clock, (clock) => {
    let due = clock.currentTimeMillisUnsafe()
    return Stream.mapEffect(self, (bytes) => {
      const now = clock.currentTimeMillisUnsafe()
      const wait = due - now
      due = Math.max(due, now - slack) + bytes.length / rate * 1000
      return wait < 1 ? Effect.succeed(bytes) : Effect.as(Effect.sleep(wait), bytes)
    })
  }))

// internal

// timers are late by some milliseconds, and the rate must hold nevertheless
const slack = 100
