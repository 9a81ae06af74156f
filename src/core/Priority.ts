/**
 * Track priorities.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * How much a track matters beside the others of a session: an integer in -128..127, higher first, 0 by default.
 *
 * **Details**
 *
 * Under congestion, groups of a higher-priority track are sent first (draft-03, section "SUBSCRIBE").
 *
 * @category models
 * @since 0.1.0
 */
export type Priority = number

/**
 * A `Schema` of priorities.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Priority: Schema.Codec<Priority> = Schema.Int.check(Schema.isBetween({ minimum: -128, maximum: 127 }))

/**
 * The lowest priority, -128.
 *
 * @category constants
 * @since 0.1.0
 */
export const min: Priority = -128

/**
 * The highest priority, 127.
 *
 * @category constants
 * @since 0.1.0
 */
export const max: Priority = 127

/**
 * The nearest priority to any number: rounded toward zero and clamped to -128..127.
 *
 * @category constructors
 * @since 0.1.0
 */
export const clamp = (value: number): Priority => Math.min(max, Math.max(min, Math.trunc(value)))
