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
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Bag } from "../core/Bag.ts"
import { errorOf } from "../core/ErrorOf.ts"
import { SessionClosed, type TransportError } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import { Waiters } from "../core/Waiters.ts"
import { noop, open, type Opened, type Owner, scopeOf, settled } from "../transport/Half.ts"
import type * as Transport from "../transport/Transport.ts"
import type * as Http3Binding from "./Http3Binding.ts"
import { codeOf, Receiving, Sending, textOf } from "./Http3Stream.ts"

/**
 * What native HTTP/3 can do.
 *
 * **Details**
 *
 * The binding allows 100 streams of each kind, of which HTTP/3 itself takes one, and tells of an eighth of the places at
 * once, so that up to 12 of those that are free may not be there yet. It ends a connection 30 seconds after
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
  end: Exit.Exit<never, SessionClosed> | undefined
  readonly parts = new Bag<Sending | Receiving>()
  readonly codeOf = codeOf
  // let go of when all is over: its socket stays open until it is collected
  private session: Http3Binding.Session | undefined
  private readonly users: Users | undefined
  private readonly bi = new Openings<Http3Binding.BiStream>(this, (native) => native.openBi(), discardBi)
  private readonly uni = new Openings<Http3Binding.SendStream>(this, (native) => native.openUni(), discardSend)
  private readonly incomingBi: Incoming<Http3Binding.BiStream, BothHalves>
  private readonly incomingUni: Incoming<Http3Binding.ReceiveStream, Receiving>
  private readonly waiters = new Waiters()
  private readonly alive: NodeJS.Timeout
  private losing: NodeJS.Timeout | undefined

  constructor(session: Http3Binding.Session, users: Users | undefined) {
    this.session = session
    this.users = users
    users?.add(this)
    this.incomingBi = new Incoming(this, {
      accept: (native) => native.acceptBi(),
      make: (stream) => this.both(stream),
      abort: abortBoth
    })
    this.incomingUni = new Incoming(this, {
      accept: (native) => native.acceptUni(),
      make: (stream) => new Receiving(this, stream),
      abort
    })
    this.alive = setInterval(this.sayHello, keepAliveEvery)
    session.closed().then(this.onClosed, (error) => this.onClosed({ closeCode: 0, reason: broke + textOf(error) }))
  }

  get openBi(): Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> {
    return open<BothHalves>({ abort: abortBoth }, (opened) => this.onOpenBi(opened))
  }

  onOpenBi(opened: Opened<BothHalves>): () => void {
    return this.bi.begin((exit) => opened(Exit.map(exit, (stream) => this.both(stream))))
  }

  get openUni(): Transport.Connection["openUni"] {
    return (options) => open<Sending>({ abort }, (opened) => this.onOpenUni(options, opened))
  }

  onOpenUni(options: Parameters<Transport.Connection["openUni"]>[0], opened: Opened<Sending>): () => void {
    return this.uni.begin((exit) =>
      opened(Exit.map(exit, (stream) => {
        const send = new Sending(this, stream)
        send.setRank(options?.priority ?? 0)
        return send
      }))
    )
  }

  private both(native: Http3Binding.BiStream): BothHalves {
    return { send: new Sending(this, native.takeSend()), receive: new Receiving(this, native.takeRecv()) }
  }

  get acceptBi(): Effect.Effect<Transport.BiStream, SessionClosed, Scope.Scope> {
    return this.incomingBi.next
  }

  get acceptUni(): Effect.Effect<Transport.ReceiveStream, SessionClosed, Scope.Scope> {
    return this.incomingUni.next
  }

  onBi(take: (stream: Transport.BiStream) => void): void {
    this.incomingBi.give(take)
  }

  onUni(take: (stream: Transport.ReceiveStream) => void): void {
    this.incomingUni.give(take)
  }

  readonly close = (code: number, reason: string): Effect.Effect<void> =>
    Effect.sync(() => this.closeUnsafe(new SessionClosed({ code, reason, by: "local" })))

  get closed(): Effect.Effect<SessionClosed> {
    return Effect.map(this.waiters.until(() => this.end !== undefined), () => errorOf(this.end!)!)
  }

  get ping(): Effect.Effect<void, SessionClosed> {
    return Effect.suspend(() => this.end ?? Effect.void)
  }

  /** Closes it, and waits for the close to leave. */
  readonly shut: Effect.Effect<void> = Effect.suspend(() => {
    const deadline = setTimeout(() => this.over(), lastWords)
    return this.close(0, "").pipe(
      Effect.andThen(this.waiters.until(() => this.session === undefined)),
      Effect.ensuring(Effect.sync(() => clearTimeout(deadline)))
    )
  })

  /** Something that a living connection does not do: it gets a moment to tell how it ended, then it is given up. */
  lose(error: unknown): void {
    if (this.end !== undefined) return
    const reason = textOf(error)
    this.losing ??= setTimeout(
      () => this.closeUnsafe(new SessionClosed({ code: 4, reason, by: "transport" })),
      lastWords
    )
  }

  get native(): Http3Binding.Session | undefined {
    return this.end === undefined ? this.session : undefined
  }

  private readonly sayHello = (): void => {
    try {
      this.session?.sendDatagram(keepAlive)
    } catch {
      // it is over, which `closed` tells
    }
  }

  private closeUnsafe(end: SessionClosed): void {
    if (this.end !== undefined) return
    this.finish(end)
    this.session?.close(end.code, end.by === "local" ? end.reason : "")
  }

  // the side that closes is told something else than what it said, and has finished by then
  private readonly onClosed = (
    { closeCode, reason }: { readonly closeCode: number; readonly reason: string }
  ): void => {
    this.finish(
      closeCode === 0 && reason.startsWith(broke)
        ? new SessionClosed({ code: 4, reason: explain(reason.slice(broke.length)), by: "transport" })
        : new SessionClosed({ code: closeCode, reason, by: "remote" })
    )
    this.over()
  }

  private finish(end: SessionClosed): void {
    if (this.end !== undefined) return
    const exit = this.end = Exit.fail(end)
    clearInterval(this.alive)
    clearTimeout(this.losing)
    const parts = this.parts.drain()
    if (end.by === "local") hold(parts.map((half) => half.binding))
    for (const half of parts) half.cut(exit)
    for (const streams of [this.uni, this.bi, this.incomingUni, this.incomingBi]) streams.cut(exit)
    this.waiters.notify()
  }

  private over(): void {
    if (this.session === undefined) return
    this.session = undefined
    this.waiters.notify()
    this.users?.delete(this)
  }
}

interface BothHalves {
  readonly send: Sending
  readonly receive: Receiving
}

const abort = (half: Sending | Receiving): void => half.abort(0)

const abortBoth = ({ receive, send }: BothHalves): void => {
  abort(send)
  abort(receive)
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
 * Streams of one kind that are opened here. A call to the binding cannot be taken back: what comes of one that was is for
 * the next who waits; a stream that was opened for nobody is ended.
 */
class Openings<S> {
  private readonly connection: NativeConnection
  private readonly call: (session: Http3Binding.Session) => Promise<S>
  private readonly discard: (stream: S) => void
  private readonly waiting: Array<Opened<S>> = []
  private calls = 0

  constructor(
    connection: NativeConnection,
    call: (session: Http3Binding.Session) => Promise<S>,
    discard: (stream: S) => void
  ) {
    this.connection = connection
    this.call = call
    this.discard = discard
  }

  /** What it is called with must be a function of its own. */
  begin(opened: Opened<S>): () => void {
    const { end, native } = this.connection
    if (native === undefined) {
      opened(end!)
      return noop
    }
    // one call for each that waits
    if (this.waiting.push(opened) > this.calls) {
      this.calls++
      this.call(native).then((stream) => this.onStream(stream), (error) => this.onError(error))
    }
    return () => {
      const at = this.waiting.indexOf(opened)
      if (at >= 0) this.waiting.splice(at, 1)
    }
  }

  cut(end: Exit.Exit<never, SessionClosed>): void {
    void settled.then(() => {
      for (let opened = this.waiting.shift(); opened !== undefined; opened = this.waiting.shift()) opened(end)
    })
  }

  private onStream(stream: S): void {
    this.calls--
    // it has ended with its connection
    if (this.connection.end !== undefined) return
    const opened = this.waiting.shift()
    if (opened === undefined) this.discard(stream)
    else opened(Exit.succeed(stream))
  }

  private onError(error: unknown): void {
    this.calls--
    this.connection.lose(error)
  }
}

/**
 * The streams of one kind that the peer opens. It asks for one at a time, as the binding hands them out, and only while
 * somebody waits; one that came for a fiber that was interrupted is for the next.
 */
class Incoming<S, A> {
  private readonly connection: NativeConnection
  private readonly kind: Kind<S, A>
  private readonly arrived: Array<S> = []
  // where they go, if not to fibers
  private take: ((stream: A) => void) | undefined
  private isAsking = false
  private readonly waiters = new Waiters()

  constructor(connection: NativeConnection, kind: Kind<S, A>) {
    this.connection = connection
    this.kind = kind
    this.take = undefined
  }

  get next(): Effect.Effect<A, SessionClosed, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const next: Effect.Effect<A, SessionClosed, Scope.Scope> = Effect.withFiber((fiber) => {
        if (this.connection.end !== undefined) return this.connection.end
        const stream = this.arrived.shift()
        if (stream !== undefined) {
          const made = this.kind.make(stream)
          const close = Effect.sync(() => this.kind.abort(made))
          return Effect.as(Scope.addFinalizer(scopeOf(fiber.context), close), made)
        }
        this.ask()
        const arrival = this.waiters.until(() => this.arrived.length > 0 || this.connection.end !== undefined)
        return Effect.flatMap(restore(arrival), () => next)
      })
      return next
    })
  }

  give(take: (stream: A) => void): void {
    this.take = take
    if (this.connection.end !== undefined) return
    // none is left once what takes them has closed the connection
    for (let stream = this.arrived.shift(); stream !== undefined; stream = this.arrived.shift()) {
      take(this.kind.make(stream))
    }
    this.ask()
  }

  cut(): void {
    this.arrived.length = 0
    this.waiters.notify()
  }

  private ask(): void {
    const { native } = this.connection
    if (this.isAsking || native === undefined) return
    this.isAsking = true
    this.kind.accept(native).then((stream) => this.onStream(stream), (error) => this.connection.lose(error))
  }

  private onStream(stream: S): void {
    this.isAsking = false
    // it has ended with its connection
    if (this.connection.end !== undefined) return
    if (this.take !== undefined) {
      this.ask()
      return this.take(this.kind.make(stream))
    }
    this.arrived.push(stream)
    // each waiting fiber wants a stream of its own
    if (this.waiters.size > this.arrived.length) this.ask()
    this.waiters.notify()
  }
}

interface Kind<S, A> {
  readonly accept: (session: Http3Binding.Session) => Promise<S>
  readonly make: (stream: S) => A
  readonly abort: (stream: A) => void
}
