/**
 * SESSION_SERVER: the answer of a server to SESSION_CLIENT.
 *
 * **Details**
 *
 * Its bytes: the version, extensions (draft-03, section "SESSION_SERVER").
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import * as Field from "./Field.ts"
import { Extensions, Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of SESSION_SERVER.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionServer = Schema.TaggedStruct("SessionServer", {
  /** The version that the server chose from those that the client offered. */
  version: Uint,
  extensions: Extensions
})

/**
 * SESSION_SERVER.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionServer extends Schema.Schema.Type<typeof SessionServer> {}

/**
 * Writes the message. Throws `BoundsExceeded` beyond 64 extensions, 4 KiB in one of them, 64 KiB in all.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<SessionServer, Profile>["encode"] = (writer, message) => {
  const start = writer.length
  writer.varint(message.version)
  Field.writeExtensions(writer, message.extensions, start)
}

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` for the same, `DecodeError` when an extension comes twice.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<SessionServer, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<SessionServer, Uint8Array> = Wire.codec(SessionServer, {
  encode,
  decode
})

// internal

const read = (reader: Reader.Reader): SessionServer => ({
  _tag: "SessionServer",
  version: reader.varint(),
  extensions: Field.readExtensions(reader)
})
