/**
 * Gaps: groups of a track that will not come.
 *
 * @since 0.1.0
 */

/**
 * The groups with the sequences `from` to `to`, both included, will not come; `code` says why (see `MoqError`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Gap {
  readonly _tag: "Gap"
  readonly from: number
  readonly to: number
  readonly code: number
}

/**
 * Makes a gap.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (from: number, to: number, code: number): Gap => ({ _tag: "Gap", from, to, code })
