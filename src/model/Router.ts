/**
 * Who has which track: the meeting point of those who publish and those who subscribe, in one process.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Evicted, type FetchError, NotFound, type PublishError, type RequestError } from "../core/MoqError.ts"
import { inOwnScope, withOwnScope } from "../core/OwnScope.ts"
import * as Path from "../core/Path.ts"
import type { Priority } from "../core/Priority.ts"
import { Turns } from "../core/Turns.ts"
import * as Announced from "./Announced.ts"
import * as Group from "./Group.ts"
import * as Routes from "./Routes.ts"
import * as Subscription from "./Subscription.ts"
import * as Track from "./Track.ts"

/**
 * What is known of a track without reading it.
 *
 * @category models
 * @since 0.1.0
 */
export interface TrackState extends Track.TrackInfo {
  /** The highest sequence so far; `undefined` before the first group, as far as the protocol can tell. */
  readonly latest: number | undefined
}

/**
 * Where the track of one path comes from.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  readonly path: Path.Path
  /** Gives the track for as long as the scope. */
  readonly subscribe: (
    request: Subscription.Request
  ) => Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope>
  readonly trackInfo: Effect.Effect<TrackState, RequestError>
  /** Gives one group for as long as the scope: see {@link Subscribable}. */
  readonly fetch: (sequence: number, options?: FetchOptions) => Effect.Effect<Group.Group, FetchError, Scope.Scope>
}

/**
 * How to fetch a group.
 *
 * @category models
 * @since 0.1.0
 */
export interface FetchOptions {
  /** The index of the first frame wanted; 0 by default. */
  readonly frame?: number | undefined
  /** How much it matters beside others on its way: -128..127, higher first; 0 by default. */
  readonly priority?: Priority | undefined
}

/**
 * Something that one can subscribe to: a router, or a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscribable<out E = never> {
  /**
   * Gives the track of a path for as long as the scope. Fails with {@link NotFound} when nobody publishes it, and as its
   * source does.
   */
  readonly subscribe: (
    path: Path.Path,
    options?: Subscription.Options
  ) => Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope>
  /** What is known of a track, without subscribing. Fails as `subscribe` does. */
  readonly trackInfo: (path: Path.Path) => Effect.Effect<TrackState, RequestError>
  /**
   * Gives one group that is still cached, from a frame on, for as long as the scope; one that is still being written
   * goes on. Fails with {@link NotFound} when nobody has it, with {@link Evicted} when it, or the frame, is gone, and as
   * its source does.
   */
  readonly fetch: (
    path: Path.Path,
    sequence: number,
    options?: FetchOptions
  ) => Effect.Effect<Group.Group, FetchError, Scope.Scope>
  /** The tracks below a prefix (all of them by default): those that are there, `Live`, then the changes. */
  readonly announced: (prefix?: Path.Path) => Stream.Stream<Announced.Announced, E>
}

/**
 * A registry of tracks by path.
 *
 * @category models
 * @since 0.1.0
 */
export interface Router extends Subscribable {
  /**
   * Offers a track under its own path for as long as the scope. Fails with `Duplicate` when the path is taken, with
   * `BoundsExceeded` when it is empty or too long.
   */
  readonly publish: (track: Track.Track) => Effect.Effect<void, PublishError, Scope.Scope>
  /** Offers whatever a source gives for its path, for as long as the scope. Fails as `publish` does. */
  readonly add: (source: Source) => Effect.Effect<void, PublishError, Scope.Scope>
  /**
   * Makes tracks on demand, for as long as the scope: who asks for a path at or below `prefix` that nobody publishes gets
   * what `serve` makes of the path. The first one makes the track, others share it, and its scope closes with the last
   * of them. Of several routes that fit, the one with the longest prefix serves. It announces nothing: see `announce`.
   *
   * Fails with `Duplicate` when the prefix has a route, with `BoundsExceeded` when it is too long.
   */
  readonly route: (
    prefix: Path.Path,
    serve: (path: Path.Path) => Effect.Effect<Track.Track, RequestError, Scope.Scope>
  ) => Effect.Effect<void, PublishError, Scope.Scope>
  /**
   * Announces a path for as long as the scope, without offering a track: for one that a route makes. Fails as `publish`
   * does.
   */
  readonly announce: (path: Path.Path) => Effect.Effect<void, PublishError, Scope.Scope>
  /** The paths that are there now. */
  readonly paths: ReadonlyArray<Path.Path>
  /** The prefixes that have a route: those that are there, `Live`, then the changes. */
  readonly routed: Stream.Stream<Announced.Announced>
}

/**
 * Makes an empty router.
 *
 * **Example** (Tracks that are published, and tracks that are made on demand)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Router, Track } from "effect-moq"
 *
 * const program = Effect.gen(function*() {
 *   const router = yield* Router.make
 *   const clock = yield* Track.make(["room", "clock"])
 *   yield* router.publish(clock.track)
 *   yield* router.route(["echo"], (path) => Effect.map(Track.make(path), (echo) => echo.track))
 *   return yield* router.subscribe(["echo", "hello"], { wait: "1 second" })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Router> = Effect.sync(() => new RouterImpl())

/**
 * Offers in one router everything that another has, its routes included, now and later, for as long as the scope.
 *
 * **Details**
 *
 * Fails with `Duplicate` when a path or the prefix of a route that is there at the beginning is taken. One that
 * comes later and is taken is left out, with a warning on the console, until it becomes free.
 *
 * **Gotchas**
 *
 * Two routers that include each other keep each other's tracks alive.
 *
 * @category combinators
 * @since 0.1.0
 */
export const include: (self: Router, that: Router) => Effect.Effect<void, PublishError, Scope.Scope> = (self, that) =>
  inOwnScope(Effect.gen(function*() {
    yield* mirror(that.announced(), self.announced(), (path) =>
      self.add({
        path,
        subscribe: (request) => that.subscribe(path, request),
        trackInfo: that.trackInfo(path),
        fetch: (sequence, options) => that.fetch(path, sequence, options)
      }))
    yield* mirror(that.routed, self.routed, (prefix) => self.route(prefix, (path) => that.subscribe(path, { from: 0 })))
  }))

/**
 * The part of a router below a prefix, seen as a whole: paths are relative to it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const below = (self: Router, prefix: Path.Path): Router => prefix.length === 0 ? self : new Below(self, prefix)

/**
 * Subscribes to a path of `source`, and when nobody publishes it waits for up to `options.wait` until `source`
 * announces it: what the option `wait` of routers and sessions is made of.
 *
 * Fails with {@link NotFound} when nobody publishes the path (in that time), else as `source` does.
 *
 * @category combinators
 * @since 0.1.0
 */
export const rendezvous = <E>(
  path: Path.Path,
  { wait, ...options }: Subscription.Options,
  source: {
    readonly subscribe: (
      request: Subscription.Request
    ) => Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope>
    readonly announced: (prefix: Path.Path) => Stream.Stream<Announced.Announced, E>
  }
): Effect.Effect<Subscription.Subscription, RequestError | E, Scope.Scope> => {
  const first = source.subscribe({ ...options, from: options.from ?? "latest" })
  if (wait === undefined) return first
  // one that has gone again by the time it is asked for: the next announcement is waited for
  const unlessGone = ifNotFound(source.subscribe({ ...options, from: options.from ?? 0 }), Effect.undefined)
  const later = Effect.flatMap(
    wheneverActive(source.announced(path), path, unlessGone),
    (found) => found === undefined ? Effect.fail(notFound(path)) : Effect.succeed(found)
  )
  const inTime = Effect.timeoutOrElse(later, {
    duration: wait,
    orElse: () => Effect.fail(new NotFound({ detail: `nobody has published ${Path.format(path)} in time` }))
  })
  return ifNotFound(first, inTime)
}

/**
 * Gives the source of a local track.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromTrack = (track: Track.Track): Source => {
  Track.keepTakenUnsafe(track)
  return fromEffect(track.path, Effect.succeed(track))
}

/**
 * Gives the source of a track that is made, or found, for whoever asks, for as long as the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEffect = (
  path: Path.Path,
  track: Effect.Effect<Track.Track, RequestError, Scope.Scope>
): Source => ({
  path,
  subscribe: (request) => Effect.map(track, (track) => Subscription.make(track, request)),
  trackInfo: Effect.scoped(Effect.map(track, (track) => ({ ...track.info, latest: track.latest }))),
  fetch: (sequence, options) => inOwnScope(Effect.flatMap(track, (track) => cached(track, sequence, options)))
})

/**
 * Gives a group of a track from its cache, from a frame on. Fails with {@link Evicted} when the group, or the frame, was
 * there and no longer is, else with {@link NotFound}.
 *
 * @category combinators
 * @since 0.1.0
 */
export const cached = (
  track: Track.Track,
  sequence: number,
  { frame = 0 }: FetchOptions = {}
): Effect.Effect<Group.Group, NotFound | Evicted> =>
  Effect.suspend(() => {
    const group = track.group(sequence)
    if (group === undefined) {
      const detail = `group ${sequence} of ${Path.format(track.path)}`
      return Effect.fail(sequence < track.first ? new Evicted({ detail }) : new NotFound({ detail }))
    }
    if (frame < group.first) return Effect.fail(new Evicted({ detail: `frame ${frame} of group ${sequence}` }))
    return Effect.succeed(Group.tail(group, frame))
  })

// internal

const ifNotFound = <A, B, E, R, R2>(
  self: Effect.Effect<A, RequestError, R>,
  then: Effect.Effect<B, E, R2>
): Effect.Effect<A | B, RequestError | E, R | R2> =>
  Effect.catch(
    self,
    (error): Effect.Effect<B, RequestError | E, R2> => error._tag === "MoqNotFound" ? then : Effect.fail(error)
  )

/**
 * The error for a path that nobody publishes.
 *
 * @internal
 */
export const notFound = (path: Path.Path): NotFound => new NotFound({ detail: Path.format(path) })

/**
 * Tries something each time that a path is announced, until it gives a value; `undefined` when nothing is announced any
 * more.
 *
 * @internal
 */
export const wheneverActive = <A, E, R, E2>(
  announced: Stream.Stream<Announced.Announced, E2>,
  path: Path.Path,
  attempt: Effect.Effect<A | undefined, E, R>
): Effect.Effect<A | undefined, E | E2, R> =>
  Effect.suspend(() => {
    let found: A | undefined
    const again = Effect.flatMap(attempt, (value) => {
      found = value
      return value === undefined ? Effect.void : Cause.done()
    })
    return Stream.runForEach(
      announced,
      (event) => event._tag === "Active" && Path.equals(event.path, path) ? again : Effect.void
    ).pipe(Pull.catchDone(() => Effect.void), Effect.map(() => found))
  })

/**
 * The source of a path that has a route; of any other it is one that finds nothing.
 *
 * @internal
 */
export const fromRoutes = (path: Path.Path, routes: Routes.Routes): Source =>
  fromEffect(
    path,
    Effect.flatMap(Path.validateTrack(path), () => routes.find(path) ?? Effect.fail(notFound(path)))
  )

// offers what `theirs` tells of, for as long as it does; what is taken is tried again when `ours` tells that it is free
const mirror = (
  theirs: Stream.Stream<Announced.Announced>,
  ours: Stream.Stream<Announced.Announced>,
  offer: (path: Path.Path) => Effect.Effect<void, PublishError, Scope.Scope>
): Effect.Effect<void, PublishError, Scope.Scope> =>
  Effect.gen(function*() {
    // by path; `undefined` where it is taken
    const offered = new Map<string, Scope.Closeable | undefined>()
    const live = Deferred.makeUnsafe<void, PublishError>()
    const hear = (event: Announced.Announced, isOurs: boolean): Effect.Effect<void, PublishError, Scope.Scope> => {
      if (event._tag === "Live") {
        Deferred.doneUnsafe(live, Exit.void)
        return Effect.void
      }
      const { path } = event
      const key = Path.key(path)
      const own = offered.get(key)
      const isActive = event._tag === "Active"
      if (isOurs ? !isActive && own === undefined && offered.has(key) : isActive && !offered.has(key)) {
        offered.set(key, undefined)
        return withOwnScope((own) =>
          Effect.map(offer(path), () => {
            offered.set(key, own)
          })
        )
      }
      if (isOurs || isActive) return Effect.void
      offered.delete(key)
      return own === undefined ? Effect.void : Scope.close(own, Exit.void)
    }
    // one at a time: what is being offered must not be withdrawn, or offered again, meanwhile
    const inTurn = new Turns()
    const follow = (events: Stream.Stream<Announced.Announced>, isOurs: boolean) =>
      Effect.forkScoped(
        Stream.runForEach(events, (event) =>
          inTurn.take(
            Effect.catch(Effect.suspend(() => hear(event, isOurs)), (error) =>
              // a call of a logger would bring all of Effect's loggers to a page
              Deferred.isDoneUnsafe(live)
                ? Console.warn(`a track is left out: ${error.message}`)
                : Effect.fail(error))
          )),
        { startImmediately: true }
      )
    const followed = yield* follow(theirs, false)
    // where nothing tells that all are there, the end does
    followed.addObserver((exit) => Deferred.doneUnsafe(live, exit))
    yield* Deferred.await(live)
    yield* follow(ours, true)
  })

// every session has one, and many offer nothing
class RouterImpl implements Router {
  private own: Announced.Registry | undefined
  private all: Map<string, Source> | undefined
  private made: Routes.Routes | undefined
  constructor() {
    this.own = undefined
    this.all = undefined
    this.made = undefined
  }
  private get registry(): Announced.Registry {
    if (this.own === undefined) {
      this.own = new Announced.Registry()
      this.own.live("marker")
    }
    return this.own
  }
  private get sources(): Map<string, Source> {
    return this.all ??= new Map()
  }
  private get routes(): Routes.Routes {
    return this.made ??= new Routes.Routes()
  }
  get paths(): ReadonlyArray<Path.Path> {
    return Array.from(this.sources.values(), (source) => source.path)
  }
  get routed(): Stream.Stream<Announced.Announced> {
    return this.routes.registry.announced(Path.empty)
  }
  get route(): Router["route"] {
    return this.routes.route
  }
  readonly announce: Router["announce"] = (path) => this.add(fromRoutes(path, this.routes))
  readonly publish: Router["publish"] = (track) => this.add(fromTrack(track))
  readonly add: Router["add"] = (source) => {
    const { path } = source
    const offered = Effect.suspend(() => Announced.offer(this.registry, this.sources, path, source, Path.format(path)))
    return Effect.asVoid(
      Effect.acquireRelease(Effect.andThen(Path.validateTrack(path), offered), (withdraw) => Effect.sync(withdraw))
    )
  }
  readonly subscribe: Router["subscribe"] = (path, options = {}) =>
    rendezvous(path, options, {
      subscribe: (request) => Effect.suspend(() => this.source(path).subscribe(request)),
      announced: this.announced
    })
  readonly trackInfo: Router["trackInfo"] = (path) => Effect.suspend(() => this.source(path).trackInfo)
  readonly fetch: Router["fetch"] = (path, sequence, options) =>
    Effect.suspend(() => this.source(path).fetch(sequence, options))
  private source(path: Path.Path): Source {
    return this.sources.get(Path.key(path)) ?? fromRoutes(path, this.routes)
  }
  readonly announced: Router["announced"] = (prefix = Path.empty) => this.registry.announced(prefix)
}

class Below implements Router {
  readonly router: Router
  readonly prefix: Path.Path
  constructor(router: Router, prefix: Path.Path) {
    this.router = router
    this.prefix = prefix
  }
  full(path: Path.Path): Path.Path {
    return Path.concat(this.prefix, path)
  }
  rest(path: Path.Path): Path.Path {
    return path.slice(this.prefix.length)
  }
  // of what is below the prefix
  relative(events: Stream.Stream<Announced.Announced>): Stream.Stream<Announced.Announced> {
    return events.pipe(
      Stream.filter((event) => event._tag === "Live" || Path.hasPrefix(event.path, this.prefix)),
      Stream.map((event) => {
        if (event._tag === "Live") return event
        const make = event._tag === "Active" ? Announced.active : Announced.ended
        return make(this.rest(event.path))
      })
    )
  }
  get paths(): ReadonlyArray<Path.Path> {
    return this.router.paths.flatMap((path) => Path.hasPrefix(path, this.prefix) ? [this.rest(path)] : [])
  }
  get routed(): Stream.Stream<Announced.Announced> {
    return this.relative(this.router.routed)
  }
  readonly publish: Router["publish"] = (track) => this.add(fromTrack(track))
  readonly add: Router["add"] = (source) =>
    Effect.andThen(
      Path.validateTrack(source.path),
      this.router.add({
        path: this.full(source.path),
        subscribe: (request) => source.subscribe(request),
        trackInfo: source.trackInfo,
        fetch: (sequence, options) => source.fetch(sequence, options)
      })
    )
  readonly route: Router["route"] = (prefix, serve) =>
    this.router.route(this.full(prefix), (path) => serve(this.rest(path)))
  readonly announce: Router["announce"] = (path) =>
    Effect.andThen(Path.validateTrack(path), this.router.announce(this.full(path)))
  readonly subscribe: Router["subscribe"] = (path, options) => this.router.subscribe(this.full(path), options)
  readonly trackInfo: Router["trackInfo"] = (path) => this.router.trackInfo(this.full(path))
  readonly fetch: Router["fetch"] = (path, sequence, options) => this.router.fetch(this.full(path), sequence, options)
  readonly announced: Router["announced"] = (prefix = Path.empty) =>
    this.relative(this.router.announced(this.full(prefix)))
}
