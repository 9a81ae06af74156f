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
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { errorOf } from "../core/ErrorOf.ts"
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
  const winners = new Winners(Duration.toMillis(options?.remember ?? "10 minutes"))
  if (candidates.length === 1) return { connect: candidates[0]!.connect }
  return {
    connect: (url, connectOptions = {}) =>
      Effect.flatMap(
        Effect.scope,
        (scope) =>
          Clock.clockWith((clock) => race({ candidates, headStart, winners, url, connectOptions, scope, clock }))
      )
  }
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

// hosts whose winner is remembered; the oldest goes
const hosts = 256

/** Who won where, unless that was the first candidate. */
class Winners {
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
  readonly winners: Winners
  readonly url: URL
  readonly connectOptions: ConnectOptions
  readonly scope: Scope.Scope
  readonly clock: Clock.Clock
}

/** One race. */
const race = (
  { candidates, clock, connectOptions, headStart, scope, url, winners }: Start
): Effect.Effect<Connection, Failure> => {
  const { host } = url
  const now = (): number => clock.currentTimeMillisUnsafe()
  const timeout = Duration.toMillis(connectOptions.timeout ?? "5 seconds")
  const deadline = now() + timeout
  const order = winners.order(candidates, host, now())
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  const failures = new Map<Candidate, Failure>()
  const progress = new Waiters()
  let winner: { readonly connection: Connection; readonly own: Scope.Closeable } | undefined
  // a defect, or an interruption that is not ours: nobody should take it for a bad network
  let broken: Cause.Cause<Failure> | undefined
  let isGivenUp = false

  const isDecided = (): boolean => winner !== undefined || broken !== undefined || failures.size === order.length

  const end = (candidate: Candidate, own: Scope.Closeable, exit: Exit.Exit<Connection, Failure>) =>
    Effect.suspend(() => {
      if (isGivenUp || isDecided()) return Scope.close(own, exit)
      progress.notify()
      if (Exit.isSuccess(exit)) {
        winner = { connection: exit.value, own }
        winners.won(candidate, candidate === candidates[0], host, now())
        return Effect.void
      }
      const failed = errorOf(exit)
      if (failed === undefined) {
        broken = exit.cause
      } else {
        failures.set(candidate, failed)
        winners.lost(candidate, host)
      }
      return Scope.close(own, exit)
    })

  // The attempt lives in the caller's scope, so that the winner need not wait for others that are slow to let go. What an
  // attempt acquires is in a scope of its own, which is closed unless it is the winner's.
  const begin = (candidate: Candidate): Effect.Effect<void> =>
    Effect.uninterruptible(Effect.suspend(() => {
      const late = new Timeout({ detail: `connecting to ${host}` })
      const timeout = deadline - now()
      if (timeout <= 0) {
        failures.set(candidate, late)
        return Effect.void
      }
      const own = Scope.forkUnsafe(scope)
      const attempt = candidate.connect(url, { ...connectOptions, timeout }).pipe(
        Scope.provide(own),
        Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(late) }),
        Effect.onExit((exit) => end(candidate, own, exit))
      )
      return Effect.map(Effect.forkIn(attempt, scope, { startImmediately: true }), (fiber) => {
        fibers.push(fiber)
      })
    }))

  // begins with one candidate after the other, until it is decided
  const decided = Effect.gen(function*() {
    for (const candidate of order) {
      if (isDecided()) return
      yield* begin(candidate)
      const outcome = progress.until(() => isDecided() || failures.has(candidate))
      if (candidate !== order.at(-1)) yield* Effect.timeoutOption(outcome, Math.min(headStart, timeout / order.length))
    }
    yield* progress.until(isDecided)
  })

  // nobody wants it any more: nothing may be left when this is done
  const giveUp = Effect.suspend(() => {
    isGivenUp = true
    const interrupted = Fiber.interruptAll(fibers)
    return winner === undefined ? interrupted : Effect.andThen(interrupted, Scope.close(winner.own, Exit.void))
  })

  const failure = (): Failure => {
    const failed = candidates.map(({ name }, index) => ({ name, error: failures.get(candidates[index]!)! }))
    return failed.every(({ error }) => error instanceof Timeout)
      ? new Timeout({ detail: `connecting to ${host} by ${failed.map(({ name }) => name).join(", ")}` })
      : new TransportError({ detail: failed.map(({ error, name }) => `${name}: ${inOneLine(error)}`).join("; ") })
  }

  const result = Effect.withFiber<Connection, Failure>((fiber) => {
    if (winner !== undefined) {
      for (const other of fibers) other.interruptUnsafe(fiber.id)
      return Effect.succeed(winner.connection)
    }
    // all have failed, but may still be letting go of what they had
    return broken === undefined
      ? Effect.andThen(Fiber.awaitAll(fibers), Effect.fail(failure()))
      : Effect.andThen(giveUp, Effect.failCause(broken))
  })

  return Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.onError(restore(decided), () => giveUp), () => result)
  )
}

const inOneLine = (error: Failure): string =>
  (error instanceof TransportError && error.detail || error.message).replace(/\s+/g, " ").trim()
