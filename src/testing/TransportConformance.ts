/**
 * The contract of `effect-moq/transport/Transport`, as cases that any transport can be run against.
 *
 * **When to use**
 *
 * Use when you write a transport of your own. A session relies on every rule here, and on nothing else.
 *
 * **Details**
 *
 * A case knows no test runner: it is an Effect that succeeds with an {@link Outcome} or fails with a
 * {@link ConformanceFailure} that says what went wrong. What a transport declares that it cannot do is not held against
 * it, but it is reported; where a check needs something from the host, such as killing a process, that is a hook of the
 * {@link Harness}, and without it the case reports that it was not checked.
 *
 * Cases wait by round trips over the connection itself, so they run on a virtual clock as well as on the real one. Only
 * their timeout and the declared idle timeout are measured by the clock. For a transport of real sockets use the runner's
 * live clock. Without a runner use {@link report} and {@link format}.
 *
 * **Example** (All cases in vitest)
 *
 * ```ts
 * import { describe, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { Memory } from "effect-moq"
 * import { TransportConformance } from "effect-moq/testing"
 *
 * const pair = Effect.map(Memory.pair(), ([client, server]) => ({ client, server }))
 *
 * describe("my transport", () => {
 *   for (const { rule, run } of TransportConformance.cases({ pair })) it.live(rule, () => run, 60_000)
 * })
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as FlowRules from "./conformance/FlowRules.ts"
import * as FunctionRules from "./conformance/FunctionRules.ts"
import * as InterruptionRules from "./conformance/InterruptionRules.ts"
import * as LifetimeRules from "./conformance/LifetimeRules.ts"
import {
  type Hook,
  type Outcome,
  type Pair,
  type Rule,
  type Serving,
  show,
  Step,
  Violation
} from "./conformance/Rule.ts"
import * as ServerRules from "./conformance/ServerRules.ts"
import * as StreamRules from "./conformance/StreamRules.ts"

export type { Hook, Outcome, Pair, Serving } from "./conformance/Rule.ts"

/**
 * What a transport brings to be checked. Everything but `pair` is a hook: a case whose hook is missing is not checked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Harness {
  /** Makes a connected pair, fresh for each use; two may be open at once. Closing the scope closes both ends. */
  readonly pair: Effect.Effect<Pair, unknown, Scope.Scope>
  /** Ends the client as a crash would: without a close. */
  readonly kill?: ((pair: Pair) => Effect.Effect<void>) | undefined
  /**
   * Makes the client fall silent without a word, as when its process is stopped or its network is cut, and nothing tells
   * the server. It comes with `idle`.
   */
  readonly silence?: ((pair: Pair) => Effect.Effect<void>) | undefined
  /**
   * Lets more time pass than any idle timeout of the transport, with nothing sent: a sleep, or a clock adjusted. On a real
   * clock take a second more, for a busy machine.
   */
  readonly idle?: Effect.Effect<void> | undefined
  /**
   * Makes both ways so narrow that what is written queues up in the sender: a throttled proxy, or traffic control. Some
   * 20 Mbit a second, with less than 4 MiB on the way, will do.
   */
  readonly narrow?: ((pair: Pair) => Effect.Effect<void>) | undefined
  /** Bytes of memory in use, after a garbage collection. */
  readonly heapUsed?: Effect.Effect<number> | undefined
  /** Starts a server, and gives the way to it. Closing the scope stops it. */
  readonly server?: Effect.Effect<Serving, unknown, Scope.Scope> | undefined
  /**
   * How long a case may take, 60 seconds by default; a case that needs `idle` may take as long as it likes. A case that
   * takes longer fails and tells what it was waiting for; it is left behind when the transport does not let go of it.
   */
  readonly timeout?: Duration.Input | undefined
}

/**
 * A transport broke a rule of the contract; `detail` says how.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConformanceFailure extends Schema.TaggedError<ConformanceFailure>(
  "effect-moq/testing/TransportConformance/ConformanceFailure"
)("ConformanceFailure", { rule: Schema.String, detail: Schema.String }) {
  override get message() {
    return `${this.rule}: ${this.detail}`
  }
}

/**
 * One rule of the contract, and the check of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Case {
  /** The rule, in words. */
  readonly rule: string
  /** The first of the hooks without which it is not checked. */
  readonly needs: Hook | undefined
  readonly run: Effect.Effect<Outcome, ConformanceFailure, Scope.Scope>
}

/**
 * All cases for a transport, in the order of the contract; independent of each other.
 *
 * @category testing
 * @since 0.1.0
 */
export const cases = (harness: Harness): ReadonlyArray<Case> =>
  [
    ...StreamRules.rules,
    ...FlowRules.rules,
    ...LifetimeRules.rules,
    ...InterruptionRules.rules,
    ...FunctionRules.rules,
    ...ServerRules.rules
  ].map((rule) => ({
    rule: rule.rule,
    needs: rule.needs?.[0],
    run: run(rule, harness)
  }))

/**
 * What became of one case in a {@link report}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Result {
  readonly rule: string
  readonly outcome: Outcome | { readonly _tag: "Failed"; readonly detail: string }
}

/**
 * Runs all cases, one after the other, and tells what became of each: for those who have no test runner.
 *
 * **Example** (A report on the terminal)
 *
 * ```ts
 * import { Console, Effect } from "effect"
 * import { Memory } from "effect-moq"
 * import { TransportConformance } from "effect-moq/testing"
 *
 * const pair = Effect.map(Memory.pair(), ([client, server]) => ({ client, server }))
 *
 * const program = TransportConformance.report({ pair }).pipe(
 *   Effect.tap((results) => Console.log(TransportConformance.format(results))),
 *   Effect.map((results) => results.every(({ outcome }) => outcome._tag !== "Failed"))
 * )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const report = (harness: Harness): Effect.Effect<ReadonlyArray<Result>> =>
  Effect.forEach(cases(harness), ({ rule, run }) =>
    Effect.scoped(run).pipe(
      Effect.catch(({ detail }) => Effect.succeed({ _tag: "Failed" as const, detail })),
      Effect.map((outcome) => ({ rule, outcome }))
    ))

/**
 * Results as text: a line for each rule, with what failed, what the transport declares that it cannot do, and what was
 * not checked for want of a hook; and a line of sums.
 *
 * @category running
 * @since 0.1.0
 */
export const format = (results: ReadonlyArray<Result>): string => {
  const count = (tag: Result["outcome"]["_tag"]) => results.filter(({ outcome }) => outcome._tag === tag).length
  const sums = `${count("Passed")} passed, ${count("Declared")} declared, ${count("NotChecked")} not checked, ` +
    `${count("Failed")} failed`
  return [...results.map(line), sums].join("\n")
}

// internal

const line = ({ outcome, rule }: Result): string => {
  switch (outcome._tag) {
    case "Passed":
      return `passed       ${rule}`
    case "Declared":
      return `declared     ${rule}\n             it ${outcome.limit}`
    case "NotChecked":
      return `not checked  ${rule}\n             for want of the hook \`${outcome.needs}\``
    case "Failed":
      return `FAILED       ${rule}\n             ${outcome.detail}`
  }
}

const run = (rule: Rule, harness: Harness): Effect.Effect<Outcome, ConformanceFailure, Scope.Scope> =>
  Effect.suspend(() => {
    let limit: string | undefined
    const step: { now: string | undefined } = { now: undefined }
    const open = harness.pair.pipe(
      Effect.mapError((error) => new Violation({ message: `no connection could be made: ${show(error)}` })),
      Effect.tap(({ client }) =>
        Effect.sync(() => {
          limit = rule.limit?.(client.capabilities)
        })
      )
    )
    const missing = rule.needs?.find((hook) => harness[hook] === undefined)
    const undeclared = (hook: Hook) =>
      Effect.die(new Error(`the rule "${rule.rule}" does not say that it needs ${hook}`))
    const check = rule.check({
      open,
      kill: harness.kill ?? (() => undeclared("kill")),
      silence: harness.silence ?? (() => undeclared("silence")),
      idle: harness.idle ?? undeclared("idle"),
      narrow: harness.narrow ?? (() => undeclared("narrow")),
      heapUsed: harness.heapUsed ?? undeclared("heapUsed"),
      server: Effect.mapError(
        harness.server ?? undeclared("server"),
        (error) => new Violation({ message: `no server could be made: ${show(error)}` })
      )
    })
    // what a transport declares that it cannot do needs no hook
    const look = rule.limit === undefined ? Effect.void : Effect.scoped(open)
    const checked: Effect.Effect<unknown, unknown, Scope.Scope> = missing === undefined ? check : look
    // letting time pass may be done on the very clock that the timeout is measured by
    const timed = rule.needs?.includes("idle") ? checked : Effect.timeoutOrElse(abandonable(checked), {
      duration: harness.timeout ?? "60 seconds",
      orElse: () => {
        const at = step.now === undefined ? "" : `; it was at: ${step.now}`
        return Effect.fail(new Violation({ message: `it did not come to an end in time${at}` }))
      }
    })
    return Effect.mapBoth(Effect.provideService(timed, Step, step), {
      onSuccess: (): Outcome =>
        limit !== undefined
          ? { _tag: "Declared", limit }
          : missing !== undefined
          ? { _tag: "NotChecked", needs: missing }
          : { _tag: "Passed" },
      onFailure: (error) => new ConformanceFailure({ rule: rule.rule, detail: show(error) })
    })
  })

// a transport that waits without being interruptible must not make its case wait with it
const abandonable = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(restore(effect), { startImmediately: true }),
      (fiber) => restore(Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe())))
    )
  )
