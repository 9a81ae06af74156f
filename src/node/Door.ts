/**
 * One TCP port for TLS and, with a generated certificate, from this machine also for plain HTTP.
 *
 * **Details**
 *
 * The first byte of a connection tells TLS from plain HTTP, so a browser that does not trust a developer's certificate
 * uses the same port. Without TLS, loopback peers may upgrade (with a loopback `Host` and, where there is one, a loopback
 * `Origin`: any web page can reach a loopback port); everybody may read `/certificate.sha256`, and nothing else. Behind a
 * proxy nobody counts as loopback. Over TLS, clients choose between HTTP/1.1 and HTTP/2 (ALPN).
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { TransportError } from "../core/MoqError.ts"
import type * as Certificate from "./Certificate.ts"
import type { KeyRing } from "./KeyRing.ts"
import * as Loopback from "./Loopback.ts"
import * as Ports from "./Ports.ts"

/**
 * Who asks for something by HTTP, and for what.
 *
 * @category models
 * @since 0.1.0
 */
export interface Visit {
  readonly url: URL
  readonly headers: ReadonlyMap<string, string>
  /** The client's address: behind a proxy that is trusted, what that says. */
  readonly peer: string | undefined
}

/**
 * Answers a request by HTTP; a `RequestListener` of Node is one. Each connection is for one request.
 *
 * @category models
 * @since 0.1.0
 */
export type HttpHandler = (request: Http.IncomingMessage, response: Http.ServerResponse, visit: Visit) => void

/** A client that asks for a WebSocket, and may. */
export interface Upgrade extends Visit {
  readonly request: Http.IncomingMessage
  readonly socket: Duplex
  readonly head: Buffer
  /** The socket that bytes really go through: with TLS, its own. */
  readonly tcp: Net.Socket
}

export interface Options {
  readonly port: number
  readonly host: string
  readonly ring: KeyRing
  readonly allowOrigin: ReadonlyArray<string> | undefined
  /** A proxy brings all clients, and tells their addresses. */
  readonly trustProxy: boolean
  /** How long a client may take until it has asked for something, in milliseconds. */
  readonly handshakeTimeout: number
  /** Answers the requests by HTTP that are not for the certificate, if anybody does now. */
  readonly onRequest: () => HttpHandler | undefined
  /** Takes clients that ask for a WebSocket. */
  readonly onUpgrade?: ((upgrade: Upgrade) => void) | undefined
  /** Takes clients that chose HTTP/2. */
  readonly onHttp2?: ((socket: Tls.TLSSocket) => void) | undefined
}

/**
 * Binds the port; closing the scope frees it, and ends every connection. Fails with {@link TransportError} when it cannot
 * be bound or the certificate is of no use.
 */
export const make: (options: Options) => Effect.Effect<Ports.Bound, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(options) {
    const { ring } = options
    const door = yield* Effect.try({
      try: () => new Door(options, ring.currentUnsafe()),
      catch: (error) =>
        new TransportError({
          detail: `certificate and key cannot be used: ${error instanceof Error ? error.message : error}`
        })
    })
    yield* Effect.addFinalizer(() => Effect.callback<void>((resume) => door.close(() => resume(Effect.void))))
    yield* Effect.forkScoped(
      Stream.runForEach(ring.changes, (keys) =>
        Effect.try({ try: () => door.show(keys), catch: String }).pipe(
          Effect.catch((error) => Effect.logWarning(`the new certificate cannot be shown: ${error}`))
        )),
      { startImmediately: true }
    )
    return yield* Ports.bind(options.host, options.port, door.enter)
  }
)

// internal

// Everything behind the bound ports.
class Door {
  private readonly options: Options
  private readonly plain: Http.Server
  private readonly secure: Http.Server
  private readonly tls: Tls.Server
  // every TCP connection, by its addresses, with the deadline of its handshake
  private readonly sockets: Map<string, Entry>
  // those that have asked for nothing yet, the oldest first
  private readonly entering: Set<Entry>
  private closed: (() => void) | undefined

  constructor(options: Options, keys: Certificate.Certificate) {
    this.options = options
    this.sockets = new Map()
    this.entering = new Set()
    this.closed = undefined
    this.plain = Http.createServer()
    this.secure = Http.createServer()
    const { onHttp2 } = options
    this.tls = Tls.createServer({
      cert: keys.cert,
      key: keys.key,
      handshakeTimeout: options.handshakeTimeout,
      ALPNProtocols: onHttp2 === undefined ? ["http/1.1"] : ["h2", "http/1.1"]
    }, (socket) => {
      if (onHttp2 === undefined || socket.alpnProtocol !== "h2") return void this.secure.emit("connection", socket)
      this.entered(socket)
      onHttp2(socket)
    })
    // a handshake that fails ends its own socket
    this.tls.on("tlsClientError", ignore)
    this.plain.on("request", (request, response) => this.answer(request, response, false))
    this.secure.on("request", (request, response) => this.answer(request, response, true))
    this.plain.on("upgrade", (request, socket, head) => this.upgrade(request, socket, head, false))
    this.secure.on("upgrade", (request, socket, head) => this.upgrade(request, socket, head, true))
  }

  /** Shows another certificate from now on. Throws when its key does not fit. */
  show(keys: Certificate.Certificate): void {
    this.tls.setSecureContext({ cert: keys.cert, key: keys.key })
  }

  /** Takes a TCP connection. */
  readonly enter = (socket: Net.Socket): void => {
    if (this.closed !== undefined) return void socket.destroy()
    const key = keyOf(socket)
    const entry: Entry = {
      socket,
      // from here to the upgrade; a client that waits for its answer has another one, and so has QMux's handshake
      deadline: setTimeout(() => socket.destroy(), this.options.handshakeTimeout)
    }
    this.sockets.set(key, entry)
    this.entering.add(entry)
    socket.on("error", ignore)
    socket.on("close", () => {
      clearTimeout(entry.deadline)
      this.entering.delete(entry)
      if (this.sockets.get(key) === entry) this.sockets.delete(key)
      if (this.sockets.size === 0) this.closed?.()
    })
    const look = () => {
      const first = socket.read(1) as Buffer | null
      if (first === null) return
      socket.off("readable", look)
      socket.unshift(first)
      const server = first[0] === tlsHandshake ? this.tls : this.plain
      server.emit("connection", socket)
    }
    socket.on("readable", look)
    // those who mean it are done long before they are the oldest
    const [oldest] = this.entering
    if (this.entering.size > maxEntering) oldest!.socket.destroy()
  }

  // has asked for something: whoever answers sets deadlines from now on
  private entered(socket: Net.Socket): boolean {
    const entry = this.sockets.get(keyOf(socket))
    if (entry === undefined) return false
    clearTimeout(entry.deadline)
    this.entering.delete(entry)
    return true
  }

  /** Ends every connection, and calls back when the last one has gone. */
  close(done: () => void): void {
    this.closed = done
    if (this.sockets.size === 0) return done()
    for (const { socket } of this.sockets.values()) socket.destroy()
  }

  private answer(request: Http.IncomingMessage, response: Http.ServerResponse, secure: boolean): void {
    // a connection for each request: so that everything which is open has a deadline, or somebody who answers it
    response.setHeader("connection", "close")
    const say = (status: number, text: string) => {
      response.statusCode = status
      response.setHeader("content-type", "text/plain; charset=utf-8")
      response.end(request.method === "HEAD" ? undefined : `${text}\n`)
    }
    const path = request.url?.split("?")[0] ?? ""
    const { onRequest, ring } = this.options
    if (ring.generated && (path === "/certificate.sha256" || path === "/fingerprint")) {
      response.setHeader("access-control-allow-origin", "*")
      response.setHeader("cache-control", "no-store")
      if (request.method === "GET" || request.method === "HEAD") return say(200, ring.currentUnsafe().fingerprint)
      return say(405, "only GET")
    }
    if (!secure && !this.trustsPlain(request)) return say(403, "this port speaks TLS: use https")
    const handler = onRequest()
    if (handler === undefined) return say(404, "here is a relay of MoQ Transfork: connect with a client of it")
    const visit = visitOf(request, secure, this.options.trustProxy)
    if (visit === undefined) return say(400, "no proper Host and path")
    this.entered(request.socket)
    handler(request, response, visit)
  }

  private upgrade(request: Http.IncomingMessage, socket: Duplex, head: Buffer, secure: boolean): void {
    socket.on("error", ignore)
    const tcp = request.socket
    if (!this.entered(tcp)) return void socket.destroy()
    const { headers } = request
    if (!secure && !this.trustsPlain(request)) return refuse(socket, 403, "this port speaks TLS: use wss")
    if (secure && !this.allowsOrigin(headers.origin)) return refuse(socket, 403, "this origin is not allowed")
    if (headers.upgrade?.toLowerCase() !== "websocket" || request.method !== "GET") {
      return refuse(socket, 400, "only upgrades to WebSocket")
    }
    const visit = visitOf(request, secure, this.options.trustProxy)
    if (visit === undefined) return refuse(socket, 400, "no proper Host and path")
    const { onUpgrade } = this.options
    if (onUpgrade === undefined) return refuse(socket, 404, "no WebSocket here")
    onUpgrade({ request, socket, head, tcp, ...visit })
  }

  private trustsPlain(request: Http.IncomingMessage): boolean {
    const { host, origin } = request.headers
    return this.options.ring.generated &&
      // a proxy of this machine brings whoever it likes
      !this.options.trustProxy &&
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

// How many connections may be on their way in at a time. One more, and the oldest goes: a crowd that never goes on does not
// keep others out, nor take all file descriptors.
const maxEntering = 512

// the first byte of a TLS record that carries a handshake
const tlsHandshake = 0x16

const ignore = () => {}

const keyOf = (socket: Net.Socket): string =>
  `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`

const isLoopbackUrl = (text: string): boolean => URL.canParse(text) && Loopback.isLoopbackName(new URL(text).hostname)

/**
 * What a client asks for, unless its Host or path is malformed.
 *
 * @internal
 */
export const urlOf = (request: Http.IncomingMessage, secure: boolean): URL | undefined => {
  const { host } = request.headers
  const path = request.url ?? ""
  if (host === undefined || !/^[^/\\?#@\s]+$/.test(host) || !path.startsWith("/")) return undefined
  const text = `${secure ? "https" : "http"}://${host}${path}`
  return URL.canParse(text) ? new URL(text) : undefined
}

const visitOf = (request: Http.IncomingMessage, secure: boolean, trustProxy: boolean): Visit | undefined => {
  const url = urlOf(request, secure)
  if (url === undefined) return undefined
  const headers = headersOf(request)
  const forwarded = trustProxy ? Loopback.forwarded(headers.get("x-forwarded-for")) : undefined
  const { remoteAddress, remotePort } = request.socket
  return { url, headers, peer: forwarded ?? Loopback.format(remoteAddress, remotePort) }
}

/** @internal */
export const headersOf = (request: Http.IncomingMessage): ReadonlyMap<string, string> => {
  const headers = new Map<string, string>()
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value)
  }
  return headers
}

/**
 * Answers an upgrade with an HTTP status, and ends the connection.
 *
 * @internal
 */
export const refuse = (socket: Duplex, status: number, text: string): void => {
  const body = `${text}\n`
  socket.end(
    `HTTP/1.1 ${status} ${Http.STATUS_CODES[status] ?? "Refused"}\r\n` +
      "connection: close\r\ncontent-type: text/plain; charset=utf-8\r\n" +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    // what it still sends is of no interest, and must not keep the connection open
    () => socket.destroy()
  )
}
