// This library from callbacks, as plain code would use it: frames are written with `writeFrameUnsafe` and read with
// `Track.forEachFrame`.
import * as Effect from "effect/Effect"
import { library, publisherWith, subscriberWith } from "./library.mjs"

export { protocol, version } from "./library.mjs"
export const name = "effect-moq"

export const publisher = publisherWith((track) => () => {
  const group = track.appendGroupUnsafe()
  return {
    write: (frame) => void group.writeFrameUnsafe(frame),
    close: () => void group.finishUnsafe()
  }
})

export const subscriber = subscriberWith((track, onFrame) => Effect.succeed(library.Track.forEachFrame(track, onFrame)))
