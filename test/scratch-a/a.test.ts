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
const bad: Simulator.Options = {
  latency: "80 millis",
  jitter: "20 millis",
  loss: 0.05,
  reorder: 0.02,
  bandwidth: "1 Mbit",
  seed: 11
}

scenario(
  "1 publishers x viewers over two relays, bad network: all frames or gaps",
  Effect.gen(function*() {
    const { network, r1, r2, relay2 } = yield* chain()
    const results: any = []
    for (let p = 0; p < 3; p++) {
      const h = yield* network.host("pub" + p)
      const s = yield* h.provide(Session.connect(r1.url))
      const b = yield* s.broadcast(["room", "p" + p])
      const t = yield* b.track("t")
      yield* Effect.forkScoped(Effect.gen(function*() {
        for (let i = 0; i < 20; i++) {
          yield* write(t, [0, 1, 2, 3].map((k) => text(`${p}/${i}/${k}`)))
          yield* Effect.sleep("300 millis")
        }
        yield* t.finish
      }))
    }
    const viewers = yield* Effect.forEach([0, 1, 2, 3], (v) =>
      Effect.forkScoped(Effect.gen(function*() {
        yield* Effect.sleep(v * 1700)
        const h = yield* network.host("v" + v)
        const s = yield* h.provide(Session.connect(r2.url))
        return yield* Effect.forEach([0, 1, 2], (p) =>
          Effect.gen(function*() {
            const t = yield* s.subscribe(["room", "p" + p, "t"], { wait: "20 seconds", from: 0 })
            const seen: any = []
            yield* Stream.runForEach(t.events, (e) =>
              e._tag === "Gap" ?
                Effect.sync(() => seen.push(`gap ${e.from}-${e.to} ${e.code}`)) :
                Effect.map(Effect.exit(Stream.runCollect(e.frames)), (x) =>
                  seen.push(
                    Exit.isSuccess(x)
                      ? e.sequence + ":" + x.value.length
                      : e.sequence + "!" + Cause.pretty(x.cause).slice(0, 60)
                  )))
            return seen.join(" ")
          }), { concurrency: "unbounded" })
      })))
    for (const f of viewers) {
      const r = yield* Effect.exit(Fiber.join(f))
      yield* log(Exit.isSuccess(r) ? r.value : Cause.pretty(r.cause))
    }
  }),
  bad
)

scenario(
  "2 fetch every frame of finished, growing, evicted groups over two relays",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* chain()
    const t = yield* Track.make(["t"], { cache: { maxAge: "5 seconds" } })
    yield* publisher.publish(t.track)
    yield* write(t, ["a", "b", "c"].map(text), 0)
    yield* write(t, ["d", "e", "f"].map(text), 1)
    const g2 = yield* t.appendGroup
    yield* g2.writeFrame(text("g"))
    yield* Effect.sleep("1 second")
    const out: any = {}
    for (let seq = 0; seq < 5; seq++) {
      for (let f = 0; f < 5; f++) {
        const r = yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
          const g = yield* viewer.fetch(["t"], seq, { frame: f })
          const k = yield* Effect.timeoutOption(
            Stream.runCollect(seq === 2 ? Stream.take(g.frames, 2) : g.frames),
            "1 second"
          )
          return { first: g.first, frames: Option.isSome(k) ? k.value.map(str).join("") : "timeout" }
        })))
        out[`${seq}.${f}`] = Exit.isSuccess(r)
          ? `${r.value.first}:${r.value.frames}`
          : (Cause.squash(r.cause) as any)._tag + ":" + (Cause.squash(r.cause) as any).detail
      }
    }
    yield* log(out)
    // growing
    const fib = yield* Effect.forkScoped(
      Effect.scoped(Effect.flatMap(viewer.fetch(["t"], 2, { frame: 1 }), (g) => Stream.runCollect(g.frames)))
    )
    yield* Effect.sleep("1 second")
    yield* g2.writeFrame(text("h"))
    yield* Effect.sleep("1 second")
    yield* g2.writeFrame(text("i"))
    yield* g2.finish
    yield* log("growing from 1", yield* Effect.exit(Fiber.join(fib)))
    yield* Effect.sleep("10 seconds")
    yield* write(t, [text("z")])
    yield* Effect.sleep("6 seconds")
    yield* write(t, [text("z")])
    const ev = yield* Effect.exit(Effect.scoped(viewer.fetch(["t"], 0)))
    yield* log("evicted", Exit.isFailure(ev) ? Cause.squash(ev.cause) : "ok?")
    const no = yield* Effect.exit(Effect.scoped(viewer.fetch(["nope"], 0)))
    yield* log("nope", Exit.isFailure(no) ? Cause.squash(no.cause) : "ok?")
    for (const [s, f] of [[-1, 0], [1.5, 0], [0, -1], [NaN, 0], [2 ** 53, 0], [0, 2 ** 60]] as const) {
      const x = yield* Effect.exit(Effect.scoped(viewer.fetch(["t"], s, { frame: f })))
      yield* log("odd", s, f, Exit.isFailure(x) ? Cause.squash(x.cause) : "ok?")
    }
  }),
  { latency: "40 millis" }
)

scenario(
  "3 ranges: past, future, odd",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* chain()
    const t = yield* Track.make(["t"])
    yield* publisher.publish(t.track)
    for (let i = 0; i < 5; i++) yield* write(t, [text("" + i)])
    yield* Effect.sleep("1 second")
    const show = (name: string, options: any, live = false) =>
      Effect.gen(function*() {
        const r = yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
          const s = yield* viewer.subscribe(["t"], options)
          const c = yield* Effect.timeoutOption(
            Stream.runCollect(
              s.events.pipe(Stream.map((e) => e._tag === "Gap" ? `gap${e.from}-${e.to}(${e.code})` : "" + e.sequence))
            ),
            "3 seconds"
          )
          return Option.isSome(c) ? c.value : "live"
        })))
        yield* log(name, Exit.isSuccess(r) ? r.value : Cause.squash(r.cause))
      })
    yield* show("0..2", { from: 0, to: 2 })
    yield* show("3..9", { from: 3, to: 9 })
    yield* show("to 2 latest", { to: 2 })
    yield* show("to 4 latest", { to: 4 })
    yield* show("3..1", { from: 3, to: 1 })
    yield* show("-1", { from: -1 })
    yield* show("1.5", { from: 1.5 })
    yield* show("NaN", { from: NaN })
    yield* show("prio 1000", { priority: 1000 })
    yield* show("prio 0.5", { priority: 0.5 })
    yield* show("expires -1", { expires: -1 })
    yield* show("expires NaN", { expires: NaN })
    yield* show("expires Infinity", { expires: Infinity })
    yield* show("2**53", { from: 2 ** 53 })
    yield* show("to Infinity", { from: 0, to: Infinity })
    const f = yield* Effect.forkScoped(Effect.scoped(Effect.gen(function*() {
      const s = yield* viewer.subscribe(["t"], { from: 7, to: 8 })
      return yield* Stream.runCollect(
        s.events.pipe(Stream.map((e) => e._tag === "Gap" ? `gap${e.from}-${e.to}(${e.code})` : "" + e.sequence))
      )
    })))
    yield* Effect.sleep("1 second")
    for (let i = 0; i < 5; i++) yield* write(t, [text("" + i)])
    yield* log("future", yield* Effect.exit(Fiber.join(f)))
    yield* t.finish
    yield* show("after finish 0..", { from: 0 })
    yield* show("after finish future", { from: 100 })
    yield* show("after finish latest", {})
  }),
  { latency: "40 millis" }
)

scenario(
  "4 odd limits: update",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* pair()
    const t = yield* Track.make(["t"])
    yield* publisher.publish(t.track)
    yield* write(t, [text("0")])
    yield* write(t, [text("1")])
    const s = yield* viewer.subscribe(["t"], { from: 0, to: 10 })
    for (
      const c of [
        { from: 1 },
        { from: 0 },
        { to: 11 },
        { to: 3 },
        { priority: 500 },
        { expires: -1 },
        { from: NaN },
        { to: NaN },
        { from: 2.5 },
        { to: 0.5 },
        { order: "bogus" as any },
        { from: 3, to: 2 },
        {}
      ]
    ) {
      const r = yield* Effect.exit(s.update(c as any))
      yield* log(c, Exit.isSuccess(r) ? "ok" : Cause.squash(r.cause), s.request)
    }
    yield* log(yield* Effect.timeoutOption(Stream.runCollect(s.events), "3 seconds"))
  }),
  { latency: "40 millis" }
)
