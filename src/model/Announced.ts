/**
 * What a reader hears about which tracks exist.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import * as Path from "../core/Path.ts"
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
 * With `by: "marker"` the other side said so (draft-03, section "ANNOUNCE"). With `by: "quiet"` it never does, and nothing
 * has come for a while: a guess.
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
  trimAt: number
  constructor() {
    this.active = new Map()
    this.log = Log.makeUnsafe()
    this.isLive = undefined
    this.trimAt = 64
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
  /** Those below a prefix that are there, `Live` as soon as that is known, then the changes. */
  announced(prefix: Path.Path): Stream.Stream<Announced, E> {
    const isBelow = (event: Announced): boolean => event._tag === "Live" || Path.hasPrefix(event.path, prefix)
    return Stream.unwrap(Effect.map(Log.open(this.log, this.log.next), (cursor) => {
      cursor.index = this.log.next
      const initial: Array<Announced> = Array.from(this.active.values(), active)
      if (this.isLive !== undefined) initial.push(live(this.isLive))
      return Stream.filter(
        Stream.concat(Stream.fromArray(initial), Stream.fromPull(Effect.succeed(Log.pull(this.log, cursor)))),
        isBelow
      )
    }))
  }
  append(event: Announced): void {
    Log.appendUnsafe(this.log, event)
    if (this.log.next - this.log.first < this.trimAt) return
    Log.trimUnsafe(this.log, Log.unreadUnsafe(this.log))
    this.trimAt = Math.max(64, 2 * (this.log.next - this.log.first))
  }
}
