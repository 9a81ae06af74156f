/**
 * SUBSCRIBE_UPDATE: a subscriber changes what it asked for with SUBSCRIBE, on the same stream.
 *
 * **Details**
 *
 * Its bytes: priority, order, expires, min, max (draft-03, section "SUBSCRIBE_UPDATE"); `fork04` has no expires. In the
 * crate its priority is another than everywhere else: see `Profile.updatePriority`.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import type * as Types from "effect/Types"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { GroupOrder } from "../core/GroupOrder.ts"
import { Priority } from "../core/Priority.ts"
import * as Field from "./Field.ts"
import { Bound, Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of SUBSCRIBE_UPDATE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SubscribeUpdate = Schema.TaggedStruct("SubscribeUpdate", {
  priority: Priority,
  order: GroupOrder,
  /** How long a group is worth sending after it has finished, in milliseconds; 0 means for ever. */
  expires: Uint,
  /** The first group wanted: at least the one before; unchanged when absent. */
  min: Schema.optionalKey(Bound),
  /** The last group wanted: at most the one before; unchanged when absent. */
  max: Schema.optionalKey(Bound)
})

/**
 * SUBSCRIBE_UPDATE.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscribeUpdate extends Schema.Schema.Type<typeof SubscribeUpdate> {}

/**
 * Writes the message. Throws `BoundsExceeded` for a value out of its range.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<SubscribeUpdate, Profile>["encode"] = (writer, message, profile) => {
  Field.writeUpdatePriority(writer, message.priority, profile)
  Field.writeOrder(writer, message.order, profile)
  Field.writeExpires(writer, message.expires, profile)
  Field.writeRange(writer, message)
}

/**
 * Reads the message, or `NeedMore`. Throws `DecodeError` for an unknown order.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<SubscribeUpdate, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<SubscribeUpdate, Uint8Array> = Wire.codec(SubscribeUpdate, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader, profile: Profile): SubscribeUpdate =>
  Field.readRange<Types.Mutable<SubscribeUpdate>>(reader, {
    _tag: "SubscribeUpdate",
    priority: Field.readUpdatePriority(reader, profile),
    order: Field.readOrder(reader, profile),
    expires: Field.readExpires(reader, profile)
  })
