/**
 * Which clients a relay lets in: how many, from where, and how fast.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { BoundsExceeded } from "../core/MoqError.ts"
import { Rate } from "../session/Rate.ts"

/**
 * The limits of a relay over all its sessions. All of them are on by default.
 *
 * **Details**
 *
 * An address is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one of those has them all. Clients
 * whose transport does not tell their address (memory, native HTTP/3) count among all, and not by address.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** How many sessions may be open at once; 1,000 by default. Further ones are refused with status 503. */
  readonly sessions: number
  /**
   * How many sessions one address may have open at once; 500 by default, half of all: many clients share the address of
   * their network, and none of those networks may keep everybody else out. Further ones are refused with status 503.
   */
  readonly sessionsPerAddress: number
  /**
   * How many clients a second may begin a session, after a burst of five times as many; 200 by default, so that a relay
   * which starts again takes its 1,000 clients back at once. Further ones are refused with status 429.
   */
  readonly handshakeRate: number
  /**
   * How many clients a second may begin a session from one address, after a burst of ten times as many; 50 by default.
   * Further ones are refused with status 429, and use up nothing of what is there for all.
   */
  readonly handshakeRatePerAddress: number
}

/** @internal */
export const defaults: Limits = {
  sessions: 1000,
  sessionsPerAddress: 500,
  handshakeRate: 200,
  handshakeRatePerAddress: 50
}

/**
 * Counts those who are in, and those who came lately.
 *
 * @internal
 */
export class Admission {
  /** A limit that is not above 0 is a defect: nobody would ever be let in. */
  static make(limits: Partial<Limits> = {}): Effect.Effect<Admission> {
    return Clock.clockWith((clock) => Effect.sync(() => new Admission({ ...defaults, ...limits }, clock)))
  }

  readonly clock: Clock.Clock
  /** How many are in. */
  open: number
  // Who is in, or came of late. Each of them has passed the rate of all, and is forgotten once its own rate is at rest:
  // so these are never more than some seconds let in, and those who are in.
  readonly addresses: Map<string, Address>
  private current: Limits
  private rate: Rate
  private swept: number
  constructor(limits: Limits, clock: Clock.Clock) {
    check(limits)
    this.current = limits
    this.clock = clock
    this.open = 0
    this.addresses = new Map()
    this.rate = new Rate(clock, limits.handshakeRate, limits.handshakeRate * burst)
    this.swept = clock.currentTimeMillisUnsafe()
  }

  /** May be replaced, for those who come from then on. */
  get limits(): Limits {
    return this.current
  }
  set limits(limits: Limits) {
    check(limits)
    const { handshakeRate, handshakeRatePerAddress } = this.current
    this.current = limits
    if (limits.handshakeRate !== handshakeRate) {
      this.rate = new Rate(this.clock, limits.handshakeRate, limits.handshakeRate * burst)
    }
    if (limits.handshakeRatePerAddress === handshakeRatePerAddress) return
    for (const address of this.addresses.values()) address.rate = this.rateOfAddress()
  }

  /** Lets a client in, until `leave`; or tells which limit forbids it. */
  enter(peer: string | undefined): Refusal | { readonly leave: () => void } {
    const key = peer === undefined ? undefined : addressOf(peer)
    const { sessions, sessionsPerAddress } = this.current
    let address = key === undefined ? undefined : this.addresses.get(key)
    if (address !== undefined && address.open >= sessionsPerAddress) {
      return refuse("sessionsPerAddress", 503, `${address.open} sessions are open from ${key}`)
    }
    if (this.open >= sessions) return refuse("sessions", 503, `${this.open} sessions are open`)
    // first its own: whoever comes too fast uses up nothing of what is there for all
    if (address?.rate.take() === false) {
      return refuse("handshakeRatePerAddress", 429, `too many sessions in a short time from ${key}`)
    }
    if (!this.rate.take()) return refuse("handshakeRate", 429, "too many sessions in a short time")
    this.open++
    if (key === undefined) return { leave: () => void this.open-- }
    if (address === undefined) {
      this.sweep()
      address = { open: 0, rate: this.rateOfAddress() }
      address.rate.take()
      this.addresses.set(key, address)
    }
    const own = address
    own.open++
    return {
      leave: () => {
        this.open--
        own.open--
      }
    }
  }

  private rateOfAddress(): Rate {
    const { handshakeRatePerAddress } = this.current
    return new Rate(this.clock, handshakeRatePerAddress, handshakeRatePerAddress * burstOfAddress)
  }

  // a rate that nobody asked for so long is full again: there is nothing to remember
  private sweep(): void {
    const now = this.clock.currentTimeMillisUnsafe()
    if (Math.abs(now - this.swept) < rest) return
    this.swept = now
    for (const [key, { open, rate }] of this.addresses) {
      if (open === 0 && Math.abs(now - rate.filled) >= rest) this.addresses.delete(key)
    }
  }
}

/** @internal */
export interface Refusal {
  readonly limit: keyof Limits
  /** The HTTP status of the answer. */
  readonly status: number
  /** Its message names the limit. */
  readonly error: BoundsExceeded
}

/**
 * What counts as one address: without its port; of IPv6 the first 64 bits. Anything that is no address counts as it is.
 *
 * @internal
 */
export const addressOf = (peer: string): string => {
  const host = /^\[(.*)\](?::\d+)?$/.exec(peer)?.[1] ?? (isIpv6.test(peer) ? peer : peer.replace(/:\d+$/, ""))
  if (!isIpv6.test(host)) return host
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1]
  if (mapped !== undefined) return mapped
  const [head = "", tail] = host.split("%")[0]!.toLowerCase().split("::")
  const parts = head === "" ? [] : head.split(":")
  if (tail !== undefined) {
    const after = tail === "" ? [] : tail.split(":")
    while (parts.length + after.length < 8) parts.push("0")
    parts.push(...after)
  }
  return `${parts.slice(0, 4).map((part) => part.replace(/^0+(?=.)/, "")).join(":")}::/64`
}

// internal

interface Address {
  open: number
  rate: Rate
}

// how many seconds of a rate may come at once
const burst = 5

const burstOfAddress = 10

// how long, in milliseconds, until the rate of an address has filled up
const rest = burstOfAddress * 1000

const isIpv6 = /:.*:/

const refuse = (limit: keyof Limits, status: number, detail: string): Refusal => ({
  limit,
  status,
  error: new BoundsExceeded({ detail: `${detail} (the limit ${limit})` })
})

const check = (limits: Limits): void => {
  for (const name of Object.keys(defaults) as Array<keyof Limits>) {
    if (!(limits[name] > 0)) throw new RangeError(`Limits: ${name} must be above 0`)
  }
}
