import { it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, Option, Stream } from "effect"
import { Group, MoqError, Session, Track } from "../../src/index.ts"
import { Relay } from "../../src/relay/index.ts"
import { Simulator } from "../../src/testing/index.ts"
export { Cause, Clock, Effect, Exit, Fiber, MoqError, Option, Relay, Session, Simulator, Stream, Track }
export const text = (s: string) => new TextEncoder().encode(s)
export const str = (b: Uint8Array) => new TextDecoder().decode(b)
export const log = (...xs: Array<unknown>) => Effect.map(Clock.currentTimeMillis, (t) => console.log(`  [${t}]`, ...xs))

/** publisher host -> relay1 -> relay2 -> viewer host */
export const chain = (opts?: { conditions?: Simulator.Conditions }) =>
  Effect.gen(function*() {
    const network = yield* Simulator.Network
    const r1 = yield* network.host("r1", { bandwidth: "unlimited" })
    const r2 = yield* network.host("r2", { bandwidth: "unlimited" })
    const pub = yield* network.host("pub", opts?.conditions)
    const view = yield* network.host("view", opts?.conditions)
    const relay1 = yield* r1.serve(Relay.make())
    const relay2 = yield* r2.serve(Relay.make())
    const up = yield* r2.provide(Session.reconnect(r1.url))
    yield* relay2.origin.attach(up, [])
    const publisher = yield* pub.provide(Session.connect(r1.url))
    const viewer = yield* view.provide(Session.connect(r2.url))
    return { network, r1, r2, pub, view, relay1, relay2, up, publisher, viewer }
  })
export const pair = (options?: { server?: Session.Options; client?: Session.Options }) =>
  Effect.gen(function*() {
    const network = yield* Simulator.Network
    const here = yield* network.host("server")
    const there = yield* network.host("client")
    const server = yield* here.listen
    const accepting = yield* Effect.forkScoped(Effect.gen(function*() {
      const request = Option.getOrThrow(yield* Stream.runHead(server.requests))
      return yield* Session.accept(yield* request.accept, options?.server)
    }))
    const client = yield* there.provide(Session.connect(here.url, options?.client))
    return { publisher: yield* Fiber.join(accepting), viewer: client, network, here, there }
  })
export const one = (network = true) =>
  Effect.gen(function*() {
    const network = yield* Simulator.Network
    const r = yield* network.host("r", { bandwidth: "unlimited" })
    const relay = yield* r.serve(Relay.make())
    return { network, r, relay }
  })
export const write = (track: Track.Producer, frames: ReadonlyArray<Uint8Array>, sequence?: number) =>
  Effect.gen(function*() {
    const g = yield* sequence === undefined ? track.appendGroup : track.createGroup(sequence)
    for (const f of frames) yield* g.writeFrame(f)
    yield* g.finish
    return g
  })
export const scenario = (name: string, e: Effect.Effect<any, any, any>, options?: Simulator.Options) =>
  it(name, async () => {
    const t = Date.now()
    const exit = await Effect.runPromiseExit(Simulator.run(e, options) as Effect.Effect<any, any>)
    const ms = Date.now() - t
    if (Exit.isSuccess(exit)) {
      console.log(`OK   ${name} (${ms} ms)`, exit.value === undefined ? "" : JSON.stringify(exit.value).slice(0, 1500))
    } else console.log(`FAIL ${name} (${ms} ms)\n`, Cause.pretty(exit.cause))
  }, 120000)
