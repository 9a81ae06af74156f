/**
 * The two sides of a connection in memory: streams as buffers with a window between one writer and one reader.
 *
 * Everything happens at once and on both sides; only wakes are deferred, to the dispatcher of the acting fiber.
 *
 * @internal
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { Bag, type Item } from "../core/Bag.ts"
import { SessionClosed, StreamReset } from "../core/MoqError.ts"
import { Condition, Waiters } from "../core/Waiters.ts"
import type * as Transport from "./Transport.ts"

const info: Transport.ConnectionInfo = { transport: "memory", peer: undefined }

type Dispatcher = Scheduler.SchedulerDispatcher

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
  // taken from the window, not yet handed out: an interruption in between leaves it to the next pull
  private claimed: NonEmptyReadonlyArray<Uint8Array> | undefined
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
    return (chunks) => Effect.withFiber((fiber) => this.writeFrom(chunks, 0, 0, fiber.currentDispatcher))
  }

  private writeFrom(
    chunks: NonEmptyReadonlyArray<Uint8Array>,
    index: number,
    offset: number,
    dispatcher: Dispatcher
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
    if (this.chunks.length > 0) this.readable?.wake(dispatcher)
    if (index === chunks.length) return Effect.void
    this.writable ??= new Waiters()
    return Effect.flatMap(
      this.writable.until(() => this.buffered < this.window || this.writerEnd !== undefined),
      () => Effect.withFiber((fiber) => this.writeFrom(chunks, index, offset, fiber.currentDispatcher))
    )
  }

  get finish(): Effect.Effect<void, StreamReset | SessionClosed> {
    return Effect.withFiber((fiber) => {
      if (this.finished) return Effect.void
      if (this.writerEnd !== undefined) return this.writerEnd
      this.finished = true
      this.readerEnd = done
      this.readable?.wake(fiber.currentDispatcher)
      if (this.chunks.length === 0) this.markOver(fiber.currentDispatcher)
      return Effect.void
    })
  }

  get reset(): Transport.SendStream["reset"] {
    return (code) =>
      Effect.withFiber((fiber) => {
        if (this.writerEnd === undefined && !this.finished) {
          this.cut(resetWith(code), resetWith(code), fiber.currentDispatcher)
        }
        return Effect.void
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
    return Effect.withFiber((fiber) => this.next(fiber.currentDispatcher))
  }

  private next(dispatcher: Dispatcher): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed> {
    if (this.claimed === undefined) {
      if (this.chunks.length === 0) {
        if (this.readerEnd !== undefined) return this.readerEnd
        this.readable ??= new Waiters()
        return Effect.flatMap(
          this.readable.until(() => this.chunks.length > 0 || this.readerEnd !== undefined),
          () => this.pull
        )
      }
      this.claimed = this.chunks as unknown as NonEmptyReadonlyArray<Uint8Array>
      this.chunks = []
      this.buffered = 0
      this.writable?.wake(dispatcher)
      if (this.finished) this.markOver(dispatcher)
    }
    return Effect.sync(() => {
      const claimed = this.claimed!
      this.claimed = undefined
      return claimed
    })
  }

  get stop(): Transport.ReceiveStream["stop"] {
    return (code) =>
      Effect.withFiber((fiber) => {
        if (this.readerEnd !== undefined && this.chunks.length === 0) return Effect.void
        this.stopCode = code
        this.stopping?.wake(fiber.currentDispatcher)
        this.cut(resetWith(code), resetWith(code), fiber.currentDispatcher)
        return Effect.void
      })
  }

  /** Ends both ends early, each unless it has seen its end already; what is unread is dropped. */
  cut(writerEnd: End, readerEnd: End, dispatcher: Dispatcher): void {
    if (this.over) return
    this.writerEnd ??= writerEnd
    if (this.readerEnd === undefined || this.chunks.length > 0) this.readerEnd = readerEnd
    this.chunks = []
    this.buffered = 0
    this.readable?.wake(dispatcher)
    this.writable?.wake(dispatcher)
    this.markOver(dispatcher)
  }

  private markOver(dispatcher: Dispatcher): void {
    if (this.over) return
    this.over = true
    this.stream.release(dispatcher)
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

  release(dispatcher: Dispatcher): void {
    if (--this.holds > 0) return
    const { lane } = this
    lane.open.delete(this)
    lane.opening.wake(dispatcher)
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
        if (this.open.size >= this.link.maxStreams) return Effect.flatMap(restore(this.opening.wait), () => attempt)
        const stream = new Opened(this)
        this.open.add(stream)
        this.unaccepted.push(stream)
        this.accepting.wake(fiber.currentDispatcher)
        return use(stream, Context.get(fiber.context as Context.Context<Scope.Scope>, Scope.Scope))
      })
      return attempt
    })
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
        stream.release(fiber.currentDispatcher)
        return use(stream, Context.get(fiber.context as Context.Context<Scope.Scope>, Scope.Scope))
      })
      return attempt
    })
  }

  end(openerEnd: End, acceptorEnd: End, dispatcher: Dispatcher): void {
    this.unaccepted = []
    for (const { back, forth } of this.open.drain()) {
      forth.cut(openerEnd, acceptorEnd, dispatcher)
      back?.cut(acceptorEnd, openerEnd, dispatcher)
    }
    this.opening.wake(dispatcher)
    this.accepting.wake(dispatcher)
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
  ended = false

  constructor(window: number, maxStreams: number) {
    this.window = window
    this.maxStreams = maxStreams
    this.client = new Side(this)
    this.server = new Side(this)
  }

  end(side: Side, end: SessionClosed, peerEnd: SessionClosed, dispatcher: Dispatcher): void {
    if (this.ended) return
    this.ended = true
    const peer = side === this.client ? this.server : this.client
    side.end = end
    peer.end = peerEnd
    for (const [from, to] of [[side, peer], [peer, side]] as const) {
      const fromEnd = Exit.fail(from.end!)
      const toEnd = Exit.fail(to.end!)
      from.bi.end(fromEnd, toEnd, dispatcher)
      from.uni.end(fromEnd, toEnd, dispatcher)
      from.closing.wake(dispatcher)
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

  readonly acceptBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.peer.bi.accepted(this, ({ back, forth }, scope) => ownBoth(scope, back!, forth))
  )

  readonly acceptUni: Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.peer.uni.accepted(this, ({ forth }, scope) => Effect.as(Scope.addFinalizer(scope, forth.stop(0)), forth))
  )

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      this.link.end(
        this,
        new SessionClosed({ code, reason, by: "local" }),
        new SessionClosed({ code, reason, by: "remote" }),
        fiber.currentDispatcher
      )
      return Effect.void
    })

  readonly closed: Effect.Effect<SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.flatMap(this.closing.wait, () => this.closed) : Effect.succeed(this.end)
  )

  readonly ping: Effect.Effect<void, SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.void : Effect.fail(this.end)
  )
}

const ownBoth = (scope: Scope.Scope, send: Pipe, receive: Pipe): Effect.Effect<Transport.BiStream> =>
  Effect.as(
    Scope.addFinalizer(scope, Effect.andThen(send.reset(0), receive.stop(0))),
    { send, receive }
  )
