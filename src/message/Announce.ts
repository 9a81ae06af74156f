/**
 * ANNOUNCE: a publisher tells that a track has come or gone, or that it has told of all there are.
 *
 * **Details**
 *
 * Its bytes: the status (0 ended, 1 active, 2 live; a varint in draft-03, one byte in the crate), then the suffix as a
 * path, but not for `live` (draft-03, section "ANNOUNCE").
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import { DecodeError } from "../core/MoqError.ts"
import { Path } from "../core/Path.ts"
import * as Field from "./Field.ts"
import type { Profile } from "./Profile.ts"

/**
 * A `Schema` of ANNOUNCE.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Announce = Schema.Union([
  Schema.TaggedStruct("Announce", {
    status: Schema.Literals(["active", "ended"]),
    /** The track's path without the prefix that was asked for. */
    suffix: Path
  }),
  Schema.TaggedStruct("Announce", { status: Schema.Literal("live") })
])

/**
 * ANNOUNCE.
 *
 * @category models
 * @since 0.1.0
 */
export type Announce = typeof Announce.Type

/**
 * Writes the message. Throws `BoundsExceeded` when the suffix is no valid path.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<Announce, Profile>["encode"] = (writer, message, profile) => {
  const status = statuses.indexOf(message.status)
  if (profile.announceStatus === "byte") writer.u8(status)
  else writer.varint(status)
  if (message.status !== "live") Field.writePath(writer, message.suffix)
}

/**
 * Reads the message, or `NeedMore`. Throws `DecodeError` for an unknown status and when the path is not UTF-8,
 * `BoundsExceeded` beyond the limits of a path.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<Announce, Profile>["decode"] = (reader, profile) =>
  Reader.decode(reader, read, profile)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<Announce, Uint8Array> = Wire.codec(Announce, { encode, decode })

// internal

// by their number
const statuses: ReadonlyArray<Announce["status"]> = ["ended", "active", "live"]

const read = (reader: Reader.Reader, profile: Profile): Announce => {
  const number = profile.announceStatus === "byte" ? reader.u8() : reader.varint()
  const status = statuses[number]
  if (status === undefined) throw new DecodeError({ detail: `no announce status ${number}` })
  return status === "live"
    ? { _tag: "Announce", status }
    : { _tag: "Announce", status, suffix: Field.readPath(reader) }
}
