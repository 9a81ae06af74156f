/**
 * Listens on TCP ports.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import { TransportError } from "../core/MoqError.ts"

/** What is listened on. */
export interface Bound {
  readonly port: number
  /** The IP addresses. */
  readonly addresses: ReadonlyArray<string>
  /** Addresses and names at which it is reached from this machine, the one to print first. */
  readonly names: ReadonlyArray<string>
}

/**
 * Listens until the scope closes; sockets live on. `host` is `"localhost"` for both loopbacks, an address or a name, or
 * `""` for all of the machine; port 0 is a free one. Fails with {@link TransportError} when that cannot be had.
 */
export const bind: (
  host: string,
  port: number,
  onSocket: (socket: Net.Socket) => void
) => Effect.Effect<Bound, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(host, port, onSocket) {
    if (host !== "localhost") {
      const bound = yield* listen(host === "" ? "::" : host, port, onSocket).pipe(
        Effect.catchIf((error) => host === "" && noIPv6.has(error.code), () => listen("0.0.0.0", port, onSocket)),
        Effect.mapError((error) => error.explained)
      )
      return { port: bound.port, addresses: [bound.address], names: [host === "" ? "127.0.0.1" : host] }
    }
    const outer = yield* Effect.scope
    // both loopbacks under one number; where it is ours to choose, one that is free on both
    for (let attempt = 0;; attempt++) {
      const scope = yield* Scope.fork(outer)
      const both = Effect.gen(function*() {
        const four = yield* listen("127.0.0.1", port, onSocket)
        const six = yield* listen("::1", four.port, onSocket).pipe(
          Effect.catchIf((error) => noIPv6.has(error.code), () => Effect.succeed(undefined))
        )
        const addresses = six === undefined ? [four.address] : [four.address, six.address]
        return { port: four.port, addresses, names: [...addresses, "localhost"] }
      })
      const bound = yield* Effect.result(Scope.provide(both, scope))
      if (Result.isSuccess(bound)) return bound.success
      yield* Scope.close(scope, Exit.void)
      if (port !== 0 || bound.failure.code !== "EADDRINUSE" || attempt === 9) return yield* bound.failure.explained
    }
  }
)

// internal

interface Listening {
  readonly address: string
  readonly port: number
}

const noIPv6 = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT", "EINVAL"])

interface ListenError {
  readonly code: string
  readonly explained: TransportError
}

const listen = (
  host: string,
  port: number,
  onSocket: (socket: Net.Socket) => void
): Effect.Effect<Listening, ListenError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Net.Server, ListenError>((resume) => {
      const server = Net.createServer({ noDelay: true }, onSocket)
      // stays: a client that cannot be accepted later, such as for want of file handles, must not end the process
      server.on("error", (error: NodeJS.ErrnoException) => {
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
    // this only stops new connections
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => server.address() as Net.AddressInfo))
