import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { App } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import type { Frame } from "../../src/model/Frame.ts"
import * as Group from "../../src/model/Group.ts"
import { Mirror } from "../../src/model/Mirror.ts"
import * as Track from "../../src/model/Track.ts"
import { attached, brief, bytes, nobody, read, settle, text } from "./fixtures.ts"

/** A track, the copy of it, and whoever copies. */
const start = (options?: Parameters<typeof Track.make>[1]) =>
  Effect.gen(function*() {
    const from = yield* Track.make(["from"], options)
    const to = yield* Track.make(["to"])
    const mirror = new Mirror(to)
    const copying = yield* Effect.forkChild(mirror.copy(from.track, { from: 0 }), { startImmediately: true })
    return { from, to, mirror, copying }
  })

const groupOf = (track: Track.Producer, sequence: number): Group.Group => {
  const group = track.track.group(sequence)
  if (group === undefined) throw new Error(`there is no group ${sequence}`)
  return group
}

const framesOf = (group: Group.Group): Effect.Effect<ReadonlyArray<Frame>> =>
  Effect.flatten(group.reader).pipe(Effect.scoped, Effect.catchCause(() => Effect.die(new Error("no frames"))))

describe("Mirror", () => {
  it.effect("copies groups, gaps and the end", () =>
    Effect.gen(function*() {
      const { copying, from, mirror, to } = yield* start()
      const { fiber, got } = yield* read(to.track.events, brief)
      yield* (yield* from.createGroup(0)).finish
      yield* from.gap({ from: 1, to: 3, code: 2 })
      yield* from.createGroup(4)
      yield* settle
      assert.deepStrictEqual(got, ["0", "1-3!2", "4"])
      assert.strictEqual(mirror.next, 5)
      yield* from.finish
      yield* Fiber.join(copying)
      assert.deepStrictEqual(groupOf(to, 4).end, Exit.void)
      // whoever made the copy decides what becomes of it
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(attached(from), nobody)
    }))

  it.effect("copies no bytes: frames and chunks are the same", () =>
    Effect.gen(function*() {
      const { from, to } = yield* start()
      const whole = new Uint8Array(40_000).fill(1)
      const chunks = [whole.subarray(0, 20_000), whole.subarray(20_000)]
      const group = yield* from.appendGroup
      yield* group.writeFrame(whole)
      const frame = yield* group.createFrame(40_000)
      for (const chunk of chunks) yield* frame.write(chunk)
      yield* group.writeFrame(bytes("small"))
      yield* settle
      const body = Group.bodyOf(groupOf(to, 0))
      const pieces: Array<Uint8Array> = []
      assert.strictEqual(Body.takeBytesUnsafe(body, Body.openUnsafe(body), Infinity, pieces), 80_000 + 4 + 4 + 6)
      assert.strictEqual(pieces.filter(({ buffer }) => buffer === whole.buffer).length, 3)
      const [first, second, third] = yield* framesOf(groupOf(to, 0))
      assert.strictEqual(first!.payload, whole)
      assert.deepStrictEqual(second!.payload, whole)
      assert.strictEqual(text(third!.payload!), "small")
    }))

  it.effect("copies a frame as it grows", () =>
    Effect.gen(function*() {
      const { from, to } = yield* start()
      const group = yield* from.appendGroup
      const frame = yield* group.createFrame(4)
      yield* frame.write(bytes("ab"))
      yield* settle
      const [copy] = yield* framesOf(groupOf(to, 0))
      const { got } = yield* read(copy!.chunks, (chunk) => new TextDecoder().decode(chunk))
      yield* frame.write(bytes("cd"))
      yield* settle
      assert.deepStrictEqual(got, ["ab", "cd"])
      yield* group.finish
      yield* settle
      assert.deepStrictEqual(groupOf(to, 0).end, Exit.void)
    }))

  it.effect("fails what fails: a group alone, or as the track does", () =>
    Effect.gen(function*() {
      const { copying, from, to } = yield* start()
      const one = yield* from.appendGroup
      const two = yield* from.appendGroup
      yield* (yield* one.createFrame(4)).write(bytes("ab"))
      yield* one.fail(new App({ code: 1 }))
      yield* settle
      assert.isTrue(Exit.isFailure(groupOf(to, 0).end!))
      assert.isUndefined(groupOf(to, 1).end)
      yield* two.writeFrame(bytes("here"))
      yield* from.fail(new App({ code: 2 }))
      const error = yield* Effect.flip(Fiber.join(copying))
      assert.deepStrictEqual([error._tag, "code" in error && error.code], ["MoqApp", 2])
      assert.strictEqual(groupOf(to, 1).count, 1)
      assert.isTrue(Exit.isFailure(groupOf(to, 1).end!))
      assert.isUndefined(to.track.end)
    }))

  it.effect("goes on with another track under higher numbers, and fills what is between", () =>
    Effect.gen(function*() {
      const { copying, from, mirror, to } = yield* start()
      yield* (yield* from.createGroup(2)).finish
      yield* settle
      yield* from.fail(new App({ code: 1 }))
      yield* Effect.exit(Fiber.join(copying))
      yield* mirror.skip(mirror.next!, 4)
      mirror.offset = mirror.next!
      const { got } = yield* read(Track.range(to.track, { from: 0 }).events, brief)
      const next = yield* Track.make(["next"])
      yield* Effect.forkChild(mirror.copy(next.track, { from: 0 }), { startImmediately: true })
      yield* (yield* next.createGroup(0)).finish
      yield* next.gap({ from: 1, to: 2, code: 31 })
      yield* (yield* next.createGroup(3)).finish
      yield* settle
      assert.deepStrictEqual(got, ["0-1!4", "2", "3", "4-5!31", "6"])
    }))

  it.effect("leaves out what the copy does not take any more", () =>
    Effect.gen(function*() {
      const { from, to } = yield* start()
      yield* (yield* to.createGroup(0)).finish
      yield* to.gap({ from: 1, to: 1, code: 0 })
      for (let sequence = 0; sequence < 3; sequence++) {
        const group = yield* from.createGroup(sequence)
        yield* group.writeFrame(bytes("new"))
        yield* group.finish
      }
      yield* settle
      assert.strictEqual(groupOf(to, 0).count, 0)
      assert.isUndefined(to.track.group(1))
      assert.strictEqual(groupOf(to, 2).count, 1)
    }))

  it.effect("lets go of the track when it is interrupted", () =>
    Effect.gen(function*() {
      const { copying, from } = yield* start()
      const group = yield* from.appendGroup
      yield* group.createFrame(4)
      yield* settle
      yield* Fiber.interrupt(copying)
      assert.deepStrictEqual([attached(from), attached(group.group)], [nobody, nobody])
    }))
})
