/**
 * Counts what a session does, for whoever operates it.
 *
 * @since 0.1.0
 */
import type { Clock } from "effect/Clock"
import * as Console from "effect/Console"
import type { Fibers } from "../core/Fibers.ts"
import { BoundsExceeded, FrameTooLarge } from "../core/MoqError.ts"
import type { Limits } from "./Limits.ts"

/**
 * What was received from the peer, or sent to it.
 *
 * @category models
 * @since 0.1.0
 */
export type Side = "received" | "sent"

/**
 * The limits that a peer can break: those of a session by their names, and those of the codec, which have no setting:
 * `message` (the length of a control message, the lists and extensions of SETUP, a path, a number) and `frame` (the size
 * of a frame).
 *
 * @category models
 * @since 0.1.0
 */
export type Limit = Exclude<keyof Limits, "keepAlive" | "groupsInFlight"> | "message" | "frame"

/**
 * Why a group was given up: `expired`, `lagged` (too much waited, or it was not read in time), `evicted` (it was no
 * longer cached), `unwanted` (it left the range that was asked for), `reset` (its publisher gave it up, or anything
 * else).
 *
 * @category models
 * @since 0.1.0
 */
export type Drop = "expired" | "lagged" | "evicted" | "reset" | "unwanted"

/**
 * Is told what a session does, as it happens, on the paths that data takes: each method must be quick, and must not
 * throw: what it throws is printed, and not counted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Monitor {
  /**
   * A limit was broken by the peer, or by what it did not take: once for each stream or group that it costs, and once for
   * what costs it the session.
   */
  readonly limit: (limit: Limit) => void
  /** A subscription of this side (`received`) or of the peer (`sent`) was asked for, or has ended. */
  readonly subscription: (side: Side, change: 1 | -1) => void
  /** A track was announced, or is no longer: once for each Announce stream that tells it. */
  readonly announce: (side: Side, change: 1 | -1) => void
  /** A group was asked for, by this side (`received`) or by the peer (`sent`). */
  readonly fetch: (side: Side) => void
  /** A group has begun to come, or to leave; a fetched one as well. */
  readonly group: (side: Side) => void
  /**
   * Frames and bytes of payload have passed, in one batch: they have come, or the transport has taken them. A frame
   * that grows counts at its end.
   */
  readonly traffic: (side: Side, frames: number, bytes: number) => void
  /**
   * Groups were given up: on their way out by this side, or because the peer stopped them (`sent`); on their way in by
   * either side, or said not to come (`received`). One message of the peer counts for 1,024 groups at most, whatever it
   * says.
   */
  readonly drop: (side: Side, reason: Drop, groups: number) => void
  /**
   * How long it took from the first byte of a group in to its first byte out, in milliseconds: for a group that one
   * session receives and another sends, to a peer that was subscribed before it came.
   */
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

/**
 * What one throws is printed, and costs nobody anything: it is told on the stack of whatever a transport reads.
 *
 * @internal
 */
export const guarded = (monitor: Monitor, fibers: Fibers): Monitor => {
  if (monitor === none) return none
  const guard = (name: string) => (...args: ReadonlyArray<unknown>): void => {
    try {
      ;(monitor as unknown as Record<string, (...args: ReadonlyArray<unknown>) => void>)[name]!(...args)
    } catch (defect) {
      fibers.fork(Console.error("a monitor threw", defect))
    }
  }
  return Object.fromEntries(Object.keys(none).map((name) => [name, guard(name)])) as unknown as Monitor
}

/**
 * Counts what the codec refused, when that was a limit.
 *
 * @internal
 */
export const refused = (monitor: Monitor, error: unknown): void => {
  if (error instanceof BoundsExceeded) monitor.limit("message")
  else if (error instanceof FrameTooLarge) monitor.limit("frame")
}

/**
 * Counts groups that were given up with a code.
 *
 * @internal
 */
export const dropped = (monitor: Monitor, side: Side, code: number, groups: number): void =>
  monitor.drop(side, drops[code] ?? "reset", Math.min(groups, maxDropped))

/**
 * The time of `latency`, in milliseconds.
 *
 * @internal
 */
export const now = (clock: Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

// internal

const drops: Record<number, Drop> = { 0: "unwanted", 2: "expired", 26: "lagged", 31: "evicted" }

const maxDropped = 1024
