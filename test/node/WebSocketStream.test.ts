import { assert, describe, it } from "@effect/vitest"
import { EventEmitter } from "node:events"
import type { Socket } from "node:net"
import { performance } from "node:perf_hooks"
import type { WebSocket } from "ws"
import { WebSocketStream } from "../../src/node/WebSocketStream.ts"

/** As much of a `ws` WebSocket as there has to be. */
class Wire extends EventEmitter {
  readonly OPEN = 1
  readonly readyState = 1
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

const make = (onMessage: (message: Uint8Array) => void, onEnd: () => void = () => {}) => {
  const wire = new Wire()
  const stream = new WebSocketStream(wire as unknown as WebSocket, new EventEmitter() as Socket, false, {
    maxBacklog: 1,
    writeTimeout: 1,
    onMessage,
    onEnd,
    onRoom: () => {},
    ask: () => {}
  })
  assert.isTrue(stream.isOpen)
  return wire
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
})
