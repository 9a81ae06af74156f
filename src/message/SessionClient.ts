/**
 * SESSION_CLIENT: the first message of a client, on the Session stream.
 *
 * **Details**
 *
 * Its bytes: number of versions, the versions, extensions (draft-03, section "SESSION_CLIENT").
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import * as Field from "./Field.ts"
import { Extensions, Versions } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of SESSION_CLIENT.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionClient = Schema.TaggedStruct("SessionClient", {
  /** The versions that the client speaks, the preferred one first; at most 64. */
  versions: Versions,
  extensions: Extensions
})

/**
 * SESSION_CLIENT.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionClient extends Schema.Schema.Type<typeof SessionClient> {}

/**
 * Writes the message. Throws `BoundsExceeded` beyond 64 versions or extensions, 4 KiB in an extension, 64 KiB in all.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<SessionClient, Profile>["encode"] = (writer, message) => {
  const start = writer.length
  Field.writeVersions(writer, message.versions)
  Field.writeExtensions(writer, message.extensions, start)
}

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` for the same, `DecodeError` when an extension comes twice.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<SessionClient, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<SessionClient, Uint8Array> = Wire.codec(SessionClient, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader): SessionClient => ({
  _tag: "SessionClient",
  versions: Field.readVersions(reader),
  extensions: Field.readExtensions(reader)
})
