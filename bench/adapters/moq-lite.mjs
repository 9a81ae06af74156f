// The peer: @moq/lite 0.2.2 (npm), used through its public API only.
import "../lib/measuring.mjs"
import * as Moq from "@moq/lite"
export const name = "moq-lite"
export const version = "0.2.2"
// "moq-lite-03" skips SETUP and PROBE-RTT; BENCH_MOQ_ALPN can choose another ("" = SETUP negotiation, moq-lite-04).
export const protocol = process.env.BENCH_MOQ_ALPN ?? "moq-lite-03"
const url = new URL("https://localhost/bench")

export async function publisher({ broadcast }) {
  const source = new Moq.Broadcast(), tracks = new Map(), initial = new Map(), connections = []
  const of = (track) => tracks.get(track) ?? tracks.set(track, new Set()).get(track)
  ;(async () => {
    for (;;) {
      const req = await source.requested()
      if (!req) return
      const t = req.track, set = of(t.name)
      set.add(t)
      t.closed.finally(() => set.delete(t))
      const first = initial.get(t.name) ?? initial.get("*")
      if (first) t.writeFrame(first)
    }
  })()
  return {
    async attach(transport) {
      const c = await Moq.Connection.accept(transport, url)
      connections.push(c)
      c.publish(Moq.Path.from(broadcast), source)
    },
    subscribers: (track) => of(track).size,
    setInitial(track, frame) {
      initial.set(track, frame)
    },
    group(track) {
      // One Track per subscription: the library leaves fan-out to the application.
      const gs = [...of(track)].map((t) => t.appendGroup())
      return {
        write(frame) {
          for (const g of gs) g.writeFrame(frame)
        },
        close() {
          for (const g of gs) g.close()
        }
      }
    },
    async close() {
      source.close()
      for (const c of connections) c.close()
    }
  }
}

export async function subscriber(transport) {
  const connection = await Moq.Connection.connect(url, { transport: transport })
  return {
    async subscribe({ broadcast, track, onFrame }) {
      const b = connection.consume(Moq.Path.from(broadcast))
      const t = b.subscribe(track, 0)
      ;(async () => {
        try {
          for (;;) {
            const g = await t.recvGroup()
            if (!g) return
            ;(async () => {
              try {
                for (;;) {
                  const f = await g.readFrame()
                  if (!f) return
                  onFrame(f, g.sequence)
                }
              } catch {}
            })()
          }
        } catch {}
      })()
      return {
        close() {
          t.close()
          b.close()
        }
      }
    },
    async close() {
      connection.close()
    }
  }
}
