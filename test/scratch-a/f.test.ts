import { Cause, chain, Clock, Effect, Exit, Fiber, log, MoqError, one, Option, pair, Relay, scenario, Session, Simulator, str, Stream, text, Track, write } from "./kit.ts"
import { Ref, Schedule, Layer, PubSub } from "effect"
const sq = (x: any) => Exit.isSuccess(x) ? (x.value?.impl ? "TRACK" : x.value) : Cause.hasInterruptsOnly(x.cause) ? "INTERRUPTED" : (() => { const e: any = Cause.squash(x.cause); return `${e._tag ?? "DEFECT " + e}:${e.message ?? ""}` })()

scenario("30 suspend: several viewers, one slow, one dies; every end", Effect.gen(function*() {
  const { network, r } = yield* one()
  for (const [k, bad] of [["clean", {}], ["lossy", { loss: 0.05, jitter: "20 millis" }], ["reset", { reset: 0.002, stop: 0.002 }]] as const) {
    const p = yield* network.host("p" + k, { bandwidth: "2 Mbit", ...bad }); const ps = yield* p.provide(Session.connect(r.url))
    const t = yield* Track.make(["t" + k], { order: "asc" }); yield* ps.publish(t.track); yield* Effect.sleep("1 second")
    const vs = yield* Effect.forEach([0, 1, 2], (i) => Effect.forkScoped(Effect.gen(function*() {
      const v = yield* network.host("v" + k + i, { bandwidth: i === 0 ? "300 Kbit" : "5 Mbit" }); const s = yield* v.provide(Session.connect(r.url))
      if (i === 2) yield* Effect.forkScoped(Effect.andThen(Effect.sleep("900 millis"), v.kill()))
      const sub = yield* s.subscribe(["t" + k], { wait: "3 seconds" }); const gaps: any = []
      const n = yield* Effect.exit(Stream.runFold(sub.events.pipe(Stream.flatMap((e) => e._tag === "Gap" ? (gaps.push(`${e.from}-${e.to}:${e.code}`), Stream.empty) : Stream.catchCause(e.frames, (c) => (gaps.push(e.sequence + sq(Exit.failCause(c)).slice(0, 12)), Stream.empty)))), () => 0, (n: number) => n + 1))
      return [sq(n), gaps.length, gaps.slice(0, 3)]
    })))
    const t0 = yield* Clock.currentTimeMillis
    yield* Stream.range(1, 1000).pipe(Stream.map(() => new Uint8Array(1000)), Stream.rechunk(5), Stream.run(t.sink({ group: { frames: 10 }, overflow: "suspend", waitForReader: true })))
    const took = (yield* Clock.currentTimeMillis) - t0; yield* t.finish
    yield* log(k, "took", took, yield* Effect.forEach(vs, (f) => Fiber.join(f)))
  }
}), { latency: "20 millis" })

scenario("31 suspend while publisher reconnects; order desc; update narrows", Effect.gen(function*() {
  const { network, r } = yield* one()
  const p = yield* network.host("p", { bandwidth: "1 Mbit" }); const ps = yield* p.provide(Session.reconnect(r.url)); const v = yield* network.host("v"); const vs = yield* v.provide(Session.connect(r.url))
  const t = yield* Track.make(["t"], { order: "desc", expires: 500 }); yield* ps.publish(t.track); yield* Effect.sleep("1 second")
  const go = yield* Effect.forkScoped(Effect.scoped(Effect.gen(function*() { let n = 0; while (true) { const s = yield* Effect.exit(vs.subscribe(["t"], { wait: "30 seconds" })); if (Exit.isFailure(s)) continue; yield* Effect.exit(s.value.update({ to: s.value.begin + 30 })); yield* Effect.exit(Stream.runDrain(s.value.events)) } })))
  const w = yield* Effect.forkScoped(Stream.range(1, 3000).pipe(Stream.map(() => new Uint8Array(1000)), Stream.rechunk(5), Stream.run(t.sink({ group: { frames: 10 }, overflow: "suspend", waitForReader: true }))))
  for (let i = 0; i < 6; i++) { yield* Effect.sleep("1700 millis"); yield* p.kill({ noticed: true }) }
  yield* Fiber.join(w); yield* log("done"); yield* Fiber.interrupt(go)
}), { latency: "20 millis" })

scenario("32 interruption of a suspending sink and of group.taken at each ms", Effect.gen(function*() {
  const { publisher, viewer } = yield* pair()
  const t = yield* Track.make(["t"]); yield* publisher.publish(t.track)
  for (let ms = 0; ms < 200; ms += 3) {
    const rd = yield* Effect.forkScoped(Effect.scoped(Effect.flatMap(viewer.subscribe(["t"]), (s) => Stream.runDrain(s.events))))
    const w = yield* Effect.forkScoped(Stream.range(1, 100).pipe(Stream.map(() => new Uint8Array(1000)), Stream.rechunk(3), Stream.run(t.sink({ group: { frames: 10 }, overflow: "suspend" }))))
    yield* Effect.sleep(ms); yield* Fiber.interrupt(ms % 2 ? w : rd); yield* Effect.sleep(50); yield* Fiber.interrupt(ms % 2 ? rd : w); yield* Effect.sleep(100)
  }
  const t0 = yield* Clock.currentTimeMillis
  yield* Stream.range(1, 10).pipe(Stream.map(() => new Uint8Array(1000)), Stream.run(t.sink({ group: { frames: 10 }, overflow: "suspend" })))
  yield* t.taken; yield* log("free", (yield* Clock.currentTimeMillis) - t0)
}), { latency: "20 millis", bandwidth: "1 Mbit" })

scenario("33 publisher churned by viewers with from 0 through two relays, lossy: nobody's session dies", Effect.gen(function*() {
  const { publisher, viewer, up } = yield* chain()
  const ends: any = []; for (const [n, s] of [["pub", publisher], ["view", viewer]] as const) yield* Effect.forkScoped(Effect.map(s.closed, (c) => ends.push(n, c)))
  const t = yield* Track.make(["t"]); yield* publisher.publish(t.track)
  yield* Effect.forkScoped(Effect.gen(function*() { for (let i = 0;; i++) { yield* write(t, [new Uint8Array(300)]); yield* Effect.sleep("5 millis") } }))
  yield* Effect.sleep("5 seconds")
  for (let i = 0; i < 12; i++) { const f = yield* Effect.forkScoped(Effect.scoped(Effect.flatMap(viewer.subscribe(["t"], { from: 0 }), (s) => Stream.runDrain(s.groups)))); yield* Effect.sleep(30 + (i * 7) % 150); yield* Fiber.interrupt(f) }
  yield* log("ends", ends)
}), { latency: "15 millis", loss: 0.02, jitter: "5 millis" })
