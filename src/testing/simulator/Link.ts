/**
 * A connection between two hosts, and its two ends.
 *
 * What one end does, the other learns when the network has carried it there; so both have a state of their own.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { SessionClosed } from "../../core/MoqError.ts"
import { Condition, Waiters } from "../../core/Waiters.ts"
import type * as Transport from "../../transport/Transport.ts"
import type { Flow, World } from "./Flow.ts"
import { Pipe, type Stream } from "./Pipe.ts"
import type { Event } from "./Timeline.ts"

type Kind = "bi" | "uni"

/**
 * A stream. It counts against its opener until it is over in each direction and was accepted, and the opener has heard of
 * it.
 */
class Opened implements Stream {
  readonly number: number
  readonly lane: Lane
  // from the opener, and back to it
  readonly forth: Pipe
  readonly back: Pipe | undefined
  private isAnnounced = false
  private holds: number

  constructor(lane: Lane) {
    const { acceptor, kind, opener } = lane
    this.lane = lane
    this.number = ++lane.link.streamsOpened
    this.forth = new Pipe(this, opener.flow, acceptor.flow)
    this.back = kind === "bi" ? new Pipe(this, acceptor.flow, opener.flow) : undefined
    this.holds = this.back === undefined ? 2 : 3
  }

  announce(): void {
    if (this.isAnnounced) return
    this.isAnnounced = true
    this.lane.announced(this)
  }

  release(): void {
    if (--this.holds === 0) this.lane.acceptor.flow.control(() => this.lane.closed(this))
  }
}

/** The streams of one kind that one side opens. */
class Lane {
  readonly link: Link
  readonly kind: Kind
  readonly opener: Side
  readonly acceptor: Side
  readonly open = new Set<Opened>()
  private unaccepted: Array<Opened> = []
  readonly opening = new Condition(() => this.open.size < this.link.world.maxStreams || this.opener.end !== undefined)
  readonly accepting = new Condition(() => this.unaccepted.length > 0 || this.acceptor.end !== undefined)

  constructor(kind: Kind, opener: Side, acceptor: Side) {
    this.link = opener.link
    this.kind = kind
    this.opener = opener
    this.acceptor = acceptor
  }

  announced(stream: Opened): void {
    if (this.acceptor.end !== undefined) return
    this.unaccepted.push(stream)
    this.accepting.wake(this.link.dispatcher)
  }

  closed(stream: Opened): void {
    this.open.delete(stream)
    this.opening.wake(this.link.dispatcher)
  }

  /** Opens a stream, and hands it over within an uninterruptible region. */
  opened<A>(
    use: (stream: Opened, scope: Scope.Scope) => Effect.Effect<A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const attempt: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (this.opener.end !== undefined) return Effect.fail(this.opener.end)
        if (this.open.size >= this.link.world.maxStreams) {
          return Effect.flatMap(restore(this.opening.wait), () => attempt)
        }
        const stream = new Opened(this)
        this.open.add(stream)
        return use(stream, Context.get(fiber.context as Context.Context<Scope.Scope>, Scope.Scope))
      })
      return attempt
    })
  }

  /** Accepts a stream, and hands it over within an uninterruptible region. */
  accepted<A>(
    use: (stream: Opened, scope: Scope.Scope) => Effect.Effect<A>
  ): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const attempt: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (this.acceptor.end !== undefined) return Effect.fail(this.acceptor.end)
        const stream = this.unaccepted.shift()
        if (stream === undefined) return Effect.flatMap(restore(this.accepting.wait), () => attempt)
        stream.release()
        return use(stream, Context.get(fiber.context as Context.Context<Scope.Scope>, Scope.Scope))
      })
      return attempt
    })
  }

  end(): void {
    this.unaccepted = []
    this.opening.wake(this.link.dispatcher)
    this.accepting.wake(this.link.dispatcher)
  }
}

/** What joins both sides. */
export class Link {
  readonly world: World
  readonly number: number
  readonly client: Side
  readonly server: Side
  streamsOpened = 0
  private silence: Event | undefined
  private readonly onEnd: () => void

  constructor(world: World, number: number, onEnd: () => void) {
    this.world = world
    this.number = number
    this.onEnd = onEnd
    this.client = new Side(this)
    this.server = new Side(this)
  }

  /** Gives it the ways that its packets take. */
  join(forth: Flow, back: Flow): void {
    this.client.join(forth, this.server)
    this.server.join(back, this.client)
  }

  get dispatcher(): World["timeline"]["dispatcher"] {
    return this.world.timeline.dispatcher
  }

  get streams(): number {
    let streams = 0
    for (const { bi, end, uni } of [this.client, this.server]) {
      if (end === undefined) streams += bi.open.size + uni.open.size
    }
    return streams
  }

  /** It has broken, and both sides know. */
  die(reason: string): void {
    this.client.finish(broken(reason))
    this.server.finish(broken(reason))
  }

  /** Nothing passes: both sides notice after a while. */
  fallSilent(): void {
    const { silence, timeline } = this.world
    this.silence ??= timeline.schedule(
      timeline.now + silence,
      () => this.die(`nothing was heard of the peer for ${silence / 1e9} seconds`)
    )
  }

  /** Packets pass again. */
  speak(): void {
    if (this.silence !== undefined) this.world.timeline.cancel(this.silence)
    this.silence = undefined
  }

  ended(): void {
    if (this.client.end === undefined || this.server.end === undefined) return
    this.speak()
    this.onEnd()
  }
}

export const broken = (reason: string): SessionClosed => new SessionClosed({ code: 4, reason, by: "transport" })

/** One side of a link. */
export class Side implements Transport.Connection {
  readonly link: Link
  flow!: Flow
  peer!: Side
  bi!: Lane
  uni!: Lane
  info!: Transport.ConnectionInfo
  end: SessionClosed | undefined
  readonly capabilities: Transport.Capabilities
  private readonly closing = new Condition(() => this.end !== undefined)
  private readonly pinging = new Waiters()

  constructor(link: Link) {
    this.link = link
    this.capabilities = {
      codes: "any",
      resetPastWrite: true,
      backpressure: true,
      priority: link.world.priority,
      ping: true,
      maxStreams: link.world.maxStreams,
      idleTimeout: link.world.silence / 1e6,
      forgetsStreams: true
    }
  }

  join(flow: Flow, peer: Side): void {
    this.flow = flow
    this.peer = peer
    this.bi = new Lane("bi", this, peer)
    this.uni = new Lane("uni", this, peer)
    this.info = { transport: "memory", peer: flow.to }
  }

  readonly openBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.bi.opened(({ back, forth }, scope) => ownBoth(scope, forth, back!))
  )

  readonly openUni: Transport.Connection["openUni"] = (options) =>
    this.uni.opened(({ forth }, scope) => {
      if (this.capabilities.priority) forth.rank = options?.priority ?? 0
      return Effect.as(Scope.addFinalizer(scope, forth.reset(0)), forth)
    })

  readonly acceptBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.peer.bi.accepted(({ back, forth }, scope) => ownBoth(scope, back!, forth))
  )

  readonly acceptUni: Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.peer.uni.accepted(({ forth }, scope) => Effect.as(Scope.addFinalizer(scope, forth.stop(0)), forth))
  )

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.sync(() => {
      if (this.end !== undefined) return
      this.flow.control(() => this.peer.finish(new SessionClosed({ code, reason, by: "remote" })))
      this.finish(new SessionClosed({ code, reason, by: "local" }))
    })

  readonly closed: Effect.Effect<SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.flatMap(this.closing.wait, () => this.closed) : Effect.succeed(this.end)
  )

  readonly ping: Effect.Effect<void, SessionClosed> = Effect.suspend(() => {
    if (this.end !== undefined) return Effect.fail(this.end)
    let isAnswered = false
    this.flow.control(() => {
      if (this.peer.end !== undefined) return
      this.peer.flow.control(() => {
        isAnswered = true
        this.pinging.wake(this.link.dispatcher)
      })
    })
    return Effect.flatMap(
      this.pinging.until(() => isAnswered || this.end !== undefined),
      () => this.end === undefined ? Effect.void : Effect.fail(this.end)
    )
  })

  /** Bits per second that it can send now; `undefined` when nothing limits them. */
  readonly bitrate: Effect.Effect<number | undefined> = Effect.sync(() =>
    this.flow.bandwidth === Infinity ? undefined : this.flow.bandwidth
  )

  /** It is over for this side. */
  finish(end: SessionClosed): void {
    if (this.end !== undefined) return
    this.end = end
    const exit = Exit.fail(end)
    for (const lane of [this.bi, this.uni]) {
      for (const { back, forth } of lane.open) {
        forth.endWriter(exit)
        back?.endReader(exit)
      }
    }
    for (const lane of [this.peer.bi, this.peer.uni]) {
      for (const { back, forth } of lane.open) {
        forth.endReader(exit)
        back?.endWriter(exit)
      }
    }
    for (const lane of [this.bi, this.uni, this.peer.bi, this.peer.uni]) lane.end()
    this.closing.wake(this.link.dispatcher)
    this.pinging.wake(this.link.dispatcher)
    this.link.ended()
  }

  /** What fibers are suspended on, in words. */
  suspended(): Array<string> {
    const found: Array<string> = []
    const note = (count: number, what: string) => {
      if (count > 0) {
        found.push(`${this.flow.from}: ${count === 1 ? "" : `${count} times `}${what} with ${this.flow.to}`)
      }
    }
    for (const kind of ["Bi", "Uni"] as const) {
      const lane = kind === "Bi" ? "bi" : "uni"
      note(this[lane].opening.size, `open${kind}`)
      note(this.peer[lane].accepting.size, `accept${kind}`)
      for (const { back, forth, number } of this[lane].open) {
        note(forth.suspended.write, `write to stream ${number}`)
        note(back?.suspended.pull ?? 0, `pull of stream ${number}`)
      }
      for (const { back, forth, number } of this.peer[lane].open) {
        note(back?.suspended.write ?? 0, `write to stream ${number}`)
        note(forth.suspended.pull, `pull of stream ${number}`)
      }
    }
    note(this.closing.size, "closed")
    note(this.pinging.size, "ping")
    return found
  }
}

const ownBoth = (scope: Scope.Scope, send: Pipe, receive: Pipe): Effect.Effect<Transport.BiStream> =>
  Effect.as(
    Scope.addFinalizer(scope, Effect.andThen(send.reset(0), receive.stop(0))),
    { send, receive }
  )
