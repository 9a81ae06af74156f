/**
 * SUBSCRIBE_GAP: a publisher tells that groups will not arrive, on the Subscribe stream.
 *
 * **Details**
 *
 * Its bytes: start, count, code (draft-03, section "SUBSCRIBE_GAP"; GroupDrop in the crate).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Varint from "../coding/Varint.ts"
import * as Wire from "../coding/Wire.ts"
import { BoundsExceeded, DecodeError } from "../core/MoqError.ts"
import { Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of SUBSCRIBE_GAP.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SubscribeGap = Schema.TaggedStruct("SubscribeGap", {
  /** The first group that is missing. */
  start: Uint,
  /** How many more are missing after it; 0 means that one only. `start + count` is at most 2^53-1. */
  count: Uint,
  /** Why, as a code of `MoqError`; at most 2^32-1 in the crate. */
  code: Uint
}).check(
  Schema.makeFilter(({ start, count }) => !isTooFar(start, count), {
    expected: "a range that ends at 2^53-1 or before"
  })
)

/**
 * SUBSCRIBE_GAP.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscribeGap extends Schema.Schema.Type<typeof SubscribeGap> {}

/**
 * Writes the message. Throws `BoundsExceeded` when the range ends beyond 2^53-1 or the code is too large for the
 * profile.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<SubscribeGap, Profile>["encode"] = (writer, message, profile) => {
  check(message.start, message.count)
  if (message.code > profile.maxGapCode) throw new BoundsExceeded({ detail: `code ${message.code} in a gap` })
  writer.varint(message.start)
  writer.varint(message.count)
  writer.varint(message.code)
}

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` when the range ends beyond 2^53-1, `DecodeError` when the
 * code is too large for the profile.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<SubscribeGap, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<SubscribeGap, Uint8Array> = Wire.codec(SubscribeGap, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader, profile: Profile): SubscribeGap => {
  const start = reader.varint()
  const count = reader.varint()
  check(start, count)
  const code = reader.varint()
  if (code > profile.maxGapCode) throw new DecodeError({ detail: `code ${code} in a gap` })
  return { _tag: "SubscribeGap", start, count, code }
}

const check = (start: number, count: number): void => {
  if (isTooFar(start, count)) throw new BoundsExceeded({ detail: "a gap ends beyond group 2^53-1" })
}

// a subtraction, because the sum would be rounded
function isTooFar(start: number, count: number): boolean {
  return start > Varint.max - count
}
