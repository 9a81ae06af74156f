import { assert, describe, it } from "@effect/vitest";
import { Effect, Schema } from "effect";
import * as GroupOrder from "../../src/core/GroupOrder.js";
import * as Priority from "../../src/core/Priority.js";
describe("Priority", () => {
    it("is an integer in -128..127", () => {
        const is = Schema.is(Priority.Priority);
        for (const value of [-128, -1, 0, 127])
            assert.isTrue(is(value));
        for (const value of [-129, 128, 0.5, NaN])
            assert.isFalse(is(value));
    });
    it.effect.prop("clamps any number to the nearest one", [Schema.Finite], ([value]) => Effect.sync(() => {
        const clamped = Priority.clamp(value);
        assert.isTrue(clamped >= Priority.min && clamped <= Priority.max);
        if (value >= Priority.min && value <= Priority.max)
            assert.isBelow(Math.abs(clamped - value), 1);
        else
            assert.strictEqual(clamped, value < 0 ? Priority.min : Priority.max);
    }), { arbitrary: { runs: 300, seed: 1 } });
});
describe("GroupOrder", () => {
    it("has three values", () => {
        const is = Schema.is(GroupOrder.GroupOrder);
        for (const value of ["default", "asc", "desc"])
            assert.isTrue(is(value));
        for (const value of ["", "ASC", 0, undefined])
            assert.isFalse(is(value));
    });
});
