/**
 * How a session asks its peer: a stream with its type and first message, and what the answers mean.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import {
  BoundsExceeded,
  Cancelled,
  isMoqError,
  type MoqError,
  NotFound,
  type RequestError,
  SessionClosed,
  toCode,
  toRequestError
} from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Priority from "../core/Priority.ts"
import type { Profile } from "../message/Profile.ts"
import * as StreamType from "../message/StreamType.ts"
import type * as Subscription from "../model/Subscription.ts"
import { type Encode, encode, MessageStream, type ReceiveError, resetCode, toReadError } from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * Opens a stream for as long as the scope; when that closes with an error, the peer is told of that one.
 *
 * @internal
 */
export const open = (context: SessionContext): Effect.Effect<MessageStream, ReceiveError, Scope.Scope> =>
  Effect.flatMap(context.connection.openBi, (opened) => {
    const stream = new MessageStream(opened, context.monitor)
    const told = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
      const error = Exit.findErrorOption(exit)
      return Option.isSome(error) && isMoqError(error.value)
        ? stream.abort(resetCode(error.value, context))
        : Effect.void
    }
    return Effect.scope.pipe(
      Effect.flatMap((scope) => Scope.addFinalizerExit(scope, told)),
      Effect.andThen(stream.send.setPriority(Rank.control)),
      Effect.as(stream)
    )
  })

/** @internal */
export const requestBytes = <A>(
  type: StreamType.Bi,
  layout: Encode<A>,
  message: A,
  profile: Profile
): Uint8Array =>
  encode<A>(
    (writer, message, profile) => {
      StreamType.encodeBi(writer, type)
      layout(writer, message, profile)
    },
    message,
    profile
  )

/**
 * Opens a stream with its type and first message, in one write.
 *
 * @internal
 */
export const request = <A>(
  context: SessionContext,
  type: StreamType.Bi,
  layout: Encode<A>,
  message: A
): Effect.Effect<MessageStream, ReceiveError, Scope.Scope> =>
  Effect.tap(open(context), (stream) => stream.send.write([requestBytes(type, layout, message, context.profile)]))

/**
 * What readers of a subscription see that was closed here.
 *
 * @internal
 */
export const left = new Cancelled({ detail: "the subscription was closed" })

/**
 * How a session ends that was closed here, with nothing to say.
 *
 * @internal
 */
export const closedHere = new SessionClosed({ code: 0, reason: "", by: "local" })

/**
 * What the failure of a request for a path means; a code says that something was not found, but not what.
 *
 * @internal
 */
export const errorOf = (path: Path.Path) => (error: MoqError): RequestError =>
  error._tag === "MoqStreamReset" && error.code === codeNotFound
    ? new NotFound({ detail: Path.format(path) })
    : toRequestError(toReadError(error))

/**
 * Whether the numbers of a request can travel.
 *
 * @internal
 */
export const check = (
  { expires, from, priority, to }: Pick<Subscription.Request, "priority" | "expires" | "to"> & {
    readonly from?: Subscription.Request["from"] | undefined
  }
): Effect.Effect<void, BoundsExceeded> => {
  if (priority !== undefined && !isWithin(priority, Priority.min, Priority.max)) {
    return Effect.fail(new BoundsExceeded({ detail: `priority ${priority} is not -128..127` }))
  }
  for (const sequence of [from === "latest" ? undefined : from, to]) {
    if (sequence !== undefined && !isWithin(sequence, 0, maxSequence)) {
      return Effect.fail(new BoundsExceeded({ detail: `${sequence} is not the number of a group or frame` }))
    }
  }
  if (expires !== undefined && !isWithin(expires, 0, Number.MAX_SAFE_INTEGER)) {
    return Effect.fail(new BoundsExceeded({ detail: `${expires} is not a number of milliseconds` }))
  }
  return Effect.void
}

// internal

const codeNotFound = toCode(new NotFound({}))

const maxSequence = Number.MAX_SAFE_INTEGER - 1

const isWithin = (value: number, min: number, max: number): boolean =>
  Number.isInteger(value) && value >= min && value <= max
