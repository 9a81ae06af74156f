/**
 * The running half of a session: takes the streams that the peer opens to whoever handles them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import {
  type MoqError,
  NotFound,
  ProtocolViolation,
  type SessionClosed,
  toCode,
  UnexpectedStream
} from "../core/MoqError.ts"
import * as Fetch from "../message/Fetch.ts"
import type { Profile } from "../message/Profile.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import * as StreamType from "../message/StreamType.ts"
import type { Router } from "../model/Router.ts"
import type { BiStream, Connection, ReceiveStream } from "../transport/Transport.ts"
import type { Agreed } from "./Handshake.ts"
import type { Limits } from "./Limits.ts"
import { MessageStream, resetCode } from "./MessageStream.ts"
import { Publisher } from "./Publisher.ts"
import { Subscriber } from "./Subscriber.ts"

/** @internal */
export class Peer {
  static make(
    connection: Connection,
    limits: Limits,
    router: Router,
    { profile, stream }: Agreed
  ): Effect.Effect<Peer, never, Scope.Scope> {
    return Effect.map(
      Subscriber.make({ connection, profile, limits }),
      (subscriber) => new Peer(connection, limits, router, profile, stream, subscriber)
    )
  }

  readonly connection: Connection
  readonly limits: Limits
  readonly profile: Profile
  readonly control: MessageStream
  readonly publisher: Publisher
  readonly subscriber: Subscriber
  constructor(
    connection: Connection,
    limits: Limits,
    router: Router,
    profile: Profile,
    control: MessageStream,
    subscriber: Subscriber
  ) {
    this.connection = connection
    this.limits = limits
    this.profile = profile
    this.control = control
    this.publisher = new Publisher({
      connection,
      profile,
      limits,
      router,
      violation: (error) => Effect.andThen(end(connection, error), Effect.fail(error))
    })
    this.subscriber = subscriber
  }

  /** The rest of the Session stream; its end, by either side, is that of the session. */
  get session(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      while ((yield* this.control.read(SessionUpdate.decode, this.profile)) !== undefined);
      yield* this.connection.close(0, "the session stream was closed")
    }).pipe(Effect.catch((error) => end(this.connection, error)))
  }

  /** Asks from time to time whether the other side is alive, and ends the session when it is not. */
  get keepAlive(): Effect.Effect<void> {
    if (!this.connection.capabilities.ping) return Effect.void
    return Effect.sleep(this.limits.keepAlive).pipe(
      Effect.andThen(Effect.timeoutOption(this.connection.ping, this.limits.idle)),
      Effect.flatMap((alive) =>
        Option.isSome(alive) ? Effect.void : this.connection.close(3, "the peer does not answer any more")
      ),
      Effect.forever,
      Effect.ignore
    )
  }

  bi(opened: BiStream): Effect.Effect<void> {
    const stream = new MessageStream(opened)
    return stream.first(StreamType.decodeBi, this.profile, this.limits.firstMessage).pipe(
      Effect.flatMap((type) => this.request(type, stream)),
      Effect.catch((error) => this.refuse(error, (code) => stream.abort(code)))
    )
  }

  request(type: StreamType.Bi, stream: MessageStream): Effect.Effect<void, MoqError> {
    switch (type) {
      case "session":
        return Effect.fail(new UnexpectedStream({ detail: "a second session stream" }))
      case "announce":
        return this.publisher.announce(stream)
      case "subscribe":
        return this.publisher.subscribe(stream)
      case "info":
        return this.publisher.info(stream)
      case "fetch":
        return Effect.andThen(
          stream.first(Fetch.decode, this.profile, this.limits.firstMessage),
          Effect.fail(new NotFound({ detail: "FETCH is not served yet" }))
        )
    }
  }

  uni(stream: ReceiveStream): Effect.Effect<void> {
    return Effect.catch(this.subscriber.group(stream), (error) => this.refuse(error, stream.stop))
  }

  // what went wrong costs the peer the stream, or the session where the version says so
  refuse(error: MoqError, abort: (code: number) => Effect.Effect<void>): Effect.Effect<void> {
    if (error._tag === "MoqSessionClosed") return Effect.void
    if (error._tag !== "MoqUnexpectedStream") return abort(resetCode(error, this))
    if (this.profile.unknownStreamCloses === "session") return end(this.connection, error)
    return abort(error.detail?.startsWith("a second") === true ? 10 : this.profile.unknownStreamCode)
  }
}

/**
 * Closes a connection for an error.
 *
 * @internal
 */
export const end = (connection: Connection, error: MoqError): Effect.Effect<void> =>
  connection.close(Math.min(toCode(error), 255), error.message)

/**
 * Takes streams for as long as the connection lives, and handles each on a fiber of its own, in the given scope. Before the
 * handshake is done `handler` gives `undefined`, and a stream costs the peer the session.
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
      const own = Scope.makeUnsafe()
      return restore(Scope.provide(accept, own)).pipe(
        Effect.onError((cause) => Scope.close(own, Exit.failCause(cause))),
        Effect.flatMap((stream) => {
          const handle = handler()
          if (handle === undefined) {
            return end(connection, new ProtocolViolation({ detail: "a stream before the handshake was done" }))
          }
          return Effect.forkIn(Effect.onExit(restore(handle(stream)), (exit) => Scope.close(own, exit)), scope)
        })
      )
    })
  ).pipe(Effect.forever({ disableYield: true }), Effect.ignore)
