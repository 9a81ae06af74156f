import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { RequestError } from "../../src/core/MoqError.ts"
import * as Announced from "../../src/model/Announced.ts"
import * as Link from "../../src/relay/Link.ts"
import * as Origin from "../../src/relay/Origin.ts"
import { Served } from "../../src/relay/Served.ts"
import type * as Session from "../../src/session/Session.ts"
import { settle } from "./relays.ts"

const idOf = (digit: string): string => digit.repeat(16)

/** A relay, and others that announce one track to it by ways like `b.a`: they lead to one publisher. */
const world = Effect.gen(function*() {
  const served = new Served(idOf("0"))
  const ways: Array<string> = []
  const origin = yield* Origin.make({
    linger: 0,
    onServing: (path, source) => {
      ways.push(source === undefined ? "none" : source.hops.map((hop) => hop[0]).join("."))
      served.set(path, source)
    }
  })
  return {
    /** Which way the track came, one after the other. */
    ways,
    relay: (peer: string) =>
      Effect.gen(function*() {
        const registry = new Announced.Registry<RequestError>()
        const session: Pick<Session.Session, "announced"> = { announced: () => registry.announced([]) }
        yield* Link.attach(origin, session as Session.Session, served, { peer: idOf(peer), prefixes: [[]], root: [] })
        const nameOf = (way: string) => [
          ".relay",
          served.id,
          `${way.split(".").map(idOf).join(".")}!${idOf("f")}`,
          "hello"
        ]
        return {
          active: (way: string) => Effect.andThen(Effect.sync(() => registry.add(nameOf(way))), settle),
          ended: (way: string) => Effect.andThen(Effect.sync(() => registry.remove(nameOf(way))), settle)
        }
      })
  }
})

describe("a track that comes by several ways", () => {
  it.effect("and begins again has all of them again, in whatever order the news comes", () =>
    Effect.gen(function*() {
      const { relay, ways } = yield* world
      const [b, c] = [yield* relay("b"), yield* relay("c")]
      yield* b.active("b.a")
      yield* c.active("c.a")
      yield* b.ended("b.a")
      yield* b.active("b.a")
      yield* c.ended("c.a")
      yield* c.active("c.a")
      assert.deepStrictEqual(ways, ["b.a", "none", "b.a"])
      yield* b.ended("b.a")
      assert.deepStrictEqual(ways.slice(3), ["none"])
    }))

  it.effect("has not ended where it is published because another relay says so", () =>
    Effect.gen(function*() {
      const { relay, ways } = yield* world
      const [a, liar] = [yield* relay("a"), yield* relay("e")]
      yield* liar.active("e.a")
      yield* a.active("a")
      yield* liar.ended("e.a")
      assert.deepStrictEqual(ways, ["e.a", "a"])
      yield* liar.active("e.a")
      // by its own word it has, by all ways
      yield* a.ended("a")
      assert.deepStrictEqual(ways.slice(2), ["none"])
    }))
})
