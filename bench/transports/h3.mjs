// HTTP/3 over the native binding of @moq/web-transport (quinn), with the thinnest W3C face in plain JS. The package of
// the library's own tests is used; where the binding does not load, the driver leaves h3 out.
import { createRequire } from "node:module"
import { certificate } from "./cert.mjs"
export const name = "h3"

const libc = { linux: "-gnu", win32: "-msvc" }[process.platform] ?? ""
const binding = () => createRequire(import.meta.url)(`@moq/web-transport-${process.platform}-${process.arch}${libc}`)

const readable = (recv) =>
  new ReadableStream({
    async pull(c) {
      const bytes = await recv.read(65536)
      if (bytes) c.enqueue(bytes)
      else c.close()
    },
    cancel() {
      recv.stop(0).catch(() => {})
    }
  }, { highWaterMark: 0 })
const writable = (send) =>
  new WritableStream({
    write: (chunk) => send.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)),
    close: () => send.finish(),
    abort: () => send.reset(0)
  })
const duplex = (bidi) => ({ readable: readable(bidi.takeRecv()), writable: writable(bidi.takeSend()) })
const incoming = (accept) =>
  new ReadableStream({
    async pull(c) {
      try {
        c.enqueue(await accept())
      } catch {
        try {
          c.close()
        } catch {}
      }
    }
  })
const face = (session, protocol) => ({
  raw: session,
  protocol,
  ready: Promise.resolve(),
  closed: session.closed(),
  incomingUnidirectionalStreams: incoming(async () => readable(await session.acceptUni())),
  incomingBidirectionalStreams: incoming(async () => duplex(await session.acceptBi())),
  createUnidirectionalStream: async () => writable(await session.openUni()),
  createBidirectionalStream: async () => duplex(await session.openBi()),
  close: (info) => session.close(info?.closeCode ?? 0, info?.reason ?? "")
})

export async function open({ protocol = "" } = {}) {
  const { NapiClient, NapiServer } = binding()
  const { cert, key } = await certificate()
  let server, port
  for (let attempt = 0; server === undefined; attempt++) {
    port = 20000 + Math.floor(Math.random() * 30000)
    try {
      server = NapiServer.bind(`127.0.0.1:${port}`, Buffer.from(cert), Buffer.from(key))
    } catch (error) {
      if (attempt === 20) throw error
    }
  }
  return {
    name,
    async pair() {
      const accepting = server.accept().then((request) => request.ok())
      const client = await NapiClient.disableVerify().connect(`https://localhost:${port}/bench`, null)
      return { client: face(client, protocol), server: face(await accepting, protocol) }
    },
    async close() {
      server.close()
    }
  }
}
