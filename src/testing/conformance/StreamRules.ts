/**
 * Rules of single streams: what arrives, and how a stream ends.
 *
 * @internal
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { StreamReset } from "../../core/MoqError.ts"
import type { Capabilities, ReceiveStream } from "../../transport/Transport.ts"
import * as Rule from "./Rule.ts"

const sizes: ReadonlyArray<readonly [name: string, bytes: number]> = [
  ["0 B", 0],
  ["1 B", 1],
  ["1,199 B", 1_199],
  ["64 KiB", 64 * 1024],
  ["1 MiB", 1024 * 1024],
  ["16 MiB", 16 * 1024 * 1024]
]

// below, at and above what transports put into one packet, one frame and one buffer
const uneven = [1, 7, 1_199, 64, 16_384, 3, 65_537, 4_096]

const bytes = [0, 1, 13, 31, 64, 127, 255]

const codesOf = ({ codes }: Capabilities): ReadonlyArray<number> =>
  codes === "any" ? [...bytes, 70_000, 2 ** 32 - 1] : bytes

const codeless = ({ codes }: Capabilities): string | undefined => codes === "none" ? "carries no codes" : undefined

/** Demands of a transport that declares no codes that it carries none. */
const demandCodeless = ({ codes }: Capabilities, arrived: ReadonlyArray<unknown>) =>
  Rule.demand(
    codes !== "none" || !arrived.some((failure) => failure instanceof StreamReset && failure.code === 13),
    () => "it declares that it carries no codes, but they arrive"
  )

const arrives = ([name, size]: readonly [name: string, bytes: number]): Rule.Rule => ({
  rule: `${name} arrive whole and in order, in one chunk and in many, on every kind of stream`,
  check: ({ open }) =>
    Effect.gen(function*() {
      for (const { from, name, to } of Rule.directions(yield* open)) {
        const whole = Rule.content(1, size)
        const wrong = Effect.mapError((error: unknown) =>
          new Rule.Violation({ message: `${name}: ${Rule.show(error)}` })
        )
        yield* Rule.together(
          Effect.gen(function*() {
            const send = yield* from.openUni()
            yield* send.setPriority(2 ** 31 - 1)
            yield* send.write([whole])
            yield* send.finish
          }),
          Effect.gen(function*() {
            yield* Rule.expectContent(yield* to.acceptUni, { seed: 1, size })
          })
        ).pipe(Effect.scoped, wrong)
        const pieces = Rule.cut(Rule.content(2, size), uneven)
        yield* Rule.together(
          Effect.gen(function*() {
            const near = yield* from.openBi
            yield* near.send.setPriority(-(2 ** 31))
            const answered = yield* Effect.forkChild(Rule.expectContent(near.receive, { seed: 1, size }))
            for (let i = 0; i < pieces.length; i += 5) {
              yield* near.send.write(pieces.slice(i, i + 5) as unknown as NonEmptyReadonlyArray<Uint8Array>)
            }
            yield* near.send.finish
            yield* Fiber.join(answered)
          }),
          Effect.gen(function*() {
            const far = yield* to.acceptBi
            yield* Rule.expectContent(far.receive, { seed: 2, size })
            yield* far.send.write([whole])
            yield* far.send.finish
          })
        ).pipe(Effect.scoped, wrong)
      }
    })
})

const endsAgainAndAgain: Rule.Rule = {
  rule: "the end of a stream comes after all that was written, and every pull from then on gives it again",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const pieces = Rule.cut(Rule.content(3, 5_000), [2_000])
          yield* Effect.forEach(pieces, (piece) => send.write([piece]), { discard: true })
          yield* Effect.forkChild(send.finish)
          // the end is there before anybody reads, so what was not read has to wait with it
          yield* Rule.settle(pair)
          yield* Rule.step(`${name}: pulled to its end`)
          yield* Rule.expectContent(receive, { seed: 3, size: 5_000 }).pipe(
            Effect.mapError((error) => new Rule.Violation({ message: `${name}: ${Rule.show(error)}` }))
          )
          yield* Rule.step(`${name}: pulled once more after its end`)
          for (let i = 0; i < 3; i++) {
            const again = yield* Rule.failureOf(receive.pull)
            yield* Rule.demand(Cause.isDone(again), () => `${name}: after the end came ${Rule.show(again)}`)
          }
        }))
      for (const { from, name, to } of Rule.directions(pair)) {
        for (const [kind, opening, accepting] of Rule.kinds(from, to)) {
          yield* Effect.gen(function*() {
            const send = yield* opening
            yield* send.write([Rule.content(3, 5_000)])
            yield* Effect.forkChild(send.finish)
            // the other way, because whoever accepts here must find this stream first
            yield* Rule.settle({ client: to, server: from })
            yield* Rule.step(`${kind}, ${name}: accepted after its end, and pulled`)
            yield* Rule.expectContent(yield* accepting, { seed: 3, size: 5_000 })
          }).pipe(
            Effect.scoped,
            Effect.mapError((error) =>
              new Rule.Violation({ message: `${kind}, ${name}, accepted late: ${Rule.show(error)}` })
            )
          )
        }
      }
    })
}

const finishedIsOver: Rule.Rule = {
  rule: "a stream that is finished takes no more: writes fail, finishing again succeeds, and a reset changes nothing",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          yield* send.write([Rule.content(3, 5_000)])
          yield* Rule.together(send.finish, Rule.expectContent(receive, { seed: 3, size: 5_000 }))
          const written = yield* Rule.failureOf(send.write([Rule.content(0, 1)]))
          yield* Rule.expectReset(written, 0, { ...pair.client.capabilities, codes: "any" }, `${name}, write`)
          const finished = yield* Rule.failureOf(send.finish)
          yield* Rule.demand(finished === undefined, () => `${name}: finishing again gave ${Rule.show(finished)}`)
          yield* send.reset(13)
          yield* Rule.converse(pair, 1)
          const ended = yield* Rule.failureOf(receive.pull)
          yield* Rule.demand(Cause.isDone(ended), () => `${name}: after a reset the end was ${Rule.show(ended)}`)
        }))
    })
}

const smallWrites: Rule.Rule = {
  rule: "10,000 small writes in a row arrive whole and in order",
  check: ({ open }) =>
    Effect.gen(function*() {
      const size = 30_000
      const pieces = Rule.cut(Rule.content(12, size), [1, 2, 3, 4, 5])
      yield* Rule.forEachPath(yield* open, ({ receive, send }) => {
        let next = 0
        const writing = Effect.whileLoop({
          while: () => next < pieces.length,
          body: () => send.write([pieces[next]!]),
          step: () => {
            next++
          }
        })
        return Rule.together(Effect.andThen(writing, send.finish), Rule.expectContent(receive, { seed: 12, size }))
      })
    })
}

const openedInVain: Rule.Rule = {
  rule: "streams that end before their first byte, by a reset or by their scope, do no harm to others",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const rounds = Math.min(40, Math.floor(pair.client.capabilities.maxStreams / 2))
      for (const { from, name, to } of Rule.directions(pair)) {
        for (const [kind, opening, accepting] of Rule.kinds(from, to)) {
          for (let i = 0; i < rounds; i++) {
            yield* Effect.scoped(Effect.flatMap(opening, (send) => i % 2 === 0 ? Effect.void : send.reset(13)))
          }
          const send = yield* opening
          yield* send.write([Rule.content(13, 100)])
          yield* Effect.forkChild(Effect.ignore(send.finish))
          // the peer may or may not have heard of those before
          let found = false
          while (!found) {
            const receive = yield* accepting
            const first = yield* Effect.exit(receive.pull)
            if (Exit.isSuccess(first)) {
              found = true
              const size = first.value.reduce((size, chunk) => size + chunk.length, 0)
              yield* Rule.expectContent(receive, { seed: 13, size: 100, from: size })
            } else {
              yield* Rule.demand(
                Rule.failureIn(first) instanceof StreamReset,
                () => `${kind}, ${name}: a stream without a byte ended with ${Rule.show(Rule.failureIn(first))}`
              )
            }
          }
        }
      }
    })
}

const resetArrives: Rule.Rule = {
  rule: "a reset arrives with its code, 0..255; later pulls and writes fail with it",
  limit: codeless,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      const arrived: Array<unknown> = []
      for (const code of codesOf(capabilities)) {
        yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
          Effect.gen(function*() {
            yield* send.reset(code)
            yield* send.reset(code === 0 ? 1 : 0)
            const written = yield* Rule.failureOf(send.write([Rule.content(0, 1)]))
            yield* Rule.expectReset(written, code, { ...capabilities, codes: "any" }, `${name}, write after reset`)
            const finished = yield* Rule.failureOf(send.finish)
            yield* Rule.expectReset(finished, code, { ...capabilities, codes: "any" }, `${name}, finish after reset`)
            for (let i = 0; i < 2; i++) {
              const pulled = yield* Rule.failureOf(receive.pull)
              arrived.push(pulled)
              yield* Rule.expectReset(pulled, code, capabilities, name)
            }
          }))
      }
      yield* demandCodeless(capabilities, arrived)
    })
}

const stopArrives: Rule.Rule = {
  rule: "a stop arrives with its code, 0..255: writes fail with it, and so do pulls where it was stopped",
  limit: codeless,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      const arrived: Array<unknown> = []
      for (const code of codesOf(capabilities)) {
        yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
          Effect.gen(function*() {
            const stopped = yield* Effect.forkChild(send.stopped, { startImmediately: true })
            let heard: number | undefined
            send.onStop?.((code) => {
              heard = code
            })
            yield* receive.stop(code)
            yield* receive.stop(code === 0 ? 1 : 0)
            const pulled = yield* Rule.failureOf(receive.pull)
            yield* Rule.expectReset(pulled, code, { ...capabilities, codes: "any" }, `${name}, pull after stop`)
            const refused = yield* Rule.failureOf(Effect.forever(send.write([Rule.content(0, 1)])))
            yield* Rule.expectReset(refused, code, capabilities, name)
            arrived.push(refused)
            const again = yield* Rule.failureOf(send.write([Rule.content(0, 1)]))
            yield* Rule.expectReset(again, code, capabilities, `${name}, again`)
            // best effort: it may not have heard of it
            const told = stopped.pollUnsafe()
            yield* Rule.demand(
              told === undefined || (Exit.isSuccess(told) && (capabilities.codes === "none" || told.value === code)),
              () => `${name}: \`stopped\` does not give the code ${code}`
            )
            yield* Rule.demand(
              send.onStop === undefined ||
                (heard === undefined ? told === undefined : capabilities.codes === "none" || heard === code),
              () => `${name}: \`onStop\` does not give what \`stopped\` gives`
            )
          }))
      }
      yield* demandCodeless(capabilities, arrived)
    })
}

const suspendedPullIsReset: Rule.Rule = {
  rule: "a reset, and a stop, end a pull that is suspended",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const pulling = yield* Effect.forkChild(Rule.failureOf(receive.pull), { startImmediately: true })
          yield* send.reset(13)
          yield* Rule.expectReset(yield* Fiber.join(pulling), 13, pair.client.capabilities, `${name}, reset`)
        }))
      yield* Rule.forEachPath(pair, ({ name, receive }) =>
        Effect.gen(function*() {
          const pulling = yield* Effect.forkChild(Rule.failureOf(receive.pull), { startImmediately: true })
          yield* receive.stop(13)
          yield* Rule.expectReset(yield* Fiber.join(pulling), 13, pair.client.capabilities, `${name}, stop`)
        }))
    })
}

const scopeEndsStream: Rule.Rule = {
  rule: "closing the scope of a stream resets or stops it with code 0, and leaves a finished one alone",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      for (const { from, name, to } of Rule.directions(pair)) {
        const sender = yield* Scope.make()
        const send = yield* Scope.provide(from.openUni(), sender)
        yield* send.write([Rule.content(0, 1)])
        const receive = yield* to.acceptUni
        yield* receive.pull
        yield* Scope.close(sender, Exit.void)
        yield* Rule.step(`${name}: a pull after the sender's scope closed`)
        yield* Rule.expectReset(yield* Rule.failureOf(receive.pull), 0, capabilities, `${name}, sender's scope`)

        const opened = yield* from.openUni()
        yield* opened.write([Rule.content(0, 1)])
        const receiver = yield* Scope.make()
        yield* Scope.provide(to.acceptUni, receiver)
        yield* Scope.close(receiver, Exit.void)
        yield* Rule.step(`${name}: writes after the receiver's scope closed`)
        const refused = yield* Rule.failureOf(Effect.forever(opened.write([Rule.content(0, 1)])))
        yield* Rule.expectReset(refused, 0, capabilities, `${name}, receiver's scope`)

        const size = 10_000
        yield* Rule.together(
          Effect.gen(function*() {
            const send = yield* from.openUni()
            yield* send.write([Rule.content(4, size)])
            yield* send.finish
          }).pipe(Effect.scoped),
          Effect.gen(function*() {
            yield* Rule.expectContent(yield* to.acceptUni, { seed: 4, size })
          }).pipe(Effect.scoped)
        )
      }
    })
}

const handedOver: Rule.Rule = {
  rule: "where streams are handed to a function, those that wait come at once and others as they come, each once",
  check: ({ open }) =>
    Effect.gen(function*() {
      for (const { from, name, to } of Rule.directions(yield* open)) {
        const hand = { onUni: to.onUni?.bind(to), onBi: to.onBi?.bind(to) }
        const ways = [
          ["onUni", from.openUni(), hand.onUni],
          [
            "onBi",
            Effect.map(from.openBi, ({ send }) => send),
            hand.onBi && ((take: (stream: ReceiveStream) => void) => hand.onBi!(({ receive }) => take(receive)))
          ]
        ] as const
        for (const [kind, openNext, onNext] of ways) {
          if (onNext === undefined) continue
          const sizes = [1, 20_000, 3]
          const write = (size: number) => Effect.flatMap(openNext, ({ write }) => write([Rule.content(size, size)]))
          const arrived: Array<ReceiveStream> = []
          yield* write(sizes[0]!)
          onNext((stream) => {
            arrived.push(stream)
          })
          for (const size of sizes.slice(1)) yield* write(size)
          for (const [i, size] of sizes.entries()) {
            yield* Rule.step(`${name}: stream ${i} to be handed to \`${kind}\``)
            while (arrived.length <= i) yield* to.ping.pipe(Effect.andThen(Effect.yieldNow))
            const [chunk] = yield* arrived[i]!.pull
            const isIts = Rule.content(size, size).subarray(0, chunk.length).every((byte, at) => chunk[at] === byte)
            yield* Rule.demand(isIts, () => `${name}: what \`${kind}\` gives is not the stream that was opened`)
          }
          yield* Rule.demand(arrived.length === sizes.length, () => `${name}: \`${kind}\` gives a stream twice`)
        }
      }
    })
}

const chunksAreLeftAlone: Rule.Rule = {
  rule: "chunks are not changed by sending them, may be sent twice, and received ones are not used again",
  check: ({ open }) =>
    Effect.gen(function*() {
      for (const { from, name, to } of Rule.directions(yield* open)) {
        // a view into a larger buffer, as encoders hand them out
        const large = Rule.content(6, 200_003).subarray(3)
        const [a, b, c] = [Rule.content(5, 9), large, Rule.content(7, 1_000)]
        const before = [a.slice(), b.slice(), c.slice()]
        const rounds = [[a, b, c], [b, c, a], [c, a, b]] as const
        const received: Array<Array<Uint8Array>> = []
        for (const chunks of rounds) {
          const kept: Array<Uint8Array> = []
          received.push(kept)
          yield* Rule.together(
            Effect.gen(function*() {
              const send = yield* from.openUni()
              yield* send.write(chunks)
              yield* send.finish
            }),
            Effect.gen(function*() {
              yield* Rule.drain(yield* to.acceptUni, (chunk) => kept.push(chunk))
            })
          ).pipe(Effect.scoped)
        }
        yield* Rule.demand(
          [a, b, c].every((chunk, i) => equal(chunk, before[i]!)),
          () => `${name}: a chunk was changed by sending it`
        )
        for (let round = 0; round < rounds.length; round++) {
          yield* Rule.demand(
            equal(join(received[round]!), join(rounds[round]!)),
            () => `${name}: what was received in round ${round} has changed since, or arrived wrong`
          )
        }
      }
    })
}

const join = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const joined = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    joined.set(chunk, at)
    at += chunk.length
  }
  return joined
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i])

/** Those that are checked again with functions in place of Effects. */
export const rulesOfFunctions: ReadonlyArray<Rule.Rule> = [
  smallWrites,
  endsAgainAndAgain,
  finishedIsOver,
  resetArrives,
  stopArrives,
  suspendedPullIsReset,
  scopeEndsStream
]

export const rules: ReadonlyArray<Rule.Rule> = [
  ...sizes.map(arrives),
  ...rulesOfFunctions,
  openedInVain,
  handedOver,
  chunksAreLeftAlone
]
