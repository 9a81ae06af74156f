/**
 * WebSocket on an HTTP server of the user's: beside its routes, and beside whoever else takes upgrades there.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Http from "node:http"
import type * as Https from "node:https"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { inOwnScope } from "../core/OwnScope.ts"
import * as Bounds from "../transport/Bounds.ts"
import * as Transport from "../transport/Transport.ts"
import * as Door from "./Door.ts"
import * as Lobby from "./Lobby.ts"
import * as Loopback from "./Loopback.ts"
import * as WebSocketServer from "./WebSocketServer.ts"

/**
 * An HTTP server of Node.
 *
 * @category models
 * @since 0.1.0
 */
export type HttpServer = Http.Server | Https.Server

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The path below which clients connect; `"/moq"` by default, `"/"` for all upgrades of the server. What follows it is
   * the path of their URL: for a relay, the root of their session.
   */
  readonly path?: string | undefined
  /**
   * The origins (such as `https://example.com`) whose web pages may connect, or `["*"]` for all; by default the one that the
   * server is asked by: cookies go with every request, whichever page makes it. Clients that are no web pages send none,
   * and are let in.
   */
  readonly allowOrigin?: ReadonlyArray<string> | undefined
  /**
   * Whether a proxy in front of the server tells the address of the client, as the last one in `X-Forwarded-For`; `false`
   * by default.
   */
  readonly trustProxy?: boolean | undefined
  readonly limits?: Bounds.Limits | undefined
  /** How many clients may wait to be taken from `requests`; 64 by default. Others are refused with 503. */
  readonly waiting?: number | undefined
  /** How long a client waits to be taken, and once more for its answer, until it gets 503; 5 seconds by default. */
  readonly takeTimeout?: Duration.Input | undefined
}

/**
 * Takes WebSockets on an HTTP server of yours, until the scope closes. Your routes go on as before, and so does whoever
 * else takes upgrades.
 *
 * **Details**
 *
 * The server is yours: it may listen before or after, and TLS is your business. Clients connect to
 * `wss://example.com/moq` (an `https:` URL does as well), and to `ws:` only on their own machine. An upgrade below `path`
 * is seen by nobody else. All others go to your own listeners; when there are none, to your routes, as they would without
 * this.
 *
 * Closing the scope closes the connections that were made here with code 0, waits a second at most for peers to take
 * that, and leaves the server alone. Close it before the server: one that waits for its connections waits for these.
 *
 * **Gotchas**
 *
 * A path is taken once for each server: a second time is a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  server: HttpServer,
  options: Options = {}
): Effect.Effect<Transport.TransportServer, never, Scope.Scope> => inOwnScope(open(server, options))

/**
 * The server of {@link make} as a layer.
 *
 * **Example** (A relay beside the routes of an HTTP server)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { NodeTransport } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 * import { createServer } from "node:http"
 *
 * const server = createServer((_request, response) => response.end("a page"))
 *
 * const RelayLayer = Relay.layer().pipe(Layer.provide(NodeTransport.layerUpgrade(server)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (server: HttpServer, options?: Options): Layer.Layer<Transport.TransportServer> =>
  Layer.effect(Transport.TransportServer)(make(server, options))

// internal

const open: (
  server: HttpServer,
  options: Options
) => Effect.Effect<Transport.TransportServer, never, Scope.Scope> = Effect.fnUntraced(function*(server, options) {
  const prefix = `/${(options.path ?? "/moq").split("/").filter((part) => part !== "").join("/")}`
  // no more clients come, then those who wait are refused, then the sessions close
  const sessions = yield* Scope.fork(yield* Effect.scope, "parallel")
  const lobby = yield* Lobby.make({
    waiting: options.waiting ?? 64,
    takeTimeout: Bounds.millis(options.takeTimeout, 5_000),
    sessions
  })
  const upgrade = WebSocketServer.make({ lobby, limits: Bounds.resolve(options.limits) })
  const path: Path = { prefix, take: (request, socket, head) => admit(request, socket, head, prefix, options, upgrade) }
  yield* Effect.acquireRelease(
    Effect.sync(() => Upgrades.of(server).add(path)),
    () => Effect.sync(() => Upgrades.of(server).remove(path))
  )
  return {
    get urls() {
      return urlsOf(server, prefix)
    },
    transports: ["websocket"],
    unavailable: [],
    fingerprint: undefined,
    requests: lobby.requests
  }
})

type Listener = (request: Http.IncomingMessage, socket: Duplex, head: Buffer) => void

interface Path {
  readonly prefix: string
  readonly take: Listener
}

/**
 * The paths of a server below which upgrades are taken. Every listener hears of every upgrade, and many answer those that
 * they do not know. So the event itself is taken: listeners only get what is left.
 */
class Upgrades {
  static of(server: HttpServer): Upgrades {
    const found = all.get(server)
    if (found !== undefined) return found
    const upgrades = new Upgrades(server)
    all.set(server, upgrades)
    return upgrades
  }

  private readonly server: HttpServer
  // the deepest first
  private paths: ReadonlyArray<Path>
  // somebody may have put another one in its place since
  private restore: () => void
  private constructor(server: HttpServer) {
    this.server = server
    this.paths = []
    this.restore = () => {}
  }

  add(path: Path): void {
    if (this.paths.some(({ prefix }) => prefix === path.prefix)) {
      throw new RangeError(`the server takes upgrades at ${path.prefix} already`)
    }
    if (this.paths.length === 0) this.attach()
    this.paths = [...this.paths, path].sort((one, other) => other.prefix.length - one.prefix.length)
  }

  remove(path: Path): void {
    this.paths = this.paths.filter((other) => other !== path)
    if (this.paths.length === 0) this.detach()
  }

  private attach(): void {
    const { server } = this
    const own = Object.getOwnPropertyDescriptor(server, "emit")
    const { emit } = server
    const taking = (event: string, ...args: Array<unknown>): boolean => {
      if (event === "upgrade") {
        const [request, socket, head] = args as Parameters<Listener>
        const path = this.paths.find(({ prefix }) => isBelow(request.url?.split("?")[0] ?? "", prefix))
        if (path !== undefined) {
          path.take(request, socket, head)
          return true
        }
      }
      return Reflect.apply(emit, server, [event, ...args])
    }
    server.emit = taking
    // without a listener Node tells of no upgrade
    server.on("upgrade", this.pass)
    this.restore = () => {
      if (server.emit !== taking) return
      if (own === undefined) delete (server as { emit?: unknown }).emit
      else Object.defineProperty(server, "emit", own)
    }
  }

  private detach(): void {
    this.server.off("upgrade", this.pass)
    this.restore()
    all.delete(this.server)
  }

  // nobody else takes upgrades: then Node would have taken it for a request like any other
  private readonly pass: Listener = (request, socket) => {
    if (this.server.listenerCount("upgrade") > 1) return
    socket.on("error", ignore)
    if (request.method !== "GET" && request.method !== "HEAD") return Door.refuse(socket, 400, "no upgrade here")
    const response = new Http.ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket as Net.Socket)
    response.on("finish", () => socket.end())
    this.server.emit("request", request, response)
  }
}

const all = new WeakMap<HttpServer, Upgrades>()

const ignore = () => {}

const isBelow = (path: string, prefix: string): boolean =>
  prefix === "/" ? path.startsWith("/") : path === prefix || path.startsWith(`${prefix}/`)

const admit = (
  request: Http.IncomingMessage,
  socket: Duplex,
  head: Buffer,
  prefix: string,
  { allowOrigin, trustProxy }: Options,
  upgrade: (upgrade: Door.Upgrade) => void
): void => {
  socket.on("error", ignore)
  const { headers, method, socket: tcp } = request
  if (headers.upgrade?.toLowerCase() !== "websocket" || method !== "GET") {
    return Door.refuse(socket, 400, "only upgrades to WebSocket")
  }
  const url = Door.urlOf(request, tcp instanceof Tls.TLSSocket)
  // dots in it may lead elsewhere
  if (url === undefined || !isBelow(url.pathname, prefix)) return Door.refuse(socket, 400, "no proper Host and path")
  if (!allowsOrigin(headers.origin, url.host, allowOrigin)) {
    return Door.refuse(socket, 403, "this origin is not allowed")
  }
  if (prefix !== "/") url.pathname = url.pathname.slice(prefix.length)
  const received = Door.headersOf(request)
  const forwarded = trustProxy === true ? Loopback.forwarded(received.get("x-forwarded-for")) : undefined
  const peer = forwarded ?? Loopback.format(tcp.remoteAddress, tcp.remotePort)
  upgrade({ request, socket, head, tcp, url, headers: received, peer })
}

const allowsOrigin = (
  origin: string | undefined,
  host: string,
  allowed: ReadonlyArray<string> | undefined
): boolean => {
  if (origin === undefined) return true
  if (allowed !== undefined) return allowed.includes(origin) || allowed.includes("*")
  return URL.canParse(origin) && new URL(origin).host === host
}

// without TLS only clients on this machine connect
const urlsOf = (server: HttpServer, prefix: string): ReadonlyArray<string> => {
  const address = server.address()
  if (address === null || typeof address === "string") return []
  const isSecure = server instanceof Tls.Server
  const isAny = address.address === "::" || address.address === "0.0.0.0"
  if (!isSecure && !isAny && !Loopback.isLoopback(address.address)) return []
  const host = isAny ? "localhost" : Loopback.format(address.address, address.port)!.replace(/:\d+$/, "")
  return [`${isSecure ? "https" : "ws"}://${host}:${address.port}${prefix === "/" ? "" : prefix}`]
}
