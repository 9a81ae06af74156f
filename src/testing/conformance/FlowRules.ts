/**
 * Rules of many bytes and many streams: what must wait, and what must not pile up.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { ReceiveStream, SendStream } from "../../transport/Transport.ts"
import * as Rule from "./Rule.ts"

const block = 64 * 1024

// more than any window, socket buffer and queue in a healthy stack can hold
const flood = 64 * 1024 * 1024

export const backpressure: Rule.Rule = {
  rule: "a write suspends while the peer does not read, other streams go on, and it continues when the peer reads",
  limit: ({ backpressure }) => backpressure ? undefined : "accepts writes without limit",
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
        const isStalled = yield* Rule.isStalled(pair, writing, () => accepted)
        if (!claims) {
          yield* Rule.demand(
            !isStalled,
            () => `${direction.name}: it declares no backpressure, but a write suspended after ${accepted} bytes`
          )
          continue
        }
        yield* Rule.demand(
          isStalled,
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
    })
}

const resetPassesWrite: Rule.Rule = {
  rule: "a reset passes a write that is blocked by the peer",
  limit: (capabilities) =>
    Rule.unblocked(capabilities) ??
      (capabilities.resetPastWrite ? undefined : "lets a reset wait for the writes before it"),
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      if (!capabilities.backpressure) return
      let overtaken = 0
      let paths = 0
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const writing = yield* Effect.forkChild(Rule.failureOf(send.write(blocked)))
          yield* Rule.settle(pair)
          yield* Rule.demand(Rule.isSuspended(writing), () => `${name}: the write was not blocked`)
          yield* send.reset(31)
          const atWriter = yield* Fiber.join(writing)
          yield* Rule.expectReset(atWriter, 31, { ...capabilities, codes: "any" }, `${name}, the blocked write`)
          yield* Rule.settle(pair)
          let arrived = 0
          const ending = yield* Rule.failureOf(Rule.drain(receive, (chunk) => {
            arrived += chunk.length
          }))
          yield* Rule.expectReset(ending, 31, capabilities, `${name}, the reader`)
          yield* Rule.demand(
            !capabilities.resetPastWrite || arrived < flood / 4,
            () => `${name}: everything arrived before the reset`
          )
          paths++
          if (arrived === 0) overtaken++
        }))
      // what waits for the peer to read cannot be there before it has read
      yield* Rule.demand(
        capabilities.resetPastWrite || overtaken < paths,
        () => "it declares that a reset waits for the write before it, but it passed"
      )
    })
}

const stopReleasesWrite: Rule.Rule = {
  rule: "a stop ends a write that is blocked by the peer",
  limit: Rule.unblocked,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      if (!capabilities.backpressure) return
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const writing = yield* Effect.forkChild(Rule.failureOf(send.write(blocked)))
          yield* Rule.settle(pair)
          yield* receive.stop(127)
          yield* Rule.expectReset(yield* Fiber.join(writing), 127, capabilities, name)
        }))
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
              yield* Rule.step(`${name}: opening stream ${i + 1} of ${streams}, with all before it open`)
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
          yield* Rule.together(
            Effect.forEach(sends, (send, i) =>
              Effect.andThen(
                send.write([Rule.content(i & 0xff, size)]),
                send.finish
              ), { concurrency: "unbounded", discard: true }),
            Effect.forEach(numbers, (i) => Rule.expectContent(byNumber.get(i)!, { seed: i & 0xff, size }), {
              concurrency: "unbounded",
              discard: true
            })
          )
        }).pipe(Effect.scoped)
      }
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

const openingWaits: Rule.Rule = {
  rule: "with the declared number of streams open, opening one more waits, and goes on when streams close",
  limit: Rule.unfillable,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      if (Rule.unfillable(pair.client.capabilities) !== undefined) return
      const opened = yield* openAll(pair)
      const oneMore = yield* Effect.forkChild(pair.client.openUni())
      yield* Rule.settle(pair)
      yield* Rule.demand(
        Rule.isSuspended(oneMore),
        () => `more than the declared ${pair.client.capabilities.maxStreams} streams could be opened`
      )
      // transports may tell of free places in batches, so that one closed stream need not be enough
      for (const { receive, send } of opened) yield* Rule.together(send.finish, Rule.drain(receive, () => {}))
      yield* Rule.step("one more stream, to be opened now that all others are over")
      yield* Fiber.join(oneMore)
    })
}

// how many times its declared number of streams a transport may keep for somebody who does not accept them
const slack = 4

const unacceptedIsBounded: Rule.Rule = {
  rule: "streams that nobody accepts do not pile up: opening more waits, and goes on when they are accepted",
  limit: (capabilities) => Rule.unblocked(capabilities) ?? Rule.unfillable(capabilities),
  check: ({ open }) =>
    Effect.gen(function*() {
      for (const lane of [0, 1]) {
        for (const side of [0, 1]) {
          yield* Effect.scoped(Effect.gen(function*() {
            const pair = yield* open
            const { backpressure, maxStreams } = pair.client.capabilities
            if (!backpressure || Rule.unfillable(pair.client.capabilities) !== undefined) return
            const { from, name, to } = Rule.directions(pair)[side]!
            const [kind, opening, accepting] = Rule.kinds(from, to)[lane]!
            const streams = maxStreams * slack
            let opened = 0
            const finish = (send: SendStream, scope: Scope.Closeable) =>
              Effect.forkScoped(Effect.ensuring(Effect.ignore(send.finish), Scope.close(scope, Exit.void)))
            const one = Effect.gen(function*() {
              const scope = yield* Scope.make()
              const send = yield* Scope.provide(opening, scope)
              yield* send.write([Uint8Array.of(0)])
              yield* finish(send, scope)
              opened++
            })
            const flooding = yield* Effect.forkChild(Effect.repeat(one, { times: streams - 1 }))
            // the other way, because the way that is flooded has no place
            yield* Rule.demand(
              yield* Rule.isStalled({ client: to, server: from }, flooding, () => opened),
              () => `${kind}, ${name}: ${opened} streams were opened, and nobody accepted one`
            )
            yield* Effect.forkChild(
              Effect.forever(
                Effect.scoped(Effect.flatMap(accepting, (receive) => Effect.ignore(Rule.drain(receive, () => {}))))
              )
            )
            yield* Rule.step(`${kind}, ${name}: opening more, now that streams are accepted and read to their end`)
            yield* Fiber.join(flooding)
          }))
        }
      }
    })
}

const priority: Rule.Rule = {
  rule: "of what waits to be sent, streams of a higher rank go first, whichever were opened first",
  needs: ["narrow"],
  limit: ({ priority }) => priority ? undefined : "sends in no order of rank",
  check: ({ narrow, open }) =>
    Effect.gen(function*() {
      for (const side of [0, 1]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const pair = yield* open
          const { maxStreams, priority } = pair.client.capabilities
          const direction = Rule.directions(pair)[side]!
          const streams = Math.min(32, Math.floor(maxStreams / 2))
          const all = streams * ranked[0].length
          const openRanked = (priority: number, count: number) =>
            Effect.replicateEffect(Rule.openUni(direction, priority), count)
          const low = yield* openRanked(-5, streams)
          // one half has its rank from the beginning, the other gets it later
          const raised = yield* openRanked(-7, Math.floor(streams / 2))
          const high = [...yield* openRanked(2_000_000_000, streams - raised.length), ...raised]
          for (const { send } of raised) yield* send.setPriority(2_000_000_000)
          yield* narrow(pair)
          let lowArrived = 0
          let highArrived = 0
          let lowBefore: number | undefined
          for (const { receive } of low) {
            yield* Effect.forkChild(Rule.drain(receive, (chunk) => {
              lowArrived += chunk.length
            }))
          }
          const reading = yield* Effect.forEach(high, ({ receive }) =>
            Effect.forkChild(Rule.drain(receive, (chunk) => {
              highArrived += chunk.length
              if (highArrived === all) lowBefore = lowArrived
            })))
          const write = ({ send }: Rule.Path) => Effect.forkChild(Effect.andThen(send.write(ranked), send.finish))
          yield* Effect.forEach(low, write)
          yield* Effect.forEach(high, write)
          yield* Fiber.joinAll(reading)
          yield* Rule.demand(
            lowBefore !== undefined,
            () => `${direction.name}: ${highArrived} bytes of the higher rank arrived of ${all}`
          )
          const part = lowBefore! / all
          const seen = () =>
            `${direction.name}: ${Math.round(part * 100)} % of the lower rank had arrived before all of the higher`
          yield* Rule.demand(!priority || part < 0.75, seen)
          yield* Rule.demand(priority || part > 0.25, () => `it declares no order of rank, but ${seen()}`)
        }))
      }
    })
}

// no more than a stream may hold for its reader, so that only the order of sending counts
const ranked = [Rule.content(14, 256 * 1024 - 1)] as const

const sequence = (pair: Rule.Pair, streams: number) => {
  const bytes = Rule.content(10, 100)
  let arrived = 0
  let opened = 0
  return Rule.together(
    repeat(
      streams,
      Effect.gen(function*() {
        yield* Rule.step(`stream ${++opened} of ${streams}, one after the other`)
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
  ).pipe(
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
  check: ({ open }) => Effect.flatMap(open, (pair) => sequence(pair, 20_000))
}

// what a closed stream may leave behind, above the noise of a heap
const bytesPerStream = 200

const nothingIsKept: Rule.Rule = {
  rule: "20,000 closed streams leave no memory behind",
  needs: ["heapUsed"],
  limit: ({ forgetsStreams }) => forgetsStreams ? undefined : "keeps memory of streams that are over",
  check: ({ heapUsed, open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* sequence(pair, 5_000)
      const before = yield* heapUsed
      yield* sequence(pair, 20_000)
      const kept = ((yield* heapUsed) - before) / 20_000
      const forgets = pair.client.capabilities.forgetsStreams
      const declared = forgets ? "" : "it declares that it keeps memory of streams that are over, but "
      yield* Rule.demand(
        forgets === kept < bytesPerStream,
        () => `${declared}${Math.round(kept)} bytes are kept for each closed stream`
      )
    })
}

export const rules: ReadonlyArray<Rule.Rule> = [
  backpressure,
  resetPassesWrite,
  stopReleasesWrite,
  concurrent("unidirectional"),
  concurrent("bidirectional"),
  openingWaits,
  unacceptedIsBounded,
  priority,
  oneAfterTheOther,
  nothingIsKept
]
