/** Sessions over a transport that does everything on the stack of who asks for it, and over one that has no direct members. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { Expired, SessionClosed, StreamReset } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import * as Monitor from "../../src/session/Monitor.ts"
import type * as Peer from "../../src/session/Peer.ts"
import type * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { BiStream, Connection, Listener, ReceiveStream, SendStream } from "../../src/transport/Transport.ts"
import { bytes, over, owned, publishNumbers, settle } from "./sessions.ts"

type Chunks = Parameters<SendStream["write"]>[0]
type End = Exit.Exit<never, StreamReset | SessionClosed | Cause.Done>

/** One direction of a stream: what is written is heard before the write returns. */
class Pipe implements SendStream, ReceiveStream {
  readonly link: Link
  private chunks: Array<Uint8Array> = []
  private finished = false
  private failed: Exit.Exit<never, StreamReset | SessionClosed> | undefined
  private listener: Listener | undefined
  private told: ((code: number) => void) | undefined
  private isTelling = false
  readonly stopped = Effect.never
  readonly setPriority = () => Effect.void
  constructor(link: Link) {
    this.link = link
    link.open.add(this)
  }
  readonly offer = (chunks: Chunks): boolean => {
    if (this.failed !== undefined || this.finished) return false
    this.chunks.push(...chunks)
    this.tell()
    return true
  }
  readonly write: SendStream["write"] = (chunks) =>
    Effect.suspend(() => this.offer(chunks) ? Effect.void : this.failed ?? Exit.fail(new StreamReset({ code: 0 })))
  readonly onFinish: NonNullable<SendStream["onFinish"]> = (finished) => {
    if (this.failed !== undefined && !this.finished) return finished(this.failed)
    this.finished = true
    this.tell()
    finished(Exit.void)
  }
  readonly finish = Effect.callback<void, StreamReset | SessionClosed>((resume) => this.onFinish(resume))
  readonly reset = (code: number) => Effect.sync(() => this.fail(Exit.fail(new StreamReset({ code }))))
  readonly onStop: NonNullable<SendStream["onStop"]> = (told) => {
    this.told = told
  }
  readonly stop = (code: number) =>
    Effect.sync(() => {
      if (this.failed !== undefined || !this.link.open.has(this)) return
      if (!this.finished) this.told?.(code)
      this.fail(Exit.fail(new StreamReset({ code })))
    })
  readonly onPull = (listener: Listener): void => {
    this.listener = listener
    this.tell()
  }
  readonly pull = Effect.callback<Chunks, StreamReset | SessionClosed | Cause.Done>((resume) => {
    this.onPull({
      chunks: (chunks) => {
        resume(Effect.succeed(chunks))
        return false
      },
      end: resume
    })
    return Effect.sync(() => {
      this.listener = undefined
    })
  })
  fail(exit: Exit.Exit<never, StreamReset | SessionClosed>): void {
    if (this.failed !== undefined) return
    this.failed = exit
    this.chunks = []
    this.tell()
  }
  private tell(): void {
    // in order: what comes while it tells is told after it
    if (this.isTelling) return
    this.isTelling = true
    while (this.listener !== undefined) {
      const { listener } = this
      if (this.chunks.length > 0) {
        const chunks = this.chunks.splice(0) as unknown as Chunks
        this.listener = undefined
        if (listener.chunks(chunks)) this.listener ??= listener
        continue
      }
      const end: End | undefined = this.failed ?? (this.finished ? Exit.fail(Cause.Done()) : undefined)
      if (end === undefined) break
      this.listener = undefined
      this.link.open.delete(this)
      listener.end(end)
    }
    if (this.failed !== undefined) this.link.open.delete(this)
    this.isTelling = false
  }
}

class Link {
  readonly open = new Set<Pipe>()
  /** The streams of groups that wait to be opened, while they have to. */
  held: Set<() => void> | undefined
  readonly closed = Deferred.makeUnsafe<SessionClosed>()
  readonly sides: readonly [Side, Side] = [new Side(this), new Side(this)]
}

/** Takes streams as they come, or keeps them until somebody does. */
class Taking<A> {
  private waiting: Array<A> = []
  private take: ((stream: A) => void) | undefined
  add(stream: A): void {
    if (this.take === undefined) this.waiting.push(stream)
    else this.take(stream)
  }
  readonly on = (take: (stream: A) => void): void => {
    this.take = take
    for (const stream of this.waiting.splice(0)) take(stream)
  }
  readonly accept: Effect.Effect<A> = Effect.callback((resume) => {
    const next = this.waiting.shift()
    if (next !== undefined) return resume(Effect.succeed(next))
    this.take = (stream) => {
      this.take = undefined
      resume(Effect.succeed(stream))
    }
  })
}

/** What a scope has of a stream: to end it. */
const owning = <A, E>(stream: Effect.Effect<A, E>, end: (stream: A) => Effect.Effect<void>) =>
  Effect.tap(stream, (stream) => Effect.addFinalizer(() => end(stream)))

const abort = ({ receive, send }: BiStream) => Effect.andThen(send.reset(0), receive.stop(0))

class Side implements Connection {
  readonly link: Link
  end: SessionClosed | undefined
  readonly uni = new Taking<ReceiveStream>()
  readonly bi = new Taking<BiStream>()
  readonly info = { transport: "stack", peer: undefined }
  readonly capabilities: Connection["capabilities"] = {
    codes: "any",
    resetPastWrite: true,
    backpressure: false,
    priority: false,
    ping: false,
    maxStreams: Infinity,
    idleTimeout: Infinity,
    forgetsStreams: true
  }
  constructor(link: Link) {
    this.link = link
  }
  private refuse(opened: (exit: Exit.Exit<never, SessionClosed>) => void, end: SessionClosed): () => void {
    opened(Exit.fail(end))
    return () => {}
  }
  get peer(): Side {
    const { sides: [left, right] } = this.link
    return this === left ? right : left
  }
  readonly onOpenUni: NonNullable<Connection["onOpenUni"]> = (_, opened) => {
    if (this.end !== undefined) return this.refuse(opened, this.end)
    const open = () => {
      const pipe = new Pipe(this.link)
      this.peer.uni.add(pipe)
      opened(Exit.succeed(pipe))
    }
    const { held } = this.link
    if (held === undefined) open()
    else held.add(open)
    return () => held?.delete(open)
  }
  readonly onOpenBi: NonNullable<Connection["onOpenBi"]> = (opened) => {
    if (this.end !== undefined) return this.refuse(opened, this.end)
    const [forth, back] = [new Pipe(this.link), new Pipe(this.link)]
    this.peer.bi.add({ send: back, receive: forth })
    opened(Exit.succeed({ send: forth, receive: back }))
    return () => {}
  }
  readonly openUni = () =>
    owning(
      Effect.callback<SendStream, SessionClosed>((resume) => void this.onOpenUni(undefined, resume)),
      (stream) => stream.reset(0)
    )
  readonly openBi = owning(Effect.callback<BiStream, SessionClosed>((resume) => void this.onOpenBi(resume)), abort)
  readonly acceptUni = owning(Effect.suspend(() => this.uni.accept), (stream) => stream.stop(0))
  readonly acceptBi = owning(Effect.suspend(() => this.bi.accept), abort)
  readonly onUni = (take: (stream: ReceiveStream) => void) => this.uni.on(take)
  readonly onBi = (take: (stream: BiStream) => void) => this.bi.on(take)
  readonly ping = Effect.void
  readonly closed = Effect.suspend(() => Deferred.await(this.link.closed))
  readonly close = (code: number, reason: string) =>
    Effect.sync(() => {
      const closed = new SessionClosed({ code, reason, by: "local" })
      if (!Deferred.doneUnsafe(this.link.closed, Exit.succeed(closed))) return
      for (const side of this.link.sides) side.end = closed
      for (const pipe of [...this.link.open]) pipe.fail(Exit.fail(closed))
    })
}

/** The members that every transport has, and no other. */
const plain = (connection: Connection): Connection => {
  const send = (stream: SendStream): SendStream => ({
    write: (chunks) => stream.write(chunks),
    finish: stream.finish,
    reset: stream.reset,
    setPriority: stream.setPriority,
    stopped: stream.stopped
  })
  const receive = (stream: ReceiveStream): ReceiveStream => ({ pull: stream.pull, stop: stream.stop })
  const both = (stream: BiStream): BiStream => ({ send: send(stream.send), receive: receive(stream.receive) })
  return {
    info: connection.info,
    capabilities: connection.capabilities,
    openBi: Effect.map(connection.openBi, both),
    openUni: (options) => Effect.map(connection.openUni(options), send),
    acceptBi: Effect.map(connection.acceptBi, both),
    acceptUni: Effect.map(connection.acceptUni, receive),
    close: connection.close,
    closed: connection.closed,
    ping: connection.ping
  }
}

const links: Record<string, Effect.Effect<readonly [Connection, Connection], never, Scope.Scope>> = {
  "on the stack": Effect.sync(() => new Link().sides),
  "on the stack, plain": Effect.sync(() => {
    const [left, right] = new Link().sides
    return [plain(left), plain(right)] as const
  }),
  "in memory": Memory.pair(),
  "in memory, plain": Effect.map(Memory.pair(), ([left, right]) => [plain(left), plain(right)] as const)
}

/** What a session must not keep once nothing goes on. */
const kept = (session: Session.Session) => {
  const { answers, publisher: { sending }, subscriber, unread } =
    (session as unknown as { readonly peer: Peer.Peer }).peer
  const counts = sending as unknown as Record<"open" | "homeless" | "admitted", ReadonlyArray<unknown>>
  return {
    pending: sending.queue.pending,
    waiting: sending.queue.waiting,
    underWay: sending.queue.underWay.length,
    open: counts.open.length,
    homeless: counts.homeless.length,
    admitted: counts.admitted.length,
    finishing: (sending as unknown as { readonly finishing: number }).finishing,
    newcomers: subscriber.strays.waiting,
    deadlines: [subscriber.newcomers, answers].filter(({ waiting }) => waiting.first !== undefined).length,
    unread: unread.bytes,
    receiving: subscriber.sharing.receiving.size
  }
}

/** How many sessions have something of a group that is still to leave. */
const holds = ({ group }: Group.Producer): number => (Group.bodyOf(group) as unknown as { readonly held: number }).held

const nothing = {
  pending: 0,
  waiting: 0,
  underWay: 0,
  open: 0,
  homeless: 0,
  admitted: 0,
  finishing: 0,
  newcomers: 0,
  deadlines: 0,
  unread: 0,
  receiving: 0
}

describe.each(Object.keys(links))("Synchronous, %s", (name) => {
  it.effect(
    "thousands of groups that wait leave one after the other, not one inside of the other",
    () =>
      Effect.gen(function*() {
        const { client, server } = yield* Effect.flatMap(links[name]!, (pair) => over(pair))
        const count = 3_000
        yield* publishNumbers(server, ["a", "b"], count)
        const subscription = yield* owned(client.subscribe(["a", "b"], { from: 0 }))
        const seen = new Set<number>()
        yield* Effect.forkScoped(Track.forEachFrame(subscription.value, (_, sequence) => seen.add(sequence)))
        for (let i = 0; i < 100 && seen.size < count; i++) yield* settle
        assert.strictEqual(seen.size, count)
        yield* subscription.close
        yield* settle
        assert.deepStrictEqual([kept(client), kept(server)], [nothing, nothing])
      }),
    60_000
  )
})

describe.each([false, true])("Synchronous, on the stack, plain: %s", (isPlain) => {
  it.effect("20,000 groups that came while no stream could be opened leave all at once", () =>
    Effect.gen(function*() {
      let groups = 0
      const link = new Link()
      const [left, right] = link.sides
      const { client, server } = yield* over(isPlain ? [plain(left), plain(right)] : link.sides, {}, {
        monitor: { ...Monitor.none, group: () => groups++ }
      })
      const track = yield* publishNumbers(server, ["a", "b"], 1)
      const subscription = yield* owned(client.subscribe(["a", "b"]))
      yield* settle
      link.held = new Set()
      const count = 20_000
      for (let i = 1; i < count; i++) {
        const group = yield* track.appendGroup
        group.writeFrameUnsafe(bytes(String(i)))
        group.finishUnsafe()
        if (i % 4_000 === 0) yield* settle
      }
      yield* settle
      const { held } = link
      assert.deepStrictEqual([groups, held.size], [1, 127])
      // the one that is open is the other of 128
      link.held = undefined
      for (const open of held) open()
      yield* settle
      assert.strictEqual(groups, count)
      yield* subscription.close
      yield* settle
      assert.deepStrictEqual([kept(client), kept(server)], [nothing, nothing])
    }), 60_000)
})

const methods = Object.keys(Monitor.none) as Array<keyof Monitor.Monitor>

/** Calls a function on the stack of the n-th time that the session tells something. */
const on = (at: number, what: { act: () => void }): Monitor.Monitor => {
  let calls = 0
  const told = () => {
    if (++calls === at) what.act()
  }
  return Object.fromEntries(methods.map((method) => [method, told])) as unknown as Monitor.Monitor
}

/** Enough for what goes on by itself here. */
const soon = Effect.yieldNow.pipe(Effect.repeat({ times: 20 }))

const acts = ["leave", "close client", "close server", "fail group", "fail track"] as const

describe.each(Object.keys(links))("Reentrant, %s", (name) => {
  it.effect.each(
    acts.flatMap((act) => (["client", "server"] as const).map((side) => [act, side] as const))
  )("%s on the stack of what the %s does: nothing is left, nothing goes on", ([act, side]) =>
    Effect.gen(function*() {
      for (let at = 1; at <= 16; at++) {
        const what = { act: () => {} }
        const monitor = on(at, what)
        const connections = yield* links[name]!
        const { client, server } = yield* over(
          connections,
          side === "client" ? { monitor } : {},
          side === "server" ? { monitor } : {}
        )
        const track = yield* publishNumbers(server, ["a", "b"], 3)
        const scope = yield* Scope.make()
        let group = yield* track.appendGroup
        const groups = [group]
        what.act = () => {
          if (act === "leave") Effect.runFork(Scope.close(scope, Exit.void))
          else if (act === "fail group") Effect.runFork(group.fail(new Expired({})))
          else if (act === "fail track") Effect.runFork(track.fail(new Expired({})))
          else Effect.runFork((act === "close client" ? client : server).close())
        }
        const subscribing = yield* Effect.forkScoped(
          Effect.flatMap(
            Scope.provide(client.subscribe(["a", "b"], { from: 0 }), scope),
            (track) => Track.forEachFrame(track, () => {})
          )
        )
        for (let i = 0; i < 4; i++) {
          yield* Effect.ignore(group.writeFrame(new Uint8Array(40_000)))
          yield* soon
          yield* Effect.ignore(group.writeFrame(bytes("more")))
          yield* soon
          if (i % 2 === 0) yield* Effect.ignore(group.finish)
          // a gap and a group come at once
          const lost = group.group.sequence + 1
          yield* Effect.ignore(track.gap({ from: lost, to: lost, code: 2 }))
          const next = yield* Effect.exit(track.appendGroup)
          if (Exit.isSuccess(next)) groups.push(group = next.value)
        }
        yield* Scope.close(scope, Exit.void)
        yield* soon
        yield* Fiber.interrupt(subscribing)
        if (!act.startsWith("close")) {
          assert.deepStrictEqual([at, kept(client), kept(server)], [at, nothing, nothing])
        } else {
          assert.deepStrictEqual([at, kept(client)], [at, nothing])
        }
        assert.deepStrictEqual([at, ...groups.map(holds)], [at, ...groups.map(() => 0)])
        if (connections[0] instanceof Side) {
          assert.strictEqual(connections[0].link.open.size, connections[0].end !== undefined ? 0 : 2)
        }
        yield* Effect.ignore(track.finish)
        yield* client.close()
        yield* soon
        assert.deepStrictEqual([at, kept(client), kept(server)], [at, nothing, nothing])
      }
    }), 30_000)
})
