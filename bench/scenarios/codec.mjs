// One SUBSCRIBE to bytes and back, messages per second: through the public Schema codec of this library, through what
// `@moq/lite` has inside, and through the least plain code.
import path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { now } from "../lib/measuring.mjs"

const codecs = {
  "effect-moq": ours,
  "effect-moq-stream": ours,
  "moq-lite": lite,
  floor: least
}

export async function codec(bench, { encode = 0 }) {
  const { decode, encode: write, isAsync = false } = await codecs[bench.adapter]()
  const run = encode ? write : decode
  const rate = async (duration) => {
    const start = now(), end = start + duration
    let n = 0
    while (now() < end) {
      if (isAsync) { for (let i = 0; i < 64; i++) await run() }
      else for (let i = 0; i < 256; i++) run()
      n += isAsync ? 64 : 256
    }
    return { value: n / ((now() - start) / 1e3) }
  }
  await rate(bench.ms)
  globalThis.gc()
  return bench.measured(() => rate(bench.ms))
}

async function ours() {
  const { library: { Profile, Subscribe } } = await import("../adapters/library.mjs")
  const Schema = await import("effect/Schema")
  const codec = Subscribe.codec(Profile.draft03)
  const toBytes = Schema.encodeSync(codec), toMessage = Schema.decodeSync(codec)
  const message = {
    _tag: "Subscribe",
    id: 7,
    path: ["demo", "bbb", "live", "video", "1080p"],
    priority: 3,
    order: "desc",
    expires: 500
  }
  const bytes = toBytes(message)
  return { encode: () => toBytes(message), decode: () => toMessage(bytes) }
}

async function lite() {
  // its codecs are not among its exports; they are loaded by file for this measurement alone
  const root = path.dirname(fileURLToPath(import.meta.resolve("@moq/lite")))
  const load = (file) => import(pathToFileURL(path.join(root, file)))
  const { Subscribe } = await load("lite/subscribe.js")
  const { Reader, Writer } = await load("stream.js")
  const version = 0xff0dad03
  let chunks = []
  const writer = new Writer(new WritableStream({ write: (chunk) => void chunks.push(chunk.slice()) }))
  const props = {
    id: 7n,
    broadcast: "demo/bbb/live",
    track: "video/1080p",
    priority: 3,
    ordered: true,
    maxLatency: 500
  }
  const encode = async () => {
    chunks = []
    await new Subscribe(props).encode(writer, version)
  }
  await encode()
  const bytes = new Uint8Array(Buffer.concat(chunks))
  return { encode, decode: () => Subscribe.decode(new Reader(undefined, bytes), version), isAsync: true }
}

// synchronous, into one scratch buffer and one exact copy
function least() {
  const scratch = new Uint8Array(4096), encoder = new TextEncoder(), decoder = new TextDecoder()
  const message = { id: 7, path: ["demo", "bbb", "live", "video", "1080p"], priority: 3, order: 2, expires: 500 }
  const put = (at, value) => {
    if (value < 64) {
      scratch[at] = value
      return at + 1
    }
    scratch[at] = 0x40 | (value >> 8)
    scratch[at + 1] = value
    return at + 2
  }
  const encode = () => {
    let at = put(put(0, message.id), message.path.length)
    for (const part of message.path) {
      const { written } = encoder.encodeInto(part, scratch.subarray(at + 1))
      at = put(at, written) + written
    }
    scratch[at++] = message.priority
    scratch[at++] = message.order
    at = put(put(put(at, message.expires), 0), 0)
    return scratch.slice(0, at)
  }
  const bytes = encode()
  let at = 0
  const get = () => {
    const first = bytes[at++]
    return first < 64 ? first : (first & 63) << 8 | bytes[at++]
  }
  const decode = () => {
    at = 0
    const id = get(), path = []
    for (let left = get(); left > 0; left--) {
      const length = get()
      path.push(decoder.decode(bytes.subarray(at, at += length)))
    }
    return { id, path, priority: bytes[at++], order: bytes[at++], expires: get(), min: get(), max: get() }
  }
  return { encode, decode }
}
