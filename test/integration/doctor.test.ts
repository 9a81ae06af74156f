import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Option, type Scope, Stream } from "effect"
import { spawn } from "node:child_process"
import * as Dgram from "node:dgram"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as selfsigned from "selfsigned"
import * as Output from "../../src/cli/Output.ts"
import * as Target from "../../src/cli/Target.ts"
import { toCode, Unauthorized } from "../../src/core/MoqError.ts"
import { draft03 } from "../../src/message/Profile.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Session from "../../src/session/Session.ts"
import type { Request, TransportServer } from "../../src/transport/Transport.ts"
import * as Command from "../cli/fixtures/command.ts"
import * as peers from "../node/fixtures/peers.ts"

const deadline = 60_000

beforeAll(Command.build, deadline)

interface Step {
  readonly ok: boolean | null
  readonly seen: string
  readonly cause?: string
  readonly advice?: string
  readonly [detail: string]: unknown
}

/** What the doctor says to programs, by step; and of a failure the one line to people. */
const doctor = (url: string, ...flags: ReadonlyArray<string>) =>
  Effect.map(Command.run(["doctor", url, "--json", ...flags]), ({ code, stderr, stdout }) => {
    const events = Command.events(stdout.toString().trim().split("\n"))
    const verdict = events.at(-1)!
    assert.strictEqual(verdict["event"], "verdict", stderr)
    const steps = new Map(events.slice(0, -1).map((event) => [event["step"] as string, event as unknown as Step]))
    assert.strictEqual(code, verdict["ok"] === true ? 0 : 1)
    if (verdict["ok"] === false) {
      assert.strictEqual(stderr, `no session with ${new URL(url).origin}: ${verdict["cause"]}\n`)
      assert.deepStrictEqual(
        [...steps.values()].filter(({ ok }) => ok === false).filter((step) =>
          step.cause === undefined || step.advice === undefined
        ),
        []
      )
    } else assert.strictEqual(stderr, "")
    assert.notMatch(stdout.toString() + stderr, /secret/)
    return { code, verdict, steps, marks: Object.fromEntries([...steps].map(([step, { ok }]) => [step, ok])) }
  })

/** It fails at one step, for a reason, and does not try what that makes senseless. */
const assertFailsAt = (
  { code, marks, steps, verdict }: Effect.Success<ReturnType<typeof doctor>>,
  step: string,
  cause: RegExp,
  after: ReadonlyArray<string>
) => {
  assert.strictEqual(code, 1)
  assert.strictEqual(verdict["step"], step)
  assert.match(String(verdict["cause"]), cause)
  assert.strictEqual(steps.get(step)?.cause, verdict["cause"])
  for (const name of after) {
    assert.isNull(marks[name], name)
    assert.match(steps.get(name)!.seen, /^not tried: ./)
  }
}

const quick = ["--timeout", "1500ms"]

const tcpSteps = ["tls", "certificate", "websocket", "h2"]

/** A certificate for hosts, valid for some days around now. */
const certificateOf = (name: string, from: number, to: number) =>
  Effect.promise(() =>
    selfsigned.generate([{ name: "commonName", value: name }], {
      keyType: "ec",
      curve: "P-256",
      algorithm: "sha256",
      notBeforeDate: new Date(Date.now() + from * 86_400_000),
      notAfterDate: new Date(Date.now() + to * 86_400_000),
      extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: name }] }]
    })
  ).pipe(Effect.map(({ cert, private: key }) => ({ cert, key })))

/** The certificate in a file, as an authority to trust. */
const rootFile = (cert: string) =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "effect-moq-"))),
      (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true }))
    )
    const file = join(folder, "root.pem")
    yield* Effect.promise(() => Fs.writeFile(file, `an authority\n${cert}`))
    return file
  })

/** A relay with our own certificate, over WebSocket alone. */
const certified = (keys: { readonly cert: string; readonly key: string }) =>
  NodeTransport.makeServer({ port: 0, tls: keys, transports: ["websocket"] })

/** Does something with each client of a server. */
const serve = <E>(
  server: TransportServer,
  answer: (request: Request) => Effect.Effect<unknown, E, Scope.Scope>
) =>
  Effect.forkScoped(
    Stream.runForEach(server.requests, (request) => Effect.forkChild(Effect.ignore(Effect.scoped(answer(request)))))
  )

const urlOf = (port: number, host = "localhost") => `https://${host}:${port}`

/** A UDP socket that does what it is told with each datagram. */
const udpServer = (port: number, onDatagram: (socket: Dgram.Socket, packet: Buffer, peer: Dgram.RemoteInfo) => void) =>
  Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket("udp4")
      socket.on("message", (packet, peer) => onDatagram(socket, packet, peer))
      socket.bind(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )

/** A port that nothing listens at. */
const freePort = Effect.scoped(peers.tcpServer(() => {}))

describe("what stands before a session", () => {
  it.live("a host that nobody knows", () =>
    Effect.gen(function*() {
      const examined = yield* doctor("https://nowhere.invalid:4443")
      assertFailsAt(examined, "name", /misspelt|offline/, ["tcp", ...tcpSteps, "udp", "h3"])
    }), deadline)

  it.live("a port that nothing listens at", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const examined = yield* doctor(`${urlOf(port)}/room?jwt=secret`)
      assertFailsAt(examined, "tcp", /^nothing listens at TCP port \d+: the relay does not run/, [...tcpSteps, "h3"])
      assert.strictEqual(examined.marks["udp"], false)
    }), deadline)

  it.live("a port that drops what it gets", () =>
    Effect.gen(function*() {
      const port = yield* blackHole
      const examined = yield* doctor(urlOf(port, "127.0.0.1"), ...quick)
      assertFailsAt(examined, "tcp", /^a firewall drops what is sent to TCP port/, [...tcpSteps, "h3"])
    }), deadline)

  it.live("a server that takes connections and says nothing", () =>
    Effect.gen(function*() {
      const port = yield* peers.tcpServer((socket) => socket.resume())
      const examined = yield* doctor(urlOf(port), ...quick)
      assertFailsAt(examined, "tls", /another service, or the process behind it hangs/, ["certificate", "websocket"])
    }), deadline)

  it.live("a server that speaks no TLS, or hangs up", () =>
    Effect.gen(function*() {
      const ssh = yield* peers.tcpServer((socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n"))
      assertFailsAt(yield* doctor(urlOf(ssh)), "tls", /another service, or of one without TLS/, ["certificate", "h2"])
      const closing = yield* peers.tcpServer((socket) => socket.once("data", () => socket.destroy()))
      assertFailsAt(yield* doctor(urlOf(closing)), "tls", /cuts TLS/, ["certificate", "websocket"])
    }), deadline)

  it.live("a web server that is no relay", () =>
    Effect.gen(function*() {
      const keys = yield* certificateOf("localhost", -1, 9)
      const answer = (socket: Net.Socket) =>
        socket.once("data", () => socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"))
      const port = yield* peers.tlsServer(keys, answer)
      const examined = yield* doctor(urlOf(port), "--tls-root", yield* rootFile(keys.cert))
      assertFailsAt(examined, "websocket", /^a web server answers that is no relay/, ["h2"])
      assert.match(examined.steps.get("websocket")!.seen, /HTTP 404/)
    }), deadline)
})

describe("certificates", () => {
  it.live("of an authority that is named", () =>
    Effect.gen(function*() {
      const keys = yield* certificateOf("localhost", -1, 90)
      const server = yield* certified(keys)
      yield* serve(server, (request) =>
        Effect.flatMap(request.accept, (connection) =>
          Effect.andThen(Session.accept(connection), Effect.never)))
      const examined = yield* doctor(urlOf(peers.portOf(server)), "--tls-root", yield* rootFile(keys.cert))
      assert.deepStrictEqual(examined.verdict, { event: "verdict", ok: true, transports: ["websocket"] })
      assert.match(examined.steps.get("certificate")!.seen, /^trusted by --tls-root: self-signed, ECDSA P-256, /)
    }), deadline)

  it.live("that have expired", () =>
    Effect.gen(function*() {
      const keys = yield* certificateOf("localhost", -20, -3.5)
      const server = yield* certified(keys)
      const examined = yield* doctor(urlOf(peers.portOf(server)), "--tls-root", yield* rootFile(keys.cert))
      assertFailsAt(examined, "certificate", /^the certificate has expired/, ["websocket", "h2"])
      assert.match(examined.steps.get("certificate")!.seen, /\(4 days ago\)/)
    }), deadline)

  it.live("for another host", () =>
    Effect.gen(function*() {
      const keys = yield* certificateOf("relay.example", -1, 9)
      const server = yield* certified(keys)
      const examined = yield* doctor(urlOf(peers.portOf(server)), "--tls-root", yield* rootFile(keys.cert))
      assertFailsAt(examined, "certificate", /is for relay\.example, not for localhost$/, ["websocket", "h2"])
    }), deadline)

  it.live("that nobody vouches for", () =>
    Effect.gen(function*() {
      const server = yield* certified(yield* certificateOf("localhost", -1, 9))
      const port = peers.portOf(server)
      const examined = yield* doctor(urlOf(port))
      assertFailsAt(examined, "certificate", /^no authority vouches for a self-signed/, ["websocket", "h2"])
      // what it says to do helps
      const [, fingerprint] = /--fingerprint ([0-9a-f]{64})$/.exec(examined.steps.get("certificate")!.advice!)!
      yield* serve(server, (request) => request.refuse(403))
      const pinned = yield* doctor(urlOf(port), "--fingerprint", fingerprint!)
      assertFailsAt(pinned, "websocket", /refuses this client/, ["h2"])
    }), deadline)

  it.live("of another fingerprint than the pinned one", () =>
    Effect.gen(function*() {
      const { listening, url } = yield* Command.relay(["--transport", "websocket"])
      const examined = yield* doctor(url, "--fingerprint", "ab".repeat(32))
      assertFailsAt(examined, "certificate", /has a new certificate since the fingerprint was taken/, ["websocket"])
      assert.strictEqual(examined.steps.get("certificate")!["fingerprint"], listening.fingerprint)
      assert.strictEqual(examined.steps.get("certificate")!["told"], listening.fingerprint)
    }), deadline)

  it.live("whose file cannot be used", () =>
    Effect.gen(function*() {
      const missing = yield* Command.run(["doctor", "https://localhost:1", "--tls-root", "/nowhere/root.pem"])
      assert.deepStrictEqual([missing.code, missing.stderr], [1, "/nowhere/root.pem cannot be read: ENOENT\n"])
      const file = yield* rootFile("nothing")
      const empty = yield* Command.run(["info", "https://localhost:1", "a", "--tls-root", file])
      assert.deepStrictEqual([empty.code, empty.stderr], [1, `${file} has no certificate in PEM\n`])
    }), deadline)
})

describe("UDP", () => {
  it.live("that is dropped, or where nothing listens, leaves WebSocket", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay(["--transport", "websocket"])
      const refused = yield* doctor(url)
      assert.deepStrictEqual(refused.verdict, { event: "verdict", ok: true, transports: ["websocket"] })
      assert.strictEqual(refused.steps.get("udp")!.cause, "the relay offers no HTTP/3")
      assert.isNull(refused.marks["h3"])

      yield* udpServer(Number(new URL(url).port), () => {})
      const dropped = yield* doctor(url, ...quick)
      assert.deepStrictEqual(dropped.verdict, { event: "verdict", ok: true, transports: ["websocket"] })
      assert.match(dropped.steps.get("udp")!.cause!, /^a firewall drops what is sent to UDP port/)
    }), deadline)

  it.live("where QUIC listens answers, and only to what was asked", () =>
    Effect.gen(function*() {
      const received: Array<Buffer> = []
      const socket = yield* udpServer(0, (socket, packet, peer) => {
        received.push(packet)
        // somebody else's answer, which does not know what was asked; then the real one, when asked once more
        const stale = negotiation(packet, 0x51303433)
        stale[6]! ^= 1
        socket.send(stale, peer.port, peer.address)
        if (received.length === 2) socket.send(negotiation(packet, 0x0a1a2a3a, 1, 0x6b3343cf), peer.port, peer.address)
      })
      const examined = yield* doctor(urlOf(socket.address().port), "--transport", "h3")
      const udp = examined.steps.get("udp")!
      assert.isTrue(udp.ok, udp.seen)
      assert.match(udp.seen, / speaks QUIC, version 1, 2 \(/)
      assert.strictEqual(received[0]!.length, 1200)
      assert.deepStrictEqual(received[0], received[1])
      // what is wrong with TCP is not why there is no HTTP/3
      assert.strictEqual(examined.marks["tcp"], false)
      assert.strictEqual(examined.verdict["step"], "h3")
    }), deadline)
})

describe("sessions", () => {
  const examine = (
    answer: (request: Request) => Effect.Effect<unknown, unknown, Scope.Scope>,
    ...flags: Array<string>
  ) =>
    Effect.gen(function*() {
      const server = yield* peers.server({ transports: ["websocket"] })
      yield* serve(server, answer)
      return yield* doctor(urlOf(peers.portOf(server)), ...flags)
    })

  it.live("with a relay of another version", () =>
    Effect.gen(function*() {
      const profiles = [{ ...draft03, version: 0xff0bad99 }]
      const examined = yield* examine((request) =>
        Effect.flatMap(request.accept, (connection) => Session.accept(connection, { profiles }))
      )
      assertFailsAt(examined, "websocket", /^the relay speaks no version of the protocol/, ["h2"])
      assert.strictEqual(examined.steps.get("websocket")!["connected"], true)
    }), deadline)

  it.live("with a relay that refuses", () =>
    Effect.gen(function*() {
      const examined = yield* examine((request) =>
        Effect.gen(function*() {
          const connection = yield* request.accept
          yield* connection.close(toCode(new Unauthorized({})), "the token has expired")
          yield* connection.closed
        })
      )
      assertFailsAt(examined, "websocket", /^the relay refuses this client: the token has expired$/, ["h2"])
    }), deadline)

  it.live("with a relay that is full, or takes too long for its answer", () =>
    Effect.gen(function*() {
      assertFailsAt(yield* examine((request) => request.refuse(503)), "websocket", /full or busy/, ["h2"])
      const silent = yield* examine(
        (request) =>
          Effect.flatMap(request.accept, (connection) =>
            // within the time that a session gives, beyond that of a step
            Effect.andThen(Effect.delay(Session.accept(connection), "4 seconds"), Effect.never)),
        ...quick
      )
      assertFailsAt(silent, "websocket", /no relay of MoQ Transfork, or hangs/, ["h2"])
    }), deadline)

  it.live("over a chosen transport that is not offered", () =>
    Effect.gen(function*() {
      const examined = yield* examine(() => Effect.void, "--transport", "h2")
      assertFailsAt(examined, "h2", /^the relay offers no HTTP\/2$/, ["udp"])
    }), deadline)

  it.live("without TLS", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay(["--transport", "websocket"])
      const plain = `ws://127.0.0.1:${new URL(url).port}/room`
      const { marks, verdict } = yield* doctor(plain)
      assert.deepStrictEqual(verdict, { event: "verdict", ok: true, transports: ["websocket"] })
      assert.deepStrictEqual(marks, {
        name: true,
        tcp: true,
        tls: null,
        certificate: null,
        udp: null,
        h3: null,
        websocket: true,
        h2: null
      })
    }), deadline)

  it.live("when all is well, for people", () =>
    Effect.gen(function*() {
      const { url } = yield* Command.relay(["--transport", "websocket"])
      const { code, stderr, stdout } = yield* Command.run(["doctor", url, "--transport", "websocket"])
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.deepStrictEqual(
        stdout.toString().split("\n").map((line) => line.slice(0, 14).trim()),
        ["✓ name", "✓ tcp", "✓ tls", "✓ certificate", "", "- udp", "✓ websocket", "", "There are sess", ""]
      )
      assert.match(stdout.toString(), /\n✓ websocket +a session with draft03 \(0xff0bad03\); connecting took /)
    }), deadline)

  it.live(
    "of other verbs say which transport they took, to people who watch, when there was a choice",
    () =>
      Effect.gen(function*() {
        const server = yield* peers.server({ transports: ["websocket"] })
        yield* serve(server, (request) =>
          Effect.flatMap(request.accept, (connection) =>
            Effect.andThen(Session.accept(connection), Effect.never)))
        const connect = (transport: Target.Target["transport"]) =>
          Effect.gen(function*() {
            const said: Array<string> = []
            const say = (text: string) =>
              Effect.sync(() => void said.push(text))
            const output = { isTerminal: false, write: () => Effect.void, note: () => Effect.void, progress: say }
            const session = yield* Target.connect({
              url: urlOf(peers.portOf(server)),
              fingerprint: Option.none(),
              tlsRoot: Option.none(),
              insecure: false,
              transport
            }).pipe(Effect.provideService(Output.Output, output))
            return [session.transport.transport, ...said]
          })
        assert.deepStrictEqual(yield* connect(undefined), ["websocket", "connected over websocket"])
        assert.deepStrictEqual(yield* connect(["h2", "websocket"]), ["websocket", "connected over websocket"])
        assert.deepStrictEqual(yield* connect(["websocket"]), ["websocket"])
      }),
    deadline
  )

  it.live("and what is no address of a relay at all", () =>
    Effect.gen(function*() {
      for (
        const [url, says] of [
          ["nonsense", /^nonsense is not a URL/],
          ["http://localhost:1", /use https:\/\/localhost:1/],
          ["ws://relay.example", /loopback addresses only/]
        ] as const
      ) {
        const { code, stderr, stdout } = yield* Command.run(["doctor", url])
        assert.deepStrictEqual([code, stdout.length, stderr.split("\n").length], [1, 0, 2], stderr)
        assert.match(stderr, says)
      }
      const { code, stderr } = yield* Command.run(["doctor", "https://localhost:1", "--transport", "h3,carrier-pigeon"])
      assert.strictEqual(code, 2)
      assert.match(stderr, /auto, or some of h3, websocket, h2/)
    }), deadline)
})

/** An answer to the first packet of a connection: the versions that there are (RFC 9000, section 17.2.1). */
const negotiation = (packet: Buffer, ...versions: ReadonlyArray<number>): Buffer => {
  const destination = packet.subarray(6, 6 + packet[5]!)
  const at = 6 + destination.length
  const source = packet.subarray(at + 1, at + 1 + packet[at]!)
  const offered = Buffer.alloc(4 * versions.length)
  versions.forEach((version, index) => offered.writeUInt32BE(version, 4 * index))
  return Buffer.concat([
    Uint8Array.of(0x80, 0, 0, 0, 0, source.length),
    source,
    Uint8Array.of(destination.length),
    destination,
    offered
  ])
}

/** A port whose queue is full, so that the system drops who knocks: its process never accepts anybody. */
const blackHole = Effect.gen(function*() {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [
        "-e",
        `const server = require("net").createServer().listen(0, "127.0.0.1", 1, () => {
          require("fs").writeSync(1, String(server.address().port))
          process.kill(process.pid, "SIGSTOP")
        })`
      ], { stdio: ["ignore", "pipe", "inherit"] })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const port = yield* Effect.callback<number>((resume) => {
    child.stdout.once("data", (data) => resume(Effect.succeed(Number(data))))
  })
  // two fit in; a third knock stays without an answer
  yield* Effect.forEach([1, 2], () =>
    Effect.acquireRelease(
      Effect.callback<Net.Socket>((resume) => {
        const socket = Net.connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
        socket.on("error", () => {})
      }),
      (socket) => Effect.sync(() => socket.destroy())
    ))
  return port
})
