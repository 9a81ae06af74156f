/**
 * Serves native HTTP/3 on UDP ports.
 *
 * **Details**
 *
 * Three things about the binding shape this:
 * - closing its server while it waits for a client blocks the thread for ever. So before a port is closed, a client of
 *   our own connects to it, and is turned away.
 * - it has one certificate for as long as it is bound.
 * - its socket stays open until all sessions are over and their objects have been collected as garbage; until then the
 *   port cannot be bound again.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { TransportError } from "../core/MoqError.ts"
import { Condition } from "../core/Waiters.ts"
import { noop } from "../transport/Half.ts"
import type { Connection } from "../transport/Transport.ts"
import type * as Certificate from "./Certificate.ts"
import * as Http3Binding from "./Http3Binding.ts"
import * as Http3Connection from "./Http3Connection.ts"
import { textOf } from "./Http3Stream.ts"
import type { KeyRing } from "./KeyRing.ts"
import type { Lobby } from "./Lobby.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** IP addresses, each with its UDP port, which cannot be 0: the binding does not tell which one it got. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly ring: KeyRing
  readonly lobby: Lobby
  /** How long sessions live on after a change of the certificate, in milliseconds. */
  readonly renewGrace: number
}

/**
 * Binds the ports until the scope closes.
 *
 * **Details**
 *
 * With a new certificate no client is let in until the sessions that are open have ended, or have been closed with code
 * 0 after `renewGrace`; then the port is bound again. Closing the scope closes the port to new clients, and leaves
 * sessions to those who own them. Fails with {@link TransportError} when a port cannot be bound, the certificate is of no
 * use, or the binding cannot be had.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<void, TransportError, Scope.Scope> =>
  Effect.flatMap(Http3Binding.load, (binding) => makeWith(binding, options))

/**
 * {@link make} with a given binding.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeWith: (
  binding: Http3Binding.Binding,
  options: Options
) => Effect.Effect<void, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(binding, { addresses, lobby, renewGrace, ring }) {
    const ports = addresses.map((address) => new Port(binding, address, lobby))
    const opened = Latch.makeUnsafe(false)
    const renewed = Effect.forEach(ports, (port) => port.renew(ring, renewGrace), {
      concurrency: "unbounded",
      discard: true
    })
    // from now on: the certificate may change while the ports are opened, which can take a while
    const renewing = yield* Effect.forkScoped(Stream.runForEach(ring.changes, () => opened.whenOpen(renewed)), {
      startImmediately: true
    })
    for (const port of ports) {
      yield* Effect.addFinalizer(() => port.close)
      yield* port.open(ring.currentUnsafe())
    }
    // before the ports are closed
    yield* Effect.addFinalizer(() => Fiber.interrupt(renewing))
    yield* opened.open
  }
)

// internal

// how long our own client may take to be let in by this very process, in milliseconds
const releaseTimeout = 2_000

// at these attempts, a tenth of a second apart, to bind a port that ours still use, their garbage is collected
const collectAt = new Set([2, 10, 50])
const patience = 100

// ports that sockets of ours may still hold
const lingering = new Set<string>()

class Port {
  private readonly binding: Http3Binding.Binding
  private readonly host: string
  private readonly number: number
  private readonly name: string
  private readonly lobby: Lobby
  private server: Http3Binding.Server | undefined
  private certificate: Certificate.Certificate | undefined
  private readonly sessions = new Set<Connection>()
  private readonly users: Http3Connection.Users = {
    add: (connection) => this.sessions.add(connection),
    delete: (connection) => {
      this.sessions.delete(connection)
      if (this.sessions.size === 0) this.empty.wake()
    }
  }
  private readonly empty = new Condition(() => this.sessions.size === 0)
  // set while it closes
  private released: (() => void) | undefined

  constructor(
    binding: Http3Binding.Binding,
    { host, port }: { readonly host: string; readonly port: number },
    lobby: Lobby
  ) {
    this.binding = binding
    this.host = host
    this.number = port
    this.name = Net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
    this.lobby = lobby
  }

  /** Binds it; where a port that was ours is not free yet, in a while. */
  open(certificate: Certificate.Certificate): Effect.Effect<void, TransportError> {
    const attempt = (count: number): Effect.Effect<void, TransportError> =>
      Effect.suspend(() => {
        const failure = this.bind(certificate)
        if (failure === undefined) return Effect.void
        if (!failure.inUse || !lingering.has(this.name) || count === patience) return Effect.fail(failure.error)
        if (collectAt.has(count)) collectGarbage()
        return Effect.andThen(pause(100), attempt(count + 1))
      })
    return attempt(0)
  }

  private bind(
    certificate: Certificate.Certificate
  ): { readonly error: TransportError; readonly inUse: boolean } | undefined {
    try {
      this.server = this.binding.NapiServer.bind(
        this.name,
        Buffer.from(certificate.cert),
        Buffer.from(certificate.key)
      )
    } catch (error) {
      const text = textOf(error)
      const inUse = text.includes("Address already in use") || text.includes("os error 10048")
      const detail = inUse
        ? `UDP ${this.name} is in use`
        : text.includes("Permission denied")
        ? `UDP ${this.name} needs more rights`
        : text.includes("Cannot assign requested address")
        ? `${this.host} is not an address of this machine`
        : text.startsWith("io error")
        ? `UDP ${this.name} cannot be bound: ${text}`
        : `certificate and key cannot be used: ${text}`
      return { error: new TransportError({ detail }), inUse }
    }
    lingering.delete(this.name)
    this.certificate = certificate
    this.accept(this.server)
    return undefined
  }

  private accept(server: Http3Binding.Server): void {
    const onError = () => {
      if (this.released !== undefined) return this.release(server)
      // nothing that is known makes it fail; what does must not make it spin
      setTimeout(() => this.accept(server), 1_000).unref()
    }
    server.accept().then((request) => {
      if (request === null) return onError()
      if (this.released !== undefined) {
        refuse(request, 503)
        return this.release(server)
      }
      this.accept(server)
      request.url.then((text) => this.admit(request, text), noop)
    }, onError)
  }

  private admit(request: Http3Binding.Request, text: string): void {
    if (!URL.canParse(text)) return refuse(request, 400)
    this.lobby.admit({
      url: new URL(text),
      headers: undefined,
      peer: undefined,
      transport: "h3",
      accept: Http3Connection.make({ session: () => request.ok(), explain: gone, users: this.users }),
      refuse: (status) => refuse(request, status)
    })
  }

  /** Closes it to new clients. Where that cannot be done the port stays bound, and turns away who comes. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const { server } = this
    if (server === undefined) return Effect.void
    this.server = undefined
    return Effect.callback<boolean>((resume) => {
      const deadline = setTimeout(() => resume(Effect.succeed(false)), releaseTimeout)
      this.released = () => {
        clearTimeout(deadline)
        resume(Effect.succeed(true))
      }
      const host = this.host === "::" ? "::1" : this.host === "0.0.0.0" ? "127.0.0.1" : this.host
      const url = `https://${Net.isIPv6(host) ? `[${host}]` : host}:${this.number}/`
      try {
        this.binding.NapiClient.disableVerify().connect(url).then((session) => session.close(0, ""), noop)
      } catch {
        // no socket can be had: then the deadline tells
      }
    }).pipe(
      Effect.flatMap((released) =>
        released ? Effect.void : Effect.logWarning(
          `UDP ${this.name} stays bound until the next client comes to it: it cannot be reached from this machine`
        )
      ),
      Effect.uninterruptible
    )
  })

  // no `accept` is pending
  private release(server: Http3Binding.Server): void {
    server.close()
    lingering.add(this.name)
    this.released?.()
    this.released = undefined
  }

  /** Binds it again with the certificate of now. */
  renew(ring: KeyRing, grace: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (ring.currentUnsafe() === this.certificate) return
      yield* this.close
      yield* Effect.timeoutOption(this.unused, Duration.millis(grace))
      yield* Effect.forEach(this.sessions, (session) => session.close(0, "the server renews its certificate"))
      for (let failures = 0;; failures++) {
        const opened = yield* Effect.result(this.open(ring.currentUnsafe()))
        if (Result.isSuccess(opened)) return
        if (failures === 0) yield* Effect.logWarning(`no HTTP/3 for now: ${opened.failure.detail}`)
        yield* Effect.sleep("10 seconds")
      }
    })
  }

  private readonly unused: Effect.Effect<void> = Effect.suspend(() =>
    this.sessions.size === 0 ? Effect.void : Effect.flatMap(this.empty.wait, () => this.unused)
  )
}

const refuse = (request: Http3Binding.Request, status: number): void => void request.reject(status).then(noop, noop)

const gone = (error: unknown): TransportError =>
  new TransportError({ detail: `the client left before it was let in: ${textOf(error)}` })

// of the machine's clock, because a port that is not free is none of a test's
const pause = (millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

const collectGarbage = (): void => {
  V8.setFlagsFromString("--expose-gc")
  const collect = Vm.runInNewContext("gc") as () => void
  collect()
}
