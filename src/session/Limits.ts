/**
 * What a session allows its peer, and how long it waits for it.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"

/**
 * The limits of a session. All of them are on by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** How long the handshake may take, from the open transport to SETUP; 5 seconds by default. */
  readonly setup: Duration.Input
  /** How long a peer may take for the first message of a stream that it opened; 5 seconds by default. */
  readonly firstMessage: Duration.Input
  /** How long an answer to SUBSCRIBE or INFO_PLEASE may take; 10 seconds by default. */
  readonly request: Duration.Input
  /** How often to ask whether the peer is alive, where the transport can; 5 seconds by default. */
  readonly keepAlive: Duration.Input
  /** How long a peer may be silent, and not answer, before the session ends; 20 seconds by default. */
  readonly idle: Duration.Input
  /** How long a session that closes cleanly waits for groups in flight; 5 seconds by default. */
  readonly drain: Duration.Input
  /** How many groups of one subscription may be in flight; 128 by default. Further ones wait. */
  readonly groupsInFlight: number
}

/**
 * The limits that hold unless others are given.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaults: Limits = {
  setup: "5 seconds",
  firstMessage: "5 seconds",
  request: "10 seconds",
  keepAlive: "5 seconds",
  idle: "20 seconds",
  drain: "5 seconds",
  groupsInFlight: 128
}
