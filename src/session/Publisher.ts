/**
 * The publishing half of a session: answers what the peer asks of the tracks that this side offers.
 *
 * @since 0.1.0
 */
import { isArrayNonEmpty } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ignore } from "../core/Ignore.ts"
import { BoundsExceeded, type MoqError, ProtocolViolation } from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import * as Announce from "../message/Announce.ts"
import * as AnnouncePlease from "../message/AnnouncePlease.ts"
import * as Fetch from "../message/Fetch.ts"
import * as Info from "../message/Info.ts"
import * as InfoPlease from "../message/InfoPlease.ts"
import type { Profile } from "../message/Profile.ts"
import * as Subscribe from "../message/Subscribe.ts"
import type { Announced } from "../model/Announced.ts"
import * as Ranges from "../model/Ranges.ts"
import { FetchServing } from "./FetchServing.ts"
import { attempt, encode, inTime, type MessageStream, type ReceiveError } from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import { Sending } from "./Sending.ts"
import { Serving } from "./Serving.ts"
import { maxRanges, type PublisherContext } from "./SessionContext.ts"

/** What serves a request that has been read; fails with what its stream is to be ended with. */
type Service = Effect.Effect<void, MoqError>

/** A request that is being served, and what is to be waited for before the session closes. */
interface Served {
  readonly run: Service
  readonly drain: Effect.Effect<void>
}

/**
 * Serves the requests of one session. Each method reads the first message of a stream that the peer opened; what that
 * gives serves the request, and fails with what the peer did wrong or could not be given.
 *
 * @internal
 */
export class Publisher {
  static make(context: PublisherContext): Effect.Effect<Publisher> {
    return Effect.map(Sending.make(context), (sending) => new Publisher(context, sending))
  }

  readonly context: PublisherContext
  readonly sending: Sending
  readonly used: Ranges.Ranges
  readonly serving: Set<Served>
  // how many of them count against each limit
  private readonly counts: Record<"subscriptions" | "announceStreams", number>
  constructor(context: PublisherContext, sending: Sending) {
    this.context = context
    this.sending = sending
    this.used = Ranges.make(maxRanges)
    this.serving = new Set()
    this.counts = { subscriptions: 0, announceStreams: 0 }
  }

  /** An Announce stream: tells the peer which tracks there are, until it ends the stream. */
  announce(stream: MessageStream): Effect.Effect<Service, ReceiveError> {
    const { monitor, profile, router } = this.context
    return Effect.map(stream.expect(AnnouncePlease.decode, profile), ({ prefix }) => {
      let announced = 0
      const count = (change: 1 | -1): void => {
        announced += change
        monitor.announce("sent", change)
      }
      const told = Stream.runForEachArray(router.announced(prefix), (events) =>
        Effect.flatMap(
          Effect.forEach(events, (event) => announcement(event, prefix, profile)),
          (announcements) => {
            events.forEach(({ _tag }, i) => {
              if (_tag !== "Live" && announcements[i]!.length > 0) count(_tag === "Active" ? 1 : -1)
            })
            const chunks = announcements.flat()
            return isArrayNonEmpty(chunks) ? stream.send.write(chunks) : Effect.void
          }
        ))
      const left = subscriberLeft(stream, profile)
      const run = stream.send.setPriority(Rank.control).pipe(
        Effect.andThen(Effect.raceFirst(told, left)),
        Effect.andThen(stream.send.finish),
        Effect.ensuring(Effect.sync(() => {
          while (announced > 0) count(-1)
        }))
      )
      return this.serve({ run, drain: Effect.void }, "announceStreams")
    })
  }

  /** An Info stream: tells the peer about one track. */
  info(stream: MessageStream): Effect.Effect<Service, ReceiveError> {
    const { profile, router } = this.context
    return Effect.map(stream.expect(InfoPlease.decode, profile), ({ path }) => {
      const run = Effect.flatMap(router.trackInfo(path), ({ expires, latest, order, priority }) => {
        const info: Info.Info = { _tag: "Info", priority, order, expires, latest: latest ?? 0 }
        return stream.send.setPriority(Rank.control).pipe(
          Effect.andThen(stream.send.write([encode(Info.encode, info, profile)])),
          Effect.andThen(stream.send.finish)
        )
      })
      return this.serve({ run, drain: Effect.void })
    })
  }

  /** A Subscribe stream: sends the groups of one track, until the track or the subscription ends. */
  subscribe(stream: MessageStream): Effect.Effect<Service, ReceiveError> {
    const { profile, violation } = this.context
    return Effect.map(stream.expect(Subscribe.decode, profile), (message) =>
      Effect.suspend(() => {
        if (Ranges.has(this.used, message.id)) {
          return violation(new ProtocolViolation({ detail: `subscribe id ${message.id} is used again` }))
        }
        Ranges.claim(this.used, message.id)
        if (message.path.length === 0) return Effect.fail(emptyPath)
        return this.sending.isDraining
          ? Effect.never
          : this.serve(new Serving(this.context, this.sending, stream, message))
      }))
  }

  /** A Fetch stream: sends one group. */
  fetch(stream: MessageStream): Effect.Effect<Service, ReceiveError> {
    return Effect.map(stream.expect(Fetch.decode, this.context.profile), (message) =>
      Effect.suspend(() => {
        if (message.path.length === 0) return Effect.fail(emptyPath)
        this.context.monitor.fetch("sent")
        return this.sending.isDraining
          ? Effect.never
          : this.serve(new FetchServing(this.context, this.sending, stream, message))
      }))
  }

  private serve(served: Served, limit: "subscriptions" | "announceStreams" = "subscriptions"): Service {
    const { context: { limits, monitor }, counts, serving } = this
    const count = (change: 1 | -1): void => {
      counts[limit] += change
      if (served instanceof Serving) monitor.subscription("sent", change)
    }
    return Effect.onExit(
      Effect.suspend(() => {
        if (counts[limit] >= limits[limit]) {
          monitor.limit(limit)
          return Effect.fail(new BoundsExceeded({ detail: `${counts[limit]} requests are served already` }))
        }
        serving.add(served)
        count(1)
        return served.run
      }),
      () => Effect.sync(() => serving.delete(served) && count(-1))
    )
  }

  /** Lets what is under way come to its end: tracks that have ended, groups that have begun. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.sending.isDraining = true
      return Effect.forEach([...this.serving], (serving) => serving.drain, { concurrency: "unbounded", discard: true })
    }).pipe(inTime(this.context, "what is under way", "drain"), ignore)
  }
}

// internal

const emptyPath = new ProtocolViolation({ detail: "a path has at least one part" })

// a path that was offered here and cannot travel is nobody else's trouble
const announcement = (event: Announced, prefix: Path.Path, profile: Profile): Effect.Effect<Array<Uint8Array>> => {
  const message = toMessage(event, prefix)
  if (message.status === "live" && !profile.sendsLive) return Effect.succeed([])
  const bytes = attempt(() => encode(Announce.encode, message, profile))
  return Effect.isEffect(bytes)
    ? Effect.catch(bytes, (error) => Effect.as(Effect.logWarning(`a track is not announced: ${error.message}`), []))
    : Effect.succeed([bytes])
}

const toMessage = (event: Announced, prefix: Path.Path): Announce.Announce =>
  event._tag === "Live" ? { _tag: "Announce", status: "live" } : {
    _tag: "Announce",
    status: event._tag === "Active" ? "active" : "ended",
    suffix: event.path.slice(prefix.length)
  }

// the crate finishes its side of an Announce stream at once, and wants to hear more
const subscriberLeft = (stream: MessageStream, profile: Profile): Effect.Effect<void, MoqError> => {
  const stopped = Effect.asVoid(stream.send.stopped)
  return Effect.raceFirst(profile.finUnsubscribes ? stream.end : Effect.andThen(stream.end, Effect.never), stopped)
}
