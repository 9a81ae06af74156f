import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { warning, warningOf } from "../../src/node/FileDescriptors.ts"

const limits = (soft: string) =>
  [
    "Limit                     Soft Limit           Hard Limit           Units     ",
    "Max processes             100                  200                  processes ",
    `Max open files            ${soft.padEnd(20)} 1048576              files     `,
    "Max locked memory         8388608              8388608              bytes     "
  ].join("\n")

describe("FileDescriptors", () => {
  it("warns when sessions need more than may be open", () => {
    assert.deepStrictEqual(warningOf(limits("1064"), 1000), Option.none())
    const text = Option.getOrThrow(warningOf(limits("1063"), 1000))
    assert.match(text, /^only 1063 files may be open, 1064 are needed for 1000 sessions: /)
    assert.notInclude(text, "\n")
  })

  it("says nothing where there is no limit, or none that is known", () => {
    for (const text of [limits("unlimited"), "", "Max open files", "Max processes 10 10"]) {
      assert.deepStrictEqual(warningOf(text, 1_000_000), Option.none(), text)
    }
  })

  it.effect("asks the system, where that tells", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* warning(0), Option.none())
      const beyond = yield* warning(Number.MAX_SAFE_INTEGER)
      const said = existsSync("/proc/self/limits") && readFileSync("/proc/self/limits", "utf8")
      if (said !== false && /^Max open files +\d/m.test(said)) {
        assert.match(Option.getOrThrow(beyond), /^only \d+ files/)
      } else assert.deepStrictEqual(beyond, Option.none())
    }))
})
