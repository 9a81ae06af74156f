/**
 * Relays that serve each other's tracks.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Path from "../core/Path.ts"
import type * as Router from "../model/Router.ts"
import type * as Session from "../session/Session.ts"
import type * as Origin from "./Origin.ts"

/**
 * Another relay, to be a client of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Upstream {
  /**
   * Where it is: a URL, whose path is its part that is served here, or an effect that gives it, run before each attempt.
   * Its query may hold a token.
   */
  readonly url: Session.Target
}

/**
 * What happens to the sessions with upstreams. `url` is without its query.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | { readonly _tag: "RelayConnected"; readonly url: string }
  | {
    readonly _tag: "RelayLost"
    readonly url: string
    readonly reason: string
    readonly retryIn: number | undefined
  }

/** @internal */
export interface Cluster {
  /** Hears which source serves a path from now on; `undefined` when none does. */
  readonly onServing: (path: Path.Path, source: Origin.Offered | undefined) => void
  /** What this relay says of itself. */
  readonly greeting: NonNullable<Session.Options["greeting"]>
  /** What a session is served from: what a guest sees, and for a relay what it may pass on. */
  readonly router: (guest: Router.Router) => Router.Router
  /** Takes in what a session announces below its prefixes, for as long as the scope. */
  readonly attach: (
    origin: Origin.Origin,
    session: Session.Session,
    options: { readonly root: Path.Path; readonly prefixes: ReadonlyArray<Path.Path> }
  ) => Effect.Effect<Origin.Attached, never, Scope.Scope>
  /** Is a client of other relays for as long as the scope. */
  readonly connect: (
    origin: Origin.Origin,
    upstreams: ReadonlyArray<Upstream>,
    options: Session.Options | undefined
  ) => Effect.Effect<void, never, Scope.Scope>
}

/** @internal */
export const make = (_options: { readonly onEvent: (event: Event) => void }): Effect.Effect<Cluster> =>
  Effect.succeed({
    onServing: () => {},
    greeting: {},
    router: (guest) => guest,
    attach: (origin, session, options) => origin.attach(session, options.root),
    connect: () => Effect.void
  })
