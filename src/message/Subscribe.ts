/**
 * SUBSCRIBE: a subscriber asks for the groups of a track, the first message of a Subscribe stream.
 *
 * **Details**
 *
 * Its bytes: id, path, priority, order, expires, min, max (draft-03, section "SUBSCRIBE"); `fork04` has no expires.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import type * as Types from "effect/Types"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { GroupOrder } from "../core/GroupOrder.ts"
import { Path } from "../core/Path.ts"
import { Priority } from "../core/Priority.ts"
import * as Field from "./Field.ts"
import { Bound, Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of SUBSCRIBE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Subscribe = Schema.TaggedStruct("Subscribe", {
  /** Names the subscription in GROUP; never used twice in a session. */
  id: Uint,
  path: Path,
  priority: Priority,
  order: GroupOrder,
  /** How long a group is worth sending after it has finished, in milliseconds; 0 means for ever. */
  expires: Uint,
  /** The first group wanted; the newest one when absent. */
  min: Schema.optionalKey(Bound),
  /** The last group wanted; no end when absent. */
  max: Schema.optionalKey(Bound)
})

/**
 * SUBSCRIBE.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscribe extends Schema.Schema.Type<typeof Subscribe> {}

/**
 * Writes the message. Throws `BoundsExceeded` for a value out of its range.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<Subscribe, Profile>["encode"] = (writer, message, profile) => {
  writer.varint(message.id)
  Field.writePath(writer, message.path)
  Field.writePriority(writer, message.priority, profile)
  Field.writeOrder(writer, message.order, profile)
  Field.writeExpires(writer, message.expires, profile)
  Field.writeRange(writer, message)
}

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` beyond the limits of a path, `DecodeError` for an unknown
 * order and when the path is not UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<Subscribe, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<Subscribe, Uint8Array> = Wire.codec(Subscribe, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader, profile: Profile): Subscribe =>
  Field.readRange<Types.Mutable<Subscribe>>(reader, {
    _tag: "Subscribe",
    id: reader.varint(),
    path: Field.readPath(reader),
    priority: Field.readPriority(reader, profile),
    order: Field.readOrder(reader, profile),
    expires: Field.readExpires(reader, profile)
  })
