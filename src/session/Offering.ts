/**
 * The publishing face of a session: whatever it offers goes to its router.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { SessionClosed } from "../core/MoqError.ts"
import * as Broadcast from "../model/Broadcast.ts"
import type * as Router from "../model/Router.ts"
import type { Session } from "./SessionService.ts"

/** @internal */
export abstract class Offering {
  readonly router: Router.Router
  constructor(router: Router.Router) {
    this.router = router
  }
  abstract readonly closed: Effect.Effect<SessionClosed>
  get route(): Session["route"] {
    return this.router.route
  }
  get announce(): Session["announce"] {
    return this.router.announce
  }
  get publish(): Session["publish"] {
    return (offer) => "offer" in offer ? offer.offer(this.router) : this.router.publish(offer)
  }
  get broadcast(): Session["broadcast"] {
    return (prefix) =>
      Effect.tap(
        Broadcast.within(this.router, prefix),
        (broadcast) => Effect.forkScoped(Effect.flatMap(this.closed, broadcast.fail), { startImmediately: true })
      )
  }
}
