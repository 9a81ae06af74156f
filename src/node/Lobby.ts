/**
 * Where clients wait to be accepted or refused, whichever transport they came by.
 *
 * @internal
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type SessionClosed, TransportError } from "../core/MoqError.ts"
import type { Connection, Request, TransportName } from "../transport/Transport.ts"

/** A client as its transport brings it. */
export interface Client {
  readonly url: URL
  readonly headers: ReadonlyMap<string, string> | undefined
  readonly peer: string | undefined
  readonly transport: TransportName
  /** Lets it in. Evaluated once at most, and never after `refuse`. */
  readonly accept: Effect.Effect<Connection, SessionClosed | TransportError, Scope.Scope>
  /** Sends it away with an HTTP status. Called once at most, and never after `accept`. */
  readonly refuse: (status: number) => void
}

/** One waiting client: whoever leaves by itself is forgotten through this. */
export interface Place {
  readonly leave: () => void
}

/** The lobby of a server. Closing its scope refuses everybody who waits, and ends `requests`. */
export interface Lobby {
  /** Lets a client wait; refuses it with 503 when too many do, and when nobody takes or answers it in time. */
  readonly admit: (client: Client) => Place
  readonly requests: Stream.Stream<Request>
}

/** Connections that are accepted live in `sessions`, or as long as the scope of the caller when that is shorter. */
export const make: (options: {
  /** How many clients may wait to be taken. */
  readonly waiting: number
  /** How long a client waits to be taken, and then for an answer, in milliseconds. */
  readonly takeTimeout: number
  readonly sessions: Scope.Scope
}) => Effect.Effect<Lobby, never, Scope.Scope> = Effect.fnUntraced(function*({ sessions, takeTimeout, waiting }) {
  const queue = yield* Queue.dropping<Waiting, Cause.Done>(waiting)
  const present = new Set<Waiting>()
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      Queue.endUnsafe(queue)
      for (const client of present) client.refuseUnsafe(503)
    })
  )
  return {
    admit: (client) => {
      const arrived = new Waiting(client, takeTimeout, sessions, present)
      if (!Queue.offerUnsafe(queue, arrived)) arrived.refuseUnsafe(503)
      return { leave: () => void arrived.settle() }
    },
    requests: Stream.fromPull(Effect.succeed(Effect.map(take(queue), (request) => [request] as const)))
  }
})

// internal

const take = (queue: Queue.Dequeue<Waiting, Cause.Done>): Effect.Effect<Request, Cause.Done> =>
  Effect.flatMap(Queue.take(queue), (waiting) => waiting.take() ? Effect.succeed(waiting) : take(queue))

class Waiting implements Request {
  readonly url: URL
  readonly headers: ReadonlyMap<string, string> | undefined
  readonly peer: string | undefined
  readonly transport: TransportName
  readonly accept: Effect.Effect<Connection, SessionClosed | TransportError, Scope.Scope>
  private readonly client: Client
  private readonly timeout: number
  private readonly present: Set<Waiting>
  private timer: NodeJS.Timeout

  constructor(client: Client, timeout: number, sessions: Scope.Scope, present: Set<Waiting>) {
    this.url = client.url
    this.headers = client.headers
    this.peer = client.peer
    this.transport = client.transport
    this.client = client
    this.timeout = timeout
    this.present = present
    this.timer = this.deadline()
    this.accept = Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => this.settle() ? within(sessions, client, restore) : answered)
    )
    present.add(this)
  }

  readonly refuse = (status: number): Effect.Effect<void> => Effect.sync(() => this.refuseUnsafe(status))

  /** Whether it still waits; from now on it waits for an answer. */
  take(): boolean {
    if (!this.present.has(this)) return false
    clearTimeout(this.timer)
    this.timer = this.deadline()
    return true
  }

  refuseUnsafe(status: number): void {
    if (this.settle()) this.client.refuse(status)
  }

  /** Whether it waited until now. */
  settle(): boolean {
    clearTimeout(this.timer)
    return this.present.delete(this)
  }

  private deadline(): NodeJS.Timeout {
    return setTimeout(() => this.refuseUnsafe(503), this.timeout)
  }
}

const answered = Effect.fail(new TransportError({ detail: "the client has had its answer, or waited too long" }))

// The connection ends with the caller's scope, or with the server's, whichever closes first. A caller that is interrupted
// before the client's transport has been asked leaves nobody without an answer.
const within = Effect.fnUntraced(function*(
  server: Scope.Scope,
  client: Client,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
) {
  const own = yield* Scope.fork(server)
  yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
  let asked = false
  // yields first: so there is no yield, and no interruption, between this step and the transport's first
  const accept = Effect.andThen(
    Effect.yieldNow,
    Effect.suspend(() => {
      asked = true
      return client.accept
    })
  )
  return yield* Effect.onExit(
    restore(Scope.provide(accept, own)),
    () => asked ? Effect.void : Effect.sync(() => client.refuse(503))
  )
})
