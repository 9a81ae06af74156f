/**
 * SESSION_UPDATE: either side tells how much it can send.
 *
 * **Details**
 *
 * Its bytes: the bitrate (draft-03, section "SESSION_UPDATE"). The crate misreads it: see `Profile.sendsSessionUpdate`.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of SESSION_UPDATE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionUpdate = Schema.TaggedStruct("SessionUpdate", {
  /** In bits per second; 0 when it is not known. */
  bitrate: Uint
})

/**
 * SESSION_UPDATE.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionUpdate extends Schema.Schema.Type<typeof SessionUpdate> {}

/**
 * Writes the message. Throws `BoundsExceeded` for a value out of its range.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<SessionUpdate, Profile>["encode"] = (writer, message) => writer.varint(message.bitrate)

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` above 2^53-1.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<SessionUpdate, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<SessionUpdate, Uint8Array> = Wire.codec(SessionUpdate, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader): SessionUpdate => ({ _tag: "SessionUpdate", bitrate: reader.varint() })
