/**
 * FETCH: a subscriber asks for one group, or its end, the first message of a Fetch stream.
 *
 * **Details**
 *
 * Its bytes: path, priority, group, frame (draft-03, section "FETCH"). The crate calls the last one an offset and does
 * not serve it.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { Path } from "../core/Path.ts"
import { Priority } from "../core/Priority.ts"
import * as Field from "./Field.ts"
import { Uint } from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of FETCH.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Fetch = Schema.TaggedStruct("Fetch", {
  path: Path,
  priority: Priority,
  /** The sequence of the group. */
  group: Uint,
  /** The index of the first frame wanted. */
  frame: Uint
})

/**
 * FETCH.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fetch extends Schema.Schema.Type<typeof Fetch> {}

/**
 * Writes the message. Throws `BoundsExceeded` for a value out of its range.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<Fetch, Profile>["encode"] = (writer, message, profile) => {
  Field.writePath(writer, message.path)
  Field.writePriority(writer, message.priority, profile)
  writer.varint(message.group)
  writer.varint(message.frame)
}

/**
 * Reads the message, or `NeedMore`. Throws `BoundsExceeded` beyond the limits of a path, `DecodeError` when it is not
 * UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<Fetch, Profile>["decode"] = (reader, profile) => Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<Fetch, Uint8Array> = Wire.codec(Fetch, { encode, decode })

// internal

const read = (reader: Reader.Reader, profile: Profile): Fetch => ({
  _tag: "Fetch",
  path: Field.readPath(reader),
  priority: Field.readPriority(reader, profile),
  group: reader.varint(),
  frame: reader.varint()
})
