/** Peers that break the protocol on a live relay, over a real socket: each loses what it must, and everybody else goes on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule, Stream } from "effect"
import { connect as dial } from "node:net"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import { type Connection, Transport } from "../../src/transport/Transport.ts"

const limits = { setup: "300 millis", firstMessage: "300 millis" } as const

const live = Layer.mergeAll(
  NodeTransport.layer,
  Relay.layer({ session: { limits } }).pipe(
    Layer.provide(NodeTransport.layerServer({
      port: 0,
      tls: { generate: ["localhost"] },
      limits: { handshakeTimeout: "300 millis" }
    }))
  )
)

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"))

// offers FORK_03 (0xff0bad03), with no extensions
const setup = hex("00 01 c0000000ff0bad03 00")

/** A connection on which nothing has been said yet. */
const connection = Effect.gen(function*() {
  const transport = yield* Transport
  const { urls } = yield* Relay.Relay
  return yield* transport.connect(new URL(urls[0]!), { insecure: true })
})

const shakenHands = Effect.gen(function*() {
  const opened = yield* connection
  const { receive, send } = yield* opened.openBi
  yield* send.write([setup])
  yield* receive.pull
  return opened
})

const bi = (connection: Connection, bytes: Uint8Array) =>
  Effect.tap(connection.openBi, ({ send }) => send.write([bytes]))

const uni = (connection: Connection, bytes: Uint8Array) =>
  Effect.tap(connection.openUni(), (send) => send.write([bytes]))

const codeOfClose = (connection: Connection) => Effect.map(connection.closed, ({ code }) => code)

// how the answer on a stream ends: with the code of a reset, or `undefined` for the end
const codeOfReset = (
  stream: { readonly receive: { readonly pull: Effect.Effect<unknown, { readonly _tag: string }> } }
) =>
  stream.receive.pull.pipe(
    Effect.forever,
    Effect.flip,
    Effect.map((error) => "code" in error ? error.code : error._tag)
  )

/** What a peer does, and the code that the relay ends its session or its stream with. */
const hostilities: ReadonlyArray<
  readonly [string, Effect.Effect<unknown, unknown, Transport | Relay.Relay | import("effect").Scope.Scope>, unknown]
> = [
  ["says nothing", Effect.flatMap(connection, codeOfClose), 3],
  [
    "sends half a handshake",
    connection.pipe(Effect.tap((c) => bi(c, setup.subarray(0, 5))), Effect.flatMap(codeOfClose)),
    3
  ],
  [
    "sends garbage for a handshake",
    connection.pipe(Effect.tap((c) => bi(c, hex("3f ffff"))), Effect.flatMap(codeOfClose)),
    10
  ],
  [
    "offers 2^62-1 versions",
    connection.pipe(Effect.tap((c) => bi(c, hex("00 ffffffffffffffff"))), Effect.flatMap(codeOfClose)),
    11
  ],
  [
    "opens a group before the handshake",
    connection.pipe(Effect.tap((c) => uni(c, hex("00 00 00"))), Effect.flatMap(codeOfClose)),
    15
  ],
  [
    "opens a stream of an unknown type",
    shakenHands.pipe(Effect.tap((c) => bi(c, hex("09"))), Effect.flatMap(codeOfClose)),
    10
  ],
  [
    "opens a uni stream of an unknown type",
    shakenHands.pipe(Effect.tap((c) => uni(c, hex("07"))), Effect.flatMap(codeOfClose)),
    10
  ],
  ["opens a second session stream", shakenHands.pipe(Effect.tap((c) => bi(c, setup)), Effect.flatMap(codeOfClose)), 10],
  [
    "sends garbage on the session stream",
    Effect.gen(function*() {
      const opened = yield* connection
      const { receive, send } = yield* opened.openBi
      yield* send.write([setup])
      yield* receive.pull
      yield* send.write([hex("ffffffffffffffff")])
      return yield* codeOfClose(opened)
    }),
    11
  ],
  [
    "subscribes to a path of 33 parts",
    shakenHands.pipe(
      Effect.flatMap((c) => bi(c, hex(`02 00 21 ${"0161".repeat(33)} 8080 00 00 00 00`))),
      Effect.flatMap(codeOfReset)
    ),
    11
  ],
  [
    "subscribes to no path",
    shakenHands.pipe(
      Effect.flatMap((c) => bi(c, hex("02 00 00 4080 00 00 00 00"))),
      Effect.flatMap(codeOfReset)
    ),
    15
  ],
  [
    "subscribes to a path that nobody has",
    shakenHands.pipe(
      Effect.flatMap((c) => bi(c, hex("02 00 01 0161 4080 00 00 00 00"))),
      Effect.flatMap(codeOfReset)
    ),
    13
  ],
  [
    "asks with a string of 2^62-1 bytes",
    shakenHands.pipe(
      Effect.flatMap((c) => bi(c, hex("04 01 ffffffffffffffff"))),
      Effect.flatMap(codeOfReset)
    ),
    11
  ],
  [
    "asks with bytes that are not UTF-8",
    shakenHands.pipe(
      Effect.flatMap((c) => bi(c, hex("04 01 02 c328"))),
      Effect.flatMap(codeOfReset)
    ),
    5
  ],
  [
    "sends half a message and ends",
    shakenHands.pipe(
      Effect.flatMap((c) => bi(c, hex("02 00 03 01"))),
      Effect.tap(({ send }) => send.finish),
      Effect.flatMap(codeOfReset)
    ),
    5
  ],
  [
    "trickles a message",
    Effect.gen(function*() {
      const opened = yield* shakenHands
      const stream = yield* opened.openBi
      yield* Stream.fromIterable(hex("02 00 01 3f 616161616161616161616161616161616161616161616161616161616161")).pipe(
        Stream.schedule(Schedule.spaced("50 millis")),
        Stream.runForEach((byte) => stream.send.write([Uint8Array.of(byte)])),
        Effect.ignore,
        Effect.forkScoped
      )
      return yield* codeOfReset(stream)
    }),
    3
  ],
  [
    "sends a group that nobody asked for",
    shakenHands.pipe(
      Effect.flatMap((c) => uni(c, hex("00 05 00 01 61"))),
      Effect.flatMap((send) => send.stopped)
    ),
    13
  ]
]

describe("hostile peers of a live relay", () => {
  it.live("lose their stream or session; a publisher and its viewer beside them go on", () =>
    Effect.gen(function*() {
      const { sessions, urls } = yield* Relay.Relay
      const publisher = yield* Session.connect(urls[0]!, { insecure: true })
      const broadcast = yield* publisher.broadcast(["fine"])
      const track = yield* broadcast.track("numbers")
      const viewer = yield* Session.connect(urls[0]!, { insecure: true })
      const watched = yield* viewer.subscribe(["fine", "numbers"], { wait: "5 seconds" })
      const seen: Array<number> = []
      const watching = yield* Effect.forkScoped(
        Stream.runForEach(
          Stream.flatMap(watched.groups, (group) => group.frames, { concurrency: "unbounded" }),
          ([byte]) => Effect.sync(() => seen.push(byte!))
        ),
        { startImmediately: true }
      )
      const group = yield* track.appendGroup

      for (const [index, [what, hostility, code]] of hostilities.entries()) {
        assert.strictEqual(yield* Effect.scoped(hostility), code, what)
        yield* group.writeFrame(Uint8Array.of(index))
        yield* Effect.yieldNow.pipe(Effect.repeat({ until: () => seen.length === index + 1 }))
      }
      yield* group.finish
      yield* track.finish
      yield* Fiber.join(watching)
      assert.deepStrictEqual(seen, hostilities.map((_, index) => index))
      // the others have gone without a trace
      yield* sessions.pipe(Effect.repeat({ schedule: Schedule.spaced("10 millis"), until: (open) => open === 2 }))
    }).pipe(Effect.scoped, Effect.provide(live)), 60_000)

  it.live("that never speak TLS to its end, or speak none, are dropped", () =>
    Effect.gen(function*() {
      const { urls } = yield* Relay.Relay
      const { port } = new URL(urls[0]!)
      const dropped = (bytes: Uint8Array | string) =>
        Effect.callback<boolean>((resume) => {
          const socket = dial(Number(port), "127.0.0.1", () => socket.write(bytes))
          socket.on("error", () => {})
          socket.on("close", () => resume(Effect.succeed(true)))
          socket.resume()
          return Effect.sync(() => socket.destroy())
        })
      assert.isTrue(yield* dropped(""), "nothing at all")
      assert.isTrue(yield* dropped(hex("16 0301 0200 01")), "half a ClientHello")
      assert.isTrue(yield* dropped("GET / HT"), "half a request")
      assert.isTrue(yield* dropped("\u0000\u0001\u0002 nonsense\r\n\r\n"), "nonsense")
      const upgrade = (protocols: string) =>
        `GET /x HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${protocols}\r\n`
      assert.isTrue(yield* dropped(upgrade("")), "no subprotocol")
      assert.isTrue(
        yield* dropped(upgrade("Sec-WebSocket-Protocol: qmux-00.moqf-02, moqf-02\r\n")),
        "an old subprotocol"
      )
      assert.isTrue(yield* dropped(upgrade("Sec-WebSocket-Protocol: qmux-02.moqf-02\r\n")), "an upgrade and no more")
      const session = yield* Session.connect(urls[0]!, { insecure: true })
      yield* session.ping
    }).pipe(Effect.scoped, Effect.provide(live)), 60_000)
})
