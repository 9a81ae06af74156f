/**
 * Subscriptions to one path that share one on the wire.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { GroupOrder } from "../core/GroupOrder.ts"
import { ignore } from "../core/Ignore.ts"
import { NotSupportedByPeer, type RequestError, Timeout, type UpdateError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type { Priority } from "../core/Priority.ts"
import * as Info from "../message/Info.ts"
import * as SubscribeMessage from "../message/Subscribe.ts"
import * as SubscribeUpdate from "../message/SubscribeUpdate.ts"
import * as Group from "../model/Group.ts"
import * as Subscription from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import { encode, MessageStream, type ReceiveError } from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import { type Owner, Receiving } from "./Receiving.ts"
import { check, errorOf, left as leftHere, requestBytes } from "./Requests.ts"
import type { SubscriberContext } from "./SessionContext.ts"

/**
 * The subscriptions of a session.
 *
 * @internal
 */
export class Sharing {
  readonly context: SubscriberContext
  /** Suspends until the peer announces that a track has ended. */
  readonly withdrawn: (path: Path.Path) => Effect.Effect<void>
  /** Hears that one on the wire has ended here. */
  readonly onEnd: (id: number) => void
  /** Those on the wire, by id. */
  readonly receiving: Map<number, Receiving>
  // those that take further holders, by path
  readonly shared: Map<string, Array<Shared>>
  nextId: number
  constructor(
    context: SubscriberContext,
    withdrawn: (path: Path.Path) => Effect.Effect<void>,
    onEnd: (id: number) => void
  ) {
    this.context = context
    this.withdrawn = withdrawn
    this.onEnd = onEnd
    this.receiving = new Map()
    this.shared = new Map()
    this.nextId = 0
  }

  subscribe(
    path: Path.Path,
    request: Subscription.Request
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    const subscribed = Effect.uninterruptibleMask((restore) =>
      Effect.withFiber(({ context }) => {
        // one that fills somebody's track ends as that somebody wants: it is shared by those who read the track
        if (request.into !== undefined) return new Shared(this, path, request).hold(request, restore, context)
        const key = Path.key(path)
        const found = this.shared.get(key)?.find((shared) => shared.covers(request))
        return (found ?? this.add(key, path, request)).hold(request, restore, context)
      })
    )
    return Effect.andThen(check(request), subscribed)
  }

  add(key: string, path: Path.Path, request: Subscription.Request): Shared {
    const shared = new Shared(this, path, request)
    const others = this.shared.get(key)
    if (others === undefined) this.shared.set(key, [shared])
    else others.push(shared)
    return shared
  }

  /** It takes no more holders: it has ended, or is about to. */
  retire(shared: Shared): void {
    const key = Path.key(shared.path)
    const rest = this.shared.get(key)?.filter((other) => other !== shared) ?? []
    if (rest.length === 0) this.shared.delete(key)
    else this.shared.set(key, rest)
  }
}

// internal

/** What is asked of the publisher; without an end `max` is infinite. */
interface Asked {
  readonly priority: Priority
  readonly order: GroupOrder
  readonly expires: number
  readonly min: number
  readonly max: number
}

/** Somebody who subscribes; what it asks for can change. */
interface Holder {
  request: Subscription.Request
  /** The first sequence that it may read, once that is known. */
  begin: number
}

/** A subscription on the wire: it opens with its first holder and closes with its last. */
class Shared implements Owner {
  readonly sharing: Sharing
  readonly path: Path.Path
  readonly from: Track.Start
  readonly scope: Scope.Closeable
  readonly holders: Set<Holder>
  readonly opened: Deferred.Deferred<Track.Producer, RequestError>
  fiber: Fiber.Fiber<void, ReceiveError | RequestError> | undefined
  // how opening it has failed
  end: Exit.Exit<unknown, RequestError> | undefined
  track: Track.Producer | undefined
  receiving: Receiving | undefined
  asked: Asked
  isUpdating: boolean
  constructor(sharing: Sharing, path: Path.Path, request: Subscription.Request) {
    this.sharing = sharing
    this.path = path
    this.from = request.from
    this.scope = Scope.makeUnsafe()
    this.holders = new Set()
    this.opened = Deferred.makeUnsafe()
    this.fiber = undefined
    this.end = undefined
    this.track = undefined
    this.receiving = undefined
    this.asked = {
      priority: request.priority ?? 0,
      order: request.order ?? "default",
      expires: request.expires ?? 0,
      min: request.from === "latest" ? 0 : request.from,
      max: request.to ?? Infinity
    }
    this.isUpdating = false
  }

  get context(): SubscriberContext {
    return this.sharing.context
  }

  /** Whether it has all that a subscription of its own would give. */
  covers({ from, to = Infinity }: Subscription.Request): boolean {
    if (to > this.asked.max) return false
    const track = this.track?.track
    // a group that let go of what its readers took is no place to join
    if (track !== undefined && !Track.isWholeFrom(track, from)) return false
    if (from === "latest") return true
    // until the publisher has answered, nobody knows where its newest group is
    if (track === undefined) return this.from !== "latest" && from >= this.asked.min
    return from >= this.asked.min && from >= track.first
  }

  /** The track for as long as the scope. `restore` makes the wait for it interruptible; the rest must not be. */
  hold(
    request: Subscription.Request,
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>,
    context: Context.Context<never>
  ): Effect.Effect<Subscription.Subscription, RequestError> {
    const holder: Holder = { request, begin: this.beginOf(request.from) }
    const isFirst = this.holders.size === 0
    this.holders.add(holder)
    if (isFirst) this.open(request, context)
    const opened = restore(Deferred.await(this.opened))
    return Effect.matchCauseEffect(isFirst ? opened : Effect.andThen(this.change, opened), {
      onFailure: (cause) => Effect.andThen(this.leave(holder), Effect.failCause(cause)),
      onSuccess: ({ track }) => {
        const subscription = Subscription.make(track, request, (next) => this.update(holder, next))
        const left = (exit: Exit.Exit<unknown, unknown>) => {
          Subscription.leaveUnsafe(subscription, leftHere)
          return this.leave(holder, request.into === undefined ? Exit.void : exit)
        }
        const scope = Context.get(context as Context.Context<Scope.Scope>, Scope.Scope)
        return Effect.as(Scope.addFinalizerExit(scope, left), subscription)
      }
    })
  }

  beginOf(from: Track.Start): number {
    if (from !== "latest") return from
    return this.track === undefined ? Infinity : this.track.track.latest ?? this.asked.min
  }

  // the publisher is told of an error that it is left with
  leave(holder: Holder, exit: Exit.Exit<unknown, unknown> = Exit.void): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.holders.delete(holder)
      if (this.holders.size > 0) return this.change
      this.retire()
      return Effect.andThen(this.stop, Scope.close(this.scope, this.end ?? exit))
    })
  }

  retire(): void {
    this.sharing.retire(this)
  }

  update(holder: Holder, next: Subscription.Request): Effect.Effect<void, UpdateError> {
    const { profile } = this.context
    if (profile.subscriberFinishesEarly) {
      return Effect.fail(new NotSupportedByPeer({ detail: `SUBSCRIBE_UPDATE, on ${profile.name}` }))
    }
    return Effect.flatMap(check(next), () => {
      const { end = Exit.void } = this.track?.track ?? {}
      const error = Exit.findErrorOption(end)
      if (Option.isSome(error) && error.value._tag === "MoqSessionClosed") return Effect.fail(error.value)
      holder.request = next
      if (next.from !== "latest") holder.begin = next.from
      return this.change
    })
  }

  // the wire

  get withdrawn(): Effect.Effect<void> {
    return this.sharing.withdrawn(this.path)
  }

  // It lives as long as its holders: when the session ends before, its streams fail, and so does everything here. One
  // fiber asks, and then hears what else the publisher says.
  open(request: Subscription.Request, context: Context.Context<never>): void {
    const { answers, monitor } = this.context
    const toError = errorOf(this.path)
    const deadline = answers.begin(() => {
      monitor.limit("request")
      this.fail(Exit.fail(toError(new Timeout({ detail: `the answer to SUBSCRIBE ${Path.format(this.path)}` }))))
      this.fiber?.interruptUnsafe()
    })
    const running = Effect.flatMap(Scope.provide(this.wire(request), this.scope), ({ listen, track }) => {
      deadline.meet()
      Deferred.doneUnsafe(this.opened, Exit.succeed(track!))
      return listen
    })
    this.fiber = Effect.runForkWith(context)(running)
    // not by the fiber itself: it may be interrupted before it has begun
    this.fiber.addObserver((exit) => {
      deadline.meet()
      if (Exit.isFailure(exit)) this.fail(Exit.failCause(Cause.map(exit.cause, toError)))
    })
  }

  private fail(exit: Exit.Exit<never, RequestError>): void {
    if (Deferred.isDoneUnsafe(this.opened)) return
    this.end = exit
    this.retire()
    Deferred.doneUnsafe(this.opened, exit)
  }

  private get stop(): Effect.Effect<void> {
    return Effect.withFiber(({ id }) =>
      // it may be what ends the subscription: it would wait for itself
      this.fiber === undefined || this.fiber.id === id ? Effect.void : Fiber.interrupt(this.fiber)
    )
  }

  wire(
    { from, into, to }: Subscription.Request
  ): Effect.Effect<Receiving, ReceiveError | RequestError, Scope.Scope> {
    const { context, sharing } = this
    const { clock, connection, monitor, profile } = context
    return Effect.gen({ self: this }, function*() {
      const id = sharing.nextId++
      const { expires, order, priority } = this.asked
      const message: SubscribeMessage.Subscribe = {
        _tag: "Subscribe",
        id,
        path: this.path,
        priority,
        order,
        expires,
        ...(from === "latest" ? {} : { min: from }),
        ...(to === undefined ? {} : { max: to })
      }
      const stream = new MessageStream(yield* connection.openBi, monitor)
      const receiving = new Receiving(this, stream)
      yield* Scope.addFinalizerExit(this.scope, (exit) => {
        if (sharing.receiving.delete(id)) {
          monitor.subscription("received", -1)
          sharing.onEnd(id)
        }
        return receiving.close(exit)
      })
      monitor.subscription("received", 1)
      // before SUBSCRIBE leaves: groups may overtake its answer
      sharing.receiving.set(id, receiving)
      yield* stream.send.setPriority(Rank.control)
      yield* stream.send.write([requestBytes("subscribe", SubscribeMessage.encode, message, profile)])
      // a peer that refuses may stop this side before it has taken its end; the answer says why
      if (profile.subscriberFinishesEarly) yield* ignore(stream.send.finish)
      const answer = yield* stream.expect(Info.decode, profile)
      const first = from === "latest" ? answer.latest : from
      const track = into === undefined
        ? Track.makeUnsafe(clock, this.path, {
          priority: answer.priority,
          order: answer.order,
          expires: answer.expires,
          start: from,
          first,
          cache: { maxTaken: Group.maxTaken }
        })
        : yield* into.lend({ ...answer, first })
      this.track = track
      this.receiving = receiving
      this.asked = { ...this.asked, min: first }
      for (const holder of this.holders) if (holder.request.from === "latest") holder.begin = first
      yield* receiving.begin(track, first, this.asked.max, into)
      yield* this.change
      return receiving
    })
  }

  // what all holders want together has changed, or may have
  get change(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.isUpdating || this.wish === undefined) return Effect.void
      this.isUpdating = true
      return Effect.asVoid(Effect.forkIn(this.updates, this.scope))
    })
  }

  // One after the other, on a fiber that runs while there is something to say: what is asked for when its turn has come
  // is what matters. What fails to be said, the end of the stream says.
  get updates(): Effect.Effect<void> {
    const { profile } = this.context
    const receiving = this.receiving!
    return Effect.gen({ self: this }, function*() {
      for (let next = this.wish; next !== undefined; next = this.wish) {
        const before = this.asked
        this.asked = next
        yield* receiving.narrow(next.min, next.max)
        const message: SubscribeUpdate.SubscribeUpdate = {
          _tag: "SubscribeUpdate",
          priority: next.priority,
          order: next.order,
          expires: next.expires,
          ...(next.min > before.min ? { min: next.min } : {}),
          ...(next.max < before.max ? { max: next.max } : {})
        }
        yield* receiving.stream.send.write([encode(SubscribeUpdate.encode, message, profile)])
      }
      this.isUpdating = false
    }).pipe(ignore)
  }

  // What all holders want together, where that is something else than what was asked for, and the publisher can be told;
  // one that names no priority wants that of the publisher.
  get wish(): Asked | undefined {
    const { asked, track } = this
    if (track === undefined || track.track.end !== undefined) return undefined
    if (this.context.profile.subscriberFinishesEarly) return undefined
    let next: Asked | undefined
    for (const { begin, request } of this.holders) {
      const { expires = 0, order = "default", priority = track.track.info.priority, to = Infinity } = request
      next = next === undefined ? { priority, order, expires, min: begin, max: to } : {
        priority: Math.max(next.priority, priority),
        order: next.order === order ? order : "default",
        expires: next.expires === 0 || expires === 0 ? 0 : Math.max(next.expires, expires),
        min: Math.min(next.min, begin),
        max: Math.max(next.max, to)
      }
    }
    if (next === undefined) return undefined
    next = { ...next, min: Math.max(next.min, asked.min), max: Math.min(next.max, asked.max) }
    return isSame(next, asked) ? undefined : next
  }
}

const isSame = (one: Asked, other: Asked): boolean =>
  one.priority === other.priority && one.order === other.order && one.expires === other.expires &&
  one.min === other.min && one.max === other.max
