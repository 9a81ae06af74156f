/** More of what is allowed than anybody needs. */
import { type Attack, publish, session, sleep, type Target, watch, within } from "../Attack.ts"
import { type End, Peer } from "../Peer.ts"
import * as Wire from "../wire.ts"

/** Opens 10,000 streams for nobody as fast as the relay lets it, and resets each. */
export const strayStreams: Attack = {
  name: "10,000 streams that belong to nothing, opened and reset",
  async run(target) {
    const flood = async (header: Uint8Array, reset: boolean): Promise<End> => {
      const peer = await session(target)
      for (let i = 0; i < 10_000 && peer.isOpen; i++) {
        const id = await peer.stream("uni", header)
        if (reset) peer.reset(id, 0)
        else peer.finish(id)
        if (i % 100 === 99) await new Promise((resolve) => setImmediate(resolve))
      }
      const end = await within(10_000, peer.closed, "open")
      peer.destroy()
      return end
    }
    return Promise.all([
      flood(Wire.group(7, 0), true),
      flood(Wire.group(7, 0), false),
      flood(Wire.varint(0), true)
    ])
  },
  ends: ["closed 11"],
  p99: 200
}

/** Announces 30,000 tracks, and another one 30,000 times, on the stream that the relay has asked on. */
export const announces: Attack = {
  name: "an announce flood",
  async run(target) {
    const flood = async (announcement: (i: number) => Uint8Array): Promise<End> => {
      let ask!: (id: number) => void
      const asked = new Promise<number>((resolve) => ask = resolve)
      const peer = await session(target, { onStream: (id, bytes) => void (bytes[0] === 1 && ask(id)) })
      const stream = await asked
      const all = Wire.concat(...Array.from({ length: 30_000 }, (_, i) => announcement(i)))
      void peer.write(stream, all)
      const end = await within(10_000, peer.refused(stream), "open")
      peer.destroy()
      return end
    }
    return Promise.all([
      flood((i) => Wire.announce("active", Wire.path("flood", `${i}`))),
      flood((i) => Wire.announce(i % 2 === 0 ? "active" : "ended", Wire.path("again")))
    ])
  },
  ends: ["refused 11"],
  p99: 200
}

const asking = (
  name: string,
  rest: Pick<Attack, "ends" | "also" | "p99">,
  requests: (target: Target) => (i: number) => Uint8Array
): Attack => ({
  name,
  async run(target) {
    const peer = await session(target)
    const request = requests(target)
    const refused: Array<Promise<End>> = []
    for (let i = 0; i < 5000 && peer.isOpen; i++) {
      const id = await within(2000, peer.stream("bi", request(i)), undefined)
      // the relay allows no more than are open, and ends none of them
      if (id === undefined) break
      refused.push(peer.refused(id))
    }
    const ended = await Promise.all(refused.map((end) => within(10_000, end, "served")))
    peer.destroy()
    return ended
  },
  ...rest
})

export const subscribes: Attack = asking(
  "5,000 subscriptions to a track that there is, with 16 allowed",
  { ends: ["served", "refused 11"], also: ["closed 11"], p99: 200 },
  (target) => {
    const path = Wire.path(...target.track)
    return (i) => Wire.subscribe(i, path)
  }
)

export const missing: Attack = asking(
  "5,000 subscriptions to tracks that nobody has",
  { ends: ["refused 13"], also: ["refused 11", "closed 11"], p99: 100 },
  () => (i) => Wire.subscribe(i, Wire.path("nobody", `has ${i}`))
)

export const fetches: Attack = asking(
  "5,000 fetches of groups that nobody has",
  { ends: ["refused 13"], also: ["refused 11", "closed 11", "served"], p99: 500 },
  (target) => (i) => Wire.fetch(Wire.path(...target.track), 1_000_000 + i)
)

/** Many frames of one byte, each on its own in a record of QMux, for a viewer that takes them. */
export const oneByteFrames: Attack = {
  name: "200,000 frames of one byte, each in a frame of QMux, to a viewer of its own",
  async run(target) {
    const frames = Wire.hex("01 61").length * 50_000
    let written = 0
    const publisher = await publish(target, "bytes", async (subscription, _stream, peer) => {
      for (let sequence = 0; sequence < 4; sequence++) {
        const group = await peer.stream("uni", Wire.group(subscription, sequence))
        const bytes = new Uint8Array(frames).fill(1)
        await peer.write(group, bytes, 2)
        written += frames
        peer.finish(group)
      }
    })
    const viewer = await session(target, { isForgetful: true })
    await watch(viewer, Wire.path("bytes"))
    const started = Date.now()
    while (viewer.received < 4 * frames && viewer.isOpen && publisher.isOpen && Date.now() - started < 20_000) {
      await sleep(20)
    }
    const end = written === 4 * frames && viewer.received >= 4 * frames
      ? "served"
      : `${viewer.received} of ${4 * frames}`
    viewer.destroy()
    publisher.destroy()
    return [end]
  },
  ends: ["served"],
  p99: 1500
}

/** Sessions opened and closed by sixteen at a time, for three seconds. */
export const churn: Attack = {
  name: "connections opened and closed as fast as they can be, for 3 seconds",
  async run(target) {
    const ends: Array<End> = []
    const until = Date.now() + 3000
    const one = async (): Promise<End> => {
      let peer: Peer | undefined
      try {
        peer = await Peer.session(target.url, { from: target.from, isImpatient: true })
        return "served"
      } catch (error) {
        return (error as Error).message
      } finally {
        peer?.destroy()
      }
    }
    const worker = async () => {
      while (Date.now() < until) ends.push(await one())
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    return ends
  },
  ends: ["served"],
  also: ["refused 429", "refused 503", "cut"],
  p99: 200
}
