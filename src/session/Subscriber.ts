/**
 * The subscribing half of a session: asks the peer for tracks, and takes what it sends.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Reader from "../coding/Reader.ts"
import {
  Cancelled,
  type FetchError,
  isMoqError,
  type MoqError,
  NotFound,
  NotSupportedByPeer,
  type RequestError,
  toCode,
  toRequestError
} from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Announce from "../message/Announce.ts"
import * as AnnouncePlease from "../message/AnnouncePlease.ts"
import * as GroupMessage from "../message/Group.ts"
import * as Info from "../message/Info.ts"
import * as InfoPlease from "../message/InfoPlease.ts"
import type { Profile } from "../message/Profile.ts"
import * as StreamType from "../message/StreamType.ts"
import * as SubscribeMessage from "../message/Subscribe.ts"
import * as Announced from "../model/Announced.ts"
import type * as Group from "../model/Group.ts"
import type { FetchOptions, TrackState } from "../model/Router.ts"
import * as Subscription from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import {
  type Encode,
  encode,
  expect,
  MessageStream,
  type ReceiveError,
  resetCode,
  toReadError,
  within
} from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import { Receiving } from "./Receiving.ts"
import type { SessionContext } from "./SessionContext.ts"

/** @internal */
export class Subscriber {
  static make(options: SessionContext): Effect.Effect<Subscriber, never, Scope.Scope> {
    return Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const announcements: Subscriber["announcements"] = yield* RcMap.make({
        lookup: (key: string) =>
          // once the stream has ended, whoever asks next gets another one
          openAnnounced(options, Path.fromKey(key), Effect.suspend(() => RcMap.invalidate(announcements, key)))
      })
      return new Subscriber(options, announcements, clock)
    })
  }

  readonly options: SessionContext
  readonly announcements: RcMap.RcMap<string, Announced.Registry<RequestError>, RequestError>
  readonly subscriptions: Map<number, Receiving>
  /** Hears of every batch of a group's bytes. */
  readonly onBytes: () => void
  /** When the last of them came, in milliseconds. */
  heard: number
  nextId: number
  constructor(
    options: SessionContext,
    announcements: RcMap.RcMap<string, Announced.Registry<RequestError>, RequestError>,
    clock: Clock.Clock
  ) {
    this.options = options
    this.announcements = announcements
    this.subscriptions = new Map()
    this.onBytes = () => {
      this.heard = clock.currentTimeMillisUnsafe()
    }
    this.heard = 0
    this.nextId = 0
  }

  /** One wire stream per prefix, shared by all who ask for it. */
  announced(prefix: Path.Path): Stream.Stream<Announced.Announced, RequestError> {
    return Path.validate(prefix).pipe(
      Effect.flatMap(() => RcMap.get(this.announcements, Path.key(prefix))),
      Effect.map((registry) => registry.announced(Path.empty)),
      Stream.unwrap
    )
  }

  /** What the peer says of one track. */
  trackInfo(path: Path.Path): Effect.Effect<TrackState, RequestError> {
    const { limits, profile } = this.options
    return Effect.gen({ self: this }, function*() {
      const stream = yield* request(this.options, "info", InfoPlease.encode, { _tag: "InfoPlease", path })
      yield* stream.send.finish
      const { expires, latest, order, priority } = yield* stream.expect(Info.decode, profile)
      return { priority, order, expires, latest }
    }).pipe(within(limits.request, "the answer to INFO_PLEASE"), Effect.scoped, Effect.mapError(errorOf(path)))
  }

  /** Subscribes for as long as the scope; the track is filled by a fiber of that scope. */
  subscribe(
    path: Path.Path,
    wanted: Subscription.Request
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    const { limits, profile } = this.options
    const { expires = 0, from, order = "default", priority = 0 } = wanted
    const subscribed = Effect.gen({ self: this }, function*() {
      const id = this.nextId++
      const message: SubscribeMessage.Subscribe = {
        _tag: "Subscribe",
        id,
        path,
        priority,
        order,
        expires,
        ...(from === "latest" ? {} : { min: from })
      }
      const stream = yield* open(this.options)
      const receiving = yield* Receiving.make(stream, this.options, this.onBytes)
      // before SUBSCRIBE leaves: groups may overtake its answer
      yield* Effect.acquireRelease(
        Effect.sync(() => this.subscriptions.set(id, receiving)),
        () => Effect.sync(() => this.subscriptions.delete(id))
      )
      yield* stream.send.write([requestBytes("subscribe", SubscribeMessage.encode, message, profile)])
      if (profile.subscriberFinishesEarly) yield* stream.send.finish
      const answer = yield* stream.expect(Info.decode, profile)
      const first = from === "latest" ? answer.latest : from
      const track = yield* Track.make(path, {
        priority: answer.priority,
        order: answer.order,
        expires: answer.expires,
        start: from,
        first
      })
      yield* Effect.addFinalizer(() => track.fail(left))
      const withdrawn = profile.announceEndsTracks ? this.withdrawn(path) : Effect.never
      yield* Effect.forkScoped(receiving.run(track, first, withdrawn), { startImmediately: true })
      return Subscription.make(track.track, wanted)
    }).pipe(within(limits.request, `the answer to SUBSCRIBE ${Path.format(path)}`), Effect.mapError(errorOf(path)))
    // an attempt that fails leaves nothing behind in a scope that goes on
    return Effect.flatMap(
      Effect.scope,
      (scope) =>
        Effect.flatMap(
          Scope.fork(scope),
          (own) => Effect.onError(Scope.provide(subscribed, own), (cause) => Scope.close(own, Exit.failCause(cause)))
        )
    )
  }

  /** Asks for one group, or its end; it is filled by a fiber of the scope. */
  fetch(
    _path: Path.Path,
    _sequence: number,
    _options?: FetchOptions
  ): Effect.Effect<Group.Group, FetchError, Scope.Scope> {
    return Effect.fail(new NotSupportedByPeer({ detail: "FETCH" }))
  }

  /** Suspends until the peer announces that a track has ended; for ever when it does not announce. */
  withdrawn(path: Path.Path): Effect.Effect<void> {
    return this.announced(path).pipe(
      Stream.filter((event) => event._tag === "Ended" && Path.equals(event.path, path)),
      Stream.runHead,
      Effect.flatMap(Option.match({ onNone: () => Effect.never, onSome: () => Effect.void })),
      Effect.catch(() => Effect.never)
    )
  }

  /** Reads the header of a group's stream; what that gives reads the rest, and fails with what to stop the stream for. */
  group(stream: ReceiveStream): Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError> {
    const { profile } = this.options
    const reader = Reader.make()
    return Effect.andThen(
      expect(stream, reader, StreamType.decodeUni),
      Effect.map(
        expect(stream, reader, (reader) => GroupMessage.decode(reader, profile)),
        (message) =>
          Effect.suspend(() => {
            const receiving = this.subscriptions.get(message.subscribe)
            return receiving === undefined
              ? Effect.fail(new NotFound({ detail: `no subscription ${message.subscribe}` }))
              : receiving.receive(stream, reader, message.sequence)
          })
      )
    )
  }
}

// internal

const codeNotFound = toCode(new NotFound({}))

// a code says that something was not found, but not what
const errorOf = (path: Path.Path) => (error: MoqError): RequestError =>
  error._tag === "MoqStreamReset" && error.code === codeNotFound
    ? new NotFound({ detail: Path.format(path) })
    : toRequestError(toReadError(error))

const left = new Cancelled({ detail: "the subscription was closed" })

// when its scope closes with an error, the peer is told of that one
const open = (options: SessionContext): Effect.Effect<MessageStream, ReceiveError, Scope.Scope> =>
  Effect.gen(function*() {
    const stream = new MessageStream(yield* options.connection.openBi)
    yield* Effect.addFinalizer((exit) => {
      const error = Option.flatMap(Exit.getCause(exit), Cause.findErrorOption)
      return Option.isSome(error) && isMoqError(error.value)
        ? stream.abort(resetCode(error.value, options))
        : Effect.void
    })
    yield* stream.send.setPriority(Rank.control)
    return stream
  })

const requestBytes = <A>(type: StreamType.Bi, layout: Encode<A>, message: A, profile: Profile): Uint8Array =>
  encode<A>(
    (writer, message, profile) => {
      StreamType.encodeBi(writer, type)
      layout(writer, message, profile)
    },
    message,
    profile
  )

// opens a stream with its type and first message, in one write
const request = <A>(
  options: SessionContext,
  type: StreamType.Bi,
  layout: Encode<A>,
  message: A
): Effect.Effect<MessageStream, ReceiveError, Scope.Scope> =>
  Effect.tap(open(options), (stream) => stream.send.write([requestBytes(type, layout, message, options.profile)]))

// without a `live` marker, this long without news is taken for it
const quiet = "500 millis"

const openAnnounced = (
  options: SessionContext,
  prefix: Path.Path,
  over: Effect.Effect<void>
): Effect.Effect<Announced.Registry<RequestError>, RequestError, Scope.Scope> =>
  Effect.gen(function*() {
    const { limits, profile } = options
    const registry = new Announced.Registry<RequestError>()
    const stream = yield* within(limits.request, "a stream to ask for announces")(
      request(options, "announce", AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix })
    )
    const next = stream.read(Announce.decode, profile)
    const hear: Effect.Effect<void, MoqError> = Effect.gen(function*() {
      while (true) {
        const news = registry.isLive !== undefined || profile.sendsLive
          ? Option.some(yield* next)
          : yield* Effect.timeoutOption(next, quiet)
        if (Option.isNone(news)) {
          registry.live("quiet")
          continue
        }
        const announce = news.value
        if (announce === undefined) return
        if (announce.status === "live") {
          registry.live("marker")
          continue
        }
        const path = yield* Path.validate(Path.concat(prefix, announce.suffix))
        const isNews = announce.status === "active" ? registry.add(path) : registry.remove(path)
        if (!isNews) yield* Effect.logDebug(`the peer announced ${Path.format(path)} as ${announce.status} again`)
      }
    })
    yield* Effect.forkScoped(
      hear.pipe(
        Effect.tapError((error) => stream.abort(resetCode(error, options))),
        Effect.mapError((error) => toRequestError(toReadError(error))),
        Effect.onExit((exit) => Effect.andThen(Effect.sync(() => registry.end(exit)), over))
      ),
      { startImmediately: true }
    )
    return registry
  }).pipe(Effect.mapError((error) => toRequestError(toReadError(error))))
