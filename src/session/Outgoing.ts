/**
 * The stream of one group that is being sent.
 *
 * **Details**
 *
 * No fiber sends it: whatever it waits for (bytes, its turn, a place, its stream, a write) calls it back, and it goes on
 * as far as it can.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { errorOf } from "../core/ErrorOf.ts"
import { Lagged, type SessionClosed, type StreamReset, toCode } from "../core/MoqError.ts"
import type { Parked } from "../core/Waiters.ts"
import * as Body from "../model/Body.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Group from "../model/Group.ts"
import type { SendStream } from "../transport/Transport.ts"
import * as Direct from "./Direct.ts"
import { toResetCode } from "./MessageStream.ts"
import { none, now } from "./Monitor.ts"
import type { Sender, Sending } from "./Sending.ts"
import { Entry, type Lane } from "./SendQueue.ts"

/**
 * How sending a group can fail.
 *
 * @internal
 */
export type SendError = ReadError | StreamReset | SessionClosed

/**
 * Who has a group sent.
 *
 * @internal
 */
export interface Owner {
  /** The fiber that it is sent for. */
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** Sets the ranks of its groups: one more has a place among their streams. */
  readonly rank: () => void
  /** It has ended by itself, or was dropped. */
  readonly sent: (outgoing: Outgoing, exit: Exit.Exit<void, SendError>) => void
}

/**
 * Sends a group as its bytes come: what is there leaves in one write, the header with the first of it, or in several of
 * the size that writes have now. The stream opens with the first of them: one that carries nothing yet would only use up
 * the time that its receiver gives to the header.
 *
 * @internal
 */
export class Outgoing extends Entry implements Sender, Parked {
  readonly sending: Sending
  readonly owner: Owner
  readonly group: Group.Group
  /** The code that it ended early with. */
  code: number | undefined
  /** Whether it came while its subscription was waiting for it. */
  isLive: boolean
  /** Whether it has a place among the streams of its subscription: once it is about to open its own. */
  isPlaced: boolean
  isFinishing: boolean
  isOpen: boolean
  private readonly body: Body.Body
  // up to where it was taken
  private readonly reached: Body.Place
  // until it leaves
  private header: Uint8Array | undefined
  private stream: SendStream | undefined
  // takes the opening of its stream back
  private withdraw: (() => void) | undefined
  // what was counted as sent, or was never to be
  private frames: number
  private payload: number
  private rank: number
  private hasBegun: boolean
  private isHolding: boolean
  // whether it hears of bytes that come, and waits for them
  private isListening: boolean
  private isWaiting: boolean
  private isOver: boolean
  constructor(sending: Sending, lane: Lane, group: Group.Group, owner: Owner, first: Uint8Array | SendStream) {
    super(lane, group.sequence)
    this.sending = sending
    this.owner = owner
    this.group = group
    this.code = undefined
    this.isLive = false
    this.isPlaced = false
    this.isFinishing = false
    this.isOpen = false
    this.body = Group.bodyOf(group)
    // from here on the group does not count as taken
    this.reached = Group.openUnsafe(group)
    this.withdraw = undefined
    this.frames = 0
    this.payload = 0
    if (sending.context.monitor !== none) this.mark()
    this.rank = 0
    this.hasBegun = false
    this.isHolding = false
    this.isListening = false
    this.isWaiting = false
    this.isOver = false
    // a group of a subscription has a header and opens its stream; the reply to a fetch has the one that asked for it
    const isHeader = first instanceof Uint8Array
    this.header = isHeader ? first : undefined
    this.stream = isHeader ? undefined : first
  }

  get fiber(): Fiber.Fiber<unknown, unknown> {
    return this.owner.fiber
  }

  /** How many bytes of the group, as far as it has come, wait to be written. */
  get unsent(): number {
    return this.isOver ? 0 : Body.available(this.body, this.reached) + (this.isHolding ? this.bytes : 0)
  }

  /** Ends it early with a code, in whatever state it is. Does nothing once it has ended. */
  drop(code: number): void {
    this.end(Exit.interrupt(), code)
  }

  /** Gives up what it holds and waits for, but not its stream. */
  leave(): void {
    this.isOver = true
    this.withdraw?.()
    this.release()
    if (this.isListening) Body.waitingOf(this.body).delete(this)
    Body.closeUnsafe(this.body, this.reached)
    this.sending.leave(this)
  }

  /** What ends its stream early, if it has one. */
  get reset(): Effect.Effect<void> | undefined {
    return this.stream?.reset(toResetCode(this.code ?? 0, this.sending.context))
  }

  /** Tells its rank to the transport, if it is another than before. */
  setRank(rank: number): Effect.Effect<void> | undefined {
    if (rank === this.rank) return undefined
    this.rank = rank
    return this.stream?.setPriority(rank)
  }

  /** Goes on as far as it can: writes all that is there, one turn after the other, and then what comes. */
  go(): void {
    const { body, reached, sending } = this
    this.isWaiting = false
    do {
      if (Body.isLagging(body, reached)) return this.lag()
      const { ready } = this
      if (ready === 0) return this.wait()
      const { writeSize } = sending
      // somewhat more is better than a small rest
      if (!sending.request(this, ready <= writeSize + writeSize / 4 ? ready : writeSize)) return
    } while (this.send())
  }

  /** Bytes have come, or the end. */
  wake(): void {
    if (this.isWaiting) this.go()
  }

  /** It is its turn, or there is a place for its stream. */
  resume(): void {
    if (this.state === "idle" || this.send()) this.go()
  }

  private wait(): void {
    const { body } = this
    if (body.end !== undefined) {
      if (body.end._tag === "Success") return this.finish()
      const error = errorOf(body.end)
      return this.end(body.end, error && toCode(error))
    }
    this.isWaiting = true
    if (this.isListening) return
    this.isListening = true
    Body.waitingOf(body).add(this)
  }

  // how many bytes can leave; a header waits for the first payload, or the end
  private get ready(): number {
    const { body, header, reached } = this
    const bytes = Body.available(body, reached)
    if (header === undefined) return bytes
    const isBegun = bytes > 0 && (body.missing === 0 || body.size > 0 || body.next > body.first + 1)
    return isBegun || body.end?._tag === "Success" ? header.length + bytes : 0
  }

  // whether it has been taken at once
  private send(): boolean {
    const { sending, stream } = this
    if (stream !== undefined) return this.write(stream)
    if (sending.house(this)) this.open()
    return false
  }

  private open(): void {
    this.isPlaced = true
    this.owner.rank()
    const { context } = this.sending
    const { rank } = this
    const withdraw = Direct.openUni(context, rank === 0 ? undefined : { priority: rank }, (exit) => {
      this.withdraw = undefined
      if (exit._tag === "Failure") return this.failed(exit)
      const stream = this.stream = exit.value
      if (this.rank !== rank) context.fibers.fork(stream.setPriority(this.rank))
      if (this.write(stream)) this.go()
    })
    if (this.stream === undefined && !this.isOver) this.withdraw = withdraw
  }

  // writes as many bytes as it has requested
  private write(stream: SendStream): boolean {
    const { body, header, reached, sending } = this
    if (Body.isLagging(body, reached)) {
      this.lag()
      return false
    }
    const bytes: Array<Uint8Array> = []
    if (header !== undefined) bytes.push(header)
    this.header = undefined
    Body.takeBytesUnsafe(body, reached, this.bytes - (header?.length ?? 0), bytes)
    const chunks = bytes as unknown as NonEmptyReadonlyArray<Uint8Array>
    if (stream.offer?.(chunks)) return this.written()
    // the group does not count as taken while what was taken of it has still to leave
    this.isHolding = true
    Group.holdUnsafe(this.group)
    Direct.watch(sending.context.fibers, stream.write(chunks), (exit) => {
      this.release()
      if (exit._tag === "Failure") this.failed(exit)
      else if (this.written()) this.go()
    })
    return false
  }

  // whether it is to go on
  private written(): boolean {
    if (this.isOver) return false
    const isFirst = !this.hasBegun
    this.hasBegun = true
    this.count(isFirst)
    this.sending.done(this, isFirst)
    return !this.isOver
  }

  private release(): void {
    if (!this.isHolding) return
    this.isHolding = false
    Group.releaseUnsafe(this.group)
  }

  private count(isFirst: boolean): void {
    const { body, reached, sending } = this
    const { monitor } = sending.context
    if (monitor === none) return
    if (isFirst) {
      monitor.group("sent")
      const arrived = this.isLive ? Group.arrivedAt(this.group) : undefined
      if (arrived !== undefined) monitor.latency(now(sending.clock) - arrived)
    }
    if (Body.isLagging(body, reached)) return
    const { frames, payload } = this
    this.mark()
    monitor.traffic("sent", this.frames - frames, this.payload - payload)
  }

  // how much is before the place where it stands
  private mark(): void {
    this.frames = Body.framesUntil(this.body, this.reached)
    this.payload = Body.payloadUntil(this.body, this.reached)
  }

  private finish(): void {
    const { sending } = this
    sending.finish(this)
    Direct.finish(sending.context, this.stream!, (exit) => {
      if (exit._tag === "Failure") this.failed(exit)
      else this.end(exit, undefined)
    })
  }

  // with its stream: when the session has gone, nobody gives it up
  private failed(exit: Exit.Failure<unknown, StreamReset | SessionClosed>): void {
    const error = errorOf(exit)
    this.end(
      Exit.failCause(exit.cause),
      error === undefined || error._tag === "MoqSessionClosed" ? undefined : toCode(error)
    )
  }

  // the group outgrew its limits before it was sent
  private lag(): void {
    this.end(Exit.fail(lagged), toCode(lagged))
  }

  private end(exit: Exit.Exit<void, SendError>, code: number | undefined): void {
    if (this.isOver) return
    this.code = code
    this.leave()
    const reset = exit._tag === "Failure" ? this.reset : undefined
    if (reset !== undefined) this.sending.context.fibers.fork(reset)
    this.owner.sent(this, exit)
  }
}

// internal

const lagged = new Lagged({})
