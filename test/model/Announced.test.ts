import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import * as Path from "../../src/core/Path.ts"
import * as Announced from "../../src/model/Announced.ts"
import { attached, nobody, read, settle } from "./fixtures.ts"

const show = (event: Announced.Announced): string =>
  event._tag === "Live" ? `live by ${event.by}` : `${event._tag === "Active" ? "+" : "-"}${Path.format(event.path)}`

describe("Announced.Registry", () => {
  it.effect("tells of Live as soon as that is known, once", () =>
    Effect.gen(function*() {
      const registry = new Announced.Registry()
      registry.add(["a"])
      const early = yield* read(registry.announced([]), show)
      assert.deepStrictEqual(early.got, ["+a"])
      registry.add(["b"])
      registry.live("quiet")
      registry.live("marker")
      registry.add(["c"])
      yield* settle
      assert.deepStrictEqual(early.got, ["+a", "+b", "live by quiet", "+c"])
      const late = yield* read(registry.announced([]), show)
      assert.deepStrictEqual(late.got, ["+a", "+b", "+c", "live by quiet"])
    }))

  it.effect("knows each path once", () =>
    Effect.gen(function*() {
      const registry = new Announced.Registry()
      const { got } = yield* read(registry.announced([]), show)
      assert.isTrue(registry.add(["a"]))
      assert.isFalse(registry.add(["a"]))
      assert.isTrue(registry.remove(["a"]))
      assert.isFalse(registry.remove(["a"]))
      yield* settle
      assert.deepStrictEqual(got, ["+a", "-a"])
    }))

  it.effect("ends and fails for those who read, after what they have not read", () =>
    Effect.gen(function*() {
      for (const exit of [Exit.void, Exit.fail("broken" as const)]) {
        const registry = new Announced.Registry<"broken">()
        const { fiber, got } = yield* read(registry.announced([]), show)
        registry.add(["a"])
        registry.end(exit)
        assert.deepStrictEqual(yield* Fiber.await(fiber), exit)
        assert.deepStrictEqual(got, ["+a"])
        assert.deepStrictEqual(attached(registry), nobody)
      }
    }))

  it.effect("does not grow for a reader that has stopped, and tells it what is different when it goes on", () =>
    Effect.gen(function*() {
      const registry = new Announced.Registry()
      registry.live("marker")
      registry.add(["below", "stays"])
      registry.add(["below", "goes"])
      const pull = yield* Stream.toPull(registry.announced(["below"]))
      assert.deepStrictEqual((yield* pull).map(show), ["+below/stays", "+below/goes", "live by marker"])
      registry.remove(["below", "goes"])
      for (let i = 0; i < 20_000; i++) {
        registry.add(["below", "flaps"])
        registry.remove(["below", "flaps"])
      }
      registry.add(["below", "comes"])
      registry.add(["elsewhere"])
      assert.isAtMost(registry.log.next - registry.log.first, 2 * 8_192)
      assert.deepStrictEqual((yield* pull).map(show), ["-below/goes", "+below/comes"])
      registry.remove(["below", "comes"])
      assert.deepStrictEqual((yield* pull).map(show), ["-below/comes"])
    }))
})
