/** Runs a plan: peers around a relay on a simulated network, with an oracle that hears of everything. */
import { Cause, Effect, Exit, Fiber, Logger, Metric, Scope, Stream } from "effect"
import { App } from "../../src/core/MoqError.ts"
import * as Profile from "../../src/message/Profile.ts"
import type * as Broadcast from "../../src/model/Broadcast.ts"
import type * as Group from "../../src/model/Group.ts"
import type { Subscription } from "../../src/model/Subscription.ts"
import type * as Track from "../../src/model/Track.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import { Broken, frameOf, type Life, Oracle, type Received, type Seen, typed, type Written } from "./oracle.ts"
import { paths, type PeerPlan, type Plan, type Step } from "./plan.ts"

interface Publication {
  readonly life: Life
  readonly track: Track.Producer
  readonly scope: Scope.Closeable
  readonly open: Array<{ readonly producer: Group.Producer; readonly written: Written }>
  next: number
}

interface Online {
  readonly session: Session.Session
  readonly scope: Scope.Closeable
  readonly broadcast: Broadcast.Producer
  readonly announced: Set<string>
}

interface Peer {
  readonly plan: PeerPlan
  readonly host: Simulator.Host
  readonly publications: Map<number, Publication>
  online: Online | undefined
}

interface Watching {
  readonly seen: Seen
  readonly fiber: Fiber.Fiber<void, unknown>
  readonly subscription: () => Subscription | undefined
}

type Of<D extends Step["do"]> = Extract<Step, { readonly do: D }>

class World {
  readonly oracle = new Oracle()
  readonly watching: Array<Watching> = []
  readonly peers: ReadonlyArray<Peer>
  readonly scope: Scope.Scope
  readonly isTight: boolean
  constructor(peers: ReadonlyArray<Peer>, scope: Scope.Scope, isTight: boolean) {
    this.peers = peers
    this.scope = scope
    this.isTight = isTight
  }

  step(step: Step): Effect.Effect<void> {
    switch (step.do) {
      case "connect":
        return this.connect(this.peers[step.peer]!)
      case "disconnect":
        return this.disconnect(this.peers[step.peer]!, Exit.void)
      case "interrupt":
        return this.disconnect(this.peers[step.peer]!, Exit.failCause(Cause.interrupt()))
      case "drop":
        return this.peers[step.peer]!.host.kill({ noticed: step.peer % 2 === 0 })
      case "publish":
        return this.publish(this.peers[step.peer]!, step)
      case "group":
        return this.group(this.peers[step.peer]!, step)
      case "write":
        return this.write(this.peers[step.peer]!, step)
      case "finish":
      case "fail":
      case "abandon":
        return this.end(this.peers[step.peer]!, step)
      case "subscribe":
        return this.subscribe(this.peers[step.peer]!, step)
      case "update":
        return this.update(step)
      case "leave":
        return this.leave(step)
      case "fetch":
        return this.fetch(this.peers[step.peer]!, step)
      case "info":
        return this.info(this.peers[step.peer]!, step)
      case "network":
        return this.network(this.peers[step.peer]!, step)
      case "sleep":
        return Effect.sleep(step.millis)
    }
  }

  // peers

  connect(peer: Peer): Effect.Effect<void> {
    if (peer.online !== undefined) return Effect.void
    return Effect.gen({ self: this }, function*() {
      const scope = yield* Scope.fork(this.scope)
      const profiles = [Profile.byName(peer.plan.profile)!]
      const open = peer.plan.reconnects
        ? Session.reconnect("https://relay", { profiles, limits: this.isTight ? tight : {} })
        : Session.connect("https://relay", { profiles, limits: this.isTight ? tight : {} })
      const exit = yield* peer.host.provide(open).pipe(
        Scope.provide(scope),
        Effect.timeoutOption("1 minute"),
        Effect.exit
      )
      typed(exit, "connect")
      if (Exit.isFailure(exit) || exit.value._tag === "None") return yield* Scope.close(scope, Exit.void)
      const session = exit.value.value
      const broadcast = yield* Scope.provide(session.broadcast([]), scope)
      const online: Online = { session, scope, broadcast, announced: new Set() }
      peer.online = online
      // a stream that is reset is asked for again
      const listen = Effect.suspend(() => {
        online.announced.clear()
        return Stream.runForEach(session.announced(), (event) =>
          Effect.sync(() => {
            if (event._tag === "Active") online.announced.add(event.path.join("/"))
            if (event._tag === "Ended") online.announced.delete(event.path.join("/"))
          }))
      }).pipe(Effect.exit, Effect.tap((exit) => Effect.sync(() => typed(exit, "announced"))))
      const listening = Effect.forever(Effect.andThen(listen, Effect.sleep("1 second")))
      const over = Effect.sync(() => {
        if (peer.online === online) peer.online = undefined
        for (const track of [...peer.publications.keys()]) this.over(peer, track, "failed")
      })
      yield* Effect.forkIn(Effect.andThen(session.closed, over), scope, { startImmediately: true })
      yield* Effect.forkIn(listening, scope, { startImmediately: true })
    })
  }

  disconnect(peer: Peer, exit: Exit.Exit<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const online = peer.online
      if (online === undefined) return Effect.void
      peer.online = undefined
      // its broadcast closes as it does: with success its tracks finish
      const how = Exit.isSuccess(exit) ? "finished" : "failed"
      for (const track of [...peer.publications.keys()]) this.over(peer, track, how)
      return Effect.asVoid(Effect.forkIn(Scope.close(online.scope, exit), this.scope, { startImmediately: true }))
    })
  }

  network(peer: Peer, { fault }: Of<"network">): Effect.Effect<void> {
    switch (fault) {
      case "partition":
        return peer.host.set({ offline: true })
      case "slow":
        return peer.host.set({ bandwidth: 30_000 })
      case "heal":
        return peer.host.set(healthy)
    }
  }

  // tracks

  publish(peer: Peer, { order, track }: Of<"publish">): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (peer.online === undefined || peer.publications.has(track)) return
      const scope = yield* Scope.fork(this.scope)
      const cache = this.isTight ? { maxBytes: tightCache } : {}
      const exit = yield* peer.online.broadcast.track(paths[track]!, { order, cache }).pipe(
        Scope.provide(scope),
        Effect.exit
      )
      typed(exit, "publish")
      if (Exit.isFailure(exit)) return yield* Scope.close(scope, Exit.void)
      const life = this.oracle.begin(track)
      peer.publications.set(track, { life, track: exit.value, scope, open: [], next: 0 })
    })
  }

  group(peer: Peer, step: Of<"group">): Effect.Effect<void> {
    const publication = peer.publications.get(step.track)
    if (publication === undefined) return Effect.void
    return Effect.gen({ self: this }, function*() {
      const sequence = publication.next + step.skip
      const producer = yield* step.skip > 0 ? publication.track.createGroup(sequence) : publication.track.appendGroup
      if (producer.sequence !== sequence) throw new Broken(`appended ${producer.sequence}, not ${sequence}`)
      publication.next = sequence + 1
      const written: Written = { frames: [], end: undefined }
      publication.life.groups.set(sequence, written)
      publication.open.push({ producer, written })
      yield* this.frames(publication, producer, written, step.frames, step.chunks)
      if (step.end === "open") return
      publication.open.pop()
      written.end = step.end === "finish" ? "finished" : "failed"
      yield* step.end === "finish" ? producer.finish : producer.fail(new App({ code: 3 }))
    }).pipe((write) => this.written(peer, step.track, write))
  }

  write(peer: Peer, step: Of<"write">): Effect.Effect<void> {
    const publication = peer.publications.get(step.track)
    const open = publication?.open.at(-1)
    if (publication === undefined || open === undefined) return Effect.void
    return this.written(
      peer,
      step.track,
      Effect.gen({ self: this }, function*() {
        yield* this.frames(publication, open.producer, open.written, step.frames, 1)
        if (step.frames.length > 2) return
        publication.open.pop()
        open.written.end = "finished"
        yield* open.producer.finish
      })
    )
  }

  frames(
    publication: Publication,
    producer: Group.Producer,
    written: Written,
    sizes: ReadonlyArray<number>,
    chunks: number
  ) {
    return Effect.forEach(sizes, (size) =>
      Effect.gen(function*() {
        const bytes = frameOf(
          { life: publication.life.id, group: producer.sequence, frame: written.frames.length },
          size
        )
        written.frames.push(bytes)
        if (chunks === 1) return yield* producer.writeFrame(bytes)
        const frame = yield* producer.createFrame(bytes.length)
        const part = Math.ceil(bytes.length / chunks)
        for (let at = 0; at < bytes.length; at += part) {
          yield* frame.write(bytes.subarray(at, at + part))
          yield* Effect.yieldNow
        }
      }), { discard: true })
  }

  // writing fails only because the session has gone, or because the group outgrew what a track may hold
  written(peer: Peer, track: number, write: Effect.Effect<void, unknown>): Effect.Effect<void> {
    return Effect.flatMap(Effect.exit(write), (exit) =>
      Effect.sync(() => {
        typed(exit, "write")
        const publication = peer.publications.get(track)
        if (Exit.isSuccess(exit) || publication === undefined) return
        if (publication.track.track.end !== undefined) return this.over(peer, track, "failed")
        // the track is full, and has let go of the group
        for (const one of publication.open.splice(0)) {
          if (one.producer.group.end === undefined) publication.open.push(one)
          else one.written.end = "failed"
        }
      }))
  }

  over(peer: Peer, track: number, how: "finished" | "failed"): void {
    const publication = peer.publications.get(track)
    if (publication === undefined) return
    peer.publications.delete(track)
    publication.life.end = how
    for (const { written } of publication.open) written.end = how
  }

  end(peer: Peer, step: Of<"finish" | "fail" | "abandon">): Effect.Effect<void> {
    const publication = peer.publications.get(step.track)
    if (publication === undefined) return Effect.void
    this.over(peer, step.track, step.do === "finish" ? "finished" : "failed")
    switch (step.do) {
      case "finish":
        return Scope.close(publication.scope, Exit.void)
      case "fail":
        return Effect.andThen(
          publication.track.fail(new App({ code: 7 })),
          Scope.close(publication.scope, Exit.void)
        )
      case "abandon":
        return Scope.close(publication.scope, Exit.failCause(Cause.interrupt()))
    }
  }

  // viewers

  subscribe(peer: Peer, step: Of<"subscribe">): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (peer.online === undefined) return Effect.void
      const { session } = peer.online
      let subscribed: Subscription | undefined
      const seen: Seen = {
        name: `subscription ${this.watching.length}`,
        track: step.track,
        resumes: peer.plan.reconnects,
        isExact: this.peers.every(({ plan }) => plan.profile === "draft03"),
        events: [],
        groups: [],
        frames: [],
        from: step.from === "latest" ? undefined : step.from,
        to: step.to ?? Infinity,
        end: undefined
      }
      const watch = Effect.gen(function*() {
        const subscription = yield* session.subscribe(paths[step.track]!, {
          from: step.from,
          to: step.to,
          priority: step.priority,
          order: step.order,
          expires: step.expires,
          ...(step.wait ? { wait: "5 seconds" } : {})
        })
        subscribed = subscription
        if (step.face === "frames") {
          return yield* Stream.runForEachArray(subscription.frames, (batch) => {
            seen.frames.push(...batch)
            return Effect.sleep(step.pace)
          })
        }
        yield* Stream.runDrain(Stream.mapEffect(subscription.events, (event) => {
          seen.events.push(event)
          return event._tag === "Gap" ? Effect.void : readGroup(seen, event, step.pace)
        }, { concurrency: "unbounded" }))
      }).pipe(
        Effect.scoped,
        Effect.onExit((exit) => Effect.sync(() => seen.end = exit))
      )
      return Effect.map(Effect.forkIn(watch, this.scope), (fiber) => {
        this.watching.push({ seen, fiber, subscription: () => subscribed })
      })
    })
  }

  update(step: Of<"update">): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const subscription = this.watching[step.subscription]?.subscription()
      if (subscription === undefined) return
      const exit = yield* subscription.update({ priority: step.priority, order: step.order }).pipe(
        Effect.timeoutOption("1 minute"),
        Effect.exit
      )
      typed(exit, "update")
    })
  }

  leave(step: Of<"leave">): Effect.Effect<void> {
    const watching = this.watching[step.subscription]
    return watching === undefined ? Effect.void : Fiber.interrupt(watching.fiber)
  }

  fetch(peer: Peer, step: Of<"fetch">): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (peer.online === undefined) return
      const { session } = peer.online
      const newest = Math.max(0, ...[...this.peers].map((peer) => (peer.publications.get(step.track)?.next ?? 0) - 1))
      const sequence = Math.max(0, newest - step.back)
      const received: Received = { sequence, frames: [], end: undefined }
      const exit = yield* Effect.gen(function*() {
        const group = yield* session.fetch(paths[step.track]!, sequence, { frame: step.frame })
        received.end = yield* Effect.exit(
          Stream.runForEach(group.frames, (bytes) => Effect.sync(() => received.frames.push(bytes)))
        )
      }).pipe(Effect.scoped, Effect.timeoutOption(step.patience), Effect.exit)
      typed(exit, "fetch")
      if (received.end !== undefined) typed(received.end, "fetched group")
      this.oracle.group(received, "fetch", peer.plan.reconnects, step.frame)
    })
  }

  info(peer: Peer, step: Of<"info">): Effect.Effect<void> {
    return Effect.suspend(() =>
      peer.online === undefined ? Effect.void : Effect.map(
        Effect.exit(peer.online.session.trackInfo(paths[step.track]!)),
        (exit) => typed(exit, "info")
      )
    )
  }

  // the end

  /** Everything is repaired; then every subscription that goes on gets what is published from now on. */
  get heal(): Effect.Effect<void, never, Simulator.Network> {
    return Effect.gen({ self: this }, function*() {
      yield* (yield* Simulator.Network).set(healthy)
      for (const peer of this.peers) yield* peer.host.set(healthy)
      yield* Effect.sleep("1 minute")
      for (const peer of this.peers) yield* this.connect(peer)
      yield* Effect.sleep("30 seconds")
      this.announcedIsLive()
      const [first] = this.peers as [Peer]
      for (let track = 0; track < paths.length; track++) {
        const isThere = this.peers.some((peer) => peer.publications.has(track))
        if (!isThere) yield* this.publish(first, { do: "publish", peer: 0, track, order: "default" })
      }
      yield* Effect.sleep("30 seconds")
      this.announcedIsLive()
      const before = this.watching.map(({ seen }) => seen.frames.length + seen.groups.length)
      for (const peer of this.peers) {
        for (const track of peer.publications.keys()) {
          yield* this.group(peer, { do: "group", peer: 0, track, skip: 6, frames: [50], chunks: 1, end: "finish" })
        }
      }
      yield* Effect.sleep("1 minute")
      this.watching.forEach(({ fiber, seen, subscription }, index) => {
        if (fiber.pollUnsafe() !== undefined || seen.to !== Infinity) return
        if (subscription() === undefined) throw new Broken(`${seen.name} is still being asked for`)
        if (seen.frames.length + seen.groups.length === before[index]) {
          throw new Broken(`${seen.name} got nothing after everything was repaired`)
        }
      })
    })
  }

  announcedIsLive(): void {
    const live = new Set(this.peers.flatMap((peer) => [...peer.publications.keys()].map((at) => paths[at]!.join("/"))))
    this.peers.forEach((peer, index) => {
      const told = peer.online?.announced
      if (told === undefined) return
      const [a, b] = [[...told].sort(), [...live].sort()]
      if (a.join() !== b.join()) throw new Broken(`peer ${index} was told of [${a}], live are [${b}]`)
    })
  }

  check(): void {
    for (const { seen } of this.watching) this.oracle.seen(seen)
  }

  /** Nothing holds more than it may. */
  get bounded(): Effect.Effect<void> {
    if (!this.isTight) return Effect.void
    return Effect.map(Effect.repeat(Effect.yieldNow, { times: 20 }), () => {
      this.peers.forEach(({ online, publications }, index) => {
        for (const { track } of publications.values()) {
          const { newest, size } = track as unknown as Inside["track"]
          const most = tightCache + (newest?.event._tag === "Group" ? newest.event.size : 0)
          if (size > most) throw new Broken(`peer ${index} keeps ${size} bytes of a track`)
        }
        const { peer } = (online?.session ?? {}) as unknown as Partial<Inside["session"]>
        if (peer === undefined) return
        const unread = peer.subscriber.context.unread.bytes
        if (unread > tight.unread) throw new Broken(`peer ${index} has ${unread} bytes unread`)
        let unsent = 0
        for (const one of peer.publisher.sending.droppable ?? []) unsent += one.unsent
        if (unsent > tight.unsent) throw new Broken(`peer ${index} has ${unsent} bytes unsent`)
      })
    })
  }
}

const tight = { unread: 5_000, unsent: 5_000 }

const tightCache = 50_000

/** What the proof knows of the inside, to see how much is held. */
interface Inside {
  readonly track: { readonly size: number; readonly newest: { readonly event: Track.Event } | undefined }
  readonly session: {
    readonly peer: {
      readonly subscriber: { readonly context: { readonly unread: { readonly bytes: number } } }
      readonly publisher: {
        readonly sending: { readonly droppable?: ReadonlySet<{ readonly unsent: number }> }
      }
    }
  }
}

const healthy: Simulator.Conditions = {
  offline: false,
  bandwidth: "unlimited",
  latency: 5,
  jitter: 0,
  loss: 0,
  reset: 0,
  stop: 0,
  death: 0
}

const readGroup = (seen: Seen, group: Group.Group, pace: number): Effect.Effect<void> => {
  const received: Received = { sequence: group.sequence, frames: [], end: undefined }
  seen.groups.push(received)
  return Stream.runForEachArray(group.frames, (batch) => {
    received.frames.push(...batch)
    return Effect.sleep(pace)
  }).pipe(
    Effect.exit,
    Effect.map((exit) => {
      typed(exit, seen.name)
      received.end = exit
    })
  )
}

/** Runs a plan to its end; fails with what is broken. */
export const run = (plan: Plan) => {
  const bugs: Array<string> = []
  return Simulator.run(
    Effect.gen(function*() {
      const network = yield* Simulator.Network
      const relay = yield* network.host("relay")
      yield* relay.serve(Relay.make())
      const peers: Array<Peer> = []
      for (let i = 0; i < plan.peers.length; i++) {
        const host = yield* network.host(`peer${i}`)
        peers.push({ plan: plan.peers[i]!, host, publications: new Map(), online: undefined })
      }
      const world = new World(peers, yield* Effect.scope, plan.isTight)
      for (const peer of peers) yield* world.connect(peer)
      for (const step of plan.steps) {
        yield* world.step(step)
        yield* world.bounded
      }
      yield* world.heal
      world.check()
      return world
    }),
    { ...plan.network, seed: plan.seed }
  ).pipe(
    Effect.ensuring(Effect.suspend(() => bugs.length === 0 ? Effect.void : Effect.die(new Broken(bugs.join("; "))))),
    Effect.provideService(Metric.FiberRuntimeMetrics, watched(bugs)),
    Effect.provide(Logger.layer([Logger.make(({ logLevel, message }) => {
      if (logLevel === "Error" || logLevel === "Fatal") bugs.push(`logged: ${String(message)}`)
    })]))
  )
}

// a defect in any fiber counts, whether or not somebody looks at its end
const watched = (bugs: Array<string>): Metric.FiberRuntimeMetricsService => ({
  recordFiberStart: () => {},
  recordFiberEnd: (_, exit) => {
    if (Exit.isSuccess(exit)) return
    for (const reason of exit.cause.reasons) {
      if (reason._tag === "Die" && !(reason.defect instanceof Broken)) {
        bugs.push(`a fiber died: ${String(reason.defect)}`)
      }
    }
  }
})
