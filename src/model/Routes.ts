/**
 * Tracks that are made when somebody asks for them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { PublishError, RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import { offer, Registry } from "./Announced.ts"
import { holdIn, Share } from "./Share.ts"
import type * as Track from "./Track.ts"

/**
 * Makes the track of a path, for as long as the scope.
 *
 * @internal
 */
export type Serve = (path: Path.Path) => Effect.Effect<Track.Track, RequestError, Scope.Scope>

/**
 * Which prefix is served by what, and the tracks that have been made and are still held by somebody.
 *
 * @internal
 */
export class Routes {
  readonly registry: Registry
  readonly routes: Map<string, Route>
  constructor() {
    this.registry = new Registry()
    this.registry.live("marker")
    this.routes = new Map()
  }
  readonly route = (prefix: Path.Path, serve: Serve): Effect.Effect<void, PublishError, Scope.Scope> =>
    Effect.suspend(() => {
      const route = new Route(serve)
      const detail = `a route of ${Path.format(prefix)}`
      return Effect.asVoid(Effect.acquireRelease(
        Effect.andThen(Path.validate(prefix), offer(this.registry, this.routes, prefix, route, detail)),
        (withdraw, exit) => {
          withdraw()
          return Scope.close(route.scope, exit)
        }
      ))
    })
  /** What gives the track of a path for as long as the scope; `undefined` without a route for it. */
  find(path: Path.Path): Effect.Effect<Track.Track, RequestError, Scope.Scope> | undefined {
    if (this.routes.size === 0) return undefined
    for (let length = path.length; length >= 0; length--) {
      const route = this.routes.get(Path.key(path.slice(0, length)))
      if (route !== undefined) return route.hold(path)
    }
    return undefined
  }
}

// internal

class Route {
  readonly serve: Serve
  readonly scope: Scope.Closeable
  readonly shares: Map<string, Share>
  constructor(serve: Serve) {
    this.serve = serve
    this.scope = Scope.makeUnsafe()
    this.shares = new Map()
  }
  hold(path: Path.Path): Effect.Effect<Track.Track, RequestError, Scope.Scope> {
    const open = Effect.suspend(() => this.serve(path))
    return holdIn(
      this.shares,
      Path.key(path),
      (onRetire) => new Share({ scope: this.scope, open, from: 0, onRetire })
    )
  }
}
