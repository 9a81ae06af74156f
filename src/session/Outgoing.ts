/**
 * The stream of one group that is being sent.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Writer from "../coding/Writer.ts"
import { type SessionClosed, type StreamReset, toCode } from "../core/MoqError.ts"
import * as FrameMessage from "../message/Frame.ts"
import * as Frame from "../model/Frame.ts"
import * as Group from "../model/Group.ts"
import type { SendStream } from "../transport/Transport.ts"
import { toResetCode } from "./MessageStream.ts"
import { type Monitor, now } from "./Monitor.ts"
import type { Sender, Sending } from "./Sending.ts"
import { Entry, type Lane } from "./SendQueue.ts"

/**
 * How sending a group can fail.
 *
 * @internal
 */
export type SendError = Frame.ReadError | StreamReset | SessionClosed

/**
 * Sends a group: what is there together leaves in one write, the header with the first frames, or in several of the size
 * that writes have now. The stream opens with the first of them: one that carries nothing yet would only use up the time
 * that its receiver gives to the header.
 *
 * @internal
 */
export class Outgoing extends Entry implements Sender {
  readonly sending: Sending
  readonly group: Group.Group
  readonly monitor: Monitor
  resume: (() => void) | undefined
  /** The code that it ended early with. */
  code: number | undefined
  /** Whether it came while its subscription was waiting for it. */
  isLive: boolean
  /** Whether it has a place among the streams of its subscription: once it is about to open its own. */
  isPlaced: boolean
  private readonly onPlaced: () => void
  private stream: SendStream | undefined
  private scope: Scope.Scope | undefined
  private fiber: Fiber.Fiber<unknown, unknown> | undefined
  // what is to be written next, from `head` on, and its bytes; those written before
  private chunks: Array<Uint8Array>
  private head: number
  private size: number
  private written: number
  // of what is to be written: the bytes that are no payload, and the frames
  private headers: number
  private frames: number
  private rank: number
  private isHolding: boolean
  constructor(
    sending: Sending,
    lane: Lane,
    group: Group.Group,
    first: Uint8Array | SendStream,
    /** Hears that it has a place; {@link setRank} is to follow. */
    onPlaced: () => void
  ) {
    super(lane, group.sequence)
    this.sending = sending
    this.group = group
    this.monitor = sending.context.monitor
    this.resume = undefined
    this.code = undefined
    this.isLive = false
    this.isPlaced = false
    this.onPlaced = onPlaced
    this.scope = undefined
    this.fiber = undefined
    this.head = 0
    this.written = 0
    this.frames = 0
    this.rank = 0
    this.isHolding = false
    // a group of a subscription has a header and opens its stream; the reply to a fetch has the one that asked for it
    if (first instanceof Uint8Array) {
      this.stream = undefined
      this.chunks = [first]
      this.size = first.length
    } else {
      this.stream = first
      this.chunks = []
      this.size = 0
    }
    this.headers = this.size
  }

  /** How many bytes of the group, as far as it has come, wait to be written. */
  get unsent(): number {
    return this.code === undefined ? Math.max(0, this.group.size - this.written) : 0
  }

  /** Has the group not count as taken: before it is read, and while what was read of it has still to leave. */
  hold(): void {
    if (this.isHolding) return
    this.isHolding = true
    Group.holdUnsafe(this.group)
  }

  /** The opposite of `hold`. */
  release(): void {
    if (!this.isHolding) return
    this.isHolding = false
    Group.releaseUnsafe(this.group)
  }

  /** Ends it early with a code. Does nothing once it has ended. */
  drop(code: number): void {
    this.code ??= code
    this.fiber?.interruptUnsafe()
  }

  /** Tells its rank to the transport, if it is another than before. */
  setRank(rank: number): Effect.Effect<void> | undefined {
    if (rank === this.rank) return undefined
    this.rank = rank
    return this.stream?.setPriority(rank)
  }

  /** Sends the group to its end. Fails as that does; interrupted, it resets the stream with the code of `drop`. */
  get run(): Effect.Effect<void, SendError> {
    const sent = Effect.scopedWith((scope) => {
      this.scope = scope
      return Effect.flatMap(Scope.provide(this.group.reader, scope), (frames) => {
        this.release()
        return frames.pipe(
          Effect.flatMap(this.write),
          Effect.forever({ disableYield: true }),
          Pull.catchDone(() => this.finish)
        )
      }).pipe(Effect.onExit((exit) => this.reset(exit)))
    })
    return Effect.withFiber((fiber) => {
      this.fiber = fiber
      return sent
    })
  }

  private reset(exit: Exit.Exit<void, SendError>): Effect.Effect<void> {
    this.release()
    if (Exit.isSuccess(exit)) return Effect.void
    const found = Exit.findErrorOption(exit)
    if (Option.isSome(found)) {
      const error = found.value
      // when the session has gone, nobody gives it up
      const isGone = error._tag === "MoqSessionClosed" && this.group.end?._tag !== "Failure"
      if (!isGone) this.code ??= toCode(error)
    }
    if (this.stream === undefined || this.code === undefined) return Effect.void
    return this.stream.reset(toResetCode(this.code, this.sending.context))
  }

  private readonly write = (frames: NonEmptyReadonlyArray<Frame.Frame>): Effect.Effect<void, SendError> => {
    for (const frame of frames) {
      FrameMessage.encodeHeader(writer, frame.size)
      const header = writer.finish()
      this.headers += header.length
      this.push(header)
      this.frames++
      // only the last frame of a batch can still be growing
      const payload = frame.isComplete ? frame.payload : undefined
      if (payload === undefined) {
        const chunks = this.writeChunks(frame)
        // what is before it does not wait for its first bytes
        return frame !== frames[0] && Frame.logOf(frame)?.next === 0 ? Effect.andThen(this.flush, chunks) : chunks
      }
      if (payload.length > 0) this.push(payload)
    }
    return this.flush
  }

  private writeChunks(frame: Frame.Frame): Effect.Effect<void, SendError> {
    return Effect.scoped(Effect.flatMap(frame.reader, (chunks) =>
      chunks.pipe(
        Effect.flatMap((batch) => {
          for (const chunk of batch) this.push(chunk)
          return this.flush
        }),
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => Effect.void)
      )))
  }

  private push(chunk: Uint8Array): void {
    this.hold()
    this.chunks.push(chunk)
    this.size += chunk.length
  }

  private get finish(): Effect.Effect<void, SendError> {
    return Effect.flatMap(this.flush, () => {
      this.sending.finish(this)
      return this.stream!.finish
    })
  }

  // writes all that is there, one turn after the other
  private readonly flush: Effect.Effect<void, SendError> = Effect.suspend(() => {
    if (this.size === 0) return Effect.void
    return this.sending.request(this, this.next)
      ? this.send()
      : Effect.flatMap(this.sending.turn(this), () => this.send())
  })

  private send(): Effect.Effect<void, SendError> {
    const { sending, stream } = this
    if (stream !== undefined) return Effect.flatMap(stream.write(this.take()), this.taken)
    if (!sending.isHoused(this)) return Effect.flatMap(sending.housed(this), () => this.flush)
    this.isPlaced = true
    this.onPlaced()
    const { rank } = this
    const open = Scope.provide(sending.context.connection.openUni({ priority: rank }), this.scope!)
    return Effect.flatMap(open, (stream) => {
      this.stream = stream
      const written = Effect.flatMap(stream.write(this.take()), this.taken)
      return this.rank === rank ? written : Effect.andThen(stream.setPriority(this.rank), written)
    })
  }

  private readonly taken = (): Effect.Effect<void, SendError> => {
    this.count()
    this.written += this.bytes
    this.sending.done(this, this.written === this.bytes)
    if (this.size > 0) return this.flush
    this.release()
    return Effect.void
  }

  private count(): void {
    const { bytes, monitor } = this
    if (this.written === 0) {
      monitor.group("sent")
      const arrived = this.isLive ? Group.arrivedAt(this.group) : undefined
      if (arrived !== undefined) monitor.latency(now(this.sending.clock) - arrived)
    }
    const headers = Math.min(this.headers, bytes)
    this.headers -= headers
    monitor.traffic("sent", this.size === 0 ? this.frames : 0, bytes - headers)
    if (this.size === 0) this.frames = 0
  }

  // how many bytes the next write has: whole chunks, unless the last one of them is too large. Somewhat more is fine where
  // that saves cutting a chunk: a frame of 16 KiB and its header.
  private get next(): number {
    const { writeSize } = this.sending
    const most = writeSize + writeSize / 4
    if (this.size <= most) return this.size
    let bytes = 0
    for (let i = this.head; bytes < writeSize; i++) bytes += this.chunks[i]!.length
    return bytes <= most ? bytes : writeSize
  }

  // the bytes that were requested
  private take(): NonEmptyReadonlyArray<Uint8Array> {
    const { bytes, chunks, head } = this
    this.size -= bytes
    if (this.size === 0) {
      this.chunks = []
      this.head = 0
      return (head === 0 ? chunks : chunks.slice(head)) as unknown as NonEmptyReadonlyArray<Uint8Array>
    }
    let index = head
    let left = bytes
    while (chunks[index]!.length <= left) left -= chunks[index++]!.length
    const out = chunks.slice(head, index)
    if (left > 0) {
      out.push(chunks[index]!.subarray(0, left))
      chunks[index] = chunks[index]!.subarray(left)
    }
    this.head = index
    return out as unknown as NonEmptyReadonlyArray<Uint8Array>
  }
}

// internal

const writer = Writer.make()
