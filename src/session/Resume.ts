/**
 * A subscription of a session that reconnects: it goes on over the next connection when one is lost.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { ignore } from "../core/Ignore.ts"
import {
  type Evicted,
  type MoqError,
  type RequestError,
  type SessionClosed,
  toCode,
  TransportError,
  type UpdateError
} from "../core/MoqError.ts"
import { withOwnScope } from "../core/OwnScope.ts"
import type * as Path from "../core/Path.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Group from "../model/Group.ts"
import { Mirror } from "../model/Mirror.ts"
import * as Router from "../model/Router.ts"
import * as Subscription from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import { left } from "./Requests.ts"
import type { Session } from "./SessionService.ts"

/**
 * The connections of a session, one after the other.
 *
 * @internal
 */
export interface Connections {
  /**
   * Does something on the connection that is there, or on the next one; and once more when that connection is lost before
   * it is done. Fails with `SessionClosed` when there will be no other.
   */
  readonly run: <A, E extends { readonly _tag: string }, R>(
    use: (session: Session) => Effect.Effect<A, E | SessionClosed, R>
  ) => Effect.Effect<A, E | SessionClosed, R>
  /** Suspends until everybody knows that the connection of a session is lost. */
  readonly lost: (session: Session) => Effect.Effect<void>
  /** How it ended for good, once it has. */
  readonly end: SessionClosed | undefined
}

/**
 * Subscribes for as long as the scope; `first` does so on a connection.
 *
 * @internal
 */
export const subscribe = (
  connections: Connections,
  path: Path.Path,
  first: Effect.Effect<Subscribed, RequestError, Scope.Scope>
): Effect.Effect<Subscription.Subscription, RequestError, Scope.Scope> =>
  Effect.gen(function*() {
    const subscribed = yield* first
    const { begin, subscription: { info, request } } = subscribed
    const track = yield* Track.make(path, {
      ...info,
      start: request.from,
      first: begin,
      cache: { maxTaken: Group.maxTaken }
    })
    yield* Effect.addFinalizer(() => track.fail(left))
    const resuming = new Resuming(connections, path, track, subscribed)
    yield* Effect.forkScoped(resuming.run, { startImmediately: true })
    return resuming.subscription
  })

/**
 * A subscription on one connection, in a scope of its own.
 *
 * @internal
 */
export interface Subscribed {
  readonly session: Session
  readonly subscription: Subscription.Subscription
  /** The lowest sequence that comes of it. */
  readonly begin: number
  readonly scope: Scope.Closeable
}

/** @internal */
export const subscribeOn = (
  session: Session,
  path: Path.Path,
  options: Subscription.Options
): Effect.Effect<Subscribed, RequestError, Scope.Scope> =>
  withOwnScope((scope) =>
    Effect.map(
      // its track is filled from here
      session.subscribe(path, { ...options, into: undefined }),
      (subscription) => ({ session, subscription, begin: subscription.begin, scope })
    )
  )

// internal

// a server that goes may let go of its tracks before it closes its sessions
const leaving = "1 second"

const codeTransport = toCode(new TransportError({}))

/**
 * Whether that is what a server says when a publisher has gone, or is just going: it may have lost its connection when we
 * did, and not have been missed yet.
 *
 * @internal
 */
export const isAway = (error: MoqError): boolean =>
  error._tag === "MoqNotFound" || error._tag === "MoqCancelled" ||
  (error._tag === "MoqRemote" && error.code === codeTransport)

class Resuming {
  readonly connections: Connections
  readonly path: Path.Path
  readonly mirror: Mirror
  readonly subscription: Subscription.Subscription
  // where it comes from now; `undefined` while there is no connection
  source: Subscribed | undefined
  // what had come when it began anew last, and how long to wait when nothing has come since, in milliseconds
  evictedAt: number | undefined
  delay: number
  constructor(connections: Connections, path: Path.Path, track: Track.Producer, source: Subscribed) {
    this.connections = connections
    this.path = path
    this.mirror = new Mirror(track)
    this.source = source
    this.evictedAt = undefined
    this.delay = 0
    this.subscription = Subscription.make(track.track, source.subscription.request, (next) => this.update(next))
  }

  get run(): Effect.Effect<void, never, Scope.Scope> {
    const { to } = this.mirror
    return Effect.gen({ self: this }, function*() {
      let source = this.source!
      while (true) {
        const lost = yield* this.receive(source)
        if (lost === undefined) break
        this.source = undefined
        yield* Scope.close(source.scope, Exit.void)
        yield* lost._tag === "MoqEvicted" ? this.beginAnew : this.connections.lost(source.session)
        const resumed = yield* this.connections.run((session) =>
          Effect.suspend(() => this.isComplete ? Effect.undefined : this.resume(session))
        )
        if (resumed === undefined) break
        source = resumed
        // nobody sends again what was on its way
        yield* this.mirror.skip(source.begin + this.mirror.offset, toCode(lost))
      }
      yield* to.finish
    }).pipe(Effect.catch(to.fail))
  }

  /** Succeeds with `undefined` when the track has ended, else with why it is to be asked for again. */
  receive({ begin, session, subscription }: Subscribed): Effect.Effect<SessionClosed | Evicted | undefined, ReadError> {
    const range: Track.Range = {
      from: begin,
      get to() {
        return subscription.request.to
      }
    }
    return this.mirror.copy(subscription, range).pipe(
      Effect.as(undefined),
      Effect.catch((error): Effect.Effect<SessionClosed | Evicted, ReadError> => {
        if (error._tag === "MoqSessionClosed" || error._tag === "MoqEvicted") return Effect.succeed(error)
        if (error._tag !== "MoqCancelled") return Effect.fail(error)
        return Effect.flatMap(
          Effect.timeoutOption(session.closed, leaving),
          (closed) => Option.isNone(closed) ? Effect.fail(error) : Effect.succeed(closed.value)
        )
      })
    )
  }

  // A server evicts a track whose publisher has begun anew: all that there is now is new here. One that does so again,
  // before anything has come, is asked less and less often.
  get beginAnew(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { next = 0 } = this.mirror
      const isAgain = this.evictedAt === next
      this.delay = isAgain ? Math.min(30_000, Math.max(1_000, this.delay * 2)) : 0
      this.evictedAt = next
      this.mirror.offset = next
      return isAgain ? Effect.sleep(this.delay) : Effect.void
    })
  }

  get isComplete(): boolean {
    const { to } = this.subscription.request
    return to !== undefined && (this.mirror.next ?? 0) > to
  }

  // Goes on after what has come. A publisher whose newest group is older than that has begun anew: all that it still has
  // is new here.
  resume(session: Session): Effect.Effect<Subscribed, RequestError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const wanted = this.subscription.request
      let source = yield* this.ask(session)
      const { scope } = source
      if (yield* Effect.onError(this.hasBegunAnew(session), (cause) => Scope.close(scope, Exit.failCause(cause)))) {
        yield* Scope.close(scope, Exit.void)
        this.mirror.offset = this.mirror.next!
        source = yield* this.ask(session)
      }
      this.source = source
      if (wanted !== this.subscription.request) {
        yield* ignore(this.pass(source, this.subscription.request, wanted))
      }
      return source
    })
  }

  hasBegunAnew(session: Session): Effect.Effect<boolean, SessionClosed> {
    const { mirror } = this
    const seen = mirror.to.track.latest
    if (seen === undefined) return Effect.succeed(false)
    // asked for after the subscription has been answered: a publisher that begins anew from now on ends its track
    return session.trackInfo(this.path).pipe(
      Effect.map(({ latest }) => latest !== undefined && latest + mirror.offset < seen),
      Effect.catch((error) => error._tag === "MoqSessionClosed" ? Effect.fail(error) : Effect.succeed(false))
    )
  }

  // The publisher may be away as well, and come back later. Asked once for each time that it is announced.
  ask(session: Session): Effect.Effect<Subscribed, RequestError, Scope.Scope> {
    const asked: Effect.Effect<Subscribed, RequestError, Scope.Scope> = Effect.catchTag(
      Effect.suspend(() => subscribeOn(session, this.path, this.remaining)),
      "MoqTimeout",
      () => asked
    )
    const unlessAway = Effect.catchIf(asked, isAway, () => Effect.undefined)
    return Effect.catchIf(asked, isAway, (error) =>
      Effect.flatMap(
        Router.wheneverActive(session.announced(this.path), this.path, unlessAway),
        (found) => found === undefined ? Effect.fail(error) : Effect.succeed(found)
      ))
  }

  /** What is still to come, by the numbers of the publisher. */
  get remaining(): Subscription.Request {
    const { request } = this.subscription
    const { next, offset } = this.mirror
    const from = next === undefined ? request.from : request.from === "latest" ? next : Math.max(next, request.from)
    return {
      ...request,
      from: from === "latest" ? from : from - offset,
      to: request.to === undefined ? undefined : request.to - offset
    }
  }

  update(next: Subscription.Request): Effect.Effect<void, UpdateError> {
    return Effect.suspend(() => {
      const { connections: { end }, source, subscription: { request } } = this
      if (end !== undefined) return Effect.fail(end)
      if (source === undefined) return Effect.void
      // when the connection is lost the next one hears of it
      return Effect.catchTag(this.pass(source, next, request), "MoqSessionClosed", () => Effect.void)
    })
  }

  pass(
    { begin, subscription }: Subscribed,
    { expires, from, order, priority, to }: Subscription.Request,
    before: Subscription.Request
  ): Effect.Effect<void, UpdateError> {
    const { offset } = this.mirror
    const isLater = from !== "latest" && from !== before.from && from - offset > begin
    return subscription.update({
      expires,
      order,
      priority,
      ...(isLater ? { from: from - offset } : {}),
      ...(to === undefined ? {} : { to: to - offset })
    })
  }
}
