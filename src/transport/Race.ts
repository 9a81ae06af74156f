/**
 * Several transports as one: whichever connects first.
 *
 * **When to use**
 *
 * Use where the best transport may not get through, as HTTP/3 where UDP is blocked, and another one does.
 *
 * **Details**
 *
 * The first candidate starts at once. The next one starts after a head start, or as soon as the one before has failed. The
 * first that is connected wins; the others are interrupted, and a connection that arrives after all is closed. A winner
 * other than the first is remembered for its host, and goes first the next time.
 *
 * **Example** (Your own transport first, WebSocket behind it)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Race, Transport } from "effect-moq"
 * import { NodeTransport } from "effect-moq/node"
 *
 * declare const mine: Transport.Transport
 *
 * const layer = Layer.succeed(Transport.Transport)(
 *   Race.make([
 *     { name: "mine", connect: mine.connect },
 *     { name: "websocket", connect: NodeTransport.make({ transports: ["websocket"] }).connect }
 *   ], { headStart: "100 millis" })
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { Timeout, TransportError } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import type { Connection, ConnectOptions, Transport, TransportName } from "./Transport.ts"

/**
 * A transport that takes part.
 *
 * @category models
 * @since 0.1.0
 */
export interface Candidate {
  /** What errors call it. */
  readonly name: TransportName
  readonly connect: Transport["connect"]
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long a candidate has before the next one starts; 300 milliseconds by default. When `timeout` of the connection
   * is short, it is shared evenly instead, so that each candidate has its turn.
   */
  readonly headStart?: Duration.Input | undefined
  /**
   * How long a winner other than the first candidate goes first at its host; 10 minutes by default. After that the
   * first candidate gets another chance, so that a network that was bad for a while is not held against it.
   */
  readonly remember?: Duration.Input | undefined
}

/**
 * Races candidates, the best one first.
 *
 * **Details**
 *
 * `timeout` of `connect` (5 seconds by default) is for all candidates together. When all fail it fails with one
 * {@link TransportError} that names each with its reason (`h3: nothing listens there; websocket: refused`), or with
 * {@link Timeout} when time was the only reason. The error of a single candidate is passed on as it is, and so is a
 * defect, at once: it is a bug and not a bad network.
 *
 * The connection belongs to the scope of the caller. What is left of the others may take a moment longer to go than
 * `connect` takes; closing the scope waits for it.
 *
 * No candidates at all, and options that are not durations, are a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (candidates: ReadonlyArray<Candidate>, options?: Options): Transport => {
  if (candidates.length === 0) throw new RangeError("Race: there are no candidates")
  const headStart = Duration.toMillis(options?.headStart ?? "300 millis")
  const memory = new Memory(Duration.toMillis(options?.remember ?? "10 minutes"))
  if (candidates.length === 1) return { connect: candidates[0]!.connect }
  return {
    connect: (url, connectOptions = {}) =>
      Effect.flatMap(
        Effect.scope,
        (scope) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            new Run({ candidates, headStart, memory, url, connectOptions, scope, now }).connection)
      )
  }
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const defaultTimeout = "5 seconds"

// hosts whose winner is remembered; the oldest goes
const hosts = 256

/** Who won where, unless that was the first candidate. */
class Memory {
  private readonly duration: number
  private readonly byHost = new Map<string, { readonly candidate: Candidate; readonly until: number }>()

  constructor(duration: number) {
    this.duration = duration
  }

  /** The candidates in the order of their turns. */
  order(candidates: ReadonlyArray<Candidate>, host: string, now: number): ReadonlyArray<Candidate> {
    const known = this.byHost.get(host)
    if (known === undefined) return candidates
    if (now < known.until) return [known.candidate, ...candidates.filter((candidate) => candidate !== known.candidate)]
    this.byHost.delete(host)
    return candidates
  }

  won(candidate: Candidate, isFirst: boolean, host: string, now: number): void {
    // winning again does not prolong it, else the first would never get its chance where one connects often
    if (this.byHost.get(host)?.candidate === candidate) return
    this.byHost.delete(host)
    if (isFirst) return
    for (const oldest of this.byHost.keys()) {
      if (this.byHost.size < hosts) break
      this.byHost.delete(oldest)
    }
    this.byHost.set(host, { candidate, until: now + this.duration })
  }

  lost(candidate: Candidate, host: string): void {
    if (this.byHost.get(host)?.candidate === candidate) this.byHost.delete(host)
  }
}

type Failure = Timeout | TransportError

interface Start {
  readonly candidates: ReadonlyArray<Candidate>
  readonly headStart: number
  readonly memory: Memory
  readonly url: URL
  readonly connectOptions: ConnectOptions
  readonly scope: Scope.Scope
  readonly now: number
}

/** One race. */
class Run {
  private readonly start: Start
  private readonly order: ReadonlyArray<Candidate>
  private readonly deadline: number
  private readonly headStart: number
  private readonly fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  private readonly failures = new Map<Candidate, Failure>()
  private winner: { readonly connection: Connection; readonly own: Scope.Closeable } | undefined
  // a defect, or an interruption that is not ours: nobody should take it for a bad network
  private broken: Cause.Cause<Failure> | undefined
  private isGivenUp = false
  private readonly progress = new Waiters()

  constructor(start: Start) {
    const { candidates, connectOptions, headStart, memory, now, url } = start
    const timeout = Duration.toMillis(connectOptions.timeout ?? defaultTimeout)
    this.start = start
    this.order = memory.order(candidates, url.host, now)
    this.deadline = now + timeout
    this.headStart = Math.min(headStart, timeout / candidates.length)
  }

  get connection(): Effect.Effect<Connection, Failure> {
    const decided = Effect.andThen(this.turns, this.until(() => this.isDecided))
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.onError(restore(decided), () => this.giveUp), () => this.result)
    )
  }

  /** Begins with one candidate after the other, until it is decided. */
  private get turns(): Effect.Effect<void> {
    let next = 0
    return Effect.whileLoop({
      while: () => next < this.order.length && !this.isDecided,
      body: () => {
        const candidate = this.order[next++]!
        const begun = this.begin(candidate)
        if (next === this.order.length) return begun
        const outcome = this.until(() => this.isDecided || this.failures.has(candidate))
        return Effect.andThen(begun, Effect.timeoutOption(outcome, this.headStart))
      },
      step: () => {}
    })
  }

  private get isDecided(): boolean {
    return this.winner !== undefined || this.broken !== undefined || this.failures.size === this.order.length
  }

  // asks first, for most of what is waited for has happened by then
  private until(ready: () => boolean): Effect.Effect<void> {
    return Effect.suspend(() => ready() ? Effect.void : this.progress.until(ready))
  }

  // The attempt lives in the caller's scope, so that the winner need not wait for others that are slow to let go. What an
  // attempt acquires is in a scope of its own, which is closed unless it is the winner's.
  private begin(candidate: Candidate): Effect.Effect<void> {
    const { connectOptions, scope, url } = this.start
    const late = new Timeout({ detail: `connecting to ${url.host}` })
    return Effect.uninterruptible(Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const timeout = this.deadline - now
      if (timeout <= 0) {
        this.failures.set(candidate, late)
        return Effect.void
      }
      return Effect.flatMap(Scope.fork(scope), (own) => {
        const attempt = candidate.connect(url, { ...connectOptions, timeout }).pipe(
          Scope.provide(own),
          Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(late) }),
          Effect.onExit((exit) => this.end(candidate, own, exit))
        )
        return Effect.map(Effect.forkIn(attempt, scope, { startImmediately: true }), (fiber) => {
          this.fibers.push(fiber)
        })
      })
    }))
  }

  private end(
    candidate: Candidate,
    own: Scope.Closeable,
    exit: Exit.Exit<Connection, Failure>
  ): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      if (this.isGivenUp || this.isDecided) return Scope.close(own, exit)
      const { candidates, memory, url } = this.start
      this.progress.wake(fiber.currentDispatcher)
      if (Exit.isSuccess(exit)) {
        this.winner = { connection: exit.value, own }
        return Effect.map(
          Clock.currentTimeMillis,
          (now) => memory.won(candidate, candidate === candidates[0], url.host, now)
        )
      }
      const failed = Cause.findError(exit.cause)
      if (Result.isSuccess(failed)) {
        this.failures.set(candidate, failed.success)
        memory.lost(candidate, url.host)
      } else {
        this.broken = exit.cause
      }
      return Scope.close(own, exit)
    })
  }

  /** Nobody wants it any more: nothing may be left when this is done. */
  private get giveUp(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isGivenUp = true
      const { winner } = this
      const interrupted = Fiber.interruptAll(this.fibers)
      return winner === undefined ? interrupted : Effect.andThen(interrupted, Scope.close(winner.own, Exit.void))
    })
  }

  private get result(): Effect.Effect<Connection, Failure> {
    return Effect.withFiber((fiber) => {
      const { broken, fibers, winner } = this
      if (winner !== undefined) {
        for (const other of fibers) other.interruptUnsafe(fiber.id)
        return Effect.succeed(winner.connection)
      }
      // all have failed, but may still be letting go of what they had
      return broken === undefined
        ? Effect.andThen(Fiber.awaitAll(fibers), Effect.fail(this.failure))
        : Effect.andThen(this.giveUp, Effect.failCause(broken))
    })
  }

  private get failure(): Failure {
    const { candidates, url } = this.start
    const names = candidates.map(({ name }) => name).join(", ")
    const failures = candidates.map((candidate) => ({ name: candidate.name, error: this.failures.get(candidate)! }))
    return failures.every(({ error }) => error instanceof Timeout)
      ? new Timeout({ detail: `connecting to ${url.host} by ${names}` })
      : new TransportError({ detail: failures.map(({ error, name }) => `${name}: ${inOneLine(error)}`).join("; ") })
  }
}

const inOneLine = (error: Failure): string =>
  (error instanceof TransportError && error.detail || error.message).replace(/\s+/g, " ").trim()
