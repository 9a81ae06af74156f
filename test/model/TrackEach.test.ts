import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Schema } from "effect"
import { App, Evicted } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import * as Group from "../../src/model/Group.ts"
import * as Subscription from "../../src/model/Subscription.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, bytes, nobody, settle, text } from "./fixtures.ts"

/** Gives every frame of a track, as `sequence:text`. */
const each = (track: Track.Track, f: (got: string) => void = () => {}) =>
  Effect.gen(function*() {
    const got: Array<string> = []
    const fiber = yield* Effect.forkChild(
      Track.forEachFrame(track, (payload, sequence) => {
        const it = `${sequence}:${text(payload)}`
        got.push(it)
        f(it)
      }),
      { startImmediately: true }
    )
    return { got, fiber }
  })

const write = (group: Group.Producer, ...frames: ReadonlyArray<string>) => {
  for (const frame of frames) assert.isTrue(group.writeFrameUnsafe(bytes(frame)))
}

describe("Track.forEachFrame", () => {
  it.effect("gives every frame, also of groups side by side, and ends with the track", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const [a, b] = [yield* producer.appendGroup, yield* producer.appendGroup]
      write(b, "x")
      const { fiber, got } = yield* each(Track.range(producer.track, { from: 0 }))
      assert.deepStrictEqual(got, ["1:x"])
      write(a, "one", "two")
      write(b, "y")
      write(a, "three")
      assert.deepStrictEqual(got, ["1:x"])
      yield* settle
      assert.deepStrictEqual(got.filter((it) => it.startsWith("0")), ["0:one", "0:two", "0:three"])
      assert.deepStrictEqual(got.filter((it) => it.startsWith("1")), ["1:x", "1:y"])
      yield* a.finish
      write(yield* producer.appendGroup, "last")
      const whole = yield* producer.appendGroup
      write(whole, "one more")
      yield* producer.finish
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(got.slice(-2), ["2:last", "3:one more"])
      assert.deepStrictEqual([attached(producer), attached(a.group), attached(b.group)], [nobody, nobody, nobody])
    }))

  it.effect("begins where the track handle does, and gives a frame once it is complete", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      for (const frame of ["old", "new"]) {
        const group = yield* producer.appendGroup
        write(group, frame)
        yield* group.finish
      }
      const latest = yield* each(producer.track)
      const all = yield* each(Track.range(producer.track, { from: 0, to: 1 }))
      assert.deepStrictEqual([latest.got, all.got], [["1:new"], ["0:old", "1:new"]])
      // nothing more can come in its range
      yield* Fiber.join(all.fiber)
      const frame = (yield* producer.appendGroup).createFrameUnsafe(4)!
      frame.writeUnsafe(bytes("ab"))
      yield* settle
      assert.lengthOf(latest.got, 1)
      frame.writeUnsafe(bytes("cd"))
      yield* settle
      assert.deepStrictEqual(latest.got, ["1:new", "2:abcd"])
      yield* Fiber.interrupt(latest.fiber)
    }))

  it.effect("ends early what fails or is cut, and goes on with the others", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const { fiber, got } = yield* each(producer.track)
      const [a, b, c] = [yield* producer.appendGroup, yield* producer.appendGroup, yield* producer.appendGroup]
      write(a, "here")
      a.createFrameUnsafe(9)!.writeUnsafe(bytes("part"))
      yield* a.fail(new App({ code: 1 }))
      yield* settle
      write(b, "first")
      yield* settle
      for (let i = 0; i <= Group.maxFrames; i++) b.writeFrameUnsafe(bytes(""))
      write(c, "c")
      yield* settle
      assert.deepStrictEqual(attached(b.group), nobody)
      write(b, "lost")
      yield* b.finish
      write(c, "d")
      yield* settle
      assert.deepStrictEqual(got, ["0:here", "1:first", "2:c", "2:d"])
      assert.deepStrictEqual([attached(a.group), attached(b.group)], [nobody, nobody])
      yield* Fiber.interrupt(fiber)
    }))

  it.effect("fails as the track does, after what is there", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const { fiber, got } = yield* each(producer.track)
      const group = yield* producer.appendGroup
      yield* settle
      // the track wakes its readers before the group does
      write(yield* producer.appendGroup, "y")
      write(group, "x")
      const error = new Evicted({})
      yield* producer.fail(error)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail(error))
      assert.deepStrictEqual([...got].sort(), ["0:x", "1:y"])
      assert.deepStrictEqual([attached(producer), attached(group.group)], [nobody, nobody])
    }))

  it.effect("follows a range that becomes narrower to its end", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const subscription = Subscription.make(producer.track, { from: 0 })
      const { fiber, got } = yield* each(subscription)
      const first = yield* producer.appendGroup
      write(first, "x")
      yield* settle
      yield* subscription.update({ to: 1 })
      const group = yield* producer.appendGroup
      write(group, "y")
      write(yield* producer.appendGroup, "not wanted")
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* group.finish
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* first.finish
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(got, ["0:x", "1:y"])
    }))

  it.effect("leaves nothing behind when it is interrupted, also by what it runs", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const [a, b] = [yield* producer.appendGroup, yield* producer.appendGroup]
      const outer = yield* each(Track.range(producer.track, { from: 0 }))
      write(a, "1")
      yield* settle
      yield* Fiber.interrupt(outer.fiber)
      const inner = yield* each(Track.range(producer.track, { from: 0 }), (it) => {
        if (it === "0:2") inner.fiber.interruptUnsafe()
      })
      write(a, "2", "3")
      write(b, "4")
      yield* settle
      assert.isTrue(Exit.hasInterrupts((yield* Fiber.await(inner.fiber)) as Exit.Exit<void>))
      assert.deepStrictEqual(outer.got, ["0:1"])
      assert.deepStrictEqual(inner.got.filter((it) => it.startsWith("0")), ["0:1", "0:2"])
      assert.deepStrictEqual([attached(producer), attached(a.group), attached(b.group)], [nobody, nobody, nobody])
    }))

  it.effect("ends with its subscription, also while only the last of the groups that it wants goes on", () =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const group = yield* producer.appendGroup
      const subscription = Subscription.make(producer.track, { from: 0, to: 0 })
      const { fiber, got } = yield* each(subscription)
      write(group, "1")
      yield* settle
      const left = new App({ code: 1 })
      Subscription.leaveUnsafe(subscription, left)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail(left))
      write(group, "2")
      yield* settle
      assert.deepStrictEqual(got, ["0:1"])
      assert.deepStrictEqual([attached(producer), attached(group.group)], [nobody, nobody])
    }))

  it.effect("dies of what the function throws, at once or later", () =>
    Effect.gen(function*() {
      for (const at of [0, 2]) {
        const producer = yield* Track.make(["a"])
        const group = yield* producer.appendGroup
        write(group, "0", "1")
        const problem = new Error("no")
        const { fiber, got } = yield* each(producer.track, (it) => {
          if (it === `0:${at}`) throw problem
        })
        write(group, "2", "3")
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(
          Exit.isFailure(exit) &&
            exit.cause.reasons.some((reason) => Cause.isDieReason(reason) && reason.defect === problem)
        )
        assert.lengthOf(got, at + 1)
        assert.deepStrictEqual([attached(producer), attached(group.group)], [nobody, nobody])
      }
    }))

  it.effect.prop("gives what the groups have, whatever is written in between", [
    Schema.Array(Schema.Tuple([
      Schema.Literals(["begin", "write", "write", "write", "feed", "finish", "fail", "settle"]),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))
    ])).check(Schema.isMinLength(10), Schema.isMaxLength(60))
  ], ([steps]) =>
    Effect.gen(function*() {
      const producer = yield* Track.make(["a"])
      const { fiber, got } = yield* each(producer.track)
      const groups: Array<Group.Producer> = []
      const written: Array<Array<string>> = []
      for (const [name, n] of steps) {
        const sequence = groups.length === 0 ? 0 : n % groups.length
        const group = groups[sequence]
        if (name === "begin") {
          groups.push(yield* producer.appendGroup)
          written.push([])
        } else if (group === undefined) continue
        else if (name === "finish") yield* group.finish
        else if (name === "fail") yield* group.fail(new Evicted({}))
        else if (name === "settle") yield* settle
        else if (group.group.end === undefined) {
          const frame = `${sequence}:${written[sequence]!.length}`
          const payload = bytes(written[sequence]!.length.toString())
          if (name === "write") group.writeFrameUnsafe(payload)
          else {
            const body = Group.bodyOf(group.group)
            Body.feedUnsafe(body, Uint8Array.of(payload.length))
            if (n % 2 === 0) yield* settle
            Body.feedUnsafe(body, payload)
          }
          written[sequence]!.push(frame)
        }
      }
      yield* producer.finish
      yield* Fiber.join(fiber)
      written.forEach((frames, sequence) =>
        assert.deepStrictEqual(got.filter((it) => it.startsWith(`${sequence}:`)), frames)
      )
    }), { arbitrary: { runs: 200, seed: 1 } })
})
