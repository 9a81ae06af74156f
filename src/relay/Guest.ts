/**
 * What one session sees of a relay: the part below its root, as far as it may, and what it watches of it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { BoundsExceeded, Unauthorized } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import * as Path from "../core/Path.ts"
import * as Announced from "../model/Announced.ts"
import * as Router from "../model/Router.ts"
import * as Authenticator from "./Authenticator.ts"
import type { Origin } from "./Origin.ts"

/**
 * A client of a relay.
 *
 * @internal
 */
export interface Guest {
  /** What its session serves from. */
  readonly router: Router.Router
  /** The paths of the relay that it subscribes to now, one for each subscription. */
  readonly watching: ReadonlyArray<Path.Path>
}

/**
 * A client that may do what its grant says, below its root.
 *
 * **Details**
 *
 * What it may not subscribe is not announced to it, and asking for it is `Unauthorized`, whether it is there or not. It
 * may ask what is known of a track that it may publish, because that is how a publisher finds out that somebody else is
 * there.
 *
 * @internal
 */
export const make = (
  origin: Origin,
  { grant, onLimit, root }: {
    readonly root: Path.Path
    readonly grant: Authenticator.Grant
    /** Hears that it has asked for one track too often. */
    readonly onLimit?: () => void
  }
): Guest => {
  const below = Router.below(origin, root)
  const readable = Authenticator.within(grant.subscribe, root)
  const writable = Authenticator.within(grant.publish, root)
  const watching = new Set<{ readonly path: Path.Path }>()
  // how many subscriptions there are, and are asked for, by path
  const counts = new Map<string, number>()

  const full = (path: Path.Path): Path.Path => Path.concat(root, path)
  const relative = (path: Path.Path): Path.Path => path.slice(root.length)
  const mayRead = (path: Path.Path): boolean => Authenticator.covers(readable, full(path))
  const reading = <A, E, R>(path: Path.Path, read: Effect.Effect<A, E, R>): Effect.Effect<A, E | Unauthorized, R> =>
    Effect.suspend((): Effect.Effect<A, E | Unauthorized, R> =>
      mayRead(path) ? read : Effect.fail(new Unauthorized({ detail: Path.format(path) }))
    )
  const count = (path: Path.Path) => {
    const key = Path.key(path)
    return Effect.acquireRelease(
      Effect.suspend(() => {
        const others = counts.get(key) ?? 0
        if (others >= maxPerTrack) {
          onLimit?.()
          return Effect.fail(new BoundsExceeded({ detail: `${others} subscriptions to ${Path.format(path)}` }))
        }
        counts.set(key, others + 1)
        return Effect.void
      }),
      () =>
        Effect.sync(() => {
          const others = counts.get(key)! - 1
          if (others === 0) counts.delete(key)
          else counts.set(key, others)
        })
    )
  }
  const watch = (path: Path.Path) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const entry = { path }
        watching.add(entry)
        return entry
      }),
      (entry) => Effect.sync(() => watching.delete(entry))
    )

  return {
    router: {
      // what the program of the relay offers over this session
      publish: below.publish,
      add: below.add,
      route: below.route,
      announce: below.announce,
      get paths() {
        return below.paths.filter(mayRead)
      },
      get routed() {
        return Stream.filter(below.routed, (event) => event._tag === "Live" || mayRead(event.path))
      },
      subscribe: (path, options) =>
        reading(
          path,
          inOwnScope(Effect.andThen(count(path), Effect.tap(below.subscribe(path, options), () => watch(full(path)))))
        ),
      trackInfo: (path) =>
        Authenticator.covers(writable, full(path)) ? below.trackInfo(path) : reading(path, below.trackInfo(path)),
      fetch: (path, sequence, options) => reading(path, below.fetch(path, sequence, options)),
      announced: (prefix = Path.empty) => {
        const events = origin.announcedBelow(Authenticator.within(readable, full(prefix)))
        return root.length === 0 ? events : Stream.map(events, (event) => {
          if (event._tag === "Live") return event
          return event._tag === "Active"
            ? Announced.active(relative(event.path))
            : Announced.ended(relative(event.path))
        })
      }
    },
    get watching() {
      return Array.from(watching, ({ path }) => path)
    }
  }
}

// internal

// A client that wants a track in several ranges has a few. Each sends all of it: a thousand of them over one connection
// would be a thousand viewers with one viewer's place.
const maxPerTrack = 16
