/**
 * Hearing of the tracks of the peer below a prefix.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { BoundsExceeded, type MoqError, type RequestError, toRequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Announce from "../message/Announce.ts"
import * as AnnouncePlease from "../message/AnnouncePlease.ts"
import * as Announced from "../model/Announced.ts"
import { inTime, type MessageStream, resetCode, toReadError } from "./MessageStream.ts"
import { refused } from "./Monitor.ts"
import { Rate } from "./Rate.ts"
import { closedHere, request } from "./Requests.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * Opens an Announce stream for as long as the scope, and keeps what it tells; `over` runs when it has ended.
 *
 * @internal
 */
export const open = (
  context: SessionContext,
  prefix: Path.Path,
  over: Effect.Effect<void>
): Effect.Effect<Announced.Registry<RequestError>, RequestError, Scope.Scope> =>
  Effect.gen(function*() {
    const stream = yield* inTime(context, "a stream to ask for announces")(
      request(context, "announce", AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix })
    )
    const announcing = new Announcing(context, prefix, stream)
    yield* Effect.forkScoped(
      announcing.hear.pipe(
        Effect.catch((error) =>
          Effect.andThen(stream.abort(resetCode(error, context)), Effect.fail(toRequestError(toReadError(error))))
        ),
        Effect.onExit((exit) => Effect.andThen(Effect.sync(() => announcing.end(exit)), over))
      ),
      { startImmediately: true }
    )
    if (!context.profile.sendsLive) yield* Effect.forkScoped(announcing.guessLive)
    return announcing.registry
  }).pipe(Effect.mapError((error) => toRequestError(toReadError(error))))

// internal

// without a `live` marker, so many milliseconds without news are taken for it
const quiet = 500

class Announcing {
  readonly context: SessionContext
  readonly prefix: Path.Path
  readonly stream: MessageStream
  readonly registry: Announced.Registry<RequestError>
  readonly rate: Rate
  // when something was heard, in milliseconds
  heard: number
  constructor(context: SessionContext, prefix: Path.Path, stream: MessageStream) {
    const { clock, limits } = context
    this.context = context
    this.prefix = prefix
    this.stream = stream
    this.registry = new Announced.Registry()
    this.rate = new Rate(clock, limits.announceRate, limits.announces)
    this.heard = clock.currentTimeMillisUnsafe()
  }

  get hear(): Effect.Effect<void, MoqError> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const announce = yield* this.stream.read(Announce.decode, this.context.profile)
        if (announce === undefined) return
        this.heard = this.context.clock.currentTimeMillisUnsafe()
        if (announce.status === "live") this.registry.live("marker")
        else yield* this.take(announce.status, announce.suffix)
      }
    })
  }

  // when it is interrupted while anybody reads it, that is because the session closes
  end(exit: Exit.Exit<void, RequestError>): void {
    for (let left = this.registry.active.size; left > 0; left--) this.context.monitor.announce("received", -1)
    this.registry.end(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Exit.fail(closedHere) : exit)
  }

  take(status: "active" | "ended", suffix: Path.Path): Effect.Effect<void, BoundsExceeded> {
    const { limits, monitor } = this.context
    if (!this.rate.take()) {
      monitor.limit("announceRate")
      return Effect.fail(new BoundsExceeded({ detail: "too many announces in a short time" }))
    }
    const valid = Effect.mapError(Path.validate(Path.concat(this.prefix, suffix)), (error) => {
      refused(monitor, error)
      return error
    })
    return Effect.flatMap(valid, (path) => {
      const { active } = this.registry
      // before anybody hears of one too many
      if (status === "active" && active.size >= limits.announces && !active.has(Path.key(path))) {
        monitor.limit("announces")
        return Effect.fail(new BoundsExceeded({ detail: `${active.size + 1} tracks announced` }))
      }
      const isNews = status === "active" ? this.registry.add(path) : this.registry.remove(path)
      if (isNews) monitor.announce("received", status === "active" ? 1 : -1)
      return Effect.void
    })
  }

  // beside the reading, which is never interrupted: what has been decoded is told
  get guessLive(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      while (this.registry.isLive === undefined) {
        const left = this.heard + quiet - this.context.clock.currentTimeMillisUnsafe()
        if (left <= 0) return this.registry.live("quiet")
        yield* Effect.sleep(left)
      }
    })
  }
}
