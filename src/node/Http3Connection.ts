/**
 * A session of native HTTP/3 as a `Connection`, straight over the objects of the binding.
 *
 * **Details**
 *
 * What the binding does not do by itself is added here:
 * - it has no keep-alive, and ends a session that is silent for 30 seconds: each end sends a datagram of one byte every
 *   5 seconds.
 * - a connection that broke looks like one that was closed, but for its reason.
 * - a call cannot be taken back: an opening or an accept that nobody waits for any more is for the next one who does.
 *
 * And what cannot be added is declared: a reset waits for the write under way, so that it does not pass one that the
 * peer blocks. A stop waits for the read under way in the same manner, so that the peer learns of it with what it sends
 * next; the pull here ends at once.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { SessionClosed, type TransportError } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import { Condition } from "../core/Waiters.ts"
import type * as Transport from "../transport/Transport.ts"
import type * as Http3Binding from "./Http3Binding.ts"
import { type Dispatcher, noop, type Owner, Receiving, Sending, textOf } from "./Http3Stream.ts"

/**
 * What native HTTP/3 can do.
 *
 * **Details**
 *
 * The binding allows 100 streams of each kind, of which HTTP/3 itself takes one. It ends a connection 30 seconds after
 * it last heard of the peer, or after the first thing that it sent since then, which is a keep-alive.
 *
 * @category constants
 * @since 0.1.0
 */
export const capabilities: Transport.Capabilities = {
  codes: "any",
  resetPastWrite: false,
  backpressure: true,
  priority: true,
  ping: false,
  maxStreams: 99,
  idleTimeout: 36_000,
  forgetsStreams: true
}

/**
 * Makes the connection of a session that is on its way. Whatever ends the wait for it, a session that comes nevertheless
 * is closed.
 *
 * **Details**
 *
 * Closing the scope closes the session, and waits for the close to leave, one second at most.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly session: () => Promise<Http3Binding.Session>
  readonly explain: (error: unknown) => TransportError
  /** Connections that use the socket, for whoever needs to know: from their first moment until nothing uses it. */
  readonly users?: Users | undefined
}): Effect.Effect<Transport.Connection, TransportError, Scope.Scope> =>
  inOwnScope(Effect.gen(function*() {
    const opening = yield* Effect.acquireRelease(Effect.sync(() => new Opening(options)), (opening) => opening.release)
    return yield* Deferred.await(opening.outcome)
  }))

/**
 * The connections that use a socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Users {
  readonly add: (connection: Transport.Connection) => void
  readonly delete: (connection: Transport.Connection) => void
}

// internal

const keepAliveEvery = 5_000
const keepAlive = Uint8Array.of(0)

// how long a connection that shows signs of its end may take to say how it ended, and a close to leave
const lastWords = 1_000

const scopeOf = (context: Context.Context<never>): Scope.Scope =>
  Context.get(context as Context.Context<Scope.Scope>, Scope.Scope)

class Opening {
  readonly outcome = Deferred.makeUnsafe<NativeConnection, TransportError>()
  private connection: NativeConnection | undefined
  private released = false

  constructor({ explain, session, users }: Parameters<typeof make>[0]) {
    session().then((session) => {
      if (this.released) return session.close(0, "")
      this.connection = new NativeConnection(session, users)
      Deferred.doneUnsafe(this.outcome, Exit.succeed(this.connection))
    }, (error) => Deferred.doneUnsafe(this.outcome, Exit.fail(explain(error))))
  }

  readonly release: Effect.Effect<void> = Effect.suspend(() => {
    this.released = true
    return this.connection === undefined ? Effect.void : this.connection.shut
  })
}

class NativeConnection implements Transport.Connection, Owner {
  readonly info: Transport.ConnectionInfo = { transport: "h3", peer: undefined }
  readonly capabilities = capabilities
  end: SessionClosed | undefined
  readonly halves = new Set<Sending | Receiving>()
  // let go of when all is over: its socket stays open until it is collected
  private session: Http3Binding.Session | undefined
  private readonly users: Users | undefined
  private readonly uni: Arrivals<Http3Binding.SendStream>
  private readonly bi: Arrivals<Http3Binding.BiStream>
  private readonly incomingUni: Arrivals<Http3Binding.ReceiveStream>
  private readonly incomingBi: Arrivals<Http3Binding.BiStream>
  private readonly closing = new Condition(() => this.end !== undefined)
  private readonly ending = new Condition(() => this.session === undefined)
  private readonly alive: NodeJS.Timeout
  private losing: NodeJS.Timeout | undefined

  constructor(session: Http3Binding.Session, users: Users | undefined) {
    this.session = session
    this.users = users
    users?.add(this)
    this.uni = new Arrivals(this, Infinity, (native) => native.openUni(), discardSend)
    this.bi = new Arrivals(this, Infinity, (native) => native.openBi(), discardBi)
    // the binding hands them out one after the other anyway
    this.incomingUni = new Arrivals(this, 1, (native) => native.acceptUni(), undefined)
    this.incomingBi = new Arrivals(this, 1, (native) => native.acceptBi(), undefined)
    this.alive = setInterval(this.sayHello, keepAliveEvery)
    session.closed().then(this.onClosed, (error) => this.onClosed({ closeCode: 0, reason: broke + textOf(error) }))
  }

  readonly openBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.bi.next(this.ownBi)
  )

  readonly openUni: Transport.Connection["openUni"] = (options) =>
    this.uni.next((native, scope) => {
      const send = new Sending(this, native)
      const owned = Effect.as(Scope.addFinalizer(scope, send.reset(0)), send)
      return options?.priority === undefined ? owned : Effect.tap(owned, send.setPriority(options.priority))
    })

  readonly acceptBi: Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.incomingBi.next(this.ownBi)
  )

  readonly acceptUni: Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> = Effect.suspend(() =>
    this.incomingUni.next((native, scope) => {
      const receive = new Receiving(this, native)
      return Effect.as(Scope.addFinalizer(scope, receive.stop(0)), receive)
    })
  )

  private readonly ownBi = (
    native: Http3Binding.BiStream,
    scope: Scope.Scope
  ): Effect.Effect<Transport.BiStream> => {
    const send = new Sending(this, native.takeSend())
    const receive = new Receiving(this, native.takeRecv())
    return Effect.as(Scope.addFinalizer(scope, Effect.andThen(send.reset(0), receive.stop(0))), { send, receive })
  }

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.withFiber((fiber) => {
      this.closeUnsafe(new SessionClosed({ code, reason, by: "local" }), fiber.currentDispatcher)
      return Effect.void
    })

  readonly closed: Effect.Effect<SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.flatMap(this.closing.wait, () => this.closed) : Effect.succeed(this.end)
  )

  readonly ping: Effect.Effect<void, SessionClosed> = Effect.suspend(() =>
    this.end === undefined ? Effect.void : Effect.fail(this.end)
  )

  /** Closes it, and waits for the close to leave. */
  readonly shut: Effect.Effect<void> = Effect.suspend(() => {
    const deadline = setTimeout(() => this.over(), lastWords)
    return this.close(0, "").pipe(
      Effect.andThen(Effect.suspend(() => this.session === undefined ? Effect.void : this.ending.wait)),
      Effect.ensuring(Effect.sync(() => clearTimeout(deadline)))
    )
  })

  /** Something that a living connection does not do: it gets a moment to tell how it ended, then it is given up. */
  lose(error: unknown): void {
    if (this.end !== undefined) return
    const reason = textOf(error)
    this.losing ??= setTimeout(
      () => this.closeUnsafe(new SessionClosed({ code: 4, reason, by: "transport" }), undefined),
      lastWords
    )
  }

  native(): Http3Binding.Session | undefined {
    return this.end === undefined ? this.session : undefined
  }

  private readonly sayHello = (): void => {
    try {
      this.session?.sendDatagram(keepAlive)
    } catch {
      // it is over, which `closed` tells
    }
  }

  private closeUnsafe(end: SessionClosed, dispatcher: Dispatcher): void {
    if (this.end !== undefined) return
    this.finish(end, dispatcher)
    this.session?.close(end.code, end.by === "local" ? end.reason : "")
  }

  // the side that closes is told something else than what it said, and has finished by then
  private readonly onClosed = (
    { closeCode, reason }: { readonly closeCode: number; readonly reason: string }
  ): void => {
    this.finish(
      closeCode === 0 && reason.startsWith(broke)
        ? new SessionClosed({ code: 4, reason: explain(reason.slice(broke.length)), by: "transport" })
        : new SessionClosed({ code: closeCode, reason, by: "remote" }),
      undefined
    )
    this.over()
  }

  private finish(end: SessionClosed, dispatcher: Dispatcher): void {
    if (this.end !== undefined) return
    this.end = end
    clearInterval(this.alive)
    clearTimeout(this.losing)
    const exit = Exit.fail(end)
    if (end.by === "local") hold([...this.halves].map((half) => half.binding))
    for (const half of this.halves) half.cut(exit, dispatcher)
    this.halves.clear()
    for (const arrivals of [this.uni, this.bi, this.incomingUni, this.incomingBi]) arrivals.end(dispatcher)
    this.closing.wake(dispatcher)
  }

  private over(): void {
    if (this.session === undefined) return
    this.session = undefined
    this.ending.wake()
    this.users?.delete(this)
  }
}

// A stream whose object is collected is finished by the binding. While the close is on its way, that would look to the
// peer like the end of what was sent.
const hold = (streams: ReadonlyArray<unknown>): void => {
  const held = [...streams]
  setTimeout(() => held.splice(0), lastWords).unref()
}

// what the reason of a connection begins with that was not closed, but broke
const broke = "connection error: "

const explain = (text: string): string =>
  text === "timed out"
    ? "the other end has gone without a word"
    : text === "closed"
    ? "the other end has gone"
    : text

const discardSend = (stream: Http3Binding.SendStream): void => void stream.reset(0).then(noop, noop)

const discardBi = (stream: Http3Binding.BiStream): void => {
  discardSend(stream.takeSend())
  stream.takeRecv().stop(0).then(noop, noop)
}

/**
 * Streams of one kind, opened here or by the peer, that fibers wait for. A call to the binding cannot be taken back:
 * what comes of one whose fiber was interrupted is for the next fiber; a stream that was opened for nobody is ended.
 */
class Arrivals<S> {
  private readonly connection: NativeConnection
  private readonly most: number
  private readonly call: (session: Http3Binding.Session) => Promise<S>
  private readonly discard: ((stream: S) => void) | undefined
  private readonly arrived: Array<S> = []
  private calls = 0
  private readonly waiters = new Condition(() => this.arrived.length > 0 || this.connection.end !== undefined)

  constructor(
    connection: NativeConnection,
    /** How many calls may be under way. */
    most: number,
    call: (session: Http3Binding.Session) => Promise<S>,
    /** Without it, a stream that nobody waits for is kept for the next one who does. */
    discard: ((stream: S) => void) | undefined
  ) {
    this.connection = connection
    this.most = most
    this.call = call
    this.discard = discard
  }

  next<A>(own: (stream: S, scope: Scope.Scope) => Effect.Effect<A>): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const wait = Effect.onInterrupt(restore(this.waiters.wait), () => Effect.sync(this.tidy))
      const next: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (this.connection.end !== undefined) return Effect.fail(this.connection.end)
        const stream = this.arrived.shift()
        if (stream !== undefined) return own(stream, scopeOf(fiber.context))
        this.ask(1)
        return Effect.flatMap(wait, () => next)
      })
      return next
    })
  }

  end(dispatcher: Dispatcher): void {
    this.arrived.length = 0
    this.waiters.wake(dispatcher)
  }

  // one call for each fiber that waits, and for `more` that are about to
  private ask(more: number): void {
    const session = this.connection.native()
    if (session === undefined) return
    while (this.calls < this.most && this.calls < this.waiters.size + more - this.arrived.length) {
      this.calls++
      this.call(session).then(this.onStream, this.onError)
    }
  }

  private readonly onStream = (stream: S): void => {
    this.calls--
    // it has ended with its connection
    if (this.connection.end !== undefined) return
    this.arrived.push(stream)
    if (this.most === 1) this.ask(0)
    this.waiters.wake()
    this.tidy()
  }

  private readonly onError = (error: unknown): void => {
    this.calls--
    this.connection.lose(error)
  }

  private readonly tidy = (): void => {
    if (this.discard === undefined) return
    while (this.arrived.length > this.waiters.size) this.discard(this.arrived.pop()!)
  }
}
