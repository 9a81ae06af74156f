/**
 * Subscriptions: a track as one reader asked for it, with a range and preferences that can change while it is read.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { GroupOrder } from "../core/GroupOrder.ts"
import { BoundsExceeded, type RequestError, type UpdateError } from "../core/MoqError.ts"
import type { Priority } from "../core/Priority.ts"
import { Turns } from "../core/Turns.ts"
import type { ReadError } from "./Frame.ts"
import * as Track from "./Track.ts"

/**
 * What a reader asks for. Everything but the range matters only where there is a network in between.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  /** Where to begin: the newest group, or everything from a sequence on that is still cached. */
  readonly from: Track.Start
  /** The last sequence wanted; without it there is no end. */
  readonly to?: number | undefined
  /** How much this track matters beside others: -128..127, higher first; what its publisher says by default. */
  readonly priority?: Priority | undefined
  /** Which groups are sent first under congestion; what the publisher prefers by default. */
  readonly order?: GroupOrder | undefined
  /** How long after its end a group is still worth sending, in milliseconds; 0, the default, means for ever. */
  readonly expires?: number | undefined
  /**
   * Whose track to fill, where the source can: those that have a track of their own give that.
   *
   * @internal
   */
  readonly into?: Lender | undefined
}

/**
 * What a publisher has said of the track that is subscribed to.
 *
 * @internal
 */
export interface Answer extends Track.TrackInfo {
  /** The highest sequence so far, or the one that can come first. */
  readonly latest: number
  /** The lowest sequence that comes. */
  readonly first: number
}

/**
 * Who has a track that outlives the subscriptions which fill it, one after the other.
 *
 * @internal
 */
export interface Lender {
  /** Gives the track to fill, once the publisher has answered; the subscription fails as this does. */
  readonly lend: (answer: Answer) => Effect.Effect<Track.Producer, RequestError>
  /** Hears how the subscription has ended, in place of the track. Its open groups have ended then, or do so by themselves. */
  readonly end: (exit: Exit.Exit<void, ReadError>) => void
}

/**
 * How to subscribe to a track.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Omit<Request, "from"> {
  /**
   * Where to begin: `"latest"` by default, the newest group that is there; with `wait`, everything still cached when the
   * track had to be waited for.
   */
  readonly from?: Track.Start | undefined
  /** How long to wait for somebody to publish the track; without it, a path that nobody has is `NotFound` at once. */
  readonly wait?: Duration.Input | undefined
}

/**
 * What can be changed of a subscription: its preferences; and its range, which can only become narrower.
 *
 * @category models
 * @since 0.1.0
 */
export interface Changes {
  /** -128..127, higher first. */
  readonly priority?: Priority | undefined
  readonly order?: GroupOrder | undefined
  /** In milliseconds; 0 means for ever. */
  readonly expires?: number | undefined
  /** The first sequence that is still wanted. */
  readonly from?: number | undefined
  /** The last sequence that is wanted. */
  readonly to?: number | undefined
}

/**
 * A track to read, as it was asked for.
 *
 * **Gotchas**
 *
 * What comes over a session stays for further readers of the same subscription only up to `Group.maxTaken` of a group,
 * once a reader has it: one that opens later than that begins with the next group. Open all readers before the first of
 * them reads, or subscribe once for each.
 *
 * **Example** (From now on, nothing above group 99, and less important than before)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Session } from "effect-moq"
 *
 * const program = Effect.gen(function*() {
 *   const session = yield* Session.Session
 *   const video = yield* session.subscribe(["room", "alice", "video"], { order: "desc", expires: 2_000 })
 *   yield* video.update({ to: 99, priority: -10 })
 *   yield* Stream.runDrain(video.frames)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscription extends Track.Track {
  /** What it asks for now. */
  readonly request: Request
  /**
   * Changes what it asks for. It holds for groups that wait to be sent, too; those that fall out of the range are not
   * sent any more.
   *
   * Fails with `BoundsExceeded` when the range would become wider or a number is none that can travel, with
   * `NotSupportedByPeer` when the peer's version takes no changes (draft-03, section "SUBSCRIBE_UPDATE"; the crate
   * ignores them), and with `SessionClosed`.
   */
  readonly update: (changes: Changes) => Effect.Effect<void, UpdateError>
}

/**
 * Gives a track as somebody asked for it. `onUpdate` hears of a change before it holds here, and may refuse it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  track: Track.Track,
  request: Request,
  onUpdate?: (next: Request) => Effect.Effect<void, UpdateError>
): Subscription => new SubscriptionImpl(track, request, onUpdate)

/**
 * Ends a subscription for those who read it, whatever becomes of the track.
 *
 * @internal
 */
export const leaveUnsafe = (self: Subscription, error: ReadError): void => {
  const subscription = self as SubscriptionImpl
  subscription.left ??= error
  Track.wakeUnsafe(self)
}

// internal

class SubscriptionImpl extends Track.Handle implements Subscription, Track.Range {
  readonly onUpdate: ((next: Request) => Effect.Effect<void, UpdateError>) | undefined
  // one change after the other: each tells all that is wanted
  updating: Turns | undefined
  request: Request
  // where it began, or what it was narrowed to: the newest group may be another one by now
  lowest: number
  left: ReadError | undefined
  constructor(
    track: Track.Track,
    request: Request,
    onUpdate: ((next: Request) => Effect.Effect<void, UpdateError>) | undefined
  ) {
    super((track as Track.Handle).impl)
    this.request = request
    this.onUpdate = onUpdate
    this.updating = undefined
    this.lowest = this.begin
    this.left = undefined
  }
  get from(): Track.Start {
    return this.request.from
  }
  get to(): number | undefined {
    return this.request.to
  }
  override get end(): Exit.Exit<void, ReadError> | undefined {
    return this.left === undefined ? this.impl.log.end : Exit.fail(this.left)
  }
  override get order(): GroupOrder {
    const { order = "default" } = this.request
    return order === "default" ? this.info.order : order
  }
  // its readers look at the range again whenever they look for news
  override get range(): Track.Range {
    return this
  }
  get update(): Subscription["update"] {
    return (changes) =>
      Effect.suspend(() => (this.updating ??= new Turns()).take(Effect.suspend(() => this.change(changes))))
  }
  change({
    from: first,
    to = this.request.to,
    priority = this.request.priority,
    order = this.request.order,
    expires = this.request.expires
  }: Changes): Effect.Effect<void, UpdateError> {
    const lowest = Math.max(this.lowest, first ?? 0)
    if ((first !== undefined && first < lowest) || (to ?? Infinity) > (this.to ?? Infinity)) {
      return Effect.fail(new BoundsExceeded({ detail: "the range of a subscription can only become narrower" }))
    }
    const next: Request = { from: first ?? this.from, to, priority, order, expires }
    // what the other side has taken holds here, too, whoever is interrupted meanwhile
    return Effect.uninterruptibleMask((restore) =>
      Effect.andThen(
        this.onUpdate === undefined ? Effect.void : restore(this.onUpdate(next)),
        Effect.sync(() => {
          this.request = next
          this.lowest = lowest
          Track.wakeUnsafe(this)
        })
      )
    )
  }
}
