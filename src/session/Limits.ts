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
  /**
   * How long an answer to SUBSCRIBE, INFO_PLEASE or FETCH may take, and how long a request of a session that reconnects
   * waits for a connection; 10 seconds by default.
   */
  readonly request: Duration.Input
  /**
   * How often to ask whether the peer is alive, where the transport can, and to look whether the rate at which it can
   * send has changed; 5 seconds by default.
   */
  readonly keepAlive: Duration.Input
  /** How long a peer may be silent, and not answer, before the session ends; 20 seconds by default. */
  readonly idle: Duration.Input
  /** How long a session that closes cleanly waits for groups in flight; 5 seconds by default. */
  readonly drain: Duration.Input
  /** How many groups of one subscription may be in flight; 128 by default. Further ones wait. */
  readonly groupsInFlight: number
  /** How many subscriptions, fetches and questions for INFO of the peer are served at a time; 1,024 by default. */
  readonly subscriptions: number
  /** How many Announce streams of the peer are served at a time; 64 by default. */
  readonly announceStreams: number
  /** How many tracks the peer may announce as active at a time, on one Announce stream; 10,000 by default. */
  readonly announces: number
  /** How many announces a second the peer may send, after a burst of `announces`; 100 by default. */
  readonly announceRate: number
  /**
   * How many bytes may wait to be sent beyond the group of each track that is being sent; 8 MiB by default. Above that
   * the oldest groups become gaps.
   */
  readonly unsent: number
  /** How long no write at all may be taken while something waits, before the session ends; 30 seconds by default. */
  readonly stalled: Duration.Input
  /**
   * How many bytes of groups may have been received that no reader has been given yet; 16 MiB by default. Above that the
   * groups that have waited longest become gaps, and fail with `Lagged`. (A frame that is given to a reader while it
   * grows counts as read.)
   */
  readonly unread: number
  /**
   * How many streams a second the peer may open to ask for something, after a burst of four times as many; 500 by
   * default. Further ones are refused, and count as streams for no live subscription.
   */
  readonly requestRate: number
  /**
   * How many streams a second the peer may open for no live subscription, after a burst of four times as many;
   * 500 by default.
   */
  readonly strayRate: number
  /**
   * How many streams may wait for their header at a time; 64 by default, beyond the groups that live subscriptions may
   * have in flight.
   */
  readonly strayStreams: number
  /**
   * How many streams a second the peer may reset before their header or first message, after a burst of four times as
   * many; 200 by default.
   */
  readonly strayResetRate: number
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
  groupsInFlight: 128,
  subscriptions: 1024,
  announceStreams: 64,
  announces: 10_000,
  announceRate: 100,
  unsent: 8 * 1024 * 1024,
  stalled: "30 seconds",
  unread: 16 * 1024 * 1024,
  requestRate: 500,
  strayRate: 500,
  strayStreams: 64,
  strayResetRate: 200
}

/**
 * The limits of a session: those that are given, and the defaults. A number or size that is not above 0 is a defect: nothing
 * would ever happen in such a session.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (limits?: Partial<Limits>): Limits => {
  if (limits === undefined) return defaults
  const all = { ...defaults, ...limits }
  for (const name of Object.keys(defaults) as Array<keyof Limits>) {
    const isNumber = typeof defaults[name] === "number"
    if (isNumber && !(Number(all[name]) > 0)) throw new RangeError(`Limits: ${name} must be above 0`)
  }
  return all
}
