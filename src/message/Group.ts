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

// internal

const read = (reader: Reader.Reader): Group => ({
  _tag: "Group",
  subscribe: reader.varint(),
  sequence: reader.varint()
})
