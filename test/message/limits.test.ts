import { assert, describe, it } from "@effect/vitest"
import * as Reader from "../../src/coding/Reader.ts"
import * as Writer from "../../src/coding/Writer.ts"
import {
  BoundsExceeded,
  DecodeError,
  FrameTooLarge,
  NotSupportedByPeer,
  UnexpectedStream
} from "../../src/core/MoqError.ts"
import type { Path } from "../../src/core/Path.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Fetch from "../../src/message/Fetch.ts"
import * as FetchUpdate from "../../src/message/FetchUpdate.ts"
import * as Frame from "../../src/message/Frame.ts"
import * as Group from "../../src/message/Group.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import { draft03, fork02, fork04, type Profile } from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import { fromHex, toHex } from "../fixtures/bytes.ts"

interface Codec<M> {
  readonly encode: (writer: Writer.Writer, message: M, profile: Profile) => void
  readonly decode: (reader: Reader.Reader, profile: Profile) => M | Reader.NeedMore
}

const encode = <M>(codec: Codec<M>, message: M, profile: Profile = draft03) =>
  Writer.encode(Writer.make(), codec.encode, message, profile)

const decode = <M>(codec: Codec<M>, bytes: Uint8Array | string, profile: Profile = draft03) =>
  codec.decode(Reader.fromBytes(typeof bytes === "string" ? fromHex(bytes) : bytes), profile)

// writes a message that our own encoder refuses
const bytesOf = (write: (writer: Writer.Writer) => void): Uint8Array => {
  const writer = Writer.make()
  write(writer)
  return writer.finish()
}

const rawPath = (path: Path) =>
  bytesOf((writer) => {
    writer.varint(path.length)
    for (const part of path) writer.string(part)
  })

const parts = (count: number): Path => Array.from({ length: count }, () => "")

describe("paths", () => {
  const please = (prefix: Path): AnnouncePlease.AnnouncePlease => ({ _tag: "AnnouncePlease", prefix })

  const ends: ReadonlyArray<Path> = [
    [],
    parts(32),
    ["x".repeat(1023)],
    ["é".repeat(511), "x"],
    ["", "x".repeat(1022), "x"],
    ["\u{feff}a", "\0"]
  ]
  const beyond: ReadonlyArray<Path> = [
    parts(33),
    ["x".repeat(1024)],
    ["é".repeat(512)],
    ["x".repeat(1000), "x".repeat(24)]
  ]

  it("go up to 32 parts and 1,023 bytes, and no further", () => {
    for (const path of ends) {
      assert.deepStrictEqual(decode(AnnouncePlease, encode(AnnouncePlease, please(path))), please(path))
    }
    for (const path of beyond) {
      assert.throws(() => encode(AnnouncePlease, please(path)), BoundsExceeded)
      assert.throws(() => decode(AnnouncePlease, rawPath(path)), BoundsExceeded)
    }
  })

  it("are refused as soon as a length tells, in every message and however they are cut", () => {
    // 1,023 bytes in the first part, then the length of a second one
    const bytes = Buffer.concat([fromHex("0243ff"), Buffer.alloc(1023, "x"), fromHex("01")])
    const before: ReadonlyArray<[Codec<unknown>, string]> = [
      [AnnouncePlease as Codec<unknown>, ""],
      [InfoPlease as Codec<unknown>, ""],
      [Fetch as Codec<unknown>, ""],
      [Announce as Codec<unknown>, "01"],
      [Subscribe as Codec<unknown>, "00"]
    ]
    for (const [codec, prefix] of before) {
      const whole = new Uint8Array(Buffer.concat([fromHex(prefix), bytes]))
      assert.throws(() => decode(codec, whole), BoundsExceeded)
      const reader = Reader.make()
      for (let at = 0; at < whole.length - 1; at++) {
        reader.push(whole.subarray(at, at + 1))
        assert.strictEqual(codec.decode(reader, draft03), Reader.NeedMore)
      }
      reader.push(whole.subarray(whole.length - 1))
      assert.throws(() => codec.decode(reader, draft03), BoundsExceeded)
    }
  })

  it("are refused when their length or number is absurd, without a byte of them", () => {
    for (
      const hex of ["01ffffffffffffffff", "01c01fffffffffffff", "0180100000", "21", "bfffffff", "ffffffffffffffff"]
    ) {
      assert.throws(() => decode(AnnouncePlease, hex), BoundsExceeded)
    }
  })

  it("have parts that are UTF-8", () => {
    for (const hex of ["0102c328", "0103eda080", "02016101ff"]) {
      assert.throws(() => decode(AnnouncePlease, hex), DecodeError)
    }
    assert.throws(() => encode(AnnouncePlease, please(["\ud800"])), BoundsExceeded)
  })

  it("may be empty in SUBSCRIBE, as far as the codec goes", () => {
    const message = decode(Subscribe, "00000000000000")
    assert(message !== Reader.NeedMore)
    assert.deepStrictEqual(message.path, [])
  })
})

describe("setup", () => {
  const client = (versions: ReadonlyArray<number>, sizes: ReadonlyArray<number>): SessionClient.SessionClient => ({
    _tag: "SessionClient",
    versions,
    extensions: sizes.map((size, id) => ({ id, payload: new Uint8Array(size) }))
  })
  const many = (count: number, value: number) => Array.from({ length: count }, () => value)

  const rawClient = ({ extensions, versions }: SessionClient.SessionClient) =>
    bytesOf((writer) => {
      writer.varint(versions.length)
      for (const version of versions) writer.varint(version)
      writer.varint(extensions.length)
      for (const { id, payload } of extensions) {
        writer.varint(id)
        writer.blob(payload)
      }
    })

  it("takes 64 versions, 64 extensions, 4 KiB in each and 64 KiB in all, and no more", () => {
    for (const message of [client(many(64, 7), []), client([], many(64, 0)), client([1], many(15, 4096))]) {
      const bytes = encode(SessionClient, message)
      assert.strictEqual(toHex(bytes), toHex(rawClient(message)))
      assert.deepStrictEqual(decode(SessionClient, bytes), message)
    }
    for (
      const message of [
        client(many(65, 7), []),
        client([], many(65, 0)),
        client([], [4097]),
        client([], many(16, 4096))
      ]
    ) {
      assert.throws(() => encode(SessionClient, message), BoundsExceeded)
      assert.throws(() => decode(SessionClient, rawClient(message)), BoundsExceeded)
    }
  })

  it("takes a message of exactly 64 KiB", () => {
    const fill = (last: number) => client([], [...many(15, 4096), last])
    const room = 65536 - rawClient(fill(0)).length - 1
    assert.strictEqual(encode(SessionClient, fill(room)).length, 65536)
    assert.deepStrictEqual(decode(SessionClient, encode(SessionClient, fill(room))), fill(room))
    assert.throws(() => encode(SessionClient, fill(room + 1)), BoundsExceeded)
    assert.throws(() => decode(SessionClient, rawClient(fill(room + 1))), BoundsExceeded)
  })

  it("counts only the message itself, not what waits in the writer before it", () => {
    const writer = Writer.make()
    writer.bytes(new Uint8Array(65536))
    SessionClient.encode(writer, client([1], [1]), draft03)
    assert.strictEqual(writer.length, 65536 + 6)
  })

  it("refuses absurd counts and lengths at once", () => {
    for (const hex of ["ffffffffffffffff", "4041", "004041", "0001005001", "000100ffffffffffffffff"]) {
      assert.throws(() => decode(SessionClient, hex), BoundsExceeded)
    }
    for (const hex of ["004041", "ffffffffffffffff00"]) assert.throws(() => decode(SessionServer, hex), BoundsExceeded)
  })

  it("has each extension once", () => {
    assert.throws(() => decode(SessionServer, "000205000500"), DecodeError)
    // 5 in two lengths is still 5
    assert.throws(() => decode(SessionServer, "00020500400500"), DecodeError)
    const extensions = [{ id: 5, payload: new Uint8Array(0) }, { id: 5, payload: new Uint8Array(0) }]
    assert.throws(() => encode(SessionServer, { _tag: "SessionServer", version: 0, extensions }), BoundsExceeded)
  })

  it("costs linear time byte by byte", () => {
    const reads = (items: number) => {
      const message = client(many(items, 2 ** 40), many(items, 900))
      const bytes = encode(SessionClient, message)
      const reader = Reader.make()
      let reads = 0
      const counted = new Proxy(reader, {
        get: (target, key) => {
          const member: unknown = Reflect.get(target, key)
          if (typeof member === "function") reads++
          return member
        }
      })
      for (let at = 0; at < bytes.length; at++) {
        assert.strictEqual(SessionClient.decode(counted, draft03), Reader.NeedMore)
        reader.push(bytes.subarray(at, at + 1))
      }
      assert.deepStrictEqual(SessionClient.decode(counted, draft03), message)
      return reads
    }
    // every call of the reader is counted: twice the items, twice the calls, and some more where a count lies on the edge of
    // a piece; reading all again would be four times
    assert.isAtMost(reads(64), reads(32) * 2.6)
  })
})

describe("numbers", () => {
  const subscribe = (range: { readonly min?: number; readonly max?: number }): Subscribe.Subscribe => ({
    _tag: "Subscribe",
    id: 0,
    path: ["a"],
    priority: 0,
    order: "asc",
    expires: 0,
    ...range
  })

  it("min and max go up to 2^53-2; absent ones are absent keys", () => {
    for (const range of [{}, { min: 0 }, { max: 0 }, { min: 2 ** 53 - 2, max: 2 ** 53 - 2 }]) {
      const message = decode(Subscribe, encode(Subscribe, subscribe(range)))
      assert.deepStrictEqual(message, subscribe(range))
    }
    for (const range of [{ min: 2 ** 53 - 1 }, { max: 2 ** 53 - 1 }, { min: -1 }, { max: -1 }, { max: 0.5 }]) {
      assert.throws(() => encode(Subscribe, subscribe(range)), BoundsExceeded)
    }
  })

  it("a priority above the highest is the highest, in a varint", () => {
    const priority = (hex: string, profile: Profile) => {
      const message = decode(SubscribeUpdate, hex, profile)
      assert(message !== Reader.NeedMore)
      return message.priority
    }
    assert.strictEqual(priority("40ff00000000", draft03), 127)
    assert.strictEqual(priority("410000000000", draft03), 127)
    assert.strictEqual(priority("bfffffff00000000", draft03), 127)
    assert.strictEqual(priority("407f000000", fork04), 127)
    assert.strictEqual(priority("4080000000", fork04), 127)
    assert.strictEqual(priority("00000000", fork04), 0)
    const info = decode(Info, "ffffffffff00")
    assert.strictEqual(info, Reader.NeedMore)
    const high = decode(Info, "c01fffffffffffff000000")
    assert(high !== Reader.NeedMore)
    assert.strictEqual(high.priority, 127)
  })

  it("a priority of the crate is a byte, -128 to 127", () => {
    for (const [hex, priority] of [["00", -128], ["7f", -1], ["80", 0], ["ff", 127]] as const) {
      const info: Info.Info = { _tag: "Info", priority, latest: 5, order: "asc", expires: 0 }
      assert.strictEqual(toHex(encode(Info, info, fork04)), hex + "0005")
      assert.deepStrictEqual(decode(Info, hex + "0005", fork04), info)
    }
  })

  it("what is no priority has no bytes", () => {
    for (const priority of [-129, 128, 0.5, NaN]) {
      for (const profile of [draft03, fork04]) {
        const info: Info.Info = { _tag: "Info", priority, latest: 0, order: "asc", expires: 0 }
        assert.throws(() => encode(Info, info, profile), BoundsExceeded)
        const update: SubscribeUpdate.SubscribeUpdate = { _tag: "SubscribeUpdate", priority, order: "asc", expires: 0 }
        assert.throws(() => encode(SubscribeUpdate, update, profile), BoundsExceeded)
      }
    }
  })

  it("what is not minimal is taken, and written minimal", () => {
    const group = decode(Group, "400780000005")
    assert.deepStrictEqual(group, { _tag: "Group", subscribe: 7, sequence: 5 })
    assert(group !== Reader.NeedMore)
    assert.strictEqual(toHex(encode(Group, group)), "0705")
  })

  it("orders and statuses out of range are refused", () => {
    for (
      const [hex, profile] of [["80000003", draft03], ["8002", fork02], ["804002", fork02], [
        "80bfffffff",
        fork04
      ]] as const
    ) {
      const bytes = profile === draft03 ? "0000" + hex + "00" : hex + "0000"
      assert.throws(() => decode(Info, bytes, profile), DecodeError)
    }
    for (
      const [hex, profile] of [["0300", draft03], ["ff00", fork02], ["400100", fork04], ["3f00", draft03]] as const
    ) {
      assert.throws(() => decode(Announce, hex, profile), DecodeError)
    }
    // a varint of two bytes is a status in the draft and none in the crate
    assert.deepStrictEqual(decode(Announce, "400100"), { _tag: "Announce", status: "active", suffix: [] })
  })

  it("live has no suffix", () => {
    for (const profile of [draft03, fork04, fork02]) {
      assert.strictEqual(toHex(encode(Announce, { _tag: "Announce", status: "live" }, profile)), "02")
      const reader = Reader.fromBytes(fromHex("020000"))
      assert.deepStrictEqual(Announce.decode(reader, profile), { _tag: "Announce", status: "live" })
      assert.strictEqual(reader.available, 2)
    }
  })

  it("a gap ends at 2^53-1 or before, and its code fits 32 bits in the crate", () => {
    const gap = (start: number, count: number, code: number): SubscribeGap.SubscribeGap => ({
      _tag: "SubscribeGap",
      start,
      count,
      code
    })
    const last = 2 ** 53 - 1
    const raw = (message: SubscribeGap.SubscribeGap) =>
      bytesOf((writer) => {
        writer.varint(message.start)
        writer.varint(message.count)
        writer.varint(message.code)
      })
    for (const good of [gap(last, 0, 0), gap(0, last, 0), gap(last - 7, 7, 2 ** 32 - 1)]) {
      for (const profile of [draft03, fork02]) {
        assert.deepStrictEqual(decode(SubscribeGap, encode(SubscribeGap, good, profile), profile), good)
      }
    }
    for (const far of [gap(last, 1, 0), gap(1, last, 0), gap(last, last, 0)]) {
      assert.throws(() => encode(SubscribeGap, far), BoundsExceeded)
      assert.throws(() => decode(SubscribeGap, raw(far)), BoundsExceeded)
    }
    const code = gap(0, 0, 2 ** 32)
    assert.deepStrictEqual(decode(SubscribeGap, encode(SubscribeGap, code)), code)
    assert.throws(() => encode(SubscribeGap, code, fork04), BoundsExceeded)
    assert.throws(() => decode(SubscribeGap, raw(code), fork04), DecodeError)
  })
})

describe("FETCH_UPDATE", () => {
  it("does not exist in the crate", () => {
    const message: FetchUpdate.FetchUpdate = { _tag: "FetchUpdate", priority: 1 }
    assert.deepStrictEqual(decode(FetchUpdate, encode(FetchUpdate, message)), message)
    for (const profile of [fork02, fork04]) {
      assert.throws(() => encode(FetchUpdate, message, profile), NotSupportedByPeer)
      assert.throws(() => decode(FetchUpdate, "80", profile), DecodeError)
    }
  })
})

describe("FRAME", () => {
  const limit = 16 * 1024 * 1024

  it("is at most 16 MiB, and refused by its header alone", () => {
    assert.strictEqual(Frame.decodeHeader(Reader.fromBytes(fromHex("81000000"))), limit)
    assert.throws(() => Frame.decodeHeader(Reader.fromBytes(fromHex("81000001"))), FrameTooLarge)
    assert.throws(() => Frame.decodeHeader(Reader.fromBytes(fromHex("05")), 4), FrameTooLarge)
    assert.throws(() => decode(Frame, "81000001"), FrameTooLarge)
    assert.strictEqual(decode(Frame, "81000000"), Reader.NeedMore)
    assert.throws(() => Frame.decodeHeader(Reader.fromBytes(fromHex("ffffffffffffffff"))), BoundsExceeded)
    const writer = Writer.make()
    Frame.encodeHeader(writer, limit)
    assert.strictEqual(toHex(writer.finish()), "81000000")
    assert.throws(() => Frame.encodeHeader(writer, limit + 1), FrameTooLarge)
    assert.throws(() => encode(Frame, { _tag: "Frame", payload: new Uint8Array(limit + 1) }), FrameTooLarge)
  })

  it("of 16 MiB goes through whole", () => {
    const payload = new Uint8Array(limit).fill(7)
    const frame = decode(Frame, encode(Frame, { _tag: "Frame", payload }))
    assert(frame !== Reader.NeedMore)
    assert.strictEqual(Buffer.compare(frame.payload, payload), 0)
  })

  it("after frame, a group stream is read without a copy of a payload", () => {
    const chunk = fromHex("0000050568656c6c6f0003616263")
    const reader = Reader.fromBytes(chunk)
    assert.strictEqual(StreamType.decodeUni(reader), "group")
    assert.deepStrictEqual(Group.decode(reader, fork02), { _tag: "Group", subscribe: 0, sequence: 5 })
    const texts: Array<string> = []
    for (let size = Frame.decodeHeader(reader); size !== Reader.NeedMore; size = Frame.decodeHeader(reader)) {
      const payload = reader.take(size)
      if (payload !== undefined) assert.strictEqual(payload.buffer, chunk.buffer)
      texts.push(Buffer.from(payload ?? []).toString())
    }
    assert.deepStrictEqual(texts, ["hello", "", "abc"])
  })
})

describe("StreamType", () => {
  it("has its number in front of each stream", () => {
    for (const [number, type] of StreamType.bi.entries()) {
      const writer = Writer.make()
      StreamType.encodeBi(writer, type)
      assert.strictEqual(toHex(writer.finish()), `0${number}`)
      assert.strictEqual(StreamType.decodeBi(Reader.fromBytes(Uint8Array.of(number))), type)
    }
    assert.deepStrictEqual(StreamType.bi, ["session", "announce", "subscribe", "fetch", "info"])
    const writer = Writer.make()
    StreamType.encodeUni(writer, "group")
    assert.strictEqual(toHex(writer.finish()), "00")
    assert.strictEqual(StreamType.decodeUni(Reader.fromBytes(fromHex("4000"))), "group")
  })

  it("an unknown one is an unexpected stream", () => {
    for (const hex of ["05", "3f", "7fff", "bfffffff"]) {
      assert.throws(() => StreamType.decodeBi(Reader.fromBytes(fromHex(hex))), UnexpectedStream)
    }
    assert.throws(() => StreamType.decodeUni(Reader.fromBytes(fromHex("01"))), UnexpectedStream)
    assert.strictEqual(StreamType.decodeBi(Reader.make()), Reader.NeedMore)
    assert.strictEqual(StreamType.decodeUni(Reader.fromBytes(fromHex("40"))), Reader.NeedMore)
  })
})
