import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Command from "../cli/fixtures/command.ts"

beforeAll(Command.build, 60_000)

const secret = "eyJhbGciOiJub25lIn0.e30.secret"

interface Sent {
  readonly path: string
  readonly authorization: string | undefined
  readonly body: string
}

/** An OpenTelemetry collector that keeps what it gets, and answers with a status; without one it never does. */
const collector = (status: number | undefined): Effect.Effect<
  { readonly url: string; readonly sent: Array<Sent> },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const sent: Array<Sent> = []
    const server = yield* Effect.acquireRelease(
      Effect.callback<Http.Server>((resume) => {
        const server = Http.createServer((request, response) => {
          let body = ""
          request.setEncoding("utf8")
          request.on("data", (chunk: string) => void (body += chunk))
          request.on("end", () => {
            sent.push({ path: request.url!, authorization: request.headers.authorization, body })
            if (status !== undefined) response.writeHead(status, { "content-type": "application/json" }).end("{}")
          })
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    )
    return { url: `http://user:${secret}@127.0.0.1:${(server.address() as AddressInfo).port}`, sent }
  })

const get = (url: string) =>
  Effect.promise(async () => {
    const response = await fetch(url)
    return { status: response.status, body: await response.text() }
  })

/** Asks until the answer is as it should be: what a relay has been told is there a moment later. */
const until = (url: string, isThere: (body: string) => boolean) =>
  Effect.gen(function*() {
    while (true) {
      const { body } = yield* get(url)
      if (isThere(body)) return body
    }
  })

const sessionsOf = (body: string) => JSON.parse(body) as ReadonlyArray<Readonly<Record<string, unknown>>>

/** A publisher and a viewer, with tokens that the relay does not ask for. */
const traffic = (relay: Command.Command, url: string) =>
  Effect.gen(function*() {
    const publisher = yield* Command.start(["publish", `${url}/room?jwt=${secret}`, "clock"])
    yield* relay.until((lines) => Command.events(lines).some(({ event }) => event === "announced"))
    const viewer = yield* Command.start(["subscribe", `${url}/?jwt=${secret}`, "room/clock"])
    publisher.child.stdin!.write("one\n")
    yield* viewer.until((lines) => lines.includes("one"))
    return { publisher, viewer }
  })

describe("a relay that is observed", () => {
  it.live("tells its operator who does what, and nobody a token", () =>
    Effect.gen(function*() {
      const { command, listening, url } = yield* Command.relay([
        "--internal",
        "localhost:0",
        "--log-format",
        "json"
      ])
      const internal = (listening as unknown as { readonly internal: string }).internal
      yield* traffic(command, url)
      const sessions = yield* until(`${internal}/sessions`, (body) => sessionsOf(body).length === 2)
      assert.deepStrictEqual(
        new Set(
          sessionsOf(sessions).map(({ publishing, root, watching }) => JSON.stringify([root, publishing, watching]))
        ),
        new Set([
          JSON.stringify(["room", ["room/clock"], []]),
          JSON.stringify(["", [], ["room/clock"]])
        ])
      )
      const numberOf = (root: string) => sessionsOf(sessions).find((session) => session["root"] === root)!["session"]
      const tree = yield* get(`${internal}/tree`)
      assert.deepStrictEqual(JSON.parse(tree.body), {
        "room/clock": { publisher: { session: numberOf("room") }, hops: [], watchers: [numberOf("")] }
      })
      const metrics = yield* get(`${internal}/metrics`)
      const number = (name: string) =>
        Number(metrics.body.split("\n").find((line) => line.startsWith(`${name} `))!.split(" ")[1])
      const sent = (name: string) => number(`moq_relay_${name}_total{side="sent"}`)
      assert.isAtLeast(sent("groups"), 1)
      assert.deepStrictEqual([sent("frames"), sent("bytes")], [1, 3])
      assert.strictEqual(number("moq_relay_announces{side=\"received\"}"), 1)
      assert.strictEqual((yield* get(`${internal}/ready`)).status, 200)

      command.kill("SIGTERM")
      const { code, stderr, stdout } = yield* command.ended
      assert.strictEqual(code, 0, stderr)
      const lines = stderr.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>)
      for (const line of lines) {
        assert.hasAllKeys({ ...line }, [...new Set(["time", "level", "event", "message", ...Object.keys(line)])])
      }
      assert.isTrue(
        lines.some(({ event, level, session }) => event === "session-opened" && level === "info" && session === 1)
      )
      for (const text of [stdout.toString(), stderr, sessions, tree.body, metrics.body]) {
        assert.notInclude(text, "secret")
      }
    }), 60_000)

  it.live("sends traces, metrics and logs to a collector", () =>
    Effect.gen(function*() {
      const { sent, url: otlp } = yield* collector(200)
      const { command, url } = yield* Command.relay(["--otlp", otlp, "--log-format", "json"])
      const { publisher, viewer } = yield* traffic(command, url)
      publisher.child.stdin!.end()
      assert.strictEqual((yield* viewer.ended).code, 0)
      command.kill("SIGTERM")
      const { code, stderr } = yield* command.ended
      assert.strictEqual(code, 0, stderr)
      const to = (signal: string) =>
        sent.filter(({ path }) => path === `/v1/${signal}`).map(({ body }) => body).join("\n")
      const traces = to("traces")
      for (const name of ["moq.session", "moq.subscribe"]) assert.include(traces, `"name":"${name}"`)
      assert.include(traces, "room/clock")
      assert.include(traces, "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"effect-moq-relay\"}}")
      assert.include(traces, "\"service.version\"")
      // leaving, and being interrupted, is no error
      assert.notInclude(traces, "\"code\":2")
      assert.include(to("metrics"), "\"moq_relay_bytes_total\"")
      assert.include(to("metrics"), "\"moq_relay_latency_seconds\"")
      assert.include(to("metrics"), "\"nodejs_eventloop_lag_p99_seconds\"")
      assert.include(to("logs"), "{\"key\":\"event\",\"value\":{\"stringValue\":\"session-opened\"}}")
      for (const { authorization, body } of sent) {
        assert.strictEqual(authorization, `Basic ${Buffer.from(`user:${secret}`).toString("base64")}`)
        assert.notInclude(body, "secret")
      }
    }), 60_000)

  it.live("is not disturbed by a collector that is away, refuses or never answers", () =>
    Effect.gen(function*() {
      const refusing = yield* collector(400)
      const silent = yield* collector(undefined)
      for (const otlp of ["http://127.0.0.1:9", refusing.url, silent.url]) {
        const { command, url } = yield* Command.relay(["--otlp", otlp, "--log-format", "text"])
        const { publisher, viewer } = yield* traffic(command, url)
        publisher.child.stdin!.end()
        assert.strictEqual((yield* viewer.ended).code, 0)
        command.kill("SIGTERM")
        const { code, stderr } = yield* command.ended
        assert.strictEqual(code, 0, stderr)
        const lines = stderr.split("\n").filter((line) => line.includes("collector"))
        // for each of traces, metrics and logs
        assert.isAtMost(lines.length, 3, stderr)
        for (const line of lines) {
          assert.match(line, /^\S+Z warn the collector does not take what is sent to http:\/\/127.0.0.1:\d+\/v1\/\w+, /)
        }
        assert.notInclude(stderr, "secret")
      }
    }), 60_000)
})
