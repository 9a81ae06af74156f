/**
 * Each limit of a session, broken once: the peer gets its error, the limit is counted once, and whoever has another
 * session with the same side notices nothing.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as Router from "../../src/model/Router.ts"
import * as Track from "../../src/model/Track.ts"
import type * as Limits from "../../src/session/Limits.ts"
import type * as Monitor from "../../src/session/Monitor.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { Connection } from "../../src/transport/Transport.ts"
import {
  announce,
  ByHand,
  type client,
  closed,
  concat,
  frame,
  hello,
  info,
  stopped,
  takeAnnounce,
  takeSubscribe,
  type,
  written
} from "./byHand.ts"
import { record } from "./monitors.ts"
import { bytes, connect, ended, failure, owned, read, settle, streams } from "./sessions.ts"

const { draft03 } = Profile

/** A peer that speaks by hand, and the session that it has with the side that has the limits. */
type Attacker = Effect.Success<ReturnType<typeof client>> & { readonly router: Router.Router }

interface Case {
  readonly limits?: Partial<Limits.Limits>
  readonly memory?: Memory.Options
  /** Whether the connection can tell that the peer is alive. */
  readonly ping?: boolean
  /** Breaks the limit, and checks what the peer gets for it. */
  readonly attack: (attacker: Attacker) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** What costs only the stream leaves the session open. */
  readonly session: "open" | number
}

const ask = (peer: ByHand, name: string) =>
  peer.open(
    type("info"),
    written((writer) => {
      writer.varint(1)
      writer.string(name)
    })
  )

const refused = (code: number) => (stream: { readonly ends: Effect.Effect<unknown> }) =>
  Effect.map(stream.ends, (ends) => assert.deepStrictEqual(ends, [code, code]))

const adjust = (duration: "5 seconds" | "10 seconds" | "20 seconds" | "30 seconds") =>
  Effect.andThen(Effect.andThen(settle, TestClock.adjust(duration)), settle)

/** The session subscribes to a track of the attacker, which answers. */
const subscribed = ({ peer, session }: Attacker) =>
  Effect.gen(function*() {
    const asking = yield* Effect.forkScoped(owned(session.subscribe(["theirs"], { from: 0 })))
    const { message, stream } = yield* takeSubscribe(peer)
    yield* stream.say(Info.encode, info(0))
    const { value } = yield* Fiber.join(asking)
    return { id: message.id, track: value }
  })

const slow = (attack: (attacker: Attacker, track: Track.Producer) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
(
  attacker: Attacker
) =>
  Effect.gen(function*() {
    const track = yield* Track.make(["large"])
    yield* attacker.router.publish(track.track)
    yield* attacker.peer.subscribe(["large"])
    yield* settle
    yield* attack(attacker, track)
  })

const whole = (track: Track.Producer, size: number) =>
  Effect.gen(function*() {
    const group = yield* track.appendGroup
    yield* group.writeFrame(new Uint8Array(size))
    yield* group.finish
    yield* settle
  })

const announcing = (announces: ReadonlyArray<readonly ["active" | "ended", string]>) => ({ peer, session }: Attacker) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkScoped(Stream.runDrain(session.announced()))
    const { stream } = yield* takeAnnounce(peer)
    for (const [status, name] of announces) {
      yield* announce(stream, status, name)
      yield* settle
      yield* TestClock.adjust("100 millis")
    }
    assert.strictEqual((yield* failure(fiber))._tag, "MoqBoundsExceeded")
    yield* refused(11)(stream)
  })

const cases: Record<Monitor.Limit, Case> = {
  setup: {
    // told of below: there is no session yet
    attack: () => Effect.void,
    session: "open"
  },
  firstMessage: {
    attack: ({ peer }) =>
      Effect.gen(function*() {
        const stream = yield* peer.open(type("subscribe"))
        yield* adjust("5 seconds")
        yield* refused(3)(stream)
      }),
    session: "open"
  },
  request: {
    attack: ({ peer, session }) =>
      Effect.gen(function*() {
        const asking = yield* Effect.forkScoped(session.trackInfo(["theirs"]))
        const stream = yield* peer.acceptType("info")
        yield* adjust("10 seconds")
        assert.strictEqual((yield* failure(asking))._tag, "MoqTimeout")
        assert.strictEqual(yield* stopped(stream.stream.send), 3)
      }),
    session: "open"
  },
  idle: {
    ping: true,
    attack: () => Effect.andThen(adjust("5 seconds"), Effect.andThen(adjust("10 seconds"), adjust("5 seconds"))),
    session: 3
  },
  drain: {
    attack: ({ peer, router, session }) =>
      Effect.gen(function*() {
        const track = yield* Track.make(["endless"])
        yield* router.publish(track.track)
        const group = yield* track.appendGroup
        yield* group.writeFrame(bytes("x"))
        yield* peer.subscribe(["endless"])
        yield* settle
        const draining = yield* Effect.forkScoped(session.drain)
        yield* adjust("5 seconds")
        assert.strictEqual(ended(draining)?._tag, "Success")
      }),
    session: "open"
  },
  subscriptions: {
    limits: { subscriptions: 1 },
    attack: ({ peer }) =>
      Effect.gen(function*() {
        const served = yield* peer.subscribe(["live"])
        yield* settle
        yield* refused(11)(yield* peer.subscribe(["live"]))
        assert.deepStrictEqual((yield* served.ends)[1], "open")
      }),
    session: "open"
  },
  announceStreams: {
    limits: { announceStreams: 1 },
    attack: ({ peer }) =>
      Effect.gen(function*() {
        const please = peer.open(
          concat(type("announce"), peer.bytesOf(AnnouncePlease.encode, { _tag: "AnnouncePlease", prefix: [] }))
        )
        yield* please
        yield* settle
        yield* refused(11)(yield* please)
      }),
    session: "open"
  },
  announces: {
    limits: { announces: 2, announceRate: 1000 },
    attack: announcing([["active", "a"], ["active", "b"], ["active", "c"]]),
    session: "open"
  },
  announceRate: {
    limits: { announces: 2, announceRate: 1 },
    attack: announcing([["active", "a"], ["ended", "a"], ["active", "a"]]),
    session: "open"
  },
  unsent: {
    limits: { unsent: 5_000 },
    memory: { window: 100 },
    // beside the newest, one of the others is too many
    attack: slow((_, track) => Effect.replicateEffect(whole(track, 4_000), 3)),
    session: "open"
  },
  stalled: {
    memory: { window: 100 },
    attack: slow((_, track) => Effect.andThen(whole(track, 40_000), adjust("30 seconds"))),
    session: 3
  },
  unread: {
    limits: { unread: 1_000 },
    attack: (attacker) =>
      Effect.gen(function*() {
        const { id } = yield* subscribed(attacker)
        const old = yield* attacker.peer.openUni(attacker.peer.header(id, 0), frame("x".repeat(600)))
        yield* settle
        const next = yield* attacker.peer.openUni(attacker.peer.header(id, 1), frame("x".repeat(600)))
        yield* settle
        assert.deepStrictEqual([yield* stopped(old), yield* stopped(next)], [26, "open"])
      }),
    session: "open"
  },
  requestRate: {
    limits: { requestRate: 1 },
    attack: ({ peer }) =>
      Effect.gen(function*() {
        for (let i = 0; i < 4; i++) yield* refused(13)(yield* ask(peer, "nobody has it"))
        yield* refused(11)(yield* ask(peer, "nobody has it"))
      }),
    session: "open"
  },
  strayRate: {
    limits: { strayRate: 1 },
    attack: ({ peer }) => Effect.andThen(Effect.replicateEffect(peer.group(77, 0, "x"), 7), settle),
    session: 11
  },
  strayStreams: {
    limits: { strayStreams: 2 },
    attack: ({ peer }) => Effect.andThen(Effect.replicateEffect(peer.openUni(), 5), settle),
    session: 11
  },
  strayResetRate: {
    limits: { strayResetRate: 1 },
    attack: ({ peer }) =>
      Effect.gen(function*() {
        for (let i = 0; i < 5; i++) {
          const stream = yield* peer.openUni()
          yield* settle
          yield* stream.reset(0)
          yield* settle
        }
      }),
    session: 11
  },
  message: {
    attack: ({ peer }) =>
      Effect.gen(function*() {
        yield* refused(11)(yield* peer.open(type("info"), written((writer) => writer.varint(33))))
      }),
    session: "open"
  },
  frame: {
    attack: (attacker) =>
      Effect.gen(function*() {
        const { id, track } = yield* subscribed(attacker)
        const { log } = yield* read(track)
        const { peer } = attacker
        const stream = yield* peer.openUni(peer.header(id, 0), written((writer) => writer.varint(2 ** 24 + 1)))
        assert.strictEqual(yield* stopped(stream), 27)
        assert.deepStrictEqual(log, ["0!MoqFrameTooLarge"])
      }),
    session: "open"
  }
}

/** A connection that can ask whether its peer is alive, and gets no answer. */
const deaf = (connection: Connection): Connection => ({
  ...connection,
  openBi: connection.openBi,
  acceptBi: connection.acceptBi,
  openUni: connection.openUni,
  acceptUni: connection.acceptUni,
  close: connection.close,
  closed: connection.closed,
  info: connection.info,
  capabilities: { ...connection.capabilities, ping: true },
  ping: Effect.never
})

/** A publisher and a viewer beside the attacker: what is written arrives. */
const innocent = (router: Router.Router, monitor: Monitor.Monitor) =>
  Effect.gen(function*() {
    const track = yield* Track.make(["live"])
    yield* router.publish(track.track)
    const [left, right] = yield* Memory.pair()
    const accepting = yield* Effect.forkScoped(Session.accept(right, { router, monitor }))
    const viewer = yield* connect(left)
    yield* Fiber.join(accepting)
    const { log } = yield* read(yield* viewer.subscribe(["live"]))
    let sent = 0
    return Effect.gen(function*() {
      const group = yield* track.appendGroup
      yield* group.writeFrame(bytes("still here"))
      yield* group.finish
      yield* settle
      assert.deepStrictEqual(log.slice(-2), [`${sent}:still here`, `${sent}.`])
      sent++
    })
  })

describe("A limit that is broken", () => {
  for (const [name, { attack, limits, memory, ping, session: fate }] of Object.entries(cases)) {
    if (name === "setup") continue
    it.effect(`${name}: ${fate === "open" ? "the stream" : `the session, ${fate}`}`, () =>
      Effect.gen(function*() {
        const { limits: broken, monitor } = record()
        const router = yield* Router.make
        const isWell = yield* innocent(router, monitor)
        yield* isWell
        const [left, right] = yield* Memory.pair(memory)
        const scope = yield* Scope.fork(yield* Effect.scope)
        const options: Session.Options = { profiles: [draft03], limits: limits ?? {}, router, monitor }
        const accepting = yield* Effect.forkScoped(
          Scope.provide(Session.accept(ping === true ? deaf(right) : right, options), scope)
        )
        const peer = new ByHand(left, draft03)
        const control = yield* peer.open(hello([draft03.version]))
        const session = yield* Fiber.join(accepting)
        yield* attack({ peer, control, session, router })
        assert.deepStrictEqual(broken, { [name]: 1 })
        const end = yield* closed(peer.connection)
        assert.deepStrictEqual(end?.code ?? "open", fate)
        if (fate !== "open") {
          assert.isNotEmpty(end?.reason)
          assert.strictEqual((yield* session.closed).by, "local")
        }
        yield* isWell
        // nothing of it is left
        yield* Effect.forkChild(Scope.close(scope, yield* Effect.exit(Effect.fail("cut"))))
        yield* settle
        assert.strictEqual(streams(left), 0)
        yield* isWell
      }))
  }

  it.effect("setup: the connection, 3", () =>
    Effect.gen(function*() {
      const { limits: broken, monitor } = record()
      const router = yield* Router.make
      const isWell = yield* innocent(router, monitor)
      const [left, right] = yield* Memory.pair()
      const accepting = yield* Effect.forkScoped(Session.accept(right, { router, monitor }))
      yield* adjust("5 seconds")
      assert.strictEqual((yield* failure(accepting))._tag, "MoqTimeout")
      assert.strictEqual((yield* closed(left))?.code, 3)
      assert.deepStrictEqual(broken, { setup: 1 })
      yield* isWell
    }))

  it.effect("setup: one that says too much, 11", () =>
    Effect.gen(function*() {
      const { limits: broken, monitor } = record()
      const [left, right] = yield* Memory.pair()
      const accepting = yield* Effect.forkScoped(Session.accept(right, { monitor }))
      yield* new ByHand(left, draft03).open(type("session"), written((writer) => writer.varint(65)))
      assert.strictEqual((yield* failure(accepting))._tag, "MoqBoundsExceeded")
      assert.strictEqual((yield* closed(left))?.code, 11)
      assert.deepStrictEqual(broken, { message: 1 })
    }))

  it.effect("requests beyond their rate go on to cost the session, 11, and so do those that are taken back", () =>
    Effect.gen(function*() {
      for (const isReset of [false, true]) {
        const { limits: broken, monitor } = record()
        const [left, right] = yield* Memory.pair()
        const limits = isReset ? { strayResetRate: 2 } : { requestRate: 1, strayRate: 2 }
        const accepting = yield* Effect.forkScoped(Session.accept(right, { limits, monitor }))
        const peer = new ByHand(left, draft03)
        yield* peer.open(hello([draft03.version]))
        yield* Fiber.join(accepting)
        const flood = Effect.gen(function*() {
          const { stream } = yield* peer.open(type("info"))
          yield* settle
          yield* stream.abort(0)
          yield* settle
        })
        // 4 that may come, 8 that are refused; or 8 that may be taken back
        yield* Effect.replicateEffect(flood, isReset ? 8 : 12)
        assert.isUndefined(yield* closed(left))
        yield* flood
        assert.strictEqual((yield* closed(left))?.code, 11)
        assert.deepStrictEqual(broken, isReset ? { strayResetRate: 1 } : { requestRate: 9, strayRate: 1 })
      }
    }))
})
