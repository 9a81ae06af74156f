/**
 * What a reader hears about which tracks exist.
 *
 * @since 0.1.0
 */
import type { Path } from "../core/Path.ts"

/**
 * A track can be subscribed to from now on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Active {
  readonly _tag: "Active"
  /** The full path of the track. */
  readonly path: Path
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
  readonly path: Path
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
export const active = (path: Path): Active => ({ _tag: "Active", path })

/**
 * Makes an {@link Ended}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ended = (path: Path): Ended => ({ _tag: "Ended", path })

/**
 * Makes a {@link Live}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const live = (by: Live["by"]): Live => ({ _tag: "Live", by })
