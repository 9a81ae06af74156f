/**
 * Text that came from somebody else, made safe to print.
 *
 * @since 0.1.0
 */
import * as Path from "../core/Path.ts"

/**
 * Leaves out what could steer a terminal: control characters (tabs stay) and marks that reverse the order of text.
 *
 * @category formatting
 * @since 0.1.0
 */
export const printable = (text: string): string => text.replace(unprintable, "")

/**
 * A path as people read it: its parts joined by `/`, without control characters.
 *
 * @category formatting
 * @since 0.1.0
 */
export const path = (self: Path.Path): string => printable(Path.format(self))

/**
 * One line for people: line breaks become spaces, and the rest is {@link printable}.
 *
 * @category formatting
 * @since 0.1.0
 */
export const line = (text: string): string => printable(text.replace(/\s*[\r\n]+\s*/g, " ")).trim()

/**
 * The text that bytes are, or `undefined` when they are not UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (bytes: Uint8Array): string | undefined => {
  try {
    return strict.decode(bytes)
  } catch {
    return undefined
  }
}

// internal

const unprintable = /(?!\t)[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

// a byte order mark is part of what was sent
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
