/**
 * An append-only log with any number of readers: the one structure behind the groups of a track, the frames of a group
 * and the chunks of a frame.
 *
 * **Details**
 *
 * Appending never suspends and costs the same whatever the number of readers. Each reader has a {@link Cursor} and takes
 * all that it has not read yet in one batch. Whoever waits is woken once for everything that happened in the same turn,
 * through the dispatcher of a waiting fiber, so that virtual time sees it.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Types from "effect/Types"
import { Waiters } from "../core/Waiters.ts"

// of types alone
declare const TypeId: unique symbol

/**
 * A log of `A` that ends, or fails with `E`. What is in it can be read at once; {@link pull} waits for more.
 *
 * @category models
 * @since 0.1.0
 */
export interface Log<in out A, in out E = never> {
  readonly [TypeId]: Types.Invariant<A>
  /** The index of the first entry that is kept; equal to `next` when there is none. */
  readonly first: number
  /** The index that the next entry will get. */
  readonly next: number
  /** How the log ended, once it has. */
  readonly end: Exit.Exit<void, E> | undefined
  /** How many cursors are open. */
  readonly readers: number
}

/**
 * A reader's place in a log: the index of the entry that it reads next.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cursor {
  index: number
}

/**
 * Makes an empty log; `first`, 0 by default, is the index of its first entry.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUnsafe = <A, E = never>(first: number = 0): Log<A, E> => new LogImpl<A, E>(first)

/**
 * Appends an entry; `false` when the log has ended.
 *
 * @category producing
 * @since 0.1.0
 */
export const appendUnsafe = <A, E>(self: Log<A, E>, entry: A): boolean => {
  const log = self as LogImpl<A, E>
  if (log.end !== undefined) return false
  log.buffer.push(entry)
  log.next++
  log.waiting.notify()
  return true
}

/**
 * Appends an entry, and now and then drops those that every cursor has read, and those that are too many.
 *
 * @internal
 */
export const appendBoundedUnsafe = <A, E>(self: Log<A, E>, entry: A, max: number): void => {
  appendUnsafe(self, entry)
  const log = self as LogImpl<A, E>
  if (log.next - log.first < log.trimAt) return
  // the last one stays, for a new reader to be behind it until its first take
  const unread = Math.min(unreadUnsafe(log), log.next - 1)
  trimUnsafe(log, Math.max(unread, log.next - max))
  log.trimAt = Math.max(firstTrim, 2 * (log.next - log.first))
}

/**
 * Ends the log; readers still get what is in it. `false` when it had ended before.
 *
 * @category producing
 * @since 0.1.0
 */
export const endUnsafe = <A, E>(self: Log<A, E>, exit: Exit.Exit<void, E>): boolean => {
  const log = self as LogImpl<A, E>
  if (log.end !== undefined) return false
  log.end = exit
  log.waiting.notify()
  log.watching.notify()
  return true
}

/**
 * Makes whoever waits for entries look again, as if one had come.
 *
 * @category producing
 * @since 0.1.0
 */
export const wakeUnsafe = <A, E>(self: Log<A, E>): void => (self as LogImpl<A, E>).waiting.notify()

/**
 * Puts another entry in the place of one that is kept.
 *
 * @category producing
 * @since 0.1.0
 */
export const replaceUnsafe = <A, E>(self: Log<A, E>, index: number, entry: A): void => {
  const log = self as LogImpl<A, E>
  if (index >= log.first && index < log.next) log.buffer[log.head + index - log.first] = entry
}

/**
 * Drops the entries below an index. A reader that has not read them lags: see {@link pull}.
 *
 * @category producing
 * @since 0.1.0
 */
export const trimUnsafe = <A, E>(self: Log<A, E>, index: number): void => {
  const log = self as LogImpl<A, E>
  const count = Math.min(index, log.next) - log.first
  if (count <= 0) return
  log.buffer.fill(undefined, log.head, log.head + count)
  log.head += count
  log.first += count
  // moving what is left costs as much as what is left: do it once as much again has been dropped
  if (log.head * 2 >= log.buffer.length) {
    log.buffer.splice(0, log.head)
    log.head = 0
  }
  log.watching.notify()
}

/**
 * The entry at an index, or `undefined` when it is not there or not kept any more.
 *
 * @category consuming
 * @since 0.1.0
 */
export const getUnsafe = <A, E>(self: Log<A, E>, index: number): A | undefined => {
  const log = self as LogImpl<A, E>
  return index < log.first ? undefined : log.buffer[log.head + index - log.first]
}

/**
 * Opens a cursor at an index: that of the first entry by default.
 *
 * @category consuming
 * @since 0.1.0
 */
export const openUnsafe = <A, E>(self: Log<A, E>, index: number = self.first): Cursor => {
  const log = self as LogImpl<A, E>
  const cursor: Cursor = { index }
  log.cursors.add(cursor)
  log.watching.notify()
  return cursor
}

/**
 * Closes a cursor: it no longer counts among the readers.
 *
 * @category consuming
 * @since 0.1.0
 */
export const closeUnsafe = <A, E>(self: Log<A, E>, cursor: Cursor): void => {
  const log = self as LogImpl<A, E>
  if (log.cursors.delete(cursor)) log.watching.notify()
}

/**
 * Opens a cursor that closes with the scope: see {@link openUnsafe}.
 *
 * @category consuming
 * @since 0.1.0
 */
export const open = <A, E>(self: Log<A, E>, index?: number): Effect.Effect<Cursor, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => openUnsafe(self, index)),
    (cursor) => Effect.sync(() => closeUnsafe(self, cursor))
  )

/**
 * Takes everything between a cursor and the end of the log, without waiting; `undefined` when there is nothing. A cursor
 * that lags is moved to the first entry that is kept.
 *
 * @category consuming
 * @since 0.1.0
 */
export const takeUnsafe = <A, E>(self: Log<A, E>, cursor: Cursor): NonEmptyReadonlyArray<A> | undefined => {
  const log = self as LogImpl<A, E>
  const from = Math.max(cursor.index, log.first)
  const next = log.next
  if (from >= next) {
    cursor.index = from
    return undefined
  }
  cursor.index = next
  log.onTake?.()
  log.watching.notify()
  return log.buffer.slice(log.head + from - log.first) as unknown as NonEmptyReadonlyArray<A>
}

/**
 * Has a function called whenever a cursor takes entries; one at a time.
 *
 * @internal
 */
export const onTakeUnsafe = <A, E>(self: Log<A, E>, onTake: () => void): void => {
  ;(self as LogImpl<A, E>).onTake = onTake
}

/**
 * Takes the next batch of entries; suspends while there is none. Ends, or fails, as the log does.
 *
 * **Details**
 *
 * When the entries at the cursor have been cut, the reader goes on at the first one that is kept. Interrupting it loses nothing: see {@link handingOut}.
 *
 * @category consuming
 * @since 0.1.0
 */
export const pull = <A, E>(self: Log<A, E>, cursor: Cursor): Pull.Pull<NonEmptyReadonlyArray<A>, E> => {
  const wait = awaitUntil(self, () => isReady(self, cursor))
  return handingOut<NonEmptyReadonlyArray<A>, E | Cause.Done>(
    () => takeUnsafe(self, cursor),
    (again) => self.end === undefined ? Effect.andThen(wait, again) : endOf(self.end)
  )
}

/**
 * The Stream of what a pull gives, opened anew for each run and closed with it.
 *
 * @internal
 */
export const toStream = <A, E, E2 = never>(
  open: Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<A>, E>, E2, Scope.Scope>
): Stream.Stream<A, Pull.ExcludeDone<E> | E2> =>
  Stream.fromChannel(Channel.fromTransform((_, scope) => Scope.provide(open, scope)))

/**
 * An effect that gives what `take` takes; while that is nothing, it does what `otherwise` says, which may be to try again.
 *
 * **Details**
 *
 * What was taken is kept until the step that hands it out: a fiber can use up its operations in between, yield, and be
 * interrupted there. Whoever runs the effect next gets it.
 *
 * @category consuming
 * @since 0.1.0
 */
export const handingOut = <A, E, R = never>(
  take: () => A | undefined,
  otherwise: (again: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  let taken: A | undefined
  const give = Effect.sync(() => {
    const out = taken as A
    taken = undefined
    return out
  })
  const next: Effect.Effect<A, E, R> = Effect.suspend(() => {
    taken ??= take()
    return taken === undefined ? otherwise(next) : give
  })
  return next
}

/**
 * Whether a reader at the cursor has something to take, or the end to see.
 *
 * @category consuming
 * @since 0.1.0
 */
export const isReady = <A, E>(self: Log<A, E>, cursor: Cursor): boolean =>
  cursor.index < self.next || self.end !== undefined

/**
 * Suspends until `ready` holds; it is asked now, and whenever the log gets an entry or ends.
 *
 * @category waiting
 * @since 0.1.0
 */
export const awaitUntil = <A, E>(self: Log<A, E>, ready: () => boolean): Effect.Effect<void> =>
  (self as LogImpl<A, E>).waiting.until(ready)

/**
 * Those who wait for entries or the end.
 *
 * @internal
 */
export const waitingOf = <A, E>(self: Log<A, E>): Waiters => (self as LogImpl<A, E>).waiting

/**
 * Suspends until `ready` holds; it is asked now, and whenever a reader comes, goes, or takes entries, and when the log
 * ends.
 *
 * @category waiting
 * @since 0.1.0
 */
export const awaitReaders = <A, E>(self: Log<A, E>, ready: () => boolean): Effect.Effect<void> =>
  (self as LogImpl<A, E>).watching.until(ready)

/**
 * Has those that wait for readers look again.
 *
 * @category waiting
 * @since 0.1.0
 */
export const wakeWatchersUnsafe = <A, E>(self: Log<A, E>): void => (self as LogImpl<A, E>).watching.notify()

/**
 * The lowest index that an open cursor has still to read; the index of the next entry when there is none. A cursor whose
 * entries were cut does not count: it has lost them, and waits for nothing.
 *
 * @category waiting
 * @since 0.1.0
 */
export const unreadUnsafe = <A, E>(self: Log<A, E>): number => {
  const log = self as LogImpl<A, E>
  let lowest = log.next
  for (const { index } of log.cursors) if (index < lowest && index >= log.first) lowest = index
  return lowest
}

/**
 * Whether every open cursor has read all that is in the log, but for those whose entries were cut.
 *
 * @category waiting
 * @since 0.1.0
 */
export const isTaken = <A, E>(self: Log<A, E>): boolean => unreadUnsafe(self) === self.next

/**
 * What pulling from a log that ended this way does: the end as `Cause.Done`, or its failure.
 *
 * @category consuming
 * @since 0.1.0
 */
export const endOf = <E>(exit: Exit.Exit<void, E>): Pull.Pull<never, E> =>
  Exit.isSuccess(exit) ? Cause.done() : exit as Exit.Exit<never, E>

// internal

// from how many entries on
const firstTrim = 64

class LogImpl<in out A, in out E> implements Log<A, E> {
  declare readonly [TypeId]: Types.Invariant<A>
  readonly buffer: Array<A | undefined>
  readonly cursors: Set<Cursor>
  readonly waiting: Waiters
  readonly watching: Waiters
  head: number
  first: number
  next: number
  trimAt: number
  end: Exit.Exit<void, E> | undefined
  onTake: (() => void) | undefined
  constructor(first: number) {
    this.buffer = []
    this.cursors = new Set()
    this.waiting = new Waiters()
    this.watching = new Waiters()
    this.head = 0
    this.first = first
    this.next = first
    this.trimAt = firstTrim
    this.end = undefined
    this.onTake = undefined
  }
  get readers(): number {
    return this.cursors.size
  }
}
