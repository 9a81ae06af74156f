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
  "18b",
  Effect.gen(function*() {
    const { network, r, relay } = yield* one()
    yield* Effect.forkScoped(
      Stream.runForEach(
        relay.events,
        (e: any) => (e._tag === "SessionClosed" && e.code !== 0) ? Effect.void : Effect.void
      )
    )
    const p = yield* network.host("p")
    const ps = yield* p.provide(Session.connect(r.url))
    yield* Effect.forkScoped(Effect.flatMap(ps.closed, (c) => log("ps closed", c)))
    const t = yield* Track.make(["t"])
    yield* ps.publish(t.track)
    yield* Effect.forkScoped(Effect.gen(function*() {
      for (let i = 0;; i++) {
        yield* write(t, [text("" + i), new Uint8Array(3000)])
        yield* Effect.sleep("20 millis")
      }
    }))
    const v = yield* network.host("v")
    const vs = yield* v.provide(Session.connect(r.url))
    yield* Effect.forkScoped(Effect.flatMap(vs.closed, (c) => log("vs closed", c)))
    yield* Effect.sleep("1 second")
    const acts: Record<string, Effect.Effect<any, any, any>> = {
      subscribe: Effect.scoped(Effect.flatMap(vs.subscribe(["t"]), (s) => Stream.runDrain(s.frames))),
      info: Effect.forever(vs.trackInfo(["t"])),
      fetch: Effect.forever(
        Effect.scoped(Effect.flatMap(vs.fetch(["t"], t.track.latest!), (g) => Stream.runDrain(g.frames)))
      ),
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
    const out: any = {}
    for (const [name, act] of Object.entries(acts)) {
      for (let ms = 0; ms < 70; ms += 1) {
        const f = yield* Effect.forkScoped(Effect.exit(act))
        yield* Effect.sleep(ms)
        yield* Fiber.interrupt(f)
        const x = f.pollUnsafe()
        if (x !== undefined && Exit.isSuccess(x)) {
          out[name + sq(x.value)] = ms
        }
      }
      yield* log(name, "paths", relay.origin.paths)
    }
    yield* log(out)
    yield* Effect.sleep("20 seconds")
    yield* log(relay.origin.paths, sq(yield* Effect.exit(vs.subscribe(["t"]))))
    // all is quiet
  }),
  { latency: "7 millis", jitter: "3 millis", loss: 0.01, bandwidth: "20 Mbit" }
)

for (const [mode, order] of [["suspend", "asc"], ["suspend", "default"], ["fail", "asc"], ["drop", "asc"]] as const) {
  scenario(
    "12b " + mode + order,
    Effect.gen(function*() {
      const { publisher, viewer } = yield* pair()
      const t = yield* Track.make(["t"], { order })
      yield* publisher.publish(t.track)
      const gaps: any = []
      const f = yield* Effect.forkScoped(Effect.exit(Effect.scoped(Effect.gen(function*() {
        const x = yield* viewer.subscribe(["t"], { from: 0 })
        return yield* Stream.runFold(
          x.events.pipe(Stream.flatMap((e) =>
            e._tag === "Gap"
              ? (gaps.push(`${e.from}-${e.to}`), Stream.empty)
              : Stream.catchCause(
                e.frames,
                (c) => (gaps.push(e.sequence + sq(Exit.failCause(c)).slice(0, 15)), Stream.empty)
              )
          )),
          () => 0,
          (n: number) => n + 1
        )
      }))))
      const t0 = yield* Clock.currentTimeMillis
      const r = yield* Effect.exit(
        Stream.range(1, 20000).pipe(
          Stream.map(() => new Uint8Array(1_000)),
          Stream.rechunk(10),
          Stream.run(t.sink({ group: { frames: 10 }, overflow: mode, waitForReader: true }))
        )
      )
      const took = (yield* Clock.currentTimeMillis) - t0
      yield* t.finish
      yield* log(
        mode,
        order,
        sq(r),
        "took",
        took,
        "viewer frames",
        sq(yield* Fiber.join(f)),
        gaps.slice(0, 10),
        gaps.length
      )
    }),
    { bandwidth: "10 Mbit", latency: "20 millis" }
  )
}

scenario(
  "15b tracks made on a broadcast whose session is gone",
  Effect.gen(function*() {
    const { publisher, there } = yield* pair()
    const b = yield* publisher.broadcast(["b"])
    yield* there.kill({ noticed: true })
    yield* Effect.sleep("1 second")
    const u = yield* b.track("u")
    yield* log("append", sq(yield* Effect.exit(Effect.asVoid(u.appendGroup))))
    const c = yield* publisher.broadcast(["c"])
    yield* Effect.sleep("1 second")
    const w = yield* c.track("w")
    yield* log("append", sq(yield* Effect.exit(Effect.asVoid(w.appendGroup))))
  }),
  { latency: "20 millis" }
)
