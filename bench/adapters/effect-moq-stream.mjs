// This library as Effect code would use it: what is published comes from a Stream per track, fed by a Queue, and what is
// received is a Stream of groups, each a Stream of frames.
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { publisherWith, subscriberWith } from "./library.mjs"

export { protocol, version } from "./library.mjs"
export const name = "effect-moq-stream"

export const publisher = publisherWith((track, scope) => {
  const queue = Effect.runSync(Queue.unbounded())
  const begin = (slot) => Effect.map(track.appendGroup, (group) => slot.group = group)
  const write = ({ frame, slot }) =>
    Effect.flatMap(
      slot.group === undefined ? begin(slot) : Effect.succeed(slot.group),
      (group) => frame === undefined ? group.finish : group.writeFrame(frame)
    )
  Effect.runSync(
    Stream.fromQueue(queue).pipe(
      Stream.runForEach(write),
      Effect.forkIn(scope, { startImmediately: true })
    )
  )
  return () => {
    const slot = { group: undefined }
    return {
      write: (frame) => void Queue.offerUnsafe(queue, { slot, frame }),
      close: () => void Queue.offerUnsafe(queue, { slot, frame: undefined })
    }
  }
})

export const subscriber = subscriberWith((track, onFrame) => {
  const read = (group) =>
    Stream.runForEachArray(group.frames, (frames) => {
      for (const frame of frames) onFrame(frame, group.sequence)
      return Effect.void
    })
  // `track.groups` would begin with the newest group when the Stream runs, a turn later than this
  return Effect.map(track.reader(), (pull) =>
    Stream.fromPull(Effect.succeed(pull)).pipe(
      Stream.filter((event) => event._tag === "Group"),
      Stream.mapEffect((group) => Effect.ignore(read(group)), { concurrency: "unbounded" }),
      Stream.runDrain
    ))
})
