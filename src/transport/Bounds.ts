/**
 * What the other end of one connection may do, and what it may make this end hold.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"

/**
 * Bounds of every connection, as an application sets them. Sizes are in bytes; what is longer than 24 days is 24 days.
 *
 * **Gotchas**
 *
 * Native HTTP/3 has bounds of its own, which cannot be changed: 1.25 MB for each of the 198 streams that a peer may open.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /**
   * Bidirectional streams that the peer may have open at once; 1,536 by default. It can count on two thirds of them at
   * any time, over HTTP/2 on half.
   */
  readonly maxStreamsBidi?: number | undefined
  /** The same for unidirectional streams; 1,536 by default. */
  readonly maxStreamsUni?: number | undefined
  /** What may be received and not yet pulled, of all streams of a connection; 16 MiB by default. */
  readonly maxData?: number | undefined
  /** What may be received and not yet pulled, of one stream; 256 KiB by default. */
  readonly maxStreamData?: number | undefined
  /** What may arrive while the peer takes nothing of ours; 8 MiB by default. */
  readonly maxBacklog?: number | undefined
  /** How long the peer may take nothing while something waits for it; 20 seconds by default. */
  readonly writeTimeout?: Duration.Input | undefined
  /** How long the peer may be silent; 20 seconds by default. It is asked after a third of it, over HTTP/2 a quarter. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How long each step of a handshake may take (up to the upgrade, and QMux's own); 5 seconds by default. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

/**
 * The same as a transport uses them, in bytes and milliseconds. See {@link Limits}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bounds {
  readonly maxStreamsBidi: number
  readonly maxStreamsUni: number
  readonly maxData: number
  readonly maxStreamData: number
  readonly maxBacklog: number
  readonly writeTimeout: number
  readonly idleTimeout: number
  readonly handshakeTimeout: number
}

/**
 * The bounds with the defaults for what is not set.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolve = (limits: Limits = {}): Bounds => ({
  maxStreamsBidi: limits.maxStreamsBidi ?? 1536,
  maxStreamsUni: limits.maxStreamsUni ?? 1536,
  maxData: limits.maxData ?? 16 * 1024 * 1024,
  maxStreamData: limits.maxStreamData ?? 256 * 1024,
  maxBacklog: limits.maxBacklog ?? 8 * 1024 * 1024,
  writeTimeout: millis(limits.writeTimeout, 20_000),
  idleTimeout: millis(limits.idleTimeout, 20_000),
  handshakeTimeout: millis(limits.handshakeTimeout, 5_000)
})

/**
 * A duration in whole milliseconds, no longer than a timer can wait (24 days).
 *
 * @category constructors
 * @since 0.1.0
 */
export const millis = (input: Duration.Input | undefined, fallback: number): number =>
  input === undefined ? fallback : Math.min(Math.ceil(Duration.toMillis(input)), longest)

// internal

// anything longer a timer takes for 1 millisecond
const longest = 2_147_483_647
