/**
 * `effect-moq clock`: the classic demonstration. A group per minute, a frame per second.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { FrameTooLarge, WrongSize } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type { WriteError } from "../model/Frame.ts"
import type * as Group from "../model/Group.ts"
import type * as Track from "../model/Track.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import * as Text from "./Text.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const clock = Command.make(
  "clock",
  {
    ...Target.config,
    publish: Flags.isSet("publish", "Publish the time, instead of watching it"),
    path: Flags.text("path", "path", "The track; clock by default").pipe(Flag.withDefault("clock")),
    json: Flags.json
  },
  Effect.fnUntraced(function*({ json, path: text, publish, ...target }) {
    const path = yield* Target.parsePath(text)
    const session = yield* Target.connect(target)
    if (publish) {
      yield* Target.refuseTaken(session, path)
      const broadcast = yield* session.broadcast(path.slice(0, -1))
      const track = yield* broadcast.track(path.slice(-1))
      if (json) yield* Output.json({ event: "announced", path: Path.format(path) })
      return yield* Effect.raceFirst(tick(track), Effect.flatMap(session.closed, Effect.fail))
    }
    const track = yield* session.subscribe(path, { wait: "10 seconds" })
    yield* Stream.runForEach(
      track.groups,
      (group) =>
        Stream.runForEach(minute(group), (time) => json ? Output.json({ event: "time", time }) : Output.line(time))
    )
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Watches a clock that somebody publishes: a track with a group per minute, whose first frame is the minute and whose " +
      "others are the seconds (UTC). So whoever joins late knows the time at once. With --publish, publishes it."
  ),
  Command.withShortDescription("Publish the time, or watch it"),
  Command.withExamples([
    { command: "effect-moq clock https://localhost:4443 --publish", description: "In one terminal" },
    { command: "effect-moq clock https://localhost:4443", description: "In another: 2025-01-13 10:21:07" }
  ])
)

/**
 * The time in UTC, as the clock tells it: `2025-01-13 10:21:07`.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (millis: number): string => new Date(millis).toISOString().slice(0, 19).replace("T", " ")

/**
 * Publishes the time, a group per minute, for as long as it runs.
 *
 * @category publishing
 * @since 0.1.0
 */
export const tick = (track: Track.Producer): Effect.Effect<never, FrameTooLarge | WrongSize | WriteError> =>
  Effect.gen(function*() {
    let group: Group.Producer | undefined
    let minute = ""
    while (true) {
      const now = yield* Clock.currentTimeMillis
      const time = format(now)
      if (group === undefined || time.slice(0, 17) !== minute) {
        if (group !== undefined) yield* group.finish
        group = yield* track.appendGroup
        minute = time.slice(0, 17)
        yield* group.writeFrame(encoder.encode(minute))
      }
      yield* group.writeFrame(encoder.encode(time.slice(17)))
      yield* Effect.sleep(1000 - now % 1000)
    }
  })

/**
 * The times that a group of the clock tells. A group that fails just ends: the next one tells the minute again.
 *
 * @category watching
 * @since 0.1.0
 */
export const minute = (group: Group.Group): Stream.Stream<string> =>
  Stream.suspend(() => {
    let minute: string | undefined
    return group.frames.pipe(
      Stream.catchCause(() => Stream.empty),
      Stream.map((frame) => Text.printable(decoder.decode(frame))),
      Stream.flatMap((text) => {
        if (minute !== undefined) return Stream.succeed(minute + text)
        minute = text
        return Stream.empty
      })
    )
  })

// internal

const encoder = new TextEncoder()
const decoder = new TextDecoder()
