/**
 * What a relay has: the tracks that its sessions announce, each received once and given to any number of viewers.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Duplicate } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Announced from "../model/Announced.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Router from "../model/Router.ts"
import * as Track from "../model/Track.ts"
import type { Session } from "../session/Session.ts"

/**
 * The tracks of a relay. It is a router like any other: publish into it, and watch it, without a socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Origin extends Router.Router {
  /**
   * Takes in what a session announces, below `root`, for as long as the scope. A path that somebody else publishes already
   * is kept in reserve: it takes over when the other goes.
   */
  readonly attach: (session: Session, root: Path.Path) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * What an origin tells of itself.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | { readonly _tag: "Announced"; readonly path: Path.Path }
  | { readonly _tag: "Ended"; readonly path: Path.Path }
  | { readonly _tag: "UpstreamOpened"; readonly path: Path.Path }
  | { readonly _tag: "UpstreamClosed"; readonly path: Path.Path }

/**
 * Makes an origin for as long as the scope. `onEvent` must not throw.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: {
  readonly onEvent?: ((event: Event) => void) | undefined
}): Effect.Effect<Origin, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const router = yield* Router.make
    const origin = new OriginImpl(router, scope, options?.onEvent ?? (() => {}))
    origin.tracks = yield* RcMap.make({ lookup: (key: string) => origin.open(key) })
    return origin
  })

// internal

// how long a track that has finished is still given to those who come late
const linger = "10 seconds"

/** A session that publishes a path; `path` is relative to its root. */
interface Upstream {
  readonly session: Session
  readonly path: Path.Path
}

/** Who publishes a path: the first of `upstreams` serves, the others wait. */
interface Entry {
  readonly path: Path.Path
  readonly upstreams: Array<Upstream>
  readonly scope: Scope.Closeable
}

class OriginImpl implements Origin {
  readonly router: Router.Router
  readonly scope: Scope.Scope
  readonly onEvent: (event: Event) => void
  readonly entries: Map<string, Entry>
  // where the first viewer of a track begins is where its upstream subscription begins
  readonly starts: Map<string, Track.Start>
  declare tracks: RcMap.RcMap<string, Track.Track, ReadError>
  constructor(router: Router.Router, scope: Scope.Scope, onEvent: (event: Event) => void) {
    this.router = router
    this.scope = scope
    this.onEvent = onEvent
    this.entries = new Map()
    this.starts = new Map()
  }

  // the router

  get paths(): ReadonlyArray<Path.Path> {
    return this.router.paths
  }
  readonly announced = (prefix?: Path.Path): Stream.Stream<Announced.Announced> => this.router.announced(prefix)
  readonly publish = (track: Track.Track): Effect.Effect<void, Duplicate, Scope.Scope> => this.router.publish(track)
  readonly add = (source: Router.Source): Effect.Effect<void, Duplicate, Scope.Scope> => this.router.add(source)
  readonly subscribe = (
    path: Path.Path,
    options?: Router.SubscribeOptions
  ): Effect.Effect<Track.Track, ReadError, Scope.Scope> =>
    Router.rendezvous<never>(path, options, {
      subscribe: (from) =>
        Effect.catchTag(
          this.router.subscribe(path, { from }),
          "MoqNotFound",
          (error) => Effect.flatMap(this.finished(path, from), (track) => track ?? Effect.fail(error))
        ),
      announced: this.announced
    })
  readonly trackInfo = (path: Path.Path): Effect.Effect<Router.TrackState, ReadError> => this.router.trackInfo(path)

  // what sessions announce

  readonly attach = (session: Session, root: Path.Path): Effect.Effect<void, never, Scope.Scope> =>
    Effect.gen({ self: this }, function*() {
      const mine = new Map<string, Path.Path>()
      yield* Effect.addFinalizer(() =>
        Effect.forEach(mine.values(), (path) => this.remove(session, root, path), { discard: true })
      )
      const hear = (event: Announced.Announced): Effect.Effect<void> => {
        if (event._tag === "Live") return Effect.void
        const key = Path.key(event.path)
        if (event._tag === "Active") {
          mine.set(key, event.path)
          return this.offer(session, root, event.path)
        }
        mine.delete(key)
        return this.remove(session, root, event.path)
      }
      yield* Effect.forkScoped(
        Effect.catch(
          Stream.runForEach(session.announced(), hear),
          (error) => Effect.logDebug(`no announces from a session any more: ${error.message}`)
        ),
        { startImmediately: true }
      )
    })

  offer(session: Session, root: Path.Path, path: Path.Path): Effect.Effect<void> {
    const full = Path.concat(root, path)
    const key = Path.key(full)
    return Effect.uninterruptible(Effect.gen({ self: this }, function*() {
      const problem = yield* Effect.flip(Path.validate(full)).pipe(Effect.option)
      if (problem._tag === "Some") return yield* Effect.logDebug(`a path is left out: ${problem.value.message}`)
      const entry = this.entries.get(key)
      if (entry !== undefined) return void entry.upstreams.push({ session, path })
      const scope = yield* Scope.fork(this.scope)
      const source: Router.Source = {
        path: full,
        subscribe: (from) => this.share(key, from),
        trackInfo: this.info(key)
      }
      // what is left of a track of this path that had finished is not what its new publisher sends
      yield* RcMap.invalidate(this.tracks, key)
      this.entries.set(key, { path: full, upstreams: [{ session, path }], scope })
      this.onEvent({ _tag: "Announced", path: full })
      yield* Effect.catch(
        Scope.provide(this.router.add(source), scope),
        () => Effect.logWarning(`${Path.format(full)} is published by this relay itself`)
      )
    }))
  }

  remove(session: Session, root: Path.Path, path: Path.Path): Effect.Effect<void> {
    const key = Path.key(Path.concat(root, path))
    return Effect.uninterruptible(Effect.suspend(() => {
      const entry = this.entries.get(key)
      const at = entry?.upstreams.findIndex((upstream) => upstream.session === session) ?? -1
      if (entry === undefined || at < 0) return Effect.void
      entry.upstreams.splice(at, 1)
      if (entry.upstreams.length > 0) return Effect.void
      this.entries.delete(key)
      this.onEvent({ _tag: "Ended", path: entry.path })
      return Scope.close(entry.scope, Exit.void)
    }))
  }

  // one upstream subscription per track

  share(key: string, from: Track.Start): Effect.Effect<Track.Track, ReadError, Scope.Scope> {
    return Effect.suspend(() => {
      this.starts.set(key, from)
      return Effect.map(RcMap.get(this.tracks, key), (track) => Track.from(track, from))
    })
  }

  open(key: string): Effect.Effect<Track.Track, ReadError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const entry = this.entries.get(key)
      const upstream = entry?.upstreams[0]
      if (entry === undefined || upstream === undefined) return yield* Effect.fail(Router.notFound(Path.fromKey(key)))
      const from = this.starts.get(key) ?? "latest"
      this.starts.delete(key)
      const track = yield* upstream.session.subscribe(upstream.path, { from })
      this.onEvent({ _tag: "UpstreamOpened", path: entry.path })
      yield* Effect.addFinalizer(() => Effect.sync(() => this.onEvent({ _tag: "UpstreamClosed", path: entry.path })))
      yield* Effect.forkScoped(Effect.flatMap(track.ended, (end) => this.keep(key, end)))
      return track
    })
  }

  // a track that has finished stays for those who come late; one that has failed is forgotten at once
  keep(key: string, end: Exit.Exit<void, ReadError>): Effect.Effect<void> {
    if (Exit.isFailure(end)) return RcMap.invalidate(this.tracks, key)
    const held = Effect.scoped(Effect.andThen(RcMap.getOption(this.tracks, key), Effect.sleep(linger)))
    return Effect.asVoid(Effect.forkIn(Effect.ignore(held), this.scope, { startImmediately: true }))
  }

  finished(
    path: Path.Path,
    from: Track.Start
  ): Effect.Effect<Effect.Effect<Track.Track> | undefined, ReadError, Scope.Scope> {
    return Effect.map(
      RcMap.getOption(this.tracks, Path.key(path)),
      (found) => found._tag === "Some" ? Effect.succeed(Track.from(found.value, from)) : undefined
    )
  }

  info(key: string): Effect.Effect<Router.TrackState, ReadError> {
    return Effect.suspend(() => {
      const upstream = this.entries.get(key)?.upstreams[0]
      return upstream === undefined
        ? Effect.fail(Router.notFound(Path.fromKey(key)))
        : upstream.session.trackInfo(upstream.path)
    })
  }
}
