/**
 * The order in which the groups of one track are sent under congestion.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Which group of a track is sent first when not all can be: `"asc"` the oldest (keep order), `"desc"` the newest (stay
 * live), `"default"` what the publisher prefers.
 *
 * **Details**
 *
 * It orders transmission, not delivery: groups travel on streams of their own and may overtake each other in any case
 * (draft-03, section "SUBSCRIBE").
 *
 * @category models
 * @since 0.1.0
 */
export type GroupOrder = "default" | "asc" | "desc"

/**
 * A `Schema` of group orders.
 *
 * @category schemas
 * @since 0.1.0
 */
export const GroupOrder: Schema.Codec<GroupOrder> = Schema.Literals(["default", "asc", "desc"])
