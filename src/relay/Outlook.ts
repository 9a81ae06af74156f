/**
 * What the peer of a session sees of a relay: a guest what it may, another relay the same by other names.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type NotFound, Remote } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Announced from "../model/Announced.ts"
import * as Router from "../model/Router.ts"
import { covers } from "./Authenticator.ts"
import { reserved } from "./Intake.ts"
import type * as Served from "./Served.ts"
import * as Via from "./Via.ts"

/**
 * Who the peer is: a client; another relay that knows how to keep loops out, or one that does not.
 *
 * @internal
 */
export type Peer =
  | { readonly _tag: "Client" }
  | { readonly _tag: "Relay"; readonly id: string }
  | { readonly _tag: "Foreign"; readonly id: string }

/**
 * The code with which a relay refuses another that asks for a track by a way which is no longer its way. It is this
 * project's own: ordinary peers are never refused with it.
 *
 * @internal
 */
export const movedCode = 62

/** @internal */
export interface Options {
  /** The root of the session. */
  readonly root: Path.Path
  /** The paths of the relay that the peer may hear of. */
  readonly prefixes: ReadonlyArray<Path.Path>
}

/**
 * A router that has what another one has: until {@link Outlook.open} tells who the peer is, whoever asks waits.
 *
 * @internal
 */
export class Outlook implements Router.Router {
  readonly guest: Router.Router
  readonly served: Served.Served
  readonly options: Options
  private readonly view: Deferred.Deferred<View>
  constructor(guest: Router.Router, served: Served.Served, options: Options) {
    this.guest = guest
    this.served = served
    this.options = options
    this.view = Deferred.makeUnsafe()
  }

  /** Tells who the peer is; it is told of what is served for as long as the scope. */
  open(peer: Peer): Effect.Effect<void, never, Scope.Scope> {
    const { guest, options, served } = this
    if (peer._tag === "Client") return Deferred.succeed(this.view, new GuestView(guest))
    return Effect.acquireRelease(
      Effect.sync(() => {
        const view = peer._tag === "Relay"
          ? new RelayView(served, options, peer.id)
          : new ForeignView(options, peer.id)
        for (const track of served.tracks.values()) view.tell(track.path, track)
        served.listeners.add(view)
        Deferred.doneUnsafe(this.view, Exit.succeed(view))
        return view
      }),
      (view) => Effect.sync(() => served.listeners.delete(view))
    )
  }

  readonly announced: Router.Router["announced"] = (prefix = Path.empty) =>
    Stream.unwrap(Effect.map(Deferred.await(this.view), (view) => view.announced(prefix)))
  readonly subscribe: Router.Router["subscribe"] = (path, options) =>
    Effect.flatMap(this.resolve(path), (path) => this.guest.subscribe(path, options))
  readonly trackInfo: Router.Router["trackInfo"] = (path) =>
    Effect.flatMap(this.resolve(path), (path) => this.guest.trackInfo(path))
  readonly fetch: Router.Router["fetch"] = (path, sequence, options) =>
    Effect.flatMap(this.resolve(path), (path) => this.guest.fetch(path, sequence, options))

  resolve(path: Path.Path): Effect.Effect<Path.Path, NotFound | Remote> {
    return Effect.flatMap(Deferred.await(this.view), (view) => view.resolve(path))
  }

  get paths(): ReadonlyArray<Path.Path> {
    return this.guest.paths
  }
  get routed(): Router.Router["routed"] {
    return this.guest.routed
  }
  get publish(): Router.Router["publish"] {
    return this.guest.publish
  }
  get add(): Router.Router["add"] {
    return this.guest.add
  }
  get route(): Router.Router["route"] {
    return this.guest.route
  }
  get announce(): Router.Router["announce"] {
    return this.guest.announce
  }
}

// internal

interface View {
  readonly announced: (prefix: Path.Path) => Stream.Stream<Announced.Announced>
  /** The path in the router that a peer means. */
  readonly resolve: (path: Path.Path) => Effect.Effect<Path.Path, NotFound | Remote>
}

class GuestView implements View {
  readonly guest: Router.Router
  constructor(guest: Router.Router) {
    this.guest = guest
  }
  announced(prefix: Path.Path): Stream.Stream<Announced.Announced> {
    return prefix.includes(reserved) ? nothing().announced(prefix) : this.guest.announced(prefix)
  }
  resolve(path: Path.Path): Effect.Effect<Path.Path, NotFound> {
    return path.includes(reserved) ? Effect.fail(Router.notFound(path)) : Effect.succeed(path)
  }
}

const nothing = (): Announced.Registry => {
  const registry = new Announced.Registry()
  registry.live("marker")
  return registry
}

/** What the peer is told, under which names: it may ask for them, and for nothing else. */
abstract class Told implements View, Served.Listener {
  readonly options: Options
  readonly peer: string
  readonly registry: Announced.Registry
  // by the path below the root
  readonly names: Map<string, Path.Path>
  constructor(options: Options, peer: string) {
    this.options = options
    this.peer = peer
    this.registry = nothing()
    this.names = new Map()
  }

  /** The name under which the peer is to know a path from now on, if at all; `before` is the one that it knows. */
  abstract nameOf(path: Path.Path, news: Served.News, before: Path.Path | undefined): Path.Path | undefined

  abstract resolve(name: Path.Path): Effect.Effect<Path.Path, NotFound | Remote>

  tell(full: Path.Path, news: Served.News): void {
    const path = Path.stripPrefix(full, this.options.root)
    if (path === undefined || path.length === 0 || !covers(this.options.prefixes, full)) return
    const key = Path.key(path)
    const before = this.names.get(key)
    const name = this.nameOf(path, news, before)
    // the new name first: what goes on is never announced as ended
    if (name !== undefined) {
      this.names.set(key, name)
      this.registry.add(name)
    } else {
      this.names.delete(key)
    }
    if (before !== undefined && (name === undefined || !Path.equals(before, name))) this.registry.remove(before)
  }

  announced(prefix: Path.Path): Stream.Stream<Announced.Announced> {
    return Stream.filterEffect(this.registry.announced(prefix), (event) => {
      if (event._tag === "Live" || Path.isValid(event.path)) return Effect.succeed(true)
      const log = event._tag === "Active"
        ? Effect.logWarning(`a track is not passed on, its path is too long: ${Path.format(event.path)}`)
        : Effect.void
      return Effect.as(log, false)
    })
  }

  /** Whether a name is what the peer knows a path by. */
  isName(name: Path.Path, path: Path.Path): boolean {
    const known = this.names.get(Path.key(path))
    return known !== undefined && Path.equals(known, name)
  }
}

/** Another relay knows tracks by the way that they came. */
class RelayView extends Told {
  readonly lost: string
  constructor(served: Served.Served, options: Options, peer: string) {
    super(options, peer)
    this.lost = Via.lost(served.id, peer)
  }
  // What comes through the peer itself is nothing to it. When it had that from here, it is told that it is lost, not that
  // it has ended: its publisher may be there still.
  nameOf(path: Path.Path, news: Served.News, before: Path.Path | undefined): Path.Path | undefined {
    if (news === "ended") return undefined
    if (news !== "lost" && !news.via.hops.includes(this.peer)) return Via.nameFor(this.peer, news.way, path)
    return before && Via.nameFor(this.peer, this.lost, path)
  }
  // only by the way that it comes now, so that no request runs in a circle while the news of another way is under way
  resolve(name: Path.Path): Effect.Effect<Path.Path, NotFound | Remote> {
    const [first, id, way, ...path] = name
    if (first !== reserved || id !== this.peer || path.length === 0) return Effect.fail(Router.notFound(name))
    return way !== this.lost && this.isName(name, path)
      ? Effect.succeed(path)
      : Effect.fail(new Remote({ code: movedCode, detail: Path.format(path) }))
  }
}

/** A relay of another kind knows paths, and gets what does not come through it. */
class ForeignView extends Told {
  nameOf(path: Path.Path, news: Served.News, before: Path.Path | undefined): Path.Path | undefined {
    if (news === "lost") return before
    return news === "ended" || news.via.hops.includes(this.peer) ? undefined : path
  }
  resolve(path: Path.Path): Effect.Effect<Path.Path, NotFound> {
    return this.isName(path, path) ? Effect.succeed(path) : Effect.fail(Router.notFound(path))
  }
}
