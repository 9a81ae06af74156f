/**
 * Subscriptions to one path that share one on the wire.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { errorOf } from "../core/ErrorOf.ts"
import type { GroupOrder } from "../core/GroupOrder.ts"
import { ignore } from "../core/Ignore.ts"
import {
  type MoqError,
  NotSupportedByPeer,
  type RequestError,
  type SessionClosed,
  Timeout,
  type UpdateError
} from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Priority from "../core/Priority.ts"
import * as Info from "../message/Info.ts"
import * as SubscribeMessage from "../message/Subscribe.ts"
import * as SubscribeUpdate from "../message/SubscribeUpdate.ts"
import * as Group from "../model/Group.ts"
import * as Subscription from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import type { BiStream } from "../transport/Transport.ts"
import type { Deadline } from "./Deadlines.ts"
import * as Direct from "./Direct.ts"
import { type Ear, encode, endedBefore, MessageStream, type ReceiveError } from "./MessageStream.ts"
import { type Owner, Receiving } from "./Receiving.ts"
import { closedHere, left as leftHere, problemOf, requestBytes, requestErrorOf } from "./Requests.ts"
import type { SubscriberContext } from "./SessionContext.ts"
import type { Subscriber } from "./Subscriber.ts"

/**
 * The subscriptions of a session.
 *
 * @internal
 */
export class Sharing {
  readonly subscriber: Subscriber
  private own: Map<number, Receiving> | undefined
  // those that take further holders, by path
  private shared: Map<string, ReadonlyArray<Shared>> | undefined
  nextId: number
  constructor(subscriber: Subscriber) {
    this.subscriber = subscriber
    this.own = undefined
    this.shared = undefined
    this.nextId = 0
  }

  /** Those on the wire, by id. */
  get receiving(): Map<number, Receiving> {
    return this.own ??= new Map()
  }

  subscribe(
    path: Path.Path,
    request: Subscription.Request
  ): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> {
    return Effect.withFiber((fiber) => {
      const problem = problemOf(request)
      if (problem !== undefined) return Effect.fail(problem)
      const scope = Context.getUnsafe(fiber.context, Scope.Scope)
      const holder: Holder = { request, begin: 0, opened: undefined }
      let shared: Shared | undefined
      const held = Effect.callback<Subscription.Subscription, RequestError>((resume) => {
        holder.opened = resume
        shared = this.find(path, request)
        shared.hold(holder)
      })
      // what is there by then belongs to the scope, or is let go of
      return Effect.onExitPrimitive(
        held,
        (exit) =>
          Exit.isFailure(exit) ? shared?.leave(holder) : Scope.addFinalizerExit(scope, (left) => {
            Subscription.leaveUnsafe(exit.value, leftHere)
            return shared!.leave(holder, request.into && left)
          })
      )
    })
  }

  private find(path: Path.Path, request: Subscription.Request): Shared {
    // one that fills somebody's track ends as that somebody wants: it is shared by those who read the track
    if (request.into !== undefined) return new Shared(this, path, request)
    const key = Path.key(path)
    const all = this.shared ??= new Map<string, ReadonlyArray<Shared>>()
    const others = all.get(key) ?? []
    const found = others.find((shared) => shared.covers(request))
    if (found !== undefined) return found
    const shared = new Shared(this, path, request)
    all.set(key, [...others, shared])
    return shared
  }

  /** It takes no more holders: it has ended, or is about to. */
  retire(shared: Shared): void {
    const key = Path.key(shared.path)
    const rest = this.shared?.get(key)?.filter((other) => other !== shared) ?? []
    if (rest.length === 0) this.shared?.delete(key)
    else this.shared!.set(key, rest)
  }
}

// internal

/** What is asked of the publisher; without an end `max` is infinite. */
interface Asked {
  readonly priority: Priority.Priority
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
  /** Hears what it gets. */
  opened: ((exit: Exit.Exit<Subscription.Subscription, RequestError>) => void) | undefined
}

/**
 * A subscription on the wire: it opens with its first holder and closes with its last. When the session ends before, its
 * stream fails, and so does everything here. No fiber belongs to it.
 */
class Shared implements Owner, Ear<Info.Info> {
  readonly sharing: Sharing
  readonly context: SubscriberContext
  readonly path: Path.Path
  // what it was opened for
  private readonly request: Subscription.Request
  private readonly id: number
  private holders: ReadonlyArray<Holder>
  // by when the publisher must have answered
  private deadline: Deadline | undefined
  // takes back what is under way: the opening of a stream, the loan of a track
  private withdraw: (() => void) | undefined
  // how opening it has failed
  private end: Exit.Exit<never, RequestError> | undefined
  private track: Track.Producer | undefined
  private receiving: Receiving | undefined
  private asked: Asked
  // tells the publisher what has changed
  private updating: Fiber.Fiber<void> | undefined
  private own: Scope.Closeable | undefined
  private isClosed: boolean
  constructor(sharing: Sharing, path: Path.Path, request: Subscription.Request) {
    this.sharing = sharing
    this.context = sharing.subscriber.context
    this.path = path
    this.request = request
    this.id = sharing.nextId++
    this.holders = []
    this.deadline = undefined
    this.withdraw = undefined
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
    this.updating = undefined
    this.own = undefined
    this.isClosed = false
  }

  get scope(): Scope.Scope {
    return this.own ??= Scope.makeUnsafe()
  }

  /** Whether it has all that a subscription of its own would give. */
  covers({ from, to = Infinity }: Subscription.Request): boolean {
    if (to > this.asked.max) return false
    const track = this.track?.track
    // a group that let go of what its readers took is no place to join
    if (track !== undefined && !Track.isWholeFrom(track, from)) return false
    if (from === "latest") return true
    // until the publisher has answered, nobody knows where its newest group is
    if (track === undefined) return this.request.from !== "latest" && from >= this.asked.min
    return from >= this.asked.min && from >= track.first
  }

  /** Gives it the track, once that is there, until it leaves. */
  hold(holder: Holder): void {
    const { track } = this
    holder.begin = this.beginOf(holder.request.from)
    this.holders = [...this.holders, holder]
    if (this.holders.length === 1) this.open()
    else this.change()
    if (track !== undefined) this.tell(Exit.succeed(track))
  }

  private beginOf(from: Track.Start): number {
    if (from !== "latest") return from
    return this.track === undefined ? Infinity : this.track.track.latest ?? this.asked.min
  }

  /** The publisher is told of an error that it is left with. */
  leave(holder: Holder, exit: Exit.Exit<unknown, unknown> | undefined = Exit.void): Effect.Effect<void> {
    this.holders = this.holders.filter((other) => other !== holder)
    if (this.holders.length === 0) return this.close(this.end ?? exit)
    this.change()
    return Effect.void
  }

  retire(): void {
    this.sharing.retire(this)
  }

  private update(holder: Holder, next: Subscription.Request): Effect.Effect<void, UpdateError> {
    const { profile } = this.context
    if (profile.subscriberFinishesEarly) {
      return Effect.fail(new NotSupportedByPeer({ detail: `SUBSCRIBE_UPDATE, on ${profile.name}` }))
    }
    const problem = problemOf(next)
    if (problem !== undefined) return Effect.fail(problem)
    const { end = Exit.void } = this.track?.track ?? {}
    const error = errorOf(end)
    if (error?._tag === "MoqSessionClosed") return Effect.fail(error)
    holder.request = next
    if (next.from !== "latest") holder.begin = next.from
    this.change()
    return Effect.void
  }

  // the wire

  get withdrawn(): Effect.Effect<void> {
    return this.sharing.subscriber.withdrawn(this.path)
  }

  private open(): void {
    this.deadline = this.context.answers.begin(tooLate, this)
    const withdraw = Direct.openBi(this.context, (exit) => this.ask(exit))
    if (this.receiving === undefined) this.withdraw = withdraw
  }

  private ask(opened: Exit.Exit<BiStream, SessionClosed>): void {
    if (Exit.isFailure(opened)) return this.fail(opened.cause)
    const { asked: { expires, order, priority }, context, id, path, request: { from, to } } = this
    const { monitor, profile } = context
    const stream = new MessageStream(opened.value, monitor)
    this.withdraw = undefined
    // before SUBSCRIBE leaves: groups may overtake its answer
    this.sharing.receiving.set(id, this.receiving = new Receiving(this, stream))
    monitor.subscription("received", 1)
    const message: SubscribeMessage.Subscribe = {
      _tag: "Subscribe",
      id,
      path,
      priority,
      order,
      expires,
      ...(from === "latest" ? {} : { min: from }),
      ...(to === undefined ? {} : { max: to })
    }
    stream.say(context, requestBytes("subscribe", SubscribeMessage.encode, message, profile), (exit) => {
      if (Exit.isFailure(exit)) this.fail(exit.cause)
      // a peer that refuses may stop this side before it has taken its end; the answer says why
      else if (profile.subscriberFinishesEarly) Direct.finish(context, stream.send, noop)
    })
    stream.hear(context, Info.decode, this)
  }

  message(answer: Info.Info): boolean {
    const { context, path, request: { from, into } } = this
    const { expires, latest, order, priority } = answer
    const first = from === "latest" ? latest : from
    if (into === undefined) {
      const cache = { maxTaken: Group.maxTaken }
      const track = Track.makeUnsafe(context.clock, path, { priority, order, expires, start: from, first, cache })
      this.begin(track, first)
    } else {
      this.withdraw = Direct.watch(context.fibers, into.lend({ ...answer, first }), (lent) => {
        if (Exit.isSuccess(lent)) this.begin(lent.value, first)
        else this.fail(lent.cause)
      })
    }
    return false
  }

  over(exit: Exit.Exit<void, ReceiveError>): void {
    this.fail(Exit.isFailure(exit) ? exit.cause : Cause.fail(endedBefore))
  }

  private begin(track: Track.Producer, first: number): void {
    const { asked, holders } = this
    const receiving = this.receiving!
    this.deadline!.meet()
    this.withdraw = undefined
    this.track = track
    this.asked = { ...asked, min: first }
    for (const holder of holders) if (holder.request.from === "latest") holder.begin = first
    receiving.begin(track, first, asked.max, this.request.into)
    this.change()
    this.tell(Exit.succeed(track))
    if (!this.isClosed) receiving.listen()
  }

  // whoever waits for it leaves
  private fail(cause: Cause.Cause<MoqError>): void {
    if (this.end !== undefined || this.track !== undefined || this.isClosed) return
    this.end = Cause.hasInterruptsOnly(cause)
      ? Exit.fail(closedHere)
      : Exit.failCause(Cause.map(cause, requestErrorOf(this.path)))
    this.retire()
    this.tell(this.end)
  }

  private tell(exit: Exit.Exit<Track.Producer, RequestError>): void {
    for (const holder of this.holders) {
      const { opened } = holder
      holder.opened = undefined
      opened?.(
        Exit.map(exit, ({ track }) => Subscription.make(track, holder.request, (next) => this.update(holder, next)))
      )
    }
  }

  /** The publisher has not answered in time. */
  late(): void {
    this.context.monitor.limit("request")
    this.fail(Cause.fail(new Timeout({ detail: `the answer to SUBSCRIBE ${Path.format(this.path)}` })))
  }

  private close(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    const { context, id, own, receiving, sharing } = this
    this.isClosed = true
    this.retire()
    this.deadline!.meet()
    this.withdraw?.()
    this.updating?.interruptUnsafe()
    if (receiving === undefined) return Effect.void
    sharing.receiving.delete(id)
    context.monitor.subscription("received", -1)
    sharing.subscriber.strays.unsubscribed(id)
    const closed = Effect.andThen(receiving.close(exit), receiving.stream.abort(0))
    return own === undefined ? closed : Effect.andThen(Scope.close(own, exit), closed)
  }

  // what all holders want together has changed, or may have
  private change(): void {
    if (this.updating !== undefined || this.wish === undefined) return
    this.updating = this.context.fibers.fork(Effect.andThen(Effect.yieldNow, this.updates()))
  }

  // One after the other, on a fiber that runs while there is something to say: what is asked for when its turn has come
  // is what matters. What fails to be said, the end of the stream says.
  private updates(): Effect.Effect<void> {
    const { profile } = this.context
    const receiving = this.receiving!
    return Effect.gen({ self: this }, function*() {
      for (let next = this.wish; next !== undefined; next = this.wish) {
        const before = this.asked
        this.asked = next
        receiving.narrow(next.min, next.max)
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
      this.updating = undefined
    }).pipe(ignore)
  }

  // What all holders want together, where that is something else than what was asked for, and the publisher can be told;
  // one that names no priority wants that of the publisher.
  private get wish(): Asked | undefined {
    const { asked, holders, track } = this
    if (track === undefined || track.track.end !== undefined || holders.length === 0) return undefined
    if (this.context.profile.subscriberFinishesEarly) return undefined
    const own = track.track.info.priority
    let order: GroupOrder | undefined
    let priority = Priority.min
    let expires = 0
    let isForEver = false
    let min = Infinity
    let max = 0
    for (const { begin, request } of holders) {
      const other = request.order ?? "default"
      priority = Math.max(priority, request.priority ?? own)
      order = order === undefined || order === other ? other : "default"
      isForEver ||= !request.expires
      expires = Math.max(expires, request.expires ?? 0)
      min = Math.min(min, begin)
      max = Math.max(max, request.to ?? Infinity)
    }
    const next: Asked = {
      priority,
      order: order!,
      expires: isForEver ? 0 : expires,
      min: Math.max(min, asked.min),
      max: Math.min(max, asked.max)
    }
    return isSame(next, asked) ? undefined : next
  }
}

const tooLate = (shared: Shared): void => shared.late()

const noop = (): void => {}

const isSame = (one: Asked, other: Asked): boolean =>
  one.priority === other.priority && one.order === other.order && one.expires === other.expires &&
  one.min === other.min && one.max === other.max
