import { it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import * as Simulator from "../../src/testing/Simulator.ts"
import { meet, publish, watch, write, narrow, second } from "./order.test.ts"
it.effect("x", () => {
  const packets: Array<any> = []
  return Simulator.run(Effect.gen(function*() {
    const { publisher, viewer } = yield* meet()
    const [one, two] = [yield* publish(publisher, "one"), yield* publish(publisher, "two")]
    const seen = [yield* watch(viewer, "one"), yield* watch(viewer, "two")]
    const flood = (track: any, bytes: number) => Effect.gen(function*() {
      for (let sent = 0; sent < 10 * second; sent += bytes) {
        yield* write(track, bytes)
        yield* Effect.sleep(bytes * 1000 / second / 1.2)
      }
    })
    yield* Effect.all([flood(one, 4000), flood(two, 200000)], { concurrency: 2 })
    console.log(seen[0].gaps.slice(0, 5), seen[1].gaps.slice(0, 5), seen[0].groups.length, seen[1].groups.length)
    const by = new Map<number, Array<any>>()
    for (const p of packets) if (p.from === "publisher") by.set(p.stream, [...by.get(p.stream) ?? [], p])
    for (const [n, ps] of by) {
      const total = ps.reduce((s, p) => s + p.bytes, 0)
      if (total > 8000) {
        const gaps = ps.slice(1).map((p, i) => [ps[i].sent, p.sent - ps[i].sent]).filter(([, d]) => d > 40)
        console.log("STREAM", n, total, ps[0].sent, ps.at(-1).sent, JSON.stringify(gaps.slice(0, 12)))
      }
    }
  }), { ...narrow, onPacket: (p) => packets.push(p) })
})
