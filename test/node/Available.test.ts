import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { afterEach, vi } from "vitest"
import { TransportError } from "../../src/core/MoqError.ts"

const reason = "the native one needs another system"

/** What HTTP/3 is, where its packages can be had or not. */
const http3 = (has: { readonly native: boolean; readonly quiche: boolean }) =>
  Effect.promise(async () => {
    vi.resetModules()
    const available = (is: boolean, detail: string) =>
      is ? Effect.succeed({}) : Effect.fail(new TransportError({ detail }))
    vi.doMock("../../src/node/Http3Binding.ts", () => ({ load: available(has.native, reason) }))
    vi.doMock("../../src/node/Http3Client.ts", () => ({ connect: "native" }))
    vi.doMock("../../src/node/Http3Server.ts", () => ({ make: "native" }))
    vi.doMock("../../src/node/QuicheHttp3.ts", () => ({
      available: available(has.quiche, "quiche is not installed"),
      connect: "quiche",
      make: "quiche"
    }))
    return await import("../../src/node/Available.ts")
  }).pipe(Effect.flatMap(({ client, http3Server }) =>
    Effect.map(Effect.all([client("h3"), http3Server]), ([{ connect }, { make }]) => [connect, make] as unknown)
  ))

afterEach(() => {
  for (const name of ["Http3Binding", "Http3Client", "Http3Server", "QuicheHttp3"]) {
    vi.doUnmock(`../../src/node/${name}.ts`)
  }
  vi.resetModules()
})

describe("HTTP/3", () => {
  it.live("is the native one, or quiche where only that can be had, or not there for the reason of the first", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* http3({ native: true, quiche: true }), ["native", "native"])
      assert.deepStrictEqual(yield* http3({ native: false, quiche: true }), ["quiche", "quiche"])
      assert.strictEqual((yield* Effect.flip(http3({ native: false, quiche: false }))).detail, reason)
    }))
})
