import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import { PassThrough } from "node:stream"
import { attach, Reader } from "../../src/node/WebSocketReader.ts"

/** A frame as RFC 6455 has it. */
const frame = (first: number, payload: Uint8Array, mask?: ReadonlyArray<number>): Buffer => {
  const bit = mask === undefined ? 0 : 0x80
  const { length } = payload
  const header = length < 126
    ? [bit | length]
    : length < 65_536
    ? [bit | 126, length >> 8, length & 0xff]
    : [bit | 127, 0, 0, 0, 0, length >>> 24, length >> 16 & 0xff, length >> 8 & 0xff, length & 0xff]
  const masked = mask === undefined ? payload : payload.map((byte, i) => byte ^ mask[i % 4]!)
  return Buffer.from([first, ...header, ...mask ?? [], ...masked])
}

const numbered = (length: number, from = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => from + 7 * i)

const run = (isMasked: boolean, chunks: ReadonlyArray<Uint8Array>) => {
  const messages: Array<ReadonlyArray<number>> = []
  const passed: Array<Buffer> = []
  const reader = new Reader({
    isMasked,
    onMessage: (message) => messages.push([...message]),
    pass: (bytes) => passed.push(Buffer.from(bytes))
  })
  for (const chunk of chunks) reader.read(Buffer.from(chunk))
  return { messages, passed: Buffer.concat(passed) }
}

const cut = (bytes: Buffer, size: number): ReadonlyArray<Uint8Array> =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))

const mask = [0x11, 0xf2, 0x83, 0x44]

describe("WebSocketReader", () => {
  it.each([["masked", mask], ["not masked", undefined]])("reads messages of any length, in any cut: %s", (_, mask) => {
    const lengths = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 125, 126, 127, 1203, 16_382, 65_535]
    const bytes = Buffer.concat(lengths.map((length) => frame(0x82, numbered(length, length), mask)))
    for (const size of [1, 2, 3, 5, 7, 1000, 16_384, bytes.length]) {
      const { messages, passed } = run(mask !== undefined, cut(bytes, size))
      assert.deepStrictEqual(messages, lengths.map((length) => Array.from(numbered(length, length))))
      assert.lengthOf(passed, 0)
    }
  })

  it("takes the mask off wherever a message lies in memory", () => {
    for (let at = 0; at < 8; at++) {
      for (const length of [1, 2, 3, 6, 30]) {
        const memory = Buffer.alloc(100)
        const bytes = frame(0x82, numbered(length), mask)
        memory.set(bytes, at)
        const messages: Array<ReadonlyArray<number>> = []
        new Reader({ isMasked: true, onMessage: (message) => messages.push([...message]), pass: () => {} })
          .read(memory.subarray(at, at + bytes.length))
        assert.deepStrictEqual(messages, [[...numbered(length)]])
      }
    }
  })

  it("leaves all else to others, byte for byte, in any cut", () => {
    const ours = frame(0x82, numbered(300), mask)
    const others = [
      frame(0x89, numbered(20), mask),
      frame(0x81, numbered(200), mask),
      // longer than a message may be
      frame(0x82, numbered(65_536), mask),
      // not masked
      frame(0x82, numbered(10)),
      // with a bit that means nothing here
      frame(0xc2, numbered(10), mask),
      // in fragments, with a control frame between them
      Buffer.concat([
        frame(0x02, numbered(1000), mask),
        frame(0x8a, numbered(0), mask),
        frame(0x00, numbered(1000), mask),
        frame(0x80, numbered(5), mask)
      ])
    ]
    const bytes = Buffer.concat([...others.flatMap((other) => [ours, other]), ours])
    // a message between the fragments of another is not one: `ws` is to see that
    const wrong = Buffer.concat([frame(0x02, numbered(10), mask), frame(0x82, numbered(20), mask)])
    for (const size of [1, 2, 3, 1000, bytes.length]) {
      const { messages, passed } = run(true, cut(bytes, size))
      assert.deepStrictEqual(messages, Array.from({ length: others.length + 1 }, () => [...numbered(300)]))
      assert.deepStrictEqual(passed, Buffer.concat(others))
      assert.deepStrictEqual(run(true, cut(wrong, size)), { messages: [], passed: wrong })
    }
  })

  it("takes nothing behind a close, which `ws` would take for a failure of its own", () => {
    const close = frame(0x88, Uint8Array.of(3, 232), mask)
    const bytes = Buffer.concat([close, frame(0x82, numbered(10), mask), frame(0x89, numbered(0), mask)])
    for (const size of [1, 3, bytes.length]) {
      const { messages, passed } = run(true, cut(bytes, size))
      assert.deepStrictEqual(messages, [])
      assert.deepStrictEqual(Buffer.from(close), passed)
    }
  })

  it("keeps no more of a chunk than the beginning of a header", () => {
    const reader = new Reader({ isMasked: true, onMessage: () => {}, pass: () => {} })
    const chunk = Buffer.concat([frame(0x82, numbered(60_000), mask), Buffer.of(0x82)])
    reader.read(chunk)
    const { begun } = reader as unknown as { readonly begun: Buffer }
    assert.deepStrictEqual([...begun], [0x82])
    assert.notStrictEqual(begun.buffer, chunk.buffer)
  })

  it("stands in for the listener of a socket, which gets the rest, also what a paused socket has when it closes", async () => {
    const socket = new PassThrough() as unknown as Socket
    socket.pause()
    const passed: Array<Buffer> = []
    const events: Array<string> = []
    socket.on("data", (bytes: Buffer) => passed.push(Buffer.from(bytes)))
    socket.on("close", () => events.push("close"))
    attach(socket, { isMasked: true, onMessage: (message) => events.push([...message].join()) })
    const [one, two, ping] = [1, 2, 3].map((n) => frame(n === 3 ? 0x89 : 0x82, Uint8Array.of(n), mask)) as [
      Buffer,
      Buffer,
      Buffer
    ]
    socket.resume()
    socket.write(Buffer.concat([one, ping]))
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepStrictEqual({ passed, events }, { passed: [ping], events: ["1"] })
    socket.pause()
    socket.write(two)
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepStrictEqual(events, ["1"])
    socket.destroy()
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepStrictEqual(events, ["1", "2", "close"])
  })
})
