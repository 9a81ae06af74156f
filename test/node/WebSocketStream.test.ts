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

const make = () => {
  const wire = new Wire()
  const stream = new WebSocketStream(wire as unknown as WebSocket, new EventEmitter() as Socket, {
    protocol: "",
    maxBacklog: 1,
    writeTimeout: 1,
    onMessage: () => {},
    onSend: (message) => message,
    ask: () => {},
    onWarning: () => {}
  })
  return { wire, stream }
}

// something of a few hundred microseconds
const work = (): void => {
  const until = performance.now() + 0.3
  while (performance.now() < until);
}

describe("WebSocketStream", () => {
  it("hands over a burst in several turns of the event loop, and takes no more from the network meanwhile", async () => {
    const { stream, wire } = make()
    const reader = (await stream.opened).readable.getReader()
    for (let i = 0; i < 100; i++) wire.emit("message", Buffer.of(i), true)

    const read: Array<number> = []
    const turns: Array<number> = []
    let turn = 0
    const tick = () => {
      turn++
      if (read.length < 100) setImmediate(tick)
    }
    setImmediate(tick)
    for (let i = 0; i < 100; i++) {
      const delivery = await reader.read()
      work()
      read.push(delivery.value![0]!)
      turns.push(turn)
    }
    assert.deepStrictEqual(read, Array.from({ length: 100 }, (_, i) => i))
    assert.isAbove(new Set(turns).size, 5)
    assert.isTrue(wire.isPaused)
    // the next read has to wait for the network
    const next = reader.read()
    assert.isFalse(wire.isPaused)
    wire.emit("message", Buffer.of(100), true)
    assert.strictEqual((await next).value![0], 100)
  })

  it("hands over what has arrived before the end, after it", async () => {
    const { stream, wire } = make()
    const reader = (await stream.opened).readable.getReader()
    for (let i = 0; i < 20; i++) wire.emit("message", Buffer.of(i), true)
    const reads: Array<number | undefined> = []
    wire.emit("close", 1000, "")
    while (true) {
      const delivery = await reader.read()
      work()
      if (delivery.done) break
      reads.push(delivery.value[0])
    }
    assert.deepStrictEqual(reads, Array.from({ length: 20 }, (_, i) => i))
  })
})
