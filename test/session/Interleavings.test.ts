/** Many publishers and subscribers on one pair of sessions, in random order: every frame once, in order. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Cancelled } from "../../src/core/MoqError.ts"
import * as Profile from "../../src/message/Profile.ts"
import type * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { random } from "../fixtures/bytes.ts"
import { bytes, ended, ledger, over, readers, settle, streams, text } from "./sessions.ts"

interface Publication {
  readonly session: Session.Session
  readonly track: Track.Producer
  /** What was written, by group. */
  readonly written: Map<number, Array<string>>
  readonly failed: Set<number>
  readonly open: Array<Group.Producer>
}

interface Subscription {
  readonly publication: Publication
  readonly scope: Scope.Closeable
  /** What was read, by group, and how the reading of it ended. */
  readonly frames: Map<number, Array<string>>
  readonly ends: Map<number, string>
  readonly reading: Fiber.Fiber<void, unknown>
  left: boolean
}

const subscribe = (session: Session.Session, publication: Publication, from: Track.Start) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const frames = new Map<number, Array<string>>()
    const ends = new Map<number, string>()
    const readGroup = (group: Group.Group) =>
      Effect.suspend(() => {
        assert.isFalse(frames.has(group.sequence), `group ${group.sequence} twice`)
        const got: Array<string> = []
        frames.set(group.sequence, got)
        return Stream.runForEach(group.frames, (frame) => Effect.sync(() => got.push(text(frame)))).pipe(
          Effect.exit,
          Effect.map((exit) => ends.set(group.sequence, exit._tag))
        )
      })
    const reading = yield* Effect.gen(function*() {
      const track = yield* session.subscribe(publication.track.path, { from })
      yield* Stream.runDrain(Stream.mapEffect(track.groups, readGroup, { concurrency: "unbounded" }))
    }).pipe(Scope.provide(scope), Effect.forkIn(scope))
    return { publication, scope, frames, ends, reading, left: false } as Subscription
  })

const run = (seed: number, profile: Profile.Profile) =>
  Effect.gen(function*() {
    const next = random(seed * 7919 + 1)
    const pick = (n: number) => next() % n
    const [left, right] = yield* Memory.pair({ window: 16 + pick(3) * 100, maxStreams: 8 + pick(100) })
    const books = [ledger(left), ledger(right)] as const
    const options = { profiles: [profile] }
    const { client, server } = yield* over([books[0].connection, books[1].connection], options, options)
    const idle = [...books.map(({ held }) => held()), streams(left)]
    const sides = [client, server] as const

    const publications: Array<Publication> = []
    const subscriptions: Array<Subscription> = []
    for (let i = 0; i < 3; i++) {
      const session = sides[i % 2]!
      const track = yield* Track.make(["track", String(i)])
      yield* session.publish(track.track)
      publications.push({ session, track, written: new Map(), failed: new Set(), open: [] })
    }
    const actions: ReadonlyArray<Effect.Effect<unknown>> = [
      // a group begins
      Effect.suspend(() => {
        const { open, track, written } = publications[pick(3)]!
        if (open.length > 4) return Effect.void
        return Effect.map(Effect.orDie(track.appendGroup), (group) => {
          written.set(group.sequence, [])
          open.push(group)
        })
      }),
      // a frame is written
      ...Array.from({ length: 5 }, () =>
        Effect.suspend(() => {
          const { open, track, written } = publications[pick(3)]!
          const group = open[pick(Math.max(1, open.length))]
          if (group === undefined) return Effect.void
          const frames = written.get(group.sequence)!
          const frame = `${track.path[1]}/${group.sequence}/${frames.length}${"x".repeat(pick(4) * pick(40))}`
          frames.push(frame)
          return Effect.orDie(group.writeFrame(bytes(frame)))
        })),
      // a group ends, now and then with an error
      Effect.suspend(() => {
        const { failed, open } = publications[pick(3)]!
        const [group] = open.splice(pick(Math.max(1, open.length)), 1)
        if (group === undefined) return Effect.void
        if (pick(5) > 0) return Effect.orDie(group.finish)
        failed.add(group.sequence)
        return group.fail(new Cancelled({}))
      }),
      // somebody joins
      Effect.suspend(() => {
        const publication = publications[pick(3)]!
        const other = publication.session === client ? server : client
        return Effect.map(
          subscribe(other, publication, pick(2) === 0 ? "latest" : 0),
          (subscription) => subscriptions.push(subscription)
        )
      }),
      // somebody leaves
      Effect.suspend(() => {
        const subscription = subscriptions[pick(Math.max(4, subscriptions.length))]
        if (subscription === undefined) return Effect.void
        subscription.left = true
        return Effect.forkDetach(Scope.close(subscription.scope, Exit.void))
      }),
      // some time for things to happen
      ...Array.from({ length: 3 }, () => Effect.repeat(Effect.yieldNow, { times: 1 + pick(20) }))
    ]
    for (let i = 0; i < 150; i++) yield* actions[pick(actions.length)]!
    for (const { open, track } of publications) {
      for (const group of open) yield* Effect.orDie(group.finish)
      yield* track.finish
    }
    for (let i = 0; i < 20; i++) yield* settle
    yield* TestClock.adjust("5 seconds")
    for (let i = 0; i < 5; i++) yield* settle
    yield* TestClock.adjust("5 seconds")
    yield* settle

    let whole = 0
    for (const { ends, frames, left, publication, reading } of subscriptions) {
      for (const [sequence, got] of frames) {
        const expected = publication.written.get(sequence)!
        const all = ends.get(sequence) === "Success"
        assert.deepStrictEqual(got, all ? expected : expected.slice(0, got.length), `group ${sequence}`)
        if (!left && !publication.failed.has(sequence)) assert.isTrue(all, `group ${sequence} is not whole`)
        if (all) whole++
      }
      if (left) continue
      assert.strictEqual(ended(reading)?._tag, "Success")
      // from the first group that it got on, it got all that did not fail
      const first = Math.min(...frames.keys())
      for (const sequence of publication.written.keys()) {
        if (sequence >= first && !publication.failed.has(sequence)) assert.isTrue(frames.has(sequence))
      }
    }
    for (const { scope } of subscriptions) yield* Scope.close(scope, Exit.void)
    yield* settle
    assert.deepStrictEqual([...books.map(({ held }) => held()), streams(left)], idle)
    assert.deepStrictEqual(publications.map(({ track }) => readers(track)), [0, 0, 0])
    return whole
  }).pipe(Effect.scoped)

describe("Interleavings", () => {
  for (const profile of Profile.all) {
    it.effect(
      `every frame of every group that is read comes once and in order: ${profile.name}`,
      () =>
        Effect.gen(function*() {
          let whole = 0
          for (let seed = 0; seed < 15; seed++) {
            whole += yield* Effect.tapCause(run(seed, profile), () => Effect.logError(`seed ${seed}`))
          }
          assert.isAbove(whole, 200)
        }),
      60_000
    )
  }
})
