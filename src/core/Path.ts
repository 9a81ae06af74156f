/**
 * Track paths: the names by which tracks are announced, subscribed to and routed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { BoundsExceeded } from "./MoqError.ts"

/**
 * A track path: its parts, outermost first. A relay matches prefixes part by part, so `["room"]` is a prefix of
 * `["room", "alice"]` but not of `["room-2"]`.
 *
 * **Details**
 *
 * At most {@link maxParts} parts of at most {@link maxBytes} bytes of UTF-8 together; each part is a well-formed string.
 * The empty path is the root.
 *
 * @category models
 * @since 0.1.0
 */
export type Path = ReadonlyArray<string>

/**
 * The largest number of parts of a path: 32 (draft-03, section "SUBSCRIBE").
 *
 * @category constants
 * @since 0.1.0
 */
export const maxParts = 32

/**
 * The largest size of a path, in bytes of UTF-8 summed over its parts: 1,023 (draft-03: "less than 1024 bytes").
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 1023

/**
 * The empty path: the root, a prefix of every path.
 *
 * @category constants
 * @since 0.1.0
 */
export const empty: Path = []

/**
 * The size of a path in bytes of UTF-8, without separators or length prefixes.
 *
 * @category getters
 * @since 0.1.0
 */
export const byteLength = (path: Path): number => {
  let total = 0
  for (let i = 0; i < path.length; i++) total += utf8Length(path[i]!)
  return total
}

// on its own, and without a computed text: else a bundler keeps both, and all of Schema with them
const Part = Schema.String.check(
  Schema.isMaxLength(maxBytes),
  Schema.makeFilter((part: string) => part.isWellFormed(), { expected: "a well-formed string" })
)

/**
 * A `Schema` of paths within the bounds of {@link maxParts} and {@link maxBytes}.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Path: Schema.Codec<Path> = Schema.Array(Part).check(
  Schema.isMaxLength(maxParts),
  Schema.makeFilter((path: Path) => byteLength(path) <= maxBytes, { expected: "a path of at most 1,023 bytes" })
)

/**
 * Reads a `/`-separated path as people type it; empty parts are dropped, so `"/room//alice/"` is `["room", "alice"]`.
 *
 * **Example** (Reading a path)
 *
 * ```ts
 * import { Path } from "effect-moq"
 *
 * Path.fromString("room/alice/clock") // ["room", "alice", "clock"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromString = (text: string): Path => text.split("/").filter((part) => part !== "")

/**
 * Writes a path as people read it: its parts joined by `/`.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (path: Path): string => path.join("/")

/**
 * A string that two paths share only when they are equal: a key for maps. It is not for people: use {@link format}.
 *
 * @category getters
 * @since 0.1.0
 */
export const key = (path: Path): string => JSON.stringify(path)

/**
 * Tells whether two paths have the same parts.
 *
 * @category guards
 * @since 0.1.0
 */
export const equals = (self: Path, that: Path): boolean => self.length === that.length && hasPrefix(self, that)

/**
 * Tells whether `prefix` is the beginning of `self`, part by part. Every path is a prefix of itself.
 *
 * @category guards
 * @since 0.1.0
 */
export const hasPrefix = (self: Path, prefix: Path): boolean => {
  if (prefix.length > self.length) return false
  for (let i = 0; i < prefix.length; i++) if (self[i] !== prefix[i]) return false
  return true
}

/**
 * What follows `prefix` in `self`, or `undefined` when `prefix` is not its beginning.
 *
 * @category combinators
 * @since 0.1.0
 */
export const stripPrefix = (self: Path, prefix: Path): Path | undefined =>
  hasPrefix(self, prefix) ? self.slice(prefix.length) : undefined

/**
 * The path that has the parts of `self` followed by those of `that`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const concat = (self: Path, that: Path): Path =>
  self.length === 0 ? that : that.length === 0 ? self : [...self, ...that]

/**
 * Tells whether a path is within bounds: see {@link validate}.
 *
 * @category guards
 * @since 0.1.0
 */
export const isValid = (path: Path): boolean => problemOf(path) === undefined

/**
 * Succeeds with the path when it is within bounds.
 *
 * **Details**
 *
 * Fails with {@link BoundsExceeded} when it has more than {@link maxParts} parts, more than {@link maxBytes} bytes, or a
 * part that is not a well-formed string (which has no UTF-8).
 *
 * @category validation
 * @since 0.1.0
 */
export const validate = (path: Path): Effect.Effect<Path, BoundsExceeded> => {
  const problem = problemOf(path)
  return problem === undefined ? Effect.succeed(path) : Effect.fail(new BoundsExceeded({ detail: problem }))
}

/**
 * Succeeds with the path when a track can have it: fails as {@link validate} does, and when it has no part.
 *
 * @category validation
 * @since 0.1.0
 */
export const validateTrack = (path: Path): Effect.Effect<Path, BoundsExceeded> =>
  path.length === 0
    ? Effect.fail(new BoundsExceeded({ detail: "the path of a track has at least one part" }))
    : validate(path)

// internal

const problemOf = (path: Path): string | undefined => {
  if (path.length > maxParts) return `a path of ${path.length} parts, at most ${maxParts} are allowed`
  if (!path.every((part) => part.isWellFormed())) return "a path part is not a well-formed string"
  const bytes = byteLength(path)
  if (bytes > maxBytes) return `a path of ${bytes} bytes, at most ${maxBytes} are allowed`
  return undefined
}

const utf8Length = (text: string): number => {
  let bytes = text.length
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    // A surrogate pair is 2 units and 4 bytes: one extra byte for each of them; anything else above 0x7ff has two extra.
    if (unit > 0x7f) bytes += unit <= 0x7ff || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2
  }
  return bytes
}
