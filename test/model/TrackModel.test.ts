import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Pull, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Cancelled, Evicted, Expired } from "../../src/core/MoqError.ts"
import type { ReadError } from "../../src/model/Frame.ts"
import type * as Group from "../../src/model/Group.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, bytes, nobody, poll, read, type Reading, settle, text } from "./fixtures.ts"

/** What was written, as it should be seen. */
interface Written {
  readonly producer: Group.Producer
  readonly frames: Array<string>
}

/** A reader of events, at its own pace, that reads all groups that it gets. */
interface Events {
  readonly scope: Scope.Closeable
  readonly subscription: Subscription.Subscription
  /** What it wants now. */
  from: number
  to: number
  readonly pull: Pull.Pull<ReadonlyArray<Track.Event>, ReadError>
  readonly told: Set<number>
  readonly groups: Map<number, Reading<ReadError>>
}

const step = Schema.Tuple([
  Schema.Literals([
    "append",
    "append",
    "create",
    "create",
    "write",
    "write",
    "write",
    "grow",
    "finish group",
    "fail group",
    "gap",
    "read events",
    "narrow",
    "pull",
    "pull",
    "close",
    "read frames",
    "advance"
  ]),
  Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 14 }))
])

const steps = Schema.Array(step).check(Schema.isMaxLength(80))

const run = (steps: ReadonlyArray<typeof step.Type>, end: "finish" | "fail", order: "asc" | "desc") =>
  Effect.gen(function*() {
    const producer = yield* Track.make(["a"], { order, cache: { maxBytes: 120 } })
    const { track } = producer
    const written = new Map<number, Written>()
    const givenUp = new Set<number>()
    const readers: Array<Events> = []
    const frames: Array<Reading<ReadError> & { readonly to: number | undefined }> = []
    let highest = -1

    const begun = (group: Group.Producer) => {
      assert.isFalse(written.has(group.sequence), "a group began twice")
      assert.isFalse(givenUp.has(group.sequence), "a group began that was given up")
      written.set(group.sequence, { producer: group, frames: [] })
      highest = Math.max(highest, group.sequence)
    }
    const write = ({ frames, producer }: Written, size: number, chunks: boolean) => {
      const frame = `${producer.sequence}:${frames.length}`.padEnd(size, ".")
      const isOpen = producer.group.end === undefined
      if (chunks) {
        const growing = producer.createFrameUnsafe(frame.length)
        assert.strictEqual(growing !== undefined, isOpen)
        if (growing === undefined) return
        growing.writeUnsafe(bytes(frame.slice(0, 2)))
        if (!growing.writeUnsafe(bytes(frame.slice(2)))) return
      } else {
        assert.strictEqual(producer.writeFrameUnsafe(bytes(frame)), isOpen)
        if (!isOpen) return
      }
      frames.push(frame)
    }
    const tell = (reader: Events, sequence: number) => {
      assert.isAtLeast(sequence, reader.from, "told of a sequence before its range")
      assert.isAtMost(sequence, reader.to, "told of a sequence after its range")
      assert.isFalse(reader.told.has(sequence), `told twice of ${sequence}`)
      reader.told.add(sequence)
    }
    const take = (reader: Events, events: ReadonlyArray<Track.Event>) =>
      Effect.gen(function*() {
        for (const event of events) {
          if (event._tag === "Gap") {
            for (let sequence = event.from; sequence <= event.to; sequence++) {
              tell(reader, sequence)
              if (!written.has(sequence)) givenUp.add(sequence)
            }
          } else {
            tell(reader, event.sequence)
            assert.strictEqual(event, written.get(event.sequence)?.producer.group)
            reader.groups.set(event.sequence, yield* read(event.frames, text))
          }
        }
      })

    const isOver = ({ from, to, told }: Events): boolean => {
      if (to === Infinity) return false
      for (let sequence = from; sequence <= to; sequence++) if (!told.has(sequence)) return false
      return true
    }

    for (const [name, n] of steps) {
      const groups = [...written.values()]
      const group = groups[groups.length - 1 - n % Math.max(1, groups.length)]
      const reader = readers[n % Math.max(1, readers.length)]
      switch (name) {
        case "append": {
          const group = yield* producer.appendGroup
          assert.isAbove(group.sequence, highest)
          begun(group)
          break
        }
        case "create": {
          const sequence = Math.max(0, highest - 4 + n)
          const exit = yield* Effect.result(producer.createGroup(sequence))
          if (exit._tag === "Success") begun(exit.success)
          else if (exit.failure._tag === "MoqDuplicate") assert.isTrue(written.has(sequence))
          else assert.instanceOf(exit.failure, Evicted)
          break
        }
        case "write":
          if (group !== undefined) write(group, n * 3, false)
          break
        case "grow":
          if (group !== undefined) write(group, n * 3, true)
          break
        case "finish group":
          if (group !== undefined) yield* group.producer.finish
          break
        case "fail group":
          if (group !== undefined) yield* group.producer.fail(new Expired({}))
          break
        case "gap":
          yield* producer.gap({ from: Math.max(0, highest - 4 + n), to: highest + n % 3, code: 65 })
          break
        case "read events": {
          const from = n < 5 ? "latest" : Math.max(0, highest - 12 + n)
          const begin = from === "latest" ? track.latest ?? 0 : from
          const to = n % 3 === 0 ? begin + n % 5 : undefined
          const subscription = Subscription.make(track, { from, to })
          const scope = yield* Scope.make()
          readers.push({
            scope,
            subscription,
            from: begin,
            to: to ?? Infinity,
            pull: yield* Scope.provide(subscription.reader(), scope),
            told: new Set(),
            groups: new Map()
          })
          break
        }
        case "narrow":
          if (reader !== undefined) {
            const from = n % 2 === 0 ? undefined : reader.from + n % 4 - 1
            const to = n % 3 === 0 ? undefined : reader.from + n % 7
            const isWider = (from ?? reader.from) < reader.from || (to ?? reader.to) > reader.to
            const result = yield* Effect.result(reader.subscription.update({ from, to }))
            assert.strictEqual(result._tag, isWider ? "Failure" : "Success")
            if (isWider) break
            reader.from = from ?? reader.from
            reader.to = to ?? reader.to
          }
          break
        case "pull":
          if (reader !== undefined) {
            const exit = yield* Effect.exit(poll(reader.pull))
            if (Exit.isSuccess(exit)) yield* take(reader, exit.value ?? [])
            else assert.isTrue(isOver(reader), "ended before all of its range was told")
          }
          break
        case "close":
          if (reader !== undefined && n > 7) {
            readers.splice(readers.indexOf(reader), 1)
            yield* Scope.close(reader.scope, Exit.void)
            for (const { fiber } of reader.groups.values()) yield* Fiber.interrupt(fiber)
          }
          break
        case "read frames":
          {
            const range = { from: n < 8 ? "latest" : 0, to: n % 4 === 0 ? highest + n % 3 : undefined } as const
            frames.push({ ...yield* read(Track.range(track, range).frames, text), to: range.to })
          }
          break
        case "advance":
          yield* TestClock.adjust(n * 400)
          break
      }
    }

    const error = new Cancelled({ detail: "the test is over" })
    yield* end === "finish" ? producer.finish : producer.fail(error)
    for (const reader of readers) {
      let exit: Exit.Exit<unknown, ReadError | Cause.Done<void>>
      do {
        exit = yield* Effect.exit(reader.pull)
        if (Exit.isSuccess(exit)) yield* take(reader, exit.value as ReadonlyArray<Track.Event>)
      } while (Exit.isSuccess(exit))
      const ended = yield* Pull.catchDone(Effect.as(exit, "more"), () => Effect.succeed("end")).pipe(
        Effect.catch(Effect.succeed)
      )
      assert.strictEqual(ended, end === "finish" || isOver(reader) ? "end" : error)
      if (end === "finish") {
        for (let sequence = reader.from; sequence <= Math.min(highest, reader.to); sequence++) {
          assert.isTrue(reader.told.has(sequence), `never told of ${sequence}`)
        }
      }
      for (const [sequence, { fiber, got }] of reader.groups) {
        const exit = yield* Fiber.await(fiber)
        assert.deepStrictEqual(exit, written.get(sequence)!.producer.group.end)
        assert.deepStrictEqual(got, written.get(sequence)!.frames)
      }
      yield* Scope.close(reader.scope, Exit.void)
    }
    for (const { fiber, got, to } of frames) {
      const exit = yield* Fiber.await(fiber)
      if (to === undefined || Exit.isFailure(exit)) {
        assert.deepStrictEqual(exit, end === "finish" ? Exit.void : Exit.fail(error))
      }
      let sequence = -1
      let next = 0
      for (const frame of got) {
        const current = Number(frame.split(":")[0])
        assert.isAtLeast(current, sequence, "went back to an older group")
        if (current > sequence) next = 0
        sequence = current
        assert.isAtMost(sequence, to ?? Infinity)
        assert.strictEqual(frame, written.get(current)!.frames[next++])
      }
    }
    assert.deepStrictEqual(attached(producer), nobody)
    for (const { producer } of written.values()) assert.deepStrictEqual(attached(producer.group), nobody)
    yield* settle
  })

describe("Track, whatever happens", () => {
  for (const end of ["finish", "fail"] as const) {
    for (const order of ["asc", "desc"] as const) {
      it.effect.prop(
        `tells each reader of each sequence once, and ends (${end}, ${order})`,
        [steps],
        ([steps]) => run(steps, end, order),
        { arbitrary: { runs: 150, seed: 11 } }
      )
    }
  }
})
