import { Layer, PubSub, Ref, Schedule } from "effect"
import { Broadcast, Memory, Router, TrackOrdered, TrackPubSub, Transport } from "../../src/index.ts"
import {
  Cause,
  chain,
  Clock,
  Effect,
  Exit,
  Fiber,
  log,
  MoqError,
  one,
  Option,
  pair,
  Relay,
  scenario,
  Session,
  Simulator,
  str,
  Stream,
  text,
  Track,
  write
} from "./kit.ts"
const sq = (x: any) =>
  Exit.isSuccess(x) ? x.value : Cause.hasInterruptsOnly(x.cause) ? "INTERRUPTED" : (() => {
    const e: any = Cause.squash(x.cause)
    return `${e._tag ?? "DEFECT " + e}:${e.message ?? ""}`
  })()

scenario(
  "12 sink overflow modes with a viewer on a slow link",
  Effect.gen(function*() {
    for (const overflow of ["drop", "suspend", "fail"] as const) {
      yield* Effect.scoped(Effect.gen(function*() {
        const network = yield* Simulator.Network
        const a = yield* network.host("a" + overflow)
        const b = yield* network.host("b" + overflow)
        yield* a.serve(Relay.make())
        const s = yield* b.provide(Session.connect(a.url))
        const v = yield* b.provide(Session.connect(a.url))
        const t = yield* Track.make(["t"], { cache: { maxBytes: 50_000 } })
        yield* s.publish(t.track)
        const f = yield* Effect.forkScoped(Effect.exit(Effect.scoped(Effect.gen(function*() {
          const x = yield* v.subscribe(["t"], { wait: "5 seconds", from: 0 })
          return yield* Stream.runFold(x.frames, () => 0, (n: number) => n + 1)
        }))))
        const t0 = yield* Clock.currentTimeMillis
        const r = yield* Effect.exit(
          Stream.range(1, 500).pipe(
            Stream.map(() => new Uint8Array(1_000)),
            Stream.rechunk(10),
            Stream.run(t.sink({ group: { frames: 10 }, overflow, waitForReader: true }))
          )
        )
        const took = (yield* Clock.currentTimeMillis) - t0
        yield* t.finish
        yield* log(overflow, sq(r), "took", took, "viewer frames", sq(yield* Fiber.join(f)))
      }))
    }
  }),
  { bandwidth: "1 Mbit", latency: "20 millis" }
)

scenario(
  "13 routes: failing, slow, dying, never",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* chain()
    const closed = yield* Ref.make(0)
    yield* publisher.route(["r"], (path) =>
      Effect.gen(function*() {
        yield* Effect.addFinalizer(() => Ref.update(closed, (n) => n + 1))
        switch (path[1]) {
          case "notfound":
            return yield* new MoqError.NotFound({ detail: "mine" })
          case "app":
            return yield* new MoqError.App({ code: 7, detail: "no" })
          case "slow":
            yield* Effect.sleep("8 seconds")
            break
          case "never":
            return yield* Effect.never
          case "die":
            return yield* Effect.die(new Error("boom"))
          case "interrupt":
            return yield* Effect.interrupt
          case "unauthorized":
            return yield* new MoqError.Unauthorized({})
        }
        const t = yield* Track.make(path)
        yield* write(t, [text("hello")])
        return t.track
      }))
    for (const n of ["ok", "notfound", "app", "slow", "never", "die", "interrupt", "unauthorized"]) {
      yield* publisher.announce(["r", n])
    }
    yield* Effect.sleep("1 second")
    for (const n of ["ok", "notfound", "app", "slow", "never", "die", "interrupt", "unauthorized", "unannounced"]) {
      const t0 = yield* Clock.currentTimeMillis
      const r = yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
        const s = yield* viewer.subscribe(["r", n], { wait: "3 seconds" })
        return yield* Stream.runHead(s.frames).pipe(Effect.map(Option.map(str)))
      })))
      const r2 = yield* Effect.exit(viewer.trackInfo(["r", n]))
      const r3 = yield* Effect.exit(
        Effect.scoped(Effect.flatMap(viewer.fetch(["r", n], 0), (g) => Stream.runCollect(g.frames)))
      )
      yield* log(
        n,
        JSON.stringify(sq(r)),
        "| info",
        JSON.stringify(sq(r2)),
        "| fetch",
        JSON.stringify(sq(r3)),
        (yield* Clock.currentTimeMillis) - t0
      )
    }
    yield* Effect.sleep("30 seconds")
    yield* log("closed", yield* Ref.get(closed))
  }),
  { latency: "20 millis" }
)

scenario(
  "14 used/unused over two relays",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* chain()
    const t = yield* Track.make(["t"])
    yield* publisher.publish(t.track)
    yield* Effect.forkScoped(Effect.gen(function*() {
      while (true) {
        yield* t.used
        yield* log("used")
        yield* t.unused
        yield* log("unused")
      }
    }))
    for (let i = 0; i < 3; i++) {
      const f = yield* Effect.forkScoped(
        Effect.scoped(Effect.flatMap(viewer.subscribe(["t"], { wait: "1 second" }), (s) => Stream.runDrain(s.frames)))
      )
      yield* Effect.sleep("3 seconds")
      yield* Fiber.interrupt(f)
      yield* Effect.sleep("30 seconds")
    }
  }),
  { latency: "20 millis" }
)

scenario(
  "15 session-bound producers",
  Effect.gen(function*() {
    const { publisher, viewer, network, there } = yield* pair()
    const b = yield* publisher.broadcast(["b"])
    const t = yield* b.track("t")
    const g = yield* t.appendGroup
    const fr = yield* g.createFrame(10)
    const s = yield* viewer.subscribe(["b", "t"])
    const fib = yield* Effect.forkScoped(Effect.exit(Stream.runDrain(s.frames)))
    yield* there.kill({ noticed: true })
    yield* Effect.sleep("1 second")
    yield* log(
      "write frame",
      sq(yield* Effect.exit(g.writeFrame(text("x")))),
      "append",
      sq(yield* Effect.exit(t.appendGroup)),
      "chunk",
      sq(yield* Effect.exit(fr.write(text("x")))),
      "track",
      sq(yield* Effect.exit(b.track("u"))),
      "sink",
      sq(yield* Effect.exit(Stream.run(Stream.make(text("x")), t.sink({ group: "single" })))),
      "finish",
      sq(yield* Effect.exit(g.finish)),
      "create",
      sq(yield* Effect.exit(t.createGroup(4)))
    )
    yield* log(
      "viewer",
      sq(yield* Fiber.join(fib)),
      sq(yield* Effect.exit(s.update({ priority: 2 }))),
      sq(yield* Effect.exit(viewer.subscribe(["b"]))),
      sq(yield* Effect.exit(viewer.trackInfo(["b"]))),
      sq(yield* Effect.exit(viewer.fetch(["b"], 0))),
      sq(yield* Effect.exit(viewer.reportBitrate(3))),
      sq(yield* Effect.exit(viewer.ping)),
      sq(yield* Effect.exit(Stream.runCollect(viewer.announced()))),
      sq(yield* Effect.exit(Stream.runCollect(viewer.bitrate))),
      sq(yield* Effect.exit(Stream.runCollect(viewer.status)))
    )
    yield* log(
      "publish after",
      sq(yield* Effect.exit(publisher.publish(t.track))),
      sq(yield* Effect.exit(publisher.broadcast(["z"]))),
      sq(yield* Effect.exit(Effect.flatMap(publisher.broadcast(["z"]), (b) => b.track("w")))),
      sq(yield* Effect.exit(publisher.announce(["z"])))
    )
  }),
  { latency: "20 millis" }
)

scenario(
  "16 reconnect: during subscribe, during fetch, twice in a row; url effect fails once",
  Effect.gen(function*() {
    const { network, r } = yield* one()
    const p = yield* network.host("p")
    const v = yield* network.host("v")
    const ps = yield* p.provide(Session.reconnect(r.url))
    const n = yield* Ref.make(0)
    const url = Effect.flatMap(
      Ref.updateAndGet(n, (n) => n + 1),
      (k) => k % 2 === 0 ? new MoqError.TransportError({ detail: "token server" }) : Effect.succeed(r.url)
    )
    const vs = yield* v.provide(Session.reconnect(url))
    yield* Effect.forkScoped(
      Stream.runForEach(vs.status, (st: any) => log("status", st._tag, st.attempt, st.error?.message, st.delay))
    )
    const b = yield* ps.broadcast(["b"])
    const t = yield* b.track("t")
    yield* Effect.forkScoped(Effect.gen(function*() {
      for (let i = 0;; i++) {
        yield* write(t, [text("" + i)])
        yield* Effect.sleep("1 second")
      }
    }))
    yield* Effect.sleep("1500 millis")
    const f1 = yield* Effect.forkScoped(vs.subscribe(["b", "t"], { from: 0 }))
    yield* Effect.sleep("30 millis")
    yield* v.kill({ noticed: true })
    const s = yield* Fiber.join(f1)
    const evs: any[] = []
    yield* Effect.forkScoped(
      Effect.exit(
        Stream.runForEach(
          s.events,
          (e) => Effect.sync(() => evs.push(e._tag === "Gap" ? `gap${e.from}-${e.to}(${e.code})` : e.sequence))
        )
      )
    )
    yield* Effect.sleep("5 seconds")
    const f2 = yield* Effect.forkScoped(Effect.exit(vs.fetch(["b", "t"], 1)))
    yield* Effect.sleep("30 millis")
    yield* v.kill({ noticed: true })
    yield* log("fetch", sq(yield* Fiber.join(f2)))
    yield* v.kill()
    yield* Effect.sleep("300 millis")
    yield* v.kill()
    yield* Effect.sleep("900 millis")
    yield* v.kill()
    yield* Effect.sleep("20 seconds")
    yield* p.kill()
    yield* Effect.sleep("10 seconds")
    yield* log(evs.join(" "))
    yield* Effect.sleep("60 seconds")
    yield* log(evs.join(" "))
  }),
  { latency: "50 millis" }
)

scenario(
  "17 one kill at every ms during subscribe of a reconnecting viewer",
  Effect.gen(function*() {
    const { network, r } = yield* one()
    const p = yield* network.host("p")
    const ps = yield* p.provide(Session.connect(r.url))
    const b = yield* ps.broadcast(["b"])
    const t = yield* b.track("t")
    yield* Effect.forkScoped(Effect.gen(function*() {
      for (let i = 0;; i++) {
        yield* write(t, [text("" + i)])
        yield* Effect.sleep("100 millis")
      }
    }))
    const out: any[] = []
    for (let ms = 0; ms < 60; ms += 1) {
      const r2 = yield* Effect.exit(
        Effect.scoped(Effect.gen(function*() {
          const v = yield* network.host("v" + ms)
          const vs = yield* v.provide(Session.reconnect(r.url))
          yield* Effect.forkScoped(Effect.andThen(Effect.sleep(ms), v.kill({ noticed: ms % 2 === 0 })))
          const s = yield* vs.subscribe(["b", "t"], { wait: "15 seconds" })
          const k = yield* Stream.runCollect(Stream.take(s.frames, 5))
          const g = yield* vs.fetch(["b", "t"], s.latest!)
          return k.length
        })).pipe(Effect.timeout("60 seconds"))
      )
      out.push(sq(r2))
    }
    yield* log(out.join(" "))
  }),
  { latency: "10 millis", silence: "30 seconds" }
)

scenario(
  "18 interruption at each ms of a mix",
  Effect.gen(function*() {
    const { network, r } = yield* one()
    const p = yield* network.host("p")
    const ps = yield* p.provide(Session.connect(r.url))
    yield* Effect.forkScoped(Effect.flatMap(ps.closed, (c) => log("ps closed", c)))
    yield* Effect.forkScoped(Stream.runForEach(ps.announced(), (c) => log("ps hears", c)))
    const t = yield* Track.make(["t"])
    yield* ps.publish(t.track)
    yield* ps.route(["r"], (path) => Effect.map(Track.make(path), (x) => x.track))
    yield* Effect.forkScoped(Effect.gen(function*() {
      for (let i = 0;; i++) {
        yield* write(t, [text("" + i), new Uint8Array(3000)])
        yield* Effect.sleep("20 millis")
      }
    }))
    const v = yield* network.host("v")
    const vs = yield* v.provide(Session.connect(r.url))
    yield* Effect.sleep("1 second")
    const before = yield* network.ledger
    const acts: Record<string, Effect.Effect<any, any, any>> = {
      connect: Effect.scoped(Effect.andThen(v.provide(Session.connect(r.url)), Effect.never)),
      reconnect: Effect.scoped(Effect.andThen(v.provide(Session.reconnect(r.url)), Effect.never)),
      subscribe: Effect.scoped(Effect.flatMap(vs.subscribe(["t"]), (s) => Stream.runDrain(s.frames))),
      events: Effect.scoped(
        Effect.flatMap(
          vs.subscribe(["t"], { from: 0, order: "asc" }),
          (s) => s.events.pipe(TrackOrdered.ordered(), Stream.runDrain)
        )
      ),
      groups: Effect.scoped(
        Effect.flatMap(vs.subscribe(["t"], { from: 0 }), (s) =>
          s.groups.pipe(
            Stream.flatMap((g) => g.frames, { concurrency: 4 }),
            Stream.runDrain
          ))
      ),
      wait: Effect.scoped(vs.subscribe(["zz"], { wait: "10 seconds" })),
      route: Effect.scoped(Effect.flatMap(vs.subscribe(["r", "x"]), (s) => Stream.runDrain(s.frames))),
      announced: Stream.runDrain(vs.announced()),
      info: Effect.forever(vs.trackInfo(["t"])),
      fetch: Effect.forever(
        Effect.scoped(Effect.flatMap(vs.fetch(["t"], t.track.latest!), (g) => Stream.runDrain(g.frames)))
      ),
      update: Effect.scoped(Effect.flatMap(vs.subscribe(["t"]), (s) =>
        Effect.forever(
          s.update({ priority: 3 }).pipe(Effect.andThen(s.update({ priority: 2 })), Effect.andThen(Effect.sleep(3)))
        ))),
      pubsub: Effect.scoped(Effect.gen(function*() {
        const s = yield* vs.subscribe(["t"])
        const ps = yield* PubSub.bounded<Uint8Array>(4)
        yield* TrackPubSub.toPubSub(s, ps)
        return yield* Stream.runDrain(Stream.fromPubSub(ps))
      })),
      include: Effect.scoped(Effect.gen(function*() {
        const a = yield* Router.make
        yield* Router.include(a, vs.router)
        return yield* Effect.never
      })),
      publish: Effect.scoped(Effect.gen(function*() {
        const x = yield* Track.make(["mine"])
        yield* vs.publish(x.track)
        yield* write(x, [new Uint8Array(9000)])
        return yield* Effect.never
      })),
      close: Effect.scoped(
        Effect.flatMap(
          v.provide(Session.connect(r.url)),
          (s) => Effect.andThen(Effect.andThen(Effect.sleep(3), s.close(new MoqError.App({ code: 3 }))), s.closed)
        )
      )
    }
    const bad: any = []
    yield* Effect.forkScoped(Effect.flatMap(vs.closed, (c) => log("vs closed", c)))
    for (const [name, act] of Object.entries(acts)) {
      yield* Effect.tap(log(name, yield* network.ledger), () => Effect.void),
        yield* log(sq(yield* Effect.exit(vs.trackInfo(["t"]))))
    }
    for (const [name, act] of Object.entries(acts)) {
      for (let ms = 0; ms < 70; ms += 1) {
        const f = yield* Effect.forkScoped(act)
        yield* Effect.sleep(ms)
        yield* Fiber.interrupt(f)
        const x = f.pollUnsafe()
        if (x !== undefined && Exit.isFailure(x) && !Cause.hasInterruptsOnly(x.cause)) {
          bad.push(name + ms + Cause.pretty(x.cause).slice(0, 100))
        }
      }
    }
    yield* Effect.sleep("20 seconds")
    yield* log("bad", bad)
    const s = yield* vs.subscribe(["t"])
    const fr = yield* Stream.runCollect(Stream.take(s.frames, 3))
    yield* log("bad", bad, before, yield* network.ledger, fr.length)
  }),
  { latency: "7 millis", jitter: "3 millis", loss: 0.01, bandwidth: "20 Mbit" }
)
