import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Reader from "../../src/coding/Reader.ts"
import * as Writer from "../../src/coding/Writer.ts"
import * as Greeting from "../../src/message/Greeting.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import { random, randomBytes, toHex } from "../fixtures/bytes.ts"

const hex = (digits: number) => Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${digits}}$`)))

const greetings = Schema.Struct({
  instance: Schema.Union([Schema.Undefined, hex(16)]),
  isRelay: Schema.Boolean,
  span: Schema.Union([
    Schema.Undefined,
    Schema.Struct({ traceId: hex(32), spanId: hex(16), sampled: Schema.Boolean })
  ])
})

const nothing = { instance: undefined, isRelay: false, span: undefined }

const utf8 = (text: string) => new TextEncoder().encode(text)

const [instance, relay, span] = [0x6d6f7101, 0x6d6f7102, 0x6d6f7103]

const all: Greeting.Greeting = {
  instance: "0123456789abcdef",
  isRelay: true,
  span: { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7", sampled: true }
}

const setup = (greeting: Greeting.Greeting): Uint8Array =>
  Writer.encode(Writer.make(), SessionClient.encode, {
    _tag: "SessionClient",
    versions: [0xff0bad03],
    extensions: Greeting.toExtensions(greeting)
  }, Profile.draft03)

describe("Greeting", () => {
  it.effect.prop(
    "comes back as it went, through SETUP as well",
    [greetings],
    ([greeting]) =>
      Effect.sync(() => {
        assert.deepStrictEqual(Greeting.fromExtensions(Greeting.toExtensions(greeting)), greeting)
        const decoded = SessionClient.decode(Reader.fromBytes(setup(greeting)), Profile.draft03)
        if (decoded === Reader.NeedMore) throw new Error("SETUP is not complete")
        assert.deepStrictEqual(Greeting.fromExtensions(decoded.extensions), greeting)
        assert.strictEqual(Greeting.isEmpty(greeting), decoded.extensions.length === 0)
      }),
    { arbitrary: { runs: 300 } }
  )

  it("has these bytes in SETUP", () => {
    const said = [
      ["c00000006d6f7101", "10", "0123456789abcdef"],
      ["c00000006d6f7102", "00", ""],
      ["c00000006d6f7103", "37", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
    ].map(([id, length, text]) => `${id}${length}${toHex(utf8(text!))}`)
    assert.strictEqual(toHex(setup(all)), `01c0000000ff0bad0303${said.join("")}`)
    assert.strictEqual(toHex(setup({})), "01c0000000ff0bad0300")
    assert.strictEqual(toHex(setup({ isRelay: false })), "01c0000000ff0bad0300")
  })

  it("whatever else comes says nothing, and hides nothing", () => {
    assert.deepStrictEqual(Greeting.fromExtensions([]), nothing)
    const others = [
      { id: 0, payload: utf8("0123456789abcdef") },
      { id: relay + 2, payload: new Uint8Array(0) },
      { id: Number.MAX_SAFE_INTEGER, payload: new Uint8Array(4096) }
    ]
    assert.deepStrictEqual(Greeting.fromExtensions(others), nothing)
    assert.deepStrictEqual(Greeting.fromExtensions([...others, ...Greeting.toExtensions(all)].reverse()), all)
  })

  it("one that is malformed says nothing, and the others say what they say", () => {
    const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    const broken: ReadonlyArray<readonly [id: number, text: string]> = [
      [instance, ""],
      [instance, "0123456789abcde"],
      [instance, "0123456789abcdef0"],
      [instance, "0123456789ABCDEF"],
      [instance, "0123456789abcdeg"],
      [instance, "0123456789abcdef\n"],
      [instance, "\ufeff0123456789abcdef"],
      [relay, "1"],
      [relay, "\0"],
      [relay, "\ufeff"],
      [span, ""],
      [span, `${traceparent}-`],
      [span, `01${traceparent.slice(2)}`],
      [span, `${traceparent.slice(0, -2)}02`],
      [span, traceparent.replaceAll("-", " ")],
      [span, traceparent.toUpperCase()]
    ]
    for (const [id, text] of broken) {
      const extensions = Greeting.toExtensions(all).filter((extension) => extension.id !== id)
      const heard = Greeting.fromExtensions([...extensions, { id, payload: utf8(text) }])
      assert.deepStrictEqual(
        heard,
        {
          ...all,
          ...(id === instance ? { instance: undefined } : id === relay ? { isRelay: false } : { span: undefined })
        },
        JSON.stringify(text)
      )
    }
  })

  it("payloads of every size, and of any bytes, say nothing that is not there", () => {
    const next = random(7)
    for (let size = 0; size <= 4096; size += size < 64 ? 1 : 61) {
      const payload = randomBytes(next, size)
      for (const id of [instance, relay, span]) {
        assert.deepStrictEqual(
          Greeting.fromExtensions([{ id, payload }]),
          id === relay && size === 0 ? { ...nothing, isRelay: true } : nothing,
          `${id} ${size}`
        )
      }
    }
    // a flip of any bit of a good one leaves something well-formed, or nothing
    for (const extension of Greeting.toExtensions(all)) {
      for (let bit = 0; bit < extension.payload.length * 8; bit++) {
        const payload = extension.payload.slice()
        payload[bit >> 3]! ^= 1 << (bit & 7)
        const heard = Greeting.fromExtensions([{ id: extension.id, payload }])
        const again = Greeting.toExtensions(heard)
        assert.isAtMost(again.length, 1)
        if (again[0] !== undefined) assert.strictEqual(toHex(again[0].payload), toHex(payload))
      }
    }
  })
})
