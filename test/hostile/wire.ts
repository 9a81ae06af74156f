/** The bytes of Transfork's draft 03, written by hand. */

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => new Uint8Array(Buffer.concat(parts))

export const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"))

/** A variable-length integer as QUIC has it, in as few bytes as it takes. */
export const varint = (value: number): Uint8Array => {
  if (value < 64) return Uint8Array.of(value)
  if (value < 2 ** 14) return Uint8Array.of(0x40 | value >> 8, value & 255)
  const bytes = Buffer.alloc(value < 2 ** 30 ? 4 : 8)
  if (bytes.length === 4) bytes.writeUInt32BE(value + 2 ** 31)
  else bytes.writeBigUInt64BE(BigInt(value) + (BigInt(3) << BigInt(62)))
  return new Uint8Array(bytes)
}

/** The largest one: 2^62 - 1. */
export const most: Uint8Array = hex("ffffffffffffffff")

export const string = (text: string | Uint8Array): Uint8Array => {
  const bytes = typeof text === "string" ? Buffer.from(text) : text
  return concat(varint(bytes.length), bytes)
}

export const path = (...parts: ReadonlyArray<string | Uint8Array>): Uint8Array =>
  concat(varint(parts.length), ...parts.map(string))

/** What opens an Announce stream. */
export const announcePlease = (prefix: Uint8Array): Uint8Array => concat(varint(1), prefix)

export const announce = (status: "ended" | "active", suffix: Uint8Array): Uint8Array =>
  concat(varint(status === "active" ? 1 : 0), suffix)

export const live: Uint8Array = varint(2)

/** What opens a Subscribe stream: priority 0, oldest group first, without end. */
export const subscribe = (id: number, path: Uint8Array): Uint8Array =>
  concat(varint(2), varint(id), path, varint(128), varint(1), varint(0), varint(0), varint(0))

/** What opens a Fetch stream. */
export const fetch = (path: Uint8Array, group: number): Uint8Array =>
  concat(varint(3), path, varint(128), varint(group), varint(0))

/** What opens an Info stream. */
export const infoPlease = (path: Uint8Array): Uint8Array => concat(varint(4), path)

/** The answer to SUBSCRIBE: priority 0, latest group 0, oldest group first, never expires. */
export const info: Uint8Array = concat(varint(128), varint(0), varint(1), varint(0))

/** What opens a Group stream. */
export const group = (subscription: number, sequence: number): Uint8Array =>
  concat(varint(0), varint(subscription), varint(sequence))

export const frame = (payload: Uint8Array): Uint8Array => concat(varint(payload.length), payload)
