/**
 * A track that a relay receives: it outlives the session that it comes over.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import {
  Cancelled,
  Duplicate,
  Evicted,
  type MoqError,
  type RequestError,
  toCode,
  toRequestError,
  TransportError
} from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import { Waiters } from "../core/Waiters.ts"
import type { ReadError } from "../model/Frame.ts"
import * as Router from "../model/Router.ts"
import type * as Subscription from "../model/Subscription.ts"
import * as Track from "../model/Track.ts"
import { left } from "../session/Requests.ts"
import { isAway } from "../session/Resume.ts"
import type { Account } from "./CacheBudget.ts"
import type { Offered } from "./Origin.ts"

/** @internal */
export interface Options {
  readonly path: Path.Path
  /** Where the track begins. */
  readonly from: Track.Start
  /** How long it waits, in milliseconds, to hear what comes next when it has lost its source. */
  readonly patience: number
  /** Where it counts what it keeps. */
  readonly account: Account
  /** The latest group of the path that any viewer can have seen. */
  readonly seen: () => number | undefined
  /** Hears that it goes on, or has ended. */
  readonly onSettled: () => void
  /** Hears that its source has a track of its own: it ends as that one does, and no other source goes on with it. */
  readonly onOwn: () => void
  /** Hears that a source has begun anew. Nothing of that has come in. */
  readonly onAnew: (source: Offered) => void
}

/**
 * One track, filled from one source after the other.
 *
 * **Details**
 *
 * Each source is asked for what follows all that has been told, so that readers notice nothing but that groups which were
 * on their way fail, and a gap for those that had not begun. A source that has begun anew is not gone on with. That is one
 * which is another instance; one whose latest group is below what has been seen; and, as long as that is only group 0, one
 * which does not say what instance it is.
 *
 * @internal
 */
export class Upstream {
  readonly options: Options
  readonly opened: Deferred.Deferred<Track.Track, RequestError>
  readonly waiters: Waiters
  /** Who is to fill it. */
  source: Offered
  /** Whether it is being received, or has ended: else nobody knows yet whether it goes on. */
  isSettled: boolean
  /** The lowest sequence that means the same to its source as to its readers. */
  since: number
  track: Track.Producer | undefined
  // who has filled it last
  filler: Offered | undefined
  // why groups are missing from before
  code: number
  isAnew: boolean
  isReleased: boolean
  constructor(options: Options, source: Offered) {
    this.options = options
    this.opened = Deferred.makeUnsafe()
    this.waiters = new Waiters()
    this.source = source
    this.isSettled = true
    this.since = 0
    this.track = undefined
    this.filler = undefined
    this.code = 0
    this.isAnew = false
    this.isReleased = false
  }

  /** Gives the track as soon as there is one, for as long as the scope. */
  get open(): Effect.Effect<Track.Track, RequestError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const scope = yield* Effect.scope
      yield* Effect.addFinalizer(() => Effect.sync(() => this.options.account.close()))
      yield* Effect.forkScoped(Effect.onError(this.fill(scope), (cause) => this.died(cause)), {
        startImmediately: true
      })
      return yield* Deferred.await(this.opened)
    })
  }

  /** Has another source fill it; the one before hears that it is a duplicate, if it is still there. */
  serve(source: Offered): void {
    if (this.hasEnded) return
    this.source = source
    this.isSettled = false
    this.waiters.notify()
  }

  /** Tells that no other source will come: it ends with the one that it has. */
  release(): void {
    this.isReleased = true
    this.waiters.notify()
  }

  /** Ends it, because its publisher has begun anew. */
  evict(): void {
    this.end(restarted)
    this.waiters.notify()
  }

  // internal

  get hasEnded(): boolean {
    return this.track?.track.end !== undefined
  }

  end(error?: MoqError): void {
    if (error !== undefined) {
      const refusal = error._tag === "MoqSessionClosed" ? Router.notFound(this.options.path) : toRequestError(error)
      Deferred.doneUnsafe(this.opened, Exit.fail(refusal))
    }
    if (this.track !== undefined) Track.endUnsafe(this.track, error && toViewers(error as ReadError))
    this.settle()
  }

  settle(): void {
    this.isSettled = true
    this.options.onSettled()
  }

  // whoever waits for what is closed hears of that otherwise
  died(cause: Cause.Cause<never>): Effect.Effect<void> {
    return Effect.sync(() => {
      if (Cause.hasInterruptsOnly(cause)) return
      Deferred.doneUnsafe(this.opened, Exit.failCause(cause))
      this.end(new Cancelled({ detail: "its publisher ran into a bug" }))
    })
  }

  fill(scope: Scope.Scope): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      while (!this.hasEnded) {
        const { source } = this
        this.isAnew = false
        const own = yield* Scope.fork(scope)
        const received = yield* Effect.raceFirst(
          Effect.result(Scope.provide(this.receive(source, scope), own)),
          Effect.as(this.waiters.until(() => this.source !== source || this.hasEnded), undefined)
        )
        if (received === undefined) {
          this.cutOff(overtaken)
          yield* Scope.close(own, this.hasEnded ? Exit.void : Exit.fail(overtaken))
          continue
        }
        // what is still to be said to the publisher is said for as long as there are viewers
        if (received._tag === "Success") return this.end()
        const { failure } = received
        if (this.isAnew) return this.options.onAnew(source)
        if (!this.isLost(failure, source)) return this.end(failure)
        this.cutOff(failure)
        this.isSettled = false
        yield* Scope.close(own, Exit.void)
        const another = this.waiters.until(() => this.source !== source || this.isReleased)
        yield* Effect.raceFirst(another, Effect.sleep(this.options.patience))
        if (this.source === source) return this.end(failure)
      }
    })
  }

  // what was on its way
  cutOff(error: ReadError): void {
    const told = toViewers(error)
    this.code = toCode(told)
    if (this.track !== undefined) Track.failGroupsUnsafe(this.track, told)
  }

  // one that is to go on with the track may have heard that it is to serve it, and not yet what it is
  isLost(error: MoqError, source: Offered): boolean {
    return error._tag === "MoqSessionClosed" || (this.track !== undefined && this.filler !== source && isAway(error))
  }

  /** Succeeds when the source has finished the track. */
  receive(source: Offered, scope: Scope.Scope): Effect.Effect<void, ReadError | RequestError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      if (this.filler !== undefined && source.instance !== this.filler.instance) return yield* this.refuse
      const ended = Deferred.makeUnsafe<void, ReadError>()
      const { track } = this
      let isLent = false
      const subscription = yield* source.subscribe({
        from: track?.track.latest === undefined ? this.options.from : Track.following(track),
        into: {
          lend: (answer) => {
            isLent = true
            return this.track === undefined
              ? Scope.provide(this.begin(answer, source), scope)
              : this.resume(this.track, answer, source)
          },
          end: (exit) => Deferred.doneUnsafe(ended, exit)
        }
      })
      if (!isLent) return yield* this.takeOwn(subscription)
      Deferred.doneUnsafe(this.opened, Exit.succeed(this.track!.track))
      this.settle()
      return yield* Deferred.await(ended)
    })
  }

  takeOwn(track: Track.Track): Effect.Effect<never, RequestError> {
    return Effect.suspend(() => {
      if (this.track !== undefined) return this.refuse
      this.options.onOwn()
      Deferred.doneUnsafe(this.opened, Exit.succeed(track))
      return Effect.never
    })
  }

  begin(
    { expires, first, order, priority }: Subscription.Answer,
    source: Offered
  ): Effect.Effect<Track.Producer, never, Scope.Scope> {
    const { account, from, path } = this.options
    return Effect.tap(
      Track.make(path, { priority, order, expires, start: from, first, cache: { account } }),
      (track) => {
        account.track = track
        this.track = track
        this.filler = source
        return Effect.addFinalizer(() => track.fail(left))
      }
    )
  }

  resume(
    track: Track.Producer,
    answer: Subscription.Answer,
    source: Offered
  ): Effect.Effect<Track.Producer, RequestError> {
    return Effect.flatMap(this.hasBegunAnew(track.track, answer, source), (isAnew) => {
      if (isAnew) return this.refuse
      if (source.instance === undefined) this.since = answer.first
      this.filler = source
      // nobody sends what was on its way
      return Effect.as(track.gap({ from: 0, to: answer.first - 1, code: this.code }), track)
    })
  }

  get refuse(): Effect.Effect<never, Cancelled> {
    return Effect.suspend(() => {
      this.isAnew = true
      return Effect.fail(unwanted)
    })
  }

  hasBegunAnew(track: Track.Track, { first, latest }: Subscription.Answer, source: Offered): Effect.Effect<boolean> {
    const seen = this.options.seen()
    if (seen === undefined) return Effect.succeed(this.options.from === "latest" && latest < track.first)
    const isAnew = (latest: number): boolean => latest < seen || (latest === 0 && source.instance === undefined)
    // a relay that has nothing yet tells of the group that it was asked for; what INFO tells its publisher knows
    return latest !== first ? Effect.succeed(isAnew(latest)) : source.trackInfo.pipe(
      Effect.map((info) => isAnew(info.latest ?? -1)),
      Effect.catch(() => Effect.succeed(isAnew(latest)))
    )
  }
}

// internal

const connectionLost = toCode(new TransportError({}))

// Why the relay and its publisher parted is between the two: what made one of them close the session (a token that has
// expired, a limit) is not what its viewers did. That the connection was lost is for them, and a code of the application.
const toViewers = (error: ReadError): ReadError =>
  error._tag === "MoqSessionClosed" && error.by !== "transport" && error.code < 64 && error.code !== connectionLost
    ? new Cancelled({ detail: error.message })
    : error

const overtaken = new Duplicate({ detail: "a newer publisher has taken the path over" })

const unwanted = new Cancelled({ detail: "it has begun anew" })

const restarted = new Evicted({ detail: "the publisher has begun anew" })
