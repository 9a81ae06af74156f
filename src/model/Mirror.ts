/**
 * Copies what comes of one track into another, by reference.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import { errorOf } from "../core/ErrorOf.ts"
import { Fibers } from "../core/Fibers.ts"
import { Lagged } from "../core/MoqError.ts"
import * as Body from "./Body.ts"
import type * as Frame from "./Frame.ts"
import * as Group from "./Group.ts"
import type * as Track from "./Track.ts"
import * as TrackEvent from "./TrackEvent.ts"

/**
 * A track that is filled from others, one after the other. Its sequences never go back: what one of them calls
 * `sequence` is `sequence + offset` here.
 *
 * @internal
 */
export class Mirror {
  readonly to: Track.Producer
  offset: number
  /** The sequence after the highest that has come, or was said not to come; `undefined` before the first. */
  next: number | undefined
  constructor(to: Track.Producer) {
    this.to = to
    this.offset = 0
    this.next = undefined
  }

  /** Copies a track, from a sequence of it on, until it ends and all of it is here. Fails as it does; the copy goes on. */
  copy(from: Track.Track, range: Track.Range): Effect.Effect<void, Frame.ReadError> {
    return Effect.gen({ self: this }, function*() {
      const groups = yield* Fibers.make
      const events = yield* from.reader(range)
      const follow = events.pipe(
        Effect.flatMap((batch) => Effect.forEach(batch, (event) => this.tell(event, groups), { discard: true })),
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => Effect.void)
      )
      const end = yield* Effect.exit(follow)
      yield* groups.awaitEmpty()
      return yield* end
    }).pipe(Effect.scoped)
  }

  /** Says of everything below a sequence that has not come that it will not. */
  skip(below: number, code: number): Effect.Effect<void> {
    return this.to.gap({ from: 0, to: below - 1, code })
  }

  tell(event: Track.Event, groups: Fibers): Effect.Effect<void> {
    const { offset, to } = this
    this.next = Math.max(this.next ?? 0, TrackEvent.last(event) + offset + 1)
    if (event._tag === "Gap") return to.gap({ from: event.from + offset, to: event.to + offset, code: event.code })
    return Effect.matchEffect(to.createGroup(event.sequence + offset), {
      onSuccess: (group) => Effect.sync(() => groups.fork(copyGroup(event, group))),
      // it is here already, or so old that it would not be kept
      onFailure: () => Effect.void
    })
  }
}

// internal

// the bytes as they are: their memory is shared
const copyGroup = (from: Group.Group, to: Group.Producer): Effect.Effect<void> => {
  const [source, target] = [Group.bodyOf(from), Group.bodyOf(to.group)]
  return Effect.acquireUseRelease(
    Effect.sync(() => Body.openUnsafe(source, 0)),
    (place) => {
      const wait = Body.awaitUntil(source, () => Body.isReady(source, place))
      const copy: Effect.Effect<void> = Effect.suspend(() => {
        if (Body.isLagging(source, place)) return to.fail(new Lagged({ detail: "it was not copied in time" }))
        const chunks: Array<Uint8Array> = []
        Body.takeBytesUnsafe(source, place, Infinity, chunks)
        for (const chunk of chunks) if (!Body.feedUnsafe(target, chunk)) return Effect.void
        const { end } = source
        if (end === undefined) return Effect.andThen(wait, copy)
        return Effect.sync(() => Group.endUnsafe(to, errorOf(end)))
      })
      return copy
    },
    (place) => Effect.sync(() => Body.closeUnsafe(source, place))
  )
}
