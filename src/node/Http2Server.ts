/**
 * The server side of WebTransport over HTTP/2: takes sockets that chose it, and lets who asks for a session wait.
 *
 * **Details**
 *
 * The package's own server never runs: it would bind a port of its own, and speak WebSocket too. Only its part that
 * answers a request is used.
 *
 * One connection carries one session at a time. Whoever asks for something else is told to come by HTTP/1.1, which is
 * what browsers and `curl` then do: so WebSockets and the fingerprint of a certificate have one answer, that of the
 * HTTP/1.1 server.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http2 from "node:http2"
import type * as Tls from "node:tls"
import { type SessionClosed, TransportError } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import type { Connection } from "../transport/Transport.ts"
import * as FailsComponents from "./FailsComponents.ts"
import * as Http2Link from "./Http2Link.ts"
import * as Http2Session from "./Http2Session.ts"
import type { KeyRing } from "./KeyRing.ts"
import type { Lobby } from "./Lobby.ts"
import * as Loopback from "./Loopback.ts"

/** Takes sockets whose TLS handshake is done and chose `h2`. */
export interface Http2Server {
  readonly take: (socket: Tls.TLSSocket) => void
}

/**
 * Makes the server. Sessions end with the lobby's scope for them, and sockets belong to whoever brings them. Fails with
 * {@link TransportError} when the package cannot be loaded.
 */
export const make: (options: {
  readonly lobby: Lobby
  readonly ring: KeyRing
  readonly limits: Bounds
  readonly trustProxy: boolean
}) => Effect.Effect<Http2Server, TransportError> = Effect.fnUntraced(
  function*({ limits, lobby, ring, trustProxy }) {
    const module = yield* FailsComponents.load
    const { cert, key } = ring.currentUnsafe()
    // it makes a TLS server, which is never used
    const server = new module.Http2Server({
      host: "127.0.0.1",
      port: 0,
      secret: "unused",
      cert,
      privKey: key,
      ...Http2Link.options(limits)
    })
    yield* Effect.tryPromise({
      try: () => server.createTransportInt(),
      catch: (error) => new TransportError({ detail: `HTTP/2 cannot be served: ${error}` })
    })
    return new Server(server.transportInt, lobby, limits, trustProxy)
  }
)

// internal

class Server implements Http2Server {
  private readonly transport: FailsComponents.ServerTransport
  private readonly lobby: Lobby
  private readonly limits: Bounds
  private readonly trustProxy: boolean
  private readonly http: Http2.Http2Server
  private readonly guests = new Map<Http2.Http2Session, Guest>()

  constructor(transport: FailsComponents.ServerTransport, lobby: Lobby, limits: Bounds, trustProxy: boolean) {
    this.transport = transport
    this.lobby = lobby
    this.limits = limits
    this.trustProxy = trustProxy
    this.http = Http2.createServer({
      settings: { ...Http2Link.settings(limits), maxConcurrentStreams: 1 },
      remoteCustomSettings: Http2Link.remoteCustomSettings
    })
    this.http.on("stream", this.onStream)
  }

  readonly take = (socket: Tls.TLSSocket): void => {
    const wire = new Http2Link.Wire(socket, this.limits)
    const onSession = (session: Http2.ServerHttp2Session) => {
      this.guests.set(session, new Guest(session, wire, this.limits))
      session.once("close", () => this.guests.delete(session))
    }
    this.http.once("session", onSession)
    this.http.emit("connection", wire)
    this.http.off("session", onSession)
  }

  private readonly onStream = (stream: Http2.ServerHttp2Stream, headers: Http2.IncomingHttpHeaders): void => {
    stream.on("error", ignore)
    if (headers[":method"] !== "CONNECT" || headers[":protocol"] !== "webtransport") {
      return stream.close(Http2.constants.NGHTTP2_HTTP_1_1_REQUIRED)
    }
    const guest = this.guests.get(stream.session!)!
    guest.enter(stream)
    const url = urlOf(headers)
    if (url === undefined) return refuse(stream, 400)
    const received = headersOf(headers)
    const forwarded = this.trustProxy ? Loopback.forwarded(received.get("x-forwarded-for")) : undefined
    const place = this.lobby.admit({
      url,
      headers: received,
      peer: forwarded ?? guest.peer,
      transport: "h2",
      accept: Effect.suspend(() => this.accept(guest, stream, headers)),
      refuse: (status) => refuse(stream, status)
    })
    stream.once("close", place.leave)
  }

  private accept(
    { link, peer }: Guest,
    stream: Http2.ServerHttp2Stream,
    headers: Http2.IncomingHttpHeaders
  ): Effect.Effect<Connection, SessionClosed | TransportError, Scope.Scope> {
    if (stream.destroyed) return Effect.fail(new TransportError({ detail: "the client left" }))
    let native: FailsComponents.NativeSession | undefined
    const visitor: FailsComponents.Visitor = {
      onHttpWTSessionVisitor: (visit) => {
        native = visit.session
      }
    }
    this.transport.jsobj = visitor
    this.transport.finishSessionRequest({
      session: stream,
      header: headers,
      path: headers[":path"]!,
      status: 200,
      protocol: "capsule"
    })
    Http2Link.widen(link.session, this.limits)
    return Http2Session.make({ native: native!, role: "server", link, peer, limits: this.limits })
  }
}

// Who has come by a connection, and has to ask for a session soon, and again when that has ended.
class Guest {
  readonly link: Http2Link.Link
  readonly peer: string | undefined
  private readonly patience: number
  private deadline: NodeJS.Timeout | undefined
  private streams = 0

  constructor(session: Http2.Http2Session, wire: Http2Link.Wire, limits: Bounds) {
    this.link = new Http2Link.Link(session, wire, limits)
    this.peer = Loopback.format(wire.socket.remoteAddress, wire.socket.remotePort)
    this.patience = limits.handshakeTimeout
    session.once("close", () => clearTimeout(this.deadline))
    this.wait()
  }

  enter(stream: Http2.ServerHttp2Stream): void {
    clearTimeout(this.deadline)
    this.streams++
    stream.once("close", () => {
      if (--this.streams === 0) this.wait()
    })
  }

  private wait(): void {
    if (this.link.session.destroyed) return
    this.deadline = setTimeout(() => this.link.fail("it asked for no session in time"), this.patience)
  }
}

const ignore = () => {}

const refuse = (stream: Http2.ServerHttp2Stream, status: number): void => {
  if (stream.destroyed || stream.closed) return
  stream.respond({ ":status": status }, { endStream: true })
  // what it still sends is of no interest
  stream.close()
}

const urlOf = (headers: Http2.IncomingHttpHeaders): URL | undefined => {
  const { ":authority": authority = "", ":path": path = "" } = headers
  if (!/^[^/\\?#@\s]+$/.test(authority) || !path.startsWith("/")) return undefined
  const text = `https://${authority}${path}`
  return URL.canParse(text) ? new URL(text) : undefined
}

const headersOf = (headers: Http2.IncomingHttpHeaders): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":")) continue
    found.set(name, Array.isArray(value) ? value.join(", ") : value)
  }
  return found
}
