/**
 * Rules of the connection itself: how it ends, and that nobody stays suspended on it.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { SessionClosed } from "../../core/MoqError.ts"
import type { Connection } from "../../transport/Transport.ts"
import * as Rule from "./Rule.ts"

interface Suspended {
  readonly name: string
  readonly side: Connection
  readonly fiber: Fiber.Fiber<unknown>
}

/** Suspends a fiber on everything that can be waited for, on both sides. */
const suspendAll = (pair: Rule.Pair) =>
  Effect.gen(function*() {
    const suspended: Array<Suspended> = []
    const wait = <A, E, R>(name: string, side: Connection, effect: Effect.Effect<A, E, R>) =>
      Effect.map(Effect.forkChild(Rule.failureOf(effect), { startImmediately: true }), (fiber) => {
        suspended.push({ name, side, fiber })
      })
    for (const direction of Rule.directions(pair)) {
      const { from, to } = direction
      const { back, forth } = yield* Rule.openBi(direction)
      const { receive, send } = yield* Rule.openUni(direction)
      yield* wait("a pull of a bidirectional stream", to, forth.receive.pull)
      yield* wait("a pull of a bidirectional stream that it opened", from, back.receive.pull)
      yield* wait("a pull of a unidirectional stream", to, receive.pull)
      if (from.capabilities.backpressure) {
        const blocked = yield* Rule.openUni(direction)
        yield* wait("a blocked write", from, blocked.send.write([Rule.content(0, 16 * 1024 * 1024)]))
      }
      // not suspended, but to be failed by the next use
      const unread = yield* Rule.openUni(direction)
      yield* unread.send.write([one])
      suspended.push({
        name: "a pull of what was not read before",
        side: to,
        fiber: yield* later(to, unread.receive.pull)
      })
      suspended.push({ name: "a write afterwards", side: from, fiber: yield* later(from, send.write([one])) })
    }
    for (const { from } of Rule.directions(pair)) {
      yield* wait("acceptBi", from, from.acceptBi)
      yield* wait("acceptUni", from, from.acceptUni)
      yield* wait("closed", from, Effect.flatMap(from.closed, Effect.fail))
      suspended.push({ name: "openBi afterwards", side: from, fiber: yield* later(from, from.openBi) })
      suspended.push({ name: "openUni afterwards", side: from, fiber: yield* later(from, from.openUni()) })
      suspended.push({ name: "acceptUni afterwards", side: from, fiber: yield* later(from, from.acceptUni) })
      suspended.push({ name: "ping afterwards", side: from, fiber: yield* later(from, from.ping) })
    }
    return suspended
  })

const one = Rule.content(0, 1)

const later = <A, E, R>(side: Connection, effect: Effect.Effect<A, E, R>) =>
  Effect.forkChild(Effect.andThen(side.closed, Rule.failureOf(effect)), { startImmediately: true })

const expectClosed = (
  { client }: Rule.Pair,
  suspended: ReadonlyArray<Suspended>,
  expected: (side: Connection) => Partial<Pick<SessionClosed, "code" | "reason" | "by">>
) =>
  Effect.forEach(suspended, ({ fiber, name, side }) =>
    Effect.gen(function*() {
      yield* Rule.step(`${name} on ${client === side ? "the client" : "the server"}, to end with SessionClosed`)
      const failure = yield* Fiber.join(fiber)
      if (!(failure instanceof SessionClosed)) {
        return yield* Rule.violation(`${name}: expected SessionClosed, got ${Rule.show(failure)}`)
      }
      const { by, code, reason } = expected(side)
      const fits = (by === undefined || by === failure.by) && (code === undefined || code === failure.code) &&
        (reason === undefined || reason === failure.reason)
      yield* Rule.demand(
        fits,
        () =>
          `${name}: expected a close by ${by} with code ${code} and reason "${reason}", ` +
          `got by ${failure.by}, ${failure.code}, "${failure.reason}"`
      )
    }), { discard: true })

export const scopeFailsAll: Rule.Rule = {
  rule: "closing the scope of a connection closes it, and fails everything that is suspended on it",
  check: ({ open }) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const pair = yield* Scope.provide(open, scope)
      const suspended = yield* suspendAll(pair)
      yield* Scope.close(scope, Exit.void)
      yield* expectClosed(pair, suspended, () => ({ code: 0, reason: "" }))
    })
}

// 1,024 bytes
const longest = "so lang: äöü ✓ ".repeat(60).slice(0, 769)

const closes: ReadonlyArray<readonly [code: number, reason: string]> = [
  [0, ""],
  [6, "not authorised"],
  [255, longest],
  [70_000, "a code beyond a byte"]
]

const closeArrives: Rule.Rule = {
  rule: "a close arrives with its code and reason, once, and fails everything that is suspended on both sides",
  check: ({ open }) =>
    Effect.gen(function*() {
      for (const closer of ["client", "server"] as const) {
        for (const [code, reason] of closes) {
          yield* Effect.gen(function*() {
            const pair = yield* open
            const { codes } = pair[closer].capabilities
            if (code > 255 && codes !== "any") return
            const suspended = yield* suspendAll(pair)
            yield* pair[closer].close(code, reason)
            yield* pair[closer].close(99, "too late")
            yield* expectClosed(pair, suspended, (side) =>
              side === pair[closer]
                ? { by: "local", code, reason }
                : codes === "none"
                ? { by: "remote" }
                : { by: "remote", code, reason })
          }).pipe(Effect.scoped)
        }
      }
    })
}

const ping: Rule.Rule = {
  rule: "a ping succeeds while the peer is alive",
  limit: ({ ping }) => ping ? undefined : "cannot ask the peer",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      for (const { from } of Rule.directions(pair)) {
        yield* from.ping
        yield* from.ping
      }
    })
}

const outlivesItsFiber: Rule.Rule = {
  rule: "a connection belongs to its scope, and outlives the fibers that opened and accepted it",
  check: ({ open }) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const pair = yield* Fiber.join(yield* Effect.forkChild(Scope.provide(open, scope)))
      yield* Rule.turns(100)
      yield* Rule.converse(pair, 3)
    })
}

const deathIsNoticed: Rule.Rule = {
  rule: "the abrupt death of the client is noticed by the server, and told from a close",
  needs: ["kill"],
  check: ({ kill, open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const another = yield* open
      const all = yield* suspendAll(pair)
      yield* kill(pair)
      yield* expectClosed(pair, all.filter(({ side }) => side === pair.server), () => ({ by: "transport", code: 4 }))
      yield* Rule.converse(another, 3)
    })
}

// what a busy machine may add to a declared time, in milliseconds
const lateness = 1_000

const silenceIsNoticed: Rule.Rule = {
  rule: "a client that falls silent is noticed within the declared idle timeout, and told from a close",
  needs: ["silence", "idle"],
  limit: ({ idleTimeout }) => idleTimeout === Infinity ? "has no peer that could go without a word" : undefined,
  check: ({ idle, open, silence }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { server } = pair
      const { receive } = yield* Rule.openUni(Rule.directions(pair)[0]!)
      const pulling = yield* Effect.forkChild(Rule.failureOf(receive.pull), { startImmediately: true })
      const ending = yield* Effect.forkChild(
        Effect.flatMap(server.closed, (closed) => Effect.map(Clock.currentTimeMillis, (at) => ({ at, closed }))),
        { startImmediately: true }
      )
      yield* silence(pair)
      const since = yield* Clock.currentTimeMillis
      const pinging = yield* Effect.forkChild(Rule.failureOf(server.ping), { startImmediately: true })
      yield* idle
      yield* Rule.turns(1_000)
      yield* Rule.demand(!Rule.isSuspended(ending), () => "the server's end is still open")
      const { at, closed } = yield* Fiber.join(ending)
      yield* Rule.demand(closed.by === "transport", () => `the server's end was closed by ${closed.by}`)
      yield* Rule.demand(
        at - since <= server.capabilities.idleTimeout + lateness,
        () => `it took ${at - since} ms to notice, and ${server.capabilities.idleTimeout} ms are declared`
      )
      const pulled = yield* Fiber.join(pulling)
      yield* Rule.demand(
        pulled instanceof SessionClosed && pulled.by === "transport",
        () => `a suspended pull was not ended by it, but by ${Rule.show(pulled)}`
      )
      const answer = yield* Fiber.join(pinging)
      yield* Rule.demand(
        !server.capabilities.ping || answer !== undefined,
        () => "a ping succeeded although the client was silent"
      )
    })
}

const idleLives: Rule.Rule = {
  rule: "a connection with nothing to say lives on",
  needs: ["idle"],
  check: ({ idle, open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* idle
      yield* Rule.converse(pair, 3)
    })
}

export const rules: ReadonlyArray<Rule.Rule> = [
  scopeFailsAll,
  outlivesItsFiber,
  closeArrives,
  ping,
  deathIsNoticed,
  silenceIsNoticed,
  idleLives
]
