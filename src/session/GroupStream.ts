/**
 * A stream that the peer opens: that of a group, from its header on.
 *
 * @since 0.1.0
 */
import type { Item } from "../core/Bag.ts"
import { errorOf } from "../core/ErrorOf.ts"
import { DecodeError, type MoqError, NotFound, Timeout } from "../core/MoqError.ts"
import * as GroupMessage from "../message/Group.ts"
import { joined } from "../model/Wire.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import type { Deadline } from "./Deadlines.ts"
import { GroupReader } from "./GroupReader.ts"
import { failure, refusal } from "./MessageStream.ts"
import type { Receiving } from "./Receiving.ts"
import type { Subscriber } from "./Subscriber.ts"

/**
 * Reads its header, in time, then fills the group of the subscription that it is for. Whatever fails costs the peer that
 * stream; one of an unknown type also the session, where the version says so.
 *
 * @internal
 */
export class GroupStream extends GroupReader implements Item {
  readonly subscriber: Subscriber
  /** The group that its header tells. */
  sequence: number
  /** When its first bytes came, where somebody measures that. */
  arrivedAt: number | undefined
  /** What came before the track was there. */
  early: ReadonlyArray<Uint8Array> | undefined
  place: number
  // while its header has not come
  private deadline: Deadline | undefined
  // a part of the header
  private begun: Uint8Array | undefined
  // the subscription that it belongs to
  private receiving: Receiving | undefined
  constructor(subscriber: Subscriber, stream: ReceiveStream, onOver?: () => void) {
    super(subscriber.context, stream, onOver)
    this.subscriber = subscriber
    this.sequence = -1
    this.arrivedAt = undefined
    this.early = undefined
    this.place = -1
    this.deadline = subscriber.newcomers.begin(late, this)
    this.begun = undefined
    this.receiving = undefined
  }

  /** Begins to read. */
  start(): void {
    const { sharing, strays } = this.subscriber
    const error = strays.opened(sharing.receiving.size)
    if (error === undefined) this.pull()
    else this.fail(error, false)
  }

  /** It did not say in time what it is for. */
  isLate(): void {
    this.context.monitor.limit("firstMessage")
    this.fail(tooLate, false)
  }

  override chunks(chunks: ReadonlyArray<Uint8Array>): boolean {
    return this.deadline === undefined ? super.chunks(chunks) : this.header(chunks)
  }

  private header(chunks: ReadonlyArray<Uint8Array>): boolean {
    const { subscriber } = this
    let bytes = this.begun
    let header: GroupMessage.Header | undefined
    let next = 0
    try {
      for (; header === undefined && next < chunks.length; next++) {
        const chunk = chunks[next]!
        bytes = bytes === undefined ? chunk : joined([bytes, chunk], bytes.length + chunk.length)
        header = GroupMessage.decodeHeader(bytes)
      }
    } catch (error) {
      this.fail(errorOf(failure(error, this.context.monitor))!, false)
      return false
    }
    if (header === undefined) {
      this.begun = bytes?.slice()
      return true
    }
    const rest = chunks.slice(next)
    if (header.length < bytes!.length) rest.unshift(bytes!.subarray(header.length))
    this.heard()
    this.sequence = header.sequence
    const { sharing, strays } = subscriber
    this.receiving = sharing.receiving.get(header.subscribe)
    return this.receiving?.receive(this, rest) ??
      this.refuse(strays.stray(header.subscribe) ?? new NotFound({ detail: `no subscription ${header.subscribe}` }))
  }

  // it is no newcomer any more
  private heard(): void {
    this.deadline!.meet()
    this.deadline = undefined
    this.begun = undefined
    this.subscriber.strays.waiting--
  }

  protected override finish(): void {
    if (this.deadline === undefined) super.finish()
    else this.fail(new DecodeError({ detail: "the stream ended inside its header" }), true)
  }

  protected override fail(error: MoqError, isOfStream: boolean): void {
    if (this.deadline !== undefined) {
      const { sharing, strays } = this.subscriber
      this.heard()
      if (error._tag !== "MoqStreamReset" || strays.reset(false) === undefined) {
        for (const receiving of sharing.receiving.values()) receiving.suspect()
      }
    }
    super.fail(error, isOfStream)
  }

  protected override over(stream: ReceiveStream, error: MoqError | undefined, isOfStream: boolean): void {
    const { context, deadline, receiving } = this
    if (deadline !== undefined) this.heard()
    receiving?.left(this, error === undefined)
    if (error !== undefined && !isOfStream) context.fibers.fork(refusal(context, error, (code) => stream.stop(code)))
    super.over(stream, error, isOfStream)
  }
}

// internal

const late = (stream: GroupStream): void => stream.isLate()

const tooLate = new Timeout({})
