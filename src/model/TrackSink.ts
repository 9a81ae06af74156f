/**
 * A `Sink` that writes a Stream of bytes into a track, frame by frame.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Sink from "effect/Sink"
import { Cancelled, type FrameTooLarge, Overflow } from "../core/MoqError.ts"
import type { WriteError } from "./Frame.ts"
import * as Group from "./Group.ts"

/**
 * How a Stream becomes groups of frames; each element is one frame.
 *
 * **Details**
 *
 * The last group is finished when the Stream ends, and fails with `Cancelled` when the Stream fails or is interrupted.
 *
 * **Example** (A Stream that cannot wait, and must not lose anything unnoticed)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { MoqError, type Track } from "effect-moq"
 *
 * const write = (track: Track.Producer, events: Stream.Stream<Uint8Array>) =>
 *   Stream.run(events, track.sink({ group: { every: "1 second" }, overflow: "fail" })).pipe(
 *     Effect.catchTag("MoqOverflow", (error) => track.fail(new MoqError.Lagged({ detail: error.message })))
 *   )
 * ```
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
   * What happens when readers are slower than the Stream:
   *
   * - `"drop"` (the default) goes on, and the limits of the track and of its groups drop the oldest. A reader that is
   *   behind gets a gap, or `Lagged`. For what is only worth having while it is new.
   * - `"suspend"` waits until every reader that is open has taken what is there, after each batch and before each new
   *   group, so that a reader of `frames` gets them all. A session has taken what its transport has. For a Stream that
   *   can wait, such as a file; with order `"asc"`, so that nothing is overtaken until it is too old.
   * - `"fail"` goes on for as long as there is room, and then fails with `Overflow` instead of dropping what a reader
   *   that is open has not taken. For a Stream that cannot wait, where losing something must not go unnoticed. What is
   *   dropped for its age alone is no overflow, and what nobody reads is dropped as ever.
   */
  readonly overflow?: "drop" | "suspend" | "fail" | undefined
  /** Waits for the first reader before it takes anything from the Stream; `false` by default. */
  readonly waitForReader?: boolean | undefined
}

/**
 * How the sink can fail: `FrameTooLarge` for an element above 16 MiB, `Overflow` as told to, `WriteError` when the track
 * has ended.
 *
 * @category errors
 * @since 0.1.0
 */
export type SinkError = FrameTooLarge | Overflow | WriteError

/** @internal */
export interface Target {
  readonly appendGroup: Effect.Effect<Group.Producer, WriteError>
  readonly appendGroupUnsafe: () => Group.Producer | undefined
  /**
   * Whether a frame more of that size, in the newest group or in a new one, has no room but that of what an open reader
   * has still to take.
   */
  readonly overflows: (bytes: number, group: Group.Group | undefined) => boolean
  readonly used: Effect.Effect<void>
  readonly taken: Effect.Effect<void>
}

/** @internal */
export const make = (
  target: Target,
  clock: Clock.Clock,
  options: Options
): Sink.Sink<void, Uint8Array, never, SinkError> =>
  Sink.fromTransform((upstream) =>
    Effect.suspend(() => {
      const writer = new Writer(target, clock, options)
      const written = Effect.forever(Effect.flatMap(upstream, writer.write), { disableYield: true })
      return Effect.andThen(options.waitForReader === true ? target.used : Effect.void, written).pipe(
        Pull.catchDone((): Effect.Effect<Sink.End<void>> => Effect.succeed([undefined])),
        Effect.onExit((exit) => Effect.sync(() => writer.end(Exit.isSuccess(exit) ? undefined : interrupted)))
      )
    })
  )

// internal

class Writer {
  readonly target: Target
  readonly clock: Clock.Clock
  readonly overflow: Options["overflow"]
  readonly isFull: (group: Group.Group, began: number) => boolean
  group: Group.Producer | undefined
  began: number
  constructor(target: Target, clock: Clock.Clock, options: Options) {
    this.target = target
    this.clock = clock
    this.overflow = options.overflow
    this.isFull = fullness(options.group, clock)
    this.group = undefined
    this.began = 0
  }
  readonly write = (frames: ReadonlyArray<Uint8Array>): Effect.Effect<void, SinkError> =>
    Effect.suspend(() => this.writeFrom(frames, 0))
  writeFrom(frames: ReadonlyArray<Uint8Array>, from: number): Effect.Effect<void, SinkError> {
    for (let at = from; at < frames.length; at++) {
      if (this.group !== undefined && this.isOver(this.group)) {
        // a reader that goes on with the newest group must not lose the end of this one
        if (this.overflow === "suspend") {
          return Effect.flatMap(this.target.taken, () => {
            this.end()
            return this.writeFrom(frames, at)
          })
        }
        this.end()
      }
      const frame = frames[at]!
      if (frame.length > Group.maxFrameBytes) return Effect.fail(Group.tooLarge(frame.length))
      if (this.overflow === "fail" && this.target.overflows(frame.length, this.group?.group)) {
        return Effect.fail(new Overflow({ detail: "a reader has not taken what would have to be dropped" }))
      }
      const group = this.group ?? this.begin()
      if (group === undefined) return Effect.asVoid(this.target.appendGroup)
      group.writeFrameUnsafe(frame)
    }
    return this.overflow === "suspend" ? this.target.taken : Effect.void
  }
  begin(): Group.Producer | undefined {
    this.group = this.target.appendGroupUnsafe()
    this.began = this.clock.currentTimeMillisUnsafe()
    return this.group
  }
  // full, or ended by others: it outgrew the track, or the track has ended
  isOver({ group }: Group.Producer): boolean {
    return group.end !== undefined || this.isFull(group, this.began)
  }
  end(error?: Cancelled): void {
    if (this.group !== undefined) Group.endUnsafe(this.group, error)
    this.group = undefined
  }
}

const interrupted = new Cancelled({ detail: "what was written into it ended early" })

const fullness = (
  group: Options["group"],
  clock: Clock.Clock
): (group: Group.Group, began: number) => boolean => {
  if (group === "single") return () => false
  if ("frames" in group) return (current) => current.count >= group.frames
  if ("bytes" in group) return (current) => current.size >= group.bytes
  const every = Duration.toMillis(group.every)
  return (_, began) => clock.currentTimeMillisUnsafe() - began >= every
}
