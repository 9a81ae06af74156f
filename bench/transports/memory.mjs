// In-memory W3C-WebTransport-like pair. One TransformStream per direction per stream; each chunk is
// copied once, as a kernel boundary would (and because senders may reuse their scratch buffer).
export const name = "memory"
const HWM = { highWaterMark: 16 }
const pipe = () => new TransformStream({ transform: (c, ctl) => ctl.enqueue(new Uint8Array(c)) }, HWM, HWM)

class Side {
  constructor(protocol) {
    this.protocol = protocol
    this.ready = Promise.resolve()
    this.closed = new Promise((r) => {
      this.resolveClosed = r
    })
    this.incomingBidirectionalStreams = new ReadableStream({
      start: (c) => {
        this.bidi = c
      }
    })
    this.incomingUnidirectionalStreams = new ReadableStream({
      start: (c) => {
        this.uni = c
      }
    })
  }
  async createUnidirectionalStream() {
    const p = pipe()
    this.peer.uni.enqueue(p.readable)
    return p.writable
  }
  async createBidirectionalStream() {
    const a = pipe(), b = pipe()
    this.peer.bidi.enqueue({ readable: a.readable, writable: b.writable })
    return { readable: b.readable, writable: a.writable }
  }
  close(info = { closeCode: 0, reason: "" }) {
    for (const s of [this, this.peer]) {
      if (s.done) continue
      s.done = true
      try {
        s.bidi.close()
      } catch {}
      try {
        s.uni.close()
      } catch {}
      s.resolveClosed(info)
    }
  }
}

/** open(): a host on which any number of connected pairs can be made. */
export async function open({ protocol = "" } = {}) {
  return {
    name,
    async pair() {
      const client = new Side(protocol), server = new Side(protocol)
      client.peer = server
      server.peer = client
      return { client, server }
    },
    async close() {}
  }
}
