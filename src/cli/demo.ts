/**
 * `effect-moq demo`: a relay, a publisher and two viewers in one process, over real sockets.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { MoqError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Group from "../model/Group.ts"
import type * as Track from "../model/Track.ts"
import type { Session } from "../session/Session.ts"
import { Transport, TransportServer } from "../transport/Transport.ts"
import * as Clocks from "./clock.ts"
import * as Ending from "./Ending.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"
import * as Text from "./Text.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const demo = Command.make(
  "demo",
  {
    for: Flags.duration("for", "End after this time, instead of when interrupted").pipe(Flag.optional),
    transport: Flags.transports(
      "What to offer, and over what to connect; auto, the default, is the best of h3 and websocket that works"
    ),
    json: Flags.json
  },
  Effect.fnUntraced(
    function*(options) {
      const { NodeTransport, Relay, Session } = yield* modules
      const transports = options.transport
      const server = yield* NodeTransport.makeServer({
        host: "localhost",
        port: 0,
        tls: { generate: ["localhost"] },
        transports
      })
      const relay = yield* Effect.provideService(Relay.make(), TransportServer, server)
      const url = server.urls[0]!
      yield* options.json
        ? Output.json({
          event: "listening",
          url,
          transports: server.transports,
          unavailable: server.unavailable,
          fingerprint: server.fingerprint
        })
        : Output.Output.use(({ write }) => write(introduction(server)))

      const open = Session.connect(url, { fingerprints: server.fingerprint === undefined ? [] : [server.fingerprint] })
        .pipe(Effect.provideService(Transport, NodeTransport.make({ transports })))
      const run = new Run(options.json)
      const publisher = yield* open
      const broadcast = yield* publisher.broadcast(path.slice(0, -1))
      const track = yield* broadcast.track(path.slice(-1))
      const viewers = yield* Effect.forEach(["viewer 1", "viewer 2"], (name) => run.join(name, open), {
        concurrency: "unbounded"
      })
      const everything = Effect.all([run.publish(track), ...viewers], { concurrency: "unbounded", discard: true })
      yield* Option.match(options.for, {
        onNone: () => everything,
        onSome: (duration) => Effect.asVoid(Effect.timeoutOption(everything, duration))
      }).pipe(
        Effect.ensuring(Effect.ignore(Effect.flatMap(relay.sessions, (sessions) => run.totals(sessions))))
      )
    },
    Effect.scoped,
    Ending.interruptible
  )
).pipe(
  Command.withDescription(
    "Shows it all in one process: a relay with a certificate made on the spot, a publisher of a clock, and two viewers, over " +
      "real sockets. Prints each frame as it arrives, with the time that it took through the relay, and totals at the end. " +
      "Runs until it is interrupted, and exits with 0."
  ),
  Command.withShortDescription("See it work, without anything else"),
  Command.withExamples([
    { command: "effect-moq demo", description: "Until Ctrl-C" },
    { command: "effect-moq demo --for 5s", description: "For five seconds" }
  ])
)

// internal

const path: Path.Path = ["demo", "clock"]

const interval = "500 millis"

const framesPerGroup = 6

const modules = Effect.promise(async () => {
  const [NodeTransport, Relay, Session] = await Promise.all([
    import("../node/NodeTransport.ts"),
    import("../relay/Relay.ts"),
    import("../session/Session.ts")
  ])
  return { NodeTransport, Relay, Session }
})

const introduction = ({ fingerprint = "", transports, unavailable, urls: [url] }: TransportServer): string =>
  [
    `A relay listens at ${url} over ${transports.join(" and ")}; the SHA-256 fingerprint of its certificate is`,
    `${fingerprint}.`,
    ...unavailable.map(({ reason, transport }) => `There is no ${transport} here: ${Text.line(reason)}.`),
    `A publisher sends it the track ${
      Path.format(path)
    }: a frame every half a second, a new group every ${framesPerGroup} frames.`,
    "Two viewers watch that track through the relay. Each line is a frame that one of them got, with the time since it was written.",
    "",
    `Watch from another terminal:  npx effect-moq subscribe ${url} ${Path.format(path)}`,
    "End with Ctrl-C.",
    "",
    row("who", "group", "frame", "transport", "latency", "what"),
    ""
  ].join("\n")

const row = (who: string, group: string, frame: string, transport: string, latency: string, what: string): string =>
  `${who.padEnd(9)} ${group.padStart(6)} ${frame.padStart(6)}  ${transport.padEnd(9)} ${latency.padStart(10)}  ${what}`

/** The frames of one run, and what became of them. */
class Run {
  readonly json: boolean
  // when each frame was written, in nanoseconds; those of the newest groups
  readonly written: Map<number, Array<bigint>>
  sent: number
  received: number
  groups: number
  // in milliseconds
  sum: number
  max: number
  constructor(json: boolean) {
    this.json = json
    this.written = new Map()
    this.sent = 0
    this.received = 0
    this.groups = 0
    this.sum = 0
    this.max = 0
  }

  publish(track: Track.Producer): Effect.Effect<never, MoqError> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const group = yield* track.appendGroup
        const written: Array<bigint> = []
        this.written.set(group.sequence, written)
        this.written.delete(group.sequence - 3)
        this.groups++
        for (let frame = 0; frame < framesPerGroup; frame++) {
          const now = yield* Clock.currentTimeMillis
          written.push(yield* Clock.currentTimeNanos)
          yield* group.writeFrame(encoder.encode(`${Clocks.format(now)}.${Math.floor(now % 1000 / 100)}`))
          this.sent++
          yield* Effect.sleep(interval)
        }
        yield* group.finish
      }
    })
  }

  /** Subscribes; what it gives reads. */
  join<E>(name: string, open: Effect.Effect<Session, E, Scope.Scope>) {
    return Effect.gen({ self: this }, function*() {
      const session = yield* open
      const track = yield* session.subscribe(path, { wait: "5 seconds" })
      return Stream.runDrain(Stream.mapEffect(
        track.groups,
        (group) => this.watch(name, session.transport.transport, group),
        { concurrency: "unbounded", unordered: true }
      ))
    })
  }

  watch(name: string, transport: string, group: Group.Group) {
    let frame = 0
    return Stream.runForEach(group.frames, (payload) => this.got(name, transport, group.sequence, frame++, payload))
  }

  got(name: string, transport: string, group: number, frame: number, payload: Uint8Array) {
    return Effect.flatMap(Clock.currentTimeNanos, (now) => {
      const written = this.written.get(group)?.[frame] ?? now
      const latency = Number(now - written) / 1e6
      this.received++
      this.sum += latency
      this.max = Math.max(this.max, latency)
      const text = decoder.decode(payload)
      return this.json
        ? Output.json({ event: "frame", viewer: name, group, frame, transport, latency, text })
        : Output.line(row(name, `${group}`, `${frame}`, transport, `${latency.toFixed(2)} ms`, text))
    })
  }

  totals(sessions: number) {
    const mean = this.received === 0 ? 0 : this.sum / this.received
    const { groups, max, received, sent } = this
    return this.json
      ? Output.json({ event: "totals", sent, received, groups, sessions, mean, max })
      : Output.line(
        `\ntotals: ${sent} frames sent in ${groups} ${groups === 1 ? "group" : "groups"}, ${received} received, ` +
          `${sessions} sessions, ` +
          `latency mean ${mean.toFixed(2)} ms, max ${max.toFixed(2)} ms`
      )
  }
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
