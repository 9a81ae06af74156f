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
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Take from "effect/Take"
import type { SessionClosed } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Router from "../model/Router.ts"
import * as Session from "../session/Session.ts"
import * as Transport from "../transport/Transport.ts"
import * as Origin from "./Origin.ts"

/**
 * What can be chosen of a relay.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly limits?: {
    /** How many sessions may be open at once; 1,000 by default. Further ones are refused with status 503. */
    readonly sessions?: number | undefined
  } | undefined
  /** The versions and limits of its sessions. */
  readonly session?: Omit<Session.Options, "router"> | undefined
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
 * Runs a relay for as long as the scope. A session's URL path is its root: its paths are relative to it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  options?: Options
) => Effect.Effect<Relay, never, Transport.TransportServer | Scope.Scope> = Effect.fnUntraced(function*(options) {
  const server = yield* Transport.TransportServer
  const events = yield* PubSub.sliding<Take.Take<Event>>(1024)
  yield* Effect.addFinalizer(() => PubSub.end(events, Exit.void))
  const tell = (event: Event): void => void PubSub.publishUnsafe(events, [event])
  const origin = yield* Origin.make({ onEvent: tell })
  const maxSessions = options?.limits?.sessions ?? 1000
  const connections = new Set<Transport.Connection>()
  let opened = 0
  let open = 0

  const serve = Effect.fnUntraced(function*(request: Transport.Request, root: Path.Path) {
    const connection = yield* Effect.acquireRelease(
      Effect.tap(request.accept, (connection) => Effect.sync(() => connections.add(connection))),
      (connection) => Effect.sync(() => connections.delete(connection)),
      { interruptible: true }
    )
    const session = yield* Session.accept(connection, { ...options?.session, router: Router.below(origin, root) })
    const number = ++opened
    tell({ _tag: "SessionOpened", session: number, root, transport: request.transport, peer: request.peer })
    yield* origin.attach(session, root)
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
      const root = rootOf(request.url)
      if (root === undefined) return refuse(request, 400, "the path of the URL is malformed or too long")
      if (open >= maxSessions) return refuse(request, 503, `${open} sessions are open`)
      open++
      return serve(request, root).pipe(
        Effect.catch((error) =>
          Effect.sync(() => tell({ _tag: "SessionRefused", reason: error.message, peer: request.peer }))
        ),
        // a bug that one session runs into is not the end of the others
        Effect.catchDefect((defect) => Effect.logError("a session of the relay died", defect)),
        Effect.ensuring(Effect.sync(() => open--))
      )
    })

  yield* server.requests.pipe(
    Stream.mapEffect(receive, { concurrency: "unbounded", unordered: true }),
    Stream.runDrain,
    Effect.forkScoped
  )
  // all sessions at once, before one hears from another that its tracks have gone
  yield* Effect.addFinalizer(() =>
    Effect.forEach(connections, (connection) => connection.close(0, ""), { concurrency: "unbounded", discard: true })
  )

  return {
    origin,
    urls: server.urls,
    sessions: Effect.sync(() => open),
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

// percent-decoded part by part; empty parts are dropped
const rootOf = (url: URL): Path.Path | undefined => {
  try {
    const root = Path.fromString(url.pathname).map(decodeURIComponent)
    return Path.isValid(root) ? root : undefined
  } catch {
    return undefined
  }
}
