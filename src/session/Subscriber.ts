/**
 * The subscribing half of a session: asks the peer for tracks, and takes what it sends.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Reader from "../coding/Reader.ts"
import { ignore } from "../core/Ignore.ts"
import {
  type BoundsExceeded,
  DecodeError,
  type FetchError,
  type MoqError,
  NotFound,
  type RequestError
} from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as GroupMessage from "../message/Group.ts"
import * as Info from "../message/Info.ts"
import * as InfoPlease from "../message/InfoPlease.ts"
import * as StreamType from "../message/StreamType.ts"
import type * as Announced from "../model/Announced.ts"
import type * as Group from "../model/Group.ts"
import type { FetchOptions, TrackState } from "../model/Router.ts"
import { Held } from "../model/Share.ts"
import type * as Subscription from "../model/Subscription.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import * as Announcing from "./Announcing.ts"
import * as Fetching from "./Fetching.ts"
import { attempt, inTime, type ReceiveError } from "./MessageStream.ts"
import { closedHere, errorOf, request } from "./Requests.ts"
import type { SubscriberContext } from "./SessionContext.ts"
import { Sharing } from "./Sharing.ts"
import { Strays } from "./Strays.ts"

/** @internal */
export class Subscriber {
  static make(context: SubscriberContext): Effect.Effect<Subscriber, never, Scope.Scope> {
    return Effect.map(Effect.scope, (scope) => new Subscriber(context, scope))
  }

  readonly context: SubscriberContext
  readonly scope: Scope.Scope
  /** What is heard of the tracks of the peer, by prefix. */
  readonly announcements: Map<string, Held<Announced.Registry<RequestError>>>
  readonly sharing: Sharing
  readonly strays: Strays
  // has read the last header, and all that came with it
  private spare: Reader.Reader | undefined
  constructor(context: SubscriberContext, scope: Scope.Scope) {
    this.context = context
    this.scope = scope
    this.announcements = new Map()
    this.strays = new Strays(context)
    this.sharing = new Sharing(this.context, (path) => this.withdrawn(path), (id) => this.strays.unsubscribed(id))
    this.spare = undefined
  }

  /** One wire stream per prefix, shared by all who ask for it. */
  announced(prefix: Path.Path): Stream.Stream<Announced.Announced, RequestError> {
    const held = Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => (this.announcements.get(Path.key(prefix)) ?? this.hear(prefix)).hold(restore))
    )
    return Path.validate(prefix).pipe(
      Effect.andThen(held),
      Effect.map((registry) => registry.announced(Path.empty)),
      Stream.unwrap
    )
  }

  hear(prefix: Path.Path): Held<Announced.Registry<RequestError>> {
    const key = Path.key(prefix)
    const held: Held<Announced.Registry<RequestError>> = new Held({
      scope: this.scope,
      // once the stream has ended, whoever asks next gets another one
      open: Announcing.open(this.context, prefix, Effect.sync(() => held.retire())),
      closed: closedHere,
      onRetire: () => {
        if (this.announcements.get(key) === held) this.announcements.delete(key)
      }
    })
    this.announcements.set(key, held)
    return held
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
    }).pipe(inTime(this.context, "the answer to INFO_PLEASE"), Effect.scoped, Effect.mapError(errorOf(path)))
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
    const heard = () => prefixes.find((prefix) => this.announcements.has(Path.key(prefix)))
    return Effect.suspend(() => {
      let isOver = false
      const followed = Stream.runForEachWhile(this.announced(heard() ?? path), (event) => {
        isOver = event._tag === "Ended" && Path.equals(event.path, path)
        return Effect.succeed(!isOver)
      })
      return Effect.flatMap(ignore(followed), () => isOver ? Effect.void : Effect.never)
    })
  }

  /** Reads the header of a group's stream; what that gives reads the rest, and fails with what to stop the stream for. */
  group(stream: ReceiveStream): Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError | BoundsExceeded> {
    return Effect.suspend(() => {
      const { strays } = this
      return Effect.onExit(strays.opened(this.sharing.receiving.size) ?? this.header(stream), (exit) => {
        strays.waiting--
        if (Exit.isSuccess(exit)) return Effect.void
        const isReset = Exit.findErrorOption(exit).pipe(Option.exists((error) => error._tag === "MoqStreamReset"))
        return (isReset ? strays.reset(false) : undefined) ??
          Effect.forEach(this.sharing.receiving.values(), ({ suspect }) => suspect, { discard: true })
      })
    })
  }

  // decodes a header that is complete, as most are when they come, without a reader of its own
  private header(stream: ReceiveStream): Effect.Effect<Effect.Effect<void, MoqError>, ReceiveError> {
    const { monitor, profile } = this.context
    let own: Reader.Reader | undefined
    let hasType = false
    const next: Pull.Pull<Effect.Effect<void, MoqError>, ReceiveError> = Effect.flatMap(stream.pull, (chunks) => {
      const reader = own ?? this.spare ?? Reader.make()
      this.spare = undefined
      for (let i = 0; i < chunks.length; i++) reader.push(chunks[i]!)
      const header = attempt(() => {
        hasType ||= StreamType.decodeUni(reader) !== Reader.NeedMore
        return hasType ? GroupMessage.decode(reader, profile) : Reader.NeedMore
      }, monitor)
      if (header === Reader.NeedMore) {
        own = reader
        return next
      }
      if (Effect.isEffect(header)) return header
      const rest: Array<Uint8Array> = []
      for (let chunk = reader.take(Infinity); chunk !== undefined; chunk = reader.take(Infinity)) rest.push(chunk)
      this.spare = reader
      return Effect.succeed(this.route(stream, header, rest))
    })
    return Pull.catchDone(next, () => Effect.fail(new DecodeError({ detail: "the stream ended inside its header" })))
  }

  private route(
    stream: ReceiveStream,
    { sequence, subscribe }: GroupMessage.Group,
    rest: ReadonlyArray<Uint8Array>
  ): Effect.Effect<void, MoqError> {
    return this.sharing.receiving.get(subscribe)?.receive(stream, rest, sequence) ??
      this.strays.stray(subscribe) ?? Effect.fail(new NotFound({ detail: `no subscription ${subscribe}` }))
  }
}
