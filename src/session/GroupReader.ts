/**
 * Fills a group with the bytes of its stream.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import { errorOf } from "../core/ErrorOf.ts"
import {
  Cancelled,
  DecodeError,
  type MoqError,
  type SessionClosed,
  type StreamReset,
  toCode,
  type WrongSize
} from "../core/MoqError.ts"
import * as Body from "../model/Body.ts"
import * as Group from "../model/Group.ts"
import type { Listener, ReceiveStream } from "../transport/Transport.ts"
import * as Direct from "./Direct.ts"
import { failure, toReadError } from "./MessageStream.ts"
import { dropped } from "./Monitor.ts"
import type { SubscriberContext } from "./SessionContext.ts"
import { type Owner, UnreadGroup } from "./Unread.ts"

/**
 * Hears a stream, and fills a group with what comes, until that ends: no fiber waits for it.
 *
 * **Details**
 *
 * Chunks are kept as they came: nobody looks at frames here but to find where they begin.
 *
 * @internal
 */
export class GroupReader extends UnreadGroup implements Listener {
  readonly context: SubscriberContext
  readonly onOver: ((error: MoqError | undefined) => void) | undefined
  constructor(
    context: SubscriberContext,
    stream: ReceiveStream,
    onOver: ((error: MoqError | undefined) => void) | undefined
  ) {
    super(context.unread, stream)
    this.context = context
    this.onOver = onOver
  }

  /** It is over: an error that does not come from the stream itself is what to stop the stream for. */
  protected over(_stream: ReceiveStream, error: MoqError | undefined, _isOfStream: boolean): void {
    this.onOver?.(error)
  }

  /** Asks for what comes. */
  pull(): void {
    if (this.stream !== undefined) Direct.pull(this.context, this.stream, this)
  }

  /** Fills a group of `owner` from now on, first with chunks that came already. Whether it wants more now. */
  fill(owner: Owner, group: Group.Producer, chunks: ReadonlyArray<Uint8Array>): boolean {
    this.own(owner, group)
    this.context.monitor.group("received")
    return this.take(chunks)
  }

  /** Nothing more of it is wanted. */
  refuse(error: MoqError): false {
    this.leave(error, false)
    return false
  }

  chunks(chunks: ReadonlyArray<Uint8Array>): boolean {
    // what was on its way when it was stopped
    if (this.stream === undefined) return false
    this.context.onBytes()
    return this.take(chunks)
  }

  end(exit: Exit.Exit<never, StreamReset | SessionClosed | Cause.Done>): void {
    if (this.stream === undefined) return
    const error = errorOf(exit)
    if (error === undefined) this.refuse(letGo)
    else if (Cause.isDone(error)) this.finish()
    else this.fail(error, true)
  }

  // ends the group, too, unless it has ended
  protected leave(error: MoqError | undefined, isOfStream: boolean): void {
    const { group, stream } = this
    if (stream === undefined) return
    this.stream = undefined
    if (group !== undefined) {
      if (error !== undefined) Group.endUnsafe(group, toReadError(error))
      this.forget()
    }
    this.over(stream, error, isOfStream)
  }

  private take(chunks: ReadonlyArray<Uint8Array>): boolean {
    const body = this.body!
    const { monitor } = this.context
    const frames = Body.complete(body)
    const { total } = body
    let bytes = 0
    let isTaken = true
    let error: MoqError | undefined
    try {
      for (let i = 0; isTaken && i < chunks.length; i++) {
        bytes += chunks[i]!.length
        isTaken = Body.feedUnsafe(body, chunks[i]!)
      }
    } catch (thrown) {
      error = errorOf(failure(thrown, monitor))
    }
    const payload = body.total - total
    const count = Body.complete(body) - frames
    if (payload > 0 || count > 0) monitor.traffic("received", count, payload)
    if (error !== undefined || !isTaken) this.fail(error ?? failureOf(body), false)
    else if (this.stream !== undefined) this.add(bytes)
    return this.stream !== undefined
  }

  // the stream has come to its end
  protected finish(): void {
    const body = this.body!
    if (Body.isInsideSize(body)) {
      return this.fail(new DecodeError({ detail: "the stream ended inside a frame's size" }), true)
    }
    const isCutOff = body.end === undefined && body.missing > 0
    Group.endUnsafe(this.group!)
    this.leave(isCutOff ? failureOf(body) : undefined, true)
  }

  protected fail(error: MoqError, isOfStream: boolean): void {
    // what has ended was given up here, and has been counted
    if (this.body !== undefined && this.body.end === undefined && error._tag !== "MoqSessionClosed") {
      dropped(this.context.monitor, "received", "code" in error ? error.code : toCode(error), 1)
    }
    this.leave(error, isOfStream)
  }
}

/**
 * Why it is refused that nobody waits for any longer.
 *
 * @internal
 */
export const letGo: Cancelled = new Cancelled({ detail: "it was let go" })

// internal

// what made the group take no more: it was given up, or nobody wants it any longer
const failureOf = ({ end }: Body.Body): MoqError | WrongSize => (end && errorOf(end)) ?? letGo
