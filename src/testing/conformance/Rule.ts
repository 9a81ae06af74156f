/**
 * What a rule of the transport contract is, and the tools that rules are checked with.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import { type SessionClosed, StreamReset } from "../../core/MoqError.ts"
import type {
  BiStream,
  Capabilities,
  Connection,
  ReceiveStream,
  SendStream,
  Transport,
  TransportServer
} from "../../transport/Transport.ts"

/**
 * Both ends of one connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pair {
  readonly client: Connection
  readonly server: Connection
}

/**
 * A server, and how clients reach it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Serving {
  readonly server: TransportServer
  /** Connects to the server with a path and query, such as `"/room?token=a"`, with all it takes to be trusted. */
  readonly connect: (path: string) => ReturnType<Transport["connect"]>
}

/**
 * What a case can need beyond a pair: an optional part of the `Harness`.
 *
 * @category models
 * @since 0.1.0
 */
export type Hook = "kill" | "silence" | "idle" | "narrow" | "heapUsed" | "server"

/**
 * How a case went that found nothing wrong.
 *
 * **Details**
 *
 * - `Passed`: the rule holds.
 * - `Declared`: the transport cannot do this, or not within reach of a check, and its capabilities say so; what can be
 *   checked nevertheless was.
 * - `NotChecked`: the harness lacks the hook that the case needs.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Passed" }
  | { readonly _tag: "Declared"; readonly limit: string }
  | { readonly _tag: "NotChecked"; readonly needs: Hook }

/** A rule, and the check of it on connections of its own. */
export interface Rule {
  readonly rule: string
  readonly needs?: ReadonlyArray<Hook>
  /** Why a transport is not held to the rule, when its capabilities say so. */
  readonly limit?: (capabilities: Capabilities) => string | undefined
  /** Checks what can be checked, also of a transport that is not held to the rule. */
  readonly check: (tools: Tools) => Effect.Effect<unknown, unknown, Scope.Scope>
}

/** What a check works with. A hook that the rule needs is always there. */
export interface Tools {
  readonly open: Effect.Effect<Pair, Violation, Scope.Scope>
  readonly kill: (pair: Pair) => Effect.Effect<void>
  readonly silence: (pair: Pair) => Effect.Effect<void>
  readonly idle: Effect.Effect<void>
  readonly narrow: (pair: Pair) => Effect.Effect<void>
  readonly heapUsed: Effect.Effect<number>
  readonly server: Effect.Effect<Serving, Violation, Scope.Scope>
}

/** The transport did not do what it must. */
export class Violation extends Data.TaggedError("Violation")<{ readonly message: string }> {}

export const violation = (message: string): Effect.Effect<never, Violation> => Effect.fail(new Violation({ message }))

/** Demands something of the transport. */
export const demand = (holds: boolean, otherwise: () => string): Effect.Effect<void, Violation> =>
  holds ? Effect.void : violation(otherwise())

/** What a check is at; each run has its own. */
export const Step = Context.Reference<{ now: string | undefined }>("effect-moq/testing/conformance/Step", {
  defaultValue: () => ({ now: undefined })
})

/** Says what comes next, to be told when it never ends. */
export const step = (now: string): Effect.Effect<void> =>
  Effect.map(Step, (step) => {
    step.now = now
  })

/** A sending half, and the receiving half at the other end. */
export interface Path {
  readonly name: string
  readonly send: SendStream
  readonly receive: ReceiveStream
}

/** Which way a rule is checked. */
export interface Direction {
  readonly name: string
  readonly from: Connection
  readonly to: Connection
}

export const directions = ({ client, server }: Pair): ReadonlyArray<Direction> => [
  { name: "client to server", from: client, to: server },
  { name: "server to client", from: server, to: client }
]

/** Both kinds of streams: how one side opens its sending half, and the other accepts that. */
export const kinds = (from: Connection, to: Connection) =>
  [
    ["unidirectional", from.openUni(), to.acceptUni],
    ["bidirectional", Effect.map(from.openBi, ({ send }) => send), Effect.map(to.acceptBi, ({ receive }) => receive)]
  ] as const

const greeting = Uint8Array.of(0x2a)

// the peer learns of a stream by its first byte, so that an ending that overtakes data cannot hide the stream
const greet = (send: SendStream, receive: Effect.Effect<ReceiveStream, SessionClosed, Scope.Scope>) =>
  Effect.gen(function*() {
    yield* send.write([greeting])
    const half = yield* receive
    const chunks = yield* half.pull
    if (chunks.length !== 1 || chunks[0].length !== 1 || chunks[0][0] !== greeting[0]) {
      const sizes = chunks.map(({ length }) => length).join(", ")
      return yield* violation(
        `the first byte of a stream, ${greeting[0]}, arrived as ${chunks[0][0]} in chunks of ${sizes} bytes`
      )
    }
    return half
  })

/** Opens a unidirectional stream whose first byte has arrived. */
export const openUni = ({ from, name, to }: Direction, priority?: number) =>
  Effect.gen(function*() {
    yield* step(`a unidirectional stream, ${name}: opened, and its first byte to be pulled`)
    const send = yield* from.openUni({ priority })
    const receive = yield* greet(send, to.acceptUni)
    const path: Path = { name: `unidirectional, ${name}`, send, receive }
    yield* step(path.name)
    return path
  })

/** Opens a bidirectional stream whose first byte has arrived, each way. */
export const openBi = ({ from, name, to }: Direction) =>
  Effect.gen(function*() {
    yield* step(`a bidirectional stream, ${name}: opened, and its first byte to be pulled, each way`)
    const near = yield* from.openBi
    yield* near.send.write([greeting])
    const far = yield* to.acceptBi
    yield* far.receive.pull
    yield* greet(far.send, Effect.succeed(near.receive))
    const forth: Path = { name: `bidirectional, ${name}`, send: near.send, receive: far.receive }
    const back: Path = { name: `bidirectional, ${name}, answer`, send: far.send, receive: near.receive }
    return { near, far, forth, back }
  })

/** Runs a check on each way that bytes can take between both sides. */
export const forEachPath = <E, R>(
  pair: Pair,
  check: (path: Path) => Effect.Effect<unknown, E, R>
) =>
  Effect.forEach(directions(pair), (direction) =>
    Effect.gen(function*() {
      yield* check(yield* openUni(direction))
      const { back, forth } = yield* openBi(direction)
      yield* step(forth.name)
      yield* check(forth)
      yield* step(back.name)
      yield* check(back)
    }).pipe(Effect.scoped), { discard: true })

/** Byte `index` of a content: different from its neighbours, and from the same byte of other contents and other blocks. */
const byteAt = (seed: number, index: number): number => (index * 31 + (index >>> 8) * 17 + seed) & 0xff

/** The content of a given seed and size. */
export const content = (seed: number, size: number): Uint8Array => {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = byteAt(seed, i)
  return bytes
}

/** Cuts bytes into pieces of sizes that repeat. */
export const cut = (bytes: Uint8Array, sizes: ReadonlyArray<number>): Array<Uint8Array> => {
  const pieces: Array<Uint8Array> = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

/** Pulls to the end of a stream. */
export const drain = (
  receive: ReceiveStream,
  onChunk: (chunk: Uint8Array) => void
): Effect.Effect<void, StreamReset | SessionClosed> =>
  Effect.forever(
    Effect.map(receive.pull, (chunks) => {
      for (let i = 0; i < chunks.length; i++) onChunk(chunks[i]!)
    }),
    { disableYield: true }
  ).pipe(Pull.catchDone(() => Effect.void))

/** Reads a stream to its end, and demands exactly the content of a seed and size, from the given offset on. */
export const expectContent = (
  receive: ReceiveStream,
  expected: { readonly seed: number; readonly size: number; readonly from?: number }
) =>
  Effect.suspend(() => {
    let at = expected.from ?? 0
    let problem: string | undefined
    return drain(receive, (chunk) => {
      if (chunk.length === 0) problem ??= `an empty chunk was received at offset ${at}`
      for (let i = 0; i < chunk.length; i++, at++) {
        if (chunk[i] !== byteAt(expected.seed, at)) problem ??= `byte ${at} of ${expected.size} is wrong`
      }
    }).pipe(
      Effect.andThen(Effect.suspend(() => problem === undefined ? Effect.void : violation(problem))),
      Effect.andThen(
        Effect.suspend(() => demand(at === expected.size, () => `${at} bytes arrived of ${expected.size}`))
      )
    )
  })

// limits above this are not filled up
const fillable = 2_000

/** Why a declared number of streams cannot be opened here, if so. */
export const unfillable = ({ maxStreams }: Capabilities): string | undefined =>
  maxStreams <= fillable ? undefined : `allows ${maxStreams} streams, too many to open here`

/** Why writes are never blocked, if so. */
export const unblocked = ({ backpressure }: Capabilities): string | undefined =>
  backpressure ? undefined : "never blocks a write"

/** Sends requests over a stream of its own and waits for each answer: time passes by events, on any clock. */
export const converse = ({ client, server }: Pair, trips: number) =>
  Effect.gen(function*() {
    const near = yield* client.openBi
    yield* Effect.forkChild(Effect.flatMap(server.acceptBi, (far) => echo(far)).pipe(Effect.scoped))
    for (let i = 0; i < trips; i++) {
      yield* near.send.write([Uint8Array.of(i & 0xff)])
      const chunks = yield* near.receive.pull
      if (chunks[0][0] !== (i & 0xff)) return yield* violation("an answer came back wrong")
    }
    yield* near.send.finish
    yield* drain(near.receive, () => {})
  }).pipe(Effect.scoped)

// enough round trips for whatever is on its way to have arrived
const aWhile = 100

/** Lets what is under way happen. */
export const settle = (pair: Pair) => converse(pair, aWhile)

/** Waits until a fiber has ended, or makes no more progress; tells whether it is suspended. */
export const isStalled = (pair: Pair, fiber: Fiber.Fiber<unknown, unknown>, progress: () => number) =>
  Effect.gen(function*() {
    let before = -1
    while (isSuspended(fiber) && progress() !== before) {
      before = progress()
      yield* settle(pair)
    }
    return isSuspended(fiber)
  })

const echo = (far: BiStream) =>
  Effect.forever(Effect.flatMap(far.receive.pull, far.send.write), { disableYield: true }).pipe(
    Pull.catchDone(() => far.send.finish)
  )

/** What an effect ends with: its typed failure or defect, or `undefined` when it succeeds. */
export const failureOf = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<unknown, never, R> =>
  Effect.map(Effect.exit(effect), failureIn)

export const failureIn = <A, E>(exit: Exit.Exit<A, E>): unknown =>
  Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined

/** Demands the early end of a stream, with the code where the transport carries codes. */
export const expectReset = (
  failure: unknown,
  code: number,
  { codes }: Capabilities,
  where: string
): Effect.Effect<void, Violation> => {
  if (!(failure instanceof StreamReset)) {
    return violation(`${where}: expected a reset with code ${code}, got ${show(failure)}`)
  }
  return demand(codes === "none" || failure.code === code, () => `${where}: code ${code} arrived as ${failure.code}`)
}

/** Runs a client and a server until both are done. */
export const together = <E, R, E2, R2>(one: Effect.Effect<unknown, E, R>, other: Effect.Effect<unknown, E2, R2>) =>
  Effect.all([one, other], { concurrency: "unbounded", discard: true })

/** Lets others run for a number of turns. */
export const turns = (n: number) => {
  let i = 0
  return Effect.whileLoop({
    while: () => i < n,
    body: () => Effect.yieldNow,
    step: () => {
      i++
    }
  })
}

/** Tells whether a fiber still waits for something. */
export const isSuspended = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() === undefined

/** What went wrong, in words. */
export const show = (failure: unknown): string =>
  failure instanceof Violation
    ? failure.message
    : failure === undefined
    ? "success"
    : Cause.isDone(failure)
    ? "the end of the stream"
    : failure instanceof Error
    ? `${failure.name}: ${failure.message}`
    : String(failure)
