/**
 * Packets: one direction of a connection, and the access links of hosts that they share.
 *
 * @internal
 */
import { type Exact, lateness, retransmission } from "./Conditions.ts"
import type { Seeded } from "./Seeded.ts"
import type { Event, Timeline } from "./Timeline.ts"

/** Bytes that a packet carries. */
const packetSize = 1_200

/** The code of streams that the network ends. */
const faultCode = 4

/** What all connections of a simulation share. */
export interface World {
  readonly timeline: Timeline
  readonly random: Seeded
  readonly window: number
  readonly sendBuffer: number
  readonly maxStreams: number
  readonly priority: boolean
  /** Nanoseconds without a sign of life after which a connection counts as broken. */
  readonly silence: number
  readonly onPacket: ((packet: Packet) => void) | undefined
}

/**
 * A packet that has left, as the option `onPacket` sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Packet {
  /** When it left, and when what is in it arrives, in milliseconds since the beginning. */
  readonly sent: number
  readonly arrives: number
  readonly from: string
  readonly to: string
  /** The number of its connection, and of its stream in that; both count from 1. */
  readonly connection: number
  readonly stream: number
  readonly bytes: number
  /** How often it was lost before it came through. */
  readonly losses: number
}

/** The sending or the receiving side of a host's access link: one packet at a time. */
export class Port implements Event {
  time = 0
  order = 0
  readonly cancelled = false
  bandwidth = Infinity
  isBusy = false
  /** Where the turns of its streams are: see {@link Sent.turn}. */
  turn = 0
  /** Flows with streams that want to send. */
  readonly flows = new Set<Flow>()
  private readonly timeline: Timeline

  constructor(timeline: Timeline) {
    this.timeline = timeline
  }

  /** Nanoseconds that bytes take. */
  duration(bytes: number): number {
    return this.bandwidth === Infinity ? 0 : Math.max(1, Math.round(bytes * 8e9 / this.bandwidth))
  }

  occupy(duration: number): void {
    if (duration === 0) return
    this.isBusy = true
    this.timeline.plan(this, this.timeline.now + duration)
  }

  happen(): void {
    this.isBusy = false
    this.next()
  }

  /** Sends what may go, for as long as it may. */
  next(): void {
    while (!this.isBusy) {
      let best: Sent | undefined
      for (const flow of this.flows) {
        if (flow.isCut || flow.up.isBusy || flow.down.isBusy) continue
        for (const pipe of flow.ready) if (best === undefined || goesBefore(pipe, best)) best = pipe
      }
      if (best === undefined) return
      best.flow.transmit(best)
    }
  }
}

const goesBefore = (a: Sent, b: Sent): boolean => a.rank > b.rank || (a.rank === b.rank && a.turn < b.turn)

/** One direction of a stream, as the packets see it. */
export interface Sent {
  readonly flow: Flow
  readonly number: number
  readonly rank: number
  /** Bytes sent, as far as they count among streams of one rank: the lowest goes next. */
  turn: number
  isReady: boolean
  readonly lastDeparture: number
  lastArrival: number
  arriving: Arrival | undefined
  /** Bytes that may leave now. */
  readonly sendable: number
  /** Nothing but the end is left to be sent. */
  readonly endsNow: boolean
  readonly depart: (bytes: number) => void
  readonly endDeparts: () => void
  readonly arrive: (bytes: number, isEnd: boolean) => void
  /** Ends it early at the writer. */
  readonly abort: (code: number) => void
  /** Ends it early at the reader. */
  readonly halt: (code: number) => void
}

/** The arrival of bytes of a stream, and of its end. */
class Arrival implements Event {
  time = 0
  order = 0
  readonly cancelled = false
  readonly pipe: Sent
  bytes: number
  isEnd: boolean

  constructor(pipe: Sent, bytes: number, isEnd: boolean) {
    this.pipe = pipe
    this.bytes = bytes
    this.isEnd = isEnd
  }

  happen(): void {
    if (this.pipe.arriving === this) this.pipe.arriving = undefined
    this.pipe.arrive(this.bytes, this.isEnd)
  }
}

export type { Arrival }

/** One direction of a connection. */
export class Flow {
  readonly world: World
  readonly connection: number
  readonly from: string
  readonly to: string
  readonly up: Port
  readonly down: Port
  readonly ready: Array<Sent> = []
  /** Nothing passes now. */
  isCut = false
  private path: Exact
  private isSteady = true
  private isLost = false
  private lastArrival = 0
  private held: Array<() => void> = []
  private readonly onDeath: () => void

  constructor(
    world: World,
    options: {
      readonly connection: number
      readonly from: string
      readonly to: string
      readonly up: Port
      readonly down: Port
      readonly path: Exact
      readonly onDeath: () => void
    }
  ) {
    this.world = world
    this.connection = options.connection
    this.from = options.from
    this.to = options.to
    this.up = options.up
    this.down = options.down
    this.onDeath = options.onDeath
    this.path = options.path
  }

  get bandwidth(): number {
    return Math.min(this.up.bandwidth, this.down.bandwidth)
  }

  /** Takes new conditions; what has waited goes on. */
  update(path: Exact, isCut: boolean): void {
    this.path = path
    this.isCut = isCut
    const { death, jitter, loss, reorder, reset, stop } = path
    this.isSteady = jitter + loss + reorder + reset + stop + death === 0 && this.world.onPacket === undefined
    if (isCut) return
    for (const send of this.held.splice(0)) send()
    for (const pipe of [...this.ready]) this.offer(pipe)
  }

  /** One of its ends has gone: nothing is sent any more. */
  lose(): void {
    this.isLost = true
    this.held = []
    for (const pipe of [...this.ready]) this.withdraw(pipe)
  }

  /** Sends something other than the bytes of a stream: it takes no bandwidth. */
  control(deliver: () => void): void {
    if (this.isLost) return
    if (this.isCut) {
      this.held.push(() => this.control(deliver))
      return
    }
    this.world.timeline.schedule(this.arrival(0, this.losses()), deliver)
  }

  /** A stream may have something to send. */
  offer(pipe: Sent): void {
    if (this.isLost) return
    if (this.isCut) return this.enlist(pipe)
    if (this.bandwidth < Infinity) {
      if (pipe.sendable > 0) {
        this.enlist(pipe)
        this.up.next()
      }
    } else {
      this.withdraw(pipe)
      while (pipe.sendable > 0) {
        this.depart(pipe, this.isSteady ? pipe.sendable : Math.min(pipe.sendable, packetSize), 0, this.losses())
      }
    }
    if (pipe.endsNow) this.end(pipe)
  }

  private enlist(pipe: Sent): void {
    if (pipe.isReady) return
    pipe.isReady = true
    this.queue(pipe)
    this.ready.push(pipe)
    this.up.flows.add(this)
    this.down.flows.add(this)
  }

  /** Puts a stream behind those of its rank, because it is new there. */
  queue(pipe: Sent): void {
    // it takes its turn after those that wait: it does not get what it did not use before. Where two ports are narrow the
    // slower one counts
    const up = this.up.bandwidth < Infinity ? this.up.turn : Infinity
    const down = this.down.bandwidth < Infinity ? this.down.turn : Infinity
    const turn = Math.min(up, down)
    if (turn < Infinity) pipe.turn = Math.max(pipe.turn, turn + packetSize)
  }

  withdraw(pipe: Sent): void {
    if (!pipe.isReady) return
    pipe.isReady = false
    this.ready.splice(this.ready.indexOf(pipe), 1)
    if (this.ready.length > 0) return
    this.up.flows.delete(this)
    this.down.flows.delete(this)
  }

  /** Sends a packet of a stream over both access links. */
  transmit(pipe: Sent): void {
    const bytes = Math.min(pipe.sendable, packetSize)
    if (bytes > 0) {
      const losses = this.losses()
      const up = this.up.duration(bytes * (1 + losses))
      const down = this.down.duration(bytes * (1 + losses))
      this.up.occupy(up)
      this.down.occupy(down)
      this.up.turn = Math.max(this.up.turn, pipe.turn)
      this.down.turn = Math.max(this.down.turn, pipe.turn)
      pipe.turn += bytes
      this.depart(pipe, bytes, Math.max(up, down), losses)
    }
    if (pipe.sendable === 0) this.withdraw(pipe)
    if (pipe.endsNow) this.end(pipe)
  }

  private depart(pipe: Sent, bytes: number, duration: number, losses: number): void {
    const { random, timeline } = this.world
    pipe.depart(bytes)
    if (!this.isSteady) {
      if (random.happens(this.path.death)) return this.onDeath()
      if (random.happens(this.path.reset)) return pipe.abort(faultCode)
      if (random.happens(this.path.stop)) {
        // what follows, its end above all, comes after that
        pipe.lastArrival = Math.max(pipe.lastArrival, this.arrival(duration, losses))
        pipe.arriving = undefined
        timeline.schedule(pipe.lastArrival, () => pipe.halt(faultCode))
        return
      }
    }
    this.plan(pipe, Math.max(pipe.lastArrival, this.arrival(duration, losses)), bytes, losses, false)
  }

  // the end goes with the last bytes when it is known as they leave
  private end(pipe: Sent): void {
    const { now } = this.world.timeline
    const at = pipe.lastDeparture === now
      ? pipe.lastArrival
      : Math.max(pipe.lastArrival, this.arrival(0, this.losses()))
    pipe.endDeparts()
    this.plan(pipe, at, 0, 0, true)
  }

  private plan(pipe: Sent, at: number, bytes: number, losses: number, isEnd: boolean): void {
    const { onPacket, timeline } = this.world
    pipe.lastArrival = at
    if (pipe.arriving !== undefined && pipe.arriving.time === at) {
      pipe.arriving.bytes += bytes
      pipe.arriving.isEnd = isEnd
    } else {
      pipe.arriving = new Arrival(pipe, bytes, isEnd)
      timeline.plan(pipe.arriving, at)
    }
    if (onPacket !== undefined && bytes > 0) {
      const { connection, from, to } = this
      const [sent, arrives] = [timeline.now / 1e6, at / 1e6]
      onPacket({ sent, arrives, from, to, connection, stream: pipe.number, bytes, losses })
    }
  }

  private losses(): number {
    let losses = 0
    while (this.world.random.happens(this.path.loss)) losses++
    return losses
  }

  // when what leaves now arrives; packets overtake each other only where one was lost or is late
  private arrival(duration: number, losses: number): number {
    const { random, timeline } = this.world
    const { jitter, latency, reorder } = this.path
    let at = timeline.now + duration + latency
    if (jitter > 0) at += Math.round(random.nextDoubleUnsafe() * jitter)
    const isLate = random.happens(reorder)
    if (isLate) at += Math.round(random.nextDoubleUnsafe() * lateness(this.path))
    if (losses > 0) at += losses * retransmission(this.path)
    if (isLate || losses > 0) return at
    return this.lastArrival = Math.max(at, this.lastArrival)
  }
}
