/**
 * What a session does with the streams of groups, without a fiber where the transport can: what it has no member for is
 * done by its Effects, on a fiber of the session.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import type { SessionClosed, StreamReset } from "../core/MoqError.ts"
import type { BiStream, Listener, ReceiveStream, SendStream } from "../transport/Transport.ts"
import type { SessionContext } from "./SessionContext.ts"

type Of = Pick<SessionContext, "connection" | "fibers">

/**
 * Opens a unidirectional stream, which belongs to whoever gets it; what this gives takes the opening back. As
 * `Connection.onOpenUni`.
 *
 * @internal
 */
export const openUni = (
  { connection, fibers }: Of,
  options: { readonly priority?: number | undefined } | undefined,
  opened: (exit: Exit.Exit<SendStream, SessionClosed>) => void
): () => void => {
  if (connection.onOpenUni !== undefined) return connection.onOpenUni(options, opened)
  return open(fibers, connection.openUni(options), (exit, scope) => {
    opened(Exit.map(exit, (stream) => ofScope(stream, scope)))
  })
}

/**
 * Opens a bidirectional stream. As `Connection.onOpenBi`; whoever gets it ends the sending half, then stops the other.
 *
 * @internal
 */
export const openBi = (
  { connection, fibers }: Of,
  opened: (exit: Exit.Exit<BiStream, SessionClosed>) => void
): () => void => {
  if (connection.onOpenBi !== undefined) return connection.onOpenBi(opened)
  return open(fibers, connection.openBi, (exit, scope) => {
    opened(Exit.map(exit, ({ receive, send }) => ({ send, receive: ofScopeToo(receive, scope) })))
  })
}

/**
 * Ends a stream. As `SendStream.onFinish`.
 *
 * @internal
 */
export const finish = (
  { fibers }: Of,
  stream: SendStream,
  finished: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void
): void => {
  if (stream.onFinish === undefined) watch(fibers, stream.finish, finished)
  else stream.onFinish(finished)
}

/**
 * Hands over what a stream receives. As `ReceiveStream.onPull`.
 *
 * @internal
 */
export const pull = ({ fibers }: Of, stream: ReceiveStream, listener: Listener): void => {
  if (stream.onPull !== undefined) return stream.onPull(listener)
  const next: Pull.Pull<void, StreamReset | SessionClosed> = Effect.flatMap(
    stream.pull,
    (chunks) => listener.chunks(chunks) ? next : Effect.void
  )
  watch(fibers, next, (exit) => {
    if (Exit.isFailure(exit)) listener.end(Exit.failCause(exit.cause))
  })
}

/**
 * Runs an effect on a fiber of the session, and calls a function with how it ends, on the stack of the caller or later. What
 * it gives interrupts it: then the function is not called. Interrupted by anything else, the session has ended.
 *
 * @internal
 */
export const watch = <A, E>(
  fibers: SessionContext["fibers"],
  effect: Effect.Effect<A, E>,
  done: (exit: Exit.Exit<A, E>) => void
): () => void => {
  let isOver = false
  const end = (exit: Exit.Exit<A, E>) => {
    if (isOver) return
    isOver = true
    done(exit)
  }
  const fiber = fibers.fork(effect)
  if (fiber === undefined) end(Exit.interrupt())
  else fiber.addObserver(end)
  return () => {
    isOver = true
    fiber?.interruptUnsafe()
  }
}

// internal

const open = <A>(
  fibers: Of["fibers"],
  stream: Effect.Effect<A, SessionClosed, Scope.Scope>,
  opened: (exit: Exit.Exit<A, SessionClosed>, scope: Scope.Closeable) => void
): () => void => {
  // closed here on failure only: the stream is its owner's, who ends it
  const scope = Scope.makeUnsafe()
  const opening = Effect.onExit(
    Scope.provide(stream, scope),
    (exit) => Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit)
  )
  return watch(fibers, opening, (exit) => opened(exit, scope))
}

// a stream whose scope closes once it has ended
const ofScope = (stream: SendStream, scope: Scope.Closeable): SendStream => {
  const close = Scope.close(scope, Exit.void)
  return {
    write: (chunks) => stream.write(chunks),
    finish: Effect.andThen(stream.finish, close),
    reset: (code) => Effect.andThen(stream.reset(code), close),
    setPriority: (priority) => stream.setPriority(priority),
    stopped: stream.stopped
  }
}

// that of a stream of which the other half has ended before this one is stopped
const ofScopeToo = (receive: ReceiveStream, scope: Scope.Closeable): ReceiveStream => ({
  pull: receive.pull,
  stop: (code) => Effect.andThen(receive.stop(code), Scope.close(scope, Exit.void))
})
