/**
 * The fields that several messages share: their Schemas, and how they are read and written.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reader from "../coding/Reader.ts"
import * as Varint from "../coding/Varint.ts"
import type * as Writer from "../coding/Writer.ts"
import type { GroupOrder } from "../core/GroupOrder.ts"
import { BoundsExceeded, DecodeError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Priority from "../core/Priority.ts"
import type { Profile } from "./Profile.ts"

// Bundlers keep a Schema that nobody uses, and all of Schema with it, unless its arguments are plain names and literals:
// nothing computed, no member of a namespace within an object.
const maxUint = Varint.max
const maxBound = Varint.max - 1

/**
 * A `Schema` of numbers that travel as a varint: 0..2^53-1.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Uint: Schema.Codec<number> = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: maxUint }))

/**
 * A `Schema` of group sequences that travel as an optional one, where 0 means none and `n + 1` group `n`: 0..2^53-2.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Bound: Schema.Codec<number> = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: maxBound }))

/**
 * The largest number of versions or extensions in a message: 64.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxCount = 64

/**
 * The largest payload of an extension, in bytes: 4 KiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxExtension: number = 4 * 1024

/**
 * A `Schema` of setup extensions. No version defines any: they are carried, unknown ones are ignored.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Extension = Schema.Struct({
  id: Uint,
  /** At most 4 KiB. */
  payload: Schema.Uint8Array.check(
    Schema.makeFilter((payload: Uint8Array) => payload.length <= maxExtension, { expected: "at most 4 KiB" })
  )
})

/**
 * A setup extension.
 *
 * @category models
 * @since 0.1.0
 */
export interface Extension extends Schema.Schema.Type<typeof Extension> {}

/**
 * A `Schema` of the extensions of a message: at most 64, their ids all different.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Extensions: Schema.Codec<ReadonlyArray<Extension>> = Schema.Array(Extension).check(
  Schema.isMaxLength(maxCount),
  Schema.makeFilter((extensions: ReadonlyArray<Extension>) => repeatedId(extensions) === undefined, {
    expected: "extensions with different ids"
  })
)

/**
 * A `Schema` of the versions that a client offers: at most 64.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Versions: Schema.Codec<ReadonlyArray<number>> = Schema.Array(Uint).check(Schema.isMaxLength(maxCount))

/**
 * Reads a path. Throws `BoundsExceeded` beyond 32 parts or 1,023 bytes, `DecodeError` when a part is not UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readPath = (reader: Reader.Reader): Path.Path =>
  reader.list(reader.count(Path.maxParts), readString, Path.maxBytes)

/**
 * Writes a path. Throws `BoundsExceeded` beyond 32 parts or 1,023 bytes, and when a part is not well formed.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writePath = (writer: Writer.Writer, path: Path.Path): void => {
  check("parts in a path", path.length, Path.maxParts)
  check("bytes in a path", Path.byteLength(path), Path.maxBytes)
  writer.varint(path.length)
  for (let i = 0; i < path.length; i++) writer.string(path[i]!)
}

/**
 * Reads a priority as SUBSCRIBE, INFO and FETCH carry it. One that is larger than a priority can be becomes the
 * highest.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readPriority = (reader: Reader.Reader, profile: Profile): Priority.Priority =>
  profile.priority === "byte" ? reader.u8() + Priority.min : Math.min(reader.varint() + Priority.min, Priority.max)

/**
 * Writes a priority as SUBSCRIBE, INFO and FETCH carry it. Throws `BoundsExceeded` when it is none.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writePriority = (writer: Writer.Writer, priority: Priority.Priority, profile: Profile): void => {
  if (profile.priority === "byte") writer.u8(shifted(priority))
  else writer.varint(shifted(priority))
}

/**
 * Reads a priority as SUBSCRIBE_UPDATE carries it.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readUpdatePriority = (reader: Reader.Reader, profile: Profile): Priority.Priority =>
  Math.min(reader.varint() + (profile.updatePriority === "shifted" ? Priority.min : 0), Priority.max)

/**
 * Writes a priority as SUBSCRIBE_UPDATE carries it; where that cannot be negative, a negative one is written as 0.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeUpdatePriority = (writer: Writer.Writer, priority: Priority.Priority, profile: Profile): void => {
  const value = shifted(priority)
  writer.varint(profile.updatePriority === "shifted" ? value : Math.max(0, value + Priority.min))
}

/**
 * Reads a group order. Throws `DecodeError` for a number that has none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readOrder = (reader: Reader.Reader, profile: Profile): GroupOrder => {
  const number = reader.varint()
  const order = profile.orders[number]
  if (order === undefined) throw new DecodeError({ detail: `no group order ${number}` })
  return order
}

/**
 * Writes a group order.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeOrder = (writer: Writer.Writer, order: GroupOrder, profile: Profile): void =>
  writer.varint(profile.orderNumbers[order])

/**
 * Reads `expires`: 0 where the profile has none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readExpires = (reader: Reader.Reader, profile: Profile): number => profile.expires ? reader.varint() : 0

/**
 * Writes `expires`: nothing where the profile has none.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeExpires = (writer: Writer.Writer, expires: number, profile: Profile): void => {
  if (profile.expires) writer.varint(expires)
}

/**
 * Reads the `min` and `max` of a range of groups into the message that they end, as far as there are any.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readRange = <A extends { min?: number; max?: number }>(reader: Reader.Reader, message: A): A => {
  const min = reader.varint()
  const max = reader.varint()
  if (min > 0) message.min = min - 1
  if (max > 0) message.max = max - 1
  return message
}

/**
 * Writes the `min` and `max` of a range of groups. Throws `BoundsExceeded` above 2^53-2.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeRange = (
  writer: Writer.Writer,
  range: { readonly min?: number | undefined; readonly max?: number | undefined }
): void => {
  writeBound(writer, range.min)
  writeBound(writer, range.max)
}

/**
 * Reads the versions that a client offers. Throws `BoundsExceeded` when there are more than 64.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readVersions = (reader: Reader.Reader): ReadonlyArray<number> =>
  reader.list(reader.count(maxCount), readVarint)

/**
 * Writes the versions that a client offers. Throws `BoundsExceeded` when there are more than 64.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeVersions = (writer: Writer.Writer, versions: ReadonlyArray<number>): void => {
  writeCount(writer, versions.length)
  for (let i = 0; i < versions.length; i++) writer.varint(versions[i]!)
}

/**
 * Reads extensions. Throws `BoundsExceeded` beyond 64, or 4 KiB in one of them, `DecodeError` when an id comes twice.
 *
 * @category decoding
 * @since 0.1.0
 */
export const readExtensions = (reader: Reader.Reader): ReadonlyArray<Extension> => {
  const extensions = reader.list(reader.count(maxCount), readExtension)
  const repeated = repeatedId(extensions)
  if (repeated !== undefined) throw new DecodeError({ detail: `extension ${repeated} comes twice` })
  return extensions
}

/**
 * Writes extensions. Throws `BoundsExceeded` for what {@link readExtensions} would refuse, and when the message that
 * began at `start` becomes longer than a message may be.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeExtensions = (writer: Writer.Writer, extensions: ReadonlyArray<Extension>, start: number): void => {
  const repeated = repeatedId(extensions)
  if (repeated !== undefined) throw new BoundsExceeded({ detail: `extension ${repeated} comes twice` })
  writeCount(writer, extensions.length)
  for (let i = 0; i < extensions.length; i++) {
    const { id, payload } = extensions[i]!
    check("bytes in an extension", payload.length, maxExtension)
    writer.varint(id)
    writer.blob(payload)
  }
  check("bytes in a message", writer.length - start, Reader.maxMessage)
}

// internal

const check = (what: string, count: number, limit: number): void => {
  if (count > limit) throw new BoundsExceeded({ detail: `${count} ${what}, at most ${limit} are allowed` })
}

const readString = (reader: Reader.Reader): string => reader.string()

const readVarint = (reader: Reader.Reader): number => reader.varint()

const readExtension = (reader: Reader.Reader): Extension => ({
  id: reader.varint(),
  payload: reader.blob(maxExtension)
})

const shifted = (priority: Priority.Priority): number => {
  if (!Number.isInteger(priority) || priority < Priority.min || priority > Priority.max) {
    throw new BoundsExceeded({ detail: `${priority} is no priority` })
  }
  return priority - Priority.min
}

const writeBound = (writer: Writer.Writer, bound: number | undefined): void => {
  // -1 would be written as none
  if (bound !== undefined && bound < 0) throw new BoundsExceeded({ detail: `${bound} is no group sequence` })
  writer.varint(bound === undefined ? 0 : bound + 1)
}

const writeCount = (writer: Writer.Writer, count: number): void => {
  check("items", count, maxCount)
  writer.varint(count)
}

const repeatedId = (extensions: ReadonlyArray<Extension>): number | undefined => {
  const ids = new Set<number>()
  for (const { id } of extensions) {
    if (ids.has(id)) return id
    ids.add(id)
  }
  return undefined
}
