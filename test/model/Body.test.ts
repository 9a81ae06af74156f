import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema } from "effect"
import { BoundsExceeded, Evicted, FrameTooLarge } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import { bytes, settle, text } from "./fixtures.ts"

/** A payload of its own: its bytes tell which one it is. */
const payload = (index: number, size: number): Uint8Array => {
  const out = new Uint8Array(size)
  for (let i = 0; i < size; i++) out[i] = (index * 31 + i * 7 + (i >> 8)) & 0xff
  return out
}

const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const chunk of chunks) {
    out.set(chunk, at)
    at += chunk.length
  }
  return out
}

/** A frame on the wire; `form` is the length of its size, 0 for the shortest. */
const wireOf = (frame: Uint8Array, form: number = 0): Uint8Array => {
  const size = frame.length
  const length = Math.max(form, size < 0x40 ? 1 : size < 0x4000 ? 2 : 4)
  const header = new Uint8Array(length)
  for (let i = length - 1, rest = size; i >= 0; i--, rest = Math.floor(rest / 256)) header[i] = rest & 0xff
  header[0]! |= Math.log2(length) << 6
  return concat([header, frame])
}

const takeBytes = (body: Body.Body, place: Body.Place, max = Infinity): Uint8Array => {
  const out: Array<Uint8Array> = []
  const taken = Body.takeBytesUnsafe(body, place, max, out)
  const all = concat(out)
  assert.strictEqual(all.length, taken)
  return all
}

const takeTexts = (body: Body.Body, place: Body.Place) => Body.takePayloadsUnsafe(body, place)?.map(text)

const sizes = [0, 1, 5, 63, 64, 100, 255, 256, 300, 1200, 16_383, 16_384, 40_000]

describe("Body", () => {
  it("has what was written in wire form, and the payloads in it", () => {
    const body = Body.makeUnsafe()
    const frames = [...sizes, ...sizes].map((size, i) => payload(i, size))
    const [wire, payloads] = [Body.openUnsafe(body), Body.openUnsafe(body)]
    const got: Array<Uint8Array> = []
    for (const frame of frames) {
      Body.writeUnsafe(body, frame)
      got.push(takeBytes(body, wire))
    }
    assert.deepStrictEqual(concat(got), concat(frames.map((frame) => wireOf(frame))))
    assert.deepStrictEqual([...Body.takePayloadsUnsafe(body, payloads)!], frames)
    assert.isUndefined(Body.takePayloadsUnsafe(body, payloads))
    assert.deepStrictEqual([body.first, body.next], [0, frames.length])
    assert.strictEqual(body.size, frames.reduce((sum, { length }) => sum + length, 0))
  })

  it("gives many small frames as one view, and the same one to all at the same place", () => {
    const body = Body.makeUnsafe()
    const places = Array.from({ length: 3 }, () => Body.openUnsafe(body))
    for (let i = 0; i < 400; i++) Body.writeUnsafe(body, payload(i, 100))
    const first = places.map((place) => {
      const out: Array<Uint8Array> = []
      Body.takeBytesUnsafe(body, place, Infinity, out)
      return out
    })
    for (let i = 0; i < 400; i++) Body.writeUnsafe(body, payload(i, 100))
    const second = places.map((place) => {
      const out: Array<Uint8Array> = []
      Body.takeBytesUnsafe(body, place, Infinity, out)
      return out
    })
    assert.isBelow(second[0]!.length, 4)
    for (const all of [first, second]) {
      for (const views of all) views.forEach((view, i) => assert.strictEqual(view, all[0]![i]))
    }
  })

  it("keeps what came as it came, and large payloads as they are", () => {
    const body = Body.makeUnsafe()
    const chunk = concat(Array.from({ length: 10 }, (_, i) => wireOf(payload(i, 1200))))
    assert.isTrue(Body.feedUnsafe(body, chunk))
    const place = Body.openUnsafe(body)
    const out: Array<Uint8Array> = []
    Body.takeBytesUnsafe(body, place, Infinity, out)
    assert.strictEqual(out[0], chunk)
    const large = payload(0, 100_000)
    Body.writeUnsafe(body, large)
    Body.takeBytesUnsafe(body, place, Infinity, out)
    assert.strictEqual(out.at(-1), large)
    assert.strictEqual(Body.takePayloadsUnsafe(body, Body.openUnsafe(body, 10))![0], large)
  })

  it("copies what is small, or a small part of its memory", () => {
    const body = Body.makeUnsafe()
    const large = new Uint8Array(100_000)
    large.set(wireOf(payload(0, 1000)), 500)
    Body.feedUnsafe(body, large.subarray(500, 500 + 1002))
    for (let i = 0; i < 50; i++) Body.feedUnsafe(body, wireOf(payload(i, 10)))
    const out: Array<Uint8Array> = []
    Body.takeBytesUnsafe(body, Body.openUnsafe(body), Infinity, out)
    assert.isBelow(out.length, 4)
    for (const view of out) assert.notStrictEqual(view.buffer, large.buffer)
    assert.deepStrictEqual(Body.takePayloadsUnsafe(body, Body.openUnsafe(body))![0], payload(0, 1000))
  })

  it("joins a payload that came in pieces, and hurts nobody who is in the middle of it", () => {
    const body = Body.makeUnsafe()
    const frames = [payload(0, 50_000), payload(1, 50_000), payload(2, 50_000)]
    const wire = concat(frames.map((frame) => wireOf(frame)))
    for (let at = 0; at < wire.length; at += 16_384) Body.feedUnsafe(body, wire.slice(at, at + 16_384))
    const inside = [1, 16_384, 20_000, 50_003, 50_004, 60_000, 149_000].map((max) => {
      const place = Body.openUnsafe(body)
      return { place, head: takeBytes(body, place, max) }
    })
    const first = Body.takePayloadsUnsafe(body, Body.openUnsafe(body))!
    assert.deepStrictEqual([...first], frames)
    const again = Body.takePayloadsUnsafe(body, Body.openUnsafe(body))!
    assert.deepStrictEqual([...again], frames)
    for (const { head, place } of inside) {
      assert.deepStrictEqual(concat([head, takeBytes(body, place, 777), takeBytes(body, place)]), wire)
    }
    assert.deepStrictEqual(takeBytes(body, Body.openUnsafe(body)), wire)
    // one that was kept in part does not keep all of its memory
    const out: Array<Uint8Array> = []
    Body.takeBytesUnsafe(body, Body.openUnsafe(body), Infinity, out)
    assert.isAtMost(out.reduce((sum, { buffer }) => sum + buffer.byteLength, 0), wire.length)
  })

  it("counts what is before a place", () => {
    const body = Body.makeUnsafe(7)
    const frames = [payload(0, 100), payload(1, 0), payload(2, 20_000), payload(3, 70), payload(4, 40_000)]
    for (const frame of frames) Body.writeUnsafe(body, frame)
    Body.beginUnsafe(body, 1000)
    Body.growUnsafe(body, payload(5, 300))
    const wire = frames.map((frame) => wireOf(frame))
    const place = Body.openUnsafe(body)
    let taken = 0
    const total = wire.reduce((sum, { length }) => sum + length, 0) + 2 + 300
    while (taken < total) {
      let [count, size, at] = [7, 0, 0]
      for (const [i, frame] of wire.entries()) {
        const header = frame.length - frames[i]!.length
        if (at + frame.length <= taken) count++
        size += Math.min(frames[i]!.length, Math.max(0, taken - at - header))
        at += frame.length
      }
      size += Math.max(0, taken - at - 2)
      assert.deepStrictEqual([Body.framesUntil(body, place), Body.payloadUntil(body, place)], [count, size], `${taken}`)
      assert.strictEqual(Body.available(body, place), total - taken)
      taken += takeBytes(body, place, taken < 200 ? 1 : 613).length
    }
    assert.deepStrictEqual([Body.framesUntil(body, place), Body.payloadUntil(body, place)], [12, body.size])
  })

  it("refuses a size that is too large, once the frames before it are in", () => {
    const large = Uint8Array.of(0x81, 0x00, 0x00, 0x01)
    const huge = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
    for (const [size, error] of [[large, FrameTooLarge], [huge, BoundsExceeded]] as const) {
      for (let cut = 0; cut <= size.length; cut++) {
        const body = Body.makeUnsafe()
        const all = concat([wireOf(bytes("a")), wireOf(bytes("b")), size])
        assert.throws(() => {
          Body.feedUnsafe(body, all.slice(0, 4 + cut))
          Body.feedUnsafe(body, all.slice(4 + cut))
        }, error)
        assert.deepStrictEqual(takeTexts(body, Body.openUnsafe(body)), ["a", "b"])
      }
    }
  })

  it("tells that it ends inside a size, and takes nothing once it has ended", () => {
    const body = Body.makeUnsafe()
    const frame = wireOf(payload(0, 100), 8)
    for (let i = 0; i < 8; i++) {
      assert.strictEqual(Body.isInsideSize(body), i > 0)
      assert.strictEqual(body.next, 0)
      assert.isTrue(Body.feedUnsafe(body, frame.slice(i, i + 1)))
    }
    assert.deepStrictEqual([Body.isInsideSize(body), body.next, body.missing], [false, 1, 100])
    assert.isTrue(Body.endUnsafe(body, Exit.fail(new Evicted({}))))
    assert.isFalse(Body.endUnsafe(body, Exit.void))
    assert.isFalse(Body.feedUnsafe(body, frame.slice(8)))
    assert.strictEqual(body.size, 0)
  })

  it("cuts at its beginning: who is before that lags, and counts for nobody", () => {
    const body = Body.makeUnsafe()
    const [slow, inside, quick] = [Body.openUnsafe(body), Body.openUnsafe(body), Body.openUnsafe(body)]
    for (let i = 0; i < 1000; i++) Body.writeUnsafe(body, payload(i, 100))
    takeBytes(body, inside, 50 * 102 + 10)
    takeBytes(body, quick, 500 * 102)
    assert.isTrue(Body.isAwaited(body, Body.cutFor(body, 100, 0)))
    assert.isFalse(Body.isAwaited(body, 0))
    Body.cutUnsafe(body, 60_000, 1000)
    assert.deepStrictEqual([body.first, body.next, body.size], [400, 1000, 60_000])
    assert.deepStrictEqual([slow, inside, quick].map((place) => Body.isLagging(body, place)), [true, true, false])
    assert.isFalse(Body.isAwaited(body, Body.cutFor(body, 10_000, 100)))
    assert.isTrue(Body.isAwaited(body, Body.cutFor(body, 0, 101)))
    Body.cutUnsafe(body, 60_000, 300)
    assert.deepStrictEqual([body.first, body.size], [700, 30_000])
    assert.strictEqual(takeBytes(body, slow).length, 0)
    const place = Body.openUnsafe(body)
    assert.deepStrictEqual(Body.takePayloadsUnsafe(body, place)![0], payload(700, 100))
    assert.isFalse(Body.isAwaited(body))
    Body.dropUnsafe(body)
    assert.deepStrictEqual([body.first, body.next, body.size, Body.isLagging(body, place)], [1000, 1000, 0, false])
  })

  it.effect("wakes who waits for bytes, and for a frame only once it is complete", () =>
    Effect.gen(function*() {
      const body = Body.makeUnsafe()
      const place = Body.openUnsafe(body)
      const wait = (ready: typeof Body.isReady) =>
        Effect.forkChild(Body.awaitUntil(body, () => ready(body, place)), { startImmediately: true })
      const [some, frame, whole] = [yield* wait(Body.isReady), yield* wait(Body.hasFrame), yield* wait(Body.hasPayload)]
      Body.beginUnsafe(body, 2)
      yield* Fiber.join(some)
      yield* Fiber.join(frame)
      Body.growUnsafe(body, bytes("a"))
      yield* settle
      assert.isUndefined(whole.pollUnsafe())
      assert.isUndefined(Body.takePayloadsUnsafe(body, place))
      Body.growUnsafe(body, bytes("b"))
      yield* Fiber.join(whole)
      assert.deepStrictEqual(takeTexts(body, place), ["ab"])
      const end = yield* wait(Body.hasPayload)
      Body.endUnsafe(body, Exit.void)
      yield* Fiber.join(end)
    }))

  it("lets the one that it gives payloads to write, read, cut and drop it", () => {
    const body = Body.makeUnsafe()
    for (let i = 0; i < 4; i++) Body.feedUnsafe(body, wireOf(bytes(`${i}`)))
    const [place, other] = [Body.openUnsafe(body), Body.openUnsafe(body)]
    const got: Array<string> = []
    Body.eachPayloadUnsafe(body, place, (payload) => {
      got.push(text(payload))
      if (got.length === 1) Body.writeUnsafe(body, bytes("new"))
      if (got.length === 2) Body.takePayloadsUnsafe(body, other)
      if (got.length === 3) Body.cutUnsafe(body, 1000, 2)
      if (got.length === 4) Body.dropUnsafe(body)
    }, undefined)
    assert.deepStrictEqual(got, ["0", "1", "2", "3"])
    assert.isTrue(Body.isLagging(body, place))
  })

  const step = Schema.Tuple([
    Schema.Literals([
      "write",
      "write",
      "begin",
      "grow",
      "feed",
      "feed",
      "open",
      "bytes",
      "bytes",
      "payloads",
      "payloads",
      "cut"
    ]),
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 }))
  ])

  it.effect.prop("is the bytes and the frames that were put in, whoever reads what when", [
    Schema.Array(step).check(Schema.isMinLength(20), Schema.isMaxLength(80))
  ], ([steps]) =>
    Effect.sync(() => {
      const body = Body.makeUnsafe()
      const frames: Array<Uint8Array> = []
      const wire: Array<Uint8Array> = []
      // what is written of the last frame, and what is still to be fed
      let open: { readonly frame: Uint8Array; at: number } | undefined
      const readers: Array<{ place: Body.Place; from: number; got: Array<Uint8Array>; isBytes: boolean }> = []
      const done = (frame: Uint8Array, form: number) => {
        frames.push(frame)
        wire.push(wireOf(frame, form))
      }
      for (const [name, n] of steps) {
        const frame = payload(frames.length, sizes[n % sizes.length]!)
        if (name === "write" && open === undefined) {
          Body.writeUnsafe(body, frame)
          done(frame, 0)
        } else if (name === "begin" && open === undefined) {
          Body.beginUnsafe(body, frame.length)
          if (frame.length > 0) open = { frame, at: 0 }
          else done(frame, 0)
        } else if (name === "grow" && open !== undefined) {
          const chunk = open.frame.subarray(open.at, open.at + 1 + n * 400)
          Body.growUnsafe(body, chunk)
          open.at += chunk.length
          if (open.at === open.frame.length) {
            done(open.frame, 0)
            open = undefined
          }
        } else if (name === "feed" && open === undefined) {
          const some = Array.from({ length: 1 + n % 3 }, (_, i) =>
            payload(frames.length + i, sizes[(n + i * 5) % sizes.length]!))
          const form = [0, 2, 4, 8][n % 4]!
          const all = concat(some.map((frame) =>
            wireOf(frame, form)
          ))
          for (let at = 0; at < all.length;) {
            const length = 1 + (at * 7 + n * 131) % (n % 2 === 0 ? 700 : 20_000)
            assert.isTrue(Body.feedUnsafe(body, all.slice(at, at + length)))
            at += length
          }
          for (const frame of some) done(frame, form)
        } else if (name === "open" && readers.length < 6) {
          const from = n % 3 === 0 ? body.first : n % 3 === 1 ? Body.complete(body) : Body.complete(body) + 2
          readers.push({ place: Body.openUnsafe(body, from), from, got: [], isBytes: n % 2 === 0 })
        } else if (name === "bytes" || name === "payloads") {
          for (const { got, isBytes, place } of readers) {
            if (isBytes !== (name === "bytes")) continue
            if (isBytes) Body.takeBytesUnsafe(body, place, n % 4 === 0 ? Infinity : n * n * 10, got)
            else got.push(...Body.takePayloadsUnsafe(body, place) ?? [])
          }
        } else if (name === "cut") Body.cutUnsafe(body, 100_000, 1 + n)
      }
      assert.strictEqual(body.next, frames.length + (open === undefined ? 0 : 1))
      assert.strictEqual(body.total, frames.reduce((sum, { length }) => sum + length, open?.at ?? 0))
      for (const { from, got, isBytes, place } of readers) {
        const isLagging = Body.isLagging(body, place)
        if (isBytes) {
          Body.takeBytesUnsafe(body, place, Infinity, got)
          const part = open === undefined
            ? new Uint8Array(0)
            : wireOf(open.frame).subarray(0, wireOf(open.frame).length - body.missing)
          const all = concat([...wire.slice(from), ...from <= frames.length ? [part] : []])
          const seen = concat(got)
          assert.deepStrictEqual(seen, isLagging ? all.subarray(0, seen.length) : all)
          assert.strictEqual(Body.isReady(body, place), isLagging)
        } else {
          got.push(...Body.takePayloadsUnsafe(body, place) ?? [])
          assert.deepStrictEqual(got, frames.slice(from, isLagging ? from + got.length : undefined))
          assert.strictEqual(Body.hasPayload(body, place), isLagging)
        }
        Body.closeUnsafe(body, place)
        Body.closeUnsafe(body, place)
      }
      assert.strictEqual(body.readers, 0)
      const place = Body.openUnsafe(body)
      assert.deepStrictEqual([...Body.takePayloadsUnsafe(body, place) ?? []], frames.slice(body.first))
    }), { arbitrary: { runs: 300, seed: 1 } })
})
