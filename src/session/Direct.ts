/**
 * What a session does with the streams of groups, without a fiber where the transport can: what it has no member for is
 * done by its Effects, on a fiber of the session.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import type { SessionClosed, StreamReset } from "../core/MoqError.ts"
import type { Listener, ReceiveStream, SendStream } from "../transport/Transport.ts"
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
  // never closed but on failure: the stream is its owner's, who finishes it or resets it
  const scope = Scope.makeUnsafe()
  const opening = Effect.onExit(
    Scope.provide(connection.openUni(options), scope),
    (exit) => Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit)
  )
  return watch(fibers, opening, opened)
}

/**
 * Writes chunks. Gives `true` when they are taken at once; then `written` is not called.
 *
 * @internal
 */
export const write = (
  { fibers }: Of,
  stream: SendStream,
  chunks: NonEmptyReadonlyArray<Uint8Array>,
  written: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void
): boolean => {
  if (stream.offer?.(chunks)) return true
  watch(fibers, stream.write(chunks), written)
  return false
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

// internal

// Calls `done` with how an effect ends, unless what this gives is called before; an interruption is the end of the session.
const watch = <A, E>(
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
