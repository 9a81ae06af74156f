/** What two sessions say of themselves, and to whom. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { fromExtensions, toExtensions } from "../../src/message/Greeting.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Router from "../../src/model/Router.ts"
import { encode } from "../../src/session/MessageStream.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"
import { ByHand, client, server, type } from "./byHand.ts"
import { start } from "./reconnecting.ts"
import { connect, pair, settle } from "./sessions.ts"

const { draft03, fork02, fork04 } = Profile

/** What a client says in its SETUP. */
const said = (options?: Session.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair()
    yield* Effect.forkScoped(Effect.ignore(connect(left, options)))
    const control = yield* new ByHand(right, draft03).accept
    yield* control.hear(StreamType.decodeBi)
    return (yield* control.hear(SessionClient.decode)).extensions
  }).pipe(Effect.scoped)

/** What a server answers to a client that says this. */
const answered = (greeting: Parameters<typeof toExtensions>[0], options?: Session.Options, profile = draft03) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair()
    const accepting = yield* Effect.forkScoped(Session.accept(right, options))
    const control = yield* new ByHand(left, profile).open(
      type("session"),
      encode(
        SessionClient.encode,
        { _tag: "SessionClient", versions: [profile.version], extensions: toExtensions(greeting) },
        draft03
      )
    )
    const { extensions } = yield* control.hear(SessionServer.decode)
    return { extensions, session: yield* Fiber.join(accepting) }
  })

const instance = /^[0-9a-f]{16}$/

describe("Greeting", () => {
  it.effect("both sides name their instance: that of the router, whatever the session", () =>
    Effect.gen(function*() {
      const [one, other] = [yield* Router.make, yield* Router.make]
      const first = yield* pair({ router: one }, { router: other })
      const second = yield* pair({ router: one })
      const third = yield* pair()
      assert.match(first.server.greeting.instance!, instance)
      assert.match(first.client.greeting.instance!, instance)
      assert.strictEqual(second.server.greeting.instance, first.server.greeting.instance)
      const different = [first.server, first.client, second.client, third.server, third.client]
      assert.strictEqual(new Set(different.map(({ greeting }) => greeting.instance)).size, different.length)
      assert.deepStrictEqual([first.server.greeting.isRelay, first.server.greeting.span], [false, undefined])
    }))

  it.effect("a session that reconnects names the same instance over all its connections", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const router = yield* Router.make
      yield* world.serve(router)
      const session = yield* world.open
      const before = world.peer().greeting.instance
      assert.match(before!, instance)
      yield* world.cut
      yield* TestClock.adjust("2 seconds")
      yield* settle
      assert.strictEqual(world.sessions.length, 2)
      assert.strictEqual(world.peer().greeting.instance, before)
      assert.match(session.greeting.instance!, instance)

      // another client, begun anew
      const anew = yield* Effect.provideService(
        Session.connect("https://relay.example/"),
        Transport,
        world.transport
      )
      yield* settle
      assert.notStrictEqual(world.peer().greeting.instance, before)
      assert.strictEqual(anew.greeting.instance, session.greeting.instance)
    }))

  it.effect("a client that offers only versions of the crate says nothing, as the crate does", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* said({ profiles: [fork04, fork02], greeting: { isRelay: true } }), [])
      assert.lengthOf(yield* said({ profiles: [fork04, draft03] }), 1)
      assert.lengthOf(yield* said({ profiles: [fork04, draft03], greeting: { isRelay: true } }), 2)
    }))

  it.effect.each([draft03, fork04, fork02])(
    "a server says nothing to a client that says nothing: %#",
    (profile) =>
      Effect.gen(function*() {
        for (const [greeting, count] of [[{}, 0], [{ isRelay: true }, 2]] as const) {
          const { extensions, session } = yield* answered(greeting, { greeting: { isRelay: true } }, profile)
          assert.lengthOf(extensions, count)
          assert.strictEqual(session.greeting.isRelay, count > 0)
        }
      })
  )

  it.effect("what is to be said goes before what would be", () =>
    Effect.gen(function*() {
      const { client, server } = yield* pair({ greeting: { instance: "00000000000000aa" } }, {
        greeting: { isRelay: true }
      })
      assert.strictEqual(server.greeting.instance, "00000000000000aa")
      assert.strictEqual(client.greeting.isRelay, true)
      assert.match(client.greeting.instance!, instance)
    }))

  it.effect("the span around connecting goes to the server, and that around accepting to the client", () =>
    Effect.gen(function*() {
      const [left, right] = yield* Memory.pair()
      const spanned = <A, E, R>(name: string, session: Effect.Effect<A, E, R>) =>
        Effect.withSpan(Effect.all([session, Effect.orDie(Effect.currentSpan)]), name)
      const [[client, connecting], [server, accepting]] = yield* Effect.all([
        spanned("connecting", connect(left)),
        spanned("accepting", Session.accept(right))
      ], { concurrency: 2 })
      for (const [{ greeting }, span] of [[server, connecting], [client, accepting]] as const) {
        assert.deepStrictEqual(greeting.span, { traceId: span.traceId, spanId: span.spanId, sampled: span.sampled })
      }
      assert.notStrictEqual(client.greeting.span!.spanId, server.greeting.span!.spanId)
    }))

  it.effect("a peer that says what nobody knows, or says it badly, is a peer that says nothing", () =>
    Effect.gen(function*() {
      const { extensions } = yield* Effect.gen(function*() {
        const [left, right] = yield* Memory.pair()
        yield* Effect.forkScoped(Session.accept(right))
        const control = yield* new ByHand(left, draft03).open(
          type("session"),
          encode(SessionClient.encode, {
            _tag: "SessionClient",
            versions: [draft03.version],
            extensions: [...toExtensions({ instance: "no" }), { id: 7, payload: new Uint8Array(4096) }]
          }, draft03)
        )
        return yield* control.hear(SessionServer.decode)
      })
      assert.deepStrictEqual(extensions, [])
      const byHand = yield* client(draft03)
      assert.deepStrictEqual(byHand.session.greeting, fromExtensions([]))
      assert.deepStrictEqual((yield* server(draft03)).session.greeting, fromExtensions([]))
    }))
})
