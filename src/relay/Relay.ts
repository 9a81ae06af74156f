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
import { type SessionClosed, Unauthorized } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import { end } from "../session/Peer.ts"
import * as Session from "../session/Session.ts"
import * as Transport from "../transport/Transport.ts"
import * as Admission from "./Admission.ts"
import * as Authenticator from "./Authenticator.ts"
import * as Cluster from "./Cluster.ts"
import * as Guest from "./Guest.ts"
import * as Metrics from "./Metrics.ts"
import * as Origin from "./Origin.ts"

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
 * handshake fails, is never opened; each one that is opened is closed.
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
  | { readonly _tag: "SessionRefused"; readonly reason: string; readonly peer: string | undefined }

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
  /** Whether it takes new sessions: until it drains. */
  readonly ready: Effect.Effect<boolean>
  /**
   * Takes no more sessions, lets groups that have begun come to their end for as long as `session.limits.drain` at most,
   * then closes all sessions with code 0.
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
 * may do, the `Authenticator` says; without one, everybody may do everything.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  options?: Options
) => Effect.Effect<Relay, never, Transport.TransportServer | Scope.Scope> = Effect.fnUntraced(function*(options) {
  const server = yield* Transport.TransportServer
  const authenticator = yield* Authenticator.Authenticator
  const events = yield* PubSub.sliding<Take.Take<Event>>(1024)
  yield* Effect.addFinalizer(() => PubSub.end(events, Exit.void))
  const tell = (event: Event): void => void PubSub.publishUnsafe(events, [event])
  const metrics = yield* Metrics.make
  const cluster = yield* Cluster.make({ onEvent: tell })
  const origin = yield* Origin.make({
    onEvent: tell,
    onServing: cluster.onServing,
    linger: options?.linger,
    cache: options?.limits?.cache,
    metrics
  })
  const admission = yield* Admission.Admission.make(options?.limits)
  const clock = yield* Clock.Clock
  const connections = new Set<Transport.Connection>()
  const sessions = new Map<number, Open>()
  let opened = 0
  let isReady = true

  const serve = Effect.fnUntraced(function*(client: Authenticator.Client, request: Transport.Request) {
    const { peer, root, transport } = client
    const grant = yield* Effect.result(authenticate(authenticator, client))
    const connection = yield* Effect.acquireRelease(
      Effect.tap(request.accept, (connection) => Effect.sync(() => connections.add(connection))),
      (connection) => Effect.sync(() => connections.delete(connection)),
      { interruptible: true }
    )
    if (Result.isFailure(grant)) {
      metrics.unauthorized()
      yield* end(connection, grant.failure)
      return yield* grant.failure
    }
    const guest = Guest.make(origin, { root, grant: grant.success })
    const session = yield* Session.accept(connection, {
      ...options?.session,
      router: cluster.router(guest.router),
      greeting: cluster.greeting,
      monitor: metrics.monitor
    })
    const number = ++opened
    const since = clock.currentTimeMillisUnsafe()
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        metrics.session(1, transport)
        tell({ _tag: "SessionOpened", session: number, root, transport, peer })
      }),
      () => Effect.sync(() => metrics.session(-1, transport))
    )
    const attached = yield* cluster.attach(origin, session, { root, prefixes: grant.success.publish })
    yield* Effect.acquireRelease(
      Effect.sync(() => sessions.set(number, { session, guest, attached, root, since, transport, peer })),
      () => Effect.sync(() => sessions.delete(number))
    )
    yield* Effect.forkScoped(expire(session, grant.success, clock))
    const { by, code, reason } = yield* Effect.onInterrupt(
      session.closed,
      () => Effect.sync(() => tell({ _tag: "SessionClosed", session: number, code: 0, reason: "", by: "local" }))
    )
    tell({ _tag: "SessionClosed", session: number, code, reason, by })
  }, Effect.scoped)

  const refuse = (request: Transport.Request, status: number, reason: string): Effect.Effect<void> => {
    tell({ _tag: "SessionRefused", reason, peer: request.peer })
    return request.refuse(status)
  }

  const receive = (request: Transport.Request): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { headers, peer, transport, url } = request
      const root = rootOf(url)
      if (root === undefined) return refuse(request, 400, "the path of the URL is malformed or too long")
      if (!isReady) return refuse(request, 503, "the relay is about to end")
      const place = admission.enter(peer)
      if (!("leave" in place)) {
        metrics.refused(place.limit)
        return refuse(request, place.limit === "handshakeRate" ? 429 : 503, place.error.message)
      }
      return serve({ url, root, headers, peer, transport }, request).pipe(
        Effect.catch((error) => Effect.sync(() => tell({ _tag: "SessionRefused", reason: error.message, peer }))),
        // a bug that one session runs into is not the end of the others
        Effect.catchDefect((defect) => Effect.logError("a session of the relay died", defect)),
        Effect.ensuring(Effect.sync(() => place.leave()))
      )
    })

  yield* server.requests.pipe(
    Stream.mapEffect(receive, { concurrency: "unbounded", unordered: true }),
    Stream.runDrain,
    Effect.forkScoped
  )
  yield* cluster.connect(origin, options?.upstreams ?? [], options?.session)

  // all sessions at once, before one hears from another that its tracks have gone
  const close = Effect.suspend(() =>
    Effect.forEach(connections, (connection) => connection.close(0, ""), { concurrency: "unbounded", discard: true })
  )
  yield* Effect.addFinalizer(() => close)

  return {
    origin,
    urls: server.urls,
    sessions: Effect.sync(() => admission.open),
    state: Effect.sync(() => Array.from(sessions, ([session, open]) => stateOf(session, open))),
    ready: Effect.sync(() => isReady),
    drain: Effect.suspend(() => {
      isReady = false
      return Effect.forEach(sessions.values(), ({ session }) => session.drain, {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.andThen(close))
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
export const layer = (options?: Options): Layer.Layer<Relay, never, Transport.TransportServer> =>
  Layer.effect(Relay, make(options))

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

// what neither publishes nor subscribes anything at or below its root, or above it, has nothing to do here
const authenticate = (
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
const expire = (session: Session.Session, { expires }: Authenticator.Grant, clock: Clock.Clock): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (expires === undefined) return Effect.void
    const left = expires - clock.currentTimeMillisUnsafe()
    return left <= 0
      ? session.close(new Unauthorized({ detail: "what allowed this session has expired" }))
      : Effect.andThen(
        Effect.sleep(Math.min(left, longest)),
        expire(session, { publish: [], subscribe: [], expires }, clock)
      )
  })

const longest = 24 * 60 * 60 * 1000

// percent-decoded part by part; empty parts are dropped
const rootOf = (url: URL): Path.Path | undefined => {
  try {
    const root = Path.fromString(url.pathname).map(decodeURIComponent)
    return Path.isValid(root) ? root : undefined
  } catch {
    return undefined
  }
}
