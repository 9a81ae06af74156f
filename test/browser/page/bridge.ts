/** The server's end of a connection, held by the page. */
import { Cause, Effect, Exit, type Pull, Scope } from "effect"
import { MoqError, type Transport } from "effect-moq"
import {
  type Call,
  decode,
  encode,
  type Operation,
  type Prepared,
  type Request,
  type Spec,
  type Told
} from "./bridgeMessages.ts"

type Answer = Exit.Exit<unknown, unknown>

interface Reply {
  readonly exit: Answer
  readonly payload: Uint8Array
}

const failures: Readonly<Record<string, (error: never) => unknown>> = {
  MoqSessionClosed: (error: { code: number; reason: string; by: MoqError.SessionClosed["by"] }) =>
    new MoqError.SessionClosed({ code: error.code, reason: error.reason, by: error.by }),
  MoqStreamReset: (error: { code: number }) => new MoqError.StreamReset({ code: error.code })
}

const exitOf = (told: Told): Answer => {
  if (told._tag === "Success") return Exit.succeed(told.value)
  if (told._tag === "Done") return Exit.fail(Cause.Done())
  const known = failures[told.error._tag]
  return known === undefined ? Exit.die(new Error(JSON.stringify(told.error))) : Exit.fail(known(told.error as never))
}

/** The way to the bridge. */
export class Client {
  private readonly socket: WebSocket
  private readonly calls = new Map<number, (reply: Reply) => void>()
  private next = 0

  constructor(socket: WebSocket) {
    this.socket = socket
    socket.addEventListener("message", ({ data }: MessageEvent<ArrayBuffer>) => {
      const { header: { id, ...told }, payload } = decode<Told & { readonly id: number }>(new Uint8Array(data))
      const onReply = this.calls.get(id)
      this.calls.delete(id)
      onReply?.({ exit: exitOf(told as Told), payload })
    })
  }

  /** Calls, and gives the number of the call. */
  begin(request: Request, onReply: (reply: Reply) => void, chunks: ReadonlyArray<Uint8Array> = []): number {
    const id = this.next++
    this.calls.set(id, onReply)
    this.socket.send(encode({ id, request } satisfies Call, chunks))
    return id
  }

  /** Calls, and takes the call back when it is interrupted. What comes nevertheless goes to `onLate`. */
  call<A, E>(
    request: Request,
    chunks: ReadonlyArray<Uint8Array> = [],
    onLate: (value: A) => void = () => {}
  ): Effect.Effect<A, E> {
    return Effect.callback((resume) => {
      let isWaiting = true
      const id = this.begin(request, ({ exit }) => {
        if (isWaiting) resume(exit as Exit.Exit<A, E>)
        else if (Exit.isSuccess(exit)) onLate(exit.value as A)
      }, chunks)
      return Effect.sync(() => {
        isWaiting = false
        this.begin({ op: "interrupt", on: id }, () => {})
      })
    })
  }

  /** Calls without a wait for the answer. */
  tell(on: number, operation: Operation): Effect.Effect<void> {
    return Effect.sync(() => void this.begin({ on, ...operation }, () => {}))
  }

  /** Calls one at a time; what comes for somebody who has been interrupted is for the next. */
  shared<A, E>(on: number, operation: Operation, take: (reply: Reply) => Exit.Exit<A, E>): Effect.Effect<A, E> {
    let isBusy = false
    let reply: Reply | undefined
    const waiting = new Set<() => void>()
    const next: Effect.Effect<A, E> = Effect.suspend(() => {
      if (reply !== undefined) {
        const exit = take(reply)
        if (Exit.isFailure(exit)) {
          reply = undefined
          return exit
        }
        return Effect.sync(() => {
          reply = undefined
          return exit.value
        })
      }
      const arrived = Effect.callback<void>((resume) => {
        const wake = () => resume(Effect.void)
        waiting.add(wake)
        if (!isBusy) {
          isBusy = true
          this.begin({ on, ...operation }, (answer) => {
            isBusy = false
            reply = answer
            const awake = [...waiting]
            waiting.clear()
            for (const wake of awake) wake()
          })
        }
        return Effect.sync(() => void waiting.delete(wake))
      })
      return Effect.flatMap(arrived, () => next)
    })
    return next
  }
}

/** Opens the way to the bridge. */
export const connect = (port: number): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<WebSocket>((resume) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}`)
      socket.binaryType = "arraybuffer"
      socket.addEventListener("open", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.close())
  ).pipe(Effect.map((socket) => new Client(socket)))

type Handle = number

const sendStream = (client: Client, on: Handle): Transport.SendStream => ({
  write: (chunks) => client.call({ on, op: "write", sizes: chunks.map((chunk) => chunk.length) }, chunks),
  finish: client.call({ on, op: "finish" }),
  reset: (code) => client.tell(on, { op: "reset", code }),
  setPriority: (priority) => client.tell(on, { op: "setPriority", priority }),
  stopped: client.call({ on, op: "stopped" })
})

const receiveStream = (client: Client, on: Handle): Transport.ReceiveStream => ({
  pull: client.shared(on, { op: "pull" }, ({ exit, payload }) => {
    if (Exit.isFailure(exit)) return exit as Exit.Exit<never, Pull.Error<Transport.ReceiveStream["pull"]>>
    let at = 0
    const chunks = (exit.value as ReadonlyArray<number>).map((size) => payload.slice(at, at += size))
    return Exit.succeed(chunks as unknown as readonly [Uint8Array])
  }) as Transport.ReceiveStream["pull"],
  stop: (code) => client.tell(on, { op: "stop", code })
})

const biStream = (client: Client, on: Handle): Transport.BiStream => ({
  send: sendStream(client, on),
  receive: receiveStream(client, on)
})

const serverConnection = (
  client: Client,
  on: Handle,
  transport: Transport.TransportName,
  capabilities: Transport.Capabilities
): Transport.Connection => {
  const own = <A>(open: Effect.Effect<Handle, MoqError.SessionClosed>, make: (client: Client, on: Handle) => A) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(open),
        (handle) => Effect.as(Effect.addFinalizer(() => client.tell(handle, { op: "release" })), make(client, handle))
      )
    )
  const open = (operation: Operation) =>
    client.call<Handle, MoqError.SessionClosed>(
      { on, ...operation },
      [],
      (late) => void client.begin({ on: late, op: "release" }, () => {})
    )
  const accept = (op: "acceptBi" | "acceptUni") =>
    client.shared<Handle, MoqError.SessionClosed>(
      on,
      { op },
      ({ exit }) => exit as Exit.Exit<Handle, MoqError.SessionClosed>
    )
  return {
    info: { transport, peer: undefined },
    capabilities,
    openBi: own(open({ op: "openBi" }), biStream),
    openUni: (options) => own(open({ op: "openUni", priority: options?.priority ?? 0 }), sendStream),
    acceptBi: own(accept("acceptBi"), biStream),
    acceptUni: own(accept("acceptUni"), receiveStream),
    close: (code, reason) => client.tell(on, { op: "close", code, reason }),
    closed: Effect.map(
      client.call<{ code: number; reason: string; by: MoqError.SessionClosed["by"] }, never>({ on, op: "closed" }),
      ({ by, code, reason }) => new MoqError.SessionClosed({ code, reason, by })
    ),
    ping: client.call({ on, op: "ping" })
  }
}

/** A connection of the page's to a server of its own, both ends of it, and what can be done to the network between. */
export const pair = Effect.fnUntraced(function*(client: Client, spec: Spec, transport: Transport.Transport) {
  const prepared = yield* client.call<Prepared, never>({ op: "prepare", spec })
  const on = prepared.handle
  yield* Effect.addFinalizer(() => Effect.ignore(client.call({ on, op: "release" })))
  const near = yield* transport.connect(new URL(prepared.url), { fingerprints: [prepared.fingerprint] })
  const far = yield* client.call<{ handle: Handle; capabilities: Transport.Capabilities }, never>({
    on,
    op: "accepted"
  })
  return {
    client: near,
    server: serverConnection(client, far.handle, spec.transport, far.capabilities),
    network: (what: "kill" | "silence" | "narrow") => client.call<void, never>({ on, op: "network", what })
  }
})
