/**
 * A transport within one process, in pure Effect: for tests, and for a relay embedded in the program that uses it.
 *
 * **Details**
 *
 * It behaves as QUIC does where a session can tell: each stream has a window of bytes that may be unread, only so many
 * streams may be open at once, resets and stops carry codes and pass blocked writes, and a close carries a code and a
 * reason. Chunks pass by reference. Every wake goes through the dispatcher of the fiber that caused it, so a virtual
 * clock sees all of it, and a burst of writes wakes its reader once.
 *
 * **Example** (Both ends of a connection)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Memory } from "effect-moq"
 *
 * const program = Effect.gen(function*() {
 *   const [client, server] = yield* Memory.pair()
 *   const send = yield* client.openUni()
 *   yield* send.write([new TextEncoder().encode("hello")])
 *   yield* send.finish
 *   const receive = yield* server.acceptUni
 *   return yield* receive.pull // [Uint8Array of "hello"]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { SessionClosed, Timeout, TransportError } from "../core/MoqError.ts"
import { Waiters } from "../core/Waiters.ts"
import { Link, Side } from "./MemoryLink.ts"
import * as Transport from "./Transport.ts"

/**
 * The limits of connections in memory.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Bytes that a stream holds for its reader, per direction, before a write suspends; 256 KiB by default. */
  readonly window?: number | undefined
  /**
   * Streams of each kind that one side may have open at once, those that the other side has not accepted included; 1,000
   * by default. Opening one more waits.
   */
  readonly maxStreams?: number | undefined
}

/**
 * Makes both ends of a connection. Closing the scope closes both, with code 0.
 *
 * Invalid options (a window or a number of streams below 1) are a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pair = (
  options?: Options
): Effect.Effect<
  [client: Transport.Connection, server: Transport.Connection],
  never,
  Scope.Scope
> =>
  Effect.flatMap(Effect.scope, (scope) =>
    Effect.withFiber((fiber) => {
      const { client, server } = makeLink(fiber, options)
      return Effect.as(Scope.addFinalizer(scope, client.close(0, "")), [client, server])
    }))

/**
 * Cuts a connection of this module, as when the network or the process of the peer dies: both sides see
 * `SessionClosed { code: 4, by: "transport" }`. A connection of another transport is a defect.
 *
 * @category testing
 * @since 0.1.0
 */
export const kill = (connection: Transport.Connection): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (!(connection instanceof Side)) return Effect.die(new TypeError("Memory.kill: not a connection in memory"))
    const error = new SessionClosed({ code: 4, reason: "connection killed", by: "transport" })
    connection.link.end(connection, error, error)
    return Effect.void
  })

/**
 * A network within the process: servers listen on it, and one client side reaches them all by the host of the URL.
 *
 * @category models
 * @since 0.1.0
 */
export interface Network {
  /**
   * Connects to whoever listens at the host (with port) of a URL, or at any. Certificates play no part.
   *
   * Fails with `TransportError` when nobody listens there, when the request is refused, when 256 others wait already, or
   * when nobody takes it within 5 seconds; with `Timeout` after `timeout` (5 seconds by default).
   */
  readonly transport: Transport.Transport
  /**
   * Listens at a host, such as `"a.example"` or `"a.example:4443"`; without one, at every host that nobody else listens
   * at. Closing the scope refuses who still waits; connections live on. Fails with `TransportError` when the host is
   * taken.
   */
  readonly listen: (options?: {
    readonly host?: string | undefined
  }) => Effect.Effect<Transport.TransportServer, TransportError, Scope.Scope>
}

/**
 * Makes a network of its own, with nobody on it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeNetwork = (options?: Options): Effect.Effect<Network> =>
  Effect.sync(() => {
    const listeners = new Map<string, Queue.Queue<Call, Cause.Done>>()
    return {
      transport: {
        connect: (url, { timeout = "5 seconds" } = {}) => {
          const timedOut = () => Effect.fail(new Timeout({ detail: `connecting to ${url.host}` }))
          return Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(Effect.scope, (scope) => {
              const queue = listeners.get(url.host) ?? listeners.get(anyHost)
              if (queue === undefined) return refused(`nobody listens at ${url.host}`)
              const call = new Call(url, options)
              if (!Queue.offerUnsafe(queue, call)) return refused(`too many clients wait at ${url.host}`)
              return Effect.andThen(
                Scope.addFinalizer(scope, call.hangUp),
                restore(Effect.timeoutOrElse(call.connection, { duration: timeout, orElse: timedOut })).pipe(
                  Effect.onError(() => call.hangUp)
                )
              )
            })
          )
        }
      },
      listen: ({ host = anyHost } = {}) =>
        Effect.acquireRelease(
          Effect.flatMap(Queue.bounded<Call, Cause.Done>(backlog), (queue) => {
            if (listeners.has(host)) return refused(`${host} is taken`)
            listeners.set(host, queue)
            return Effect.succeed(queue)
          }),
          (queue) =>
            Effect.suspend(() => {
              listeners.delete(host)
              return Effect.andThen(
                Effect.flatMap(Queue.clear(queue), Effect.forEach((call) => call.fail("the server has closed"))),
                Queue.end(queue)
              )
            })
        ).pipe(
          Effect.map((queue) => ({
            urls: [`https://${host === anyHost ? "localhost" : host}`],
            transports: ["memory"],
            unavailable: [],
            fingerprint: undefined,
            requests: Stream.fromEffectRepeat(Effect.tap(Queue.take(queue), (call) => call.taken)).pipe(
              Stream.filter((call) => !call.gone)
            )
          }))
        )
    }
  })

/**
 * Provides both sides of a transport within the process, each build a network of its own with one server that has every
 * host.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<Transport.Transport | Transport.TransportServer> =>
  Layer.effectContext(
    Effect.gen(function*() {
      const network = yield* makeNetwork(options)
      // a fresh network has no host that could be taken
      const server = yield* Effect.orDie(network.listen())
      return Context.make(Transport.Transport, network.transport).pipe(Context.add(Transport.TransportServer, server))
    })
  )

/**
 * {@link layerWith} the default limits.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Transport.Transport | Transport.TransportServer> = layerWith({})

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

// clients that may wait for one server to take their request
const backlog = 256
const requestTimeout = "5 seconds"
const anyHost = "*"

const refused = (detail: string): Effect.Effect<never, TransportError> => Effect.fail(new TransportError({ detail }))

const makeLink = (fiber: Fiber.Fiber<unknown, unknown>, options: Options = {}): Link =>
  new Link(
    fiber,
    atLeastOne("window", options.window ?? 256 * 1024),
    atLeastOne("maxStreams", options.maxStreams ?? 1_000)
  )

const atLeastOne = (name: string, value: number): number => {
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`Memory: ${name} must be a positive integer`)
  return value
}

/**
 * A client that wants to connect, seen from both sides.
 */
class Call implements Transport.Request {
  readonly url: URL
  readonly headers = undefined
  readonly peer = undefined
  readonly transport = "memory"
  private readonly options: Options | undefined
  gone = false
  private isTaken = false
  private answer: Exit.Exit<Side, TransportError> | undefined
  private readonly progress = new Waiters()

  constructor(url: URL, options: Options | undefined) {
    this.url = url
    this.options = options
  }

  /** For the server: somebody has taken the request, and its time no longer runs. */
  readonly taken: Effect.Effect<void> = Effect.withFiber((fiber) => {
    this.isTaken = true
    this.progress.wake(fiber.currentDispatcher)
    return Effect.void
  })

  /** For the client: waits for the answer. */
  readonly connection: Effect.Effect<Side, TransportError> = Effect.suspend(() =>
    Effect.timeoutOrElse(this.progress.until(() => this.isTaken || this.answer !== undefined), {
      duration: requestTimeout,
      orElse: () => this.fail("nobody took the request within 5 seconds")
    }).pipe(
      Effect.andThen(this.progress.until(() => this.answer !== undefined)),
      Effect.andThen(Effect.suspend(() => this.answer!))
    )
  )

  /** For the client: it is no longer interested, or done with the connection. */
  readonly hangUp: Effect.Effect<void> = Effect.suspend(() => {
    this.gone = true
    return this.answer !== undefined && Exit.isSuccess(this.answer) ? this.answer.value.close(0, "") : Effect.void
  })

  readonly fail = (detail: string): Effect.Effect<void> => this.answerWith(Exit.fail(new TransportError({ detail })))

  readonly refuse = (status: number): Effect.Effect<void> => this.fail(`refused with status ${status}`)

  readonly accept: Effect.Effect<Transport.Connection, TransportError, Scope.Scope> = Effect.uninterruptible(
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.withFiber((fiber) => {
        if (this.gone) return refused("the client has gone")
        if (this.answer !== undefined) return refused("the request was answered before")
        const { client, server } = makeLink(fiber, this.options)
        return Scope.addFinalizer(scope, server.close(0, "")).pipe(
          Effect.andThen(this.answerWith(Exit.succeed(client))),
          Effect.as(server)
        )
      }))
  )

  private answerWith(answer: Exit.Exit<Side, TransportError>): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      this.answer ??= answer
      this.progress.wake(fiber.currentDispatcher)
      return Effect.void
    })
  }
}
