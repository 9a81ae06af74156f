/**
 * Where the integers of the wire lie in memory, for what cannot wait for a `Reader` or fill a `Writer`. `Varint` tells of
 * them.
 *
 * @since 0.1.0
 */

/**
 * How many bytes an integer takes.
 *
 * @internal
 */
export const size = (value: number): 1 | 2 | 4 | 8 =>
  value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8

/**
 * Puts an integer there, and gives the place after it.
 *
 * @internal
 */
export const put = (bytes: Uint8Array, at: number, value: number): number => {
  if (value < 0x40) {
    bytes[at] = value
    return at + 1
  }
  if (value < 0x4000) {
    bytes[at] = 0x40 | (value >> 8)
    bytes[at + 1] = value
    return at + 2
  }
  if (value < 0x4000_0000) return putWord(bytes, at, 0x8000_0000 | value)
  return putWord(bytes, putWord(bytes, at, 0xc000_0000 | Math.floor(value / 0x1_0000_0000)), value)
}

/**
 * How many bytes the integer there takes.
 *
 * @internal
 */
export const sizeAt = (bytes: Uint8Array, at: number): number => 1 << (bytes[at]! >> 6)

/**
 * The integer there, in any of its forms. One beyond 2^53-1 may be rounded.
 *
 * @internal
 */
export const valueAt = (bytes: Uint8Array, at: number): number => {
  let value = bytes[at]! & 0x3f
  for (let i = at + 1, end = at + sizeAt(bytes, at); i < end; i++) value = value * 256 + bytes[i]!
  return value
}

// internal

const putWord = (bytes: Uint8Array, at: number, word: number): number => {
  bytes[at] = word >> 24
  bytes[at + 1] = word >> 16
  bytes[at + 2] = word >> 8
  bytes[at + 3] = word
  return at + 4
}
