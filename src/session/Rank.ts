/**
 * The order in which the streams of a session are sent when not all can be.
 *
 * @since 0.1.0
 */
import type { GroupOrder } from "../core/GroupOrder.ts"
import type { Priority } from "../core/Priority.ts"

/**
 * The rank of streams that carry control messages: above all data.
 *
 * @internal
 */
export const control = 0x7fff_ffff

/**
 * The rank of the stream of a group: a signed 32-bit integer, higher first. Tracks of a higher priority go before all
 * others; within a priority, newer groups first, or older ones with order `"asc"` (draft-03, section "SUBSCRIBE").
 *
 * @internal
 */
export const ofGroup = (priority: Priority, order: GroupOrder, sequence: number): number => {
  const place = sequence % sequences
  return (priority + 128) * sequences + (order === "asc" ? sequences - 1 - place : place)
}

// internal

// 8 bits of priority and 22 of sequence stay below the rank of control streams
const sequences = 2 ** 22
