/**
 * The two sides of a connection in memory: streams as buffers with a window between one writer and one reader.
 *
 * Everything happens at once and on both sides; only wakes are deferred, to the scheduler of whoever waits.
 *
 * @internal
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import { Bag, type Item } from "../core/Bag.ts"
import { SessionClosed, StreamReset } from "../core/MoqError.ts"
import { Condition, type Parked, Waiters } from "../core/Waiters.ts"
import type * as Transport from "./Transport.ts"

const info: Transport.ConnectionInfo = { transport: "memory", peer: undefined }

type End = Exit.Exit<never, StreamReset | SessionClosed>

const resetWith = (code: number): Exit.Exit<never, StreamReset> => Exit.fail(new StreamReset({ code }))

const done: Exit.Exit<never, Cause.Done> = Exit.fail(Cause.Done())

/**
 * One direction of a stream, and both of its ends: one fiber at a time writes, one at a time pulls.
 */
class Pipe implements Transport.SendStream, Transport.ReceiveStream {
  private readonly stream: Opened
  private chunks: Array<Uint8Array> = []
  private buffered = 0
  // a pull is about to hand them out: they stay whatever comes, and are for the next one if it is interrupted
  private isClaimed = false
  private finished = false
  private over = false
  // what a write, and a pull of an empty buffer, give from now on
  private writerEnd: End | undefined
  private readerEnd: End | typeof done | undefined
  private stopCode: number | undefined
  // those that wait: only when they have to
  private readable: Waiters | undefined
  private writable: Waiters | undefined
  private stopping: Waiters | undefined

  constructor(stream: Opened) {
    this.stream = stream
  }

  private get window(): number {
    return this.stream.lane.link.window
  }

  get write(): Transport.SendStream["write"] {
    return (chunks) => Effect.suspend(() => this.writeFrom(chunks, 0, 0))
  }

  private writeFrom(
    chunks: NonEmptyReadonlyArray<Uint8Array>,
    index: number,
    offset: number
  ): Effect.Effect<void, StreamReset | SessionClosed> {
    if (this.finished) return resetWith(0)
    if (this.writerEnd !== undefined) return this.writerEnd
    let room = this.window - this.buffered
    while (index < chunks.length) {
      const chunk = chunks[index]!
      const size = chunk.length - offset
      if (size > room) {
        if (room > 0) this.chunks.push(chunk.subarray(offset, offset + room))
        offset += room
        room = 0
        break
      }
      if (size > 0) this.chunks.push(offset === 0 ? chunk : chunk.subarray(offset))
      room -= size
      offset = 0
      index++
    }
    this.buffered = this.window - room
    if (this.chunks.length > 0) this.readable?.notify()
    if (index === chunks.length) return Effect.void
    this.writable ??= new Waiters()
    return Effect.flatMap(
      this.writable.until(() => this.buffered < this.window || this.writerEnd !== undefined),
      () => this.writeFrom(chunks, index, offset)
    )
  }

  offer(chunks: NonEmptyReadonlyArray<Uint8Array>): boolean {
    if (this.finished || this.writerEnd !== undefined) return false
    let bytes = 0
    for (let i = 0; i < chunks.length; i++) bytes += chunks[i]!.length
    if (bytes > this.window - this.buffered) return false
    // which does not suspend then
    this.writeFrom(chunks, 0, 0)
    return true
  }

  get finish(): Effect.Effect<void, StreamReset | SessionClosed> {
    return Effect.suspend(() => this.finishUnsafe())
  }

  onFinish(finished: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void): void {
    finished(this.finishUnsafe())
  }

  private finishUnsafe(): Exit.Exit<void, StreamReset | SessionClosed> {
    if (this.finished) return Exit.void
    if (this.writerEnd !== undefined) return this.writerEnd
    this.finished = true
    this.readerEnd = done
    this.readable?.notify()
    if (this.chunks.length === 0) this.markOver()
    return Exit.void
  }

  get reset(): Transport.SendStream["reset"] {
    return (code) =>
      Effect.sync(() => {
        if (this.writerEnd === undefined && !this.finished) this.cut(resetWith(code), resetWith(code))
      })
  }

  get setPriority(): Transport.SendStream["setPriority"] {
    return () => Effect.void
  }

  get stopped(): Effect.Effect<number> {
    return Effect.suspend(() => {
      this.stopping ??= new Waiters()
      return Effect.map(this.stopping.until(() => this.stopCode !== undefined), () => this.stopCode!)
    })
  }

  get pull(): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> {
    return Effect.suspend(() => this.next())
  }

  private next(): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> {
    if (this.chunks.length === 0) {
      if (this.readerEnd !== undefined) return this.readerEnd
      this.readable ??= new Waiters()
      return Effect.flatMap(
        this.readable.until(() => this.chunks.length > 0 || this.readerEnd !== undefined),
        () => this.next()
      )
    }
    this.isClaimed = true
    return Effect.sync(() => this.take())
  }

  onPull(listener: Transport.Listener): void {
    const readable = this.readable ??= new Waiters()
    const parked: Parked = {
      fiber: this.stream.lane.link.fiber,
      wake: () => {
        readable.delete(parked)
        while (this.chunks.length > 0) if (!listener.chunks(this.take())) return
        if (this.readerEnd === undefined) readable.add(parked)
        else listener.end(this.readerEnd)
      }
    }
    parked.wake()
  }

  private take(): NonEmptyReadonlyArray<Uint8Array> {
    const { chunks } = this
    this.chunks = []
    this.buffered = 0
    this.isClaimed = false
    this.writable?.notify()
    if (this.finished) this.markOver()
    return chunks as unknown as NonEmptyReadonlyArray<Uint8Array>
  }

  get stop(): Transport.ReceiveStream["stop"] {
    return (code) =>
      Effect.sync(() => {
        if (this.readerEnd !== undefined && this.chunks.length === 0) return
        this.stopCode = code
        this.stopping?.notify()
        this.cut(resetWith(code), resetWith(code))
      })
  }

  /** Ends both ends early, each unless it has seen its end already; what is unread is dropped. */
  cut(writerEnd: End, readerEnd: End): void {
    if (this.over) return
    this.writerEnd ??= writerEnd
    if (this.readerEnd === undefined || this.chunks.length > 0) this.readerEnd = readerEnd
    if (!this.isClaimed) this.chunks = []
    this.buffered = 0
    this.readable?.notify()
    this.writable?.notify()
    this.markOver()
  }

  private markOver(): void {
    if (this.over) return
    this.over = true
    this.stream.release()
  }
}

/**
 * A stream between both sides. It counts against its opener until it is over in each direction and was accepted, so what
 * nobody accepts is bounded.
 */
class Opened implements Item {
  place = -1
  readonly lane: Lane
  // from the opener, and back to it
  readonly forth: Pipe
  readonly back: Pipe | undefined
  private holds: number

  constructor(lane: Lane) {
    this.lane = lane
    this.forth = new Pipe(this)
    this.back = lane.kind === "bi" ? new Pipe(this) : undefined
    this.holds = this.back === undefined ? 2 : 3
  }

  release(): void {
    if (--this.holds > 0) return
    const { lane } = this
    lane.open.delete(this)
    lane.opening.notify()
  }
}

/**
 * The streams of one kind that one side opens.
 */
class Lane {
  readonly link: Link
  readonly kind: "bi" | "uni"
  readonly open = new Bag<Opened>()
  private unaccepted: Array<Opened> = []
  readonly opening = new Condition(() => this.open.size < this.link.maxStreams || this.link.ended)
  readonly accepting = new Condition(() => this.unaccepted.length > 0 || this.link.ended)

  constructor(link: Link, kind: "bi" | "uni") {
    this.link = link
    this.kind = kind
  }

  /** Opens a stream, and hands it over within an uninterruptible region. */
  opened<A>(
    by: Side,
    use: (stream: Opened, scope: Scope.Scope) => Effect.Effect<A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const attempt: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (by.end !== undefined) return Effect.fail(by.end)
        const stream = this.openUnsafe()
        if (stream === undefined) return Effect.flatMap(restore(this.opening.wait), () => attempt)
        return use(stream, Context.get(fiber.context as Context.Context<Scope.Scope>, Scope.Scope))
      })
      return attempt
    })
  }

  onOpened(by: Side, opened: (exit: Exit.Exit<Opened, SessionClosed>) => void): () => void {
    const { opening } = this
    const parked: Parked = {
      fiber: this.link.fiber,
      wake: () => {
        const stream = by.end === undefined ? this.openUnsafe() : undefined
        if (stream === undefined && by.end === undefined) return opening.add(parked)
        opening.delete(parked)
        opened(stream === undefined ? Exit.fail(by.end!) : Exit.succeed(stream))
      }
    }
    parked.wake()
    return () => opening.delete(parked)
  }

  private openUnsafe(): Opened | undefined {
    if (this.open.size >= this.link.maxStreams) return undefined
    const stream = new Opened(this)
    this.open.add(stream)
    this.unaccepted.push(stream)
    this.accepting.notify()
    return stream
  }

  /** Accepts a stream, and hands it over within an uninterruptible region. */
  accepted<A>(
    by: Side,
    use: (stream: Opened, scope: Scope.Scope) => Effect.Effect<A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const attempt: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (by.end !== undefined) return Effect.fail(by.end)
        const stream = this.unaccepted.shift()
        if (stream === undefined) return Effect.flatMap(restore(this.accepting.wait), () => attempt)
        stream.release()
        return use(stream, Context.get(fiber.context as Context.Context<Scope.Scope>, Scope.Scope))
      })
      return attempt
    })
  }

  end(openerEnd: End, acceptorEnd: End): void {
    this.unaccepted = []
    for (const { back, forth } of this.open.drain()) {
      forth.cut(openerEnd, acceptorEnd)
      back?.cut(acceptorEnd, openerEnd)
    }
    this.opening.notify()
    this.accepting.notify()
  }
}

/**
 * What joins both sides.
 */
export class Link {
  readonly window: number
  readonly maxStreams: number
  readonly client: Side
  readonly server: Side
  /** Whose scheduler wakes what waits without a fiber. */
  readonly fiber: Fiber.Fiber<unknown, unknown>
  ended = false

  constructor(fiber: Fiber.Fiber<unknown, unknown>, window: number, maxStreams: number) {
    this.fiber = fiber
    this.window = window
    this.maxStreams = maxStreams
    this.client = new Side(this)
    this.server = new Side(this)
  }

  end(side: Side, end: SessionClosed, peerEnd: SessionClosed): void {
    if (this.ended) return
    this.ended = true
    const peer = side === this.client ? this.server : this.client
    side.end = end
    peer.end = peerEnd
    for (const [from, to] of [[side, peer], [peer, side]] as const) {
      const fromEnd = Exit.fail(from.end!)
      const toEnd = Exit.fail(to.end!)
      from.bi.end(fromEnd, toEnd)
      from.uni.end(fromEnd, toEnd)
      from.closing.notify()
    }
  }
}

/**
 * One side of a link.
 */
export class Side implements Transport.Connection {
  readonly link: Link
  readonly bi: Lane
  readonly uni: Lane
  end: SessionClosed | undefined
  readonly closing = new Condition(() => this.link.ended)
  readonly info = info
  readonly capabilities: Transport.Capabilities

  constructor(link: Link) {
    this.link = link
    this.bi = new Lane(link, "bi")
    this.uni = new Lane(link, "uni")
    this.capabilities = {
      codes: "any",
      resetPastWrite: true,
      backpressure: true,
      priority: false,
      ping: false,
      maxStreams: link.maxStreams,
      idleTimeout: Infinity,
      forgetsStreams: true
    }
  }

  private get peer(): Side {
    return this === this.link.client ? this.link.server : this.link.client
  }

  readonly openBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.bi.opened(this, ({ back, forth }, scope) => ownBoth(scope, forth, back!))
  )

  readonly openUni = (): Effect.Effect<Transport.SendStream, SessionClosed, Scope.Scope> =>
    this.uni.opened(this, ({ forth }, scope) => Effect.as(Scope.addFinalizer(scope, forth.reset(0)), forth))

  onOpenBi(opened: (exit: Exit.Exit<Transport.BiStream, SessionClosed>) => void): () => void {
    return this.bi.onOpened(this, (exit) => opened(Exit.map(exit, both)))
  }

  onOpenUni(_options: unknown, opened: (exit: Exit.Exit<Transport.SendStream, SessionClosed>) => void): () => void {
    return this.uni.onOpened(this, (exit) => opened(Exit.map(exit, ({ forth }) => forth)))
  }

  readonly acceptBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.peer.bi.accepted(this, ({ back, forth }, scope) => ownBoth(scope, back!, forth))
  )

  readonly acceptUni: Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.peer.uni.accepted(this, ({ forth }, scope) => Effect.as(Scope.addFinalizer(scope, forth.stop(0)), forth))
  )

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.sync(() =>
      this.link.end(
        this,
        new SessionClosed({ code, reason, by: "local" }),
        new SessionClosed({ code, reason, by: "remote" })
      )
    )

  readonly closed: Effect.Effect<SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.flatMap(this.closing.wait, () => this.closed) : Effect.succeed(this.end)
  )

  readonly ping: Effect.Effect<void, SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.void : Effect.fail(this.end)
  )
}

const both = ({ back, forth }: Opened): Transport.BiStream => ({ send: forth, receive: back! })

const ownBoth = (scope: Scope.Scope, send: Pipe, receive: Pipe): Effect.Effect<Transport.BiStream> =>
  Effect.as(
    Scope.addFinalizer(scope, Effect.andThen(send.reset(0), receive.stop(0))),
    { send, receive }
  )
