/**
 * What can go wrong between two processes, and how each side learns of it: the same for every transport. The other side is
 * a real process, and is really killed.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Context, type Duration, Effect, Fiber, Layer, Option, Schedule, Stream } from "effect"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import { type Connection, Transport } from "../../src/transport/Transport.ts"
import * as Command from "../cli/fixtures/command.ts"
import * as network from "../node/fixtures/network.ts"

export interface Options {
  readonly limits?: NodeTransport.Limits
  /** Where the bytes pass. */
  readonly network: typeof network.tcp
  /** How long a case may take at most, in milliseconds. */
  readonly outer: number
  /** Whether cases wait for their timeouts side by side. */
  readonly concurrent?: boolean
}

// so that the transport is the first to notice
const patient = { limits: { idle: "10 minutes", keepAlive: "1 second" } } as const

// what a busy machine may take longer than was declared, in milliseconds
const grace = 10_000

export const suite = (name: NodeTransport.Name, { concurrent, limits, network, outer }: Options): void => {
  const hasty = NodeTransport.make({ transports: [name], limits })
  const client = NodeTransport.make({ transports: [name] })

  /** A relay in a process of its own. */
  const relay = (port = 0) =>
    Effect.gen(function*() {
      const command = yield* Command.start(["relay", "--bind", `127.0.0.1:${port}`, "--json", "--transport", name])
      yield* command.until((lines) => lines.length > 0)
      const { transports, url } = JSON.parse(command.lines[0]!) as {
        readonly transports: ReadonlyArray<string>
        readonly url: string
      }
      assert.deepStrictEqual(transports, [name])
      return { command, url, port: Number(new URL(url).port) }
    })

  /** A session, and the connection under it. */
  const connect = (url: string, transport = client) =>
    Effect.gen(function*() {
      let connection: Connection | undefined
      const session = yield* Effect.provideService(
        Session.connect(url, { ...patient, insecure: true, timeout: "20 seconds" }),
        Transport,
        {
          connect: (url, options) =>
            Effect.tap(transport.connect(url, options), (opened) =>
              Effect.sync(() => {
                connection = opened
              }))
        }
      )
      assert.strictEqual(session.transport.transport, name)
      return { session, idleTimeout: connection!.capabilities.idleTimeout }
    })

  /** A relay in this process, and what happens to the next client of it. */
  const host = Effect.fnUntraced(function*(limits?: NodeTransport.Limits) {
    const context = yield* Layer.build(
      Relay.layer({ session: patient }).pipe(
        Layer.provide(NodeTransport.layerServer({
          port: 0,
          host: "127.0.0.1",
          transports: [name],
          tls: { generate: ["127.0.0.1"] },
          limits
        }))
      )
    )
    const { events, urls } = Context.get(context, Relay.Relay)
    const next = (tag: Relay.Event["_tag"]) =>
      events.pipe(
        Stream.filter((event) => event._tag === tag),
        Stream.runHead,
        Effect.flatMap(Effect.fromOption),
        Effect.forkScoped({ startImmediately: true })
      )
    return {
      url: urls[0]!,
      port: Number(new URL(urls[0]!).port),
      opened: yield* next("SessionOpened"),
      closed: yield* next("SessionClosed")
    }
  })

  /** A client in a process of its own, once it has a session. */
  const guest = Effect.gen(function*() {
    const { closed, opened, url } = yield* host(limits)
    const command = yield* Command.start([
      ...["subscribe", url, "nobody/has/this", "--wait", "10m", "--insecure", "--transport", name]
    ])
    yield* Fiber.join(opened)
    return { closed, command }
  })

  const within = <A, E, R>(effect: Effect.Effect<A, E, R>, duration: Duration.Input) =>
    Effect.timeoutOption(effect, duration).pipe(
      Effect.map(Option.getOrElse(() => assert.fail("it was not noticed in time")))
    )

  describe(`faults over ${name}`, { concurrent: concurrent ?? false }, () => {
    beforeAll(Command.build, 120_000)

    for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
      it.live(`a session notices that its server got ${signal}`, () =>
        Effect.gen(function*() {
          const { command, url } = yield* relay()
          const { idleTimeout, session } = yield* connect(url, hasty)
          const listening = yield* Effect.forkScoped(Effect.flip(Stream.runDrain(session.announced())), {
            startImmediately: true
          })
          yield* session.ping
          command.kill(signal)
          const closed = yield* within(session.closed, idleTimeout + grace)
          assert.strictEqual(closed.by, "transport", closed.message)
          const error = yield* Fiber.join(listening)
          assert.deepStrictEqual([error._tag, "by" in error && error.by], ["MoqSessionClosed", "transport"])
        }), outer)

      it.live(`a relay notices that its client got ${signal}`, () =>
        Effect.gen(function*() {
          const { closed, command } = yield* guest
          command.kill(signal)
          const event = yield* Fiber.join(closed)
          assert.deepStrictEqual([event._tag, "by" in event && event.by], ["SessionClosed", "transport"])
        }), outer)
    }

    it.live("both sides notice that the network has gone", () =>
      Effect.gen(function*() {
        const { closed, port } = yield* host(limits)
        const between = yield* network(port)
        const { idleTimeout, session } = yield* connect(`https://127.0.0.1:${between.port}`, hasty)
        yield* between.cut
        const ends = yield* within(Effect.all([session.closed, Fiber.join(closed)]), idleTimeout + grace)
        assert.deepStrictEqual(ends.map((end) => "by" in end && end.by), ["transport", "transport"])
      }), outer)

    it.live("a session that closes is told apart from all that", () =>
      Effect.gen(function*() {
        const { closed, url } = yield* host()
        const { session } = yield* connect(url)
        yield* session.close()
        assert.deepInclude(yield* Fiber.join(closed), { code: 0, by: "remote" })
        assert.deepInclude({ ...(yield* session.closed) }, { code: 0, by: "local" })
      }), outer)

    it.live("so is a relay that stops", () =>
      Effect.gen(function*() {
        const { command, url } = yield* relay()
        const { session } = yield* connect(url)
        command.kill("SIGTERM")
        const closed = yield* session.closed
        assert.deepInclude({ ...closed }, { code: 0, by: "remote" }, closed.message)
        yield* command.ended
      }), outer)

    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      it.live(
        `sessions that reconnect go on after their relay got ${signal} and is there again`,
        () =>
          Effect.gen(function*() {
            const first = yield* relay()
            const reconnecting = Effect.provideService(
              Session.reconnect(first.url, {
                ...patient,
                insecure: true,
                schedule: Schedule.spaced("200 millis")
              }),
              Transport,
              client
            )
            const publisher = yield* reconnecting
            const viewer = yield* reconnecting
            const track = yield* (yield* publisher.broadcast(["room"])).track("clock")
            // a group every 50 ms, from before to after
            let written = -1
            yield* track.appendGroup.pipe(
              Effect.tap((group) => group.writeFrame(Uint8Array.of(1))),
              Effect.tap((group) => group.finish),
              Effect.tap((group) => Effect.sync(() => written = group.sequence)),
              Effect.repeat(Schedule.spaced("50 millis")),
              Effect.forkScoped
            )
            const watched = yield* viewer.subscribe(["room", "clock"], { wait: "20 seconds" })
            const seen: Array<readonly [from: number, to: number, isGap: boolean]> = []
            yield* watched.events.pipe(
              Stream.runForEach((event) =>
                Effect.sync(() =>
                  seen.push(
                    event._tag === "Gap"
                      ? [event.from, event.to, true]
                      : [event.sequence, event.sequence, false]
                  )
                )
              ),
              Effect.forkScoped
            )
            // whether every sequence up to some group has come once: as a group, or in a gap
            const isWhole = (sequence: number): boolean => {
              const sorted = [...seen].sort(([a], [b]) => a - b)
              return sorted.every(([from], at) => at === 0 || from === sorted[at - 1]![1] + 1) &&
                sorted.some(([from, , isGap]) => !isGap && from >= sequence)
            }
            const whole = (sequence: number) =>
              Effect.sync(() => isWhole(sequence)).pipe(
                Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (is) => is })
              )
            yield* whole(0)
            first.command.kill(signal)
            yield* first.command.ended
            const gone = written
            const second = yield* relay(first.port)
            yield* whole(gone + 3)
            // and whoever comes anew finds it announced
            const { session } = yield* connect(second.url)
            const announced = yield* Stream.runHead(session.announced())
            assert.deepStrictEqual(Option.map(announced, (event) => event._tag), Option.some("Active" as const))
          }),
        outer
      )
    }
  })
}
