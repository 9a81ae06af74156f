// The floor: the least code that gives the same service (subscribe on a bidi stream; one uni stream per group and
// subscriber; length-prefixed frames), with no library, no Effect, no announcements, no priorities. It frames synchronously,
// encodes a frame once for all subscribers, and joins what has piled up while a write was under way into one write
// of at most 64 KiB. It marks what is physically possible in plain JS on a transport; it is no implementation of MoQ.
export const name = "floor"
export const version = "-"
export const protocol = ""
const MAX = 65536, enc = new TextEncoder(), dec = new TextDecoder()

const vsize = (v) => (v < 64 ? 1 : v < 16384 ? 2 : v < 2 ** 30 ? 4 : 8)
function put(b, o, v) {
  if (v < 64) {
    b[o] = v
    return o + 1
  }
  if (v < 16384) {
    b[o] = 0x40 | (v >> 8)
    b[o + 1] = v
    return o + 2
  }
  if (v < 2 ** 30) {
    b[o] = 0x80 | (v >>> 24)
    b[o + 1] = v >>> 16
    b[o + 2] = v >>> 8
    b[o + 3] = v
    return o + 4
  }
  new DataView(b.buffer, b.byteOffset).setBigUint64(o, BigInt(v) | 0xc000000000000000n)
  return o + 8
}
function encode(...fields) {
  const parts = fields.map((f) => (typeof f === "string" ? enc.encode(f) : f))
  let n = 0
  for (const p of parts) n += typeof p === "number" ? vsize(p) : vsize(p.length) + p.length
  const b = new Uint8Array(n)
  let o = 0
  for (const p of parts) {
    if (typeof p === "number") o = put(b, o, p)
    else {
      o = put(b, o, p.length)
      b.set(p, o)
      o += p.length
    }
  }
  return b
}
// Incremental reader over chunks: `need` bytes at a time, copying only what straddles two chunks.
class Bytes {
  constructor(stream) {
    this.r = stream.getReader()
    this.b = new Uint8Array(0)
    this.o = 0
  }
  async fill() {
    const { value, done } = await this.r.read()
    if (done) return false
    const left = this.b.length - this.o
    if (left === 0) this.b = value
    else {
      const t = new Uint8Array(left + value.length)
      t.set(this.b.subarray(this.o))
      t.set(value, left)
      this.b = t
    }
    this.o = 0
    return true
  }
  tryVarint() {
    const left = this.b.length - this.o
    if (left === 0) return -1
    const f = this.b[this.o], n = 1 << (f >> 6)
    if (left < n) return -1
    let v = f & 0x3f
    for (let i = 1; i < n; i++) v = v * 256 + this.b[this.o + i]
    this.o += n
    return v
  }
  async varint() {
    for (;;) {
      const v = this.tryVarint()
      if (v >= 0) return v
      if (!(await this.fill())) throw new Error("eof")
    }
  }
  tryBytes(n) {
    if (this.b.length - this.o < n) return undefined
    const s = this.b.subarray(this.o, this.o + n)
    this.o += n
    return s
  }
  async bytes(n) {
    // Collects the parts of a large item instead of growing the buffer chunk by chunk.
    const s = this.tryBytes(n)
    if (s) return s
    const out = new Uint8Array(n)
    let at = this.b.length - this.o
    out.set(this.b.subarray(this.o))
    this.b = new Uint8Array(0)
    this.o = 0
    while (at < n) {
      const { value, done } = await this.r.read()
      if (done) throw new Error("eof")
      const k = Math.min(n - at, value.length)
      out.set(k === value.length ? value : value.subarray(0, k), at)
      at += k
      if (k < value.length) {
        this.b = value
        this.o = k
      }
    }
    return out
  }
}
// One group on one subscriber's uni stream.
class Out {
  constructor(session, id, seq) {
    this.q = [encode(0, id, seq)]
    this.closing = false
    this.busy = true
    this.open(session)
  }
  async open(session) {
    try {
      this.w = (await session.createUnidirectionalStream()).getWriter()
      this.w.closed.catch(() => {})
      await this.drain()
    } catch {
      this.dead = true
    }
  }
  push(part) {
    if (this.dead) return
    this.q.push(part)
    if (!this.busy) {
      this.busy = true
      queueMicrotask(() =>
        this.drain().catch(() => {
          this.dead = true
        })
      )
    }
  }
  close() {
    this.closing = true
    if (!this.busy) {
      this.busy = true
      this.drain().catch(() => {})
    }
  }
  async drain() {
    this.busy = true
    while (this.q.length) {
      const q = this.q
      this.q = []
      let i = 0
      while (i < q.length) {
        let n = q[i].length, j = i + 1
        while (j < q.length && n + q[j].length <= MAX) n += q[j++].length
        let b = q[i]
        if (j > i + 1) {
          b = new Uint8Array(n)
          let o = 0
          for (; i < j; i++) {
            b.set(q[i], o)
            o += q[i].length
          }
        } else i = j
        await this.w.ready
        this.w.write(b).catch(() => {})
        if (this.w.desiredSize <= 0) await this.w.ready
      }
    }
    if (this.closing) await this.w.close()
    else this.busy = false
    if (this.q.length && !this.busy) await this.drain()
  }
}

export async function publisher() {
  const tracks = new Map(), initial = new Map(), sessions = []
  let seq = 0
  const of = (t) => tracks.get(t) ?? tracks.set(t, new Set()).get(t)
  const open = (subs) => {
    const s = seq++
    return subs.map((u) => new Out(u.session, u.id, s))
  }
  const writer = (outs) => ({
    write(frame) {
      const n = vsize(frame.length), b = new Uint8Array(n + frame.length)
      put(b, 0, frame.length)
      b.set(frame, n)
      for (const o of outs) o.push(b)
    },
    close() {
      for (const o of outs) o.close()
    }
  })
  return {
    async attach(session) {
      sessions.push(session)
      ;(async () => {
        const r = session.incomingBidirectionalStreams.getReader()
        for (;;) {
          const { value, done } = await r.read()
          if (done) return
          ;(async () => {
            const b = new Bytes(value.readable), id = await b.varint()
            const path = dec.decode(await b.bytes(await b.varint())),
              track = dec.decode(await b.bytes(await b.varint()))
            const w = value.writable.getWriter()
            w.closed.catch(() => {})
            w.write(encode(0)).catch(() => {})
            const sub = { session, id, path }, set = of(track)
            set.add(sub)
            const first = initial.get(track) ?? initial.get("*")
            if (first) {
              const g = writer(open([sub]))
              g.write(first)
              g.close()
            }
            try {
              while (await b.fill());
            } catch {}
            set.delete(sub)
            w.close().catch(() => {})
          })().catch(() => {})
        }
      })().catch(() => {})
    },
    subscribers: (t) => of(t).size,
    setInitial(t, f) {
      initial.set(t, f)
    },
    group: (t) => writer(open([...of(t)])),
    async close() {
      for (const s of sessions) s.close()
    }
  }
}

export async function subscriber(session) {
  const subs = new Map()
  let next = 0
  ;(async () => {
    const r = session.incomingUnidirectionalStreams.getReader()
    for (;;) {
      const { value, done } = await r.read()
      if (done) return
      ;(async () => {
        const b = new Bytes(value)
        await b.varint()
        const on = subs.get(await b.varint()), seq = await b.varint()
        for (;;) {
          let n = b.tryVarint()
          while (n < 0) {
            if (!(await b.fill())) return
            n = b.tryVarint()
          }
          on?.(b.tryBytes(n) ?? (await b.bytes(n)), seq)
        }
      })().catch(() => {})
    }
  })().catch(() => {})
  return {
    async subscribe({ broadcast, track, onFrame }) {
      const id = next++
      subs.set(id, onFrame)
      const { readable, writable } = await session.createBidirectionalStream()
      const w = writable.getWriter()
      w.closed.catch(() => {})
      w.write(encode(id, broadcast, track)).catch(() => {})
      const r = readable.getReader()
      r.closed.catch(() => {})
      r.read().catch(() => {})
      return {
        close() {
          subs.delete(id)
          w.close().catch(() => {})
          r.cancel().catch(() => {})
        }
      }
    },
    async close() {
      session.close()
    }
  }
}
