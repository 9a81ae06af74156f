/** What the tests of the model share: short ways to write frames and to look at what a reader got. */
import { Effect, Fiber, type Pull, type Scope, Stream } from "effect"
import type { Frame } from "../../src/model/Frame.ts"
import type * as Group from "../../src/model/Group.ts"
import type * as Log from "../../src/model/Log.ts"
import type * as Track from "../../src/model/Track.ts"

const utf8 = new TextEncoder()

/** A frame that says something. */
export const bytes = (text: string): Uint8Array => utf8.encode(text)

/** What a frame says. */
export const text = (frame: Uint8Array): string => new TextDecoder().decode(frame)

/** An event in few letters: a group by its sequence, a gap as `from-to!code`. */
export const brief = (event: Track.Event): string =>
  event._tag === "Group" ? String(event.sequence) : `${event.from}-${event.to}!${event.code}`

/** Lets every fiber run until it waits for something that has not happened, without moving the clock. */
export const settle: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 20 })

/** A Stream that is being read, and what it has given so far. */
export interface Reading<E> {
  readonly got: Array<string>
  readonly fiber: Fiber.Fiber<void, E>
}

/** Starts to read a Stream; it has begun when this returns. */
export const read = <A, E>(
  stream: Stream.Stream<A, E>,
  show: (a: A) => string
): Effect.Effect<Reading<E>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const got: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(stream, (a) => Effect.sync(() => void got.push(show(a)))),
      { startImmediately: true }
    )
    yield* settle
    return { got, fiber }
  })

/** Pulls once, now: what is there, or `undefined` when it would have to wait. */
export const poll = <A, E>(pull: Pull.Pull<A, E>): Effect.Effect<A | undefined, E> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(pull, { startImmediately: true })
    yield* settle
    const exit = fiber.pollUnsafe()
    yield* Fiber.interrupt(fiber)
    return exit === undefined ? undefined : yield* (exit as unknown as Effect.Effect<A, E>)
  })

interface Inside {
  readonly readers: number
  readonly waiting: { readonly size: number } | undefined
  readonly watching: { readonly size: number } | undefined
}

/** Who is still attached to what: open places and suspended fibers. All zero when nothing leaks. */
export const attached = (
  of: Track.Producer | Group.Group | Group.Producer | Frame | { readonly log: Pick<Log.Log<never>, "readers"> }
) => {
  const { impl, log, wire } = of as { readonly impl?: Inside; readonly log?: Inside; readonly wire?: Inside }
  const { readers, waiting, watching } = (log ?? wire ?? impl)!
  // a frame that grows has no places of its own
  return { readers: wire === undefined ? readers : 0, pulling: waiting?.size ?? 0, watching: watching?.size ?? 0 }
}

/** What {@link attached} says when nobody is. */
export const nobody = { readers: 0, pulling: 0, watching: 0 }

/** Numbers from 0 to below 1, the same for the same seed. */
export const random = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}

/** One of several, each as often as it weighs. */
export const choose = <A>(among: ReadonlyArray<readonly [A, number]>, at: number): A => {
  let rest = at * among.reduce((sum, [, weight]) => sum + weight, 0)
  return (among.find(([, weight]) => (rest -= weight) < 0) ?? among[0]!)[0]
}
