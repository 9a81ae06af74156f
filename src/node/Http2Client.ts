/**
 * Connects to a relay over HTTP/2: dials, checks the certificate, asks for a session, and leaves the rest to
 * `Http2Session`.
 *
 * **Details**
 *
 * The connection is our own, and the package gets it when it is open: the package would connect by itself, but knows no
 * authorities, takes any certificate that the system trusts for a pinned one, and refuses a pinned one that is valid for
 * more than 14 days.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http2 from "node:http2"
import { Timeout, TransportError } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import type { Connection, ConnectOptions } from "../transport/Transport.ts"
import * as Dial from "./Dial.ts"
import * as FailsComponents from "./FailsComponents.ts"
import * as Http2Link from "./Http2Link.ts"
import * as Http2Session from "./Http2Session.ts"
import * as Loopback from "./Loopback.ts"

/**
 * Opens a connection to an `https:` URL.
 *
 * Fails with {@link TransportError} that says in words what is wrong, and with {@link Timeout} when everything together
 * takes longer than `timeout` (5 seconds by default).
 */
export const connect: (
  url: URL,
  options: ConnectOptions,
  limits: Bounds
) => Effect.Effect<Connection, TransportError | Timeout, Scope.Scope> = (url, options, limits) => {
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "5 seconds")
  return open(url, options, limits).pipe(
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () =>
        Effect.fail(new Timeout({ detail: `connecting to ${url.host} took over ${Duration.format(timeout)}` }))
    })
  )
}

// internal

const open: (
  url: URL,
  options: ConnectOptions,
  limits: Bounds
) => Effect.Effect<Connection, TransportError, Scope.Scope> = Effect.fnUntraced(function*(url, options, limits) {
  if (url.protocol !== "https:") {
    return yield* new TransportError({
      detail: `${url.protocol} URLs are not supported over HTTP/2; use https://${url.host}`
    })
  }
  const target = yield* Dial.target(url, true, options)
  const module = yield* FailsComponents.load
  const socket = yield* Dial.open(target, "h2")
  const wire = new Http2Link.Wire(socket, limits)
  const session = yield* upgrade(target, url, wire, limits)

  const { client } = module.WebTransport.prototype.createClient({
    host: target.host,
    port: target.port,
    forceReliable: true,
    ...Http2Link.options(limits)
  })
  const transport = client.args.createReliableClient()
  let status: number | undefined
  transport.clientInt = {
    remoteSettings: session.remoteSettings,
    // the headers of the package's own have an `authority` that is none, and an origin of this machine
    request: ({ ":method": method, ":path": path, ":protocol": protocol, ":scheme": scheme }) => {
      const stream = session.request({
        ":method": method as string,
        ":protocol": protocol as string,
        ":scheme": scheme as string,
        ":authority": url.host,
        ":path": path as string
      })
      stream.once("response", (headers) => {
        status = headers[":status"]
      })
      return stream
    }
  }
  const link = new Http2Link.Link(session, wire, limits)
  return yield* Effect.suspend(() => {
    let native: FailsComponents.NativeSession | undefined
    const visitor: FailsComponents.Visitor = {
      onHttpWTSessionVisitor: (visit) => {
        native = visit.session
      }
    }
    transport.jsobj = visitor
    transport.openWTSession(`${url.pathname}${url.search}`)
    const peer = Loopback.format(socket.remoteAddress, socket.remotePort)
    return Http2Session.make({ native: native!, role: "client", link, peer, limits })
  }).pipe(
    Effect.mapError(({ reason }) =>
      new TransportError({
        detail: status === undefined || status === 200
          ? `the session with ${target.name} could not be opened: ${reason}`
          : status === 404 || status === 405 || status === 406
          ? `${target.name} offers no WebTransport over HTTP/2 here (HTTP ${status})`
          : `${target.name} refused the connection (HTTP ${status})`
      })
    )
  )
})

// an HTTP/2 connection over the socket, whose other end has said that it takes sessions
const upgrade = (
  target: Dial.Target,
  url: URL,
  wire: Http2Link.Wire,
  limits: Bounds
): Effect.Effect<Http2.ClientHttp2Session, TransportError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const session = Http2.connect(`https://${url.host}`, {
        createConnection: () => wire,
        settings: { ...Http2Link.settings(limits), enablePush: false },
        remoteCustomSettings: Http2Link.remoteCustomSettings
      })
      session.on("error", () => {})
      return session
    }),
    (session) =>
      Effect.callback<void>((resume) => {
        if (wire.destroyed) return resume(Effect.void)
        const timer = setTimeout(() => wire.destroy(), 1000)
        wire.once("close", () => {
          clearTimeout(timer)
          resume(Effect.void)
        })
        // sends what is left, then ends the socket
        session.close()
      })
  ).pipe(Effect.tap((session) =>
    Effect.callback<void, TransportError>((resume) => {
      const fail = (detail: string) => resume(Effect.fail(new TransportError({ detail })))
      session.once("close", () => fail(`${target.name} closed the connection during the HTTP/2 handshake`))
      session.once("error", (error) => fail(`the HTTP/2 handshake with ${target.name} failed: ${error.message}`))
      session.once("remoteSettings", ({ enableConnectProtocol }) => {
        if (enableConnectProtocol !== true) return fail(`${target.name} offers no WebTransport over HTTP/2`)
        Http2Link.widen(session, limits)
        resume(Effect.void)
      })
    })
  ))
