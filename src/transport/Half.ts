/**
 * What the halves of streams have in common that come of promises, and how they get an owner.
 *
 * @internal
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Bag, Item } from "../core/Bag.ts"
import { type SessionClosed, StreamReset } from "../core/MoqError.ts"

/** How a half ended early. */
export type End = Exit.Exit<never, StreamReset | SessionClosed>

/** What ends with its connection. */
export interface Part extends Item {
  readonly cut: (end: Exit.Exit<never, SessionClosed>) => void
}

/** What a half needs of its connection. */
export interface Owner {
  readonly parts: Bag<Part>
  /** The code in an error that a half ended with. */
  readonly codeOf: (error: unknown) => number | undefined
  /** The connection is over, and will tell how. */
  readonly lose: (error: unknown) => void
}

type Wait<A, E> = Effect.Effect<A, StreamReset | SessionClosed | E>

export const noop = (): void => {}

/** Where a wake may not run on the stack of who causes it: cheaper than `queueMicrotask`, of which Node makes a resource. */
export const settled: Promise<void> = Promise.resolve()

export const resetWith = (code: number): Exit.Exit<never, StreamReset> => Exit.fail(new StreamReset({ code }))

export const field = (u: unknown, key: string): unknown =>
  typeof u === "object" && u !== null ? (u as Record<string, unknown>)[key] : undefined

/**
 * A session has many of these: what their members give is made when it is asked for. There is a place for one fiber, or
 * function, that waits, which is not cleared when that is interrupted: resuming it does nothing then.
 */
export abstract class Half<O extends Owner> implements Part {
  place: number
  protected readonly connection: O
  protected end: End | Exit.Exit<never, Cause.Done> | undefined
  private waiter: (() => void) | undefined

  constructor(connection: O) {
    this.connection = connection
    this.end = undefined
    this.waiter = undefined
    this.place = -1
    connection.parts.add(this)
  }

  protected abstract get isWaiting(): boolean

  /** Suspends until there is something to go on for. */
  protected wait<A, E>(next: Wait<A, E>): Wait<A, E> {
    return Effect.callback((resume) => {
      // the fiber may have yielded since it looked
      if (this.isWaiting) this.park(() => resume(next))
      else resume(next)
    })
  }

  // V8 makes a function that is assigned to a member in the old generation; not so an argument
  protected park(waiter: () => void): void {
    this.waiter = waiter
  }

  protected wake(): void {
    const { waiter } = this
    this.waiter = undefined
    waiter?.()
  }

  /** `isAlone` says that nothing is on the stack that a wake would disturb. */
  protected settle(end: End | Exit.Exit<never, Cause.Done>, isAlone = false): void {
    this.end = end
    this.connection.parts.delete(this)
    if (isAlone) this.wake()
    else if (this.waiter !== undefined) void settled.then(() => this.wake())
  }

  abstract cut(end: End): void

  protected abstract fail(code: number): void

  protected onError(error: unknown): void {
    if (this.end !== undefined) return
    const code = this.connection.codeOf(error)
    if (code !== undefined) return this.fail(code)
    // An error without a code is the end of the connection, which tells its own story in a moment, or of a stream that
    // somebody ended without one.
    if (field(error, "source") === "session") return this.connection.lose(error)
    setTimeout(() => this.cut(resetWith(0)), 0)
  }
}

/** What hears of a stream that was opened for it. */
export type Opened<A> = (exit: Exit.Exit<A, SessionClosed>) => void

/**
 * Opens a stream that a scope owns, by a function that calls one with it and gives what takes the opening back. The scope
 * has the stream from the moment that it is there, so nothing has to be masked.
 */
export const open = <A>(
  { abort }: { readonly abort: (stream: A) => void },
  begin: (opened: Opened<A>) => () => void
): Effect.Effect<A, SessionClosed, Scope.Scope> =>
  Effect.withFiber((fiber) => {
    let stream: A | undefined
    let isWanted = true
    const close = Effect.sync(() => {
      isWanted = false
      if (stream !== undefined) abort(stream)
    })
    const opening = Effect.callback<A, SessionClosed>((resume) =>
      Effect.sync(begin((exit) => {
        if (Exit.isSuccess(exit)) stream = exit.value
        resume(isWanted ? exit : Effect.andThen(close, exit))
      }))
    )
    return Effect.andThen(Scope.addFinalizer(scopeOf(fiber.context), close), opening)
  })

export const scopeOf = (context: Context.Context<never>): Scope.Scope =>
  Context.get(context as Context.Context<Scope.Scope>, Scope.Scope)
