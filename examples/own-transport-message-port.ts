/**
 * A transport of one's own: MoQ over a `MessagePort`, between a page and its workers and frames, or threads of Node. It
 * uses nothing but what `effect-moq` exports; docs/write-a-transport.md tells why each part is as it is.
 *
 * A port keeps order and delivers whole messages, and its two ends belong to one program. What is left to do: many
 * streams on one port, an end with a code for each, and credit, because a port takes everything.
 */
import { type Cause, Duration, Effect, Exit, Queue, type Scope, Stream } from "effect"
import { MoqError, type Transport } from "effect-moq"
import { type Message, Receiving, resetWith, Sending, Signal, type Wire } from "./own-transport-streams.ts"

export interface Options {
  /** Streams of each kind that one side may have open; 256 by default. */
  readonly maxStreams?: number
  /** How long the other side may be silent; 15 seconds by default. */
  readonly idleTimeout?: Duration.Input
}

/**
 * One end of a connection. The scope belongs to it; the other end may be there already, or come later.
 */
export const make = (
  port: MessagePort,
  role: "client" | "server",
  options: Options = {}
): Effect.Effect<Transport.Connection, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(() => new Link(port, role, options)), (link) => link.close(0, "")).pipe(
    Effect.tap((link) => Effect.forkScoped(link.keepAlive))
  )

/** What a client sends through a door: where it wants to go, and the port of its connection. */
interface Knock {
  readonly url: string
  readonly port: MessagePort
}

/**
 * The client side: every connection is a channel of its own, whose other port goes through the door of a server.
 */
export const makeClient = (door: MessagePort, options?: Options): Transport.Transport => ({
  connect: (url, { timeout = "5 seconds" } = {}) =>
    Effect.gen(function*() {
      const { port1, port2 } = new MessageChannel()
      const connection = yield* make(port1, "client", options)
      const knock: Knock = { url: url.href, port: port2 }
      door.postMessage(knock, [port2])
      // who accepts answers, and who refuses closes
      yield* connection.ping.pipe(
        Effect.mapError(({ reason }) => new MoqError.TransportError({ detail: reason })),
        Effect.timeoutOrElse({
          duration: timeout,
          orElse: () => Effect.fail(new MoqError.Timeout({ detail: `connecting to ${url.host}` }))
        }),
        Effect.onError(() => connection.close(0, ""))
      )
      return connection
    })
})

/**
 * The server side: the clients that come through a door. One that is not taken gives up by itself.
 */
export const makeServer = (
  door: MessagePort,
  options?: Options
): Effect.Effect<Transport.TransportServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests = yield* Queue.dropping<Transport.Request, Cause.Done>(64)
    const knocked = ({ data: { port, url } }: MessageEvent<Knock>) => {
      const turnAway = (status: number) => {
        const message: Message = ["close", 4, `refused with status ${status}`]
        port.postMessage(message)
        port.close()
      }
      const isThere = Queue.offerUnsafe(requests, {
        url: new URL(url),
        headers: undefined,
        peer: undefined,
        transport: "message-port",
        accept: make(port, "server", options),
        refuse: (status) => Effect.sync(() => turnAway(status))
      })
      if (!isThere) turnAway(503)
    }
    door.addEventListener("message", knocked)
    door.start()
    yield* Effect.addFinalizer(() => {
      door.removeEventListener("message", knocked)
      const left = Effect.flatMap(Queue.clear(requests), Effect.forEach(({ refuse }) => refuse(503)))
      return Effect.andThen(left, Queue.end(requests))
    })
    return {
      urls: ["https://message-port"],
      transports: ["message-port"],
      unavailable: [],
      fingerprint: undefined,
      requests: Stream.fromQueue(requests)
    }
  })

type Kind = "bi" | "uni"

class Link extends Signal implements Transport.Connection, Wire {
  readonly info: Transport.ConnectionInfo = { transport: "message-port", peer: undefined }
  readonly capabilities: Transport.Capabilities
  readonly sending = new Map<number, Sending>()
  readonly receiving = new Map<number, Receiving>()
  private readonly port: MessagePort
  private readonly role: 0 | 1
  private readonly nextId: Record<Kind, number>
  // streams that were opened here and have a place, and those of the peer that nobody has accepted
  private readonly places = { bi: new Set<number>(), uni: new Set<number>() }
  private readonly arrivals = { bi: new Map<number, Halves>(), uni: new Map<number, Halves>() }
  private end: MoqError.SessionClosed | undefined
  private pings = 0
  private pongs = 0

  constructor(port: MessagePort, role: "client" | "server", options: Options) {
    super()
    this.port = port
    this.role = role === "client" ? 0 : 1
    this.nextId = { bi: this.role, uni: this.role + 2 }
    this.capabilities = {
      codes: "any",
      resetPastWrite: true,
      backpressure: true,
      priority: false,
      ping: true,
      maxStreams: options.maxStreams ?? 256,
      idleTimeout: Duration.toMillis(Duration.fromInputUnsafe(options.idleTimeout ?? "15 seconds")),
      forgetsStreams: true
    }
    port.addEventListener("message", ({ data }: MessageEvent<Message>) => this.receive(data))
    // not every browser tells; where it does not, the silence does
    port.addEventListener("close", () => this.finish("transport", 4, "the port was closed"))
    port.start()
  }

  readonly openBi: Transport.Connection["openBi"] = this.opening("bi", bothOf)

  readonly openUni: Transport.Connection["openUni"] = () => this.opening("uni", ({ send }) => send!)

  readonly acceptBi: Transport.Connection["acceptBi"] = this.accepting("bi", bothOf)

  readonly acceptUni: Transport.Connection["acceptUni"] = this.accepting("uni", ({ receive }) => receive!)

  readonly close: Transport.Connection["close"] = (code, reason) =>
    Effect.sync(() => {
      this.post(["close", code, reason])
      this.finish("local", code, reason)
    })

  readonly closed: Transport.Connection["closed"] = Effect.map(
    this.until(() => this.end !== undefined),
    () => this.end!
  )

  readonly ping: Transport.Connection["ping"] = Effect.suspend(() => {
    const ping = ++this.pings
    this.post(["ping"])
    const answered = this.until(() => this.pongs >= ping || this.end !== undefined)
    return Effect.flatMap(answered, () => this.end === undefined ? Effect.void : Effect.fail(this.end))
  })

  /** Asks for a sign of life now and then, for as long as the connection is open. */
  readonly keepAlive = Effect.suspend(() => {
    const third = this.capabilities.idleTimeout / 3
    const giveUp = Effect.sync(() => this.finish("transport", 4, "the other side is silent"))
    const asked = Effect.timeoutOrElse(this.ping, { duration: third, orElse: () => giveUp })
    return Effect.ignore(Effect.forever(Effect.andThen(Effect.sleep(third), asked)))
  })

  post(message: Message, transfer: Array<ArrayBuffer> = []): void {
    if (this.end === undefined) this.port.postMessage(message, transfer)
  }

  // whoever accepted a stream tells its opener once it is over, so that the place is free again
  settle(id: number): void {
    const waits = this.arrivals.bi.has(id) || this.arrivals.uni.has(id) || this.sending.has(id) ||
      this.receiving.has(id)
    if ((id & 1) !== this.role && !waits) this.post(["over", id])
  }

  private opening<A>(kind: Kind, face: (halves: Halves) => A) {
    const places = this.places[kind]
    return this.acquire(() => places.size < this.capabilities.maxStreams, face, () => {
      const id = this.nextId[kind]
      this.nextId[kind] += 4
      places.add(id)
      this.post(["open", id])
      return this.begin(id)
    })
  }

  private accepting<A>(kind: Kind, face: (halves: Halves) => A) {
    const arrivals = this.arrivals[kind]
    return this.acquire(() => arrivals.size > 0, face, () => {
      const [id, halves] = arrivals.entries().next().value!
      arrivals.delete(id)
      this.settle(id)
      return halves
    })
  }

  // only the wait can be interrupted: what is taken belongs to the scope
  private acquire<A>(ready: () => boolean, face: (halves: Halves) => A, take: () => Halves) {
    return Effect.uninterruptibleMask((restore) => {
      const next: Effect.Effect<A, MoqError.SessionClosed, Scope.Scope> = Effect.flatMap(
        restore(this.until(() => ready() || this.end !== undefined)),
        () => {
          if (this.end !== undefined) return Effect.fail(this.end)
          if (!ready()) return next
          const halves = take()
          const { receive, send } = halves
          const release = Effect.andThen(send?.reset(0) ?? Effect.void, receive?.stop(0) ?? Effect.void)
          return Effect.as(Effect.addFinalizer(() => release), face(halves))
        }
      )
      return next
    })
  }

  private begin(id: number): Halves {
    const [isMine, isUni] = [(id & 1) === this.role, (id & 2) !== 0]
    const send = isUni && !isMine ? undefined : new Sending(this, id)
    const receive = isUni && isMine ? undefined : new Receiving(this, id)
    if (send !== undefined) this.sending.set(id, send)
    if (receive !== undefined) this.receiving.set(id, receive)
    return { send, receive }
  }

  // what comes for a half that is over has crossed with its end
  private receive(message: Message): void {
    switch (message[0]) {
      case "open":
        this.arrivals[(message[1] & 2) === 0 ? "bi" : "uni"].set(message[1], this.begin(message[1]))
        return this.notify()
      case "over":
        this.places[(message[1] & 2) === 0 ? "bi" : "uni"].delete(message[1])
        return this.notify()
      case "data":
        return this.receiving.get(message[1])?.arrive(message[2])
      case "finish":
        return this.receiving.get(message[1])?.finish()
      case "reset":
        return this.receiving.get(message[1])?.cut(resetWith(message[2]))
      case "stop":
        return this.sending.get(message[1])?.stop(message[2])
      case "credit":
        return this.sending.get(message[1])?.grant(message[2])
      case "ping":
        return this.post(["pong"])
      case "pong":
        this.pongs++
        return this.notify()
      case "close":
        return this.finish("remote", message[1], message[2])
    }
  }

  private finish(by: MoqError.SessionClosed["by"], code: number, reason: string): void {
    if (this.end !== undefined) return
    this.end = new MoqError.SessionClosed({ code, reason, by })
    for (const half of [...this.sending.values(), ...this.receiving.values()]) half.cut(Exit.fail(this.end))
    this.port.close()
    this.notify()
  }
}

interface Halves {
  readonly send: Sending | undefined
  readonly receive: Receiving | undefined
}

const bothOf = ({ receive, send }: Halves): Transport.BiStream => ({ receive: receive!, send: send! })
