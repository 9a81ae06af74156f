/**
 * A second listener beside a relay, for its operator alone: metrics, health, and who does what.
 *
 * **Details**
 *
 * | Path        | What                                                                                             |
 * | ----------- | ------------------------------------------------------------------------------------------------ |
 * | `/metrics`  | all metrics of the program, as Prometheus reads them                                             |
 * | `/health`   | `ok`, as long as the process answers                                                             |
 * | `/ready`    | `ready`; `draining` with status 503 once the relay takes no new sessions                         |
 * | `/sessions` | the open sessions as JSON, with the paths that they publish and watch                            |
 * | `/tree`     | the tracks as JSON: who publishes each, through which relays it came, and which sessions watch it |
 *
 * It asks nobody who they are, so it belongs on a loopback address. There it refuses a `Host` that is no loopback name,
 * which is how a web page could reach it. It tells no URL and no token.
 *
 * **Example** (A relay with its internal listener)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Internal } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 *
 * const program = Effect.gen(function*() {
 *   const relay = yield* Relay.Relay
 *   const { urls } = yield* Internal.make({ host: "127.0.0.1", port: 9101, relay })
 *   yield* Effect.log(`metrics at ${urls[0]}/metrics`)
 * })
 * ```
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as Net from "node:net"
import type { TransportError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Relay from "../relay/Relay.ts"
import * as Loopback from "./Loopback.ts"
import * as Ports from "./Ports.ts"
import * as ProcessMetrics from "./ProcessMetrics.ts"

/**
 * What to listen on, and for which relay.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** `"localhost"` for both loopbacks, an address or a name, or `""` for all of the machine. */
  readonly host: string
  /** 0 is a free one. */
  readonly port: number
  readonly relay: Pick<Relay.Relay, "ready" | "state" | "tree">
}

/**
 * A listener that listens.
 *
 * @category models
 * @since 0.1.0
 */
export interface Internal {
  /** Where it is reached from this machine, the URL to print first. */
  readonly urls: ReadonlyArray<string>
}

/**
 * Listens for as long as the scope, and adds what the process takes to the metrics. On anything but loopback addresses it
 * warns in the log. Fails with `TransportError` when it cannot listen there.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (options: Options) => Effect.Effect<Internal, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*({ host, port, relay }) {
    yield* ProcessMetrics.make
    const server = new Server(yield* Effect.context<never>(), relay)
    yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
    const bound = yield* Ports.bind(host, port, server.enter)
    const urls = bound.names.map((name) => `http://${Net.isIPv6(name) ? `[${name}]` : name}:${bound.port}`)
    if (!bound.addresses.every(Loopback.isLoopback)) {
      yield* Effect.logWarning(
        `the internal listener at ${urls[0]} is not on a loopback address: whoever reaches it reads everything there`
      )
    }
    return { urls }
  }
)

// internal

// how many may ask at the same time, and for how long each
const maxConnections = 64
const deadline = 10_000

interface Answer {
  readonly status?: number
  readonly type: string
  readonly body: string
}

class Server {
  private readonly http: Http.Server
  private readonly sockets: Set<Net.Socket>
  private readonly answers: ReadonlyMap<string, Effect.Effect<Answer>>
  private readonly run: <A>(effect: Effect.Effect<A>) => Promise<A>

  constructor(context: Context.Context<never>, relay: Options["relay"]) {
    this.sockets = new Set()
    this.run = Effect.runPromiseWith(context)
    this.answers = new Map([
      [
        "/metrics",
        Effect.map(PrometheusMetrics.format(), (body) => ({ type: "text/plain; version=0.0.4; charset=utf-8", body }))
      ],
      ["/health", Effect.succeed(text(200, "ok"))],
      ["/ready", Effect.map(relay.ready, (isReady) => isReady ? text(200, "ready") : text(503, "draining"))],
      ["/sessions", Effect.map(relay.state, (sessions) => json(sessions.map(sessionOf)))],
      ["/tree", Effect.map(relay.tree, (tree) => json(treeOf(tree)))]
    ])
    this.http = Http.createServer((request, response) => this.answer(request, response))
    // what cannot be parsed costs its connection
    this.http.on("clientError", (_, socket) => socket.destroy())
  }

  readonly enter = (socket: Net.Socket): void => {
    socket.on("error", ignore)
    if (this.sockets.size >= maxConnections) return void socket.destroy()
    this.sockets.add(socket)
    const timer = setTimeout(() => socket.destroy(), deadline)
    socket.on("close", () => {
      clearTimeout(timer)
      this.sockets.delete(socket)
    })
    this.http.emit("connection", socket)
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  private answer(request: Http.IncomingMessage, response: Http.ServerResponse): void {
    const say = ({ body, status = 200, type }: Answer, headers: Http.OutgoingHttpHeaders = {}): void => {
      response.writeHead(status, {
        ...headers,
        connection: "close",
        "cache-control": "no-store",
        "content-type": type,
        "content-length": Buffer.byteLength(body),
        "x-content-type-options": "nosniff"
      })
      response.end(request.method === "HEAD" ? undefined : body)
    }
    const { headers, method, socket } = request
    if (Loopback.isLoopback(socket.localAddress) && !namesLoopback(headers.host)) {
      return say(text(403, "only by a loopback name: the Host is another one"))
    }
    const answer = this.answers.get(request.url?.split("?")[0] ?? "")
    if (answer === undefined) return say(text(404, `here are ${[...this.answers.keys()].join(", ")}`))
    if (method !== "GET" && method !== "HEAD") return say(text(405, "only GET"), { allow: "GET, HEAD" })
    this.run(answer).then(say, () => say(text(500, "that went wrong")))
  }
}

const ignore = () => {}

const text = (status: number, line: string): Answer => ({
  status,
  type: "text/plain; charset=utf-8",
  body: `${line}\n`
})

// Steers no terminal: paths are from others. JSON.stringify escapes the other control characters.
const json = (value: unknown): Answer => ({
  type: "application/json; charset=utf-8",
  body: `${JSON.stringify(value).replace(/[\u007f-\u009f]/g, escaped)}\n`
})

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

const namesLoopback = (host: string | undefined): boolean =>
  URL.canParse(`http://${host ?? ""}`) && Loopback.isLoopbackName(new URL(`http://${host}`).hostname)

const sessionOf = (state: Relay.SessionState) => ({
  session: state.session,
  root: Path.format(state.root),
  transport: state.transport,
  peer: state.peer,
  profile: state.profile,
  isRelay: state.isRelay,
  since: new Date(state.since).toISOString(),
  publishing: state.publishing.map(Path.format),
  watching: state.watching.map(Path.format)
})

const treeOf = (tree: ReadonlyArray<Relay.TrackState>) =>
  Object.fromEntries(tree.map(({ hops, path, publisher, watchers }) => [
    Path.format(path),
    { publisher: publisherOf(publisher), hops, watchers }
  ]))

const publisherOf = (publisher: Relay.TrackState["publisher"]) => {
  switch (publisher?._tag) {
    case "Session":
      return { session: publisher.session }
    case "Upstream":
      return { upstream: publisher.url }
    case "Program":
      return { program: true }
    case undefined:
      return null
  }
}
