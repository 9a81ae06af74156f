/**
 * What another relay serves, taken in.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { NotFound, Remote } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import { Waiters } from "../core/Waiters.ts"
import * as Router from "../model/Router.ts"
import type { Session } from "../session/Session.ts"
import { covers } from "./Authenticator.ts"
import * as Intake from "./Intake.ts"
import type { Attached, Offered, Origin } from "./Origin.ts"
import { movedCode } from "./Outlook.ts"
import type { Served, Way } from "./Served.ts"
import * as Via from "./Via.ts"

/**
 * Takes in what the relay `peer` serves and this one may have, below `root`, for as long as the scope.
 *
 * @internal
 */
export const attach = (
  origin: Pick<Origin, "offer">,
  session: Session,
  served: Served,
  { peer, prefixes, root }: {
    readonly peer: string
    readonly root: Path.Path
    readonly prefixes: ReadonlyArray<Path.Path>
  }
): Effect.Effect<Attached, never, Scope.Scope> =>
  Effect.suspend(() => {
    const links = new Map<string, Link>()
    return Intake.follow(session, [Intake.reserved, served.id], (name) => {
      const [, , way = "", ...announced] = name
      const via = Via.parse(way)
      const path = Path.concat(root, announced)
      if (via?.hops[0] !== peer || announced.length === 0 || path.includes(Intake.reserved) || !Path.isValid(path)) {
        return Effect.logDebug(`another relay announces what it must not: ${Path.format(name)}`)
      }
      if (!covers(prefixes, path)) {
        return Effect.logDebug(`another relay may not publish ${Path.format(path)}`)
      }
      const key = Path.key(path)
      const before = links.get(key)
      if (via.hops.includes(served.id)) {
        // It would come through this relay: the other one has lost it. Its publisher may come back.
        links.delete(key)
        before?.withdraw("lost")
        return Effect.void
      }
      // the same track, by another way of the same length: nobody has to know but who asks by that way
      const isSame = before?.name !== undefined && before.via.publisher === via.publisher &&
        before.via.hops.length === via.hops.length
      if (before !== undefined && isSame) {
        before.move(via, name)
        served.refresh(before)
      } else {
        // the new one first: what goes on is never without a source
        links.set(key, new Link(origin, session, served, path, via, name))
        before?.withdraw("lost")
      }
      return {
        path,
        withdraw: (why) => {
          const link = links.get(key)
          // it goes by another name by now; one without has ended by another way already
          if (link === undefined || (link.name ?? name) !== name) return
          links.delete(key)
          // one that has ended by another way says nothing of those that have begun since
          const others = why === "ended" && link.name !== undefined ? served.othersTo(link) : []
          for (const other of others) other.withdraw("ended")
          link.withdraw(why)
        }
      }
    })
  })

// internal

// how long to wait for the news that a track comes another way
const patience = "2 seconds"

class Link implements Way {
  readonly session: Session
  readonly served: Served
  readonly path: Path.Path
  readonly offered: ReturnType<Origin["offer"]>
  readonly waiters: Waiters
  via: Via.Via
  // what the other relay calls it; `undefined` once it has it no more
  name: Path.Path | undefined
  constructor(
    origin: Pick<Origin, "offer">,
    session: Session,
    served: Served,
    path: Path.Path,
    via: Via.Via,
    name: Path.Path
  ) {
    this.session = session
    this.served = served
    this.path = path
    this.waiters = new Waiters()
    this.via = via
    this.name = name
    this.offered = origin.offer(this)
    served.add(this)
  }

  get hops(): ReadonlyArray<string> {
    return this.via.hops
  }
  get instance(): string {
    return this.via.publisher
  }
  // another relay has no use for it: it hears which way its tracks go
  onDuplicate(): void {}

  move(via: Via.Via, name: Path.Path): void {
    this.via = via
    this.name = name
    this.waiters.notify()
  }
  withdraw(why: "ended" | "lost"): void {
    if (this.name === undefined) return
    this.name = undefined
    this.waiters.notify()
    this.offered.withdraw(why)
    this.served.delete(this, why)
  }

  readonly subscribe: Offered["subscribe"] = (request) => this.ask((name) => this.session.subscribe(name, request))
  get trackInfo(): Offered["trackInfo"] {
    return this.ask((name) => this.session.trackInfo(name))
  }
  readonly fetch: Offered["fetch"] = (sequence, options) =>
    this.ask((name) => this.session.fetch(name, sequence, options))

  // once more when the other relay says that the track goes by another name by now, and has told which
  ask<A, E extends { readonly _tag: string }, R>(
    use: (name: Path.Path) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | NotFound, R> {
    return Effect.suspend(() => {
      const { name } = this
      if (name === undefined) return Effect.fail(Router.notFound(this.path))
      const gone = () => Effect.fail(Router.notFound(this.path))
      const news = Effect.timeoutOrElse(this.waiters.until(() => this.name !== name), {
        duration: patience,
        orElse: gone
      })
      return Effect.catchIf(use(name), isMoved, () => Effect.andThen(news, this.ask(use)))
    })
  }
}

const isMoved = (error: { readonly _tag: string }): boolean =>
  error._tag === "MoqRemote" && (error as Remote).code === movedCode
