/**
 * The running half of a session: takes the streams that the peer opens to whoever handles them.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Reader from "../coding/Reader.ts"
import { errorOf } from "../core/ErrorOf.ts"
import type { Fibers } from "../core/Fibers.ts"
import {
  BoundsExceeded,
  type MoqError,
  type SessionClosed,
  Timeout,
  toCode,
  UnexpectedStream
} from "../core/MoqError.ts"
import type { Greeting } from "../message/Greeting.ts"
import type { Profile } from "../message/Profile.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import * as StreamType from "../message/StreamType.ts"
import type { Router } from "../model/Router.ts"
import type { BiStream, Connection } from "../transport/Transport.ts"
import { Bitrate } from "./Bitrate.ts"
import { type Deadline, Deadlines } from "./Deadlines.ts"
import type { Agreed } from "./Handshake.ts"
import type { Limits } from "./Limits.ts"
import { type Ear, endedBefore, MessageStream, type ReceiveError, refusal } from "./MessageStream.ts"
import type { Limit, Monitor } from "./Monitor.ts"
import { Publisher, type Request, type Service } from "./Publisher.ts"
import { Rate } from "./Rate.ts"
import { closedHere } from "./Requests.ts"
import { Sending } from "./Sending.ts"
import type { PublisherContext, SubscriberContext } from "./SessionContext.ts"
import { Subscriber } from "./Subscriber.ts"
import { Unread } from "./Unread.ts"

/** @internal */
export class Peer implements PublisherContext, SubscriberContext, Ear<SessionUpdate.SessionUpdate> {
  static make(opening: Opening, agreed: Agreed): Effect.Effect<Peer, never, Scope.Scope> {
    return Effect.withFiber((fiber) => Effect.succeed(new Peer(opening, agreed, fiber)))
  }

  readonly connection: Connection
  readonly profile: Profile
  readonly limits: Limits
  readonly monitor: Monitor
  readonly router: Router
  readonly clock: Clock.Clock
  readonly fibers: Fibers
  readonly answers: Deadlines
  readonly unread: Unread
  heard: number
  /** What the peer said of itself. */
  readonly greeting: Greeting
  readonly publisher: Publisher
  readonly subscriber: Subscriber
  readonly bitrate: Bitrate
  // how fast the peer asks
  private readonly requests: Rate
  private isBroken: boolean
  constructor(opening: Opening, { greeting, profile, stream }: Agreed, fiber: Fiber.Fiber<unknown, unknown>) {
    const { connection, fibers, limits, monitor, router } = opening
    this.connection = connection
    this.profile = profile
    this.limits = limits
    this.monitor = monitor
    this.router = router
    this.clock = fiber.getRef(Clock.Clock)
    this.fibers = fibers
    this.answers = new Deadlines(this, limits.request)
    this.unread = new Unread(limits.unread, monitor)
    this.heard = 0
    this.greeting = greeting
    this.publisher = new Publisher(this, new Sending(this, fiber))
    this.subscriber = new Subscriber(this, Context.getUnsafe(fiber.context, Scope.Scope))
    this.bitrate = new Bitrate(this, stream)
    this.requests = new Rate(this.clock, limits.requestRate, 4 * limits.requestRate)
    this.isBroken = false
    const { send } = stream
    stream.hear(this, SessionUpdate.decode, this)
    // the peer ends the session by a stop of the Session stream as well
    if (send.onStop === undefined) fibers.fork(Effect.andThen(send.stopped, this.ended))
    else send.onStop(() => fibers.fork(this.ended))
    if (connection.capabilities.ping) fibers.fork(this.keepAlive)
    if (connection.bitrate !== undefined && profile.sendsSessionUpdate) {
      fibers.fork(this.bitrate.follow(connection.bitrate))
    }
  }

  onBytes(): void {
    this.heard = this.clock.currentTimeMillisUnsafe()
  }

  end(error: MoqError, limit?: Limit): Effect.Effect<void> {
    return Effect.suspend(() => {
      // streams that are on their way yet may break it again
      if (limit !== undefined && !this.isBroken) this.monitor.limit(limit)
      this.isBroken = true
      return end(this.connection, error)
    })
  }

  /** The rest of the Session stream; its end, by either side, is that of the session. */
  message(update: SessionUpdate.SessionUpdate): boolean {
    this.bitrate.hear(update)
    return true
  }

  over(exit: Exit.Exit<void, ReceiveError>): void {
    const { connection, fibers } = this
    const error = errorOf(exit)
    if (Exit.isSuccess(exit)) fibers.fork(this.ended)
    else if (error !== undefined) fibers.fork(end(connection, error))
    this.bitrate.news.end()
  }

  private get ended(): Effect.Effect<void> {
    return this.connection.close(0, "the session stream was closed")
  }

  /** Asks from time to time whether the other side is alive, and ends the session when it has been silent for too long. */
  private get keepAlive(): Effect.Effect<void, SessionClosed> {
    const { clock, connection, limits, monitor } = this
    const every = Duration.toMillis(limits.keepAlive)
    const patience = Duration.toMillis(limits.idle)
    const asked = (heard: number): Effect.Effect<void, SessionClosed> => {
      const over = heard + patience
      const left = () => Math.max(0, over - clock.currentTimeMillisUnsafe())
      if (left() === 0) {
        monitor.limit("idle")
        return connection.close(3, "the peer does not answer any more")
      }
      return Effect.sleep(Math.min(every, left())).pipe(
        Effect.andThen(Effect.suspend(() => Effect.timeoutOption(connection.ping, left()))),
        // an answer may be stuck behind data: that is a sign of life as well
        Effect.flatMap((answer) =>
          asked(Option.isSome(answer) ? clock.currentTimeMillisUnsafe() : Math.max(heard, this.heard))
        )
      )
    }
    return Effect.suspend(() => asked(clock.currentTimeMillisUnsafe()))
  }

  /** Reads what a bidirectional stream that the peer opened asks for, and does it. */
  ask(stream: BiStream, onOver?: () => void): void {
    const { monitor } = this
    const asking = new Asking(this, new MessageStream(stream, monitor), onOver)
    if (this.requests.take()) return asking.start()
    monitor.limit("requestRate")
    this.subscriber.strays.stray()
    asking.refuse(tooManyRequests)
  }
}

/**
 * Closes a connection for an error, with as much of its text as a reason may have.
 *
 * @internal
 */
export const end = (connection: Connection, error: MoqError): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { read } = utf8.encodeInto(error.message, new Uint8Array(maxReason))
    return connection.close(Math.min(toCode(error), 255), error.message.slice(0, read))
  })

/**
 * Takes streams for as long as the connection lives, where it does not hand them over; what comes with one is to be called
 * when it is over.
 *
 * @internal
 */
export const acceptAll = <A>(
  accept: Effect.Effect<A, SessionClosed, Scope.Scope>,
  take: (stream: A, onOver: () => void) => void
): Effect.Effect<never, SessionClosed> =>
  Effect.suspend(() => {
    // that of the next stream
    const own = Scope.makeUnsafe()
    const close = () => Scope.close(own, Exit.void)
    return Effect.flatMap(Effect.onError(Scope.provide(accept, own), close), (stream) => {
      take(stream, () => Effect.runFork(close()))
      return acceptAll(accept, take)
    })
  })

// internal

type Opening = Pick<PublisherContext, "connection" | "fibers" | "limits" | "monitor" | "router">

/**
 * A stream that the peer opened to ask for something: reads its first message, in time, then does what that asks for.
 * Whatever fails costs the peer that stream; one of an unknown type also the session, where the version says so.
 */
class Asking implements Ear<Service>, Request {
  readonly peer: Peer
  readonly stream: MessageStream
  readonly onOver: (() => void) | undefined
  service: Service | undefined
  place: number
  private type: StreamType.Bi | undefined
  // until it has said what it is for
  private deadline: Deadline | undefined
  constructor(peer: Peer, stream: MessageStream, onOver: (() => void) | undefined) {
    this.peer = peer
    this.stream = stream
    this.onOver = onOver
    this.service = undefined
    this.place = -1
    this.type = undefined
    this.deadline = undefined
  }

  start(): void {
    const { peer } = this
    this.deadline = peer.subscriber.newcomers.begin(isLate, this)
    this.stream.hear(peer, (reader) => this.decode(reader), this)
  }

  message(service: Service): boolean {
    if (!this.isHeard()) return false
    this.service = service
    this.run(this.peer.publisher.begin(this))
    return false
  }

  over(exit: Exit.Exit<void, ReceiveError>): void {
    if (!this.isHeard()) return
    const error = Exit.isSuccess(exit) ? endedBefore : errorOf(exit)
    if (error?._tag === "MoqStreamReset") this.peer.subscriber.strays.reset(true)
    this.refuse(error ?? closedHere)
  }

  refuse(error: MoqError): void {
    this.run(Effect.fail(error))
  }

  /** It is no newcomer any more; `false` when it was none. */
  isHeard(): boolean {
    return this.deadline?.meet() ?? false
  }

  private decode(reader: Reader.Reader): Service | Reader.NeedMore {
    if (this.type === undefined) {
      const type = StreamType.decodeBi(reader)
      if (type === Reader.NeedMore) return type
      this.type = type
    }
    return this.type === "session"
      ? { run: this.failed(secondSession, secondSessionCode), limit: "none" }
      : this.peer.publisher.request(this.type, this.stream)
  }

  private run(asked: Service["run"]): void {
    const { fibers, publisher } = this.peer
    const scope = Scope.makeUnsafe()
    const served = Effect.onExitPrimitive(asked, (exit) =>
      // what it acquired is others', whose finalizers may die
      Effect.onExitPrimitive(Scope.close(scope, exit), () => {
        publisher.over(this)
        const error = errorOf(exit)
        return error === undefined ? this.end() : Effect.flatMap(this.failed(error), () => this.end())
      }))
    if (fibers.fork(served, scope) === undefined) publisher.over(this)
  }

  // with what has not come to its end by itself
  private end(): Effect.Effect<void> {
    this.onOver?.()
    return this.stream.abort(0)
  }

  private failed(error: MoqError, code?: number): Effect.Effect<void> {
    return refusal(this.peer, error, (code) => this.stream.abort(code), code)
  }
}

// it did not say in time what it is for
const isLate = (asking: Asking): void => {
  asking.peer.monitor.limit("firstMessage")
  asking.refuse(late)
}

const late = new Timeout({})

const secondSession = new UnexpectedStream({ detail: "a second session stream" })

const secondSessionCode = toCode(secondSession)

const tooManyRequests = new BoundsExceeded({ detail: "too many requests in a short time" })

const utf8 = new TextEncoder()

const maxReason = 1024
