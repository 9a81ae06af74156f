import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Queue, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as selfsigned from "selfsigned"
import * as Certificate from "../../src/node/Certificate.ts"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import type { Connection, ConnectOptions, TransportServer } from "../../src/transport/Transport.ts"
import * as Command from "../cli/fixtures/command.ts"
import * as peers from "../node/fixtures/peers.ts"
import { root } from "./processes.ts"

const outer = 30_000
const deadline = 60_000

/** A pair of files, and what writes them. */
const files = Effect.gen(function*() {
  const path = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-moq-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const tls = { certFile: join(path, "cert.pem"), keyFile: join(path, "key.pem") }
  const write = ({ cert, key }: { readonly cert?: string; readonly key?: string }) => {
    if (cert !== undefined) writeFileSync(tls.certFile, cert)
    if (key !== undefined) writeFileSync(tls.keyFile, key)
  }
  return { path, tls, write }
})

const generate = Certificate.generate({ hosts: ["localhost", "127.0.0.1", "::1"] })

const transport = NodeTransport.make({ transports: ["websocket"] })

const connect = (bound: TransportServer, options: ConnectOptions, host = "127.0.0.1") =>
  transport.connect(new URL(`https://${host}:${peers.portOf(bound)}/`), options)

/** Connects, does what is asked with both ends, and leaves. */
const visit = (bound: TransportServer, options: ConnectOptions, host?: string) =>
  Effect.scoped(Effect.gen(function*() {
    const accepting = yield* peers.acceptNext(bound)
    const client = yield* connect(bound, options, host)
    yield* peers.works(client, yield* Fiber.join(accepting))
  }))

const detailOf = (bound: TransportServer, options: ConnectOptions, host?: string) =>
  Effect.map(Effect.flip(Effect.scoped(connect(bound, options, host))), (error) => {
    assert.strictEqual(error._tag, "MoqTransportError")
    const detail = error.detail ?? ""
    assert.notInclude(detail, "\n")
    return detail
  })

describe("a server", () => {
  it.live(
    "takes a new certificate in place, while a connection goes on; a pair that does not match is kept out",
    () =>
      Effect.gen(function*() {
        const { tls, write } = yield* files
        const [one, two] = yield* Effect.all([generate, generate])
        write(one)
        const hangups = yield* Queue.unbounded<void>()
        const handled = yield* Queue.unbounded<void>()
        // each element is asked for when the one before has been dealt with
        const reload = Stream.fromEffectRepeat(Effect.andThen(Queue.offer(handled, undefined), Queue.take(hangups)))
        const bound = yield* peers.server({ tls, reload, transports: ["websocket"] }).pipe(
          Effect.provide(Logger.layer([]))
        )
        yield* Queue.take(handled)
        assert.isUndefined(bound.fingerprint)
        const accepting = yield* peers.acceptNext(bound)
        const client = yield* connect(bound, { fingerprints: [one.fingerprint] })
        const talk = yield* talking(client, yield* Fiber.join(accepting))
        yield* talk(1)

        write({ cert: two.cert })
        yield* Queue.offer(hangups, undefined)
        yield* Queue.take(handled)
        yield* visit(bound, { fingerprints: [one.fingerprint] })
        yield* talk(2)

        write(two)
        yield* Queue.offer(hangups, undefined)
        yield* visit(bound, { fingerprints: [two.fingerprint] }).pipe(Effect.retry(Schedule.spaced("10 millis")))
        assert.include(yield* detailOf(bound, { fingerprints: [one.fingerprint] }), "another certificate")
        yield* talk(3)
      }),
    outer
  )

  it.effect("tells the fingerprint of the certificate that it has renewed", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.now())
      const bound = yield* peers.server({ transports: ["websocket"] })
      const first = bound.fingerprint!
      assert.strictEqual(yield* fingerprintAt(peers.portOf(bound)), first)
      yield* TestClock.adjust("10 days")
      while ((yield* fingerprintAt(peers.portOf(bound))) === first);
      const second = yield* fingerprintAt(peers.portOf(bound))
      assert.strictEqual(bound.fingerprint, second)
      yield* visit(bound, { fingerprints: [second] })
      assert.include(yield* detailOf(bound, { fingerprints: [first] }), `its fingerprint is ${second}`)
    }), outer)
})

describe("roots", () => {
  const authority = (name: string) =>
    Effect.promise(() =>
      selfsigned.generate([{ name: "commonName", value: name }], {
        keyType: "ec",
        curve: "P-256",
        algorithm: "sha256",
        extensions: [
          { name: "basicConstraints", cA: true, critical: true },
          { name: "keyUsage", keyCertSign: true, critical: true }
        ]
      })
    )
  const signedBy = (authority: { readonly cert: string; readonly private: string }) =>
    Effect.promise(() =>
      selfsigned.generate([{ name: "commonName", value: "localhost" }], {
        keyType: "ec",
        curve: "P-256",
        algorithm: "sha256",
        ca: { cert: authority.cert, key: authority.private },
        extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }] }]
      })
    )

  it.live("are trusted instead of the authorities of the system", () =>
    Effect.gen(function*() {
      const [ours, theirs] = yield* Effect.all([authority("ours"), authority("theirs")])
      const impostor = yield* authority("ours")
      const { cert, private: key } = yield* signedBy(ours)
      const bound = yield* peers.server({ tls: { cert, key }, transports: ["websocket"] })
      yield* visit(bound, { roots: [ours.cert] }, "localhost")
      yield* visit(bound, { roots: [theirs.cert, ours.cert] }, "localhost")
      yield* visit(bound, { roots: [`${theirs.cert}\n${ours.cert}`] }, "localhost")
      for (const options of [{}, { roots: [] }, { roots: [theirs.cert] }, { roots: [impostor.cert] }]) {
        assert.include(yield* detailOf(bound, options, "localhost"), "is not trusted")
      }
      assert.include(yield* detailOf(bound, { roots: [ours.cert] }), "is for another host")
      assert.include(yield* detailOf(bound, { roots: [ours.cert, "nonsense"] }), "has to be a certificate in PEM")
    }), outer)
})

describe("effect-moq relay", () => {
  beforeAll(Command.build, deadline)

  it.live("reads its certificate again on SIGHUP, while sessions go on", () =>
    Effect.gen(function*() {
      const { tls, write } = yield* files
      const [one, two] = yield* Effect.all([generate, generate])
      write(one)
      const { command, listening, url } = yield* relay(["--tls-cert", tls.certFile, "--tls-key", tls.keyFile])
      assert.isUndefined(listening.fingerprint)
      const pinned = ["--fingerprint", one.fingerprint]
      const subscriber = yield* Command.start(["subscribe", url, "a", "--json", ...pinned])
      const publisher = yield* Command.start(["publish", url, "a", "--lines", ...pinned])
      publisher.child.stdin!.write("before\n")
      yield* subscriber.until((lines) => lines.length === 1)

      write({ key: two.key })
      command.kill("SIGHUP")
      yield* command.until((_lines, stderr) => stderr.includes("\n"))
      assert.include(command.err, "the certificate before stays in force: ")
      assert.include(command.err, "they do not belong together")
      assert.strictEqual(command.err.split("\n").length, 2)

      write(two)
      command.kill("SIGHUP")
      yield* command.until((lines) => Command.events(lines).at(-1)!["event"] === "certificate")
      assert.deepStrictEqual(Command.events(command.lines).at(-1), {
        event: "certificate",
        fingerprint: two.fingerprint
      })
      publisher.child.stdin!.end("after\n")
      assert.strictEqual((yield* subscriber.ended).code, 0)
      assert.deepStrictEqual(Command.events(subscriber.lines).map(({ text }) => text), ["before", "after", undefined])

      const stranger = yield* Command.run(["announced", url, ...pinned])
      assert.strictEqual(stranger.code, 1)
      assert.include(stranger.stderr, `its fingerprint is ${two.fingerprint}`)
      assert.strictEqual((yield* Command.run(["announced", url, "--fingerprint", two.fingerprint])).code, 0)
    }), deadline)

  it.live(
    "says on SIGHUP that a generated certificate has nothing to reload, and goes on",
    () =>
      Effect.gen(function*() {
        const { command, url } = yield* relay([])
        command.kill("SIGHUP")
        yield* command.until((_lines, stderr) => stderr.includes("\n"))
        assert.strictEqual(command.err, "there is nothing to reload: the certificate is a generated one\n")
        assert.strictEqual((yield* Command.run(["announced", url])).code, 0)
      }),
    deadline
  )

  it.live("ends when its terminal is closed, which is a SIGHUP as well", () =>
    Effect.gen(function*() {
      const { pid, port, terminal } = yield* inTerminal(
        "exec node dist/cli/bin.js relay --bind localhost:0 --transport websocket --json"
      )
      // there is a terminal still, so this is for the certificate
      process.kill(pid, "SIGHUP")
      yield* terminal.until((lines) => lines.some((line) => line.includes("nothing to reload")))
      terminal.kill("SIGKILL")
      while (yield* listens(port)) yield* Effect.sleep("20 millis")
    }), deadline)

  it.live("keeps a generated certificate in its state directory", () =>
    Effect.gen(function*() {
      const { path } = yield* files
      const args = ["--tls-generate", "localhost, 127.0.0.1", "--state-dir", join(path, "state")]
      const fingerprints = yield* Effect.forEach(
        [args, args, ["--tls-generate", "localhost"]],
        (args) => Effect.scoped(Effect.map(relay(args), ({ listening }) => listening.fingerprint))
      )
      assert.strictEqual(fingerprints[0], fingerprints[1])
      assert.notStrictEqual(fingerprints[0], fingerprints[2])
    }), deadline)

  it.live("tells what it offers, and of the rest why not", () =>
    Effect.gen(function*() {
      const { command, listening, url } = yield* relay([])
      assert.deepStrictEqual(listening.transports, ["websocket"])
      assert.deepStrictEqual(Command.events(command.lines)[0]!["unavailable"], [])
      assert.strictEqual((yield* Command.run(["announced", url])).code, 0)

      const best = yield* Command.start(["relay", "--bind", "localhost:0", "--json"])
      yield* best.until((lines) => lines.length > 0)
      const { transports, unavailable } = JSON.parse(best.lines[0]!) as {
        readonly transports: ReadonlyArray<string>
        readonly unavailable: ReadonlyArray<{ readonly transport: string; readonly reason: string }>
      }
      // each is in one of the two
      assert.deepStrictEqual([...transports, ...unavailable.map(({ transport }) => transport)].sort(), [
        "h3",
        "websocket"
      ])
      for (const { reason } of unavailable) assert.match(reason, /^.+$/)

      const people = yield* Command.start(["relay", "--bind", "localhost:0"])
      yield* people.until((_lines, stderr) => stderr.includes("generated certificate"))
      const lines = people.err.split("\n")
      assert.match(lines[0]!, new RegExp(`^listening at https://.* over ${transports.join(", ")}$`))
      assert.deepStrictEqual(
        lines.slice(1, -2),
        unavailable.map(({ reason, transport }) => `not over ${transport}: ${reason}`)
      )
    }), deadline)

  it.live.each([
    { args: ["--transport", "quic"], words: "h3, websocket, h2" },
    { args: ["--transport", ","], words: "h3, websocket, h2" },
    { args: ["--allow-origin", "https://example.com/page"], words: "origins such as https://example.com" },
    { args: ["--state-dir", "x", "--tls-cert", "a.pem", "--tls-key", "b.pem"], words: "--state-dir is for generated" },
    { args: ["--renew-grace", "soon"], words: "a duration" }
  ])("is used wrongly with $args", ({ args, words }) =>
    Effect.gen(function*() {
      const { code, stderr } = yield* Command.run(["relay", ...args])
      assert.strictEqual(code, 2)
      assert.include(stderr, words)
      assert.strictEqual(stderr.split("\n").length, 2)
    }), deadline)

  it.live("says which file is of no use to begin with", () =>
    Effect.gen(function*() {
      const { tls, write } = yield* files
      const args = ["relay", "--bind", "localhost:0", "--tls-cert", tls.certFile, "--tls-key", tls.keyFile]
      const missing = yield* Command.run(args)
      assert.deepStrictEqual([missing.code, missing.stderr], [1, `${tls.certFile} cannot be read: ENOENT\n`])
      const [one, two] = yield* Effect.all([generate, generate])
      write({ cert: one.cert, key: two.key })
      const mixed = yield* Command.run(args)
      assert.strictEqual(mixed.code, 1)
      assert.match(mixed.stderr, /^.*they do not belong together\n$/)
    }), deadline)

  it.live("lets only the web pages that it was told of connect", () =>
    Effect.gen(function*() {
      const { listening, url } = yield* relay(["--allow-origin", "https://a.example, https://b.example"])
      const from = (origin: string) =>
        Effect.flatMap(
          peers.webSocket(url.replace("https:", "wss:"), [peers.subprotocol], { origin }),
          ({ status }) => status
        ).pipe(Effect.scoped)
      assert.isString(listening.fingerprint)
      assert.strictEqual(yield* from("https://b.example"), 101)
      assert.strictEqual(yield* from("https://c.example"), 403)
    }), deadline)
})

// over WebSocket alone, whatever else this machine has
const relay = (args: ReadonlyArray<string>) => Command.relay(["--transport", "websocket", ...args])

/** A stream from one end to the other, that stays open: each call sends a byte through it, and waits until it is there. */
const talking = Effect.fnUntraced(function*(from: Connection, to: Connection) {
  const { send } = yield* from.openBi
  let receive: Effect.Success<typeof to.acceptBi>["receive"] | undefined
  return (byte: number) =>
    Effect.gen(function*() {
      yield* send.write([Uint8Array.of(byte)])
      receive ??= (yield* to.acceptBi).receive
      assert.deepStrictEqual([...(yield* receive.pull)[0]], [byte])
    })
})

/** Runs a relay in a terminal of its own. The one who kills the terminal closes it. */
const inTerminal = Effect.fnUntraced(function*(command: string) {
  const script = `echo pid $$; ${command}`
  const args = process.platform === "linux"
    ? ["-qfc", script, "/dev/null"]
    : ["-q", "/dev/null", "sh", "-c", script]
  const terminal = yield* Effect.acquireRelease(
    Effect.sync(() => new Command.Command(spawn("script", args, { cwd: root, stdio: ["pipe", "pipe", "pipe"] }))),
    (terminal) => Effect.sync(() => terminal.kill("SIGKILL"))
  )
  yield* terminal.until((lines) => lines.length > 1)
  const pid = Number(terminal.lines[0]!.trim().slice("pid ".length))
  const { url } = JSON.parse(terminal.lines[1]!) as { readonly url: string }
  const port = Number(new URL(url).port)
  // whoever still listens has not ended
  yield* Effect.addFinalizer(() =>
    Effect.map(listens(port), (alive) => {
      if (alive) process.kill(pid, "SIGKILL")
    })
  )
  return { pid, port, terminal }
})

const listens = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect(port, "127.0.0.1")
    socket.on("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    socket.on("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  })

const fingerprintAt = (port: number) =>
  Effect.callback<string>((resume) => {
    Http.get({ host: "127.0.0.1", port, path: "/certificate.sha256", agent: false }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (part: string) => {
        text += part
      })
      response.on("end", () => resume(Effect.succeed(text.trim())))
    })
  })
