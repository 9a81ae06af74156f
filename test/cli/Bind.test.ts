import { assert, describe, it } from "@effect/vitest"
import * as Bind from "../../src/cli/Bind.ts"

describe("Bind", () => {
  it("reads what people type", () => {
    assert.deepStrictEqual(
      ["localhost:4443", "127.0.0.1:0", "[::1]:65535", ":443", "example.com", "[::]"].map(Bind.parse),
      [
        { host: "localhost", port: 4443 },
        { host: "127.0.0.1", port: 0 },
        { host: "::1", port: 65_535 },
        { host: "", port: 443 },
        { host: "example.com", port: 4443 },
        { host: "::", port: 4443 }
      ]
    )
  })

  it("refuses the rest", () => {
    for (const text of ["", ":", "::1:4443", "a:b", "localhost:65536", "localhost:-1", "[localhost]:1", "a b:1"]) {
      assert.throws(() => Bind.parse(text), /an address such as/, text)
    }
  })
})
