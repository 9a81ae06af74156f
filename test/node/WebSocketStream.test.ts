import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { EventEmitter, once } from "node:events"
import type { AddressInfo, Socket } from "node:net"
import { performance } from "node:perf_hooks"
import * as Tls from "node:tls"
import type { WebSocket } from "ws"
import * as Certificate from "../../src/node/Certificate.ts"
import { WebSocketStream } from "../../src/node/WebSocketStream.ts"
import { fullRecord } from "../../src/transport/QmuxWire.ts"

/** As much of a `ws` WebSocket as there has to be. */
class Wire extends EventEmitter {
  readonly OPEN = 1
  readonly CLOSED = 3
  readyState: number = 1
  binaryType = ""
  isPaused = true
  pauses = 0
  pause(): void {
    this.isPaused = true
    this.pauses++
  }
  resume(): void {
    this.isPaused = false
  }
}

const make = (
  onMessage: (message: Uint8Array) => void,
  onEnd: () => void = () => {},
  { masks = false, readyState = 1, socket = new EventEmitter() as Socket } = {}
) => {
  const wire = new Wire()
  wire.readyState = readyState
  const stream = new WebSocketStream(wire as unknown as WebSocket, socket, masks, {
    maxBacklog: 1,
    writeTimeout: 1,
    onMessage,
    onEnd,
    onRoom: () => {},
    ask: () => {}
  })
  assert.strictEqual(stream.isOpen, readyState === 1)
  return Object.assign(wire, { stream })
}

/** As much of a socket as there has to be: keeps what is written, and calls back when it is told to. */
class Written extends EventEmitter {
  readonly chunks: Array<Uint8Array> = []
  private readonly callbacks: Array<() => void> = []
  writableLength = 0
  cork(): void {}
  uncork(): void {}
  write(chunk: Uint8Array, callback?: () => void): boolean {
    this.chunks.push(chunk)
    if (callback !== undefined) this.callbacks.push(callback)
    return true
  }
  /** All that was written has left. */
  leave(): void {
    this.chunks.length = 0
    for (const callback of this.callbacks.splice(0)) callback()
  }
}

// something of a few hundred microseconds
const work = (): void => {
  const until = performance.now() + 0.3
  while (performance.now() < until);
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe("WebSocketStream", () => {
  it("hands over a burst in several turns of the event loop, and takes no more from the network meanwhile", async () => {
    const read: Array<number> = []
    const turns: Array<number> = []
    let count = 0
    const wire = make(([value]) => {
      read.push(value!)
      turns.push(count)
      // what follows from a message counts as well
      queueMicrotask(work)
    })
    for (let i = 0; i < 100; i++) wire.emit("message", Buffer.of(i), true)
    assert.deepStrictEqual(read, [0], "the first one at once")
    while (read.length < 100) {
      await turn()
      count++
      if (read.length > 10 && read.length < 90) assert.isTrue(wire.isPaused)
    }
    assert.deepStrictEqual(read, Array.from({ length: 100 }, (_, i) => i))
    assert.isAbove(new Set(turns).size, 5)
    assert.strictEqual(wire.pauses > 0, true)
    await turn()
    assert.isFalse(wire.isPaused)
    wire.emit("message", Buffer.of(100), true)
    assert.strictEqual(read.at(-1), 100)
  })

  it("hands over what has arrived before the end, after it, and then tells of the end", async () => {
    const read: Array<number | "end"> = []
    const wire = make(([value]) => {
      read.push(value!)
      queueMicrotask(work)
    }, () => read.push("end"))
    for (let i = 0; i < 20; i++) wire.emit("message", Buffer.of(i), true)
    wire.emit("close", 1000, "")
    assert.deepStrictEqual(read, [0])
    for (let i = 0; i < 50; i++) await turn()
    assert.deepStrictEqual(read, [...Array.from({ length: 20 }, (_, i) => i), "end"])
  })

  it("tells of the end of a WebSocket that has gone before", async () => {
    const read: Array<string> = []
    make(() => {}, () => read.push("end"), { readyState: 3 })
    assert.deepStrictEqual(read, [], "not before whoever makes it has it")
    await turn()
    assert.deepStrictEqual(read, ["end"])
  })

  const sent = async (masks: boolean, messages: ReadonlyArray<ReadonlyArray<Uint8Array>>) => {
    const socket = new Written()
    const { stream } = make(() => {}, () => {}, { masks, socket: socket as unknown as Socket })
    for (const parts of messages) stream.send(parts)
    assert.deepStrictEqual(socket.chunks, [], "nothing before the turn is over")
    await turn()
    return socket.chunks
  }

  it("a server sends small parts of several messages as one piece, and large ones as they are", async () => {
    const small = Uint8Array.of(1, 2, 3, 4, 5)
    const large = new Uint8Array(10_000).fill(7)
    const chunks = await sent(false, [[small], [small, small], [small, large], [small]])
    const head = [0x82, 5, ...small, 0x82, 10, ...small, ...small, 0x82, 126, 10_005 >> 8, 10_005 & 0xff, ...small]
    assert.deepStrictEqual([...chunks[0]!], head)
    assert.strictEqual(chunks[1], large)
    assert.deepStrictEqual([...chunks[2]!], [0x82, 5, ...small])
    assert.lengthOf(chunks, 3)
  })

  it("what is written first in a turn of the event loop leaves at once, and what is written later together", async () => {
    const socket = new Written()
    const { stream } = make(() => {}, () => {}, { socket: socket as unknown as Socket })
    await turn()
    for (let i = 0; i < 4; i++) {
      stream.send([Uint8Array.of(i)])
      await Promise.resolve()
      await new Promise((resolve) => process.nextTick(resolve))
      assert.lengthOf(socket.chunks, 1)
    }
    await turn()
    assert.deepStrictEqual(socket.chunks.map((chunk) => chunk.length), [3, 9])
  })

  it("what several servers send in turns does not get mixed up", async () => {
    const sockets = [new Written(), new Written()]
    const streams = sockets.map((socket) => make(() => {}, () => {}, { socket: socket as unknown as Socket }).stream)
    for (let i = 0; i < 100; i++) for (const [of, stream] of streams.entries()) stream.send([Uint8Array.of(of, i)])
    // more than a slab
    for (let i = 0; i < 100; i++) {
      for (const [of, stream] of streams.entries()) stream.send([new Uint8Array(3000).fill(of)])
    }
    await turn()
    for (const [of, { chunks }] of sockets.entries()) {
      const small = Array.from({ length: 100 }, (_, i) => [0x82, 2, of, i]).flat()
      const others = Array.from(
        { length: 100 },
        () => [0x82, 126, 3000 >> 8, 3000 & 0xff, ...new Uint8Array(3000).fill(of)]
      )
      assert.deepStrictEqual(Buffer.concat(chunks), Buffer.from([...small, ...others.flat()]))
    }
  })

  it.each([["server", false], ["client", true]])(
    "a slow socket of a %s does not keep what others sent",
    async (_, masks) => {
      const [fast, slow] = [new Written(), new Written()]
      slow.writableLength = 1
      const [one, other] = [fast, slow].map((socket) =>
        make(() => {}, () => {}, { masks, socket: socket as unknown as Socket }).stream
      )
      for (let i = 0; i < 100; i++) {
        for (let j = 0; j < 20; j++) one!.send([new Uint8Array(3000)])
        other!.send([Uint8Array.of(i)])
        await turn()
      }
      assert.lengthOf(slow.chunks, 100)
      assert.deepStrictEqual(
        slow.chunks.map((chunk) => masks ? chunk[6]! ^ chunk[2]! : chunk[2]!),
        Array.from({ length: 100 }, (_, i) => i)
      )
      const kept = new Set(slow.chunks.map(({ buffer }) => buffer))
      assert.isBelow([...kept].reduce((sum, { byteLength }) => sum + byteLength, 0), 10_000)
      // what goes out at once is not copied
      assert.isAbove(fast.chunks[0]!.buffer.byteLength, 60_000)
    }
  )

  it.each([["server", false], ["client", true]])(
    "what a slow socket of a %s holds is not written over, and what left is used again",
    async (_, masks) => {
      const sockets = [new Written(), new Written()]
      const [fast, slow] = sockets.map((socket) =>
        make(() => {}, () => {}, { masks, socket: socket as unknown as Socket }).stream
      )
      const used = new Set<ArrayBufferLike>()
      const expected: Array<Uint8Array> = []
      for (let i = 0; i < 300; i++) {
        if (i % 100 === 0) slow!.send([new Uint8Array(3000).fill(i)])
        for (let j = 0; j < 10; j++) fast!.send([new Uint8Array(3000).fill(j)])
        await turn()
        for (const chunk of sockets[0]!.chunks) used.add(chunk.buffer)
        sockets[0]!.leave()
        for (const chunk of sockets[1]!.chunks.slice(expected.length)) expected.push(Uint8Array.from(chunk))
      }
      assert.lengthOf(expected, 3)
      assert.deepStrictEqual(
        sockets[1]!.chunks.map((chunk) => Buffer.from(chunk)),
        expected.map((chunk) => Buffer.from(chunk))
      )
      // nine million bytes went through
      assert.isAtMost(used.size, 5)
    }
  )

  it.each([["server", false], ["client", true]])("a %s that has ended gives back what it held", async (_, masks) => {
    const last = async (isOpen: boolean) => {
      const socket = new Written()
      const wire = make(() => {}, () => {}, { masks, socket: socket as unknown as Socket })
      wire.stream.send([new Uint8Array(3000)])
      const { frames } = wire.stream as unknown as {
        readonly frames: { readonly batch: { readonly slabs: ReadonlyArray<{ readonly holders: number }> } }
      }
      const [slab] = frames.batch.slabs
      const { holders } = slab!
      if (!isOpen) wire.readyState = 2
      await turn()
      assert.strictEqual(socket.chunks.length, isOpen ? 1 : 0)
      return holders - slab!.holders
    }
    assert.strictEqual(await last(true), 0, "until its write has called back")
    assert.strictEqual(await last(false), 1)
  })

  it("over TLS each full message of a client arrives in one piece", async () => {
    const keys = await Effect.runPromise(Certificate.generate({ hosts: ["localhost"] }))
    const server = Tls.createServer({ cert: keys.cert, key: keys.key }).listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as AddressInfo
    const client = Tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false })
    const [accepted] = await once(server, "secureConnection") as [Tls.TLSSocket]
    const count = 50
    const size = fullRecord + 8
    const lengths: Array<number> = []
    const all = new Promise<void>((resolve) => {
      accepted.on("data", (chunk: Buffer) => {
        lengths.push(chunk.length)
        if (lengths.reduce((sum, length) => sum + length, 0) === count * size) resolve()
      })
    })
    const { stream } = make(() => {}, () => {}, { masks: true, socket: client })
    for (let i = 0; i < count; i++) stream.send([new Uint8Array(11), new Uint8Array(fullRecord - 11)])
    await all
    client.destroy()
    server.close()
    assert.deepStrictEqual(lengths, Array.from({ length: count }, () => size))
  })

  it("a socket of a server that has nothing to say keeps no slab", async () => {
    const socket = new Written()
    const { stream } = make(() => {}, () => {}, { socket: socket as unknown as Socket })
    const { frames } = stream as unknown as { readonly frames: { readonly run: Uint8Array } }
    for (let i = 0; i < 2; i++) {
      assert.strictEqual(frames.run.buffer.byteLength, 0)
      stream.send([Uint8Array.of(i)])
      assert.isAbove(frames.run.buffer.byteLength, 0)
      await turn()
    }
    assert.deepStrictEqual(socket.chunks.map((chunk) => Array.from(chunk)), [[0x82, 1, 0], [0x82, 1, 1]])
    assert.strictEqual(frames.run.buffer.byteLength, 0)
  })

  it("nothing is sent behind a close", async () => {
    const socket = new Written()
    const wire = make(() => {}, () => {}, { socket: socket as unknown as Socket })
    wire.stream.send([Uint8Array.of(1)])
    // the peer closes, and `ws` answers
    wire.readyState = 2
    await turn()
    assert.deepStrictEqual(socket.chunks, [])
  })

  it("a client masks what it sends", async () => {
    const payload = Uint8Array.of(1, 2, 3, 4, 5)
    const [frame] = await sent(true, [[payload]])
    assert.deepStrictEqual([...frame!.subarray(0, 2)], [0x82, 0x85])
    assert.deepStrictEqual(frame!.subarray(6).map((byte, i) => byte ^ frame![2 + i % 4]!), Buffer.from(payload))
  })
})
