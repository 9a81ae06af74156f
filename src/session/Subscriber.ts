/**
 * The subscribing half of a session: asks the peer for tracks, and takes what it sends.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { ignore } from "../core/Ignore.ts"
import type { FetchError, RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Info from "../message/Info.ts"
import * as InfoPlease from "../message/InfoPlease.ts"
import type * as Announced from "../model/Announced.ts"
import type * as Group from "../model/Group.ts"
import * as Log from "../model/Log.ts"
import type { FetchOptions, TrackState } from "../model/Router.ts"
import { Held, holdIn } from "../model/Share.ts"
import type * as Subscription from "../model/Subscription.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import * as Announcing from "./Announcing.ts"
import { Deadlines } from "./Deadlines.ts"
import * as Fetching from "./Fetching.ts"
import { GroupStream } from "./GroupStream.ts"
import { inTime } from "./MessageStream.ts"
import { closedHere, request, requestErrorOf } from "./Requests.ts"
import type { SubscriberContext } from "./SessionContext.ts"
import { Sharing } from "./Sharing.ts"
import { Strays } from "./Strays.ts"

/** @internal */
export class Subscriber {
  readonly context: SubscriberContext
  readonly scope: Scope.Scope
  // what is heard of the tracks of the peer, by prefix: few ever listen
  private heard: Map<string, Held<Announced.Registry<RequestError>>> | undefined
  readonly sharing: Sharing
  readonly strays: Strays
  /** Streams of the peer, until they have said what they are for. */
  readonly newcomers: Deadlines
  constructor(context: SubscriberContext, scope: Scope.Scope) {
    this.context = context
    this.scope = scope
    this.heard = undefined
    this.strays = new Strays(context)
    this.newcomers = new Deadlines(context, context.limits.firstMessage)
    this.sharing = new Sharing(this)
  }

  /** One wire stream per prefix, shared by all who ask for it. */
  announced(prefix: Path.Path = Path.empty): Stream.Stream<Announced.Announced, RequestError> {
    const held = holdIn(this.heard ??= new Map(), Path.key(prefix), (onRetire) => {
      const held: Held<Announced.Registry<RequestError>> = new Held({
        scope: this.scope,
        // once the stream has ended, whoever asks next gets another one
        open: Announcing.open(this.context, prefix, Effect.sync(() => held.retire())),
        closed: closedHere,
        onRetire
      })
      return held
    })
    return Log.toStream(
      Effect.flatMap(Effect.andThen(Path.validate(prefix), held), (registry) => registry.reader(Path.empty))
    )
  }

  /** What the peer says of one track. */
  trackInfo(path: Path.Path): Effect.Effect<TrackState, RequestError> {
    const { profile } = this.context
    return Effect.gen({ self: this }, function*() {
      const stream = yield* request(this.context, "info", InfoPlease.encode, { _tag: "InfoPlease", path })
      // a peer that has answered may stop this side before it has taken its end
      yield* ignore(stream.send.finish)
      const { expires, latest, order, priority } = yield* stream.expect(Info.decode, profile)
      return { priority, order, expires, latest }
    }).pipe(inTime(this.context, "the answer to INFO_PLEASE"), Effect.scoped, Effect.mapError(requestErrorOf(path)))
  }

  /** Subscribes for as long as the scope. */
  subscribe(
    path: Path.Path,
    wanted: Subscription.Request
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    return this.sharing.subscribe(path, wanted)
  }

  /** Fetches one group, or its end, for as long as the scope. */
  fetch(
    path: Path.Path,
    sequence: number,
    options?: FetchOptions
  ): Effect.Effect<Group.Group, FetchError, Scope.Scope> {
    return Fetching.fetch(this.context, path, sequence, options)
  }

  // Suspends until the peer announces that a track has ended; for ever when it does not announce. Where somebody listens
  // to a prefix of the path already, that needs no stream of its own.
  withdrawn(path: Path.Path): Effect.Effect<void> {
    const prefixes = path.map((_, length) => path.slice(0, length))
    const heard = () => prefixes.find((prefix) => this.heard?.has(Path.key(prefix)))
    return Effect.suspend(() => {
      let isOver = false
      const followed = Stream.runForEach(this.announced(heard() ?? path), (event) => {
        isOver = event._tag === "Ended" && Path.equals(event.path, path)
        return isOver ? Cause.done() : Effect.void
      })
      return Effect.flatMap(ignore(followed), () => isOver ? Effect.void : Effect.never)
    })
  }

  /** Reads a unidirectional stream that the peer opened, until it is over. */
  read(stream: ReceiveStream, onOver?: () => void): GroupStream {
    const reader = new GroupStream(this, stream, onOver)
    reader.start()
    return reader
  }
}
