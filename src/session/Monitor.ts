/**
 * Counts what a session does, for whoever operates it.
 *
 * @since 0.1.0
 */
import type { Limits } from "./Limits.ts"

/**
 * What was received from the peer, or sent to it.
 *
 * @category models
 * @since 0.1.0
 */
export type Side = "received" | "sent"

/**
 * The limits that a peer can break: those of a session by their names, and those of the codec, which have no setting.
 *
 * @category models
 * @since 0.1.0
 */
export type Limit = keyof Limits | "path" | "message" | "frame" | "setup extensions"

/**
 * Why a group was given up: `expired`, `lagged` (it waited for too long, or too much did), `evicted` (it was no longer
 * cached), `reset` (its publisher gave it up), `unwanted` (it left the range that was asked for).
 *
 * @category models
 * @since 0.1.0
 */
export type Drop = "expired" | "lagged" | "evicted" | "reset" | "unwanted"

/**
 * Is told what a session does, as it happens, on the paths that data takes: each method must be quick, and must not
 * throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface Monitor {
  /** A limit was broken by the peer, or by what it did not take. */
  readonly limit: (limit: Limit) => void
  /** A subscription of this side (`received`) or of the peer (`sent`) has begun, or ended. */
  readonly subscription: (side: Side, change: 1 | -1) => void
  /** A track was announced, or is no longer. */
  readonly announce: (side: Side, change: 1 | -1) => void
  /** A fetch has begun. */
  readonly fetch: (side: Side) => void
  /** A group has begun. */
  readonly group: (side: Side) => void
  /** Frames and bytes of payload have passed, in one batch. */
  readonly traffic: (side: Side, frames: number, bytes: number) => void
  /** Groups were given up. */
  readonly drop: (side: Side, reason: Drop, groups: number) => void
  /** How long it took from the first byte of a group in to its first byte out, in milliseconds. */
  readonly latency: (millis: number) => void
}

/**
 * Counts nothing.
 *
 * @category constants
 * @since 0.1.0
 */
export const none: Monitor = {
  limit: () => {},
  subscription: () => {},
  announce: () => {},
  fetch: () => {},
  group: () => {},
  traffic: () => {},
  drop: () => {},
  latency: () => {}
}
