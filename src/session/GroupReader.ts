/**
 * Fills a group with the bytes of its stream.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import { Cancelled, DecodeError, type MoqError, toCode, type WrongSize } from "../core/MoqError.ts"
import * as Body from "../model/Body.ts"
import * as Group from "../model/Group.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import { attempt, toReadError } from "./MessageStream.ts"
import { dropped } from "./Monitor.ts"
import type { SubscriberContext } from "./SessionContext.ts"
import type { Owner } from "./Unread.ts"

/**
 * Fills a group of `owner` from its stream, and ends it as that ends; `chunks` came of it already. Fails with what the
 * stream is to be stopped for; `stop` does that when the group must go before it was read.
 *
 * Chunks are kept as they came: nobody looks at frames here but to find where they begin.
 *
 * @internal
 */
export const fill = (
  stream: ReceiveStream,
  chunks: ReadonlyArray<Uint8Array>,
  group: Group.Producer,
  context: SubscriberContext,
  owner: Owner,
  stop: (error: MoqError) => Effect.Effect<void>
): Effect.Effect<void, MoqError> => {
  const { monitor } = context
  const body = Group.bodyOf(group.group)
  const unread = context.unread.add(owner, group, stop)
  monitor.group("received")
  const take = (chunks: ReadonlyArray<Uint8Array>): Pull.Pull<never, MoqError> => {
    const frames = Body.complete(body)
    const { total } = body
    let bytes = 0
    const fed = attempt(() => {
      for (let i = 0; i < chunks.length; i++) {
        bytes += chunks[i]!.length
        if (!Body.feedUnsafe(body, chunks[i]!)) return false
      }
      return true
    }, monitor)
    const payload = body.total - total
    const count = Body.complete(body) - frames
    if (payload > 0 || count > 0) monitor.traffic("received", count, payload)
    if (fed !== true) return fed === false ? Effect.fail(refusal(group)) : fed
    const shed = unread.add(bytes)
    return shed === undefined ? more : Effect.andThen(shed, more)
  }
  const more: Pull.Pull<never, MoqError> = Effect.flatMap(stream.pull, (chunks) => {
    context.onBytes()
    return take(chunks)
  })
  return Pull.catchDone(
    chunks.length === 0 ? more : take(chunks),
    (): Effect.Effect<void, WrongSize | DecodeError> =>
      Body.isInsideSize(body)
        ? Effect.fail(new DecodeError({ detail: "the stream ended inside a frame's size" }))
        : group.finish
  ).pipe(
    Effect.onExit((exit) => {
      unread.end()
      if (Exit.isSuccess(exit)) return Effect.void
      const found = Exit.findErrorOption(exit)
      if (Option.isNone(found)) return group.fail(letGo)
      const error = found.value
      // what has ended was given up here, and has been counted
      if (group.group.end === undefined && error._tag !== "MoqSessionClosed") {
        dropped(monitor, "received", "code" in error ? error.code : toCode(error), 1)
      }
      return group.fail(toReadError(error))
    })
  )
}

// internal

const letGo = new Cancelled({ detail: "it was let go" })

// what made the group take no more: it was given up, or nobody wants it any longer
const refusal = ({ group }: Group.Producer): MoqError => {
  const error = Exit.findErrorOption(group.end ?? Exit.void)
  return Option.isSome(error) ? error.value : letGo
}
