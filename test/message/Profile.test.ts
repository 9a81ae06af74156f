import { assert, describe, it } from "@effect/vitest"
import * as MoqError from "../../src/core/MoqError.ts"
import * as Profile from "../../src/message/Profile.ts"

describe("Profile", () => {
  it("is found by name and by version", () => {
    assert.deepStrictEqual(Profile.all.map(({ name, version }) => [name, version]), [
      ["draft03", 0xff0bad03],
      ["fork04", 0xff0bad04],
      ["fork02", 0xff0bad02]
    ])
    for (const profile of Profile.all) {
      assert.strictEqual(Profile.byName(profile.name), profile)
      assert.strictEqual(Profile.byVersion(profile.version), profile)
    }
    assert.isUndefined(Profile.byName("draft04"))
    assert.isUndefined(Profile.byVersion(0xff0bad01))
  })

  it("gives every order a number that reads as that order, or as the crate's default", () => {
    for (const profile of Profile.all) {
      for (const order of ["default", "asc", "desc"] as const) {
        const read = profile.orders[profile.orderNumbers[order]]
        assert.strictEqual(read, order === "default" && profile.name !== "draft03" ? "desc" : order)
      }
    }
  })

  it("sends the crate only codes that it knows", () => {
    const known = new Set([0, 1, 4, 5, 9, 10, 11, 12, 13, 14, 15])
    for (let code = 0; code < 300; code++) {
      assert.strictEqual(Profile.draft03.toWireCode(code), code)
      const own = MoqError.fromCode(code)._tag !== "MoqRemote" && code < 64
      for (const profile of [Profile.fork02, Profile.fork04]) {
        const sent = profile.toWireCode(code)
        if (own) assert.isTrue(known.has(sent), `${code} is sent as ${sent}`)
        if (!own || known.has(code)) assert.strictEqual(sent, code)
      }
    }
    const { toWireCode } = Profile.fork04
    assert.deepStrictEqual([2, 3, 26, 31, 6, 27].map(toWireCode), [0, 0, 0, 0, 13, 14])
  })
})
