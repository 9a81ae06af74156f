/**
 * The sizes and limits of variable-length integers, the one number format of the protocol.
 *
 * **Details**
 *
 * It is the integer of QUIC (RFC 9000, section 16): the two highest bits of the first byte say whether the number takes
 * 1, 2, 4 or 8 bytes, the other bits are its value, big-endian. Here numbers are JavaScript's safe integers: one beyond
 * {@link max} is refused, never rounded. The shortest form is written, any form is read.
 *
 * @since 0.1.0
 */
import * as Integers from "../core/Integers.ts"

/**
 * The largest number: 2^53 - 1.
 *
 * @category constants
 * @since 0.1.0
 */
export const max: number = Number.MAX_SAFE_INTEGER

/**
 * The bytes of the longest form: 8.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxSize = 8

/**
 * The bytes of the shortest form of a number in 0..{@link max}.
 *
 * @category getters
 * @since 0.1.0
 */
export const size: (value: number) => 1 | 2 | 4 | 8 = Integers.size

/**
 * Tells whether a number can be written: an integer in 0..{@link max}.
 *
 * @category guards
 * @since 0.1.0
 */
export const isEncodable = (value: number): boolean => Number.isSafeInteger(value) && value >= 0
