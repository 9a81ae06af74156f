import { Ref, Schedule } from "effect"
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
const narrow: Simulator.Options = { bandwidth: "1 Mbit", latency: "20 millis", seed: 5 }
const flood = (t: any, size: number, every: number, n: number, frames = 1) =>
  Effect.gen(function*() {
    for (let i = 0; i < n; i++) {
      yield* write(t, Array.from({ length: frames }, () => new Uint8Array(size)))
      yield* Effect.sleep(every)
    }
  })
const collect = (s: any, options: any, path: any) =>
  Effect.gen(function*() {
    const t = yield* s.subscribe(path, options)
    const got: Array<{ seq: number; at: number; bytes: number; err?: string }> = []
    yield* Effect.forkScoped(Stream.runDrain(Stream.mapEffect(t.events, (e: any) =>
      e._tag === "Gap" ?
        Effect.map(Clock.currentTimeMillis, (at) => got.push({ seq: e.from, at, bytes: -e.code })) :
        Effect.gen(function*() {
          const x = yield* Effect.exit(Stream.runFold(e.frames, () => 0, (a: number, f: any) => a + f.length))
          const at = yield* Clock.currentTimeMillis
          got.push({
            seq: e.sequence,
            at,
            bytes: Exit.isSuccess(x) ? x.value as any : NaN,
            ...(Exit.isFailure(x) ? { err: (Cause.squash(x.cause) as any)._tag } : {})
          })
        }), { concurrency: "unbounded" })))
    return { got, t }
  })

scenario(
  "5 three priorities, many small groups",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* pair()
    const ts: any = []
    const cs: any = []
    for (let i = 0; i < 3; i++) {
      const t = yield* Track.make(["t" + i], { priority: i * 10 })
      yield* publisher.publish(t.track)
      ts.push(t)
      cs.push(yield* collect(viewer, {}, ["t" + i]))
    }
    // each 0.6 Mbit: top + most of middle fit
    yield* Effect.forEach(ts, (t) => flood(t, 750, 10, 1000), { concurrency: "unbounded" })
    const end = yield* Clock.currentTimeMillis
    yield* Effect.sleep("3 seconds")
    yield* log(
      end,
      cs.map((c: any) =>
        c.got.filter((g: any) => g.at <= end).reduce((a: number, g: any) => a + (g.bytes > 0 ? g.bytes : 0), 0)
      )
    )
  }),
  narrow
)

scenario(
  "6 big frames, low priority 10 MB frame beside high small",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* pair()
    const lo = yield* Track.make(["lo"], { priority: -5 })
    const hi = yield* Track.make(["hi"], { priority: 5 })
    yield* publisher.publish(lo.track)
    yield* publisher.publish(hi.track)
    const l = yield* collect(viewer, {}, ["lo"])
    const h = yield* collect(viewer, {}, ["hi"])
    yield* write(lo, [new Uint8Array(10_000_000)])
    yield* Effect.sleep("500 millis")
    const lat: number[] = []
    for (let i = 0; i < 100; i++) {
      const at = yield* Clock.currentTimeMillis
      yield* write(hi, [new Uint8Array(500)])
      yield* Effect.sleep("100 millis")
      const x = h.got.find((g) => g.seq === i)
      lat.push(x ? x.at - at : 9999)
    }
    lat.sort((a, b) => a - b)
    yield* Effect.sleep("90 seconds")
    yield* log("p50", lat[50], "p99", lat[98], l.got)
  }),
  narrow
)

scenario(
  "7 asc beside desc of equal priority, different tracks",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* pair()
    const a = yield* Track.make(["a"])
    const b = yield* Track.make(["b"])
    yield* publisher.publish(a.track)
    yield* publisher.publish(b.track)
    const ca = yield* collect(viewer, { order: "asc" }, ["a"])
    const cb = yield* collect(viewer, { order: "desc" }, ["b"])
    yield* Effect.all([flood(a, 10_000, 50, 100), flood(b, 10_000, 50, 100)], { concurrency: "unbounded" })
    const end = yield* Clock.currentTimeMillis
    yield* log(
      end,
      ca.got.filter((g) => g.at <= end).length,
      cb.got.filter((g) => g.at <= end).length,
      "a",
      ca.got.map((g) => g.seq).join(","),
      "b",
      cb.got.map((g) => g.seq).join(",")
    )
    yield* Effect.sleep("30 seconds")
    yield* log("all", ca.got.length, cb.got.length, cb.got.map((g) => g.seq).join(","))
  }),
  narrow
)

scenario(
  "8 same track asc and desc by two viewers on own hosts through relay",
  Effect.gen(function*() {
    const { network, r } = yield* one()
    const p = yield* network.host("p")
    const v1 = yield* network.host("v1", { bandwidth: "500 Kbit" })
    const v2 = yield* network.host("v2", { bandwidth: "500 Kbit" })
    const ps = yield* p.provide(Session.connect(r.url))
    const s1 = yield* v1.provide(Session.connect(r.url))
    const s2 = yield* v2.provide(Session.connect(r.url))
    const t = yield* Track.make(["t"])
    yield* ps.publish(t.track)
    yield* Effect.sleep("1 second")
    const c1 = yield* collect(s1, { order: "asc" }, ["t"])
    const c2 = yield* collect(s2, { order: "desc", expires: 500 }, ["t"])
    yield* flood(t, 5_000, 50, 100)
    yield* Effect.sleep("5 seconds")
    yield* log(
      "asc",
      c1.got.map((g) => g.seq + (g.err ?? (g.bytes < 0 ? "g" : ""))).join(","),
      "desc",
      c2.got.map((g) => g.seq + (g.err ?? (g.bytes < 0 ? "g" : ""))).join(",")
    )
  }),
  { latency: "20 millis", bandwidth: "2 Mbit" }
)

scenario(
  "9 expiry with a viewer that stalls (offline)",
  Effect.gen(function*() {
    const { publisher, viewer, there } = yield* pair()
    const t = yield* Track.make(["t"], { expires: 1000 })
    yield* publisher.publish(t.track)
    const c = yield* collect(viewer, {}, ["t"])
    yield* Effect.forkScoped(flood(t, 20_000, 200, 100))
    yield* Effect.sleep("3 seconds")
    yield* there.set({ offline: true })
    yield* Effect.sleep("8 seconds")
    yield* there.set({ offline: false })
    yield* Effect.sleep("20 seconds")
    yield* log(
      c.got.map((g) => `${g.seq}@${Math.round(g.at)}${g.err ?? ""}${g.bytes < 0 ? "gap" + g.bytes : ""}`).join(" ")
    )
  }),
  narrow
)

scenario(
  "10 audio+video+chat",
  Effect.gen(function*() {
    const { network, r } = yield* one()
    const p = yield* network.host("p", { bandwidth: "1 Mbit" })
    const v = yield* network.host("v")
    const ps = yield* p.provide(Session.connect(r.url))
    const vs = yield* v.provide(Session.connect(r.url))
    const b = yield* ps.broadcast(["me"])
    const audio = yield* b.track("audio", { priority: 100, order: "asc" })
    const video = yield* b.track("video", { order: "desc", expires: 1000 })
    const chat = yield* b.track("chat", { priority: 50, order: "asc" })
    const ca = yield* collect(vs, { wait: "1 second" }, ["me", "audio"])
    const cv = yield* collect(vs, { wait: "1 second" }, ["me", "video"])
    const cc = yield* collect(vs, { wait: "1 second" }, ["me", "chat"])
    const sent: any = { a: [], c: [] }
    yield* Effect.forkScoped(flood(video, 5_000, 1000, 30, 60)) // 2.4 Mbit
    const talk = (t: any, k: string, size: number, every: number, n: number) =>
      Effect.gen(function*() {
        for (let i = 0; i < n; i++) {
          sent[k].push(yield* Clock.currentTimeMillis)
          yield* write(t, [new Uint8Array(size)])
          yield* Effect.sleep(every)
        }
      })
    yield* Effect.all([talk(audio, "a", 160, 20, 1400), talk(chat, "c", 300, 333, 84)], { concurrency: "unbounded" })
    yield* Effect.sleep("3 seconds")
    const p99 = (c: any, s: number[]) => {
      const l = c.got.map((g: any) => g.at - s[g.seq]!).sort((x: number, y: number) => x - y)
      return [l.length, l[Math.floor(l.length * .5)], l[Math.ceil(l.length * .99) - 1]]
    }
    yield* log(
      "audio",
      p99(ca, sent.a),
      "chat",
      p99(cc, sent.c),
      "video",
      cv.got.map((g) => `${g.seq}${g.err ?? (g.bytes < 0 ? "gap" : "")}@${Math.round(g.at)}`).join(" ")
    )
  }),
  { latency: "40 millis" }
)

scenario(
  "11 update each field while groups wait",
  Effect.gen(function*() {
    const { publisher, viewer } = yield* pair()
    for (
      const [name, change] of [["order", { order: "asc" }], ["expires", { expires: 100 }], ["to", { to: 10 }], [
        "from",
        { from: 15 }
      ]] as const
    ) {
      yield* Effect.scoped(Effect.gen(function*() {
        const t = yield* Track.make([name])
        yield* publisher.publish(t.track)
        const c = yield* collect(viewer, { order: "desc" }, [name])
        for (let i = 0; i < 20; i++) yield* write(t, [new Uint8Array(12_500)])
        yield* Effect.sleep("350 millis")
        yield* c.t.update(change)
        yield* Effect.sleep("5 seconds")
        yield* log(name, c.got.map((g) => `${g.seq}${g.err ?? (g.bytes < 0 ? "gap" + g.bytes : "")}`).join(" "))
      }))
    }
    // priority
    const x = yield* Track.make(["x"])
    const y = yield* Track.make(["y"])
    yield* publisher.publish(x.track)
    yield* publisher.publish(y.track)
    const cx = yield* collect(viewer, {}, ["x"])
    const cy = yield* collect(viewer, {}, ["y"])
    for (let i = 0; i < 20; i++) {
      yield* write(x, [new Uint8Array(12_500)])
      yield* write(y, [new Uint8Array(12_500)])
    }
    yield* Effect.sleep("500 millis")
    const t0 = yield* Clock.currentTimeMillis
    yield* cx.t.update({ priority: 9 })
    yield* Effect.sleep("1900 millis")
    yield* log("prio", cx.got.filter((g) => g.at > t0 + 60).length, cy.got.filter((g) => g.at > t0 + 60).length)
  }),
  narrow
)
