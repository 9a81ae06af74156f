/**
 * What one session sees of a relay: the part below its root, as far as it may, and what it watches of it.
 *
 * @since 0.1.0
 */
import type * as Path from "../core/Path.ts"
import * as Router from "../model/Router.ts"
import type { Grant } from "./Authenticator.ts"
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

/** @internal */
export const make = (origin: Origin, { root }: { readonly root: Path.Path; readonly grant: Grant }): Guest => ({
  router: Router.below(origin, root),
  watching: []
})
