/**
 * The publishing half of a session: answers what the peer asks of the tracks that this side offers.
 *
 * @since 0.1.0
 */
import { isArrayNonEmpty } from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Reader from "../coding/Reader.ts"
import { Bag, type Item } from "../core/Bag.ts"
import { ignore } from "../core/Ignore.ts"
import { BoundsExceeded, type MoqError, ProtocolViolation } from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import * as Announce from "../message/Announce.ts"
import * as AnnouncePlease from "../message/AnnouncePlease.ts"
import * as Fetch from "../message/Fetch.ts"
import * as Info from "../message/Info.ts"
import * as InfoPlease from "../message/InfoPlease.ts"
import type { Profile } from "../message/Profile.ts"
import type * as StreamType from "../message/StreamType.ts"
import * as Subscribe from "../message/Subscribe.ts"
import type { Announced } from "../model/Announced.ts"
import * as Ranges from "../model/Ranges.ts"
import { FetchServing } from "./FetchServing.ts"
import { encode, failure, inTime, type MessageStream } from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import type { Sending } from "./Sending.ts"
import { Serving } from "./Serving.ts"
import { maxRanges, type PublisherContext } from "./SessionContext.ts"

/**
 * What serves a request that has been read.
 *
 * @internal
 */
export interface Service {
  /** Fails with what the stream of the request is to be ended with; the scope closes after that. */
  readonly run: Effect.Effect<void, MoqError, Scope.Scope>
  /** What is to be waited for before the session closes. */
  readonly drain?: Effect.Effect<void>
  /** What it counts against, where that is not the limit of subscriptions; what breaks a rule does that at any number. */
  readonly limit?: "announceStreams" | "none"
}

/**
 * What a peer has asked for, and what serves that once it is known.
 *
 * @internal
 */
export interface Request extends Item {
  readonly service: Service | undefined
}

/**
 * Serves the requests of one session.
 *
 * @internal
 */
export class Publisher {
  readonly context: PublisherContext
  readonly sending: Sending
  readonly used: Ranges.Ranges
  private readonly serving: Bag<Request>
  // how many of them count against each limit
  private readonly counts: Record<"subscriptions" | "announceStreams" | "none", number>
  constructor(context: PublisherContext, sending: Sending) {
    this.context = context
    this.sending = sending
    this.used = Ranges.make(maxRanges)
    this.serving = new Bag()
    this.counts = { subscriptions: 0, announceStreams: 0, none: 0 }
  }

  /**
   * Reads the first message of a stream that the peer opened for a request: it must be in the reader of the stream. What that
   * gives serves the request, and fails with what the peer did wrong or could not be given. Throws the codec's errors.
   */
  request(type: Exclude<StreamType.Bi, "session">, stream: MessageStream): Service | Reader.NeedMore {
    const { profile } = this.context
    const { reader } = stream
    // one after the other rather than by a table, which would not know what belongs together
    if (type === "subscribe") {
      return served(Subscribe.decode(reader, profile), (message) => this.subscribe(stream, message))
    }
    if (type === "fetch") return served(Fetch.decode(reader, profile), (message) => this.fetch(stream, message))
    if (type === "info") return served(InfoPlease.decode(reader, profile), (message) => this.info(stream, message))
    return served(AnnouncePlease.decode(reader, profile), (message) => this.announce(stream, message))
  }

  // tells the peer which tracks there are, until it ends the stream
  private announce(stream: MessageStream, { prefix }: AnnouncePlease.AnnouncePlease): Service {
    const { monitor, profile, router } = this.context
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
    return { run, limit: "announceStreams" }
  }

  // tells the peer about one track
  private info(stream: MessageStream, { path }: InfoPlease.InfoPlease): Service {
    const { profile, router } = this.context
    const run = Effect.flatMap(router.trackInfo(path), ({ expires, latest, order, priority }) => {
      const info: Info.Info = { _tag: "Info", priority, order, expires, latest: latest ?? 0 }
      return stream.send.setPriority(Rank.control).pipe(
        Effect.andThen(stream.send.write([encode(Info.encode, info, profile)])),
        Effect.andThen(stream.send.finish)
      )
    })
    return { run }
  }

  // sends the groups of one track, until the track or the subscription ends
  private subscribe(stream: MessageStream, message: Subscribe.Subscribe): Service {
    const { context, sending, used } = this
    if (!Ranges.claimOne(used, message.id)) {
      const error = new ProtocolViolation({ detail: `subscribe id ${message.id} is used again` })
      return { run: Effect.andThen(context.end(error), Effect.fail(error)), limit: "none" }
    }
    if (message.path.length === 0) return refused
    return sending.isDraining ? ignored : new Serving(context, sending, stream, message)
  }

  // sends one group
  private fetch(stream: MessageStream, message: Fetch.Fetch): Service {
    const { context, sending } = this
    if (message.path.length === 0) return refused
    context.monitor.fetch("sent")
    return sending.isDraining ? ignored : new FetchServing(context, sending, stream, message)
  }

  /** What does what was asked for: it counts from now on, until `over`, unless too much is asked for. */
  begin(request: Request): Service["run"] {
    const { context: { limits, monitor }, counts } = this
    const { limit = "subscriptions", run } = request.service!
    if (limit !== "none" && counts[limit] >= limits[limit]) {
      monitor.limit(limit)
      return Effect.fail(new BoundsExceeded({ detail: `${counts[limit]} requests are served already` }))
    }
    this.serving.add(request)
    this.count(request, 1)
    return run
  }

  over(request: Request): void {
    if (this.serving.delete(request)) this.count(request, -1)
  }

  private count({ service }: Request, change: 1 | -1): void {
    this.counts[service!.limit ?? "subscriptions"] += change
    if (service instanceof Serving) this.context.monitor.subscription("sent", change)
  }

  /** Lets what is under way come to its end: tracks that have ended, groups that have begun. */
  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.sending.isDraining = true
      return Effect.forEach([...this.serving.all], ({ service }) => service!.drain ?? Effect.void, {
        concurrency: "unbounded",
        discard: true
      })
    }).pipe(inTime(this.context, "what is under way", "drain"), ignore)
  }
}

// internal

const served = <A extends object>(
  message: A | Reader.NeedMore,
  serve: (message: A) => Service
): Service | Reader.NeedMore => message === Reader.NeedMore ? message : serve(message)

const refused: Service = {
  run: Exit.fail(new ProtocolViolation({ detail: "the path of a track has at least one part" })),
  limit: "none"
}

// until the session has closed
const ignored: Service = { run: Effect.never, limit: "none" }

// a path that was offered here and cannot travel is nobody else's trouble
const announcement = (event: Announced, prefix: Path.Path, profile: Profile): Effect.Effect<Array<Uint8Array>> => {
  const message = toMessage(event, prefix)
  if (message.status === "live" && !profile.sendsLive) return Effect.succeed([])
  try {
    return Effect.succeed([encode(Announce.encode, message, profile)])
  } catch (error) {
    return Effect.catch(
      failure(error),
      ({ message }) => Effect.as(Console.warn(`a track is not announced: ${message}`), [])
    )
  }
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
  return Effect.raceFirst(
    profile.finUnsubscribes ? stream.finished : Effect.andThen(stream.finished, Effect.never),
    stopped
  )
}
