/**
 * GROUP: which group a Group stream carries, its first message; frames follow to the end of the stream.
 *
 * **Details**
 *
 * Its bytes: subscribe id, sequence (draft-03, section "GROUP").
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import * as Integers from "../core/Integers.ts"
import { BoundsExceeded, UnexpectedStream } from "../core/MoqError.ts"
import { Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of GROUP.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Group = Schema.TaggedStruct("Group", {
  /** The id of the subscription that asked for it. */
  subscribe: Uint,
  sequence: Uint
})

/**
 * GROUP.
 *
 * @category models
 * @since 0.1.0
 */
export interface Group extends Schema.Schema.Type<typeof Group> {}

/**
 * Writes the message. Throws `BoundsExceeded` for a value out of its range.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<Group, Profile>["encode"] = (writer, message) => {
  writer.varint(message.subscribe)
  writer.varint(message.sequence)
}

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` above 2^53-1.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<Group, Profile>["decode"] = (reader, profile) => Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<Group, Uint8Array> = Wire.codec(Group, { encode, decode })

/**
 * What the stream of a group begins with: the type of the stream, and GROUP.
 *
 * @internal
 */
export interface Header {
  readonly subscribe: number
  readonly sequence: number
  /** How many bytes it takes. */
  readonly length: number
}

/**
 * Writes what the stream of a group begins with: each group has one, and no need of a `Writer`.
 *
 * @internal
 */
export const encodeHeader = (subscribe: number, sequence: number): Uint8Array => {
  // after the type, which is 0
  const at = 1 + Integers.size(subscribe)
  const bytes = new Uint8Array(at + Integers.size(sequence))
  Integers.put(bytes, 1, subscribe)
  Integers.put(bytes, at, sequence)
  return bytes
}

/**
 * Reads what the stream of a group begins with; `undefined` while that is not all there. Throws `UnexpectedStream` for
 * another type of stream, and `BoundsExceeded` above 2^53-1.
 *
 * @internal
 */
export const decodeHeader = (bytes: Uint8Array): Header | undefined => {
  let subscribe = 0
  let sequence = 0
  let at = 0
  for (let field = 0; field < 3; field++) {
    const end = at + Integers.sizeAt(bytes, at)
    if (end > bytes.length) return undefined
    const value = Integers.valueAt(bytes, at)
    if (value > Number.MAX_SAFE_INTEGER) throw new BoundsExceeded({ detail: "a number is larger than 2^53-1" })
    if (field === 0 && value > 0) throw new UnexpectedStream({ detail: `stream type ${value}` })
    subscribe = sequence
    sequence = value
    at = end
  }
  return { subscribe, sequence, length: at }
}

// internal

const read = (reader: Reader.Reader): Group => ({
  _tag: "Group",
  subscribe: reader.varint(),
  sequence: reader.varint()
})
