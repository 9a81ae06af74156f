/**
 * How a relay takes in what a session announces.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Fibers } from "../core/Fibers.ts"
import { Duplicate, Unauthorized } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Announced from "../model/Announced.ts"
import type { Session } from "../session/Session.ts"
import { covers } from "./Authenticator.ts"
import type { Attached, Offered, Origin } from "./Origin.ts"

/**
 * The part of a path that relays use among themselves. Wherever it stands in a path, for a session with a root it may be
 * the first.
 *
 * @internal
 */
export const reserved = ".relay"

/**
 * Something that a session announced, and that was taken in.
 *
 * @internal
 */
export interface Taken {
  /** The path of the relay that it is served under. */
  readonly path: Path.Path
  readonly withdraw: (why: "ended" | "lost") => void
}

/**
 * Hears what a session announces below a prefix, for as long as the scope: `take` is called with each path, and gives what
 * it made of it, or what to do instead. What is still there when nothing more is heard, for whatever reason, is lost.
 *
 * @internal
 */
export const follow = (
  session: Session,
  prefix: Path.Path,
  take: (announced: Path.Path) => Taken | Effect.Effect<void>
): Effect.Effect<Attached, never, Scope.Scope> =>
  Effect.suspend(() => {
    const mine = new Map<string, Taken>()
    const hear = (event: Announced.Announced): Effect.Effect<void> => {
      if (event._tag === "Live") return Effect.void
      const key = Path.key(event.path)
      if (event._tag === "Ended") {
        const taken = mine.get(key)
        mine.delete(key)
        taken?.withdraw("ended")
        return Effect.void
      }
      const taken = take(event.path)
      if (Effect.isEffect(taken)) return taken
      mine.set(key, taken)
      return Effect.void
    }
    const lose = Effect.sync(() => {
      mine.forEach((taken) => taken.withdraw("lost"))
      mine.clear()
    })
    const heard = Effect.ensuring(Stream.runForEach(session.announced(prefix), hear), lose)
    // a stream that was reset is asked for again, for as long as the session lives
    const hearing = (pause: number): Effect.Effect<void> =>
      Effect.catch(heard, (error) => {
        const told = Effect.logDebug(`a session announces no more: ${error.message}`)
        if (error._tag === "MoqSessionClosed") return told
        return told.pipe(
          Effect.andThen(Effect.sleep(pause)),
          Effect.andThen(Effect.suspend(() => hearing(Math.min(2 * pause, longestPause))))
        )
      })
    return hearing(shortestPause).pipe(
      Effect.forkScoped({ startImmediately: true }),
      Effect.as({
        get paths() {
          return Array.from(mine.values(), (taken) => taken.path)
        }
      })
    )
  })

/**
 * Takes in everything that a session announces, below `root`.
 *
 * **Details**
 *
 * `prefixes` are those that it may publish below, everything by default: one that announces anything else is closed with
 * `Unauthorized`, because a publisher that nobody listens to would wait for ever. One whose paths have all been taken over
 * by newer publishers is closed with `Duplicate`. With `hops` it is another relay, through which the tracks come, and never
 * closed. Paths that are empty, too long, or reserved are left out.
 *
 * @internal
 */
export const attach = (
  origin: Pick<Origin, "offer">,
  session: Session,
  options: {
    readonly root: Path.Path
    readonly prefixes?: ReadonlyArray<Path.Path> | undefined
    readonly hops?: ReadonlyArray<string> | undefined
  }
): Effect.Effect<Attached, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { hops = [], prefixes = [Path.empty], root } = options
    const isClient = options.hops === undefined
    // those that no newer publisher has taken over
    const current = new Set<Offered>()
    const fibers = yield* Fibers.make
    return yield* follow(session, Path.empty, (announced) => {
      const path = Path.concat(root, announced)
      if (announced.length === 0 || path.includes(reserved) || !Path.isValid(path)) {
        return Effect.logDebug(`a path is left out, it is empty, reserved or too long: ${Path.format(path)}`)
      }
      if (!covers(prefixes, path)) {
        return session.close(new Unauthorized({ detail: `to publish ${Path.format(announced)}` }))
      }
      const source: Offered = {
        path,
        session,
        hops,
        instance: session.greeting.instance,
        subscribe: (request) => session.subscribe(announced, request),
        trackInfo: session.trackInfo(announced),
        fetch: (sequence, options) => session.fetch(announced, sequence, options),
        onDuplicate: () => {
          if (!current.delete(source) || current.size > 0 || !isClient) return
          fibers.fork(session.close(new Duplicate({ detail: `${Path.format(announced)} has a newer publisher` })))
        },
        onAgain: () => void current.add(source)
      }
      current.add(source)
      const offered = origin.offer(source)
      return {
        path,
        withdraw: (why) => {
          current.delete(source)
          offered.withdraw(why)
        }
      }
    })
  })

// internal

// how long to wait, in milliseconds, before a stream that was reset is asked for again: twice as long each time
const shortestPause = 1_000
const longestPause = 30_000
