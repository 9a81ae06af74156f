/**
 * FRAME: a piece of a group, as large as its publisher made it.
 *
 * **Details**
 *
 * Its bytes: the size, then the payload (draft-03, section "FRAME"). Sessions never build the message: they read the
 * size with {@link decodeHeader} and pass the payload on as it comes, with the reader's `take`.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Varint from "../coding/Varint.ts"
import * as Wire from "../coding/Wire.ts"
import type * as Writer from "../coding/Writer.ts"
import { FrameTooLarge } from "../core/MoqError.ts"
import type { Profile } from "./Profile.ts"

/**
 * The largest payload of a frame, in bytes, unless a limit says otherwise: 16 MiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxSize: number = 16 * 1024 * 1024

// a plain name: see Field
const Payload = Schema.Uint8Array

/**
 * A `Schema` of FRAME.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Frame = Schema.TaggedStruct("Frame", {
  /** At most 16 MiB; it may be empty. */
  payload: Payload
})

/**
 * FRAME.
 *
 * @category models
 * @since 0.1.0
 */
export interface Frame extends Schema.Schema.Type<typeof Frame> {}

/**
 * Writes the size of a frame; the payload goes after it. Throws `FrameTooLarge` above `limit` bytes ({@link maxSize} by
 * default).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeHeader = (writer: Writer.Writer, size: number, limit: number = maxSize): void => {
  checkSize(size, limit)
  writer.varint(size)
}

/**
 * Reads the size of a frame, or `NeedMore`. Throws `FrameTooLarge` above `limit` bytes ({@link maxSize} by default).
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeHeader = (reader: Reader.Reader, limit: number = maxSize): number | Reader.NeedMore =>
  Reader.decode(reader, readHeader, limit)

/**
 * Writes the message, copying its payload. Throws `FrameTooLarge` above {@link maxSize}.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode: Wire.Layout<Frame, Profile>["encode"] = (writer, message) => {
  checkSize(message.payload.length, maxSize)
  writer.blob(message.payload)
}

/**
 * Reads the message, or `NeedMore` until all of its payload is there. Throws `FrameTooLarge` above {@link maxSize}.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode: Wire.Layout<Frame, Profile>["decode"] = (reader) =>
  Reader.decode(reader, read, maxSize, maxSize + Varint.maxSize)

/**
 * The codec of the message in a profile.
 *
 * @category codecs
 * @since 0.1.0
 */
export const codec: (profile: Profile) => Schema.Codec<Frame, Uint8Array> = Wire.codec(Frame, { encode, decode })

// internal

const readHeader = (reader: Reader.Reader, limit: number): number => {
  const size = reader.varint()
  checkSize(size, limit)
  return size
}

const read = (reader: Reader.Reader, limit: number): Frame => ({
  _tag: "Frame",
  payload: reader.bytes(readHeader(reader, limit))
})

const checkSize = (size: number, limit: number): void => {
  if (size > limit) throw new FrameTooLarge({ detail: `${size} bytes, ${limit} are allowed` })
}
