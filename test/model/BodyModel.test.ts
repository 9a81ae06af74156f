/** The frames of a group beside a plain model of them: written, fed in any cut, cut and read by several at once. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, type Pull, Schema, type Scope } from "effect"
import { Evicted } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import type * as Frame from "../../src/model/Frame.ts"
import { choose, random } from "./fixtures.ts"

const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => new Uint8Array(Buffer.concat(chunks))

const sizes = [0, 1, 5, 63, 64, 100, 200, 255, 256, 300, 1000, 5000, 17_000, 70_000]

/** A payload of its own: its bytes tell which one it is. */
const payloadOf = (index: number, size: number): Uint8Array => {
  const out = new Uint8Array(size)
  for (let i = 0; i < size; i++) out[i] = (index * 31 + i * 7 + (i >> 8)) & 0xff
  return out
}

/** A size on the wire; `form` is its length, 0 for the shortest. */
const sizeOf = (size: number, form: number): Uint8Array => {
  const length = Math.max(form, size < 0x40 ? 1 : size < 0x4000 ? 2 : 4)
  const out = new Uint8Array(length)
  for (let i = length - 1, rest = size; i >= 0; i--, rest = Math.floor(rest / 256)) out[i] = rest & 0xff
  out[0]! |= Math.log2(length) << 6
  return out
}

const failed = Exit.fail(new Evicted({}))

interface Modelled {
  /** Where it begins on the wire, and where its payload does. */
  readonly start: number
  readonly begin: number
  readonly payload: Uint8Array
  /** How much of it is there. */
  has: number
}

interface Reader {
  readonly kind: "bytes" | "payloads" | "frames"
  readonly place: Body.Place
  readonly from: number
  /** Payloads and frames that it got, or how many bytes. */
  index: number
  taken: number
  readonly bytes: Array<Uint8Array>
  readonly payloads: Array<Uint8Array>
  isLagging: boolean
}

interface Held {
  readonly index: number
  readonly frame: Frame.Frame
  readonly pull: Pull.Pull<ReadonlyArray<Uint8Array>, Frame.ReadError>
  readonly got: Array<Uint8Array>
  size: number
}

class Model {
  readonly body = Body.makeUnsafe()
  readonly frames: Array<Modelled> = []
  readonly readers: Array<Reader> = []
  readonly held: Array<Held> = []
  first = 0
  base = 0
  tip = 0
  isEnded = false
  /** What is still to be fed, and how much of it is in no frame that has begun. */
  rest: Uint8Array = new Uint8Array(0)
  /** The frames that `rest` begins. */
  readonly coming: Array<{ readonly header: number; readonly payload: Uint8Array }> = []
  insideSize = 0

  get last(): Modelled | undefined {
    return this.frames.at(-1)
  }
  get missing(): number {
    return this.last === undefined ? 0 : this.last.payload.length - this.last.has
  }
  get complete(): number {
    return this.missing > 0 ? this.frames.length - 1 : this.frames.length
  }
  startOf(index: number): number {
    return this.frames[index]?.start ?? this.tip + this.missing
  }
  begin(header: number, payload: Uint8Array): void {
    this.frames.push({ start: this.tip, begin: this.tip + header, payload, has: 0 })
    this.tip += header
  }
  grow(size: number): void {
    this.last!.has += size
    this.tip += size
  }
  /** All that came, as it is on the wire, of which `sizes` are as they were fed. */
  readonly wire: Array<Uint8Array> = []

  // what is done

  write(payload: Uint8Array): void {
    Body.writeUnsafe(this.body, payload)
    const size = sizeOf(payload.length, 0)
    this.wire.push(size, payload)
    this.begin(size.length, payload)
    this.grow(payload.length)
  }
  start(payload: Uint8Array): void {
    Body.beginUnsafe(this.body, payload.length)
    const size = sizeOf(payload.length, 0)
    this.wire.push(size)
    this.begin(size.length, payload)
  }
  more(size: number): void {
    const { has, payload } = this.last!
    const chunk = payload.subarray(has, has + size)
    Body.growUnsafe(this.body, chunk)
    this.wire.push(chunk)
    this.grow(chunk.length)
  }
  feed(size: number): void {
    const chunk = this.rest.slice(0, size)
    this.rest = this.rest.subarray(chunk.length)
    assert.isTrue(Body.feedUnsafe(this.body, chunk))
    for (let at = 0; at < chunk.length;) {
      const { missing } = this
      if (missing > 0) {
        const taken = Math.min(missing, chunk.length - at)
        this.wire.push(chunk.subarray(at, at + taken))
        this.grow(taken)
        at += taken
        continue
      }
      const { header, payload } = this.coming[0]!
      const taken = Math.min(header - this.insideSize, chunk.length - at)
      this.insideSize += taken
      this.wire.push(chunk.subarray(at, at + taken))
      at += taken
      if (this.insideSize < header) continue
      this.insideSize = 0
      this.coming.shift()
      this.begin(header, payload)
    }
  }
  cut(maxBytes: number, maxFrames: number): void {
    Body.cutUnsafe(this.body, maxBytes, maxFrames)
    while (this.first < this.complete && (this.size > maxBytes || this.frames.length - this.first > maxFrames)) {
      this.first++
      this.base = this.startOf(this.first)
    }
  }
  letGo(): void {
    Body.letGoUnsafe(this.body)
    const { first } = this.body
    if (first === this.first) return
    const reading = this.readers.filter((reader) => this.isPlaced(reader) && !this.isBehind(reader))
    assert.isAbove(reading.length, 0)
    assert.isBelow(first, this.frames.length)
    for (const reader of reading) assert.isAtLeast(this.positionOf(reader), this.startOf(first))
    this.first = first
    this.base = this.startOf(first)
  }
  end(isDropped: boolean): void {
    this.isEnded = true
    Body.endUnsafe(this.body, failed)
    if (!isDropped) return
    Body.dropUnsafe(this.body)
    this.first = this.frames.length
    this.base = this.tip
  }

  // what is to be seen

  get size(): number {
    return this.frames.slice(this.first).reduce((sum, { has }) => sum + has, 0)
  }
  isPlaced({ from }: Reader): boolean {
    return from <= this.complete
  }
  positionOf({ from, index, kind, taken }: Reader): number {
    return kind === "bytes" ? this.startOf(from) + taken : this.startOf(index)
  }
  isBehind(reader: Reader): boolean {
    return reader.isLagging ||= this.positionOf(reader) < this.base
  }
  isAwaited(reader: Reader): boolean {
    if (this.isBehind(reader) || !this.isPlaced(reader) || this.positionOf(reader) >= this.tip) return false
    // who reads payloads waits for one that grows
    return reader.taken > 0 || this.missing === 0 || reader.index < this.frames.length - 1
  }
  check(): void {
    const { body, complete, frames, isEnded, tip } = this
    assert.deepStrictEqual(
      [body.first, body.next, body.size, body.missing, Body.complete(body), Body.isInsideSize(body), body.readers],
      [this.first, frames.length, this.size, this.missing, complete, this.insideSize > 0, this.readers.length]
    )
    assert.strictEqual(Body.isAwaited(body), this.readers.some((reader) => this.isAwaited(reader)))
    for (const reader of this.readers) {
      const { index, kind, place } = reader
      const isBehind = this.isBehind(reader)
      assert.strictEqual(Body.isLagging(body, place), isBehind)
      if (kind === "payloads") assert.strictEqual(Body.hasPayload(body, place), isEnded || isBehind || index < complete)
      if (kind === "frames") {
        const hasFrame = isEnded || isBehind || index < frames.length
        assert.strictEqual(Body.hasFrame(body, place), hasFrame)
      }
      if (isBehind || kind !== "bytes") continue
      const position = this.isPlaced(reader) ? this.positionOf(reader) : tip
      assert.strictEqual(Body.available(body, place), tip - position)
      assert.strictEqual(Body.isReady(body, place), isEnded || position < tip)
      if (!this.isPlaced(reader)) continue
      let [count, payload] = [0, 0]
      for (const { begin, has, payload: { length } } of frames) {
        if (has === length && begin + has <= position) count++
        payload += Math.min(has, Math.max(0, position - begin))
      }
      assert.deepStrictEqual([Body.framesUntil(body, place), Body.payloadUntil(body, place)], [count, payload])
    }
  }

  // who reads

  take(reader: Reader, max: number): Effect.Effect<void, never, Scope.Scope> {
    const { body } = this
    const { bytes, kind, payloads, place } = reader
    if (kind === "bytes") {
      reader.taken += Body.takeBytesUnsafe(body, place, max, bytes)
    } else if (kind === "payloads") {
      const got = Body.takePayloadsUnsafe(body, place) ?? []
      reader.index += got.length
      payloads.push(...got)
    } else {
      const got = Body.takeFramesUnsafe(body, place) ?? []
      return Effect.forEach(got, (frame) =>
        Effect.map(frame.reader, (pull) => {
          this.held.push({ index: reader.index++, frame, pull, got: [], size: 0 })
        }), { discard: true })
    }
    return Effect.void
  }
  /** Takes the chunks of the frames that were given, as far as they are here. */
  get chunks(): Effect.Effect<void> {
    return Effect.forEach(this.held, (one) => {
      if (this.frames[one.index]!.has === one.size) return Effect.void
      return Effect.map(Effect.orDie(one.pull as Effect.Effect<ReadonlyArray<Uint8Array>>), (chunks) => {
        one.got.push(...chunks)
        for (const { length } of chunks) one.size += length
      })
    }, { discard: true })
  }
}

const steps = [
  ["write", 3],
  ["start", 3],
  ["more", 8],
  ["send", 5],
  ["feed", 16],
  ["open", 5],
  ["take", 16],
  ["chunks", 5],
  ["close", 2],
  ["cut", 2],
  ["letGo", 6],
  ["end", 0.25],
  ["drop", 0.25]
] as const

describe("Body, beside a model", () => {
  it.effect.prop("is what was put in, however it is cut, whoever reads it and whatever is let go of", [
    Schema.Int
  ], ([seed]) =>
    Effect.gen(function*() {
      const next = random(seed)
      const model = new Model()
      const { body } = model
      for (let i = 0; i < 150; i++) {
        const [name, n] = [choose(steps, next()), Math.floor(next() * 1000)]
        const isFree = !model.isEnded && model.missing === 0 && model.rest.length === 0 && model.insideSize === 0
        const frame = payloadOf(model.frames.length, sizes[n % sizes.length]!)
        const pick = model.readers[n % Math.max(1, model.readers.length)]
        if (name === "write" && isFree) {
          for (let i = 0; i <= n % 7; i++) {
            model.write(payloadOf(model.frames.length, sizes[(n + i * n) % sizes.length]!))
          }
        } else if (name === "start" && isFree) model.start(frame)
        else if (name === "more" && !model.isEnded && model.missing > 0 && model.rest.length === 0) {
          model.more(1 + (n * 37) % (n % 2 === 0 ? 300 : 20_000))
        } else if (name === "send" && isFree) {
          const some = Array.from(
            { length: 1 + n % 5 },
            (_, i) => payloadOf(model.frames.length + i, sizes[(n + i * 3) % sizes.length]!)
          )
          const form = [0, 2, 4, 8][n % 4]!
          model.rest = concat(some.flatMap((payload) => [sizeOf(payload.length, form), payload]))
          for (const payload of some) model.coming.push({ header: sizeOf(payload.length, form).length, payload })
        } else if (name === "feed" && !model.isEnded) {
          const size = [1, 2, 3, 100, 257, 1500, 16_384, Infinity][n % 8]!
          for (let i = 0; i < 1 + n % 9 && model.rest.length > 0; i++) model.feed(size)
        } else if (name === "open" && model.readers.length < 5) {
          const from = [model.first, model.complete, model.complete + 1, 0][n % 4]!
          const kind = (["bytes", "payloads", "frames"] as const)[n % 3]!
          const place = Body.openUnsafe(body, from)
          model.readers.push({ kind, place, from, index: from, taken: 0, bytes: [], payloads: [], isLagging: false })
        } else if (name === "take" && pick !== undefined) {
          const max = n % 2 === 0 ? Infinity : n % 4 === 1 ? 1 + n % 9 : n * 7
          if (n % 5 > 0) yield* model.take(pick, max)
          else for (const reader of model.readers) yield* model.take(reader, max)
        } else if (name === "chunks") yield* model.chunks
        else if (name === "close" && pick !== undefined) {
          Body.closeUnsafe(body, pick.place)
          model.readers.splice(model.readers.indexOf(pick), 1)
        } else if (name === "cut") model.cut([1000, 20_000, 100_000][n % 3]!, 1 + n % 40)
        else if (name === "letGo") model.letGo()
        else if (name === "end" || name === "drop") {
          model.end(name === "drop")
        }
        model.check()
      }
      const wire = concat(model.wire)
      for (const reader of model.readers) {
        const { bytes, from, index, kind, payloads } = reader
        if (kind === "bytes" && model.isPlaced(reader)) {
          const start = model.startOf(from)
          assert.deepStrictEqual(concat(bytes), wire.slice(start, start + reader.taken))
        } else if (kind === "payloads") {
          assert.deepStrictEqual(payloads, model.frames.slice(from, index).map(({ payload }) => payload))
        }
      }
      yield* model.chunks
      for (const { frame, got, index } of model.held) {
        const { has, payload } = model.frames[index]!
        assert.deepStrictEqual(concat(got), payload.subarray(0, has))
        assert.deepStrictEqual([frame.size, frame.isComplete], [payload.length, has === payload.length])
        if (frame.isComplete) assert.deepStrictEqual([frame.payload, yield* frame.bytes], [payload, payload])
        else if (model.isEnded) assert.deepStrictEqual(yield* Effect.exit(frame.bytes), failed)
      }
    }).pipe(Effect.scoped), { arbitrary: { runs: 60, seed: 2 } })
})
