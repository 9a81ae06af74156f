import { Cause, chain, Clock, Effect, Exit, Fiber, log, MoqError, one, Option, pair, Relay, scenario, Session, Simulator, str, Stream, text, Track, write } from "./kit.ts"
import { Ref, Schedule, Layer, PubSub } from "effect"
import { TrackOrdered, TrackPubSub, Router, Broadcast, Memory, Transport, Subscription } from "../../src/index.ts"
const sq = (x: any) => Exit.isSuccess(x) ? (x.value?.impl ? "TRACK" : x.value) : Cause.hasInterruptsOnly(x.cause) ? "INTERRUPTED" : (() => { const e: any = Cause.squash(x.cause); return `${e._tag ?? "DEFECT " + e}:${e.message ?? ""}` })()

scenario("20 two sessions sharing a router", Effect.gen(function*() {
  const { network, r } = yield* one()
  const p = yield* network.host("p"); const v = yield* network.host("v"); const r2 = yield* network.host("r2"); yield* r2.serve(Relay.make())
  const router = yield* Router.make
  const s1 = yield* p.provide(Session.connect(r.url, { router })); const s2 = yield* p.provide(Session.connect(r2.url, { router }))
  const t = yield* Track.make(["t"]); yield* s1.publish(t.track); yield* write(t, [text("x")])
  const dup = yield* Effect.exit(s2.publish(t.track))
  yield* Effect.sleep("1 second")
  const w = yield* v.provide(Session.connect(r2.url))
  const got = yield* Effect.flatMap(w.subscribe(["t"]), (s) => Stream.runHead(s.frames))
  const b = yield* s2.broadcast(["b"]); const bt = yield* b.track("x"); 
  yield* s1.close(); yield* Effect.sleep("1 second")
  yield* log(sq(dup), got, sq(yield* Effect.exit(Effect.asVoid(bt.appendGroup))), sq(yield* Effect.exit(Effect.asVoid(t.appendGroup))))
}), { latency: "20 millis" })

scenario("21 the same layer twice", Effect.gen(function*() {
  const { network, r, relay } = yield* one()
  const v = yield* network.host("v")
  const L = Session.layerConnect(r.url).pipe(Layer.provide(v.layer))
  const A = Layer.effectDiscard(Effect.flatMap(Session.Session, (s) => s.ping)).pipe(Layer.provide(L)); const B = Layer.effectDiscard(Effect.flatMap(Session.Session, (s) => s.ping)).pipe(Layer.provide(L))
  yield* Effect.scoped(Effect.andThen(Layer.build(Layer.mergeAll(A, B)), Effect.flatMap(relay.sessions, (n) => log("sessions", n))))
  yield* Effect.sleep("1 second"); yield* log(yield* relay.sessions)
}), { latency: "20 millis" })

scenario("22 peer dies in the handshake at each ms (server side and client side)", Effect.gen(function*() {
  const network = yield* Simulator.Network
  const out: any = {}
  for (let ms = 0; ms < 50; ms += 1) for (const noticed of [true, false]) {
    const h = yield* network.host("s" + ms + noticed); const c = yield* network.host("c" + ms + noticed)
    yield* Effect.scoped(Effect.gen(function*() {
      const server = yield* h.listen
      const acc = yield* Effect.forkScoped(Effect.exit(Effect.scoped(Effect.gen(function*() { const q = Option.getOrThrow(yield* Stream.runHead(server.requests)); const s = yield* Session.accept(yield* q.accept); return (yield* s.closed) }))))
      yield* Effect.forkScoped(Effect.andThen(Effect.sleep(ms), (ms % 3 ? h : c).kill({ noticed })))
      const t0 = yield* Clock.currentTimeMillis
      const x = yield* Effect.exit(Effect.scoped(Effect.flatMap(c.provide(Session.connect(h.url)), (s) => s.closed)))
      const k = `${sq(x)?.message ?? sq(x)}`.slice(0, 90); out[k] = (out[k] ?? 0) + 1
      const y = yield* Effect.timeoutOption(Fiber.join(acc), "60 seconds"); const k2 = "S " + (Option.isSome(y) ? (`${sq(y.value)?.message ?? sq(y.value)}`.slice(0, 90)) : "HANG"); out[k2] = (out[k2] ?? 0) + 1
    }))
  }
  yield* log(out)
}), { latency: "10 millis", timeLimit: "10 hours" })

scenario("23 announced with 5000 tracks, churn", Effect.gen(function*() {
  const { publisher, viewer } = yield* chain()
  const n = 5000
  const b = yield* publisher.broadcast(["big"])
  yield* Effect.forEach(Array.from({ length: n }, (_, i) => i), (i) => b.track("t" + i), { discard: true })
  yield* Effect.sleep("3 seconds")
  const evs = yield* Stream.runCollect(Stream.takeUntil(viewer.announced(["big"]), (e) => e._tag === "Live"))
  yield* log(evs.length, evs.at(-1))
}), { latency: "20 millis", bandwidth: "10 Mbit" })

scenario("23b 12000 tracks by one publisher", Effect.gen(function*() {
  const { publisher, viewer } = yield* pair()
  const b = yield* publisher.broadcast(["big"])
  yield* Effect.forEach(Array.from({ length: 10_050 }, (_, i) => i), (i) => b.track("t" + i), { discard: true })
  const c = yield* Ref.make(0)
  const x = yield* Effect.exit(Effect.timeout(Stream.runForEach(viewer.announced(["big"]), () => Ref.update(c, (n) => n + 1)), "20 seconds"))
  yield* log(sq(x), yield* Ref.get(c))
}), { latency: "20 millis" })

scenario("24 TrackOrdered on a bad network; TrackPubSub both ways", Effect.gen(function*() {
  const { publisher, viewer } = yield* chain()
  const t = yield* Track.make(["t"]); yield* publisher.publish(t.track)
  const hub = yield* PubSub.unbounded<Uint8Array>()
  const wf = yield* TrackPubSub.fromPubSub(t, hub, { group: { frames: 3 } })
  const s = yield* viewer.subscribe(["t"], { wait: "5 seconds" })
  const f = yield* Effect.forkScoped(Stream.runCollect(s.events.pipe(TrackOrdered.ordered({ maxWait: "500 millis" }), Stream.map((e) => e._tag === "Gap" ? `gap${e.from}-${e.to}(${e.code})` : e.sequence))))
  yield* Effect.sleep("2 seconds")
  for (let i = 0; i < 100; i++) { yield* PubSub.publish(hub, new Uint8Array(2000)); yield* Effect.sleep("50 millis") }
  yield* PubSub.shutdown(hub); yield* log("writer", sq(yield* Effect.exit(Fiber.join(wf)))); yield* t.finish
  yield* log((yield* Fiber.join(f)).join(" "))
}), { latency: "80 millis", loss: 0.1, bandwidth: "1 Mbit", seed: 3 })

scenario("25 tiny limits", Effect.gen(function*() {
  const limits = { groupsInFlight: 1, subscriptions: 1, announceStreams: 1, announces: 2, unsent: 1, unread: 1, strayStreams: 0, strayRate: 0, strayResetRate: 0, keepAlive: "100 millis", idle: "500 millis", request: "200 millis", drain: 0, setup: "300 millis" } as const
  const { publisher, viewer } = yield* pair({ server: { limits }, client: { limits } })
  const t = yield* Track.make(["t"]); yield* publisher.publish(t.track)
  const u = yield* Track.make(["u"]); yield* publisher.publish(u.track)
  const s = yield* viewer.subscribe(["t"])
  const f = yield* Effect.forkScoped(Stream.runCollect(s.events.pipe(Stream.mapEffect((e) => e._tag === "Gap" ? Effect.succeed(`gap${e.from}-${e.to}(${e.code})`) : Effect.map(Effect.exit(Stream.runCollect(e.frames)), (x) => e.sequence + ":" + (Exit.isSuccess(x) ? x.value.length : sq(x)))))))
  yield* log("second", sq(yield* Effect.exit(viewer.subscribe(["u"]))), sq(yield* Effect.exit(viewer.fetch(["u"], 0))), sq(yield* Effect.exit(viewer.trackInfo(["u"]))))
  for (let i = 0; i < 10; i++) { yield* write(t, [new Uint8Array(5000), new Uint8Array(10)]); yield* Effect.sleep("20 millis") }
  yield* t.finish
  yield* log((yield* Fiber.join(f)).join(" "), sq(yield* Effect.exit(Effect.timeoutOption(viewer.closed, "5 seconds"))))
  yield* log(sq(yield* Effect.exit(Effect.timeoutOption(Stream.runCollect(viewer.announced()), "1 second"))), sq(yield* Effect.exit(Effect.timeoutOption(Stream.runCollect(viewer.announced(["x"])), "1 second"))))
}), { latency: "20 millis", bandwidth: "1 Mbit" })

scenario("26 zero/negative/NaN limits and options", Effect.gen(function*() {
  for (const limits of [{ groupsInFlight: 0 }, { groupsInFlight: NaN }, { request: -1 }, { keepAlive: 0 }, { idle: 0 }, { unsent: -1 }, { drain: -5 }] as any[]) {
    const r = yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
      const network = yield* Simulator.Network
      const here = yield* network.host("h" + Math.abs(Object.keys(limits)[0]!.length * 31 + (Number(Object.values(limits)[0]) || 0))); const there = yield* network.host("t" + Math.abs(Object.keys(limits)[0]!.length * 31 + (Number(Object.values(limits)[0]) || 0))); const server = yield* here.listen
      const acc = yield* Effect.forkScoped(Effect.flatMap(Stream.runHead(server.requests), (q) => Effect.flatMap(Option.getOrThrow(q).accept, (c) => Session.accept(c, { limits }))))
      const viewer = yield* there.provide(Session.connect(here.url)) 
      const pub = yield* Fiber.join(acc); const t = yield* Track.make(["t"]); yield* pub.publish(t.track); yield* write(t, [text("x")]); const s = yield* viewer.subscribe(["t"]); return (yield* Stream.runCollect(Stream.take(s.frames, 1))).length
    })))
    yield* log(JSON.stringify(limits), sq(r))
  }
}), { latency: "20 millis" })

for (const order of ["asc", "desc"] as const) scenario("27 frames of a track after a late join with big history " + order, Effect.gen(function*() {
  const { publisher, viewer } = yield* chain()
  const t = yield* Track.make(["t"], { order }); yield* publisher.publish(t.track)
  for (let i = 0; i < 50; i++) { yield* write(t, [text(i + "a"), text(i + "b")]); yield* Effect.sleep("50 millis") }
  const s = yield* viewer.subscribe(["t"], { from: 10 })
  const f = yield* Effect.forkScoped(Stream.runCollect(s.frames))
  yield* Effect.sleep("2 seconds"); yield* t.finish
  yield* log((yield* Fiber.join(f)).map(str).join(" "), s.latest, s.first, s.begin)
}), { latency: "40 millis", loss: 0.05 })
