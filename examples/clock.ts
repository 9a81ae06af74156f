/**
 * A clock over a relay: one program publishes it, any number of others watch.
 *
 *   effect-moq relay                                   # in one terminal
 *   npm run example clock publish                      # in another
 *   npm run example clock watch                        # in as many more as you like
 */
import { NodeRuntime } from "@effect/platform-node"
import { Clock, Console, Effect, Layer, Stream } from "effect"
import { type MoqError, Session } from "effect-moq"
import { NodeTransport } from "effect-moq/node"

const [verb = "watch", url = "https://localhost:4443"] = process.argv.slice(2)

const publish = Effect.gen(function*() {
  const session = yield* Session.Session
  const broadcast = yield* session.broadcast(["room", "alice"])
  const clock = yield* broadcast.track("clock", { priority: 10 })
  const now = Effect.map(Clock.currentTimeMillis, (millis) => new TextEncoder().encode(new Date(millis).toISOString()))
  yield* Stream.tick("1 second").pipe(
    Stream.mapEffect(() => now),
    Stream.run(clock.sink({ group: { frames: 60 } }))
  )
}).pipe(Effect.scoped)

const watch = Effect.gen(function*() {
  const session = yield* Session.Session
  const track = yield* session.subscribe(["room", "alice", "clock"], { wait: "10 seconds" })
  yield* Stream.runForEach(track.frames, (frame) => Console.log(new TextDecoder().decode(frame)))
}).pipe(Effect.scoped)

// `insecure` accepts the certificate that `effect-moq relay` makes up for development
const SessionLayer = Session.layerConnect(url, { insecure: true }).pipe(Layer.provide(NodeTransport.layer))

const program: Effect.Effect<void, MoqError.MoqError, Session.Session> = verb === "publish" ? publish : watch
program.pipe(Effect.provide(SessionLayer), NodeRuntime.runMain)
