import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Http3Binding from "../../src/node/Http3Binding.ts"

const binding = { NapiClient: {}, NapiServer: {} }

const failing = (code: string, message: string) => (): never => {
  throw Object.assign(new Error(message), { code })
}

const absent = failing("MODULE_NOT_FOUND", "Cannot find module\nRequire stack:\n- /somewhere")

/** A Debian 13 with everything installed, but for what a test says. */
const system = (difference: Partial<Http3Binding.System>): Http3Binding.System => ({
  platform: "linux",
  arch: "x64",
  glibc: () => "2.41",
  resolve: () => "/modules/@moq/web-transport/src/index.ts",
  require: () => binding,
  ...difference
})

const wordsOf = (difference: Partial<Http3Binding.System>) =>
  Effect.map(Effect.flip(Http3Binding.loadFrom(system(difference))), ({ detail }) => detail)

describe("Http3Binding", () => {
  it.effect("loads the binding of each platform as seen from the package", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      for (
        const [platform, arch] of [
          ["linux", "x64"],
          ["linux", "arm64"],
          ["darwin", "x64"],
          ["darwin", "arm64"],
          ["win32", "x64"]
        ] as const
      ) {
        const loaded = yield* Http3Binding.loadFrom(system({
          platform,
          arch,
          require: (from, name) => {
            asked.push(`${from} ${name}`)
            return binding
          }
        }))
        assert.strictEqual(loaded as unknown, binding)
      }
      const from = "/modules/@moq/web-transport/src/index.ts"
      assert.deepStrictEqual(asked, [
        `${from} @moq/web-transport-linux-x64-gnu`,
        `${from} @moq/web-transport-linux-arm64-gnu`,
        `${from} @moq/web-transport-darwin-x64`,
        `${from} @moq/web-transport-darwin-arm64`,
        `${from} @moq/web-transport-win32-x64-msvc`
      ])
    }))

  it.effect("takes the one that the package itself brings when that of the platform is not installed", () =>
    Effect.gen(function*() {
      const loaded = yield* Http3Binding.loadFrom(system({
        require: (_from, name) => name === "../web-transport.linux-x64-gnu.node" ? binding : absent()
      }))
      assert.strictEqual(loaded as unknown, binding)
    }))

  it.effect("says in one line what is missing", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* wordsOf({ resolve: absent }), "@moq/web-transport is not installed")
      assert.strictEqual(
        yield* wordsOf({ require: absent }),
        "@moq/web-transport-linux-x64-gnu is not installed"
      )
      assert.strictEqual(
        yield* wordsOf({ platform: "freebsd" }),
        "@moq/web-transport has no binding for freebsd-x64"
      )
      assert.strictEqual(yield* wordsOf({ arch: "ia32" }), "@moq/web-transport has no binding for linux-ia32")
    }))

  it.effect("tells a glibc that is too old, and one that is not there", () =>
    Effect.gen(function*() {
      const require = failing(
        "ERR_DLOPEN_FAILED",
        "/lib/x86_64-linux-gnu/libm.so.6: version `GLIBC_2.38' not found (required by /modules/x.node)"
      )
      assert.strictEqual(
        yield* wordsOf({ require, glibc: () => "2.36" }),
        "@moq/web-transport needs glibc 2.38, this system has 2.36"
      )
      assert.strictEqual(
        yield* wordsOf({
          require: failing("ERR_DLOPEN_FAILED", "Error loading shared library ld-linux-x86-64.so.2"),
          glibc: () => undefined
        }),
        "@moq/web-transport needs glibc, and this system has none"
      )
    }))

  it.effect("gives the first line of any other failure", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* wordsOf({ require: failing("ERR_DLOPEN_FAILED", "file too short\nand more") }),
        "@moq/web-transport cannot be loaded: file too short"
      )
      assert.strictEqual(
        yield* wordsOf({ resolve: failing("ERR_INVALID_PACKAGE_CONFIG", "Invalid package config") }),
        "@moq/web-transport cannot be loaded: Invalid package config"
      )
    }))

  it.effect("loads the real one, or says why not", () =>
    Effect.gen(function*() {
      const loaded = yield* Effect.result(Http3Binding.load)
      if (loaded._tag === "Success") {
        assert.isFunction(loaded.success.NapiServer.bind)
        assert.strictEqual(yield* Http3Binding.load, loaded.success)
      } else assert.match(loaded.failure.detail!, /^@moq\/web-transport.* (needs|is not installed|has no binding)/)
    }))
})
