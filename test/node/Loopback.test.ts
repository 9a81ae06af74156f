import { assert, describe, it } from "@effect/vitest"
import * as Loopback from "../../src/node/Loopback.ts"

describe("Loopback", () => {
  it.each(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])("%s is this machine", (address) => {
    assert.isTrue(Loopback.isLoopback(address))
  })

  it.each(["10.0.0.1", "::2", "128.0.0.1", "127.0.0.1.example.com", "127.example", "localhost", "", undefined])(
    "the address %s is not",
    (address) => {
      assert.isFalse(Loopback.isLoopback(address))
    }
  )

  it.each(["localhost", "LOCALHOST", "[::1]", "::1", "127.0.0.1"])("the name %s is this machine", (name) => {
    assert.isTrue(Loopback.isLoopbackName(name))
  })

  it.each(["localhost.example.com", "127.0.0.1.nip.io", "example.com", "0.0.0.0"])("the name %s is not", (name) => {
    assert.isFalse(Loopback.isLoopbackName(name))
  })

  it("formats addresses with their port", () => {
    assert.strictEqual(Loopback.format("::ffff:127.0.0.1", 1), "127.0.0.1:1")
    assert.strictEqual(Loopback.format("::1", 2), "[::1]:2")
    assert.isUndefined(Loopback.format(undefined, 3))
  })
})
