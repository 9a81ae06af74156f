import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, References, Scope, Stream } from "effect"
import * as Lobby from "../../src/node/Lobby.ts"

const nextOf = (lobby: Lobby.Lobby) =>
  Stream.runHead(lobby.requests).pipe(Effect.flatMap(Effect.fromOption), Effect.orDie)

describe("a lobby", () => {
  it.effect("leaves no client without an answer, whenever the one who lets it in is interrupted", () =>
    Effect.gen(function*() {
      const ends = new Set<string>()
      for (let run = 0; run < 300; run++) {
        const budget = 4 + Math.floor(run / 6)
        const turns = run % 6
        let asked = 0
        const refusals: Array<number> = []
        yield* Effect.scoped(Effect.gen(function*() {
          const sessions = yield* Effect.scope
          const lobby = yield* Lobby.make({ waiting: 1, takeTimeout: 60_000, sessions })
          lobby.admit({
            url: new URL("https://localhost"),
            headers: undefined,
            peer: undefined,
            transport: "memory",
            // its transport has been asked, and answers for it
            accept: Effect.callback(() => {
              asked++
            }),
            refuse: (status) => void refusals.push(status)
          })
          const request = yield* nextOf(lobby)
          const scope = yield* Scope.make()
          // it yields after so many steps, and is interrupted some turns later
          const accepting = yield* request.accept.pipe(
            Scope.provide(scope),
            Effect.provideService(References.MaxOpsBeforeYield, budget),
            Effect.forkChild({ startImmediately: true })
          )
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* Fiber.interrupt(accepting)
        }))
        assert.deepStrictEqual(
          [asked, refusals],
          asked === 0 ? [0, [503]] : [1, []],
          `after ${budget} steps and ${turns} turns`
        )
        ends.add(asked === 0 ? "refused" : "asked")
      }
      assert.deepStrictEqual([...ends].sort(), ["asked", "refused"])
    }))
})
