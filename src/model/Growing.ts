/**
 * A frame of which not all bytes have come.
 *
 * @since 0.1.0
 */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Stream from "effect/Stream"
import { untilAny, Waiters } from "../core/Waiters.ts"
import type * as Frame from "./Frame.ts"
import * as Log from "./Log.ts"
import * as Wire from "./Wire.ts"

/**
 * The last frame of a group, as it comes. Once it is complete, or has failed, it keeps its bytes itself: they stay even
 * when the group loses them.
 *
 * @internal
 */
export class Growing implements Frame.Frame {
  readonly size: number
  readonly wire: Wire.Wire
  /** The positions of its first byte, and after its last. */
  readonly from: number
  readonly until: number
  // where its size is, and so near to where its bytes are; until it keeps them itself
  segment: Wire.Segment | undefined
  kept: Array<Uint8Array> | undefined
  isComplete: boolean
  constructor(wire: Wire.Wire, segment: Wire.Segment, from: number, size: number) {
    this.size = size
    this.wire = wire
    this.from = from
    this.until = from + size
    this.segment = segment
    this.kept = undefined
    this.isComplete = false
  }

  /** Takes what there is for all there will be. */
  settle(): void {
    this.kept = this.take(this.begin)
    this.segment = undefined
    this.isComplete = this.wire.tip >= this.until
    this.wire.growing = undefined
  }

  get payload(): Uint8Array | undefined {
    const { isComplete, kept } = this
    if (!isComplete || kept === undefined) return undefined
    if (kept.length !== 1) this.kept = [Wire.joined(kept, this.size)]
    return this.kept![0]
  }
  get bytes(): Effect.Effect<Uint8Array, Frame.ReadError> {
    return Effect.flatMap(this.awaitUntil(() => this.kept !== undefined), () => {
      const { payload } = this
      return payload === undefined ? this.failure : Effect.succeed(payload)
    })
  }
  get chunks(): Stream.Stream<Uint8Array, Frame.ReadError> {
    return Log.toStream(this.reader)
  }
  get reader(): Frame.Frame["reader"] {
    return Effect.sync(() => {
      const { begin: spot, until } = this
      const wait = this.awaitUntil(() => this.kept !== undefined || this.wire.tip > spot.position)
      return Log.handingOut<NonEmptyReadonlyArray<Uint8Array>, Frame.ReadError | Cause.Done>(
        () => {
          const chunks = this.take(spot)
          return isReadonlyArrayNonEmpty(chunks) ? chunks : undefined
        },
        (again) =>
          spot.position === until ? Cause.done() : this.kept === undefined ? Effect.andThen(wait, again) : this.failure
      )
    })
  }

  private get failure(): Effect.Effect<never, Frame.ReadError> {
    return this.wire.end as Exit.Exit<never, Frame.ReadError>
  }

  private get begin(): { position: number; segment: Wire.Segment | undefined } {
    return { position: this.from, segment: this.segment }
  }

  // the chunks that are here, from a spot on
  private take(spot: { position: number; segment: Wire.Segment | undefined }): Array<Uint8Array> {
    const { from, kept, until, wire } = this
    if (kept === undefined) return Wire.viewsUntil(wire, spot, until)
    const out: Array<Uint8Array> = []
    let at = from
    for (const chunk of kept) {
      const start = Math.max(0, spot.position - at)
      if (start < chunk.length) out.push(start === 0 ? chunk : chunk.subarray(start))
      at += chunk.length
    }
    spot.position = at
    spot.segment = undefined
    return out
  }

  private awaitUntil(ready: () => boolean): Effect.Effect<void> {
    return untilAny([this.wire.waiting ??= new Waiters()], ready)
  }
}
