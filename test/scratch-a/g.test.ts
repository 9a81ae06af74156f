import { chain, Clock, Effect, log, one, pair, Relay, scenario, Session, Simulator, Stream, Track } from "./kit.ts"
for (const order of ["asc", "default"] as const) for (const wait of [true, false]) for (const wide of [true, false]) scenario("40 " + order + wait + wide, Effect.gen(function*() {
  const { publisher, viewer, here, there } = yield* pair()
  if (wide) yield* there.set({ bandwidth: "5 Mbit" })
  const t = yield* Track.make(["t"], { order }); yield* publisher.publish(t.track)
  yield* Effect.forkScoped(Effect.scoped(Effect.flatMap(viewer.subscribe(["t"]), (s) => Stream.runDrain(s.events))))
  if (!wait) yield* Effect.sleep("1 second")
  const t0 = yield* Clock.currentTimeMillis
  yield* Stream.range(1, 1000).pipe(Stream.map(() => new Uint8Array(1000)), Stream.rechunk(wide ? 7 : 5), Stream.run(t.sink({ group: { frames: 10 }, overflow: "suspend", waitForReader: wait })))
  return (yield* Clock.currentTimeMillis) - t0
}), { latency: "20 millis", bandwidth: "2 Mbit" })
