import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope, Stream } from "effect"
import { createServer } from "node:net"
import type { AddressInfo } from "node:net"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Session from "../../src/session/Session.ts"
import * as Command from "../cli/fixtures/command.ts"

const deadline = 120_000

beforeAll(Command.build, deadline)

const path = ["room", "numbers"]
const insecure = { insecure: true }

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "localhost", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Relays of which each knows its upstreams by their place, as processes that can be killed and started again. */
const relays = Effect.fnUntraced(function*(upstreams: ReadonlyArray<ReadonlyArray<number>>) {
  const ports = yield* Effect.forEach(upstreams, () => freePort)
  const urlOf = (at: number) => `https://localhost:${ports[at]}/`
  const running: Array<Command.Command> = []
  const start = Effect.fnUntraced(function*(at: number) {
    const flags = upstreams[at]!.flatMap((upstream) => ["--upstream", urlOf(upstream)])
    running[at] = yield* Command.start(["relay", "--bind", `localhost:${ports[at]}`, "--json", ...flags])
    yield* running[at]!.until((lines) => lines.length > 0)
  })
  for (let at = 0; at < upstreams.length; at++) yield* start(at)
  const has = (event: string, count = 1) => (lines: ReadonlyArray<string>) =>
    Command.events(lines).filter((line) => line["event"] === event).length >= count
  return {
    urlOf,
    start,
    kill: Effect.fnUntraced(function*(at: number) {
      running[at]!.kill("SIGKILL")
      yield* running[at]!.ended
    }),
    until: (at: number, event: string, count?: number) => running[at]!.until(has(event, count)),
    count: (at: number, event: string) =>
      Command.events(running[at]!.lines).filter((line) => line["event"] === event).length
  }
})

/** Publishes a group with its number every 20 ms, over one connection after the other. */
const publish = Effect.fnUntraced(function*(url: string) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const publishing = Effect.gen(function*() {
    const session = yield* Session.reconnect(url, insecure)
    const track = yield* (yield* session.broadcast(path.slice(0, -1))).track(path.slice(-1))
    let next = 0
    const group = Effect.flatMap(
      track.appendGroup,
      (group) => Effect.andThen(group.writeFrame(new TextEncoder().encode(`${next++}`)), group.finish)
    )
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(group, Effect.sleep("20 millis"))))
  })
  yield* Scope.provide(publishing, scope)
  return { end: Scope.close(scope, Exit.void) }
})

/** Views it over one connection after the other, and asks again when it has ended. */
const view = Effect.fnUntraced(function*(url: string) {
  const got: Array<number> = []
  const waiting = new Set<() => void>()
  const session = yield* Session.reconnect(url, insecure)
  const watch = Effect.gen(function*() {
    const track = yield* session.subscribe(path, { wait: "1 minute" })
    yield* Stream.runForEach(Stream.flatMap(track.groups, (group) => group.frames), (frame) =>
      Effect.sync(() => {
        got.push(Number(new TextDecoder().decode(frame)))
        waiting.forEach((check) => check())
      }))
  }).pipe(Effect.scoped, Effect.ignore)
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(watch, Effect.sleep("100 millis"))))
  return {
    got,
    /** Waits until so many more have come. */
    more: (count: number) =>
      Effect.callback<void>((resume) => {
        const enough = got.length + count
        const check = (): void => {
          if (got.length < enough) return
          waiting.delete(check)
          resume(Effect.void)
        }
        waiting.add(check)
        return Effect.sync(() => waiting.delete(check))
      })
  }
})

type Viewer = Effect.Success<ReturnType<typeof view>>

const all = (viewers: ReadonlyArray<Viewer>) =>
  Effect.forEach(viewers, (viewer) => viewer.more(10), { concurrency: "unbounded", discard: true })

describe("relays as processes", () => {
  it.live(
    "in a line: serve everybody that is still connected, whichever is killed, and everybody when it is back",
    () =>
      Effect.gen(function*() {
        const line = yield* relays([[], [0], [1]])
        yield* line.until(1, "relay-connected")
        yield* line.until(2, "relay-connected")
        yield* publish(line.urlOf(0))
        const viewers = yield* Effect.forEach([0, 1, 2], (at) => view(line.urlOf(at)))
        yield* all(viewers)
        for (const killed of [2, 1, 0]) {
          yield* line.kill(killed)
          // those between the publisher and the one that is gone
          yield* all(viewers.slice(0, killed))
          yield* line.start(killed)
          yield* all(viewers)
        }
      }).pipe(Effect.scoped, Effect.provide(NodeTransport.layer)),
    deadline
  )

  it.live("in a ring: miss nothing when one is killed, and keep no ghost", () =>
    Effect.gen(function*() {
      const ring = yield* relays([[1], [2], [0]])
      for (const at of [0, 1, 2]) yield* ring.until(at, "relay-connected")
      const publisher = yield* publish(ring.urlOf(0))
      const viewers = yield* Effect.forEach([0, 1, 2], (at) => view(ring.urlOf(at)))
      yield* all(viewers)
      for (const killed of [1, 2]) {
        const others = viewers.filter((_, at) => at !== killed)
        const since = others.map(({ got }) => Math.max(...got))
        yield* ring.kill(killed)
        yield* all(others)
        const until = others.map(({ got }) => Math.max(...got))
        // the newest first: one that is late comes after those that follow it
        yield* all(others)
        others.forEach(({ got }, i) => {
          const numbers = Array.from({ length: until[i]! - since[i]! }, (_, j) => since[i]! + 1 + j)
          const seen = got.filter((number) => numbers.includes(number)).sort((one, other) => one - other)
          assert.deepStrictEqual(seen, numbers)
        })
        yield* ring.start(killed)
        yield* ring.until(killed, "relay-connected")
        yield* all(viewers)
      }
      yield* ring.kill(0)
      yield* ring.start(0)
      yield* all(viewers)
      yield* publisher.end
      for (const at of [0, 1, 2]) yield* ring.until(at, "ended", ring.count(at, "announced"))
    }).pipe(Effect.scoped, Effect.provide(NodeTransport.layer)), deadline)

  it.live("serve a publisher and a viewer of the command line, each at another", () =>
    Effect.gen(function*() {
      const line = yield* relays([[], [0], [1]])
      yield* line.until(1, "relay-connected")
      yield* line.until(2, "relay-connected")
      const viewer = yield* Command.start(["subscribe", line.urlOf(2), "demo/lines", "--json", "--wait", "30s"])
      const publisher = yield* Command.start(["publish", line.urlOf(0), "demo/lines", "--lines"], {
        input: "one\ntwo\nthree\n"
      })
      assert.strictEqual((yield* publisher.ended).code, 0)
      assert.strictEqual((yield* viewer.ended).code, 0)
      const events = Command.events(viewer.lines)
      assert.deepStrictEqual(events.flatMap(({ event, text }) => event === "frame" ? [text] : []), [
        "one",
        "two",
        "three"
      ])
      for (const at of [0, 1, 2]) yield* line.until(at, "ended")
    }).pipe(Effect.scoped), deadline)
})
