/**
 * The server side of Node's transports: one certificate, one lobby and one port number for all of them.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { X509Certificate } from "node:crypto"
import * as Net from "node:net"
import { TransportError } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import type { Bounds } from "../transport/Bounds.ts"
import type { TransportServer, Unavailable } from "../transport/Transport.ts"
import * as Available from "./Available.ts"
import * as Door from "./Door.ts"
import * as KeyRing from "./KeyRing.ts"
import * as Lobby from "./Lobby.ts"
import type * as Ports from "./Ports.ts"
import * as WebSocketServer from "./WebSocketServer.ts"

export interface Options {
  readonly port: number
  readonly host: string
  readonly tls: KeyRing.ServerCertificate
  readonly reload: Stream.Stream<unknown> | undefined
  /** How long HTTP/3 sessions live on after a change of the certificate, in milliseconds. */
  readonly renewGrace: number
  readonly transports: ReadonlyArray<Available.Name>
  readonly allowOrigin: ReadonlyArray<string> | undefined
  readonly trustProxy: boolean
  readonly limits: Bounds
  /** How many clients may wait to be taken. */
  readonly waiting: number
  /** How long a client waits to be taken, and then for an answer, in milliseconds. */
  readonly takeTimeout: number
}

/** What is there beside the transports. */
export interface Server extends TransportServer {
  readonly serveHttp: (handler: Door.HttpHandler) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * Closing the scope refuses who waits, closes every connection with code 0, and frees the port. What fails leaves nothing
 * behind, though the scope goes on.
 */
export const make = (options: Options): Effect.Effect<Server, TransportError, Scope.Scope> =>
  // which also closes one after the other, whatever the caller's scope does
  inOwnScope(open(options))

// internal

const open: (options: Options) => Effect.Effect<Server, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(options) {
    const { limits } = options
    const ring = yield* KeyRing.make(options.tls, options.reload)
    const http3 = yield* Effect.result(
      options.transports.includes("h3") ? Available.http3Server : new TransportError({})
    )
    const transports = options.transports.filter((name) => name !== "h3" || Result.isSuccess(http3))
    const unavailable: ReadonlyArray<Unavailable> = options.transports.includes("h3") && Result.isFailure(http3)
      ? [{ transport: "h3", reason: http3.failure.detail ?? "it cannot be loaded" }]
      : []
    if (transports.length === 0) {
      return yield* new TransportError({
        detail: unavailable.map(({ reason, transport }) => `${transport}: ${reason}`).join("; ") ||
          "a server needs a transport"
      })
    }

    // the lobby closes before sessions, sessions before the ports under them
    const outer = yield* Effect.scope
    const ports = yield* Scope.fork(outer)
    const sessions = yield* Scope.fork(outer, "parallel")
    const lobby = yield* Lobby.make({ waiting: options.waiting, takeTimeout: options.takeTimeout, sessions })

    const http2 = transports.includes("h2")
      ? yield* Effect.flatMap(
        Available.http2Server,
        ({ make }) => make({ lobby, ring, limits, trustProxy: options.trustProxy }).pipe(Scope.provide(ports))
      )
      : undefined
    const handlers: Array<Door.HttpHandler> = []
    const bind = Effect.fnUntraced(function*(port: number) {
      const bound = yield* Door.make({
        port,
        host: options.host,
        ring,
        allowOrigin: options.allowOrigin,
        trustProxy: options.trustProxy,
        handshakeTimeout: limits.handshakeTimeout,
        onRequest: () => handlers.at(-1),
        onUpgrade: transports.includes("websocket") ? WebSocketServer.make({ lobby, limits }) : undefined,
        onHttp2: http2?.take
      })
      if (Result.isSuccess(http3)) {
        const addresses = bound.addresses.map((host) => ({ host, port: bound.port }))
        yield* http3.success.make({ addresses, ring, lobby, renewGrace: options.renewGrace, limits })
      }
      return bound
    })
    const bound = yield* Scope.provide(sameNumber(options.port, bind), ports)
    return {
      urls: [...new Set([...namesOf(ring), ...bound.names])].map((host) =>
        `https://${Net.isIPv6(host) ? `[${host}]` : host}:${bound.port}`
      ),
      transports,
      unavailable,
      get fingerprint() {
        return ring.generated ? ring.currentUnsafe().fingerprint : undefined
      },
      requests: lobby.requests,
      serveHttp: (handler) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.sync(() => handlers.push(handler)),
          () => Effect.sync(() => handlers.splice(handlers.lastIndexOf(handler), 1))
        ))
    }
  }
)

// where the number is ours to choose, one that is free for TCP can be taken for UDP
const sameNumber: (
  port: number,
  bind: (port: number) => Effect.Effect<Ports.Bound, TransportError, Scope.Scope>
) => Effect.Effect<Ports.Bound, TransportError, Scope.Scope> = Effect.fnUntraced(function*(port, bind) {
  const outer = yield* Effect.scope
  for (let attempt = 0;; attempt++) {
    const scope = yield* Scope.fork(outer)
    const bound = yield* Effect.result(Scope.provide(bind(port), scope))
    if (Result.isSuccess(bound)) return bound.success
    yield* Scope.close(scope, Exit.void)
    if (port !== 0 || attempt === 4) return yield* bound.failure
  }
})

// the hosts for which a certificate of the user's is good; a generated one is pinned, so for it any address is
const namesOf = (ring: KeyRing.KeyRing): ReadonlyArray<string> => {
  if (ring.generated) return []
  const names = new X509Certificate(ring.currentUnsafe().cert).subjectAltName?.split(", ") ?? []
  return names.flatMap((name) => {
    const [kind, value = ""] = name.split(/:(.*)/)
    return (kind === "DNS" && !value.includes("*")) || kind === "IP Address" ? [value] : []
  })
}
