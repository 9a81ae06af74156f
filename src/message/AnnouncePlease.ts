/**
 * ANNOUNCE_PLEASE: a subscriber asks which tracks there are.
 *
 * **Details**
 *
 * Its bytes: the prefix as a path (draft-03, section "ANNOUNCE_PLEASE"; AnnounceInterest in older versions of the
 * crate).
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
 * A `Schema` of ANNOUNCE_PLEASE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const AnnouncePlease = Schema.TaggedStruct("AnnouncePlease", {
  /** Tracks below it are announced; the empty one asks for all. */
  prefix: Path
})

/**
 * ANNOUNCE_PLEASE.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnnouncePlease extends Schema.Schema.Type<typeof AnnouncePlease> {}

/**
 * Writes the message. Throws `BoundsExceeded` when the prefix is no valid path.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<AnnouncePlease, Profile>["encode"] = (writer, message) =>
  Field.writePath(writer, message.prefix)

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` beyond the limits of a path, `DecodeError` when it is not
 * UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<AnnouncePlease, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<AnnouncePlease, Uint8Array> = Wire.codec(AnnouncePlease, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader): AnnouncePlease => ({ _tag: "AnnouncePlease", prefix: Field.readPath(reader) })
