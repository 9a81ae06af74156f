/**
 * FETCH_UPDATE: a subscriber changes the priority of a FETCH, on the same stream.
 *
 * **Details**
 *
 * Its bytes: the priority (draft-03, section "FETCH_UPDATE"). The crate has no such message.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { DecodeError, NotSupportedByPeer } from "../core/MoqError.ts"
import { Priority } from "../core/Priority.ts"
import * as Field from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of FETCH_UPDATE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const FetchUpdate = Schema.TaggedStruct("FetchUpdate", {
  priority: Priority
})

/**
 * FETCH_UPDATE.
 *
 * @category models
 * @since 0.1.0
 */
export interface FetchUpdate extends Schema.Schema.Type<typeof FetchUpdate> {}

/**
 * Writes the message. Throws `NotSupportedByPeer` in a profile that does not have it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<FetchUpdate, Profile>["encode"] = (writer, message, profile) => {
  if (!profile.fetchUpdate) throw new NotSupportedByPeer({ detail: `${profile.name} has no FETCH_UPDATE` })
  Field.writePriority(writer, message.priority, profile)
}

/**
 * Reads the message, or `NeedMore`. Throws `DecodeError` in a profile that does not have it.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<FetchUpdate, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<FetchUpdate, Uint8Array> = Wire.codec(FetchUpdate, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader, profile: Profile): FetchUpdate => {
  if (!profile.fetchUpdate) throw new DecodeError({ detail: `${profile.name} has no FETCH_UPDATE` })
  return { _tag: "FetchUpdate", priority: Field.readPriority(reader, profile) }
}
