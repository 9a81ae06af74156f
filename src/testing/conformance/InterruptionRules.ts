/**
 * Rules of interruption: it loses nothing that arrived, and keeps nothing that was taken.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ReceiveStream } from "../../transport/Transport.ts"
import { openAll } from "./FlowRules.ts"
import * as Rule from "./Rule.ts"

/** Interrupts, and gives what the fiber had in its hands. */
const interrupted = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.andThen(Fiber.interrupt(fiber), Effect.map(Fiber.await(fiber), Exit.getSuccess))

const pullLosesNothing: Rule.Rule = {
  rule: "a pull that is interrupted loses nothing: what arrives is for the next pull",
  check: ({ open }) =>
    Effect.gen(function*() {
      yield* Rule.forEachPath(yield* open, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const bytes: Array<number> = []
          const keep = (chunk: Uint8Array) => {
            bytes.push(...chunk)
          }
          for (let i = 0; i < 200; i++) {
            const pulling = yield* Effect.forkChild(receive.pull, { startImmediately: true })
            yield* send.write([Uint8Array.of(i)])
            yield* Rule.turns(i % 7)
            const taken = yield* interrupted(pulling)
            if (taken._tag === "Some") taken.value.forEach(keep)
          }
          yield* Effect.forkChild(send.finish)
          yield* Rule.drain(receive, keep)
          yield* Rule.demand(
            bytes.length === 200 && bytes.every((byte, i) => byte === i),
            () => `${name}: ${bytes.length} of 200 bytes arrived, or not in order`
          )
        }))
    })
}

const acceptLosesNothing: Rule.Rule = {
  rule: "an accept that is interrupted loses nothing: the stream is for the next accept",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const streams = Math.min(50, pair.client.capabilities.maxStreams)
      for (const { from, name, to } of Rule.directions(pair)) {
        yield* Effect.gen(function*() {
          const accepted: Array<ReceiveStream> = []
          for (let i = 0; i < streams; i++) {
            const accepting = yield* Effect.forkChild(to.acceptUni, { startImmediately: true })
            const send = yield* from.openUni()
            yield* send.write([Uint8Array.of(i)])
            yield* Rule.turns(i % 7)
            const taken = yield* interrupted(accepting)
            if (taken._tag === "Some") accepted.push(taken.value)
          }
          while (accepted.length < streams) accepted.push(yield* to.acceptUni)
          const numbers = new Set<number>()
          for (const receive of accepted) numbers.add((yield* receive.pull)[0][0]!)
          yield* Rule.demand(numbers.size === streams, () => `${name}: ${numbers.size} of ${streams} streams arrived`)
        }).pipe(Effect.scoped)
      }
    })
}

const openLeaksNothing: Rule.Rule = {
  rule: "an opening that is interrupted takes no place",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      // whatever was opened after all must not stay in the way
      yield* Effect.forkChild(Effect.forever(
        Effect.scoped(Effect.flatMap(pair.server.acceptUni, (receive) => Effect.ignore(Rule.drain(receive, () => {}))))
      ))
      const rounds = Rule.unfillable(pair.client.capabilities) === undefined
        ? pair.client.capabilities.maxStreams + 1
        : 200
      for (let i = 0; i < rounds; i++) {
        const opening = yield* Effect.forkChild(Effect.scoped(pair.client.openUni()), { startImmediately: true })
        yield* Rule.turns(i % 7)
        yield* Fiber.interrupt(opening)
      }
      yield* pair.client.openUni()
      yield* Rule.converse(pair, 3)
    })
}

const waitingOpenLeaksNothing: Rule.Rule = {
  rule: "an opening that is interrupted while it waits for a place takes none",
  limit: Rule.unfillable,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      if (Rule.unfillable(pair.client.capabilities) !== undefined) return
      yield* Effect.gen(function*() {
        const opened = yield* openAll(pair)
        const waiting = yield* Effect.forEach(
          opened.slice(0, 10),
          () => Effect.forkChild(Effect.scoped(pair.client.openUni()), { startImmediately: true })
        )
        yield* Rule.turns(5)
        yield* Fiber.interruptAll(waiting)
        for (const { receive, send } of opened) yield* Rule.together(send.finish, Rule.drain(receive, () => {}))
      }).pipe(Effect.scoped)
      yield* Effect.scoped(openAll(pair))
    })
}

const writeLeaksNothing: Rule.Rule = {
  rule: "a blocked write that is interrupted lets go: the stream can be reset, and the connection goes on",
  limit: Rule.unblocked,
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { capabilities } = pair.client
      if (!capabilities.backpressure) return
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          const writing = yield* Effect.forkChild(send.write([Rule.content(0, 16 * 1024 * 1024)]), {
            startImmediately: true
          })
          yield* Rule.converse(pair, 20)
          yield* Fiber.interrupt(writing)
          yield* send.reset(5)
          yield* Rule.expectReset(yield* Rule.failureOf(Rule.drain(receive, () => {})), 5, capabilities, name)
        }))
      yield* Rule.converse(pair, 3)
    })
}

export const rules: ReadonlyArray<Rule.Rule> = [
  pullLosesNothing,
  acceptLosesNothing,
  openLeaksNothing,
  waitingOpenLeaksNothing,
  writeLeaksNothing
]
