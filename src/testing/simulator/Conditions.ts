/**
 * What a network does to what is sent over it.
 *
 * @internal
 */
import type * as Duration from "effect/Duration"
import { millisecond, nanosOf } from "./Timeline.ts"

/**
 * Bits per second, as a number or in words.
 *
 * @category models
 * @since 0.1.0
 */
export type Bandwidth = number | `${number} ${"bit" | "Kbit" | "Mbit" | "Gbit"}` | "unlimited"

/**
 * What a network does to what is sent over it; a network without conditions is perfect.
 *
 * **Details**
 *
 * Between two hosts the worse of both sides counts: the longer latency and jitter, the higher probabilities; and what one
 * host sends to another takes the upward bandwidth of the one and the downward bandwidth of the other.
 *
 * Everything travels in packets of up to 1,200 bytes. Within a stream bytes always arrive in order, and intact.
 *
 * @category models
 * @since 0.1.0
 */
export interface Conditions {
  /** How long a packet travels, one way; 0 by default. */
  readonly latency?: Duration.Input | undefined
  /** By how much that varies: up to this is added, at random. Packets keep their order; 0 by default. */
  readonly jitter?: Duration.Input | undefined
  /**
   * Bits per second that a host can send, and receive; `"unlimited"` by default. All streams of all its connections share
   * it: streams of a higher priority go first, those of the same share it evenly.
   */
  readonly bandwidth?: Bandwidth | { readonly up?: Bandwidth; readonly down?: Bandwidth } | undefined
  /**
   * The probability that a packet is lost. It is sent again after about a round trip, takes the bandwidth again, and may
   * be lost again; meanwhile its stream stalls and other streams go on. A loss of 1 is the same as `offline`.
   */
  readonly loss?: number | undefined
  /**
   * The probability that a packet is late, by up to its latency and at least up to 10 milliseconds, so that packets of
   * other streams overtake it.
   */
  readonly reorder?: number | undefined
  /** The probability, per packet, that its stream ends instead, as if its sender had reset it with code 4. */
  readonly reset?: number | undefined
  /** The probability, per packet, that its reader stops the stream with code 4. */
  readonly stop?: number | undefined
  /** The probability, per packet, that its connection breaks: both sides see a `SessionClosed` by the transport. */
  readonly death?: number | undefined
  /** Nothing passes. What was sent waits, and goes on when this is over. */
  readonly offline?: boolean | undefined
}

/** Conditions in numbers: nanoseconds, and bits per second. */
export interface Exact {
  readonly latency: number
  readonly jitter: number
  readonly up: number
  readonly down: number
  readonly loss: number
  readonly reorder: number
  readonly reset: number
  readonly stop: number
  readonly death: number
  readonly offline: boolean
}

export const perfect: Exact = {
  latency: 0,
  jitter: 0,
  up: Infinity,
  down: Infinity,
  loss: 0,
  reorder: 0,
  reset: 0,
  stop: 0,
  death: 0,
  offline: false
}

/** Puts numbers in the place of what is given, and leaves the rest. Invalid ones are a defect. */
export const exact = (conditions: Conditions): Partial<Exact> => {
  const { bandwidth, jitter, latency, offline } = conditions
  const ways = typeof bandwidth === "object" ? bandwidth : { up: bandwidth, down: bandwidth }
  return {
    ...given("latency", latency, duration),
    ...given("jitter", jitter, duration),
    ...given("up", ways.up, bitsPerSecond),
    ...given("down", ways.down, bitsPerSecond),
    ...given("loss", conditions.loss, probability),
    ...given("reorder", conditions.reorder, probability),
    ...given("reset", conditions.reset, probability),
    ...given("stop", conditions.stop, probability),
    ...given("death", conditions.death, probability),
    ...given("offline", offline, (offline) => offline)
  }
}

/** Between two hosts the worse of both counts. */
export const worse = (a: Exact, b: Exact): Exact => ({
  latency: Math.max(a.latency, b.latency),
  jitter: Math.max(a.jitter, b.jitter),
  up: a.up,
  down: b.down,
  loss: Math.max(a.loss, b.loss),
  reorder: Math.max(a.reorder, b.reorder),
  reset: Math.max(a.reset, b.reset),
  stop: Math.max(a.stop, b.stop),
  death: Math.max(a.death, b.death),
  offline: a.offline || b.offline || a.loss >= 1 || b.loss >= 1
})

const given = <K extends string, A, B>(
  name: K,
  value: A | undefined,
  parse: (value: A, name: K) => B
): { readonly [P in K]?: B } => value === undefined ? {} : { [name]: parse(value, name) } as { readonly [P in K]: B }

const duration = (input: Duration.Input, name: string): number => {
  const nanos = nanosOf(input)
  if (!(nanos >= 0 && nanos < Infinity)) throw new RangeError(`Simulator: ${name} must be a finite duration`)
  return nanos
}

const probability = (value: number, name: string): number => {
  if (!(value >= 0 && value <= 1)) throw new RangeError(`Simulator: ${name} must be a probability, from 0 to 1`)
  return value
}

const units: Record<string, number> = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 }

const bitsPerSecond = (bandwidth: Bandwidth): number => {
  if (bandwidth === "unlimited") return Infinity
  const [, amount, unit] = typeof bandwidth === "number"
    ? [undefined, bandwidth, "bit"] as const
    : /^\s*([\d.]+)\s*([kmg]?bit)\s*$/i.exec(bandwidth) ?? []
  const bits = Number(amount) * (units[unit?.toLowerCase() ?? ""] ?? Number.NaN)
  if (!(bits > 0)) throw new RangeError(`Simulator: ${bandwidth} is not a bandwidth such as "1 Mbit"`)
  return bits
}

/** How long it takes to tell that a packet was lost, and to send it again: 9/8 of a round trip, as in RFC 9002. */
export const retransmission = ({ latency }: Exact): number => Math.round(latency * 9 / 4) + millisecond

/** By how much a packet is late at most when others overtake it. */
export const lateness = ({ latency }: Exact): number => Math.max(latency, 10 * millisecond)
