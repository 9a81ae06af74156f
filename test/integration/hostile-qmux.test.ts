import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { draft03 } from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as SubscribeM from "../../src/message/Info.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as smuggler from "../node/fixtures/smuggler.ts"
import * as byHand from "../session/byHand.ts"

V8.setFlagsFromString("--expose-gc")
const collect = Vm.runInNewContext("gc") as () => void
const memory = () => {
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return (arrayBuffers + heapUsed) / 1e6
}

const live = Layer.mergeAll(
  NodeTransport.layerWith({ transports: ["websocket"] }),
  Relay.layer().pipe(
    Layer.provide(NodeTransport.layerServer({ port: 0, transports: ["websocket"], tls: { generate: ["localhost"] } }))
  )
)

const publisher = Effect.gen(function*() {
  const { urls } = yield* Relay.Relay
  const { connection, smuggler: s } = yield* smuggler.connect(urls[0]!)
  const peer = new byHand.ByHand(connection, draft03)
  const control = yield* peer.open(byHand.hello([draft03.version]))
  yield* control.hear(SessionServer.decode)
  const { stream } = yield* byHand.takeAnnounce(peer)
  yield* byHand.announce(stream, "active", "bad")
  return { peer, s, url: urls[0]! }
})

describe("experiments", () => {
  const watch = (s: smuggler.Smuggler, base: number, secs: number) => Effect.gen(function*() {
    for (let i = 0; i < secs; i++) {
      yield* Effect.sleep("1 second")
      console.log(`t=${i + 1} sent=${s.sent} wire=${(s.wire / 1e6).toFixed(1)}MB mem=+${(memory() - base).toFixed(0)}MB open=${s.isOpen}`)
    }
  })
  it.live.each(["stuck", "stuckbi", "group1", "frames", "path", "mixed", "stuckmixed"])("%s", (name) =>
    Effect.gen(function*() {
      const { peer, s, url } = yield* publisher
      const viewer = yield* Session.connect(url, { insecure: true })
      const watching = yield* Effect.forkScoped(Effect.flatMap(viewer.subscribe(["bad"], { wait: "5 seconds" }), (track) =>
        Stream.runDrain(track.frames)))
      const { message, stream } = yield* byHand.takeSubscribe(peer)
      const header = (seq: number) => Uint8Array.of(0, message.id, seq)
      yield* Effect.sleep("200 millis")
      yield* Effect.forkScoped(Effect.flatMap(peer.connection.closed, (c) => Effect.sync(() => console.log("closed", c.code, c.reason, c.by))))
      const relay = yield* Relay.Relay
      yield* Effect.forkScoped(Stream.runForEach(relay.events, (e) => Effect.sync(() => console.log("closed relay", JSON.stringify(e)))))
      const base = memory()
      const ones = new Uint8Array(256 * 1024).fill(1)
      console.log(name, "base", base)
      if (name === "stuck" || name === "stuckbi") {
        for (let i = 0; i < 40; i++) {
          const id = s.open(name === "stuck" ? "uni" : "bi")
          void (async () => {
            await s.send([id, name === "stuck" ? header(i) : Uint8Array.of(2)])
            await s.stuff(id, ones, 1)
          })()
        }
        yield* watch(s, base, 12)
      } else if (name === "stuckmixed") {
          const junk = s.open("uni")
          const ids = Array.from({ length: 40 }, () => s.open("uni"))
          const big = new Uint8Array(15000)
          void (async () => {
            for (let [i, id] of ids.entries()) await s.send([id, header(i)])
            await s.send([junk, header(61)])
            for (let i = 0; i < 1000000 && s.isOpen; i++) {
              if (s.window(junk) < 15000) console.log("junk", s.window(junk), i)
              while (s.isOpen && s.window(junk) < 15000) await new Promise((r) => setTimeout(r, 100))
              await s.send([ids[i % 40]!, ones.subarray(0, 1)], [junk, big])
            }
          })()
        yield* watch(s, base, 12)
      } else {
        yield* stream.say(SubscribeM.encode, byHand.info(0))
        if (name === "group1") {
          const id = s.open("uni")
          void (async () => {
            await s.send([id, header(0)], [id, Uint8Array.of(0x80, 0xff, 0xff, 0xff)])
            while (s.isOpen) await s.stuff(id, ones, 1)
          })()
        } else if (name === "frames") {
          for (let g = 0; g < 30; g++) {
            const id = s.open("uni")
            void (async () => {
              await s.send([id, header(g)])
              await s.stuff(id, ones, 2)
            })()
          }
        }
        else if (name === "path") {
          for (let g = 0; g < 900; g++) {
            const id = s.open("bi")
            void (async () => {
              await s.send([id, Uint8Array.of(4)])
              await s.send([id, Uint8Array.of(1)])
              await s.send([id, Uint8Array.of(0x43, 0xff)])
              await s.stuff(id, ones.subarray(0, 1000), 1)
            })()
          }
        } else if (name === "mixed") {
          const id = s.open("uni")
          const junk = s.open("uni")
          const big = new Uint8Array(16000)
          big.set([0x7e, 0x7e])
          void (async () => {
            await s.send([id, header(0)], [id, Uint8Array.of(0x80, 0xff, 0xff, 0xff)])
            await s.send([junk, Uint8Array.of(0, message.id, 60)])
            for (let i = 0; i < 1000000 && s.isOpen; i++) {
              while (s.isOpen && s.window(junk) < 16000) await new Promise((r) => setTimeout(r, 1))
              await s.send([id, ones.subarray(0, 1)], [junk, big])
            }
          })()
        }
        yield* watch(s, base, 12)
      }
      yield* Fiber.interrupt(watching)
    }).pipe(Effect.scoped, Effect.provide(live)), 60_000)
})
