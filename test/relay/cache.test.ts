import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Router from "../../src/model/Router.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { CacheBudget } from "../../src/relay/CacheBudget.ts"
import * as Origin from "../../src/relay/Origin.ts"
import { bytes, held, publish, settle, start, view } from "./relays.ts"

const KiB = 1024

const passing = (seconds: number) =>
  Effect.andThen(TestClock.adjust("1 second"), settle).pipe(Effect.repeat({ times: seconds - 1 }))

const budgeted = (budget: CacheBudget, options?: Track.CacheOptions) =>
  Effect.gen(function*() {
    const account = budget.open()
    const track = yield* Track.make(["a"], { cache: { ...options, account } })
    account.track = track
    return {
      account,
      track,
      group: (sequence: number, size: number) =>
        Effect.gen(function*() {
          const group = yield* track.createGroup(sequence)
          yield* group.writeFrame(new Uint8Array(size))
          yield* group.finish
        }),
      kept: () => Array.from({ length: 100 }, (_, i) => i).filter((sequence) => track.track.group(sequence))
    }
  })

describe("a budget of caches", () => {
  it.effect("drops the oldest groups first, of whatever track, and never a latest one", () =>
    Effect.gen(function*() {
      const told: Array<readonly [number, number]> = []
      const budget = new CacheBudget(10 * KiB, (bytes, groups) => void told.push([bytes, groups]))
      const one = yield* budgeted(budget)
      const two = yield* budgeted(budget)
      const idle = yield* budgeted(budget)
      yield* idle.group(0, 2 * KiB)
      for (let i = 0; i < 4; i++) {
        yield* one.group(i, KiB)
        yield* two.group(i, KiB)
      }
      assert.deepStrictEqual([one.kept(), two.kept(), idle.kept()], [[0, 1, 2, 3], [0, 1, 2, 3], [0]])
      yield* one.group(4, KiB)
      assert.deepStrictEqual([one.kept(), two.kept()], [[1, 2, 3, 4], [0, 1, 2, 3]])
      yield* two.group(4, 3 * KiB)
      assert.deepStrictEqual([one.kept(), two.kept(), idle.kept()], [[2, 3, 4], [2, 3, 4], [0]])
      assert.strictEqual(budget.bytes, 10 * KiB)
      // latest groups alone may be too much
      yield* idle.group(1, 30 * KiB)
      assert.deepStrictEqual([one.kept(), two.kept(), idle.kept()], [[4], [4], [1]])
      assert.deepStrictEqual(told.at(-1), [34 * KiB, 3])
      assert.isUndefined(budget.next)
    }))

  it.effect("counts what grows, what is cut off, and what goes otherwise", () =>
    Effect.gen(function*() {
      const budget = new CacheBudget(10 * KiB, () => {})
      const { account, group, kept, track } = yield* budgeted(budget, { maxBytes: 6 * KiB })
      const open = yield* track.createGroup(0)
      yield* open.writeFrame(new Uint8Array(KiB))
      yield* group(1, KiB)
      const other = yield* budgeted(budget)
      yield* other.group(0, 7 * KiB)
      assert.strictEqual(budget.bytes, 9 * KiB)
      assert.isUndefined(open.group.end)
      // it is still being written, and the bytes have run out
      yield* open.writeFrame(new Uint8Array(2 * KiB))
      assert.isTrue(open.group.end !== undefined && Exit.isFailure(open.group.end))
      assert.deepStrictEqual([budget.bytes, budget.groups, kept()], [8 * KiB, 2, [1]])
      // the track's own limit
      for (let i = 2; i < 10; i++) yield* group(i, KiB)
      assert.deepStrictEqual(kept().length, budget.groups - 1)
      assert.deepStrictEqual(budget.bytes, kept().length * KiB + 7 * KiB)
      yield* track.finish
      assert.isAbove(budget.groups, 1)
      account.close()
      other.account.close()
      assert.deepStrictEqual([budget.bytes, budget.frames, budget.groups], [0, 0, 0])
      assert.isUndefined(budget.next)
      yield* other.group(1, KiB)
      assert.deepStrictEqual([budget.bytes, budget.groups], [0, 0])
    }))

  it.effect("counts groups, so that empty ones do not pass below it", () =>
    Effect.gen(function*() {
      const budget = new CacheBudget(256 * KiB, () => {})
      const tracks = yield* Effect.forEach(Array.from({ length: 20 }), () => budgeted(budget))
      for (let i = 0; i < 1_000; i++) for (const { track } of tracks) track.appendGroupUnsafe()!.finishUnsafe()
      // some thousands are free, a KiB beyond that holds four
      assert.strictEqual(budget.groups, 8_192 + 4 * 256)
    }))

  it.effect("keeps its queue as short as what it is of", () =>
    Effect.gen(function*() {
      const budget = new CacheBudget(100 * KiB, () => {})
      const { track } = yield* budgeted(budget, { maxBytes: 10 * KiB })
      const longest = () => budget.queue.length
      for (let i = 0; i < 10_000; i++) {
        const group = track.appendGroupUnsafe()!
        group.writeFrameUnsafe(new Uint8Array(KiB))
        group.finishUnsafe()
        assert.isBelow(longest(), 50)
      }
    }))

  it.effect("keeps its queue short although the first in it stays", () =>
    Effect.gen(function*() {
      const budget = new CacheBudget(KiB * KiB, () => {})
      const slow = yield* budgeted(budget)
      const quick = yield* budgeted(budget)
      yield* slow.group(1000, 0)
      yield* slow.group(1001, 0)
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust("5 seconds")
        // older ones that come late keep it from going
        yield* slow.group(999 - i, 0)
        for (let j = 0; j < 20; j++) yield* quick.group(20 * i + j, 0)
        assert.isAtMost(budget.queue.length, 2 * budget.groups + 64)
      }
      assert.strictEqual(budget.queue[0]!.sequence, 1000)
    }))

  it.effect("drops what is too old while nobody writes or reads", () =>
    Effect.gen(function*() {
      const budget = new CacheBudget(KiB * KiB, () => {})
      const sweeping = yield* Effect.forkChild(budget.sweeping, { startImmediately: true })
      const one = yield* budgeted(budget)
      const two = yield* budgeted(budget)
      yield* one.group(0, KiB)
      yield* one.group(1, KiB)
      yield* passing(5)
      yield* two.group(0, KiB)
      yield* two.group(1, KiB)
      yield* passing(4)
      assert.strictEqual(budget.bytes, 4 * KiB)
      yield* passing(3)
      assert.strictEqual(budget.bytes, 3 * KiB)
      yield* passing(5)
      assert.deepStrictEqual([budget.bytes, budget.groups], [2 * KiB, 2])
      assert.isUndefined(budget.next)
      yield* Fiber.interrupt(sweeping)
    }))
})

describe("the cache of a relay", () => {
  it.effect("is bounded over all tracks that it receives, not over those of its own program", () =>
    Effect.gen(function*() {
      const { connect, relay } = yield* start({ limits: { cache: 20 * KiB } })
      const { origin } = relay
      const budget = budgetOf(origin)
      const own = yield* publish(origin, ["own"])
      yield* view(origin, ["own"], { from: 0 })
      const publisher = yield* connect()
      const tracks = yield* Effect.forEach(["a", "b"], (name) => publish(publisher, [name]))
      const watcher = yield* connect()
      const viewers = yield* Effect.forEach(["a", "b"], (name) => view(watcher, [name], { from: 0 }))
      for (let i = 0; i < 30; i++) {
        for (const { group } of [own, ...tracks]) yield* group(`${i} ${"x".repeat(KiB)}`)
        yield* settle
      }
      assert.isAtMost(budget.bytes, 20 * KiB)
      assert.isAtLeast(budget.bytes, 18 * KiB)
      // whoever is there has had it all, whoever comes late gets what is kept
      for (const { got } of viewers) assert.lengthOf(got, 30)
      assert.lengthOf((yield* view(origin, ["own"], { from: 0 })).got, 30)
      const late = yield* view(origin, ["a"], { from: 0 })
      assert.isBelow(late.got.length, 12)
      assert.isAbove(late.got.length, 7)
      for (const { leave } of [...viewers, late]) yield* leave
      assert.deepStrictEqual([budget.bytes, budget.groups], [0, 0])
    }))

  it.effect("is told of", () =>
    Effect.gen(function*() {
      const told: Array<readonly [number, number]> = []
      const origin = yield* Origin.make({ metrics: { cache: (bytes, groups) => void told.push([bytes, groups]) } })
      const { group } = yield* budgeted(budgetOf(origin))
      yield* group(0, KiB)
      assert.deepStrictEqual(told.at(-1), [KiB, 1])
      yield* group(1, KiB)
      assert.deepStrictEqual(told.at(-1), [2 * KiB, 2])
      yield* passing(12)
      assert.deepStrictEqual(told.at(-1), [KiB, 1])
    }))

  it.effect(
    "and all that it holds is empty again after 20,000 publishers and as many viewers",
    () =>
      Effect.gen(function*() {
        const { relay } = yield* start()
        const { origin } = relay
        const idle = held(origin)
        const budget = budgetOf(origin)
        const inScope = () => held(origin).inScope
        yield* Effect.forEach(
          Array.from({ length: 20_000 }, (_, i) => i),
          (i) =>
            Effect.gen(function*() {
              const track = yield* Track.make(["churn", String(i % 50), String(i)])
              const { path } = track
              const offered = origin.offer({
                ...Router.fromTrack(track.track),
                subscribe: (request) =>
                  Effect.gen(function*() {
                    const into = yield* request.into!.lend({
                      priority: 0,
                      order: "default",
                      expires: 0,
                      latest: 0,
                      first: 0
                    })
                    into.appendGroupUnsafe()!.writeFrameUnsafe(bytes("hello"))
                    return Subscription.make(into.track, request)
                  }),
                hops: [],
                instance: String(i),
                onDuplicate: () => {}
              })
              yield* Effect.scoped(Effect.andThen(origin.subscribe(path), Effect.yieldNow))
              offered.withdraw(i % 3 === 0 ? "lost" : "ended")
            }).pipe(Effect.scoped),
          { concurrency: 100, discard: true }
        )
        yield* settle
        assert.strictEqual(held(origin).shares, 0)
        assert.strictEqual(inScope(), idle.inScope)
        yield* TestClock.adjust("5 seconds")
        yield* settle
        assert.deepStrictEqual(held(origin), idle)
        assert.deepStrictEqual([budget.bytes, budget.frames, budget.groups], [0, 0, 0])
        assert.isUndefined(budget.next)
        assert.deepStrictEqual(origin.paths, [])
      }),
    30_000
  )

  it.effect("lets go of what a session leaves, over and over", () =>
    Effect.gen(function*() {
      const { connectBy, relay } = yield* start()
      const idle = held(relay.origin)
      for (let i = 0; i < 100; i++) {
        const scope = yield* Scope.make()
        const { kill, session } = yield* Scope.provide(connectBy(), scope)
        const track = yield* Scope.provide(publish(session, ["churn", String(i)]), scope)
        const viewer = yield* Scope.provide(view(relay.origin, ["churn", String(i)]), scope)
        yield* track.group("one")
        yield* settle
        if (i % 2 === 0) yield* viewer.leave
        yield* kill
        if (i % 3 === 0) yield* TestClock.adjust("5 seconds")
        yield* settle
        yield* Scope.close(scope, Exit.void)
      }
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.deepStrictEqual(held(relay.origin), idle)
      assert.strictEqual(budgetOf(relay.origin).groups, 0)
    }), 20_000)
})

const budgetOf = (origin: Origin.Origin): CacheBudget => (origin as unknown as { readonly budget: CacheBudget }).budget
