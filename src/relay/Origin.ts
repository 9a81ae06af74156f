/**
 * What a relay has: the tracks that its sessions announce, each received once and given to any number of viewers.
 *
 * **Details**
 *
 * Publishers of a path stand in a queue: the first one serves, the others are in reserve. What the program itself
 * publishes comes first, then what came through the fewest relays, and of equals the newest: one that connects again is
 * there before its old session is missed. Viewers of a path share one subscription to whoever serves; it closes with the
 * last of them, and one that has finished stays for 10 seconds more, for those who come late.
 *
 * A path whose last publisher was lost, rather than ended by it, lingers: it stays announced, its viewers keep their
 * track, and who asks for it waits. When somebody publishes it again, in reserve or in time, the track goes on after what
 * has been seen, and viewers notice a gap at most. Who comes may have begun anew, with numbers that have been used: then
 * the track fails with `Evicted`, and the path is announced as ended and as active. Begun anew has who is another
 * instance (see `Greeting`), and who tells of a latest group below what was seen. Of peers whose version has no instances
 * only the numbers tell: group 0 alone is taken for a new beginning, and one that has overtaken the old numbers goes on.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Stream from "effect/Stream"
import { Duplicate, Evicted, type FetchError, NotFound, type RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import { Waiters } from "../core/Waiters.ts"
import * as Announced from "../model/Announced.ts"
import type * as Group from "../model/Group.ts"
import * as Router from "../model/Router.ts"
import * as Routes from "../model/Routes.ts"
import { Share } from "../model/Share.ts"
import * as Subscription from "../model/Subscription.ts"
import type * as Track from "../model/Track.ts"
import type { Session } from "../session/Session.ts"
import { CacheBudget, defaultLimit } from "./CacheBudget.ts"
import * as Intake from "./Intake.ts"
import type { Metrics } from "./Metrics.ts"
import { Upstream } from "./Upstream.ts"

/**
 * The tracks of a relay. It is a router like any other: publish into it, and watch it, without a socket.
 *
 * **Details**
 *
 * `publish` and `add` fail with `Duplicate` when anybody publishes the path already. A session that announces a path
 * which the program itself publishes is kept in reserve.
 *
 * `fetch` looks at what viewers get, and asks the publisher for what is not there: two who ask for the same at the same
 * time are two requests to it. As long as a track has a viewer that has not failed, a sequence means what it meant to its
 * viewers from their beginning: what came before another publisher took over is found in the cache or fails with
 * `Evicted`, and while it is not known whether a publisher has begun anew, nobody is asked. Once viewers have failed with
 * `Evicted`, sequences are those of the new publisher.
 *
 * While a path lingers, `subscribe` waits for a publisher, `trackInfo` fails with `NotFound`, and `fetch` finds what is
 * cached; it fails with `Evicted` up to the latest group, with `NotFound` above.
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
   * A path that another session publishes already is taken over; a session whose paths have all been taken over is closed
   * with `Duplicate`. A path that is empty, reserved, or too long below `root` is left out. What has not ended when the
   * session, or the scope, ends lingers.
   *
   * **Gotchas**
   *
   * The session must not offer this same origin to its peer when the peer offers it back: the two would keep each
   * other's tracks alive.
   */
  readonly attach: (session: Session, root: Path.Path) => Effect.Effect<Attached, never, Scope.Scope>
  /**
   * What `announced` tells, of what is below any of the prefixes.
   *
   * @internal
   */
  readonly announcedBelow: (prefixes: ReadonlyArray<Path.Path>) => Stream.Stream<Announced.Announced>
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
  /** The session that it is offered over; none when the program offers it. */
  readonly session?: Session | undefined
  /** The instance of its publisher, as far as it is known: see `Greeting.instance`. */
  readonly instance: string | undefined
  /** Hears that a newer publisher has taken the path over. */
  readonly onDuplicate: () => void
  /** Hears that it serves the path, now that who was before it has gone. */
  readonly onAgain?: (() => void) | undefined
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
    const { cache = defaultLimit, linger = "5 seconds", metrics, onEvent, onServing } = options ?? {}
    const origin = new OriginImpl(
      yield* Effect.scope,
      yield* Clock.Clock,
      Duration.toMillis(linger),
      new CacheBudget(cache, metrics?.cache ?? (() => {})),
      onEvent ?? (() => {}),
      onServing ?? (() => {})
    )
    yield* Effect.forkScoped(origin.budget.sweeping, { startImmediately: true })
    yield* Effect.forkScoped(origin.expiring, { startImmediately: true })
    yield* Effect.addFinalizer(() => Effect.sync(() => origin.close()))
    return origin
  })

// internal

/** A path that is announced: the first of `sources` serves it, the others wait; while there is none it lingers. */
interface Entry {
  readonly path: Path.Path
  readonly sources: Array<Offered>
  /** What is being received of it, and can go on with another source. */
  readonly upstreams: Map<Upstream, Share>
  /** Whoever waits for a publisher, or for whether it goes on. */
  readonly waiters: Waiters
  /** Who serves it, or did. */
  server: Offered
}

/** What the program itself publishes. */
class Own implements Offered {
  readonly source: Router.Source
  readonly path: Path.Path
  readonly subscribe: Router.Source["subscribe"]
  readonly fetch: Router.Source["fetch"]
  readonly hops: ReadonlyArray<string>
  readonly instance: undefined
  constructor(source: Router.Source) {
    this.source = source
    this.path = source.path
    this.subscribe = (request) => source.subscribe(request)
    this.fetch = (sequence, options) => source.fetch(sequence, options)
    this.hops = []
    this.instance = undefined
  }
  get trackInfo(): Router.Source["trackInfo"] {
    return this.source.trackInfo
  }
  // no session takes over from the program
  onDuplicate(): void {}
}

class OriginImpl implements Origin {
  readonly scope: Scope.Scope
  readonly clock: Clock.Clock
  readonly linger: number
  readonly budget: CacheBudget
  readonly onEvent: (event: Event) => void
  readonly onServing: (path: Path.Path, source: Offered | undefined) => void
  readonly registry: Announced.Registry
  readonly routes: Routes.Routes
  readonly entries: Map<string, Entry>
  // what the next viewer of a path gets: those that are no longer here still have viewers, but take no new ones
  readonly shares: Map<string, Share>
  // those that linger and until when, in milliseconds: who was lost first is first
  readonly lingering: Map<Entry, number>
  readonly waiters: Waiters
  // what each source is asked for, a few at a time
  readonly fetches: WeakMap<Offered, Semaphore.Semaphore>
  constructor(
    scope: Scope.Scope,
    clock: Clock.Clock,
    linger: number,
    budget: CacheBudget,
    onEvent: (event: Event) => void,
    onServing: (path: Path.Path, source: Offered | undefined) => void
  ) {
    this.scope = scope
    this.clock = clock
    this.linger = linger
    this.budget = budget
    this.onEvent = onEvent
    this.onServing = onServing
    this.registry = new Announced.Registry()
    this.registry.live("marker")
    this.routes = new Routes.Routes()
    this.entries = new Map()
    this.shares = new Map()
    this.lingering = new Map()
    this.waiters = new Waiters()
    this.fetches = new WeakMap()
  }

  // the router

  get paths(): ReadonlyArray<Path.Path> {
    return Array.from(this.entries.values(), (entry) => entry.path)
  }
  readonly announced: Origin["announced"] = (prefix = Path.empty) => this.registry.announced(prefix)
  readonly announcedBelow: Origin["announcedBelow"] = (prefixes) => this.registry.announced(...prefixes)
  get routed(): Stream.Stream<Announced.Announced> {
    return this.routes.registry.announced(Path.empty)
  }
  get route(): Origin["route"] {
    return this.routes.route
  }
  readonly announce: Origin["announce"] = (path) => this.add(Router.fromRoutes(path, this.routes))
  readonly publish: Origin["publish"] = (track) => this.add(Router.fromTrack(track))
  readonly add: Origin["add"] = (source) => {
    const own = new Own(source)
    const begin = Effect.suspend(() => {
      if (this.serverOf(Path.key(source.path)) !== undefined) {
        return Effect.fail(new Duplicate({ detail: Path.format(source.path) }))
      }
      this.put(own)
      return Effect.void
    })
    return Effect.acquireRelease(
      Effect.andThen(Path.validateTrack(source.path), begin),
      () => Effect.sync(() => this.withdraw(own, "ended"))
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
      if (!this.entries.has(key)) return Router.fromRoutes(path, this.routes).trackInfo
      const source = this.serverOf(key)
      if (source === undefined) return Effect.fail(Router.notFound(path))
      // what viewers get is known here: asking is for tracks that nobody views, or of which nothing has come yet
      const track = this.shares.get(key)?.track
      return track?.latest === undefined ? source.trackInfo : Effect.succeed({ ...track.info, latest: track.latest })
    })
  readonly fetch: Origin["fetch"] = (path, sequence, options) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend((): Effect.Effect<Group.Group, FetchError, Scope.Scope> => {
        const key = Path.key(path)
        const entry = this.entries.get(key)
        const share = this.shares.get(key)
        const isAskable = entry === undefined || (isSettled(entry) && sequence >= sinceOf(entry))
        const upstream = isAskable
          ? Effect.suspend(() => {
            const source = this.serverOf(key)
            if (source === undefined) return restore(Router.fromRoutes(path, this.routes).fetch(sequence, options))
            return restore(this.fetchesOf(source).withPermit(source.fetch(sequence, options)))
          }).pipe(Effect.catchTag("MoqNotSupportedByPeer", () => Effect.fail(Router.notFound(path))))
          : Effect.fail(gone(path, sequence, share?.track?.latest))
        if (share?.track === undefined) return upstream
        return Effect.matchEffect(Router.cached(share.track, sequence, options), {
          onFailure: (error) => entry === undefined ? Effect.fail(error) : upstream,
          // one that grows goes on for as long as it is held, whoever else leaves
          onSuccess: (group) =>
            Effect.suspend(() => this.shares.get(key) === share ? Effect.as(share.hold(restore), group) : upstream)
        })
      })
    )

  // one viewer that asks for all that it can think of does not fill a publisher's session
  fetchesOf(source: Offered): Semaphore.Semaphore {
    let fetches = this.fetches.get(source)
    if (fetches === undefined) this.fetches.set(source, fetches = Semaphore.makeUnsafe(maxFetches))
    return fetches
  }

  // publishers

  readonly attach: Origin["attach"] = (session, root) => Intake.attach(this, session, { root })

  readonly offer: Origin["offer"] = (source) => {
    this.put(source)
    return { withdraw: (why) => this.withdraw(source, why) }
  }

  serverOf(key: string): Offered | undefined {
    return this.entries.get(key)?.sources[0]
  }

  put(source: Offered): void {
    const key = Path.key(source.path)
    const entry = this.entries.get(key)
    if (entry === undefined) {
      this.entries.set(key, {
        path: source.path,
        sources: [source],
        upstreams: new Map(),
        waiters: new Waiters(),
        server: source
      })
      this.begin(source.path)
      return this.onServing(source.path, source)
    }
    const { sources } = entry
    const [before] = sources
    const at = sources.findIndex((other) => !(other instanceof Own) && isBefore(source, other))
    sources.splice(at < 0 ? sources.length : at, 0, source)
    if (sources[0] !== source) return
    this.goOn(entry, source)
    before?.onDuplicate()
  }

  withdraw(source: Offered, why: "ended" | "lost"): void {
    const key = Path.key(source.path)
    const entry = this.entries.get(key)
    const at = entry?.sources.indexOf(source) ?? -1
    if (entry === undefined || at < 0) return
    entry.sources.splice(at, 1)
    if (at > 0) return
    const [next] = entry.sources
    next?.onAgain?.()
    if (why === "lost" && next !== undefined) return this.goOn(entry, next)
    if (why === "lost" && this.linger > 0 && !hasFinished(this.shares.get(key))) {
      this.lingering.set(entry, this.clock.currentTimeMillisUnsafe() + this.linger)
      return this.waiters.notify()
    }
    if (next === undefined) return this.end(entry)
    // what comes of the one before comes to its end, and is not what this one sends
    for (const upstream of entry.upstreams.keys()) upstream.release()
    entry.upstreams.clear()
    this.again(entry, next)
  }

  /** Another source serves a path: viewers keep their tracks where that can be. */
  goOn(entry: Entry, source: Offered): void {
    const { server, upstreams } = entry
    this.lingering.delete(entry)
    if (source instanceof Own) this.restart(entry)
    else if (upstreams.size === 0 && (source.instance === undefined || source.instance !== server.instance)) {
      return this.again(entry, source)
    }
    entry.server = source
    for (const upstream of upstreams.keys()) upstream.serve(source)
    this.onServing(entry.path, source)
    entry.waiters.notify()
  }

  /** Another source serves a path, and nobody goes on. */
  again(entry: Entry, source: Offered): void {
    entry.server = source
    this.announceAgain(entry)
    this.onServing(entry.path, source)
    entry.waiters.notify()
  }

  // what is being received of a path was another track
  restart(entry: Entry): void {
    const { upstreams } = entry
    for (const [upstream, share] of [...upstreams]) {
      // one that has nothing yet gets it from whoever serves
      if (upstream.track === undefined) continue
      upstreams.delete(upstream)
      share.retire()
      upstream.evict()
    }
    this.announceAgain(entry)
    entry.waiters.notify()
  }

  announceAgain(entry: Entry): void {
    this.registry.remove(entry.path)
    this.onEvent({ _tag: "Ended", path: entry.path })
    this.begin(entry.path)
  }

  // a path has a publisher, or another one: what is left of the track of the one before is not what this one sends
  begin(path: Path.Path): void {
    this.shares.get(Path.key(path))?.retire()
    this.registry.add(path)
    this.onEvent({ _tag: "Announced", path })
  }

  end(entry: Entry): void {
    this.lingering.delete(entry)
    this.entries.delete(Path.key(entry.path))
    for (const upstream of entry.upstreams.keys()) upstream.release()
    this.registry.remove(entry.path)
    this.onEvent({ _tag: "Ended", path: entry.path })
    this.onServing(entry.path, undefined)
    entry.waiters.notify()
  }

  /** Ends what has lingered for long enough: one fiber for all. */
  get expiring(): Effect.Effect<never> {
    const next = Effect.suspend(() => {
      let ended = 0
      for (const [entry, at] of this.lingering) {
        const left = at - this.clock.currentTimeMillisUnsafe()
        if (left > 0) return Effect.sleep(left)
        this.end(entry)
        // the others get their turn: sessions that are lost together may have had very many
        if (++ended === atOnce) break
      }
      return Effect.void
    })
    return this.waiters.until(() => this.lingering.size > 0).pipe(Effect.andThen(next), Effect.forever)
  }

  // viewers

  view(
    path: Path.Path,
    request: Subscription.Request
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    const { from } = request
    return Effect.uninterruptibleMask((restore) => {
      const key = Path.key(path)
      const hold: Effect.Effect<Track.Track, RequestError, Scope.Scope> = Effect.suspend(() => {
        const entry = this.entries.get(key)
        if (entry !== undefined && !isSettled(entry)) {
          const settled = entry.waiters.until(() => this.entries.get(key) !== entry || isSettled(entry))
          return Effect.andThen(restore(settled), hold)
        }
        const current = this.shares.get(key)
        // when its publisher has gone, what there is of a track is all that there will be: for those who were told of it
        // and come late, not for those who want to be live
        const isWanted = entry === undefined ? from !== "latest" : current?.covers(from)
        if (current !== undefined && isWanted) return current.hold(restore)
        return entry === undefined
          ? restore(Router.fromRoutes(path, this.routes).subscribe(request))
          : this.share(key, entry, from).hold(restore)
      })
      return hold
    }).pipe(Effect.map((track) => Subscription.make(track, request)))
  }

  // in place of the current one, if any: its viewers keep that
  share(key: string, entry: Entry, wanted: Track.Start): Share {
    // whoever asks for ever more opens a few, and then the one that has all
    const from = wanted !== "latest" && entry.upstreams.size >= maxShares ? 0 : wanted
    const share: Share = new Share({
      scope: this.scope,
      open: Effect.suspend(() => this.receive(entry, from, share)),
      from,
      linger: lateness,
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
  receive(entry: Entry, from: Track.Start, share: Share): Effect.Effect<Track.Track, RequestError, Scope.Scope> {
    const { path, sources: [source], upstreams } = entry
    const received = Effect.gen({ self: this }, function*() {
      if (source === undefined || source instanceof Own) return yield* entry.server.subscribe({ from })
      const upstream = new Upstream({
        path,
        from,
        patience: Math.max(this.linger, patience),
        account: this.budget.open(),
        seen: () => seenOf(entry),
        onSettled: () => this.settled(entry),
        onOwn: () => upstreams.delete(upstream),
        onAnew: (source) => this.anew(entry, upstream, source)
      }, source)
      yield* Effect.acquireRelease(
        Effect.sync(() => upstreams.set(upstream, share)),
        () =>
          Effect.sync(() => {
            upstreams.delete(upstream)
            this.settled(entry)
          })
      )
      return yield* upstream.open
    })
    return Effect.tap(received, () =>
      Effect.acquireRelease(
        Effect.sync(() => this.onEvent({ _tag: "UpstreamOpened", path })),
        () => Effect.sync(() => this.onEvent({ _tag: "UpstreamClosed", path }))
      ))
  }

  settled(entry: Entry): void {
    entry.waiters.notify()
    // its publisher has said the last word before it was lost
    if (this.lingering.has(entry) && hasFinished(this.shares.get(Path.key(entry.path)))) this.end(entry)
  }

  anew(entry: Entry, upstream: Upstream, source: Offered): void {
    if (entry.upstreams.has(upstream) && entry.sources[0] === source) return this.restart(entry)
    entry.upstreams.delete(upstream)
    upstream.evict()
  }

  // nothing more comes, and whoever still holds this sees an empty one
  close(): void {
    for (const path of this.paths) this.registry.remove(path)
    for (const entry of this.entries.values()) entry.waiters.notify()
    this.entries.clear()
    this.lingering.clear()
    this.registry.end(Exit.void)
  }
}

// whether it has a publisher, and everybody knows whether their tracks go on with it
const isSettled = ({ sources, upstreams }: Entry): boolean => {
  if (sources.length === 0) return false
  for (const upstream of upstreams.keys()) if (!upstream.isSettled) return false
  return true
}

// Of equals the newest; but what comes of one publisher by two ways of the same length stays on the way that it has.
const isBefore = ({ hops, instance }: Offered, other: Offered): boolean =>
  hops.length < other.hops.length || (hops.length === other.hops.length &&
    (hops.length === 0 || instance !== other.instance || hops.at(-1) !== other.hops.at(-1)))

const sinceOf = ({ upstreams }: Entry): number => {
  let since = 0
  for (const upstream of upstreams.keys()) since = Math.max(since, upstream.since)
  return since
}

const seenOf = ({ upstreams }: Entry): number | undefined => {
  let seen: number | undefined
  for (const { track } of upstreams.keys()) {
    const latest = track?.track.latest
    if (latest !== undefined) seen = Math.max(seen ?? 0, latest)
  }
  return seen
}

const hasFinished = (share: Share | undefined): boolean => share?.track?.end?._tag === "Success"

const gone = (path: Path.Path, sequence: number, latest: number = -1): NotFound | Evicted => {
  const detail = `group ${sequence} of ${Path.format(path)}`
  return sequence <= latest ? new Evicted({ detail }) : new NotFound({ detail })
}

// how long, in milliseconds, a track that has lost its source waits to hear what becomes of its path
const patience = 5_000

// how many subscriptions of a track there are, each with more than the one before, until one asks for all
const maxShares = 4

// how many paths end before anybody else may act
const atOnce = 256

// how long a track that has finished is still given to those who come late
const lateness = "10 seconds"

// how many groups a publisher is asked for at a time, of one track; others wait
const maxFetches = 32
