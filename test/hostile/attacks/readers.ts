/** Viewers that do not take what they asked for. */
import { type Attack, publish, session, sleep, type Target, watch, within } from "../Attack.ts"
import type { End, Options, Peer } from "../Peer.ts"
import * as Wire from "../wire.ts"

const payload = Wire.frame(new Uint8Array(60_000))

/** Publishes a megabyte every 50 milliseconds, in a group of its own, for as long as it is asked to. */
const fat = (target: Target): Promise<Peer> =>
  publish(target, "fat", async (subscription, _stream, peer) => {
    for (let sequence = 0; peer.isOpen; sequence++) {
      const group = await peer.stream("uni", Wire.group(subscription, sequence))
      for (let i = 0; i < 17; i++) await within(1000, peer.write(group, payload), undefined)
      peer.finish(group)
      await sleep(50)
    }
  })

const reader = (
  { ends, isSlow = true, name, ...options }: {
    readonly name: string
    readonly peer?: Options
    readonly patience: number
    readonly stop: (peer: Peer) => Promise<void>
    readonly ends: ReadonlyArray<End>
    readonly isSlow?: boolean
  }
): Attack => ({
  name,
  isSlow,
  async run(target) {
    const publisher = await fat(target)
    const viewer = await session(target, { isForgetful: true, ...options.peer })
    await watch(viewer, Wire.path("fat"))
    await options.stop(viewer)
    // what lies in the way is read in the end, to see what comes after it
    const end = await within(options.patience, viewer.closed, undefined).then((end) => {
      viewer.socket.resume()
      return end ?? within(5000, viewer.closed, "open")
    })
    publisher.destroy()
    return [end]
  },
  ends
})

export const neverReads = reader({
  name: "a viewer that never reads from its socket",
  patience: 25_000,
  stop: async (viewer) => viewer.socket.pause(),
  ends: ["cut"]
})

export const stopsHalfway = reader({
  name: "a viewer that stops reading halfway",
  patience: 25_000,
  async stop(viewer) {
    while (viewer.received < 3_000_000) await sleep(10)
    viewer.socket.pause()
  },
  ends: ["cut"]
})

export const givesNoWindow = reader({
  name: "a viewer that answers pings, and allows no more than the first 100,000 bytes",
  peer: { window: 100_000 },
  patience: 40_000,
  stop: async () => {},
  ends: ["closed 3"]
})

/** Everything that the relay has to answer, asked for by somebody who does not read the answers. */
export const pingsWithoutReading: Attack = {
  name: "pings of QMux, and of WebSocket, without reading the answers",
  async run(target) {
    const flood = async (ping: (peer: Peer, number: number) => Promise<void>): Promise<End> => {
      const peer = await session(target)
      peer.socket.pause()
      for (let number = 0; number < 2_000_000 && peer.isOpen && !peer.tcp.destroyed; number++) {
        // as long as the relay reads at all
        if (await within(2000, ping(peer, number), "stuck") === "stuck") break
      }
      peer.socket.resume()
      const end = await within(25_000, peer.closed, "open")
      peer.destroy()
      return end
    }
    const question = Wire.hex("f48c67529ef8c7bd")
    return Promise.all([
      flood((peer, number) =>
        new Promise((resolve) =>
          peer.record(
            Wire.concat(...Array.from({ length: 800 }, (_, i) => Wire.concat(question, Wire.varint(800 * number + i)))),
            resolve
          )
        )
      ),
      flood((peer) =>
        new Promise((resolve) => {
          for (let i = 0; i < 99; i++) peer.socket.ping(Buffer.alloc(125), true)
          peer.socket.ping(Buffer.alloc(125), true, () => resolve())
        })
      )
    ])
  },
  ends: ["cut"],
  p99: 500
}
