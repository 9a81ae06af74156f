/**
 * What a session can do: its interface, and its service.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type {
  FetchError,
  MoqError,
  NotSupportedByPeer,
  PublishError,
  RequestError,
  SessionClosed
} from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import type * as Greeting from "../message/Greeting.ts"
import type * as Profile from "../message/Profile.ts"
import type * as Announced from "../model/Announced.ts"
import type * as Broadcast from "../model/Broadcast.ts"
import type * as Group from "../model/Group.ts"
import type * as Router from "../model/Router.ts"
import type * as Subscription from "../model/Subscription.ts"
import type * as Track from "../model/Track.ts"
import type * as Transport from "../transport/Transport.ts"
import type { Status } from "./Status.ts"

/**
 * A connection to one peer, on which both sides publish and subscribe. It ends with the scope that made it.
 *
 * **Example** (Fetching the group before the newest)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import type { Session } from "effect-moq"
 *
 * const before = (session: Session.Session) =>
 *   Effect.gen(function*() {
 *     const { latest = 0 } = yield* session.trackInfo(["room", "chat"])
 *     const group = yield* session.fetch(["room", "chat"], Math.max(0, latest - 1))
 *     return yield* Stream.runCollect(group.frames)
 *   }).pipe(Effect.scoped)
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export interface Session extends Router.Subscribable<RequestError> {
  /** Which version of the protocol is spoken, as a name of its byte layout. */
  readonly profile: Profile.Name
  /** What the peer said of itself, as far as it says anything. */
  readonly greeting: Greeting.Greeting
  /** What is known of the connection. */
  readonly transport: Transport.ConnectionInfo
  /** Everything that is offered to the peer. */
  readonly router: Router.Router
  /**
   * Offers a track, or all tracks of a broadcast, to the peer for as long as the scope; of a broadcast that belongs to
   * another session, the tracks that it has then. Fails with `Duplicate` when a path is taken in this session, with
   * `BoundsExceeded` when it is empty or too long.
   */
  readonly publish: (
    offer: Track.Track | Broadcast.Producer
  ) => Effect.Effect<void, PublishError, Scope.Scope>
  /**
   * Serves the tracks below a prefix on demand, for as long as the scope: see `Router.route`. Fails with
   * `Duplicate` when the prefix has a route in this session, with `BoundsExceeded` when it is too long.
   */
  readonly route: Router.Router["route"]
  /** Announces a path whose track is made by a route, for as long as the scope. Fails as `publish` does. */
  readonly announce: Router.Router["announce"]
  /**
   * Makes a broadcast that belongs to this session: its tracks are offered to the peer until the scope closes, and fail
   * with {@link SessionClosed} when the session ends before.
   */
  readonly broadcast: (prefix: Path.Path) => Effect.Effect<Broadcast.Producer, never, Scope.Scope>
  /**
   * Subscribes to a track of the peer for as long as the scope.
   *
   * Who subscribes again to what this session receives already shares that, unless the newest group has lost its
   * beginning: what all its readers have taken goes beyond 256 KiB (`Group.maxTaken`). Then it is asked for again.
   *
   * Fails with `NotFound` when the peer does not have it (with `wait`: not in that time), with `Timeout` when it does
   * not answer within 10 seconds (`limits.request`), with `BoundsExceeded` when the path is empty or too long, or a
   * number out of its range, with the code that the peer refuses with, and with {@link SessionClosed}.
   */
  readonly subscribe: (
    path: Path.Path,
    options?: Subscription.Options
  ) => Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope>
  /** What the peer knows of a track, without subscribing to it. Fails as `subscribe` without `wait` does. */
  readonly trackInfo: (path: Path.Path) => Effect.Effect<Router.TrackState, RequestError>
  /**
   * Fetches one group that the peer still has, from a frame on, for as long as the scope; one that is still being
   * written goes on.
   *
   * Fails as `subscribe` without `wait` does, with `Evicted` when the group or the frame is no longer there, and with
   * `NotSupportedByPeer` when the peer does not serve FETCH (draft-03, section "FETCH"; the crate does not).
   */
  readonly fetch: (
    path: Path.Path,
    sequence: number,
    options?: Router.FetchOptions
  ) => Effect.Effect<Group.Group, FetchError, Scope.Scope>
  /** The tracks of the peer below a prefix (all by default): those that are there, `Live`, then the changes. */
  readonly announced: (prefix?: Path.Path) => Stream.Stream<Announced.Announced, RequestError>
  /**
   * How many bits a second the peer says that it can send: the last that it said, if anything, then whatever it says
   * next; `undefined` when it says that it does not know (draft-03, section "SESSION_UPDATE"). Ends with the session.
   */
  readonly bitrate: Stream.Stream<number | undefined>
  /**
   * Tells the peer how many bits a second this side can send. Where the transport knows, that is done without asking.
   * Fails with `NotSupportedByPeer` when the peer's version has no way to hear it.
   */
  readonly reportBitrate: (
    bitsPerSecond: number | undefined
  ) => Effect.Effect<void, NotSupportedByPeer | SessionClosed>
  /** What the session is doing: what it does now, then every change. Ends after `Closed`. */
  readonly status: Stream.Stream<Status>
  /**
   * Begins no more groups, and suspends until those that have begun have left: for as long as `limits.drain` at most. Tracks
   * that have finished arrive whole. What the peer asks for from then on gets no answer before the session ends, which is
   * for `close`. Interrupted, it has stopped only to wait, and can be run again.
   */
  readonly drain: Effect.Effect<void>
  /** Succeeds when the peer answers. */
  readonly ping: Effect.Effect<void, SessionClosed>
  /** Ends the session at once, with an error for the peer to see; without one, with code 0. */
  readonly close: (error?: MoqError) => Effect.Effect<void>
  /** Suspends until the session is over, and tells how it ended. */
  readonly closed: Effect.Effect<SessionClosed>
}

/**
 * The service of a session.
 *
 * @category services
 * @since 0.1.0
 */
export const Session: Context.Service<Session, Session> = Context.Service("effect-moq/session/Session")
