/**
 * What a reader hears about which tracks exist.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { Duplicate } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import { Follower } from "./Follower.ts"
import * as Log from "./Log.ts"

/**
 * A track can be subscribed to from now on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Active {
  readonly _tag: "Active"
  /** The full path of the track. */
  readonly path: Path.Path
}

/**
 * A track is no longer there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly _tag: "Ended"
  /** The full path of the track. */
  readonly path: Path.Path
}

/**
 * Everything that existed at the beginning has been announced; what follows is news.
 *
 * **Details**
 *
 * With `by: "marker"` the other side said so (draft-03, section "ANNOUNCE"). With `by: "quiet"` it never does, and
 * nothing has come for a while: a guess.
 *
 * @category models
 * @since 0.1.0
 */
export interface Live {
  readonly _tag: "Live"
  readonly by: "marker" | "quiet"
}

/**
 * One event of `announced(prefix)`.
 *
 * @category models
 * @since 0.1.0
 */
export type Announced = Active | Ended | Live

/**
 * Makes an {@link Active}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const active = (path: Path.Path): Active => ({ _tag: "Active", path })

/**
 * Makes an {@link Ended}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ended = (path: Path.Path): Ended => ({ _tag: "Ended", path })

/**
 * Makes a {@link Live}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const live = (by: Live["by"]): Live => ({ _tag: "Live", by })

/**
 * The set of tracks that exist, and what changes in it.
 *
 * @internal
 */
export class Registry<in out E = never> {
  readonly active: Map<string, Path.Path>
  readonly log: Log.Log<Announced, E>
  isLive: Live["by"] | undefined
  constructor() {
    this.active = new Map()
    this.log = Log.makeUnsafe()
    this.isLive = undefined
  }
  /** `false` when it was there before. */
  add(path: Path.Path): boolean {
    const key = Path.key(path)
    if (this.active.has(key)) return false
    this.active.set(key, path)
    this.append(active(path))
    return true
  }
  /** `false` when it was not there. */
  remove(path: Path.Path): boolean {
    if (!this.active.delete(Path.key(path))) return false
    this.append(ended(path))
    return true
  }
  live(by: Live["by"]): void {
    if (this.isLive !== undefined) return
    this.isLive = by
    this.append(live(by))
  }
  end(exit: Exit.Exit<void, E>): void {
    Log.endUnsafe(this.log, exit)
  }
  /** Those below any of the prefixes that are there, `Live` as soon as that is known, then the changes. */
  announced(...prefixes: ReadonlyArray<Path.Path>): Stream.Stream<Announced, E> {
    return Log.toStream(this.reader(...prefixes))
  }
  /** The same, one run of it. */
  reader(
    ...prefixes: ReadonlyArray<Path.Path>
  ): Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<Announced>, E>, never, Scope.Scope> {
    return Effect.map(Log.open(this.log), (cursor) => new View(this, prefixes, cursor).pull)
  }
  append(event: Announced): void {
    Log.appendBoundedUnsafe(this.log, event, maxEvents)
  }
}

/**
 * Keeps something under a path, and announces it, unless the path is taken; `detail` says which, in words. Gives what takes
 * it back.
 *
 * @internal
 */
export const offer = <A>(
  registry: Registry,
  all: Map<string, A>,
  path: Path.Path,
  value: A,
  detail: string
): Effect.Effect<() => void, Duplicate> =>
  Effect.suspend(() => {
    if (!registry.add(path)) return Effect.fail(new Duplicate({ detail }))
    const key = Path.key(path)
    all.set(key, value)
    return Effect.succeed(() => {
      all.delete(key)
      registry.remove(path)
    })
  })

// internal

// a reader this far behind is told what is different now, rather than everything that has happened
const maxEvents = 8_192

class View<E> extends Follower<Announced, E> {
  readonly registry: Registry<E>
  readonly prefixes: ReadonlyArray<Path.Path>
  // what its reader knows of
  readonly known: Map<string, Path.Path>
  isLive: boolean
  constructor(registry: Registry<E>, prefixes: ReadonlyArray<Path.Path>, cursor: Log.Cursor) {
    super(registry.log, cursor)
    this.registry = registry
    this.prefixes = prefixes
    this.known = new Map()
    this.isLive = false
  }
  catchUp(out: Array<Announced>): void {
    for (const [key, path] of this.known) if (!this.registry.active.has(key)) this.tell(out, ended(path))
    for (const path of this.registry.active.values()) this.tell(out, active(path))
    if (this.registry.isLive !== undefined) this.tell(out, live(this.registry.isLive))
  }
  tell(out: Array<Announced>, event: Announced): void {
    if (event._tag === "Live") {
      if (!this.isLive) out.push(event)
      this.isLive = true
    } else if (this.prefixes.some((prefix) => Path.hasPrefix(event.path, prefix))) {
      const key = Path.key(event.path)
      if (event._tag === "Active" ? this.known.has(key) : !this.known.delete(key)) return
      if (event._tag === "Active") this.known.set(key, event.path)
      out.push(event)
    }
  }
}
