import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"

const RelayLayer = Relay.layer().pipe(
  Layer.provide(NodeTransport.layerServer({ port: 0, tls: { generate: ["localhost"] } }))
)

describe("a relay that stops", () => {
  it.live("closes its sessions, and lets none of them see the others go", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { urls } = Context.get(yield* Layer.buildWithScope(RelayLayer, scope), Relay.Relay)
      const connect = Session.connect(urls[0]!, { insecure: true })
      const before = yield* connect
      const publisher = yield* connect
      const after = yield* connect
      const track = yield* (yield* publisher.broadcast(["room"])).track("one")
      yield* (yield* track.appendGroup).writeFrame(new Uint8Array(3))
      const viewers = yield* Effect.forEach([before, after], (session) =>
        Effect.gen(function*() {
          const heard: Array<string> = []
          const hearing = yield* Effect.forkScoped(
            Stream.runForEach(session.announced(), ({ _tag }) => Effect.sync(() => void heard.push(_tag)))
          )
          const watched = yield* session.subscribe(["room", "one"], { wait: "10 seconds" })
          const pull = yield* Stream.toPull(watched.frames)
          yield* pull
          return { heard, hearing, watching: yield* Effect.forkScoped(pull) }
        }))
      yield* Scope.close(scope, Exit.void)
      for (const { heard, hearing, watching } of viewers) {
        assert.include(String(yield* Fiber.await(watching)), "session closed by the peer")
        yield* Fiber.await(hearing)
        assert.notInclude(heard, "Ended")
      }
    }).pipe(Effect.scoped, Effect.provide(NodeTransport.layer)), 30_000)
})
