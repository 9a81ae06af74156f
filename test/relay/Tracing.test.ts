import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, type Option, Tracer } from "effect"
import { TestClock } from "effect/testing"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"
import { publish, settle, start, view } from "./relays.ts"

/** A tracer that keeps its spans. */
const keeping = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { spans, tracer }
}

const parentOf = (span: Tracer.Span): Tracer.AnySpan | undefined => (span.parent as Option.Some<Tracer.AnySpan>).value

const has = (span: Tracer.Span, attributes: Record<string, unknown>): boolean =>
  Object.entries(attributes).every(([name, value]) => span.attributes.get(name) === value)

/** The one span of a name with some attributes. */
const only = (spans: ReadonlyArray<Tracer.NativeSpan>, name: string, attributes: Record<string, unknown> = {}) => {
  const found = spans.filter((span) => span.name === name && has(span, attributes))
  assert.strictEqual(found.length, 1, `${name} ${JSON.stringify(attributes)} of ${spans.map((span) => span.name)}`)
  return found[0]!
}

const linksTo = (span: Tracer.Span, other: Tracer.Span | undefined): boolean =>
  span.links.some((link) => link.span.spanId === other?.spanId && link.span.traceId === other.traceId)

describe("the spans of relays", () => {
  it.effect("lead from a viewer to the publisher, hop by hop", () =>
    Effect.gen(function*() {
      const network = yield* Memory.makeNetwork()
      const viewers = keeping()
      const edge = keeping()
      const middle = keeping()
      const publishers = keeping()

      const far = yield* Effect.withTracer(start({}, { network, host: "far.example" }), middle.tracer)
      const near = yield* start({ upstreams: [{ url: "https://far.example/?jwt=secret" }] }, {
        network,
        host: "near.example"
      }).pipe(Effect.provideService(Transport, network.transport), Effect.withTracer(edge.tracer))
      yield* settle

      const publishing = yield* Effect.makeSpanScoped("publishing").pipe(Effect.withTracer(publishers.tracer))
      const publisher = yield* publish(
        yield* Effect.withParentSpan(far.connect("/room"), publishing),
        ["hello"],
        { priority: 7 }
      )
      const viewing = yield* Effect.makeSpanScoped("viewing").pipe(Effect.withTracer(viewers.tracer))
      const session = yield* Effect.withParentSpan(near.connect(), viewing)
      const viewer = yield* view(session, ["room", "hello"])
      yield* publisher.group("one")
      yield* settle
      assert.deepStrictEqual(viewer.got, ["one"])

      // the viewer's session at the relay near to it
      const atNear = only(edge.spans, "moq.session", { "moq.session": 1 })
      assert.strictEqual(atNear.kind, "server")
      assert.isTrue(linksTo(atNear, viewing))
      assert.deepStrictEqual(session.greeting.span, {
        traceId: atNear.traceId,
        spanId: atNear.spanId,
        sampled: true
      })
      // its subscription
      const [subscribed, asked, ...others] = edge.spans.filter((span) => span.name === "moq.subscribe")
      assert.deepStrictEqual(others, [])
      assert.strictEqual(subscribed!.kind, "server")
      assert.isTrue(has(subscribed!, { "moq.path": "room/hello", "moq.priority": 7 }))
      assert.strictEqual(parentOf(subscribed!), atNear)
      // is what the relay asks upstream for
      assert.strictEqual(asked!.kind, "client")
      assert.isTrue(has(asked!, { "moq.path": "room/hello" }))
      assert.strictEqual(parentOf(asked!), subscribed)
      // over the session with the next relay
      const link = only(edge.spans, "moq.session", { "moq.url": "https://far.example/" })
      assert.strictEqual(link.kind, "client")
      assert.isTrue(linksTo(asked!, link))
      // which knows it by the same span, and links back
      const atFar = only(middle.spans, "moq.session", { "moq.session": 1 })
      assert.isTrue(linksTo(atFar, link))
      assert.isTrue(linksTo(link, atFar))
      // there it is a subscription of that session, for which the publisher is asked, over the session with it
      const [served, wanted] = middle.spans.filter((span) => span.name === "moq.subscribe")
      assert.isTrue(has(served!, { "moq.path": "room/hello" }))
      assert.strictEqual(parentOf(served!), atFar)
      assert.strictEqual(parentOf(wanted!), served)
      assert.isTrue(has(wanted!, { "moq.path": "room/hello" }))
      const withPublisher = only(middle.spans, "moq.session", { "moq.root": "room" })
      assert.isTrue(linksTo(wanted!, withPublisher))
      assert.isTrue(linksTo(withPublisher, publishing))

      for (const span of [...edge.spans, ...middle.spans]) {
        assert.notInclude(JSON.stringify([span.name, ...span.attributes]), "secret")
      }
    }))

  it.effect("end as what they are for ends: leaving is no error, being refused is one", () =>
    Effect.gen(function*() {
      const { spans, tracer } = keeping()
      const relay = yield* Effect.withTracer(start(), tracer)
      const publisher = yield* publish(yield* relay.connect(), ["hello"])
      const { kill, session } = yield* relay.connectBy()
      const viewer = yield* view(session, ["hello"])
      yield* publisher.group("one")
      yield* settle
      yield* Effect.scoped(session.fetch(["hello"], 0))
      yield* settle
      yield* Effect.flip(session.subscribe(["nothing"]))
      yield* settle
      yield* viewer.leave

      const exitOf = (span: Tracer.Span) => {
        assert.strictEqual(span.status._tag, "Ended", `${span.name} ${JSON.stringify([...span.attributes])}`)
        return (span.status as Extract<Tracer.SpanStatus, { _tag: "Ended" }>).exit
      }
      const fetched = only(spans, "moq.fetch", { "moq.path": "hello", "moq.group": 0, "moq.priority": 0 })
      assert.isTrue(Exit.isSuccess(exitOf(fetched)))
      const refused = exitOf(only(spans, "moq.subscribe", { "moq.path": "nothing" }))
      assert.include(JSON.stringify(refused), "MoqNotFound")
      const watched = spans.filter((span) => span.name === "moq.subscribe" && has(span, { "moq.path": "hello" }))
      assert.deepStrictEqual(watched.map(({ kind }) => kind), ["server", "client"])
      assert.isTrue(Exit.isSuccess(exitOf(watched[0]!)))
      assert.isTrue(Exit.isSuccess(exitOf(watched[1]!)) || Exit.hasInterrupts(exitOf(watched[1]!)))

      const sessions = spans.filter((span) => span.name === "moq.session")
      assert.deepStrictEqual(sessions.map((span) => span.status._tag), ["Started", "Started"])
      yield* kill
      yield* settle
      const lost = sessions[1]!
      assert.isTrue(has(lost, { "moq.close.by": "transport" }))
      assert.strictEqual(Exit.isSuccess(exitOf(lost)), lost.attributes.get("moq.close.code") === 0)
      yield* relay.stop
      yield* TestClock.adjust("1 minute")
      yield* settle
      for (const span of spans) exitOf(span)
      assert.isFalse(Exit.isFailure(exitOf(sessions[0]!)) && !Exit.hasInterrupts(exitOf(sessions[0]!)))
    }))

  it.effect("are not there without a tracer, and peers hear of none", () =>
    Effect.gen(function*() {
      const relay = yield* start()
      const session = yield* relay.connect()
      assert.isUndefined(session.greeting.span)
      const [state] = yield* relay.relay.state
      assert.strictEqual(state?.session, 1)
    }))
})
