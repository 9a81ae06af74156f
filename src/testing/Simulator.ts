/**
 * A bad network under virtual time, decided by a seed: hosts, and what happens to what they send each other.
 *
 * **When to use**
 *
 * Use to test what your program does when the network is slow, narrow, lossy, or gone. A scenario of minutes runs in
 * milliseconds, and one that fails can be run again exactly as it was.
 *
 * **Details**
 *
 * {@link run} provides a {@link Network}, a `TestClock` and a seeded `Random` to a scenario, and moves the time itself:
 * whenever nothing is left to run, to the next thing that is to happen. When there is none it fails with
 * {@link Deadlock}; when something is left over at the end, with {@link Leak}.
 *
 * A host's {@link Host.transport} keeps the whole contract of `effect-moq/transport/Transport`, so that sessions and relays
 * run on it as they are.
 *
 * **Gotchas**
 *
 * The time does not wait for what is not Effect: promises, timers, and sockets are not seen. A scenario that waits for
 * one is a deadlock, or sees hours go by.
 *
 * **Example** (A track over a slow network)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Session } from "effect-moq"
 * import { Relay } from "effect-moq/relay"
 * import { Simulator } from "effect-moq/testing"
 *
 * const scenario = Effect.gen(function*() {
 *   const network = yield* Simulator.Network
 *   const relay = yield* network.host("relay")
 *   const alice = yield* network.host("alice")
 *   const bob = yield* network.host("bob", { bandwidth: "200 Kbit" })
 *   yield* relay.serve(Relay.make())
 *
 *   const publisher = yield* alice.provide(Session.connect(relay.url))
 *   const broadcast = yield* publisher.broadcast(["room"])
 *   const track = yield* broadcast.track("numbers")
 *   yield* Stream.tick("1 second").pipe(
 *     Stream.map(() => new Uint8Array(1_000)),
 *     Stream.run(track.sink({ group: "single" })),
 *     Effect.forkScoped
 *   )
 *
 *   const viewer = yield* bob.provide(Session.connect(relay.url))
 *   const watched = yield* viewer.subscribe(["room", "numbers"], { wait: "10 seconds" })
 *   return yield* Stream.runCollect(Stream.take(watched.frames, 5))
 * })
 *
 * const program = Simulator.run(scenario, { latency: "80 millis", loss: 0.02, bandwidth: "1 Mbit", seed: 7 })
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import type { StackFrame } from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as TestClock from "effect/testing/TestClock"
import type { TransportError } from "../core/MoqError.ts"
import * as Transport from "../transport/Transport.ts"
import type { Conditions } from "./simulator/Conditions.ts"
import type { Packet, World } from "./simulator/Flow.ts"
import { type Machine, Net } from "./simulator/Hosts.ts"
import { Seeded } from "./simulator/Seeded.ts"
import { nanosOf, Timeline } from "./simulator/Timeline.ts"

export type { Bandwidth, Conditions } from "./simulator/Conditions.ts"
export type { Packet } from "./simulator/Flow.ts"

/**
 * What is open now in a simulation.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ledger {
  /** Connections of which at least one side is open, those included that are being made. */
  readonly connections: number
  /** Streams that the side which opened them still counts. */
  readonly streams: number
  /** Fibers of the scenario, its own included, that have not ended. */
  readonly fibers: number
}

/**
 * The network of a scenario.
 *
 * @category services
 * @since 0.1.0
 */
export interface Network {
  /** The seed of this run. */
  readonly seed: number
  /**
   * The host of a name, which is made when it is new: a host name as in a URL, such as `"relay"` or `"eu.example"`; any
   * other is a defect. Conditions that are given are set: see {@link Host.set}.
   */
  readonly host: (name: string, conditions?: Conditions) => Effect.Effect<Host>
  /** Changes conditions of all hosts, but for those that a host has set for itself. What is not given stays. */
  readonly set: (conditions: Conditions) => Effect.Effect<void>
  /** Cuts some hosts off from others: nothing passes between them until {@link Network.heal}, then what waited goes on. */
  readonly partition: (some: ReadonlyArray<Host>, others: ReadonlyArray<Host>) => Effect.Effect<void>
  /** Ends all partitions. */
  readonly heal: Effect.Effect<void>
  /** What is open now. */
  readonly ledger: Effect.Effect<Ledger>
}

/**
 * The service of the network of a scenario.
 *
 * @category services
 * @since 0.1.0
 */
export const Network: Context.Service<Network, Network> = Context.Service("effect-moq/testing/Simulator/Network")

/**
 * A computer on the network. It can connect to every host that listens, itself included.
 *
 * @category models
 * @since 0.1.0
 */
export interface Host {
  readonly name: string
  /** The URL at which other hosts reach it: `https://` and its name; ports and paths may follow. */
  readonly url: string
  /**
   * Connects from this host. Fails with `TransportError` when there is no such host, nobody listens on it, or the request
   * is refused or taken by nobody within 5 seconds; with `Timeout` after `timeout` (5 seconds by default).
   */
  readonly transport: Transport.Transport
  /** Listens on this host for as long as the scope. Fails with `TransportError` when it listens already. */
  readonly listen: Effect.Effect<Transport.TransportServer, TransportError, Scope.Scope>
  /** Runs a client on this host, such as `Session.connect(relay.url)`: it provides {@link Host.transport}. */
  readonly provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Transport.Transport>>
  /** Runs a server on this host, such as `Relay.make()`: it {@link Host.listen}s for as long as the scope. */
  readonly serve: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | TransportError, Exclude<R, Transport.TransportServer> | Scope.Scope>
  /** The client side of this host, for programs made of layers. */
  readonly layer: Layer.Layer<Transport.Transport>
  /** The server side of this host: it listens for as long as the layer. */
  readonly layerServer: Layer.Layer<Transport.TransportServer, TransportError>
  /**
   * Changes the conditions of this host's access to the network, now; they override those of the run. What is not given
   * stays.
   */
  readonly set: (conditions: Conditions) => Effect.Effect<void>
  /**
   * Ends all connections of this host without a word, and listens no more, as when the power goes. Its own side sees a
   * `SessionClosed` by the transport at once, its peers after the `silence` of the run; with `noticed`, as when only the
   * process dies, after the time that a packet takes. The host can be used again.
   */
  readonly kill: (options?: { readonly noticed?: boolean | undefined }) => Effect.Effect<void>
}

/**
 * How a scenario is run: the conditions of its network, and its limits.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Conditions {
  /** Decides everything that is left to chance; 1 by default. */
  readonly seed?: number | undefined
  /** Whether the network knows the priorities of streams; without, all take turns. `true` by default. */
  readonly priority?: boolean | undefined
  /** Bytes of a stream that may be unread or on their way; 256 KiB by default. */
  readonly window?: number | undefined
  /** Bytes that a stream takes before they leave, so that a write suspends beyond that; 16 KiB by default. */
  readonly sendBuffer?: number | undefined
  /** Streams of each kind that one side may have open at once; 1,000 by default. */
  readonly maxStreams?: number | undefined
  /** How long nothing may be heard of a peer before a connection counts as broken; 30 seconds by default. */
  readonly silence?: Duration.Input | undefined
  /** How much virtual time a scenario may take; 1 hour by default. Keep-alives go on for ever, so there has to be an end. */
  readonly timeLimit?: Duration.Input | undefined
  /** Whether something may be left over at the end; `false` by default. */
  readonly allowLeaks?: boolean | undefined
  /** Is told of each packet of a stream as it leaves: a trace, the same whenever the seed is. */
  readonly onPacket?: ((packet: Packet) => void) | undefined
}

/**
 * Nothing was left to happen, and the scenario still waited.
 *
 * `time` is in milliseconds since the beginning, `fibers` is how many wait; `suspended` tells which calls of the transport
 * have not returned.
 *
 * @category errors
 * @since 0.1.0
 */
export class Deadlock extends Schema.TaggedError<Deadlock>("effect-moq/testing/Simulator/Deadlock")("Deadlock", {
  seed: Schema.Number,
  time: Schema.Number,
  fibers: Schema.Number,
  suspended: Schema.Array(Schema.String)
}) {
  override get message() {
    const { fibers, seed, suspended, time } = this
    return `seed ${seed}: after ${time} ms of virtual time nothing is left to happen, and ${fibers} fibers wait` +
      (suspended.length === 0 ? "" : `; suspended are: ${suspended.join("; ")}`)
  }
}

/**
 * The scenario took more virtual time than it may. `timeLimit` is in milliseconds. A scenario that is busy for ever while
 * no time goes by is not found: interrupt it from outside.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimeLimit extends Schema.TaggedError<TimeLimit>("effect-moq/testing/Simulator/TimeLimit")("TimeLimit", {
  seed: Schema.Number,
  timeLimit: Schema.Number,
  suspended: Schema.Array(Schema.String)
}) {
  override get message() {
    const { seed, suspended, timeLimit } = this
    return `seed ${seed}: the scenario has not ended within ${timeLimit} ms of virtual time` +
      (suspended.length === 0 ? "" : `; suspended are: ${suspended.join("; ")}`)
  }
}

/**
 * The scenario has ended and its scope is closed, everything has come to rest, and something is still open.
 *
 * @category errors
 * @since 0.1.0
 */
export class Leak extends Schema.TaggedError<Leak>("effect-moq/testing/Simulator/Leak")("Leak", {
  seed: Schema.Number,
  connections: Schema.Number,
  streams: Schema.Number,
  fibers: Schema.Number,
  suspended: Schema.Array(Schema.String)
}) {
  override get message() {
    const { connections, fibers, seed, streams, suspended } = this
    return `seed ${seed}: ${connections} connections, ${streams} streams and ${fibers} fibers are left over` +
      (suspended.length === 0 ? "" : `; suspended are: ${suspended.join("; ")}`)
  }
}

/**
 * What can go wrong with a run, beside what the scenario fails with.
 *
 * @category errors
 * @since 0.1.0
 */
export type SimulationError = Deadlock | TimeLimit | Leak

/**
 * Runs a scenario on a network of its own, in virtual time that begins at 0.
 *
 * **Details**
 *
 * The scope of the scenario closes when it ends. Whatever the run fails with, the error of the scenario included, the
 * failure stays what it is and can be caught; its cause tells the seed where it is printed, and the seed is logged.
 *
 * Invalid options are a defect. In a scenario `TestClock.adjust` lets the time go by like `Effect.sleep`.
 *
 * @category running
 * @since 0.1.0
 */
export const run = <A, E, R>(
  scenario: Effect.Effect<A, E, R>,
  options: Options = {}
): Effect.Effect<A, E | SimulationError, Exclude<R, Network | Scope.Scope>> =>
  Effect.withFiber((outer) => {
    const simulation = new Simulation(scenario, options, outer.context)
    return simulation.drive.pipe(
      Effect.onInterrupt(() => simulation.abandon),
      Effect.onError((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.void
          : Effect.logError(`Simulator: the run with seed ${simulation.seed} failed, at ${simulation.time} ms`)
      )
    )
  })

/**
 * Runs a scenario once for each of many seeds, one after the other, and gives what each run gave. Stops at the first run
 * that fails: see {@link run} for how it tells its seed.
 *
 * `seeds` are the seeds, or how many, counted from the `seed` of the options; 100 by default.
 *
 * **Example** (A thousand bad networks)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Simulator } from "effect-moq/testing"
 *
 * declare const scenario: Effect.Effect<void, never, Simulator.Network>
 *
 * const program = Simulator.runAll(scenario, { loss: 0.1, death: 0.001, seeds: 1_000 })
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const runAll = <A, E, R>(
  scenario: Effect.Effect<A, E, R>,
  options: Options & { readonly seeds?: number | ReadonlyArray<number> | undefined } = {}
): Effect.Effect<Array<A>, E | SimulationError, Exclude<R, Network | Scope.Scope>> => {
  const { seed: first = 1, seeds = 100, ...rest } = options
  const all = typeof seeds === "number" ? Array.from({ length: seeds }, (_, i) => first + i) : seeds
  return Effect.forEach(all, (seed) => run(scenario, { ...rest, seed }))
}

// internal

// steps of a simulation between two turns of the program around it
const slice = 10_000

// how much virtual time what is left over has to come to an end
const rest = 60e9

class Simulation<A, E> {
  readonly seed: number
  private readonly timeline = new Timeline()
  private readonly net: Net
  private readonly options: Options
  private readonly timeLimit: number
  private readonly root: Fiber.Fiber<A, E>
  private fibers = 0
  // set once the scenario is to end, or has ended
  private deadline: number | undefined
  private failure: SimulationError | undefined

  constructor(scenario: Effect.Effect<A, E, unknown>, options: Options, outer: Context.Context<never>) {
    const { timeline } = this
    const { onPacket, priority = true, seed = 1, silence = "30 seconds", timeLimit = "1 hour" } = options
    if (!Number.isFinite(seed)) throw new RangeError("Simulator: seed must be a finite number")
    this.options = options
    this.seed = seed
    this.timeLimit = nanosOf(timeLimit)
    const world: World = {
      timeline,
      random: new Seeded(seed, 1),
      window: atLeastOne("window", options.window ?? 256 * 1024),
      sendBuffer: atLeastOne("sendBuffer", options.sendBuffer ?? 16 * 1024),
      maxStreams: atLeastOne("maxStreams", options.maxStreams ?? 1_000),
      priority,
      silence: nanosOf(silence),
      onPacket
    }
    this.net = new Net(world, options)
    const context = outer.pipe(
      Context.add(Scheduler.Scheduler, timeline),
      Context.add(Clock.Clock, timeline.clock(liveOf(outer))),
      Context.add(Random.Random, new Seeded(seed, 2)),
      Context.add(Metric.FiberRuntimeMetrics, this.counting(Context.get(outer, Metric.FiberRuntimeMetrics))),
      Context.add(Network, this.network)
    )
    this.root = Effect.runForkWith(context)(Effect.scoped(scenario as Effect.Effect<A, E, Scope.Scope>))
  }

  /** Milliseconds since the beginning. */
  get time(): number {
    return this.timeline.now / 1e6
  }

  private get network(): Network {
    const { net } = this
    const names = (hosts: ReadonlyArray<Host>) => hosts.map(({ name }) => name)
    return {
      seed: this.seed,
      host: (name, conditions) =>
        Effect.sync(() => {
          const machine = net.machine(name)
          if (conditions !== undefined) machine.set(conditions)
          return hostOf(net, machine)
        }),
      set: (conditions) => Effect.sync(() => net.set(conditions)),
      partition: (some, others) => Effect.sync(() => net.partition(names(some), names(others))),
      heal: Effect.sync(() => net.heal()),
      ledger: Effect.sync(() => this.ledger)
    }
  }

  private get ledger(): Ledger {
    const { fibers, net: { links } } = this
    let streams = 0
    for (const link of links) streams += link.streams
    return { connections: links.size, streams, fibers }
  }

  // fibers tell when they start and end to whoever counts them for metrics
  private counting(also: Metric.FiberRuntimeMetricsService | undefined): Metric.FiberRuntimeMetricsService {
    return {
      recordFiberStart: (context) => {
        this.fibers++
        also?.recordFiberStart(context)
      },
      recordFiberEnd: (context, exit) => {
        this.fibers--
        also?.recordFiberEnd(context, exit)
      }
    }
  }

  readonly drive: Effect.Effect<A, E | SimulationError> = Effect.suspend(() => {
    for (let steps = 0; steps < slice; steps++) {
      const exit = this.step()
      if (exit !== undefined) return this.named(exit)
    }
    return Effect.andThen(Effect.yieldNow, this.drive)
  })

  /** Interrupts the scenario, and runs what it does at its end. */
  readonly abandon: Effect.Effect<void> = Effect.suspend(() => {
    this.interrupt()
    const settle: Effect.Effect<void> = Effect.suspend(() => {
      for (let steps = 0; steps < slice; steps++) if (this.step() !== undefined) return Effect.void
      return Effect.andThen(Effect.yieldNow, settle)
    })
    return settle
  })

  private interrupt(): void {
    this.deadline = this.timeline.now + rest
    this.root.interruptUnsafe()
  }

  // runs a task of a fiber, or moves the time; gives the end of all when it has come
  private step(): Exit.Exit<A, E | SimulationError> | undefined {
    const { timeline } = this
    if (timeline.runTask()) return undefined
    const next = timeline.next
    const exit = this.root.pollUnsafe()
    if (this.deadline === undefined) {
      if (exit !== undefined) {
        this.deadline = timeline.now + rest
      } else if (next === undefined) {
        const { fibers, seed, time } = this
        this.failure = new Deadlock({ seed, time, fibers, suspended: this.net.suspended() })
        this.interrupt()
      } else if (next.time > this.timeLimit) {
        const { seed, timeLimit } = this
        this.failure = new TimeLimit({ seed, timeLimit: timeLimit / 1e6, suspended: this.net.suspended() })
        this.interrupt()
      } else {
        timeline.advance()
      }
      return undefined
    }
    const isClean = this.fibers === 0 && this.net.links.size === 0
    if (!isClean && next !== undefined && next.time <= this.deadline) {
      timeline.advance()
      return undefined
    }
    if (this.failure !== undefined) return Exit.fail(this.failure)
    // interrupted, and it never ended
    if (exit === undefined) return Exit.interrupt()
    if (Exit.isFailure(exit) || isClean || this.options.allowLeaks === true) return exit
    return Exit.fail(new Leak({ seed: this.seed, ...this.ledger, suspended: this.net.suspended() }))
  }

  // a cause shows its stack frames wherever it is printed
  private named<A, E>(exit: Exit.Exit<A, E>): Exit.Exit<A, E> {
    if (Exit.isSuccess(exit)) return exit
    const reasons = exit.cause.reasons.map((reason) => {
      const parent = reason.annotations.get(Cause.StackTrace.key) as StackFrame | undefined
      const frame: StackFrame = { name: `Simulator.run with seed ${this.seed}`, stack: () => undefined, parent }
      return reason.annotate(Context.make(Cause.StackTrace, frame), { overwrite: true })
    })
    return Exit.failCause(Cause.fromReasons(reasons))
  }
}

const hostOf = (net: Net, machine: Machine): Host => {
  const transport = net.transport(machine)
  return {
    name: machine.name,
    url: machine.url,
    transport,
    listen: machine.listen,
    provide: Effect.provideService(Transport.Transport, transport),
    serve: Effect.provideServiceEffect(Transport.TransportServer, machine.listen),
    layer: Layer.succeed(Transport.Transport)(transport),
    layerServer: Layer.effect(Transport.TransportServer)(machine.listen),
    set: (conditions) => Effect.sync(() => machine.set(conditions)),
    kill: (options) => machine.kill(options?.noticed === true)
  }
}

// the clock outside may be a test clock itself, which knows the real one
const liveOf = (outer: Context.Context<never>): TestClock.TestClock["withLive"] => {
  const clock = Context.get(outer, Clock.Clock)
  return "withLive" in clock
    ? (clock as TestClock.TestClock).withLive
    : Effect.provideService(Clock.Clock, clock)
}

const atLeastOne = (name: string, value: number): number => {
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`Simulator: ${name} must be a positive integer`)
  return value
}
