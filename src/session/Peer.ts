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
import { ignore } from "../core/Ignore.ts"
import {
  BoundsExceeded,
  type MoqError,
  ProtocolViolation,
  type SessionClosed,
  type Timeout,
  toCode,
  UnexpectedStream
} from "../core/MoqError.ts"
import type { Greeting } from "../message/Greeting.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import * as StreamType from "../message/StreamType.ts"
import type { BiStream, Connection, ReceiveStream } from "../transport/Transport.ts"
import { Bitrate } from "./Bitrate.ts"
import type { Agreed } from "./Handshake.ts"
import { inTime, MessageStream, type ReceiveError, resetCode } from "./MessageStream.ts"
import type { Limit } from "./Monitor.ts"
import { Publisher } from "./Publisher.ts"
import { Rate } from "./Rate.ts"
import type { PublisherContext, SessionContext } from "./SessionContext.ts"
import { Subscriber } from "./Subscriber.ts"

/** @internal */
export class Peer {
  static make(
    { connection, limits, monitor, router }: Pick<PublisherContext, "connection" | "limits" | "monitor" | "router">,
    { greeting, profile, stream }: Agreed
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
      const context: SessionContext = {
        connection,
        profile,
        limits,
        monitor,
        clock: yield* Clock.Clock,
        end: over,
        violation: (error, limit) => Effect.andThen(over(error, limit), Effect.fail(error))
      }
      const subscriber = yield* Subscriber.make(context)
      const publisher = yield* Publisher.make({ ...context, router })
      const bitrate = new Bitrate(context, stream, yield* Effect.scope)
      if (connection.bitrate !== undefined && profile.sendsSessionUpdate) {
        yield* Effect.forkScoped(bitrate.follow(connection.bitrate, limits.keepAlive))
      }
      return new Peer(context, greeting, stream, publisher, subscriber, bitrate)
    })
  }

  readonly context: SessionContext
  /** What the peer said of itself. */
  readonly greeting: Greeting
  readonly control: MessageStream
  readonly publisher: Publisher
  readonly subscriber: Subscriber
  readonly bitrate: Bitrate
  // how many Announce streams of the peer are served
  announcing: number
  // how fast the peer asks
  private readonly requests: Rate
  constructor(
    context: SessionContext,
    greeting: Greeting,
    control: MessageStream,
    publisher: Publisher,
    subscriber: Subscriber,
    bitrate: Bitrate
  ) {
    const { clock, limits } = context
    this.context = context
    this.greeting = greeting
    this.control = control
    this.publisher = publisher
    this.subscriber = subscriber
    this.bitrate = bitrate
    this.announcing = 0
    this.requests = new Rate(clock, limits.requestRate, 4 * limits.requestRate)
  }

  /** The rest of the Session stream; its end, by either side, is that of the session. */
  get session(): Effect.Effect<void> {
    const read = Effect.gen({ self: this }, function*() {
      while (true) {
        const update = yield* this.control.read(SessionUpdate.decode, this.context.profile)
        if (update === undefined) return
        this.bitrate.hear(update)
      }
    })
    return read.pipe(
      Effect.andThen(this.ended),
      Effect.catch((error) => end(this.context.connection, error)),
      Effect.ensuring(Effect.sync(() => this.bitrate.news.end()))
    )
  }

  /** Ends the session when the peer stops the Session stream. */
  get stopped(): Effect.Effect<void> {
    return Effect.andThen(this.control.send.stopped, this.ended)
  }

  private get ended(): Effect.Effect<void> {
    return this.context.connection.close(0, "the session stream was closed")
  }

  /** Asks from time to time whether the other side is alive, and ends the session when it has been silent for too long. */
  get keepAlive(): Effect.Effect<void> {
    const { clock, connection, limits, monitor } = this.context
    if (!connection.capabilities.ping) return Effect.void
    const asked = Effect.andThen(Effect.sleep(limits.keepAlive), connection.ping)
    const patience = Duration.toMillis(Duration.fromInputUnsafe(limits.idle))
    return Effect.gen({ self: this }, function*() {
      let heard = clock.currentTimeMillisUnsafe()
      while (true) {
        const left = heard + patience - clock.currentTimeMillisUnsafe()
        if (left <= 0) {
          monitor.limit("idle")
          return yield* connection.close(3, "the peer does not answer any more")
        }
        const answer = yield* Effect.timeoutOption(asked, left)
        // an answer may be stuck behind data: that is a sign of life as well
        heard = Option.isSome(answer) ? clock.currentTimeMillisUnsafe() : Math.max(heard, this.subscriber.heard)
      }
    }).pipe(ignore)
  }

  /** Handles a bidirectional stream that the peer opened. */
  bi(opened: BiStream): Effect.Effect<void> {
    const stream = new MessageStream(opened, this.context.monitor)
    return this.handle(this.requests.take() ? this.asked(stream) : this.tooMany(), (code) => stream.abort(code))
  }

  // what the peer asks for
  private asked(stream: MessageStream): Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError | BoundsExceeded> {
    return stream.expect(StreamType.decodeBi, this.context.profile).pipe(
      Effect.flatMap((type) => this.request(type, stream)),
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

  request(type: StreamType.Bi, stream: MessageStream): Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError> {
    switch (type) {
      case "session":
        return Effect.succeed(this.unexpected(secondSession, secondSessionCode, (code) => stream.abort(code)))
      case "announce":
        return Effect.map(this.publisher.announce(stream), (served) => this.announce(served))
      case "subscribe":
        return this.publisher.subscribe(stream)
      case "info":
        return this.publisher.info(stream)
      case "fetch":
        return this.publisher.fetch(stream)
    }
  }

  announce(served: Effect.Effect<void, MoqError>): Effect.Effect<void, MoqError> {
    return Effect.suspend(() => {
      const { limits, monitor } = this.context
      if (this.announcing >= limits.announceStreams) {
        monitor.limit("announceStreams")
        return Effect.fail(new BoundsExceeded({ detail: `${this.announcing} Announce streams are served already` }))
      }
      return Effect.acquireUseRelease(
        Effect.sync(() => this.announcing++),
        () => served,
        () => Effect.sync(() => this.announcing--)
      )
    })
  }

  // Reads the first message of a stream, in time, then does what it asks for. Whatever fails costs the peer that stream;
  // one of an unknown type also the session, where the version says so.
  handle(
    first: Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError | BoundsExceeded | Timeout>,
    abort: (code: number) => Effect.Effect<void>
  ): Effect.Effect<void> {
    const { profile } = this.context
    return first.pipe(
      inTime(this.context, "the first message of a stream", "firstMessage"),
      Effect.catchTag(
        "MoqUnexpectedStream",
        (error) => Effect.succeed(this.unexpected(error, profile.unknownStreamCode, abort))
      ),
      Effect.flatten,
      Effect.catch((error) => abort(resetCode(error, this.context)))
    )
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
 * Takes streams for as long as the connection lives, and handles each on a fiber of its own, in the given scope. Before
 * the handshake is done `handler` gives `undefined`, and a stream costs the peer the session.
 *
 * @internal
 */
export const acceptAll = <A>(
  connection: Connection,
  accept: Effect.Effect<A, SessionClosed, Scope.Scope>,
  scope: Scope.Scope,
  handler: () => ((stream: A) => Effect.Effect<void>) | undefined
): Effect.Effect<void> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      // a child of the session's scope: the stream ends with it even if its fiber never gets to run
      const own = Scope.forkUnsafe(scope)
      return restore(Scope.provide(accept, own)).pipe(
        Effect.flatMap((stream) => {
          const handle = handler()
          return handle === undefined
            ? Effect.andThen(
              end(connection, new ProtocolViolation({ detail: "a stream before the handshake was done" })),
              Scope.close(own, Exit.void)
            )
            : Effect.forkIn(Effect.onExit(restore(handle(stream)), (exit) => Scope.close(own, exit)), scope)
        }),
        Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
      )
    })
  ).pipe(Effect.forever({ disableYield: true }), ignore)

// internal

const secondSession = new UnexpectedStream({ detail: "a second session stream" })

const secondSessionCode = toCode(secondSession)

const tooManyRequests = Effect.fail(new BoundsExceeded({ detail: "too many requests in a short time" }))

const utf8 = new TextEncoder()

const maxReason = 1024
