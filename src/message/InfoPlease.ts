/**
 * INFO_PLEASE: a subscriber asks what a publisher knows of a track.
 *
 * **Details**
 *
 * Its bytes: the path (draft-03, section "INFO_PLEASE"; InfoRequest in the crate).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { Path } from "../core/Path.ts"
import * as Field from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of INFO_PLEASE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const InfoPlease = Schema.TaggedStruct("InfoPlease", {
  path: Path
})

/**
 * INFO_PLEASE.
 *
 * @category models
 * @since 0.1.0
 */
export interface InfoPlease extends Schema.Schema.Type<typeof InfoPlease> {}

/**
 * Writes the message. Throws `BoundsExceeded` when the path is not valid.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<InfoPlease, Profile>["encode"] = (writer, message) =>
  Field.writePath(writer, message.path)

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` beyond the limits of a path, `DecodeError` when it is not
 * UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<InfoPlease, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<InfoPlease, Uint8Array> = Wire.codec(InfoPlease, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader): InfoPlease => ({ _tag: "InfoPlease", path: Field.readPath(reader) })
