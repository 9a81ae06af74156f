/**
 * What a relay has: the tracks that its sessions announce, each received once and given to any number of viewers.
 *
 * **Details**
 *
 * Who publishes a path and who views it are kept apart. Publishers of a path stand in a queue: the first one serves, the
 * others are in reserve. Viewers of a path share one subscription to whoever serves; it closes with the last of them,
 * and one that has finished stays for 10 seconds more, for those who come late. So a viewer keeps the track that it
 * began with, whatever happens to the queue meanwhile.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Duplicate, type FetchError, type RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Announced from "../model/Announced.ts"
import type * as Group from "../model/Group.ts"
import * as Router from "../model/Router.ts"
import * as Routes from "../model/Routes.ts"
import { Share } from "../model/Share.ts"
import * as Subscription from "../model/Subscription.ts"
import type * as Track from "../model/Track.ts"
import type { Session } from "../session/Session.ts"
import type { Metrics } from "./Metrics.ts"

/**
 * The tracks of a relay. It is a router like any other: publish into it, and watch it, without a socket.
 *
 * **Details**
 *
 * `publish` and `add` fail with `Duplicate` when anybody publishes the path already. A session that announces a path
 * which the program itself publishes is kept in reserve. `fetch` looks at what viewers get, and asks the publisher for
 * what is not there: two who ask for the same at the same time are two requests to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Origin extends Router.Router {
  /**
   * Takes in what a session announces, below `root`, for as long as the scope or until the session announces no more.
   *
   * **Details**
   *
   * A path that somebody else publishes already is kept in reserve: when the other goes, the path is announced as ended
   * and as active again, and new viewers get it from here. A path that is too long below `root` is left out.
   *
   * **Gotchas**
   *
   * The session must not offer this same origin to its peer when the peer offers it back: the two would keep each
   * other's tracks alive.
   */
  readonly attach: (session: Session, root: Path.Path) => Effect.Effect<Attached, never, Scope.Scope>
  /**
   * Takes in a source that a session offers, until it is withdrawn: by its publisher (`ended`), which ends it at once, or
   * because the session was lost (`lost`), and then it lingers.
   *
   * @internal
   */
  readonly offer: (source: Offered) => { readonly withdraw: (why: "ended" | "lost") => void }
}

/**
 * What a session announces, as it is taken in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attached {
  /** The paths of the relay that it publishes now. */
  readonly paths: ReadonlyArray<Path.Path>
}

/**
 * A source that a session offers.
 *
 * @internal
 */
export interface Offered extends Router.Source {
  /** The ids of the relays that it came through, the nearest first; none when its publisher is connected to this one. */
  readonly hops: ReadonlyArray<string>
  /** The instance of its publisher, as far as it is known: see `Greeting.instance`. */
  readonly instance: string | undefined
  /** Hears that a newer publisher has taken the path over. */
  readonly onDuplicate: () => void
}

/**
 * What an origin tells of itself: a path has got a publisher or lost it, a track is being received or no longer is.
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
 * Makes an origin for as long as the scope: then its viewers' tracks fail with `Cancelled`, unless they have ended.
 * `onEvent` must not throw.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: {
  readonly onEvent?: ((event: Event) => void) | undefined
  /**
   * Hears which source serves a path from now on; `undefined` when none does. It must not throw.
   *
   * @internal
   */
  readonly onServing?: ((path: Path.Path, source: Offered | undefined) => void) | undefined
  /** How long a path whose publisher was lost waits for it; 5 seconds by default. */
  readonly linger?: Duration.Input | undefined
  /** How many bytes all tracks together may keep; 256 MiB by default. */
  readonly cache?: number | undefined
  /** @internal */
  readonly metrics?: Pick<Metrics, "cache"> | undefined
}): Effect.Effect<Origin, never, Scope.Scope> =>
  Effect.gen(function*() {
    const origin = new OriginImpl(yield* Effect.scope, options?.onEvent ?? (() => {}))
    yield* Effect.addFinalizer(() => Effect.sync(() => origin.close()))
    return origin
  })

// internal

const again = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("30 seconds")])

/** Who publishes a path: the first of `sources` serves, the others wait. There is always one. */
interface Entry {
  readonly path: Path.Path
  readonly sources: Array<Router.Source>
}

class OriginImpl implements Origin {
  readonly scope: Scope.Scope
  readonly onEvent: (event: Event) => void
  readonly registry: Announced.Registry
  readonly routes: Routes.Routes
  readonly entries: Map<string, Entry>
  // what the next viewer of a path gets: those that are no longer here still have viewers, but take no new ones
  readonly shares: Map<string, Share>
  constructor(scope: Scope.Scope, onEvent: (event: Event) => void) {
    this.scope = scope
    this.onEvent = onEvent
    this.registry = new Announced.Registry()
    this.registry.live("marker")
    this.routes = new Routes.Routes()
    this.entries = new Map()
    this.shares = new Map()
  }

  // the router

  get paths(): ReadonlyArray<Path.Path> {
    return Array.from(this.entries.values(), (entry) => entry.path)
  }
  readonly announced: Origin["announced"] = (prefix = Path.empty) => this.registry.announced(prefix)
  get routed(): Stream.Stream<Announced.Announced> {
    return this.routes.registry.announced(Path.empty)
  }
  get route(): Origin["route"] {
    return this.routes.route
  }
  readonly announce: Origin["announce"] = (path) => this.add(Router.fromRoutes(path, this.routes))
  readonly publish: Origin["publish"] = (track) => this.add(Router.fromTrack(track))
  readonly add: Origin["add"] = (source) => {
    const begin = Effect.suspend(() => {
      if (this.entries.has(Path.key(source.path))) {
        return Effect.fail(new Duplicate({ detail: Path.format(source.path) }))
      }
      this.put(source)
      return Effect.void
    })
    return Effect.acquireRelease(
      Effect.andThen(Path.validateTrack(source.path), begin),
      () => Effect.sync(() => this.withdraw(source))
    )
  }
  readonly subscribe: Origin["subscribe"] = (path, options = {}) =>
    Router.rendezvous(path, options, {
      subscribe: (request) => this.view(path, request),
      announced: this.announced
    })
  readonly trackInfo: Origin["trackInfo"] = (path) =>
    Effect.suspend(() => {
      const key = Path.key(path)
      const entry = this.entries.get(key)
      if (entry === undefined) return Router.fromRoutes(path, this.routes).trackInfo
      // what viewers get is known here: asking is for tracks that nobody views, or of which nothing has come yet
      const track = this.shares.get(key)?.track
      return track?.latest === undefined
        ? entry.sources[0]!.trackInfo
        : Effect.succeed({ ...track.info, latest: track.latest })
    })
  readonly fetch: Origin["fetch"] = (path, sequence, options) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend((): Effect.Effect<Group.Group, FetchError, Scope.Scope> => {
        const key = Path.key(path)
        const source = this.entries.get(key)?.sources[0]
        const upstream = Effect.suspend(() =>
          restore((source ?? Router.fromRoutes(path, this.routes)).fetch(sequence, options))
        ).pipe(Effect.catchTag("MoqNotSupportedByPeer", () => Effect.fail(Router.notFound(path))))
        const share = this.shares.get(key)
        if (share?.track === undefined) return upstream
        return Effect.matchEffect(Router.cached(share.track, sequence, options), {
          onFailure: (error) => source === undefined ? Effect.fail(error) : upstream,
          // one that grows goes on for as long as it is held, whoever else leaves
          onSuccess: (group) =>
            Effect.suspend(() => this.shares.get(key) === share ? Effect.as(share.hold(restore), group) : upstream)
        })
      })
    )

  // publishers

  readonly attach = (session: Session, root: Path.Path): Effect.Effect<Attached, never, Scope.Scope> =>
    Effect.suspend(() => {
      const mine = new Map<string, Router.Source>()
      const hear = (event: Announced.Announced): Effect.Effect<void> => {
        if (event._tag === "Live") return Effect.void
        const path = Path.concat(root, event.path)
        const key = Path.key(path)
        if (event._tag === "Ended") {
          const source = mine.get(key)
          mine.delete(key)
          if (source !== undefined) this.withdraw(source)
          return Effect.void
        }
        if (path.length === 0 || !Path.isValid(path)) {
          return Effect.logDebug(`a path is left out, it is empty or too long: ${Path.format(path)}`)
        }
        const source: Router.Source = {
          path,
          subscribe: (request) => session.subscribe(event.path, request),
          trackInfo: session.trackInfo(event.path),
          fetch: (sequence, options) => session.fetch(event.path, sequence, options)
        }
        mine.set(key, source)
        this.put(source)
        return Effect.void
      }
      const gone = Effect.sync(() => {
        mine.forEach((source) => this.withdraw(source))
        mine.clear()
      })
      // a stream that was reset is asked for again, for as long as the session lives
      return Stream.runForEach(session.announced(), hear).pipe(
        Effect.ensuring(gone),
        Effect.tapError((error) => Effect.logDebug(`a session announces no more: ${error.message}`)),
        Effect.retry({ schedule: again, while: (error) => error._tag !== "MoqSessionClosed" }),
        Effect.ignore,
        Effect.forkScoped({ startImmediately: true }),
        Effect.as({
          get paths() {
            return Array.from(mine.values(), (source) => source.path)
          }
        })
      )
    })

  readonly offer = (source: Router.Source) => {
    this.put(source)
    return { withdraw: () => this.withdraw(source) }
  }

  put(source: Router.Source): void {
    const key = Path.key(source.path)
    const entry = this.entries.get(key)
    if (entry !== undefined) return void entry.sources.push(source)
    this.entries.set(key, { path: source.path, sources: [source] })
    this.begin(source.path)
  }

  withdraw(source: Router.Source): void {
    const key = Path.key(source.path)
    const entry = this.entries.get(key)
    const at = entry?.sources.indexOf(source) ?? -1
    if (entry === undefined || at < 0) return
    entry.sources.splice(at, 1)
    if (at > 0) return
    if (entry.sources.length === 0) this.entries.delete(key)
    this.registry.remove(entry.path)
    this.onEvent({ _tag: "Ended", path: entry.path })
    if (entry.sources.length > 0) this.begin(entry.path)
  }

  // a path has a publisher, or another one: what is left of the track of the one before is not what this one sends
  begin(path: Path.Path): void {
    this.shares.get(Path.key(path))?.retire()
    this.registry.add(path)
    this.onEvent({ _tag: "Announced", path })
  }

  // viewers

  view(
    path: Path.Path,
    request: Subscription.Request
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    const { from } = request
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const key = Path.key(path)
        const current = this.shares.get(key)
        const source = this.entries.get(key)?.sources[0]
        // when its publisher has gone, what there is of a track is all that there will be: for those who were told of it
        // and come late, not for those who want to be live
        const isWanted = source === undefined ? from !== "latest" : current?.covers(from)
        if (current !== undefined && isWanted) return current.hold(restore)
        return source === undefined
          ? restore(Router.fromRoutes(path, this.routes).subscribe(request))
          : this.share(key, source, from).hold(restore)
      })
    ).pipe(Effect.map((track) => Subscription.make(track, request)))
  }

  // in place of the current one, if any: its viewers keep that
  share(key: string, source: Router.Source, from: Track.Start): Share {
    const share: Share = new Share({
      scope: this.scope,
      open: this.receive(source, from),
      from,
      linger,
      onRetire: () => {
        if (this.shares.get(key) === share) this.shares.delete(key)
      }
    })
    this.shares.get(key)?.retire()
    this.shares.set(key, share)
    return share
  }

  // Without an end: the next viewer may want more than the first. And without preferences: those of viewers differ, and
  // then the publisher's own count, which is what one that names none asks for.
  receive(source: Router.Source, from: Track.Start): Effect.Effect<Track.Track, RequestError, Scope.Scope> {
    const { path } = source
    return Effect.gen({ self: this }, function*() {
      const track = yield* source.subscribe({ from })
      this.onEvent({ _tag: "UpstreamOpened", path })
      yield* Effect.addFinalizer(() => Effect.sync(() => this.onEvent({ _tag: "UpstreamClosed", path })))
      return track
    })
  }

  // nothing more comes, and whoever still holds this sees an empty one
  close(): void {
    for (const path of this.paths) this.registry.remove(path)
    this.entries.clear()
    this.registry.end(Exit.void)
  }
}

// how long a track that has finished is still given to those who come late
const linger = "10 seconds"
