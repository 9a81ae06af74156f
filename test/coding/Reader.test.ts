import { assert, describe, it, vi } from "@effect/vitest"
import * as Reader from "../../src/coding/Reader.ts"
import * as Writer from "../../src/coding/Writer.ts"
import { BoundsExceeded, DecodeError } from "../../src/core/MoqError.ts"
import { fromHex, random, randomBytes, toHex } from "../fixtures/bytes.ts"

const readAll = (reader: Reader.Reader) => ({
  byte: reader.u8(),
  number: reader.varint(),
  text: reader.string(),
  bytes: reader.bytes(3),
  numbers: reader.list(reader.count(8), (reader) => reader.varint()),
  texts: reader.list(reader.count(8), (reader) => reader.string(), 100),
  blob: reader.blob(100),
  end: reader.u8()
})

const value = {
  byte: 9,
  number: 70000,
  text: "café",
  bytes: Uint8Array.of(1, 2, 3),
  numbers: [1, 70, 70000, 2 ** 40],
  texts: ["", "a", "x".repeat(70)],
  blob: Uint8Array.of(4, 5),
  end: 255
}

const bytes = (() => {
  const writer = Writer.make()
  writer.u8(value.byte)
  writer.varint(value.number)
  writer.string(value.text)
  writer.bytes(value.bytes)
  writer.varint(value.numbers.length)
  for (const number of value.numbers) writer.varint(number)
  writer.varint(value.texts.length)
  for (const text of value.texts) writer.string(text)
  writer.blob(value.blob)
  writer.u8(value.end)
  return writer.finish()
})()

const plain = (message: ReturnType<typeof readAll> | Reader.NeedMore) =>
  message === Reader.NeedMore ? message : { ...message, bytes: [...message.bytes], blob: [...message.blob] }

const decodeAll = (reader: Reader.Reader) => plain(Reader.decode(reader, readAll, undefined))

describe("Reader", () => {
  it("reads fields in order", () => {
    const reader = Reader.fromBytes(bytes)
    assert.deepStrictEqual(decodeAll(reader), plain(value))
    assert.strictEqual(reader.available, 0)
  })

  it("needs more for every beginning, and has read nothing then", () => {
    for (let cut = 0; cut < bytes.length; cut++) {
      const reader = Reader.fromBytes(bytes.subarray(0, cut))
      assert.strictEqual(decodeAll(reader), Reader.NeedMore)
      assert.strictEqual(reader.available, cut)
      assert.isAbove(reader.needed, cut)
      assert.isAtMost(reader.needed, bytes.length)
      const rest: Array<number> = []
      for (let chunk = reader.take(7); chunk !== undefined; chunk = reader.take(7)) rest.push(...chunk)
      assert.strictEqual(toHex(Uint8Array.from(rest)), toHex(bytes.subarray(0, cut)))
    }
  })

  it("reads the same however the bytes are cut", () => {
    const next = random(11)
    const stream = Buffer.concat([bytes, bytes, bytes, bytes])
    for (let run = 0; run < 300; run++) {
      const reader = Reader.make()
      const messages: Array<unknown> = []
      for (let at = 0; at < stream.length;) {
        const size = 1 + (next() % (run % 40 + 1))
        reader.push(new Uint8Array(stream.subarray(at, at + size)))
        at += size
        // several pieces may come at once
        if (run % 2 === 1 && at < stream.length && next() % 3 > 0) continue
        for (let message = decodeAll(reader); message !== Reader.NeedMore; message = decodeAll(reader)) {
          messages.push(message)
        }
      }
      assert.deepStrictEqual(messages, [plain(value), plain(value), plain(value), plain(value)])
      assert.strictEqual(reader.available, 0)
    }
  })

  it("forwards a payload between messages without copying it", () => {
    const payload = randomBytes(random(5), 1000)
    const reader = Reader.make()
    const first = new Uint8Array([5, ...payload.subarray(0, 300)])
    const second = new Uint8Array([...payload.subarray(300), 6])
    reader.push(first)
    assert.strictEqual(Reader.decode(reader, (reader) => reader.varint(), undefined), 5)
    reader.push(second)
    const a = reader.take(1000)!
    const b = reader.take(1000 - a.length)!
    assert.strictEqual(a.buffer, first.buffer)
    assert.strictEqual(b.buffer, second.buffer)
    assert.strictEqual(toHex(a) + toHex(b), toHex(payload))
    assert.strictEqual(reader.available, 1)
    assert.isUndefined(reader.take(0))
    assert.strictEqual(Reader.decode(reader, (reader) => reader.varint(), undefined), 6)
    assert.isUndefined(reader.take(1))
  })

  it("copies only fields that straddle pieces", () => {
    const read = (reader: Reader.Reader) => [reader.bytes(4), reader.bytes(4)]
    const whole = Reader.fromBytes(fromHex("0102030405060708"))
    const views = Reader.decode(whole, read, undefined)
    assert(views !== Reader.NeedMore)
    assert.strictEqual(views[0]!.buffer, views[1]!.buffer)
    const pieces = Reader.make()
    for (const hex of ["0102", "030405", "06", "0708"]) pieces.push(fromHex(hex))
    const copies = Reader.decode(pieces, read, undefined)
    assert(copies !== Reader.NeedMore)
    assert.deepStrictEqual(copies.map(toHex), ["01020304", "05060708"])
  })

  it("refuses a length beyond its limit at once, without waiting for the bytes", () => {
    const cases: ReadonlyArray<[string, (reader: Reader.Reader) => unknown]> = [
      ["4101", (reader) => reader.blob(256)],
      ["bfffffff", (reader) => reader.string()],
      ["c01fffffffffffff", (reader) => reader.string()],
      ["21", (reader) => reader.list(reader.count(32), (reader) => reader.u8())],
      ["0401610462", (reader) => reader.list(reader.count(32), (reader) => reader.string(), 4)]
    ]
    for (const [hex, read] of cases) {
      assert.throws(() => Reader.decode(Reader.fromBytes(fromHex(hex)), read, undefined), BoundsExceeded)
    }
  })

  it("takes a message of the limit and refuses a longer one, all at once and in pieces", () => {
    const read = (reader: Reader.Reader) => reader.blob(1000).length
    const message = (size: number) => new Uint8Array([0x40 | (size >> 8), size & 0xff, ...new Uint8Array(size)])
    assert.strictEqual(Reader.decode(Reader.fromBytes(message(298)), read, undefined, 300), 298)
    assert.throws(() => Reader.decode(Reader.fromBytes(message(299)), read, undefined, 300), BoundsExceeded)
    const reader = Reader.fromBytes(message(299).subarray(0, 1))
    assert.strictEqual(Reader.decode(reader, read, undefined, 300), Reader.NeedMore)
    reader.push(message(299).subarray(1, 2))
    assert.throws(() => Reader.decode(reader, read, undefined, 300), BoundsExceeded)
  })

  it("reads strict UTF-8, and a byte order mark as the character that it is", () => {
    const decode = (hex: string) =>
      Reader.decode(Reader.fromBytes(fromHex(hex)), (reader) => reader.string(), undefined)
    assert.strictEqual(decode("03efbbbf"), "\ufeff")
    assert.strictEqual(decode("04f09f9880"), "😀")
    assert.strictEqual(decode("1e" + "61".repeat(30)), "a".repeat(30))
    for (const hex of ["02c328", "0180", "02c080", "03eda080", "02f09f", "1e" + "61".repeat(29) + "ff"]) {
      assert.throws(() => decode(hex), DecodeError)
    }
  })

  it("does not look again before the bytes are there that it needs", () => {
    let attempts = 0
    const read = (reader: Reader.Reader) => {
      attempts++
      return reader.blob(60000).length
    }
    const reader = Reader.fromBytes(fromHex("8000c350"))
    assert.strictEqual(Reader.decode(reader, read, undefined), Reader.NeedMore)
    assert.strictEqual(reader.needed, 50004)
    for (let i = 0; i < 49999; i++) {
      reader.push(Uint8Array.of(0))
      assert.strictEqual(Reader.decode(reader, read, undefined), Reader.NeedMore)
    }
    assert.strictEqual(attempts, 1)
    reader.push(Uint8Array.of(0))
    assert.strictEqual(Reader.decode(reader, read, undefined), 50000)
    assert.strictEqual(attempts, 2)
  })

  it("reads the items of a list once, however the bytes are cut", () => {
    // linear: twice the items, fed byte by byte, are twice the reads
    const reads = (items: number) => {
      let count = 0
      const readItem = (reader: Reader.Reader) => {
        count++
        return reader.varint() + reader.blob(1000).length
      }
      const read = (reader: Reader.Reader) => reader.list(reader.count(10_000), readItem).length
      const writer = Writer.make()
      writer.varint(items)
      for (let i = 0; i < items; i++) {
        writer.varint(i * 1000)
        writer.blob(new Uint8Array(i % 7))
      }
      const message = writer.finish()
      const reader = Reader.make()
      for (let i = 0; i < message.length; i++) {
        reader.push(message.subarray(i, i + 1))
        const result = Reader.decode(reader, read, undefined)
        assert.strictEqual(result, i === message.length - 1 ? items : Reader.NeedMore)
      }
      return count
    }
    assert.isAtMost(reads(500), 500 * 5)
    assert.isAtMost(reads(2000), 2000 * 5)
  })

  it("copies what is new when it joins a message, however the bytes are cut", () => {
    // bytes copied for each byte of a message of one list that comes in pieces
    const copied = (items: number, size: number) => {
      const read = (reader: Reader.Reader) => reader.list(reader.count(10_000), (reader) => reader.bytes(7)).length
      const message = new Uint8Array(2 + 7 * items)
      message[0] = 0x40 | (items >> 8)
      message[1] = items
      const set = vi.spyOn(Uint8Array.prototype, "set")
      const reader = Reader.make()
      let result: number | Reader.NeedMore = Reader.NeedMore
      let bytes = 0
      for (let at = 0; at < message.length; at += size) {
        reader.push(message.slice(at, at + size))
        result = Reader.decode(reader, read, undefined)
        for (const [source] of set.mock.calls) bytes += source.length
        set.mockClear()
      }
      set.mockRestore()
      assert.strictEqual(result, items)
      return bytes / message.length
    }
    for (const size of [1, 5, 300, 1000]) for (const items of [200, 8000]) assert.isAtMost(copied(items, size), 6)
  })

  it("takes as many pieces as there are, however many come at once", () => {
    // each for as long as the others: moving those that are left would take minutes
    const push = (count: number) => {
      const reader = Reader.make()
      for (let i = 0; i < count; i++) reader.push(Uint8Array.of(i))
      return reader
    }
    const count = 300_000
    const short = push(count)
    let messages = 0
    while (Reader.decode(short, (reader) => reader.bytes(30), undefined) !== Reader.NeedMore) messages++
    assert.strictEqual(messages, count / 30)
    const long = Reader.decode(push(count), (reader) => reader.bytes(count), undefined, Infinity)
    assert.isTrue(long !== Reader.NeedMore && long.every((byte, i) => byte === (i & 0xff)))
    const between = push(count)
    let taken = 0
    for (let piece = between.take(9); piece !== undefined; piece = between.take(9)) taken += piece.length
    assert.strictEqual(taken, count)
  })

  it("forgets a list that was cut off when the bytes go elsewhere", () => {
    const read = (reader: Reader.Reader) => reader.list(reader.count(9), (reader) => reader.u8())
    const reader = Reader.fromBytes(fromHex("030102"))
    assert.strictEqual(Reader.decode(reader, read, undefined), Reader.NeedMore)
    assert.strictEqual(toHex(reader.take(9)!), "030102")
    reader.push(fromHex("020708"))
    assert.deepStrictEqual(Reader.decode(reader, read, undefined), [7, 8])
  })

  it("lets go of pieces that were read", () => {
    const reader = Reader.make()
    const chunks = (reader as unknown as { readonly chunks: ReadonlyArray<Uint8Array> }).chunks
    for (let i = 0; i < 10_000; i++) {
      reader.push(Uint8Array.of(i & 63, i & 63))
      if (i > 0) assert.strictEqual(reader.take(2)!.length > 0, true)
      assert.isBelow(chunks.length, 200)
    }
  })

  it("does not keep a large buffer for a small piece of it, nor a piece for each of many small ones", () => {
    const slab = Uint8Array.from({ length: 64 * 1024 }, (_, i) => i % 251)
    const reader = Reader.make()
    reader.push(slab.subarray(0, 1_000))
    const one = reader.take(1_000)!
    assert.deepStrictEqual([one.length, one.buffer.byteLength], [1_000, 1_000])
    // a message that is under way
    const read = (reader: Reader.Reader) => reader.bytes(5_000)
    for (let at = 0; at < 4_000; at++) {
      reader.push(slab.subarray(at, at + 1))
      assert.strictEqual(Reader.decode(reader, read, undefined), Reader.NeedMore)
    }
    const whole = reader.take(10_000)!
    assert.deepStrictEqual(whole, slab.slice(0, 4_000))
    assert.isAtMost(whole.buffer.byteLength, 8_192)
    // a large part is taken as it is
    reader.push(slab.subarray(0, 20_000))
    assert.strictEqual(reader.take(20_000)!.buffer, slab.buffer)
  })
})
