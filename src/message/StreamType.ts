/**
 * The types of streams. Every stream begins with the number of its type; on a bidirectional one only its opener sends
 * it.
 *
 * **Details**
 *
 * The numbers are the same in every profile (draft-03, section "Streams").
 *
 * @since 0.1.0
 */
import * as Reader from "../coding/Reader.ts"
import type * as Writer from "../coding/Writer.ts"
import { UnexpectedStream } from "../core/MoqError.ts"

/**
 * The types of bidirectional streams.
 *
 * @category models
 * @since 0.1.0
 */
export type Bi = "session" | "announce" | "subscribe" | "fetch" | "info"

/**
 * The types of unidirectional streams.
 *
 * @category models
 * @since 0.1.0
 */
export type Uni = "group"

/**
 * The types of bidirectional streams, each at the index that is its number.
 *
 * @category constants
 * @since 0.1.0
 */
export const bi: ReadonlyArray<Bi> = ["session", "announce", "subscribe", "fetch", "info"]

/**
 * The types of unidirectional streams, each at the index that is its number.
 *
 * @category constants
 * @since 0.1.0
 */
export const uni: ReadonlyArray<Uni> = ["group"]

/**
 * Writes the type of a bidirectional stream.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeBi = (writer: Writer.Writer, type: Bi): void => writer.varint(bi.indexOf(type))

/**
 * Writes the type of a unidirectional stream.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeUni = (writer: Writer.Writer, type: Uni): void => writer.varint(uni.indexOf(type))

/**
 * Reads the type of a bidirectional stream, or `NeedMore`. Throws {@link UnexpectedStream} for an unknown one; what
 * that closes, and with which code, is up to the profile.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeBi = (reader: Reader.Reader): Bi | Reader.NeedMore => Reader.decode(reader, read<Bi>, bi)

/**
 * Reads the type of a unidirectional stream, or `NeedMore`. Throws {@link UnexpectedStream} for an unknown one.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeUni = (reader: Reader.Reader): Uni | Reader.NeedMore => Reader.decode(reader, read<Uni>, uni)

// internal

const read = <A>(reader: Reader.Reader, types: ReadonlyArray<A>): A => {
  const number = reader.varint()
  const type = types[number]
  if (type === undefined) throw new UnexpectedStream({ detail: `stream type ${number}` })
  return type
}
