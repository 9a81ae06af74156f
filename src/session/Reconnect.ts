/**
 * A session that opens a connection again whenever it loses one.
 *
 * **Details**
 *
 * What is offered lives in one router, which every connection serves. What is asked for goes to the connection that is
 * there, or waits for the next; subscriptions go on from one to the next: see `Resume`.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { ignore } from "../core/Ignore.ts"
import {
  Duplicate,
  fromCode,
  type MoqError,
  type RequestError,
  SessionClosed,
  type Timeout,
  toCode
} from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import * as Path from "../core/Path.ts"
import type * as Profile from "../message/Profile.ts"
import * as Announced from "../model/Announced.ts"
import type * as Router from "../model/Router.ts"
import type * as Transport from "../transport/Transport.ts"
import type { ConnectError } from "./Handshake.ts"
import { within } from "./MessageStream.ts"
import { News } from "./News.ts"
import { Offering } from "./Offering.ts"
import { closedHere } from "./Requests.ts"
import * as Resume from "./Resume.ts"
import type { Session } from "./SessionService.ts"
import type { Status } from "./Status.ts"

/**
 * When to open a connection again, unless it is said: after about half a second, then after twice as long each time, up
 * to 25 seconds, and a fifth more or less of each.
 *
 * @internal
 */
export const defaultSchedule: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("500 millis"),
  Schedule.spaced("25 seconds")
]).pipe(Schedule.jittered)

/** @internal */
export interface Options<R> {
  /** Opens a connection. */
  readonly connect: Effect.Effect<Session, ConnectError, Scope.Scope | R>
  readonly router: Router.Router
  readonly schedule: Schedule.Schedule<unknown, ConnectError>
  readonly stableAfter: Duration.Input
  /** How long a request waits for a connection. */
  readonly patience: Duration.Input
}

/**
 * Gives the session once its first connection is open.
 *
 * @internal
 */
export const make = <R>(options: Options<R>): Effect.Effect<Session, ConnectError, Scope.Scope | R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const self = new Reconnecting(options, scope)
      const first = Deferred.await(self.next)
      const driver = yield* Effect.forkIn(Effect.onError(self.drive(options), (cause) => self.giveUp(cause)), scope)
      self.driver = driver
      yield* Effect.addFinalizer((exit) => self.leave(exit))
      // when it gives up, the driver fails with the reason
      yield* restore(Effect.catchTag(first, "MoqSessionClosed", () => Fiber.join(driver)))
      return self
    })
  )

// internal

interface Link {
  readonly session: Session
  readonly scope: Scope.Closeable
}

class Reconnecting extends Offering implements Session, Resume.Connections {
  readonly options: Pick<Options<never>, "patience">
  readonly scope: Scope.Closeable
  readonly statuses: News<Status>
  readonly over: Deferred.Deferred<SessionClosed>
  driver: Fiber.Fiber<never, ConnectError> | undefined
  link: Link | undefined
  // the session over the connection that is there now, or over the next one
  next: Deferred.Deferred<Session, SessionClosed>
  latest: Session | undefined
  end: SessionClosed | undefined
  reported: number | undefined
  constructor(options: Pick<Options<never>, "patience" | "router">, scope: Scope.Closeable) {
    super(options.router)
    this.options = options
    this.scope = scope
    this.statuses = new News()
    this.over = Deferred.makeUnsafe()
    this.driver = undefined
    this.link = undefined
    this.next = Deferred.makeUnsafe()
    this.latest = undefined
    this.end = undefined
    this.reported = undefined
  }

  // the connections

  drive<R>({ connect, schedule, stableAfter }: Options<R>): Effect.Effect<never, ConnectError, R> {
    const stable = Duration.toMillis(stableAfter)
    return Effect.gen({ self: this }, function*() {
      let attempt = 0
      let step = yield* Schedule.toStep(schedule)
      while (true) {
        this.statuses.tell({ _tag: "Connecting", attempt })
        const own = yield* Scope.fork(this.scope)
        const opened = yield* Scope.provide(connect, own).pipe(
          Effect.onError((cause) => Scope.close(own, Exit.failCause(cause))),
          Effect.result
        )
        let error: ConnectError
        if (opened._tag === "Success") {
          const since = yield* Clock.currentTimeMillis
          error = yield* this.follow({ session: opened.success, scope: own })
          const wasStable = (yield* Clock.currentTimeMillis) - since >= stable
          if (wasStable) {
            attempt = -1
            step = yield* Schedule.toStep(schedule)
          } else {
            error = refusalOf(error)
          }
        } else {
          error = opened.failure
        }
        if (isFinal(error)) return yield* Effect.fail(error)
        const now = yield* Clock.currentTimeMillis
        const delay = yield* step(now, error).pipe(
          Effect.map(([, delay]) => Duration.toMillis(delay)),
          Pull.catchDone(() => Effect.undefined)
        )
        if (delay === undefined) return yield* Effect.fail(error)
        attempt++
        this.statuses.tell({ _tag: "Waiting", attempt, delay, error })
        // before the first connection nobody sees the status
        const log = this.latest === undefined ? Effect.logWarning : Effect.logDebug
        yield* log(`no connection (${error.message}), the next attempt is in ${Math.round(delay)} ms`)
        yield* Effect.sleep(delay)
      }
    })
  }

  /** Hands out a connection until it is lost, and tells how that came. */
  follow(link: Link): Effect.Effect<SessionClosed> {
    const { scope, session } = link
    return Effect.gen({ self: this }, function*() {
      this.latest = session
      this.link = link
      if (this.reported !== undefined) yield* ignore(session.reportBitrate(this.reported))
      this.statuses.tell({ _tag: "Connected", profile: session.profile, transport: session.transport })
      Deferred.doneUnsafe(this.next, Exit.succeed(session))
      const closed = yield* session.closed
      this.forget(session)
      yield* Scope.close(scope, Exit.fail(closed))
      return closed
    })
  }

  forget(session: Session): void {
    if (this.link?.session !== session) return
    this.link = undefined
    this.next = Deferred.makeUnsafe()
  }

  readonly lost = (session: Session): Effect.Effect<void> =>
    Effect.andThen(session.closed, Effect.sync(() => this.forget(session)))

  readonly run: Resume.Connections["run"] = (use) => this.again(this.connected, use)

  /** As `run`, but waits no longer than that for a connection. */
  runWithin<A, E extends { readonly _tag: string }, R>(
    patience: Duration.Input,
    use: (session: Session) => Effect.Effect<A, E | SessionClosed, R>
  ): Effect.Effect<A, E | SessionClosed | Timeout, R> {
    const connected = within(patience, "there is no connection")(this.connected)
    return this.again(Effect.suspend(() => this.link === undefined ? connected : this.connected), use)
  }

  readonly connected: Effect.Effect<Session, SessionClosed> = Effect.suspend(() => Deferred.await(this.next))

  again<A, E extends { readonly _tag: string }, R, E2>(
    connected: Effect.Effect<Session, E2>,
    use: (session: Session) => Effect.Effect<A, E | SessionClosed, R>
  ): Effect.Effect<A, E | E2 | SessionClosed, R> {
    return Effect.flatMap(
      connected,
      (session) =>
        Effect.catch(
          use(session),
          (error): Effect.Effect<A, E | E2 | SessionClosed, R> =>
            error._tag === "MoqSessionClosed"
              ? Effect.andThen(
                this.lost(session),
                Effect.suspend(() => this.again(connected, use))
              )
              : Effect.fail(error)
        )
    )
  }

  // the end

  finish(end: SessionClosed, error: ConnectError): void {
    if (this.end !== undefined) return
    this.end = end
    this.link = undefined
    if (!Deferred.doneUnsafe(this.next, Exit.fail(end))) {
      this.next = Deferred.makeUnsafe()
      Deferred.doneUnsafe(this.next, Exit.fail(end))
    }
    Deferred.doneUnsafe(this.over, Exit.succeed(end))
    this.statuses.tell({ _tag: "Closed", error })
    this.statuses.end()
  }

  giveUp(cause: Cause.Cause<ConnectError>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      const error = Cause.findErrorOption(cause)
      if (error._tag === "Some") return Effect.sync(() => this.finish(toClosed(error.value), error.value))
      const broken = new SessionClosed({ code: 0, reason: "connecting again has failed with a defect", by: "local" })
      this.finish(broken, broken)
      return Effect.logError("a session died", cause)
    })
  }

  // closes with the scope: what is in flight arrives first when that has succeeded
  leave(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    return Fiber.interrupt(this.driver!).pipe(
      Effect.andThen(Scope.close(this.scope, exit)),
      Effect.andThen(Effect.sync(() => this.finish(closedHere, closedHere)))
    )
  }

  readonly close = (error?: MoqError): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { link } = this
      const end = error === undefined
        ? closedHere
        : new SessionClosed({ code: Math.min(toCode(error), 255), reason: error.message, by: "local" })
      this.finish(end, end)
      // the driver first: it would take this for the loss of a connection
      return Fiber.interrupt(this.driver!).pipe(
        Effect.andThen(link === undefined ? Effect.void : link.session.close(error)),
        Effect.andThen(Scope.close(this.scope, Exit.interrupt()))
      )
    }).pipe(Effect.uninterruptible)

  get closed(): Effect.Effect<SessionClosed> {
    return Deferred.await(this.over)
  }

  // what is known

  get current(): Session {
    // there has been one by the time that anybody has this
    return this.latest!
  }
  get profile(): Profile.Name {
    return this.current.profile
  }
  get greeting(): Session["greeting"] {
    return this.current.greeting
  }
  get transport(): Transport.ConnectionInfo {
    return this.current.transport
  }
  get status(): Session["status"] {
    return this.statuses.stream
  }
  get drain(): Session["drain"] {
    return Effect.suspend(() => this.link === undefined ? Effect.void : this.link.session.drain)
  }
  get ping(): Session["ping"] {
    return this.run((session) => session.ping)
  }
  get bitrate(): Session["bitrate"] {
    return Stream.unwrap(Effect.suspend(() => {
      const bitrates = new News<number | undefined>()
      const follow = this.run((session) =>
        Stream.runForEach(session.bitrate, (bits) => Effect.sync(() => bitrates.tell(bits))).pipe(
          Effect.andThen(Effect.flatMap(session.closed, Effect.fail))
        )
      ).pipe(Effect.onExit(() => Effect.sync(() => bitrates.end())))
      return Effect.as(Effect.forkScoped(follow, { startImmediately: true }), bitrates.stream)
    }))
  }
  readonly reportBitrate: Session["reportBitrate"] = (bitsPerSecond) =>
    Effect.suspend(() => {
      if (this.end !== undefined) return Effect.fail(this.end)
      this.reported = bitsPerSecond
      // the next connection is told
      return this.link === undefined
        ? Effect.void
        : Effect.catchTag(this.link.session.reportBitrate(bitsPerSecond), "MoqSessionClosed", () => Effect.void)
    })

  // requests

  readonly subscribe: Session["subscribe"] = (path, { wait, ...options } = {}) =>
    Effect.flatMap(Clock.currentTimeMillis, (since) => {
      const waits = wait === undefined ? 0 : Duration.toMillis(wait)
      const patience = Math.max(Duration.toMillis(this.options.patience), waits)
      const first = this.runWithin(
        patience,
        (session) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            Resume.subscribeOn(session, path, {
              ...options,
              ...(wait === undefined ? {} : { wait: Math.max(0, waits - (now - since)) })
            }))
      )
      return Resume.subscribe(this, path, first)
    })

  readonly trackInfo: Session["trackInfo"] = (path) =>
    this.runWithin(this.options.patience, (session) => session.trackInfo(path))

  readonly fetch: Session["fetch"] = (path, sequence, options) =>
    this.runWithin(this.options.patience, (session) => inOwnScope(session.fetch(path, sequence, options)))

  readonly announced: Session["announced"] = (prefix = Path.empty) =>
    Stream.unwrap(Effect.gen({ self: this }, function*() {
      yield* Path.validate(prefix)
      const registry = new Announced.Registry<RequestError>()
      const follow = this.run((session) => followAnnounced(session, prefix, registry)).pipe(
        Effect.onExit((exit) => Effect.sync(() => registry.end(exit)))
      )
      yield* Effect.forkScoped(follow, { startImmediately: true })
      return registry.announced(Path.empty)
    }))
}

// Those that another attempt does not mend. Two publishers of one path would take over from each other for ever.
const isFinal = (error: ConnectError): boolean =>
  error._tag === "MoqUnauthorized" || error._tag === "MoqUnsupportedVersion" ||
  (error._tag === "MoqSessionClosed" && error.by === "remote" && error.code === codeDuplicate)

const codeDuplicate = toCode(new Duplicate({}))

// A server may refuse a client after the handshake, too. Once the connection has been stable it is no refusal: a token
// may have expired, and the next attempt may bring another.
const refusalOf = (error: ConnectError): ConnectError => {
  if (error._tag !== "MoqSessionClosed" || error.by !== "remote") return error
  const refusal = fromCode(error.code, error.reason)
  return refusal._tag === "MoqUnauthorized" || refusal._tag === "MoqUnsupportedVersion" ? refusal : error
}

const toClosed = (error: ConnectError): SessionClosed => {
  switch (error._tag) {
    case "MoqSessionClosed":
      return error
    case "MoqTransportError":
    case "MoqTimeout":
      return new SessionClosed({ code: toCode(error), reason: error.message, by: "transport" })
    default:
      return new SessionClosed({ code: toCode(error), reason: error.message, by: "remote" })
  }
}

/** Takes in what one connection announces, until it is lost. */
const followAnnounced = (
  session: Session,
  prefix: Path.Path,
  registry: Announced.Registry<RequestError>
): Effect.Effect<never, RequestError> =>
  Effect.suspend(() => {
    const there = new Set<string>()
    let isLive = false
    const hear = (event: Announced.Announced): void => {
      switch (event._tag) {
        case "Active":
          if (!isLive) there.add(Path.key(event.path))
          registry.add(event.path)
          return
        case "Ended":
          there.delete(Path.key(event.path))
          registry.remove(event.path)
          return
        case "Live":
          isLive = true
          // what has vanished while there was no connection
          for (const [key, path] of [...registry.active]) if (!there.has(key)) registry.remove(path)
          there.clear()
          registry.live(event.by)
      }
    }
    return session.announced(prefix).pipe(
      Stream.runForEachArray((events) => Effect.sync(() => events.forEach(hear))),
      // the peer says no more; the next one may
      Effect.andThen(Effect.flatMap(session.closed, Effect.fail))
    )
  })
