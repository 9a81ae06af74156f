/**
 * A relay: takes in what its sessions publish and fans it out to all who subscribe, without looking inside.
 *
 * **Example** (A relay in your own program)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { NodeTransport } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 *
 * const RelayLayer = Relay.layer({ limits: { sessions: 500 } }).pipe(
 *   Layer.provide(NodeTransport.layerServer({ port: 4443, tls: { generate: ["localhost"] } }))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Take from "effect/Take"
import { type SessionClosed, type Timeout, Unauthorized } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Router from "../model/Router.ts"
import * as SessionLimits from "../session/Limits.ts"
import { within } from "../session/MessageStream.ts"
import type * as Monitor from "../session/Monitor.ts"
import { end } from "../session/Peer.ts"
import { closedHere } from "../session/Requests.ts"
import * as Session from "../session/Session.ts"
import * as Transport from "../transport/Transport.ts"
import * as Admission from "./Admission.ts"
import * as Authenticator from "./Authenticator.ts"
import * as Cluster from "./Cluster.ts"
import * as Guest from "./Guest.ts"
import * as Metrics from "./Metrics.ts"
import * as Origin from "./Origin.ts"
import * as Tracing from "./Tracing.ts"

/**
 * What can be chosen of a relay.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Limits other than the defaults. */
  readonly limits?: Partial<Limits> | undefined
  /** The versions and limits of its sessions. */
  readonly session?: Omit<Session.Options, "router" | "greeting" | "monitor"> | undefined
  /**
   * How long the tracks of a publisher that was lost wait for it to come back, announced as before; 5 seconds by default, 0
   * for not at all.
   */
  readonly linger?: Duration.Input | undefined
  /** Other relays, to be a client of: see `effect-moq/relay/Cluster`. */
  readonly upstreams?: ReadonlyArray<Cluster.Upstream> | undefined
}

/**
 * The limits of a relay, over all its sessions. All of them are on by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits extends Admission.Limits {
  /** How many bytes all tracks together may keep, the oldest groups go first; 256 MiB by default. */
  readonly cache: number
}

/**
 * Something that happened in a relay. `session` numbers its sessions from 1. A session that is refused, or whose
 * handshake fails, is never opened; each one that is opened is closed. `LimitBroken` tells of the first time that a
 * session breaks a limit.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | Origin.Event
  | Cluster.Event
  | {
    readonly _tag: "SessionOpened"
    readonly session: number
    readonly root: Path.Path
    readonly transport: Transport.TransportName
    readonly peer: string | undefined
  }
  | {
    readonly _tag: "SessionClosed"
    readonly session: number
    readonly code: number
    readonly reason: string
    readonly by: SessionClosed["by"]
  }
  | {
    readonly _tag: "SessionRefused"
    readonly why: Refusal
    readonly reason: string
    readonly peer: string | undefined
  }
  | {
    readonly _tag: "LimitBroken"
    /** None during the handshake. */
    readonly session: number | undefined
    readonly limit: Monitor.Limit
    readonly peer: string | undefined
  }

/**
 * Why a client got no session: a limit of the relay, its URL, the relay is about to end, it is not allowed to, or the
 * handshake failed.
 *
 * @category models
 * @since 0.1.0
 */
export type Refusal = keyof Admission.Limits | "url" | "draining" | "unauthorized" | "handshake"

/**
 * What there is to know of an open session.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionState {
  readonly session: number
  readonly root: Path.Path
  readonly transport: Transport.TransportName
  readonly peer: string | undefined
  readonly profile: Session.Session["profile"]
  /** It is another relay. */
  readonly isRelay: boolean
  /** When it was opened, in milliseconds since 1970. */
  readonly since: number
  /** The paths that it publishes. */
  readonly publishing: ReadonlyArray<Path.Path>
  /** The paths that it subscribes to, one for each subscription. */
  readonly watching: ReadonlyArray<Path.Path>
}

/**
 * Who publishes a track, and who watches it.
 *
 * @category models
 * @since 0.1.0
 */
export interface TrackState {
  readonly path: Path.Path
  /**
   * Who serves it now: a session by its number, another relay that this one is a client of, or the program itself. None
   * while it lingers, and when it is watched although it is not announced (any more).
   */
  readonly publisher:
    | { readonly _tag: "Session"; readonly session: number }
    | { readonly _tag: "Upstream"; readonly url: string }
    | { readonly _tag: "Program" }
    | undefined
  /** The ids of the relays that it came through, the nearest first. */
  readonly hops: ReadonlyArray<string>
  /** The sessions that watch it, by their numbers, one for each subscription. */
  readonly watchers: ReadonlyArray<number>
}

/**
 * A client without a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Visitor {
  readonly router: Router.Router
  readonly grant: Authenticator.Grant
}

/**
 * A running relay.
 *
 * @category services
 * @since 0.1.0
 */
export interface Relay {
  /** The tracks that it has. */
  readonly origin: Origin.Origin
  /** URLs at which it is reached, the one to print first. */
  readonly urls: ReadonlyArray<string>
  /** How many sessions are open, those included that are still shaking hands. */
  readonly sessions: Effect.Effect<number>
  /** What there is to know of the sessions that are open, in the order in which they were opened. */
  readonly state: Effect.Effect<ReadonlyArray<SessionState>>
  /** The tracks that are announced, and those that are watched, with who publishes and who watches them. */
  readonly tree: Effect.Effect<ReadonlyArray<TrackState>>
  /**
   * What a client may see without a session, such as one that asks by HTTP: the tracks that are granted to it, by their
   * paths in the relay. Fails with `Unauthorized` when it may do nothing at or around `root`, with `Timeout` when the
   * `Authenticator` takes too long.
   */
  readonly visit: (client: Authenticator.Client) => Effect.Effect<Visitor, Unauthorized | Timeout>
  /**
   * Other limits and options for the sessions that are opened from now on: those that are open keep theirs. `limits.cache`
   * stays as it is.
   */
  readonly configure: (options: Pick<Options, "limits" | "session">) => Effect.Effect<void>
  /** Whether it takes new sessions: until it drains. */
  readonly ready: Effect.Effect<boolean>
  /**
   * Takes no more sessions, lets groups that have begun come to their end for as long as `session.limits.drain` at most,
   * then closes all sessions with code 0. Publishers go on to write these groups meanwhile. Interrupted, it has closed
   * nothing, and can be run again.
   */
  readonly drain: Effect.Effect<void>
  /**
   * What happens, from now on until the relay closes. A reader that falls 1,024 events behind misses some: for counts
   * that must be right, ask `sessions`.
   */
  readonly events: Stream.Stream<Event>
}

/**
 * The service of a relay.
 *
 * @category services
 * @since 0.1.0
 */
export const Relay: Context.Service<Relay, Relay> = Context.Service("effect-moq/relay/Relay")

/**
 * Runs a relay for as long as the scope. A session's URL path is its root: its paths are relative to it. What a session
 * may do, the `Authenticator` says; without one, everybody may do everything. With upstreams it needs a `Transport` to
 * connect to them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  (
    options: Options & { readonly upstreams: ReadonlyArray<Cluster.Upstream> }
  ): Effect.Effect<Relay, never, Transport.TransportServer | Transport.Transport | Scope.Scope>
  (options?: Options): Effect.Effect<Relay, never, Transport.TransportServer | Scope.Scope>
} = Effect.fnUntraced(function*(options?: Options) {
  const server = yield* Transport.TransportServer
  const authenticator = yield* Authenticator.Authenticator
  const events = yield* PubSub.sliding<Take.Take<Event>>(1024)
  yield* Effect.addFinalizer(() => PubSub.end(events, Exit.void))
  const tell = (event: Event): void => void PubSub.publishUnsafe(events, [event])
  const metrics = yield* Metrics.make
  const tracing = yield* Tracing.make
  const cluster = yield* Cluster.make({
    tracing,
    onEvent: (event) => {
      metrics.upstream(event)
      tell(event)
    }
  })
  const serving = new Map<string, Origin.Offered>()
  const origin = yield* Origin.make({
    onEvent: tell,
    onServing: (path, source) => {
      if (source === undefined) serving.delete(Path.key(path))
      else serving.set(Path.key(path), source)
      cluster.onServing(path, source)
    },
    linger: options?.linger,
    cache: options?.limits?.cache,
    metrics
  })
  const admission = yield* Admission.Admission.make(options?.limits)
  const clock = yield* Clock.Clock
  const connections = new Set<Transport.Connection>()
  const sessions = new Map<number, Open>()
  let sessionOptions = options?.session
  let opened = 0
  let isReady = true
  const authenticate = (client: Authenticator.Client) =>
    within(sessionOptions?.limits?.setup ?? SessionLimits.defaults.setup, "nobody has said what the client may do")(
      grantOf(authenticator, client)
    )

  const serve = Effect.fnUntraced(function*(client: Authenticator.Client, request: Transport.Request) {
    const { peer, root, transport } = client
    const trace = yield* tracing.session("server", root, { "moq.transport": transport })
    const grant = yield* Effect.result(authenticate(client))
    if (!isReady) return yield* refuse(request, 503, "draining", ending)
    if (Result.isFailure(grant) && grant.failure._tag === "MoqTimeout") {
      return yield* refuse(request, 503, "handshake", grant.failure.message)
    }
    const connection = yield* Effect.acquireRelease(
      Effect.tap(request.accept, (connection) =>
        Effect.suspend(() => {
          connections.add(connection)
          // one that came in while the others were closed
          return isReady ? Effect.void : connection.close(0, ending)
        })),
      (connection) => Effect.sync(() => connections.delete(connection)),
      { interruptible: true }
    )
    if (Result.isFailure(grant)) {
      metrics.unauthorized()
      yield* end(connection, grant.failure)
      return yield* grant.failure
    }
    const broken = new Set<Monitor.Limit>()
    let number: number | undefined
    const limit = (limit: Monitor.Limit): void => {
      metrics.monitor.limit(limit)
      if (broken.has(limit)) return
      broken.add(limit)
      tell({ _tag: "LimitBroken", session: number, limit, peer })
    }
    const guest = Guest.make(origin, { root, grant: grant.success, onLimit: () => limit("subscriptions") })
    const outlook = cluster.outlook(trace.router(guest.router), { root, prefixes: grant.success.subscribe })
    const accepted = yield* trace.within(Session.accept(connection, {
      ...sessionOptions,
      router: outlook,
      greeting: cluster.greeting,
      monitor: { ...metrics.monitor, limit }
    }))
    // it took its time
    if (!isReady) {
      refused("draining", ending, peer)
      return yield* connection.close(0, ending)
    }
    number = ++opened
    const session = trace.opened(accepted, { "moq.session": number })
    const since = clock.currentTimeMillisUnsafe()
    let closed = closedHere
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        metrics.session(1, transport)
        tell({ _tag: "SessionOpened", session: number, root, transport, peer })
      }),
      () =>
        Effect.sync(() => {
          metrics.session(-1, transport)
          const { by, code, reason } = closed
          tell({ _tag: "SessionClosed", session: number, code, reason, by })
        })
    )
    const attached = yield* cluster.attach(origin, session, { root, prefixes: grant.success.publish, outlook })
    yield* Effect.acquireRelease(
      Effect.sync(() => sessions.set(number, { session, guest, attached, root, since, transport, peer })),
      () => Effect.sync(() => sessions.delete(number))
    )
    const { expires } = grant.success
    if (expires !== undefined) yield* Effect.forkScoped(expire(session, expires, clock))
    closed = yield* session.closed
    yield* trace.closed(closed)
  }, Effect.scoped)

  const refused = (why: Refusal, reason: string, peer: string | undefined): void => {
    metrics.refused(why)
    tell({ _tag: "SessionRefused", why, reason, peer })
  }

  const refuse = (request: Transport.Request, status: number, why: Refusal, reason: string): Effect.Effect<void> => {
    refused(why, reason, request.peer)
    return request.refuse(status)
  }

  const receive = (request: Transport.Request): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { headers, peer, transport, url } = request
      const root = rootOf(url.pathname)
      if (root === undefined) return refuse(request, 400, "url", "the path of the URL is malformed or too long")
      if (!isReady) return refuse(request, 503, "draining", ending)
      const place = admission.enter(peer)
      if (!("leave" in place)) {
        return refuse(request, place.status, place.limit, place.error.message)
      }
      return serve({ url, root, headers, peer, transport }, request).pipe(
        Effect.catch((error) =>
          Effect.sync(() =>
            refused(error._tag === "MoqUnauthorized" ? "unauthorized" : "handshake", error.message, peer)
          )
        ),
        // who has been let in is closed already
        Effect.onError((cause) => Cause.hasDies(cause) ? request.refuse(500) : Effect.void),
        Effect.ensuring(Effect.sync(() => place.leave()))
      )
    }).pipe(
      // a bug that one session runs into is not the end of the others
      Effect.catchDefect((defect) => Effect.logError("a session of the relay died", defect))
    )

  yield* server.requests.pipe(
    Stream.mapEffect(receive, { concurrency: "unbounded", unordered: true }),
    Stream.runDrain,
    Effect.tapDefect((defect) => Effect.logError("the relay takes no more sessions", defect)),
    Effect.forkScoped
  )
  yield* cluster.connect(origin, options?.upstreams ?? [], { ...options?.session, monitor: metrics.monitor })

  // all sessions at once, before one hears from another that its tracks have gone
  const close = (reason: string) =>
    Effect.suspend(() =>
      Effect.forEach(connections, (connection) => connection.close(0, reason), {
        concurrency: "unbounded",
        discard: true
      })
    )
  yield* Effect.addFinalizer(() => close(""))

  return {
    origin,
    get urls() {
      return server.urls
    },
    sessions: Effect.sync(() => admission.open),
    state: Effect.sync(() => Array.from(sessions, ([session, open]) => stateOf(session, open))),
    tree: Effect.sync(() => treeOf(origin, serving, sessions, cluster.urlOf)),
    visit: (client) =>
      authenticate(client).pipe(
        Effect.tapError(({ _tag }) => Effect.sync(() => _tag === "MoqUnauthorized" && metrics.unauthorized())),
        Effect.map((grant) => ({ router: Guest.make(origin, { root: Path.empty, grant }).router, grant }))
      ),
    configure: ({ limits, session }) =>
      Effect.sync(() => {
        admission.limits = { ...admission.limits, ...limits }
        sessionOptions = { ...sessionOptions, ...session }
      }),
    ready: Effect.sync(() => isReady),
    drain: Effect.suspend(() => {
      isReady = false
      const drains = Array.from(sessions.values(), ({ session }) => session.drain)
      // what clients still get may come from upstreams
      return Effect.all([...drains, cluster.drain], { concurrency: "unbounded", discard: true }).pipe(
        Effect.andThen(Effect.all([close(ending), cluster.close], { concurrency: "unbounded", discard: true }))
      )
    }),
    events: Stream.fromPubSubTake(events)
  }
})

/**
 * The relay of {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: {
  (
    options: Options & { readonly upstreams: ReadonlyArray<Cluster.Upstream> }
  ): Layer.Layer<Relay, never, Transport.TransportServer | Transport.Transport>
  (options?: Options): Layer.Layer<Relay, never, Transport.TransportServer>
} = (options?: Options) => Layer.effect(Relay, make(options))

// internal

interface Open {
  readonly session: Session.Session
  readonly guest: Guest.Guest
  readonly attached: Origin.Attached
  readonly root: Path.Path
  readonly since: number
  readonly transport: Transport.TransportName
  readonly peer: string | undefined
}

const stateOf = (number: number, { attached, guest, peer, root, session, since, transport }: Open): SessionState => ({
  session: number,
  root,
  transport,
  peer,
  profile: session.profile,
  isRelay: session.greeting.isRelay === true,
  since,
  publishing: attached.paths,
  watching: guest.watching
})

const treeOf = (
  origin: Origin.Origin,
  serving: ReadonlyMap<string, Origin.Offered>,
  sessions: ReadonlyMap<number, Open>,
  urlOf: Cluster.Cluster["urlOf"]
): ReadonlyArray<TrackState> => {
  const numbers = new Map(Array.from(sessions, ([number, { session }]) => [session, number]))
  const tracks = new Map<string, { readonly state: TrackState; readonly watchers: Array<number> }>()
  const track = (path: Path.Path, publisher: TrackState["publisher"], hops: ReadonlyArray<string>) => {
    const watchers: Array<number> = []
    const track = { state: { path, publisher, hops, watchers }, watchers }
    tracks.set(Path.key(path), track)
    return track
  }
  for (const path of origin.paths) {
    const { hops = [], session } = serving.get(Path.key(path)) ?? {}
    const number = session && numbers.get(session)
    const url = session && urlOf(session)
    track(
      path,
      session === undefined
        ? { _tag: "Program" }
        : number !== undefined
        ? { _tag: "Session", session: number }
        : url === undefined
        ? undefined
        : { _tag: "Upstream", url },
      hops
    )
  }
  for (const [number, { guest }] of sessions) {
    for (const path of guest.watching) (tracks.get(Path.key(path)) ?? track(path, undefined, [])).watchers.push(number)
  }
  return Array.from(tracks.values(), ({ state }) => state)
}

// what neither publishes nor subscribes anything at or below its root, or above it, has nothing to do here
const grantOf = (
  { authenticate }: Authenticator.Authenticator,
  client: Authenticator.Client
): Effect.Effect<Authenticator.Grant, Unauthorized> =>
  Effect.filterOrFail(
    authenticate(client),
    ({ publish, subscribe }) =>
      [...publish, ...subscribe].some((prefix) =>
        Path.hasPrefix(prefix, client.root) || Path.hasPrefix(client.root, prefix)
      ),
    () => new Unauthorized({ detail: `nothing below ${Path.format(client.root)} is allowed` })
  )

// A token that is good for years outlasts what a timer can count.
const expire = (session: Session.Session, expires: number, clock: Clock.Clock): Effect.Effect<void> =>
  Effect.suspend(() => {
    const left = expires - clock.currentTimeMillisUnsafe()
    // what is no number has expired
    return left > 0
      ? Effect.andThen(Effect.sleep(Math.min(left, longest)), expire(session, expires, clock))
      : session.close(new Unauthorized({ detail: "what allowed this session has expired" }))
  })

const ending = "the relay ends"

const longest = 24 * 60 * 60 * 1000

/**
 * The path that a URL's stands for: percent-decoded part by part, empty parts are dropped.
 *
 * @internal
 */
export const rootOf = (pathname: string): Path.Path | undefined => {
  try {
    const root = Path.fromString(pathname).map(decodeURIComponent)
    return Path.isValid(root) ? root : undefined
  } catch {
    return undefined
  }
}
