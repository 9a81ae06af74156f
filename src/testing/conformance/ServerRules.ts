/**
 * Rules of servers: how clients arrive, and that one does not disturb another.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { TransportError } from "../../core/MoqError.ts"
import type { Request } from "../../transport/Transport.ts"
import * as Rule from "./Rule.ts"

/** A server whose clients are all taken at once. */
const listen = (server: Rule.Tools["server"]) =>
  Effect.gen(function*() {
    const serving = yield* server
    const requests = yield* Queue.unbounded<Request>()
    yield* Effect.forkChild(Stream.runForEach(serving.server.requests, (request) => Queue.offer(requests, request)))
    const enter = (path: string) =>
      Effect.gen(function*() {
        const connecting = yield* Effect.forkChild(serving.connect(path), { startImmediately: true })
        const request = yield* Queue.take(requests)
        const server = yield* request.accept
        const pair: Rule.Pair = { client: yield* Fiber.join(connecting), server }
        return { pair, request }
      })
    return { ...serving, next: Queue.take(requests), enter }
  })

const paths = ["/", "/room/alice?token=a%2Fb%20c&n=1", "/%C3%A4/deep//x", "/a.b-c_d~e/?=&&x"]

const urlArrives: Rule.Rule = {
  rule: "the path and the query of the URL arrive at the server, which accepts the client",
  needs: ["server"],
  check: ({ server }) =>
    Effect.gen(function*() {
      const { enter, server: { transports } } = yield* listen(server)
      for (const path of paths) {
        const { pair, request } = yield* enter(path)
        const arrived = request.url.pathname + request.url.search
        yield* Rule.demand(arrived === path, () => `${path} arrived as ${arrived}`)
        yield* Rule.demand(
          transports.includes(request.transport),
          () => `a request came by ${request.transport}, and the server names ${transports.join(", ")}`
        )
        yield* Rule.converse(pair, 3)
      }
    })
}

const refusalArrives: Rule.Rule = {
  rule: "a client that is refused fails with TransportError, which says why, and the next one is served",
  needs: ["server"],
  check: ({ server }) =>
    Effect.gen(function*() {
      const { connect, enter, next } = yield* listen(server)
      for (const status of [403, 503]) {
        const connecting = yield* Effect.forkChild(Rule.failureOf(connect("/refused")), { startImmediately: true })
        yield* Effect.flatMap(next, (request) => request.refuse(status))
        yield* Rule.step(`connecting, which was refused with status ${status}, to fail`)
        const failure = yield* Fiber.join(connecting)
        yield* Rule.demand(
          failure instanceof TransportError && failure.detail !== undefined && failure.detail !== "",
          () => `the client got ${Rule.show(failure)}`
        )
      }
      yield* Rule.converse((yield* enter("/")).pair, 3)
    })
}

const departureIsHarmless: Rule.Rule = {
  rule: "a client that gives up before it is accepted leaves no connection that lives on, and the next one is served",
  needs: ["server"],
  check: ({ server }) =>
    Effect.gen(function*() {
      const { connect, enter, next } = yield* listen(server)
      const connecting = yield* Effect.forkChild(Effect.scoped(connect("/gone")), { startImmediately: true })
      const request = yield* next
      yield* Fiber.interrupt(connecting)
      yield* Rule.step("accepting a client that has gone, and the end of that connection")
      const outcome = yield* Effect.exit(Effect.scoped(Effect.flatMap(request.accept, ({ closed }) => closed)))
      yield* Rule.demand(
        outcome._tag === "Success" || !outcome.cause.reasons.some(({ _tag }) => _tag === "Die"),
        () => `accepting it was ${Rule.show(Rule.failureIn(outcome))}`
      )
      yield* Rule.converse((yield* enter("/")).pair, 3)
    })
}

const endDisturbsNobody: Rule.Rule = {
  rule: "the end of one connection does not disturb another of the same server",
  needs: ["server"],
  check: ({ server }) =>
    Effect.gen(function*() {
      const { enter } = yield* listen(server)
      const { pair: staying } = yield* enter("/stays")
      for (const side of ["client", "server"] as const) {
        const { pair: leaving } = yield* enter("/leaves")
        // with as much on its way as it takes
        const { receive, send } = yield* Rule.openUni(Rule.directions(leaving)[0]!)
        yield* Effect.forkChild(Effect.ignore(send.write([Rule.content(0, 1024 * 1024)])), { startImmediately: true })
        yield* leaving[side].close(6, "not welcome")
        yield* leaving.client.closed
        yield* leaving.server.closed
        yield* Rule.failureOf(Rule.drain(receive, () => {}))
        yield* Rule.converse(staying, 3)
      }
    })
}

export const rules: ReadonlyArray<Rule.Rule> = [urlArrives, refusalArrives, departureIsHarmless, endDisturbsNobody]
