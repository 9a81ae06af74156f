/**
 * What happens on a track.
 *
 * @since 0.1.0
 */
import * as MoqError from "../core/MoqError.ts"
import * as Gap from "./Gap.ts"
import type { Group } from "./Group.ts"

/**
 * What happens on a track: a group has begun, or groups will not come.
 *
 * @category models
 * @since 0.1.0
 */
export type TrackEvent = Group | Gap.Gap

/**
 * The lowest sequence that an event is about.
 *
 * @category getters
 * @since 0.1.0
 */
export const first = (self: TrackEvent): number => self._tag === "Gap" ? self.from : self.sequence

/**
 * The highest sequence that an event is about.
 *
 * @category getters
 * @since 0.1.0
 */
export const last = (self: TrackEvent): number => self._tag === "Gap" ? self.to : self.sequence

/**
 * The gap that stands for a group which is no place to join any more.
 *
 * @internal
 */
export const evicted = (self: Group): Gap.Gap => Gap.make(self.sequence, self.sequence, codeEvicted)

/** @internal */
export const codeEvicted = MoqError.toCode(new MoqError.Evicted({}))
