import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Exit, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { App } from "../../src/core/MoqError.ts"
import { held, publish, settle, start, view } from "./relays.ts"

const Step = Schema.Union([
  Schema.TaggedStruct("Publish", { by: Schema.Literals([0, 1, 2, "relay"]), path: Schema.Literals(["x", "y"]) }),
  Schema.TaggedStruct("Write", { at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })) }),
  Schema.TaggedStruct("End", {
    at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })),
    how: Schema.Literals(["clean", "interrupted", "failed"])
  }),
  Schema.TaggedStruct("View", {
    by: Schema.Literals([0, 1, 2, "relay"]),
    path: Schema.Literals(["x", "y"]),
    from: Schema.Literals(["latest", 0, 2]),
    wait: Schema.Boolean
  }),
  Schema.TaggedStruct("Leave", { at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })) }),
  Schema.TaggedStruct("Kill", { by: Schema.Literals([0, 1, 2]) }),
  Schema.TaggedStruct("Pass", { seconds: Schema.Literals([1, 4, 9]) })
])

type Publisher = Effect.Success<ReturnType<typeof publish>>
type Viewer = Effect.Success<ReturnType<typeof view>>

const steps = Arbitrary.array(Arbitrary.schema(Step), { minLength: 5, maxLength: 40 })

describe("whatever happens around a relay", () => {
  it.effect.prop("every viewer comes to an end, and nothing is left", [steps], ([steps]) =>
    Effect.gen(function*() {
      const { connectBy, count, relay, stop } = yield* start()
      const idle = held(relay.origin)
      const all = yield* Scope.make()
      const sessions = yield* Scope.provide(Effect.forEach([0, 1, 2], () => connectBy()), all)
      const publishers: Array<Publisher> = []
      const viewers: Array<Viewer> = []
      for (const step of steps) {
        switch (step._tag) {
          case "Publish": {
            const to = step.by === "relay" ? relay.origin : sessions[step.by]!.session
            const made = yield* Effect.option(Scope.provide(publish(to, [step.path]), all))
            if (made._tag === "Some") publishers.push(made.value)
            break
          }
          case "Write":
            yield* Effect.ignore(publishers[step.at]?.group("one", "two") ?? Effect.void)
            break
          case "End": {
            const publisher = publishers[step.at]
            if (publisher === undefined) break
            if (step.how === "failed") yield* publisher.track.fail(new App({ code: 1 }))
            yield* publisher.end(step.how === "interrupted" ? Exit.interrupt() : Exit.void)
            break
          }
          case "View": {
            const from = step.by === "relay" ? relay.origin : sessions[step.by]!.session
            const options = { from: step.from, ...(step.wait ? { wait: "5 seconds" as const } : {}) }
            viewers.push(yield* Scope.provide(view(from, [step.path], options), all))
            break
          }
          case "Leave":
            yield* viewers[step.at]?.leave ?? Effect.void
            break
          case "Kill":
            yield* sessions[step.by]!.kill
            break
          case "Pass":
            yield* TestClock.adjust(`${step.seconds} seconds`)
        }
        yield* settle
        const { entries, shares } = held(relay.origin)
        assert.isAtMost(entries, 2)
        assert.isAtMost(shares, 2)
        assert.strictEqual(relay.origin.paths.length, entries)
      }
      for (const publisher of publishers) yield* publisher.end()
      for (let i = 0; i < 5; i++) {
        yield* TestClock.adjust("5 seconds")
        yield* settle
      }
      for (const viewer of viewers) yield* viewer.ended
      assert.deepStrictEqual(held(relay.origin), idle)
      assert.strictEqual(count("UpstreamOpened"), count("UpstreamClosed"))
      assert.strictEqual(count("Announced"), count("Ended"))
      yield* stop
      yield* settle
      yield* Scope.close(all, Exit.void)
      assert.strictEqual(yield* relay.sessions, 0)
    }), { arbitrary: { runs: 60 }, timeout: 60_000 })
})
