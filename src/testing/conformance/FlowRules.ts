/**
 * Rules of many bytes and many streams: what must wait, and what must not pile up.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { ReceiveStream, SendStream } from "../../transport/Transport.ts"
import * as Rule from "./Rule.ts"

const block = 64 * 1024

// more than any window, socket buffer and queue in a healthy stack can hold
const flood = 64 * 1024 * 1024

// enough round trips for whatever is on its way to have arrived
const aWhile = 100

// limits above this are not filled up
const fillable = 2_000

const backpressure: Rule.Rule = {
  rule: "a write suspends while the peer does not read, other streams go on, and it continues when the peer reads",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const claims = pair.client.capabilities.backpressure
      for (const direction of Rule.directions(pair)) {
        const { receive, send } = yield* Rule.openUni(direction)
        const size = claims ? flood : flood / 4
        let accepted = 0
        const bytes = Rule.content(8, block)
        const writing = yield* Effect.forkChild(
          Effect.whileLoop({
            while: () => accepted < size,
            body: () => send.write([bytes]),
            step: () => {
              accepted += block
            }
          })
        )
        yield* Rule.converse(pair, aWhile)
        if (!claims) {
          yield* Rule.demand(
            !Rule.isSuspended(writing),
            () => `${direction.name}: it declares no backpressure, but a write suspended after ${accepted} bytes`
          )
          continue
        }
        yield* Rule.demand(
          Rule.isSuspended(writing),
          () => `${direction.name}: ${accepted} bytes were accepted for a stream that nobody reads`
        )
        let arrived = 0
        const reading = yield* Effect.forkChild(Rule.drain(receive, (chunk) => {
          arrived += chunk.length
        }))
        yield* Fiber.join(writing)
        yield* send.finish
        yield* Fiber.join(reading)
        yield* Rule.demand(arrived === size, () => `${direction.name}: ${arrived} bytes arrived of ${size}`)
      }
      return !claims ? Rule.declared("accepts writes without limit") : Rule.passed
    })
}

const resetPassesWrite: Rule.Rule = {
  rule: "a reset passes a write that is blocked by the peer",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      if (!capabilities.resetPastWrite) return Rule.declared("a reset waits for writes before it")
      if (!capabilities.backpressure) return Rule.declared("writes are never blocked")
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const writing = yield* Effect.forkChild(Rule.failureOf(send.write(blocked)))
          yield* Rule.converse(pair, aWhile)
          yield* Rule.demand(Rule.isSuspended(writing), () => `${name}: the write was not blocked`)
          yield* send.reset(31)
          const atWriter = yield* Fiber.join(writing)
          yield* Rule.expectReset(atWriter, 31, { ...capabilities, codes: "any" }, `${name}, the blocked write`)
          let arrived = 0
          const ending = yield* Rule.failureOf(Rule.drain(receive, (chunk) => {
            arrived += chunk.length
          }))
          yield* Rule.expectReset(ending, 31, capabilities, `${name}, the reader`)
          yield* Rule.demand(arrived < flood / 4, () => `${name}: everything arrived before the reset`)
        }))
      return Rule.passed
    })
}

const stopReleasesWrite: Rule.Rule = {
  rule: "a stop ends a write that is blocked by the peer",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      if (!capabilities.backpressure) return Rule.declared("writes are never blocked")
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const writing = yield* Effect.forkChild(Rule.failureOf(send.write(blocked)))
          yield* Rule.converse(pair, aWhile)
          yield* receive.stop(127)
          yield* Rule.expectReset(yield* Fiber.join(writing), 127, capabilities, name)
        }))
      return Rule.passed
    })
}

const blocked = [Rule.content(9, flood / 4)] as const

const concurrent = (kind: "unidirectional" | "bidirectional"): Rule.Rule => ({
  rule: `1,000 ${kind} streams are open at once, or as many as the transport declares`,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const streams = Math.min(1_000, pair.client.capabilities.maxStreams)
      for (const { from, name, to } of Rule.directions(pair)) {
        yield* Effect.gen(function*() {
          const size = 3_000
          const numbers = Array.from({ length: streams }, (_, i) => i)
          const opening = yield* Effect.forkChild(Effect.forEach(numbers, (i) =>
            Effect.gen(function*() {
              const send = kind === "unidirectional" ? yield* from.openUni() : (yield* from.openBi).send
              yield* send.write([Uint8Array.of(i >>> 8, i & 0xff)])
              return send
            })))
          const byNumber = new Map<number, ReceiveStream>()
          for (let i = 0; i < streams; i++) {
            const receive = kind === "unidirectional" ? yield* to.acceptUni : (yield* to.acceptBi).receive
            byNumber.set(yield* readNumber(receive), receive)
          }
          yield* Rule.demand(byNumber.size === streams, () => `${name}: ${byNumber.size} of ${streams} arrived`)
          const sends = yield* Fiber.join(opening)
          yield* Effect.all([
            Effect.forEach(sends, (send, i) =>
              Effect.andThen(
                send.write([Rule.content(i & 0xff, size)]),
                send.finish
              ), { concurrency: "unbounded", discard: true }),
            Effect.forEach(numbers, (i) => Rule.expectContent(byNumber.get(i)!, { seed: i & 0xff, size }), {
              concurrency: "unbounded",
              discard: true
            })
          ], { concurrency: "unbounded", discard: true })
        }).pipe(Effect.scoped)
      }
      return Rule.passed
    })
})

const readNumber = (receive: ReceiveStream) =>
  Effect.gen(function*() {
    const bytes: Array<number> = []
    while (bytes.length < 2) {
      for (const chunk of yield* receive.pull) bytes.push(...chunk)
    }
    return bytes[0]! * 256 + bytes[1]!
  })

/** Opens unidirectional streams until the declared limit, each known to the peer. */
export const openAll = (pair: Rule.Pair) =>
  Effect.gen(function*() {
    const opened: Array<{ readonly send: SendStream; readonly receive: ReceiveStream }> = []
    for (let i = 0; i < pair.client.capabilities.maxStreams; i++) {
      opened.push(yield* Rule.openUni(Rule.directions(pair)[0]!))
    }
    return opened
  })

/** Why a declared limit cannot be reached here, if so. */
export const unfillable = ({ client }: Rule.Pair): string | undefined =>
  client.capabilities.maxStreams <= fillable
    ? undefined
    : `allows ${client.capabilities.maxStreams} streams, too many to open here`

const openingWaits: Rule.Rule = {
  rule: "with the declared number of streams open, opening one more waits, and goes on when streams close",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const limit = unfillable(pair)
      if (limit !== undefined) return Rule.declared(limit)
      const opened = yield* openAll(pair)
      const oneMore = yield* Effect.forkChild(pair.client.openUni())
      yield* Rule.converse(pair, aWhile)
      yield* Rule.demand(
        Rule.isSuspended(oneMore),
        () => `more than the declared ${pair.client.capabilities.maxStreams} streams could be opened`
      )
      // transports may tell of free places in batches, so that one closed stream need not be enough
      for (const { receive, send } of opened) {
        yield* Effect.all([send.finish, Rule.drain(receive, () => {})], { concurrency: "unbounded", discard: true })
      }
      yield* Fiber.join(oneMore)
      return Rule.passed
    })
}

const sequence = (pair: Rule.Pair, streams: number) => {
  const bytes = Rule.content(10, 100)
  let arrived = 0
  return Effect.all([
    repeat(
      streams,
      Effect.gen(function*() {
        const send = yield* pair.client.openUni()
        yield* send.write([bytes])
        yield* send.finish
      })
    ),
    repeat(
      streams,
      Effect.gen(function*() {
        yield* Rule.drain(yield* pair.server.acceptUni, (chunk) => {
          arrived += chunk.length
        })
      })
    )
  ], { concurrency: "unbounded", discard: true }).pipe(
    Effect.andThen(
      Effect.suspend(() => Rule.demand(arrived === streams * 100, () => `${arrived} bytes arrived of ${streams * 100}`))
    )
  )
}

const repeat = <E, R>(times: number, effect: Effect.Effect<unknown, E, R>) => {
  let turns = 0
  return Effect.whileLoop({
    while: () => turns < times,
    body: () => Effect.scoped(effect),
    step: () => {
      turns++
    }
  })
}

const oneAfterTheOther: Rule.Rule = {
  rule: "20,000 streams can be used one after the other",
  check: ({ open }) => Effect.as(Effect.flatMap(open, (pair) => sequence(pair, 20_000)), Rule.passed)
}

// what a closed stream may leave behind, above the noise of a heap
const bytesPerStream = 200

const nothingIsKept: Rule.Rule = {
  rule: "20,000 closed streams leave no memory behind",
  needs: "heapUsed",
  check: ({ heapUsed, open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* sequence(pair, 5_000)
      const before = yield* heapUsed
      yield* sequence(pair, 20_000)
      const kept = ((yield* heapUsed) - before) / 20_000
      yield* Rule.demand(kept < bytesPerStream, () => `${Math.round(kept)} bytes are kept for each closed stream`)
      return Rule.passed
    })
}

export const rules: ReadonlyArray<Rule.Rule> = [
  backpressure,
  resetPassesWrite,
  stopReleasesWrite,
  concurrent("unidirectional"),
  concurrent("bidirectional"),
  openingWaits,
  oneAfterTheOther,
  nothingIsKept
]
