/**
 * One TCP port that takes WebSockets over TLS and, with a generated certificate, from this machine also without.
 *
 * **Details**
 *
 * The first byte of a connection tells TLS from plain HTTP, so a browser that does not trust a developer's certificate
 * uses the same port. Without TLS, loopback peers may upgrade (with a loopback `Host` and, where there is one, a
 * loopback
 * `Origin`: any web page can reach a loopback port); everybody may read `/certificate.sha256`, and nothing else.
 *
 * @since 0.1.0
 */
import { selectSubprotocol } from "@moq/qmux"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { X509Certificate } from "node:crypto"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Ws from "ws"
import { type SessionClosed, TransportError } from "../core/MoqError.ts"
import { alpn } from "../message/Profile.ts"
import type { Connection, Request, TransportServer } from "../transport/Transport.ts"
import * as Certificate from "./Certificate.ts"
import * as Loopback from "./Loopback.ts"
import * as Qmux from "./Qmux.ts"

/**
 * The server's certificate: one of the user's, or one generated for hosts (for development).
 *
 * @category models
 * @since 0.1.0
 */
export type ServerCertificate =
  | { readonly cert: string; readonly key: string }
  | { readonly generate: ReadonlyArray<string> }

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly port: number
  readonly host: string
  readonly tls: ServerCertificate
  readonly allowOrigin: ReadonlyArray<string> | undefined
  readonly limits: Qmux.Limits
  /** How many clients may wait to be taken. */
  readonly waiting: number
  /** How long a client waits to be taken, and then for an answer, in milliseconds. */
  readonly takeTimeout: number
}

/**
 * Binds the port. Fails with {@link TransportError} when it cannot be bound or the certificate is of no use.
 *
 * **Details**
 *
 * Closing the scope refuses who waits, closes every connection with code 0, and frees the port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (options: Options) => Effect.Effect<TransportServer, TransportError, Scope.Scope> = Effect
  .fnUntraced(
    function*(options) {
      const certificate = "generate" in options.tls
        ? yield* Certificate.generate({ hosts: options.tls.generate })
        : { ...options.tls, fingerprint: undefined }
      // sessions end before the sockets under them, and those before the ports
      const outer = yield* Effect.scope
      const ports = yield* Scope.fork(outer)
      const sessions = yield* Scope.fork(outer, "parallel")

      const requests = yield* Queue.dropping<Waiting, Cause.Done>(options.waiting)
      const door = yield* Effect.try({
        try: () => new Door(options, certificate, requests, sessions),
        catch: (error) =>
          new TransportError({
            detail: `certificate and key cannot be used: ${error instanceof Error ? error.message : error}`
          })
      })
      yield* Scope.addFinalizer(ports, Effect.callback((resume) => door.close(() => resume(Effect.void))))
      const addresses = yield* bind(options.host, options.port, door).pipe(Scope.provide(ports))
      yield* Scope.addFinalizer(
        outer,
        Effect.suspend(() => {
          Queue.endUnsafe(requests)
          door.turnAway()
          return Effect.void
        })
      )
      const port = addresses[0]!.port
      return {
        urls: [...new Set([...namesOf(certificate), ...addresses.map((address) => address.host)])].map((host) =>
          `https://${Net.isIPv6(host) ? `[${host}]` : host}:${port}`
        ),
        transports: ["websocket"],
        unavailable: [],
        fingerprint: certificate.fingerprint,
        requests: Stream.fromPull(Effect.succeed(Effect.map(take(requests), (request) => [request] as const)))
      }
    }
  )

// internal

interface Keys {
  readonly cert: string
  readonly key: string
  /** Only of a generated certificate. */
  readonly fingerprint: string | undefined
}

const take = (requests: Queue.Dequeue<Waiting, Cause.Done>): Effect.Effect<Request, Cause.Done> =>
  Effect.flatMap(Queue.take(requests), (waiting) => waiting.take() ? Effect.succeed(waiting) : take(requests))

// the hosts for which a certificate of the user's is good; a generated one is pinned, so for it any address is
const namesOf = (certificate: Keys): ReadonlyArray<string> => {
  if (certificate.fingerprint !== undefined) return []
  const names = new X509Certificate(certificate.cert).subjectAltName?.split(", ") ?? []
  return names.flatMap((name) => {
    const [kind, value = ""] = name.split(/:(.*)/)
    return (kind === "DNS" && !value.includes("*")) || kind === "IP Address" ? [value] : []
  })
}

interface Address {
  readonly host: string
  readonly port: number
}

const bind: (
  host: string,
  port: number,
  door: Door
) => Effect.Effect<ReadonlyArray<Address>, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(host, port, door) {
    if (host !== "localhost") {
      const bound = yield* listen(host === "" ? "::" : host, port, door).pipe(
        Effect.catchIf((error) => host === "" && noIPv6.has(error.code), () => listen("0.0.0.0", port, door)),
        Effect.mapError((error) => error.explained)
      )
      return host === "" ? [{ host: "127.0.0.1", port: bound.port }] : [{ host, port: bound.port }]
    }
    const outer = yield* Effect.scope
    // both loopbacks under one number; where it is ours to choose, one that is free on both
    for (let attempt = 0;; attempt++) {
      const scope = yield* Scope.fork(outer)
      const both = Effect.gen(function*() {
        const four = yield* listen("127.0.0.1", port, door)
        const six = yield* listen("::1", four.port, door).pipe(
          Effect.catchIf((error) => noIPv6.has(error.code), () => Effect.succeed(undefined))
        )
        return [
          { host: "127.0.0.1", port: four.port },
          ...(six === undefined ? [] : [{ host: "::1", port: six.port }]),
          { host: "localhost", port: four.port }
        ]
      })
      const bound = yield* Effect.result(Scope.provide(both, scope))
      if (Result.isSuccess(bound)) return bound.success
      yield* Scope.close(scope, Exit.void)
      if (port !== 0 || bound.failure.code !== "EADDRINUSE" || attempt === 9) return yield* bound.failure.explained
    }
  }
)

const noIPv6 = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT", "EINVAL"])

interface ListenError {
  readonly code: string
  readonly explained: TransportError
}

const listen = (host: string, port: number, door: Door): Effect.Effect<Address, ListenError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Net.Server, ListenError>((resume) => {
      const server = Net.createServer({ noDelay: true }, door.enter)
      server.once("error", (error: NodeJS.ErrnoException) => {
        const code = error.code ?? ""
        const where = Net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
        const detail = code === "EADDRINUSE"
          ? `${where} is in use`
          : code === "EACCES"
          ? `${where} needs more rights`
          : code === "EADDRNOTAVAIL" || code === "ENOTFOUND"
          ? `${host} is not an address of this machine`
          : `${where} cannot be bound: ${error.message}`
        resume(Effect.fail({ code, explained: new TransportError({ detail }) }))
      })
      server.listen({ host, port, ipv6Only: host === "::1" }, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        // connections are the door's; this only stops new ones
        server.close()
        resume(Effect.void)
      })
  ).pipe(Effect.map((server) => ({ host, port: (server.address() as Net.AddressInfo).port })))

// Everything behind the bound ports: tells TLS from plain, answers HTTP, and lets clients wait for their answer.
class Door {
  private readonly options: Options
  private readonly fingerprint: string | undefined
  private readonly requests: Queue.Queue<Waiting, Cause.Done>
  private readonly sessions: Scope.Scope
  private readonly plain: Http.Server
  private readonly secure: Https.Server
  private readonly upgrader: Ws.WebSocketServer
  // every TCP connection, by its addresses, with the deadline of its handshake
  private readonly sockets: Map<string, Entry>
  private readonly waiting: Set<Waiting>
  private closed: (() => void) | undefined

  constructor(options: Options, keys: Keys, requests: Queue.Queue<Waiting, Cause.Done>, sessions: Scope.Scope) {
    this.options = options
    this.fingerprint = keys.fingerprint
    this.requests = requests
    this.sessions = sessions
    this.sockets = new Map()
    this.waiting = new Set()
    this.closed = undefined
    this.plain = Http.createServer()
    this.secure = Https.createServer({
      cert: keys.cert,
      key: keys.key,
      handshakeTimeout: options.limits.handshakeTimeout,
      ALPNProtocols: ["http/1.1"]
    })
    this.upgrader = new Ws.WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: Qmux.maxPayload,
      handleProtocols: (offered) => choose([...offered].join(",")) ?? false,
      ...{ closeTimeout: 1000 }
    })
    this.plain.on("request", (request, response) => this.answer(request, response, false))
    this.secure.on("request", (request, response) => this.answer(request, response, true))
    this.plain.on("upgrade", (request, socket, head) => this.upgrade(request, socket, head, false))
    this.secure.on("upgrade", (request, socket, head) => this.upgrade(request, socket, head, true))
  }

  /** Takes a TCP connection. */
  readonly enter = (socket: Net.Socket): void => {
    if (this.closed !== undefined) return void socket.destroy()
    const key = keyOf(socket)
    const entry: Entry = {
      socket,
      // from here to the upgrade; a client that waits for its answer has another one, and so has QMux's handshake
      deadline: setTimeout(() => socket.destroy(), this.options.limits.handshakeTimeout)
    }
    this.sockets.set(key, entry)
    socket.on("error", ignore)
    socket.on("close", () => {
      clearTimeout(entry.deadline)
      if (this.sockets.get(key) === entry) this.sockets.delete(key)
      if (this.sockets.size === 0) this.closed?.()
    })
    const look = () => {
      const first = socket.read(1) as Buffer | null
      if (first === null) return
      socket.off("readable", look)
      socket.unshift(first)
      const server = first[0] === tlsHandshake ? this.secure : this.plain
      server.emit("connection", socket)
    }
    socket.on("readable", look)
  }

  /** Refuses everybody who waits. */
  turnAway(): void {
    for (const waiting of this.waiting) waiting.refuseUnsafe(503)
  }

  /** Ends every connection, and calls back when the last one has gone. */
  close(done: () => void): void {
    this.closed = done
    if (this.sockets.size === 0) return done()
    for (const { socket } of this.sockets.values()) socket.destroy()
  }

  private answer(request: Http.IncomingMessage, response: Http.ServerResponse, secure: boolean): void {
    response.setHeader("connection", "close")
    response.setHeader("content-type", "text/plain; charset=utf-8")
    const say = (status: number, text: string) => {
      response.statusCode = status
      response.end(request.method === "HEAD" ? undefined : `${text}\n`)
    }
    const path = request.url?.split("?")[0] ?? ""
    if (this.fingerprint !== undefined && (path === "/certificate.sha256" || path === "/fingerprint")) {
      response.setHeader("access-control-allow-origin", "*")
      response.setHeader("cache-control", "no-store")
      if (request.method === "GET" || request.method === "HEAD") return say(200, this.fingerprint)
      return say(405, "only GET")
    }
    if (!secure && !this.trustsPlain(request)) return say(403, "this port speaks TLS: use https")
    say(404, "here is a relay of MoQ Transfork: connect with a client of it")
  }

  private upgrade(request: Http.IncomingMessage, socket: Duplex, head: Buffer, secure: boolean): void {
    socket.on("error", ignore)
    const tcp = request.socket
    const entry = this.sockets.get(keyOf(tcp))
    if (entry === undefined) return void socket.destroy()
    clearTimeout(entry.deadline)
    const { headers } = request
    if (!secure && !this.trustsPlain(request)) return refuse(socket, 403, "this port speaks TLS: use wss")
    if (secure && !this.allowsOrigin(headers.origin)) return refuse(socket, 403, "this origin is not allowed")
    if (headers.upgrade?.toLowerCase() !== "websocket" || request.method !== "GET") {
      return refuse(socket, 400, "only upgrades to WebSocket")
    }
    const protocol = choose(headers["sec-websocket-protocol"])
    if (protocol === undefined) {
      return refuse(socket, 400, `offer one of the subprotocols ${Qmux.subprotocols.join(", ")}`)
    }
    const url = urlOf(request, secure)
    if (url === undefined) return refuse(socket, 400, "no proper Host and path")
    const waiting: Waiting = new Waiting({
      url,
      headers: headersOf(request),
      peer: Loopback.format(tcp.remoteAddress, tcp.remotePort),
      timeout: this.options.takeTimeout,
      onSettled: () => this.waiting.delete(waiting),
      onRefused: (status) => refuse(socket, status, "refused"),
      accept: Effect.suspend(() => {
        let upgraded: Ws.WebSocket | undefined
        this.upgrader.handleUpgrade(request, socket, head, (webSocket) => {
          upgraded = webSocket
        })
        return upgraded === undefined
          ? Effect.fail(new TransportError({ detail: "the client left, or its WebSocket handshake is malformed" }))
          : Qmux.make({
            webSocket: upgraded,
            socket: tcp,
            role: "server",
            protocol,
            peer: waiting.peer,
            limits: this.options.limits
          })
      }),
      sessions: this.sessions
    })
    this.waiting.add(waiting)
    if (!Queue.offerUnsafe(this.requests, waiting)) waiting.refuseUnsafe(503)
  }

  private trustsPlain(request: Http.IncomingMessage): boolean {
    const { host, origin } = request.headers
    return this.fingerprint !== undefined &&
      Loopback.isLoopback(request.socket.remoteAddress) &&
      isLoopbackUrl(`http://${host ?? ""}`) &&
      (origin === undefined || isLoopbackUrl(origin))
  }

  private allowsOrigin(origin: string | undefined): boolean {
    const { allowOrigin } = this.options
    return allowOrigin === undefined || origin === undefined || allowOrigin.includes(origin)
  }
}

interface Entry {
  readonly socket: Net.Socket
  readonly deadline: NodeJS.Timeout
}

// the first byte of a TLS record that carries a handshake
const tlsHandshake = 0x16

const ignore = () => {}

const keyOf = (socket: Net.Socket): string =>
  `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`

const choose = (offered: string | undefined): string | undefined =>
  selectSubprotocol(offered, {
    protocols: [alpn],
    versions: { [alpn]: [...Qmux.versions] },
    requireProtocol: true
  })

const isLoopbackUrl = (text: string): boolean => URL.canParse(text) && Loopback.isLoopbackName(new URL(text).hostname)

const urlOf = (request: Http.IncomingMessage, secure: boolean): URL | undefined => {
  const { host } = request.headers
  const path = request.url ?? ""
  if (host === undefined || !/^[^/\\?#@\s]+$/.test(host) || !path.startsWith("/")) return undefined
  const text = `${secure ? "https" : "http"}://${host}${path}`
  return URL.canParse(text) ? new URL(text) : undefined
}

const headersOf = (request: Http.IncomingMessage): ReadonlyMap<string, string> => {
  const headers = new Map<string, string>()
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value)
  }
  return headers
}

const refuse = (socket: Duplex, status: number, text: string): void => {
  const body = `${text}\n`
  socket.end(
    `HTTP/1.1 ${status} ${Http.STATUS_CODES[status] ?? "Refused"}\r\n` +
      "connection: close\r\ncontent-type: text/plain; charset=utf-8\r\n" +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    // what it still sends is of no interest, and must not keep the connection open
    () => socket.destroy()
  )
}

// A client that has asked for an upgrade and waits for the answer.
class Waiting implements Request {
  readonly url: URL
  readonly headers: ReadonlyMap<string, string>
  readonly peer: string | undefined
  readonly transport: "websocket"
  readonly accept: Effect.Effect<Connection, SessionClosed | TransportError, Scope.Scope>
  readonly refuse: (status: number) => Effect.Effect<void>
  private settled: boolean
  private timer: NodeJS.Timeout
  private readonly timeout: number
  private readonly onSettled: () => void
  private readonly onRefused: (status: number) => void

  constructor(options: {
    readonly url: URL
    readonly headers: ReadonlyMap<string, string>
    readonly peer: string | undefined
    readonly timeout: number
    readonly onSettled: () => void
    readonly onRefused: (status: number) => void
    readonly accept: Effect.Effect<Connection, SessionClosed | TransportError, Scope.Scope>
    readonly sessions: Scope.Scope
  }) {
    this.url = options.url
    this.headers = options.headers
    this.peer = options.peer
    this.transport = "websocket"
    this.settled = false
    this.timeout = options.timeout
    this.onSettled = options.onSettled
    this.onRefused = options.onRefused
    this.timer = this.deadline()
    this.accept = Effect.suspend(() => this.settle() ? within(options.sessions, options.accept) : answered)
    this.refuse = (status) => Effect.sync(() => this.refuseUnsafe(status))
  }

  /** Whether it still waits; from now on it waits for an answer. */
  take(): boolean {
    if (this.settled) return false
    clearTimeout(this.timer)
    this.timer = this.deadline()
    return true
  }

  refuseUnsafe(status: number): void {
    if (this.settle()) this.onRefused(status)
  }

  private deadline(): NodeJS.Timeout {
    return setTimeout(() => this.refuseUnsafe(503), this.timeout)
  }

  private settle(): boolean {
    if (this.settled) return false
    this.settled = true
    clearTimeout(this.timer)
    this.onSettled()
    return true
  }
}

const answered = Effect.fail(new TransportError({ detail: "the client has had its answer, or waited too long" }))

// the connection ends with the caller's scope, or with the server's, whichever closes first
const within = <E>(
  server: Scope.Scope,
  connect: Effect.Effect<Connection, E, Scope.Scope>
): Effect.Effect<Connection, E, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const own = yield* Scope.fork(server)
      yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
      return yield* restore(Scope.provide(connect, own))
    })
  )
