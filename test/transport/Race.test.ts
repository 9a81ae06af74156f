import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Timeout, TransportError } from "../../src/core/MoqError.ts"
import * as Memory from "../../src/transport/Memory.ts"
import * as Race from "../../src/transport/Race.ts"
import type { Connection, ConnectOptions } from "../../src/transport/Transport.ts"

const settle = Effect.repeat(Effect.yieldNow, { times: 50 })

const pass = (time: number) => Effect.andThen(settle, Effect.andThen(TestClock.adjust(time), settle))

const there = new URL("https://there.example/room")
const elsewhere = new URL("https://elsewhere.example/room")

const detailOf = (error: unknown) => error instanceof Error && "detail" in error ? String(error.detail) : String(error)

/** Counts what candidates begin, open and close. */
class Ledger {
  readonly began: Array<string> = []
  readonly options: Array<ConnectOptions | undefined> = []
  opened = 0
  closed = 0
  waiting = 0

  get open() {
    return this.opened - this.closed
  }

  /** A candidate that needs a while, and then succeeds or fails. */
  candidate(
    name: string,
    after: number,
    failure?: TransportError | Timeout,
    uninterruptible = false
  ): Race.Candidate {
    return {
      name,
      connect: (url, options) =>
        Effect.suspend(() => {
          this.began.push(name)
          this.options.push(options)
          const connected = Effect.gen({ self: this }, function*() {
            if (after > 0) yield* Effect.sleep(after)
            if (failure !== undefined) return yield* failure
            return yield* this.connection(name)
          })
          this.waiting++
          return (uninterruptible ? Effect.uninterruptible(connected) : connected).pipe(
            Effect.ensuring(Effect.sync(() => this.waiting--))
          )
        }).pipe(Effect.annotateLogs("url", url.href))
    }
  }

  connection(name: string) {
    return Effect.gen({ self: this }, function*() {
      const [client] = yield* Memory.pair()
      yield* Effect.acquireRelease(Effect.sync(() => this.opened++), () => Effect.sync(() => this.closed++))
      const connection: Connection = { ...client, info: { transport: name, peer: undefined } }
      return connection
    })
  }
}

const won = (connection: Connection) => connection.info.transport

const refused = new TransportError({ detail: "nobody\n  there" })

describe("Race", () => {
  it.effect("the first candidate wins when it is in time, and the next one never starts", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([ledger.candidate("h3", 299), ledger.candidate("websocket", 0)])
      const connecting = yield* Effect.forkChild(Effect.scoped(Effect.map(connect(there), won)))
      yield* pass(299)
      assert.strictEqual(yield* Fiber.join(connecting), "h3")
      assert.deepStrictEqual(ledger.began, ["h3"])
      assert.strictEqual(ledger.open, 0)
    }))

  it.effect("the next one starts after the head start, and both may still win", () =>
    Effect.gen(function*() {
      for (const [first, second, rest, winner] of [[500, 300, 200, "h3"], [500, 100, 100, "websocket"]] as const) {
        const ledger = new Ledger()
        const { connect } = Race.make([ledger.candidate("h3", first), ledger.candidate("websocket", second)])
        const connecting = yield* Effect.forkChild(Effect.map(connect(there), won))
        yield* pass(299)
        assert.deepStrictEqual(ledger.began, ["h3"])
        yield* pass(1)
        assert.deepStrictEqual(ledger.began, ["h3", "websocket"])
        yield* pass(rest)
        assert.strictEqual(yield* Fiber.join(connecting), winner)
        assert.deepStrictEqual([ledger.open, ledger.waiting], [1, 0])
      }
    }))

  it.effect("the next one starts at once when the one before has failed", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([
        ledger.candidate("h3", 10, refused),
        ledger.candidate("h2", 0, refused),
        ledger.candidate("websocket", 0)
      ])
      const connecting = yield* Effect.forkChild(Effect.map(connect(there), won))
      yield* pass(10)
      assert.strictEqual(yield* Fiber.join(connecting), "websocket")
      assert.deepStrictEqual(ledger.began, ["h3", "h2", "websocket"])
    }))

  it.effect("an early failure of one does not shorten the head start of another", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([
        ledger.candidate("h3", 400, refused),
        ledger.candidate("h2", 1_000),
        ledger.candidate("websocket", 0)
      ])
      const connecting = yield* Effect.forkChild(Effect.map(connect(there), won))
      yield* pass(599)
      assert.deepStrictEqual(ledger.began, ["h3", "h2"])
      yield* pass(1)
      assert.strictEqual(yield* Fiber.join(connecting), "websocket")
    }))

  it.effect(
    "nothing is left of a race at every interleaving, also when the caller is interrupted",
    () =>
      Effect.gen(function*() {
        // each moment at which one arrives, beside each moment at which the caller goes, or none
        for (const uninterruptible of [false, true]) {
          for (const first of [0, 1, 2, 3, 4, 5]) {
            for (const second of [0, 1, 2, 3]) {
              for (const end of [0, 1, 2, 3, 4, 5, undefined]) {
                for (const turns of [0, 1, 2, 3, 5]) {
                  const ledger = new Ledger()
                  const { connect } = Race.make([
                    ledger.candidate("h3", first, undefined, uninterruptible),
                    ledger.candidate("websocket", second, undefined, uninterruptible)
                  ], { headStart: 2 })
                  const scope = yield* Scope.make()
                  const connecting = yield* Effect.forkChild(Scope.provide(connect(there), scope))
                  if (end === undefined) {
                    yield* pass(10)
                    assert.isTrue(Exit.isSuccess(yield* Fiber.await(connecting)))
                    assert.strictEqual(ledger.open, 1)
                  } else {
                    yield* TestClock.adjust(end)
                    for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
                    const interrupting = yield* Effect.forkChild(Fiber.interrupt(connecting), {
                      startImmediately: true
                    })
                    yield* pass(10)
                    yield* Fiber.join(interrupting)
                    // it may have had its connection before; then that is the one that is open
                    const exit = yield* Fiber.await(connecting)
                    assert.strictEqual(ledger.open, Exit.isSuccess(exit) ? 1 : 0)
                  }
                  assert.strictEqual(ledger.waiting, 0)
                  yield* Scope.close(scope, Exit.void)
                  assert.strictEqual(ledger.open, 0)
                }
              }
            }
          }
        }
      }),
    30_000
  )

  it.effect("a winner that the caller no longer waits for is closed", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const scope = yield* Scope.make()
      const interruptions: Array<() => void> = []
      const { connect } = Race.make([
        ledger.candidate("h3", 1_000),
        {
          name: "websocket",
          connect: () =>
            Effect.tap(Effect.delay(ledger.connection("websocket"), 1), () =>
              Effect.withFiber((fiber) => {
                // comes after the arrival, and before the caller hears of it
                for (const interrupt of interruptions) fiber.currentDispatcher.scheduleTask(interrupt, 0)
                return Effect.void
              }))
        }
      ])
      const connecting = yield* Effect.forkChild(Scope.provide(connect(there), scope))
      interruptions.push(() => connecting.interruptUnsafe())
      yield* pass(301)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(connecting)))
      assert.deepStrictEqual([ledger.opened, ledger.open, ledger.waiting], [1, 0, 0])
    }))

  it.effect("a connection that arrives after all is closed, and the winner does not wait for it", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([ledger.candidate("h3", 3_000, undefined, true), ledger.candidate("websocket", 0)])
      const scope = yield* Scope.make()
      const connecting = yield* Effect.forkChild(Scope.provide(connect(there), scope))
      yield* pass(300)
      assert.strictEqual(won(yield* Fiber.join(connecting)), "websocket")
      assert.deepStrictEqual([ledger.open, ledger.waiting], [1, 1])
      yield* pass(2_700)
      assert.deepStrictEqual([ledger.opened, ledger.open, ledger.waiting], [2, 1, 0])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(ledger.open, 0)
    }))

  it.effect("closing the scope waits for what is left of the others", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([ledger.candidate("h3", 3_000, undefined, true), ledger.candidate("websocket", 0)])
      const connecting = yield* Effect.forkChild(Effect.scoped(connect(there)))
      yield* pass(2_999)
      assert.isUndefined(connecting.pollUnsafe())
      yield* pass(1)
      assert.isDefined(connecting.pollUnsafe())
      assert.deepStrictEqual([ledger.opened, ledger.open], [2, 0])
    }))

  it.effect("what a failed candidate has acquired goes at once", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([
        { name: "h3", connect: () => Effect.andThen(ledger.connection("h3"), refused) },
        ledger.candidate("websocket", 0)
      ])
      assert.strictEqual(won(yield* connect(there)), "websocket")
      assert.deepStrictEqual([ledger.opened, ledger.open], [2, 1])
    }))

  it.effect("when all fail, one line names each with its reason", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([
        ledger.candidate("websocket", 0, refused),
        ledger.candidate("h3", 10, new Timeout({ detail: "no answer in 10 ms" }))
      ])
      const failing = yield* Effect.forkChild(Effect.flip(connect(there)))
      yield* pass(10)
      const error = yield* Fiber.join(failing)
      assert.instanceOf(error, TransportError)
      assert.strictEqual(error.detail, "websocket: nobody there; h3: timed out: no answer in 10 ms")
      assert.strictEqual(ledger.waiting, 0)
    }))

  it.effect("when all time out, it is a Timeout, within the time that was given", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([ledger.candidate("h3", 60_000), ledger.candidate("websocket", 60_000)])
      const failing = yield* Effect.forkChild(Effect.flip(connect(there, { timeout: "2 seconds", insecure: true })))
      yield* pass(1_999)
      assert.isUndefined(failing.pollUnsafe())
      assert.deepStrictEqual(ledger.options, [{ timeout: 2_000, insecure: true }, { timeout: 1_700, insecure: true }])
      yield* pass(1)
      const error = yield* Fiber.join(failing)
      assert.instanceOf(error, Timeout)
      assert.strictEqual(error.detail, "connecting to there.example by h3, websocket")
      assert.strictEqual(ledger.waiting, 0)
    }))

  it.effect("a short timeout is shared, so that each has its turn", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const { connect } = Race.make([ledger.candidate("h3", 60_000), ledger.candidate("websocket", 50)])
      const connecting = yield* Effect.forkChild(Effect.map(connect(there, { timeout: 200 }), won))
      yield* pass(150)
      assert.strictEqual(yield* Fiber.join(connecting), "websocket")
    }))

  it.effect("the error of a single candidate is passed on as it is", () =>
    Effect.gen(function*() {
      const { connect } = Race.make([new Ledger().candidate("h3", 0, refused)])
      assert.strictEqual(yield* Effect.flip(connect(there)), refused)
    }))

  it.effect("a defect is not taken for a bad network", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const bug = new Error("a bug")
      const { connect } = Race.make([
        { name: "h3", connect: () => Effect.andThen(Effect.sleep(400), Effect.die(bug)) },
        ledger.candidate("websocket", 1_000)
      ])
      const failing = yield* Effect.forkChild(Effect.exit(connect(there)))
      yield* pass(400)
      const exit = yield* Fiber.join(failing)
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) === bug)
      assert.strictEqual(ledger.waiting, 0)
    }))

  it("needs a candidate", () => {
    assert.throws(() => Race.make([]), RangeError)
  })
})

describe("Race remembers", () => {
  /** Connects, lets time pass, and tells who was started and who won. */
  const race = (ledger: Ledger, { connect }: ReturnType<typeof Race.make>, url = there) =>
    Effect.gen(function*() {
      const before = ledger.began.length
      const connecting = yield* Effect.forkChild(Effect.scoped(Effect.matchEffect(connect(url), {
        onSuccess: (connection) => Effect.succeed(won(connection)),
        onFailure: (error) => Effect.succeed(detailOf(error))
      })))
      yield* pass(1_000)
      const result = yield* Fiber.join(connecting)
      return [result, ...ledger.began.slice(before)]
    })

  it.effect("the winner at a host goes first there, for ten minutes, however often it is used", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const transport = Race.make([ledger.candidate("h3", 400, refused), ledger.candidate("websocket", 0)])
      assert.deepStrictEqual(yield* race(ledger, transport), ["websocket", "h3", "websocket"])
      for (let minute = 0; minute < 9; minute++) {
        assert.deepStrictEqual(yield* race(ledger, transport), ["websocket", "websocket"])
        yield* TestClock.adjust("1 minute")
      }
      assert.deepStrictEqual(yield* race(ledger, transport, elsewhere), ["websocket", "h3", "websocket"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* race(ledger, transport), ["websocket", "h3", "websocket"])
    }))

  it.effect("one that fails, or is overtaken, is forgotten", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const state = { h3: true, websocket: false, slow: false }
      const candidate = (name: "h3" | "websocket"): Race.Candidate => ({
        name,
        connect: (url, options) =>
          Effect.suspend(() =>
            ledger.candidate(name, name === "websocket" && state.slow ? 800 : 0, state[name] ? refused : undefined)
              .connect(url, options)
          )
      })
      const transport = Race.make([candidate("h3"), candidate("websocket")])
      assert.deepStrictEqual(yield* race(ledger, transport), ["websocket", "h3", "websocket"])
      // now that one fails, and then the other again
      Object.assign(state, { h3: false, websocket: true })
      assert.deepStrictEqual(yield* race(ledger, transport), ["h3", "websocket", "h3"])
      assert.deepStrictEqual(yield* race(ledger, transport), ["h3", "h3"])
      Object.assign(state, { h3: true, websocket: false })
      assert.deepStrictEqual(yield* race(ledger, transport), ["websocket", "h3", "websocket"])
      // overtaken
      Object.assign(state, { h3: false, slow: true })
      assert.deepStrictEqual(yield* race(ledger, transport), ["h3", "websocket", "h3"])
      assert.deepStrictEqual(yield* race(ledger, transport), ["h3", "h3"])
      // all fail: nobody is to go first
      Object.assign(state, { h3: true, slow: false })
      assert.deepStrictEqual(yield* race(ledger, transport), ["websocket", "h3", "websocket"])
      Object.assign(state, { websocket: true })
      const failed = "h3: nobody there; websocket: nobody there"
      assert.deepStrictEqual(yield* race(ledger, transport), [failed, "websocket", "h3"])
      assert.deepStrictEqual(yield* race(ledger, transport), [failed, "h3", "websocket"])
    }))

  it.effect("not more than 256 hosts", () =>
    Effect.gen(function*() {
      const ledger = new Ledger()
      const transport = Race.make([ledger.candidate("h3", 0, refused), ledger.candidate("websocket", 0)])
      const host = (n: number) => new URL(`https://${n}.example`)
      for (let n = 0; n <= 256; n++) yield* Effect.scoped(transport.connect(host(n)))
      assert.deepStrictEqual(yield* race(ledger, transport, host(256)), ["websocket", "websocket"])
      assert.deepStrictEqual(yield* race(ledger, transport, host(1)), ["websocket", "websocket"])
      assert.deepStrictEqual(yield* race(ledger, transport, host(0)), ["websocket", "h3", "websocket"])
    }))
})
