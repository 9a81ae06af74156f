/**
 * Servers and clients of native HTTP/3, and a network between them that can be cut and narrowed.
 */
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import * as Dgram from "node:dgram"
import type { AddressInfo } from "node:net"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as Http3Client from "../../src/node/Http3Client.ts"
import * as Http3Server from "../../src/node/Http3Server.ts"
import * as KeyRing from "../../src/node/KeyRing.ts"
import * as Lobby from "../../src/node/Lobby.ts"
import type { Connection, ConnectOptions, Request, TransportServer } from "../../src/transport/Transport.ts"

/** A UDP socket on a port of its own. Without `onMessage` it never answers. */
export const socket = (onMessage: (message: Buffer, from: Dgram.RemoteInfo) => void = () => {}) =>
  Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket({ type: "udp4", recvBufferSize: 4 * 1024 * 1024 })
      socket.on("message", onMessage)
      socket.bind(0, "127.0.0.1", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )

export const portOf = (socket: { readonly address: () => AddressInfo }): number => socket.address().port

/** A port that was free a moment ago. */
export const freePort = Effect.scoped(Effect.map(socket(), portOf))

export interface Options {
  readonly port?: number
  readonly ring?: KeyRing.KeyRing
  readonly renewGrace?: number
  readonly hosts?: ReadonlyArray<string>
}

/** A server with a generated certificate on a free port of loopback. Closing its scope ends its sessions first. */
export const server: (
  options?: Options
) => Effect.Effect<TransportServer & { readonly port: number }, never, Scope.Scope> = Effect.fnUntraced(
  function*(options) {
    const hosts = options?.hosts ?? ["127.0.0.1"]
    const outer = yield* Effect.scope
    const ports = yield* Scope.fork(outer)
    const sessions = yield* Scope.fork(outer, "parallel")
    const port = options?.port ?? (yield* freePort)
    const ring = options?.ring ?? (yield* KeyRing.make({ generate: ["localhost", "127.0.0.1", "::1"] }))
    const lobby = yield* Lobby.make({ waiting: 256, takeTimeout: 5_000, sessions })
    yield* Http3Server.make({
      addresses: hosts.map((host) => ({ host, port })),
      ring,
      lobby,
      renewGrace: options?.renewGrace ?? 60_000
    }).pipe(Scope.provide(ports))
    return {
      port,
      urls: [`https://127.0.0.1:${port}`],
      transports: ["h3"] as const,
      unavailable: [],
      get fingerprint() {
        return ring.currentUnsafe().fingerprint
      },
      requests: lobby.requests
    }
  },
  Effect.orDie
)

export const nextRequest = (bound: TransportServer): Effect.Effect<Request> =>
  Stream.runHead(bound.requests).pipe(Effect.flatMap(Effect.fromOption), Effect.orDie)

/** Connects, by way of another port where one is given. */
export const connect = (
  bound: TransportServer & { readonly port: number },
  port = bound.port,
  options?: ConnectOptions
) => Http3Client.connect(new URL(`https://127.0.0.1:${port}/`), { fingerprints: [bound.fingerprint!], ...options })

/** A client and the server's end of its connection. */
export const pair = Effect.fnUntraced(function*(bound: TransportServer & { readonly port: number }, port = bound.port) {
  const accepting = yield* Effect.forkScoped(Effect.flatMap(nextRequest(bound), (request) => request.accept))
  const client = yield* connect(bound, port)
  return { client, server: yield* Fiber.join(accepting) }
})

/** One byte there and back: the connection works. */
export const works = Effect.fnUntraced(
  function*(from: Connection, to: Connection) {
    const sent = yield* from.openBi
    yield* sent.send.write([Uint8Array.of(42)])
    const received = yield* to.acceptBi
    yield* received.send.write([(yield* received.receive.pull)[0]])
    if ((yield* sent.receive.pull)[0][0] !== 42) return yield* Effect.die(new Error("another byte came back"))
  },
  Effect.scoped,
  Effect.orDie
)

/** Runs something in a scope that the caller closes. */
export const inScope = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R | Scope.Scope>) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  return { value: yield* Scope.provide(effect, scope), close: Scope.close(scope, Exit.void) }
})

// what a narrow network carries, and what may queue up in it
const bitsPerSecond = 20_000_000
const queueBytes = 256 * 1024

/** A network between one client and the server. */
export const network = Effect.fnUntraced(function*(to: number) {
  let cut = false
  let narrow = false
  let client: Dgram.RemoteInfo | undefined
  // one queue for each way, emptied at the rate of a narrow network
  const ways = [0, 1].map(() => {
    let free = 0
    return (length: number, send: () => void) => {
      if (cut) return
      if (!narrow) return send()
      const now = performance.now()
      const starts = Math.max(now, free)
      if (starts - now > queueBytes * 8_000 / bitsPerSecond) return
      free = starts + length * 8_000 / bitsPerSecond
      setTimeout(() => cut || send(), free - now)
    }
  })
  const far = yield* socket((message) => {
    ways[0]!(message.length, () => near.send(message, client!.port, client!.address, () => {}))
  })
  const near = yield* socket((message, from) => {
    client = from
    ways[1]!(message.length, () => far.send(message, to, "127.0.0.1", () => {}))
  })
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      cut = true
    })
  )
  return {
    port: portOf(near),
    /** From now on nothing arrives at either end, and nothing tells. */
    cut: Effect.sync(() => {
      cut = true
    }),
    narrow: Effect.sync(() => {
      narrow = true
    })
  }
})

export const collectGarbage = Effect.sync(() => {
  V8.setFlagsFromString("--expose-gc")
  const collect = Vm.runInNewContext("gc") as () => void
  collect()
  collect()
})

export const heapUsed = Effect.andThen(
  // what is collected is told to the binding a turn later
  Effect.andThen(collectGarbage, Effect.sleep("50 millis")),
  Effect.sync(() => {
    const { arrayBuffers, heapUsed } = process.memoryUsage()
    return arrayBuffers + heapUsed
  })
)
