/**
 * Turns the bytes of a group's stream, after its header, into the frames of a group.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Reader from "../coding/Reader.ts"
import { Cancelled, DecodeError, type Lagged, type MoqError, toCode, type WrongSize } from "../core/MoqError.ts"
import * as FrameMessage from "../message/Frame.ts"
import type * as Frame from "../model/Frame.ts"
import type * as Group from "../model/Group.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import { attempt, toReadError } from "./MessageStream.ts"
import { dropped, type Monitor } from "./Monitor.ts"
import type { SubscriberContext } from "./SessionContext.ts"

/**
 * Fills a group of `owner` from its stream, and ends it as that ends; `reader` has what came of it before. Fails with
 * what the stream is to be stopped for.
 *
 * @internal
 */
export const fill = (
  stream: ReceiveStream,
  reader: Reader.Reader,
  group: Group.Producer,
  context: SubscriberContext,
  owner: object,
  drop: (error: Lagged) => Effect.Effect<void>
): Effect.Effect<void, MoqError> => {
  const { monitor } = context
  const frames = new GroupReader(reader, group)
  const unread = context.unread.add(owner, group, drop)
  const feed = (): boolean => frames.feed()
  let news = reader.available
  monitor.group("received")
  const loop: Pull.Pull<never, MoqError> = Effect.suspend(() => {
    const fed = attempt(feed, monitor)
    frames.count(monitor)
    if (fed !== true) return fed === false ? Effect.fail(refusal(group)) : fed
    const shed = unread.add(news)
    return shed === undefined ? more : Effect.andThen(shed, more)
  })
  const more: Pull.Pull<never, MoqError> = Effect.flatMap(stream.pull, (chunks) => {
    context.onBytes()
    news = 0
    for (const chunk of chunks) {
      news += chunk.length
      reader.push(chunk)
    }
    return loop
  })
  return Pull.catchDone(loop, (): Effect.Effect<void, WrongSize | DecodeError> => {
    const problem = frames.atEnd()
    return problem === undefined ? group.finish : Effect.fail(problem)
  }).pipe(
    Effect.onExit((exit) => {
      if (Exit.isSuccess(exit)) return Effect.void
      const found = Exit.findErrorOption(exit)
      if (Option.isNone(found)) return group.fail(letGo)
      const error = found.value
      // what has ended was given up here, and has been counted
      if (group.group.end === undefined && error._tag !== "MoqSessionClosed") {
        dropped(monitor, "received", "code" in error ? error.code : toCode(error), 1)
      }
      return group.fail(toReadError(error))
    })
  )
}

/**
 * Feeds a group from its stream. Payloads are views of the chunks that arrived: nothing is copied.
 *
 * @internal
 */
export class GroupReader {
  readonly reader: Reader.Reader
  readonly group: Group.Producer
  // the frame that is begun, and how many bytes it lacks
  frame: Frame.Producer | undefined
  missing: number
  // what has come since it was counted last
  frames: number
  bytes: number
  constructor(reader: Reader.Reader, group: Group.Producer) {
    this.reader = reader
    this.group = group
    this.frame = undefined
    this.missing = 0
    this.frames = 0
    this.bytes = 0
  }

  /** Tells what has come. */
  count(monitor: Monitor): void {
    if (this.frames === 0 && this.bytes === 0) return
    monitor.traffic("received", this.frames, this.bytes)
    this.frames = 0
    this.bytes = 0
  }

  /** Takes what the reader has; `false` when the group takes no more. Throws the errors of the codec. */
  feed(): boolean {
    while (true) {
      if (this.frame !== undefined) {
        const chunk = this.reader.take(this.missing)
        if (chunk === undefined) return true
        if (!this.grow(this.frame, chunk)) return false
      } else {
        const size = FrameMessage.decodeHeader(this.reader)
        if (size === Reader.NeedMore) return true
        if (!this.begin(size)) return false
      }
    }
  }

  /** What is wrong when the stream ends here; that a frame is not complete the group says itself. */
  atEnd(): DecodeError | undefined {
    return this.frame === undefined && this.reader.available > 0
      ? new DecodeError({ detail: "the stream ended inside a frame's size" })
      : undefined
  }

  private begin(size: number): boolean {
    const chunk = size === 0 ? empty : this.reader.take(size)
    if (chunk !== undefined && chunk.length === size) {
      this.frames++
      this.bytes += size
      return this.group.writeFrameUnsafe(chunk)
    }
    const frame = this.group.createFrameUnsafe(size)
    if (frame === undefined) return false
    this.frame = frame
    this.missing = size
    return chunk === undefined || this.grow(frame, chunk)
  }

  private grow(frame: Frame.Producer, chunk: Uint8Array): boolean {
    if (!frame.writeUnsafe(chunk)) return false
    this.missing -= chunk.length
    this.bytes += chunk.length
    if (this.missing > 0) return true
    this.frame = undefined
    this.frames++
    return true
  }
}

// internal

const letGo = new Cancelled({ detail: "it was let go" })

// what made the group take no more: it was given up, or nobody wants it any longer
const refusal = ({ group }: Group.Producer): MoqError => {
  const error = Exit.findErrorOption(group.end ?? Exit.void)
  return Option.isSome(error) ? error.value : letGo
}

const empty = new Uint8Array(0)
