/**
 * What a relay gives by plain requests over HTTP, beside its sessions: `curl` is a client.
 *
 * **Details**
 *
 * - `GET /announced/<prefix>`: the paths of the tracks at or below the prefix, one a line, percent-encoded as they stand
 *   in a URL; as a JSON array of plain paths for those who accept `application/json`.
 * - `GET /fetch/<path>?group=N`: the payloads of the group's frames, one after the other. Without `group` it is the newest
 *   group, which `Moq-Group` names; `frame=M` leaves out what is before. A group that is still being written goes on
 *   until it ends. One that breaks off ends the connection in the middle of the answer.
 *
 * The path after the first word is what the path of the URL is for a session, and a client may see what its session might:
 * with a token in `?jwt=`, or as `Authorization: Bearer`. 401 asks for one, 403 says that it is not good for this; 404:
 * there is no such track or group; 410: the group was there and is no longer; 503: the relay ends, or is busy.
 *
 * Web pages of any origin may ask; no cookies are looked at.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Http from "node:http"
import * as Varint from "../coding/Varint.ts"
import { BoundsExceeded, type FetchError, NotFound, Unauthorized } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Frame from "../model/Frame.ts"
import * as Relay from "../relay/Relay.ts"
import * as NodeTransport from "./NodeTransport.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many requests are answered at a time; 64 by default. Further ones get 503. */
  readonly requests?: number | undefined
  /** How long a client may take nothing of what waits for it, before it is cut off; 30 seconds by default. */
  readonly stalled?: Duration.Input | undefined
}

/**
 * Makes what answers requests, for as long as the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  options?: Options
) => Effect.Effect<NodeTransport.HttpHandler, never, Relay.Relay | Scope.Scope> = Effect.fnUntraced(
  function*({ requests = 64, stalled = "30 seconds" } = {}) {
    const relay = yield* Relay.Relay
    const fork = yield* FiberSet.makeRuntime()
    let open = 0
    return (request, response, visit) => {
      const isBusy = open >= requests
      open++
      const answering = fork(
        answer(relay, request, visit, isBusy).pipe(
          Effect.flatMap((answer) => give(request, response, answer, stalled)),
          Effect.scoped,
          // whatever is wrong with it, the client must not take it for the whole
          Effect.onError(() => Effect.sync(() => response.destroy())),
          Effect.catchCause((cause) =>
            Cause.hasInterrupts(cause) ? Effect.void : Effect.logDebug("a request failed", cause)
          )
        )
      )
      response.once("close", () => {
        open--
        answering.interruptUnsafe()
      })
    }
  }
)

/**
 * Lets a relay of your program answer by HTTP on the port of its server.
 *
 * **Example** (A relay that `curl` can ask)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { NodeTransport, PublicHttp } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 *
 * const RelayLayer = PublicHttp.layer().pipe(
 *   Layer.provideMerge(Relay.layer()),
 *   Layer.provide(NodeTransport.layerServer({ port: 4443, tls: { generate: ["localhost"] } }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<never, never, Relay.Relay | NodeTransport.Server> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const server = yield* NodeTransport.Server
    yield* server.serveHttp(yield* make(options))
  }))

// internal

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string | Effect.Effect<Pull.Pull<ReadonlyArray<Frame.Frame>, Frame.ReadError>, never, Scope.Scope>
}

const say = (status: number, text: string, headers?: Answer["headers"]): Answer => ({
  status,
  headers: { "content-type": "text/plain; charset=utf-8", ...headers },
  body: `${text}\n`
})

const answer = (
  relay: Relay.Relay,
  { method = "" }: Http.IncomingMessage,
  visit: NodeTransport.Visit,
  isBusy: boolean
): Effect.Effect<Answer, never, Scope.Scope> =>
  Effect.suspend(() => {
    const [, word = "", rest = ""] = /^\/([^/]*)(.*)$/.exec(visit.url.pathname) ?? []
    const serve = services.get(word)
    if (serve === undefined) {
      return Effect.succeed(say(404, "here is a relay of MoQ Transfork: connect with a client of it"))
    }
    if (method === "OPTIONS") return Effect.succeed({ status: 204, headers: preflight, body: "" })
    if (method !== "GET" && method !== "HEAD") return Effect.succeed(say(405, "only GET", { allow }))
    if (isBusy) return Effect.succeed(say(503, "too many ask at the moment", { "retry-after": "1" }))
    const path = Relay.rootOf(rest)
    if (path === undefined) return Effect.succeed(say(400, "the path of the URL is malformed or too long"))
    const token = tokenOf(visit)
    return Effect.gen(function*() {
      if (!(yield* relay.ready)) return say(503, "the relay is about to end")
      const { url, ...client } = withToken(visit, token)
      const visitor = yield* relay.visit({ ...client, url, root: path, transport: "http" })
      const answer = yield* serve(visitor, path, visit)
      return yield* withinGrant(answer, visitor)
    }).pipe(Effect.catch((error) => Effect.succeed(explain(error, token !== undefined))))
  })

type Service = (
  visitor: Relay.Visitor,
  path: Path.Path,
  visit: NodeTransport.Visit
) => Effect.Effect<Answer, FetchError, Scope.Scope>

const announced: Service = ({ router }, prefix, { headers }) =>
  Effect.sync(() => {
    const paths = router.paths.filter((path) => Path.hasPrefix(path, prefix))
    if (headers.get("accept")?.includes("application/json") === true) {
      return {
        status: 200,
        headers: { "content-type": "application/json" },
        body: `${JSON.stringify(paths.map(Path.format))}\n`
      }
    }
    return { ...say(200, ""), body: paths.map((path) => `${encode(path)}\n`).join("") }
  })

const fetch: Service = Effect.fnUntraced(function*({ router }, path, { url }) {
  yield* Path.validateTrack(path)
  const sequence = yield* numberOf(url, "group")
  const frame = yield* numberOf(url, "frame")
  const latest = sequence === undefined ? (yield* router.trackInfo(path)).latest : sequence
  if (latest === undefined) return yield* new NotFound({ detail: `${Path.format(path)} has no group yet` })
  const group = yield* router.fetch(path, latest, { frame })
  return {
    status: 200,
    headers: { "content-type": "application/octet-stream", "moq-group": String(group.sequence) },
    body: group.reader
  }
})

const services = new Map<string, Service>([["announced", announced], ["fetch", fetch]])

const allow = "GET, HEAD, OPTIONS"

const preflight = {
  "access-control-allow-methods": allow,
  "access-control-allow-headers": "authorization, accept",
  "access-control-max-age": "86400"
}

const numberOf = (url: URL, name: string): Effect.Effect<number | undefined, BoundsExceeded> => {
  const text = url.searchParams.get(name)
  if (text === null) return Effect.succeed(undefined)
  return /^\d+$/.test(text) && Number(text) < Varint.max
    ? Effect.succeed(Number(text))
    : Effect.fail(new BoundsExceeded({ detail: `${name} is a whole number, not ${JSON.stringify(text)}` }))
}

// what may stand in the path of a URL stays as it is
const encode = (path: Path.Path): string =>
  path.map((part) => encodeURIComponent(part).replace(/%(?:3A|40|24|26|2B|2C|3B|3D)/g, decodeURIComponent)).join("/")

const tokenOf = ({ headers, url }: NodeTransport.Visit): string | undefined =>
  url.searchParams.get("jwt") ?? /^bearer\s+(\S+)\s*$/i.exec(headers.get("authorization") ?? "")?.[1]

// where the authenticator looks for it, as it does when a session begins
const withToken = (visit: NodeTransport.Visit, token: string | undefined): NodeTransport.Visit => {
  if (token === undefined) return visit
  const url = new URL(visit.url)
  url.searchParams.set("jwt", token)
  return { ...visit, url }
}

// an answer that takes longer than what allowed it ends like a session
const withinGrant = (answer: Answer, { grant: { expires } }: Relay.Visitor): Effect.Effect<Answer, Unauthorized> => {
  if (expires === undefined) return Effect.succeed(answer)
  return Clock.clockWith((clock) => {
    const left = () => expires - clock.currentTimeMillisUnsafe()
    if (left() <= 0) return Effect.fail(new Unauthorized({ detail: "what allowed this has expired" }))
    const { body } = answer
    if (typeof body === "string") return Effect.succeed(answer)
    return Effect.succeed({
      ...answer,
      body: Effect.map(body, (pull) =>
        Effect.suspend(() =>
          Effect.timeoutOrElse(pull, {
            duration: Math.min(Math.max(0, left()), longest),
            orElse: () => Effect.fail(new Unauthorized({ detail: "what allowed this has expired" }))
          })
        ))
    })
  })
}

// what a timer can count
const longest = 2_147_483_647

const explain = (error: FetchError | Unauthorized, hasToken: boolean): Answer => {
  switch (error._tag) {
    case "MoqUnauthorized":
      return hasToken ? say(403, error.message) : say(401, error.message, { "www-authenticate": "Bearer" })
    case "MoqNotFound":
      return say(404, error.message)
    case "MoqEvicted":
      return say(410, error.message)
    case "MoqBoundsExceeded":
      return say(400, error.message)
    case "MoqTimeout":
      return say(504, error.message)
    default:
      return say(502, error.message)
  }
}

const requests = Metric.counter("moq_relay_http_requests_total", {
  description: "Requests by HTTP that were answered, by status",
  incremental: true
})

// Suspends until the client has taken all of it; fails when it does not.
const give = Effect.fnUntraced(function*(
  { method }: Http.IncomingMessage,
  response: Http.ServerResponse,
  { body, headers, status }: Answer,
  stalled: Duration.Input
) {
  yield* Metric.update(Metric.withAttributes(requests, { status: String(status) }), 1)
  response.writeHead(status, {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "moq-group",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...(typeof body === "string" ? { "content-length": String(Buffer.byteLength(body)) } : {}),
    ...headers
  })
  const taken = (event: "drain" | "finish") =>
    Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      response.once(event, done)
      return Effect.sync(() => response.off(event, done))
    }).pipe(
      Effect.timeoutOrElse({ duration: stalled, orElse: () => Effect.fail("the client takes nothing") })
    )
  const write = (bytes: Uint8Array): Effect.Effect<void, string> => {
    let at = 0
    return Effect.whileLoop({
      while: () => at < bytes.length,
      body: () => response.write(bytes.subarray(at, at += piece)) ? Effect.void : taken("drain"),
      step: () => {}
    })
  }
  const writeFrame = (frame: Frame.Frame): Effect.Effect<void, string | Frame.ReadError> =>
    frame.payload === undefined ? Stream.runForEach(frame.chunks, write) : write(frame.payload)

  if (method === "HEAD") response.end()
  else if (typeof body === "string") response.end(body)
  else {
    response.flushHeaders()
    yield* Effect.flatMap(yield* body, (frames) => Effect.forEach(frames, writeFrame, { discard: true })).pipe(
      Effect.forever({ disableYield: true }),
      Pull.catchDone(() => Effect.void)
    )
    response.end()
  }
  if (!response.writableFinished) yield* taken("finish")
})

// TLS takes a copy of what is written at once
const piece = 64 * 1024
