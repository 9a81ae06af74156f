/**
 * A `Sink` that writes a Stream of bytes into a track, frame by frame.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Sink from "effect/Sink"
import { Cancelled, type FrameTooLarge, type WrongSize } from "../core/MoqError.ts"
import type { WriteError } from "./Frame.ts"
import type * as Group from "./Group.ts"

/**
 * How a Stream becomes groups of frames; each element is one frame.
 *
 * **Details**
 *
 * The last group is finished when the Stream ends, and fails with `Cancelled` when the Stream fails or is interrupted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * When a new group begins: after so many `frames`, with the first frame after so much time (`every`), after so many
   * `bytes`, or never (`"single"`).
   */
  readonly group:
    | { readonly frames: number }
    | { readonly every: Duration.Input }
    | { readonly bytes: number }
    | "single"
  /**
   * What happens when readers are slower than the Stream: `"drop"` (the default) goes on, and the limits of the cache
   * drop old groups; `"suspend"` waits until every reader that is open has taken what is there, after each batch and
   * before each new group, so that a reader of `frames` gets them all.
   */
  readonly overflow?: "drop" | "suspend" | undefined
  /** Waits for the first reader before it takes anything from the Stream; `false` by default. */
  readonly waitForReader?: boolean | undefined
}

/**
 * How the sink can fail: `FrameTooLarge` for an element above 16 MiB, `WriteError` when the track has ended.
 *
 * @category errors
 * @since 0.1.0
 */
export type SinkError = FrameTooLarge | WrongSize | WriteError

/** @internal */
export interface Target {
  readonly appendGroup: Effect.Effect<Group.Producer, WriteError>
  readonly used: Effect.Effect<void>
  readonly taken: Effect.Effect<void>
}

/** @internal */
export const make = (
  target: Target,
  clock: Clock.Clock,
  options: Options
): Sink.Sink<void, Uint8Array, never, SinkError> =>
  Sink.unwrap(Effect.gen(function*() {
    if (options.waitForReader) yield* target.used
    const isFull = fullness(options.group, clock)
    const settle = options.overflow === "suspend" ? target.taken : Effect.void
    let group: Group.Producer | undefined
    let began = 0
    const next = Effect.gen(function*() {
      if (group !== undefined) {
        // a reader that goes on with the newest group must not lose the end of this one
        yield* settle
        yield* group.finish
      }
      group = yield* target.appendGroup
      began = clock.currentTimeMillisUnsafe()
      return group
    })
    const write = (bytes: Uint8Array): Effect.Effect<void, SinkError> =>
      group !== undefined && !isFull(group.group, began)
        ? group.writeFrame(bytes)
        : Effect.flatMap(next, (group) => group.writeFrame(bytes))
    return Sink.forEachArray((frames: ReadonlyArray<Uint8Array>) =>
      Effect.andThen(Effect.forEach(frames, write, { discard: true }), settle)
    ).pipe(
      Sink.onExit((exit): Effect.Effect<void, WrongSize> =>
        Effect.suspend(() =>
          group === undefined ? Effect.void : Exit.isSuccess(exit) ? group.finish : group.fail(interrupted)
        )
      )
    )
  }))

// internal

const interrupted = new Cancelled({ detail: "what was written into it ended early" })

const fullness = (
  group: Options["group"],
  clock: Clock.Clock
): (group: Group.Group, began: number) => boolean => {
  if (group === "single") return () => false
  if ("frames" in group) return (current) => current.count >= group.frames
  if ("bytes" in group) return (current) => current.size >= group.bytes
  const every = Duration.toMillis(Duration.fromInputUnsafe(group.every))
  return (_, began) => clock.currentTimeMillisUnsafe() - began >= every
}
