import { assert, describe, it } from "@effect/vitest"
import * as Output from "../../src/cli/Output.ts"
import * as Text from "../../src/cli/Text.ts"

describe("Text", () => {
  it("leaves out what steers a terminal", () => {
    assert.strictEqual(Text.printable("a\u001b[31mb\u0007\r\n\tc\u009b2J\u007f\u202ed\u2028é😀"), "a[31mb\tc2Jdé😀")
    assert.strictEqual(Text.path(["demo", "\u001b]0;x\u0007", "clock"]), "demo/]0;x/clock")
  })

  it("makes one line of many", () => {
    assert.strictEqual(Text.line("first\n  second\r\nthird\n"), "first second third")
  })

  it("tells text from other bytes", () => {
    assert.strictEqual(Text.decode(new TextEncoder().encode("\ufeffé")), "\ufeffé")
    assert.isUndefined(Text.decode(Uint8Array.of(0xc3)))
  })

  it("steers no terminal in JSON either, and loses nothing", () => {
    const value = { text: "\u001b\u009b\u007f\n\"é" }
    const line = Output.jsonText(value)
    assert.match(line, /^[\x20-\x7eé]+$/)
    assert.deepStrictEqual(JSON.parse(line), value)
  })
})
