/**
 * Tracks that are made when somebody asks for them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { Duplicate, type PublishError, type RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Announced from "./Announced.ts"
import { Share } from "./Share.ts"
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
  readonly registry: Announced.Registry
  readonly routes: Map<string, Route>
  constructor() {
    this.registry = new Announced.Registry()
    this.registry.live("marker")
    this.routes = new Map()
  }
  readonly route = (prefix: Path.Path, serve: Serve): Effect.Effect<void, PublishError, Scope.Scope> => {
    const key = Path.key(prefix)
    const begin = Effect.suspend(() => {
      if (this.routes.has(key)) return Effect.fail(new Duplicate({ detail: `a route of ${Path.format(prefix)}` }))
      const route = new Route(serve)
      this.routes.set(key, route)
      this.registry.add(prefix)
      return Effect.succeed(route)
    })
    return Effect.asVoid(Effect.acquireRelease(
      Effect.andThen(Path.validate(prefix), begin),
      (route, exit) => {
        this.routes.delete(key)
        this.registry.remove(prefix)
        return Scope.close(route.scope, exit)
      }
    ))
  }
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
    const key = Path.key(path)
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => (this.shares.get(key) ?? this.share(key, path)).hold(restore))
    )
  }
  share(key: string, path: Path.Path): Share {
    const share: Share = new Share({
      scope: this.scope,
      open: Effect.suspend(() => this.serve(path)),
      from: 0,
      onRetire: () => {
        if (this.shares.get(key) === share) this.shares.delete(key)
      }
    })
    this.shares.set(key, share)
    return share
  }
}
