/**
 * The running half of a session: takes the streams that the peer opens to whoever handles them.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Fibers } from "../core/Fibers.ts"
import {
  BoundsExceeded,
  type MoqError,
  ProtocolViolation,
  type SessionClosed,
  Timeout,
  toCode,
  UnexpectedStream
} from "../core/MoqError.ts"
import type { Greeting } from "../message/Greeting.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import * as StreamType from "../message/StreamType.ts"
import type { BiStream, Connection, ReceiveStream } from "../transport/Transport.ts"
import { Bitrate } from "./Bitrate.ts"
import { Deadlines } from "./Deadlines.ts"
import type { Agreed } from "./Handshake.ts"
import { MessageStream, type ReceiveError, resetCode } from "./MessageStream.ts"
import type { Limit } from "./Monitor.ts"
import { Publisher } from "./Publisher.ts"
import { Rate } from "./Rate.ts"
import type { PublisherContext, SubscriberContext } from "./SessionContext.ts"
import { Subscriber } from "./Subscriber.ts"
import { Unread } from "./Unread.ts"

/** @internal */
export class Peer {
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
      fibers.fork(peer.session)
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
  readonly control: MessageStream
  readonly publisher: Publisher
  readonly subscriber: Subscriber
  readonly bitrate: Bitrate
  // how fast the peer asks
  private readonly requests: Rate
  // streams of the peer, until they have said what they are for
  private readonly newcomers: Deadlines
  constructor(
    context: PublisherContext & SubscriberContext,
    { greeting, stream }: Agreed,
    publisher: Publisher,
    subscriber: Subscriber
  ) {
    const { clock, limits } = context
    this.context = context
    this.greeting = greeting
    this.control = stream
    this.publisher = publisher
    this.subscriber = subscriber
    this.bitrate = new Bitrate(context, stream)
    this.requests = new Rate(clock, limits.requestRate, 4 * limits.requestRate)
    this.newcomers = new Deadlines(context, limits.firstMessage)
  }

  /** The rest of the Session stream; its end, by either side, is that of the session. */
  private get session(): Effect.Effect<void> {
    const read = this.control.read(SessionUpdate.decode, this.context.profile)
    const next: Effect.Effect<void> = Effect.matchEffect(read, {
      onSuccess: (update) => {
        if (update === undefined) return this.ended
        this.bitrate.hear(update)
        return next
      },
      onFailure: (error) => end(this.context.connection, error)
    })
    return Effect.onExit(next, () => Effect.sync(() => this.bitrate.news.end()))
  }

  private get ended(): Effect.Effect<void> {
    return this.context.connection.close(0, "the session stream was closed")
  }

  /** Asks from time to time whether the other side is alive, and ends the session when it has been silent for too long. */
  private get keepAlive(): Effect.Effect<void, SessionClosed> {
    const { clock, connection, limits, monitor } = this.context
    const [every, patience] = [limits.keepAlive, limits.idle].map((limit) => Duration.toMillis(limit)) as [
      number,
      number
    ]
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

  /** Handles a bidirectional stream that the peer opened. */
  bi(opened: BiStream): Effect.Effect<void> {
    const stream = new MessageStream(opened, this.context.monitor)
    return this.handle(this.requests.take() ? this.asked(stream) : this.tooMany(), (code) => stream.abort(code))
  }

  // what the peer asks for
  private asked(stream: MessageStream): Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError | BoundsExceeded> {
    return stream.expect(StreamType.decodeBi, this.context.profile).pipe(
      Effect.flatMap((type) =>
        type === "session"
          ? Effect.succeed(this.unexpected(secondSession, secondSessionCode, (code) => stream.abort(code)))
          : this.publisher[type](stream)
      ),
      Effect.tapError((error) =>
        (error._tag === "MoqStreamReset" ? this.subscriber.strays.reset(true) : undefined) ?? Effect.void
      )
    )
  }

  private tooMany(): Effect.Effect<never, BoundsExceeded> {
    this.context.monitor.limit("requestRate")
    return this.subscriber.strays.stray() ?? tooManyRequests
  }

  /** Handles a unidirectional stream that the peer opened. */
  uni(stream: ReceiveStream): Effect.Effect<void> {
    return this.handle(this.subscriber.group(stream), stream.stop)
  }

  // Reads the first message of a stream, in time, then does what it asks for. Whatever fails costs the peer that stream;
  // one of an unknown type also the session, where the version says so.
  handle(
    first: Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError | BoundsExceeded>,
    abort: (code: number) => Effect.Effect<void>
  ): Effect.Effect<void> {
    const { profile } = this.context
    const failed = (error: MoqError): Effect.Effect<void> => abort(resetCode(error, this.context))
    // not inside the object: V8 makes a function that a member begins with in the old generation
    const onSuccess = (asked: Effect.Effect<void, MoqError>) => Effect.catch(asked, failed)
    const onFailure = (error: ReceiveError | BoundsExceeded) =>
      error._tag === "MoqUnexpectedStream"
        ? this.unexpected(error, profile.unknownStreamCode, abort)
        : failed(error)
    return Effect.matchEffect(this.hear(first, abort), { onSuccess, onFailure })
  }

  // on a fiber of its own: when it is late, the stream is aborted, and that fiber ends
  private hear<A, E>(first: Effect.Effect<A, E>, abort: (code: number) => Effect.Effect<void>): Effect.Effect<A, E> {
    return Effect.withFiber((fiber) => {
      const deadline = this.newcomers.begin(() => {
        this.context.monitor.limit("firstMessage")
        fiber.interruptUnsafe()
      })
      return Effect.onExit(first, () => deadline.meet() ? Effect.void : abort(resetCode(late, this.context)))
    })
  }

  unexpected(
    error: UnexpectedStream,
    code: number,
    abort: (code: number) => Effect.Effect<void>
  ): Effect.Effect<void> {
    const { connection, profile } = this.context
    return profile.unknownStreamCloses === "session" ? end(connection, error) : abort(code)
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
 * Takes streams for as long as the connection lives, and handles each on a fiber of its own, among the given ones.
 *
 * @internal
 */
export const acceptAll = <A>(
  accept: Effect.Effect<A, SessionClosed, Scope.Scope>,
  fibers: Fibers,
  handle: (stream: A) => Effect.Effect<void>
): Effect.Effect<never, SessionClosed> =>
  Effect.suspend(() => {
    // that of the next stream
    let own = Scope.makeUnsafe()
    const next: Effect.Effect<never, SessionClosed> = Effect.flatMap(
      Effect.suspend(() => Scope.provide(accept, own)),
      (stream) => {
        const scope = own
        own = Scope.makeUnsafe()
        // the fiber keeps what it has begun with: no more than the stream
        fibers.fork(Effect.onExit(Effect.suspend(() => handle(stream)), (exit) => Scope.close(scope, exit)))
        return next
      }
    )
    return Effect.onExit(next, (exit) => Scope.close(own, exit))
  })

/**
 * Ends a session whose peer opens streams before the handshake is done.
 *
 * @internal
 */
export const early = (connection: Connection): Effect.Effect<void> =>
  end(connection, new ProtocolViolation({ detail: "a stream before the handshake was done" }))

// internal

const late = new Timeout({})

const secondSession = new UnexpectedStream({ detail: "a second session stream" })

const secondSessionCode = toCode(secondSession)

const tooManyRequests = Effect.fail(new BoundsExceeded({ detail: "too many requests in a short time" }))

const utf8 = new TextEncoder()

const maxReason = 1024
