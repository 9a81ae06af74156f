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
import * as Scope from "effect/Scope"
import { Lagged, type SessionClosed, type StreamReset, toCode } from "../core/MoqError.ts"
import * as Body from "../model/Body.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Group from "../model/Group.ts"
import type { SendStream } from "../transport/Transport.ts"
import { toResetCode } from "./MessageStream.ts"
import { now } from "./Monitor.ts"
import type { Sender, Sending } from "./Sending.ts"
import { Entry, type Lane } from "./SendQueue.ts"

/**
 * How sending a group can fail.
 *
 * @internal
 */
export type SendError = ReadError | StreamReset | SessionClosed

/**
 * Sends a group as its bytes come: what is there leaves in one write, the header with the first of it, or in several of
 * the size that writes have now. The stream opens with the first of them: one that carries nothing yet would only use up
 * the time that its receiver gives to the header.
 *
 * @internal
 */
export class Outgoing extends Entry implements Sender {
  readonly sending: Sending
  readonly group: Group.Group
  resume: (() => void) | undefined
  /** The code that it ended early with. */
  code: number | undefined
  /** Whether it came while its subscription was waiting for it. */
  isLive: boolean
  /** Whether it has a place among the streams of its subscription: once it is about to open its own. */
  isPlaced: boolean
  isFinishing: boolean
  isOpen: boolean
  /** What sends it, once that has begun. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  private readonly onPlaced: () => void
  private readonly body: Body.Body
  // up to where it was taken
  private readonly reached: Body.Place
  // until it leaves
  private header: Uint8Array | undefined
  private stream: SendStream | undefined
  private scope: Scope.Closeable | undefined
  // what was counted as sent, or was never to be
  private frames: number
  private payload: number
  private rank: number
  private hasBegun: boolean
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
    this.resume = undefined
    this.code = undefined
    this.isLive = false
    this.isPlaced = false
    this.isFinishing = false
    this.isOpen = false
    this.fiber = undefined
    this.onPlaced = onPlaced
    this.body = Group.bodyOf(group)
    // from here on the group does not count as taken
    this.reached = Group.openUnsafe(group)
    this.scope = undefined
    this.frames = Body.framesUntil(this.body, this.reached)
    this.payload = Body.payloadUntil(this.body, this.reached)
    this.rank = 0
    this.hasBegun = false
    this.isHolding = false
    // a group of a subscription has a header and opens its stream; the reply to a fetch has the one that asked for it
    const isHeader = first instanceof Uint8Array
    this.header = isHeader ? first : undefined
    this.stream = isHeader ? undefined : first
  }

  /** How many bytes of the group, as far as it has come, wait to be written. */
  get unsent(): number {
    if (this.code !== undefined) return 0
    return Body.available(this.body, this.reached) + (this.isHolding ? this.bytes : 0)
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
    return Effect.withFiber((fiber) => {
      this.fiber = fiber
      return Effect.onExit(this.next, (exit) => this.leave(exit))
    })
  }

  private leave(exit: Exit.Exit<void, SendError>): Effect.Effect<void> {
    const { body, reached, scope, sending, stream } = this
    this.release()
    Body.closeUnsafe(body, reached)
    const close = scope === undefined ? Effect.void : Scope.close(scope, exit)
    if (Exit.isSuccess(exit)) return close
    const found = Exit.findErrorOption(exit)
    if (Option.isSome(found)) {
      const error = found.value
      // when the session has gone, nobody gives it up
      const isGone = error._tag === "MoqSessionClosed" && body.end?._tag !== "Failure"
      if (!isGone) this.code ??= toCode(error)
    }
    if (stream === undefined || this.code === undefined) return close
    return Effect.andThen(stream.reset(toResetCode(this.code, sending.context)), close)
  }

  // has the group not count as taken while what was taken of it has still to leave
  private hold(): void {
    this.isHolding = true
    Group.holdUnsafe(this.group)
  }

  private release(): void {
    if (!this.isHolding) return
    this.isHolding = false
    Group.releaseUnsafe(this.group)
  }

  // writes all that is there, one turn after the other, and then what comes
  private readonly next: Effect.Effect<void, SendError> = Effect.suspend(() => {
    const { body, reached, sending } = this
    if (this.code !== undefined) return Effect.interrupt
    if (Body.isLagging(body, reached)) return lagged
    const { ready } = this
    if (ready > 0) {
      const { writeSize } = sending
      // somewhat more is better than a small rest
      const size = ready <= writeSize + writeSize / 4 ? ready : writeSize
      return sending.request(this, size) ? this.send() : Effect.flatMap(sending.turn(this), () => this.send())
    }
    if (body.end === undefined) return Effect.flatMap(Body.awaitUntil(body, () => this.isReady), () => this.next)
    return Exit.isSuccess(body.end) ? this.finish : body.end
  })

  private get isReady(): boolean {
    return this.ready > 0 || this.body.end !== undefined || Body.isLagging(this.body, this.reached)
  }

  // how many bytes can leave; a header waits for the first payload, or the end
  private get ready(): number {
    const { body, header, reached } = this
    const bytes = Body.available(body, reached)
    if (header === undefined) return bytes
    const isBegun = bytes > 0 && (body.missing === 0 || body.size > 0 || body.next > body.first + 1)
    return isBegun || body.end?._tag === "Success" ? header.length + bytes : 0
  }

  private send(): Effect.Effect<void, SendError> {
    const { sending, stream } = this
    if (stream !== undefined) return this.write(stream)
    if (!sending.isHoused(this)) return Effect.flatMap(sending.housed(this), () => this.next)
    this.isPlaced = true
    this.onPlaced()
    const { rank } = this
    this.scope = Scope.makeUnsafe()
    const open = Scope.provide(sending.context.connection.openUni({ priority: rank }), this.scope)
    return Effect.flatMap(open, (stream) => {
      this.stream = stream
      return this.rank === rank
        ? this.write(stream)
        : Effect.andThen(stream.setPriority(this.rank), Effect.suspend(() => this.write(stream)))
    })
  }

  // writes as many bytes as it has requested
  private write(stream: SendStream): Effect.Effect<void, SendError> {
    const { body, header, reached } = this
    if (Body.isLagging(body, reached)) return lagged
    const chunks: Array<Uint8Array> = []
    if (header !== undefined) chunks.push(header)
    this.header = undefined
    this.hold()
    Body.takeBytesUnsafe(body, reached, this.bytes - (header?.length ?? 0), chunks)
    return Effect.flatMap(stream.write(chunks as unknown as NonEmptyReadonlyArray<Uint8Array>), () => this.taken())
  }

  private taken(): Effect.Effect<void, SendError> {
    const isFirst = !this.hasBegun
    this.hasBegun = true
    this.count(isFirst)
    this.sending.done(this, isFirst)
    this.release()
    return this.next
  }

  private count(isFirst: boolean): void {
    const { body, reached, sending } = this
    const { monitor } = sending.context
    if (isFirst) {
      monitor.group("sent")
      const arrived = this.isLive ? Group.arrivedAt(this.group) : undefined
      if (arrived !== undefined) monitor.latency(now(sending.clock) - arrived)
    }
    if (Body.isLagging(body, reached)) return
    const frames = Body.framesUntil(body, reached)
    const payload = Body.payloadUntil(body, reached)
    monitor.traffic("sent", frames - this.frames, payload - this.payload)
    this.frames = frames
    this.payload = payload
  }

  private get finish(): Effect.Effect<void, SendError> {
    this.sending.finish(this)
    return this.stream!.finish
  }
}

// internal

const lagged = Effect.fail(new Lagged({ detail: "the group outgrew its limits before it was sent" }))
