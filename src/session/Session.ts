/**
 * Sessions: a connection on which both sides publish and subscribe to tracks.
 *
 * **Example** (Watching a track)
 *
 * ```ts
 * import { Effect, Layer, Stream } from "effect"
 * import { Session } from "effect-moq"
 * import { NodeTransport } from "effect-moq/node"
 *
 * const watch = Effect.gen(function*() {
 *   const session = yield* Session.Session
 *   const track = yield* session.subscribe(["room", "alice", "clock"], { wait: "10 seconds" })
 *   yield* Stream.runForEach(track.frames, (frame) => Effect.log(new TextDecoder().decode(frame)))
 * }).pipe(Effect.scoped)
 *
 * const SessionLayer = Session.layerConnect("https://localhost:4443").pipe(Layer.provide(NodeTransport.layer))
 *
 * const program = watch.pipe(Effect.provide(SessionLayer))
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { Fibers } from "../core/Fibers.ts"
import { ProtocolViolation, type SessionClosed, TransportError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Greeting from "../message/Greeting.ts"
import * as Profile from "../message/Profile.ts"
import * as Log from "../model/Log.ts"
import * as Router from "../model/Router.ts"
import * as Transport from "../transport/Transport.ts"
import type { ConnectError } from "./Handshake.ts"
import * as Handshake from "./Handshake.ts"
import * as Instance from "./Instance.ts"
import * as Limits from "./Limits.ts"
import * as Monitor from "./Monitor.ts"
import { News } from "./News.ts"
import { Offering } from "./Offering.ts"
import * as Peer from "./Peer.ts"
import * as Reconnect from "./Reconnect.ts"
import { Session } from "./SessionService.ts"
import type { Status } from "./Status.ts"

export { type ConnectError, Session }

/**
 * What can be chosen of a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The versions to speak, the preferred one first; all of them by default. */
  readonly profiles?: ReadonlyArray<Profile.Profile> | undefined
  /** Limits other than the defaults. */
  readonly limits?: Partial<Limits.Limits> | undefined
  /**
   * Where the tracks are that this side offers; one of its own by default. A relay takes two sessions with one router for
   * one publisher: who connects again by hand gives it to both, and viewers go on with the tracks that they have.
   */
  readonly router?: Router.Router | undefined
  /** What to say of this side; by default the instance is that of the router, the span the current one. */
  readonly greeting?: Greeting.Greeting | undefined
  /** Is told what the session does. */
  readonly monitor?: Monitor.Monitor | undefined
}

/**
 * Connects to a server, and opens a session for as long as the scope.
 *
 * **Details**
 *
 * `url` is an `https:` URL (or `wss:`; `ws:` for a loopback address); its path is the root of the session: paths are
 * relative to it. When the scope closes with success, tracks that have finished arrive whole and groups that have begun
 * come to their end, for 5 seconds at most; no more groups of live tracks begin. Otherwise it closes at once.
 *
 * Fails with `TransportError` when `url` is none or there is no connection to be had, else as the handshake does: see
 * {@link ConnectError}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = (
  url: string | URL,
  options?: Options & Transport.ConnectOptions
): Effect.Effect<Session, ConnectError, Transport.Transport | Scope.Scope> =>
  Effect.gen(function*() {
    const transport = yield* Transport.Transport
    const connection = yield* transport.connect(yield* parse(url), options)
    const opening = yield* Opening.make(connection, options)
    return yield* opening.opened(client(opening))
  })

/**
 * Where to connect to: a URL, or an effect that gives it, run before each attempt, for one that holds a token which
 * expires. When that effect fails with `Unauthorized` or `UnsupportedVersion` no other attempt is made; anything else is
 * tried again as a connection that could not be opened is.
 *
 * @category models
 * @since 0.1.0
 */
export type Target<R = never> = string | URL | Effect.Effect<string | URL, ConnectError, R>

/**
 * What can be chosen of a session that reconnects.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReconnectOptions extends Options, Transport.ConnectOptions {
  /**
   * When to open a connection again; it is given the error, and gives up when it ends. By default it never does: half a
   * second, then twice as long each time, up to 25 seconds, a fifth more or less of each.
   */
  readonly schedule?: Schedule.Schedule<unknown, ConnectError> | undefined
  /** How long a connection must have lasted for the schedule to start anew; 10 seconds by default. */
  readonly stableAfter?: Duration.Input | undefined
}

/**
 * Connects to a server as {@link connect} does, and connects again whenever the connection is lost, for as long as the
 * scope.
 *
 * **Details**
 *
 * It gives the session once the first connection is open, after as many attempts as the schedule allows. From then on the
 * session outlives its connections:
 *
 * - What is offered (`broadcast`, `publish`, `route`, `announce`) stays, can be written to, and is announced again.
 * - A subscription goes on with the groups after those that it has: what the publisher no longer has, and what was on its
 *   way, becomes a gap with the code of the connection's end; groups that were open fail with `SessionClosed`, their
 *   track does not. It waits for a publisher that is away as well. A track that finishes, or that its publisher fails,
 *   ends as ever. One that a relay evicts because its publisher has begun anew is gone on with at once.
 * - `announced` tells what has vanished meanwhile as `Ended`, and does not repeat what is still there.
 * - `subscribe`, `trackInfo` and `fetch` wait for a connection for as long as a request may take (`limits.request`, 10
 *   seconds by default, or as long as `wait`), then fail with `Timeout`.
 * - `profile` and `transport` are those of the latest connection, `status` tells what it is doing.
 *
 * A server that closes with code 0 is connected to again as well. It gives up when the schedule ends, when the server
 * refuses the client (`Unauthorized`, `UnsupportedVersion`), when the server closes it with code 12 (`Duplicate`) because
 * another publisher has taken over all of its paths, from which it would only take them back, and when it is closed here:
 * then everything fails with `SessionClosed`, and `status` ends with the error.
 *
 * **Gotchas**
 *
 * A publisher that has begun anew, with group numbers below those that were seen, is gone on with: its group `n` comes as
 * `n` plus the number after the last that was told of, so that the sequences of one track never go back. `fetch` takes the
 * numbers of the publisher.
 *
 * **Example** (A track that is watched over one connection after the other)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Session } from "effect-moq"
 *
 * const watch = Effect.gen(function*() {
 *   const session = yield* Session.reconnect("https://relay.example/room")
 *   yield* Effect.forkScoped(Stream.runForEach(session.status, (status) => Effect.log(status._tag)))
 *   const track = yield* session.subscribe(["alice", "clock"], { wait: "10 seconds" })
 *   yield* Stream.runForEach(track.frames, (frame) => Effect.log(new TextDecoder().decode(frame)))
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const reconnect: <R = never>(
  url: Target<R>,
  options?: ReconnectOptions
) => Effect.Effect<Session, ConnectError, Transport.Transport | Scope.Scope | R> = Effect.fnUntraced(
  function*<R>(url: Target<R>, options: ReconnectOptions = {}) {
    // one that is no URL does not become one
    const target = Effect.isEffect(url) ? url : Effect.succeed(yield* parse(url))
    const router = options.router ?? (yield* Router.make)
    return yield* Reconnect.make({
      connect: Effect.flatMap(target, (url) => connect(url, { ...options, router })),
      router,
      schedule: options.schedule ?? Reconnect.defaultSchedule,
      stableAfter: options.stableAfter ?? "10 seconds",
      patience: options.limits?.request ?? Limits.defaults.request
    })
  }
)

/**
 * Answers a client on an open connection, and gives the session for as long as the scope. Fails as the handshake does:
 * see `Handshake.HandshakeError`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const accept: (
  connection: Transport.Connection,
  options?: Options
) => Effect.Effect<Session, Handshake.HandshakeError, Scope.Scope> = Effect.fnUntraced(
  function*(connection, options) {
    const opening = yield* Opening.make(connection, options)
    return yield* opening.opened(server(opening))
  }
)

/**
 * The session of {@link connect}. One such constant, provided twice in one program, is one session.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConnect = (
  url: string | URL,
  options?: Options & Transport.ConnectOptions
): Layer.Layer<Session, ConnectError, Transport.Transport> => Layer.effect(Session, connect(url, options))

/**
 * The session of {@link reconnect}: it is there once its first connection is open. One such constant, provided twice in
 * one program, is one session.
 *
 * **Example** (A token for each attempt, and a schedule that gives up)
 *
 * ```ts
 * import { Effect, Layer, Schedule } from "effect"
 * import { MoqError, Session } from "effect-moq"
 * import { NodeTransport } from "effect-moq/node"
 *
 * declare const freshToken: Effect.Effect<string, Error>
 *
 * const url = freshToken.pipe(
 *   Effect.map((token) => `https://relay.example/room?jwt=${token}`),
 *   Effect.mapError((error) => new MoqError.TransportError({ detail: error.message }))
 * )
 *
 * const SessionLayer = Session.layerReconnect(url, {
 *   schedule: Schedule.exponential("200 millis").pipe(Schedule.upTo({ times: 10 }))
 * }).pipe(Layer.provide(NodeTransport.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerReconnect = <R = never>(
  url: Target<R>,
  options?: ReconnectOptions
): Layer.Layer<Session, ConnectError, Transport.Transport | R> => Layer.effect(Session, reconnect(url, options))

/**
 * The session of {@link accept}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  connection: Transport.Connection,
  options?: Options
): Layer.Layer<Session, Handshake.HandshakeError> => Layer.effect(Session, accept(connection, options))

// internal

/** A session on its way up: what it opens lives in a scope that closes after what is in flight has left; its fibers go last. */
class Opening implements Handshake.Terms {
  static make(
    connection: Transport.Connection,
    options: Options | undefined
  ): Effect.Effect<Opening, never, Scope.Scope> {
    return Effect.gen(function*() {
      const router = options?.router ?? (yield* Router.make)
      const greeting = { ...(yield* Instance.greeting(router)), ...options?.greeting }
      // closed after the scope of the session: what that ends may have to be told
      const fibers = yield* Fibers.make
      return yield* Effect.acquireRelease(
        Effect.sync(() => new Opening(connection, options, router, greeting, fibers)),
        (opening, exit) => opening.close(exit)
      )
    })
  }

  readonly connection: Transport.Connection
  readonly limits: Limits.Limits
  readonly profiles: ReadonlyArray<Profile.Profile>
  readonly router: Router.Router
  readonly greeting: Greeting.Greeting
  readonly monitor: Monitor.Monitor
  readonly scope: Scope.Closeable
  readonly fibers: Fibers
  peer: Peer.Peer | undefined
  constructor(
    connection: Transport.Connection,
    options: Options | undefined,
    router: Router.Router,
    greeting: Greeting.Greeting,
    fibers: Fibers
  ) {
    this.connection = connection
    this.limits = Limits.make(options?.limits)
    this.profiles = options?.profiles ?? Profile.all
    this.router = router
    this.greeting = greeting
    this.monitor = Monitor.guarded(options?.monitor ?? Monitor.none, fibers)
    this.scope = Scope.makeUnsafe()
    this.fibers = fibers
    this.peer = undefined
  }

  takeUni(): void {
    const { connection } = this
    const take = (stream: Transport.ReceiveStream, onOver?: () => void): void => {
      if (this.peer === undefined) this.early(onOver)
      else this.peer.subscriber.read(stream, onOver)
    }
    if (connection.onUni === undefined) this.fibers.fork(Peer.acceptAll(connection.acceptUni, take))
    else connection.onUni(take)
  }

  takeBi(): void {
    const { connection } = this
    const take = (stream: Transport.BiStream, onOver?: () => void): void => {
      if (this.peer === undefined) this.early(onOver)
      else this.peer.ask(stream, onOver)
    }
    if (connection.onBi === undefined) this.fibers.fork(Peer.acceptAll(connection.acceptBi, take))
    else connection.onBi(take)
  }

  // ends a session whose peer opens streams before the handshake is done
  private early(onOver: (() => void) | undefined): void {
    const error = new ProtocolViolation({ detail: "a stream before the handshake was done" })
    this.fibers.fork(Peer.end(this.connection, error))
    onOver?.()
  }

  opened(
    handshake: Effect.Effect<void, Handshake.HandshakeError, Scope.Scope>
  ): Effect.Effect<Session, Handshake.HandshakeError> {
    return Scope.provide(handshake, this.scope).pipe(
      Effect.catch((error) => Effect.andThen(Peer.end(this.connection, error), Effect.fail(error))),
      Effect.map(() => new SessionImpl(this.connection, this.router, this.peer!))
    )
  }

  begin(agreed: Handshake.Agreed): Effect.Effect<void> {
    return Effect.map(Scope.provide(Peer.Peer.make(this, agreed), this.scope), (peer) => {
      this.peer = peer
    })
  }

  close(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    // what was withdrawn just now is told first; nothing leaves over a connection that has ended
    const drain = Exit.isSuccess(exit) && this.peer !== undefined
      ? Effect.raceFirst(Effect.andThen(turns, this.peer.publisher.drain), this.connection.closed)
      : Effect.void
    return drain.pipe(Effect.andThen(this.connection.close(0, "")), Effect.andThen(Scope.close(this.scope, exit)))
  }
}

// for those who hear of it, and for those who write it
const turns = Effect.andThen(Effect.yieldNow, Effect.yieldNow)

const client = (opening: Opening): Effect.Effect<void, Handshake.HandshakeError, Scope.Scope> =>
  Effect.gen(function*() {
    yield* opening.begin(yield* Handshake.client(opening.connection, opening))
    // what the server has opened meanwhile is waiting
    opening.takeUni()
    opening.takeBi()
  })

// on its own, like `client`: a page that only connects does not load it
const server = (opening: Opening): Effect.Effect<void, Handshake.HandshakeError, Scope.Scope> =>
  Effect.suspend(() => {
    opening.takeUni()
    const first = Effect.tap(opening.connection.acceptBi, () => Effect.sync(() => opening.takeBi()))
    return Handshake.server(first, opening, (agreed) => opening.begin(agreed))
  })

class SessionImpl extends Offering implements Session {
  readonly connection: Transport.Connection
  readonly peer: Peer.Peer
  constructor(connection: Transport.Connection, router: Router.Router, peer: Peer.Peer) {
    super(router)
    this.connection = connection
    this.peer = peer
  }
  get profile(): Profile.Name {
    return this.peer.profile.name
  }
  get greeting(): Greeting.Greeting {
    return this.peer.greeting
  }
  get transport(): Transport.ConnectionInfo {
    return this.connection.info
  }
  get bitrate(): Session["bitrate"] {
    return this.peer.bitrate.news.stream
  }
  get reportBitrate(): Session["reportBitrate"] {
    return (bitsPerSecond) => this.peer.bitrate.report(bitsPerSecond)
  }
  get status(): Session["status"] {
    return Log.toStream(Effect.suspend(() => {
      const statuses = new News<Status>()
      statuses.tell({ _tag: "Connected", profile: this.profile, transport: this.transport })
      const closed = Effect.map(this.closed, (error) => {
        statuses.tell({ _tag: "Closed", error })
        statuses.end()
      })
      return Effect.andThen(Effect.forkScoped(closed, { startImmediately: true }), statuses.reader)
    }))
  }
  get drain(): Effect.Effect<void> {
    return this.peer.publisher.drain
  }
  get ping(): Effect.Effect<void, SessionClosed> {
    return this.connection.ping
  }
  get closed(): Effect.Effect<SessionClosed> {
    return this.connection.closed
  }
  get close(): Session["close"] {
    return (error) => error === undefined ? this.connection.close(0, "") : Peer.end(this.connection, error)
  }
  get subscribe(): Session["subscribe"] {
    return (path, options = {}) => {
      const subscribed = Router.rendezvous(path, options, {
        subscribe: (request) => this.peer.subscriber.subscribe(path, request),
        announced: this.announced
      })
      return path.length > 0 && Path.isValid(path) ? subscribed : Effect.andThen(Path.validateTrack(path), subscribed)
    }
  }
  get trackInfo(): Session["trackInfo"] {
    return (path) => Effect.andThen(Path.validateTrack(path), this.peer.subscriber.trackInfo(path))
  }
  get fetch(): Session["fetch"] {
    return (path, sequence, options) =>
      Effect.andThen(Path.validateTrack(path), this.peer.subscriber.fetch(path, sequence, options))
  }
  get announced(): Session["announced"] {
    return (prefix) => this.peer.subscriber.announced(prefix)
  }
}

const parse = (url: string | URL): Effect.Effect<URL, TransportError> =>
  Effect.suspend(() =>
    URL.canParse(url)
      ? Effect.succeed(new URL(url))
      // its query may hold a token
      : Effect.fail(new TransportError({ detail: `${String(url).split("?")[0]} is not a URL` }))
  )
