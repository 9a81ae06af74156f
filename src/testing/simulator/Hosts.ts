/**
 * The hosts of a network, and how they reach each other.
 *
 * @internal
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { SessionClosed, Timeout, TransportError } from "../../core/MoqError.ts"
import { Condition } from "../../core/Waiters.ts"
import type * as Transport from "../../transport/Transport.ts"
import { type Conditions, type Exact, exact, perfect, worse } from "./Conditions.ts"
import { Flow, Port, type World } from "./Flow.ts"
import { broken, Link, type Side } from "./Link.ts"
import type { Event } from "./Timeline.ts"

// clients that may wait for one server to take their request, and for how long
const backlog = 256
const requestTimeout = 5e9

type Listener = Queue.Queue<Call, Cause.Done>

/** One host: its access link, and who listens on it. */
export class Machine {
  readonly name: string
  readonly url: string
  readonly up: Port
  readonly down: Port
  listener: Listener | undefined
  private own: Partial<Exact> = {}
  private readonly net: Net

  constructor(net: Net, name: string) {
    this.net = net
    this.name = name
    this.url = `https://${name}`
    this.up = new Port(net.world.timeline)
    this.down = new Port(net.world.timeline)
  }

  get conditions(): Exact {
    return { ...this.net.conditions, ...this.own }
  }

  set(conditions: Conditions): void {
    this.own = { ...this.own, ...exact(conditions) }
    this.net.update()
  }

  readonly listen: Effect.Effect<Transport.TransportServer, TransportError, Scope.Scope> = Effect.acquireRelease(
    Effect.flatMap(Queue.bounded<Call, Cause.Done>(backlog), (queue) => {
      if (this.listener !== undefined) return refused(`${this.name} listens already`)
      this.listener = queue
      return Effect.succeed(queue)
    }),
    (queue) =>
      Effect.suspend(() => {
        if (this.listener === queue) this.listener = undefined
        return Effect.andThen(
          Effect.map(Queue.clear(queue), (calls) => {
            for (const call of calls) call.deny("the server has closed")
          }),
          Queue.end(queue)
        )
      })
  ).pipe(
    Effect.map((queue) => ({
      urls: [this.url],
      transports: ["memory"],
      unavailable: [],
      fingerprint: undefined,
      requests: Stream.fromEffectRepeat(Effect.tap(Queue.take(queue), (call) => call.take)).pipe(
        Stream.filter((call) => !call.isGone)
      )
    }))
  )

  /** All that runs on it is gone at once. */
  kill(isNoticed: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { listener, name, net } = this
      this.listener = undefined
      for (const link of net.links) {
        for (const side of [link.client, link.server]) {
          if (side.flow.from !== name || side.end !== undefined) continue
          const { peer } = side
          if (isNoticed) side.flow.control(() => peer.finish(broken(`${name} was killed`)))
          side.flow.lose()
          side.finish(broken(`${name} was killed`))
          if (!isNoticed && peer.end === undefined) link.fallSilent()
        }
      }
      return listener === undefined
        ? Effect.void
        : Effect.andThen(Queue.clear(listener), Queue.end(listener))
    })
  }
}

/** All hosts, and the connections between them. */
export class Net {
  readonly world: World
  readonly links = new Set<Link>()
  conditions: Exact
  private readonly machines = new Map<string, Machine>()
  private readonly partitions = new Set<string>()
  private linksMade = 0

  constructor(world: World, conditions: Conditions) {
    this.world = world
    this.conditions = { ...perfect, ...exact(conditions) }
  }

  machine(name: string): Machine {
    const key = name.toLowerCase()
    let machine = this.machines.get(key)
    if (machine === undefined) {
      if (!/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(key)) throw new RangeError(`Simulator: ${name} cannot name a host`)
      machine = new Machine(this, key)
      this.machines.set(key, machine)
      this.updatePorts(machine)
    }
    return machine
  }

  find(name: string): Machine | undefined {
    return this.machines.get(name.toLowerCase())
  }

  set(conditions: Conditions): void {
    this.conditions = { ...this.conditions, ...exact(conditions) }
    this.update()
  }

  partition(some: ReadonlyArray<string>, others: ReadonlyArray<string>): void {
    for (const a of some) {
      for (const b of others) if (a !== b) this.partitions.add(pairOf(a, b))
    }
    this.update()
  }

  heal(): void {
    this.partitions.clear()
    this.update()
  }

  update(): void {
    for (const machine of this.machines.values()) this.updatePorts(machine)
    for (const link of this.links) this.updateLink(link)
  }

  private updatePorts(machine: Machine): void {
    const { down, up } = machine.conditions
    machine.up.bandwidth = up
    machine.down.bandwidth = down
  }

  private updateLink(link: Link): void {
    let isCut = false
    for (const { flow } of [link.client, link.server]) {
      const path = this.path(flow.from, flow.to)
      isCut = path.offline
      flow.update(path, isCut)
    }
    // a host that was killed does not speak again
    if (isCut) link.fallSilent()
    else if (link.client.end === undefined && link.server.end === undefined) link.speak()
  }

  private path(from: string, to: string): Exact {
    const path = worse(this.machine(from).conditions, this.machine(to).conditions)
    return this.partitions.has(pairOf(from, to)) ? { ...path, offline: true } : path
  }

  link(from: Machine, to: Machine): Link {
    const { world } = this
    const link = new Link(world, ++this.linksMade, () => this.links.delete(link))
    const flow = (from: Machine, to: Machine) =>
      new Flow(world, {
        connection: link.number,
        from: from.name,
        to: to.name,
        up: from.up,
        down: to.down,
        path: this.path(from.name, to.name),
        onDeath: () => link.die("the connection broke")
      })
    link.join(flow(from, to), flow(to, from))
    this.links.add(link)
    this.updateLink(link)
    return link
  }

  transport(from: Machine): Transport.Transport {
    return {
      connect: (url, { timeout = "5 seconds" } = {}) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.scope, (scope) => {
            const to = this.find(url.hostname)
            if (to === undefined) return refused(`there is no host ${url.hostname}`)
            const call = new Call(this.link(from, to), to, url)
            const timedOut = () => Effect.fail(new Timeout({ detail: `connecting to ${url.host}` }))
            return Effect.andThen(
              Scope.addFinalizer(scope, call.hangUp),
              restore(Effect.timeoutOrElse(call.connection, { duration: timeout, orElse: timedOut })).pipe(
                Effect.onError(() => call.hangUp)
              )
            )
          })
        )
    }
  }

  suspended(): Array<string> {
    return Array.from(this.links, ({ client, server }) => [client, server])
      .flat()
      .filter(({ end }) => end === undefined)
      .flatMap((side) => side.suspended())
  }
}

const pairOf = (a: string, b: string): string => a < b ? `${a} ${b}` : `${b} ${a}`

const refused = (detail: string): Effect.Effect<never, TransportError> => Effect.fail(new TransportError({ detail }))

/** A client that wants to connect, seen from both sides. */
class Call implements Transport.Request {
  readonly url: URL
  readonly headers = undefined
  readonly peer: string
  readonly transport = "memory"
  /** The client no longer waits, or the request has been answered. */
  isGone = false
  private readonly link: Link
  private isAnswered = false
  private answer: Exit.Exit<Side, TransportError> | undefined
  private deadline: Event | undefined
  private readonly answering = new Condition(() => this.answer !== undefined)

  constructor(link: Link, to: Machine, url: URL) {
    this.link = link
    this.url = url
    this.peer = link.client.flow.from
    link.client.flow.control(() => {
      if (this.isGone) return
      const { listener } = to
      if (listener === undefined) return this.deny(`nobody listens on ${to.name}`)
      if (!Queue.offerUnsafe(listener, this)) return this.deny(`too many clients wait for ${to.name}`)
      const { timeline } = link.world
      this.deadline = timeline.schedule(
        timeline.now + requestTimeout,
        () => this.deny("nobody took the request within 5 seconds")
      )
    })
  }

  /** For the server: somebody has taken the request, and its time no longer runs. */
  readonly take: Effect.Effect<void> = Effect.sync(() => this.stopDeadline())

  private stopDeadline(): void {
    if (this.deadline !== undefined) this.link.world.timeline.cancel(this.deadline)
  }

  /** For the client: waits for the answer. */
  readonly connection: Effect.Effect<Side, TransportError> = Effect.suspend(() =>
    this.answer ?? Effect.flatMap(this.answering.wait, () => this.connection)
  )

  /** For the client: it is no longer interested, or done with the connection. */
  readonly hangUp: Effect.Effect<void> = Effect.suspend(() => {
    this.isGone = true
    this.stopDeadline()
    const close = this.link.client.close(0, "")
    return this.isAnswered ? close : Effect.andThen(close, Effect.sync(() => this.link.server.finish(hungUp)))
  })

  deny(detail: string): void {
    if (this.isAnswered) return
    this.answerWith(Exit.fail(new TransportError({ detail })))
    this.link.server.finish(hungUp)
  }

  readonly refuse = (status: number): Effect.Effect<void> =>
    Effect.sync(() => this.deny(`refused with status ${status}`))

  readonly accept: Effect.Effect<Transport.Connection, TransportError, Scope.Scope> = Effect.uninterruptible(
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.suspend(() => {
        if (this.isGone || this.link.server.end !== undefined) return refused("the client has gone")
        if (this.isAnswered) return refused("the request was answered before")
        const { client, server } = this.link
        this.answerWith(Exit.succeed(client))
        return Effect.as(Scope.addFinalizer(scope, server.close(0, "")), server)
      }))
  )

  private answerWith(answer: Exit.Exit<Side, TransportError>): void {
    this.isAnswered = true
    this.stopDeadline()
    const { client, dispatcher, server } = this.link
    server.flow.control(() => {
      this.answer = answer
      if (Exit.isFailure(answer)) client.finish(hungUp)
      this.answering.wake(dispatcher)
    })
  }
}

const hungUp = new SessionClosed({ code: 0, reason: "", by: "local" })
