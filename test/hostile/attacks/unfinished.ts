/** What begins and never goes on. */
import * as Net from "node:net"
import * as Tls from "node:tls"
import { type Attack, session, type Target, within } from "../Attack.ts"
import { type End, parameters, Peer, setup } from "../Peer.ts"
import * as Wire from "../wire.ts"

const patience = 15_000

const places = (target: Target) => {
  const { hostname, port } = new URL(target.url)
  const localAddress = target.from === undefined ? {} : { localAddress: target.from }
  return { host: hostname, port: Number(port), ...localAddress }
}

const ended = (socket: Net.Socket): Promise<End> =>
  within(
    patience,
    new Promise<End>((resolve) => {
      socket.on("error", () => {})
      socket.on("close", () => resolve("cut"))
      socket.resume()
    }),
    "open"
  ).finally(() => socket.destroy())

const raw = (bytes: Uint8Array | string) => (target: Target): Promise<End> => {
  const socket = Net.connect(places(target), () => socket.write(bytes))
  return ended(socket)
}

const secure = (bytes: string) => (target: Target): Promise<End> => {
  const socket = Tls.connect({ ...places(target), rejectUnauthorized: false }, () => socket.write(bytes))
  return ended(socket)
}

const upgraded = (...records: ReadonlyArray<Uint8Array>) => async (target: Target): Promise<End> => {
  const peer = await Peer.open(target.url, { from: target.from })
  for (const record of records) peer.record(record)
  const end = await within(patience, peer.closed, "open")
  peer.destroy()
  return end
}

const request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"

/** Each step of a handshake, up to where it stops. */
const steps: ReadonlyArray<readonly [step: string, (target: Target) => Promise<End>]> = [
  ["TCP", raw("")],
  ["TLS", raw(Wire.hex("16 0301 0200 01 0001fc 0303"))],
  ["HTTP, of which nothing comes", secure("")],
  ["HTTP, in the middle of the headers", secure(request)],
  ["QMux", upgraded()],
  ["SETUP, of which nothing comes", upgraded(parameters(2 ** 20))],
  [
    "SETUP, after four bytes",
    upgraded(parameters(2 ** 20), Wire.concat(Wire.hex("0a 00 04"), setup.subarray(0, 4)))
  ]
]

export const handshakes: Attack = {
  name: "ten handshakes that stop at each step",
  async run(target) {
    const all = Array.from({ length: 10 }, () => steps.map(([, step]) => step(target)))
    return Promise.all(all.flat())
  },
  ends: ["cut", "closed 3"]
}

export const halfOpen: Attack = {
  name: "1,000 streams with half a message, of either kind",
  async run(target) {
    const half = async (kind: "bi" | "uni", bytes: Uint8Array, count: number): Promise<ReadonlyArray<End>> => {
      const peer = await session(target)
      const ends: Array<Promise<End>> = []
      for (let i = 0; i < count && peer.isOpen; i++) {
        const id = await within(2000, peer.stream(kind, bytes), undefined)
        if (id === undefined) break
        ends.push(peer.refused(id))
      }
      const all = await Promise.all(ends.map((end) => within(patience, end, "open")))
      peer.destroy()
      return all
    }
    const all = await Promise.all([
      half("bi", Wire.subscribe(0, Wire.path("a")).subarray(0, 4), 1000),
      half("bi", Wire.hex("02"), 1000),
      half("uni", Wire.hex("00"), 1000)
    ])
    return all.flat()
  },
  ends: ["refused 3", "closed 11"],
  p99: 100
}

export const webSocketMessages: Attack = {
  name: "WebSocket messages without an end: more and more of one, and the first byte of another",
  isSlow: true,
  async run(target) {
    const endless = async (): Promise<End> => {
      const peer = await session(target)
      for (let i = 0; i < 100_000 && peer.isOpen; i++) {
        await new Promise<void>((resolve) => peer.socket.send(new Uint8Array(1000), { fin: false }, () => resolve()))
      }
      const end = await within(patience, peer.closed, "open")
      peer.destroy()
      return end
    }
    const begun = async (): Promise<End> => {
      const peer = await session(target, { isDeaf: true })
      peer.socket.send(new Uint8Array(1), { fin: false })
      const end = await within(45_000, peer.closed, "open")
      peer.destroy()
      return end
    }
    // one byte at a time: neither large nor silent
    const trickle = async (): Promise<End> => {
      const peer = await session(target, { isDeaf: true })
      const timer = setInterval(() => peer.socket.send(new Uint8Array(1), { fin: false }), 100)
      const end = await within(45_000, peer.closed, "open")
      clearInterval(timer)
      peer.destroy()
      return end
    }
    return Promise.all([endless(), begun(), trickle()])
  },
  // whoever still sends may not get to read why it was cut
  ends: ["closed 3"],
  also: ["closed (WebSocket 1009)", "cut"]
}
