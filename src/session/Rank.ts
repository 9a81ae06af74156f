/**
 * The order in which the streams of a session are sent when not all can be, as a number for the transport.
 *
 * **Details**
 *
 * A transport serves higher ranks first and equal ones in turns. So a group's rank is the priority of its track, then its
 * place among the open groups of its own subscription: the first group of every subscription of one priority shares with
 * those of the others, whatever their sequence numbers, and the groups behind it wait (draft-03, section "SUBSCRIBE").
 *
 * @since 0.1.0
 */
import type { Priority } from "../core/Priority.ts"

/**
 * The rank of streams that carry control messages: above all data.
 *
 * @internal
 */
export const control = 0x7fff_ffff

/**
 * How many groups of a subscription have a rank of their own; those behind share the lowest.
 *
 * @internal
 */
export const places = 16

/**
 * The rank of a stream of a priority, behind `place` others of its subscription: a signed 32-bit integer, higher first.
 *
 * @internal
 */
export const of = (priority: Priority, place: number): number =>
  (priority + 129) * places - 1 - Math.min(place, places - 1)
