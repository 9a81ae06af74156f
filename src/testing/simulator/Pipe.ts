/**
 * One direction of a stream, from its writer to its reader.
 *
 * Chunks stay in one queue from the write to the pull; what is on its way are numbers of bytes.
 *
 * @internal
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import { type SessionClosed, StreamReset } from "../../core/MoqError.ts"
import { Condition } from "../../core/Waiters.ts"
import type * as Transport from "../../transport/Transport.ts"
import type { Arrival, Flow, Sent } from "./Flow.ts"

export type End = Exit.Exit<never, StreamReset | SessionClosed>

const resetWith = (code: number): Exit.Exit<never, StreamReset> => Exit.fail(new StreamReset({ code }))

const done: Exit.Exit<never, Cause.Done> = Exit.fail(Cause.Done())

/** The stream that a pipe is part of. */
export interface Stream {
  readonly number: number
  /** Its acceptor has heard of it. */
  readonly announce: () => void
  /** One of its pipes is over. */
  readonly release: () => void
}

export class Pipe implements Transport.SendStream, Transport.ReceiveStream, Sent {
  /** From the writer to the reader, and back. */
  readonly flow: Flow
  private readonly back: Flow
  private readonly stream: Stream
  private chunks: Array<Uint8Array> = []
  // the reader's place in the chunks, and their bytes in all
  private head = 0
  private offset = 0
  private queued = 0
  // bytes since the beginning: taken <= arrived <= departed <= written, and departed <= limit
  private taken = 0
  private arrived = 0
  private departed = 0
  private written = 0
  private limit: number
  private owed = 0
  private claimed: NonEmptyReadonlyArray<Uint8Array> | undefined
  private finished = false
  private endDeparted = false
  private aborted = false
  private over = false
  // what a write, and a pull with nothing unread, give from now on
  private writerEnd: End | undefined
  private readerEnd: End | typeof done | undefined
  private stopCode: number | undefined
  private readonly readable = new Condition(() => this.unread > 0 || this.readerEnd !== undefined)
  // of a finished stream that something is left of, how it has ended early
  private finishEnd: End | undefined
  private readonly writable = new Condition(() =>
    this.finished ? this.isGone : this.hasRoom || this.writerEnd !== undefined
  )
  private stopping: Condition | undefined

  // for the flow
  rank = 0
  /** Bytes sent, as far as they count among streams of one rank: the lowest goes next. */
  turn = 0
  isReady = false
  lastDeparture = -1
  lastArrival = 0
  arriving: Arrival | undefined

  constructor(stream: Stream, flow: Flow, back: Flow) {
    this.stream = stream
    this.flow = flow
    this.back = back
    this.limit = flow.world.window
  }

  get number(): number {
    return this.stream.number
  }

  // at the writer

  readonly write = (chunks: NonEmptyReadonlyArray<Uint8Array>): Effect.Effect<void, StreamReset | SessionClosed> =>
    Effect.suspend(() => {
      this.trim()
      return this.writeFrom(chunks, 0, 0)
    })

  private writeFrom(
    chunks: NonEmptyReadonlyArray<Uint8Array>,
    index: number,
    offset: number
  ): Effect.Effect<void, StreamReset | SessionClosed> {
    while (true) {
      if (this.writerEnd !== undefined) return this.writerEnd
      let room = this.room
      while (index < chunks.length && room > 0) {
        const chunk = chunks[index]!
        const size = Math.min(room, chunk.length - offset)
        if (offset === 0 && chunk.length > 0) {
          this.chunks.push(chunk)
          this.queued += chunk.length
        }
        this.written += size
        room -= size
        offset += size
        if (offset === chunk.length) {
          index++
          offset = 0
        }
      }
      this.flow.offer(this)
      if (index === chunks.length) return Effect.void
      if (this.room === 0) return Effect.flatMap(this.writable.wait, () => this.writeFrom(chunks, index, offset))
    }
  }

  // a write that was interrupted leaves a chunk of which only a part was written
  private trim(): void {
    const excess = this.queued - this.written
    if (excess <= 0) return
    const last = this.chunks.pop()!
    this.chunks.push(last.subarray(0, last.length - excess))
    this.queued = this.written
  }

  private get room(): number {
    return this.flow.world.sendBuffer - (this.written - this.departed)
  }

  // a writer that waits is woken once there is room worth it
  private get hasRoom(): boolean {
    return this.room * 2 >= this.flow.world.sendBuffer
  }

  // suspends until all of it has left, as closing a stream of a browser does
  readonly finish: Effect.Effect<void, StreamReset | SessionClosed> = Effect.suspend(() => {
    if (!this.finished) {
      if (this.writerEnd !== undefined) return this.writerEnd
      this.finished = true
      this.writerEnd = resetWith(0)
      this.flow.offer(this)
    }
    if (this.endDeparted) return Effect.void
    return this.finishEnd ?? Effect.flatMap(this.writable.wait, () => this.finish)
  })

  readonly reset = (code: number): Effect.Effect<void> =>
    Effect.sync(() => {
      if (this.writerEnd === undefined || this.finished) this.abort(code)
    })

  /** Ends it early at the writer, also when it has been finished. */
  abort(code: number): void {
    if (this.aborted || this.endDeparted) return
    this.endWriter(resetWith(code))
    this.flow.control(() => {
      this.stream.announce()
      this.endReader(resetWith(code))
      this.markOver()
    })
  }

  readonly setPriority = (priority: number): Effect.Effect<void> =>
    Effect.sync(() => {
      if (!this.flow.world.priority || this.rank === priority) return
      this.rank = priority
      if (this.isReady) this.flow.queue(this)
    })

  readonly stopped: Effect.Effect<number> = Effect.suspend(() => {
    if (this.stopCode !== undefined) return Effect.succeed(this.stopCode)
    this.stopping ??= new Condition(() => this.stopCode !== undefined)
    return Effect.flatMap(this.stopping.wait, () => this.stopped)
  })

  /** Bytes that may leave now. */
  get sendable(): number {
    return this.aborted ? 0 : Math.min(this.written, this.limit) - this.departed
  }

  /** Nothing but the end is left to be sent. */
  get endsNow(): boolean {
    return this.finished && !this.endDeparted && !this.aborted && this.departed === this.written
  }

  depart(bytes: number): void {
    const { timeline } = this.flow.world
    this.departed += bytes
    this.lastDeparture = timeline.now
    this.writable.wake(timeline.dispatcher)
  }

  private get isGone(): boolean {
    return this.endDeparted || this.finishEnd !== undefined
  }

  endDeparts(): void {
    this.endDeparted = true
    this.writable.wake(this.flow.world.timeline.dispatcher)
  }

  /** Nothing more is written or sent. */
  endWriter(end: End): void {
    this.aborted = true
    if (this.finished) this.finishEnd ??= end
    else this.writerEnd ??= end
    this.flow.withdraw(this)
    this.writable.wake(this.flow.world.timeline.dispatcher)
  }

  private receiveStop(code: number): void {
    this.stream.announce()
    if (!this.endDeparted) {
      this.stopCode = code
      this.stopping?.wake(this.flow.world.timeline.dispatcher)
      this.endWriter(resetWith(code))
    }
    this.markOver()
  }

  // at the reader

  private get unread(): number {
    return this.arrived - this.taken
  }

  arrive(bytes: number, isEnd: boolean): void {
    this.stream.announce()
    if (this.readerEnd !== undefined) return
    this.arrived += bytes
    if (isEnd) this.readerEnd = done
    this.readable.wake(this.flow.world.timeline.dispatcher)
    if (isEnd && this.unread === 0) this.markOver()
  }

  private readonly take = Effect.sync(() => {
    const claimed = this.claimed!
    this.claimed = undefined
    return claimed
  })

  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> = Effect.suspend(() => {
    if (this.claimed !== undefined) return this.take
    if (this.unread > 0) {
      this.claimed = this.collect()
      if (this.readerEnd !== undefined) this.markOver()
      return this.take
    }
    return this.readerEnd ?? Effect.flatMap(this.readable.wait, () => this.pull)
  })

  private collect(): NonEmptyReadonlyArray<Uint8Array> {
    let left = this.unread
    this.owe(left)
    this.taken = this.arrived
    const { chunks } = this
    const batch: Array<Uint8Array> = []
    while (left > 0) {
      const chunk = chunks[this.head]!
      const size = Math.min(left, chunk.length - this.offset)
      // a chunk of which nothing is left was cut by an interrupted write
      if (size > 0) {
        batch.push(size === chunk.length ? chunk : chunk.subarray(this.offset, this.offset + size))
        this.offset += size
        left -= size
      }
      if (this.offset < chunk.length) break
      this.offset = 0
      this.head++
    }
    if (this.head === chunks.length || this.head > 64) {
      chunks.splice(0, this.head)
      this.head = 0
    }
    return batch as unknown as NonEmptyReadonlyArray<Uint8Array>
  }

  // as in QUIC, the writer hears of it when half of the window is free again
  private owe(bytes: number): void {
    this.owed += bytes
    if (this.owed * 2 < this.flow.world.window || this.readerEnd !== undefined) return
    const credit = this.owed
    this.owed = 0
    this.back.control(() => {
      this.limit += credit
      this.flow.offer(this)
    })
  }

  readonly stop = (code: number): Effect.Effect<void> => Effect.sync(() => this.halt(code))

  /** Ends it early at the reader. */
  halt(code: number): void {
    if (this.readerEnd !== undefined && this.unread === 0) return
    this.endReader(resetWith(code))
    this.back.control(() => this.receiveStop(code))
  }

  /** Nothing more is read, unless it has been read to its end. */
  endReader(end: End): void {
    if (this.readerEnd !== undefined && this.unread === 0) return
    this.readerEnd = end
    this.chunks = []
    this.head = 0
    this.offset = 0
    this.queued = this.written
    this.taken = this.arrived
    this.readable.wake(this.flow.world.timeline.dispatcher)
  }

  private markOver(): void {
    if (this.over) return
    this.over = true
    this.stream.release()
  }

  /** Who is suspended on it. */
  get suspended(): { readonly write: number; readonly pull: number } {
    return { write: this.writable.size, pull: this.readable.size }
  }
}
