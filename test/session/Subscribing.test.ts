/** One subscription on the wire, in every state that it can be in, however the transport gives its stream. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { MoqError } from "../../src/core/MoqError.ts"
import * as Info from "../../src/message/Info.ts"
import { draft03 } from "../../src/message/Profile.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import type * as Track from "../../src/model/Track.ts"
import { encode } from "../../src/session/MessageStream.ts"
import type * as Peer from "../../src/session/Peer.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import { ByHand, concat, gap, greet, info, takeSubscribe } from "./byHand.ts"
import { brief, connect, ended, owned, settle, streams } from "./sessions.ts"

/** A connection of which streams can be had and used by Effects alone. */
const byEffects = (connection: Connection): Connection =>
  Object.create(connection, {
    onOpenBi: { value: undefined },
    openBi: {
      value: Effect.map(connection.openBi, ({ receive, send }) => ({
        receive: { pull: receive.pull, stop: (code: number) => receive.stop(code) },
        send: {
          write: (chunks: Parameters<typeof send.write>[0]) => send.write(chunks),
          finish: send.finish,
          reset: (code: number) => send.reset(code),
          setPriority: (priority: number) => send.setPriority(priority),
          stopped: send.stopped
        }
      }))
    }
  }) as Connection

const ways = { "by Effects": byEffects, "as it is": (connection: Connection) => connection }

const begin = (way: keyof typeof ways, maxStreams?: number) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair({ maxStreams })
    const connecting = yield* Effect.forkScoped(owned(connect(ways[way](left), { profiles: [draft03] })))
    const hand = new ByHand(right, draft03)
    yield* greet(hand)
    const { scope, value: session } = yield* Fiber.join(connecting)
    yield* settle
    const { peer } = session as unknown as { readonly peer: Peer.Peer }
    return { hand, left, peer, scope, session }
  })

/** What a session still does, or keeps, for its subscriptions. */
const held = ({ answers, subscriber: { sharing } }: Peer.Peer) => ({
  receiving: sharing.receiving.size,
  shared: (sharing as unknown as { readonly shared?: ReadonlyMap<string, unknown> }).shared?.size ?? 0,
  due: answers.waiting.first !== undefined
})

const nothing = { receiving: 0, shared: 0, due: false }

for (const way of Object.keys(ways) as ReadonlyArray<keyof typeof ways>) {
  describe(`Subscribing, ${way}`, () => {
    it.effect.each(["leaves", "closes", "dies", "waits"] as const)(
      "in every state, when the subscriber %s, nothing is left of it",
      (how) =>
        Effect.gen(function*() {
          for (const state of ["opening", "asked", "lending", "open"] as const) {
            if (how === "waits" && state === "open") continue
            // the session has one stream of its own
            const { hand, left, peer, scope, session } = yield* begin(way, state === "opening" ? 1 : undefined)
            const before = streams(left)
            let isLent: "no" | "waits" | "interrupted" = "no"
            const lend = Effect.suspend(() => {
              isLent = "waits"
              return Effect.onInterrupt(Effect.never, () =>
                Effect.sync(() => {
                  isLent = "interrupted"
                }))
            })
            const into = { lend: () => lend, end: () => Effect.void }
            const options = state === "lending" ? { into } : {}
            const own = yield* Scope.make()
            const asking = yield* Effect.forkScoped(Scope.provide(session.subscribe(["live"], options), own))
            if (state !== "opening") {
              const { stream } = yield* takeSubscribe(hand)
              if (state !== "asked") yield* stream.say(Info.encode, info(0))
            }
            yield* settle
            assert.strictEqual(peer.subscriber.sharing.receiving.size, state === "opening" ? 0 : 1, state)
            assert.strictEqual(ended(asking)?._tag, state === "open" ? "Success" : undefined, state)
            assert.strictEqual(isLent, state === "lending" ? "waits" : "no")
            assert.strictEqual(held(peer).due, state !== "open", state)
            switch (how) {
              case "leaves":
                yield* Fiber.interrupt(asking)
                yield* Scope.close(own, Exit.void)
                break
              case "closes":
                yield* Scope.close(scope, Exit.fail("no patience"))
                break
              case "dies":
                yield* Memory.kill(hand.connection)
                break
              case "waits":
                yield* TestClock.adjust("10 seconds")
            }
            yield* settle
            if (state === "lending" && how === "dies") {
              // whoever lends is not told of the connection: that ends with the session
              assert.isUndefined(ended(asking))
              yield* Scope.close(scope, Exit.void)
              yield* settle
            }
            const exit = ended(asking)!
            const error = Option.getOrUndefined(Exit.findErrorOption(exit as Exit.Exit<unknown, MoqError>))?._tag
            if (state === "open") {
              yield* Scope.close(own, Exit.void)
              yield* settle
            } else if (how === "leaves") assert.isTrue(Exit.hasInterrupts(exit), state)
            else assert.strictEqual(error, how === "waits" ? "MoqTimeout" : "MoqSessionClosed", state)
            assert.deepStrictEqual([state, held(peer)], [state, nothing])
            assert.strictEqual(isLent, state === "lending" ? "interrupted" : "no")
            if (how === "leaves" || how === "waits") assert.strictEqual(streams(left), before, state)
            else assert.strictEqual(streams(left), 0, state)
            yield* Scope.close(scope, Exit.void)
          }
        })
    )

    it.effect("what comes with the answer counts, however it is cut", () =>
      Effect.gen(function*() {
        for (const cut of [1, 3, 100]) {
          const { hand, scope, session } = yield* begin(way)
          const asking = yield* Effect.forkScoped(owned(session.subscribe(["live"], { from: 0 })))
          const { stream } = yield* takeSubscribe(hand)
          yield* settle
          const said = concat(
            encode(Info.encode, info(4), draft03),
            encode(SubscribeGap.encode, gap(0, 1, 7), draft03),
            encode(SubscribeGap.encode, gap(3, 1, 9), draft03)
          )
          for (let at = 0; at < said.length; at += cut) {
            yield* stream.write(said.slice(at, at + cut))
            if (cut < 10) yield* settle
          }
          const { close, value } = yield* Fiber.join(asking)
          yield* settle
          const reader = yield* Scope.provide(value.reader(), scope)
          assert.deepStrictEqual((yield* reader).map((event: Track.Event) => brief(event)), ["0-1!7", "3-4!9"])
          yield* close
          yield* Scope.close(scope, Exit.void)
        }
      }))
  })
}
