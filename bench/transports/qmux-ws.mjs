// QMux (draft-ietf-quic-qmux) over one WebSocket with TLS on loopback: @moq/qmux on both ends, over `ws`.
// The package's own wrapper of a plain WebSocket polls bufferedAmount every 10 ms (6 MB/s on Node), so both ends get a
// WebSocketStream-shaped object with real pressure both ways.
import "../lib/measuring.mjs"
import Session, { selectSubprotocol } from "@moq/qmux"
import https from "node:https"
import { WebSocket, WebSocketServer } from "ws"
import { certificate } from "./cert.mjs"
export const name = "ws"
const mark = 256 * 1024, many = 4096n
const alpn = { protocols: ["bench"], versions: { bench: null } }
const config = { maxStreamsBidi: many, maxStreamsUni: many }

function socketStream(ws) {
  ws.binaryType = "nodebuffer"
  let controller, ended
  const readable = new ReadableStream({
    start: (c) => {
      controller = c
    },
    pull: () => ws.resume(),
    cancel: () => ws.close()
  }, new ByteLengthQueuingStrategy({ highWaterMark: 4 * mark }))
  const writable = new WritableStream({
    write: (chunk) => {
      if (ws.bufferedAmount < mark) return void ws.send(chunk)
      return new Promise((done, fail) => ws.send(chunk, (e) => (e ? fail(e) : done())))
    },
    close: () => ws.close(),
    abort: () => ws.close()
  })
  ws.on("message", (d) => {
    controller.enqueue(new Uint8Array(d.buffer, d.byteOffset, d.byteLength))
    if (controller.desiredSize <= 0) ws.pause()
  })
  const closed = new Promise((r) => {
    ended = r
  })
  ws.on("close", (closeCode, reason) => {
    try {
      controller.close()
    } catch {}
    ended({ closeCode, reason: String(reason) })
  })
  ws.on("error", () => {})
  const opened = ws.readyState === WebSocket.OPEN ? Promise.resolve() : new Promise((r, j) => {
    ws.on("open", r)
    ws.on("error", j)
  })
  return {
    url: ws.url ?? "",
    opened: opened.then(() => ({ readable, writable, protocol: ws.protocol, extensions: "" })),
    closed,
    close: () => ws.close()
  }
}

export async function open({ protocol = "" } = {}) {
  const { cert, key } = await certificate()
  const server = https.createServer({ cert, key })
  const wss = new WebSocketServer({
    server,
    perMessageDeflate: false,
    handleProtocols: (offered) => selectSubprotocol([...offered].join(","), alpn) ?? false
  })
  const waiting = [], accepted = []
  wss.on("connection", (ws) => {
    const s = Session.accept(socketStream(ws), { protocol: ws.protocol, config })
    const w = waiting.shift()
    w ? w(s) : accepted.push(s)
  })
  await new Promise((r) => server.listen(0, "127.0.0.1", r))
  const next = () => accepted.length ? accepted.shift() : new Promise((r) => waiting.push(r))
  return {
    name,
    async pair() {
      const ws = new WebSocket(`wss://127.0.0.1:${server.address().port}/bench`, [
        "qmux-02.bench",
        "qmux-01.bench",
        "qmux-00.bench"
      ], { rejectUnauthorized: false, perMessageDeflate: false })
      const client = new Session(socketStream(ws), { config })
      const [s] = await Promise.all([next(), client.ready])
      await s.ready
      client.closed.catch(() => {})
      s.closed.catch(() => {})
      return { client: face(client, protocol), server: face(s, protocol) }
    },
    async close() {
      wss.close()
      server.close()
    }
  }
}
const face = (s, protocol) => ({
  raw: s,
  protocol,
  ready: s.ready,
  closed: s.closed,
  incomingBidirectionalStreams: s.incomingBidirectionalStreams,
  incomingUnidirectionalStreams: s.incomingUnidirectionalStreams,
  createBidirectionalStream: (o) => s.createBidirectionalStream(o),
  createUnidirectionalStream: (o) => s.createUnidirectionalStream(o),
  close: (i) => {
    try {
      s.close(i)
    } catch {}
  }
})
