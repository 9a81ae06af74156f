/**
 * INFO: what a publisher knows of a track; the answer to SUBSCRIBE and INFO_PLEASE.
 *
 * **Details**
 *
 * Its bytes: priority, latest, order, expires in draft-03 (section "INFO"); priority, order, expires, latest in the
 * crate, where `fork04` has no expires.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { GroupOrder } from "../core/GroupOrder.ts"
import { Priority } from "../core/Priority.ts"
import * as Field from "./Field.ts"
import { Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of INFO.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Info = Schema.TaggedStruct("Info", {
  priority: Priority,
  /** The sequence of the newest group; also 0 when there is none yet. */
  latest: Uint,
  order: GroupOrder,
  /** How long a group is kept after it has finished, in milliseconds; 0 means for ever. */
  expires: Uint
})

/**
 * INFO.
 *
 * @category models
 * @since 0.1.0
 */
export interface Info extends Schema.Schema.Type<typeof Info> {}

/**
 * Writes the message. Throws `BoundsExceeded` for a value out of its range.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<Info, Profile>["encode"] = (writer, message, profile) => {
  Field.writePriority(writer, message.priority, profile)
  if (profile.infoLatest === "second") writer.varint(message.latest)
  Field.writeOrder(writer, message.order, profile)
  Field.writeExpires(writer, message.expires, profile)
  if (profile.infoLatest === "last") writer.varint(message.latest)
}

/**
 * Reads the message, or `NeedMore`. Throws `DecodeError` for an unknown order.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<Info, Profile>["decode"] = (reader, profile) => Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<Info, Uint8Array> = Wire.codec(Info, { encode, decode })

// internal

const read = (reader: Reader.Reader, profile: Profile): Info => {
  const priority = Field.readPriority(reader, profile)
  const second = profile.infoLatest === "second" ? reader.varint() : 0
  const order = Field.readOrder(reader, profile)
  const expires = Field.readExpires(reader, profile)
  const latest = profile.infoLatest === "last" ? reader.varint() : second
  return { _tag: "Info", priority, latest, order, expires }
}
