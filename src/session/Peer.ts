/**
 * The running half of a session: takes the streams that the peer opens to whoever handles them.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Reader from "../coding/Reader.ts"
import { errorOf } from "../core/ErrorOf.ts"
import {
  BoundsExceeded,
  type MoqError,
  type SessionClosed,
  Timeout,
  toCode,
  UnexpectedStream
} from "../core/MoqError.ts"
import type { Greeting } from "../message/Greeting.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import * as StreamType from "../message/StreamType.ts"
import type { BiStream, Connection } from "../transport/Transport.ts"
import { Bitrate } from "./Bitrate.ts"
import { type Deadline, Deadlines } from "./Deadlines.ts"
import type { Agreed } from "./Handshake.ts"
import { type Ear, endedBefore, MessageStream, type ReceiveError, refusal } from "./MessageStream.ts"
import type { Limit } from "./Monitor.ts"
import { Publisher } from "./Publisher.ts"
import { Rate } from "./Rate.ts"
import { closedHere } from "./Requests.ts"
import type { PublisherContext, SubscriberContext } from "./SessionContext.ts"
import { Subscriber } from "./Subscriber.ts"
import { Unread } from "./Unread.ts"

/** @internal */
export class Peer implements Ear<SessionUpdate.SessionUpdate> {
  static make(
    { connection, fibers, limits, monitor, router }: Pick<
      PublisherContext,
      "connection" | "fibers" | "limits" | "monitor" | "router"
    >,
    agreed: Agreed
  ): Effect.Effect<Peer, never, Scope.Scope> {
    let isBroken = false
    const over = (error: MoqError, limit?: Limit): Effect.Effect<void> =>
      Effect.suspend(() => {
        // streams that are on their way yet may break it again
        if (limit !== undefined && !isBroken) monitor.limit(limit)
        isBroken = true
        return end(connection, error)
      })
    return Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const context: PublisherContext & SubscriberContext = {
        connection,
        profile: agreed.profile,
        limits,
        monitor,
        router,
        clock,
        fibers,
        end: over,
        answers: new Deadlines({ clock, fibers }, limits.request),
        unread: new Unread(limits.unread, monitor),
        heard: 0,
        onBytes: () => {
          context.heard = context.clock.currentTimeMillisUnsafe()
        },
        violation: (error, limit) => Effect.andThen(over(error, limit), Effect.fail(error))
      }
      const subscriber = yield* Subscriber.make(context)
      const publisher = yield* Publisher.make(context)
      const peer = new Peer(context, agreed, publisher, subscriber)
      agreed.stream.hear(context, SessionUpdate.decode, peer)
      const { send } = agreed.stream
      // the peer ends the session by a stop of the Session stream as well
      if (send.onStop === undefined) fibers.fork(Effect.andThen(send.stopped, peer.ended))
      else send.onStop(() => fibers.fork(peer.ended))
      if (connection.capabilities.ping) fibers.fork(peer.keepAlive)
      if (connection.bitrate !== undefined && agreed.profile.sendsSessionUpdate) {
        fibers.fork(peer.bitrate.follow(connection.bitrate))
      }
      return peer
    })
  }

  readonly context: PublisherContext & SubscriberContext
  /** What the peer said of itself. */
  readonly greeting: Greeting
  readonly publisher: Publisher
  readonly subscriber: Subscriber
  readonly bitrate: Bitrate
  // how fast the peer asks
  private readonly requests: Rate
  constructor(
    context: PublisherContext & SubscriberContext,
    { greeting, stream }: Agreed,
    publisher: Publisher,
    subscriber: Subscriber
  ) {
    const { clock, limits } = context
    this.context = context
    this.greeting = greeting
    this.publisher = publisher
    this.subscriber = subscriber
    this.bitrate = new Bitrate(context, stream)
    this.requests = new Rate(clock, limits.requestRate, 4 * limits.requestRate)
  }

  /** The rest of the Session stream; its end, by either side, is that of the session. */
  message(update: SessionUpdate.SessionUpdate): boolean {
    this.bitrate.hear(update)
    return true
  }

  over(exit: Exit.Exit<void, ReceiveError>): void {
    const { connection, fibers } = this.context
    const error = errorOf(exit)
    if (Exit.isSuccess(exit)) fibers.fork(this.ended)
    else if (error !== undefined) fibers.fork(end(connection, error))
    this.bitrate.news.end()
  }

  private get ended(): Effect.Effect<void> {
    return this.context.connection.close(0, "the session stream was closed")
  }

  /** Asks from time to time whether the other side is alive, and ends the session when it has been silent for too long. */
  private get keepAlive(): Effect.Effect<void, SessionClosed> {
    const { clock, connection, limits, monitor } = this.context
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
          asked(Option.isSome(answer) ? clock.currentTimeMillisUnsafe() : Math.max(heard, this.context.heard))
        )
      )
    }
    return Effect.suspend(() => asked(clock.currentTimeMillisUnsafe()))
  }

  /** Reads what a bidirectional stream that the peer opened asks for, and does it. */
  ask(stream: BiStream, onOver?: () => void): void {
    const { context } = this
    const asking = new Asking(this, new MessageStream(stream, context.monitor), onOver)
    if (this.requests.take()) return asking.start()
    context.monitor.limit("requestRate")
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

/**
 * A stream that the peer opened to ask for something: reads its first message, in time, then does what that asks for.
 * Whatever fails costs the peer that stream; one of an unknown type also the session, where the version says so.
 */
class Asking implements Ear<Effect.Effect<void, MoqError>> {
  readonly peer: Peer
  readonly stream: MessageStream
  readonly onOver: (() => void) | undefined
  private type: StreamType.Bi | undefined
  // until it has said what it is for
  private deadline: Deadline | undefined
  constructor(peer: Peer, stream: MessageStream, onOver: (() => void) | undefined) {
    this.peer = peer
    this.stream = stream
    this.onOver = onOver
    this.type = undefined
    this.deadline = undefined
  }

  start(): void {
    const { context, subscriber } = this.peer
    this.deadline = subscriber.newcomers.begin(isLate, this)
    this.stream.hear(context, (reader) => this.decode(reader), this)
  }

  message(asked: Effect.Effect<void, MoqError>): boolean {
    if (this.isHeard()) this.run(Effect.catch(asked, (error) => this.failed(error)))
    return false
  }

  over(exit: Exit.Exit<void, ReceiveError>): void {
    if (!this.isHeard()) return
    const error = Exit.isSuccess(exit) ? endedBefore : errorOf(exit)
    if (error?._tag === "MoqStreamReset") this.peer.subscriber.strays.reset(true)
    this.refuse(error ?? closedHere)
  }

  refuse(error: MoqError): void {
    this.run(this.failed(error))
  }

  /** It did not say in time what it is for. */
  isLate(): void {
    this.peer.context.monitor.limit("firstMessage")
    this.refuse(late)
  }

  /** It is no newcomer any more; `false` when it was none. */
  isHeard(): boolean {
    return this.deadline?.meet() ?? false
  }

  private decode(reader: Reader.Reader): Effect.Effect<void, MoqError> | Reader.NeedMore {
    if (this.type === undefined) {
      const type = StreamType.decodeBi(reader)
      if (type === Reader.NeedMore) return type
      this.type = type
    }
    return this.type === "session"
      ? this.failed(secondSession, secondSessionCode)
      : this.peer.publisher.request(this.type, this.stream)
  }

  private run(asked: Effect.Effect<void>): void {
    // what does not come to its end by itself
    const ended = Effect.suspend(() => {
      this.onOver?.()
      return this.stream.abort(0)
    })
    this.peer.context.fibers.fork(Effect.onExit(asked, () => ended))
  }

  private failed(error: MoqError, code?: number): Effect.Effect<void> {
    return refusal(this.peer.context, error, (code) => this.stream.abort(code), code)
  }
}

const isLate = (asking: Asking): void => asking.isLate()

const late = new Timeout({})

const secondSession = new UnexpectedStream({ detail: "a second session stream" })

const secondSessionCode = toCode(secondSession)

const tooManyRequests = new BoundsExceeded({ detail: "too many requests in a short time" })

const utf8 = new TextEncoder()

const maxReason = 1024
