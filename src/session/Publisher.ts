/**
 * The publishing half of a session: answers what the peer asks of the tracks that this side offers.
 *
 * @since 0.1.0
 */
import { isArrayNonEmpty } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type MoqError, ProtocolViolation } from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import * as Announce from "../message/Announce.ts"
import * as AnnouncePlease from "../message/AnnouncePlease.ts"
import * as Info from "../message/Info.ts"
import * as InfoPlease from "../message/InfoPlease.ts"
import type { Profile } from "../message/Profile.ts"
import * as Subscribe from "../message/Subscribe.ts"
import type { Announced } from "../model/Announced.ts"
import type { Router } from "../model/Router.ts"
import type { Connection } from "../transport/Transport.ts"
import type { Limits } from "./Limits.ts"
import { encode, type MessageStream } from "./MessageStream.ts"
import { Sequences } from "./Sequences.ts"
import { Serving } from "./Serving.ts"

/** @internal */
export interface Options {
  readonly connection: Connection
  readonly profile: Profile
  readonly limits: Limits
  /** What is offered to the peer. */
  readonly router: Router
  /** Ends the session because the peer broke a rule that costs it the session. */
  readonly violation: (error: ProtocolViolation) => Effect.Effect<never, ProtocolViolation>
}

/**
 * Serves the requests of one session. Each method handles one stream that the peer opened, and fails with what the peer
 * did wrong or could not be given; whoever calls it ends the stream with that.
 *
 * @internal
 */
export class Publisher {
  readonly options: Options
  readonly used: Sequences
  readonly serving: Set<Serving>
  constructor(options: Options) {
    this.options = options
    this.used = new Sequences()
    this.serving = new Set()
  }

  /** An Announce stream: tells the peer which tracks there are, until it ends the stream. */
  announce(stream: MessageStream): Effect.Effect<void, MoqError> {
    const { limits, profile, router } = this.options
    return Effect.gen(function*() {
      const { prefix } = yield* stream.first(AnnouncePlease.decode, profile, limits.firstMessage)
      const told = Stream.runForEachArray(router.announced(prefix), (events) => {
        const chunks = events.flatMap((event) => announcement(event, prefix, profile))
        return isArrayNonEmpty(chunks) ? stream.send.write(chunks) : Effect.void
      })
      yield* Effect.raceFirst(told, subscriberLeft(stream, profile))
      yield* stream.send.finish
    })
  }

  /** An Info stream: tells the peer about one track. */
  info(stream: MessageStream): Effect.Effect<void, MoqError> {
    const { limits, profile, router } = this.options
    return Effect.gen(function*() {
      const { path } = yield* stream.first(InfoPlease.decode, profile, limits.firstMessage)
      const { expires, latest, order, priority } = yield* router.trackInfo(path)
      const info: Info.Info = { _tag: "Info", priority, order, expires, latest: latest ?? 0 }
      yield* stream.send.write([encode(Info.encode, info, profile)])
      yield* stream.send.finish
    })
  }

  /** A Subscribe stream: sends the groups of one track, until the track or the subscription ends. */
  subscribe(stream: MessageStream): Effect.Effect<void, MoqError> {
    const { limits, profile, router, violation } = this.options
    return Effect.scoped(Effect.gen({ self: this }, function*() {
      const message = yield* stream.first(Subscribe.decode, profile, limits.firstMessage)
      if (this.used.has(message.id)) {
        return yield* violation(new ProtocolViolation({ detail: `subscribe id ${message.id} is used again` }))
      }
      this.used.add(message.id)
      if (message.path.length === 0) return yield* new ProtocolViolation({ detail: "a path has at least one part" })
      const track = yield* router.subscribe(message.path, { from: message.min ?? "latest" })
      const serving = yield* Serving.make(this.options, stream, message, track)
      yield* Effect.acquireRelease(
        Effect.sync(() => this.serving.add(serving)),
        () => Effect.sync(() => this.serving.delete(serving))
      )
      yield* serving.run
    }))
  }

  /** Lets what is under way come to its end: tracks that have ended, groups that have begun. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach([...this.serving], (serving) => serving.drain, { concurrency: "unbounded", discard: true })
    ).pipe(Effect.timeoutOption(this.options.limits.drain), Effect.asVoid)
  }
}

// internal

const announcement = (event: Announced, prefix: Path.Path, profile: Profile): Array<Uint8Array> => {
  if (event._tag === "Live") {
    return profile.sendsLive ? [encode(Announce.encode, { _tag: "Announce", status: "live" }, profile)] : []
  }
  const status = event._tag === "Active" ? "active" : "ended"
  const suffix = event.path.slice(prefix.length)
  return [encode(Announce.encode, { _tag: "Announce", status, suffix }, profile)]
}

// the crate finishes its side of an Announce stream at once, and wants to hear more
const subscriberLeft = (stream: MessageStream, profile: Profile): Effect.Effect<void, MoqError> => {
  const stopped = Effect.asVoid(stream.send.stopped)
  return Effect.raceFirst(profile.finUnsubscribes ? stream.end : Effect.andThen(stream.end, Effect.never), stopped)
}
