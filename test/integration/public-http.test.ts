import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, type Scope } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Tls from "node:tls"
import { Cancelled, NotFound, Unauthorized } from "../../src/core/MoqError.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import type * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as PublicHttp from "../../src/node/PublicHttp.ts"
import * as Authenticator from "../../src/relay/Authenticator.ts"
import * as Relay from "../../src/relay/Relay.ts"
import { TransportServer } from "../../src/transport/Transport.ts"
import * as peers from "../node/fixtures/peers.ts"

const deadline = 60_000

/** A relay with what it gives by HTTP, over WebSocket alone. */
const relayWith = (options: {
  readonly http?: PublicHttp.Options
  readonly server?: Partial<NodeTransport.ServerOptions>
  readonly authenticate?: Authenticator.Authenticator["authenticate"]
} = {}) =>
  Effect.gen(function*() {
    const server = yield* peers.server({ transports: ["websocket"], ...options.server })
    const relay = yield* Relay.make().pipe(
      Effect.provideService(TransportServer, server),
      Effect.provideService(Authenticator.Authenticator, {
        authenticate: options.authenticate ?? (() => Effect.succeed(Authenticator.everything))
      })
    )
    yield* server.serveHttp(yield* Effect.provideService(PublicHttp.make(options.http), Relay.Relay, relay))
    return { relay, port: peers.portOf(server) }
  })

interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
  /** It broke off before its end. */
  readonly isBroken: boolean
}

type Request = Https.RequestOptions & { readonly plain?: boolean }

/** A request that goes on with the scope; `response` is the beginning of its answer. */
const open = (port: number, path: string, { plain, ...options }: Request = {}) =>
  Effect.callback<Http.IncomingMessage, Error, Scope.Scope>((resume) => {
    const request = (plain === true ? Http : Https).request(
      { host: "127.0.0.1", port, path, rejectUnauthorized: false, agent: false, ...options },
      (response) => resume(Effect.succeed(response))
    )
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end()
  })

const bodyOf = (response: Http.IncomingMessage): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const chunks: Array<Buffer> = []
    const done = () =>
      resume(Effect.succeed({
        status: response.statusCode!,
        headers: response.headers,
        body: Buffer.concat(chunks).toString(),
        isBroken: !response.complete
      }))
    response.on("data", (chunk: Buffer) => chunks.push(chunk))
    response.on("error", () => {})
    response.on("close", done)
  })

const ask = (port: number, path: string, options?: Request) => Effect.flatMap(open(port, path, options), bodyOf)

const text = new TextEncoder()

/** Publishes a track into the relay itself. */
const publish = (relay: Relay.Relay, path: ReadonlyArray<string>, options?: Track.Options) =>
  Effect.gen(function*() {
    const track = yield* Track.make(path, options)
    yield* relay.origin.publish(track.track)
    return track
  })

const write = (track: Track.Producer, ...frames: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const group = yield* track.appendGroup
    yield* Effect.forEach(frames, (frame) => group.writeFrame(text.encode(frame)))
    return group
  })

describe("GET /announced", () => {
  it.live("tells the tracks below a prefix, for people and for programs", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith()
      for (const path of [["room", "a b", "x:1"], ["room", "b/c"], ["rooms", "d"], ["line\nbreak"]]) {
        yield* publish(relay, path)
      }
      const all = yield* ask(port, "/announced/")
      assert.strictEqual(all.status, 200)
      assert.sameMembers(all.body.split("\n"), ["room/a%20b/x:1", "room/b%2Fc", "rooms/d", "line%0Abreak", ""])
      assert.strictEqual(all.headers["access-control-allow-origin"], "*")
      assert.strictEqual((yield* ask(port, "/announced")).body, all.body)
      const below = yield* ask(port, "/announced/room", { headers: { accept: "application/json" } })
      assert.strictEqual(below.headers["content-type"], "application/json")
      assert.deepStrictEqual(JSON.parse(below.body), ["room/a b/x:1", "room/b/c"])
      assert.deepStrictEqual(yield* Effect.map(ask(port, "/announced/nobody"), ({ body, status }) => [status, body]), [
        200,
        ""
      ])
    }), deadline)
})

describe("GET /fetch", () => {
  it.live("gives a group, the newest one by default, from a frame on", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith()
      const track = yield* publish(relay, ["room", "a b"])
      assert.strictEqual((yield* ask(port, "/fetch/room/a%20b")).status, 404)
      yield* Effect.flatMap(write(track, "one", "two", "three"), (group) => group.finish)
      yield* Effect.flatMap(write(track, "four"), (group) => group.finish)
      const first = yield* ask(port, "/fetch/room/a%20b?group=0")
      assert.deepStrictEqual(
        [first.status, first.body, first.isBroken, first.headers["moq-group"], first.headers["content-type"]],
        [200, "onetwothree", false, "0", "application/octet-stream"]
      )
      assert.strictEqual((yield* ask(port, "/fetch/room/a%20b?group=0&frame=1")).body, "twothree")
      const newest = yield* ask(port, "/fetch/room/a%20b")
      assert.deepStrictEqual([newest.body, newest.headers["moq-group"]], ["four", "1"])
      const head = yield* ask(port, "/fetch/room/a%20b?group=0", { method: "HEAD" })
      assert.deepStrictEqual([head.status, head.body, head.headers["moq-group"]], [200, "", "0"])
    }), deadline)

  it.live("goes on with a group while it grows, and breaks off where that does", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith()
      const track = yield* publish(relay, ["a"])
      const group = yield* write(track, "one")
      const response = yield* open(port, "/fetch/a")
      const seen = yield* Effect.callback<string>((resume) => {
        response.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString())))
      })
      assert.strictEqual(seen, "one")
      const frame = yield* group.createFrame(6)
      yield* frame.write(text.encode("two"))
      yield* frame.write(text.encode("six"))
      yield* group.finish
      const rest = yield* bodyOf(response)
      assert.deepStrictEqual([rest.body, rest.isBroken], ["twosix", false])

      const second = yield* write(track, "one")
      const broken = yield* open(port, "/fetch/a")
      yield* second.fail(new Cancelled({}))
      assert.isTrue((yield* bodyOf(broken)).isBroken)
    }), deadline)

  it.live("says what is not there, what no longer is, and what is asked for wrongly", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith()
      const track = yield* publish(relay, ["a"], { cache: { maxBytes: 1 } })
      yield* Effect.flatMap(write(track, "one"), (group) => group.finish)
      yield* Effect.flatMap(write(track, "two"), (group) => group.finish)
      const status = (path: string, method = "GET") => Effect.map(ask(port, path, { method }), ({ status }) => status)
      assert.strictEqual(yield* status("/fetch/a?group=0"), 410)
      assert.strictEqual(yield* status("/fetch/a?group=7"), 404)
      assert.strictEqual(yield* status("/fetch/b"), 404)
      assert.strictEqual(yield* status("/nothing"), 404)
      assert.strictEqual(yield* status("/fetch/a?group=one"), 400)
      assert.strictEqual(yield* status("/fetch/a?frame=-1"), 400)
      assert.strictEqual(yield* status("/fetch/"), 400)
      assert.strictEqual(yield* status("/fetch/%ff"), 400)
      assert.strictEqual(yield* status(`/fetch${"/x".repeat(33)}`), 400)
      assert.strictEqual(yield* status("/fetch/a", "POST"), 405)
      const preflight = yield* ask(port, "/fetch/a", { method: "OPTIONS" })
      assert.deepStrictEqual([preflight.status, preflight.headers["access-control-allow-headers"]], [
        204,
        "authorization, accept"
      ])
    }), deadline)

  it.live("answers so many at a time, and lets go of those that leave", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith({ http: { requests: 1 } })
      const track = yield* publish(relay, ["a"])
      const group = yield* write(track, "one")
      const first = yield* open(port, "/fetch/a")
      const second = yield* ask(port, "/fetch/a")
      assert.deepStrictEqual([second.status, second.headers["retry-after"]], [503, "1"])
      first.destroy()
      yield* Effect.repeat(ask(port, "/announced/"), { until: ({ status }) => status === 200 })
      yield* group.finish
    }), deadline)

  it.live("lets go of a group when its client leaves", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith()
      const group = Group.makeUnsafe(0)
      const released = Deferred.makeUnsafe<void>()
      yield* relay.origin.add({
        path: ["a"],
        subscribe: () => Effect.fail(new NotFound({})),
        trackInfo: Effect.fail(new NotFound({})),
        fetch: () =>
          Effect.acquireRelease(Effect.succeed(group.group), () =>
            Effect.sync(() => Deferred.doneUnsafe(released, Effect.void)))
      })
      const response = yield* open(port, "/fetch/a?group=0")
      assert.strictEqual(response.statusCode, 200)
      response.destroy()
      yield* Deferred.await(released)
    }), deadline)

  it.live("waits for a client that reads slowly, and cuts off one that does not read", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith({ http: { stalled: "1 second" } })
      const track = yield* publish(relay, ["a"])
      const group = yield* track.appendGroup
      const frame = new Uint8Array(8 * 1024 * 1024).fill(7)
      for (let i = 0; i < 3; i++) yield* group.writeFrame(frame)
      yield* group.finish
      const slow = yield* open(port, "/fetch/a", { highWaterMark: 1024 } as Request)
      yield* Effect.sleep("100 millis")
      assert.strictEqual((yield* bodyOf(slow)).body.length, 3 * frame.length)

      const closed = Deferred.makeUnsafe<void>()
      const socket = Tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
        socket.write("GET /fetch/a HTTP/1.1\r\nhost: localhost\r\n\r\n")
      })
      socket.pause()
      yield* Effect.sleep("3 seconds")
      // what is on its way is still there, and then nothing more
      let received = 0
      socket.on("data", (chunk) => received += chunk.length)
      socket.on("error", () => {})
      socket.on("close", () => Deferred.doneUnsafe(closed, Effect.void))
      socket.resume()
      yield* Deferred.await(closed)
      assert.isBelow(received, 3 * frame.length)
    }), deadline)

  it.live("refuses everybody once the relay ends", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith()
      yield* relay.drain
      assert.strictEqual((yield* ask(port, "/announced/")).status, 503)
    }), deadline)
})

describe("who may ask", () => {
  const tokens: Authenticator.Authenticator["authenticate"] = ({ root, url }) => {
    const token = url.searchParams.get("jwt")
    if (token === null) return Effect.fail(new Unauthorized({ detail: "a token is needed" }))
    if (token !== "good") return Effect.fail(new Unauthorized({ detail: "the token is not good" }))
    assert.isTrue(root.length > 0)
    return Effect.succeed({ publish: [], subscribe: [["room"]] })
  }

  it.live("says the same as for a session of that URL, with a token in either place", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith({ authenticate: tokens })
      const track = yield* publish(relay, ["room", "a"])
      yield* publish(relay, ["other", "b"])
      yield* Effect.flatMap(write(track, "one"), (group) => group.finish)
      const none = yield* ask(port, "/fetch/room/a")
      assert.deepStrictEqual([none.status, none.headers["www-authenticate"]], [401, "Bearer"])
      assert.strictEqual((yield* ask(port, "/fetch/room/a?jwt=bad")).status, 403)
      assert.strictEqual((yield* ask(port, "/fetch/room/a?jwt=good")).body, "one")
      const bearer = { headers: { authorization: "Bearer good" } }
      assert.strictEqual((yield* ask(port, "/fetch/room/a", bearer)).body, "one")
      assert.strictEqual((yield* ask(port, "/announced/room", bearer)).body, "room/a\n")
      assert.strictEqual((yield* ask(port, "/fetch/other/b", bearer)).status, 403)
      assert.strictEqual((yield* ask(port, "/announced/other", bearer)).status, 403)
    }), deadline)

  it.live("ends an answer with what allowed it", () =>
    Effect.gen(function*() {
      const { port, relay } = yield* relayWith({
        authenticate: () =>
          Effect.succeed({ ...Authenticator.everything, expires: Date.now() + Duration.toMillis("1 second") })
      })
      const track = yield* publish(relay, ["a"])
      yield* write(track, "one")
      const answer = yield* ask(port, "/fetch/a")
      assert.deepStrictEqual([answer.status, answer.body, answer.isBroken], [200, "one", true])
    }), deadline)
})

describe("without TLS", () => {
  it.live("only clients on this machine, by a name of it, get more than the fingerprint", () =>
    Effect.gen(function*() {
      const { port } = yield* relayWith()
      const status = (path: string, headers?: Record<string, string>) =>
        Effect.map(ask(port, path, { plain: true, ...(headers === undefined ? {} : { headers }) }), (a) => a.status)
      assert.strictEqual(yield* status("/announced/"), 200)
      assert.strictEqual(yield* status("/announced/", { host: "example.com" }), 403)
      assert.strictEqual(yield* status("/announced/", { origin: "https://example.com" }), 403)
      // without a proxy that is trusted, a header is only words
      assert.strictEqual(yield* status("/announced/", { "x-forwarded-for": "203.0.113.9" }), 200)
    }), deadline)

  it.live(
    "behind a proxy nobody is a client on this machine, and addresses are those that it tells",
    () =>
      Effect.gen(function*() {
        const seen: Array<string | undefined> = []
        const { port } = yield* relayWith({
          server: { trustProxy: true },
          authenticate: ({ peer }) => {
            seen.push(peer)
            return Effect.succeed(Authenticator.everything)
          }
        })
        const status = (path: string) => Effect.map(ask(port, path, { plain: true }), (answer) => answer.status)
        assert.strictEqual(yield* status("/announced/"), 403)
        assert.strictEqual(yield* status("/certificate.sha256"), 200)
        const from = (forwarded: string) => ask(port, "/announced/", { headers: { "x-forwarded-for": forwarded } })
        yield* from("198.51.100.1, 203.0.113.9")
        yield* from("[2001:db8::1]:4711")
        yield* from("unknown")
        assert.deepStrictEqual(seen.slice(0, 2), ["203.0.113.9", "[2001:db8::1]:4711"])
        assert.match(seen[2]!, /^127\.0\.0\.1:\d+$/)
        const upgraded = yield* peers.webSocket(`wss://127.0.0.1:${port}/`, [peers.subprotocol], {
          headers: { "x-forwarded-for": "203.0.113.10" }
        })
        assert.strictEqual(yield* upgraded.status, 101)
        assert.strictEqual(seen[3], "203.0.113.10")
      }),
    deadline
  )
})
